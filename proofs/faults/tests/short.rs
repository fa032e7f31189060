//! The short form of `make faults` holds, and a row that is not as it must be is told as one.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::process::Command;

use faults::cases::{self, Must};
use faults::row;
use serde_json::Value;

#[test]
fn every_fault_is_answered_or_explained_and_every_check_holds() {
    let ran = Command::new(env!("CARGO_BIN_EXE_faults")).args(["--short", "--json"]).output().unwrap();
    let report: Value = serde_json::from_slice(&ran.stdout).expect("a JSON report");
    let bad = |list: &str, name: &str, why: &str| -> Vec<String> {
        let all = report[list].as_array().unwrap().iter();
        all.filter(|one| one["good"] != true).map(|one| format!("{}: {}", one[name], one[why])).collect()
    };
    let bad = [bad("faults", "fault", "wrong"), bad("checks", "check", "figure")].concat();
    assert!(bad.is_empty() && ran.status.success() && report["good"] == true, "{bad:#?}");
    let names: Vec<&str> =
        report["faults"].as_array().unwrap().iter().map(|row| row["fault"].as_str().unwrap()).collect();
    // The design page's sixteen, and the three of the issue.
    for due in [
        "429 with Retry-After",
        "429 without Retry-After",
        "one 500",
        "lasting 503",
        "TCP reset",
        "silence",
        "slow first token",
        "cut before content",
        "cut after content",
        "stalled stream",
        "malformed chunk",
        "no [DONE] (OpenAI)",
        "context length",
        "content filter",
        "refused prefill",
        "flapping primary",
        "accounting: tokens as told",
        "200 with empty choices",
        "200 with cut JSON",
        "dead local tier",
    ] {
        assert!(names.contains(&due), "{due} is not in the table");
    }
    assert!(report["checks"].as_array().unwrap().len() >= 20, "a check was not made");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_as_it_must_be_is_told() {
    let case = |name: &str| cases::all().into_iter().find(|case| case.name == name).unwrap();
    let good = row::one(&case("one 500")).await.unwrap();
    assert_eq!(good.wrong, Vec::<String>::new());
    let mut wrong = case("one 500");
    wrong.first = Must::Answer(2);
    wrong.calls_first = [1, 0, 1];
    wrong.calls_all = [7, 1, 0];
    wrong.tries = Some(1);
    let told = row::one(&wrong).await.unwrap().wrong;
    assert_eq!(told.len(), 4, "{told:#?}");
    let mut unfounded = case("cut after content");
    unfounded.first = Must::Answer(0);
    unfounded.later = vec![Must::Answer(1)];
    let told = row::one(&unfounded).await.unwrap().wrong;
    assert_eq!(told.len(), 5, "{told:#?}");
}
