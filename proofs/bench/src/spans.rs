//! Where time goes: the spans between the moments that a signal leaves in the rows.

use domain::time::Clock;
use runtime::clock::SystemClock;
use tokio::time::Instant;

/// One instant on both clocks: the rows' times are wall time, ours are not.
#[derive(Debug, Clone, Copy)]
pub struct Wall {
    instant: Instant,
    ms: i64,
}

impl Wall {
    /// Now.
    pub fn now() -> Self {
        Self { instant: Instant::now(), ms: SystemClock.now().0 }
    }

    /// An instant after that one as wall time, ms.
    pub fn ms(&self, at: Instant) -> f64 {
        self.ms as f64 + at.saturating_duration_since(self.instant).as_secs_f64() * 1_000.0
    }
}

/// A line for each named span: `moments` has those of each signal, ms, one more than there are names.
pub fn told(names: &[&str], moments: &[Vec<f64>]) -> Vec<String> {
    let line = |(number, name): (usize, &&str)| {
        let mut span: Vec<f64> = moments.iter().map(|of_one| of_one[number + 1] - of_one[number]).collect();
        span.sort_by(f64::total_cmp);
        let at = |share: f64| span.get(((span.len() as f64 - 1.0) * share) as usize).copied().unwrap_or(0.0);
        let mean = span.iter().sum::<f64>() / (span.len().max(1) as f64);
        format!("{name}: mean {mean:.1}, p50 {:.1}, p99 {:.1}", at(0.5), at(0.99))
    };
    names.iter().enumerate().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_the_time_between_two_moments_of_the_same_signal() {
        let told = told(&["out", "back"], &[vec![0.0, 1.0, 11.0], vec![100.0, 103.0, 133.0], vec![7.0, 9.0, 29.0]]);
        assert_eq!(told, ["out: mean 2.0, p50 2.0, p99 2.0", "back: mean 20.0, p50 20.0, p99 20.0"]);
    }

    #[test]
    fn later_instants_are_later_by_the_wall() {
        let wall = Wall::now();
        let at = wall.instant + std::time::Duration::from_millis(250);
        assert!((wall.ms(at) - wall.ms as f64 - 250.0).abs() < 1e-3);
    }
}
