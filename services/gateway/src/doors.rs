//! The supervisor's services, asked over NATS.

use std::time::Duration;

use async_nats::Request;
use serde_json::Value;

/// Longest wait for what is only read.
const READ_WITHIN: Duration = Duration::from_secs(2);
/// Longest wait for what changes something: its answer is worth waiting for.
const ACT_WITHIN: Duration = Duration::from_secs(8);

/// No answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// Nobody is there to answer: nothing was done.
    #[error("nobody answers {0}")]
    Nobody(String),
    /// The answer did not come in time, or is none: what was asked for may have been done.
    #[error("no answer of {0}: {1}")]
    Unanswered(String, String),
}

/// The way to the services.
#[derive(Debug, Clone)]
pub struct Doors {
    client: async_nats::Client,
}

impl Doors {
    /// Over this connection.
    #[must_use]
    pub const fn new(client: async_nats::Client) -> Self {
        Self { client }
    }

    /// Reads.
    ///
    /// # Errors
    /// [`AskError`].
    pub async fn read(&self, subject: &str, body: &Value) -> Result<Value, AskError> {
        self.ask(subject, body, READ_WITHIN).await
    }

    /// Asks for something to be done.
    ///
    /// # Errors
    /// [`AskError`]; after [`AskError::Unanswered`] it may have been done.
    pub async fn act(&self, subject: &str, body: &Value) -> Result<Value, AskError> {
        self.ask(subject, body, ACT_WITHIN).await
    }

    async fn ask(&self, subject: &str, body: &Value, within: Duration) -> Result<Value, AskError> {
        let unanswered = |text: String| AskError::Unanswered(subject.to_owned(), text);
        let payload = serde_json::to_vec(body).map_err(|error| unanswered(error.to_string()))?;
        let request = Request::new().payload(payload.into()).timeout(Some(within));
        let reply =
            self.client.send_request(subject.to_owned(), request).await.map_err(|error| match error.kind() {
                async_nats::client::RequestErrorKind::NoResponders => AskError::Nobody(subject.to_owned()),
                _ => unanswered(error.to_string()),
            })?;
        let answer: Value = serde_json::from_slice(&reply.payload).map_err(|error| unanswered(error.to_string()))?;
        if answer.is_object() { Ok(answer) } else { Err(unanswered("it is no object".to_owned())) }
    }
}

/// Whether an answer says that it was done.
#[must_use]
pub fn is_ok(answer: &Value) -> bool {
    answer.get("ok").and_then(Value::as_bool) == Some(true)
}
