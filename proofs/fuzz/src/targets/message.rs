//! Messages off the bus: Protobuf, JSON, and subject with headers. What is accepted is checked against what the contract
//! says of it; what is refused has a code that people can look up.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use bus::codec::{Arrival, decode, encode};
use bus::{CONTENT_TYPE, MAX_MESSAGE_BYTES, Raw};
use domain::message::{Envelope, Payload};
use domain::reject::{Reject, RejectCode};
use domain::subject::Subject;
use domain::time::UnixMs;
use prost::Message as _;
use proto::v1;
use serde_json::Value;

use crate::memory::bounded;

/// The moment of all messages.
pub(crate) const NOW: UnixMs = UnixMs(1_790_000_000_000);
/// The operator's door.
const DOOR: &str = "trading.buy_bot.signal.urgent";

/// Codes that `docs/codes.md` explains.
static EXPLAINED: LazyLock<BTreeSet<&str>> = LazyLock::new(|| {
    let text = include_str!("../../../../docs/codes.md");
    text.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect()
});

/// A Protobuf message, on the subject it names or else on one that carries what it holds.
pub fn protobuf(data: &[u8]) {
    let message = v1::AgentMessage::decode(data).unwrap_or_default();
    check(&raw(subject_of(&message), Some(CONTENT_TYPE), data));
}

/// JSON: a whole message or a bare signal.
pub fn json(data: &[u8]) {
    let message: v1::AgentMessage = serde_json::from_slice(data).unwrap_or_default();
    check(&raw(subject_of(&message), None, data));
}

/// A subject line, header lines, an empty line, and the message.
pub fn door(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (head, body) = text.split_once("\n\n").unwrap_or((&text, ""));
    let mut lines = head.lines();
    let subject = lines.next().unwrap_or_default().to_owned();
    if let Some(read) = Subject::parse(&subject) {
        assert_eq!(read.to_string(), subject, "a subject reads back as itself");
        let _ = (read.stream(), read.priority(), read.route().filter());
    }
    let headers = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned()))
        .collect();
    // A lossy text is as good as the bytes: what is no text is refused before anything looks at it.
    check(&Raw { subject, headers, payload: body.as_bytes().to_vec() });
}

fn raw(subject: String, kind: Option<&str>, payload: &[u8]) -> Raw {
    let headers = kind.map(|kind| ("content-type".to_owned(), kind.to_owned())).into_iter().collect();
    Raw { subject, headers, payload: payload.to_vec() }
}

fn subject_of(message: &v1::AgentMessage) -> String {
    use v1::agent_message::Payload as P;
    if Subject::parse(&message.topic).is_some() {
        return message.topic.clone();
    }
    match &message.payload {
        None => DOOR,
        Some(P::TradingSignal(_)) => "trading.buy_bot.idea.high",
        Some(P::OrderIntent(_)) => "trading.treasury.intent.high",
        Some(P::Permit(_)) => "trading.online_trading.permit.high",
        Some(P::ExecutionReport(_)) => "trading.treasury.report.high",
        Some(P::ApprovalRequest(_)) => "trading.supervisor.approval.high",
        Some(P::ApprovalResponse(_)) => "trading.treasury.approval.high",
        Some(P::Task(_)) => "trading.treasury.act.high",
        Some(P::TaskResult(_)) => "trading.launchpad_governor.question.high",
        Some(P::OrderDecision(_)) => "system.all.decision.low",
        Some(P::PositionChanged(_)) => "system.all.position.low",
        Some(P::Notice(_)) => "system.all.notice.low",
        Some(P::TokenVerdict(_)) => "system.all.verdict.low",
        Some(P::HaltChanged(_)) => "system.all.halt.low",
        Some(P::Heartbeat(_)) => "pulse.monitor.heartbeat.low",
        Some(P::Command(_) | P::HealthCheck(_)) => "system.monitor.command.low",
        Some(P::Alert(_)) => "monitoring.all.alert.low",
        Some(P::LessonProposed(_)) => "system.all.lesson.low",
        Some(P::MarketTick(_)) => "market.paper.tick.BTCUSDT",
        Some(P::Candle(_)) => "market.paper.candle.BTCUSDT",
    }
    .to_owned()
}

fn read(raw: &Raw) -> Result<Envelope, Reject> {
    let at = Arrival { stream: "TRADING_CRITICAL", stream_seq: 7, published_at: NOW };
    bounded(raw.payload.len(), || decode(raw, &at, NOW))
}

fn check(raw: &Raw) {
    let answer = read(raw);
    match &answer {
        Ok(envelope) => accepted(envelope),
        Err(reject) => refused(reject),
    }
    both_forms_agree(raw, &answer);
}

fn refused(reject: &Reject) {
    assert!(EXPLAINED.contains(reject.code.code()), "docs/codes.md does not explain {}", reject.code.code());
    assert!(reject.detail.chars().count() <= 200 && !reject.detail.chars().any(char::is_control), "{reject:?}");
}

fn accepted(envelope: &Envelope) {
    let head = &envelope.header;
    assert!(head.priority <= 9, "priority {}", head.priority);
    assert!(!head.message_id.0.is_nil() && !head.correlation_id.0.is_nil(), "a nil id");
    assert!(head.made_at.since_ms(NOW) <= 5_000, "made in the future");
    assert!(head.valid_until.is_none_or(|end| end > NOW), "accepted although expired");
    let encoded = encode(envelope);
    assert_eq!(encoded.subject, envelope.subject.to_string());
    let wire = v1::AgentMessage::decode(encoded.payload.as_slice()).expect("what we encode decodes");
    bounds(&serde_json::to_value(&wire).expect("what we encode has a JSON form"), "message");
    if encoded.payload.len() > MAX_MESSAGE_BYTES {
        return;
    }
    let again = Raw { subject: encoded.subject, headers: encoded.headers, payload: encoded.payload };
    let again = read(&again).unwrap_or_else(|reject| panic!("what was accepted is refused when sent on: {reject}"));
    if matches!(envelope.payload, Payload::TradingSignal(_)) && is_from_a_person(envelope) {
        // A person's door makes the id anew, scoped by the user.
        assert_eq!((&again.payload, again.header.user_id), (&envelope.payload, head.user_id));
        assert_eq!((again.header.valid_until, again.header.made_at), (head.valid_until, head.made_at));
    } else {
        assert_eq!(&again, envelope, "decode(encode(x)) is x");
    }
}

fn is_from_a_person(envelope: &Envelope) -> bool {
    use domain::subject::Route;
    matches!(envelope.subject.route(), Route::Signal | Route::UserSignal)
}

/// Fields that hold a plain decimal.
const DECIMALS: [&str; 19] = [
    "priceLimit",
    "notionalUsd",
    "bid",
    "bidQuantity",
    "ask",
    "askQuantity",
    "open",
    "high",
    "low",
    "close",
    "volume",
    "quantity",
    "worstPrice",
    "maxNotionalUsd",
    "minOut",
    "filled",
    "costUsd",
    "realisedUsd",
    "cashUsd",
];

/// No text is longer than the contract says, none has control characters, no list has more entries, every amount is a
/// plain decimal in range.
fn bounds(value: &Value, name: &str) {
    match value {
        Value::String(text) => {
            assert!(text.len() <= 4_096 && !text.chars().any(char::is_control), "{name}: {text:?}");
            if DECIMALS.contains(&name) {
                let plain = text.strip_prefix('-').unwrap_or(text);
                let value = domain::money::parse_plain(plain).unwrap_or_else(|fault| panic!("{name} {text}: {fault}"));
                assert_eq!(domain::money::canonical_text(value), plain, "{name} is not canonical");
            }
        }
        Value::Array(items) => {
            assert!(items.len() <= 256, "{name}: {} entries", items.len());
            items.iter().for_each(|item| bounds(item, name));
        }
        Value::Object(fields) => {
            assert!(fields.len() <= 256, "{name}: {} entries", fields.len());
            fields.iter().for_each(|(field, value)| bounds(value, field));
        }
        _ => {}
    }
}

/// The same message in its other form gets the same answer.
fn both_forms_agree(raw: &Raw, answer: &Result<Envelope, Reject>) {
    let is_json = match raw.header("content-type").map(str::trim) {
        None => true,
        Some(kind) if kind.eq_ignore_ascii_case("application/json") => true,
        Some(kind) if kind.eq_ignore_ascii_case(CONTENT_TYPE) => false,
        Some(_) => return,
    };
    let other = if is_json {
        // The strict reader refuses more than the generated one (a key twice, an unknown field): only what passed counts.
        if matches!(answer, Err(reject) if is_about_form(reject.code)) {
            return;
        }
        let Ok(message) = serde_json::from_slice::<v1::AgentMessage>(&raw.payload) else { return };
        (message.encode_to_vec(), CONTENT_TYPE)
    } else {
        let Ok(message) = v1::AgentMessage::decode(raw.payload.as_slice()) else { return };
        // An enum number that the contract does not know has no JSON form.
        let Ok(text) = serde_json::to_vec(&message) else { return };
        (text, "application/json")
    };
    // No field at all is no byte at all, and has a code of its own.
    if raw.payload.is_empty() || other.0.is_empty() || other.0.len() > MAX_MESSAGE_BYTES {
        return;
    }
    let mut headers: Vec<_> =
        raw.headers.iter().filter(|(name, _)| !name.eq_ignore_ascii_case("content-type")).cloned().collect();
    headers.push(("content-type".to_owned(), other.1.to_owned()));
    let other = read(&Raw { subject: raw.subject.clone(), headers, payload: other.0 });
    match (answer, other) {
        (Ok(one), Ok(other)) => assert_eq!(one, &other, "the two forms differ"),
        (Err(one), Err(other)) => assert_eq!(one.code, other.code, "{one}; in the other form: {other}"),
        (one, other) => panic!("{one:?}; in the other form: {other:?}"),
    }
}

const fn is_about_form(code: RejectCode) -> bool {
    use RejectCode as C;
    matches!(
        code,
        C::Empty
            | C::Oversized
            | C::UnknownContentType
            | C::BadProtobuf
            | C::BadJson
            | C::TooDeep
            | C::UnknownField
            | C::UnknownSubject
    )
}
