//! Orders and fills in Postgres.

use async_trait::async_trait;
use domain::ids::{OrderId, PermitId, UserId};
use domain::market::Venue;
use domain::money::{Quantity, Usd};
use domain::order::{ChildOrder, Fill, OrderState, Side};
use domain::time::UnixMs;
use sqlx::postgres::PgRow;

use super::PgUnit;
use super::value::{Reader, Stamp};
use crate::StoreError;
use crate::orders::OrderRow;
use crate::port::Orders;

fn order_of(row: &PgRow) -> Result<OrderRow, StoreError> {
    let row = Reader::new("orders", row);
    Ok(OrderRow {
        order_id: OrderId(row.uuid("order_id")?),
        user_id: UserId(row.uuid("user_id")?),
        client_order_id: row.text("client_order_id")?,
        permit_id: PermitId(row.uuid("permit_id")?),
        envelope: serde_json::from_value(row.json("envelope")?)?,
        venue_order_id: row.get("venue_order_id")?,
        state: row.word("state", OrderState::parse)?,
        filled: row.quantity("filled")?,
        code: row.get("code")?,
        created_at: row.time("created_at")?,
        updated_at: row.time("updated_at")?,
        sent_at: row.maybe_time("sent_at")?,
        outcome_posted: row.get("outcome_posted")?,
        children: serde_json::from_value(row.json("children")?)?,
    })
}

fn fill_of(row: &PgRow) -> Result<Fill, StoreError> {
    let row = Reader::new("fills", row);
    Ok(Fill {
        order_id: OrderId(row.uuid("order_id")?),
        venue_trade_id: row.text("venue_trade_id")?,
        instrument: row.instrument()?,
        side: row.word("side", Side::parse)?,
        quantity: row.quantity("quantity")?,
        price: row.price("price")?,
        fee: row.usd("fee")?,
        at: row.time("at")?,
    })
}

#[async_trait]
impl Orders for PgUnit {
    async fn insert_order(&mut self, row: &OrderRow) -> Result<bool, StoreError> {
        let done = sqlx::query(
        "INSERT INTO orders (user_id, order_id, client_order_id, permit_id, venue, symbol, envelope, venue_order_id,
           state, filled, code, created_at, updated_at, sent_at, outcome_posted, children)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)
         ON CONFLICT (user_id, order_id) DO NOTHING",
    )
    .bind(row.user_id.0)
    .bind(row.order_id.0)
    .bind(&row.client_order_id)
    .bind(row.permit_id.0)
    .bind(row.envelope.venue.name())
    .bind(row.envelope.symbol.as_str())
    .bind(serde_json::to_value(&row.envelope)?)
    .bind(&row.venue_order_id)
    .bind(row.state.word())
    .bind(row.filled.value())
    .bind(&row.code)
    .bind(Stamp(row.created_at))
    .bind(Stamp(row.updated_at))
    .bind(row.sent_at.map(Stamp))
    .bind(row.outcome_posted)
    .bind(serde_json::to_value(&row.children)?)
    .execute(self.conn())
    .await?;
        Ok(done.rows_affected() == 1)
    }

    async fn mark_sent(&mut self, user: UserId, order_id: OrderId, now: UnixMs) -> Result<bool, StoreError> {
        let done = sqlx::query(
            "UPDATE orders SET state = 'open', sent_at = $3, updated_at = $3
         WHERE user_id = $1 AND order_id = $2 AND state = 'pending'",
        )
        .bind(user.0)
        .bind(order_id.0)
        .bind(Stamp(now))
        .execute(self.conn())
        .await?;
        Ok(done.rows_affected() == 1)
    }

    async fn set_order_state(
        &mut self,
        user: UserId,
        order_id: OrderId,
        state: OrderState,
        filled: Quantity,
        venue_order_id: Option<&str>,
        code: Option<&str>,
    ) -> Result<bool, StoreError> {
        let done = sqlx::query(
        "UPDATE orders SET state = $3, filled = greatest(filled, $4), venue_order_id = coalesce($5, venue_order_id),
           code = coalesce($6, code), updated_at = clock_timestamp()
         WHERE user_id = $1 AND order_id = $2 AND state IN ('pending', 'open', 'unknown')",
    )
    .bind(user.0)
    .bind(order_id.0)
    .bind(state.word())
    .bind(filled.value())
    .bind(venue_order_id)
    .bind(code)
    .execute(self.conn())
    .await?;
        Ok(done.rows_affected() == 1)
    }

    async fn lock_order(&mut self, user: UserId, order_id: OrderId) -> Result<Option<OrderRow>, StoreError> {
        let row = sqlx::query("SELECT * FROM orders WHERE user_id = $1 AND order_id = $2 FOR UPDATE")
            .bind(user.0)
            .bind(order_id.0)
            .fetch_optional(self.conn())
            .await?;
        row.as_ref().map(order_of).transpose()
    }

    async fn set_children(
        &mut self,
        user: UserId,
        order_id: OrderId,
        children: &[ChildOrder],
        filled: Quantity,
    ) -> Result<bool, StoreError> {
        let done = sqlx::query(
            "UPDATE orders SET children = $3, filled = greatest(filled, $4), updated_at = clock_timestamp(),
               sent_at = coalesce(sent_at, $5), state = CASE state WHEN 'pending' THEN 'open' ELSE state END
             WHERE user_id = $1 AND order_id = $2 AND state IN ('pending', 'open', 'unknown')",
        )
        .bind(user.0)
        .bind(order_id.0)
        .bind(serde_json::to_value(children)?)
        .bind(filled.value())
        .bind(children.first().map(|child| Stamp(child.sent_at)))
        .execute(self.conn())
        .await?;
        Ok(done.rows_affected() == 1)
    }

    async fn open_orders(&mut self, venues: &[Venue]) -> Result<Vec<OrderRow>, StoreError> {
        let venues: Vec<&str> = venues.iter().map(|venue| venue.name()).collect();
        let rows = sqlx::query(
            "SELECT * FROM orders WHERE venue = ANY($1) AND state IN ('pending', 'open', 'unknown') ORDER BY position",
        )
        .bind(&venues)
        .fetch_all(self.conn())
        .await?;
        rows.iter().map(order_of).collect()
    }

    async fn order(&mut self, order_id: OrderId) -> Result<Option<OrderRow>, StoreError> {
        let row = sqlx::query("SELECT * FROM orders WHERE order_id = $1")
            .bind(order_id.0)
            .fetch_optional(self.conn())
            .await?;
        row.as_ref().map(order_of).transpose()
    }

    async fn recent_orders(&mut self, user: UserId, limit: i64) -> Result<Vec<OrderRow>, StoreError> {
        let rows = sqlx::query("SELECT * FROM orders WHERE user_id = $1 ORDER BY position DESC LIMIT $2")
            .bind(user.0)
            .bind(limit)
            .fetch_all(self.conn())
            .await?;
        rows.iter().map(order_of).collect()
    }

    async fn insert_fill(&mut self, fill: &Fill, user: UserId) -> Result<bool, StoreError> {
        let done = sqlx::query(
            "INSERT INTO fills (user_id, venue, symbol, venue_trade_id, order_id, side, quantity, price, fee, at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT DO NOTHING",
        )
        .bind(user.0)
        .bind(fill.instrument.venue.name())
        .bind(fill.instrument.symbol.as_str())
        .bind(&fill.venue_trade_id)
        .bind(fill.order_id.0)
        .bind(fill.side.word())
        .bind(fill.quantity.value())
        .bind(fill.price.value())
        .bind(fill.fee.value())
        .bind(Stamp(fill.at))
        .execute(self.conn())
        .await?;
        Ok(done.rows_affected() == 1)
    }

    async fn unposted(&mut self, limit: i64, besides: &[OrderId]) -> Result<Vec<(UserId, OrderId)>, StoreError> {
        // Two looks, each by an index of its own; one with OR would read every order there ever was.
        let rows = sqlx::query(
            "SELECT user_id, order_id FROM (
               (SELECT position, user_id, order_id FROM orders
                WHERE NOT outcome_posted AND state IN ('filled', 'rejected', 'cancelled') AND order_id <> ALL ($2)
                ORDER BY position LIMIT $1)
               UNION
               (SELECT o.position, o.user_id, o.order_id FROM fills f JOIN orders o USING (user_id, order_id)
                WHERE f.posted_at IS NULL AND o.order_id <> ALL ($2))
             ) o ORDER BY position LIMIT $1",
        )
        .bind(limit)
        .bind(besides.iter().map(|order_id| order_id.0).collect::<Vec<_>>())
        .fetch_all(self.conn())
        .await?;
        rows.iter()
            .map(|row| {
                let row = Reader::new("orders", row);
                Ok((UserId(row.uuid("user_id")?), OrderId(row.uuid("order_id")?)))
            })
            .collect()
    }

    async fn fills_unposted(&mut self, user: UserId, order_id: OrderId) -> Result<Vec<Fill>, StoreError> {
        let rows = sqlx::query(
            "SELECT * FROM fills WHERE user_id = $1 AND order_id = $2 AND posted_at IS NULL ORDER BY position",
        )
        .bind(user.0)
        .bind(order_id.0)
        .fetch_all(self.conn())
        .await?;
        rows.iter().map(fill_of).collect()
    }

    async fn mark_fill_posted(&mut self, user: UserId, fill: &Fill) -> Result<bool, StoreError> {
        let done = sqlx::query(
            "UPDATE fills SET posted_at = clock_timestamp()
         WHERE user_id = $1 AND venue = $2 AND symbol = $3 AND venue_trade_id = $4 AND posted_at IS NULL",
        )
        .bind(user.0)
        .bind(fill.instrument.venue.name())
        .bind(fill.instrument.symbol.as_str())
        .bind(&fill.venue_trade_id)
        .execute(self.conn())
        .await?;
        Ok(done.rows_affected() == 1)
    }

    async fn mark_outcome_posted(&mut self, user: UserId, order_id: OrderId) -> Result<bool, StoreError> {
        let done = sqlx::query(
            "UPDATE orders SET outcome_posted = true
         WHERE user_id = $1 AND order_id = $2 AND NOT outcome_posted AND state IN ('filled', 'rejected', 'cancelled')",
        )
        .bind(user.0)
        .bind(order_id.0)
        .execute(self.conn())
        .await?;
        Ok(done.rows_affected() == 1)
    }

    async fn fill_totals(&mut self, user: UserId) -> Result<(i64, Usd), StoreError> {
        let row = sqlx::query("SELECT count(*) AS fills, coalesce(sum(fee), 0) AS fees FROM fills WHERE user_id = $1")
            .bind(user.0)
            .fetch_one(self.conn())
            .await?;
        let row = Reader::new("fills", &row);
        Ok((row.get("fills")?, row.usd("fees")?))
    }

    async fn recent_fills(&mut self, user: UserId, limit: i64) -> Result<Vec<Fill>, StoreError> {
        let rows = sqlx::query("SELECT * FROM fills WHERE user_id = $1 ORDER BY position DESC LIMIT $2")
            .bind(user.0)
            .bind(limit)
            .fetch_all(self.conn())
            .await?;
        rows.iter().map(fill_of).collect()
    }
}
