//! Tasks in a whole swarm: real servers and rights, real agents, one of them killed with a task in its hands.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::time::Duration;

use common::{GONE, Up, is_alive, send};
use nix::sys::signal::Signal;
use serde_json::json;
use testkit::servers::fresh_folder;
use testkit::wait::wait_until_blocking;

#[test]
fn a_person_asks_and_is_answered_and_a_monitor_that_dies_with_the_task_answers_after_its_start() {
    let data = fresh_folder("tasks");
    let up = Up::start(&data);
    let report = up.ask(&["task", "host_report"]);
    assert_eq!((&report["ok"], &report["agent"]), (&json!(true), &json!("monitor")), "{report}");
    let fields = report["results"].as_object().unwrap();
    assert!(fields.contains_key("memory_available_mb") && fields.contains_key("load_1min_milli"), "{report}");
    assert!(fields.keys().any(|name| name.starts_with("price_age_ms ")), "{report}");
    let verdict = up.ask(&["task", "token_verdicts", "mint=So1", "venue=paper_dex"]);
    assert_eq!(verdict["results"]["reason"], "unknown: denied", "{verdict}");
    assert_eq!(up.ask(&["task", "token_verdicts"])["code"], "TASK_FAILED");
    assert_eq!(up.ask(&["task", "exchange_orders"])["code"], "NOT_A_TASK");
    assert_eq!(up.ask(&["task", "web_page"])["code"], "NO_SUCH_CAPABILITY", "the page takes no tasks");

    // Held, it is given the task and can't answer; then it dies.
    let monitor = up.processes()["monitor"];
    send(monitor, Signal::SIGSTOP);
    let asked = std::thread::spawn({
        let data = data.clone();
        move || common::ask(&data, &["task", "prices"])
    });
    let is_sent = || {
        let log = std::fs::read_to_string(data.join("log/supervisor.log")).unwrap_or_default();
        log.lines().any(|line| line.contains("task routed") && line.contains("prices"))
    };
    wait_until_blocking(Duration::from_secs(5), "the task at the monitor", is_sent);
    send(monitor, Signal::SIGKILL);
    wait_until_blocking(GONE, "the end of the monitor", || !is_alive(monitor));
    let prices = asked.join().unwrap();
    assert_eq!((&prices["ok"], &prices["agent"]), (&json!(true), &json!("monitor")), "{prices}");
    assert!(prices["results"].as_object().is_some_and(|prices| !prices.is_empty()), "{prices}");
}
