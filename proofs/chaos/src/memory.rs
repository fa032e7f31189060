//! Whether memory grows over a run.

use serde_json::{Value, json};
use tokio::time::{Duration, Instant};

use crate::checks::Finding;
use crate::house::House;

/// Between two looks.
pub const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Growth that is no leak: what a process takes once while it meets its first work.
const BORNE: f64 = 1.15;
/// Looks without which nothing is said.
const LEAST_LOOKS: usize = 9;

/// Looks at memory, oldest first: supervisor and everything, bytes.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    looks: Vec<(u64, u64)>,
}

impl Memory {
    /// Looks until `is_over`.
    pub async fn watch(house: &House, mut is_over: tokio::sync::watch::Receiver<bool>) -> Self {
        let mut memory = Self::default();
        let mut next = Instant::now();
        loop {
            tokio::select! {
                _ = is_over.wait_for(|over| *over) => return memory,
                () = tokio::time::sleep_until(next) => {}
            }
            next += LOOK_EVERY;
            memory.looks.extend(house.resident().await);
        }
    }

    /// Mean of the second and of the last third, bytes; the first third is warming up.
    fn thirds(&self, pick: fn(&(u64, u64)) -> u64) -> (u64, u64) {
        let third = self.looks.len() / 3;
        let mean = |part: &[(u64, u64)]| {
            let count = u64::try_from(part.len()).unwrap_or(1).max(1);
            part.iter().map(pick).sum::<u64>() / count
        };
        (mean(&self.looks[third..third * 2]), mean(&self.looks[third * 2..]))
    }

    /// That memory does not grow.
    #[must_use]
    pub fn finding(&self) -> Finding {
        let (supervisor, all) = (self.thirds(|look| look.0), self.thirds(|look| look.1));
        let mb = |bytes: u64| bytes >> 20;
        let figure = format!(
            "own memory, mean of the second and the last third of {} looks: supervisor {} and {} MB, all {} and {} MB",
            self.looks.len(),
            mb(supervisor.0),
            mb(supervisor.1),
            mb(all.0),
            mb(all.1),
        );
        let mut wrong = Vec::new();
        if self.looks.len() < LEAST_LOOKS {
            wrong.push(format!("only {} looks", self.looks.len()));
        }
        #[expect(clippy::cast_precision_loss, reason = "a ratio of byte counts")]
        let grows = |(before, after): (u64, u64)| after as f64 > before as f64 * BORNE;
        for (what, thirds) in [("the supervisor", supervisor), ("the swarm", all)] {
            if grows(thirds) {
                wrong.push(format!("{what} grows: {} MB, then {} MB", mb(thirds.0), mb(thirds.1)));
            }
        }
        Finding::new("memory is flat", "other", figure, wrong)
    }

    /// For `swarm prove`.
    #[must_use]
    pub fn json(&self) -> Value {
        let (supervisor, all) = (self.thirds(|look| look.0), self.thirds(|look| look.1));
        let pair = |(second, last): (u64, u64)| json!({ "second_third_bytes": second, "last_third_bytes": last });
        json!({ "looks": self.looks.len(), "supervisor": pair(supervisor), "all": pair(all) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory(of: impl Fn(u64) -> u64) -> Memory {
        Memory { looks: (0..30).map(|i| (20 << 20, of(i) << 20)).collect() }
    }

    #[test]
    fn what_warms_up_is_flat_and_what_leaks_is_not() {
        assert!(memory(|i| 200 + i.min(10) * 5).finding().wrong.is_empty());
        let leak = memory(|i| 200 + i * 5).finding();
        assert_eq!(leak.wrong, ["the swarm grows: 272 MB, then 322 MB"]);
        let few = Memory { looks: vec![(1, 1); 8] };
        assert_eq!(few.finding().wrong, ["only 8 looks"]);
    }
}
