//! The venues' rules for their instruments.

use domain::market::{Instrument, InstrumentId};
use sqlx::postgres::PgRow;

use crate::value::{Reader, exact};
use crate::{StoreError, Unit};

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

/// Writes the rules of one instrument, replacing what was known.
///
/// # Errors
/// [`StoreError`].
pub async fn upsert(unit: &mut Unit, instrument: &Instrument) -> Result<(), StoreError> {
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
    .bind(exact(instrument.tick)?)
    .bind(exact(instrument.step)?)
    .bind(exact(instrument.min_quantity)?)
    .bind(exact(instrument.max_quantity)?)
    .bind(exact(instrument.min_notional)?)
    .execute(unit.conn())
    .await?;
    Ok(())
}

/// The rules of one instrument.
///
/// # Errors
/// [`StoreError`].
pub async fn get(unit: &mut Unit, id: &InstrumentId) -> Result<Option<Instrument>, StoreError> {
    let row = sqlx::query("SELECT * FROM instruments WHERE venue = $1 AND symbol = $2")
        .bind(id.venue.name())
        .bind(id.symbol.as_str())
        .fetch_optional(unit.conn())
        .await?;
    row.as_ref().map(instrument_of).transpose()
}

/// All instruments, by venue and symbol.
///
/// # Errors
/// [`StoreError`].
pub async fn all(unit: &mut Unit) -> Result<Vec<Instrument>, StoreError> {
    let rows = sqlx::query("SELECT * FROM instruments ORDER BY venue, symbol").fetch_all(unit.conn()).await?;
    rows.iter().map(instrument_of).collect()
}
