//! Tables of documented payloads for each dialect, and properties of the streams.

mod anthropic;
mod ollama;
mod openai;
mod properties;
mod refusals;

use serde_json::{Value, json};

use super::*;
use crate::answer::{Collector, Piece};

/// A request of one message with `extra` fields.
fn request(extra: &Value) -> ChatRequest {
    let mut body = json!({ "model": "trading-llm", "messages": [{ "role": "user", "content": "hi" }] });
    for (name, value) in extra.as_object().unwrap() {
        body[name] = value.clone();
    }
    ChatRequest::parse(body.to_string().as_bytes()).unwrap()
}

fn plain() -> ChatRequest {
    request(&json!({}))
}

const TARGET: Target<'static> = Target {
    model: "m-1",
    max_output_tokens: 100,
    context_tokens: 4_096,
    keep_alive: Some("30m"),
    max_completion_tokens: false,
};

/// The body of the call, read back.
fn sent(adapter: Adapter, request: &ChatRequest, stream: bool) -> Value {
    serde_json::from_slice(&adapter.chat(request, &TARGET, stream).unwrap().body).unwrap()
}

/// Pieces of a whole stream and how it ended.
fn decoded(adapter: Adapter, request: &ChatRequest, parts: &[&[u8]]) -> (Vec<Piece>, Result<(), Failure>) {
    let (mut decoder, mut out) = (adapter.decoder(request), Vec::new());
    for part in parts {
        if let Err(failure) = decoder.push(part, &mut out) {
            return (out, Err(failure));
        }
    }
    let end = decoder.finish(&mut out);
    (out, end)
}

fn collected(pieces: &[Piece]) -> Answer {
    let mut collector = Collector::default();
    pieces.iter().for_each(|piece| collector.take(piece));
    collector.answer(0).unwrap()
}

/// A request with a conversation that called two tools, with what every dialect must carry.
fn with_tools() -> ChatRequest {
    request(&json!({
        "messages": [
            { "role": "system", "content": "be short" },
            { "role": "user", "content": "price of SOL and ETH?" },
            { "role": "assistant", "content": "", "tool_calls": [
                { "id": "call:a", "type": "function", "function": { "name": "price", "arguments": "{\"of\":\"SOL\"}" } },
                { "id": "call:b", "type": "function", "function": { "name": "price", "arguments": "" } } ] },
            { "role": "tool", "tool_call_id": "call:a", "content": "150" },
            { "role": "tool", "tool_call_id": "call:b", "content": "2500" },
            { "role": "user", "content": "and now?" },
        ],
        "tools": [{ "type": "function", "function": { "name": "price", "description": "of a coin",
            "parameters": { "type": "object", "properties": { "of": { "type": "string" } } } } }],
        "temperature": 0.2, "top_p": 0.9, "stop": ["END"], "max_tokens": 1_000,
    }))
}
