//! The book of one user: loaded under a row lock, written as the changes that `rails` returned.

use domain::ids::UserId;
use domain::time::UnixMs;
use rails::book::{Book, Change};

use crate::fits::{FIRST, LAST, exact, fits};
use crate::{StoreError, Unit};

/// Locks the user's ledger until the unit ends, then loads it. `None` when the user has no account. Permits and
/// unapproved notional older than their windows are left out.
///
/// # Errors
/// [`StoreError`]; a lock timeout is transient.
pub async fn lock_book(
    unit: &mut Unit,
    user: UserId,
    now: UnixMs,
    rate_window_ms: i64,
    approval_window_ms: i64,
) -> Result<Option<Book>, StoreError> {
    let (permits, unapproved) = windows(now, rate_window_ms, approval_window_ms)?;
    unit.records_of(user).await?.lock_book(user, permits, unapproved).await
}

/// As [`lock_book`], without the lock: for showing, never for deciding.
///
/// # Errors
/// [`StoreError`].
pub async fn read_book(
    unit: &mut Unit,
    user: UserId,
    now: UnixMs,
    rate_window_ms: i64,
    approval_window_ms: i64,
) -> Result<Option<Book>, StoreError> {
    let (permits, unapproved) = windows(now, rate_window_ms, approval_window_ms)?;
    unit.records_of(user).await?.read_book(user, permits, unapproved).await
}

/// Users who hold something, by id, after `after`: what a timer has to watch, however many accounts there are.
///
/// # Errors
/// [`StoreError`].
pub async fn holders(unit: &mut Unit, after: Option<UserId>, limit: i64) -> Result<Vec<UserId>, StoreError> {
    unit.records().holders(after, limit).await
}

/// Writes exactly these changes, in their order. The caller holds the lock of [`lock_book`].
///
/// # Errors
/// [`StoreError`].
pub async fn apply(unit: &mut Unit, user: UserId, changes: &[Change], now: UnixMs) -> Result<(), StoreError> {
    fits(now, "updated_at")?;
    changes.iter().try_for_each(storable)?;
    unit.records_of(user).await?.apply(user, changes, now).await
}

/// Where the two windows that end at `now` begin; a window longer than any row's age begins with the first row.
fn windows(now: UnixMs, rate_window_ms: i64, approval_window_ms: i64) -> Result<(UnixMs, UnixMs), StoreError> {
    fits(now, "now")?;
    let begin = |window_ms: i64| now.plus_ms(window_ms.saturating_neg()).clamp(FIRST, LAST);
    Ok((begin(rate_window_ms), begin(approval_window_ms)))
}

/// Refuses a change that no row can hold, before any of its siblings is written.
fn storable(change: &Change) -> Result<(), StoreError> {
    match change {
        Change::Position(_, position) => {
            [position.cost, position.trade_cost, position.trade_realised]
                .into_iter()
                .try_for_each(|amount| exact(amount.value()))?;
            exact(position.quantity.value())?;
            fits(position.opened_at, "opened_at")
        }
        Change::Reservation(row) => {
            exact(row.remaining.value())?;
            exact(row.worst_price.value())?;
            fits(row.expires_at, "expires_at")
        }
        Change::Unapproved(row) => {
            exact(row.notional.value())?;
            fits(row.at, "at")
        }
        Change::Permit(stamp) => fits(stamp.at, "at"),
        Change::Cash(cash) => exact(cash.value()),
        Change::Day(day) => exact(day.equity.value()),
        Change::Breaker(breaker) => {
            i32::try_from(breaker.losses_in_a_row).map_err(|_| StoreError::OutOfRange("losses_in_a_row"))?;
            breaker.latched_at.map_or(Ok(()), |at| fits(at, "latched_at"))
        }
        Change::PositionClosed(_) | Change::Released(_) => Ok(()),
    }
}
