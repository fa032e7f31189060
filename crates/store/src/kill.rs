//! The kill level: rows that are only ever added, each with the next epoch.

use domain::time::UnixMs;
use sqlx::postgres::PgRow;

use crate::value::{Reader, Stamp};
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

fn kill_of(row: &PgRow) -> Result<Kill, StoreError> {
    let row = Reader::new("kill_levels", row);
    let level = u8::try_from(row.get::<i16>("level")?).map_err(|_| row.corrupt("level"))?;
    Ok(Kill {
        level,
        epoch: row.get("epoch")?,
        by: row.text("by_whom")?,
        reason: row.text("reason")?,
        at: row.time("at")?,
    })
}

/// The newest level; `None` before the first start, which counts as 1.
///
/// # Errors
/// [`StoreError`]; an unreadable level counts as 1.
pub async fn current(unit: &mut Unit) -> Result<Option<Kill>, StoreError> {
    let row = sqlx::query("SELECT level, epoch, by_whom, reason, at FROM kill_levels ORDER BY epoch DESC LIMIT 1")
        .fetch_optional(unit.conn())
        .await?;
    row.as_ref().map(kill_of).transpose()
}

/// Makes every other change of the level wait until this unit ends, so that what [`current`] says then is still so when
/// the next epoch is added. Take it before looking.
///
/// # Errors
/// [`StoreError`].
pub async fn lock(unit: &mut Unit) -> Result<(), StoreError> {
    sqlx::query("SELECT pg_advisory_xact_lock(hashtextextended('swarm.kill', 0))").execute(unit.conn()).await?;
    Ok(())
}

/// Adds the next epoch. The level may stay or fall too; falling needs a reason.
///
/// # Errors
/// [`StoreError::ReasonNeeded`]; [`StoreError::OutOfRange`] above 4; [`StoreError::Database`].
pub async fn raise(unit: &mut Unit, level: u8, by: &str, reason: &str, now: UnixMs) -> Result<Kill, StoreError> {
    if level > 4 {
        return Err(StoreError::OutOfRange("level"));
    }
    // One writer at a time, so that epochs have no gaps and "lower" means lower than the row just before.
    lock(unit).await?;
    let last = current(unit).await?;
    if last.as_ref().is_some_and(|last| level < last.level) && reason.trim().is_empty() {
        return Err(StoreError::ReasonNeeded);
    }
    let epoch = last.map_or(0, |last| last.epoch).checked_add(1).ok_or(StoreError::OutOfRange("epoch"))?;
    sqlx::query("INSERT INTO kill_levels (epoch, level, by_whom, reason, at) VALUES ($1, $2, $3, $4, $5)")
        .bind(epoch)
        .bind(i16::from(level))
        .bind(by)
        .bind(reason)
        .bind(Stamp(now))
        .execute(unit.conn())
        .await?;
    Ok(Kill { level, epoch, by: by.to_owned(), reason: reason.to_owned(), at: now })
}
