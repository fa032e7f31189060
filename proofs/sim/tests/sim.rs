//! The simulation itself: a few seeds hold, a seed is the same twice, and each check notices its deliberate fault.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use sim::faults::{BEHIND_ANOTHER, Fault, Need};
use sim::report::{failure, faults, many};
use sim::world::{Options, run};

#[test]
fn forty_seeds_hold() {
    let summary = many(1, 40, 2, true);
    let told: String = summary.failures.iter().map(failure).collect();
    assert!(summary.failures.is_empty(), "{told}");
    assert!(summary.counts.get("fill buy").is_some_and(|fills| *fills > 0), "nothing was traded: {:?}", summary.counts);
}

#[test]
fn a_seed_is_the_same_twice() {
    let once = |seed| run(seed, Options { traced: true, ..Options::default() });
    for seed in [3, 4] {
        let (first, second) = (once(seed), once(seed));
        assert_eq!(first.trace, second.trace, "seed {seed}");
        assert_eq!((first.steps, first.digest), (second.steps, second.digest), "seed {seed}");
    }
    assert_ne!(once(3).digest, once(4).digest);
}

#[test]
fn every_check_notices_its_deliberate_fault() {
    let missed: Vec<_> = faults(1, 100, 2, true).into_iter().filter(|caught| !caught.is_proof()).collect();
    assert!(missed.is_empty(), "{missed:?}");
}

#[test]
fn a_promise_behind_another_is_missed_by_nobody() {
    for (defect, _) in BEHIND_ANOTHER {
        for seed in 1..=5 {
            let findings = run(seed, Options { record: Some(*defect), ..Options::default() }).findings;
            assert!(findings.is_empty(), "{defect:?} at seed {seed}: {findings:?}");
        }
    }
}

#[test]
fn a_forged_or_weak_agreement_is_noticed_and_a_good_one_is_not() {
    for fault in [Fault::ReviewForged, Fault::LooseConfidence] {
        let found = |seed, fault: Option<Fault>| {
            let findings = run(seed, Options { fault, need: Some(Need::Ideas), ..Options::default() }).findings;
            findings.into_iter().map(|(_, invariant, _)| invariant).collect::<Vec<_>>()
        };
        let seed = (1..=40).find(|seed| found(*seed, Some(fault)).contains(&fault.expected()));
        let seed = seed.unwrap_or_else(|| panic!("{fault:?} went unnoticed"));
        assert_eq!(found(seed, None), Vec::<&str>::new(), "{fault:?} at seed {seed}");
    }
}
