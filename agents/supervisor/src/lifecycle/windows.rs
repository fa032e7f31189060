//! How often a process may be started again. Pure.
//!
//! Every end counts, whatever the uptime and the exit code: a process that dies every five seconds for a night is what bounds
//! by uptime let through.

use store::supervision::RestartKind;

/// So many restarts within so long are borne; one more is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Restarts that are borne.
    pub restarts: usize,
    /// Length, ms.
    pub within_ms: i64,
}

/// The bounds of some kinds of restart, counted together: a burst, a bad quarter of an hour, a bad day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// What people call these.
    pub name: &'static str,
    /// Which.
    pub kinds: &'static [RestartKind],
    /// Their windows, the shortest first; all bounds have windows of the same lengths.
    pub windows: [Window; 3],
}

/// The longest window, ms.
pub const LONGEST_MS: i64 = 86_400_000;

const fn windows(burst: usize, quarter: usize, day: usize) -> [Window; 3] {
    [
        Window { restarts: burst, within_ms: 60_000 },
        Window { restarts: quarter, within_ms: 900_000 },
        Window { restarts: day, within_ms: LONGEST_MS },
    ]
}

/// All bounds. Restarts that a person asked for are counted and have none.
pub const BOUNDS: [Bounds; 3] = [
    Bounds {
        name: "faults",
        kinds: &[RestartKind::Crash, RestartKind::Hang, RestartKind::Memory],
        windows: windows(3, 6, 12),
    },
    // What was planned is at most every six hours; more than that is no plan.
    Bounds { name: "planned restarts", kinds: &[RestartKind::Recycle], windows: windows(1, 2, 6) },
    // Waiting for servers, half a minute between tries: an outage may last, but nobody waits for ever unseen.
    Bounds { name: "starts without servers", kinds: &[RestartKind::Outage], windows: windows(10, 45, 500) },
];

/// What was passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Breach {
    /// Whose bounds.
    pub of: &'static str,
    /// Which window of them.
    pub window: Window,
    /// Restarts within it.
    pub found: usize,
}

impl std::fmt::Display for Breach {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} in {} s", self.found, self.of, self.window.within_ms / 1_000)
    }
}

/// The end of one start: when (ms) and of which kind.
pub type End = (i64, RestartKind);

/// Ends of `kinds` within `within_ms` before `now_ms`.
#[must_use]
pub fn count(ends: &[End], kinds: &[RestartKind], now_ms: i64, within_ms: i64) -> usize {
    ends.iter().filter(|(at, kind)| kinds.contains(kind) && now_ms.saturating_sub(*at) < within_ms).count()
}

/// The first window that holds more ends than it bears.
#[must_use]
pub fn breached(ends: &[End], now_ms: i64) -> Option<Breach> {
    BOUNDS.iter().find_map(|bounds| {
        bounds.windows.iter().find_map(|window| {
            let found = count(ends, bounds.kinds, now_ms, window.within_ms);
            (found > window.restarts).then_some(Breach { of: bounds.name, window: *window, found })
        })
    })
}

/// How long to wait before the next start after an end of this kind: doubled with each end of its bounds within the last
/// minute (for outages: quarter of an hour), from 200 ms to 5 s (1 s to 30 s), and half as long or half as long again by
/// `chance`, so that processes that died together do not come back together.
#[must_use]
pub fn pause_ms(ends: &[End], kind: RestartKind, now_ms: i64, chance: u64) -> i64 {
    let kinds = BOUNDS.iter().find(|bounds| bounds.kinds.contains(&kind)).map_or(&[][..], |bounds| bounds.kinds);
    let (first, longest, within) =
        if kind == RestartKind::Outage { (1_000_i64, 30_000, 900_000) } else { (200, 5_000, 60_000) };
    let earlier = count(ends, kinds, now_ms, within).saturating_sub(1);
    let doubled = first.saturating_mul(1 << earlier.min(10)).min(longest);
    let percent = 50 + i64::try_from(chance % 101).unwrap_or(50);
    doubled * percent / 100
}

/// What an end counts as that looks like an outage: one that nobody else sees is a fault after a while, or a broken process
/// would only have to say so. `alone` says that we had broker and store all along.
#[must_use]
pub fn kind_of_outage(ends: &[End], now_ms: i64, alone: bool) -> RestartKind {
    let before = count(ends, &[RestartKind::Outage], now_ms, 900_000);
    if alone && before >= OUTAGES_BELIEVED { RestartKind::Crash } else { RestartKind::Outage }
}

/// Ends within a quarter of an hour that are taken for an outage although we see none.
pub const OUTAGES_BELIEVED: usize = 6;

#[cfg(test)]
mod tests {
    use super::*;
    use RestartKind::{Config, Crash, Hang, Memory, Outage, Recycle};

    const NOW: i64 = 100_000_000;

    fn every(gap: i64, count: i64, kind: RestartKind) -> Vec<End> {
        (0..count).map(|i| (NOW - i * gap, kind)).collect()
    }

    #[test]
    fn each_window_is_breached_by_the_end_after_its_last_borne_one() {
        for bounds in BOUNDS {
            for (at, window) in bounds.windows.iter().enumerate() {
                let borne = i64::try_from(window.restarts).unwrap();
                // So far apart that no shorter window is breached, and all within this one.
                let gap = (window.within_ms - 1) / borne;
                let kind = bounds.kinds[0];
                assert_eq!(breached(&every(gap, borne, kind), NOW), None, "{} {at}", bounds.name);
                let breach = breached(&every(gap, borne + 1, kind), NOW).unwrap();
                assert_eq!((breach.of, breach.window), (bounds.name, *window));
                let outside = every(gap, borne, kind).into_iter().chain([(NOW - window.within_ms, kind)]);
                let seen = breached(&outside.collect::<Vec<_>>(), NOW).map(|breach| breach.window);
                assert_ne!(seen, Some(*window), "what is as old as the window is out of it");
            }
        }
    }

    #[test]
    fn faults_count_together_and_a_persons_restarts_against_nothing() {
        let mixed = [(NOW, Crash), (NOW - 1, Hang), (NOW - 2, Memory), (NOW - 3, Crash)];
        assert_eq!(breached(&mixed, NOW).unwrap().to_string(), "4 faults in 60 s");
        let apart = [(NOW, Crash), (NOW, Crash), (NOW, Crash), (NOW, Outage), (NOW, Recycle)];
        assert_eq!(breached(&apart, NOW), None);
        assert_eq!(breached(&every(1, 100, Config), NOW), None);
    }

    #[test]
    fn a_death_every_five_seconds_is_stopped_by_the_fourth() {
        let mut ends = Vec::new();
        let stopped = (0..).find(|i| {
            ends.push((NOW + i * 5_000, Crash));
            breached(&ends, NOW + i * 5_000).is_some()
        });
        assert_eq!(stopped, Some(3));
    }

    #[test]
    fn pauses_grow_to_their_longest_and_jitter_by_half() {
        let pause = |count, kind, chance| pause_ms(&every(1, count, kind), kind, NOW, chance);
        assert_eq!([1, 2, 3, 9].map(|count| pause(count, Crash, 50)), [200, 400, 800, 5_000]);
        assert_eq!([1, 2, 6, 9].map(|count| pause(count, Outage, 50)), [1_000, 2_000, 30_000, 30_000]);
        assert_eq!([0, 50, 100, 101].map(|chance| pause(1, Crash, chance)), [100, 200, 300, 100]);
        assert_eq!(pause(3, Config, 50), 200);
    }

    #[test]
    fn an_outage_that_only_one_process_sees_becomes_a_fault() {
        let six = every(1_000, 6, Outage);
        assert_eq!(kind_of_outage(&six[1..], NOW, true), Outage);
        assert_eq!(kind_of_outage(&six, NOW, true), Crash);
        assert_eq!(kind_of_outage(&six, NOW, false), Outage, "we saw it too");
    }
}
