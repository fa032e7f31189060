use std::time::Duration;

use super::*;
use crate::answer::{Finish, Usage};

const ANTHROPIC: Adapter = Adapter::Anthropic;

#[test]
fn a_request_keeps_what_it_asks_for() {
    let body = sent(ANTHROPIC, &with_tools(), true);
    let text = |text: &str| json!({ "type": "text", "text": text });
    assert_eq!(body["system"], json!([text("be short")]));
    let expected = json!([
        { "role": "user", "content": [text("price of SOL and ETH?")] },
        { "role": "assistant", "content": [
            { "type": "tool_use", "id": "call_a", "name": "price", "input": { "of": "SOL" } },
            { "type": "tool_use", "id": "call_b", "name": "price", "input": {} } ] },
        { "role": "user", "content": [
            { "type": "tool_result", "tool_use_id": "call_a", "content": "150" },
            { "type": "tool_result", "tool_use_id": "call_b", "content": "2500" },
            text("and now?") ] },
    ]);
    assert_eq!(body["messages"], expected);
    let tool = json!({ "name": "price", "description": "of a coin", "input_schema": with_tools().tools[0]["function"]["parameters"] });
    assert_eq!(body["tools"], json!([tool]));
    let head = json!([
        body["model"],
        body["max_tokens"],
        body["stream"],
        body["temperature"],
        body["top_p"],
        body["stop_sequences"]
    ]);
    assert_eq!(head, json!(["m-1", 100, true, 0.2, 0.9, ["END"]]));
    assert!(body.get("tool_choice").is_none() && body.get("output_config").is_none());
}

#[test]
fn tool_choices_formats_and_effort_are_carried() {
    let tools = json!([{ "type": "function", "function": { "name": "f" } }]);
    let named = json!({ "type": "function", "function": { "name": "f" } });
    let rows = [
        (json!("auto"), json!({ "type": "auto" })),
        (json!("none"), json!({ "type": "none" })),
        (json!("required"), json!({ "type": "any" })),
        (named, json!({ "type": "tool", "name": "f" })),
    ];
    for (choice, expected) in rows {
        let body = sent(ANTHROPIC, &request(&json!({ "tools": tools, "tool_choice": choice })), false);
        assert_eq!(body["tool_choice"], expected);
        assert_eq!(body["tools"][0], json!({ "name": "f", "input_schema": { "type": "object", "properties": {} } }));
    }
    let one = sent(ANTHROPIC, &request(&json!({ "tools": tools, "parallel_tool_calls": false })), false);
    assert_eq!(one["tool_choice"], json!({ "type": "auto", "disable_parallel_tool_use": true }));

    let schema = json!({ "type": "object", "additionalProperties": false });
    let format = json!({ "type": "json_schema", "json_schema": { "name": "s", "schema": schema } });
    let body = sent(ANTHROPIC, &request(&json!({ "response_format": format, "reasoning_effort": "minimal" })), false);
    assert_eq!(
        body["output_config"],
        json!({ "format": { "type": "json_schema", "schema": schema }, "effort": "low" })
    );
    let body = sent(ANTHROPIC, &request(&json!({ "response_format": { "type": "json_object" } })), false);
    assert!(body["system"][0]["text"].as_str().unwrap().contains("JSON"));
    let prefilled = json!([{ "role": "user", "content": "a" }, { "role": "user", "content": "b" }, { "role": "assistant", "content": "so \n" }]);
    let body = sent(ANTHROPIC, &request(&json!({ "messages": prefilled })), false);
    assert_eq!(body["messages"][0]["content"][1]["text"], "b");
    assert_eq!(body["messages"][1]["content"][0]["text"], "so");
    assert_eq!(ANTHROPIC.auth("k")[0], ("x-api-key", "k".to_owned()));
    assert_eq!(ANTHROPIC.auth("k")[1], ("anthropic-version", "2023-06-01".to_owned()));
}

#[test]
fn what_anthropic_cannot_do_goes_to_the_next_tier() {
    let broken = json!([{ "role": "assistant", "tool_calls": [{ "id": "a", "function": { "name": "f", "arguments": "[1]" } }] }]);
    for fields in [
        json!({ "temperature": 1.5 }),
        json!({ "presence_penalty": 0.5 }),
        json!({ "messages": [{ "role": "system", "content": "x" }] }),
        json!({ "messages": broken }),
        json!({ "tools": [{ "type": "function", "function": { "name": "f" } }], "tool_choice": "perhaps" }),
    ] {
        let failure = ANTHROPIC.chat(&request(&fields), &TARGET, false).unwrap_err();
        assert_eq!(failure.kind, Kind::Unsupported, "{fields}");
    }
    assert!(ANTHROPIC.chat(&request(&json!({ "presence_penalty": 0 })), &TARGET, false).is_ok());
    assert_eq!(ANTHROPIC.embed(&[], &TARGET, None).unwrap_err().kind, Kind::Unsupported);
    assert_eq!(ANTHROPIC.embeddings(&[], b"{}").unwrap_err().kind, Kind::Unsupported);
}

#[test]
fn whole_answers_are_read() {
    let read = |body: Value| ANTHROPIC.answer(&plain(), body.to_string().as_bytes());
    let answer = read(json!({ "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-x",
        "content": [{ "type": "thinking", "thinking": "hm", "signature": "s" }, { "type": "text", "text": "Let me " },
            { "type": "later_kind", "text": 7_u8.to_string() }, { "type": "text", "text": "look." },
            { "type": "tool_use", "id": "toolu_1", "name": "price", "input": { "of": "SOL" } }],
        "stop_reason": "tool_use", "stop_sequence": null,
        "usage": { "input_tokens": 10, "cache_creation_input_tokens": 2, "cache_read_input_tokens": 3, "output_tokens": 9 } }));
    let answer = answer.unwrap();
    assert_eq!(
        (answer.content.as_str(), answer.reasoning.as_str(), answer.finish),
        ("Let me look.", "hm", Finish::ToolCalls)
    );
    assert_eq!(
        (answer.tool_calls[0].id.as_str(), answer.tool_calls[0].arguments.as_str()),
        ("toolu_1", "{\"of\":\"SOL\"}")
    );
    assert_eq!(answer.usage, Usage { prompt_tokens: 15, completion_tokens: 9, estimated: false });

    let one =
        |text: &str, reason: Value| json!({ "content": [{ "type": "text", "text": text }], "stop_reason": reason });
    for (reason, finish) in [
        ("end_turn", Finish::Stop),
        ("stop_sequence", Finish::Stop),
        ("max_tokens", Finish::Length),
        ("model_context_window_exceeded", Finish::Length),
        ("refusal", Finish::ContentFilter),
    ] {
        assert_eq!(read(one("x", json!(reason))).unwrap().finish, finish);
    }
    assert_eq!(read(json!({ "content": [], "stop_reason": "refusal" })).unwrap().finish, Finish::ContentFilter);
    for (body, kind) in [
        (json!({ "content": [], "stop_reason": "end_turn" }), Kind::Empty),
        (one("x", Value::Null), Kind::Malformed),
        (one("x", json!("pause_turn")), Kind::Malformed),
        (
            json!({ "type": "error", "error": { "type": "overloaded_error", "message": "Overloaded" } }),
            Kind::RateLimited,
        ),
        (json!({ "content": [{ "type": "tool_use", "input": {} }], "stop_reason": "tool_use" }), Kind::Malformed),
    ] {
        assert_eq!(read(body.clone()).unwrap_err().kind, kind, "{body}");
    }
}

pub(super) const STREAM: &str = concat!(
    "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"m\",\"model\":\"claude-x\",\"content\":[],\"stop_reason\":null,\"usage\":{\"input_tokens\":25,\"output_tokens\":1}}}\n\n",
    "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n",
    "event: ping\ndata: {\"type\": \"ping\"}\n\n",
    "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"Grüße\"}}\n\n",
    "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\n",
    "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":1,\"content_block\":{\"type\":\"tool_use\",\"id\":\"t1\",\"name\":\"f\",\"input\":{}}}\n\n",
    "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":1,\"delta\":{\"type\":\"input_json_delta\",\"partial_json\":\"\"}}\n\n",
    "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":1,\"delta\":{\"type\":\"input_json_delta\",\"partial_json\":\"{\\\"x\\\":\"}}\n\n",
    "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":1,\"delta\":{\"type\":\"input_json_delta\",\"partial_json\":\"1}\"}}\n\n",
    "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":2,\"content_block\":{\"type\":\"tool_use\",\"id\":\"t2\",\"name\":\"g\",\"input\":{}}}\n\n",
    "event: later\ndata: {\"type\":\"later_kind\",\"index\":9}\n\n",
    "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"tool_use\",\"stop_sequence\":null},\"usage\":{\"output_tokens\":15}}\n\n",
    "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
);

#[test]
fn streams_are_read() {
    let (pieces, end) = decoded(ANTHROPIC, &plain(), &[STREAM.as_bytes()]);
    assert_eq!(end, Ok(()));
    assert_eq!((pieces.first(), pieces.last()), (Some(&Piece::Model("claude-x".to_owned())), Some(&Piece::End)));
    let answer = collected(&pieces);
    let calls: Vec<_> =
        answer.tool_calls.iter().map(|c| (c.id.as_str(), c.name.as_str(), c.arguments.as_str())).collect();
    assert_eq!(calls, [("t1", "f", "{\"x\":1}"), ("t2", "g", "{}")]);
    assert_eq!((answer.content.as_str(), answer.finish), ("Grüße", Finish::ToolCalls));
    assert_eq!(answer.usage, Usage { prompt_tokens: 25, completion_tokens: 15, estimated: false });

    let text =
        "data: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"a\"}}\n\n";
    let error = |kind: &str| {
        format!(
            "{text}event: error\ndata: {{\"type\":\"error\",\"error\":{{\"type\":\"{kind}\",\"message\":\"x\"}}}}\n\n"
        )
    };
    for (stream, kind) in [
        (text.to_owned(), Kind::Cut),
        (format!("{text}data: {{\"type\":\"message_stop\"}}\n\n"), Kind::Cut),
        (error("overloaded_error"), Kind::RateLimited),
        (error("rate_limit_error"), Kind::RateLimited),
        (error("api_error"), Kind::ServerError),
        (error("invalid_request_error"), Kind::BadRequest),
        (format!("{text}data: {{\"no\":\"type\"}}\n\n"), Kind::Malformed),
    ] {
        assert_eq!(decoded(ANTHROPIC, &plain(), &[stream.as_bytes()]).1.unwrap_err().kind, kind, "{stream}");
    }
}

#[test]
fn limits_are_moments_and_are_read_as_times() {
    let now = UnixMs(1_784_110_000_000); // 2026-07-15 10:06:40 UTC
    let headers = [
        ("anthropic-ratelimit-requests-limit", "50"),
        ("anthropic-ratelimit-requests-remaining", "0"),
        ("anthropic-ratelimit-requests-reset", "2026-07-15T10:06:52Z"),
        ("anthropic-ratelimit-input-tokens-limit", "30000"),
        ("anthropic-ratelimit-input-tokens-remaining", "29000"),
        ("anthropic-ratelimit-input-tokens-reset", "2026-07-15T12:07:10.5+02:00"),
    ];
    let find = |name: &str| headers.iter().find(|(own, _)| *own == name).map(|(_, value)| *value);
    let limits = ANTHROPIC.limits(find, now);
    assert_eq!((limits.limit_requests, limits.remaining_tokens), (Some(50), Some(29_000)));
    assert_eq!(limits.reset_requests, Some(Duration::from_secs(12)));
    assert_eq!(limits.reset_tokens, Some(Duration::from_secs(30)));
    assert_eq!(ANTHROPIC.refusal(429, find, now, b"").retry_after, Some(Duration::from_secs(12)), "what is spent");
    for wrong in ["", "T", "2026-07-15", "2026-13-15T10:00:00Z", "2026-07-15T10:00:00", "2026-07-15T10:00:00+99:00"] {
        assert_eq!(ANTHROPIC.limits(|_| Some(wrong), now).reset_tokens, None, "{wrong}");
    }
}
