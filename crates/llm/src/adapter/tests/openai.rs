use super::*;
use crate::answer::{Finish, Usage};

const OPENAI: Adapter = Adapter::OpenAi;

#[test]
fn a_request_keeps_what_it_asks_for() {
    let body = sent(OPENAI, &with_tools(), false);
    assert_eq!(body["model"], "m-1");
    assert_eq!(body["max_tokens"], 100, "the tier's bound is the most");
    assert_eq!((&body["temperature"], &body["stop"]), (&json!(0.2), &json!(["END"])));
    assert_eq!(body["messages"][2]["tool_calls"][0]["function"]["arguments"], "{\"of\":\"SOL\"}");
    assert_eq!(body["messages"][3], json!({ "role": "tool", "content": "150", "tool_call_id": "call:a" }));
    assert_eq!(body["tools"][0]["function"]["name"], "price");
    assert_eq!((&body["stream"], &body["stream_options"]), (&json!(false), &Value::Null));
    assert!(body.get("seed").is_none() && body.get("tool_choice").is_none());
    // What is sent is a request of the same API: it reads back as the same.
    let again = ChatRequest::parse(body.to_string().as_bytes()).unwrap();
    assert_eq!(again.messages, with_tools().messages);
    assert_eq!(again.tools, with_tools().tools);
}

#[test]
fn a_stream_is_always_asked_for_its_tokens() {
    let body = sent(OPENAI, &plain(), true);
    assert_eq!((&body["stream"], &body["stream_options"]), (&json!(true), &json!({ "include_usage": true })));
    assert_eq!(body["max_tokens"], 100, "the tier's bound where the request has none");
}

#[test]
fn formats_tool_choices_and_the_name_of_the_bound_are_carried() {
    let schema = json!({ "type": "json_schema", "json_schema": { "name": "s", "schema": { "type": "object" }, "strict": true } });
    assert_eq!(sent(OPENAI, &request(&json!({ "response_format": schema })), false)["response_format"], schema);
    let object = json!({ "type": "json_object" });
    assert_eq!(sent(OPENAI, &request(&json!({ "response_format": object })), false)["response_format"], object);
    let choice = json!({ "type": "function", "function": { "name": "price" } });
    let tools = json!([{ "type": "function", "function": { "name": "price" } }]);
    let asked =
        request(&json!({ "tools": tools, "tool_choice": choice, "parallel_tool_calls": false, "max_tokens": 7 }));
    let body = sent(OPENAI, &asked, false);
    assert_eq!((&body["tool_choice"], &body["parallel_tool_calls"]), (&choice, &json!(false)));
    assert_eq!(body["max_tokens"], 7);
    let target = Target { max_completion_tokens: true, ..TARGET };
    let body: Value = serde_json::from_slice(&OPENAI.chat(&asked, &target, false).unwrap().body).unwrap();
    assert_eq!((&body["max_completion_tokens"], body.get("max_tokens")), (&json!(7), None));
}

#[test]
fn whole_answers_are_read() {
    // Groq, with what it adds.
    let body = json!({
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1_730_241_104, "model": "llama-3.1-8b-instant",
        "choices": [{ "index": 0, "message": { "role": "assistant", "content": "Buy.", "reasoning": "because" },
            "logprobs": null, "finish_reason": "stop" }],
        "usage": { "queue_time": 0.03, "prompt_tokens": 18, "prompt_time": 0.001, "completion_tokens": 556, "total_tokens": 574 },
        "system_fingerprint": "fp_1", "x_groq": { "id": "req_1" },
    });
    let answer = OPENAI.answer(&plain(), body.to_string().as_bytes()).unwrap();
    assert_eq!((answer.content.as_str(), answer.reasoning.as_str()), ("Buy.", "because"));
    assert_eq!((answer.finish, answer.model.as_str()), (Finish::Stop, "llama-3.1-8b-instant"));
    assert_eq!(answer.usage, Usage { prompt_tokens: 18, completion_tokens: 556, estimated: false });

    // A forced tool ends with `stop`; the second choice is nobody's; no usage.
    let body = json!({ "choices": [
        { "index": 1, "message": { "content": "other" }, "finish_reason": "stop" },
        { "index": 0, "finish_reason": "stop", "message": { "role": "assistant", "content": null, "tool_calls": [
            { "id": "", "type": "function", "function": { "name": "price", "arguments": "" } },
            { "id": "x", "type": "function", "function": { "name": "price", "arguments": "{\"of\":1}" } } ] } } ] });
    let answer = OPENAI.answer(&with_tools(), body.to_string().as_bytes()).unwrap();
    assert_eq!(answer.finish, Finish::ToolCalls);
    assert_eq!((answer.tool_calls[0].id.as_str(), answer.tool_calls[0].arguments.as_str()), ("call_2", "{}"));
    assert_eq!(answer.tool_calls[1].id, "x");
    assert!(answer.usage.estimated && answer.usage.prompt_tokens > 10 && answer.usage.completion_tokens > 0);

    // Parts of text, a refusal, and a filter with nothing said.
    let one = |message: Value, finish: &str| json!({ "choices": [{ "message": message, "finish_reason": finish }] });
    let read = |body: Value| OPENAI.answer(&plain(), body.to_string().as_bytes());
    let parts = one(json!({ "content": [{ "type": "text", "text": "a" }, { "type": "text", "text": "b" }] }), "length");
    assert_eq!(read(parts).map(|answer| (answer.content, answer.finish)), Ok(("ab".to_owned(), Finish::Length)));
    let refused = read(one(json!({ "content": null, "refusal": "no" }), "stop")).unwrap();
    assert_eq!(refused.refusal.as_deref(), Some("no"));
    assert_eq!(read(one(json!({ "content": "" }), "content_filter")).unwrap().finish, Finish::ContentFilter);
}

#[test]
fn what_is_no_answer_is_said_to_be_none() {
    let message = |message: Value, finish: Value| {
        json!({ "choices": [{ "message": message, "finish_reason": finish }] }).to_string()
    };
    let whole = message(json!({ "content": "hello" }), json!("stop"));
    let call = |arguments: Value| {
        message(
            json!({ "tool_calls": [{ "id": "a", "function": { "name": "f", "arguments": arguments } }] }),
            json!("tool_calls"),
        )
    };
    let rows = [
        (json!({ "choices": [] }).to_string(), Kind::Empty),
        (json!({}).to_string(), Kind::Empty),
        (json!({ "choices": [{ "finish_reason": "stop" }] }).to_string(), Kind::Empty),
        (message(json!({ "content": "" }), json!("stop")), Kind::Empty),
        (message(json!({ "content": " \n" }), json!("length")), Kind::Empty),
        (message(json!({ "content": "x" }), json!("error")), Kind::ServerError),
        (message(json!({ "content": "x" }), json!("whim")), Kind::Malformed),
        (message(json!({ "content": "x" }), Value::Null), Kind::Malformed),
        (whole[..whole.len() - 4].to_owned(), Kind::Malformed),
        ("<html>busy</html>".to_owned(), Kind::Malformed),
        (String::new(), Kind::Malformed),
        (call(json!("{\"a\":")), Kind::Malformed),
        (call(json!({ "a": 1 })), Kind::Malformed),
        (json!({ "error": { "code": 429, "message": "busy" } }).to_string(), Kind::RateLimited),
        (
            json!({ "choices": [{ "error": { "code": 502, "message": "gone" }, "finish_reason": "error" }] })
                .to_string(),
            Kind::ServerError,
        ),
    ];
    for (body, kind) in rows {
        let failure = OPENAI.answer(&plain(), body.as_bytes()).unwrap_err();
        assert_eq!(failure.kind, kind, "{body}");
        assert!(!failure.text.contains("html"), "a page is never shown");
    }
}

/// OpenAI with OpenRouter's comments, thinking, and the tokens last.
pub(super) const TEXT: &str = concat!(
    ": OPENROUTER PROCESSING\n\n",
    "data: {\"id\":\"1\",\"model\":\"m/x\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"finish_reason\":null}]}\n\n",
    ": OPENROUTER PROCESSING\r\n\r\n",
    "data: {\"model\":\"m/x\",\"choices\":[{\"index\":0,\"delta\":{\"reasoning\":\"hm\",\"reasoning_content\":\"hm\"}}]}\r\n\r\n",
    "data: {\"model\":\"m/x\",\"choices\":[{\"index\":1,\"delta\":{\"content\":\"other\"}},{\"index\":0,\"delta\":{\"content\":\"Grüße, \"}}]}\n\n",
    "data: {\"model\":\"m/x\",\ndata: \"choices\":[{\"index\":0,\"delta\":{\"content\":\"\u{1f680}!\"}}]}\n\n",
    "data: {\"model\":\"m/x\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n",
    "data: {\"model\":\"m/x\",\"choices\":[],\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":3,\"total_tokens\":8}}\n\n",
    "data: [DONE]\n\n",
    "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"nobody's\"}}]}\n\n",
    "data: this is nobody's either\n\n",
);

/// Two calls in parts, the tokens where Groq has them.
pub(super) const CALLS: &str = concat!(
    "data: {\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":0,\"id\":\"a\",\"type\":\"function\",\"function\":{\"name\":\"f\",\"arguments\":\"\"}}]}}]}\n\n",
    "data: {\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":0,\"id\":\"\",\"function\":{\"name\":\"\",\"arguments\":\"{\\\"x\\\":\"}}]}}]}\n\n",
    "data: {\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":\"1}\"}},{\"index\":1,\"id\":\"b\",\"function\":{\"name\":\"g\"}}]}}]}\n\n",
    "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"tool_calls\"}],\"x_groq\":{\"id\":\"r\",\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":9}}}\n\n",
    "data: [DONE]\n\n",
);

#[test]
fn streams_are_read() {
    let (pieces, end) = decoded(OPENAI, &plain(), &[TEXT.as_bytes()]);
    assert_eq!(end, Ok(()));
    let text = |text: &str| text.to_owned();
    let expected = [
        Piece::Model(text("m/x")),
        Piece::Reasoning(text("hm")),
        Piece::Content(text("Grüße, ")),
        Piece::Content(text("\u{1f680}!")),
        Piece::Finish(Finish::Stop),
        Piece::Usage(Usage { prompt_tokens: 5, completion_tokens: 3, estimated: false }),
        Piece::End,
    ];
    assert_eq!(pieces, expected);

    let (pieces, end) = decoded(OPENAI, &plain(), &[CALLS.as_bytes()]);
    assert_eq!(end, Ok(()));
    let answer = collected(&pieces);
    let calls: Vec<_> =
        answer.tool_calls.iter().map(|c| (c.id.as_str(), c.name.as_str(), c.arguments.as_str())).collect();
    assert_eq!(calls, [("a", "f", "{\"x\":1}"), ("b", "g", "{}")]);
    assert_eq!((answer.finish, answer.usage.completion_tokens), (Finish::ToolCalls, 9));
}

#[test]
fn calls_that_share_a_number_are_told_apart_by_their_ids() {
    let chunk = |id: &str| {
        let call = json!({ "index": 0, "id": id, "function": { "name": "f", "arguments": "{}" } });
        format!("data: {}\n\n", json!({ "choices": [{ "delta": { "tool_calls": [call] }, "finish_reason": null }] }))
    };
    let stream = format!("{}{}data: {{\"choices\":[{{\"finish_reason\":\"stop\"}}]}}\n\n", chunk("a"), chunk("b"));
    let (pieces, end) = decoded(OPENAI, &plain(), &[stream.as_bytes()]);
    assert_eq!(end, Ok(()));
    assert_eq!(collected(&pieces).tool_calls.len(), 2);
}

#[test]
fn the_end_of_a_stream_decides_whether_it_is_whole() {
    let content = "data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n";
    let finish = "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";
    let error = |error: Value| format!("{content}data: {}\n\n", json!({ "error": error }));
    let long = format!("data: {}", "x".repeat(1 << 20));
    let rows = [
        (format!("{content}{finish}data: [DONE]\n\n"), None),
        (format!("{content}{finish}"), None),
        (format!("{content}{}", finish.trim_end()), None),
        (format!("{content}{finish}data: {{\"usa"), None),
        (format!("{content}{finish}data: [DONE]"), None),
        (format!("{content}data: [DONE]\n\n"), Some(Kind::Cut)),
        (content.to_owned(), Some(Kind::Cut)),
        (format!("{content}data: {{\"choi"), Some(Kind::Cut)),
        (String::new(), Some(Kind::Cut)),
        (finish.to_owned(), Some(Kind::Empty)),
        (format!("{content}data: {{\"choi\n\n"), Some(Kind::Malformed)),
        (format!("{content}data: [1]\n\n"), Some(Kind::Malformed)),
        (long, Some(Kind::TooLarge)),
        (
            error(json!({ "message": "Rate limit reached", "type": "tokens", "code": "rate_limit_exceeded" })),
            Some(Kind::RateLimited),
        ),
        (error(json!({ "code": 502, "message": "Provider disconnected" })), Some(Kind::ServerError)),
        (error(json!({ "code": 500, "message": "x", "type": "exceed_context_size_error" })), Some(Kind::ContextLength)),
        (error(json!("something")), Some(Kind::ServerError)),
        (
            format!("{content}data: {{\"object\":\"error\",\"message\":\"bad\",\"code\":400}}\n\n"),
            Some(Kind::BadRequest),
        ),
        (
            format!("{content}error: {{\"error\":{{\"code\":503,\"message\":\"Loading model\"}}}}\n\n"),
            Some(Kind::RateLimited),
        ),
    ];
    for (stream, kind) in rows {
        let (pieces, end) = decoded(OPENAI, &plain(), &[stream.as_bytes()]);
        let shown: String = stream.chars().take(200).collect();
        assert_eq!(end.err().map(|failure| failure.kind), kind, "{shown}");
        if stream.starts_with(content) {
            assert_eq!(pieces[0], Piece::Content("a".to_owned()), "what came before it is there: {shown}");
        }
    }
}

#[test]
fn vectors_are_put_in_order_and_looked_at() {
    let texts = ["a".to_owned(), "bcd".to_owned()];
    let call = OPENAI.embed(&texts, &TARGET, Some(2)).unwrap();
    let body: Value = serde_json::from_slice(&call.body).unwrap();
    let expected = json!({ "model": "m-1", "input": ["a", "bcd"], "encoding_format": "float", "dimensions": 2 });
    assert_eq!((call.path, body), ("/embeddings", expected));

    let read = |body: Value| OPENAI.embeddings(&texts, body.to_string().as_bytes());
    let vector =
        |index: usize, embedding: Value| json!({ "object": "embedding", "index": index, "embedding": embedding });
    let data = |data: Value| json!({ "data": data, "model": "e", "usage": { "prompt_tokens": 4, "total_tokens": 4 } });
    let good = read(data(json!([vector(1, json!([3.0, 4.0])), vector(0, json!([1.0, 2.0]))]))).unwrap();
    assert_eq!(good.vectors, [[1.0, 2.0], [3.0, 4.0]]);
    assert_eq!((good.usage.prompt_tokens, good.usage.estimated), (4, false));
    let rows = [
        (data(json!([vector(0, json!([1.0]))])), Kind::Malformed),
        (data(json!([vector(0, json!([1.0])), vector(0, json!([1.0]))])), Kind::Malformed),
        (data(json!([vector(0, json!([1.0])), vector(1, json!([1.0, 2.0]))])), Kind::Malformed),
        (data(json!([vector(0, json!([1.0])), vector(1, json!([1e39]))])), Kind::Malformed),
        (data(json!([vector(0, json!([1.0])), vector(1, json!([null]))])), Kind::Malformed),
        (data(json!([vector(0, json!([])), vector(1, json!([]))])), Kind::Empty),
        (json!({ "error": { "code": 401, "message": "no" } }), Kind::Unauthorized),
    ];
    for (body, kind) in rows {
        assert_eq!(read(body.clone()).unwrap_err().kind, kind, "{body}");
    }
}
