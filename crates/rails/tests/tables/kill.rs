//! The kill level out of its copies.

use proptest::prelude::*;
use rails::check::KillReading;
use rails::kill::{KillCopy, effective, raised, recorded, without_database};

const fn copy(level: u8, epoch: i64) -> Option<KillCopy> {
    Some(KillCopy { level, epoch })
}

#[test]
fn the_newest_epoch_wins_and_doubt_counts_as_one() {
    for (database, others, level, epoch) in [
        (copy(0, 5), vec![copy(0, 5)], 0, 5),
        (copy(0, 5), vec![copy(2, 4)], 0, 5),
        (copy(0, 5), vec![copy(2, 5)], 2, 5),
        (copy(2, 5), vec![copy(1, 5)], 2, 5),
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

#[test]
fn a_reading_is_raised_and_never_lowered_by_what_it_must_at_least_be() {
    let level = |level| KillReading::Level { level, epoch: 3 };
    assert_eq!(level(0).at_least(2), level(2));
    assert_eq!(level(3).at_least(2), level(3));
    assert_eq!(KillReading::Unreadable.at_least(1), KillReading::Unreadable);
    assert_eq!(KillReading::Unreadable.at_least(4).level(), 4);
}

#[test]
fn without_the_database_the_level_is_at_least_one_and_no_other_copy_lowers_the_row_read_last() {
    for (last_row, others, level) in [
        (None, vec![], 1),
        (None, vec![None], 1),
        (None, vec![copy(0, 9)], 1),
        (None, vec![copy(2, 1), copy(0, 9)], 2),
        (copy(0, 5), vec![copy(0, 5)], 1),
        (copy(0, 5), vec![copy(3, 4)], 1),
        (copy(0, 5), vec![copy(3, 5)], 3),
        (copy(2, 5), vec![copy(0, 9)], 2),
    ] {
        assert_eq!(without_database(last_row, &others).level(), level, "{last_row:?} {others:?}");
    }
}

#[test]
fn a_raise_is_newer_than_all_that_is_known_and_only_certainty_makes_it_needless() {
    for (level, last_row, others, want) in [
        (1, None, vec![], copy(1, 1)),
        (1, None, vec![None], copy(1, 1)),
        (1, copy(0, 5), vec![None], copy(1, 6)),
        (2, copy(0, 5), vec![copy(1, 8)], copy(2, 9)),
        (1, copy(0, 5), vec![copy(1, 6)], None),
        (1, copy(1, 5), vec![], None),
        (1, None, vec![copy(2, 5)], copy(2, 6)),
        (1, copy(0, 9), vec![copy(2, 8)], copy(1, 10)),
        (4, copy(3, i64::MAX), vec![], copy(4, i64::MAX)),
    ] {
        assert_eq!(raised(level, last_row, &others), want, "{level} {last_row:?} {others:?}");
    }
}

#[test]
fn what_is_written_down_is_never_below_the_row_before_nor_older_than_the_raise() {
    for (row, raise, want) in [
        (None, copy(1, 1), copy(1, 1)),
        (copy(0, 5), copy(2, 6), copy(2, 6)),
        (copy(0, 5), copy(2, 9), copy(2, 9)),
        (copy(3, 8), copy(2, 6), copy(3, 9)),
        (copy(0, 8), copy(2, 6), copy(2, 9)),
    ] {
        assert_eq!(Some(recorded(row, raise.unwrap())), want, "{row:?} {raise:?}");
    }
}

/// What happens to the copies of a house. Levels are of a raise.
#[derive(Debug, Clone)]
enum Step {
    /// The supervisor raises; it knows the row that it read last, its memory and the file.
    Supervisor(u8),
    /// Somebody else writes the file; they know the file alone.
    File(u8),
    /// The supervisor reads the row.
    Read,
    /// A row is made that the supervisor does not know of.
    Row(u8),
    /// What the file holds is written down.
    Record,
    /// A person lowers by a signed act, while the file is raised to a level, or is not.
    Lower(u8, Option<u8>),
    /// The supervisor is killed: its memory is gone.
    Killed,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (1..=4_u8).prop_map(Step::Supervisor),
        (1..=4_u8).prop_map(Step::File),
        Just(Step::Read),
        (0..=4_u8).prop_map(Step::Row),
        Just(Step::Record),
        (0..=3_u8, prop::option::of(1..=4_u8)).prop_map(|(to, raise)| Step::Lower(to, raise)),
        Just(Step::Killed),
    ]
}

/// The copies of a house, and the level that nobody who knew of it has lowered.
struct House {
    row: KillCopy,
    last_row: Option<KillCopy>,
    file: KillCopy,
    waiting: Vec<KillCopy>,
    memory: Option<KillCopy>,
    owed: u8,
}

impl House {
    fn raise_file(&mut self, level: u8) {
        self.owed = self.owed.max(level);
        let is_latched = !self.waiting.is_empty() && self.file.level >= level;
        if let Some(copy) = raised(level, None, &[Some(self.file)]).filter(|_| !is_latched) {
            self.file = copy;
            self.waiting.push(copy);
        }
    }

    fn record(&mut self) {
        for raise in std::mem::take(&mut self.waiting) {
            let before = self.row;
            self.row = recorded(Some(before), raise);
            assert!(self.row.epoch > before.epoch && self.row.level >= before.level);
        }
        if !self.file.outranks(self.row) {
            self.file = self.row;
        }
        self.last_row = Some(self.row);
    }

    fn play(&mut self, step: &Step) {
        match *step {
            Step::Supervisor(level) => {
                let known = [Some(self.file_after(self.last_row)), self.memory];
                match raised(level, self.last_row, &known) {
                    None => assert!(self.level() >= level, "said to be in force"),
                    Some(copy) => {
                        self.owed = self.owed.max(level);
                        (self.file, self.memory) = (copy, Some(copy));
                        self.waiting.push(copy);
                    }
                }
            }
            Step::File(level) => self.raise_file(level),
            Step::Read => self.last_row = Some(self.row),
            Step::Row(level) => {
                self.owed = self.owed.max(level);
                self.row = KillCopy { level: level.max(self.row.level), epoch: self.row.epoch + 1 };
            }
            Step::Record => self.record(),
            Step::Lower(level, meanwhile) => {
                self.record();
                if level >= self.row.level {
                    return;
                }
                self.owed = level;
                if let Some(raise) = meanwhile {
                    self.raise_file(raise);
                }
                self.row = KillCopy { level, epoch: self.row.epoch + 1 };
                self.last_row = Some(self.row);
                if self.waiting.is_empty() && !self.file.outranks(self.row) {
                    self.file = self.row;
                }
            }
            Step::Killed => (self.memory, self.last_row) = (None, None),
        }
    }

    /// The file as it counts for somebody who read `row`.
    fn file_after(&self, row: Option<KillCopy>) -> KillCopy {
        if self.waiting.is_empty() { self.file } else { self.file.unrecorded(row) }
    }

    /// What the desk goes by.
    fn level(&self) -> u8 {
        effective(Some(self.row), &[Some(self.file_after(Some(self.row)))]).level()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn no_order_of_raises_rows_and_lowerings_ends_below_a_raise_that_nobody_lowered(
        steps in prop::collection::vec(step(), 1..24)
    ) {
        let first = KillCopy { level: 0, epoch: 1 };
        let mut house =
            House { row: first, last_row: None, file: first, waiting: Vec::new(), memory: None, owed: 0 };
        for step in &steps {
            house.play(step);
            prop_assert!(house.level() >= house.owed, "{:?} of {steps:?}", step);
        }
        house.record();
        prop_assert_eq!(house.row.level, house.level(), "the record ends as high as what counted");
        prop_assert!(house.row.level >= house.owed);
    }
}
