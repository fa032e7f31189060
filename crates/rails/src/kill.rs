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

#[cfg(test)]
mod tests {
    use super::*;

    const fn copy(level: u8, epoch: i64) -> Option<KillCopy> {
        Some(KillCopy { level, epoch })
    }

    #[test]
    fn the_newest_epoch_wins_and_doubt_counts_as_one() {
        for (database, others, want) in [
            (copy(0, 5), vec![copy(0, 5)], 0),
            (copy(0, 5), vec![copy(2, 4)], 0),
            (copy(0, 5), vec![copy(2, 6)], 2),
            (copy(2, 5), vec![copy(0, 6)], 2),
            (copy(2, 5), vec![copy(0, 4)], 2),
            (copy(0, 5), vec![None], 1),
            (copy(2, 5), vec![None], 2),
            (None, vec![copy(0, 9)], 1),
            (copy(3, 1), vec![], 3),
        ] {
            assert_eq!(effective(database, &others).level(), want, "{database:?} {others:?}");
        }
    }
}
