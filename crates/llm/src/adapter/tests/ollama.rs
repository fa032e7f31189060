use super::*;
use crate::answer::{Finish, Usage};

const OLLAMA: Adapter = Adapter::Ollama;

#[test]
fn a_request_keeps_what_it_asks_for() {
    let body = sent(OLLAMA, &with_tools(), true);
    assert_eq!(
        body["options"],
        json!({ "num_predict": 100, "num_ctx": 4_096, "temperature": 0.2, "top_p": 0.9, "stop": ["END"] })
    );
    let head =
        json!([body["model"], body["stream"], body["think"], body["truncate"], body["shift"], body["keep_alive"]]);
    assert_eq!(head, json!(["m-1", true, false, false, false, "30m"]));
    assert_eq!(body["messages"][0], json!({ "role": "system", "content": "be short" }));
    let calls = json!([{ "function": { "name": "price", "arguments": { "of": "SOL" } } }, { "function": { "name": "price", "arguments": {} } }]);
    assert_eq!(body["messages"][2], json!({ "role": "assistant", "content": "", "tool_calls": calls }));
    assert_eq!(body["messages"][3], json!({ "role": "tool", "content": "150", "tool_name": "price" }));
    assert_eq!(body["tools"], json!(with_tools().tools));
    assert!(body.get("format").is_none());
}

#[test]
fn formats_and_thinking_are_carried() {
    let schema = json!({ "type": "object", "required": ["a"] });
    let asked = json!({ "type": "json_schema", "json_schema": { "name": "s", "schema": schema } });
    assert_eq!(sent(OLLAMA, &request(&json!({ "response_format": asked })), false)["format"], schema);
    let object = json!({ "response_format": { "type": "json_object" } });
    assert_eq!(sent(OLLAMA, &request(&object), false)["format"], "json");
    for (effort, think) in
        [("none", json!(false)), ("minimal", json!("low")), ("high", json!("high")), ("xhigh", json!(true))]
    {
        assert_eq!(sent(OLLAMA, &request(&json!({ "reasoning_effort": effort })), false)["think"], think);
    }
    let sampling = request(&json!({ "seed": 7, "presence_penalty": 1, "frequency_penalty": -1 }));
    let options = &sent(OLLAMA, &sampling, false)["options"];
    assert_eq!(
        json!([options["seed"], options["presence_penalty"], options["frequency_penalty"]]),
        json!([7, 1.0, -1.0])
    );
}

#[test]
fn what_ollama_cannot_do_goes_to_the_next_tier() {
    let tools = json!([{ "type": "function", "function": { "name": "f" } }]);
    let named = json!({ "type": "function", "function": { "name": "f" } });
    let broken =
        json!([{ "role": "assistant", "tool_calls": [{ "id": "a", "function": { "name": "f", "arguments": "{" } }] }]);
    for fields in [
        json!({ "tools": tools, "tool_choice": "required" }),
        json!({ "tools": tools, "tool_choice": named }),
        json!({ "tools": tools, "parallel_tool_calls": false }),
        json!({ "messages": broken }),
    ] {
        let failure = OLLAMA.chat(&request(&fields), &TARGET, false).unwrap_err();
        assert_eq!(failure.kind, Kind::Unsupported, "{fields}");
    }
    let none = sent(OLLAMA, &request(&json!({ "tools": tools, "tool_choice": "none" })), false);
    assert!(none.get("tools").is_none());
    assert_eq!(sent(OLLAMA, &request(&json!({ "tools": tools, "tool_choice": "auto" })), false)["tools"], tools);
}

#[test]
fn whole_answers_are_read() {
    let read = |request: &ChatRequest, body: Value| OLLAMA.answer(request, body.to_string().as_bytes());
    let body = json!({ "model": "qwen3:8b", "created_at": "2024-12-06T00:46:58.265747Z",
        "message": { "role": "assistant", "content": "{\"age\": 22}", "thinking": "hm" }, "done_reason": "stop", "done": true,
        "total_duration": 2_254_970_291_u64, "prompt_eval_count": 34, "eval_count": 12 });
    let answer = read(&plain(), body).unwrap();
    assert_eq!(
        (answer.content.as_str(), answer.reasoning.as_str(), answer.model.as_str()),
        ("{\"age\": 22}", "hm", "qwen3:8b")
    );
    assert_eq!(
        (answer.finish, answer.usage),
        (Finish::Stop, Usage { prompt_tokens: 34, completion_tokens: 12, estimated: false })
    );

    let calls = json!([{ "function": { "name": "price", "arguments": { "of": "SOL", "n": [1, 2.5] } } },
        { "id": "own", "function": { "index": 1, "name": "price", "arguments": null } }]);
    let body = json!({ "message": { "content": "", "tool_calls": calls }, "done": true, "done_reason": "stop", "eval_count": 3 });
    let answer = read(&with_tools(), body).unwrap();
    assert_eq!((answer.finish, answer.usage.estimated), (Finish::ToolCalls, true));
    assert_eq!(answer.tool_calls[0].id, "call_2", "two calls were before it in the conversation");
    let arguments: Value = serde_json::from_str(&answer.tool_calls[0].arguments).unwrap();
    assert_eq!(arguments, json!({ "of": "SOL", "n": [1, 2.5] }));
    assert_eq!((answer.tool_calls[1].id.as_str(), answer.tool_calls[1].arguments.as_str()), ("own", "{}"));

    let rows = [
        (json!({ "message": { "content": "" }, "done": true, "done_reason": "length" }), Kind::Empty),
        (json!({ "done": true }), Kind::Empty),
        (json!({ "message": { "content": "x" }, "done": false }), Kind::Malformed),
        (json!({ "message": { "content": "x" }, "done": true, "done_reason": "load" }), Kind::Malformed),
        (
            json!({ "message": { "tool_calls": [{ "function": { "name": "f", "arguments": "{}" } }] }, "done": true }),
            Kind::Malformed,
        ),
        (json!({ "error": "an error was encountered while running the model" }), Kind::ServerError),
    ];
    for (body, kind) in rows {
        assert_eq!(read(&plain(), body.clone()).unwrap_err().kind, kind, "{body}");
    }
}

pub(super) const STREAM: &str = concat!(
    "{\"model\":\"qwen3:8b\",\"message\":{\"role\":\"assistant\",\"content\":\"\",\"thinking\":\"hm\"},\"done\":false}\n",
    "{\"model\":\"qwen3:8b\",\"message\":{\"role\":\"assistant\",\"content\":\"Grüße\",\"images\":null},\"done\":false}\r\n",
    "\n",
    "{\"model\":\"qwen3:8b\",\"message\":{\"role\":\"assistant\",\"content\":\"\",\"tool_calls\":[{\"function\":{\"name\":\"f\",\"arguments\":{\"x\":1}}}]},\"done\":false}\n",
    "{\"model\":\"qwen3:8b\",\"message\":{\"content\":\"\",\"tool_calls\":[{\"function\":{\"name\":\"g\",\"arguments\":{}}}]},\"done\":false}\n",
    "{\"model\":\"qwen3:8b\",\"message\":{\"content\":\"\"},\"done\":true,\"done_reason\":\"stop\",\"prompt_eval_count\":26,\"eval_count\":282}\n",
);

#[test]
fn streams_are_read() {
    let (pieces, end) = decoded(OLLAMA, &plain(), &[STREAM.as_bytes()]);
    assert_eq!(end, Ok(()));
    assert_eq!(pieces.last(), Some(&Piece::End));
    let answer = collected(&pieces);
    assert_eq!((answer.content.as_str(), answer.reasoning.as_str(), answer.finish), ("Grüße", "hm", Finish::ToolCalls));
    let calls: Vec<_> =
        answer.tool_calls.iter().map(|c| (c.id.as_str(), c.name.as_str(), c.arguments.as_str())).collect();
    assert_eq!(calls, [("call_0", "f", "{\"x\":1}"), ("call_1", "g", "{}")]);
    assert_eq!(answer.usage, Usage { prompt_tokens: 26, completion_tokens: 282, estimated: false });

    let content = "{\"message\":{\"content\":\"a\"},\"done\":false}\n";
    let rows = [
        (content.to_owned(), Kind::Cut),
        (format!("{content}{{\"mess"), Kind::Cut),
        (format!("{content}{{\"mess\n"), Kind::Malformed),
        (format!("{content}{{\"error\":\"the input length exceeds the context length\"}}\n"), Kind::ContextLength),
        (format!("{content}{{\"error\":\"llama runner process no longer running\"}}\n"), Kind::ServerError),
        ("{\"done\":true,\"done_reason\":\"stop\"}\n".to_owned(), Kind::Empty),
    ];
    for (stream, kind) in rows {
        assert_eq!(decoded(OLLAMA, &plain(), &[stream.as_bytes()]).1.unwrap_err().kind, kind, "{stream}");
    }
    let unended = format!("{content}{{\"message\":{{}},\"done\":true,\"done_reason\":\"stop\"}}");
    assert_eq!(decoded(OLLAMA, &plain(), &[unended.as_bytes()]).1, Ok(()), "the last line needs no end");
}

#[test]
fn vectors_are_looked_at() {
    let texts = ["a".to_owned(), "b".to_owned()];
    let call = OLLAMA.embed(&texts, &TARGET, None).unwrap();
    let body: Value = serde_json::from_slice(&call.body).unwrap();
    let expected = json!({ "model": "m-1", "input": ["a", "b"], "truncate": false, "keep_alive": "30m" });
    assert_eq!((call.path, body), ("/api/embed", expected));
    let read = |body: Value| OLLAMA.embeddings(&texts, body.to_string().as_bytes());
    let good = read(json!({ "model": "e", "embeddings": [[0.5, 1.0], [2.0, 3.0]], "prompt_eval_count": 8 })).unwrap();
    assert_eq!((good.vectors.len(), good.usage.prompt_tokens, good.model.as_str()), (2, 8, "e"));
    assert!(read(json!({ "embeddings": [[0.5], [2.0]] })).unwrap().usage.estimated);
    assert_eq!(read(json!({ "embeddings": [[0.5], [2.0, 1.0]] })).unwrap_err().kind, Kind::Malformed);
    assert_eq!(read(json!({ "embeddings": [[0.5]] })).unwrap_err().kind, Kind::Malformed);
    assert_eq!(read(json!({})).unwrap_err().kind, Kind::Malformed);
}
