//! Ollama's own API.
//!
//! Sources: <https://github.com/ollama/ollama/blob/main/docs/api.md>, `api/types.go` and `server/routes.go` there. The real
//! server passes over a field it does not know; the double refuses it, because nobody means to send one.

use serde_json::{Map, Value, json};

use super::check::{self, ANY_INTEGER, ANY_NUMBER, Field, Kind};
use super::fault::{Flaw, Refusal, Trouble};
use super::talk::{self, Chat, Embed, Finish, Part, Piece, Reply, Route};

const CHAT: &[Field] = &[
    ("model", Kind::Text),
    ("messages", Kind::Array),
    ("tools", Kind::Array),
    ("think", Kind::Any),
    ("format", Kind::TextOrObject),
    ("options", Kind::Object),
    ("stream", Kind::Boolean),
    ("keep_alive", Kind::TextOrNumber),
    ("logprobs", Kind::Boolean),
    ("top_logprobs", ANY_INTEGER),
    ("truncate", Kind::Boolean),
    ("shift", Kind::Boolean),
];
const OPTIONS: &[Field] = &[
    ("num_keep", ANY_INTEGER),
    ("seed", ANY_INTEGER),
    ("num_predict", ANY_INTEGER),
    ("num_ctx", ANY_INTEGER),
    ("num_batch", ANY_INTEGER),
    ("num_gpu", ANY_INTEGER),
    ("main_gpu", ANY_INTEGER),
    ("num_thread", ANY_INTEGER),
    ("use_mmap", Kind::Boolean),
    ("top_k", ANY_INTEGER),
    ("top_p", ANY_NUMBER),
    ("min_p", ANY_NUMBER),
    ("typical_p", ANY_NUMBER),
    ("repeat_last_n", ANY_INTEGER),
    ("temperature", ANY_NUMBER),
    ("repeat_penalty", ANY_NUMBER),
    ("presence_penalty", ANY_NUMBER),
    ("frequency_penalty", ANY_NUMBER),
    ("stop", Kind::Array),
];
const MESSAGE: &[Field] = &[
    ("role", Kind::Text),
    ("content", Kind::Text),
    ("thinking", Kind::Text),
    ("images", Kind::Array),
    ("tool_calls", Kind::Array),
    ("tool_name", Kind::Text),
    ("tool_call_id", Kind::Text),
];
const EMBED: &[Field] = &[
    ("model", Kind::Text),
    ("input", Kind::TextOrArray),
    ("truncate", Kind::Boolean),
    ("dimensions", Kind::Integer(1, 1 << 16)),
    ("keep_alive", Kind::TextOrNumber),
    ("options", Kind::Object),
];
const ROLES: [&str; 4] = ["system", "user", "assistant", "tool"];
const AT: &str = "2026-11-21T00:00:00.000000Z";

pub(super) fn route(method: &str, path: &str) -> Option<Route> {
    match (method, path) {
        ("POST", "/api/chat") => Some(Route::Chat),
        ("POST", "/api/embed") => Some(Route::Embed),
        ("GET", "/api/tags") => Some(Route::Models),
        ("GET", "/api/version") => Some(Route::Version),
        _ => None,
    }
}

pub(super) fn chat(body: &Map<String, Value>) -> Result<Chat, Flaw> {
    let model = check::text("", body, "model")?;
    check::fields("", body, &[CHAT])?;
    let nothing = Map::new();
    let options = body.get("options").and_then(Value::as_object).unwrap_or(&nothing);
    check::fields("options", options, &[OPTIONS])?;
    if options.get("stop").and_then(Value::as_array).is_some_and(|list| !list.iter().all(Value::is_string)) {
        return Err(Flaw::Type("options.stop".to_owned(), "an array of strings"));
    }
    keep_alive(body)?;
    let empty = body.get("messages").is_none_or(|list| list.as_array().is_some_and(Vec::is_empty));
    let prefilled = !empty && messages(body)?;
    let may_call = tools(body)?;
    let format = body.get("format").filter(|format| !format.is_null() && *format != "");
    if format.is_some_and(|format| format.as_str().is_some_and(|word| word != "json")) {
        return Err(Flaw::value("format", "expected \"json\" or a JSON schema"));
    }
    Ok(Chat {
        model: model.to_owned(),
        // Unlike the others it streams unless it is told not to.
        stream: body.get("stream").and_then(Value::as_bool) != Some(false),
        include_usage: true,
        max_tokens: options.get("num_predict").and_then(Value::as_u64),
        stop: talk::texts(options.get("stop")),
        schema: format.filter(|format| format.is_object()).cloned(),
        json: format.is_some(),
        may_call,
        prefilled,
        load_only: empty,
        prompt_tokens: talk::prompt_tokens(body, &["messages", "tools"]),
    })
}

/// A number of seconds, or a duration as Go writes it ("5m", "-1s", "1h30m").
fn keep_alive(body: &Map<String, Value>) -> Result<(), Flaw> {
    let Some(text) = body.get("keep_alive").and_then(Value::as_str) else { return Ok(()) };
    let unsigned = text.trim_start_matches('-');
    let units = ["ns", "us", "ms", "s", "m", "h"];
    let digits = |c: char| c.is_ascii_digit() || c == '.';
    let mut rest = unsigned;
    while !rest.is_empty() {
        let number = rest.len() - rest.trim_start_matches(digits).len();
        let unit = rest[number..].find(digits).map_or(rest.len(), |at| number + at);
        if number == 0 || !units.contains(&&rest[number..unit]) {
            return Err(Flaw::value("keep_alive", format!("time: invalid duration \"{text}\"")));
        }
        rest = &rest[unit..];
    }
    if unsigned.is_empty() { Err(Flaw::value("keep_alive", "time: invalid duration \"\"")) } else { Ok(()) }
}

fn messages(body: &Map<String, Value>) -> Result<bool, Flaw> {
    let (messages, prefilled) = talk::messages(body, &ROLES)?;
    for (place, message) in messages {
        check::fields(&place, message, &[MESSAGE])?;
        let calls = message.get("tool_calls").and_then(Value::as_array);
        for (at, call) in calls.into_iter().flatten().enumerate() {
            let place = format!("{place}.tool_calls.{at}.function");
            let function = check::object(&place, call.get("function").unwrap_or(&Value::Null))?;
            check::text(&place, function, "name")?;
            // Not a text as with OpenAI: the real server cannot read that.
            check::object(&format!("{place}.arguments"), check::required(&place, function, "arguments")?)?;
        }
        if calls.is_none() {
            check::required(&place, message, "content")?;
        }
    }
    Ok(prefilled)
}

fn tools(body: &Map<String, Value>) -> Result<bool, Flaw> {
    let tools = body.get("tools").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    for (at, tool) in tools.iter().enumerate() {
        let place = format!("tools.{at}");
        let tool = check::object(&place, tool)?;
        check::word(&format!("{place}.type"), check::required(&place, tool, "type")?, &["function"])?;
        let place = format!("{place}.function");
        let function = check::object(&place, check::required(&place, tool, "function")?)?;
        let known = &[("name", Kind::Text), ("description", Kind::Text), ("parameters", Kind::Object)];
        check::fields(&place, function, &[known])?;
        check::text(&place, function, "name")?;
    }
    Ok(!tools.is_empty())
}

pub(super) fn embed(body: &Map<String, Value>) -> Result<Embed, Flaw> {
    let model = check::text("", body, "model")?;
    check::fields("", body, &[EMBED])?;
    keep_alive(body)?;
    let input = check::required("", body, "input")?;
    if input.as_array().is_some_and(|list| !list.iter().all(Value::is_string)) {
        return Err(Flaw::Type("input".to_owned(), "a string or an array of strings"));
    }
    Ok(Embed {
        model: model.to_owned(),
        inputs: talk::texts(Some(input)),
        dimensions: body.get("dimensions").and_then(Value::as_u64).and_then(|count| usize::try_from(count).ok()),
        base64: false,
        prompt_tokens: talk::prompt_tokens(body, &["input"]),
    })
}

pub(super) fn models(names: &[String]) -> Value {
    let details = json!({
        "parent_model": "", "format": "gguf", "family": "double", "families": ["double"], "parameter_size": "8.2B",
        "quantization_level": "Q4_K_M"
    });
    let model = |name: &String| {
        json!({
            "name": name, "model": name, "modified_at": AT, "size": 5_200_000_000_u64, "digest": "0".repeat(64),
            "details": details
        })
    };
    json!({ "models": names.iter().map(model).collect::<Vec<_>>() })
}

pub(super) fn version() -> Value {
    json!({ "version": "0.20.3" })
}

pub(super) fn embeddings(asked: &Embed, vectors: Vec<Value>) -> Value {
    json!({
        "model": asked.model, "embeddings": vectors, "total_duration": 14_143_917, "load_duration": 1_019_500,
        "prompt_eval_count": asked.prompt_tokens
    })
}

fn done(body: &mut Value, reply: &Reply) {
    body["done"] = json!(true);
    let reason = reply.finish.as_ref().map(|finish| match finish {
        Finish::Stop | Finish::Sequence(_) | Finish::Tool => "stop",
        Finish::Length => "length",
        // Ollama has no content filter; this is what a compatible server in its place says.
        Finish::Filtered => "content_filter",
        Finish::Load => "load",
    });
    if let Some(reason) = reason {
        body["done_reason"] = json!(reason);
    }
    if reply.finish == Some(Finish::Load) {
        return;
    }
    body["total_duration"] = json!(4_935_886_791_u64);
    body["load_duration"] = json!(534_986_708_u64);
    body["prompt_eval_duration"] = json!(107_345_000_u64);
    body["eval_duration"] = json!(237_000_000_u64);
    if let Some((prompt, completion)) = reply.usage {
        body["prompt_eval_count"] = json!(prompt);
        body["eval_count"] = json!(completion);
    }
}

fn message(reply: &Reply) -> Value {
    match &reply.tool {
        None => json!({ "role": "assistant", "content": reply.text() }),
        Some((name, arguments)) => {
            let call = json!({ "function": { "name": name, "arguments": arguments } });
            json!({ "role": "assistant", "content": "", "tool_calls": [call] })
        }
    }
}

pub(super) fn whole(chat: &Chat, reply: &Reply) -> Value {
    let mut body = json!({ "model": chat.model, "created_at": AT });
    if !reply.hollow {
        body["message"] = message(reply);
    }
    done(&mut body, reply);
    body
}

pub(super) fn pieces(chat: &Chat, reply: &Reply) -> Vec<Piece> {
    let event = |message: Value| json!({ "model": chat.model, "created_at": AT, "message": message, "done": false });
    let mut pieces = Vec::with_capacity(reply.fragments.len() + 1);
    if reply.hollow {
        let mut body = json!({ "model": chat.model, "created_at": AT });
        done(&mut body, reply);
        return vec![Piece::new(Part::End, line(&body))];
    }
    if reply.tool.is_some() {
        // A call comes whole, never in fragments.
        let tokens = reply.shares().iter().sum();
        pieces.push(Piece { part: Part::Content, text: line(&event(message(reply))), tokens });
    } else {
        for (fragment, tokens) in reply.fragments.iter().zip(reply.shares()) {
            let text = line(&event(json!({ "role": "assistant", "content": fragment })));
            pieces.push(Piece { part: Part::Content, text, tokens });
        }
    }
    let mut last = event(json!({ "role": "assistant", "content": "" }));
    done(&mut last, reply);
    pieces.push(Piece::new(Part::End, line(&last)));
    pieces
}

fn line(body: &Value) -> String {
    format!("{body}\n")
}

pub(super) fn error_piece() -> String {
    line(&error(&Refusal::of(500, Trouble::Status(500))))
}

pub(super) fn error(refusal: &Refusal) -> Value {
    let words = match &refusal.trouble {
        Trouble::Invalid(Flaw::Missing(field)) => format!("{field} is required"),
        Trouble::Invalid(flaw) => flaw.words(),
        Trouble::Unauthorized => "unauthorized".to_owned(),
        Trouble::NoModel(model) => format!("model '{model}' not found"),
        Trouble::NoRoute(_) => return json!("404 page not found"),
        Trouble::ContextLength => "the input length exceeds the context length".to_owned(),
        Trouble::ContentFilter => "the prompt was refused by a content filter".to_owned(),
        Trouble::Prefill => "the last message must be from the user".to_owned(),
        Trouble::Limited(words, _) => words.clone(),
        Trouble::Busy | Trouble::Status(503) => {
            "server busy, please try again.  maximum pending requests exceeded".to_owned()
        }
        Trouble::Status(status) if *status >= 500 => "llama runner process has terminated: signal: killed".to_owned(),
        Trouble::Status(status) => format!("answered with {status}"),
    };
    json!({ "error": words })
}
