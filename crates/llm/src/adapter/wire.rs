//! What the dialects have in common: text in its several shapes, reasons to stop, and the last look at a whole answer.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::estimated_prompt_tokens;
use crate::answer::{Answer, Finish, MOST_TOOL_CALLS, ToolCall, Usage, estimated_tokens};
use crate::failure::{Failure, Kind};
use crate::request::ChatRequest;

/// A short text that is looked at and not kept.
#[derive(Debug, Deserialize)]
pub(super) struct Word<'a>(#[serde(borrow)] pub(super) Cow<'a, str>);

/// Text that is kept: a string, or a list of parts with text in them. Anything else reads as none, because providers put
/// objects of their own where others have text.
#[derive(Debug, Default)]
pub(super) struct Text(pub(super) String);

#[derive(Deserialize)]
struct Part {
    text: Option<String>,
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Seen;
        impl<'de> Visitor<'de> for Seen {
            type Value = Text;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("text or parts of text")
            }

            fn visit_str<E>(self, text: &str) -> Result<Text, E> {
                Ok(Text(text.to_owned()))
            }

            fn visit_string<E>(self, text: String) -> Result<Text, E> {
                Ok(Text(text))
            }

            fn visit_unit<E>(self) -> Result<Text, E> {
                Ok(Text::default())
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<Text, A::Error> {
                let mut joined = String::new();
                while let Some(part) = parts.next_element::<Part>()? {
                    joined.push_str(&part.text.unwrap_or_default());
                }
                Ok(Text(joined))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Text, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Text::default())
            }
        }
        deserializer.deserialize_any(Seen)
    }
}

/// Why the model stopped, in the words of the dialects and of those who nearly speak them.
pub(super) fn finish(word: &str) -> Result<Finish, Failure> {
    match word {
        "stop" | "end_turn" | "stop_sequence" | "eos" => Ok(Finish::Stop),
        "length" | "max_tokens" | "model_context_window_exceeded" => Ok(Finish::Length),
        "tool_calls" | "tool_use" | "function_call" => Ok(Finish::ToolCalls),
        "content_filter" | "refusal" => Ok(Finish::ContentFilter),
        "error" => Err(Failure::new(Kind::ServerError, "the provider ended the answer with an error")),
        other => Err(Failure::new(Kind::Malformed, format!("no known reason to stop: {other}"))),
    }
}

/// Whether a text is JSON.
pub(super) fn is_json(text: &str) -> bool {
    serde_json::from_str::<IgnoredAny>(text).is_ok()
}

/// Not JSON, or not of the form that the provider documents. The body itself is never shown.
pub(super) fn malformed(what: &str, error: &serde_json::Error) -> Failure {
    let how = if error.is_eof() {
        "is cut"
    } else if error.is_data() {
        "has another form than documented"
    } else {
        "is no JSON"
    };
    Failure::new(Kind::Malformed, format!("{what} {how} (line {}, column {})", error.line(), error.column()))
}

/// The arguments of a call in the history, for dialects where they are an object. A model wrote them: they may be none.
pub(super) fn arguments(call: &ToolCall) -> Result<Map<String, Value>, Failure> {
    let text = call.arguments.trim();
    if text.is_empty() {
        return Ok(Map::new());
    }
    serde_json::from_str(text).map_err(|_| {
        Failure::new(Kind::Unsupported, "the arguments of a call of a tool in the conversation are no JSON object")
    })
}

/// The id of a call where the provider gives none. It counts the calls of the whole conversation, because a later turn
/// sends it back and some providers refuse an id that comes twice.
pub(super) fn call_id(at: usize) -> String {
    format!("call_{at}")
}

/// Calls of tools in the conversation so far.
pub(super) fn calls_before(request: &ChatRequest) -> usize {
    request.messages.iter().map(|message| message.tool_calls.len()).sum()
}

/// A whole answer before the last look at it.
#[derive(Debug, Default)]
pub(super) struct Parts {
    pub(super) content: String,
    pub(super) reasoning: String,
    pub(super) refusal: Option<String>,
    pub(super) tool_calls: Vec<ToolCall>,
    pub(super) usage: Option<Usage>,
    pub(super) model: String,
}

impl Parts {
    /// The answer, if there is one in it.
    pub(super) fn finish(mut self, request: &ChatRequest, finish: Finish) -> Result<Answer, Failure> {
        if self.tool_calls.len() > MOST_TOOL_CALLS {
            return Err(Failure::new(Kind::TooLarge, format!("more than {MOST_TOOL_CALLS} calls of tools")));
        }
        let before = calls_before(request);
        for (at, call) in self.tool_calls.iter_mut().enumerate() {
            if call.id.is_empty() {
                call.id = call_id(before + at);
            }
            if call.arguments.trim().is_empty() {
                // A function without parameters.
                call.arguments = "{}".to_owned();
            } else if !is_json(&call.arguments) {
                return Err(Failure::new(Kind::Malformed, "the arguments of a call of a tool are no JSON"));
            }
        }
        let usage = self.usage.unwrap_or_else(|| {
            let calls = self.tool_calls.iter().map(|call| call.name.len() + call.arguments.len());
            Usage {
                prompt_tokens: estimated_prompt_tokens(request),
                completion_tokens: estimated_tokens(self.content.len() + self.reasoning.len() + calls.sum::<usize>()),
                estimated: true,
            }
        });
        let answer = Answer {
            finish: after_calls(finish, !self.tool_calls.is_empty()),
            content: self.content,
            reasoning: self.reasoning,
            refusal: self.refusal.filter(|refusal| !refusal.is_empty()),
            tool_calls: self.tool_calls,
            usage,
            model: self.model,
        };
        if answer.is_empty() && finish != Finish::ContentFilter {
            return Err(Failure::new(Kind::Empty, "the answer has neither text nor calls of tools"));
        }
        Ok(answer)
    }
}

/// Providers say `stop` too when the model called tools, above all where the request forced one.
pub(super) const fn after_calls(finish: Finish, called: bool) -> Finish {
    match finish {
        Finish::Stop if called => Finish::ToolCalls,
        other => other,
    }
}

/// Vectors, once they have been looked at.
pub(super) fn vectors(expected: usize, vectors: Vec<Vec<f32>>) -> Result<Vec<Vec<f32>>, Failure> {
    let malformed = |text: String| Err(Failure::new(Kind::Malformed, text));
    if vectors.len() != expected {
        return malformed(format!("{} vectors for {expected} texts", vectors.len()));
    }
    let dimension = vectors.first().map_or(0, Vec::len);
    if expected > 0 && dimension == 0 {
        return Err(Failure::new(Kind::Empty, "a vector without numbers"));
    }
    if vectors.iter().any(|vector| vector.len() != dimension) {
        return malformed("vectors of several dimensions".to_owned());
    }
    if vectors.iter().flatten().any(|number| !number.is_finite()) {
        return malformed("a vector with a number that is not finite".to_owned());
    }
    Ok(vectors)
}

/// Tokens of texts, where nobody counted.
pub(super) fn estimated_usage(texts: &[String]) -> Usage {
    let bytes: usize = texts.iter().map(String::len).sum();
    Usage { prompt_tokens: estimated_tokens(bytes), completion_tokens: 0, estimated: true }
}
