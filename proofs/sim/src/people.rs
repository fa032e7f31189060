//! The people of a world: they send signals in every form the doors take, vote, halt, resume and reset; some of them
//! badly, and some are not who they say they are.

use domain::ids::{CorrelationId, MessageId, UserId};
use domain::message::{Envelope, Header, Payload, SignalAction, SignalSize, TradingSignal};
use domain::money::{Price, Quantity, Usd};
use domain::order::{OrderEnvelope, Origin, Side, Slices};
use domain::person::{Act, Change, PersonAct, SignedAct, Vote};
use domain::subject::{Priority, Route, Subject};
use domain::time::UnixMs;
use ed25519_dalek::SigningKey;
use rails::modify;
use rails::signature::{sign_act, verify_act};
use rust_decimal::Decimal;
use serde_json::json;
use store::approvals::ApprovalRow;

use crate::hub::Hub;

/// A person with an account: handle, opening balance, a limit of their own.
pub type Account = (&'static str, i32, Option<(&'static str, &'static str)>);
/// People with an account.
pub const ACCOUNTS: [Account; 4] = [
    ("operator", 50_000, None),
    ("alice", 20_000, Some(("position_usd", "6000"))),
    ("bob", 1_500, None),
    ("strategies", 10_000, None),
];
/// People who may decide, and whether they may now.
pub const APPROVERS: [(&str, Option<&str>, bool); 3] =
    [("operator", Some("operator"), true), ("risk", None, true), ("former", None, false)];

/// One thing that a person does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Deed {
    /// A wish to trade.
    Signal,
    /// Many small wishes of one person at once.
    Burst(&'static str, u32),
    /// A purchase of somebody's, for so many dollars.
    Buy(&'static str, &'static str, u32),
    /// In and out again after a while.
    Trip,
    /// A vote on something that waits.
    Vote,
    /// The kill level up.
    Halt,
    /// The kill level down.
    Resume,
    /// A breaker reset.
    Reset,
    /// A look at something.
    Look,
    /// No person's deed: a model has an idea, and an agent sends it.
    Idea,
    /// The same bytes as before come once more.
    Again(bus::Raw),
}

/// A request for the supervisor's door.
#[derive(Debug, Clone)]
pub struct Request {
    /// Its subject.
    pub subject: &'static str,
    /// Its bytes.
    pub payload: Vec<u8>,
}

/// The private key of a person, a function of the name.
#[must_use]
pub fn key_of(person: &str) -> SigningKey {
    let mut seed = [7_u8; 32];
    for (at, byte) in person.bytes().enumerate().take(32) {
        seed[at] = byte;
    }
    SigningKey::from_bytes(&seed)
}

/// A signed act, with the key of `signer`.
#[must_use]
pub fn signed(person: &str, signer: &str, what: Act, at: UnixMs) -> Option<SignedAct> {
    let act = PersonAct {
        schema: PersonAct::SCHEMA.to_owned(),
        person_id: person.to_owned(),
        what,
        reason: "looked at it".to_owned(),
        signed_at: at,
    };
    sign_act(&key_of(signer), act).ok()
}

/// How much a signal asks for, in words of the wire.
fn size(hub: &Hub, sells: bool, cents: i64) -> (String, SignalSize) {
    let usd = match hub.below(20) {
        0 => hub.between(1, 4),
        1..=8 => hub.between(10, 700),
        9..=12 => hub.between(701, 1_000),
        13..=16 => hub.between(1_001, 6_000),
        17 => hub.between(6_001, 30_000),
        _ => hub.between(100, 300),
    };
    let dollars = Usd::dollars(i32::try_from(usd).unwrap_or(100));
    if sells && hub.permille(500) {
        return (r#""amount":"all""#.to_owned(), SignalSize::All);
    }
    if hub.permille(700) {
        return (format!(r#""notional_usd":"{usd}""#), SignalSize::Notional(dollars));
    }
    let base = (Decimal::from(usd * 100) / Decimal::from(cents.max(1))).round_dp(6);
    let quantity = Quantity::new(base).unwrap_or(Quantity::ZERO);
    (format!(r#""amount":"{base}""#), SignalSize::Base(quantity))
}

/// A purchase that names its price, so that it needs none of the planner's.
pub fn buy(hub: &Hub, handle: &str, token: &str, usd: u32, cents: i64) -> bus::Raw {
    let door = if handle == "operator" { "signal".to_owned() } else { format!("signal-{handle}") };
    let limit = Decimal::new(cents + cents / 100, 2);
    let payload =
        format!(r#"{{"action":"BUY","token_address":"{token}","notional_usd":"{usd}","price_limit":"{limit}"}}"#);
    let headers = vec![("Nats-Msg-Id".to_owned(), hub.new_id().to_string())];
    bus::Raw { subject: format!("trading.buy_bot.{door}.critical"), headers, payload: payload.into_bytes() }
}

/// A signal as its bytes arrive at a door, in one of the forms that people write; now and then none that can be read. With
/// `burst_of` it is one of that person's many small ones.
pub fn signal(hub: &Hub, burst_of: Option<&'static str>, prices: impl Fn(&str) -> i64) -> bus::Raw {
    let small = burst_of.is_some();
    let handle = burst_of.unwrap_or_else(|| hub.pick(&["operator", "operator", "alice", "alice", "bob", "nobody"]));
    let token = match hub.below(20) {
        0 => "DOGEUSDT",
        1 => "EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v",
        2..=7 => "ETHUSDT",
        _ => "BTCUSDT",
    };
    let cents = prices(token).max(100);
    let action = match hub.below(20) {
        0 => SignalAction::Hold,
        1..=6 if !small => SignalAction::Sell,
        _ => SignalAction::Buy,
    };
    let sells = action == SignalAction::Sell;
    let (size_text, size) = match action {
        SignalAction::Hold => (String::new(), SignalSize::None),
        _ if small => (r#""notional_usd":"20""#.to_owned(), SignalSize::Notional(Usd::dollars(20))),
        _ => size(hub, sells, cents),
    };
    let limit_cents =
        (hub.permille(300)).then(|| cents + cents * hub.pick(&[-700, -100, -20, 0, 20, 100, 700]) / 10_000);
    let word = match action {
        SignalAction::Buy => "BUY",
        SignalAction::Sell => "SELL",
        SignalAction::Hold => "HOLD",
    };
    let priority = hub.pick(&[Priority::Critical, Priority::Urgent, Priority::High, Priority::Normal, Priority::Low]);
    let subject = match handle {
        "operator" if hub.permille(200) => format!("trading.signal.{}", priority.token()),
        "operator" => Subject::of(Route::Signal, priority).to_string(),
        other => Subject::Routed { route: Route::UserSignal, who: Some(other.to_owned()), priority }.to_string(),
    };
    let now = hub.now();
    let expiry = hub.permille(150).then(|| now.plus_ms(hub.pick(&[-1_000, 500, 5_000, 300_000])));
    let sliced = action != SignalAction::Hold && hub.permille(200);
    let slices = sliced.then(|| Slices::new(hub.pick(&[2, 3, 5]), hub.pick(&[200, 1_000, 4_000]))).flatten();
    if hub.permille(250) {
        let signal = TradingSignal {
            action,
            token_address: token.to_owned(),
            size,
            price_limit: limit_cents.and_then(|c| Price::new(Decimal::new(c, 2)).ok()),
            time_in_force: None,
            slices,
            confidence_bps: None,
            reasoning: "said so".to_owned(),
            origin: Origin::Person { handle: handle.to_owned() },
        };
        return protobuf(hub, handle, &subject, signal, expiry);
    }
    let mut fields = vec![format!(r#""action":"{word}""#), format!(r#""token_address":"{token}""#)];
    fields.extend((!size_text.is_empty()).then_some(size_text));
    fields.extend(limit_cents.map(|c| format!(r#""price_limit":"{}""#, Decimal::new(c, 2))));
    fields.extend(slices.map(|s| format!(r#""slices":{},"slice_interval_ms":{}"#, s.count(), s.every_ms())));
    fields.extend(expiry.map(|at| format!(r#""expiry_timestamp":"{}""#, at.0)));
    let broken = hub.below(40);
    match broken {
        0 => fields.push(r#""leverage":"50""#.to_owned()),
        1 => fields.push(r#""amount":"1e3""#.to_owned()),
        2 => fields.truncate(1),
        _ => {}
    }
    let mut payload = format!("{{{}}}", fields.join(",")).into_bytes();
    if broken == 3 {
        payload.truncate(payload.len() / 2);
    }
    let headers =
        if hub.permille(700) { vec![("Nats-Msg-Id".to_owned(), hub.new_id().to_string())] } else { Vec::new() };
    bus::Raw { subject, headers, payload }
}

fn protobuf(hub: &Hub, handle: &str, subject: &str, signal: TradingSignal, expiry: Option<UnixMs>) -> bus::Raw {
    let id = MessageId(hub.new_id());
    let parsed = Subject::parse(subject).unwrap_or_else(|| Subject::of(Route::Signal, Priority::High));
    // Now and then somebody names another's account.
    let user = if hub.permille(50) { "operator" } else { handle };
    let envelope = Envelope {
        header: Header {
            message_id: id,
            correlation_id: CorrelationId(id.0),
            source_agent: handle.to_owned(),
            made_at: hub.now(),
            priority: 6,
            user_id: UserId::of_handle(user),
            valid_until: expiry,
            traceparent: None,
        },
        subject: parsed,
        payload: Payload::TradingSignal(signal),
    };
    let encoded = bus::Bus::encode(&envelope);
    bus::Raw { subject: subject.to_owned(), headers: encoded.headers, payload: encoded.payload }
}

/// A purchase, and the sale of all of it.
#[must_use]
pub fn trip(hub: &Hub) -> (bus::Raw, bus::Raw) {
    let make = |payload: &str| {
        let headers = vec![("Nats-Msg-Id".to_owned(), hub.new_id().to_string())];
        bus::Raw { subject: "trading.buy_bot.signal-bob.critical".to_owned(), headers, payload: payload.into() }
    };
    let buy = make(r#"{"action":"BUY","token_address":"ETHUSDT","notional_usd":"120"}"#);
    (buy, make(r#"{"action":"SELL","token_address":"ETHUSDT","amount":"all"}"#))
}

/// The epoch and level of a lowering that a person who may do so has signed.
#[must_use]
pub fn may_lower(signed: &SignedAct) -> Option<(i64, u8)> {
    let person = &signed.act.person_id;
    let known = APPROVERS.iter().any(|(name, _, active)| name == person && *active);
    let own_key = hex::encode(key_of(person).verifying_key().as_bytes());
    match signed.act.what {
        Act::LowerKill { level, epoch } if known && verify_act(signed, &own_key).is_ok() => Some((epoch, level)),
        _ => None,
    }
}

/// A word on one of the requests that are not over, by somebody, for something.
pub fn word(hub: &Hub, open: &[ApprovalRow]) -> Option<(Request, &'static str)> {
    let row = open.get(usize::try_from(hub.below(open.len() as u64)).ok()?)?;
    let (request, kind) = match hub.below(16) {
        0 => (
            act_of("operator", Act::Revoke { approval_id: row.approval_id, digest: row.digest }, hub)?,
            "word taken back",
        ),
        1 => (change(hub, row, modify::part(&row.envelope, 2, Decimal::new(1, 3))?)?, "word for half"),
        2 => (change(hub, row, less_room(&row.envelope)?)?, "word for a better price"),
        3 => (change(hub, row, more(&row.envelope)?)?, "word for more"),
        _ => return vote(hub, row),
    };
    Some((request, kind))
}

fn act_of(person: &str, what: Act, hub: &Hub) -> Option<Request> {
    let act = signed(person, person, what, hub.now())?;
    Some(Request { subject: "swarm.approve", payload: serde_json::to_vec(&act).ok()? })
}

fn change(hub: &Hub, row: &ApprovalRow, change: Change) -> Option<Request> {
    let person = hub.pick(&["operator", "risk"]);
    act_of(person, Act::Modify { approval_id: row.approval_id, digest: row.digest, change }, hub)
}

/// A worst price 20 basis points nearer to what one would like.
fn less_room(envelope: &OrderEnvelope) -> Option<Change> {
    let factor = match envelope.side {
        Side::Buy => Decimal::new(9_980, 4),
        Side::Sell => Decimal::new(10_020, 4),
    };
    let price = envelope.worst_price.value().checked_mul(factor)?.round_dp(2);
    Some(Change { quantity: None, worst_price: Some(Price::new(price).ok()?) })
}

fn more(envelope: &OrderEnvelope) -> Option<Change> {
    let twice = envelope.quantity.value().checked_mul(Decimal::TWO)?;
    Some(Change { quantity: Some(Quantity::new(twice).ok()?), worst_price: None })
}

fn vote(hub: &Hub, row: &ApprovalRow) -> Option<(Request, &'static str)> {
    let mut digest = row.digest;
    let (person, signer, kind) = match hub.below(12) {
        0 => ("risk", "stranger", "vote forged"),
        1 => ("stranger", "stranger", "vote of a stranger"),
        2 => ("former", "former", "vote of a former approver"),
        3 => {
            digest.0[0] ^= 1;
            ("risk", "risk", "vote for another envelope")
        }
        4 => ("operator", "operator", "vote late"),
        5..=7 => ("operator", "operator", "vote of the operator"),
        _ => ("risk", "risk", "vote of risk"),
    };
    let vote = if hub.permille(800) { Vote::Approve } else { Vote::Reject };
    let at = if kind == "vote late" { hub.now().plus_ms(-400_000) } else { hub.now() };
    let act = signed(person, signer, Act::Vote { approval_id: row.approval_id, digest, vote }, at)?;
    Some((Request { subject: "swarm.approve", payload: serde_json::to_vec(&act).ok()? }, kind))
}

/// A halt, now and then without a word.
pub fn halt(hub: &Hub) -> Request {
    let payload = match hub.below(5) {
        0 => Vec::new(),
        4 => json!({ "level": 3, "reason": "sell all" }).to_string().into_bytes(),
        1 => json!({ "level": 2, "reason": "cancel all" }).to_string().into_bytes(),
        2 => json!({ "level": 9 }).to_string().into_bytes(),
        _ => json!({ "level": 1, "reason": "a look" }).to_string().into_bytes(),
    };
    Request { subject: "swarm.halt", payload }
}

/// An act that lowers the kill level; not always of one who may, nor of the epoch in force.
pub fn resume(hub: &Hub, epoch: i64) -> Option<(Request, SignedAct)> {
    let (person, signer) =
        hub.pick(&[("operator", "operator"), ("risk", "risk"), ("risk", "stranger"), ("former", "former")]);
    let epoch = if hub.permille(100) { epoch - 1 } else { epoch };
    let act = signed(person, signer, Act::LowerKill { level: 0, epoch }, hub.now())?;
    Some((Request { subject: "swarm.resume", payload: serde_json::to_vec(&act).ok()? }, act))
}

/// An act that resets a breaker; not always the latch that is.
pub fn reset(hub: &Hub, user_id: UserId, latched_at: UnixMs) -> Option<Request> {
    let signer = hub.pick(&["operator", "operator", "stranger"]);
    let latched_at = if hub.permille(100) { latched_at.plus_ms(1) } else { latched_at };
    let act = signed("operator", signer, Act::ResetBreaker { user_id, latched_at }, hub.now())?;
    Some(Request { subject: "swarm.breaker", payload: serde_json::to_vec(&act).ok()? })
}
