//! What a dead agent held, against a real NATS.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a failed step is a failed test

use std::time::Duration;

use bus::{Bus, BusConfig, Delivery, Encoded, Puller, streams};
use domain::agent::{AgentSpec, USUAL_LIMITS};
use domain::subject::{Route, Stream};
use domain::time::Clock;
use runtime::clock::SystemClock;
use supervisor::in_flight;
use testkit::servers::{self, TestNats};
use tokio::time::Instant;

const BOUND: Duration = Duration::from_secs(20);
/// Well below the ack wait of 5 s.
const AT_ONCE: Duration = Duration::from_secs(4);
const SUBJECT: &str = "trading.treasury.intent.high";

const TREASURY: AgentSpec = AgentSpec {
    name: "treasury",
    job: "a sample",
    consumes: &[Route::Intent],
    listens: &[],
    listens_with_store: &[],
    emits: &[],
    timers: &[],
    tables: &[],
    services: &[],
    asks: &[],
    administers_streams: false,
    limits: USUAL_LIMITS,
    lacks: &[],
};

async fn scene() -> (TestNats, Bus) {
    let nats = tokio::task::spawn_blocking(servers::fresh_nats).await.unwrap();
    let bus = connect(&nats).await;
    streams::apply(&bus, &[TREASURY, AgentSpec { name: "buy_bot", consumes: &[Route::Signal], ..TREASURY }])
        .await
        .unwrap();
    (nats, bus)
}

async fn connect(nats: &TestNats) -> Bus {
    let config = BusConfig { url: nats.url(), name: "test".into(), ..BusConfig::default() };
    Bus::connect(config).await.unwrap().0
}

async fn put(bus: &Bus, n: u128) {
    let encoded =
        Encoded { subject: SUBJECT.into(), id: uuid::Uuid::from_u128(n), headers: Vec::new(), payload: b"x".to_vec() };
    bus.publish_encoded(&encoded, None, &|| SystemClock.now()).await.unwrap();
}

async fn next(puller: &mut Puller) -> Delivery {
    let started = Instant::now();
    loop {
        if let Some(delivery) = puller.next().await.unwrap() {
            return delivery;
        }
        assert!(started.elapsed() < BOUND, "nothing was delivered");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_dead_agent_held_is_with_the_next_at_once() {
    let (nats, bus) = scene().await;
    let dying = connect(&nats).await;
    let mut first = dying.consumer(Stream::TradingHigh, "treasury").await.unwrap();
    put(&bus, 1).await;
    put(&bus, 2).await;
    let in_hand: Vec<String> =
        [next(&mut first).await, next(&mut first).await].iter().map(|d| d.reply_subject().to_owned()).collect();
    drop((first, dying));
    let mut second = bus.consumer(Stream::TradingHigh, "treasury").await.unwrap();
    let released = Instant::now();
    assert_eq!(in_flight::release(&bus, "treasury", &in_hand).await, 2);
    let again = [next(&mut second).await, next(&mut second).await];
    assert!(released.elapsed() < AT_ONCE, "the ack wait brought them");
    assert_eq!(again.each_ref().map(|delivery| delivery.attempts), [2, 2]);
    for delivery in &again {
        delivery.ack().await.unwrap();
    }
    let left = in_flight::waiting(&bus, "treasury").await.unwrap();
    assert!(left.iter().all(|queue| queue.messages == 0), "{left:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_or_old_reply_subject_hurts_nobody() {
    let (_nats, bus) = scene().await;
    let mut puller = bus.consumer(Stream::TradingHigh, "treasury").await.unwrap();
    put(&bus, 1).await;
    let held = next(&mut puller).await;
    let old = held.reply_subject().to_owned();
    // Another agent's word about it, and what is no acknowledgement at all.
    let wrong = ["".to_owned(), SUBJECT.to_owned(), "$JS.ACK.>".to_owned(), old.clone()];
    assert_eq!(in_flight::release(&bus, "buy_bot", &wrong).await, 0);
    let nothing_there = old.replace(".treasury.1.1.1.", ".treasury.1.99.99.");
    assert_ne!(nothing_there, old);
    assert_eq!(in_flight::release(&bus, "treasury", &[nothing_there]).await, 1);
    held.ack().await.unwrap();
    // Its message is settled.
    assert_eq!(in_flight::release(&bus, "treasury", &[old]).await, 1);
    put(&bus, 2).await;
    let other = next(&mut puller).await;
    assert_eq!((other.stream_seq, other.attempts), (2, 1), "the next message, and for the first time");
    other.ack().await.unwrap();
    assert!(puller.next().await.unwrap().is_none(), "and nothing else");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_for_an_agent_that_stays_down_is_told() {
    let (_nats, bus) = scene().await;
    let told = async |agent| in_flight::alert(agent, "quarantined", &in_flight::waiting(&bus, agent).await.unwrap());
    assert_eq!(told("treasury").await, None);
    for n in 1..=3 {
        put(&bus, n).await;
    }
    let alert = told("treasury").await.unwrap();
    assert!(alert.text.starts_with("3 trading messages wait for treasury, which is quarantined;"), "{}", alert.text);
    assert_eq!(told("buy_bot").await, None);
    assert_eq!(told("nobody").await, None);
}
