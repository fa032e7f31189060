//! Servers, a real supervisor in a process of its own, and fifty processes that it starts, or that somebody else does.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};

use bus::{Bus, BusConfig};
use domain::person::{Act, PersonAct};
use domain::time::Clock;
use ed25519_dalek::SigningKey;
use rails::signature::sign_act;
use runtime::Agent;
use runtime::clock::{SystemClock, new_id};
use serde_json::Value;
use store::Db;
use store::approvals::Approver;
use store::migrate::{RoleSpec, ensure_roles, migrate};
use supervisor::lifecycle::{Launch, Plan, PlannedAgent};
use supervisor::{NAME, Supervisor};
use testkit::servers::{self, TestDatabase, TestNats};
use tokio::time::{Duration, Instant};

use crate::Trouble;
use crate::child::NAMES;

/// Whose signature counts.
const PERSON: &str = "operator";
/// How long all of them may take to be well.
const WELL_WITHIN: Duration = Duration::from_secs(120);

/// Who starts the processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// The supervisor.
    Spawn,
    /// Somebody else, who starts again whatever ended.
    External,
}

/// Everything that runs.
pub struct Stage {
    nats: TestNats,
    database: TestDatabase,
    bus: Bus,
    key: SigningKey,
    /// Where the processes are steered.
    pub folder: PathBuf,
    config_dir: PathBuf,
    mode: Mode,
    supervisor: Option<Child>,
    has_started: bool,
}

impl std::fmt::Debug for Stage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stage").field("folder", &self.folder).field("mode", &self.mode).finish_non_exhaustive()
    }
}

/// What is seen of one process at one look.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Seen {
    /// The verdict.
    pub verdict: String,
    /// The start of it.
    pub boot_id: String,
    /// Its process.
    pub pid: Option<u32>,
    /// Restarts in the last 24 hours.
    pub restarts: u64,
    /// Restarts by kind.
    pub kinds: BTreeMap<String, u64>,
}

impl Seen {
    /// Healthy or busy.
    #[must_use]
    pub fn is_well(&self) -> bool {
        matches!(self.verdict.as_str(), "healthy" | "busy")
    }
}

fn told(error: impl std::fmt::Display) -> Trouble {
    error.to_string()
}

impl Stage {
    /// Starts servers and supervisor.
    ///
    /// # Errors
    /// What did not start.
    pub async fn open(config_dir: &Path, mode: Mode) -> Result<Self, Trouble> {
        let nats = tokio::task::spawn_blocking(servers::fresh_nats).await.map_err(told)?;
        let postgres = tokio::task::spawn_blocking(servers::postgres).await.map_err(told)?;
        let database = postgres.empty_database().await;
        migrate(&database.admin_url()).await.map_err(told)?;
        let role = RoleSpec { name: NAME, password: "test", grants: store::grants::SUPERVISOR };
        ensure_roles(&database.admin_url(), &[role]).await.map_err(told)?;
        let key = SigningKey::from_bytes(&[9; 32]);
        let db = Db::connect(&database.admin_url(), "heal").await.map_err(told)?;
        let mut unit = db.begin().await.map_err(told)?;
        let public_key = hex::encode(key.verifying_key().to_bytes());
        let approver = Approver { person_id: PERSON.into(), handle: None, public_key, active: true };
        store::approvals::upsert_approver(&mut unit, &approver).await.map_err(told)?;
        unit.commit().await.map_err(told)?;
        let config = BusConfig { url: nats.url(), name: "heal".into(), ..BusConfig::default() };
        let (bus, _events) = Bus::connect(config).await.map_err(told)?;
        bus::streams::apply(&bus, &[Supervisor::SPEC]).await.map_err(told)?;
        let folder = servers::fresh_folder("heal");
        let own_config = folder.join("config");
        std::fs::create_dir_all(&own_config).map_err(told)?;
        std::fs::copy(config_dir.join("limits.toml"), own_config.join("limits.toml")).map_err(told)?;
        let agents = settings(&config_dir.join("agents.toml"))?;
        std::fs::write(own_config.join("agents.toml"), agents).map_err(told)?;
        let mut stage = Self {
            nats,
            database,
            bus,
            key,
            folder,
            config_dir: own_config,
            mode,
            supervisor: None,
            has_started: false,
        };
        stage.write_plan()?;
        stage.start_supervisor()?;
        Ok(stage)
    }

    /// What one process is told.
    #[must_use]
    pub fn env(&self, name: &str) -> BTreeMap<String, String> {
        let folder = self.folder.display().to_string();
        let mut env = BTreeMap::from(
            [
                ("HEAL_AGENT", name.to_owned()),
                ("HEAL_DIR", folder.clone()),
                ("SWARM_NATS_URL", self.nats.url()),
                ("SWARM_HTTP_PORT", "0".to_owned()),
                ("SWARM_DATA_DIR", folder.clone()),
                ("SWARM_CONFIG_DIR", self.config_dir.display().to_string()),
                ("SWARM_RUN_DIR", folder),
                ("RUST_LOG", "warn".to_owned()),
            ]
            .map(|(name, value)| (name.to_owned(), value)),
        );
        if self.mode == Mode::External {
            env.insert("SWARM_SUPERVISED".to_owned(), "external".to_owned());
        }
        env
    }

    fn write_plan(&self) -> Result<(), Trouble> {
        let program = std::env::current_exe().map_err(told)?;
        let planned = |name: &&str| {
            let launch =
                Launch { program: program.clone(), env: self.env(name), log: self.folder.join(format!("{name}.log")) };
            let launch = (self.mode == Mode::Spawn).then_some(launch);
            PlannedAgent { name: (*name).to_owned(), launch, max_concurrent: 8, takes_tasks: false }
        };
        let plan = Plan { agents: NAMES.iter().map(planned).collect(), run_dir: self.folder.clone() };
        std::fs::write(self.folder.join("plan.json"), serde_json::to_string(&plan).map_err(told)?).map_err(told)
    }

    /// Starts the supervisor's process; the second time it is one that follows a dead one.
    ///
    /// # Errors
    /// What the system says.
    pub fn start_supervisor(&mut self) -> Result<(), Trouble> {
        let text = |path: PathBuf| path.display().to_string();
        let key_file = self.folder.join("anchor.key");
        std::fs::write(&key_file, hex::encode([7; 32])).map_err(told)?;
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.folder.join("supervisor.log"));
        let log = log.map_err(told)?;
        let mut command = Command::new(std::env::current_exe().map_err(told)?);
        command
            .arg("supervisor")
            .env("SWARM_NATS_URL", self.nats.url())
            .env("SWARM_PG_URL", self.database.url_as(NAME))
            .env("SWARM_HTTP_PORT", "0")
            .env("SWARM_DATA_DIR", &self.folder)
            .env("SWARM_CONFIG_DIR", &self.config_dir)
            .env("SWARM_RUN_DIR", &self.folder)
            .env("SWARM_ANCHOR_KEY_FILE", text(key_file))
            .env("SWARM_PLAN", text(self.folder.join("plan.json")))
            .env("SWARM_BOOT_ID", new_id(&SystemClock).to_string())
            .env("RUST_LOG", "info")
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(told)?)
            .stderr(log);
        if std::mem::replace(&mut self.has_started, true) {
            command.env("SWARM_RESUMED", "1");
        }
        self.supervisor = Some(command.spawn().map_err(told)?);
        Ok(())
    }

    /// SIGKILL to the supervisor.
    pub fn kill_supervisor(&mut self) {
        if let Some(mut child) = self.supervisor.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// What the supervisor says of every process; empty while it does not answer.
    pub async fn look(&self) -> BTreeMap<String, Seen> {
        let asked = tokio::time::timeout(Duration::from_secs(2), self.bus.client().request("swarm.agents", "".into()));
        let Ok(Ok(answer)) = asked.await else { return BTreeMap::new() };
        let answer: Value = serde_json::from_slice(&answer.payload).unwrap_or_default();
        let rows = answer["result"].as_array().cloned().unwrap_or_default();
        rows.iter().map(|row| (text(&row["agent"]), seen(row))).collect()
    }

    /// Waits until every process is well; gives what is seen of them then.
    ///
    /// # Errors
    /// They are not in time.
    pub async fn all_well(&self) -> Result<BTreeMap<String, Seen>, Trouble> {
        let until = Instant::now() + WELL_WITHIN;
        loop {
            let seen = self.look().await;
            if seen.len() == NAMES.len() && seen.values().all(Seen::is_well) {
                return Ok(seen);
            }
            if Instant::now() > until {
                let ill: Vec<String> = seen
                    .iter()
                    .filter(|(_, seen)| !seen.is_well())
                    .map(|(name, seen)| format!("{name} {}", seen.verdict))
                    .collect();
                let log = self.folder.join("supervisor.log");
                return Err(format!(
                    "not all well within {} s: {} ({})",
                    WELL_WITHIN.as_secs(),
                    ill.join(", "),
                    log.display()
                ));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// A person's signed word about a process.
    ///
    /// # Errors
    /// The supervisor says no, or nothing.
    pub async fn say(&self, subject: &'static str, what: Act) -> Result<(), Trouble> {
        let act = PersonAct {
            schema: PersonAct::SCHEMA.to_owned(),
            person_id: PERSON.to_owned(),
            what,
            reason: "proof".to_owned(),
            signed_at: SystemClock.now(),
        };
        let signed = sign_act(&self.key, act).map_err(told)?;
        let body = serde_json::to_vec(&signed).map_err(told)?;
        let answer = self.bus.client().request(subject, body.into()).await.map_err(told)?;
        let answer: Value = serde_json::from_slice(&answer.payload).map_err(told)?;
        if answer["ok"] == true { Ok(()) } else { Err(answer.to_string()) }
    }

    /// Ends the supervisor by SIGTERM: it drains what it started.
    pub fn close(&mut self) {
        if let Some(mut child) = self.supervisor.take() {
            let pid = nix::unistd::Pid::from_raw(child.id().cast_signed());
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
            let _ = child.wait();
        }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.close();
    }
}

/// The shipped settings, with a thin profile for each of these processes.
fn settings(file: &Path) -> Result<String, Trouble> {
    let text = std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
    let (head, _) = text.split_once("[agent.").ok_or("agents.toml has no agent")?;
    let parts = NAMES.iter().map(|name| {
        format!(
            "[agent.{name}]\nprofile = \"thin\"\ncritical = true\nidle_only = false\nafter = []\ncapabilities = []\n"
        )
    });
    Ok(format!("{head}{}", parts.collect::<String>()))
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn seen(row: &Value) -> Seen {
    let kinds = row["restarts_by_kind"].as_object().into_iter().flatten();
    Seen {
        verdict: text(&row["verdict"]),
        boot_id: text(&row["boot_id"]),
        pid: row["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok()),
        restarts: row["restarts"].as_u64().unwrap_or(0),
        kinds: kinds.map(|(kind, count)| (kind.clone(), count.as_u64().unwrap_or(0))).collect(),
    }
}

/// The supervisor's process.
#[must_use]
pub fn supervise() -> ExitCode {
    supervisor::process::main()
}
