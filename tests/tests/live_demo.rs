//! `swarm demo` as a person starts it: every scene ends as it must, on real servers and all ten processes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// The scenes of the main job, by name.
const SCENES: [&str; 10] =
    ["fill", "approval", "split", "position", "rate", "breaker", "daily_loss", "kill_level", "ledger_venue", "audit"];

#[test]
fn every_scene_of_the_demo_ends_as_it_must() {
    let folder = testkit::servers::fresh_folder("demo");
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("config");
    let done = Command::new(tests::program())
        .arg("--data-dir")
        .arg(&folder)
        .args(["--json", "demo", "--config-dir"])
        .arg(config)
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&done.stdout);
    let errors = String::from_utf8_lossy(&done.stderr);
    let report: Value = serde_json::from_str(told.trim()).unwrap_or_else(|_| panic!("no report: {told} {errors}"));
    assert!(done.status.success(), "{report:#} {errors}");
    assert_eq!(report["ok"], true, "{report:#}");
    let scenes = report["scenes"].as_array().unwrap();
    let names: Vec<&str> = scenes.iter().map(|scene| scene["scene"].as_str().unwrap()).collect();
    assert_eq!(names, SCENES);
    assert!(scenes.iter().all(|scene| scene["ok"] == true), "{report:#}");
}
