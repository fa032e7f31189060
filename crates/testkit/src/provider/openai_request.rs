//! Requests in the form of OpenAI's API, and what Groq and OpenRouter take or refuse beyond it.
//!
//! Sources: <https://platform.openai.com/docs/api-reference/chat>, <https://console.groq.com/docs/openai>,
//! <https://console.groq.com/docs/api-reference>, <https://openrouter.ai/docs/api-reference/overview>.

use serde_json::{Map, Value};

use super::check::{self, ANY_INTEGER, Field, Kind, POSITIVE, SHARE};
use super::fault::Flaw;
use super::talk::{self, Chat, Embed, Flavour, Route};

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
