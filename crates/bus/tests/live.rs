//! The bus against a real server: streams, publishing, acknowledging, dead letters.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that can't set its scene has failed"
)]

mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use async_nats::jetstream;
use bus::permissions::{permissions_of, permissions_of_person};
use bus::{Bus, BusError, Delivery, Encoded, Raw, codec, streams};
use domain::ids::{CorrelationId, MessageId, UserId};
use domain::message::{Envelope, Header, Notice, Payload};
use domain::reject::{Reject, RejectCode};
use domain::subject::{Route, Stream, Subject};
use domain::time::UnixMs;
use futures::StreamExt as _;
use support::{PATIENCE, Server, agents};
use testkit::wait::wait_until;
use tokio::time::Instant;
use uuid::Uuid;

#[allow(clippy::disallowed_methods, reason = "a real server is on the other side, with a real clock")]
fn now() -> UnixMs {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    UnixMs(i64::try_from(since.as_millis()).unwrap())
}

/// A server with the sample agents, `operator` and an unbounded user `root`, streams applied.
async fn scene() -> (Server, Bus) {
    let agents = agents();
    let all =
        bus::permissions::Permissions { publish: vec![">".into()], subscribe: vec![">".into()], ..Default::default() };
    let mut users: Vec<_> = agents.iter().map(|a| (a.name, permissions_of(a))).collect();
    users.extend([("operator", permissions_of_person("operator")), ("root", all)]);
    let server = Server::start(&users);
    let (supervisor, _) = server.bus("supervisor").await;
    streams::apply(&supervisor, &agents).await.unwrap();
    let (root, _) = server.bus("root").await;
    (server, root)
}

fn notice(key: &str) -> Envelope {
    let id = MessageId::of_person(UserId::of_handle("operator"), key);
    Envelope {
        header: Header {
            message_id: id,
            correlation_id: CorrelationId(id.0),
            source_agent: "treasury".into(),
            made_at: now(),
            priority: 2,
            user_id: UserId::of_handle("operator"),
            valid_until: None,
            traceparent: None,
        },
        subject: Subject::fact(Route::Notice),
        payload: Payload::Notice(Notice { code: "TEST".into(), text: "hello".into(), numbers: BTreeMap::new() }),
    }
}

fn bytes(subject: &str, id: Uuid, payload: &[u8]) -> Encoded {
    Encoded { subject: subject.into(), id, headers: Vec::new(), payload: payload.to_vec() }
}

async fn put(bus: &Bus, encoded: &Encoded) -> Result<bus::Published, BusError> {
    bus.publish_encoded(encoded, None, &now).await
}

/// The next delivery of a consumer within [`PATIENCE`].
async fn next(puller: &mut bus::Puller) -> Delivery {
    let started = Instant::now();
    loop {
        if let Some(delivery) = puller.next().await.unwrap() {
            return delivery;
        }
        assert!(started.elapsed() < PATIENCE, "nothing was delivered");
    }
}

#[tokio::test]
async fn applying_twice_changes_nothing_and_drift_is_corrected() {
    let (server, root) = scene().await;
    let (admin, _) = server.bus("admin").await;
    assert_eq!(streams::apply(&admin, &agents()).await.unwrap(), []);

    let js = jetstream::new(root.client().clone());
    let mut config = js.get_stream("TRADING_HIGH").await.unwrap().cached_info().config.clone();
    config.max_messages = 3;
    config.discard_new_per_subject = false;
    js.update_stream(config).await.unwrap();
    let mut consumer: jetstream::consumer::pull::Config = {
        let found: jetstream::consumer::PullConsumer =
            js.get_consumer_from_stream("treasury", "TRADING_HIGH").await.unwrap();
        found.cached_info().config.clone().try_into_pull()
    };
    consumer.ack_wait = Duration::from_secs(77);
    js.update_consumer_on_stream(consumer, "TRADING_HIGH").await.unwrap();

    let changes = streams::apply(&admin, &agents()).await.unwrap();
    let names: Vec<_> = changes.iter().map(|c| c.name.as_str()).collect();
    assert_eq!(names, ["TRADING_HIGH", "TRADING_HIGH/treasury"]);
    assert_eq!(changes[0].diff, "max_messages: 3 -> 500000\ndiscard_new_per_subject: false -> true");
    assert_eq!(changes[1].diff, "ack_wait: 77s -> 5s");
    assert_eq!(streams::apply(&admin, &agents()).await.unwrap(), []);
}

#[tokio::test]
async fn a_stream_of_an_earlier_build_is_corrected_and_goes_on_writing_as_it_was_made() {
    let (_fresh, root) = scene().await;
    let js = jetstream::new(root.client().clone());
    for stream in Stream::ALL {
        let config = js.get_stream(stream.name()).await.unwrap().cached_info().config.clone();
        let is_later = config.persist_mode == Some(jetstream::stream::PersistenceMode::Async);
        assert_eq!(is_later, stream == Stream::AuditAnchors, "{stream:?}");
    }

    let all =
        bus::permissions::Permissions { publish: vec![">".into()], subscribe: vec![">".into()], ..Default::default() };
    let server = Server::start(&[("root", all)]);
    let (root, _) = server.bus("root").await;
    let js = jetstream::new(root.client().clone());
    let earlier = jetstream::stream::Config {
        name: "AUDIT_ANCHORS".into(),
        subjects: vec!["audit.anchor.>".into()],
        max_bytes: 1 << 20,
        discard: jetstream::stream::DiscardPolicy::New,
        deny_delete: true,
        deny_purge: true,
        ..Default::default()
    };
    js.create_stream(earlier).await.unwrap();
    streams::apply(&root, &[]).await.unwrap();
    let found = js.get_stream("AUDIT_ANCHORS").await.unwrap().cached_info().config.clone();
    assert_ne!(found.persist_mode, Some(jetstream::stream::PersistenceMode::Async), "no update can change it");
    assert_eq!(found.max_bytes, 1 << 30);
    assert_eq!(streams::apply(&root, &[]).await.unwrap(), []);
}

/// Reads a pull configuration back out of what the server says.
trait IntoPull {
    fn try_into_pull(self) -> jetstream::consumer::pull::Config;
}

impl IntoPull for jetstream::consumer::Config {
    fn try_into_pull(self) -> jetstream::consumer::pull::Config {
        use jetstream::consumer::FromConsumer as _;
        jetstream::consumer::pull::Config::try_from_consumer_config(self).unwrap()
    }
}

#[tokio::test]
async fn a_difference_that_cant_be_changed_in_place_is_an_error_that_says_what_to_do() {
    let all =
        bus::permissions::Permissions { publish: vec![">".into()], subscribe: vec![">".into()], ..Default::default() };
    let server = Server::start(&[("root", all)]);
    let (root, _) = server.bus("root").await;
    let wrong = jetstream::stream::Config {
        name: "TRADING_HIGH".into(),
        subjects: vec!["trading.*.*.high".into()],
        storage: jetstream::stream::StorageType::Memory,
        ..Default::default()
    };
    jetstream::new(root.client().clone()).create_stream(wrong).await.unwrap();
    let error = streams::apply(&root, &[]).await.unwrap_err();
    assert!(
        matches!(&error, BusError::Immutable { name, text } if name == "TRADING_HIGH" && text.contains("storage") && text.contains("back the stream up"))
    );
}

#[tokio::test]
async fn the_same_id_is_stored_once() {
    let (_server, root) = scene().await;
    let message = notice("once");
    let first = root.publish(&message).await.unwrap();
    let second = root.publish(&message).await.unwrap();
    assert_eq!((first.stream.as_str(), first.duplicate), ("SYSTEM_LOW", false));
    assert_eq!((second.seq, second.duplicate), (first.seq, true));
}

#[tokio::test]
async fn what_was_published_decodes_from_a_plain_subscription() {
    let (_server, root) = scene().await;
    let mut heard = root.subscribe("system.all.notice.*").await.unwrap();
    root.client().flush().await.unwrap();
    let message = notice("heard");
    root.publish(&message).await.unwrap();
    let raw = tokio::time::timeout(PATIENCE, heard.next()).await.unwrap().unwrap();
    let at = codec::Arrival { stream: "", stream_seq: 0, published_at: now() };
    assert_eq!(codec::decode(&raw, &at, now()), Ok(message));
}

#[tokio::test]
async fn a_full_subject_refuses_its_publisher_and_leaves_room_for_others() {
    let (_server, root) = scene().await;
    let js = jetstream::new(root.client().clone());
    let mut config = js.get_stream("TRADING_CRITICAL").await.unwrap().cached_info().config.clone();
    config.max_messages_per_subject = 3;
    js.update_stream(config).await.unwrap();
    let signal = "trading.buy_bot.signal.critical";
    for n in 0..3 {
        put(&root, &bytes(signal, Uuid::from_u128(n + 1), b"{}")).await.unwrap();
    }
    let refused = put(&root, &bytes(signal, Uuid::from_u128(9), b"{}")).await.unwrap_err();
    assert!(matches!(refused, BusError::StreamFull { .. }), "{refused}");
    let permit = put(&root, &bytes("trading.online_trading.permit.critical", Uuid::from_u128(10), b"{}")).await;
    assert!(permit.is_ok(), "a permit found no room");
}

#[tokio::test]
async fn an_oversized_message_is_refused_with_a_reason_also_at_a_megabyte() {
    let (_server, root) = scene().await;
    for size in [65_537, 1_048_576] {
        let error =
            put(&root, &bytes("trading.buy_bot.signal.high", Uuid::from_u128(1), &vec![b' '; size])).await.unwrap_err();
        assert!(matches!(error, BusError::TooLarge { bytes, .. } if bytes == size), "{error}");
    }
    root.publish(&notice("still connected")).await.unwrap();
}

#[tokio::test]
async fn a_header_with_a_line_break_is_refused_and_not_sent() {
    let (_server, root) = scene().await;
    let headers = vec![("correlation-id".to_owned(), "a\r\nNats-Rollup: all".to_owned())];
    let encoded = Encoded { headers, ..bytes("system.all.notice.low", Uuid::from_u128(1), b"x") };
    assert!(matches!(put(&root, &encoded).await.unwrap_err(), BusError::PublishRefused { .. }));
}

#[tokio::test]
async fn a_three_token_signal_is_stored_and_reaches_buy_bot() {
    let (server, _root) = scene().await;
    let (operator, _) = server.bus("operator").await;
    let (buy_bot, _) = server.bus("buy_bot").await;
    let mut puller = buy_bot.consumer(Stream::TradingCritical, "buy_bot").await.unwrap();
    let text = r#"{"action":"BUY","token_address":"BTCUSDT","amount":"0.01"}"#;
    operator.client().publish("trading.signal.urgent", text.into()).await.unwrap();
    let delivery = next(&mut puller).await;
    assert_eq!(
        (delivery.stream.as_str(), delivery.consumer.as_str(), delivery.attempts),
        ("TRADING_CRITICAL", "buy_bot", 1)
    );
    let at = codec::Arrival {
        stream: &delivery.stream,
        stream_seq: delivery.stream_seq,
        published_at: delivery.published_at,
    };
    let envelope = codec::decode(&delivery.raw, &at, now()).unwrap();
    assert_eq!(envelope.header.user_id, UserId::of_handle("operator"));
    delivery.ack().await.unwrap();
}

#[tokio::test]
async fn a_handed_back_message_comes_again_after_its_delay() {
    let (_server, root) = scene().await;
    let mut puller = root.consumer(Stream::TradingHigh, "treasury").await.unwrap();
    put(&root, &bytes("trading.treasury.intent.high", Uuid::from_u128(1), b"x")).await.unwrap();
    let first = next(&mut puller).await;
    for (attempt, delay_ms) in [(2, 100), (3, 400)] {
        let asked = Instant::now();
        if attempt == 2 {
            first.nak(Duration::from_millis(delay_ms)).await.unwrap()
        };
        let again = next(&mut puller).await;
        assert_eq!((again.attempts, again.stream_seq), (attempt, first.stream_seq));
        assert!(asked.elapsed() >= Duration::from_millis(delay_ms - 10), "too early at attempt {attempt}");
        assert!(asked.elapsed() < Duration::from_secs(4), "the ack wait and not the delay brought it");
        if attempt == 2 { again.nak(Duration::from_millis(400)).await.unwrap() } else { again.ack().await.unwrap() }
    }
}

#[tokio::test]
async fn the_supervisor_hands_back_what_a_dead_process_held() {
    let (server, root) = scene().await;
    let (supervisor, _) = server.bus("supervisor").await;
    let mut puller = root.consumer(Stream::TradingHigh, "treasury").await.unwrap();
    put(&root, &bytes("trading.treasury.intent.high", Uuid::from_u128(1), b"x")).await.unwrap();
    let held = next(&mut puller).await;
    let asked = Instant::now();
    supervisor.hand_back(held.reply_subject()).await.unwrap();
    assert_eq!(next(&mut puller).await.attempts, 2);
    assert!(asked.elapsed() < Duration::from_secs(4), "the ack wait brought it");
    assert!(supervisor.hand_back("trading.treasury.intent.high").await.is_err());
}

#[tokio::test]
async fn an_acknowledgement_to_a_consumer_that_is_gone_is_an_error() {
    let (_server, root) = scene().await;
    let mut puller = root.consumer(Stream::TradingHigh, "treasury").await.unwrap();
    put(&root, &bytes("trading.treasury.intent.high", Uuid::from_u128(1), b"x")).await.unwrap();
    put(&root, &bytes("trading.treasury.intent.high", Uuid::from_u128(2), b"x")).await.unwrap();
    let (first, second) = (next(&mut puller).await, next(&mut puller).await);
    first.ack().await.unwrap();
    let js = jetstream::new(root.client().clone());
    js.delete_consumer_from_stream("treasury", "TRADING_HIGH").await.unwrap();
    assert!(matches!(second.ack().await.unwrap_err(), BusError::AckUnconfirmed(_)));
}

#[tokio::test]
async fn a_dead_letter_is_one_however_often_it_is_written() {
    let (_server, root) = scene().await;
    let raw = Raw {
        subject: "trading.treasury.intent.high".into(),
        headers: vec![("Nats-Msg-Id".into(), "theirs".into()), ("Nats-Expected-Last-Sequence".into(), "99".into())],
        payload: vec![b'x'; 65_536],
    };
    let reject = Reject::new(RejectCode::BadDecimal, "amount: ü zero");
    for _ in 0..2 {
        let at = codec::Arrival { stream: "TRADING_HIGH", stream_seq: 7, published_at: now() };
        root.dead_letter(&at, "treasury", &raw, &reject, now()).await.unwrap();
    }
    let js = jetstream::new(root.client().clone());
    let dlq = js.get_stream("DLQ").await.unwrap();
    assert_eq!(dlq.cached_info().state.messages, 1);
    let letter = dlq.get_last_raw_message_by_subject("dlq.TRADING_HIGH.treasury").await.unwrap();
    let header = |name: &str| letter.headers.get(name).map(ToString::to_string);
    assert_eq!(letter.payload.as_ref(), raw.payload);
    assert_eq!(header("Nats-Msg-Id").as_deref(), Some("TRADING_HIGH:7"));
    assert_eq!(header("swarm-code").as_deref(), Some("BAD_DECIMAL"));
    assert_eq!(header("swarm-msg-id").as_deref(), Some("theirs"));
    assert_eq!(header("Nats-Expected-Last-Sequence"), None, "an order to the broker must not be carried over");
}

/// By its own rights: reads what died, and puts it back where it came from.
#[tokio::test]
async fn the_supervisor_reads_dead_letters_and_puts_each_back_on_its_own_subject() {
    let (server, root) = scene().await;
    let (supervisor, _) = server.bus("supervisor").await;
    assert_eq!(supervisor.letters_range().await.unwrap(), (0, 0));
    let text = br#"{"action":"BUY","token_address":"BTCUSDT","amount":"0.01"}"#;
    let doors = ["trading.signal.urgent", "trading.buy_bot.signal.critical", "trading.buy_bot.signal-alice.urgent"];
    for (seq, subject) in (1..).zip(doors) {
        let raw = Raw { subject: subject.into(), headers: Vec::new(), payload: text.to_vec() };
        let at = codec::Arrival { stream: "TRADING_CRITICAL", stream_seq: seq, published_at: now() };
        root.dead_letter(&at, "buy_bot", &raw, &Reject::new(RejectCode::NoMark, "x"), now()).await.unwrap();
    }
    assert_eq!(supervisor.letters_range().await.unwrap(), (1, 3));
    let letters = supervisor.letters_from(2, 10).await.unwrap();
    assert_eq!(
        letters.iter().map(|l| (l.seq, l.id.as_str())).collect::<Vec<_>>(),
        [(2, "TRADING_CRITICAL:2"), (3, "TRADING_CRITICAL:3")]
    );
    assert_eq!(supervisor.letters_from(4, 10).await.unwrap(), []);
    let (buy_bot, _) = server.bus("buy_bot").await;
    let mut puller = buy_bot.consumer(Stream::TradingCritical, "buy_bot").await.unwrap();
    for letter in supervisor.letters_from(1, 10).await.unwrap() {
        let dead = letter.message().unwrap();
        let id = Uuid::from_u128(u128::from(letter.seq));
        for is_second in [false, true] {
            let back = supervisor.forward(&letter.put_back(1, id), None, &now).await.unwrap();
            assert_eq!((back.stream.as_str(), back.duplicate), ("TRADING_CRITICAL", is_second));
        }
        let delivery = next(&mut puller).await;
        let stream_seq = delivery.stream_seq;
        let at = codec::Arrival { stream: &delivery.stream, stream_seq, published_at: delivery.published_at };
        assert_eq!(codec::decode(&delivery.raw, &at, now()).unwrap(), dead);
        delivery.ack().await.unwrap();
    }
}

#[tokio::test]
async fn the_supervisor_sees_what_waits_for_an_agent_and_until_when() {
    let (server, root) = scene().await;
    let (supervisor, _) = server.bus("supervisor").await;
    let empty = supervisor.waiting(Stream::TradingHigh, "buy_bot").await.unwrap().unwrap();
    assert_eq!((empty.messages, empty.oldest_at), (0, None));
    assert_eq!(supervisor.waiting(Stream::TradingHigh, "nobody").await.unwrap(), None);
    let until = now().plus_ms(45_000);
    let signal = |end: UnixMs| {
        format!(r#"{{"action":"BUY","token_address":"BTCUSDT","amount":"0.01","expiry_timestamp":{}}}"#, end.0)
    };
    for (n, subject, end) in [
        (1, "trading.signal.high", until),
        (2, "trading.buy_bot.signal.normal", until.plus_ms(9_000)),
        (3, "trading.treasury.intent.high", until),
        (4, "trading.buy_bot.signal.high", until.plus_ms(9_000)),
    ] {
        put(&root, &bytes(subject, Uuid::from_u128(n), signal(end).as_bytes())).await.unwrap();
    }
    let found = async || supervisor.waiting(Stream::TradingHigh, "buy_bot").await.unwrap().unwrap();
    // The server counts what waits for a consumer shortly after it took it.
    wait_until(Duration::from_secs(10), "all three counted", || async { found().await.messages == 3 }).await;
    assert_eq!(found().await.oldest_valid_until, Some(until));
    let mut puller = root.consumer(Stream::TradingHigh, "buy_bot").await.unwrap();
    let held = next(&mut puller).await;
    assert_eq!(found().await.messages, 3, "what is in its hands waits too");
    held.ack().await.unwrap();
    let later = found().await;
    assert_eq!((later.messages, later.oldest_valid_until), (2, Some(until.plus_ms(9_000))));
    assert!(later.oldest_at.is_some_and(|at| (now().since_ms(at)).abs() < 60_000));
}

#[tokio::test]
async fn the_last_market_value_is_kept_for_late_starters() {
    let (_server, root) = scene().await;
    let mut live = root.client().subscribe("market.*.tick.*").await.unwrap();
    for text in ["1", "2"] {
        root.client().publish("market.paper.tick.BTCUSDT", text.into()).await.unwrap();
        tokio::time::timeout(PATIENCE, live.next()).await.unwrap().unwrap();
    }
    let js = jetstream::new(root.client().clone());
    let kept = js.get_stream("MARKET").await.unwrap();
    let started = Instant::now();
    loop {
        let last = kept.get_last_raw_message_by_subject("market.paper.tick.BTCUSDT").await;
        if last.is_ok_and(|m| m.payload.as_ref() == b"2") {
            break;
        }
        assert!(started.elapsed() < PATIENCE, "the last value was not kept");
    }
    assert_eq!(js.get_stream("MARKET").await.unwrap().cached_info().state.messages, 1);
    let values = root.last_values("market.*.tick.*").await.unwrap();
    let values: Vec<(&str, &[u8])> = values.iter().map(|raw| (raw.subject.as_str(), raw.payload.as_slice())).collect();
    assert_eq!(values, [("market.paper.tick.BTCUSDT", b"2".as_slice())]);
    assert_eq!(root.last_values("market.*.candle.*").await.unwrap(), []);
}

#[tokio::test]
async fn a_publish_that_nobody_answers_is_tried_with_its_own_id_until_a_stream_is_there() {
    let (_server, root) = scene().await;
    let js = jetstream::new(root.client().clone());
    js.delete_stream("SYSTEM_LOW").await.unwrap();
    let dead = Envelope {
        header: Header { valid_until: Some(now().plus_ms(150)), ..notice("dead").header },
        ..notice("dead")
    };
    assert!(matches!(root.publish(&dead).await.unwrap_err(), BusError::PublishUnanswered { tries, .. } if tries >= 2));

    let (publisher, message) = (root.clone(), notice("late"));
    let late = tokio::spawn(async move { publisher.publish(&message).await });
    streams::apply(&root, &[]).await.unwrap();
    let stored = late.await.unwrap().unwrap();
    assert_eq!((stored.seq, stored.duplicate), (1, false));
}
