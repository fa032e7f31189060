//! What is not documented is refused and written down.

use serde_json::{Value, json};
use testkit::provider::{Dialect, KEY, Provider};

use super::client::{Client, DIALECTS};

/// The body with `field` (dotted) set, or removed when `value` is null.
fn with(mut body: Value, field: &str, value: Value) -> Value {
    let (parents, name) = field.rsplit_once('.').unwrap_or(("", field));
    let pointer = if parents.is_empty() { String::new() } else { format!("/{}", parents.replace('.', "/")) };
    let at = body.pointer_mut(&pointer).unwrap().as_object_mut().unwrap();
    if value.is_null() {
        at.remove(name);
    } else {
        at.insert(name.to_owned(), value);
    }
    body
}

/// Each is refused with 400 and words on the field, and written down.
async fn refused(dialect: Dialect, cases: &[(&str, Value, &str)]) {
    let (provider, client) = Client::start(dialect).await;
    for (field, value, words) in cases {
        let before = provider.violations().len();
        let body = with(client.asks(false), field, value.clone());
        let (status, answer) = client.whole(&body).await;
        assert_eq!(status, 400, "{dialect:?} {field} = {value}: {answer}");
        let message = match dialect {
            Dialect::Ollama => &answer["error"],
            Dialect::OpenAi => {
                assert_eq!(answer["error"]["type"], "invalid_request_error");
                &answer["error"]["message"]
            }
            Dialect::Anthropic => {
                assert_eq!(
                    (&answer["type"], &answer["error"]["type"]),
                    (&json!("error"), &json!("invalid_request_error"))
                );
                &answer["error"]["message"]
            }
        };
        assert!(message.as_str().unwrap().contains(words), "{field} = {value}: {answer}");
        let found = provider.violations();
        assert_eq!(found.len(), before + 1, "{field} = {value}: {found:?}");
    }
    assert_eq!(provider.billed().prompt, 0);
}

#[tokio::test]
async fn openai_is_held_to_its_reference() {
    let function = |name: &str| json!([{ "type": "function", "function": { "name": name } }]);
    let format = |schema: Value| json!({ "type": "json_schema", "json_schema": { "name": "a", "strict": true, "schema": schema } });
    let open = json!({ "type": "object", "properties": {} });
    let partly = json!({ "type": "object", "properties": { "b": {} }, "additionalProperties": false, "required": [] });
    let deep =
        json!({ "type": "object", "properties": { "b": open }, "additionalProperties": false, "required": ["b"] });
    refused(
        Dialect::OpenAi,
        &[
            ("priority", json!(9), "Unrecognized request argument supplied: priority"),
            ("model", Value::Null, "Missing required parameter: 'model'"),
            ("messages", Value::Null, "Missing required parameter: 'messages'"),
            ("messages", json!([]), "empty array"),
            ("messages", json!([{ "role": "bot", "content": "x" }]), "messages.0.role"),
            ("messages", json!([{ "role": "user" }]), "messages.0.content"),
            ("messages", json!([{ "role": "user", "content": "x", "tier": 1 }]), "messages.0.tier"),
            ("messages", json!([{ "role": "tool", "content": "x" }]), "messages.0.tool_call_id"),
            ("messages", json!([{ "role": "user", "tool_calls": [] }]), "only the assistant"),
            ("temperature", json!("0.5"), "Invalid type for 'temperature'"),
            ("temperature", json!(2.5), "not between 0 and 2"),
            ("max_tokens", json!(0), "max_tokens"),
            ("stop", json!(["a", "b", "c", "d", "e"]), "more than 4"),
            ("stream_options", json!({ "include_usage": true }), "only allowed when 'stream' is enabled"),
            ("tools", json!([]), "empty array"),
            ("tools", json!([{ "type": "function" }]), "tools.0.function"),
            ("tools", function("no spaces"), "tools.0.function.name"),
            ("tool_choice", json!("auto"), "only allowed when 'tools' are specified"),
            ("response_format", json!({ "type": "xml" }), "response_format.type"),
            ("response_format", json!({ "type": "json_schema" }), "response_format.json_schema"),
            ("response_format", format(open), "'additionalProperties' is required"),
            ("response_format", format(partly), "Missing 'b'"),
        ],
    )
    .await;
    refused(Dialect::OpenAi, &[("response_format", format(deep), "'additionalProperties' is required")]).await;
}

#[tokio::test]
async fn ollama_is_held_to_its_reference() {
    let call = |arguments: Value| json!([{ "role": "assistant", "tool_calls": [{ "function": { "name": "f", "arguments": arguments } }] }]);
    refused(
        Dialect::Ollama,
        &[
            ("max_tokens", json!(9), "max_tokens"),
            ("response_format", json!({ "type": "json_object" }), "response_format"),
            ("model", Value::Null, "model is required"),
            ("options", json!({ "max_tokens": 9 }), "options.max_tokens"),
            ("options", json!({ "temperature": "hot" }), "options.temperature"),
            ("options", json!({ "num_ctx": 1.5 }), "options.num_ctx"),
            ("options", json!({ "stop": [1] }), "options.stop"),
            ("format", json!("yaml"), "format"),
            ("keep_alive", json!("soon"), "invalid duration"),
            ("keep_alive", json!(true), "keep_alive"),
            ("messages", json!([{ "role": "developer", "content": "x" }]), "messages.0.role"),
            ("messages", call(json!("{\"a\":1}")), "arguments"),
            ("tools", json!([{ "name": "f" }]), "tools.0.type"),
        ],
    )
    .await;
    let (provider, client) = Client::start(Dialect::Ollama).await;
    for (field, value) in [
        ("keep_alive", json!("1h30m")),
        ("keep_alive", json!("-1s")),
        ("keep_alive", json!(-1)),
        ("format", json!("json")),
        (
            "options",
            json!({ "temperature": 0, "num_predict": 5, "num_ctx": 4096, "seed": 1, "stop": ["x"], "top_p": 0.9 }),
        ),
        ("messages", call(json!({ "a": 1 }))),
    ] {
        let (status, answer) = client.whole(&with(client.asks(false), field, value)).await;
        assert_eq!(status, 200, "{field}: {answer}");
    }
    let (_, loaded) = client.whole(&json!({ "model": "m", "stream": false })).await;
    assert_eq!((&loaded["done_reason"], client.text(&loaded).as_str()), (&json!("load"), ""));
    assert_eq!(provider.violations(), Vec::<String>::new());
}

#[tokio::test]
async fn anthropic_is_held_to_its_reference() {
    let tool = |tool: Value| json!([tool]);
    refused(
        Dialect::Anthropic,
        &[
            ("max_tokens", Value::Null, "max_tokens: Field required"),
            ("frequency_penalty", json!(1), "frequency_penalty: Extra inputs are not permitted"),
            ("stop", json!(["x"]), "stop: Extra inputs are not permitted"),
            ("temperature", json!(1.5), "temperature"),
            ("stop_sequences", json!([1]), "stop_sequences"),
            ("system", json!([{ "type": "image" }]), "system.0.type"),
            ("messages", json!([{ "role": "system", "content": "x" }]), "messages.0.role"),
            ("messages", json!([{ "role": "user", "content": "" }]), "non-empty content"),
            ("messages", json!([{ "role": "user", "content": [{ "type": "voice" }] }]), "'voice'"),
            ("messages", json!([{ "role": "assistant", "content": "so: " }]), "trailing whitespace"),
            ("tools", tool(json!({ "name": "f" })), "tools.0.input_schema"),
            ("tools", tool(json!({ "name": "f", "parameters": {} })), "tools.0.parameters"),
            ("tools", tool(json!({ "name": "f", "input_schema": { "type": "array" } })), "tools.0.input_schema.type"),
            ("tool_choice", json!({ "type": "auto" }), "tool_choice"),
        ],
    )
    .await;
    let (provider, client) = Client::start(Dialect::Anthropic).await;
    let http = reqwest::Client::new();
    let sent = http.post(format!("{}/v1/messages", provider.url())).header("x-api-key", KEY).json(&client.asks(false));
    assert_eq!(sent.try_clone().unwrap().send().await.unwrap().status(), 400);
    assert_eq!(sent.header("anthropic-version", "latest").send().await.unwrap().status(), 400);
    assert_eq!(provider.violations().len(), 2, "{:?}", provider.violations());
}

#[tokio::test]
async fn a_prefill_is_taken_or_refused() {
    for dialect in DIALECTS {
        let (provider, client) = Client::start(dialect).await;
        let mut asks = client.asks(false);
        asks["messages"].as_array_mut().unwrap().push(json!({ "role": "assistant", "content": "The answer is" }));
        assert_eq!(client.whole(&asks).await.0, 200);
        provider.refuse_prefill(true);
        let (status, body) = client.whole(&asks).await;
        assert_eq!(status, 400, "{body}");
        assert_eq!(client.whole(&client.asks(false)).await.0, 200);
        assert_eq!(provider.violations(), Vec::<String>::new(), "a model may or may not take it");
    }
}

#[tokio::test]
async fn a_wrong_key_is_refused_before_anything_else() {
    for dialect in DIALECTS {
        let (provider, client) = Client::start(dialect).await;
        provider.expect_key(Some("sk-other"));
        let (status, body) = client.whole(&json!({ "nonsense": 1 })).await;
        assert_eq!(status, 401, "{body}");
        provider.expect_key(None);
        assert_eq!(client.whole(&client.asks(false)).await.0, 200);
        assert_eq!(provider.violations(), Vec::<String>::new());
    }
}

#[tokio::test]
async fn other_paths_other_types_and_other_bodies_are_refused() {
    for dialect in DIALECTS {
        let provider = Provider::start(dialect).await;
        let client = Client::new(&provider, dialect);
        let status = async |request: reqwest::RequestBuilder| request.send().await.unwrap().status().as_u16();
        assert_eq!(status(client.post("/v2/chat").json(&json!({}))).await, 404);
        assert_eq!(status(client.get(client.path())).await, 404);
        let text = client.asks(false).to_string();
        assert_eq!(
            status(client.post(client.path()).header("content-type", "text/plain").body(text.clone())).await,
            400
        );
        assert_eq!(status(client.post(client.path()).body(text.clone())).await, 400);
        let typed = || client.post(client.path()).header("content-type", "application/json; charset=utf-8");
        assert_eq!(status(typed().body(text[1..].to_owned())).await, 400);
        assert_eq!(status(typed().body("[]")).await, 400);
        assert_eq!(status(typed().body(text)).await, 200);
        assert_eq!(provider.violations().len(), 5, "{:#?}", provider.violations());
    }
}
