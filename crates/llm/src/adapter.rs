//! Translation between the router's closed types and what providers say on the wire. Nothing here reads a socket or a
//! clock: bytes and headers come in, values go out, and the same bytes always give the same values.
//!
//! Which documents each dialect follows; a provider that changes its format is a change in one file here:
//!
//! - [`Adapter::OpenAi`]: "Chat Completions" and "Embeddings" of the OpenAI API reference, v1; Groq "API Reference", "API
//!   Error Codes and Responses" and "Rate Limits" (`/openai/v1`); OpenRouter "Streaming" and "Errors and Debugging"
//!   (`/api/v1`); llama.cpp `tools/server/README.md` with `exceed_context_size_error` (ggml-org/llama.cpp#15780).
//! - [`Adapter::Ollama`]: `docs/api.md` of the Ollama repository (`/api/chat`, `/api/embed`), which has no version of its own.
//! - [`Adapter::Anthropic`]: "Messages", "Streaming Messages", "Structured outputs", "Errors" and "Rate limits" of the Claude
//!   API, header `anthropic-version: 2023-06-01`.

mod anthropic;
mod decoder;
mod frame;
mod limits;
mod ollama;
mod openai;
mod refusal;
mod wire;

use bytes::Bytes;
use domain::time::UnixMs;

pub use decoder::Decoder;
pub use limits::ProviderLimits;

use crate::answer::{Answer, Embeddings, estimated_tokens};
use crate::failure::{Failure, Kind};
use crate::request::{ChatRequest, Message};

/// A dialect that providers speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Adapter {
    /// Chat completions of OpenAI, as Groq, OpenRouter and llama.cpp speak them too.
    OpenAi,
    /// Ollama's own.
    Ollama,
    /// Messages of Anthropic.
    Anthropic,
}

/// What a tier's configuration says about the model that is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Target<'a> {
    /// The provider's name of the model.
    pub model: &'a str,
    /// Bound on the answer, tokens: of a request that names none, and the most that one may name.
    pub max_output_tokens: u64,
    /// The model's window, tokens; 0 leaves it to the provider.
    pub context_tokens: u64,
    /// How long Ollama keeps the model loaded.
    pub keep_alive: Option<&'a str>,
    /// The bound on tokens is called `max_completion_tokens`. OpenAI's own reasoning models refuse `max_tokens`, which is
    /// the word that Groq, OpenRouter and llama.cpp all know, old versions too, and which is sent otherwise.
    pub max_completion_tokens: bool,
}

impl Target<'_> {
    fn output_tokens(&self, request: &ChatRequest) -> u64 {
        request.max_tokens.map_or(self.max_output_tokens, |asked| asked.min(self.max_output_tokens))
    }
}

/// One call, without the headers that prove who calls: see [`Adapter::auth`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// After the tier's base URL. That of OpenAI's dialect ends with the version (`https://api.openai.com/v1`), as its
    /// own clients have it; the others' end with the host.
    pub path: &'static str,
    /// JSON.
    pub body: Bytes,
}

impl Adapter {
    /// All of them.
    pub const ALL: &'static [Self] = &[Self::OpenAi, Self::Ollama, Self::Anthropic];

    /// Reads the word of the configuration.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|adapter| adapter.word() == word)
    }

    /// The word of the configuration.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::OpenAi => "openai",
            Self::Ollama => "ollama",
            Self::Anthropic => "anthropic",
        }
    }

    /// Every [`Call::path`] of its calls.
    #[must_use]
    pub const fn paths(self) -> &'static [&'static str] {
        match self {
            Self::OpenAi => &[openai::CHAT, openai::EMBEDDINGS],
            Self::Ollama => &[ollama::CHAT, ollama::EMBED],
            Self::Anthropic => &[anthropic::MESSAGES],
        }
    }

    /// Headers that prove who calls.
    #[must_use]
    pub fn auth(self, key: &str) -> Vec<(&'static str, String)> {
        match self {
            // Ollama itself asks for none; a proxy in front of it does so in this way.
            Self::OpenAi | Self::Ollama => vec![("authorization", format!("Bearer {key}"))],
            Self::Anthropic => {
                vec![("x-api-key", key.to_owned()), ("anthropic-version", anthropic::VERSION.to_owned())]
            }
        }
    }

    /// The call that asks for an answer.
    ///
    /// # Errors
    /// [`Kind::Unsupported`], when the provider can't do what is asked.
    pub fn chat(self, request: &ChatRequest, target: &Target<'_>, stream: bool) -> Result<Call, Failure> {
        match self {
            Self::OpenAi => openai::chat(request, target, stream),
            Self::Ollama => ollama::chat(request, target, stream),
            Self::Anthropic => anthropic::chat(request, target, stream),
        }
    }

    /// The answer in the body of a 2xx.
    ///
    /// # Errors
    /// [`Kind::Malformed`] of what is no answer, [`Kind::Empty`] of one with nothing in it, and whatever an error says
    /// that came with status 200.
    pub fn answer(self, request: &ChatRequest, body: &[u8]) -> Result<Answer, Failure> {
        match self {
            Self::OpenAi => openai::answer(request, body),
            Self::Ollama => ollama::answer(request, body),
            Self::Anthropic => anthropic::answer(request, body),
        }
    }

    /// What an answer with another status means, by the status and by what the provider wrote. `header` finds a header
    /// by its lower-case name. When to ask again is read from `retry-after-ms`, `retry-after` (seconds or a date), the
    /// reset of a limit that is spent, and the text, in this order.
    #[must_use]
    pub fn refusal<'h>(
        self,
        status: u16,
        header: impl Fn(&str) -> Option<&'h str>,
        now: UnixMs,
        body: &[u8],
    ) -> Failure {
        let failure = refusal::of_body(status, body);
        if !matches!(failure.kind, Kind::RateLimited | Kind::ServerError | Kind::Quota) {
            return failure;
        }
        let spent = || self.limits(&header, now).spent_for();
        let told = failure.retry_after;
        let after = limits::retry_after(&header, now).or_else(spent).or(told);
        failure.with_retry_after(after)
    }

    /// The call that asks for vectors of `texts`.
    ///
    /// # Errors
    /// [`Kind::Unsupported`], when the provider has none.
    pub fn embed(self, texts: &[String], target: &Target<'_>, dimensions: Option<u32>) -> Result<Call, Failure> {
        match self {
            Self::OpenAi => openai::embed(texts, target, dimensions),
            Self::Ollama => ollama::embed(texts, target, dimensions),
            Self::Anthropic => Err(Failure::new(Kind::Unsupported, "Anthropic has no embeddings")),
        }
    }

    /// The vectors in the body of a 2xx: one for each text, in their order, all of one dimension, of finite numbers.
    ///
    /// # Errors
    /// [`Kind::Malformed`], [`Kind::Empty`].
    pub fn embeddings(self, texts: &[String], body: &[u8]) -> Result<Embeddings, Failure> {
        match self {
            Self::OpenAi => openai::embeddings(texts, body),
            Self::Ollama => ollama::embeddings(texts, body),
            Self::Anthropic => Err(Failure::new(Kind::Unsupported, "Anthropic has no embeddings")),
        }
    }

    /// Reads the stream that answers `request`.
    #[must_use]
    pub fn decoder(self, request: &ChatRequest) -> Decoder {
        Decoder::new(self, request)
    }

    /// What the headers of any answer say about the provider's limits.
    #[must_use]
    pub fn limits<'h>(self, header: impl Fn(&str) -> Option<&'h str>, now: UnixMs) -> ProviderLimits {
        match self {
            Self::OpenAi => limits::openai(header),
            Self::Ollama => ProviderLimits::default(),
            Self::Anthropic => anthropic::limits(header, now),
        }
    }
}

/// About how many tokens the prompt of a request is, where nobody counted.
#[must_use]
pub fn estimated_prompt_tokens(request: &ChatRequest) -> u64 {
    let messages: usize = request.messages.iter().map(Message::bytes).sum();
    let tools: usize = request.tools.iter().map(|tool| tool.to_string().len()).sum();
    estimated_tokens(messages + tools)
}

/// A call whose body is `body`.
fn call(path: &'static str, body: &impl serde::Serialize) -> Result<Call, Failure> {
    // Text, numbers and maps with text keys: there is nothing in a request that can't be written.
    match serde_json::to_vec(body) {
        Ok(body) => Ok(Call { path, body: body.into() }),
        Err(error) => Err(Failure::new(Kind::Unsupported, format!("the request can't be written: {error}"))),
    }
}

#[cfg(test)]
mod tests;
