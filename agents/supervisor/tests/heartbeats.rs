//! Heartbeats against a real NATS and a Postgres that stops answering: agents that live must not look hung because the
//! database does.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a failed step is a failed test

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bus::{Bus, BusConfig};
use domain::ids::BootId;
use domain::message::{Envelope, Heartbeat, Payload};
use domain::subject::Subject;
use domain::time::Clock;
use ed25519_dalek::SigningKey;
use runtime::clock::SystemClock;
use runtime::{Agent, CancellationToken, ProcessConfig, RunError};
use serde_json::Value;
use store::migrate::{RoleSpec, ensure_roles, migrate};
use supervisor::config::Config;
use supervisor::lifecycle::{Launch, Places, Plan, PlannedAgent, Settings};
use supervisor::{NAME, Supervisor};
use testkit::build;
use testkit::link::Link;
use testkit::servers::{self, TestNats};
use testkit::wait::{wait_for, wait_until};
use tokio::task::JoinHandle;

/// Below the time after which the first of nine agents would be heard through a queue of hanging transactions.
const BOUND: Duration = Duration::from_secs(20);
/// Whose clock is an hour fast.
const FAST: &str = "c";
const AGENTS: [&str; 9] = ["a", "b", "c", "d", "e", "f", "g", "h", "i"];

/// A program that lives until it is told to end.
fn plan(folder: &Path) -> Plan {
    let program = folder.join("agent.sh");
    std::fs::write(&program, "#!/bin/sh\nexec sleep 300\n").unwrap();
    std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
    let launch = Launch { program, env: BTreeMap::new(), log: folder.join("log") };
    let planned = |name: &&str| PlannedAgent {
        name: (*name).to_owned(),
        launch: Some(launch.clone()),
        max_concurrent: 8,
        takes_tasks: false,
    };
    Plan { agents: AGENTS.iter().map(planned).collect(), run_dir: folder.to_owned() }
}

/// The settings that ship, with one process's for each of these.
fn settings() -> Settings {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../config/agents.toml");
    let text = std::fs::read_to_string(file).unwrap();
    let (head, _) = text.split_once("[agent.").unwrap();
    let parts = AGENTS.map(|name| {
        format!(
            "[agent.{name}]\nprofile = \"thin\"\ncritical = false\nidle_only = false\nafter = []\ncapabilities = []\n"
        )
    });
    Settings::parse(&format!("{head}{}", parts.concat()), &AGENTS.map(str::to_owned)).unwrap()
}

struct House {
    _nats: TestNats,
    bus: Bus,
    link: Link,
    folder: PathBuf,
    stop: CancellationToken,
    task: JoinHandle<Result<(), RunError>>,
}

fn house() -> rails::limits::Limits {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../config/limits.toml");
    rails::limits::Limits::parse(&std::fs::read_to_string(file).unwrap()).unwrap()
}

impl House {
    async fn new() -> Self {
        let nats = tokio::task::spawn_blocking(servers::fresh_nats).await.unwrap();
        let postgres = tokio::task::spawn_blocking(servers::postgres).await.unwrap();
        let database = postgres.empty_database().await;
        migrate(&database.admin_url()).await.unwrap();
        let role = RoleSpec { name: NAME, password: "test", grants: store::grants::SUPERVISOR };
        ensure_roles(&database.admin_url(), &[role]).await.unwrap();
        let (link, database) = database.behind_link().await;
        let config = BusConfig { url: nats.url(), name: "test".into(), ..BusConfig::default() };
        let (bus, _events) = Bus::connect(config).await.unwrap();
        bus::streams::apply(&bus, &[Supervisor::SPEC]).await.unwrap();
        let folder = servers::fresh_folder("heartbeats");
        let vars = [
            ("SWARM_NATS_URL", nats.url()),
            ("SWARM_PG_URL", database.url_as(NAME)),
            ("SWARM_RUN_DIR", folder.display().to_string()),
            ("SWARM_DATA_DIR", folder.display().to_string()),
        ];
        let vars = vars.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let (config, faults) = ProcessConfig::check(&vars, true);
        assert!(faults.0.is_empty(), "{faults}");
        let own = Config {
            house: house(),
            plan: plan(&folder),
            agents: settings(),
            anchor_key: SigningKey::from_bytes(&[7; 32]),
            old_anchor_keys: Vec::new(),
        };
        let stop = CancellationToken::new();
        let task = tokio::spawn(runtime::run(Supervisor::new(own, &folder), config, stop.clone()));
        let house = Self { _nats: nats, bus, link, folder, stop, task };
        wait_until(BOUND, "nine processes", || async {
            house.agents().await.iter().filter(|agent| agent["pid"].is_number()).count() == AGENTS.len()
        })
        .await;
        house
    }

    /// What the supervisor says of its agents; it needs no store for that.
    async fn agents(&self) -> Vec<Value> {
        let Ok(answer) = self.bus.client().request("swarm.agents", "".into()).await else { return Vec::new() };
        let answer: Value = serde_json::from_slice(&answer.payload).unwrap();
        answer["result"].as_array().cloned().unwrap_or_default()
    }

    /// One heartbeat of every agent.
    async fn beat(&self, progress: u64) {
        for agent in self.agents().await {
            let beat = Heartbeat {
                agent: agent["agent"].as_str().unwrap().to_owned(),
                boot_id: BootId(agent["boot_id"].as_str().unwrap().parse().unwrap()),
                pid: u32::try_from(agent["pid"].as_u64().unwrap()).unwrap(),
                progress,
                busy: false,
                oldest_in_flight_ms: 0,
                rss_bytes: 0,
                queue_depth: 0,
                dependencies: BTreeMap::new(),
                in_hand: vec![],
                lacks: vec![],
                draining: false,
                unready: vec![],
                held: false,
                handled: progress,
                failed: 0,
            };
            let name = format!("{} {progress}", beat.agent);
            let made_at = SystemClock.now().plus_ms(if beat.agent == FAST { 3_600_000 } else { 0 });
            let envelope = Envelope {
                header: build::root_header(&name, &beat.agent, made_at),
                subject: Subject::heartbeat(agent["agent"].as_str().unwrap()),
                payload: Payload::Heartbeat(beat),
            };
            self.bus.publish_latest(&envelope).await.unwrap();
        }
    }

    async fn heard(&self, progress: u64) -> usize {
        let is_heard = |agent: &&Value| agent["verdict"] == "healthy" && agent["progress"] == progress;
        self.agents().await.iter().filter(is_heard).count()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn agents_are_heard_while_the_store_hangs_and_none_is_restarted() {
    let house = House::new().await;
    house.beat(1).await;
    wait_until(BOUND, "all heard", || async { house.heard(1).await == AGENTS.len() }).await;
    house.link.hold();
    house.beat(2).await;
    wait_until(BOUND, "all heard while the store hangs", || async { house.heard(2).await == AGENTS.len() }).await;
    let restarts: Vec<_> = house.agents().await.iter().map(|agent| agent["restarts"].clone()).collect();
    assert_eq!(restarts, vec![Value::from(0); AGENTS.len()]);
    house.link.pass();
    house.stop.cancel();
    let ended = tokio::time::timeout(Duration::from_secs(30), house.task).await;
    ended.expect("drained").unwrap().unwrap();
    wait_for(BOUND, "no process left", || {
        let left = AGENTS
            .iter()
            .any(|name| supervisor::lifecycle::is_running(&Places::new(&house.folder, &house.folder), name));
        async move { (!left).then_some(()) }
    })
    .await;
}
