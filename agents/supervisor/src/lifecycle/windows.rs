//! How often a process may be restarted. Pure.

/// So many restarts within so long are too many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Restarts that are still borne.
    pub restarts: usize,
    /// Length, ms.
    pub within_ms: i64,
}

/// The windows: a burst, a bad quarter of an hour, a bad day.
pub const WINDOWS: [Window; 3] = [
    Window { restarts: 3, within_ms: 60_000 },
    Window { restarts: 6, within_ms: 900_000 },
    Window { restarts: 12, within_ms: LONGEST_MS },
];
/// The longest window, ms.
pub const LONGEST_MS: i64 = 86_400_000;

/// The first window that one more restart now would breach, given the times of earlier ones (ms).
#[must_use]
pub fn breached(times_ms: &[i64], now_ms: i64) -> Option<Window> {
    WINDOWS.into_iter().find(|window| {
        let inside = times_ms.iter().filter(|at| now_ms.saturating_sub(**at) < window.within_ms).count();
        inside >= window.restarts
    })
}

/// How long to wait before the next start: 200 ms, doubled with each restart of the last minute, at most 5 s.
#[must_use]
pub fn pause_ms(times_ms: &[i64], now_ms: i64) -> i64 {
    let recent = times_ms.iter().filter(|at| now_ms.saturating_sub(**at) < 60_000).count();
    let doubled = 200_i64.saturating_mul(1 << recent.min(10));
    doubled.min(5_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_window_is_breached_by_the_restart_after_its_last_borne_one() {
        let now = 100_000_000;
        let every = |gap: i64, count: i64| (1..=count).map(|i| now - i * gap).collect::<Vec<_>>();
        assert_eq!(breached(&every(1_000, 2), now), None);
        assert_eq!(breached(&every(1_000, 3), now), Some(WINDOWS[0]));
        assert_eq!(breached(&every(100_000, 5), now), None);
        assert_eq!(breached(&every(100_000, 6), now), Some(WINDOWS[1]));
        assert_eq!(breached(&every(1_000_000, 11), now), None);
        assert_eq!(breached(&every(1_000_000, 12), now), Some(WINDOWS[2]));
        assert_eq!(breached(&[now - 60_000, now - 60_000, now - 60_000], now), None);
    }

    #[test]
    fn pauses_grow_to_five_seconds() {
        assert_eq!(pause_ms(&[], 0), 200);
        assert_eq!(pause_ms(&[0, 0], 10), 800);
        assert_eq!(pause_ms(&[0; 9], 10), 5_000);
    }
}
