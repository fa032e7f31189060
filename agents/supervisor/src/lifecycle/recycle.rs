//! Planned restarts: each process is started anew now and then, one at a time, when it disturbs nobody. Pure.

use std::collections::BTreeMap;

use tokio::time::{Duration, Instant};

/// How long a process must run well after its planned restart before the next may begin.
pub const SOAK: Duration = Duration::from_secs(60);

/// One process, as the planner sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// Since when it runs; `None` while it is not well: down, starting, ending, quarantined, stuck.
    pub well_since: Option<Instant>,
    /// A number of its start, for the jitter.
    pub chance: u64,
    /// It may be recycled only while no order is open and nobody is asked.
    pub idle_only: bool,
}

/// Whose turn it is.
#[derive(Debug, Clone, Default)]
pub struct Planner {
    /// The process that was recycled last, and when.
    last: Option<(String, Instant)>,
    /// A process did not come back well: nobody is recycled until then.
    aborted_until: Option<Instant>,
}

impl Planner {
    /// Names the process to be recycled now. Nobody while anybody is not well, in a blackout, or after a wave that went wrong;
    /// `is_idle`: no order is open and no approval waits.
    #[must_use]
    pub fn next<'a>(
        &self,
        all: &'a BTreeMap<String, Seen>,
        every: Duration,
        is_blackout: bool,
        is_idle: bool,
        now: Instant,
    ) -> Option<&'a str> {
        let soaking = self.last.as_ref().is_some_and(|(_, at)| now.duration_since(*at) < SOAK);
        let is_aborted = self.aborted_until.is_some_and(|until| now < until);
        let all_well = all.values().all(|seen| seen.well_since.is_some());
        if is_blackout || soaking || is_aborted || !all_well {
            return None;
        }
        let due = all.iter().filter_map(|(name, seen)| {
            let since = seen.well_since?;
            let is_due = now.duration_since(since) >= jittered(every, seen.chance);
            (is_due && (is_idle || !seen.idle_only)).then_some((since, name.as_str()))
        });
        due.min().map(|(_, name)| name)
    }

    /// It was asked to end.
    pub fn begun(&mut self, name: &str, now: Instant) {
        self.last = Some((name.to_owned(), now));
    }

    /// A process ended that was not asked to. Within the soak of its own recycling that ends the wave; says whether it did.
    pub fn failed(&mut self, name: &str, every: Duration, now: Instant) -> bool {
        let is_of_wave = self.last.as_ref().is_some_and(|(last, at)| last == name && now.duration_since(*at) < SOAK);
        if is_of_wave {
            self.aborted_until = Some(now + every);
        }
        is_of_wave
    }
}

/// Between nine and eleven tenths of it.
fn jittered(every: Duration, chance: u64) -> Duration {
    let permille = 900 + u32::try_from(chance % 201).unwrap_or(0);
    every.saturating_mul(permille) / 1_000
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    fn seen(since: Instant) -> Seen {
        Seen { well_since: Some(since), chance: 100, idle_only: false }
    }

    #[test]
    fn the_one_that_runs_longest_goes_first_and_the_next_after_it_ran_well() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut all = BTreeMap::from([("a".to_owned(), seen(at(10))), ("b".to_owned(), seen(at(0)))]);
        let mut planner = Planner::default();
        let next = |planner: &Planner, all: &BTreeMap<String, Seen>, seconds| {
            planner.next(all, DAY, false, true, at(seconds)).map(str::to_owned)
        };
        assert_eq!(next(&planner, &all, 86_399), None);
        assert_eq!(next(&planner, &all, 86_400).as_deref(), Some("b"));
        planner.begun("b", at(86_400));
        assert_eq!(next(&planner, &all, 86_459), None, "it has to run well first");
        all.insert("b".to_owned(), Seen { well_since: None, ..seen(start) });
        assert_eq!(next(&planner, &all, 86_460), None, "somebody is not well");
        all.insert("b".to_owned(), seen(at(86_402)));
        assert_eq!(next(&planner, &all, 86_460).as_deref(), Some("a"));
    }

    #[test]
    fn nothing_is_recycled_under_open_orders_in_a_blackout_or_after_a_failure() {
        let start = Instant::now();
        let later = start + 2 * DAY;
        let desk = Seen { idle_only: true, ..seen(start) };
        let all = BTreeMap::from([("desk".to_owned(), desk)]);
        let mut planner = Planner::default();
        assert_eq!(planner.next(&all, DAY, false, false, later), None);
        assert_eq!(planner.next(&all, DAY, true, true, later), None);
        assert_eq!(planner.next(&all, DAY, false, true, later), Some("desk"));
        assert!(!planner.failed("desk", DAY, later), "it was not being recycled");
        planner.begun("desk", later);
        assert!(!planner.failed("another", DAY, later + Duration::from_secs(1)));
        assert!(planner.failed("desk", DAY, later + Duration::from_secs(59)));
        assert_eq!(planner.next(&all, DAY, false, true, later + DAY), None);
        assert_eq!(planner.next(&all, DAY, false, true, later + 2 * DAY), Some("desk"));
    }

    #[test]
    fn processes_that_started_together_do_not_fall_due_together() {
        let due = |chance| jittered(Duration::from_secs(1_000), chance).as_secs();
        assert_eq!([due(0), due(100), due(200), due(201)], [900, 1_000, 1_100, 900]);
    }
}
