//! What a provider can do wrong.
//!
//! A fault that speaks of a stream has a meaning for a request that did not ask for one too, so that one list of faults
//! can be played at both; it stands at each of them.

use std::time::Duration;

/// What stands in the body of an answer that is an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorBody {
    /// The error object of the dialect.
    Json,
    /// A page of HTML, as a proxy in between makes it.
    Html,
    /// Nothing.
    Empty,
}

/// What goes wrong with one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// An answer with a status that is an error.
    Status {
        /// The status.
        code: u16,
        /// The header `Retry-After`, seconds.
        retry_after: Option<u64>,
        /// The header `retry-after-ms`, milliseconds.
        retry_after_ms: Option<u64>,
        /// What stands in its body.
        body: ErrorBody,
    },
    /// The connection is reset (RST) without an answer.
    Reset,
    /// The head of a good answer, then a reset.
    ResetAfterHeaders,
    /// The request is taken and never answered.
    Hang,
    /// A good answer, its first content late by this.
    SlowFirst {
        /// How late.
        wait: Duration,
        /// The head of the answer comes at once, and what comes before the content in a stream.
        headers_first: bool,
    },
    /// Head, whatever a stream begins with, and the connection is closed before any content.
    CutBeforeContent,
    /// The connection is closed after so many pieces of content. A whole answer: like [`Fault::CutBelowLength`].
    CutAfter(usize),
    /// The stream ends, as far as HTTP can tell well, after so many pieces of content, with neither the reason nor the
    /// mark of its end: what a proxy makes of a cut. A whole answer: like [`Fault::CutJson`].
    EndAfter(usize),
    /// An error inside the stream before any content, then its end. A whole answer: status 500.
    ErrorEventFirst,
    /// An error inside the stream after so many pieces of content, then its end. A whole answer: status 500.
    ErrorEventAfter(usize),
    /// Head and what a stream begins with, then silence; the connection stays open.
    StallBeforeContent,
    /// Silence after so many pieces of content. A whole answer: its head and half of its body, then silence.
    StallAfter(usize),
    /// The piece of content with this index, from 0, is no JSON. A whole answer: like [`Fault::CutJson`].
    MalformedChunkAt(usize),
    /// A whole stream but for the mark of its end (`[DONE]`, `message_stop`, the line with `done`). A whole answer: good.
    NoDone,
    /// All but the reason for the end: the mark of the end comes without it.
    NoFinish,
    /// 200 without a choice, a content block or a message in it.
    EmptyChoices,
    /// 200 whose content is empty.
    EmptyContent,
    /// 200 whose body is half of the JSON, with the right content-length. A stream: the first piece of content is cut in
    /// its middle, and the stream ends there.
    CutJson,
    /// 200 that promises its whole length, gives half and closes. A stream: a piece of content cut in the same way.
    CutBelowLength,
    /// 200 with a page of HTML.
    NotJson200,
    /// A good answer whose content is JSON, but not of the schema that was asked for.
    WrongSchema,
    /// 400: the prompt does not fit the context.
    ContextLength,
    /// 400: the prompt is refused by a content filter.
    ContentFilter,
    /// 200, but a content filter ended the answer in its middle.
    ContentFiltered,
    /// 400: the last message may not be the assistant's.
    RefusedPrefill,
    /// 401, whatever the key.
    Unauthorized,
    /// 404: no such model.
    ModelNotFound,
    /// A good answer with a content of this many bytes.
    Oversized(usize),
    /// A good answer that counts its tokens wrong.
    WrongUsage {
        /// What it says of the prompt.
        prompt: u64,
        /// What it says of the answer.
        completion: u64,
    },
    /// A good answer that does not count its tokens.
    NoUsage,
}

impl Fault {
    /// An error status with the dialect's own error, without advice when to come again.
    #[must_use]
    pub const fn status(code: u16) -> Self {
        Self::Status { code, retry_after: None, retry_after_ms: None, body: ErrorBody::Json }
    }

    /// 429 with `Retry-After` in seconds, or without it.
    #[must_use]
    pub const fn too_many(retry_after: Option<u64>) -> Self {
        Self::Status { code: 429, retry_after, retry_after_ms: None, body: ErrorBody::Json }
    }
}

/// Why a request is answered with an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Trouble {
    /// The request is not what the provider documents.
    Invalid(Flaw),
    /// The key is missing or wrong.
    Unauthorized,
    NoModel(String),
    NoRoute(String),
    ContextLength,
    ContentFilter,
    Prefill,
    /// A limit is used up; with what the provider would say of it, and which one: "requests" or "tokens".
    Limited(String, &'static str),
    /// The queue of the provider is full.
    Busy,
    /// A status that a test asked for.
    Status(u16),
}

/// What is wrong with a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Flaw {
    /// A field that is not documented.
    Unknown(String),
    Missing(String),
    /// The field, and what it should be.
    Type(String, &'static str),
    /// The field, and words on its value.
    Value(String, String),
    /// Not of a field: content type, JSON, method.
    Request(String),
}

impl Flaw {
    pub(super) fn value(field: &str, words: impl Into<String>) -> Self {
        Self::Value(field.to_owned(), words.into())
    }

    /// The same in words that belong to no provider, for the list of violations.
    pub(super) fn words(&self) -> String {
        match self {
            Self::Unknown(field) => format!("`{field}` is not documented"),
            Self::Missing(field) => format!("`{field}` is missing"),
            Self::Type(field, expected) => format!("`{field}` must be {expected}"),
            Self::Value(field, words) => format!("`{field}`: {words}"),
            Self::Request(words) => words.clone(),
        }
    }
}

/// Status, error and headers of a refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub status: u16,
    pub trouble: Trouble,
    /// Milliseconds until it makes sense to come again.
    pub retry_after: Option<u64>,
}

impl Refusal {
    pub(super) fn of(status: u16, trouble: Trouble) -> Self {
        Self { status, trouble, retry_after: None }
    }
}

impl From<Flaw> for Refusal {
    fn from(flaw: Flaw) -> Self {
        Self::of(400, Trouble::Invalid(flaw))
    }
}
