//! `swarm up` as a whole: real servers, real agents, real signals. All agents are the one program.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeMap;
use std::time::Duration;

use common::{GONE, Up, config, is_alive, pid_of, send, up_command, wait_until_gone};
use nix::sys::signal::Signal;
use serde_json::Value;
use testkit::servers::fresh_folder;
use testkit::wait::wait_until_blocking;

fn fills(positions: &Value) -> u64 {
    positions["fills"].as_u64().unwrap_or(0)
}

/// Buys, and waits for the fill.
fn buy(up: &Up) {
    assert_eq!(up.ask(&["signal", "BUY", "BTCUSDT", "--notional-usd", "600"])["ok"], true);
    wait_until_blocking(Duration::from_secs(20), "a fill", || {
        let positions = up.ask(&["positions"]);
        let mut decisions = positions["recent_decisions"].as_array().into_iter().flatten();
        let refused = decisions.find(|d| d["outcome"] == "refused");
        assert_eq!(refused, None, "ready means that a signal is taken");
        fills(&positions) > 0
    });
}

#[test]
fn a_second_start_goes_on_with_the_ledger_and_ctrl_c_leaves_no_process() {
    let data = fresh_folder("up");
    let mut first = Up::start(&data);
    let processes = first.processes();
    let refused = up_command(&data, &config()).output().unwrap();
    assert!(!refused.status.success() && String::from_utf8_lossy(&refused.stderr).contains("another `swarm up`"));
    buy(&first);
    let cash = first.ask(&["positions"])["cash_usd"].clone();
    send(first.child.id(), Signal::SIGINT);
    assert_eq!(first.wait_for_end("the end after Ctrl-C"), 0);
    wait_until_gone(&processes);

    let mut second = Up::start(&data);
    let positions = second.ask(&["positions"]);
    assert!(fills(&positions) > 0 && positions["cash_usd"] != "50000", "{positions} after {cash}");
    assert_eq!(second.ask(&["status"])["kill"]["level"], 0);
    let processes = second.processes();
    send(second.child.id(), Signal::SIGTERM);
    assert_eq!(second.wait_for_end("the end after SIGTERM"), 0);
    wait_until_gone(&processes);
}

#[test]
fn a_killed_supervisor_is_started_again_and_adopts_the_same_processes() {
    let data = fresh_folder("up");
    let mut up = Up::start(&data);
    let before = up.processes();
    send(before["supervisor"], Signal::SIGKILL);
    let adopted = |status: &Value| -> BTreeMap<String, u32> {
        let agents = status["agents"].as_array().into_iter().flatten();
        agents
            .filter(|agent| matches!(agent["verdict"].as_str(), Some("healthy" | "busy")))
            .map(|agent| (agent["agent"].as_str().unwrap().to_owned(), pid_of(&agent["pid"])))
            .collect()
    };
    let mut status = Value::Null;
    wait_until_blocking(Duration::from_secs(30), "all eleven processes heard by a new supervisor", || {
        status = up.ask(&["status"]);
        adopted(&status).len() == 11 && status["supervisor_pid"] != before["supervisor"]
    });
    for (agent, pid) in adopted(&status) {
        assert_eq!(before[&agent], pid, "{agent} was started again");
    }
    send(up.child.id(), Signal::SIGINT);
    assert_eq!(up.wait_for_end("the end after Ctrl-C"), 0);
    wait_until_gone(&before);
}

#[test]
fn when_swarm_up_alone_is_killed_everything_goes() {
    let up = Up::start(&fresh_folder("up"));
    let processes = up.processes();
    send(up.child.id(), Signal::SIGKILL);
    wait_until_gone(&processes);
}

#[test]
fn when_swarm_up_and_the_supervisor_are_killed_everything_goes_and_a_new_start_works() {
    let data = fresh_folder("up");
    let up = Up::start(&data);
    let processes = up.processes();
    send(up.child.id(), Signal::SIGKILL);
    send(processes["supervisor"], Signal::SIGKILL);
    wait_until_gone(&processes);
    drop(up);
    Up::start(&data);
}

/// Buys again and again until one more fills: while a server is away a signal may be refused or lost to its sender.
fn buy_until_filled(up: &Up, what: &str) {
    let before = fills(&up.ask(&["positions"]));
    wait_until_blocking(Duration::from_secs(60), what, || {
        let sent = up.ask(&["signal", "BUY", "BTCUSDT", "--notional-usd", "20"]);
        sent["ok"] == true && fills(&up.ask(&["positions"])) > before
    });
}

#[test]
fn a_killed_server_is_started_again_and_trading_goes_on_with_the_same_agents() {
    let data = fresh_folder("up");
    let mut up = Up::start(&data);
    let before = up.processes();
    buy(&up);
    for server in ["nats-server", "postgres", "valkey"] {
        send(before[server], Signal::SIGKILL);
        wait_until_blocking(GONE, "the end of a killed server", || !is_alive(before[server]));
        buy_until_filled(&up, &format!("a fill after {server} was killed"));
    }
    let agents = up.ask(&["agents"])["result"].clone();
    for agent in agents.as_array().into_iter().flatten() {
        let name = agent["agent"].as_str().unwrap_or_default();
        assert_eq!(agent["pid"], before[name], "{name} did not outlive the servers");
    }
    assert_eq!(up.ask(&["audit", "verify"])["verdict"], "valid");
    wait_until_blocking(GONE, "a new Valkey that the doctor sees", || {
        let findings = up.ask(&["doctor", "--config-dir", config().to_str().unwrap()]);
        let mut rows = findings.as_array().into_iter().flatten();
        rows.any(|row| row["what"] == "Valkey" && row["ok"] == true)
    });
    send(up.child.id(), Signal::SIGINT);
    assert_eq!(up.wait_for_end("the end after Ctrl-C"), 0);
}
