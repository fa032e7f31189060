//! What the rounds came to: a table for people, claims for `swarm prove`.

use serde_json::{Value, json};

use crate::fault::Fault;
use crate::rounds::{Loop, Plain, Round};
use crate::stage::Mode;

/// One claim and what was found.
#[derive(Debug, Clone)]
pub struct Claim {
    /// Short name.
    pub name: String,
    /// What is claimed.
    pub claim: String,
    /// Whether it held.
    pub ok: bool,
    /// What was measured.
    pub figure: String,
}

impl Claim {
    /// For `swarm prove`.
    #[must_use]
    pub fn json(&self) -> Value {
        json!({ "name": self.name, "claim": self.claim, "ok": self.ok, "figure": self.figure })
    }
}

/// The median and the 99th percentile (nearest rank) of what is not empty.
#[must_use]
pub fn percentiles(values: &[u64]) -> (u64, u64) {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    let at = |percent: usize| {
        let rank = (sorted.len() * percent).div_ceil(100).clamp(1, sorted.len().max(1));
        sorted.get(rank - 1).copied().unwrap_or(0)
    };
    (at(50), at(99))
}

fn seconds(ms: u64) -> String {
    format!("{}.{:02} s", ms / 1_000, ms % 1_000 / 10)
}

/// What a round says.
#[must_use]
pub fn of_round(round: &Round) -> Claim {
    let (see, end) = round.fault.stated();
    let (seen, ended, back) = (percentiles(&round.seen_ms), percentiles(&round.ended_ms), percentiles(&round.back_ms));
    let within = |ms: u64, bound: tokio::time::Duration| u128::from(ms) <= bound.as_millis();
    let kinds: Vec<String> = round.kinds.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
    Claim {
        name: round.fault.word().to_owned(),
        claim: format!(
            "{}: seen within {} s, ended within {} s, and counted",
            round.fault.word(),
            see.as_secs(),
            end.as_secs()
        ),
        ok: within(seen.1, see) && within(ended.1, end) && !round.kinds.is_empty(),
        figure: format!(
            "{} runs, seen p50/p99 {}/{}, ended {}/{}, work goes on {}/{}; counted {}; {}",
            round.seen_ms.len(),
            seconds(seen.0),
            seconds(seen.1),
            seconds(ended.0),
            seconds(ended.1),
            seconds(back.0),
            seconds(back.1),
            kinds.join(", "),
            of_plain(round.fault, round.plain),
        ),
    }
}

/// What the plain runner said meanwhile.
fn of_plain(fault: Fault, plain: Plain) -> String {
    let percent = plain.online * 100 / plain.broken.max(1);
    let meanwhile = match fault {
        Fault::Crash => "ends every 5 s",
        Fault::Leak => "keeps its memory",
        Fault::IgnoreTerm => "does not listen",
        _ => "does nothing",
    };
    format!(
        "a restart-always runner calls it online in {percent} % of its looks while it {meanwhile} ({} restarts)",
        plain.restarts
    )
}

/// What a crash loop says.
#[must_use]
pub fn of_loop(found: &Loop) -> Claim {
    let mode = match found.mode {
        Mode::Spawn => "spawn",
        Mode::External => "external",
    };
    let (least, most) = found.ends;
    Claim {
        name: format!("loop-{mode}"),
        claim: format!(
            "a process that ends every 5 s is quarantined at its fourth end ({mode}), also when the supervisor is killed twice meanwhile"
        ),
        // A second look at the same moment may find one more end than four in `external` mode, where starts are not ours.
        ok: found.quarantined == found.of && least == 4 && most == 4 && found.kills == 2 && found.working == 0,
        figure: format!(
            "{} of {} quarantined after {}, {least} to {most} ends counted, supervisor killed {} times, {} of them work afterwards",
            found.quarantined,
            found.of,
            seconds(found.took_ms),
            found.kills,
            found.working,
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_nearest_rank() {
        assert_eq!(percentiles(&[]), (0, 0));
        assert_eq!(percentiles(&[7]), (7, 7));
        let fifty: Vec<u64> = (1..=50).rev().collect();
        assert_eq!(percentiles(&fifty), (25, 50));
    }

    #[test]
    fn a_round_that_took_too_long_is_no_claim() {
        let round = |ms| Round {
            fault: Fault::Crash,
            seen_ms: vec![100],
            ended_ms: vec![ms],
            back_ms: vec![ms],
            kinds: [("crash".to_owned(), 1)].into(),
            plain: Plain { broken: 10, online: 9, restarts: 3 },
        };
        let good = of_round(&round(2_000));
        assert!(
            good.ok && good.figure.contains("online in 90 % of its looks while it ends every 5 s (3 restarts)"),
            "{good:?}"
        );
        assert!(!of_round(&round(2_001)).ok);
    }
}
