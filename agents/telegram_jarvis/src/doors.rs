//! The swarm's doors for people, at which this agent knocks in their name: NATS services that the supervisor answers.

use std::time::Duration;

use runtime::Work;
use serde_json::Value;

/// How long an answer may take.
const WITHIN: Duration = Duration::from_secs(5);

/// Doors that this agent may knock at, for its SPEC.
pub const ASKED: &[&str] = &[
    "swarm.agents",
    "swarm.approvals",
    "swarm.close",
    "swarm.decide.telegram",
    "swarm.equity",
    "swarm.halt",
    "swarm.limits",
    "swarm.positions",
    "swarm.status",
    "swarm.trades",
];

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DoorFault {
    /// Nobody answered; whether it was heard is not known.
    #[error("{subject}: no answer ({text})")]
    Unanswered {
        /// Which door.
        subject: String,
        /// What was seen instead.
        text: String,
    },
    /// The answer is no.
    #[error("{code}: {detail}")]
    Refused {
        /// Stable code.
        code: String,
        /// For people.
        detail: String,
    },
}

/// Knocks and gives the answer when it is a yes.
///
/// # Errors
/// [`DoorFault`].
pub async fn ask(work: &Work, subject: &str, body: &Value) -> Result<Value, DoorFault> {
    let unanswered = |text: String| DoorFault::Unanswered { subject: subject.to_owned(), text };
    let payload = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    let request = work.bus.client().request(subject.to_owned(), payload.into());
    let message = match tokio::time::timeout(WITHIN, request).await {
        Err(_) => return Err(unanswered(format!("{} s", WITHIN.as_secs()))),
        Ok(Err(error)) => return Err(unanswered(error.to_string())),
        Ok(Ok(message)) => message,
    };
    let answer: Value = serde_json::from_slice(&message.payload).map_err(|_| unanswered("no JSON".to_owned()))?;
    if answer["ok"] != Value::Bool(true) {
        let text = |name: &str, or: &str| crate::text::line(answer[name].as_str().unwrap_or(or), 200);
        // Nothing was changed, and it asks to be asked again: as good as silence.
        if answer["code"] == "UNAVAILABLE" {
            return Err(unanswered(text("detail", "unavailable")));
        }
        return Err(DoorFault::Refused {
            code: text("code", "UNKNOWN"),
            detail: text("detail", "no reason was given"),
        });
    }
    Ok(answer)
}
