//! The Messages API of Anthropic, version 2023-06-01.
//!
//! A schema is asked for with `output_config.format`, which "Structured outputs" of its documentation calls generally
//! available without a beta header; a forced tool, which older gateways use, would forbid the request's own tools. Its
//! schemas are a subset (every object closed, no recursion): one that it refuses is [`Kind::Unsupported`] and goes to the
//! next tier. It has no mode for any JSON object: that is asked for in the system prompt and checked like everywhere.
//!
//! `seed` is not sent, as there is none; names of speakers have no place in its messages and are left out.

use std::borrow::Cow;
use std::time::Duration;

use domain::time::UnixMs;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::decoder::Told;
use super::limits::{ProviderLimits, rfc3339, until};
use super::wire::{Parts, Word, arguments, finish, malformed};
use super::{Call, Target, call, refusal};
use crate::answer::{Answer, Piece, ToolCall, Usage};
use crate::failure::{Failure, Kind};
use crate::request::{ChatRequest, Format, Message, Role};

pub(super) const MESSAGES: &str = "/v1/messages";
/// The header `anthropic-version`.
pub(super) const VERSION: &str = "2023-06-01";
/// What stands in for a mode of its own.
const JSON_OBJECT: &str = "Answer with one JSON object and nothing else, without a code fence.";

#[derive(Serialize)]
struct Request<'a> {
    model: &'a str,
    max_tokens: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    system: Vec<Block<'a>>,
    messages: Vec<OutMessage<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_p: Option<f64>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    stop_sequences: &'a [String],
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<OutTool<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_choice: Option<Choice<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_config: Option<OutputConfig<'a>>,
    stream: bool,
}

#[derive(Serialize)]
struct OutMessage<'a> {
    role: &'static str,
    content: Vec<Block<'a>>,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Block<'a> {
    Text { text: &'a str },
    ToolUse { id: Cow<'a, str>, name: &'a str, input: Map<String, Value> },
    ToolResult { tool_use_id: Cow<'a, str>, content: &'a str },
}

#[derive(Serialize)]
struct OutTool<'a> {
    name: &'a Value,
    #[serde(skip_serializing_if = "Value::is_null")]
    description: &'a Value,
    input_schema: Cow<'a, Value>,
}

#[derive(Serialize)]
struct Choice<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    disable_parallel_tool_use: Option<bool>,
}

#[derive(Serialize)]
struct OutputConfig<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    format: Option<OutFormat<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    effort: Option<&'a str>,
}

#[derive(Serialize)]
struct OutFormat<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    schema: &'a Value,
}

fn unsupported<T>(text: &str) -> Result<T, Failure> {
    Err(Failure::new(Kind::Unsupported, text))
}

pub(super) fn chat(request: &ChatRequest, target: &Target<'_>, stream: bool) -> Result<Call, Failure> {
    let sampling = &request.sampling;
    if sampling.temperature.is_some_and(|temperature| temperature > 1.0) {
        return unsupported("Anthropic's temperature ends at 1");
    }
    if [sampling.presence_penalty, sampling.frequency_penalty].into_iter().flatten().any(|penalty| penalty != 0.0) {
        return unsupported("Anthropic has no penalties");
    }
    let (mut system, messages) = messages(&request.messages)?;
    if request.format == Format::JsonObject {
        system.push(Block::Text { text: JSON_OBJECT });
    }
    let body = Request {
        model: target.model,
        max_tokens: target.output_tokens(request),
        system,
        messages,
        temperature: sampling.temperature,
        top_p: sampling.top_p,
        stop_sequences: &sampling.stop,
        tools: request.tools.iter().map(out_tool).collect(),
        tool_choice: choice(request)?,
        output_config: output_config(request),
        stream,
    };
    call(MESSAGES, &body)
}

fn output_config(request: &ChatRequest) -> Option<OutputConfig<'_>> {
    let format = match &request.format {
        Format::Schema { schema, .. } => Some(OutFormat { kind: "json_schema", schema }),
        Format::Text | Format::JsonObject => None,
    };
    let effort = match request.sampling.reasoning_effort.as_deref() {
        None | Some("none") => None,
        Some("minimal") => Some("low"),
        level => level,
    };
    (format.is_some() || effort.is_some()).then_some(OutputConfig { format, effort })
}

/// Instructions apart, and what one speaker says in a row as one message: the API wants speakers to alternate.
fn messages(all: &[Message]) -> Result<(Vec<Block<'_>>, Vec<OutMessage<'_>>), Failure> {
    let (mut system, mut out) = (Vec::new(), Vec::<OutMessage<'_>>::new());
    for (at, message) in all.iter().enumerate() {
        let mut text = message.content.as_str();
        let role = match message.role {
            Role::System => {
                system.extend(text_block(text));
                continue;
            }
            Role::User | Role::Tool => "user",
            Role::Assistant => "assistant",
        };
        if role == "assistant" && at + 1 == all.len() {
            // White space at the end of what is to be continued is refused.
            text = text.trim_end();
        }
        let mut blocks = Vec::new();
        match &message.tool_call_id {
            Some(id) if message.role == Role::Tool => {
                blocks.push(Block::ToolResult { tool_use_id: word(id), content: text });
            }
            _ => blocks.extend(text_block(text)),
        }
        for call in &message.tool_calls {
            blocks.push(Block::ToolUse { id: word(&call.id), name: &call.name, input: arguments(call)? });
        }
        match out.last_mut() {
            Some(last) if last.role == role => last.content.append(&mut blocks),
            _ if blocks.is_empty() => {}
            _ => out.push(OutMessage { role, content: blocks }),
        }
    }
    if out.is_empty() {
        return unsupported("Anthropic answers no conversation of instructions alone");
    }
    Ok((system, out))
}

/// Empty blocks are refused.
fn text_block(text: &str) -> Option<Block<'_>> {
    (!text.trim().is_empty()).then_some(Block::Text { text })
}

/// Ids of calls may come from another provider, and only these letters are taken.
fn word(id: &str) -> Cow<'_, str> {
    let is_taken = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if !id.is_empty() && id.chars().all(is_taken) {
        return Cow::Borrowed(id);
    }
    let mapped: String = id.chars().map(|c| if is_taken(c) { c } else { '_' }).collect();
    Cow::Owned(if mapped.is_empty() { "_".to_owned() } else { mapped })
}

fn out_tool(tool: &Value) -> OutTool<'_> {
    let function = &tool["function"];
    let input_schema = match &function["parameters"] {
        Value::Null => Cow::Owned(serde_json::json!({ "type": "object", "properties": {} })),
        parameters => Cow::Borrowed(parameters),
    };
    OutTool { name: &function["name"], description: &function["description"], input_schema }
}

fn choice(request: &ChatRequest) -> Result<Option<Choice<'_>>, Failure> {
    if request.tools.is_empty() {
        return Ok(None);
    }
    let one = (request.parallel_tool_calls == Some(false)).then_some(true);
    let of = |kind, name| Ok(Some(Choice { kind, name, disable_parallel_tool_use: one }));
    match &request.tool_choice {
        None if one.is_none() => Ok(None),
        None => of("auto", None),
        Some(Value::String(word)) => match word.as_str() {
            "auto" => of("auto", None),
            "required" => of("any", None),
            "none" => Ok(Some(Choice { kind: "none", name: None, disable_parallel_tool_use: None })),
            _ => unsupported("no such tool_choice at Anthropic"),
        },
        Some(choice) => match choice["function"]["name"].as_str() {
            Some(name) => of("tool", Some(name)),
            None => unsupported("no such tool_choice at Anthropic"),
        },
    }
}

#[derive(Deserialize)]
struct Whole<'a> {
    model: Option<String>,
    #[serde(borrow)]
    content: Option<Vec<SaidBlock<'a>>>,
    #[serde(borrow)]
    stop_reason: Option<Word<'a>>,
    usage: Option<Tokens>,
    error: Option<Value>,
}

#[derive(Deserialize)]
struct SaidBlock<'a> {
    #[serde(borrow, rename = "type")]
    kind: Word<'a>,
    text: Option<String>,
    thinking: Option<String>,
    id: Option<String>,
    name: Option<String>,
    input: Option<Value>,
}

#[derive(Deserialize, Default, Clone, Copy, Debug)]
pub(super) struct Tokens {
    input_tokens: Option<u64>,
    cache_creation_input_tokens: Option<u64>,
    cache_read_input_tokens: Option<u64>,
    output_tokens: Option<u64>,
}

impl Tokens {
    /// What was read from a cache was in the prompt too.
    fn usage(self) -> Option<Usage> {
        let cached =
            self.cache_creation_input_tokens.unwrap_or(0).saturating_add(self.cache_read_input_tokens.unwrap_or(0));
        let prompt_tokens = self.input_tokens?.saturating_add(cached);
        Some(Usage { prompt_tokens, completion_tokens: self.output_tokens?, estimated: false })
    }

    /// The last event's counts where it has them: they are sums, not parts.
    fn or(self, earlier: Self) -> Self {
        Self {
            input_tokens: self.input_tokens.or(earlier.input_tokens),
            cache_creation_input_tokens: self.cache_creation_input_tokens.or(earlier.cache_creation_input_tokens),
            cache_read_input_tokens: self.cache_read_input_tokens.or(earlier.cache_read_input_tokens),
            output_tokens: self.output_tokens.or(earlier.output_tokens),
        }
    }
}

pub(super) fn answer(request: &ChatRequest, body: &[u8]) -> Result<Answer, Failure> {
    let whole: Whole<'_> = serde_json::from_slice(body).map_err(|error| malformed("the answer", &error))?;
    if let Some(error) = whole.error {
        return Err(refusal::of_event(&error));
    }
    let mut parts = Parts {
        usage: whole.usage.and_then(Tokens::usage),
        model: whole.model.unwrap_or_default(),
        ..Parts::default()
    };
    for block in whole.content.unwrap_or_default() {
        match block.kind.0.as_ref() {
            "text" => parts.content.push_str(&block.text.unwrap_or_default()),
            "thinking" => parts.reasoning.push_str(&block.thinking.unwrap_or_default()),
            "tool_use" => parts.tool_calls.push(ToolCall {
                id: block.id.unwrap_or_default(),
                name: block.name.filter(|name| !name.is_empty()).ok_or_else(nameless)?,
                arguments: block.input.map(|input| input.to_string()).unwrap_or_default(),
            }),
            _ => {}
        }
    }
    let reason = whole.stop_reason.ok_or_else(|| Failure::new(Kind::Malformed, "the answer has no stop_reason"))?;
    parts.finish(request, finish(&reason.0)?)
}

fn nameless() -> Failure {
    Failure::new(Kind::Malformed, "a call of a tool without a name")
}

#[derive(Deserialize)]
struct Event<'a> {
    #[serde(borrow, rename = "type")]
    kind: Word<'a>,
    index: Option<usize>,
    message: Option<Start>,
    #[serde(borrow)]
    content_block: Option<SaidBlock<'a>>,
    #[serde(borrow)]
    delta: Option<Delta<'a>>,
    usage: Option<Tokens>,
    error: Option<Value>,
}

#[derive(Deserialize)]
struct Start {
    model: Option<String>,
    usage: Option<Tokens>,
}

#[derive(Deserialize)]
struct Delta<'a> {
    text: Option<String>,
    thinking: Option<String>,
    partial_json: Option<String>,
    #[serde(borrow)]
    stop_reason: Option<Word<'a>>,
}

/// One event of a stream. `earlier` holds what the first one counted. Kinds of events that nobody knows are passed over:
/// the API says that there will be new ones.
pub(super) fn event(data: &[u8], earlier: &mut Tokens, told: &mut Told, out: &mut Vec<Piece>) -> Result<(), Failure> {
    let event: Event<'_> = serde_json::from_slice(data).map_err(|error| malformed("an event of the stream", &error))?;
    match event.kind.0.as_ref() {
        "message_start" => {
            let start = event.message.unwrap_or(Start { model: None, usage: None });
            told.model(&start.model.unwrap_or_default(), out);
            *earlier = start.usage.unwrap_or_default();
        }
        "content_block_start" => {
            if let Some(block) = event.content_block {
                begin(block, event.index.unwrap_or(0), told, out)?;
            }
        }
        "content_block_delta" => {
            if let Some(delta) = event.delta {
                Told::reasoning(delta.thinking.unwrap_or_default(), out);
                told.content(delta.text.unwrap_or_default(), out);
                if let Some(part) = delta.partial_json.filter(|part| !part.is_empty()) {
                    told.call(event.index.unwrap_or(0), None, None, part, out)?;
                }
            }
        }
        "message_delta" => {
            if let Some(reason) = event.delta.and_then(|delta| delta.stop_reason) {
                told.finish(finish(&reason.0)?, out);
            }
            if let Some(usage) = event.usage.and_then(|tokens| tokens.or(*earlier).usage()) {
                Told::usage(usage, out);
            }
        }
        "message_stop" => told.end(out)?,
        "error" => return Err(refusal::of_event(&event.error.unwrap_or_default())),
        _ => {}
    }
    Ok(())
}

fn begin(block: SaidBlock<'_>, index: usize, told: &mut Told, out: &mut Vec<Piece>) -> Result<(), Failure> {
    match block.kind.0.as_ref() {
        "text" => told.content(block.text.unwrap_or_default(), out),
        "thinking" => Told::reasoning(block.thinking.unwrap_or_default(), out),
        "tool_use" => {
            // The input here is always empty; it follows in parts.
            let name = Some(block.name.filter(|name| !name.is_empty()).ok_or_else(nameless)?);
            told.call(index, block.id, name, String::new(), out)?;
        }
        _ => {}
    }
    Ok(())
}

/// `anthropic-ratelimit-*`, whose resets are moments. Where the tokens of both directions are not told, those of the
/// prompt are.
pub(super) fn limits<'h>(header: impl Fn(&str) -> Option<&'h str>, now: UnixMs) -> ProviderLimits {
    let number = |name: &str| header(name).and_then(|text| text.trim().parse().ok());
    let reset = |name: &str| -> Option<Duration> { Some(until(rfc3339(header(name)?)?, now)) };
    let prompt = |both: Option<u64>, name: &str| both.or_else(|| number(name));
    let token_reset = reset("anthropic-ratelimit-tokens-reset");
    ProviderLimits {
        limit_requests: number("anthropic-ratelimit-requests-limit"),
        remaining_requests: number("anthropic-ratelimit-requests-remaining"),
        reset_requests: reset("anthropic-ratelimit-requests-reset"),
        limit_tokens: prompt(number("anthropic-ratelimit-tokens-limit"), "anthropic-ratelimit-input-tokens-limit"),
        remaining_tokens: prompt(
            number("anthropic-ratelimit-tokens-remaining"),
            "anthropic-ratelimit-input-tokens-remaining",
        ),
        reset_tokens: token_reset.or_else(|| reset("anthropic-ratelimit-input-tokens-reset")),
    }
}
