//! What a person does about dead letters, against a real NATS and a real Postgres.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a failed step is a failed test

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bus::codec::Arrival;
use bus::{Bus, BusConfig, BusError, Published, Raw, streams};
use domain::agent::{AgentSpec, USUAL_LIMITS};
use domain::ids::UserId;
use domain::message::{Envelope, Message};
use domain::person::{Act, PersonAct, SignedAct};
use domain::reject::{Reject, RejectCode};
use domain::subject::{Route, Stream};
use domain::time::UnixMs;
use ed25519_dalek::SigningKey;
use rails::book::Marks;
use rails::signature::sign_act;
use runtime::{HandleError, Means, Record};
use serde_json::{Value, json};
use store::approvals::Approver;
use store::migrate::{RoleSpec, ensure_roles, migrate};
use store::{Db, Unit};
use supervisor::answer;
use supervisor::letters::{self, Reading};
use testkit::servers::{self, TestNats};

const BOUND: Duration = Duration::from_secs(20);
const SIGNAL: &[u8] = br#"{"action":"BUY","token_address":"BTCUSDT","notional_usd":"600"}"#;
const SUBJECT: &str = "trading.buy_bot.signal-alice.high";

const BUY_BOT: AgentSpec = AgentSpec {
    name: "buy_bot",
    job: "a sample",
    consumes: &[Route::Signal, Route::UserSignal],
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

struct House {
    _nats: TestNats,
    bus: Bus,
    admin: Db,
    supervisor: Db,
    reading: Reading,
    /// No stream answers.
    is_mute: AtomicBool,
}

impl Record for House {
    async fn begin(&self, user: UserId) -> Result<Unit, HandleError> {
        assert!(user.0.is_nil());
        Ok(self.supervisor.begin().await?)
    }

    async fn commit(&self, unit: Unit, _user: UserId, _out: Vec<Message>) -> Result<(), HandleError> {
        Ok(unit.commit().await?)
    }
}

impl Means for House {
    fn now(&self) -> UnixMs {
        domain::time::Clock::now(&runtime::clock::SystemClock)
    }

    fn marks(&self) -> Marks {
        Marks::new()
    }

    fn new_id(&self) -> uuid::Uuid {
        uuid::Uuid::nil()
    }

    async fn emit(&self, _: UserId, _: Vec<Message>) -> Result<(), HandleError> {
        Ok(())
    }

    async fn pause(&self, ms: u64) {
        tokio::time::sleep(std::time::Duration::from_millis(ms)).await;
    }

    async fn forward(&self, raw: &Raw, until: Option<UnixMs>) -> Result<Published, BusError> {
        if self.is_mute.load(Ordering::SeqCst) {
            return Err(BusError::PublishUnanswered { subject: raw.subject.clone(), tries: 1 });
        }
        self.bus.forward(raw, until, &|| Means::now(self)).await
    }
}

fn key(person: u8) -> SigningKey {
    SigningKey::from_bytes(&[person; 32])
}

impl House {
    async fn new() -> Self {
        let nats = tokio::task::spawn_blocking(servers::fresh_nats).await.unwrap();
        let postgres = tokio::task::spawn_blocking(servers::postgres).await.unwrap();
        let database = postgres.empty_database().await;
        migrate(&database.admin_url()).await.unwrap();
        let role = RoleSpec { name: "supervisor", password: "test", grants: store::grants::SUPERVISOR };
        ensure_roles(&database.admin_url(), &[role]).await.unwrap();
        let admin = Db::connect(&database.admin_url(), "test").await.unwrap();
        let supervisor = Db::connect(&database.url_as("supervisor"), "test").await.unwrap();
        let mut unit = admin.begin().await.unwrap();
        let public_key = hex::encode(key(3).verifying_key().as_bytes());
        let person = Approver { person_id: "operator".into(), handle: None, public_key, active: true };
        store::approvals::upsert_approver(&mut unit, &person).await.unwrap();
        unit.commit().await.unwrap();
        let config = BusConfig { url: nats.url(), name: "test".into(), ..BusConfig::default() };
        let (bus, _events) = Bus::connect(config).await.unwrap();
        streams::apply(&bus, &[BUY_BOT]).await.unwrap();
        let (reading, is_mute) = (Reading::default(), AtomicBool::new(false));
        Self { _nats: nats, bus, admin, supervisor, reading, is_mute }
    }

    /// Buries what `alice` sent `age_ms` ago at place `seq`.
    async fn bury(&self, seq: u64, payload: &[u8], age_ms: i64) {
        let raw = Raw { subject: SUBJECT.into(), headers: Vec::new(), payload: payload.to_vec() };
        let now = Means::now(self);
        let at = Arrival { stream: "TRADING_HIGH", stream_seq: seq, published_at: now.plus_ms(-age_ms) };
        let reject = Reject::new(RejectCode::NoMark, "no price");
        self.bus.dead_letter(&at, "buy_bot", &raw, &reject, now).await.unwrap();
    }

    async fn list(&self, all: bool) -> Value {
        let asked = serde_json::to_vec(&json!({ "all": all })).unwrap();
        letters::list(&self.reading, self, &self.bus, &asked).await.unwrap().unwrap()
    }

    async fn show(&self, letter: &str) -> Value {
        let asked = serde_json::to_vec(&json!({ "letter": letter })).unwrap();
        said(letters::show(&self.reading, self, &self.bus, &asked).await)
    }

    async fn died_at(&self, letter: &str) -> UnixMs {
        UnixMs(self.show(letter).await["died_at_ms"].as_i64().unwrap())
    }

    async fn redrive(&self, signed: &SignedAct) -> Value {
        said(letters::redrive(self, &self.bus, &serde_json::to_vec(signed).unwrap()).await)
    }

    async fn drop_letter(&self, signed: &SignedAct) -> Value {
        said(letters::drop_letter(self, &serde_json::to_vec(signed).unwrap()).await)
    }

    async fn redriving(&self, letter: &str, number: u32) -> SignedAct {
        let died_at = self.died_at(letter).await;
        self.signed(Act::RedriveLetter { letter: letter.into(), died_at, number }, "there is a price now").await
    }

    async fn dropping(&self, letter: &str, reason: &str) -> SignedAct {
        let died_at = self.died_at(letter).await;
        self.signed(Act::DropLetter { letter: letter.into(), died_at }, reason).await
    }

    async fn signed(&self, what: Act, reason: &str) -> SignedAct {
        let signed_at = self.admin.now().await.unwrap();
        let (schema, person_id) = (PersonAct::SCHEMA.to_owned(), "operator".to_owned());
        sign_act(&key(3), PersonAct { schema, person_id, what, reason: reason.into(), signed_at }).unwrap()
    }

    async fn governance(&self) -> Vec<String> {
        let kinds = "SELECT kind FROM governance_audit ORDER BY seq";
        sqlx::query_scalar(kinds).fetch_all(self.admin.pool()).await.unwrap()
    }

    /// What lies in the stream of signals, as its reader reads it.
    async fn in_stream(&self) -> Vec<Envelope> {
        let context = async_nats::jetstream::new(self.bus.client().clone());
        let waiting = context.get_stream("TRADING_HIGH").await.unwrap().cached_info().state.messages;
        let mut puller = self.bus.consumer(Stream::TradingHigh, "buy_bot").await.unwrap();
        let mut found = Vec::new();
        let started = tokio::time::Instant::now();
        while (found.len() as u64) < waiting {
            assert!(started.elapsed() < BOUND, "{} of {waiting}", found.len());
            let Some(delivery) = puller.next().await.unwrap() else { continue };
            let at = Arrival {
                stream: "TRADING_HIGH",
                stream_seq: delivery.stream_seq,
                published_at: delivery.published_at,
            };
            found.push(bus::codec::decode(&delivery.raw, &at, Means::now(self)).unwrap());
            delivery.ack().await.unwrap();
        }
        found
    }
}

fn said(answered: supervisor::services::Answer) -> Value {
    match answered.unwrap() {
        Ok(value) => answer::ok(value),
        Err(refused) => refused.json(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_letter_is_shown_and_its_message_put_back_once_however_often_that_is_asked() {
    let house = House::new().await;
    house.bury(7, SIGNAL, 1_000).await;
    let listed = house.list(false).await;
    let row = &listed["letters"][0];
    assert_eq!((listed["open"].as_i64(), row["letter"].as_str()), (Some(1), Some("TRADING_HIGH:7")));
    assert_eq!((row["code"].as_str(), row["subject"].as_str()), (Some("NO_MARK"), Some(SUBJECT)));
    assert_eq!(row["user_id"], json!(UserId::of_handle("alice")));
    assert_eq!((&row["may_be_redriven"], &row["why_not"]), (&json!(true), &Value::Null));
    let shown = house.show("TRADING_HIGH:7").await;
    assert_eq!(shown["message"]["tokenAddress"], "BTCUSDT", "{shown}");
    assert_eq!((shown["detail"].as_str(), shown["consumer"].as_str()), (Some("no price"), Some("buy_bot")));

    let act = house.redriving("TRADING_HIGH:7", 1).await;
    let answer = house.redrive(&act).await;
    assert_eq!((&answer["ok"], &answer["duplicate"]), (&json!(true), &json!(false)), "{answer}");
    // Delivered again, and pressed again by whoever looks a second time.
    for act in [act, house.redriving("TRADING_HIGH:7", 1).await] {
        let again = house.redrive(&act).await;
        assert_eq!((&again["duplicate"], &again["seq"]), (&json!(true), &answer["seq"]), "{again}");
    }
    assert_eq!(house.redrive(&house.redriving("TRADING_HIGH:7", 2).await).await["code"], "ALREADY_REDRIVEN");
    assert_eq!(house.drop_letter(&house.dropping("TRADING_HIGH:7", "enough").await).await["code"], "ALREADY_REDRIVEN");
    let found = house.in_stream().await;
    assert_eq!(found.iter().map(|m| json!(m.header.message_id)).collect::<Vec<_>>(), [row["message_id"].clone()]);
    assert_eq!(json!(found[0].header.valid_until), row["valid_until_ms"], "its end did not move");
    assert_eq!(house.governance().await, ["letter_redriven"]);
    assert_eq!(house.list(false).await["open"], 0);
    let closed = &house.list(true).await["letters"][0];
    assert_eq!(
        (&closed["state"], &closed["attempts"], &closed["by"]),
        (&json!("redriven"), &json!(1), &json!("operator"))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn past_its_end_a_message_is_never_offered_nor_put_back() {
    let house = House::new().await;
    house.bury(7, SIGNAL, 61_000).await;
    let row = house.list(false).await["letters"][0].clone();
    assert_eq!((&row["may_be_redriven"], &row["why_not"]), (&json!(false), &json!("EXPIRED")));
    assert_eq!(house.redrive(&house.redriving("TRADING_HIGH:7", 1).await).await["code"], "EXPIRED");
    // A note about the letter that says otherwise changes nothing: the letter itself is read.
    let lie = "UPDATE dead_letters SET valid_until = now() + interval '1 hour'";
    sqlx::query(lie).execute(house.admin.pool()).await.unwrap();
    assert_eq!(house.list(false).await["letters"][0]["may_be_redriven"], true);
    assert_eq!(house.redrive(&house.redriving("TRADING_HIGH:7", 1).await).await["code"], "EXPIRED");
    assert_eq!((house.in_stream().await.len(), house.governance().await.len()), (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_can_not_be_read_is_only_dropped_and_for_a_reason() {
    let house = House::new().await;
    house.bury(7, b"{\"action\":", 1_000).await;
    let shown = house.show("TRADING_HIGH:7").await;
    assert_eq!((&shown["why_not"], &shown["message"]), (&json!("UNREADABLE"), &Value::Null));
    assert!(shown["unreadable"].as_str().unwrap().starts_with("BAD_JSON"), "{shown}");
    assert_eq!(house.redrive(&house.redriving("TRADING_HIGH:7", 1).await).await["code"], "UNREADABLE");
    assert_eq!(house.drop_letter(&house.dropping("TRADING_HIGH:7", " ").await).await["code"], "REASON_MISSING");
    for _ in 0..2 {
        let dropped = house.drop_letter(&house.dropping("TRADING_HIGH:7", "garbage").await).await;
        assert_eq!(dropped["dropped"], true, "{dropped}");
    }
    assert_eq!(house.redrive(&house.redriving("TRADING_HIGH:7", 1).await).await["code"], "DROPPED");
    assert_eq!(
        (house.list(false).await["open"].as_i64(), house.governance().await),
        (Some(0), vec!["letter_dropped".to_owned()])
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_a_person_puts_back_exactly_the_letter_they_saw() {
    let house = House::new().await;
    house.bury(7, SIGNAL, 1_000).await;
    let good = house.redriving("TRADING_HIGH:7", 1).await;
    let died_at = house.died_at("TRADING_HIGH:7").await;
    let redriving = |letter: &str, died_at, number| Act::RedriveLetter { letter: letter.into(), died_at, number };
    let mut forged = good.clone();
    forged.act.what = redriving("TRADING_HIGH:8", died_at, 1);
    let stranger = sign_act(&key(4), good.act.clone()).unwrap();
    let unknown = sign_act(&key(4), PersonAct { person_id: "mallory".into(), ..good.act.clone() }).unwrap();
    let old = PersonAct { signed_at: good.act.signed_at.plus_ms(-300_001), ..good.act.clone() };
    for (signed, code) in [
        (forged, "BAD_SIGNATURE"),
        (stranger, "BAD_SIGNATURE"),
        (unknown, "UNKNOWN_APPROVER"),
        (sign_act(&key(3), old).unwrap(), "EXPIRED"),
        (house.signed(redriving("TRADING_HIGH:7", died_at.plus_ms(1), 1), "x").await, "UNKNOWN_LETTER"),
        (house.signed(redriving("TRADING_HIGH:8", died_at, 1), "x").await, "UNKNOWN_LETTER"),
        (house.signed(redriving("TRADING_HIGH:7", died_at, 2), "x").await, "STALE_NUMBER"),
        (house.signed(redriving("TRADING_HIGH:7", died_at, 0), "x").await, "STALE_NUMBER"),
        (house.dropping("TRADING_HIGH:7", "not this act").await, "WRONG_ACT"),
    ] {
        assert_eq!(house.redrive(&signed).await["code"], code, "{signed:?}");
    }
    assert_eq!(house.drop_letter(&good).await["code"], "WRONG_ACT");
    assert_eq!(said(letters::redrive(&house, &house.bus, b"{}").await)["code"], "NOT_SIGNED");
    assert_eq!(house.show("TRADING_HIGH:8").await["code"], "UNKNOWN_LETTER");
    assert_eq!((house.in_stream().await.len(), house.governance().await.len()), (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_no_stream_confirmed_still_waits_and_goes_out_again_under_the_same_id() {
    let house = House::new().await;
    house.bury(7, SIGNAL, 1_000).await;
    house.is_mute.store(true, Ordering::SeqCst);
    assert_eq!(house.redrive(&house.redriving("TRADING_HIGH:7", 1).await).await["code"], "NOT_CONFIRMED");
    let row = house.list(false).await["letters"][0].clone();
    assert_eq!(
        (&row["state"], &row["may_be_redriven"], &row["redrive_number"]),
        (&json!("redriven"), &json!(true), &json!(1))
    );
    let sent_as = async || -> uuid::Uuid {
        sqlx::query_scalar("SELECT sent_as FROM dead_letters").fetch_one(house.admin.pool()).await.unwrap()
    };
    let first = sent_as().await;
    house.is_mute.store(false, Ordering::SeqCst);
    let answer = house.redrive(&house.redriving("TRADING_HIGH:7", 1).await).await;
    assert_eq!((&answer["ok"], &answer["duplicate"]), (&json!(true), &json!(false)), "{answer}");
    assert_eq!((sent_as().await, house.governance().await.len()), (first, 1));
    assert_eq!((house.in_stream().await.len(), house.list(false).await["open"].as_i64()), (1, Some(0)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_dies_again_has_a_letter_of_its_own_and_is_put_back_five_times_at_most() {
    let house = House::new().await;
    house.bury(1, SIGNAL, 1_000).await;
    let first = house.show("TRADING_HIGH:1").await["message_id"].clone();
    let mut id = "TRADING_HIGH:1".to_owned();
    for number in 1..=5 {
        let answer = house.redrive(&house.redriving(&id, number).await).await;
        assert_eq!(answer["message_id"], first, "{number}: {answer}");
        let mut puller = house.bus.consumer(Stream::TradingHigh, "buy_bot").await.unwrap();
        let started = tokio::time::Instant::now();
        let delivery = loop {
            assert!(started.elapsed() < BOUND, "nothing came");
            if let Some(delivery) = puller.next().await.unwrap() {
                break delivery;
            }
        };
        let at = Arrival {
            stream: "TRADING_HIGH",
            // Far from the places of the others.
            stream_seq: 100 + delivery.stream_seq,
            published_at: delivery.published_at,
        };
        let reject = Reject::new(RejectCode::NoMark, "still none");
        house.bus.dead_letter(&at, "buy_bot", &delivery.raw, &reject, Means::now(&house)).await.unwrap();
        delivery.term().await.unwrap();
        id = format!("TRADING_HIGH:{}", at.stream_seq);
        let shown = house.show(&id).await;
        assert_eq!((&shown["message_id"], &shown["attempts"]), (&first, &json!(number)), "{shown}");
    }
    assert_eq!(house.show(&id).await["why_not"], "TOO_MANY_REDRIVES");
    assert_eq!(house.redrive(&house.redriving(&id, 6).await).await["code"], "TOO_MANY_REDRIVES");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn letters_that_the_stream_lost_wait_for_nobody_and_a_stream_made_anew_is_read_from_its_start() {
    let house = House::new().await;
    for seq in 1..=3 {
        house.bury(seq, SIGNAL, 1_000).await;
    }
    assert_eq!(house.list(false).await["open"], 3);
    let context = async_nats::jetstream::new(house.bus.client().clone());
    context.get_stream("DLQ").await.unwrap().purge().sequence(3).await.unwrap();
    assert_eq!(house.list(false).await["letters"][0]["letter"], "TRADING_HIGH:3");
    assert_eq!(house.list(false).await["open"], 1);
    context.delete_stream("DLQ").await.unwrap();
    streams::apply(&house.bus, &[BUY_BOT]).await.unwrap();
    assert_eq!(house.list(true).await["letters"], json!([]));
    house.bury(3, SIGNAL, 1_000).await;
    assert_eq!(house.list(false).await["open"], 1);
}
