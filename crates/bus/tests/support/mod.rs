//! A real `nats-server` per test, with users and rights.

use std::time::Duration;

use bus::permissions::{NatsUser, Permissions, ServerSettings, inbox_prefix, permissions_of_admin, server_config};
use bus::{Bus, BusConfig, BusEvent};
use domain::agent::{AgentSpec, USUAL_LIMITS};
use domain::subject::Route;
use testkit::servers::{TestNats, fresh_folder, fresh_nats_with};
use tokio::sync::mpsc::Receiver;

#[allow(dead_code, reason = "each test binary uses its own part of this module")]
/// How long anything may take to happen.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// A server with the users it was started with; it stops when dropped.
pub struct Server {
    nats: TestNats,
    seeds: Vec<(String, String)>,
}

impl Server {
    /// Starts one that knows the named users and `admin`.
    pub fn start(users: &[(&str, Permissions)]) -> Self {
        let mut seeds = Vec::new();
        let mut listed = Vec::new();
        for (name, permissions) in users.iter().cloned().chain([("admin", permissions_of_admin())]) {
            let key = nkeys::KeyPair::new_user();
            seeds.push((name.to_owned(), key.seed().unwrap()));
            listed.push(NatsUser { name: name.to_owned(), public_key: key.public_key(), permissions });
        }
        // The port is that of its command line.
        let settings =
            ServerSettings { sync_always: false, ..ServerSettings::new(0, fresh_folder("bus").join("jetstream")) };
        Self { nats: fresh_nats_with(&server_config(&listed, &settings)), seeds }
    }

    /// Where clients connect.
    #[allow(dead_code, reason = "each test binary uses its own part of this module")]
    pub fn url(&self) -> String {
        self.nats.url()
    }

    /// Connects as one of the users.
    pub async fn bus(&self, name: &str) -> (Bus, Receiver<BusEvent>) {
        let seed = self.seeds.iter().find(|(n, _)| n == name).map(|(_, seed)| seed.clone());
        let config = BusConfig {
            url: self.nats.url(),
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
