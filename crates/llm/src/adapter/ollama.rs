//! Ollama's own API, which says more than its imitation of OpenAI's: how long the model stays loaded, its window, its
//! thinking, and whether a prompt was cut.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::decoder::Told;
use super::refusal;
use super::wire::{Parts, Text, Word, arguments, estimated_usage, finish, malformed, vectors};
use super::{Call, Target, call};
use crate::answer::{Answer, Embeddings, Finish, Piece, ToolCall, Usage};
use crate::failure::{Failure, Kind};
use crate::request::{ChatRequest, Format, Message, Role, Sampling};

pub(super) const CHAT: &str = "/api/chat";
pub(super) const EMBED: &str = "/api/embed";

#[derive(Serialize)]
struct Request<'a> {
    model: &'a str,
    messages: Vec<OutMessage<'a>>,
    stream: bool,
    /// Models that think do so unless told otherwise, which costs seconds.
    think: Think<'a>,
    /// A prompt that does not fit is an error and not cut in silence (ollama/ollama#13959); versions that don't know the
    /// word cut it still.
    truncate: bool,
    /// An answer that meets the end of the window ends there with `length`.
    shift: bool,
    #[serde(skip_serializing_if = "<[Value]>::is_empty")]
    tools: &'a [Value],
    #[serde(skip_serializing_if = "Option::is_none")]
    format: Option<OutFormat<'a>>,
    options: Options<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    keep_alive: Option<&'a str>,
}

#[derive(Serialize)]
struct OutMessage<'a> {
    role: Role,
    content: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<OutCall<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_name: Option<&'a str>,
}

#[derive(Serialize)]
struct OutCall<'a> {
    function: OutFunction<'a>,
}

#[derive(Serialize)]
struct OutFunction<'a> {
    name: &'a str,
    arguments: Map<String, Value>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Think<'a> {
    Flag(bool),
    Level(&'a str),
}

#[derive(Serialize)]
#[serde(untagged)]
enum OutFormat<'a> {
    Word(&'static str),
    Schema(&'a Value),
}

#[derive(Serialize)]
struct Options<'a> {
    num_predict: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    num_ctx: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_p: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seed: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    presence_penalty: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    frequency_penalty: Option<f64>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    stop: &'a [String],
}

pub(super) fn chat(request: &ChatRequest, target: &Target<'_>, stream: bool) -> Result<Call, Failure> {
    let sampling = &request.sampling;
    let body = Request {
        model: target.model,
        messages: messages(&request.messages)?,
        stream,
        think: think(sampling),
        truncate: false,
        shift: false,
        tools: tools(request)?,
        format: match &request.format {
            Format::Text => None,
            Format::JsonObject => Some(OutFormat::Word("json")),
            Format::Schema { schema, .. } => Some(OutFormat::Schema(schema)),
        },
        options: Options {
            num_predict: target.output_tokens(request),
            num_ctx: Some(target.context_tokens).filter(|tokens| *tokens > 0),
            temperature: sampling.temperature,
            top_p: sampling.top_p,
            seed: sampling.seed,
            presence_penalty: sampling.presence_penalty,
            frequency_penalty: sampling.frequency_penalty,
            stop: &sampling.stop,
        },
        keep_alive: target.keep_alive,
    };
    call(CHAT, &body)
}

/// Ollama knows `true`, `false` and three levels.
fn think(sampling: &Sampling) -> Think<'_> {
    match sampling.reasoning_effort.as_deref() {
        None | Some("none") => Think::Flag(false),
        Some("minimal") => Think::Level("low"),
        Some(level @ ("low" | "medium" | "high")) => Think::Level(level),
        Some(_) => Think::Flag(true),
    }
}

/// Ollama's models always choose for themselves whether to call tools and how many.
fn tools(request: &ChatRequest) -> Result<&[Value], Failure> {
    let unsupported = |text: &str| Err(Failure::new(Kind::Unsupported, text));
    match &request.tool_choice {
        _ if request.tools.is_empty() => Ok(&[]),
        Some(choice) if choice == "none" => Ok(&[]),
        Some(choice) if choice != "auto" => unsupported("Ollama can't be made to call a tool"),
        _ if request.parallel_tool_calls == Some(false) => unsupported("Ollama can't be kept to one call of a tool"),
        _ => Ok(&request.tools),
    }
}

fn messages(messages: &[Message]) -> Result<Vec<OutMessage<'_>>, Failure> {
    let mut out = Vec::with_capacity(messages.len());
    for Message { role, content, name, tool_calls, tool_call_id } in messages {
        let name_of = |id: &String| {
            let mut calls = messages.iter().rev().flat_map(|message| &message.tool_calls);
            calls.find(|call| call.id == *id).map(|call| call.name.as_str())
        };
        let is_result = *role == Role::Tool;
        let tool_name = tool_call_id.as_ref().filter(|_| is_result).and_then(name_of);
        out.push(OutMessage {
            role: *role,
            content,
            tool_calls: tool_calls.iter().map(out_call).collect::<Result<_, _>>()?,
            tool_name: tool_name.or(name.as_deref().filter(|_| is_result)),
        });
    }
    Ok(out)
}

fn out_call(call: &ToolCall) -> Result<OutCall<'_>, Failure> {
    Ok(OutCall { function: OutFunction { name: &call.name, arguments: arguments(call)? } })
}

/// A whole answer, or a line of a stream.
#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    model: Option<Word<'a>>,
    message: Option<Said>,
    done: Option<bool>,
    #[serde(borrow)]
    done_reason: Option<Word<'a>>,
    prompt_eval_count: Option<u64>,
    eval_count: Option<u64>,
    error: Option<Value>,
}

#[derive(Deserialize)]
struct Said {
    content: Option<Text>,
    thinking: Option<Text>,
    tool_calls: Option<Vec<SaidCall>>,
}

#[derive(Deserialize)]
struct SaidCall {
    /// Newer versions give one.
    id: Option<String>,
    function: SaidFunction,
}

#[derive(Deserialize)]
struct SaidFunction {
    name: String,
    arguments: Option<Value>,
}

impl SaidFunction {
    /// The arguments as text, as every other dialect has them.
    fn text(&self) -> Result<String, Failure> {
        match &self.arguments {
            None | Some(Value::Null) => Ok("{}".to_owned()),
            Some(arguments @ Value::Object(_)) => Ok(arguments.to_string()),
            Some(_) => Err(Failure::new(Kind::Malformed, "the arguments of a call of a tool are no object")),
        }
    }
}

impl Line<'_> {
    /// Both counts, or none: a count that is absent is not zero (older versions leave it out of a prompt they kept).
    fn usage(&self) -> Option<Usage> {
        let (prompt_tokens, completion_tokens) = (self.prompt_eval_count?, self.eval_count?);
        Some(Usage { prompt_tokens, completion_tokens, estimated: false })
    }

    /// Old versions say none. `load` and `unload`, which answer a request without messages, are no reasons.
    fn reason(&self) -> Result<Finish, Failure> {
        match &self.done_reason {
            None => Ok(Finish::Stop),
            Some(reason) => finish(&reason.0),
        }
    }
}

fn read<'a>(bytes: &'a [u8], what: &str) -> Result<Line<'a>, Failure> {
    let line: Line<'a> = serde_json::from_slice(bytes).map_err(|error| malformed(what, &error))?;
    match &line.error {
        Some(error) => Err(refusal::of_event(error)),
        None => Ok(line),
    }
}

pub(super) fn answer(request: &ChatRequest, body: &[u8]) -> Result<Answer, Failure> {
    let line = read(body, "the answer")?;
    if line.done != Some(true) {
        return Err(Failure::new(Kind::Malformed, "the answer is not done"));
    }
    let (usage, reason) = (line.usage(), line.reason()?);
    let said = line.message.ok_or_else(|| Failure::new(Kind::Empty, "the answer has no message"))?;
    let calls = said.tool_calls.unwrap_or_default().into_iter();
    let calls = calls.map(|call| {
        let arguments = call.function.text()?;
        Ok(ToolCall { id: call.id.unwrap_or_default(), name: call.function.name, arguments })
    });
    let parts = Parts {
        content: said.content.unwrap_or_default().0,
        reasoning: said.thinking.unwrap_or_default().0,
        refusal: None,
        tool_calls: calls.collect::<Result<_, Failure>>()?,
        usage,
        model: line.model.map(|model| model.0.into_owned()).unwrap_or_default(),
    };
    parts.finish(request, reason)
}

/// One line of a stream.
pub(super) fn event(data: &[u8], told: &mut Told, out: &mut Vec<Piece>) -> Result<(), Failure> {
    let line = read(data, "a line of the stream")?;
    if let Some(model) = &line.model {
        told.model(&model.0, out);
    }
    let ends = line.done == Some(true);
    let (usage, reason) = (line.usage(), line.reason());
    if let Some(said) = line.message {
        Told::reasoning(said.thinking.unwrap_or_default().0, out);
        told.content(said.content.unwrap_or_default().0, out);
        for call in said.tool_calls.unwrap_or_default() {
            let arguments = call.function.text()?;
            // Each comes whole.
            told.call(told.calls(), call.id, Some(call.function.name), arguments, out)?;
        }
    }
    if ends {
        told.finish(reason?, out);
        if let Some(usage) = usage {
            Told::usage(usage, out);
        }
        told.end(out)?;
    }
    Ok(())
}

#[derive(Serialize)]
struct EmbedRequest<'a> {
    model: &'a str,
    input: &'a [String],
    truncate: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    dimensions: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    keep_alive: Option<&'a str>,
}

pub(super) fn embed(texts: &[String], target: &Target<'_>, dimensions: Option<u32>) -> Result<Call, Failure> {
    let Target { model, keep_alive, .. } = *target;
    call(EMBED, &EmbedRequest { model, input: texts, truncate: false, dimensions, keep_alive })
}

#[derive(Deserialize)]
struct Embedded {
    model: Option<String>,
    embeddings: Option<Vec<Vec<f32>>>,
    prompt_eval_count: Option<u64>,
    error: Option<Value>,
}

pub(super) fn embeddings(texts: &[String], body: &[u8]) -> Result<Embeddings, Failure> {
    let embedded: Embedded = serde_json::from_slice(body).map_err(|error| malformed("the answer", &error))?;
    if let Some(error) = embedded.error {
        return Err(refusal::of_event(&error));
    }
    Ok(Embeddings {
        vectors: vectors(texts.len(), embedded.embeddings.unwrap_or_default())?,
        usage: embedded.prompt_eval_count.map_or_else(
            || estimated_usage(texts),
            |prompt_tokens| Usage { prompt_tokens, completion_tokens: 0, estimated: false },
        ),
        model: embedded.model.unwrap_or_default(),
    })
}
