//! Answers in the form of the OpenAI API.

use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use llm::answer::{Answer, Embeddings, Piece, ToolCall, Usage};
use llm::failure::{Failure, Kind};
use llm::money::usd_text;
use llm::provenance::Provenance;
use llm::request::Invalid;
use serde::Serialize;
use serde_json::{Value, json};

#[derive(Serialize)]
struct Completion<'a> {
    id: &'a str,
    object: &'static str,
    created: i64,
    model: &'a str,
    choices: [Choice<'a>; 1],
    usage: WireUsage,
}

#[derive(Serialize)]
struct Choice<'a> {
    index: u32,
    message: Message<'a>,
    logprobs: Option<()>,
    finish_reason: &'static str,
}

#[derive(Serialize)]
struct Message<'a> {
    role: &'static str,
    content: Option<&'a str>,
    refusal: Option<&'a str>,
    #[serde(skip_serializing_if = "str::is_empty")]
    reasoning_content: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<Value>,
}

#[derive(Serialize, Clone, Copy)]
struct WireUsage {
    prompt_tokens: u64,
    completion_tokens: u64,
    total_tokens: u64,
}

impl From<Usage> for WireUsage {
    fn from(usage: Usage) -> Self {
        Self {
            prompt_tokens: usage.prompt_tokens,
            completion_tokens: usage.completion_tokens,
            total_tokens: usage.prompt_tokens.saturating_add(usage.completion_tokens),
        }
    }
}

/// A whole answer.
pub(crate) fn completion(answer: &Answer, id: &str, model: &str, created: i64) -> Vec<u8> {
    let has_content = !answer.content.is_empty() || (answer.tool_calls.is_empty() && answer.refusal.is_none());
    let message = Message {
        role: "assistant",
        content: has_content.then_some(answer.content.as_str()),
        refusal: answer.refusal.as_deref(),
        reasoning_content: &answer.reasoning,
        tool_calls: answer.tool_calls.iter().map(ToolCall::to_json).collect(),
    };
    let choice = Choice { index: 0, message, logprobs: None, finish_reason: answer.finish.word() };
    let usage = answer.usage.into();
    let whole = Completion { id, object: "chat.completion", created, model, choices: [choice], usage };
    serde_json::to_vec(&whole).unwrap_or_default()
}

#[derive(Serialize)]
struct Chunk<'a> {
    id: &'a str,
    object: &'static str,
    created: i64,
    model: &'a str,
    choices: &'a [ChunkChoice<'a>],
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<WireUsage>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Value>,
}

#[derive(Serialize)]
struct ChunkChoice<'a> {
    index: u32,
    delta: Delta<'a>,
    logprobs: Option<()>,
    finish_reason: Option<&'static str>,
}

#[derive(Serialize, Default)]
struct Delta<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_content: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refusal: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_calls: Option<[Value; 1]>,
}

/// Writes the events of one stream.
#[derive(Debug)]
pub(crate) struct Chunks {
    pub id: String,
    pub model: String,
    pub created: i64,
    pub include_usage: bool,
    pub begun: bool,
}

impl Chunks {
    /// One piece as an event; nothing for what the client did not ask for.
    pub(crate) fn write(&mut self, piece: &Piece, out: &mut Vec<u8>) {
        let mut delta = Delta::default();
        let mut finish = None;
        match piece {
            Piece::Content(text) => delta.content = Some(text),
            Piece::Reasoning(text) => delta.reasoning_content = Some(text),
            Piece::Refusal(text) => delta.refusal = Some(text),
            Piece::ToolCall { index, id, name, arguments } => {
                let mut function = json!({ "arguments": arguments });
                if let Some(name) = name {
                    function["name"] = json!(name);
                }
                let mut call = json!({ "index": index, "function": function });
                if let Some(id) = id {
                    call["id"] = json!(id);
                    call["type"] = json!("function");
                }
                delta.tool_calls = Some([call]);
            }
            Piece::Finish(reason) => finish = Some(reason.word()),
            Piece::Usage(usage) => {
                if self.include_usage {
                    self.event(&[], Some((*usage).into()), None, out);
                }
                return;
            }
            Piece::Model(_) | Piece::End => return,
        }
        if !self.begun {
            self.begun = true;
            delta.role = Some("assistant");
        }
        self.event(&[ChunkChoice { index: 0, delta, logprobs: None, finish_reason: finish }], None, None, out);
    }

    /// The one event that says that the answer broke off. No `[DONE]` follows.
    pub(crate) fn broke(&self, failure: &Failure, out: &mut Vec<u8>) {
        let choice = ChunkChoice { index: 0, delta: Delta::default(), logprobs: None, finish_reason: Some("error") };
        self.event(&[choice], None, Some(error_body(failure)), out);
    }

    /// The end of a whole answer.
    pub(crate) fn done(out: &mut Vec<u8>) {
        out.extend_from_slice(b"data: [DONE]\n\n");
    }

    fn event(&self, choices: &[ChunkChoice<'_>], usage: Option<WireUsage>, error: Option<Value>, out: &mut Vec<u8>) {
        let object = "chat.completion.chunk";
        let chunk = Chunk { id: &self.id, object, created: self.created, model: &self.model, choices, usage, error };
        out.extend_from_slice(b"data: ");
        if let Err(error) = serde_json::to_writer(&mut *out, &chunk) {
            tracing::error!(%error, "an event could not be written");
        }
        out.extend_from_slice(b"\n\n");
    }
}

/// The pieces of an answer that is there whole, as a client that asked for pieces gets it.
pub(crate) fn pieces(answer: &Answer) -> Vec<Piece> {
    let mut pieces = Vec::new();
    if !answer.reasoning.is_empty() {
        pieces.push(Piece::Reasoning(answer.reasoning.clone()));
    }
    if !answer.content.is_empty() {
        pieces.push(Piece::Content(answer.content.clone()));
    }
    if let Some(refusal) = &answer.refusal {
        pieces.push(Piece::Refusal(refusal.clone()));
    }
    for (index, call) in answer.tool_calls.iter().enumerate() {
        let (id, name) = (Some(call.id.clone()), Some(call.name.clone()));
        pieces.push(Piece::ToolCall { index, id, name, arguments: call.arguments.clone() });
    }
    pieces.push(Piece::Finish(answer.finish));
    pieces.push(Piece::Usage(answer.usage));
    pieces
}

/// Vectors, as numbers or, where the client asked for it, as base64 of little-endian floats.
pub(crate) fn vectors(embeddings: &Embeddings, model: &str, base64: bool) -> Vec<u8> {
    let data: Vec<Value> = embeddings
        .vectors
        .iter()
        .enumerate()
        .map(|(index, vector)| {
            let embedding = if base64 {
                let bytes: Vec<u8> = vector.iter().flat_map(|number| number.to_le_bytes()).collect();
                json!(base64_of(&bytes))
            } else {
                json!(vector)
            };
            json!({ "object": "embedding", "index": index, "embedding": embedding })
        })
        .collect();
    let tokens = embeddings.usage.prompt_tokens;
    let usage = json!({ "prompt_tokens": tokens, "total_tokens": tokens });
    json!({ "object": "list", "data": data, "model": model, "usage": usage }).to_string().into_bytes()
}

fn base64_of(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// The body of an error.
pub(crate) fn error_body(failure: &Failure) -> Value {
    let kind = match failure.kind {
        Kind::BadRequest
        | Kind::UnknownModel
        | Kind::ContextLength
        | Kind::ContentFilter
        | Kind::Unsupported
        | Kind::PrefillRefused => "invalid_request_error",
        Kind::Quota | Kind::Budget => "insufficient_quota",
        _ => "router_error",
    };
    let message = if failure.text.is_empty() { failure.kind.code() } else { failure.text.as_str() };
    let param = (failure.kind == Kind::UnknownModel).then_some("model");
    json!({ "message": message, "type": kind, "param": param, "code": failure.kind.code() })
}

/// An error as a whole response.
pub(crate) fn failed(failure: &Failure) -> Response {
    let by_kind = StatusCode::from_u16(failure.kind.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    // A client's fault keeps the status that says which; a provider's own is not the client's business.
    let own = failure.status.and_then(|status| StatusCode::from_u16(status).ok());
    let status = own.filter(|own| by_kind.is_client_error() && own.is_client_error()).unwrap_or(by_kind);
    let body = json!({ "error": error_body(failure) }).to_string();
    let mut response = (status, [(header::CONTENT_TYPE, "application/json")], body).into_response();
    if let Some(wait) = failure.retry_after {
        let seconds = wait.as_millis().div_ceil(1_000).max(1);
        if let Ok(value) = HeaderValue::from_str(&seconds.to_string()) {
            response.headers_mut().insert(header::RETRY_AFTER, value);
        }
    }
    response
}

/// A request that can't be taken.
pub(crate) fn invalid(invalid: &Invalid) -> Response {
    let error = json!({
        "message": invalid.message, "type": "invalid_request_error", "param": invalid.param, "code": invalid.code,
    });
    let body = json!({ "error": error }).to_string();
    (StatusCode::BAD_REQUEST, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}

/// An error of the door itself.
pub(crate) fn refused(status: StatusCode, code: &str, message: &str) -> Response {
    let error = json!({ "message": message, "type": "invalid_request_error", "param": null, "code": code });
    let body = json!({ "error": error }).to_string();
    (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}

/// Names of the headers that say where an answer came from.
static REQUEST_ID: HeaderName = HeaderName::from_static("x-swarm-request-id");
static TIER: HeaderName = HeaderName::from_static("x-swarm-tier");
static MODEL: HeaderName = HeaderName::from_static("x-swarm-model");
static ATTEMPTS: HeaderName = HeaderName::from_static("x-swarm-attempts");
static CACHE: HeaderName = HeaderName::from_static("x-swarm-cache");
static CACHE_AGE_S: HeaderName = HeaderName::from_static("x-swarm-cache-age-s");
static STALE: HeaderName = HeaderName::from_static("x-swarm-stale");
static DEGRADED: HeaderName = HeaderName::from_static("x-swarm-degraded");
static COST_USD: HeaderName = HeaderName::from_static("x-swarm-cost-usd");

/// Where the answer came from, as headers.
pub(crate) fn mark(headers: &mut HeaderMap, provenance: &Provenance) {
    headers.reserve(12);
    let mut put = |name: &HeaderName, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    };
    put(&REQUEST_ID, &provenance.request_id);
    if let Some(tier) = &provenance.tier {
        put(&TIER, tier);
        put(&MODEL, &provenance.model);
    }
    if !provenance.attempts.is_empty() {
        put(&ATTEMPTS, &provenance.attempts_line());
    }
    match provenance.cached {
        Some(cached) => {
            put(&CACHE, cached.kind.word());
            put(&CACHE_AGE_S, &cached.age.as_secs().to_string());
        }
        None => put(&CACHE, "none"),
    }
    if provenance.is_stale() {
        put(&STALE, "true");
    }
    if provenance.degraded {
        put(&DEGRADED, "true");
    }
    put(&COST_USD, &usd_text(provenance.cost_micros));
}
