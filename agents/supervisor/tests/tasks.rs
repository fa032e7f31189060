//! Tasks over a real NATS, Postgres and Valkey: routed, handed back, routed anew when an agent dies with one in its hands.
//! The agents are this test's own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a failed step is a failed test

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bus::codec::Arrival;
use bus::{Bus, BusConfig, Delivery, Puller};
use domain::agent::{AgentSpec, USUAL_LIMITS};
use domain::ids::BootId;
use domain::message::{Envelope, Heartbeat, Message, Payload, Task};
use domain::subject::{Route, Stream, Subject};
use domain::time::Clock;
use ed25519_dalek::SigningKey;
use runtime::clock::{SystemClock, new_id};
use runtime::{Agent, CancellationToken, ProcessConfig, RunError};
use serde_json::{Value, json};
use store::migrate::{RoleSpec, ensure_roles, migrate};
use supervisor::config::Config;
use supervisor::lifecycle::{Plan, PlannedAgent, Settings};
use supervisor::roster::{REGISTRY, Roster};
use supervisor::{NAME, Supervisor};
use testkit::servers::{self, TestNats, TestValkey};
use testkit::wait::wait_until;
use tokio::task::JoinHandle;

const BOUND: Duration = Duration::from_secs(20);
/// Who is there: `a` and `b` declare `look`, `a` alone `stare`, and `c`, which takes no tasks, `secret`.
const AGENTS: [(&str, &str, bool); 3] =
    [("a", "[\"look\", \"stare\"]", true), ("b", "[\"look\"]", true), ("c", "[\"secret\"]", false)];

const fn spec(name: &'static str) -> AgentSpec {
    AgentSpec {
        name,
        job: "a sample",
        consumes: &[Route::AgentTask],
        listens: &[],
        listens_with_store: &[],
        emits: &[Route::Task],
        timers: &[],
        tables: &[],
        services: &[],
        asks: &[],
        administers_streams: false,
        limits: USUAL_LIMITS,
        lacks: &[],
    }
}

fn settings() -> Settings {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../config/agents.toml");
    let text = std::fs::read_to_string(file).unwrap();
    let (head, _) = text.split_once("[agent.").unwrap();
    let parts = AGENTS.map(|(name, capabilities, _)| {
        format!(
            "[agent.{name}]\nprofile = \"thin\"\ncritical = false\nidle_only = false\nafter = []\ncapabilities = {capabilities}\n"
        )
    });
    let names: Vec<String> = AGENTS.iter().map(|(name, ..)| (*name).to_owned()).collect();
    Settings::parse(&format!("{head}{}", parts.concat()), &names).unwrap()
}

struct House {
    _nats: TestNats,
    valkey: TestValkey,
    bus: Bus,
    pullers: BTreeMap<&'static str, tokio::sync::Mutex<Puller>>,
    /// Who sends heartbeats.
    alive: Arc<Mutex<Vec<&'static str>>>,
    stop: CancellationToken,
    supervisor: JoinHandle<Result<(), RunError>>,
    beats: JoinHandle<()>,
}

impl House {
    async fn new(alive: &[&'static str]) -> Self {
        let nats = tokio::task::spawn_blocking(servers::fresh_nats).await.unwrap();
        let valkey = tokio::task::spawn_blocking(servers::fresh_valkey).await.unwrap();
        let postgres = tokio::task::spawn_blocking(servers::postgres).await.unwrap();
        let database = postgres.empty_database().await;
        migrate(&database.admin_url()).await.unwrap();
        let role = RoleSpec { name: NAME, password: "test", grants: store::grants::SUPERVISOR };
        ensure_roles(&database.admin_url(), &[role]).await.unwrap();
        let config = BusConfig { url: nats.url(), name: "test".into(), ..BusConfig::default() };
        let (bus, _events) = Bus::connect(config).await.unwrap();
        bus::streams::apply(&bus, &[Supervisor::SPEC, spec("a"), spec("b")]).await.unwrap();
        let folder = servers::fresh_folder("tasks");
        let vars = [
            ("SWARM_NATS_URL", nats.url()),
            ("SWARM_PG_URL", database.url_as(NAME)),
            ("SWARM_RUN_DIR", folder.display().to_string()),
            ("SWARM_DATA_DIR", folder.display().to_string()),
        ];
        let vars = vars.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let (config, faults) = ProcessConfig::check(&vars, true);
        assert!(faults.0.is_empty(), "{faults}");
        let planned = |(name, _, takes_tasks): (&str, &str, bool)| PlannedAgent {
            name: name.to_owned(),
            launch: None,
            max_concurrent: 8,
            takes_tasks,
        };
        let limits = concat!(env!("CARGO_MANIFEST_DIR"), "/../../config/limits.toml");
        let own = Config {
            house: rails::limits::Limits::parse(&std::fs::read_to_string(limits).unwrap()).unwrap(),
            plan: Plan { agents: AGENTS.map(planned).into(), run_dir: folder.clone() },
            agents: settings(),
            anchor_key: SigningKey::from_bytes(&[7; 32]),
            old_anchor_keys: Vec::new(),
        };
        let stop = CancellationToken::new();
        let supervisor = Supervisor::new(own, &folder).with_roster(Roster::open(Some(&valkey.url())));
        let supervisor = tokio::spawn(runtime::run(supervisor, config, stop.clone()));
        let alive = Arc::new(Mutex::new(alive.to_vec()));
        let beats = tokio::spawn(beat(bus.clone(), Arc::clone(&alive), stop.clone()));
        let mut pullers = BTreeMap::new();
        for agent in ["a", "b"] {
            let puller = bus.consumer(Stream::SystemLow, agent).await.unwrap();
            pullers.insert(agent, tokio::sync::Mutex::new(puller));
        }
        let house = Self { _nats: nats, valkey, bus, pullers, alive, stop, supervisor, beats };
        let wanted = house.alive.lock().unwrap().len();
        wait_until(BOUND, "who is there in Valkey", || house.active(wanted)).await;
        house
    }

    /// So many agents are active by the word of the roster.
    async fn active(&self, wanted: usize) -> bool {
        let client = redis::Client::open(self.valkey.url()).unwrap();
        let Ok(mut open) = client.get_multiplexed_async_connection().await else { return false };
        let rows: BTreeMap<String, String> =
            redis::cmd("HGETALL").arg(REGISTRY).query_async(&mut open).await.unwrap_or_default();
        rows.values().filter(|row| row.contains("\"status\":\"active\"")).count() == wanted
            && rows.len() == AGENTS.len()
    }

    /// So many are well by the word of the supervisor, which is newer than the roster.
    async fn healthy(&self, wanted: usize) -> bool {
        let Ok(answer) = self.bus.client().request("swarm.agents", "".into()).await else { return false };
        let answer: Value = serde_json::from_slice(&answer.payload).unwrap();
        answer["result"].as_array().unwrap().iter().filter(|agent| agent["verdict"] == "healthy").count() == wanted
    }

    /// Asks as a person does.
    fn ask(&self, capability: &str) -> JoinHandle<Value> {
        let (client, body) = (self.bus.client().clone(), json!({ "capability": capability }).to_string());
        tokio::spawn(async move {
            let request = async_nats::Request::new().payload(body.into()).timeout(Some(Duration::from_secs(15)));
            let answer = client.send_request("swarm.task", request).await.unwrap();
            serde_json::from_slice(&answer.payload).unwrap()
        })
    }

    /// The next task of an agent, in its hands.
    async fn take(&self, agent: &str) -> (Delivery, Envelope, Task) {
        let take = async {
            let mut puller = self.pullers[agent].lock().await;
            loop {
                if let Some(delivery) = puller.next().await.unwrap() {
                    break delivery;
                }
            }
        };
        let delivery = tokio::time::timeout(BOUND, take).await.expect("a task");
        let at =
            Arrival { stream: &delivery.stream, stream_seq: delivery.stream_seq, published_at: delivery.published_at };
        let input = bus::codec::read(&delivery.raw, &at).unwrap();
        let Payload::Task(task) = input.payload.clone() else { panic!("{input:?}") };
        (delivery, input, task)
    }

    async fn say(&self, agent: &str, input: &Envelope, message: Message) {
        let envelope = message.into_child(&input.header, agent, SystemClock.now());
        self.bus.publish(&envelope).await.unwrap();
    }

    async fn end(self) {
        self.stop.cancel();
        tokio::time::timeout(Duration::from_secs(30), self.supervisor).await.expect("drained").unwrap().unwrap();
        self.beats.await.unwrap();
    }
}

/// Heartbeats of whoever lives.
async fn beat(bus: Bus, alive: Arc<Mutex<Vec<&'static str>>>, stop: CancellationToken) {
    let boot_ids: BTreeMap<&str, BootId> = AGENTS.map(|(name, ..)| (name, BootId(new_id(&SystemClock)))).into();
    let mut ticks = runtime::grid(Duration::from_millis(500));
    let mut progress = 0;
    loop {
        tokio::select! { () = stop.cancelled() => return, _ = ticks.tick() => progress += 1 }
        let names = alive.lock().unwrap().clone();
        for agent in names {
            let beat = Heartbeat {
                agent: agent.to_owned(),
                boot_id: boot_ids[agent],
                pid: 1,
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
            let header = testkit::build::root_header(&format!("{agent} {progress}"), agent, SystemClock.now());
            let envelope = Envelope { header, subject: Subject::heartbeat(agent), payload: Payload::Heartbeat(beat) };
            bus.publish_latest(&envelope).await.unwrap();
        }
    }
}

fn said(text: &str) -> BTreeMap<String, String> {
    BTreeMap::from([("said".to_owned(), text.to_owned())])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_is_answered_handed_back_or_refused_with_a_code() {
    let house = House::new(&["a", "b", "c"]).await;
    let asked = house.ask("look");
    let (delivery, input, task) = house.take("a").await;
    assert_eq!((task.capability.as_str(), task.hops), ("look", 1));
    house.say("a", &input, task.done(Ok(said("I see")))).await;
    delivery.ack().await.unwrap();
    let answer = asked.await.unwrap();
    assert_eq!(
        (&answer["ok"], &answer["agent"], &answer["results"]["said"]),
        (&json!(true), &json!("a"), &json!("I see"))
    );

    let asked = house.ask("look");
    let (delivery, input, task) = house.take("a").await;
    house.say("a", &input, task.back(input.header.valid_until)).await;
    delivery.ack().await.unwrap();
    let (delivery, input, task) = house.take("b").await;
    assert_eq!(task.hops, 2);
    house.say("b", &input, task.done(Err("too dark".to_owned()))).await;
    delivery.ack().await.unwrap();
    let answer = asked.await.unwrap();
    assert_eq!((&answer["code"], &answer["detail"]), (&json!("TASK_FAILED"), &json!("b: too dark")));

    let mut alerts = house.bus.subscribe(&Route::Alert.filter()).await.unwrap();
    let asked = house.ask("stare");
    let (delivery, input, task) = house.take("a").await;
    house.say("a", &input, task.back(input.header.valid_until)).await;
    delivery.ack().await.unwrap();
    assert_eq!(asked.await.unwrap()["code"], "NOBODY_WELL", "nobody else can");
    let alert = tokio::time::timeout(BOUND, alerts.next()).await.expect("an alert").unwrap();
    assert!(String::from_utf8_lossy(&alert.payload).contains("stare"), "a person is told");

    for (capability, code) in
        [("secret", "NO_SUCH_CAPABILITY"), ("sing", "NO_SUCH_CAPABILITY"), ("order", "NOT_A_TASK")]
    {
        assert_eq!(house.ask(capability).await.unwrap()["code"], code, "{capability}");
    }
    house.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_in_the_hands_of_an_agent_that_dies_goes_to_another_or_is_delivered_again() {
    let house = House::new(&["a", "b"]).await;
    let asked = house.ask("look");
    let (_in_hand, _, task) = house.take("a").await;
    house.alive.lock().unwrap().retain(|name| *name != "a");
    let (delivery, input, anew) = house.take("b").await;
    assert_eq!((anew.task_id, anew.hops), (task.task_id, 2));
    house.say("b", &input, anew.done(Ok(said("instead of a")))).await;
    delivery.ack().await.unwrap();
    let answer = asked.await.unwrap();
    assert_eq!((&answer["agent"], &answer["results"]["said"]), (&json!("b"), &json!("instead of a")));

    // Nobody else can stare: it is delivered to the same agent again, which lives once more.
    house.alive.lock().unwrap().push("a");
    wait_until(BOUND, "both again", || house.healthy(2)).await;
    // What came to it before is given to it first.
    let (late, ..) = house.take("a").await;
    late.ack().await.unwrap();
    let mut asked = house.ask("stare");
    let _in_hand = tokio::select! { took = house.take("a") => took, answer = &mut asked => panic!("{answer:?}") };
    let (delivery, input, again) = house.take("a").await;
    house.say("a", &input, again.done(Ok(said("a second time")))).await;
    delivery.ack().await.unwrap();
    assert_eq!(asked.await.unwrap()["results"]["said"], "a second time");

    // It dies with a task in its hands and does not come back.
    let mut alerts = house.bus.subscribe(&Route::Alert.filter()).await.unwrap();
    let asked = house.ask("stare");
    let (_in_hand, ..) = house.take("a").await;
    house.alive.lock().unwrap().clear();
    assert_eq!(asked.await.unwrap()["code"], "NOBODY_WELL");
    let alert = tokio::time::timeout(BOUND, alerts.next()).await.expect("an alert").unwrap();
    assert!(String::from_utf8_lossy(&alert.payload).contains("stare"), "a person is told");
    house.end().await;
}
