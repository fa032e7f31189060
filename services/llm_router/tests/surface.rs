//! What clients of the OpenAI API rely on beyond the answer itself: codes, parameters, how often tokens are told.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod stage;

use serde_json::{Value, json};
use stage::{OWN_KEY, Stage, question};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_that_is_not_there_is_named_by_code_and_parameter() {
    let stage = Stage::start().await;
    let mut body = question("hello");
    body["model"] = json!("gpt-9");
    let answer = stage.ask(&body).await;
    let error = &answer.body["error"];
    assert_eq!((answer.status, &error["code"], &error["param"]), (404, &json!("model_not_found"), &json!("model")));
    assert_eq!(error["type"], "invalid_request_error");
    assert_eq!(stage.calls(), [0, 0, 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_model_can_be_asked_for() {
    let stage = Stage::start().await;
    let ask = |name: &str, key: Option<&str>| {
        let request = reqwest::Client::new().get(format!("{}/v1/models/{name}", stage.url));
        let request = key.into_iter().fold(request, reqwest::RequestBuilder::bearer_auth);
        async move {
            let response = request.send().await.unwrap();
            (response.status().as_u16(), response.json::<Value>().await.unwrap())
        }
    };
    let (status, model) = ask("trading-llm", Some(OWN_KEY)).await;
    assert_eq!((status, &model["id"], &model["object"]), (200, &json!("trading-llm"), &json!("model")));
    let (status, error) = ask("gpt-9", Some(OWN_KEY)).await;
    assert_eq!((status, &error["error"]["code"]), (404, &json!("model_not_found")));
    assert_eq!(ask("trading-llm", None).await.0, 401);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_key_is_told_in_the_words_that_clients_look_for() {
    let stage = Stage::start().await;
    let answer = stage.ask_as(Some("nobody's"), &question("hello")).await;
    assert!(answer.body["error"]["message"].as_str().unwrap().starts_with("Incorrect API key provided"));
}

/// Groq counts in the event with the reason of the end and once more after it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_of_a_stream_are_told_once_and_last_whatever_the_provider_does() {
    for dead in [0, 1, 2] {
        let stage = Stage::start().await;
        for double in [&stage.local, &stage.groq].into_iter().take(dead) {
            double.die().await;
        }
        let mut body = question("hello");
        body["stream_options"] = json!({ "include_usage": true });
        let events = stage.stream(&body).await;
        let (done, events) = events.split_last().unwrap();
        assert_eq!(done, "[DONE]");
        let events: Vec<Value> = events.iter().map(|event| serde_json::from_str(event).unwrap()).collect();
        let counted: Vec<usize> = (0..events.len()).filter(|at| events[*at]["usage"].is_object()).collect();
        assert_eq!(counted, [events.len() - 1], "{dead}: {events:?}");
        assert_eq!(events.last().unwrap()["choices"], json!([]));
    }
}
