//! Anthropic's Messages API.
//!
//! Sources: <https://docs.anthropic.com/en/api/messages>, <https://docs.anthropic.com/en/api/messages-streaming>,
//! <https://docs.anthropic.com/en/api/errors>.

use serde_json::{Map, Value, json};

use super::check::{self, Field, Kind, POSITIVE, SHARE};
use super::fault::{Flaw, Refusal, Trouble};
use super::talk::{self, Chat, Finish, Part, Piece, Reply, Route};

const CHAT: &[Field] = &[
    ("model", Kind::Text),
    ("messages", Kind::Array),
    ("max_tokens", POSITIVE),
    ("cache_control", Kind::Object),
    ("container", Kind::TextOrObject),
    ("inference_geo", Kind::Text),
    ("metadata", Kind::Object),
    ("output_config", Kind::Object),
    ("service_tier", Kind::Text),
    ("stop_sequences", Kind::Array),
    ("stream", Kind::Boolean),
    ("system", Kind::TextOrArray),
    ("temperature", SHARE),
    ("thinking", Kind::Object),
    ("tool_choice", Kind::Object),
    ("tools", Kind::Array),
    ("top_k", Kind::Integer(0, i64::MAX)),
    ("top_p", SHARE),
];
const MESSAGE: &[Field] = &[("role", Kind::Text), ("content", Kind::TextOrArray)];
/// Types of blocks, and the field that each cannot be without.
const BLOCKS: [(&str, &str); 7] = [
    ("text", "text"),
    ("image", "source"),
    ("document", "source"),
    ("tool_use", "input"),
    ("tool_result", "tool_use_id"),
    ("thinking", "thinking"),
    ("redacted_thinking", "data"),
];

pub(super) fn route(method: &str, path: &str) -> Option<Route> {
    match (method, path) {
        ("POST", "/v1/messages") => Some(Route::Chat),
        ("GET", "/v1/models") => Some(Route::Models),
        _ => None,
    }
}

pub(super) fn chat(body: &Map<String, Value>) -> Result<Chat, Flaw> {
    let model = check::text("", body, "model")?;
    let most = check::required("", body, "max_tokens")?;
    check::fields("", body, &[CHAT])?;
    let prefilled = messages(body)?;
    if let Some(parts) = body.get("system").and_then(Value::as_array) {
        for (at, part) in parts.iter().enumerate() {
            let place = format!("system.{at}");
            let part = check::object(&place, part)?;
            check::word(&format!("{place}.type"), check::required(&place, part, "type")?, &["text"])?;
            check::text(&place, part, "text")?;
        }
    }
    let stop = body.get("stop_sequences");
    if stop.and_then(Value::as_array).is_some_and(|list| !list.iter().all(Value::is_string)) {
        return Err(Flaw::Type("stop_sequences".to_owned(), "an array of strings"));
    }
    let schema = schema(body)?;
    Ok(Chat {
        model: model.to_owned(),
        stream: body.get("stream").and_then(Value::as_bool) == Some(true),
        include_usage: true,
        max_tokens: most.as_u64(),
        stop: talk::texts(stop),
        json: schema.is_some(),
        schema,
        may_call: tools(body)?,
        prefilled,
        load_only: false,
        prompt_tokens: talk::prompt_tokens(body, &["system", "messages", "tools"]),
    })
}

/// The schema in `output_config.format`.
fn schema(body: &Map<String, Value>) -> Result<Option<Value>, Flaw> {
    let Some(config) = body.get("output_config").and_then(Value::as_object) else { return Ok(None) };
    check::fields("output_config", config, &[&[("effort", Kind::Text), ("format", Kind::Object)]])?;
    let Some(format) = config.get("format").and_then(Value::as_object) else { return Ok(None) };
    let place = "output_config.format";
    check::fields(place, format, &[&[("type", Kind::Text), ("schema", Kind::Object)]])?;
    check::word("output_config.format.type", check::required(place, format, "type")?, &["json_schema"])?;
    check::required(place, format, "schema").map(|schema| Some(schema.clone()))
}

fn messages(body: &Map<String, Value>) -> Result<bool, Flaw> {
    // "system" is no role here: it stands at the top.
    let (messages, prefilled) = talk::messages(body, &["user", "assistant"])?;
    let Some((_, last)) = messages.last() else {
        return Err(Flaw::value("messages", "at least one message is required"));
    };
    if prefilled && last.get("content").and_then(Value::as_str).is_some_and(|text| text.trim_end() != text) {
        return Err(Flaw::value("messages", "final assistant content cannot end with trailing whitespace"));
    }
    for (place, message) in messages {
        check::fields(&place, message, &[MESSAGE])?;
        match check::required(&place, message, "content")? {
            Value::String(text) if text.is_empty() => {
                return Err(Flaw::value(&place, "all messages must have non-empty content"));
            }
            Value::Array(blocks) => {
                for (at, block) in blocks.iter().enumerate() {
                    let place = format!("{place}.content.{at}");
                    let block = check::object(&place, block)?;
                    let kind = check::text(&place, block, "type")?;
                    let known = BLOCKS.iter().find(|(name, _)| *name == kind);
                    let Some((_, field)) = known else {
                        return Err(Flaw::value(&place, format!("no such type of block: '{kind}'")));
                    };
                    check::required(&place, block, field)?;
                }
            }
            _ => {}
        }
    }
    Ok(prefilled)
}

/// Checks the tools; gives whether one may be called.
fn tools(body: &Map<String, Value>) -> Result<bool, Flaw> {
    let tools = body.get("tools").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let known = &[
        ("name", Kind::Text),
        ("description", Kind::Text),
        ("input_schema", Kind::Object),
        ("type", Kind::Text),
        ("strict", Kind::Boolean),
        ("cache_control", Kind::Object),
    ];
    for (at, tool) in tools.iter().enumerate() {
        let place = format!("tools.{at}");
        let tool = check::object(&place, tool)?;
        check::fields(&place, tool, &[known])?;
        check::name(&format!("{place}.name"), check::text(&place, tool, "name")?)?;
        let schema = check::object(&place, check::required(&place, tool, "input_schema")?)?;
        let place = format!("{place}.input_schema");
        check::word(&format!("{place}.type"), check::required(&place, schema, "type")?, &["object"])?;
    }
    let Some(choice) = body.get("tool_choice").and_then(Value::as_object) else { return Ok(!tools.is_empty()) };
    let kind = check::required("tool_choice", choice, "type")?;
    check::word("tool_choice.type", kind, &["auto", "any", "tool", "none"])?;
    if kind == "tool" {
        check::text("tool_choice", choice, "name")?;
    }
    if tools.is_empty() {
        return Err(Flaw::value("tool_choice", "may only be specified while providing tools"));
    }
    Ok(kind != "none")
}

pub(super) fn models(names: &[String]) -> Value {
    let model = |name: &String| json!({ "type": "model", "id": name, "display_name": name, "created_at": "2026-11-21T00:00:00Z" });
    let data: Vec<Value> = names.iter().map(model).collect();
    json!({ "data": data, "has_more": false, "first_id": names.first(), "last_id": names.last() })
}

fn stop_reason(reply: &Reply) -> (Value, Value) {
    match &reply.finish {
        None => (Value::Null, Value::Null),
        Some(Finish::Stop | Finish::Load) => (json!("end_turn"), Value::Null),
        Some(Finish::Sequence(text)) => (json!("stop_sequence"), json!(text)),
        Some(Finish::Length) => (json!("max_tokens"), Value::Null),
        Some(Finish::Tool) => (json!("tool_use"), Value::Null),
        Some(Finish::Filtered) => (json!("refusal"), Value::Null),
    }
}

fn id(prefix: &str, reply: &Reply) -> String {
    format!("{prefix}_double{:08}", reply.number)
}

fn message(chat: &Chat, reply: &Reply, content: Vec<Value>) -> Value {
    json!({
        "id": id("msg", reply), "type": "message", "role": "assistant", "model": chat.model, "content": content,
        "stop_reason": null, "stop_sequence": null
    })
}

fn usage(told: (u64, u64)) -> Value {
    json!({
        "input_tokens": told.0, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0, "output_tokens": told.1
    })
}

pub(super) fn whole(chat: &Chat, reply: &Reply) -> Value {
    let block = match &reply.tool {
        None => json!({ "type": "text", "text": reply.text() }),
        Some((name, input)) => json!({ "type": "tool_use", "id": id("toolu", reply), "name": name, "input": input }),
    };
    let mut body = message(chat, reply, if reply.hollow { Vec::new() } else { vec![block] });
    (body["stop_reason"], body["stop_sequence"]) = stop_reason(reply);
    if let Some(told) = reply.usage {
        body["usage"] = usage(told);
    }
    body
}

pub(super) fn pieces(chat: &Chat, reply: &Reply) -> Vec<Piece> {
    let mut start = message(chat, reply, Vec::new());
    if let Some((prompt, _)) = reply.usage {
        start["usage"] = usage((prompt, 1));
    }
    let lead = |body: Value| Piece::new(Part::Lead, event(&body));
    let mut pieces = vec![lead(json!({ "type": "message_start", "message": start }))];
    if !reply.hollow {
        let block = match &reply.tool {
            None => json!({ "type": "text", "text": "" }),
            Some((name, _)) => json!({ "type": "tool_use", "id": id("toolu", reply), "name": name, "input": {} }),
        };
        pieces.push(lead(json!({ "type": "content_block_start", "index": 0, "content_block": block })));
        pieces.push(lead(json!({ "type": "ping" })));
        for (fragment, tokens) in reply.fragments.iter().zip(reply.shares()) {
            let delta = match reply.tool {
                None => json!({ "type": "text_delta", "text": fragment }),
                Some(_) => json!({ "type": "input_json_delta", "partial_json": fragment }),
            };
            let text = event(&json!({ "type": "content_block_delta", "index": 0, "delta": delta }));
            pieces.push(Piece { part: Part::Content, text, tokens });
        }
        pieces.push(Piece::new(Part::Finish, event(&json!({ "type": "content_block_stop", "index": 0 }))));
    }
    if reply.finish.is_some() {
        let (reason, sequence) = stop_reason(reply);
        let delta = json!({ "stop_reason": reason, "stop_sequence": sequence });
        let mut body = json!({ "type": "message_delta", "delta": delta });
        if let Some((_, completion)) = reply.usage {
            body["usage"] = json!({ "output_tokens": completion });
        }
        pieces.push(Piece::new(Part::Finish, event(&body)));
    }
    pieces.push(Piece::new(Part::End, event(&json!({ "type": "message_stop" }))));
    pieces
}

fn event(body: &Value) -> String {
    format!("event: {}\ndata: {body}\n\n", body["type"].as_str().unwrap_or_default())
}

pub(super) fn error_piece() -> String {
    event(&error(&Refusal::of(529, Trouble::Status(529))))
}

pub(super) fn error(refusal: &Refusal) -> Value {
    let kind = match refusal.status {
        401 => "authentication_error",
        402 => "billing_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        504 => "timeout_error",
        529 => "overloaded_error",
        500.. => "api_error",
        _ => "invalid_request_error",
    };
    let words = match &refusal.trouble {
        Trouble::Invalid(Flaw::Unknown(field)) => format!("{field}: Extra inputs are not permitted"),
        Trouble::Invalid(Flaw::Missing(field)) => format!("{field}: Field required"),
        Trouble::Invalid(Flaw::Type(field, expected)) => format!("{field}: Input should be {expected}"),
        Trouble::Invalid(Flaw::Value(field, words)) => format!("{field}: {words}"),
        Trouble::Invalid(Flaw::Request(words)) => words.clone(),
        Trouble::Unauthorized => "invalid x-api-key".to_owned(),
        Trouble::NoModel(model) => format!("model: {model}"),
        Trouble::NoRoute(_) => "Not found".to_owned(),
        Trouble::ContextLength => "prompt is too long: 200001 tokens > 200000 maximum".to_owned(),
        Trouble::ContentFilter => "Output blocked by content filtering policy".to_owned(),
        Trouble::Prefill => {
            "This model does not support assistant message prefill. The conversation must end with a user message."
                .to_owned()
        }
        Trouble::Limited(words, _) => words.clone(),
        Trouble::Busy | Trouble::Status(529) => "Overloaded".to_owned(),
        Trouble::Status(status) if *status >= 500 => "Internal server error".to_owned(),
        Trouble::Status(429) => "This request would exceed your organization's rate limit.".to_owned(),
        Trouble::Status(status) => format!("The request was answered with {status}."),
    };
    json!({ "type": "error", "error": { "type": kind, "message": words }, "request_id": "req_double" })
}
