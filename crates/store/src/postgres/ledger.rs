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
use sqlx::Postgres;
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::Query;

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

/// A whole book in one statement and so of one moment: a row for what there is one of, then a row for each position,
/// reservation, stamp and notional. Columns that a part does not have are null.
const BOOK: &str = "
    SELECT 0 AS part, e.day AS position, NULL::uuid AS order_id, NULL::text AS venue, NULL::text AS symbol,
      NULL::text AS side, NULL::text AS state, NULL::boolean AS flag, s.losses_in_a_row AS losses,
      NULL::numeric AS quantity, a.cash AS amount, e.equity AS amount_2, NULL::numeric AS amount_3, s.latched_at AS at
    FROM rails_state s
    JOIN accounts a ON a.user_id = s.user_id
    CROSS JOIN LATERAL (SELECT day, equity FROM equity_daily d WHERE d.user_id = s.user_id
                        ORDER BY day DESC LIMIT 1) e
    WHERE s.user_id = $1
    UNION ALL
    SELECT 1, 0, NULL, venue, symbol, NULL, NULL, NULL, NULL, quantity, cost, trade_cost, trade_realised, opened_at
    FROM positions WHERE user_id = $1
    UNION ALL
    SELECT 2, 0, order_id, venue, symbol, side, state, reduce_only, NULL, remaining, worst_price, NULL, NULL, expires_at
    FROM reservations WHERE user_id = $1
    UNION ALL
    SELECT 3, position, order_id, NULL, NULL, NULL, NULL, risk_increasing, NULL, NULL, NULL, NULL, NULL, at
    FROM permit_stamps WHERE user_id = $1 AND at >= $2
    UNION ALL
    SELECT 4, position, order_id, venue, symbol, side, NULL, NULL, NULL, NULL, notional, NULL, NULL, at
    FROM unapproved_notionals WHERE user_id = $1 AND at >= $3
    ORDER BY part, position";

async fn load(
    unit: &mut PgUnit,
    user: UserId,
    permits_since: UnixMs,
    unapproved_since: UnixMs,
) -> Result<Option<Book>, StoreError> {
    let rows = sqlx::query(BOOK)
        .bind(user.0)
        .bind(Stamp(permits_since))
        .bind(Stamp(unapproved_since))
        .fetch_all(unit.conn())
        .await?;
    let mut book = None;
    for row in &rows {
        let part: i32 = Reader::new("rails_state", row).get("part")?;
        match (part, &mut book) {
            (0, empty) => *empty = Some(head_of(user, row)?),
            (1, Some(book)) => {
                let row = Reader::new("positions", row);
                book.positions.insert(row.instrument()?, position_of(&row)?);
            }
            (2, Some(book)) => {
                let reservation = reservation_of(row)?;
                book.reservations.insert(reservation.order_id, reservation);
            }
            (3, Some(book)) => book.permits.push(stamp_of(row)?),
            (4, Some(book)) => book.unapproved.push(unapproved_of(row)?),
            _ => {}
        }
    }
    Ok(book)
}

fn head_of(user: UserId, row: &PgRow) -> Result<Book, StoreError> {
    let row = Reader::new("rails_state", row);
    let losses: i32 = row.get("losses")?;
    Ok(Book {
        user_id: user,
        cash: row.usd("amount")?,
        breaker: Breaker {
            losses_in_a_row: u32::try_from(losses).map_err(|_| row.corrupt("losses_in_a_row"))?,
            latched_at: row.maybe_time("at")?,
        },
        day: DayBaseline { day: row.get("position")?, equity: row.usd("amount_2")? },
        positions: BTreeMap::new(),
        reservations: BTreeMap::new(),
        permits: Vec::new(),
        unapproved: Vec::new(),
    })
}

fn position_of(row: &Reader<'_>) -> Result<Position, StoreError> {
    Ok(Position {
        quantity: row.quantity("quantity")?,
        cost: row.usd("amount")?,
        trade_cost: row.usd("amount_2")?,
        trade_realised: row.usd("amount_3")?,
        opened_at: row.time("at")?,
    })
}

fn reservation_of(row: &PgRow) -> Result<Reservation, StoreError> {
    let row = Reader::new("reservations", row);
    Ok(Reservation {
        order_id: OrderId(row.uuid("order_id")?),
        instrument: row.instrument()?,
        side: row.word("side", Side::parse)?,
        reduce_only: row.get("flag")?,
        remaining: row.quantity("quantity")?,
        worst_price: row.price("amount")?,
        state: row.word("state", state_of)?,
        expires_at: row.time("at")?,
    })
}

fn stamp_of(row: &PgRow) -> Result<PermitStamp, StoreError> {
    let row = Reader::new("permit_stamps", row);
    Ok(PermitStamp { order_id: OrderId(row.uuid("order_id")?), at: row.time("at")?, risk_increasing: row.get("flag")? })
}

fn unapproved_of(row: &PgRow) -> Result<Unapproved, StoreError> {
    let row = Reader::new("unapproved_notionals", row);
    Ok(Unapproved {
        order_id: OrderId(row.uuid("order_id")?),
        instrument: row.instrument()?,
        side: row.word("side", Side::parse)?,
        notional: row.usd("amount")?,
        at: row.time("at")?,
    })
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

macro_rules! upsert_reservation {
    () => {
        "INSERT INTO reservations
           (user_id, order_id, venue, symbol, side, reduce_only, remaining, worst_price, state, expires_at, updated_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
         ON CONFLICT (user_id, order_id) DO UPDATE SET venue = EXCLUDED.venue, symbol = EXCLUDED.symbol,
           side = EXCLUDED.side, reduce_only = EXCLUDED.reduce_only, remaining = EXCLUDED.remaining,
           worst_price = EXCLUDED.worst_price, state = EXCLUDED.state, expires_at = EXCLUDED.expires_at,
           updated_at = EXCLUDED.updated_at"
    };
}

/// A statement that holds `upsert_reservation!`, whose parameters are $1 to $11.
fn of_reservation<'q>(
    sql: &'static str,
    user: UserId,
    row: &'q Reservation,
    now: UnixMs,
) -> Query<'q, Postgres, PgArguments> {
    sqlx::query(sql)
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
}

async fn put_reservation(unit: &mut PgUnit, user: UserId, row: &Reservation, now: UnixMs) -> Result<(), StoreError> {
    of_reservation(upsert_reservation!(), user, row, now).execute(unit.conn()).await?;
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

/// What a signed permit changes, in one statement: the reservation, its stamp, and the notional when no human approved.
async fn put_permit(
    unit: &mut PgUnit,
    user: UserId,
    row: &Reservation,
    stamp: &PermitStamp,
    notional: Option<&Unapproved>,
    now: UnixMs,
) -> Result<(), StoreError> {
    let sql = concat!(
        "WITH reserved AS (",
        upsert_reservation!(),
        "), stamped AS (
           INSERT INTO permit_stamps (user_id, order_id, at, risk_increasing) VALUES ($1, $12, $13, $14))
         INSERT INTO unapproved_notionals (user_id, order_id, venue, symbol, side, notional, at)
         SELECT $1, $15, $16, $17, $18, $19, $20 WHERE $15 IS NOT NULL"
    );
    of_reservation(sql, user, row, now)
        .bind(stamp.order_id.0)
        .bind(Stamp(stamp.at))
        .bind(stamp.risk_increasing)
        .bind(notional.map(|row| row.order_id.0))
        .bind(notional.map(|row| row.instrument.venue.name()))
        .bind(notional.map(|row| row.instrument.symbol.as_str()))
        .bind(notional.map(|row| row.side.word()))
        .bind(notional.map(|row| row.notional.value()))
        .bind(notional.map(|row| Stamp(row.at)))
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
        let ids: Vec<uuid::Uuid> =
            sqlx::query_scalar("SELECT DISTINCT user_id FROM positions WHERE user_id > $1 ORDER BY user_id LIMIT $2")
                .bind(after.map_or(uuid::Uuid::nil(), |user| user.0))
                .bind(limit)
                .fetch_all(self.conn())
                .await?;
        Ok(ids.into_iter().map(UserId).collect())
    }

    async fn apply(&mut self, user: UserId, changes: &[Change], now: UnixMs) -> Result<(), StoreError> {
        match changes {
            [Change::Reservation(row), Change::Permit(stamp)] => {
                return put_permit(self, user, row, stamp, None, now).await;
            }
            [Change::Reservation(row), Change::Permit(stamp), Change::Unapproved(notional)] => {
                return put_permit(self, user, row, stamp, Some(notional), now).await;
            }
            _ => {}
        }
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
