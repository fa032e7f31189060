//! What a run tells: lines while it goes, a table at its end, and the same as JSON.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use serde_json::{Value, json};

use crate::checks::Finding;
use crate::memory::Memory;
use crate::wound::Healed;

/// Everything there is to tell.
#[derive(Debug)]
pub struct Report {
    /// Seed of all draws.
    pub seed: u64,
    /// How long it took.
    pub took: Duration,
    /// What came of each strike.
    pub healed: Vec<Healed>,
    /// Signals by how they ended.
    pub ends: BTreeMap<String, usize>,
    /// Signals sent, and those the stream confirmed.
    pub sent: (usize, usize),
    /// What was checked and what was found.
    pub findings: Vec<Finding>,
    /// What could not be done here.
    pub lacks: Vec<String>,
    /// Memory over the run.
    pub memory: Memory,
    /// Load average of the machine at the end, and its cores.
    pub machine: String,
}

/// The `percent`-th percentile of sorted times: the smallest that at least so many are not above (nearest rank).
#[must_use]
pub fn percentile(sorted: &[Duration], percent: usize) -> Option<Duration> {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied()
}

fn seconds(time: Option<Duration>) -> String {
    time.map_or_else(|| "-".to_owned(), |time| format!("{:.1}", time.as_secs_f64()))
}

impl Report {
    /// Nothing was found that must not be.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.findings.iter().all(|finding| finding.wrong.is_empty())
    }

    /// How many wrongs of one kind.
    fn total(&self, count: &str) -> usize {
        self.findings.iter().filter(|finding| finding.counts == count).map(|finding| finding.wrong.len()).sum()
    }

    /// Strikes by what was struck.
    fn targets(&self) -> BTreeMap<String, Vec<&Healed>> {
        let mut targets: BTreeMap<String, Vec<&Healed>> = BTreeMap::new();
        for ((name, _), rows) in self.rows() {
            targets.entry(name).or_default().extend(rows);
        }
        targets
    }

    fn rows(&self) -> BTreeMap<(String, &'static str), Vec<&Healed>> {
        let mut rows: BTreeMap<(String, &'static str), Vec<&Healed>> = BTreeMap::new();
        for healed in &self.healed {
            let name = match healed.strike.target {
                // One row for all links to a server: which agent it was says the log.
                crate::strike::Target::Link(_, server) => format!("agent~{}", server.word()),
                other => other.to_string(),
            };
            rows.entry((name, healed.strike.fault.kind())).or_default().push(healed);
        }
        rows
    }

    /// For people.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = String::new();
        let _ = writeln!(
            out,
            "\n{:<20} {:<11} {:>5}   {:>21}   {:>21}",
            "target", "fault", "count", "ready p50/p99/max s", "through p50/p99/max s"
        );
        let mut line = |name: &str, fault: &str, rows: &[&Healed]| {
            let times = |pick: fn(&Healed) -> Duration| {
                let mut times: Vec<Duration> = rows.iter().map(|healed| pick(healed)).collect();
                times.sort();
                let of = |percent| seconds(percentile(&times, percent));
                format!("{} / {} / {}", of(50), of(99), of(100))
            };
            let (ready, through) = (times(|h| h.ready), times(|h| h.through));
            let _ = writeln!(out, "{name:<20} {fault:<11} {:>5}   {ready:>21}   {through:>21}", rows.len());
        };
        for ((name, fault), rows) in self.rows() {
            line(&name, fault, &rows);
        }
        for (name, rows) in self.targets() {
            line(&name, "all faults", &rows);
        }
        let all: Vec<&Healed> = self.healed.iter().collect();
        line("all", "", &all);
        let kills = self.healed.iter().filter(|healed| healed.strike.fault.kind() == "kill -9").count();
        let _ = writeln!(
            out,
            "from the fault (a lasting one: from its end) to the target healthy again, and to a signal sent since then over at the\n\
             venue; {kills} of {} faults were kill -9, {} fell into an open wound; {}",
            self.healed.len(),
            self.healed.iter().filter(|healed| healed.overlapped).count(),
            self.machine,
        );
        let ends: Vec<String> = self.ends.iter().map(|(end, count)| format!("{count} {end}")).collect();
        let _ = writeln!(out, "\n{} signals sent, {} accepted: {}", self.sent.0, self.sent.1, ends.join(", "));
        for lack in &self.lacks {
            let _ = writeln!(out, "not struck: {lack}");
        }
        for finding in &self.findings {
            let mark = if finding.wrong.is_empty() { "ok  " } else { "FAIL" };
            let _ = writeln!(out, "{mark} {}: {}", finding.rule, finding.seen);
            for wrong in finding.wrong.iter().take(8) {
                let _ = writeln!(out, "       {wrong}");
            }
            if finding.wrong.len() > 8 {
                let _ = writeln!(out, "       and {} more", finding.wrong.len() - 8);
            }
        }
        let _ = writeln!(
            out,
            "\nseed {}: {} faults in {} s, lost {}, doubled {}, over a limit {}, other faults {}",
            self.seed,
            self.healed.len(),
            self.took.as_secs(),
            self.total("lost"),
            self.total("doubled"),
            self.total("over a limit"),
            self.total("other"),
        );
        out
    }

    /// For programs.
    #[must_use]
    pub fn json(&self) -> Value {
        let ms = |time: Option<Duration>| time.map(|time| time.as_millis());
        let row = |target: &str, fault: &str, rows: &[&Healed]| {
            let times = |pick: fn(&Healed) -> Duration| {
                let mut times: Vec<Duration> = rows.iter().map(|healed| pick(healed)).collect();
                times.sort();
                let of = |percent| ms(percentile(&times, percent));
                json!({ "p50": of(50), "p99": of(99), "max": of(100) })
            };
            json!({
                "target": target, "fault": fault, "count": rows.len(),
                "ready_ms": times(|h| h.ready), "through_ms": times(|h| h.through),
            })
        };
        let rows: Vec<Value> =
            self.rows().into_iter().map(|((target, fault), rows)| row(&target, fault, &rows)).collect();
        let targets: Vec<Value> = self.targets().iter().map(|(target, rows)| row(target, "all", rows)).collect();
        json!({
            "good": self.is_good(),
            "seed": self.seed,
            "took_s": self.took.as_secs(),
            "faults": self.healed.len(),
            "table": rows,
            "targets": targets,
            "signals": { "sent": self.sent.0, "accepted": self.sent.1, "ends": self.ends },
            "lost": self.total("lost"),
            "doubled": self.total("doubled"),
            "over_limit": self.total("over a limit"),
            "other_faults": self.total("other"),
            "checks": self.findings.iter().map(Finding::json).collect::<Vec<_>>(),
            "not_struck": self.lacks,
            "memory": self.memory.json(),
            "machine": self.machine,
            "strikes": self.healed.iter().map(|healed| json!({
                "at_ms": healed.at.as_millis(), "strike": healed.strike.to_string(),
                "ready_ms": healed.ready.as_millis(), "through_ms": healed.through.as_millis(),
            })).collect::<Vec<_>>(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_nearest_ranks() {
        let of = |count: u64| (1..=count).map(Duration::from_secs).collect::<Vec<_>>();
        assert_eq!(percentile(&of(100), 50), Some(Duration::from_secs(50)));
        assert_eq!(percentile(&of(100), 99), Some(Duration::from_secs(99)));
        assert_eq!(percentile(&of(3), 99), Some(Duration::from_secs(3)));
        assert_eq!(percentile(&[], 50), None);
    }
}
