//! Many seeds on all cores, and what is said about them.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::checks;
use crate::faults::Fault;
use crate::hub::Point;
use crate::world::{Options, Outcome, run};

/// Failing seeds that are told in full.
const MOST_FAILURES: usize = 10;

/// What many seeds came to.
#[derive(Debug, Default)]
pub struct Summary {
    /// Seeds run.
    pub seeds: u64,
    /// Steps of all of them.
    pub steps: u64,
    /// How often each path was taken.
    pub counts: BTreeMap<String, u64>,
    /// Seeds that found something, lowest first.
    pub failures: Vec<Outcome>,
    /// Seconds it took.
    pub seconds: f64,
}

/// One seed; a panic anywhere in the product is a finding too.
#[must_use]
pub fn one(seed: u64, options: Options) -> Outcome {
    std::panic::catch_unwind(AssertUnwindSafe(|| run(seed, options))).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        let what = format!("panic: {}", text.unwrap_or_default());
        Outcome { seed, findings: vec![(0, checks::NO_FATAL, what)], ..Outcome::default() }
    })
}

/// Runs seeds `first..first + seeds` on `threads` threads, and tells how far it is.
#[must_use]
pub fn many(first: u64, seeds: u64, threads: usize, quiet: bool) -> Summary {
    let begun = Instant::now();
    let next = AtomicU64::new(0);
    let stop = AtomicBool::new(false);
    let told = AtomicU64::new(0);
    let summary = Mutex::new(Summary::default());
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= seeds {
                        break;
                    }
                    let outcome = one(first + number, Options::default());
                    let mut summary = summary.lock().unwrap_or_else(PoisonError::into_inner);
                    add(&mut summary, outcome);
                    if summary.failures.len() >= MOST_FAILURES {
                        stop.store(true, Ordering::Relaxed);
                    }
                    let second = begun.elapsed().as_secs();
                    if !quiet && second >= 2 && told.fetch_max(second, Ordering::Relaxed) < second {
                        eprintln!(
                            "sim: {} of {seeds} seeds, {} steps, {} failed",
                            summary.seeds,
                            summary.steps,
                            summary.failures.len()
                        );
                    }
                }
            });
        }
    });
    let mut summary = summary.into_inner().unwrap_or_else(PoisonError::into_inner);
    summary.failures.sort_by_key(|outcome| outcome.seed);
    summary.seconds = begun.elapsed().as_secs_f64();
    summary
}

fn add(summary: &mut Summary, outcome: Outcome) {
    summary.seeds += 1;
    summary.steps += outcome.steps;
    for (what, count) in &outcome.counts {
        *summary.counts.entry(what.clone()).or_default() += count;
    }
    if !outcome.findings.is_empty() {
        summary.failures.push(outcome);
    }
}

/// How one deliberate fault fared.
#[derive(Debug, Clone)]
pub struct Caught {
    /// Which.
    pub fault: Fault,
    /// The first seed whose expected check noticed it.
    pub seed: Option<u64>,
    /// Seeds tried.
    pub tried: u64,
    /// What was found in that seed's world without the fault.
    pub without: Option<String>,
}

impl Caught {
    /// Its check noticed it, and finds nothing in the same world without it.
    #[must_use]
    pub const fn is_proof(&self) -> bool {
        self.seed.is_some() && self.without.is_none()
    }

    fn verdict(&self) -> String {
        match (self.seed, &self.without) {
            (Some(seed), None) => format!("seed {seed}"),
            (Some(seed), Some(what)) => format!("NOT PROVED: seed {seed} without the fault: {what}"),
            (None, _) => format!("NOT CAUGHT in {} seeds", self.tried),
        }
    }
}

/// Runs seeds with each deliberate fault until its check notices it, at most `seeds` of them.
#[must_use]
pub fn faults(first: u64, seeds: u64, threads: usize, quiet: bool) -> Vec<Caught> {
    let next = AtomicU64::new(0);
    let caught = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                loop {
                    let number = usize::try_from(next.fetch_add(1, Ordering::Relaxed)).unwrap_or(usize::MAX);
                    let Some(fault) = Fault::ALL.get(number).copied() else { break };
                    let found = hunt(fault, first, seeds);
                    if !quiet {
                        eprintln!("sim: {fault:?}: {}", found.verdict());
                    }
                    caught.lock().unwrap_or_else(PoisonError::into_inner).push(found);
                }
            });
        }
    });
    let mut caught = caught.into_inner().unwrap_or_else(PoisonError::into_inner);
    caught.sort_by_key(|caught| caught.fault);
    caught
}

/// The first seed at which the expected check notices `fault`, and what there is to find without it.
#[must_use]
pub fn hunt(fault: Fault, first: u64, seeds: u64) -> Caught {
    let need = fault.need();
    for number in 0..seeds {
        let seed = first + number;
        let outcome = one(seed, Options { fault: Some(fault), need, ..Options::default() });
        if outcome.findings.iter().any(|(_, invariant, _)| *invariant == fault.expected()) {
            let control = one(seed, Options { need, ..Options::default() });
            let without = control.findings.first().map(|(_, invariant, what)| format!("{invariant}: {what}"));
            return Caught { fault, seed: Some(seed), tried: number + 1, without };
        }
    }
    Caught { fault, seed: None, tried: seeds, without: None }
}

/// Paths that a large run must have taken: a simulation that does not reach them proves nothing about them.
#[must_use]
pub fn unreached(counts: &BTreeMap<String, u64>) -> Vec<String> {
    const WANTED: &[&str] = &[
        "fill buy",
        "fill sell",
        "order filled",
        "order rejected",
        "order cancelled",
        "permit spent",
        "permit void",
        "approval consumed",
        "approval denied",
        "approval expired",
        "approval revoked",
        "venue filled at once",
        "venue filled in part",
        "venue rests",
        "venue rejected",
        "venue request lost",
        "venue reply lost",
        "venue late arrival",
        "venue query unanswered",
        "venue cancelled",
        "venue away at a placement",
        "resting order traded",
        "refused POSITION",
        "refused TOTAL",
        "refused PRICE_COLLAR",
        "refused KILL_LEVEL",
        "refused RATE",
        "refused SPOT_SHORT",
        "refused STALE_MARK",
        "refused DAILY_LOSS",
        "refused BREAKER",
        "refused CLOCK_SKEW",
        "refused ATTENTION_BUDGET",
        "decision permitted",
        "decision needs_human",
        "delivered again",
        "delivery retried",
        "inbox knew it",
        "ack lost",
        "commit failed",
        "commit unanswered",
        "publish unanswered",
        "publish duplicate",
        "stream full",
        "store away",
        "broker away",
        "hearing lost",
        "process started again",
        "outbox row expired",
        "vote forged",
        "vote of a stranger",
        "vote of a former approver",
        "vote for another envelope",
        "vote late",
        "vote twice",
        "word taken back",
        "word for half",
        "word for a better price",
        "word for more",
        "swarm.approve ok",
        "swarm.approve BAD_SIGNATURE",
        "swarm.approve DIGEST_MISMATCH",
        "swarm.approve EXPIRED",
        "swarm.approve UNKNOWN_APPROVER",
        "swarm.approve NOT_PENDING",
        "swarm.halt ok",
        "swarm.halt BAD_LEVEL",
        "swarm.resume ok",
        "swarm.resume STALE_EPOCH",
        "swarm.resume BAD_SIGNATURE",
        "swarm.signal ok",
        "swarm.status ok",
        "swarm.breaker ok",
        "audit breaker_latched",
        "audit breaker_reset",
        "audit day_started",
        "dead letter BAD_JSON",
        "dead letter EXPIRED",
        "dead letter UNKNOWN_INSTRUMENT",
        "dead letter WRONG_USER",
        "dead letter TOO_SMALL",
        "dead letter FROM_THE_FUTURE",
        "end filled",
        "end refused",
        "end dead letter",
        "end held",
        "end idea held",
        "idea sent",
        "idea judged",
        "review agrees",
        "review objects",
        "review hangs",
        "review obeys",
        "review stale",
        "end permit void",
        "end no human yes",
        "end rejected",
        "end cancelled",
    ];
    let points = Point::ALL.iter().map(|point| point.name());
    let missing = |name: &&str| !counts.contains_key(*name);
    WANTED.iter().copied().chain(points).filter(missing).map(str::to_owned).collect()
}

/// The summary as JSON.
#[must_use]
pub fn as_json(first: u64, summary: &Summary, unreached: &[String], caught: &[Caught]) -> Value {
    json!({
        "first_seed": first,
        "seeds": summary.seeds,
        "steps": summary.steps,
        "seconds": summary.seconds,
        "counts": summary.counts,
        "unreached": unreached,
        "failures": summary.failures.iter().map(|outcome| json!({
            "seed": outcome.seed,
            "findings": outcome.findings.iter().take(5).map(|(step, invariant, what)| json!({
                "step": step, "invariant": invariant, "what": what,
            })).collect::<Vec<_>>(),
        })).collect::<Vec<_>>(),
        "faults": caught.iter().map(|caught| json!({
            "fault": format!("{:?}", caught.fault),
            "text": caught.fault.text(),
            "invariant": caught.fault.expected(),
            "first_seed": caught.seed,
            "caught": caught.is_proof(),
            "found_without_it": caught.without,
            "seeds_tried": caught.tried,
        })).collect::<Vec<_>>(),
    })
}

/// One failing seed, as a person reads it.
#[must_use]
pub fn failure(outcome: &Outcome) -> String {
    let mut text = String::new();
    for (step, invariant, what) in outcome.findings.iter().take(3) {
        text.push_str(&format!("FAILED seed {} at step {step}: {invariant}\n       {what}\n", outcome.seed));
    }
    text.push_str(&format!("       see it: make sim SEED={} SEEDS=1 ARGS=--trace\n", outcome.seed));
    text
}

/// The table of deliberate faults, in the order of the invariants.
#[must_use]
pub fn table(caught: &[Caught]) -> String {
    let mut text = String::from("invariant, the deliberate faults it must notice, and the first seed where it did\n");
    for invariant in checks::ALL {
        text.push_str(&format!("  {invariant}\n"));
        let rows: Vec<_> = caught.iter().filter(|row| row.fault.expected() == *invariant).collect();
        for row in &rows {
            text.push_str(&format!("      {:<12} {}\n", row.verdict(), row.fault.text()));
        }
        if rows.is_empty() {
            text.push_str("      NO FAULT\n");
        }
    }
    text
}
