//! The book of one user in memory.

use std::sync::Arc;

use async_trait::async_trait;
use domain::ids::{OrderId, UserId};
use domain::time::UnixMs;
use rails::book::{Book, Change, DayBaseline};
use store::StoreError;
use store::port::Ledger;
use uuid::Uuid;

use crate::record::Defect;
use crate::record::access::Right;
use crate::record::refusal::{limit, missing, unique};
use crate::record::unit::{Lock, MemoryUnit, Statement, view};

/// A change that met no row would be lost silently.
const NO_ROW: StoreError = StoreError::Corrupt { table: "accounts", column: "user_id" };

#[async_trait]
impl Ledger for MemoryUnit {
    async fn lock_book(
        &mut self,
        user: UserId,
        permits_since: UnixMs,
        unapproved_since: UnixMs,
    ) -> Result<Option<Book>, StoreError> {
        self.run(|s| {
            s.access.allow_lock("rails_state")?;
            if !view!(s, rails_state).has(&user) {
                return Ok(None);
            }
            if !s.broken(Defect::LockIgnored) {
                s.lock(Lock::Book(user))?;
            }
            load(s, user, permits_since, unapproved_since)
        })
    }

    async fn read_book(
        &mut self,
        user: UserId,
        permits_since: UnixMs,
        unapproved_since: UnixMs,
    ) -> Result<Option<Book>, StoreError> {
        self.run(|s| load(s, user, permits_since, unapproved_since))
    }

    async fn holders(&mut self, after: Option<UserId>, rows: i64) -> Result<Vec<UserId>, StoreError> {
        self.run(|s| {
            let sight = s.select("positions")?;
            let rows = limit(rows)?;
            let mut users: Vec<UserId> = view!(s, positions)
                .all()
                .map(|((user, _), _)| *user)
                .filter(|user| sight.sees(*user) && after.is_none_or(|after| *user > after))
                .collect();
            users.dedup();
            users.truncate(rows);
            Ok(users)
        })
    }

    async fn apply(&mut self, user: UserId, changes: &[Change], _now: UnixMs) -> Result<(), StoreError> {
        self.run(|s| changes.iter().try_for_each(|change| write(s, user, change)))
    }
}

fn load(
    s: &Statement<'_>,
    user: UserId,
    permits_since: UnixMs,
    unapproved_since: UnixMs,
) -> Result<Option<Book>, StoreError> {
    for table in ["rails_state", "accounts", "equity_daily"] {
        s.access.allow(table, Right::Select)?;
    }
    let (Some(breaker), Some(account)) = (view!(s, rails_state).get(&user), view!(s, accounts).get(&user)) else {
        return Ok(None);
    };
    let newest = view!(s, equity_daily).range((user, i64::MIN)..=(user, i64::MAX)).last();
    let Some(((_, day), equity)) = newest else { return Ok(None) };
    for table in ["positions", "reservations", "permit_stamps", "unapproved_notionals"] {
        s.access.allow(table, Right::Select)?;
    }
    let mine = (user, i64::MIN)..=(user, i64::MAX);
    Ok(Some(Book {
        user_id: user,
        cash: account.cash,
        breaker: *breaker,
        day: DayBaseline { day: *day, equity: *equity },
        positions: view!(s, positions)
            .all()
            .filter(|((owner, _), _)| *owner == user)
            .map(|((_, instrument), position)| (instrument.clone(), *position))
            .collect(),
        reservations: view!(s, reservations)
            .range((user, OrderId(Uuid::nil()))..=(user, OrderId(Uuid::max())))
            .map(|((_, order_id), row)| (*order_id, row.as_ref().clone()))
            .collect(),
        permits: view!(s, permit_stamps)
            .range(mine.clone())
            .map(|(_, stamp)| *stamp)
            .filter(|stamp| stamp.at >= permits_since)
            .collect(),
        unapproved: view!(s, unapproved_notionals)
            .range(mine)
            .filter(|(_, row)| row.at >= unapproved_since)
            .map(|(_, row)| row.as_ref().clone())
            .collect(),
    }))
}

fn known(s: &Statement<'_>, user: UserId) -> Result<(), StoreError> {
    if view!(s, users).has(&user) { Ok(()) } else { Err(missing("no such user")) }
}

/// Whom a change is written for.
fn owner(s: &Statement<'_>, user: UserId) -> UserId {
    if !s.broken(Defect::WrongTenant) {
        return user;
    }
    view!(s, accounts).all().map(|(owner, _)| *owner).find(|owner| *owner != user).unwrap_or(user)
}

fn write(s: &mut Statement<'_>, user: UserId, change: &Change) -> Result<(), StoreError> {
    match change {
        Change::Cash(cash) => {
            s.update("accounts", &["cash", "updated_at"])?;
            let user = owner(s, user);
            let mut account = *view!(s, accounts).get(&user).ok_or(NO_ROW)?;
            s.lock(Lock::Account(user))?;
            account.cash = *cash;
            s.changes.accounts.insert(user, Some(account));
        }
        Change::Breaker(breaker) => {
            s.update("rails_state", &["losses_in_a_row", "latched_at", "updated_at"])?;
            if !view!(s, rails_state).has(&user) {
                return Err(NO_ROW);
            }
            s.lock(Lock::Book(user))?;
            if !s.broken(Defect::BreakerForgotten) {
                s.changes.rails_state.insert(user, Some(*breaker));
            }
        }
        Change::Day(day) => {
            upsert(s, "equity_daily", &["equity", "updated_at"])?;
            known(s, user)?;
            s.lock(Lock::Day(user, day.day))?;
            s.changes.equity_daily.insert((user, day.day), Some(day.equity));
        }
        Change::Position(instrument, position) => {
            upsert(s, "positions", &["quantity", "cost", "trade_cost", "trade_realised", "opened_at", "updated_at"])?;
            known(s, user)?;
            s.lock(Lock::Position(user, instrument.clone()))?;
            s.changes.positions.insert((user, instrument.clone()), Some(*position));
        }
        Change::PositionClosed(instrument) => {
            s.access.allow("positions", Right::Select)?;
            s.access.allow("positions", Right::Delete)?;
            let key = (user, instrument.clone());
            if view!(s, positions).has(&key) {
                s.lock(Lock::Position(user, instrument.clone()))?;
                s.changes.positions.insert(key, None);
            }
        }
        Change::Reservation(_) | Change::Released(_) => write_reservation(s, user, change)?,
        Change::Permit(_) | Change::Unapproved(_) => count(s, user, change)?,
    }
    Ok(())
}

fn upsert(s: &Statement<'_>, table: &'static str, columns: &'static [&'static str]) -> Result<(), StoreError> {
    s.insert(table)?;
    s.update(table, columns).map(drop)
}

fn write_reservation(s: &mut Statement<'_>, user: UserId, change: &Change) -> Result<(), StoreError> {
    match change {
        Change::Reservation(row) => {
            upsert(
                s,
                "reservations",
                &["venue", "symbol", "side", "reduce_only", "remaining", "worst_price", "state"],
            )?;
            known(s, user)?;
            s.lock(Lock::Reservation(user, row.order_id))?;
            if !s.broken(Defect::ReservationLost) {
                s.changes.reservations.insert((user, row.order_id), Some(Arc::new(row.clone())));
            }
        }
        Change::Released(order_id) => {
            s.access.allow("reservations", Right::Select)?;
            s.access.allow("reservations", Right::Delete)?;
            if view!(s, reservations).has(&(user, *order_id)) {
                s.lock(Lock::Reservation(user, *order_id))?;
                if !s.broken(Defect::ReservationStays) {
                    s.changes.reservations.insert((user, *order_id), None);
                }
            }
        }
        _ => {}
    }
    Ok(())
}

/// Rows that are only ever added, one an order.
fn count(s: &mut Statement<'_>, user: UserId, change: &Change) -> Result<(), StoreError> {
    match change {
        Change::Permit(stamp) => {
            s.insert("permit_stamps")?;
            let key = (user, stamp.order_id);
            if view!(s, stamp_of_order).has(&key) {
                return Err(unique("the order's permit is counted"));
            }
            s.lock(Lock::Stamp(user, stamp.order_id))?;
            known(s, user)?;
            let position = s.shared.next_position();
            if !s.broken(Defect::RateStampLost) {
                s.changes.permit_stamps.insert((user, position), Some(*stamp));
                s.changes.stamp_of_order.insert(key, Some(position));
            }
        }
        Change::Unapproved(row) => {
            s.insert("unapproved_notionals")?;
            let key = (user, row.order_id);
            if view!(s, notional_of_order).has(&key) {
                return Err(unique("the order's notional is counted"));
            }
            s.lock(Lock::Notional(user, row.order_id))?;
            known(s, user)?;
            let position = s.shared.next_position();
            if !s.broken(Defect::NotionalLost) {
                s.changes.unapproved_notionals.insert((user, position), Some(Arc::new(row.clone())));
                s.changes.notional_of_order.insert(key, Some(position));
            }
        }
        _ => {}
    }
    Ok(())
}
