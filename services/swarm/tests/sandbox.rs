//! What a process of a running swarm can't do to it, refused by the kernel: a hostile child enters the sandbox that the
//! real process of that name is in, with that one's own environment, and tries.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use common::{Up, is_alive, pid_of};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use runtime::Agent;
use runtime::sandbox::{self, Reach};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use supervisor::lifecycle::{Plan, PlannedAgent};
use testkit::servers::fresh_folder;
use testkit::wait::wait_until_blocking;

/// Names the process that a child of this test plays, and the file with what it needs to know.
const HOSTILE: &str = "HOSTILE_CHILD";

/// What a person started, and what that starts besides processes of ours.
const SERVERS: [&str; 4] = ["swarm up", "nats-server", "postgres", "valkey"];

/// Whoever enters a sandbox gives new privileges up first; the kernel shows nothing else of it.
fn is_restricted(pid: u32) -> bool {
    let told = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    told.lines().any(|line| line.split_whitespace().eq(["NoNewPrivs:", "1"]))
}

fn reach_of(name: &str, vars: &BTreeMap<String, String>) -> Reach {
    match name {
        "supervisor" => supervisor::Supervisor::reach(vars),
        "treasury" => treasury::Treasury::reach(vars),
        "online_trading" => online_trading::Desk::reach(vars),
        "buy_bot" => buy_bot::BuyBot::reach(vars),
        "monitor" => monitor::Monitor::reach(vars),
        "telegram_jarvis" => telegram_jarvis::TelegramJarvis::reach(vars),
        "gateway" => gateway::Gateway::reach(vars),
        "llm_router" => llm_router::LlmRouter::reach(vars),
        other => panic!("{other} plays no part here"),
    }
}

/// What a child is told.
#[derive(Serialize, Deserialize)]
struct Part {
    name: String,
    env: BTreeMap<String, String>,
    data: PathBuf,
    config: PathBuf,
    /// A link to its own program, so that nothing is lost should the kernel let it through.
    program: PathBuf,
    supervisor_pid: u32,
    treasury_pid: u32,
}

type Attempt = (&'static str, Box<dyn Fn() -> std::io::Result<()>>);

fn append(file: PathBuf) -> Box<dyn Fn() -> std::io::Result<()>> {
    Box::new(move || std::fs::OpenOptions::new().append(true).open(&file)?.write_all(b""))
}

fn read(file: PathBuf) -> Box<dyn Fn() -> std::io::Result<()>> {
    Box::new(move || std::fs::File::open(&file).map(drop))
}

fn signal(pid: u32) -> Box<dyn Fn() -> std::io::Result<()>> {
    Box::new(move || Ok(kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL)?))
}

fn attempts(part: &Part) -> Vec<Attempt> {
    let (data, config, program) = (part.data.clone(), part.config.clone(), part.program.clone());
    let (link, plan) = (data.join("bin/treasury"), data.join("plan.json"));
    let other = if part.name == "monitor" { "gateway.nk" } else { "monitor.nk" };
    let mut all: Vec<Attempt> = vec![
        ("write limits.toml", append(config.join("limits.toml"))),
        ("append to people.toml", append(config.join("people.toml"))),
        ("add a file to the configuration", {
            let file = config.join("planted.toml");
            Box::new(move || std::fs::write(&file, "x"))
        }),
        ("replace its own program", {
            let program = program.clone();
            Box::new(move || std::fs::remove_file(&program))
        }),
        ("replace the link of another's program", {
            let link = link.clone();
            Box::new(move || std::fs::remove_file(&link))
        }),
        ("write plan.json", append(plan.clone())),
        ("write a secret", append(data.join("secrets/monitor.nk"))),
        ("rename the secrets away", {
            let data = data.clone();
            Box::new(move || std::fs::rename(data.join("secrets"), data.join("run/secrets")))
        }),
    ];
    if part.name == "supervisor" {
        return all;
    }
    all.extend([
        ("empty the kill file", {
            let file = data.join("data/kill-level");
            Box::new(move || nix::unistd::truncate(&file, 0).map_err(Into::into))
                as Box<dyn Fn() -> std::io::Result<()>>
        }),
        ("remove the kill file", {
            let file = data.join("data/kill-level");
            Box::new(move || std::fs::remove_file(&file))
        }),
        ("append to the audit anchors", append(data.join("data/audit-anchors.jsonl"))),
        ("read another's NKEY", read(data.join("secrets").join(other))),
        ("read the operator's key", read(data.join("secrets/person-operator.key"))),
        ("read the anchors' private key", read(data.join("secrets/anchor.key"))),
        ("read plan.json, which holds every login", read(plan)),
        ("read the environment of its supervisor", read(format!("/proc/{}/environ", part.supervisor_pid).into())),
        ("read the database's files", {
            let folder = data.join("postgres");
            Box::new(move || std::fs::read_dir(&folder).map(drop))
        }),
        ("kill the supervisor", signal(part.supervisor_pid)),
        ("start a program", Box::new(|| Command::new("/bin/true").status().map(drop))),
    ]);
    if part.name != "treasury" {
        all.extend([
            ("read the permits' private key", read(data.join("secrets/permit.key"))),
            ("read the environment of treasury", read(format!("/proc/{}/environ", part.treasury_pid).into())),
            ("kill treasury", signal(part.treasury_pid)),
        ]);
    }
    if part.name != "online_trading" {
        all.push(("write the desk's journal", append(data.join("data/paper/paper.journal"))));
    }
    all
}

/// What its work needs, by the same rules.
fn needs(part: &Part) -> Vec<Attempt> {
    let (data, name) = (part.data.clone(), part.name.clone());
    let vars = part.env.clone();
    let mut all: Vec<Attempt> = vec![
        ("read limits.toml", read(part.config.join("limits.toml"))),
        ("read the kill level", read(data.join("data/kill-level"))),
        ("read its own NKEY", read(vars["SWARM_NKEY_FILE"].clone().into())),
        (
            "write in the run folder",
            Box::new(move || std::fs::write(data.join("run").join(format!("{name}.tried")), "x")),
        ),
        ("look up names", read("/etc/hosts".into())),
        ("see its memory", read("/proc/self/statm".into())),
        ("signal itself", Box::new(|| Ok(kill(nix::unistd::getpid(), None)?))),
    ];
    for (name, file) in [("treasury", "SWARM_PERMIT_KEY_FILE"), ("online_trading", "SWARM_PERMIT_PUBLIC_KEYS_FILE")] {
        if part.name == name {
            all.push(("read its key file", read(vars[file].clone().into())));
        }
    }
    all
}

/// The child: it plays no part when nobody said which.
#[test]
fn hostile_child() {
    let Some(file) = std::env::var_os(HOSTILE) else { return };
    let part: Part = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    let lacks = sandbox::enter(&reach_of(&part.name, &part.env));
    assert!(lacks.is_empty(), "this machine does not enforce all: {lacks:?}");
    for (what, attempt) in needs(&part) {
        attempt().unwrap_or_else(|error| panic!("{} must be able to {what}: {error}", part.name));
    }
    for (what, attempt) in attempts(&part) {
        let refused = attempt().expect_err(what);
        let code = Errno::from_raw(refused.raw_os_error().unwrap());
        assert!(matches!(code, Errno::EACCES | Errno::EPERM), "{}: {what}: {refused}", part.name);
        println!("attempt: {} would {what}: refused by the OS ({code:?})", part.name);
    }
}

fn play(part: &Part) {
    let file = part.data.join(format!("{}.part", part.name));
    std::fs::write(&file, serde_json::to_vec(part).unwrap()).unwrap();
    let child = Command::new(&part.program)
        .args(["--exact", "hostile_child", "--nocapture"])
        .env_clear()
        .env(HOSTILE, &file)
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success(), "{told}{}", String::from_utf8_lossy(&child.stderr));
    let lines: Vec<&str> = told.lines().filter(|line| line.starts_with("attempt: ")).collect();
    assert_eq!(lines.len(), attempts(part).len(), "{told}");
    println!("{}", lines.join("\n"));
}

/// Everything that must be as it was after hostile processes.
fn state(up: &Up, config: &Path) -> BTreeMap<PathBuf, (u64, Vec<u8>)> {
    let files = ["bin/treasury", "plan.json", "data/kill-level", "secrets/monitor.nk", "secrets/permit.key"];
    let files = files.map(|file| up.data.join(file)).into_iter();
    let files = files.chain(["limits.toml", "people.toml"].map(|file| config.join(file)));
    let seen = |file: PathBuf| {
        let inode = std::fs::symlink_metadata(&file).unwrap().ino();
        let bytes = std::fs::read_link(&file).map(|target| target.display().to_string().into_bytes());
        let bytes = bytes.or_else(|_| std::fs::read(&file)).unwrap();
        (file, (inode, bytes))
    };
    files.map(seen).collect()
}

#[test]
fn a_process_that_turned_hostile_changes_no_gate_reads_no_key_of_others_and_ends_nobody() {
    let (data, config) = (fresh_folder("sandbox"), fresh_folder("sandbox-config"));
    for file in std::fs::read_dir(common::config()).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), config.join(file.file_name())).unwrap();
    }
    let up = Up::start_with(&data, &config);
    let program = data.join("hostile");
    let own = std::env::current_exe().unwrap();
    if std::fs::hard_link(&own, &program).is_err() {
        std::fs::copy(&own, &program).unwrap();
    }
    let plan: Plan = serde_json::from_slice(&std::fs::read(data.join("plan.json")).unwrap()).unwrap();
    let processes = up.processes();
    assert_eq!(up.ask(&["signal", "BUY", "BTCUSDT", "--notional-usd", "20"])["ok"], true);
    wait_until_blocking(Duration::from_secs(30), "the first anchors and the desk's journal", || {
        ["data/audit-anchors.jsonl", "data/paper/paper.journal"].iter().all(|file| data.join(file).is_file())
    });
    let before = state(&up, &config);
    let started = |agent: PlannedAgent| (agent.name, agent.launch.unwrap().env);
    let mut parts: Vec<(String, BTreeMap<String, String>)> = plan.agents.into_iter().map(started).collect();
    parts.retain(|(name, _)| !["dexter", "launchpad_governor", "reflector", "jarvis_x"].contains(&name.as_str()));
    // The supervisor's environment is in no file: what its sandbox is made of is.
    let mut env = parts[0].1.clone();
    env.insert("SWARM_PLAN".to_owned(), data.join("plan.json").display().to_string());
    env.insert("SWARM_NKEY_FILE".to_owned(), data.join("secrets/supervisor.nk").display().to_string());
    env.remove("SWARM_PERMIT_KEY_FILE");
    parts.push(("supervisor".to_owned(), env));
    for (name, env) in parts {
        play(&Part {
            name,
            env,
            data: data.clone(),
            config: config.clone(),
            program: program.clone(),
            supervisor_pid: processes["supervisor"],
            treasury_pid: processes["treasury"],
        });
    }
    assert_eq!(state(&up, &config), before);
    assert!(!config.join("planted.toml").exists());
    assert!(processes.values().all(|pid| is_alive(*pid)), "{processes:?}");
}

#[test]
fn behind_wrappers_processes_are_in_the_same_sandboxes() {
    let (data, folder) = (fresh_folder("sandbox"), fresh_folder("sandbox-wrappers"));
    for spec in swarm::processes() {
        let (real, wrapper) = (folder.join(format!("real/{}", spec.name)), folder.join(spec.name));
        std::fs::create_dir_all(folder.join("real")).unwrap();
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_swarm"), &real).unwrap();
        std::fs::write(&wrapper, format!("#!/bin/sh\nexport WRAPPED=1\nexec '{}'\n", real.display())).unwrap();
        std::fs::set_permissions(&wrapper, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let mut command = common::up_command(&data, &common::config());
    command.arg("--programs").arg(&folder);
    let up = Up::of(&data, command);
    assert_eq!(up.ask(&["signal", "BUY", "BTCUSDT", "--notional-usd", "20"])["ok"], true);
    wait_until_blocking(Duration::from_secs(30), "a fill", || up.ask(&["positions"])["fills"].as_u64() > Some(0));
    for (name, pid) in up.processes() {
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap();
        let is_wrapped = String::from_utf8_lossy(&environment).contains("WRAPPED=1");
        assert_eq!(is_restricted(pid), is_wrapped, "{name}");
        assert_eq!(is_wrapped, !SERVERS.contains(&name.as_str()), "{name}");
    }
}

#[test]
fn every_process_of_a_swarm_is_in_a_sandbox_and_servers_are_not() {
    let up = Up::start(&fresh_folder("sandbox"));
    let status = up.ask(&["status"]);
    let lacks: BTreeSet<String> = status["agents"]
        .as_array()
        .into_iter()
        .flatten()
        .flat_map(|agent| agent["lacks"].as_array().into_iter().flatten().map(Value::to_string))
        .filter(|lack| lack.contains("sandbox"))
        .collect();
    assert_eq!(lacks, BTreeSet::new(), "a machine that enforces less says so");
    for (name, pid) in up.processes() {
        assert_eq!(is_restricted(pid), !SERVERS.contains(&name.as_str()), "{name}");
    }
    assert_eq!(pid_of(&status["supervisor_pid"]), up.processes()["supervisor"]);
}
