//! Calls of the Bot API. Types and payloads are teloxide's; the call itself is our own, because its `Bot` sleeps for ten
//! seconds inside a call after a 5xx and takes a message it can't read for one that was not sent.
//!
//! The token is part of every address. No error made here carries an address, so none carries the token.

use std::time::Duration;

use reqwest::multipart::{Form, Part};
use serde::Serialize;
use serde_json::{Value, json};
use teloxide_core::ApiError;
use teloxide_core::requests::Payload;

use crate::config::{Config, Token};

/// How long a call may take.
const CALL: Duration = Duration::from_secs(10);
/// How long the upload of a picture may take.
const UPLOAD: Duration = Duration::from_secs(30);
/// How much longer than it asks for a poll may take: an answer that never comes must not hold the line.
const POLL_SLACK: Duration = Duration::from_secs(5);
/// Longest wait that is obeyed when we are told to come back later.
const LONGEST_WAIT: Duration = Duration::from_secs(3_600);

/// Why a call came to nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApiFault {
    /// The server said no; nothing was done.
    #[error("refused: {0}")]
    Refused(ApiError),
    /// Too fast; nothing was done.
    #[error("too many requests: retry after {} s", retry_after.as_secs())]
    TooMany {
        /// Not before this is over.
        retry_after: Duration,
    },
    /// Nobody knows: no answer, or one that can't be read. It may have been done.
    #[error("no clear answer: {0}")]
    Unclear(String),
}

impl ApiFault {
    /// An edit that would change nothing: what was wanted is there.
    #[must_use]
    pub const fn is_not_modified(&self) -> bool {
        matches!(self, Self::Refused(ApiError::MessageNotModified))
    }

    /// The message to edit is gone, or nobody may edit it any more.
    #[must_use]
    pub const fn is_gone(&self) -> bool {
        matches!(
            self,
            Self::Refused(ApiError::MessageToEditNotFound | ApiError::MessageCantBeEdited | ApiError::MessageIdInvalid)
        )
    }

    /// The person does not want to hear from us, or is no more.
    #[must_use]
    pub const fn is_unreachable(&self) -> bool {
        matches!(
            self,
            Self::Refused(
                ApiError::BotBlocked
                    | ApiError::UserDeactivated
                    | ApiError::ChatNotFound
                    | ApiError::CantInitiateConversation
            )
        )
    }

    /// How long to wait when the server said so.
    #[must_use]
    pub const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::TooMany { retry_after } => Some(*retry_after),
            _ => None,
        }
    }
}

/// The Bot API, as one bot.
#[derive(Clone)]
pub struct Api {
    http: reqwest::Client,
    base: String,
    token: Token,
}

impl std::fmt::Debug for Api {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Api(..)")
    }
}

impl Api {
    /// A client for the configured server.
    ///
    /// # Errors
    /// [`ApiFault::Unclear`] when there can be no HTTP client.
    pub fn new(config: &Config) -> Result<Self, ApiFault> {
        // A provider that was installed before is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder()
            .connect_timeout(Duration::from_secs(5))
            .tcp_nodelay(true)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|error| ApiFault::Unclear(told(error, &config.token)))?;
        Ok(Self { http, base: config.api_url.clone(), token: config.token.clone() })
    }

    /// Calls a method; gives the result as it came. It is read no further than needed: what was done must not look as if it
    /// was not because Telegram added a field.
    ///
    /// # Errors
    /// [`ApiFault`].
    pub async fn call<P: Payload + Serialize>(&self, payload: &P) -> Result<Value, ApiFault> {
        let body = serde_json::to_value(payload).map_err(|error| ApiFault::Unclear(error.to_string()))?;
        self.post(P::NAME, self.http.post(self.address(P::NAME)).json(&body).timeout(CALL)).await
    }

    /// Updates from `offset` on, each as Telegram sent it; waits up to `wait` for the first.
    ///
    /// # Errors
    /// [`ApiFault`].
    pub async fn updates(&self, offset: Option<i64>, wait: Duration) -> Result<Vec<Value>, ApiFault> {
        let mut body = json!({ "timeout": wait.as_secs(), "limit": 100, "allowed_updates": ALLOWED });
        if let Some(offset) = offset {
            body["offset"] = json!(offset);
        }
        let request = self.http.post(self.address("getUpdates")).json(&body).timeout(wait + POLL_SLACK);
        match self.post("getUpdates", request).await? {
            Value::Array(updates) => Ok(updates),
            _ => Err(ApiFault::Unclear("getUpdates: the result is no list".to_owned())),
        }
    }

    /// Sends a picture with a caption in HTML.
    ///
    /// # Errors
    /// [`ApiFault`].
    pub async fn photo(&self, chat: i64, png: Vec<u8>, caption: &str) -> Result<Value, ApiFault> {
        let picture = Part::bytes(png).file_name("equity.png").mime_str("image/png");
        let picture = picture.map_err(|error| ApiFault::Unclear(told(error, &self.token)))?;
        let form = Form::new()
            .text("chat_id", chat.to_string())
            .text("caption", caption.to_owned())
            .text("parse_mode", "HTML")
            .part("photo", picture);
        self.post("sendPhoto", self.http.post(self.address("sendPhoto")).multipart(form).timeout(UPLOAD)).await
    }

    fn address(&self, method: &str) -> String {
        format!("{}/bot{}/{method}", self.base, self.token.secret())
    }

    async fn post(&self, method: &str, request: reqwest::RequestBuilder) -> Result<Value, ApiFault> {
        let unclear = |error| ApiFault::Unclear(format!("{method}: {}", told(error, &self.token)));
        let answered = async {
            let answer = request.send().await.map_err(unclear)?;
            let status = answer.status().as_u16();
            let body = answer.bytes().await.map_err(unclear)?;
            read(method, status, &body)
        }
        .await;
        let result = match &answered {
            Ok(_) => "ok",
            Err(ApiFault::Refused(_)) => "refused",
            Err(ApiFault::TooMany { .. }) => "too_many",
            Err(ApiFault::Unclear(_)) => "unclear",
        };
        metrics::counter!("swarm_telegram_calls_total", "method" => method.to_owned(), "result" => result).increment(1);
        answered
    }
}

/// The kinds of updates we take.
const ALLOWED: [&str; 2] = ["message", "callback_query"];

/// What the server said.
fn read(method: &str, status: u16, body: &[u8]) -> Result<Value, ApiFault> {
    let Ok(mut answer) = serde_json::from_slice::<Value>(body) else {
        return Err(ApiFault::Unclear(format!("{method}: status {status} and no JSON")));
    };
    if answer["ok"] == json!(true) && (200..300).contains(&status) {
        return Ok(answer["result"].take());
    }
    if let Some(seconds) = answer["parameters"]["retry_after"].as_u64() {
        return Err(ApiFault::TooMany { retry_after: Duration::from_secs(seconds).min(LONGEST_WAIT) });
    }
    match (status, answer["description"].as_str()) {
        (429, _) => Err(ApiFault::TooMany { retry_after: Duration::from_secs(1) }),
        (400..500, Some(words)) => {
            let known = serde_json::from_value(json!(words));
            Err(ApiFault::Refused(known.unwrap_or_else(|_| ApiError::Unknown(words.to_owned()))))
        }
        _ => Err(ApiFault::Unclear(format!("{method}: status {status}"))),
    }
}

/// An error of the HTTP client and its causes, without the address; and should a cause ever show the token, without that.
fn told(error: reqwest::Error, token: &Token) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text.replace(token.secret(), "..")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_for_what_it_says() {
        let check = |status, body: &str, want: Result<Value, ApiFault>| {
            assert_eq!(read("m", status, body.as_bytes()), want, "{status} {body}");
        };
        let refused = |error| Err(ApiFault::Refused(error));
        let wait = |seconds| Err(ApiFault::TooMany { retry_after: Duration::from_secs(seconds) });
        let unclear = |text: &str| Err(ApiFault::Unclear(text.to_owned()));
        check(200, r#"{"ok":true,"result":7}"#, Ok(json!(7)));
        let words = "Conflict: terminated by other getUpdates request; make sure that only one bot instance is running";
        check(
            409,
            &json!({ "ok": false, "error_code": 409, "description": words }).to_string(),
            refused(ApiError::TerminatedByOtherGetUpdates),
        );
        check(401, r#"{"ok":false,"description":"Unauthorized"}"#, refused(ApiError::InvalidToken));
        check(
            400,
            r#"{"ok":false,"description":"Bad Request: new"}"#,
            refused(ApiError::Unknown("Bad Request: new".into())),
        );
        check(429, r#"{"ok":false,"description":"x","parameters":{"retry_after":5}}"#, wait(5));
        check(429, r#"{"ok":false,"description":"x","parameters":{"retry_after":99999999}}"#, wait(3_600));
        check(429, r#"{"ok":false,"description":"x"}"#, wait(1));
        check(500, r#"{"ok":false,"description":"Internal Server Error"}"#, unclear("m: status 500"));
        check(502, "<html>", unclear("m: status 502 and no JSON"));
        check(200, "", unclear("m: status 200 and no JSON"));
    }
}
