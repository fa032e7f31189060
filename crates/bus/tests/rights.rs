//! Every process's rights against a real server: what it needs works, and nothing else does.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that can't set its scene has failed"
)]

mod support;

use bus::permissions::{permissions_of, permissions_of_person};
use bus::{Bus, BusEvent, streams};
use domain::agent::AgentSpec;
use domain::subject::Stream;
use support::{Server, agent, agents, fatal};
use tokio::sync::mpsc::Receiver;

/// A service that people look through.
fn page() -> AgentSpec {
    AgentSpec { asks: &["swarm.status", "swarm.decide.web"], ..agent("page", &[], &[], &[]) }
}

async fn scene() -> Server {
    let agents = agents();
    let mut users: Vec<_> = agents.iter().map(|a| (a.name, permissions_of(a))).collect();
    users.push(("page", permissions_of(&page())));
    users.extend([("operator", permissions_of_person("operator")), ("alice", permissions_of_person("alice"))]);
    let server = Server::start(&users);
    let (admin, _) = server.bus("admin").await;
    streams::apply(&admin, &agents).await.unwrap();
    server
}

/// Asserts that publishing there as `name` ends the process.
async fn cant_publish(server: &Server, name: &str, subject: &str) {
    let (bus, mut events) = server.bus(name).await;
    bus.client().publish(subject.to_owned(), "x".into()).await.unwrap();
    assert_fatal(&mut events, subject).await;
}

async fn cant_subscribe(server: &Server, name: &str, subject: &str) {
    let (bus, mut events) = server.bus(name).await;
    let _held = bus.client().subscribe(subject.to_owned()).await.unwrap();
    assert_fatal(&mut events, subject).await;
}

async fn assert_fatal(events: &mut Receiver<BusEvent>, subject: &str) {
    let text = fatal(events).await;
    assert!(text.contains("Permissions Violation") && text.contains(subject), "{text}");
}

/// Asserts that these publishes and subscriptions are granted. The server answers in order, so when a last, forbidden
/// publish is the first one complained of, all before it were granted.
async fn may(bus: &Bus, events: &mut Receiver<BusEvent>, publish: &[&str], subscribe: &[&str]) {
    let mut held = Vec::new();
    for subject in subscribe {
        held.push(bus.client().subscribe((*subject).to_owned()).await.unwrap());
    }
    for subject in publish.iter().chain(&["forbidden.sentinel"]) {
        bus.client().publish((*subject).to_owned(), "x".into()).await.unwrap();
    }
    assert_fatal(events, "forbidden.sentinel").await;
}

#[tokio::test]
async fn an_agent_may_do_what_its_spec_says() {
    let server = scene().await;
    let (bus, mut events) = server.bus("treasury").await;
    let publish = [
        "trading.online_trading.permit.critical",
        "system.all.decision.low",
        "system.all.notice.low",
        "monitoring.all.alert.low",
        "pulse.treasury.heartbeat.low",
        "dlq.TRADING_HIGH.treasury",
    ];
    let subscribe = ["_INBOX_treasury.x", "system.treasury.command.low", "pulse.supervisor.heartbeat.low"];
    may(&bus, &mut events, &publish, &subscribe).await;
    for stream in [Stream::TradingCritical, Stream::TradingHigh, Stream::SystemLow] {
        bus.consumer(stream, "treasury").await.unwrap();
    }
}

#[tokio::test]
async fn a_service_may_ask_what_it_is_for_and_nothing_else() {
    let server = scene().await;
    let (bus, mut events) = server.bus("page").await;
    let publish = ["swarm.status", "swarm.decide.web", "pulse.page.heartbeat.low"];
    may(&bus, &mut events, &publish, &["_INBOX_page.x", "system.page.command.low"]).await;
    for subject in
        ["swarm.resume", "swarm.approve", "swarm.signal", "swarm.decide.telegram", "trading.buy_bot.signal.critical"]
    {
        cant_publish(&server, "page", subject).await;
    }
    for subject in ["swarm.>", "swarm.status", "trading.>", "_INBOX_supervisor.>"] {
        cant_subscribe(&server, "page", subject).await;
    }
    let (bus, mut events) = server.bus("operator").await;
    may(&bus, &mut events, &["swarm.approve", "swarm.approvals", "swarm.telegram.link"], &[]).await;
}

#[tokio::test]
async fn no_agent_speaks_for_another() {
    let server = scene().await;
    for (name, subject) in [
        ("treasury", "trading.treasury.intent.high"),
        ("treasury", "trading.buy_bot.signal.critical"),
        ("buy_bot", "trading.online_trading.permit.critical"),
        ("buy_bot", "trading.buy_bot.signal.critical"),
        ("buy_bot", "system.all.halt.low"),
        ("treasury", "dlq.TRADING_HIGH.buy_bot"),
        ("treasury", "audit.anchor.x"),
        ("treasury", "system.buy_bot.command.low"),
        ("treasury", "pulse.buy_bot.heartbeat.low"),
        ("treasury", "pulse.supervisor.heartbeat.low"),
        ("operator", "pulse.supervisor.heartbeat.low"),
        ("alice", "trading.buy_bot.signal.critical"),
        ("alice", "trading.signal.urgent"),
        ("alice", "trading.buy_bot.signal-bob.critical"),
        ("operator", "trading.buy_bot.idea.high"),
        ("operator", "trading.treasury.intent.high"),
        ("operator", "system.all.halt.low"),
        ("operator", "swarm.decide.telegram"),
        ("operator", "swarm.decide.web"),
        ("operator", "swarm.web.login"),
        ("treasury", "swarm.approve"),
        ("treasury", "swarm.decide.web"),
        ("buy_bot", "swarm.decide.telegram"),
        ("alice", "swarm.decide.web"),
        ("page", "swarm.decide.telegram"),
        ("page", "swarm.approve"),
        ("page", "swarm.resume"),
        ("page", "swarm.signal"),
        ("page", "trading.buy_bot.signal.critical"),
    ] {
        cant_publish(&server, name, subject).await;
    }
}

#[tokio::test]
async fn nobody_reads_anothers_inbox_or_queue() {
    let server = scene().await;
    for (name, subject) in [
        ("buy_bot", "_INBOX_treasury.>"),
        ("buy_bot", "_INBOX.>"),
        ("buy_bot", ">"),
        ("treasury", "trading.>"),
        ("treasury", "system.buy_bot.command.low"),
        ("treasury", "pulse.buy_bot.heartbeat.low"),
        ("operator", "trading.>"),
        ("operator", "_INBOX_treasury.>"),
        ("alice", "_INBOX_operator.>"),
        ("supervisor", "_INBOX_treasury.>"),
    ] {
        cant_subscribe(&server, name, subject).await;
    }
    for subject in ["$JS.API.CONSUMER.MSG.NEXT.TRADING_HIGH.treasury", "$JS.ACK.TRADING_HIGH.treasury.1.1.1.1.0"] {
        cant_publish(&server, "buy_bot", subject).await;
    }
}

#[tokio::test]
async fn nobody_deletes_or_empties_a_stream() {
    let server = scene().await;
    for name in ["treasury", "buy_bot", "supervisor", "operator", "alice", "admin"] {
        for subject in [
            "$JS.API.STREAM.DELETE.AUDIT_ANCHORS",
            "$JS.API.STREAM.PURGE.TRADING_HIGH",
            "$JS.API.STREAM.MSG.DELETE.TRADING_HIGH",
        ] {
            cant_publish(&server, name, subject).await;
        }
    }
    for name in ["treasury", "buy_bot", "operator"] {
        for subject in ["$JS.API.STREAM.UPDATE.TRADING_HIGH", "$JS.API.CONSUMER.DELETE.TRADING_HIGH.treasury"] {
            cant_publish(&server, name, subject).await;
        }
    }
}

#[tokio::test]
async fn a_stranger_is_not_let_in() {
    let server = scene().await;
    let key = nkeys::KeyPair::new_user();
    for seed in [None, Some(key.seed().unwrap())] {
        let config = bus::BusConfig { url: server.url(), name: "x".into(), nkey_seed: seed, inbox_prefix: None };
        assert!(Bus::connect(config).await.is_err());
    }
}

#[tokio::test]
async fn a_service_answers_its_callers_and_only_them() {
    use futures::StreamExt as _;
    let server = scene().await;
    let (supervisor, _) = server.bus("supervisor").await;
    let (operator, _) = server.bus("operator").await;
    let mut asked = supervisor.client().subscribe("swarm.status").await.unwrap();
    supervisor.client().flush().await.unwrap();
    let answering = async {
        while let Some(question) = asked.next().await {
            supervisor.client().publish(question.reply.unwrap(), "fine".into()).await.unwrap();
        }
    };
    // A flush says that the subscription was sent, not that the server has taken it in: until then nobody responds.
    let asking = async {
        let started = tokio::time::Instant::now();
        loop {
            match operator.client().request("swarm.status", "?".into()).await {
                Ok(answer) => return answer,
                Err(error) => assert!(started.elapsed() < std::time::Duration::from_secs(20), "{error}"),
            }
        }
    };
    let mut unasked = operator.client().subscribe("_INBOX_operator.unasked").await.unwrap();
    operator.client().flush().await.unwrap();
    supervisor.client().publish("_INBOX_operator.unasked", "listen".into()).await.unwrap();
    let answer = tokio::select! {
        answer = asking => answer,
        () = answering => panic!("the subscription ended"),
    };
    assert_eq!(answer.payload.as_ref(), b"fine");
    // The answer left the supervisor after what nobody asked for, by the same road: had that been let through, it would
    // be here.
    assert!(futures::poll!(unasked.next()).is_pending(), "an answer that nobody asked for was let through");
}
