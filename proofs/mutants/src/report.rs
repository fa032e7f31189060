//! What cargo-mutants found, by file, and held against the list of explained survivors.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::plan::Survivor;

/// A mutant as cargo-mutants lists it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Mutant {
    /// `file:line:column: what is changed`; no two are equal.
    pub name: String,
    /// From the root of the repository.
    pub file: String,
}

/// The part of `outcomes.json` that is read here.
#[derive(Debug, Default, Deserialize)]
pub struct Outcomes {
    /// The baseline and every mutant that ran.
    pub outcomes: Vec<Outcome>,
}

/// What became of one build and its tests.
#[derive(Debug, Deserialize)]
pub struct Outcome {
    scenario: Scenario,
    summary: Summary,
    phase_results: Vec<Phase>,
}

#[derive(Debug, Deserialize)]
enum Scenario {
    Baseline,
    Mutant(Mutant),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
enum Summary {
    Success,
    CaughtMutant,
    MissedMutant,
    Unviable,
    Failure,
    Timeout,
}

#[derive(Debug, Deserialize)]
struct Phase {
    /// Seconds.
    duration: f64,
}

/// The counts of one file.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Count {
    /// All that ran.
    pub mutants: u32,
    /// A test failed.
    pub caught: u32,
    /// Every test passed.
    pub missed: u32,
    /// Of those missed or hung, how many are in the list with a reason.
    pub explained: u32,
    /// The tests did not end in time; not counted as caught.
    pub timeout: u32,
    /// Did not compile.
    pub unviable: u32,
    /// Building and testing, seconds.
    pub seconds: f64,
}

impl Count {
    /// Caught of those that compile, in percent; 100 when there is none.
    #[must_use]
    pub fn share_percent(&self) -> f64 {
        let judged = self.mutants.saturating_sub(self.unviable);
        if judged == 0 { 100.0 } else { f64::from(self.caught) * 100.0 / f64::from(judged) }
    }

    fn add(&mut self, other: &Self) {
        self.mutants += other.mutants;
        self.caught += other.caught;
        self.missed += other.missed;
        self.explained += other.explained;
        self.timeout += other.timeout;
        self.unviable += other.unviable;
        self.seconds += other.seconds;
    }
}

/// Everything a run found.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// By file.
    pub files: BTreeMap<String, Count>,
    /// What makes the run fail, one line each.
    pub faults: Vec<String>,
}

impl Report {
    /// The counts of all files.
    #[must_use]
    pub fn total(&self) -> Count {
        let mut total = Count::default();
        self.files.values().for_each(|count| total.add(count));
        total
    }

    /// One line a file, aligned.
    #[must_use]
    pub fn table(&self) -> String {
        let width = self.files.keys().map(String::len).max().unwrap_or(0).max("file".len());
        let mut lines =
            vec![format!("{:width$}  mutants  caught  missed  timeout  unviable  explained   share  seconds", "file")];
        let total = self.total();
        for (file, c) in self.files.iter().map(|(file, count)| (file.as_str(), count)).chain([("all", &total)]) {
            lines.push(format!(
                "{file:width$}  {:>7}  {:>6}  {:>6}  {:>7}  {:>8}  {:>9}  {:>5.1}%  {:>7.0}",
                c.mutants,
                c.caught,
                c.missed,
                c.timeout,
                c.unviable,
                c.explained,
                c.share_percent(),
                c.seconds
            ));
        }
        lines.join("\n")
    }

    /// Counts the outcomes of one part and holds them against `known`: the explained survivors of its files. `listed` is
    /// every mutant the part has, also those that a sample leaves out, in the order of their files.
    pub fn judge(&mut self, listed: &[Mutant], outcomes: &[Outcome], known: &[Survivor]) {
        let keys = keys(listed);
        let explained: BTreeSet<Key<'_>> =
            known.iter().map(|s| (s.file.as_str(), s.mutation.as_str(), s.nth)).collect();
        let exist: BTreeSet<&Key<'_>> = keys.values().collect();
        for key in explained.iter().filter(|key| !exist.contains(key)) {
            self.faults.push(format!("{}: no longer exists; take it from the list", line(key)));
        }
        if outcomes.iter().any(|o| matches!(o.scenario, Scenario::Baseline) && o.summary != Summary::Success) {
            self.faults.push("the tests fail without any mutation: mend them first".to_owned());
        }
        for outcome in outcomes {
            let Scenario::Mutant(mutant) = &outcome.scenario else { continue };
            let key = keys.get(mutant.name.as_str()).copied();
            let is_explained = key.is_some_and(|key| explained.contains(&key));
            let count = self.files.entry(mutant.file.clone()).or_default();
            count.mutants += 1;
            count.seconds += outcome.phase_results.iter().map(|phase| phase.duration).sum::<f64>();
            let survived = match outcome.summary {
                Summary::CaughtMutant => {
                    count.caught += 1;
                    false
                }
                Summary::Unviable => {
                    count.unviable += 1;
                    false
                }
                Summary::Timeout => {
                    count.timeout += 1;
                    true
                }
                Summary::MissedMutant | Summary::Success | Summary::Failure => {
                    count.missed += 1;
                    true
                }
            };
            if survived && is_explained {
                count.explained += 1;
            } else if survived {
                let how = if outcome.summary == Summary::Timeout { "hung" } else { "survived" };
                self.faults.push(format!("{how}: {}", mutant.name));
            } else if is_explained {
                self.faults.push(format!("{}: no longer survives; take it from the list", mutant.name));
            }
        }
    }
}

/// File, what is changed, and which of those that read the same.
type Key<'a> = (&'a str, &'a str, usize);

fn line((file, mutation, nth): &Key<'_>) -> String {
    format!("{file}: {mutation} (number {nth})")
}

/// The keys of mutants by their names: line and column are left out, since they move with every edit.
fn keys(listed: &[Mutant]) -> BTreeMap<&str, Key<'_>> {
    let mut seen: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    let mut keys = BTreeMap::new();
    for mutant in listed {
        let mutation = mutant.name.splitn(4, ':').nth(3).unwrap_or(&mutant.name).trim_start();
        let nth = seen.entry((&mutant.file, mutation)).or_default();
        *nth += 1;
        keys.insert(mutant.name.as_str(), (mutant.file.as_str(), mutation, *nth));
    }
    keys
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mutant(line: u32) -> serde_json::Value {
        serde_json::json!({ "name": format!("a.rs:{line}:5: replace > with >= in f"), "file": "a.rs", "genre": "BinaryOperator" })
    }

    fn report(caught: [&str; 2], known: &[Survivor]) -> Report {
        let listed: Vec<Mutant> = [1, 2].map(|line| serde_json::from_value(mutant(line)).unwrap()).into();
        let outcome = |line: u32, summary: &str| {
            serde_json::json!({ "scenario": { "Mutant": mutant(line) }, "summary": summary, "log_path": "x",
                                "phase_results": [{ "phase": "Build", "duration": 1.5 }] })
        };
        let baseline = serde_json::json!({ "scenario": "Baseline", "summary": "Success", "phase_results": [] });
        let all =
            serde_json::json!({ "outcomes": [baseline, outcome(1, caught[0]), outcome(2, caught[1])], "missed": 1 });
        let outcomes: Outcomes = serde_json::from_value(all).unwrap();
        let mut report = Report::default();
        report.judge(&listed, &outcomes.outcomes, known);
        report
    }

    fn known(nth: usize) -> Survivor {
        Survivor { file: "a.rs".into(), mutation: "replace > with >= in f".into(), nth, reason: "equal".into() }
    }

    #[test]
    fn a_survivor_without_a_reason_is_a_fault_and_one_with_a_reason_is_none() {
        assert_eq!(report(["CaughtMutant", "CaughtMutant"], &[]).faults, Vec::<String>::new());
        let missed = report(["CaughtMutant", "MissedMutant"], &[]);
        assert_eq!(missed.faults, ["survived: a.rs:2:5: replace > with >= in f"]);
        assert_eq!(report(["CaughtMutant", "MissedMutant"], &[known(2)]).faults, Vec::<String>::new());
        let hung = report(["Timeout", "CaughtMutant"], &[]);
        assert_eq!(hung.faults, ["hung: a.rs:1:5: replace > with >= in f"]);
        assert_eq!(hung.total().share_percent(), 50.0);
    }

    #[test]
    fn the_list_of_survivors_stays_true() {
        let caught = report(["CaughtMutant", "CaughtMutant"], &[known(2)]);
        assert_eq!(caught.faults, ["a.rs:2:5: replace > with >= in f: no longer survives; take it from the list"]);
        let gone = report(["CaughtMutant", "CaughtMutant"], &[known(3)]);
        assert_eq!(gone.faults, ["a.rs: replace > with >= in f (number 3): no longer exists; take it from the list"]);
    }

    #[test]
    fn a_mutant_that_does_not_compile_is_not_judged() {
        let report = report(["Unviable", "CaughtMutant"], &[]);
        let total = report.total();
        assert_eq!((total.mutants, total.caught, total.unviable, total.seconds), (2, 1, 1, 3.0));
        assert_eq!(total.share_percent(), 100.0);
        assert!(report.table().lines().last().unwrap().starts_with("all"), "{}", report.table());
    }
}
