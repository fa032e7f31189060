//! Good answers, whole and streamed.

use serde_json::{Value, json};
use testkit::provider::{Answer, Billed, Dialect, Fault, Limits, Provider};
use testkit::wait_until;

use super::client::{BOUND, Client, DIALECTS, Ended, TEXT, Told, read};

fn stop(dialect: Dialect) -> String {
    if dialect == Dialect::Anthropic { "end_turn" } else { "stop" }.to_owned()
}

#[tokio::test]
async fn each_dialect_answers_whole_and_as_a_stream_and_bills_both_alike() {
    for dialect in DIALECTS {
        let (provider, client) = Client::start(dialect).await;
        let (status, body) = client.whole(&client.asks(false)).await;
        assert_eq!((status, client.text(&body).as_str()), (200, TEXT), "{body}");
        assert_eq!(client.finish(&body), Some(stop(dialect)), "{body}");
        let (told, ended) = client.stream().await;
        let content = TEXT.to_owned();
        let finish = Some(stop(dialect));
        let usage = Some((3, 4));
        let expected = Told { content, pieces: 4, finish, end: true, error: false, malformed: 0, usage };
        assert_eq!((told, ended), (expected, Ended::Well), "{dialect:?}");
        wait_until(BOUND, "both are billed", || async { provider.billed() == Billed { prompt: 6, completion: 8 } })
            .await;
        assert_eq!((provider.calls(), provider.calls_of(client.path()), provider.in_flight()), (2, 2, 0));
        assert_eq!(provider.violations(), Vec::<String>::new());
        let seen = provider.requests();
        assert_eq!((seen[0].body["stream"].clone(), seen[1].body["stream"].clone()), (json!(false), json!(true)));
        assert!(seen[0].at <= seen[1].at);
    }
}

#[tokio::test]
async fn usage_has_the_names_of_its_dialect() {
    for (dialect, at, expected) in [
        (Dialect::OpenAi, "/usage", json!({ "prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7 })),
        (Dialect::Ollama, "/eval_count", json!(4)),
        (Dialect::Ollama, "/prompt_eval_count", json!(3)),
        (Dialect::Anthropic, "/usage/input_tokens", json!(3)),
        (Dialect::Anthropic, "/usage/output_tokens", json!(4)),
    ] {
        let (_provider, client) = Client::start(dialect).await;
        let (_, body) = client.whole(&client.asks(false)).await;
        assert_eq!(body.pointer(at), Some(&expected), "{body}");
    }
}

#[tokio::test]
async fn a_tool_is_called_in_the_form_of_the_dialect() {
    let parameters = json!({ "type": "object", "properties": { "symbol": { "type": "string" } } });
    let arguments = json!({ "symbol": "BTC" });
    for dialect in DIALECTS {
        let (provider, client) = Client::start(dialect).await;
        provider.answer_with(Answer::tool("price", arguments.clone()));
        let mut asks = client.asks(false);
        asks["tools"] = match dialect {
            Dialect::Anthropic => json!([{ "name": "price", "input_schema": parameters }]),
            _ => json!([{ "type": "function", "function": { "name": "price", "parameters": parameters } }]),
        };
        let (_, body) = client.whole(&asks).await;
        let (name, given) = match dialect {
            Dialect::OpenAi => {
                ("/choices/0/message/tool_calls/0/function/name", "/choices/0/message/tool_calls/0/function/arguments")
            }
            Dialect::Ollama => ("/message/tool_calls/0/function/name", "/message/tool_calls/0/function/arguments"),
            Dialect::Anthropic => ("/content/0/name", "/content/0/input"),
        };
        assert_eq!(body.pointer(name), Some(&json!("price")), "{body}");
        let as_text = json!(arguments.to_string());
        let expected = if dialect == Dialect::OpenAi { &as_text } else { &arguments };
        assert_eq!(body.pointer(given), Some(expected), "{body}");

        asks["stream"] = json!(true);
        let (text, ended) = read(client.send(&asks).await.unwrap()).await;
        assert_eq!(ended, Ended::Well);
        let events: Vec<Value> = text
            .lines()
            .filter_map(|line| serde_json::from_str(line.strip_prefix("data: ").unwrap_or(line)).ok())
            .collect();
        let fragment = |at: &str| -> String {
            events.iter().filter_map(|event| event.pointer(at).and_then(Value::as_str)).collect()
        };
        let given = match dialect {
            Dialect::OpenAi => fragment("/choices/0/delta/tool_calls/0/function/arguments"),
            Dialect::Ollama => events[0]["message"]["tool_calls"][0]["function"]["arguments"].to_string(),
            Dialect::Anthropic => fragment("/delta/partial_json"),
        };
        assert_eq!(given, arguments.to_string(), "{text}");
        assert_eq!(provider.violations(), Vec::<String>::new());
    }
}

#[tokio::test]
async fn a_schema_is_answered_with_what_it_allows_and_a_script_goes_first() {
    let schema = json!({
        "type": "object", "additionalProperties": false, "required": ["action"],
        "properties": { "action": { "enum": ["hold", "buy"] } }
    });
    for dialect in DIALECTS {
        let provider = Provider::start(dialect).await;
        let client = Client::new(&provider, dialect);
        let mut asks = client.asks(false);
        match dialect {
            Dialect::OpenAi => {
                let named = json!({ "name": "review", "strict": true, "schema": schema });
                asks["response_format"] = json!({ "type": "json_schema", "json_schema": named });
            }
            Dialect::Ollama => asks["format"] = schema.clone(),
            Dialect::Anthropic => {
                asks["output_config"] = json!({ "format": { "type": "json_schema", "schema": schema } });
            }
        }
        let (_, body) = client.whole(&asks).await;
        assert_eq!(client.text(&body), "{\"action\":\"hold\"}");
        provider.answer_fn(|body| format!("{{\"action\":\"{}\"}}", body["model"].as_str().unwrap()));
        let (_, body) = client.whole(&asks).await;
        assert_eq!(client.text(&body), "{\"action\":\"m\"}");
        assert_eq!(provider.violations(), Vec::<String>::new());
    }
}

#[tokio::test]
async fn an_answer_keeps_to_the_limit_of_tokens() {
    for dialect in DIALECTS {
        let (_provider, client) = Client::start(dialect).await;
        let mut asks = client.asks(false);
        let length = match dialect {
            Dialect::OpenAi => {
                asks["max_tokens"] = json!(2);
                "length"
            }
            Dialect::Ollama => {
                asks["options"] = json!({ "num_predict": 2 });
                "length"
            }
            Dialect::Anthropic => {
                asks["max_tokens"] = json!(2);
                "max_tokens"
            }
        };
        let (_, body) = client.whole(&asks).await;
        assert_eq!((client.text(&body).as_str(), client.finish(&body).as_deref()), ("aaaabbbb", Some(length)));
    }
}

#[tokio::test]
async fn vectors_come_as_numbers_and_in_base64() {
    let (provider, client) = Client::start(Dialect::OpenAi).await;
    provider.embed_fn(|text| vec![1.0, f32::from(u8::try_from(text.len()).unwrap())]);
    let post = async |body: Value| -> Value {
        client.post("/v1/embeddings").json(&body).send().await.unwrap().json().await.unwrap()
    };
    let body = post(json!({ "model": "e", "input": ["ab", "abcd"] })).await;
    assert_eq!(body["data"][1]["embedding"], json!([1.0, 4.0]), "{body}");
    let body = post(json!({ "model": "e", "input": "ab", "encoding_format": "base64" })).await;
    assert_eq!(body["data"][0]["embedding"], "AACAPwAAAEA=", "{body}");
    let body = post(json!({ "model": "e", "input": "ab", "dimensions": 7 })).await;
    assert_eq!(body["data"][0]["embedding"].as_array().unwrap().len(), 7);

    let (_provider, client) = Client::start(Dialect::Ollama).await;
    let asks = json!({ "model": "e", "input": ["ab", "ab"] });
    let body: Value = client.post("/api/embed").json(&asks).send().await.unwrap().json().await.unwrap();
    assert_eq!(body["embeddings"][0], body["embeddings"][1]);
    assert_eq!(body["embeddings"][0].as_array().unwrap().len(), 256);
}

#[tokio::test]
async fn models_are_listed_and_others_are_not_found() {
    for (dialect, path, at) in [
        (Dialect::OpenAi, "/openai/v1/models", "/data/0/id"),
        (Dialect::Ollama, "/api/tags", "/models/0/name"),
        (Dialect::Anthropic, "/v1/models", "/data/0/id"),
    ] {
        let (provider, client) = Client::start(dialect).await;
        provider.models(&["other"]);
        let list: Value = client.get(path).send().await.unwrap().json().await.unwrap();
        assert_eq!(list.pointer(at), Some(&json!("other")), "{list}");
        let (status, body) = client.whole(&client.asks(false)).await;
        assert_eq!(status, 404, "{body}");
        if dialect == Dialect::Ollama {
            assert_eq!(body, json!({ "error": "model 'm' not found" }));
        }
        assert_eq!(provider.violations(), Vec::<String>::new(), "a missing model is no breach of the protocol");
    }
    let (_provider, client) = Client::start(Dialect::Ollama).await;
    let version: Value = client.get("/api/version").send().await.unwrap().json().await.unwrap();
    assert!(version["version"].is_string());
}

#[tokio::test]
async fn groq_and_openrouter_have_their_own_ways() {
    let (provider, client) = Client::start(Dialect::OpenAi).await;
    let asks = client.asks(true);
    let sent = client.post("/openai/v1/chat/completions").json(&asks).send().await.unwrap();
    let (groq, _) = read(sent).await;
    assert!(groq.contains("x_groq"), "{groq}");
    let mut more = asks.clone();
    more["provider"] = json!({ "sort": "price" });
    let sent = client.post("/api/v1/chat/completions").json(&more).send().await.unwrap();
    let (router, _) = read(sent).await;
    assert!(router.starts_with(": OPENROUTER PROCESSING\n\n") && client.told(&router).content == TEXT, "{router}");
    provider.play(vec![Fault::ErrorEventAfter(1), Fault::status(402)]);
    let sent = client.post("/api/v1/chat/completions").json(&more).send().await.unwrap();
    let told = client.told(&read(sent).await.0);
    assert_eq!((told.content.as_str(), told.error, told.finish.as_deref()), ("aaaa", true, Some("error")));
    let sent = client.post("/api/v1/chat/completions").json(&more).send().await.unwrap();
    assert_eq!(sent.json::<Value>().await.unwrap()["error"]["code"], 402, "a number, unlike OpenAI's");
    assert_eq!(provider.violations(), Vec::<String>::new());
    for (path, field, value) in
        [("/v1/chat/completions", "provider", json!({})), ("/openai/v1/chat/completions", "logprobs", json!(true))]
    {
        let mut body = asks.clone();
        body[field] = value;
        assert_eq!(client.post(path).json(&body).send().await.unwrap().status(), 400, "{path} {field}");
    }
    assert_eq!(provider.violations().len(), 2);
}

#[tokio::test]
async fn limits_are_counted_told_and_kept() {
    let (provider, client) = Client::start(Dialect::OpenAi).await;
    provider.limit(Limits { requests_per_day: 2, tokens_per_minute: 6_000 });
    let header = |response: &reqwest::Response, name: &str| {
        response.headers().get(name).map(|value| value.to_str().unwrap().to_owned())
    };
    for left in ["1", "0"] {
        let response = client.send(&client.asks(false)).await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(header(&response, "x-ratelimit-limit-requests").as_deref(), Some("2"));
        assert_eq!(header(&response, "x-ratelimit-remaining-requests").as_deref(), Some(left));
        assert_eq!(header(&response, "x-ratelimit-limit-tokens").as_deref(), Some("6000"));
        assert!(header(&response, "x-ratelimit-reset-requests").unwrap().contains('h'));
        assert_eq!(header(&response, "retry-after"), None);
    }
    let response = client.send(&client.asks(false)).await.unwrap();
    assert_eq!((response.status().as_u16(), header(&response, "retry-after").is_some()), (429, true));
    let body: Value = response.json().await.unwrap();
    assert_eq!(body["error"]["code"], "rate_limit_exceeded", "{body}");
    assert_eq!(provider.billed(), Billed { prompt: 6, completion: 8 });
}
