//! The form of OpenAI's API, with what Groq and OpenRouter add to it or take from it.
//!
//! Sources: <https://platform.openai.com/docs/api-reference/chat>, <https://console.groq.com/docs/openai>,
//! <https://console.groq.com/docs/api-reference>, <https://openrouter.ai/docs/api-reference/overview>.

use serde_json::{Map, Value, json};

use super::check::{self, ANY_INTEGER, Field, Kind, POSITIVE, SHARE};
use super::fault::{Flaw, Refusal, Trouble};
use super::talk::{self, Chat, Embed, Finish, Flavour, Part, Piece, Reply, Route};

const CHAT: &[Field] = &[
    ("model", Kind::Text),
    ("messages", Kind::Array),
    ("frequency_penalty", Kind::Number(-2.0, 2.0)),
    ("presence_penalty", Kind::Number(-2.0, 2.0)),
    ("logit_bias", Kind::Object),
    ("logprobs", Kind::Boolean),
    ("top_logprobs", Kind::Integer(0, 20)),
    ("max_tokens", POSITIVE),
    ("max_completion_tokens", POSITIVE),
    ("metadata", Kind::Object),
    ("n", Kind::Integer(1, 128)),
    ("parallel_tool_calls", Kind::Boolean),
    ("reasoning_effort", Kind::Text),
    ("response_format", Kind::Object),
    ("seed", ANY_INTEGER),
    ("service_tier", Kind::Text),
    ("stop", Kind::Texts(4)),
    ("store", Kind::Boolean),
    ("stream", Kind::Boolean),
    ("stream_options", Kind::Object),
    ("temperature", Kind::Number(0.0, 2.0)),
    ("tool_choice", Kind::TextOrObject),
    ("tools", Kind::Array),
    ("top_p", SHARE),
    ("user", Kind::Text),
];
const OPENAI_ONLY: &[Field] = &[
    ("audio", Kind::Object),
    ("modalities", Kind::Array),
    ("prediction", Kind::Object),
    ("web_search_options", Kind::Object),
    ("verbosity", Kind::Text),
    ("safety_identifier", Kind::Text),
    ("prompt_cache_key", Kind::Text),
    ("prompt_cache_retention", Kind::Text),
];
const GROQ_ONLY: &[Field] = &[
    ("include_reasoning", Kind::Boolean),
    ("reasoning_format", Kind::Text),
    ("search_settings", Kind::Object),
    ("documents", Kind::Array),
    ("citation_options", Kind::Text),
    ("compound_custom", Kind::Object),
    ("disable_tool_validation", Kind::Boolean),
];
const OPENROUTER_ONLY: &[Field] = &[
    ("models", Kind::Array),
    ("provider", Kind::Object),
    ("route", Kind::Text),
    ("transforms", Kind::Array),
    ("plugins", Kind::Array),
    ("reasoning", Kind::Object),
    ("include_reasoning", Kind::Boolean),
    ("usage", Kind::Object),
    ("prediction", Kind::Object),
    ("verbosity", Kind::Text),
    ("top_k", Kind::Integer(0, i64::MAX)),
    ("top_a", SHARE),
    ("min_p", SHARE),
    ("repetition_penalty", Kind::Number(0.0, 2.0)),
];
/// What Groq documents as answered with 400.
const GROQ_REFUSES: [&str; 3] = ["logprobs", "logit_bias", "top_logprobs"];
const MESSAGE: &[Field] = &[
    ("role", Kind::Text),
    ("content", Kind::TextOrArray),
    ("name", Kind::Text),
    ("tool_calls", Kind::Array),
    ("tool_call_id", Kind::Text),
    ("refusal", Kind::Text),
    ("reasoning", Kind::Text),
];
const EMBED: &[Field] = &[
    ("model", Kind::Text),
    ("input", Kind::TextOrArray),
    ("dimensions", POSITIVE),
    ("encoding_format", Kind::Text),
    ("user", Kind::Text),
];
const ROLES: [&str; 5] = ["developer", "system", "user", "assistant", "tool"];

/// Whose path it is, and which.
pub(super) fn route(method: &str, path: &str) -> Option<(Flavour, Route)> {
    let (flavour, rest) =
        [("/openai/v1/", Flavour::Groq), ("/api/v1/", Flavour::OpenRouter), ("/v1/", Flavour::OpenAi)]
            .into_iter()
            .find_map(|(prefix, flavour)| path.strip_prefix(prefix).map(|rest| (flavour, rest)))?;
    let route = match (method, rest) {
        ("POST", "chat/completions") => Route::Chat,
        ("POST", "embeddings") => Route::Embed,
        ("GET", "models") => Route::Models,
        _ => return None,
    };
    Some((flavour, route))
}

pub(super) fn chat(flavour: Flavour, body: &Map<String, Value>) -> Result<Chat, Flaw> {
    let model = check::text("", body, "model")?;
    let more = match flavour {
        Flavour::OpenAi => OPENAI_ONLY,
        Flavour::Groq => GROQ_ONLY,
        Flavour::OpenRouter => OPENROUTER_ONLY,
    };
    check::fields("", body, &[CHAT, more])?;
    if flavour == Flavour::Groq {
        groq(body)?;
    }
    let prefilled = messages(body)?;
    let tools = tools(body)?;
    let (schema, json) = response_format(body)?;
    let stream = body.get("stream").and_then(Value::as_bool) == Some(true);
    let include_usage = stream_options(flavour, body, stream)?;
    let limit = |name| body.get(name).and_then(Value::as_u64);
    Ok(Chat {
        model: model.to_owned(),
        stream,
        include_usage,
        max_tokens: limit("max_completion_tokens").or_else(|| limit("max_tokens")),
        stop: talk::texts(body.get("stop")),
        schema,
        json,
        may_call: tools && body.get("tool_choice").and_then(Value::as_str) != Some("none"),
        prefilled,
        load_only: false,
        prompt_tokens: talk::prompt_tokens(body, &["messages", "tools"]),
    })
}

fn groq(body: &Map<String, Value>) -> Result<(), Flaw> {
    if let Some(name) = GROQ_REFUSES.into_iter().find(|name| body.contains_key(*name)) {
        return Err(Flaw::Unknown(name.to_owned()));
    }
    if body.get("n").and_then(Value::as_i64).is_some_and(|n| n != 1) {
        return Err(Flaw::value("n", "must be at most 1"));
    }
    Ok(())
}

/// Checks the messages; gives whether the last is the assistant's.
fn messages(body: &Map<String, Value>) -> Result<bool, Flaw> {
    let (messages, prefilled) = talk::messages(body, &ROLES)?;
    if messages.is_empty() {
        return Err(Flaw::value("messages", "is an empty array"));
    }
    for (place, message) in messages {
        check::fields(&place, message, &[MESSAGE])?;
        let role = message.get("role").and_then(Value::as_str).unwrap_or_default();
        if role == "tool" {
            check::text(&place, message, "tool_call_id")?;
        }
        let calls = message.get("tool_calls").and_then(Value::as_array);
        if calls.is_some() && role != "assistant" {
            return Err(Flaw::value(&format!("{place}.tool_calls"), "only the assistant calls tools"));
        }
        for (at, call) in calls.into_iter().flatten().enumerate() {
            tool_call(&format!("{place}.tool_calls.{at}"), call)?;
        }
        if calls.is_none() {
            let content = check::required(&place, message, "content")?;
            for (at, part) in content.as_array().into_iter().flatten().enumerate() {
                let place = format!("{place}.content.{at}");
                check::text(&place, check::object(&place, part)?, "type")?;
            }
        }
    }
    Ok(prefilled)
}

fn tool_call(place: &str, call: &Value) -> Result<(), Flaw> {
    let call = check::object(place, call)?;
    check::text(place, call, "id")?;
    check::word(&format!("{place}.type"), check::required(place, call, "type")?, &["function"])?;
    let place = format!("{place}.function");
    let function = check::object(&place, call.get("function").unwrap_or(&Value::Null))?;
    check::text(&place, function, "name")?;
    check::text(&place, function, "arguments").map(|_| ())
}

/// Checks the tools; gives whether there are any.
fn tools(body: &Map<String, Value>) -> Result<bool, Flaw> {
    let tools = body.get("tools").and_then(Value::as_array);
    if tools.is_some_and(Vec::is_empty) {
        return Err(Flaw::value("tools", "is an empty array"));
    }
    for (at, tool) in tools.into_iter().flatten().enumerate() {
        let place = format!("tools.{at}");
        let tool = check::object(&place, tool)?;
        check::fields(&place, tool, &[&[("type", Kind::Text), ("function", Kind::Object)]])?;
        check::word(&format!("{place}.type"), check::required(&place, tool, "type")?, &["function"])?;
        let place = format!("{place}.function");
        let function = check::object(&place, check::required(&place, tool, "function")?)?;
        let known = &[
            ("name", Kind::Text),
            ("description", Kind::Text),
            ("parameters", Kind::Object),
            ("strict", Kind::Boolean),
        ];
        check::fields(&place, function, &[known])?;
        check::name(&format!("{place}.name"), check::text(&place, function, "name")?)?;
    }
    match body.get("tool_choice") {
        None | Some(Value::Null) => {}
        Some(_) if tools.is_none() => {
            return Err(Flaw::value("tool_choice", "is only allowed when 'tools' are specified"));
        }
        Some(choice @ Value::String(_)) => check::word("tool_choice", choice, &["none", "auto", "required"])?,
        Some(choice) => {
            if choice.pointer("/function/name").and_then(Value::as_str).is_none() {
                return Err(Flaw::Missing("tool_choice.function.name".to_owned()));
            }
        }
    }
    Ok(tools.is_some())
}

/// The schema of the answer, and whether JSON is asked for.
fn response_format(body: &Map<String, Value>) -> Result<(Option<Value>, bool), Flaw> {
    let Some(format) = body.get("response_format").and_then(Value::as_object) else { return Ok((None, false)) };
    let place = "response_format";
    check::fields(place, format, &[&[("type", Kind::Text), ("json_schema", Kind::Object)]])?;
    let kind = check::required(place, format, "type")?;
    check::word("response_format.type", kind, &["text", "json_object", "json_schema"])?;
    if kind != "json_schema" {
        return Ok((None, kind == "json_object"));
    }
    let place = "response_format.json_schema";
    let named = check::object(place, check::required("response_format", format, "json_schema")?)?;
    let known =
        &[("name", Kind::Text), ("description", Kind::Text), ("schema", Kind::Object), ("strict", Kind::Boolean)];
    check::fields(place, named, &[known])?;
    check::name("response_format.json_schema.name", check::text(place, named, "name")?)?;
    let schema = check::required(place, named, "schema")?;
    if named.get("strict").and_then(Value::as_bool) == Some(true) {
        strict(place, schema)?;
    }
    Ok((Some(schema.clone()), true))
}

/// With `strict` every object closes itself and requires all of its properties.
fn strict(place: &str, schema: &Value) -> Result<(), Flaw> {
    if let Some(properties) = schema.get("properties").and_then(Value::as_object) {
        if schema.get("additionalProperties") != Some(&Value::Bool(false)) {
            return Err(Flaw::value(place, "'additionalProperties' is required to be supplied and to be false"));
        }
        let required = talk::texts(schema.get("required"));
        if let Some(name) = properties.keys().find(|name| !required.contains(name)) {
            return Err(Flaw::value(
                place,
                format!("'required' must include every key in properties. Missing '{name}'"),
            ));
        }
        properties.values().try_for_each(|inner| strict(place, inner))?;
    }
    for inner in ["items", "anyOf", "$defs"].iter().filter_map(|name| schema.get(*name)) {
        match inner {
            Value::Array(list) => list.iter().try_for_each(|inner| strict(place, inner))?,
            Value::Object(fields) if schema.get("$defs") == Some(inner) => {
                fields.values().try_for_each(|inner| strict(place, inner))?;
            }
            inner => strict(place, inner)?,
        }
    }
    Ok(())
}

fn stream_options(flavour: Flavour, body: &Map<String, Value>, stream: bool) -> Result<bool, Flaw> {
    let wanted = flavour == Flavour::OpenRouter && body.get("usage").is_some_and(|usage| usage["include"] == true);
    let Some(options) = body.get("stream_options").and_then(Value::as_object) else { return Ok(wanted) };
    if !stream {
        return Err(Flaw::value("stream_options", "is only allowed when 'stream' is enabled"));
    }
    let known = &[("include_usage", Kind::Boolean), ("include_obfuscation", Kind::Boolean)];
    check::fields("stream_options", options, &[known])?;
    Ok(wanted || options.get("include_usage").and_then(Value::as_bool) == Some(true))
}

pub(super) fn embed(body: &Map<String, Value>) -> Result<Embed, Flaw> {
    let model = check::text("", body, "model")?;
    check::fields("", body, &[EMBED])?;
    let input = check::required("", body, "input")?;
    let inputs = match input {
        Value::Array(list) if list.iter().any(|entry| !entry.is_string()) => {
            return Err(Flaw::Type("input".to_owned(), "a string or an array of strings (the double knows no tokens)"));
        }
        input => talk::texts(Some(input)),
    };
    if inputs.is_empty() || inputs.len() > 2_048 || inputs.iter().any(String::is_empty) {
        return Err(Flaw::value("input", "must hold 1 to 2048 texts, none of them empty"));
    }
    if let Some(format) = body.get("encoding_format").filter(|value| !value.is_null()) {
        check::word("encoding_format", format, &["float", "base64"])?;
    }
    Ok(Embed {
        model: model.to_owned(),
        inputs,
        dimensions: body.get("dimensions").and_then(Value::as_u64).and_then(|count| usize::try_from(count).ok()),
        base64: body.get("encoding_format").and_then(Value::as_str) == Some("base64"),
        prompt_tokens: talk::prompt_tokens(body, &["input"]),
    })
}

pub(super) fn models(names: &[String]) -> Value {
    let model =
        |name: &String| json!({ "id": name, "object": "model", "created": 1_795_305_600, "owned_by": "double" });
    json!({ "object": "list", "data": names.iter().map(model).collect::<Vec<_>>() })
}

pub(super) fn embeddings(asked: &Embed, vectors: Vec<Value>) -> Value {
    let entry = |(index, embedding)| json!({ "object": "embedding", "index": index, "embedding": embedding });
    json!({
        "object": "list",
        "data": vectors.into_iter().enumerate().map(entry).collect::<Vec<_>>(),
        "model": asked.model,
        "usage": { "prompt_tokens": asked.prompt_tokens, "total_tokens": asked.prompt_tokens },
    })
}

fn finish(reply: &Reply) -> Value {
    let word = reply.finish.as_ref().map(|finish| match finish {
        Finish::Stop | Finish::Sequence(_) | Finish::Load => "stop",
        Finish::Length => "length",
        Finish::Tool => "tool_calls",
        Finish::Filtered => "content_filter",
    });
    json!(word)
}

fn usage(told: (u64, u64)) -> Value {
    json!({ "prompt_tokens": told.0, "completion_tokens": told.1, "total_tokens": told.0 + told.1 })
}

fn frame(chat: &Chat, reply: &Reply, object: &str, choices: Value) -> Value {
    json!({
        "id": format!("chatcmpl-double{:08}", reply.number),
        "object": object,
        "created": reply.created(),
        "model": chat.model,
        "system_fingerprint": "fp_double",
        "choices": choices,
    })
}

pub(super) fn whole(flavour: Flavour, chat: &Chat, reply: &Reply) -> Value {
    let mut message = json!({ "role": "assistant", "content": reply.text() });
    if let Some((name, _)) = &reply.tool {
        let function = json!({ "name": name, "arguments": reply.text() });
        message["content"] = Value::Null;
        message["tool_calls"] = json!([{ "id": call_id(reply), "type": "function", "function": function }]);
    }
    let choice = json!({ "index": 0, "message": message, "logprobs": null, "finish_reason": finish(reply) });
    let choices = if reply.hollow { json!([]) } else { json!([choice]) };
    let mut body = frame(chat, reply, "chat.completion", choices);
    if let Some(told) = reply.usage {
        body["usage"] = usage(told);
    }
    if flavour == Flavour::Groq {
        body["x_groq"] = json!({ "id": format!("req_double{}", reply.number) });
    }
    body
}

fn call_id(reply: &Reply) -> String {
    format!("call_double{}", reply.number)
}

pub(super) fn pieces(flavour: Flavour, chat: &Chat, reply: &Reply) -> Vec<Piece> {
    let event = |delta: Value, finish: Value| {
        let choice = json!({ "index": 0, "delta": delta, "logprobs": null, "finish_reason": finish });
        let mut body = frame(chat, reply, "chat.completion.chunk", json!([choice]));
        if chat.include_usage {
            body["usage"] = Value::Null;
        }
        body
    };
    let mut pieces = Vec::with_capacity(reply.fragments.len() + 5);
    if flavour == Flavour::OpenRouter {
        pieces.push(Piece::new(Part::Lead, ": OPENROUTER PROCESSING\n\n".to_owned()));
    }
    if reply.hollow {
        pieces.push(Piece::new(Part::Lead, line(&frame(chat, reply, "chat.completion.chunk", json!([])))));
    } else {
        let lead = match &reply.tool {
            None => json!({ "role": "assistant", "content": "" }),
            Some((name, _)) => {
                let function = json!({ "name": name, "arguments": "" });
                let call = json!([{ "index": 0, "id": call_id(reply), "type": "function", "function": function }]);
                json!({ "role": "assistant", "content": null, "tool_calls": call })
            }
        };
        pieces.push(Piece::new(Part::Lead, line(&event(lead, Value::Null))));
        for (fragment, tokens) in reply.fragments.iter().zip(reply.shares()) {
            let delta = match reply.tool {
                None => json!({ "content": fragment }),
                Some(_) => json!({ "tool_calls": [{ "index": 0, "function": { "arguments": fragment } }] }),
            };
            pieces.push(Piece { part: Part::Content, text: line(&event(delta, Value::Null)), tokens });
        }
        if reply.finish.is_some() {
            let mut last = event(json!({}), finish(reply));
            if let (Flavour::Groq, Some(told)) = (flavour, reply.usage) {
                last["x_groq"] = json!({ "id": format!("req_double{}", reply.number), "usage": usage(told) });
            }
            pieces.push(Piece::new(Part::Finish, line(&last)));
        }
    }
    if let (true, Some(told)) = (chat.include_usage, reply.usage) {
        let mut body = frame(chat, reply, "chat.completion.chunk", json!([]));
        body["usage"] = usage(told);
        pieces.push(Piece::new(Part::Finish, line(&body)));
    }
    pieces.push(Piece::new(Part::End, "data: [DONE]\n\n".to_owned()));
    pieces
}

fn line(body: &Value) -> String {
    format!("data: {body}\n\n")
}

/// An error in the middle of a stream.
pub(super) fn error_piece(flavour: Flavour, chat: &Chat, reply: &Reply) -> String {
    if flavour == Flavour::OpenRouter {
        let choice = json!({ "index": 0, "delta": { "content": "" }, "finish_reason": "error" });
        let mut body = frame(chat, reply, "chat.completion.chunk", json!([choice]));
        body["error"] = json!({ "code": "server_error", "message": "Provider disconnected" });
        return line(&body);
    }
    let refusal = Refusal::of(500, Trouble::Status(500));
    line(&error(flavour, &refusal))
}

pub(super) fn error(flavour: Flavour, refusal: &Refusal) -> Value {
    let (mut kind, mut code, mut param) = ("invalid_request_error", None, None);
    let message = match &refusal.trouble {
        Trouble::Invalid(flaw) => {
            let (words, found, field) = invalid(flaw);
            (code, param) = (found, field);
            words
        }
        Trouble::Unauthorized => {
            code = Some("invalid_api_key");
            "Incorrect API key provided.".to_owned()
        }
        Trouble::NoModel(model) => {
            code = Some("model_not_found");
            format!("The model `{model}` does not exist or you do not have access to it.")
        }
        Trouble::NoRoute(path) => {
            code = Some("unknown_url");
            format!("Unknown request URL: {path}.")
        }
        Trouble::ContextLength => {
            (code, param) = (Some("context_length_exceeded"), Some("messages".to_owned()));
            "This model's maximum context length is 8192 tokens. However, your messages resulted in more. Please reduce the length of the messages.".to_owned()
        }
        Trouble::ContentFilter => {
            code = Some("content_filter");
            "The response was filtered due to the prompt triggering the content management policy.".to_owned()
        }
        Trouble::Prefill => {
            "This model does not support assistant message prefill. The conversation must end with a user message."
                .to_owned()
        }
        Trouble::Limited(words, which) => {
            (kind, code) = (which, Some("rate_limit_exceeded"));
            words.clone()
        }
        Trouble::Busy | Trouble::Status(503) => {
            kind = "service_unavailable";
            "The engine is currently overloaded, please try again later.".to_owned()
        }
        Trouble::Status(429) => {
            (kind, code) = ("requests", Some("rate_limit_exceeded"));
            "Rate limit reached. Please try again later.".to_owned()
        }
        Trouble::Status(status) if *status >= 500 => {
            kind = "server_error";
            "The server had an error while processing your request. Sorry about that!".to_owned()
        }
        Trouble::Status(status) => format!("The request was answered with {status}."),
    };
    if flavour == Flavour::OpenRouter {
        return json!({ "error": { "code": refusal.status, "message": message } });
    }
    json!({ "error": { "message": message, "type": kind, "param": param, "code": code } })
}

fn invalid(flaw: &Flaw) -> (String, Option<&'static str>, Option<String>) {
    match flaw {
        Flaw::Unknown(field) => {
            (format!("Unrecognized request argument supplied: {field}"), Some("unknown_parameter"), Some(field.clone()))
        }
        Flaw::Missing(field) => {
            let words = format!("Missing required parameter: '{field}'.");
            (words, Some("missing_required_parameter"), Some(field.clone()))
        }
        Flaw::Type(field, expected) => {
            (format!("Invalid type for '{field}': expected {expected}."), Some("invalid_type"), Some(field.clone()))
        }
        Flaw::Value(field, words) => {
            (format!("Invalid '{field}': {words}."), Some("invalid_value"), Some(field.clone()))
        }
        Flaw::Request(words) => (words.clone(), None, None),
    }
}
