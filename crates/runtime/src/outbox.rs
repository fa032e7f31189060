//! What leaves a process, without a server: the heads of chains, and outputs as rows of the outbox and back.

use bus::{Bus, Encoded};
use domain::agent::AgentSpec;
use domain::ids::{CorrelationId, MessageId, UserId};
use domain::message::{Header, Message};
use domain::subject::{Priority, Route};
use domain::time::UnixMs;
use store::OutboxRow;
use uuid::Uuid;

use crate::agent::HandleError;
use crate::trace;

/// What every process may publish, announced or not.
const EVERYBODYS: [Route; 2] = [Route::Notice, Route::Alert];

/// The head of the chain that `agent` begins with the id `id` at `now`.
#[must_use]
pub fn root(agent: &str, id: Uuid, user_id: UserId, now: UnixMs) -> Header {
    let mut header = Header {
        message_id: MessageId(id),
        correlation_id: CorrelationId(id),
        source_agent: agent.to_owned(),
        made_at: now,
        priority: u8::try_from(Priority::Low.number()).unwrap_or(0),
        user_id,
        valid_until: None,
        traceparent: None,
    };
    trace::enter(&mut header);
    header
}

/// Outputs, children of `parent`, as outbox rows.
///
/// # Errors
/// [`HandleError::Fatal`] for a message that the SPEC does not announce: NATS would refuse it.
pub fn rows(spec: &AgentSpec, parent: &Header, out: Vec<Message>, now: UnixMs) -> Result<Vec<OutboxRow>, HandleError> {
    announced(spec, &out)?;
    let rows = out.into_iter().map(|message| {
        let valid_until = message.valid_until;
        row(Bus::encode(&message.into_child(parent, spec.name, now)), valid_until)
    });
    Ok(rows.collect())
}

/// Whether the SPEC names every message's route.
///
/// # Errors
/// [`HandleError::Fatal`] with the first that it does not.
pub fn announced(spec: &AgentSpec, out: &[Message]) -> Result<(), HandleError> {
    let granted = |route: &Route| spec.emits.contains(route) || EVERYBODYS.contains(route);
    match out.iter().map(|m| m.subject.route()).find(|route| !granted(route)) {
        Some(route) => Err(HandleError::Fatal(format!("{route:?} is not among the emits of {}'s SPEC", spec.name))),
        None => Ok(()),
    }
}

/// A message as a row.
#[must_use]
pub fn row(encoded: Encoded, valid_until: Option<UnixMs>) -> OutboxRow {
    let headers = encoded.headers.into_iter().map(|(name, value)| (name, value.into())).collect();
    OutboxRow {
        id: encoded.id,
        subject: encoded.subject,
        headers: serde_json::Value::Object(headers),
        payload: encoded.payload,
        valid_until,
    }
}

/// A row as a message.
#[must_use]
pub fn encoded(row: OutboxRow) -> Encoded {
    let headers = match row.headers {
        serde_json::Value::Object(map) => {
            map.into_iter().filter_map(|(name, value)| Some((name, value.as_str()?.to_owned()))).collect()
        }
        _ => Vec::new(),
    };
    Encoded { subject: row.subject, id: row.id, headers, payload: row.payload }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_survives_its_row() {
        let message = Encoded {
            subject: "system.all.notice.low".into(),
            id: Uuid::nil(),
            headers: vec![("Nats-Msg-Id".into(), "x".into()), ("content-type".into(), "application/x-protobuf".into())],
            payload: vec![1, 2, 3],
        };
        let mut back = encoded(row(message.clone(), Some(UnixMs(1))));
        back.headers.sort();
        assert_eq!(back, message);
    }
}
