//! The head of a message: who, whose money, until when. A person's message is believed about none of it: the door says
//! whose money, and ids are scoped by user, so that nobody can take the id of somebody else's message.

use domain::ids::{CorrelationId, MessageId, UserId};
use domain::message::{Header, SCHEMA_VERSION};
use domain::reject::{Reject, RejectCode};
use domain::subject::{Route, Subject, is_token};
use domain::time::UnixMs;
use proto::v1;

use super::Arrival;
use super::fields::{id, name, reject};
use crate::delivery::Raw;
use crate::letters::{FIRST_AT, FIRST_ID};

/// How far a sender's clock may be ahead of ours.
const MAX_AHEAD_MS: i64 = 5_000;
/// How long a signal lives that says nothing about it, counted from its arrival.
const DEFAULT_SIGNAL_MS: i64 = 60_000;
/// No signal lives longer: more is a unit mistake (ns for ms), which would make it immortal.
const MAX_SIGNAL_MS: i64 = 366 * domain::time::DAY_MS;
/// Longest `Nats-Msg-Id` of a person.
const MAX_KEY_BYTES: usize = 256;

/// Who came in.
pub(super) enum Door {
    /// A person through their own door.
    Person {
        /// Their short name.
        handle: String,
        /// Whose money that is.
        user: UserId,
    },
    /// A process of ours.
    Agent,
}

impl Door {
    pub(super) fn of(subject: &Subject) -> Self {
        let handle = match subject {
            Subject::ThreeToken { .. } | Subject::Routed { route: Route::Signal, .. } => "operator",
            Subject::Routed { route: Route::UserSignal, who: Some(handle), .. } => handle,
            _ => return Self::Agent,
        };
        Self::Person { handle: handle.to_owned(), user: UserId::of_handle(handle) }
    }

    pub(super) const fn is_person(&self) -> bool {
        matches!(self, Self::Person { .. })
    }
}

/// Who a subject is for; `None` for everybody.
pub(super) fn addressee(subject: &Subject) -> Option<String> {
    match subject {
        Subject::ThreeToken { .. } => Some("buy_bot".to_owned()),
        Subject::Market { .. } | Subject::Routed { route: Route::Heartbeat, .. } => None,
        Subject::Routed { route: Route::Command | Route::AgentTask, who, .. } => who.clone(),
        Subject::Routed { route, .. } => Some(route.tokens().1.to_owned()),
    }
    .filter(|agent| agent != "all")
}

/// The sender's name. It is one subject token, so that what is told apart behind it (`agent/strategy`) reads back.
fn agent(text: &str) -> Result<String, Reject> {
    let name = name(text, "source_agent")?;
    if is_token(&name) { Ok(name) } else { Err(reject(RejectCode::BadText, "source_agent", "no subject token")) }
}

pub(super) fn read(
    message: &v1::AgentMessage,
    bare: bool,
    raw: &Raw,
    at: &Arrival<'_>,
    subject: &Subject,
    door: &Door,
) -> Result<Header, Reject> {
    if message.schema_version > SCHEMA_VERSION {
        return Err(reject(RejectCode::UnknownVersion, "schema_version", message.schema_version));
    }
    check_address(message, raw, subject)?;
    let user_id = user(message, subject, door)?;
    let (message_id, correlation_id, source_agent) = match door {
        Door::Person { handle, user } => {
            let key = if bare {
                person_key(raw, at)?
            } else {
                id::<MessageId>(&message.message_id, "message_id")?.to_string()
            };
            let message_id = MessageId::of_person(*user, &key);
            (message_id, CorrelationId(message_id.0), handle.clone())
        }
        Door::Agent => (
            id(&message.message_id, "message_id")?,
            id(&message.correlation_id, "correlation_id")?,
            agent(&message.source_agent)?,
        ),
    };
    let priority = if bare { subject.priority().number() } else { message.priority };
    let priority = u8::try_from(priority)
        .ok()
        .filter(|p| *p <= 9)
        .ok_or_else(|| reject(RejectCode::BadEnum, "priority", "not 0 to 9"))?;
    let made_at = made_at(message, door, at)?;
    let valid_until = valid_until(message, made_at, at)?;
    let traceparent = raw.header("traceparent").filter(|t| is_traceparent(t)).map(str::to_owned);
    Ok(Header { message_id, correlation_id, source_agent, made_at, priority, user_id, valid_until, traceparent })
}

/// A message says where it goes; what was made for one subject is not taken on another.
fn check_address(message: &v1::AgentMessage, raw: &Raw, subject: &Subject) -> Result<(), Reject> {
    if !message.topic.is_empty() && message.topic != raw.subject {
        return Err(reject(RejectCode::WrongPayload, "topic", "made for another subject"));
    }
    let fits = match addressee(subject) {
        Some(agent) => message.target_agent.is_empty() || message.target_agent == agent,
        None => matches!(message.target_agent.as_str(), "" | "all"),
    };
    if fits { Ok(()) } else { Err(reject(RejectCode::WrongPayload, "target_agent", "not who this subject is for")) }
}

fn user(message: &v1::AgentMessage, subject: &Subject, door: &Door) -> Result<UserId, Reject> {
    let said = match message.user_id.as_str() {
        "" => None,
        text => Some(id::<UserId>(text, "user_id")?),
    };
    match door {
        Door::Person { user, .. } if said.is_none_or(|s| s == *user) => Ok(*user),
        Door::Person { .. } => Err(reject(RejectCode::WrongUser, "user_id", "not the user of this door")),
        Door::Agent => match said {
            Some(user) => Ok(user),
            None if needs_user(subject.route()) => Err(reject(RejectCode::BadId, "user_id", "missing")),
            None => Ok(UserId(uuid::Uuid::nil())),
        },
    }
}

/// Routes that are about somebody's money.
const fn needs_user(route: Route) -> bool {
    matches!(
        route,
        Route::Idea
            | Route::Intent
            | Route::CexPermit
            | Route::DexPermit
            | Route::Report
            | Route::ApprovalRequested
            | Route::ApprovalResolved
            | Route::Decision
            | Route::PositionChanged
    )
}

/// What makes a bare signal the same message again: the sender's own id, else its place in the stream. One that was put
/// back has a `Nats-Msg-Id` of the swarm's, and its sender's beside it.
fn person_key(raw: &Raw, at: &Arrival<'_>) -> Result<String, Reject> {
    let own = if raw.header(FIRST_AT).is_some() { FIRST_ID } else { "Nats-Msg-Id" };
    match raw.header(own) {
        Some(key) if key.is_empty() || key.len() > MAX_KEY_BYTES => {
            Err(reject(RejectCode::BadId, "Nats-Msg-Id", format!("empty, or over {MAX_KEY_BYTES} bytes")))
        }
        Some(key) => Ok(format!("id:{key}")),
        None => Ok(format!("at:{}:{}:{}", at.stream, at.stream_seq, at.published_at.0)),
    }
}

fn made_at(message: &v1::AgentMessage, door: &Door, at: &Arrival<'_>) -> Result<UnixMs, Reject> {
    match message.timestamp_ns {
        0 if door.is_person() => Ok(at.published_at),
        ns if ns > 0 => Ok(UnixMs(ns / 1_000_000)),
        _ => Err(reject(RejectCode::MissingField, "timestamp_ns", "not a moment")),
    }
}

pub(super) fn in_time(head: &Header, is_signal: bool, now: UnixMs) -> Result<(), Reject> {
    let ahead = head.made_at.since_ms(now);
    if ahead > MAX_AHEAD_MS {
        return Err(reject(RejectCode::FromTheFuture, "timestamp_ns", format!("{ahead} ms ahead")));
    }
    let Some(end) = head.valid_until else { return Ok(()) };
    if end <= now {
        return Err(reject(RejectCode::Expired, "valid until", format!("{end}, now {now}")));
    }
    if is_signal && end.since_ms(now) > MAX_SIGNAL_MS {
        return Err(reject(
            RejectCode::FromTheFuture,
            "valid until",
            "over a year ahead; the unit is ms since the epoch",
        ));
    }
    Ok(())
}

/// The earliest of all ends that the message names.
fn valid_until(message: &v1::AgentMessage, made_at: UnixMs, at: &Arrival<'_>) -> Result<Option<UnixMs>, Reject> {
    let signal = match &message.payload {
        Some(v1::agent_message::Payload::TradingSignal(signal)) => Some(signal),
        _ => None,
    };
    let expiry = signal.map_or(0, |s| s.expiry_timestamp);
    if message.valid_until_ms < 0 || message.ttl_ms < 0 || expiry < 0 {
        return Err(reject(RejectCode::Expired, "valid_until_ms, ttl_ms, expiry_timestamp", "negative"));
    }
    let named = [
        (message.valid_until_ms > 0).then_some(UnixMs(message.valid_until_ms)),
        (message.ttl_ms > 0).then(|| made_at.plus_ms(i64::from(message.ttl_ms))),
        (expiry > 0).then_some(UnixMs(expiry)),
    ];
    let earliest = named.into_iter().flatten().min();
    Ok(match signal {
        Some(_) => Some(earliest.unwrap_or_else(|| at.published_at.plus_ms(DEFAULT_SIGNAL_MS))),
        None => earliest,
    })
}

/// `00-<32 hex>-<16 hex>-<2 hex>`; another one is dropped, for a trace is no reason to refuse a message.
fn is_traceparent(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let hex = |part: &str, len: usize| part.len() == len && part.bytes().all(|b| b.is_ascii_hexdigit());
    matches!(parts.as_slice(), [v, t, s, f] if hex(v, 2) && hex(t, 32) && hex(s, 16) && hex(f, 2))
        && parts.iter().all(|p| is_token(p))
}
