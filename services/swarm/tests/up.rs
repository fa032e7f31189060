//! `swarm up` as a whole: real servers, real agents, real signals. All agents are the one program.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use testkit::servers::fresh_folder;
use testkit::wait::wait_until_blocking;

const READY: Duration = Duration::from_secs(90);
const GONE: Duration = Duration::from_secs(30);

/// A running `swarm up`; killed when the test fails.
struct Up {
    child: Child,
    data: PathBuf,
    ready: Value,
}

fn swarm() -> Command {
    Command::new(env!("CARGO_BIN_EXE_swarm"))
}

fn config() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config")
}

fn up_command(data: &Path) -> Command {
    let mut command = swarm();
    command
        .arg("--data-dir")
        .arg(data)
        .args(["up", "--market", "builtin", "--seed", "7", "--config-dir"])
        .arg(config());
    command
}

impl Up {
    fn start(data: &Path) -> Self {
        let (ready_file, log) = (data.join("ready.json"), data.join("up.log"));
        let _ = std::fs::remove_file(&ready_file);
        let output = std::fs::OpenOptions::new().create(true).append(true).open(&log).unwrap();
        let child = up_command(data)
            .arg("--ready-file")
            .arg(&ready_file)
            .stdin(Stdio::null())
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .spawn()
            .unwrap();
        let mut up = Self { child, data: data.to_owned(), ready: Value::Null };
        wait_until_blocking(READY, "ready", || {
            if let Some(status) = up.child.try_wait().unwrap() {
                panic!("swarm up ended ({status}): {}", std::fs::read_to_string(&log).unwrap());
            }
            let text = std::fs::read_to_string(&ready_file).unwrap_or_default();
            up.ready = serde_json::from_str(&text).unwrap_or_default();
            !up.ready.is_null()
        });
        up
    }

    /// All processes by name, this one included.
    fn processes(&self) -> BTreeMap<String, u32> {
        let listed = self.ready["processes"].as_array().unwrap().iter();
        let mut all: BTreeMap<String, u32> =
            listed.map(|p| (p["name"].as_str().unwrap().to_owned(), pid_of(&p["pid"]))).collect();
        all.insert("swarm up".to_owned(), self.child.id());
        assert_eq!(all.len(), 13, "nine agents, supervisor, two servers and swarm up: {all:?}");
        all
    }

    /// What a person's command answers.
    fn ask(&self, arguments: &[&str]) -> Value {
        ask(&self.data, arguments)
    }

    fn wait_for_end(&mut self, what: &str) -> i32 {
        let mut status = None;
        wait_until_blocking(GONE, what, || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap().code().unwrap()
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        // Its children notice and end.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn ask(data: &Path, arguments: &[&str]) -> Value {
    let output = swarm().arg("--data-dir").arg(data).arg("--json").args(arguments).output().unwrap();
    serde_json::from_slice(&output.stdout).unwrap_or_default()
}

fn pid_of(value: &Value) -> u32 {
    u32::try_from(value.as_u64().unwrap()).unwrap()
}

fn send(pid: u32, signal: Signal) {
    kill(Pid::from_raw(pid.cast_signed()), signal).unwrap();
}

/// A process that nobody reaped yet is dead all the same.
fn is_alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with(['Z', 'X']))
}

fn wait_until_gone(processes: &BTreeMap<String, u32>) {
    wait_until_blocking(GONE, &format!("all gone of {processes:?}"), || !processes.values().any(|pid| is_alive(*pid)));
}

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
    let refused = up_command(&data).output().unwrap();
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
    wait_until_blocking(Duration::from_secs(30), "nine agents heard by a new supervisor", || {
        status = up.ask(&["status"]);
        adopted(&status).len() == 9 && status["supervisor_pid"] != before["supervisor"]
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
    for server in ["nats-server", "postgres"] {
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
    send(up.child.id(), Signal::SIGINT);
    assert_eq!(up.wait_for_end("the end after Ctrl-C"), 0);
}
