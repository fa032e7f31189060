//! A whole swarm on three nodes.

use std::time::Duration;

use bus::permissions::inbox_prefix;
use bus::{Bus, BusConfig, BusError};
use domain::ids::{CorrelationId, MessageId, UserId};
use domain::message::{Envelope, Header, Payload};
use domain::subject::{Priority, Route, Stream, Subject};
use domain::time::{Clock, UnixMs};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use runtime::clock::{SystemClock, new_id};
use serde_json::Value;
use servers::StablePorts;
use sqlx::Row;
use testkit::build;
use testkit::wait::{wait_for, wait_until};
use tokio::task::{JoinSet, block_in_place};

use crate::ELECTED_WITHIN;
use crate::swarm::{Decided, Swarm};

/// Signals sent around the death of the leader.
const SIGNALS: usize = 12;
/// Between two of them: together longer than the longest election.
const EVERY: Duration = Duration::from_millis(900);
/// Long enough for a busy stream to acknowledge it, and shorter than the supervisor's patience with a held planner.
const STALE_AFTER_MS: i64 = 6_000;
const NODES: [&str; 3] = ["nats-server-1", "nats-server-2", "nats-server-3"];

fn now() -> UnixMs {
    SystemClock.now()
}

pub async fn run() {
    let swarm = Swarm::start_with(&["--nats-nodes", "3"]).await;
    let alice = door(&swarm, "alice").await;
    let operator = door(&swarm, "operator").await;
    let mut notices = operator.subscribe("system.all.notice.low").await.unwrap();
    let first = publish(&alice, "alice", 60_000).await.unwrap();
    filled(&swarm, "alice", first).await;

    // The planner is held, so that this signal is stored but not read when the leader dies, and too old when it goes on.
    let planner = Pid::from_raw(swarm.pid("buy_bot"));
    kill(planner, Signal::SIGSTOP).unwrap();
    let stale = publish(&alice, "alice", STALE_AFTER_MS).await.unwrap();
    let stale_at = now().plus_ms(STALE_AFTER_MS);
    let leader = leader(&swarm).expect("a swarm that trades has a leader");
    let dead = swarm.pid(&leader);
    kill(Pid::from_raw(dead), Signal::SIGKILL).unwrap();
    wait_until(ELECTED_WITHIN, "the signal is stale", || async { now() > stale_at }).await;
    kill(planner, Signal::SIGCONT).unwrap();

    let sent = send_all(&alice).await;
    for signal in &sent {
        decided(&swarm, "alice", *signal).await;
    }
    let after = publish(&operator, "operator", 60_000).await.unwrap();
    filled(&swarm, "operator", after).await;

    let told = tokio::time::timeout(ELECTED_WITHIN, async {
        loop {
            let raw = notices.next().await.expect("notices");
            let at = bus::codec::Arrival { stream: "", stream_seq: 0, published_at: now() };
            let Ok(Envelope { payload: Payload::Notice(notice), header, .. }) = bus::codec::decode(&raw, &at, now())
            else {
                continue;
            };
            if notice.code == "SIGNAL_REJECTED" && header.user_id == UserId::of_handle("alice") {
                return notice.numbers["code"].clone();
            }
        }
    });
    assert_eq!(told.await.expect("alice is told"), "EXPIRED");
    each_signal_has_one_end(&swarm, &[sent, vec![first]].concat(), stale).await;
    the_dead_node_is_back(&swarm, &leader, dead).await;
    swarm.stop_but_for(&leader).await;
}

async fn door(swarm: &Swarm, handle: &str) -> Bus {
    let seed = Bus::read_seed(&swarm.data().join(format!("secrets/person-{handle}.nk"))).unwrap();
    let config = BusConfig {
        url: swarm.nats_url().to_owned(),
        name: handle.to_owned(),
        nkey_seed: Some(seed),
        inbox_prefix: Some(inbox_prefix(handle)),
    };
    assert_eq!(config.url.split(',').count(), 3, "{}", config.url);
    Bus::connect(config).await.unwrap().0
}

/// Publishes a purchase through a person's door until the stream acknowledges it or its end has come; its signal id.
async fn publish(door: &Bus, handle: &str, valid_ms: i64) -> Result<MessageId, BusError> {
    let now = now();
    let (id, user) = (new_id(&SystemClock), UserId::of_handle(handle));
    let who = (handle != "operator").then(|| handle.to_owned());
    let route = if who.is_some() { Route::UserSignal } else { Route::Signal };
    let envelope = Envelope {
        header: Header {
            message_id: MessageId(id),
            correlation_id: CorrelationId(id),
            user_id: user,
            valid_until: Some(now.plus_ms(valid_ms)),
            ..build::root_header("cluster", handle, now)
        },
        subject: Subject::Routed { route, who, priority: Priority::Critical },
        payload: Payload::TradingSignal(build::buy_signal("BTCUSDT", "20")),
    };
    let until = now.plus_ms(valid_ms);
    loop {
        // One call tries for 10 s; an election on a busy machine may take longer.
        match door.publish_encoded(&Bus::encode(&envelope), envelope.header.valid_until, &|| SystemClock.now()).await {
            Ok(_) => return Ok(MessageId::of_person(user, &id.to_string())),
            Err(BusError::PublishUnanswered { .. }) if SystemClock.now() < until => {}
            Err(error) => return Err(error),
        }
    }
}

/// Sends the signals at their pace, each held until it is acknowledged.
async fn send_all(alice: &Bus) -> Vec<MessageId> {
    let mut flights = JoinSet::new();
    let mut ticks = tokio::time::interval(EVERY);
    for _ in 0..SIGNALS {
        ticks.tick().await;
        let alice = alice.clone();
        flights.spawn(async move { publish(&alice, "alice", 60_000).await.unwrap() });
    }
    flights.join_all().await
}

async fn decided(swarm: &Swarm, handle: &str, signal: MessageId) -> Decided {
    wait_for(ELECTED_WITHIN, &format!("a decision on {signal}"), || async {
        swarm.decisions(handle).await.into_iter().find(|decision| decision.signal_id == signal.0)
    })
    .await
}

async fn filled(swarm: &Swarm, handle: &str, signal: MessageId) {
    wait_until(ELECTED_WITHIN, &format!("{handle}'s fill of {signal}"), || async {
        let decision = decided(swarm, handle, signal).await;
        assert_eq!(decision.outcome, "permitted", "{decision:?}");
        decision.posted_fills > 0
    })
    .await;
}

fn monitoring_ports(swarm: &Swarm) -> Vec<u16> {
    let ports = StablePorts::open(&swarm.data().join("ports.json"));
    NODES.iter().map(|name| ports.known(&format!("{name}_monitoring")).unwrap()).collect()
}

/// The node that leads the commands, when all that answer agree.
fn leader(swarm: &Swarm) -> Option<String> {
    let views = block_in_place(|| monitoring_ports(swarm).into_iter().filter_map(servers::view).collect::<Vec<_>>());
    let leaders: Vec<Option<String>> =
        views.into_iter().map(|view| view.streams.get(Stream::TradingCritical.name())?.leader.clone()).collect();
    let first = leaders.first()?.clone()?;
    leaders.iter().all(|leader| leader.as_ref() == Some(&first)).then_some(first)
}

async fn each_signal_has_one_end(swarm: &Swarm, signals: &[MessageId], stale: MessageId) {
    let decisions = swarm.decisions("alice").await;
    for signal in signals {
        let ends = decisions.iter().filter(|decision| decision.signal_id == signal.0).count();
        assert_eq!(ends, 1, "{signal}: {decisions:#?}");
    }
    assert_eq!(decisions.len(), signals.len(), "the stale signal {stale} was decided: {decisions:#?}");
    let counted = "SELECT (SELECT count(*) FROM policy_decisions WHERE outcome = 'permitted') AS permitted, \
                   (SELECT count(*) FROM orders) AS orders";
    let row = sqlx::query(counted).fetch_one(swarm.ledger()).await.unwrap();
    assert_eq!(row.get::<i64, _>("permitted"), row.get::<i64, _>("orders"), "one order for each permit");
    let letters = swarm.knock("admin", "letters", &[]);
    let codes: Vec<&str> = letters.iter().filter_map(|letter| letter["headers"]["swarm-code"].as_str()).collect();
    assert_eq!(codes, ["EXPIRED"], "{letters:#?}");
}

/// `swarm up` started it again, it has caught up, and the doctor says so.
async fn the_dead_node_is_back(swarm: &Swarm, leader: &str, dead: i32) {
    let doctor = || async {
        let output = tokio::process::Command::new(tests::program())
            .arg("--data-dir")
            .arg(swarm.data())
            .args(["--json", "doctor", "--config-dir"])
            .arg(swarm.data().join("../config"))
            .output()
            .await
            .unwrap();
        let found: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        let row = found.as_array().into_iter().flatten().find(|row| row["what"] == "NATS").cloned();
        row.unwrap_or_default()
    };
    wait_until(ELECTED_WITHIN, "the doctor finds three whole nodes", || async {
        let row = doctor().await;
        row["ok"] == true && row["detail"].as_str().is_some_and(|text| text.starts_with("3 nodes answer"))
    })
    .await;
    let log = std::fs::read_to_string(swarm.data().join("../up.log")).unwrap();
    assert!(log.contains(&format!("{leader} died and was started again")), "{log}");
    assert!(!std::path::Path::new(&format!("/proc/{dead}")).exists(), "{leader} is the old process");
}
