//! The wire codec: typed messages to Protobuf and back, and the only reader of anything that strangers may have written.
//!
//! Reading is strict. What is not exactly of the contract is a [`Reject`] with a stable code; nothing in here panics,
//! recurses over input, or reads a clock. `now` and the moment of arrival come in as arguments.

mod fields;
mod header;
mod json;
mod read;
mod signal;
mod write;

use domain::message::{Envelope, Payload};
use domain::reject::{Reject, RejectCode};
use domain::subject::{Route, Subject};
use domain::time::UnixMs;
use prost::Message as _;
use proto::v1;

use crate::connection::Encoded;
use crate::delivery::Raw;
use crate::letters;
use crate::{CONTENT_TYPE, MAX_MESSAGE_BYTES};

/// Where and when a message arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival<'a> {
    /// Stream name; empty for a plain subscription.
    pub stream: &'a str,
    /// Sequence in the stream; 0 for a plain subscription.
    pub stream_seq: u64,
    /// When the stream stored it; for a plain subscription, now.
    pub published_at: UnixMs,
}

/// What the bytes were.
#[expect(clippy::large_enum_variant, reason = "one message at a time is in hand")]
enum Wire {
    /// A whole message.
    Message(v1::AgentMessage),
    /// A signal without a head, as people write it.
    Signal(v1::TradingSignal),
}

/// Reads a message and looks whether it is in time: subject, size, form, head, content, time, in this order.
///
/// # Errors
/// A [`Reject`] that names the first thing that was wrong.
pub fn decode(raw: &Raw, at: &Arrival<'_>, now: UnixMs) -> Result<Envelope, Reject> {
    let envelope = read(raw, at)?;
    in_time(&envelope, now)?;
    Ok(envelope)
}

/// Whether a message may still be acted on at `now`: not made in the future, not past its end.
///
/// # Errors
/// [`RejectCode::FromTheFuture`], [`RejectCode::Expired`].
pub fn in_time(envelope: &Envelope, now: UnixMs) -> Result<(), Reject> {
    header::in_time(&envelope.header, matches!(envelope.payload, Payload::TradingSignal(_)), now)
}

/// Reads a message whatever the time: for whoever must know it before its time is judged (was it handled before?) or
/// after it died (what was buried?).
///
/// # Errors
/// A [`Reject`] that names the first thing that was wrong.
pub fn read(raw: &Raw, at: &Arrival<'_>) -> Result<Envelope, Reject> {
    let subject = Subject::parse(&raw.subject)
        .ok_or_else(|| Reject::new(RejectCode::UnknownSubject, "no subject of the swarm"))?;
    let door = header::Door::of(&subject);
    let (message, bare) = match read_form(raw)? {
        Wire::Message(message) => (message, false),
        Wire::Signal(signal) if door.is_person() => (
            v1::AgentMessage { payload: Some(v1::agent_message::Payload::TradingSignal(signal)), ..Default::default() },
            true,
        ),
        Wire::Signal(_) => {
            return Err(Reject::new(RejectCode::WrongPayload, "a bare signal is taken at a person's door only"));
        }
    };
    let payload = message.payload.as_ref().ok_or_else(|| Reject::new(RejectCode::WrongPayload, "no payload"))?;
    if !carries(subject.route(), payload) {
        return Err(Reject::new(RejectCode::WrongPayload, "payload does not belong on this subject"));
    }
    let first = letters::first_arrival(raw, at)?;
    let head = header::read(&message, bare, raw, &first, &subject, &door)?;
    let payload = read::payload(payload, &head, &door)?;
    Ok(Envelope { header: head, subject, payload })
}

/// The content of a message as proto3 JSON, for people to look at: a whole message, or a bare signal as its sender wrote it.
///
/// # Errors
/// A [`Reject`] when the bytes have no form of ours.
pub fn as_json(raw: &Raw) -> Result<serde_json::Value, Reject> {
    let value = match read_form(raw)? {
        Wire::Message(message) => serde_json::to_value(message),
        Wire::Signal(signal) => serde_json::to_value(signal),
    };
    value.map_err(|error| Reject::new(RejectCode::BadProtobuf, error.to_string()))
}

fn read_form(raw: &Raw) -> Result<Wire, Reject> {
    let bytes = raw.payload.as_slice();
    if bytes.is_empty() {
        return Err(Reject::new(RejectCode::Empty, "no bytes"));
    }
    if bytes.len() > MAX_MESSAGE_BYTES {
        return Err(Reject::new(RejectCode::Oversized, format!("{} bytes, at most {MAX_MESSAGE_BYTES}", bytes.len())));
    }
    match raw.header("content-type").map(str::trim) {
        Some(kind) if kind.eq_ignore_ascii_case(CONTENT_TYPE) => v1::AgentMessage::decode(bytes)
            .map(Wire::Message)
            .map_err(|e| Reject::new(RejectCode::BadProtobuf, e.to_string())),
        Some(kind) if kind.eq_ignore_ascii_case("application/json") => json::parse(bytes),
        Some(_) => Err(Reject::new(RejectCode::UnknownContentType, "content-type is neither Protobuf nor JSON")),
        None if bytes.iter().find(|b| !b.is_ascii_whitespace()) == Some(&b'{') => json::parse(bytes),
        None => Err(Reject::new(RejectCode::UnknownContentType, "no content-type header, and no JSON object")),
    }
}

/// Which payload may travel on which route.
const fn carries(route: Route, payload: &v1::agent_message::Payload) -> bool {
    use v1::agent_message::Payload as P;
    match route {
        Route::Signal | Route::UserSignal | Route::Idea => matches!(payload, P::TradingSignal(_)),
        Route::Intent => matches!(payload, P::OrderIntent(_)),
        Route::CexPermit | Route::DexPermit => matches!(payload, P::Permit(_)),
        Route::Report => matches!(payload, P::ExecutionReport(_)),
        Route::ApprovalRequested => matches!(payload, P::ApprovalRequest(_)),
        Route::ApprovalResolved => matches!(payload, P::ApprovalResponse(_)),
        Route::PersonAct | Route::AgentTask => matches!(payload, P::Task(_)),
        Route::TokenQuestion | Route::Task => matches!(payload, P::Task(_) | P::TaskResult(_)),
        Route::Decision => matches!(payload, P::OrderDecision(_)),
        Route::PositionChanged => matches!(payload, P::PositionChanged(_)),
        Route::Notice | Route::VoidWord => matches!(payload, P::Notice(_)),
        Route::TokenVerdict => matches!(payload, P::TokenVerdict(_)),
        Route::HaltChanged => matches!(payload, P::HaltChanged(_)),
        Route::Heartbeat => matches!(payload, P::Heartbeat(_)),
        Route::Command => matches!(payload, P::Command(_) | P::HealthCheck(_)),
        Route::Alert => matches!(payload, P::Alert(_)),
        Route::Lesson => matches!(payload, P::LessonProposed(_)),
        Route::Tick => matches!(payload, P::MarketTick(_)),
        Route::Candle => matches!(payload, P::Candle(_)),
    }
}

/// Writes a message. A [`domain::message::Payload::Timer`] has no wire form: it goes out without a payload, which every reader refuses.
#[must_use]
pub fn encode(envelope: &Envelope) -> Encoded {
    let head = &envelope.header;
    let message = v1::AgentMessage {
        message_id: head.message_id.to_string(),
        correlation_id: head.correlation_id.to_string(),
        source_agent: head.source_agent.clone(),
        target_agent: header::addressee(&envelope.subject).unwrap_or_default(),
        timestamp_ns: head.made_at.as_ns(),
        priority: i32::from(head.priority),
        ttl_ms: 0,
        topic: envelope.subject.to_string(),
        headers: std::collections::BTreeMap::new(),
        retry_count: 0,
        user_id: if head.user_id.0.is_nil() { String::new() } else { head.user_id.to_string() },
        schema_version: domain::message::SCHEMA_VERSION,
        valid_until_ms: head.valid_until.map_or(0, |t| t.0),
        payload: write::payload(&envelope.payload),
    };
    let mut headers = vec![
        ("Nats-Msg-Id".to_owned(), head.message_id.to_string()),
        ("content-type".to_owned(), CONTENT_TYPE.to_owned()),
        ("correlation-id".to_owned(), head.correlation_id.to_string()),
    ];
    if let Some(trace) = &head.traceparent {
        headers.push(("traceparent".to_owned(), trace.clone()));
    }
    Encoded { subject: envelope.subject.to_string(), id: head.message_id.0, headers, payload: message.encode_to_vec() }
}

#[cfg(test)]
mod tests;
