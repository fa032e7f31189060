//! What a run showed, for people and for machines.

use std::fmt::Write as _;

use super::job::Outcome;

/// The table.
pub(super) fn text(outcomes: &[Outcome]) -> String {
    let mut out = format!(
        "\n{:14}{:>7}{:>13}{:>9}{:>16}{:>10}{:>9}  {}\n",
        "target", "time s", "runs", "runs/s", "coverage", "features", "corpus", "crashes"
    );
    for outcome in outcomes {
        let coverage = format!("{} -> {}", outcome.first.coverage, outcome.last.coverage);
        let end = match (outcome.failed, outcome.interrupted) {
            (Some(status), _) => format!("1 (status {status})"),
            (None, true) => "0, stopped early".to_owned(),
            (None, false) => "0".to_owned(),
        };
        // Writing to a String cannot fail.
        let _ = writeln!(
            out,
            "{:14}{:>7}{:>13}{:>9}{:>16}{:>10}{:>9}  {end}",
            outcome.target,
            outcome.seconds,
            outcome.last.runs,
            outcome.runs_per_second,
            coverage,
            outcome.last.features,
            outcome.last.corpus,
        );
    }
    let crashes = outcomes.iter().filter(|outcome| outcome.crashed()).count();
    let runs: u64 = outcomes.iter().map(|outcome| outcome.last.runs).sum();
    let _ = writeln!(out, "{} targets, {runs} runs, {crashes} crashes", outcomes.len());
    out
}

/// The same as JSON.
pub(super) fn json(outcomes: &[Outcome]) -> String {
    serde_json::to_string_pretty(outcomes).unwrap_or_default() + "\n"
}

/// What to do about a crash.
pub(super) fn advice(outcome: &Outcome) -> String {
    let mut out = format!("\n{} broke:\n", outcome.target);
    for line in &outcome.tail {
        let _ = writeln!(out, "  | {line}");
    }
    match &outcome.reproducer {
        None => out.push_str("  no input was written: the process ended on its own\n"),
        Some(path) => {
            let _ = writeln!(
                out,
                "  input:  {path}\n  again:  make fuzz ARGS=\"replay {target} {path}\"\n  keep:   cp {path} proofs/fuzz/regressions/{target}/   (then `cargo test -p fuzz` is red until it is mended)",
                path = path.display(),
                target = outcome.target
            );
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::job::Numbers;

    #[test]
    fn a_crash_says_how_to_see_it_again() {
        let outcome = Outcome {
            target: "money",
            seconds: 3,
            first: Numbers::default(),
            last: Numbers { runs: 7, coverage: 5, features: 6, corpus: 2 },
            runs_per_second: 2,
            interrupted: false,
            failed: Some(77),
            reproducer: Some("w/money/crashes/crash-1".into()),
            tail: vec!["panicked".to_owned()],
        };
        let advice = advice(&outcome);
        assert!(advice.contains("replay money w/money/crashes/crash-1") && advice.contains("| panicked"), "{advice}");
        assert!(text(&[outcome]).contains("1 targets, 7 runs, 1 crashes"));
    }
}
