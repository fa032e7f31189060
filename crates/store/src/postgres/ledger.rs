//! The book of one user in Postgres.

use std::collections::BTreeMap;

use async_trait::async_trait;
use domain::ids::{OrderId, UserId};
use domain::market::InstrumentId;
use domain::order::Side;
use domain::time::UnixMs;
use rails::book::{
    Book, Breaker, Change, DayBaseline, PermitStamp, Position, Reservation, ReservationState, Unapproved,
};

use super::PgUnit;
use super::value::{Reader, Stamp};
use crate::StoreError;
use crate::port::Ledger;

const fn state_word(state: ReservationState) -> &'static str {
    match state {
        ReservationState::Pending => "pending",
        ReservationState::Permitted => "permitted",
    }
}

fn state_of(word: &str) -> Option<ReservationState> {
    [ReservationState::Pending, ReservationState::Permitted].into_iter().find(|state| state_word(*state) == word)
}

async fn load(
    unit: &mut PgUnit,
    user: UserId,
    permits_since: UnixMs,
    unapproved_since: UnixMs,
) -> Result<Option<Book>, StoreError> {
    let head = sqlx::query(
        "SELECT a.cash, s.losses_in_a_row, s.latched_at, e.day, e.equity
         FROM rails_state s
         JOIN accounts a ON a.user_id = s.user_id
         CROSS JOIN LATERAL (SELECT day, equity FROM equity_daily d WHERE d.user_id = s.user_id
                             ORDER BY day DESC LIMIT 1) e
         WHERE s.user_id = $1",
    )
    .bind(user.0)
    .fetch_optional(unit.conn())
    .await?;
    let Some(head) = head else { return Ok(None) };
    let head = Reader::new("rails_state", &head);
    let losses = head.get::<i32>("losses_in_a_row")?;
    Ok(Some(Book {
        user_id: user,
        cash: head.usd("cash")?,
        breaker: Breaker {
            losses_in_a_row: u32::try_from(losses).map_err(|_| head.corrupt("losses_in_a_row"))?,
            latched_at: head.maybe_time("latched_at")?,
        },
        day: DayBaseline { day: head.get("day")?, equity: head.usd("equity")? },
        positions: positions(unit, user).await?,
        reservations: reservations(unit, user).await?,
        permits: permits(unit, user, permits_since).await?,
        unapproved: unapproved(unit, user, unapproved_since).await?,
    }))
}

async fn positions(unit: &mut PgUnit, user: UserId) -> Result<BTreeMap<InstrumentId, Position>, StoreError> {
    let rows = sqlx::query(
        "SELECT venue, symbol, quantity, cost, trade_cost, trade_realised, opened_at FROM positions WHERE user_id = $1",
    )
    .bind(user.0)
    .fetch_all(unit.conn())
    .await?;
    rows.iter()
        .map(|row| {
            let row = Reader::new("positions", row);
            let position = Position {
                quantity: row.quantity("quantity")?,
                cost: row.usd("cost")?,
                trade_cost: row.usd("trade_cost")?,
                trade_realised: row.usd("trade_realised")?,
                opened_at: row.time("opened_at")?,
            };
            Ok((row.instrument()?, position))
        })
        .collect()
}

async fn reservations(unit: &mut PgUnit, user: UserId) -> Result<BTreeMap<OrderId, Reservation>, StoreError> {
    let rows = sqlx::query(
        "SELECT order_id, venue, symbol, side, reduce_only, remaining, worst_price, state, expires_at
         FROM reservations WHERE user_id = $1",
    )
    .bind(user.0)
    .fetch_all(unit.conn())
    .await?;
    rows.iter()
        .map(|row| {
            let row = Reader::new("reservations", row);
            let reservation = Reservation {
                order_id: OrderId(row.uuid("order_id")?),
                instrument: row.instrument()?,
                side: row.word("side", Side::parse)?,
                reduce_only: row.get("reduce_only")?,
                remaining: row.quantity("remaining")?,
                worst_price: row.price("worst_price")?,
                state: row.word("state", state_of)?,
                expires_at: row.time("expires_at")?,
            };
            Ok((reservation.order_id, reservation))
        })
        .collect()
}

async fn permits(unit: &mut PgUnit, user: UserId, since: UnixMs) -> Result<Vec<PermitStamp>, StoreError> {
    let rows = sqlx::query(
        "SELECT order_id, at, risk_increasing FROM permit_stamps WHERE user_id = $1 AND at >= $2 ORDER BY position",
    )
    .bind(user.0)
    .bind(Stamp(since))
    .fetch_all(unit.conn())
    .await?;
    rows.iter()
        .map(|row| {
            let row = Reader::new("permit_stamps", row);
            Ok(PermitStamp {
                order_id: OrderId(row.uuid("order_id")?),
                at: row.time("at")?,
                risk_increasing: row.get("risk_increasing")?,
            })
        })
        .collect()
}

async fn unapproved(unit: &mut PgUnit, user: UserId, since: UnixMs) -> Result<Vec<Unapproved>, StoreError> {
    let rows = sqlx::query(
        "SELECT order_id, venue, symbol, side, notional, at FROM unapproved_notionals
         WHERE user_id = $1 AND at >= $2 ORDER BY position",
    )
    .bind(user.0)
    .bind(Stamp(since))
    .fetch_all(unit.conn())
    .await?;
    rows.iter()
        .map(|row| {
            let row = Reader::new("unapproved_notionals", row);
            Ok(Unapproved {
                order_id: OrderId(row.uuid("order_id")?),
                instrument: row.instrument()?,
                side: row.word("side", Side::parse)?,
                notional: row.usd("notional")?,
                at: row.time("at")?,
            })
        })
        .collect()
}

/// The parts of a book that are one row a user.
async fn put_single(unit: &mut PgUnit, user: UserId, change: &Change, now: UnixMs) -> Result<(), StoreError> {
    let query = match change {
        Change::Cash(cash) => sqlx::query("UPDATE accounts SET cash = $2, updated_at = $3 WHERE user_id = $1")
            .bind(user.0)
            .bind(cash.value())
            .bind(Stamp(now)),
        Change::Breaker(breaker) => sqlx::query(
            "UPDATE rails_state SET losses_in_a_row = $2, latched_at = $3, updated_at = $4 WHERE user_id = $1",
        )
        .bind(user.0)
        .bind(i32::try_from(breaker.losses_in_a_row).map_err(|_| StoreError::OutOfRange("losses_in_a_row"))?)
        .bind(breaker.latched_at.map(Stamp))
        .bind(Stamp(now)),
        Change::Day(day) => sqlx::query(
            "INSERT INTO equity_daily (user_id, day, equity, updated_at) VALUES ($1, $2, $3, $4)
             ON CONFLICT (user_id, day) DO UPDATE SET equity = EXCLUDED.equity, updated_at = EXCLUDED.updated_at",
        )
        .bind(user.0)
        .bind(day.day)
        .bind(day.equity.value())
        .bind(Stamp(now)),
        _ => return Ok(()),
    };
    let done = query.execute(unit.conn()).await?;
    // A change that meets no row would be lost silently.
    if done.rows_affected() == 1 { Ok(()) } else { Err(StoreError::Corrupt { table: "accounts", column: "user_id" }) }
}

async fn put_position(
    unit: &mut PgUnit,
    user: UserId,
    instrument: &InstrumentId,
    position: &Position,
    now: UnixMs,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO positions (user_id, venue, symbol, quantity, cost, trade_cost, trade_realised, opened_at, updated_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
         ON CONFLICT (user_id, venue, symbol) DO UPDATE SET quantity = EXCLUDED.quantity, cost = EXCLUDED.cost,
           trade_cost = EXCLUDED.trade_cost, trade_realised = EXCLUDED.trade_realised,
           opened_at = EXCLUDED.opened_at, updated_at = EXCLUDED.updated_at",
    )
    .bind(user.0)
    .bind(instrument.venue.name())
    .bind(instrument.symbol.as_str())
    .bind(position.quantity.value())
    .bind(position.cost.value())
    .bind(position.trade_cost.value())
    .bind(position.trade_realised.value())
    .bind(Stamp(position.opened_at))
    .bind(Stamp(now))
    .execute(unit.conn())
    .await?;
    Ok(())
}

async fn put_reservation(unit: &mut PgUnit, user: UserId, row: &Reservation, now: UnixMs) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO reservations
           (user_id, order_id, venue, symbol, side, reduce_only, remaining, worst_price, state, expires_at, updated_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
         ON CONFLICT (user_id, order_id) DO UPDATE SET venue = EXCLUDED.venue, symbol = EXCLUDED.symbol,
           side = EXCLUDED.side, reduce_only = EXCLUDED.reduce_only, remaining = EXCLUDED.remaining,
           worst_price = EXCLUDED.worst_price, state = EXCLUDED.state, expires_at = EXCLUDED.expires_at,
           updated_at = EXCLUDED.updated_at",
    )
    .bind(user.0)
    .bind(row.order_id.0)
    .bind(row.instrument.venue.name())
    .bind(row.instrument.symbol.as_str())
    .bind(row.side.word())
    .bind(row.reduce_only)
    .bind(row.remaining.value())
    .bind(row.worst_price.value())
    .bind(state_word(row.state))
    .bind(Stamp(row.expires_at))
    .bind(Stamp(now))
    .execute(unit.conn())
    .await?;
    Ok(())
}

async fn put_unapproved(unit: &mut PgUnit, user: UserId, row: &Unapproved) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO unapproved_notionals (user_id, order_id, venue, symbol, side, notional, at)
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind(user.0)
    .bind(row.order_id.0)
    .bind(row.instrument.venue.name())
    .bind(row.instrument.symbol.as_str())
    .bind(row.side.word())
    .bind(row.notional.value())
    .bind(Stamp(row.at))
    .execute(unit.conn())
    .await?;
    Ok(())
}

#[async_trait]
impl Ledger for PgUnit {
    async fn lock_book(
        &mut self,
        user: UserId,
        permits_since: UnixMs,
        unapproved_since: UnixMs,
    ) -> Result<Option<Book>, StoreError> {
        // The lock comes first and alone: what is read after it is what the last holder left.
        let locked: Option<i32> = sqlx::query_scalar("SELECT 1 FROM rails_state WHERE user_id = $1 FOR UPDATE")
            .bind(user.0)
            .fetch_optional(self.conn())
            .await?;
        if locked.is_none() {
            return Ok(None);
        }
        load(self, user, permits_since, unapproved_since).await
    }

    async fn read_book(
        &mut self,
        user: UserId,
        permits_since: UnixMs,
        unapproved_since: UnixMs,
    ) -> Result<Option<Book>, StoreError> {
        load(self, user, permits_since, unapproved_since).await
    }

    async fn holders(&mut self, after: Option<UserId>, limit: i64) -> Result<Vec<UserId>, StoreError> {
        let ids: Vec<uuid::Uuid> = sqlx::query_scalar(
            "SELECT DISTINCT user_id FROM positions WHERE $1::uuid IS NULL OR user_id > $1 ORDER BY user_id LIMIT $2",
        )
        .bind(after.map(|user| user.0))
        .bind(limit)
        .fetch_all(self.conn())
        .await?;
        Ok(ids.into_iter().map(UserId).collect())
    }

    async fn apply(&mut self, user: UserId, changes: &[Change], now: UnixMs) -> Result<(), StoreError> {
        for change in changes {
            match change {
                Change::Position(instrument, position) => put_position(self, user, instrument, position, now).await?,
                Change::Reservation(reservation) => put_reservation(self, user, reservation, now).await?,
                Change::Unapproved(unapproved) => put_unapproved(self, user, unapproved).await?,
                Change::PositionClosed(instrument) => {
                    sqlx::query("DELETE FROM positions WHERE user_id = $1 AND venue = $2 AND symbol = $3")
                        .bind(user.0)
                        .bind(instrument.venue.name())
                        .bind(instrument.symbol.as_str())
                        .execute(self.conn())
                        .await?;
                }
                Change::Released(order_id) => {
                    sqlx::query("DELETE FROM reservations WHERE user_id = $1 AND order_id = $2")
                        .bind(user.0)
                        .bind(order_id.0)
                        .execute(self.conn())
                        .await?;
                }
                Change::Permit(stamp) => {
                    sqlx::query(
                        "INSERT INTO permit_stamps (user_id, order_id, at, risk_increasing) VALUES ($1, $2, $3, $4)",
                    )
                    .bind(user.0)
                    .bind(stamp.order_id.0)
                    .bind(Stamp(stamp.at))
                    .bind(stamp.risk_increasing)
                    .execute(self.conn())
                    .await?;
                }
                Change::Cash(_) | Change::Breaker(_) | Change::Day(_) => put_single(self, user, change, now).await?,
            }
        }
        Ok(())
    }
}
