//! One grid for all timers of a process. Timers of one period fire in the same moment, and those of twice the period with
//! every other of them: an idle process wakes once for all of them.

use std::sync::OnceLock;

use tokio::time::{Duration, Instant, Interval, MissedTickBehavior, interval_at};

/// What happens regularly in every process happens this often: heartbeats, looks at the store, sweeps.
pub const USUALLY: Duration = Duration::from_secs(2);

/// Ticks at once, and then on the grid. Missed ticks are left out.
#[must_use]
pub fn grid(every: Duration) -> Interval {
    static BEGAN: OnceLock<Instant> = OnceLock::new();
    let began = *BEGAN.get_or_init(Instant::now);
    let since = Instant::now().saturating_duration_since(began).as_nanos();
    let past = u64::try_from(since % every.as_nanos().max(1)).unwrap_or(0);
    let mut ticks = interval_at(Instant::now() - Duration::from_nanos(past), every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    ticks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn timers_that_began_apart_tick_together() {
        let mut first = grid(Duration::from_secs(2));
        first.tick().await;
        tokio::time::advance(Duration::from_millis(700)).await;
        let mut second = grid(Duration::from_secs(4));
        let began = Instant::now();
        second.tick().await;
        assert_eq!(Instant::now(), began, "the first one is at once");
        first.tick().await;
        let first = first.tick().await;
        assert_eq!(second.tick().await, first);
    }
}
