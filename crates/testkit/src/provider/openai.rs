//! Answers in the form of OpenAI's API, with what Groq and OpenRouter add to it.
//!
//! Sources: <https://platform.openai.com/docs/api-reference/chat>, <https://console.groq.com/docs/api-reference>,
//! <https://openrouter.ai/docs/api-reference/overview>.

use serde_json::{Value, json};

use super::fault::{Flaw, Refusal, Trouble};
use super::talk::{Chat, Embed, Finish, Flavour, Part, Piece, Reply};

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
