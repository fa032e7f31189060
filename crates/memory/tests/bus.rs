//! One contract for two brokers: what the agents build on holds for a real NATS server and for the one in memory.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bus::{Bus, BusConfig, BusError, Encoded, Published, Puller, Subscription};
use domain::agent::{AgentSpec, USUAL_LIMITS};
use domain::subject::{Route, Stream};
use domain::time::{Clock, UnixMs};
use memory::bus::{Broker, Limit, Listener};
use testkit::VirtualClock;
use testkit::servers::{TestNats, fresh_nats};
use tokio::time::Instant;
use uuid::Uuid;

const INTENT: &str = "trading.treasury.intent.high";
const REPORT: &str = "trading.treasury.report.high";
const NOTICE: &str = "system.all.notice.low";
/// How long something that must come is waited for.
const PATIENCE_MS: i64 = 30_000;

const fn agent(name: &'static str, consumes: &'static [Route]) -> AgentSpec {
    AgentSpec {
        name,
        job: "",
        consumes,
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
    }
}

const AGENTS: [AgentSpec; 3] = [
    agent("treasury", &[Route::Intent, Route::Report]),
    agent("buy_bot", &[Route::Signal]),
    agent("monitor", &[Route::Notice]),
];

/// A delivery as the contract speaks of it.
#[derive(Debug, PartialEq, Eq)]
struct Got {
    payload: Vec<u8>,
    subject: String,
    seq: u64,
    attempts: u64,
}

/// What both brokers can do.
trait Road {
    type Hand;
    type Ear;
    async fn open() -> Self;
    async fn publish(&self, subject: &str, id: &str, payload: &[u8]) -> Result<Published, BusError>;
    /// The next delivery that comes within [`PATIENCE_MS`].
    async fn next(&mut self, stream: Stream, agent: &'static str) -> (Got, Self::Hand);
    /// Nothing comes for two seconds.
    async fn nothing(&mut self, stream: Stream, agent: &'static str);
    async fn ack(&self, hand: &Self::Hand);
    async fn nak(&self, hand: &Self::Hand, delay: Duration);
    async fn term(&self, hand: &Self::Hand);
    async fn limit(&self, stream: Stream, limits: &[Limit]);
    async fn stored(&self, stream: Stream) -> u64;
    async fn listen(&self, filter: &str) -> Self::Ear;
    async fn hear(&self, ear: &mut Self::Ear) -> Vec<u8>;
    /// A plain publish, without an answer.
    async fn say(&self, subject: &str, payload: &[u8]);
    /// Market values kept for late starters.
    async fn last_values(&self, filter: &str) -> Vec<Vec<u8>>;
    fn elapsed_ms(&self) -> i64;
}

struct Real {
    _server: TestNats,
    bus: Bus,
    pullers: BTreeMap<(Stream, &'static str), Puller>,
    begun: Instant,
}

impl Road for Real {
    type Hand = bus::Delivery;
    type Ear = Subscription;

    async fn open() -> Self {
        let server = fresh_nats();
        let config = BusConfig { url: server.url(), name: "contract".into(), ..BusConfig::default() };
        let (bus, _) = Bus::connect(config).await.unwrap();
        bus::streams::apply(&bus, &AGENTS).await.unwrap();
        Self { _server: server, bus, pullers: BTreeMap::new(), begun: Instant::now() }
    }

    async fn publish(&self, subject: &str, id: &str, payload: &[u8]) -> Result<Published, BusError> {
        let headers = vec![("Nats-Msg-Id".to_owned(), id.to_owned())];
        let raw = bus::Raw { subject: subject.to_owned(), headers, payload: payload.to_vec() };
        self.bus.forward(&raw, Some(UnixMs(0)), &|| UnixMs(0)).await
    }

    async fn next(&mut self, stream: Stream, agent: &'static str) -> (Got, bus::Delivery) {
        if !self.pullers.contains_key(&(stream, agent)) {
            let puller = self.bus.consumer(stream, agent).await.unwrap();
            self.pullers.insert((stream, agent), puller);
        }
        let puller = self.pullers.get_mut(&(stream, agent)).unwrap();
        let begun = Instant::now();
        loop {
            if let Some(delivery) = puller.next().await.unwrap() {
                let got = Got {
                    payload: delivery.raw.payload.clone(),
                    subject: delivery.raw.subject.clone(),
                    seq: delivery.stream_seq,
                    attempts: delivery.attempts,
                };
                return (got, delivery);
            }
            assert!(begun.elapsed().as_millis() < PATIENCE_MS.unsigned_abs().into(), "nothing came");
        }
    }

    async fn nothing(&mut self, stream: Stream, agent: &'static str) {
        let puller = match self.pullers.remove(&(stream, agent)) {
            Some(puller) => puller,
            None => self.bus.consumer(stream, agent).await.unwrap(),
        };
        let puller = self.pullers.entry((stream, agent)).or_insert(puller);
        let found = puller.next().await.unwrap();
        assert!(found.is_none(), "{found:?}");
    }

    async fn ack(&self, hand: &bus::Delivery) {
        hand.ack().await.unwrap();
    }

    async fn nak(&self, hand: &bus::Delivery, delay: Duration) {
        hand.nak(delay).await.unwrap();
    }

    async fn term(&self, hand: &bus::Delivery) {
        hand.term().await.unwrap();
    }

    async fn limit(&self, stream: Stream, limits: &[Limit]) {
        let js = async_nats::jetstream::new(self.bus.client().clone());
        let mut config = js.get_stream(stream.name()).await.unwrap().cached_info().config.clone();
        limits.iter().for_each(|limit| limit.set(&mut config));
        js.update_stream(config).await.unwrap();
    }

    async fn stored(&self, stream: Stream) -> u64 {
        let js = async_nats::jetstream::new(self.bus.client().clone());
        js.get_stream(stream.name()).await.unwrap().cached_info().state.messages
    }

    async fn listen(&self, filter: &str) -> Subscription {
        let ear = self.bus.subscribe(filter).await.unwrap();
        self.bus.client().flush().await.unwrap();
        ear
    }

    async fn hear(&self, ear: &mut Subscription) -> Vec<u8> {
        tokio::time::timeout(Duration::from_secs(30), ear.next()).await.unwrap().unwrap().payload
    }

    async fn say(&self, subject: &str, payload: &[u8]) {
        self.bus.client().publish(subject.to_owned(), payload.to_vec().into()).await.unwrap();
    }

    async fn last_values(&self, filter: &str) -> Vec<Vec<u8>> {
        self.bus.last_values(filter).await.unwrap().into_iter().map(|raw| raw.payload).collect()
    }

    fn elapsed_ms(&self) -> i64 {
        i64::try_from(self.begun.elapsed().as_millis()).unwrap()
    }
}

struct InMemory {
    broker: Broker,
    clock: VirtualClock,
}

impl Road for InMemory {
    type Hand = memory::bus::Delivery;
    type Ear = Listener;

    async fn open() -> Self {
        let clock = VirtualClock::at(UnixMs(0));
        let consumers: Vec<_> = AGENTS.iter().flat_map(bus::streams::consumers_of).collect();
        Self { broker: Broker::new(Arc::new(clock.clone()), &consumers).unwrap(), clock }
    }

    async fn publish(&self, subject: &str, id: &str, payload: &[u8]) -> Result<Published, BusError> {
        // Whoever publishes in a loop lets time pass.
        self.clock.advance_ms(1);
        let encoded =
            Encoded { subject: subject.into(), id: Uuid::nil(), headers: Vec::new(), payload: payload.to_vec() };
        self.broker.publish(&encoded, id)
    }

    async fn next(&mut self, stream: Stream, agent: &'static str) -> (Got, memory::bus::Delivery) {
        let begun = self.clock.now();
        loop {
            if let Some(delivery) = self.broker.pull(stream, agent) {
                let got = Got {
                    payload: delivery.raw.payload.clone(),
                    subject: delivery.raw.subject.clone(),
                    seq: delivery.stream_seq,
                    attempts: delivery.attempts,
                };
                return (got, delivery);
            }
            self.clock.advance_ms(1);
            assert!(self.clock.now().since_ms(begun) < PATIENCE_MS, "nothing came");
        }
    }

    async fn nothing(&mut self, stream: Stream, agent: &'static str) {
        for _ in 0..2_000 {
            self.clock.advance_ms(1);
            assert_eq!(self.broker.pull(stream, agent), None);
        }
    }

    async fn ack(&self, hand: &memory::bus::Delivery) {
        self.broker.ack(hand).unwrap();
    }

    async fn nak(&self, hand: &memory::bus::Delivery, delay: Duration) {
        self.broker.nak(hand, delay);
    }

    async fn term(&self, hand: &memory::bus::Delivery) {
        self.broker.term(hand).unwrap();
    }

    async fn limit(&self, stream: Stream, limits: &[Limit]) {
        self.broker.limit(stream, limits);
    }

    async fn stored(&self, stream: Stream) -> u64 {
        self.broker.stored(stream) as u64
    }

    async fn listen(&self, filter: &str) -> Listener {
        self.broker.subscribe(filter)
    }

    async fn hear(&self, ear: &mut Listener) -> Vec<u8> {
        ear.next().unwrap().payload
    }

    async fn say(&self, subject: &str, payload: &[u8]) {
        let _ = self.broker.put(bus::Raw { subject: subject.into(), headers: Vec::new(), payload: payload.to_vec() });
    }

    async fn last_values(&self, filter: &str) -> Vec<Vec<u8>> {
        self.broker.last_values(Stream::Market, filter).into_iter().map(|raw| raw.payload).collect()
    }

    fn elapsed_ms(&self) -> i64 {
        self.clock.now().0
    }
}

/// An id is stored once in its stream, whatever the subject, and also after the message was done with.
async fn an_id_is_stored_once<R: Road>() {
    let mut road = R::open().await;
    let first = road.publish(INTENT, "one", b"a").await.unwrap();
    assert_eq!((first.stream.as_str(), first.duplicate), ("TRADING_HIGH", false));
    let second = road.publish(REPORT, "one", b"b").await.unwrap();
    assert_eq!((second.seq, second.duplicate), (first.seq, true));
    let (got, hand) = road.next(Stream::TradingHigh, "treasury").await;
    assert_eq!((got.payload.as_slice(), got.seq, got.attempts), (&b"a"[..], first.seq, 1));
    road.ack(&hand).await;
    assert_eq!(road.stored(Stream::TradingHigh).await, 0);
    assert!(road.publish(INTENT, "one", b"c").await.unwrap().duplicate);
    road.nothing(Stream::TradingHigh, "treasury").await;
}

/// The window of an id is counted from its first use: duplicates do not prolong it.
async fn a_duplicate_does_not_prolong_the_window<R: Road>() {
    let road = R::open().await;
    road.limit(Stream::SystemLow, &[Limit::DuplicateWindow(Duration::from_millis(1_000))]).await;
    let before = road.elapsed_ms();
    road.publish(NOTICE, "one", b"a").await.unwrap();
    while road.publish(NOTICE, "one", b"b").await.unwrap().duplicate {
        assert!(road.elapsed_ms() - before < PATIENCE_MS, "the window never ended");
    }
    assert!(road.elapsed_ms() - before >= 990, "it ended after {} ms", road.elapsed_ms() - before);
    assert_eq!(road.stored(Stream::SystemLow).await, 2);
}

/// A work queue that is full tells the publisher so and drops nothing; an acknowledgement makes room.
async fn a_full_work_queue_refuses<R: Road>() {
    let mut road = R::open().await;
    road.limit(Stream::TradingHigh, &[Limit::MessagesPerSubject(2)]).await;
    for id in ["one", "two"] {
        road.publish(INTENT, id, id.as_bytes()).await.unwrap();
    }
    let refused = road.publish(INTENT, "three", b"three").await.unwrap_err();
    assert!(matches!(refused, BusError::StreamFull { .. }), "{refused}");
    road.publish(REPORT, "other", b"other").await.unwrap();
    assert!(road.publish(INTENT, "two", b"two").await.unwrap().duplicate);
    let (got, hand) = road.next(Stream::TradingHigh, "treasury").await;
    assert_eq!(got.payload, b"one");
    road.ack(&hand).await;
    // The id of the refused one was not used up.
    assert!(!road.publish(INTENT, "three", b"three").await.unwrap().duplicate);
    road.limit(Stream::TradingHigh, &[Limit::Messages(3)]).await;
    assert!(matches!(road.publish(REPORT, "four", b"x").await.unwrap_err(), BusError::StreamFull { .. }));
}

/// A stream of facts forgets its oldest, and each reader has a place of its own.
async fn a_stream_of_facts_forgets_its_oldest<R: Road>() {
    let mut road = R::open().await;
    road.limit(Stream::SystemLow, &[Limit::Messages(2)]).await;
    for id in ["one", "two", "three"] {
        road.publish(NOTICE, id, id.as_bytes()).await.unwrap();
    }
    for expected in ["two", "three"] {
        let (got, hand) = road.next(Stream::SystemLow, "monitor").await;
        assert_eq!(got.payload, expected.as_bytes());
        road.ack(&hand).await;
    }
    assert_eq!(road.stored(Stream::SystemLow).await, 2, "an acknowledgement takes no fact away");
}

/// Too large is refused.
async fn a_message_of_more_than_64_kib_is_refused<R: Road>() {
    let road = R::open().await;
    for size in [65_537, 100_000] {
        let refused = road.publish(INTENT, "large", &vec![b'x'; size]).await.unwrap_err();
        assert!(matches!(refused, BusError::TooLarge { .. }), "{size}: {refused}");
    }
    road.publish(INTENT, "large", &vec![b'x'; 65_000]).await.unwrap();
}

/// What is handed back comes again after its delay and not before, counted.
async fn a_handed_back_message_comes_after_its_delay<R: Road>() {
    let mut road = R::open().await;
    let stored = road.publish(INTENT, "one", b"a").await.unwrap();
    let (_, mut hand) = road.next(Stream::TradingHigh, "treasury").await;
    for (attempts, delay_ms) in [(2, 100), (3, 400)] {
        let before = road.elapsed_ms();
        road.nak(&hand, Duration::from_millis(delay_ms)).await;
        let (got, again) = road.next(Stream::TradingHigh, "treasury").await;
        assert_eq!((got.attempts, got.seq), (attempts, stored.seq));
        assert!(road.elapsed_ms() - before >= i64::try_from(delay_ms).unwrap() - 10, "too early");
        hand = again;
    }
    road.ack(&hand).await;
    road.nothing(Stream::TradingHigh, "treasury").await;
}

/// What nobody acknowledged comes again after the ack wait; an acknowledgement of the first delivery still counts.
async fn an_unacknowledged_message_comes_again<R: Road>() {
    let mut road = R::open().await;
    road.publish(INTENT, "one", b"a").await.unwrap();
    let (_, first) = road.next(Stream::TradingHigh, "treasury").await;
    let before = road.elapsed_ms();
    let (got, _second) = road.next(Stream::TradingHigh, "treasury").await;
    assert_eq!((got.payload.as_slice(), got.attempts), (&b"a"[..], 2));
    assert!(road.elapsed_ms() - before >= 4_500, "before the ack wait");
    road.ack(&first).await;
    assert_eq!(road.stored(Stream::TradingHigh).await, 0);
}

/// What is terminated never comes again, leaves the work queue, and is told of.
async fn a_terminated_message_is_gone<R: Road>() {
    let mut road = R::open().await;
    let mut ear = road.listen("$JS.EVENT.ADVISORY.CONSUMER.MSG_TERMINATED.>").await;
    road.publish(INTENT, "one", b"a").await.unwrap();
    let (_, hand) = road.next(Stream::TradingHigh, "treasury").await;
    road.term(&hand).await;
    assert!(String::from_utf8(road.hear(&mut ear).await).unwrap().contains("TRADING_HIGH"));
    assert_eq!(road.stored(Stream::TradingHigh).await, 0);
    road.nothing(Stream::TradingHigh, "treasury").await;
}

/// Out of deliveries: never again, and the message stays where it is.
async fn deliveries_run_out<R: Road>() {
    let mut road = R::open().await;
    road.publish(INTENT, "one", b"a").await.unwrap();
    for attempt in 1..=10 {
        let (got, hand) = road.next(Stream::TradingHigh, "treasury").await;
        assert_eq!(got.attempts, attempt);
        road.nak(&hand, Duration::from_millis(1)).await;
    }
    road.nothing(Stream::TradingHigh, "treasury").await;
    assert_eq!(road.stored(Stream::TradingHigh).await, 1);
}

/// A consumer holds 64 messages at most.
async fn a_full_hand_gets_no_more<R: Road>() {
    let mut road = R::open().await;
    for number in 0..66 {
        road.publish(INTENT, &number.to_string(), number.to_string().as_bytes()).await.unwrap();
    }
    let mut hands = Vec::new();
    for number in 0..64 {
        let (got, hand) = road.next(Stream::TradingHigh, "treasury").await;
        assert_eq!(got.payload, number.to_string().as_bytes(), "in the order of the stream");
        hands.push(hand);
    }
    for (freed, number) in [(0, 64), (1, 65)] {
        road.ack(&hands[freed]).await;
        // Others may come again meanwhile, when this took longer than the ack wait.
        while road.next(Stream::TradingHigh, "treasury").await.0.payload != number.to_string().as_bytes() {}
    }
}

/// Both forms of a signal's subject reach the planner, each through one consumer; nobody else's messages do.
async fn subjects_find_their_consumer<R: Road>() {
    let mut road = R::open().await;
    for (id, subject) in [("1", "trading.signal.urgent"), ("2", "trading.buy_bot.signal-alice.critical")] {
        road.publish(subject, id, b"x").await.unwrap();
        let (got, hand) = road.next(Stream::TradingCritical, "buy_bot").await;
        assert_eq!((got.subject.as_str(), got.attempts), (subject, 1));
        road.ack(&hand).await;
    }
    road.publish("trading.online_trading.permit.critical", "3", b"x").await.unwrap();
    road.nothing(Stream::TradingCritical, "buy_bot").await;
    let lost = road.publish("trading.a.b.c.d", "4", b"x").await.unwrap_err();
    assert!(matches!(lost, BusError::PublishUnanswered { .. }), "{lost}");
}

/// Who listens hears what is published, stored or not; the last market value is kept for who comes late.
async fn listeners_hear_and_late_ones_find_the_last_value<R: Road>() {
    let road = R::open().await;
    let mut ear = road.listen("market.*.tick.*").await;
    for text in [b"1", b"2"] {
        road.say("market.paper.tick.BTCUSDT", text).await;
        assert_eq!(road.hear(&mut ear).await, text);
    }
    let before = road.elapsed_ms();
    while road.last_values("market.*.tick.*").await != [b"2"] {
        assert!(road.elapsed_ms() - before < PATIENCE_MS, "the last value was not kept");
    }
    assert_eq!(road.stored(Stream::Market).await, 1);
    assert!(road.last_values("market.*.candle.*").await.is_empty());
    let mut notices = road.listen("system.all.*.low").await;
    road.publish(NOTICE, "one", b"told").await.unwrap();
    assert_eq!(road.hear(&mut notices).await, b"told");
}

/// What lies too long is gone, unread.
async fn what_is_too_old_is_gone<R: Road>() {
    let mut road = R::open().await;
    let second = Duration::from_millis(1_000);
    road.limit(Stream::TradingHigh, &[Limit::DuplicateWindow(second), Limit::Age(second)]).await;
    road.publish(INTENT, "one", b"a").await.unwrap();
    let before = road.elapsed_ms();
    let mut probe = 0;
    // Publishing elsewhere lets time pass for both.
    while road.stored(Stream::TradingHigh).await > 0 {
        probe += 1;
        road.publish(NOTICE, &probe.to_string(), b"x").await.unwrap();
        assert!(road.elapsed_ms() - before < PATIENCE_MS, "it never went");
    }
    assert!(road.elapsed_ms() - before >= 900, "gone too early");
    road.nothing(Stream::TradingHigh, "treasury").await;
}

macro_rules! contract {
    ($($case:ident),+ $(,)?) => {
        mod nats {
            $(#[tokio::test] async fn $case() { super::$case::<super::Real>().await; })+
        }
        mod in_memory {
            $(#[tokio::test] async fn $case() { super::$case::<super::InMemory>().await; })+
        }
    };
}

contract!(
    an_id_is_stored_once,
    a_duplicate_does_not_prolong_the_window,
    a_full_work_queue_refuses,
    a_stream_of_facts_forgets_its_oldest,
    a_message_of_more_than_64_kib_is_refused,
    a_handed_back_message_comes_after_its_delay,
    an_unacknowledged_message_comes_again,
    a_terminated_message_is_gone,
    deliveries_run_out,
    a_full_hand_gets_no_more,
    subjects_find_their_consumer,
    listeners_hear_and_late_ones_find_the_last_value,
    what_is_too_old_is_gone,
);
