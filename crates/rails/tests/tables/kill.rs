//! The kill level out of its copies.

use rails::check::KillReading;
use rails::kill::{KillCopy, effective};

const fn copy(level: u8, epoch: i64) -> Option<KillCopy> {
    Some(KillCopy { level, epoch })
}

#[test]
fn the_newest_epoch_wins_and_doubt_counts_as_one() {
    for (database, others, level, epoch) in [
        (copy(0, 5), vec![copy(0, 5)], 0, 5),
        (copy(0, 5), vec![copy(2, 4)], 0, 5),
        (copy(0, 5), vec![copy(2, 5)], 0, 5),
        (copy(0, 5), vec![copy(2, 6)], 2, 6),
        (copy(2, 5), vec![copy(0, 6)], 2, 6),
        (copy(2, 5), vec![copy(0, 4)], 2, 5),
        (copy(0, 5), vec![copy(1, 8), copy(2, 6)], 2, 8),
        (copy(0, 5), vec![None], 1, 5),
        (copy(2, 5), vec![None], 2, 5),
        (copy(3, 1), vec![], 3, 1),
    ] {
        let want = KillReading::Level { level, epoch };
        assert_eq!(effective(database, &others), want, "{database:?} {others:?}");
    }
    assert_eq!(effective(None, &[copy(0, 9)]), KillReading::Unreadable);
}

#[test]
fn an_unreadable_level_counts_as_one() {
    assert_eq!(KillReading::Unreadable.level(), 1);
    assert_eq!(KillReading::Level { level: 3, epoch: 1 }.level(), 3);
}
