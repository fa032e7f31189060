//! A real model, llama.cpp's server with the small weights of `make model`, as the service's first tier; doubles behind it.
//! It is a base model: what it says is noise, and nothing here depends on that.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod stage;

use std::time::Duration;

use serde_json::{Value, json};
use servers::{LlamaOptions, LlamaServer, free_port};
use stage::{OWN_KEY, Stage};
use testkit::wait_until;
use tokio::sync::Mutex;

/// A model takes all cores; two at once would only wait for each other.
static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

const LONG: Duration = Duration::from_secs(240);

/// The model, the service before it, and their folder.
async fn start() -> (LlamaServer, Stage, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let options = LlamaOptions::usual(folder.path(), free_port().unwrap()).unwrap();
    let server = tokio::task::spawn_blocking(move || LlamaServer::start(&options)).await.unwrap().unwrap();
    // Beside builds it makes five tokens a second.
    let stage = Stage::start_with(&[
        ("LLM_LOCAL_URL", &server.url()),
        ("LLM_LOCAL_ADAPTER", "openai"),
        ("LLM_LOCAL_MODEL", &server.options().model_name()),
        ("first_token_ms = 8000", "first_token_ms = 200000"),
        ("idle_ms = 5000", "idle_ms = 100000"),
        ("total_ms = 10000", "total_ms = 200000"),
        ("deadline_ms = 30000", "deadline_ms = 240000"),
    ])
    .await;
    (server, stage, folder)
}

fn with_schema(text: &str, name: &str, schema: &Value) -> Value {
    json!({
        "model": "trading-llm", "temperature": 0, "seed": 1, "max_tokens": 1000,
        "messages": [{ "role": "user", "content": text }],
        "response_format": { "type": "json_schema", "json_schema": { "name": name, "strict": true, "schema": schema } },
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_model_reviews_a_signal_in_the_form_that_was_asked_for() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let (_server, stage, _folder) = start().await;
    let schema = json!({
        "type": "object", "additionalProperties": false, "required": ["verdict", "confidence_percent", "reasoning"],
        "properties": {
            "verdict": { "type": "string", "enum": ["agree", "object"] },
            "confidence_percent": { "type": "integer", "minimum": 0, "maximum": 100 },
            "reasoning": { "type": "string", "minLength": 1, "maxLength": 120 },
        },
    });
    let text = "Signal: BUY 0.01 BTC-USD at 64000, stop 63000, 5-minute breakout. Agree or object, with confidence in per \
                cent and a short reasoning.";
    let answer = stage.ask(&with_schema(text, "review", &schema)).await;
    assert_eq!((answer.status, answer.mark("x-swarm-tier")), (200, "local"), "{}", answer.mark("x-swarm-attempts"));
    assert_eq!(stage.calls(), [0, 0, 0], "no double was asked");
    let said: Value = serde_json::from_str(answer.body["choices"][0]["message"]["content"].as_str().unwrap()).unwrap();
    println!("the model says {said} for {}", answer.body["usage"]);
    assert!(["agree", "object"].map(Value::from).contains(&said["verdict"]), "{said}");
    assert!(said["confidence_percent"].as_u64().is_some_and(|percent| percent <= 100), "{said}");
    assert!(said["reasoning"].as_str().is_some_and(|text| (1..=120).contains(&text.chars().count())), "{said}");
    assert!(answer.body["usage"]["completion_tokens"].as_u64().is_some_and(|tokens| tokens > 5));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_killed_before_its_first_content_is_passed_over_unseen() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let (mut server, stage, _folder) = start().await;
    // Some seconds of reading, less than the context of a slot.
    let words = "The price of BTC-USD rose a little and then fell back. ".repeat(220);
    let body = json!({
        "model": "trading-llm", "max_tokens": 64, "stream": true, "messages": [{ "role": "user", "content": words }],
    });
    let response = tokio::spawn(request(&stage, &body).send());
    // It answers questions about itself between two parts of the prompt.
    let metrics = server.url().replace("/v1", "/metrics");
    wait_until(LONG, "the model reads the prompt", || {
        let metrics = reqwest::get(metrics.clone());
        async move {
            let text = metrics.await.unwrap().text().await.unwrap();
            text.lines().any(|line| line == "llamacpp:requests_processing 1")
        }
    })
    .await;
    server.child().kill().unwrap();
    let response = response.await.unwrap().unwrap();
    assert_eq!(
        response.headers()["x-swarm-tier"],
        "groq",
        "`local`: it had begun to answer, so the prompt is too short"
    );
    let attempts = response.headers()["x-swarm-attempts"].to_str().unwrap().to_owned();
    println!("attempts: {attempts}");
    assert!(attempts.starts_with("local=connection_reset;"), "{attempts}");
    let events = events(&response.text().await.unwrap());
    assert_eq!(events.last().map(String::as_str), Some("[DONE]"));
    assert_eq!(content(&events), "from groq");
    assert_eq!(stage.calls(), [0, 1, 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_killed_after_its_first_content_ends_in_one_error_and_nothing_is_kept() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let (mut server, stage, _folder) = start().await;
    let schema = json!({
        "type": "object", "additionalProperties": false, "required": ["text"],
        "properties": { "text": { "type": "string", "minLength": 1500, "maxLength": 1600 } },
    });
    let whole = json!({ "text": "g".repeat(1_500) }).to_string();
    stage.groq.answer_with(whole.clone());
    let mut body = with_schema("Tell me all about breakouts.", "story", &schema);
    body["stream"] = json!(true);
    let mut response = request(&stage, &body).send().await.unwrap();
    assert_eq!(response.headers()["x-swarm-tier"], "local");
    let mut text = String::new();
    while content(&events(&text)).len() < 3 {
        let part = response.chunk().await.unwrap().unwrap_or_else(|| panic!("it ended before content: {text}"));
        text.push_str(std::str::from_utf8(&part).unwrap());
    }
    server.child().kill().unwrap();
    while let Some(part) = response.chunk().await.unwrap() {
        text.push_str(std::str::from_utf8(&part).unwrap());
    }
    let events = events(&text);
    let (last, before) = events.split_last().unwrap();
    let last: Value = serde_json::from_str(last).unwrap_or_else(|_| panic!("no error, but {last}"));
    println!("{} events, then {}", before.len(), last["error"]);
    assert_eq!(
        (&last["choices"][0]["finish_reason"], &last["error"]["code"]),
        (&json!("error"), &json!("connection_reset"))
    );
    assert!(before.iter().all(|event| event != "[DONE]" && !event.contains("\"error\"")), "{before:?}");
    assert!(serde_json::from_str::<Value>(&content(before)).is_err(), "half an answer can't be read as a whole one");
    assert_eq!(stage.calls(), [0, 0, 0], "no other tier went on with it");
    // The same request again is no hit, neither streamed nor whole.
    body["stream"] = json!(false);
    let again = stage.ask(&body).await;
    assert_eq!((again.mark("x-swarm-cache"), again.mark("x-swarm-tier")), ("none", "groq"));
    assert_eq!(again.body["choices"][0]["message"]["content"], json!(whole));
}

fn request(stage: &Stage, body: &Value) -> reqwest::RequestBuilder {
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    http.post(format!("{}/v1/chat/completions", stage.url)).bearer_auth(OWN_KEY).json(body)
}

/// The data of the whole events so far.
fn events(text: &str) -> Vec<String> {
    let whole = text.rfind("\n\n").map_or("", |end| &text[..end]);
    whole.split("\n\n").filter_map(|event| event.strip_prefix("data: ").map(str::to_owned)).collect()
}

fn content(events: &[String]) -> String {
    let read = events.iter().filter_map(|event| serde_json::from_str::<Value>(event).ok());
    read.filter_map(|event| event["choices"][0]["delta"]["content"].as_str().map(str::to_owned)).collect()
}
