//! The kill level out of its copies (Postgres, a local file, memory).

use crate::check::KillReading;

/// One copy of the kill level.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KillCopy {
    /// 0 to 4.
    pub level: u8,
    /// Counts up with each change.
    pub epoch: i64,
}

/// What counts, given the database's copy and the others. The newest epoch wins; a copy that can't be read counts as
/// level 1; a copy newer than the database's may raise the level but never lower it, because lowering counts only from
/// an audited row.
#[must_use]
pub fn effective(database: Option<KillCopy>, others: &[Option<KillCopy>]) -> KillReading {
    let Some(stored) = database else {
        return KillReading::Unreadable;
    };
    let mut level = stored.level;
    let mut epoch = stored.epoch;
    for other in others {
        match other {
            None => level = level.max(1),
            Some(copy) if copy.epoch > stored.epoch => {
                level = level.max(copy.level);
                epoch = epoch.max(copy.epoch);
            }
            Some(_) => {}
        }
    }
    KillReading::Level { level, epoch }
}
