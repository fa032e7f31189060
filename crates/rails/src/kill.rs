//! The kill level out of its copies (Postgres, a local file, memory), and the epochs that keep a raise made without the
//! database from being lost.
//!
//! A raise never waits for the database: it takes the epoch after all that its maker knows, and is written down later. The
//! maker may not know of a row made meanwhile, so two raises can come to one epoch, or a row may stand at a later one.
//! Three rules keep the higher of the two: at equal epochs the higher level counts; a raise that is not written down counts
//! as if it were as new as the newest row; and writing it down takes a new row that is never below the one before.

use crate::check::KillReading;

/// The highest level there is: and stop processes.
pub const HIGHEST: u8 = 4;

/// One copy of the kill level.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KillCopy {
    /// 0 to 4.
    pub level: u8,
    /// Counts up with each change.
    pub epoch: i64,
}

impl KillCopy {
    /// Whether this copy raises the level above that of `row`. Whoever made it may not have known of the row, so an equal
    /// epoch counts too.
    #[must_use]
    pub const fn outranks(self, row: Self) -> bool {
        self.epoch >= row.epoch && self.level > row.level
    }

    /// This copy while it is not written down: no row, however new, was made in knowledge of it.
    #[must_use]
    pub fn unrecorded(self, row: Option<Self>) -> Self {
        Self { epoch: row.map_or(self.epoch, |row| row.epoch.max(self.epoch)), ..self }
    }
}

/// What counts, given the database's copy and the others. The newest epoch wins; a copy that can't be read counts as
/// level 1; a copy as new as the database's or newer may raise the level but never lower it, because lowering counts only
/// from an audited row.
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
            Some(copy) => {
                if copy.outranks(stored) {
                    level = level.max(copy.level);
                }
                epoch = epoch.max(copy.epoch);
            }
        }
    }
    KillReading::Level { level, epoch }
}

/// What counts while the database can't be read, given the row that was read last (`None`: none yet) and the other copies.
/// Never below 1.
#[must_use]
pub fn without_database(last_row: Option<KillCopy>, others: &[Option<KillCopy>]) -> KillReading {
    let nothing = KillCopy { level: 0, epoch: 0 };
    effective(Some(last_row.unwrap_or(nothing)), others).at_least(1)
}

/// The copy that a wish for `level` makes: one epoch past every copy that is known, and below none of them. `None` when the
/// level is as high already, beyond doubt: that takes a row that was read, for a file may have missed the newest one.
#[must_use]
pub fn raised(level: u8, last_row: Option<KillCopy>, others: &[Option<KillCopy>]) -> Option<KillCopy> {
    // A copy that can't be read counts as 1, and is no reason not to raise.
    let known: Vec<Option<KillCopy>> = others.iter().copied().filter(Option::is_some).collect();
    let nothing = KillCopy { level: 0, epoch: 0 };
    let KillReading::Level { level: standing, epoch } = effective(Some(last_row.unwrap_or(nothing)), &known) else {
        return Some(KillCopy { level, epoch: 1 });
    };
    let is_needless = last_row.is_some() && standing >= level;
    (!is_needless).then(|| KillCopy { level: level.max(standing), epoch: epoch.saturating_add(1) })
}

/// The row by which a raise that was made without the database is written down after `row`: never lower than either, and
/// no older than the raise, so that a later lowering is newer than every copy of it.
#[must_use]
pub fn recorded(row: Option<KillCopy>, raise: KillCopy) -> KillCopy {
    let row = row.unwrap_or(KillCopy { level: 0, epoch: 0 });
    KillCopy { level: raise.level.max(row.level), epoch: raise.epoch.max(row.epoch.saturating_add(1)) }
}
