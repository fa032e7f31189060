use serde_json::json;

use super::*;

fn parse(value: &Value) -> Result<ChatRequest, Invalid> {
    ChatRequest::parse(value.to_string().as_bytes())
}

fn with(extra: &Value) -> Result<ChatRequest, Invalid> {
    let mut body = json!({ "model": "trading-llm", "messages": [{ "role": "user", "content": "hi" }] });
    for (name, value) in extra.as_object().unwrap() {
        body[name] = value.clone();
    }
    parse(&body)
}

#[test]
fn what_clients_send_is_read() {
    let request = parse(&json!({
        "model": "trading-llm",
        "messages": [
            { "role": "developer", "content": "be short" },
            { "role": "user", "content": [{ "type": "text", "text": "a" }, { "type": "text", "text": "b" }] },
            { "role": "assistant", "content": null, "tool_calls": [
                { "id": "c1", "type": "function", "function": { "name": "f", "arguments": "{}" } }] },
            { "role": "tool", "tool_call_id": "c1", "content": "7" },
        ],
        "max_completion_tokens": 9, "max_tokens": 3, "n": 1, "temperature": 0, "stop": "X", "stream": true,
        "stream_options": { "include_usage": true }, "user": "u", "logprobs": false, "seed": null,
        "metadata": { "priority": "9", "deadline_ms": "250", "somebody": "else's" },
    }))
    .unwrap();
    assert_eq!(request.messages[0].role, Role::System);
    assert_eq!(request.messages[1].content, "ab");
    assert_eq!(request.messages[2].tool_calls[0].name, "f");
    assert_eq!((request.max_tokens, request.stream, request.include_usage), (Some(9), true, true));
    assert_eq!((request.extras.priority, request.extras.deadline_ms), (Some(9), Some(250)));
    assert_eq!(request.sampling.stop, ["X"]);
}

#[test]
fn what_cannot_be_carried_is_refused_by_name() {
    let rows = [
        (json!({ "n": 2 }), "n"),
        (json!({ "logprobs": true }), "logprobs"),
        (json!({ "functions": [] }), "functions"),
        (json!({ "surprise": 1 }), "surprise"),
        (json!({ "temperature": 3 }), "temperature"),
        (json!({ "max_tokens": 0 }), "max_tokens"),
        (json!({ "stream": "yes" }), "stream"),
        (json!({ "tools": [{ "type": "web" }] }), "tools[0]"),
        (json!({ "response_format": { "type": "xml" } }), "response_format.type"),
        (
            json!({ "response_format": { "type": "json_schema", "json_schema": { "name": "x", "schema": { "type": 3 } } } }),
            "response_format.json_schema.schema",
        ),
        (json!({ "messages": [] }), "messages"),
        (json!({ "messages": [{ "role": "king", "content": "x" }] }), "messages[0].role"),
        (json!({ "messages": [{ "role": "user" }] }), "messages[0].content"),
        (json!({ "messages": [{ "role": "tool", "content": "x" }] }), "messages[0]"),
        (json!({ "messages": [{ "role": "user", "content": [{ "type": "image_url" }] }] }), "messages[0].content"),
        (json!({ "metadata": { "priority": "10" } }), "priority"),
    ];
    for (extra, param) in rows {
        let error = with(&extra).unwrap_err();
        assert_eq!(error.param.as_deref(), Some(param), "{extra}: {error}");
    }
    assert_eq!(ChatRequest::parse(b"{").unwrap_err().code, "invalid_json");
    assert_eq!(ChatRequest::parse(b"[]").unwrap_err().code, "invalid_json");
}

#[test]
fn the_same_request_has_the_same_bytes_however_it_is_written() {
    let one = ChatRequest::parse(
        br#"{"model":"a","messages":[{"role":"user","content":"x"}],"temperature":0.5,"stream":true}"#,
    );
    let other = ChatRequest::parse(
        br#"{ "stream": false, "temperature":0.5, "messages": [ {"content":"x", "role":"user"} ], "user": "z", "model":"a"}"#,
    );
    assert_eq!(one.unwrap().canonical(), other.unwrap().canonical());
}

#[test]
fn whatever_changes_the_answer_changes_the_bytes() {
    let plain = with(&json!({})).unwrap().canonical();
    let rows = [
        json!({ "model": "other" }),
        json!({ "messages": [{ "role": "system", "content": "hi" }] }),
        json!({ "messages": [{ "role": "user", "content": "hi " }] }),
        json!({ "tools": [{ "type": "function", "function": { "name": "f" } }] }),
        json!({ "tool_choice": "none" }),
        json!({ "parallel_tool_calls": false }),
        json!({ "response_format": { "type": "json_object" } }),
        json!({ "temperature": 0 }),
        json!({ "top_p": 1 }),
        json!({ "seed": 1 }),
        json!({ "presence_penalty": 0 }),
        json!({ "frequency_penalty": 0 }),
        json!({ "stop": "." }),
        json!({ "reasoning_effort": "low" }),
        json!({ "max_tokens": 10 }),
    ];
    let mut seen = std::collections::BTreeSet::from([plain]);
    for extra in rows {
        assert!(seen.insert(with(&extra).unwrap().canonical()), "{extra}");
    }
}

#[test]
fn the_bound_on_prompt_tokens_counts_everything_the_model_reads() {
    let plain = with(&json!({})).unwrap().most_prompt_tokens();
    let tool = json!({ "type": "function", "function": { "name": "f", "description": "x".repeat(100) } });
    assert!(with(&json!({ "tools": [tool] })).unwrap().most_prompt_tokens() > plain + 100);
    let schema =
        json!({ "type": "json_schema", "json_schema": { "name": "x", "schema": { "title": "y".repeat(50) } } });
    assert!(with(&json!({ "response_format": schema })).unwrap().most_prompt_tokens() > plain + 50);
}

#[test]
fn a_message_of_the_assistant_can_be_sent_again_as_clients_give_it_back() {
    let body = json!({ "model": "m", "messages": [
        { "role": "user", "content": "a" },
        { "role": "assistant", "content": "b", "refusal": null, "annotations": [], "function_call": null,
          "provider_specific_fields": { "refusal": null }, "reasoning_content": "c" },
        { "role": "user", "content": "d" },
    ]});
    let request = ChatRequest::parse(body.to_string().as_bytes()).unwrap();
    assert_eq!(request.messages[1].content, "b");
}
