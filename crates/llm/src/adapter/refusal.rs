//! What a provider's error means. Providers give the same status to different things and say which in a code or in prose,
//! so that both are looked at: what is about the request goes before what the status says, because nothing else tells a
//! prompt that is too long from a wrong parameter.

use std::time::Duration;

use serde_json::Value;

use super::limits;
use crate::failure::{Failure, Kind};

/// Of a prompt that does not fit: OpenAI and Groq (code and prose), vLLM and OpenRouter (prose), llama.cpp (type),
/// Ollama, Anthropic, xAI.
const CONTEXT: &[&str] = &[
    "context_length_exceeded",
    "exceed_context_size",
    "context_exceeded",
    "maximum context length",
    "maximum prompt length",
    "exceeds the available context size",
    "context size has been exceeded",
    "exceeds the context length",
    "exceed context limit",
    "exceeds the context window",
    "context window exceed",
    "reduce the length of the messages",
    "prompt is too long",
    "input is too long",
    "request_too_large",
];
/// Of a policy that refused: OpenAI and Azure, Anthropic, OpenRouter's moderation, Alibaba.
const FILTER: &[&str] = &[
    "content_filter",
    "content filter",
    "content_policy_violation",
    "content management policy",
    "responsibleaipolicyviolation",
    "data_inspection_failed",
    "requires moderation",
    "input was flagged",
    "flagged_input",
    "flagged for",
];
/// Of a model that does not continue a message of the assistant: Anthropic since 4.6, llama.cpp, Mistral. The word alone is
/// also what servers call their reading of the prompt.
const PREFILL: &[&str] = &[
    "message prefill",
    "response prefill",
    "must end with a user message",
    "expected last role",
    "last message must be from the user",
];
/// Of an account with nothing left on it, whatever the status: OpenAI says it with 429, Anthropic with 400 and 429.
const PAYMENT: &[&str] = &[
    "insufficient_quota",
    "credit_balance_exhausted",
    "billing_hard_limit_reached",
    "billing_error",
    "credit balance is too low",
    "enforced_spend_limit_reached",
    "specified api usage limits",
];
/// Of a request that this model can't do and another may.
const UNSUPPORTED: &[&str] = &[
    "unsupported_parameter",
    "unsupported_value",
    "does not support",
    "doesn't support",
    "not supported",
    "is unsupported",
    "cannot both be specified",
    "is deprecated for this model",
    "found that support",
    "invalid schema for",
    "output_config.format",
    "first message must use",
];
/// Of a model that the provider does not have, or no longer.
const MISSING: &[&str] =
    &["model_not_found", "model_decommissioned", "not a valid model", "model does not exist", "no endpoints found"];
/// Of a model whose answer the provider itself threw away (Groq).
const INVALID_ANSWER: &[&str] = &["json_validate_failed", "tool_use_failed"];
/// Of a wrong key with another status than 401.
const KEY: &[&str] = &["invalid_api_key", "incorrect api key", "api key not valid", "authentication_error"];
/// Of a provider that has too much to do, which is not ill.
const BUSY: &[&str] = &[
    "overloaded",
    "over capacity",
    "at capacity",
    "capacity_exceeded",
    "server busy",
    "maximum pending requests",
    "loading model",
    "slow_down",
];

/// The parts of an error that decide.
#[derive(Debug, Default)]
struct Said {
    /// What a person reads.
    text: String,
    /// Code, type, parameter and prose, in lower case.
    words: String,
    /// A status in the body.
    code: Option<u16>,
}

impl Said {
    /// The error in a value: what `error` holds, or the value itself (vLLM).
    fn of(value: &Value) -> Self {
        let error = match &value["error"] {
            Value::Null => value,
            error => error,
        };
        let mut said = Self::default();
        let text = match error {
            Value::String(text) => text.as_str(),
            error => [&error["message"], &error["detail"], &value["message"]]
                .into_iter()
                .find_map(Value::as_str)
                .unwrap_or_default(),
        };
        said.code = error["code"].as_u64().and_then(|code| u16::try_from(code).ok()).filter(|code| *code >= 100);
        let raw = &error["metadata"]["raw"];
        let details = [&error["code"], &error["type"], &error["param"], raw, &error["details"]["error_code"]];
        for word in details.into_iter().filter_map(Value::as_str).chain([text]) {
            said.words.push_str(word);
            said.words.push('\n');
        }
        // Only the names: what was flagged is the prompt.
        if let Some(metadata) = error["metadata"].as_object() {
            metadata.keys().for_each(|name| said.words.extend([name, "\n"]));
        }
        said.words.make_ascii_lowercase();
        said.text = without_keys(text);
        said
    }

    fn has(&self, list: &[&str]) -> bool {
        list.iter().any(|words| self.words.contains(words))
    }

    /// The status that the words stand for, where there is none: errors inside a stream.
    fn status(&self) -> u16 {
        const TABLE: &[(&[&str], u16)] = &[
            (&["rate_limit", "rate limit", "too many requests"], 429),
            (&["overloaded"], 529),
            (&["authentication_error", "invalid_api_key"], 401),
            (&["permission_error"], 403),
            (&["billing_error"], 402),
            (&["not_found_error", "model_not_found"], 404),
            (&["timeout"], 408),
            (&["invalid_request", "exceed_context_size_error"], 400),
        ];
        let by_words = || TABLE.iter().find(|(list, _)| self.has(list)).map_or(500, |(_, status)| *status);
        self.code.filter(|code| *code >= 400).unwrap_or_else(by_words)
    }

    fn kind(&self, status: u16) -> Kind {
        let is_about_request = !matches!(status, 401 | 402 | 408 | 429 | 502..=504 | 529);
        match status {
            _ if self.has(PAYMENT) => Kind::PaymentRequired,
            // Groq: the request alone is more than a minute's tokens. It will never fit, and the tier is not busy.
            413 if self.has(&["rate_limit_exceeded"]) => Kind::Quota,
            _ if is_about_request && self.has(CONTEXT) => Kind::ContextLength,
            _ if is_about_request && self.has(FILTER) => Kind::ContentFilter,
            400 | 403 | 422 | 500 if self.has(PREFILL) => Kind::PrefillRefused,
            401 => Kind::Unauthorized,
            402 => Kind::PaymentRequired,
            403 => Kind::Unauthorized,
            404 if self.has(&["found that support"]) => Kind::Unsupported,
            // Also a wrong path, which only the configuration can mend.
            404 | 405 | 410 => Kind::ModelMissing,
            408 => Kind::Timeout,
            409 | 424 | 499 => Kind::ServerError,
            413 => Kind::ContextLength,
            // 425 and 498 are Groq's "too early" and "no flex capacity".
            425 | 429 | 498 | 529 => Kind::RateLimited,
            400..=499 if self.has(KEY) => Kind::Unauthorized,
            400..=499 if self.has(MISSING) => Kind::ModelMissing,
            400..=499 if self.has(INVALID_ANSWER) => Kind::SchemaInvalid,
            400..=499 if self.has(UNSUPPORTED) => Kind::Unsupported,
            400..=499 => Kind::BadRequest,
            _ if self.has(BUSY) => Kind::RateLimited,
            _ => Kind::ServerError,
        }
    }
}

/// The failure that an answer with this status and body is.
pub(super) fn of_body(status: u16, body: &[u8]) -> Failure {
    let said = serde_json::from_slice::<Value>(body).map(|value| Said::of(&value)).unwrap_or_default();
    let kind = said.kind(status);
    let text = match kind {
        // Providers repeat the key that they refuse.
        Kind::Unauthorized => format!("status {status}: the key was refused"),
        // A page of a proxy on the way tells nothing and may hold anything.
        _ if said.text.is_empty() => format!("status {status} without words"),
        _ => said.text.clone(),
    };
    Failure::new(kind, text).with_status(status).with_retry_after(limits::try_again_in(&said.words))
}

/// The failure that an error in the body of a 200 is, whole or an event of a stream.
pub(super) fn of_event(value: &Value) -> Failure {
    let said = Said::of(value);
    let status = said.status();
    let kind = said.kind(status);
    let text = match kind {
        Kind::Unauthorized => "the key was refused",
        _ if said.text.is_empty() => "the provider ended the answer with an error",
        _ => said.text.as_str(),
    };
    let after: Option<Duration> = limits::try_again_in(&said.words);
    let failure = Failure::new(kind, text).with_retry_after(after);
    if said.code.is_some_and(|code| code >= 400) { failure.with_status(status) } else { failure }
}

/// Words that look like keys are not repeated.
fn without_keys(text: &str) -> String {
    const STARTS: &[&str] = &["sk-", "gsk_", "sk_", "Bearer"];
    if !STARTS.iter().any(|start| text.contains(start)) {
        return text.to_owned();
    }
    let mut after_bearer = false;
    let words = text.split(' ').map(|word| {
        let is_key = std::mem::replace(&mut after_bearer, word.ends_with("Bearer"));
        if is_key || STARTS.iter().any(|start| word.contains(start)) { "***" } else { word }
    });
    words.collect::<Vec<_>>().join(" ")
}
