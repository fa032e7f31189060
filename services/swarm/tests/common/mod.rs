//! A `swarm up` of a test's own: real servers, real agents, all of them the one program.

#![allow(dead_code, reason = "each test file uses its own part")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use testkit::wait::wait_until_blocking;

pub const READY: Duration = Duration::from_secs(90);
pub const GONE: Duration = Duration::from_secs(30);

/// A running `swarm up`; killed when the test fails.
pub struct Up {
    pub child: Child,
    pub data: PathBuf,
    pub ready: Value,
}

pub fn swarm() -> Command {
    Command::new(env!("CARGO_BIN_EXE_swarm"))
}

pub fn config() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config")
}

pub fn up_command(data: &Path, config: &Path) -> Command {
    let mut command = swarm();
    command.arg("--data-dir").arg(data).args(["up", "--market", "builtin", "--seed", "7", "--config-dir"]).arg(config);
    command
}

impl Up {
    pub fn start(data: &Path) -> Self {
        Self::start_with(data, &config())
    }

    /// With a bot of Telegram that nobody answers for.
    pub fn start_without_telegram_answering(data: &Path) -> Self {
        let nobody = format!("http://127.0.0.1:{}", servers::free_port().unwrap());
        let mut command = up_command(data, &config());
        command.env("TELEGRAM_TOKEN", testkit::telegram::TOKEN).env("TELEGRAM_API_URL", nobody);
        Self::of(data, command)
    }

    /// With a folder of configuration of its own.
    pub fn start_with(data: &Path, config: &Path) -> Self {
        Self::of(data, up_command(data, config))
    }

    pub fn of(data: &Path, mut command: Command) -> Self {
        let (ready_file, log) = (data.join("ready.json"), data.join("up.log"));
        let _ = std::fs::remove_file(&ready_file);
        let output = std::fs::OpenOptions::new().create(true).append(true).open(&log).unwrap();
        let child = command
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
    pub fn processes(&self) -> BTreeMap<String, u32> {
        let listed = self.ready["processes"].as_array().unwrap().iter();
        let mut all: BTreeMap<String, u32> =
            listed.map(|p| (p["name"].as_str().unwrap().to_owned(), pid_of(&p["pid"]))).collect();
        all.insert("swarm up".to_owned(), self.child.id());
        assert_eq!(all.len(), 16, "nine agents, supervisor, gateway, llm_router, three servers and swarm up: {all:?}");
        all
    }

    /// What a person's command answers.
    pub fn ask(&self, arguments: &[&str]) -> Value {
        ask(&self.data, arguments)
    }

    pub fn wait_for_end(&mut self, what: &str) -> i32 {
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

pub fn ask(data: &Path, arguments: &[&str]) -> Value {
    let output = swarm().arg("--data-dir").arg(data).arg("--json").args(arguments).output().unwrap();
    serde_json::from_slice(&output.stdout).unwrap_or_default()
}

pub fn pid_of(value: &Value) -> u32 {
    u32::try_from(value.as_u64().unwrap()).unwrap()
}

pub fn send(pid: u32, signal: Signal) {
    kill(Pid::from_raw(pid.cast_signed()), signal).unwrap();
}

/// A process that nobody reaped yet is dead all the same.
pub fn is_alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with(['Z', 'X']))
}

pub fn wait_until_gone(processes: &BTreeMap<String, u32>) {
    wait_until_blocking(GONE, &format!("all gone of {processes:?}"), || !processes.values().any(|pid| is_alive(*pid)));
}
