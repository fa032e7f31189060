//! Instruments in Postgres.

use async_trait::async_trait;
use domain::market::{Instrument, InstrumentId};
use sqlx::postgres::PgRow;

use super::PgUnit;
use super::value::Reader;
use crate::StoreError;
use crate::port::Instruments;

fn instrument_of(row: &PgRow) -> Result<Instrument, StoreError> {
    let row = Reader::new("instruments", row);
    Ok(Instrument {
        id: row.instrument()?,
        base: row.text("base")?,
        quote: row.text("quote")?,
        tick: row.decimal("tick")?,
        step: row.decimal("step")?,
        min_quantity: row.decimal("min_quantity")?,
        max_quantity: row.decimal("max_quantity")?,
        min_notional: row.decimal("min_notional")?,
    })
}

#[async_trait]
impl Instruments for PgUnit {
    async fn upsert_instrument(&mut self, instrument: &Instrument) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO instruments (venue, symbol, base, quote, tick, step, min_quantity, max_quantity, min_notional)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
         ON CONFLICT (venue, symbol) DO UPDATE SET base = EXCLUDED.base, quote = EXCLUDED.quote, tick = EXCLUDED.tick,
           step = EXCLUDED.step, min_quantity = EXCLUDED.min_quantity, max_quantity = EXCLUDED.max_quantity,
           min_notional = EXCLUDED.min_notional, updated_at = clock_timestamp()",
        )
        .bind(instrument.id.venue.name())
        .bind(instrument.id.symbol.as_str())
        .bind(&instrument.base)
        .bind(&instrument.quote)
        .bind(instrument.tick)
        .bind(instrument.step)
        .bind(instrument.min_quantity)
        .bind(instrument.max_quantity)
        .bind(instrument.min_notional)
        .execute(self.conn())
        .await?;
        Ok(())
    }

    async fn instrument(&mut self, id: &InstrumentId) -> Result<Option<Instrument>, StoreError> {
        let row = sqlx::query("SELECT * FROM instruments WHERE venue = $1 AND symbol = $2")
            .bind(id.venue.name())
            .bind(id.symbol.as_str())
            .fetch_optional(self.conn())
            .await?;
        row.as_ref().map(instrument_of).transpose()
    }

    async fn instruments(&mut self) -> Result<Vec<Instrument>, StoreError> {
        let rows = sqlx::query("SELECT * FROM instruments ORDER BY venue, symbol").fetch_all(self.conn()).await?;
        rows.iter().map(instrument_of).collect()
    }
}
