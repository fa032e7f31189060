//! A real `nats-server` per test: free port, folder of its own, killed on drop.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use bus::permissions::{NatsUser, Permissions, ServerSettings, inbox_prefix, permissions_of_admin, server_config};
use bus::{Bus, BusConfig, BusEvent};
use domain::agent::{AgentSpec, USUAL_LIMITS};
use domain::subject::Route;
use tokio::sync::mpsc::Receiver;
use tokio::time::Instant;

#[allow(dead_code, reason = "each test binary uses its own part of this module")]
/// How long anything may take to happen.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// A server with the users it was started with.
pub struct Server {
    child: Child,
    url: String,
    seeds: Vec<(String, String)>,
    _folder: tempfile::TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn program() -> PathBuf {
    let venv = std::env::var_os("SWARM_VENV")
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../.local/venv")), PathBuf::from);
    let program = venv.join("bin/nats-server");
    assert!(program.exists(), "{} is missing: run `make setup`, or set SWARM_VENV", program.display());
    program
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Server {
    /// Starts one that knows the named users and `admin`.
    pub async fn start(users: &[(&str, Permissions)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut seeds = Vec::new();
        let mut listed = Vec::new();
        for (name, permissions) in users.iter().cloned().chain([("admin", permissions_of_admin())]) {
            let key = nkeys::KeyPair::new_user();
            seeds.push((name.to_owned(), key.seed().unwrap()));
            listed.push(NatsUser { name: name.to_owned(), public_key: key.public_key(), permissions });
        }
        let port = free_port();
        let settings =
            ServerSettings { sync_always: false, ..ServerSettings::new(port, folder.path().join("jetstream")) };
        let config = folder.path().join("nats.conf");
        std::fs::write(&config, server_config(&listed, &settings)).unwrap();
        let log = std::fs::File::create(folder.path().join("nats.log")).unwrap();
        let child = Command::new(program())
            .arg("-c")
            .arg(&config)
            .stdout(Stdio::null())
            .stderr(Stdio::from(log))
            .spawn()
            .unwrap();
        let server = Self { child, url: format!("nats://127.0.0.1:{port}"), seeds, _folder: folder };
        let started = Instant::now();
        while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            let log = std::fs::read_to_string(server._folder.path().join("nats.log")).unwrap_or_default();
            assert!(started.elapsed() < PATIENCE, "nats-server did not start:\n{log}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        server
    }

    /// Where clients connect.
    #[allow(dead_code, reason = "each test binary uses its own part of this module")]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Connects as one of the users.
    pub async fn bus(&self, name: &str) -> (Bus, Receiver<BusEvent>) {
        let seed = self.seeds.iter().find(|(n, _)| n == name).map(|(_, seed)| seed.clone());
        let config = BusConfig {
            url: self.url.clone(),
            name: name.to_owned(),
            nkey_seed: seed,
            inbox_prefix: Some(inbox_prefix(name)),
        };
        Bus::connect(config).await.unwrap()
    }
}

/// A spec with these routes.
pub const fn agent(
    name: &'static str,
    consumes: &'static [Route],
    listens: &'static [Route],
    emits: &'static [Route],
) -> AgentSpec {
    AgentSpec {
        name,
        job: "a sample",
        consumes,
        listens,
        listens_with_store: &[],
        emits,
        timers: &[],
        tables: &[],
        services: &[],
        asks: &[],
        administers_streams: false,
        limits: USUAL_LIMITS,
        lacks: &[],
    }
}

/// The agents of the tests.
pub fn agents() -> [AgentSpec; 3] {
    [
        agent("buy_bot", &[Route::Signal, Route::UserSignal, Route::Idea], &[Route::Tick], &[Route::Intent]),
        agent("treasury", &[Route::Intent, Route::Report], &[], &[Route::CexPermit, Route::Decision]),
        AgentSpec {
            services: &["swarm.status"],
            asks: &[],
            administers_streams: true,
            ..agent(
                "supervisor",
                &[Route::ApprovalRequested],
                &[Route::Heartbeat],
                &[Route::Command, Route::HaltChanged],
            )
        },
    ]
}

#[allow(dead_code, reason = "each test binary uses its own part of this module")]
/// The first fatal event within [`PATIENCE`].
pub async fn fatal(events: &mut Receiver<BusEvent>) -> String {
    let wait = async {
        while let Some(event) = events.recv().await {
            if let BusEvent::Fatal(text) = event {
                return text;
            }
        }
        panic!("the events ended");
    };
    tokio::time::timeout(PATIENCE, wait).await.expect("no fatal event")
}
