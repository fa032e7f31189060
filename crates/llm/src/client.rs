//! How an agent asks the router: one question, one answer of a closed type, or a [`Failure`] with a stable code. Nothing
//! reaches an agent unexplained, and the key is never shown.

mod provenance;

use std::fmt;
use std::time::Duration;

use reqwest::header::HeaderMap;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

pub use provenance::{CacheKind, Provenance};

/// Largest answer read, bytes.
const MAX_ANSWER_BYTES: usize = 64 * 1024;
/// Longest time for a connection, ms.
const CONNECT_MS: u64 = 2_000;
/// Idle connections are let go before a server does it.
const IDLE: Duration = Duration::from_secs(20);
/// What stands before the names of our headers.
const HEADERS: &str = "x-swarm-";
/// Longest word taken over from an error of the router.
const MAX_CODE_CHARS: usize = 48;

/// Where the router is and what opens it.
#[derive(Clone, PartialEq, Eq)]
pub struct Access {
    url: String,
    key: String,
}

impl Access {
    /// Reads `SWARM_LLM_URL` and `SWARM_LLM_KEY`; `None` without an address.
    ///
    /// # Errors
    /// What is wrong, each with its variable; none shows the key.
    pub fn read(url: Option<&str>, key: Option<&str>) -> Result<Option<Self>, Vec<(&'static str, &'static str)>> {
        let given = |text: Option<&str>| text.map(str::trim).filter(|text| !text.is_empty()).map(str::to_owned);
        let Some(url) = given(url) else { return Ok(None) };
        let mut faults = Vec::new();
        let url = url.trim_end_matches('/').to_owned();
        if !is_safe(&url) {
            let why = "must be https://, or http:// on this machine or to a name without a dot (a compose network)";
            faults.push(("SWARM_LLM_URL", why));
        }
        let key = given(key).unwrap_or_default();
        if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
            faults.push(("SWARM_LLM_KEY", "must be given with the address, as plain text without spaces"));
        }
        if faults.is_empty() { Ok(Some(Self { url, key })) } else { Err(faults) }
    }
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access").field("url", &self.url).finish_non_exhaustive()
    }
}

/// In the clear the key goes no further than this machine or a network of its containers.
fn is_safe(url: &str) -> bool {
    let Ok(parsed) = reqwest::Url::parse(url) else { return false };
    let host = parsed.host_str().unwrap_or_default();
    let is_near =
        matches!(host, "localhost" | "127.0.0.1" | "[::1]") || !(host.is_empty() || host.contains(['.', ':']));
    let plain = parsed.username().is_empty() && parsed.password().is_none() && parsed.query().is_none();
    plain && (parsed.scheme() == "https" || (parsed.scheme() == "http" && is_near))
}

/// One question.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    /// Alias of the model, such as `trading-llm`.
    pub model: &'a str,
    /// What the model is for.
    pub system: &'a str,
    /// The question itself.
    pub user: &'a str,
    /// Names of `name: value` lines of `user` that make no difference to the answer.
    pub volatile: &'a [&'a str],
    /// Name of the schema: letters, digits and `_`.
    pub schema_name: &'a str,
    /// JSON schema that the answer must satisfy, strictly.
    pub schema: &'a Value,
    /// Longest answer, tokens.
    pub max_tokens: u32,
    /// P0 to P9.
    pub priority: u8,
    /// Whose question it is: answers are shared within a tenant only.
    pub tenant: &'a str,
    /// All the time there is, ms.
    pub deadline_ms: u64,
    /// Chain it belongs to, for usage and logs.
    pub correlation_id: &'a str,
}

impl Ask<'_> {
    /// The body that is sent.
    #[must_use]
    pub fn body(&self) -> Value {
        json!({
            "model": self.model,
            "temperature": 0,
            "max_tokens": self.max_tokens,
            "stream": false,
            "messages": [
                { "role": "system", "content": self.system },
                { "role": "user", "content": self.user },
            ],
            "response_format": {
                "type": "json_schema",
                "json_schema": { "name": self.schema_name, "strict": true, "schema": self.schema },
            },
        })
    }

    /// What the router is told beside it: names as [`crate::request::Extras::set`] takes them, and values. On the wire each
    /// name stands behind `x-swarm-`.
    #[must_use]
    pub fn told(&self) -> [(&'static str, String); 5] {
        [
            ("priority", self.priority.min(9).to_string()),
            ("tenant", self.tenant.to_owned()),
            ("deadline-ms", self.deadline_ms.to_string()),
            ("volatile", self.volatile.join(",")),
            ("correlation-id", self.correlation_id.to_owned()),
        ]
    }
}

/// A parsed answer, and where it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answered<T> {
    /// What was said.
    pub value: T,
    /// By whom.
    pub provenance: Provenance,
}

/// Why there is no answer. Each has a stable code.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The time was over.
    #[error("LLM_DEADLINE after_ms={after_ms}")]
    Deadline {
        /// How long there was, ms.
        after_ms: u64,
    },
    /// Nobody answered, or the connection broke.
    #[error("LLM_UNREACHABLE {what}")]
    Unreachable {
        /// What failed; never an address with a secret.
        what: &'static str,
    },
    /// The router said no.
    #[error("LLM_REFUSED status={status} code={code}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// Its own code, letters, digits, `_` and `-`; `none` when it gave none.
        code: String,
    },
    /// The model declined, or its words were filtered.
    #[error("LLM_DECLINED")]
    Declined,
    /// The answer was cut short.
    #[error("LLM_CUT")]
    Cut,
    /// The answer is larger than anything that was asked for.
    #[error("LLM_OVERSIZED limit_bytes={limit_bytes}")]
    Oversized {
        /// Largest answer read, bytes.
        limit_bytes: usize,
    },
    /// What came is no chat completion.
    #[error("LLM_NOT_AN_ANSWER")]
    NotAnAnswer,
    /// The words of the model are not of the schema.
    #[error("LLM_NOT_THE_SCHEMA")]
    NotTheSchema,
}

impl Failure {
    /// The stable code.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Deadline { .. } => "LLM_DEADLINE",
            Self::Unreachable { .. } => "LLM_UNREACHABLE",
            Self::Refused { .. } => "LLM_REFUSED",
            Self::Declined => "LLM_DECLINED",
            Self::Cut => "LLM_CUT",
            Self::Oversized { .. } => "LLM_OVERSIZED",
            Self::NotAnAnswer => "LLM_NOT_AN_ANSWER",
            Self::NotTheSchema => "LLM_NOT_THE_SCHEMA",
        }
    }
}

/// There can be no HTTP client: the process has no TLS provider.
#[derive(Debug, thiserror::Error)]
#[error("no HTTP client can be made")]
pub struct NoClient(#[source] reqwest::Error);

/// A client of one router; cheap to clone.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    access: Access,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("access", &self.access).finish_non_exhaustive()
    }
}

impl Client {
    /// A client. The process must have installed a `rustls` provider.
    ///
    /// # Errors
    /// [`NoClient`].
    pub fn new(access: Access) -> Result<Self, NoClient> {
        let http = reqwest::Client::builder()
            .connect_timeout(Duration::from_millis(CONNECT_MS))
            .pool_idle_timeout(IDLE)
            .tcp_nodelay(true)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()
            .map_err(NoClient)?;
        Ok(Self { http, access })
    }

    /// Asks, and reads the answer as a `T`: to the letter, so `T` should deny unknown fields. Asked once: what may be tried
    /// again is the router's to know.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn ask<T: DeserializeOwned>(&self, ask: &Ask<'_>) -> Result<Answered<T>, Failure> {
        let limit = Duration::from_millis(ask.deadline_ms);
        match tokio::time::timeout(limit, self.exchange(ask)).await {
            Ok(answered) => answered,
            Err(_) => Err(Failure::Deadline { after_ms: ask.deadline_ms }),
        }
    }

    async fn exchange<T: DeserializeOwned>(&self, ask: &Ask<'_>) -> Result<Answered<T>, Failure> {
        let sent = self
            .http
            .post(format!("{}/v1/chat/completions", self.access.url))
            .bearer_auth(&self.access.key)
            .json(&ask.body());
        let told = ask.told().into_iter();
        let sent = told.fold(sent, |sent, (name, value)| sent.header(format!("{HEADERS}{name}"), value)).send().await;
        let response = sent.map_err(|error| unreachable(&error))?;
        let status = response.status().as_u16();
        let headers = response.headers().clone();
        let bytes = read(response).await?;
        if status != 200 {
            return Err(Failure::Refused { status, code: refusal_code(&bytes) });
        }
        let text = content(&bytes)?;
        let value = serde_json::from_str(&text).map_err(|_| Failure::NotTheSchema)?;
        Ok(Answered { value, provenance: Provenance::read(ask.model, |name| text_of(&headers, name)) })
    }
}

fn unreachable(error: &reqwest::Error) -> Failure {
    Failure::Unreachable {
        what: if error.is_builder() {
            "the request could not be made"
        } else if error.is_connect() {
            "no connection"
        } else {
            "the connection broke"
        },
    }
}

async fn read(mut response: reqwest::Response) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| unreachable(&error))? {
        if bytes.len() + chunk.len() > MAX_ANSWER_BYTES {
            return Err(Failure::Oversized { limit_bytes: MAX_ANSWER_BYTES });
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

/// The code of an OpenAI-style error, else its type.
fn refusal_code(bytes: &[u8]) -> String {
    let error = serde_json::from_slice::<Value>(bytes).map(|value| value["error"].clone()).unwrap_or_default();
    let word = ["code", "type"].iter().find_map(|key| error[key].as_str()).unwrap_or_default();
    let plain = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    let word: String = word.chars().filter(plain).take(MAX_CODE_CHARS).collect();
    if word.is_empty() { "none".to_owned() } else { word }
}

fn text_of(headers: &HeaderMap, name: &str) -> Option<String> {
    Some(headers.get(name)?.to_str().ok()?.to_owned())
}

/// The part of a chat completion that is read.
#[derive(Deserialize)]
struct Completion {
    choices: Vec<Choice>,
}

#[derive(Deserialize)]
struct Choice {
    message: Said,
    finish_reason: Option<String>,
}

#[derive(Deserialize)]
struct Said {
    content: Option<String>,
    refusal: Option<String>,
}

fn content(bytes: &[u8]) -> Result<String, Failure> {
    let completion: Completion = serde_json::from_slice(bytes).map_err(|_| Failure::NotAnAnswer)?;
    let choice = completion.choices.into_iter().next().ok_or(Failure::NotAnAnswer)?;
    if choice.message.refusal.is_some_and(|words| !words.is_empty()) {
        return Err(Failure::Declined);
    }
    match choice.finish_reason.as_deref() {
        Some("stop") => choice.message.content.ok_or(Failure::NotAnAnswer),
        Some("length") => Err(Failure::Cut),
        Some("content_filter") => Err(Failure::Declined),
        _ => Err(Failure::NotAnAnswer),
    }
}

#[cfg(test)]
mod tests;
