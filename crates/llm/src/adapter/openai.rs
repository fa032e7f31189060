//! Chat completions and embeddings of OpenAI, and what Groq, OpenRouter and llama.cpp add to them.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::decoder::Told;
use super::refusal;
use super::wire::{Parts, Text, Word, estimated_usage, finish, malformed, vectors};
use super::{Call, Target, call};
use crate::answer::{Answer, Embeddings, Piece, ToolCall, Usage};
use crate::failure::{Failure, Kind};
use crate::request::{ChatRequest, Format, Message, Sampling};

pub(super) const CHAT: &str = "/chat/completions";
pub(super) const EMBEDDINGS: &str = "/embeddings";

#[derive(Serialize)]
struct Request<'a> {
    model: &'a str,
    messages: &'a [Message],
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_completion_tokens: Option<u64>,
    #[serde(flatten)]
    sampling: &'a Sampling,
    #[serde(skip_serializing_if = "<[Value]>::is_empty")]
    tools: &'a [Value],
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_choice: Option<&'a Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parallel_tool_calls: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_format: Option<ResponseFormat<'a>>,
    stream: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream_options: Option<StreamOptions>,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum ResponseFormat<'a> {
    JsonObject,
    JsonSchema { json_schema: JsonSchema<'a> },
}

#[derive(Serialize)]
struct JsonSchema<'a> {
    name: &'a str,
    schema: &'a Value,
    strict: bool,
}

#[derive(Serialize)]
struct StreamOptions {
    include_usage: bool,
}

pub(super) fn chat(request: &ChatRequest, target: &Target<'_>, stream: bool) -> Result<Call, Failure> {
    let bound = target.output_tokens(request);
    let has_tools = !request.tools.is_empty();
    let body = Request {
        model: target.model,
        messages: &request.messages,
        max_tokens: (!target.max_completion_tokens).then_some(bound),
        max_completion_tokens: target.max_completion_tokens.then_some(bound),
        sampling: &request.sampling,
        tools: &request.tools,
        // Both are refused where there are no tools.
        tool_choice: request.tool_choice.as_ref().filter(|_| has_tools),
        parallel_tool_calls: request.parallel_tool_calls.filter(|_| has_tools),
        response_format: match &request.format {
            Format::Text => None,
            Format::JsonObject => Some(ResponseFormat::JsonObject),
            Format::Schema { name, schema, strict } => {
                Some(ResponseFormat::JsonSchema { json_schema: JsonSchema { name, schema, strict: *strict } })
            }
        },
        stream,
        // Asked for whether or not the client wants it: the accounts do.
        stream_options: stream.then_some(StreamOptions { include_usage: true }),
    };
    call(CHAT, &body)
}

#[derive(Deserialize)]
struct Whole<'a> {
    model: Option<String>,
    #[serde(borrow)]
    choices: Option<Vec<WholeChoice<'a>>>,
    usage: Option<Tokens>,
    error: Option<Value>,
}

#[derive(Deserialize)]
struct WholeChoice<'a> {
    index: Option<u64>,
    #[serde(borrow)]
    finish_reason: Option<Word<'a>>,
    message: Option<Said>,
    error: Option<Value>,
}

/// A message, or a part of one: the fields are the same.
#[derive(Deserialize, Default)]
struct Said {
    content: Option<Text>,
    refusal: Option<Text>,
    /// Groq and OpenRouter.
    reasoning: Option<Text>,
    /// llama.cpp and DeepSeek.
    reasoning_content: Option<Text>,
    tool_calls: Option<Vec<SaidCall>>,
}

impl Said {
    /// Some providers write the thinking under both names.
    fn thinking(reasoning: Option<Text>, reasoning_content: Option<Text>) -> String {
        let text = |text: Option<Text>| text.map(|text| text.0).filter(|text| !text.is_empty());
        text(reasoning).or_else(|| text(reasoning_content)).unwrap_or_default()
    }
}

#[derive(Deserialize)]
struct SaidCall {
    index: Option<usize>,
    id: Option<String>,
    function: Option<SaidFunction>,
}

#[derive(Deserialize, Default)]
struct SaidFunction {
    name: Option<String>,
    arguments: Option<String>,
}

#[derive(Deserialize, Clone, Copy)]
struct Tokens {
    prompt_tokens: Option<u64>,
    completion_tokens: Option<u64>,
}

impl Tokens {
    fn usage(self) -> Option<Usage> {
        let (prompt_tokens, completion_tokens) = (self.prompt_tokens?, self.completion_tokens?);
        Some(Usage { prompt_tokens, completion_tokens, estimated: false })
    }
}

pub(super) fn answer(request: &ChatRequest, body: &[u8]) -> Result<Answer, Failure> {
    let whole: Whole<'_> = serde_json::from_slice(body).map_err(|error| malformed("the answer", &error))?;
    if let Some(error) = whole.error {
        return Err(refusal::of_event(&error));
    }
    let empty = |text: &str| Failure::new(Kind::Empty, text);
    let choice = whole.choices.unwrap_or_default().into_iter().find(|choice| choice.index.unwrap_or(0) == 0);
    let choice = choice.ok_or_else(|| empty("the answer has no choices"))?;
    if let Some(error) = choice.error {
        return Err(refusal::of_event(&error));
    }
    let said = choice.message.ok_or_else(|| empty("the answer has no message"))?;
    let reason =
        choice.finish_reason.ok_or_else(|| Failure::new(Kind::Malformed, "the answer has no finish_reason"))?;
    let parts = Parts {
        content: said.content.unwrap_or_default().0,
        reasoning: Said::thinking(said.reasoning, said.reasoning_content),
        refusal: said.refusal.map(|refusal| refusal.0),
        tool_calls: said.tool_calls.unwrap_or_default().into_iter().map(whole_call).collect::<Result<_, _>>()?,
        usage: whole.usage.and_then(Tokens::usage),
        model: whole.model.unwrap_or_default(),
    };
    parts.finish(request, finish(&reason.0)?)
}

fn whole_call(call: SaidCall) -> Result<ToolCall, Failure> {
    let function = call.function.unwrap_or_default();
    let name = function.name.filter(|name| !name.is_empty());
    let name = name.ok_or_else(|| Failure::new(Kind::Malformed, "a call of a tool without a name"))?;
    Ok(ToolCall { id: call.id.unwrap_or_default(), name, arguments: function.arguments.unwrap_or_default() })
}

#[derive(Deserialize)]
struct Chunk<'a> {
    #[serde(borrow)]
    model: Option<Word<'a>>,
    #[serde(borrow)]
    choices: Option<Vec<Choice<'a>>>,
    usage: Option<Tokens>,
    x_groq: Option<Groq>,
    error: Option<Value>,
    /// Of an error that is not wrapped (vLLM): chunks of answers have none of them.
    message: Option<Value>,
}

#[derive(Deserialize)]
struct Choice<'a> {
    index: Option<u64>,
    #[serde(borrow)]
    finish_reason: Option<Word<'a>>,
    delta: Option<Said>,
    error: Option<Value>,
}

#[derive(Deserialize)]
struct Groq {
    usage: Option<Tokens>,
    error: Option<Value>,
}

/// One event of a stream.
pub(super) fn event(data: &[u8], told: &mut Told, out: &mut Vec<Piece>) -> Result<(), Failure> {
    if data.trim_ascii() == b"[DONE]" {
        return told.end(out);
    }
    let chunk: Chunk<'_> = serde_json::from_slice(data).map_err(|error| malformed("an event of the stream", &error))?;
    let groq = chunk.x_groq;
    let groq_error = groq.as_ref().and_then(|groq| groq.error.as_ref());
    if let Some(error) = chunk.error.as_ref().or(groq_error) {
        return Err(refusal::of_event(error));
    }
    if chunk.choices.is_none() && chunk.message.is_some() {
        let whole: Value = serde_json::from_slice(data).unwrap_or_default();
        return Err(refusal::of_event(&whole));
    }
    if let Some(model) = chunk.model {
        told.model(&model.0, out);
    }
    let first = chunk.choices.unwrap_or_default().into_iter().find(|choice| choice.index.unwrap_or(0) == 0);
    if let Some(choice) = first {
        take(choice, told, out)?;
    }
    let counted = chunk.usage.or_else(|| groq.and_then(|groq| groq.usage));
    if let Some(usage) = counted.and_then(Tokens::usage) {
        Told::usage(usage, out);
    }
    Ok(())
}

fn take(choice: Choice<'_>, told: &mut Told, out: &mut Vec<Piece>) -> Result<(), Failure> {
    if let Some(error) = choice.error {
        return Err(refusal::of_event(&error));
    }
    let said = choice.delta.unwrap_or_default();
    Told::reasoning(Said::thinking(said.reasoning, said.reasoning_content), out);
    told.content(said.content.unwrap_or_default().0, out);
    told.refusal(said.refusal.unwrap_or_default().0, out);
    for (at, call) in said.tool_calls.unwrap_or_default().into_iter().enumerate() {
        let function = call.function.unwrap_or_default();
        let index = call.index.unwrap_or(at);
        told.call(index, call.id, function.name, function.arguments.unwrap_or_default(), out)?;
    }
    match choice.finish_reason.filter(|reason| !reason.0.is_empty()) {
        Some(reason) => {
            told.finish(finish(&reason.0)?, out);
            Ok(())
        }
        None => Ok(()),
    }
}

#[derive(Serialize)]
struct EmbedRequest<'a> {
    model: &'a str,
    input: &'a [String],
    encoding_format: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    dimensions: Option<u32>,
}

pub(super) fn embed(texts: &[String], target: &Target<'_>, dimensions: Option<u32>) -> Result<Call, Failure> {
    let body = EmbedRequest { model: target.model, input: texts, encoding_format: "float", dimensions };
    call(EMBEDDINGS, &body)
}

#[derive(Deserialize)]
struct Embedded {
    model: Option<String>,
    data: Option<Vec<Vector>>,
    usage: Option<Tokens>,
    error: Option<Value>,
}

#[derive(Deserialize)]
struct Vector {
    index: Option<usize>,
    embedding: Vec<f32>,
}

pub(super) fn embeddings(texts: &[String], body: &[u8]) -> Result<Embeddings, Failure> {
    let embedded: Embedded = serde_json::from_slice(body).map_err(|error| malformed("the answer", &error))?;
    if let Some(error) = embedded.error {
        return Err(refusal::of_event(&error));
    }
    let mut data = embedded.data.unwrap_or_default();
    for (at, vector) in data.iter_mut().enumerate() {
        vector.index.get_or_insert(at);
    }
    data.sort_by_key(|vector| vector.index);
    if data.iter().enumerate().any(|(at, vector)| vector.index != Some(at)) {
        return Err(Failure::new(Kind::Malformed, "the indexes of the vectors are not those of the texts"));
    }
    let counted = embedded.usage.and_then(|tokens| tokens.prompt_tokens);
    Ok(Embeddings {
        vectors: vectors(texts.len(), data.into_iter().map(|vector| vector.embedding).collect())?,
        usage: counted.map_or_else(
            || estimated_usage(texts),
            |prompt_tokens| Usage { prompt_tokens, completion_tokens: 0, estimated: false },
        ),
        model: embedded.model.unwrap_or_default(),
    })
}
