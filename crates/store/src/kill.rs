//! The kill level: rows that are only ever added, each with the next epoch.

use domain::time::UnixMs;

use crate::fits::fits;
use crate::{StoreError, Unit};

/// One change of the level.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kill {
    /// 0 run, 1 no new risk, 2 and cancel, 3 and flatten, 4 and stop.
    pub level: u8,
    /// Counts up with each change.
    pub epoch: i64,
    /// Who.
    pub by: String,
    /// Why.
    pub reason: String,
    /// When.
    pub at: UnixMs,
}

/// The newest level; `None` before the first start, which counts as 1.
///
/// # Errors
/// [`StoreError`]; an unreadable level counts as 1.
pub async fn current(unit: &mut Unit) -> Result<Option<Kill>, StoreError> {
    unit.records().kill_level().await
}

/// Makes every other change of the level wait until this unit ends, so that what [`current`] says then is still so when
/// the next epoch is added. Take it before looking.
///
/// # Errors
/// [`StoreError`].
pub async fn lock(unit: &mut Unit) -> Result<(), StoreError> {
    unit.records().lock_kill_level().await
}

/// The changes from `epoch` on, oldest first, at most 100.
///
/// # Errors
/// [`StoreError`].
pub async fn since(unit: &mut Unit, epoch: i64) -> Result<Vec<Kill>, StoreError> {
    unit.records().kill_levels_since(epoch).await
}

/// Writes down a raise that was made without the database, under the epoch it needs. Take [`lock`] before looking at
/// what that is.
///
/// # Errors
/// [`StoreError::OutOfRange`] for a level above 4 or below the newest, and for an epoch that is not after the newest;
/// [`StoreError::Database`].
pub async fn record(unit: &mut Unit, kill: &Kill) -> Result<(), StoreError> {
    fits(kill.at, "at")?;
    lock(unit).await?;
    let last = current(unit).await?;
    let (level, epoch) = last.map_or((0, 0), |last| (last.level, last.epoch));
    if kill.level > 4 || kill.level < level {
        return Err(StoreError::OutOfRange("level"));
    }
    if kill.epoch <= epoch {
        return Err(StoreError::OutOfRange("epoch"));
    }
    unit.records().insert_kill_level(kill).await
}

/// Adds the next epoch. The level may stay or fall too; falling needs a reason.
///
/// # Errors
/// [`StoreError::ReasonNeeded`]; [`StoreError::OutOfRange`] above 4; [`StoreError::Database`].
pub async fn raise(unit: &mut Unit, level: u8, by: &str, reason: &str, now: UnixMs) -> Result<Kill, StoreError> {
    if level > 4 {
        return Err(StoreError::OutOfRange("level"));
    }
    fits(now, "at")?;
    // One writer at a time, so that epochs have no gaps and "lower" means lower than the row just before.
    lock(unit).await?;
    let last = current(unit).await?;
    if last.as_ref().is_some_and(|last| level < last.level) && reason.trim().is_empty() {
        return Err(StoreError::ReasonNeeded);
    }
    let epoch = last.map_or(0, |last| last.epoch).checked_add(1).ok_or(StoreError::OutOfRange("epoch"))?;
    let kill = Kill { level, epoch, by: by.to_owned(), reason: reason.to_owned(), at: now };
    unit.records().insert_kill_level(&kill).await?;
    Ok(kill)
}
