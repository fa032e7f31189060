//! The service before doubles of its providers.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod stage;

use serde_json::{Value, json};
use stage::{Stage, question};
use testkit::provider::Fault;

/// The text that the events of a stream say.
fn said(events: &[String]) -> String {
    let events = events.iter().filter_map(|event| serde_json::from_str::<Value>(event).ok());
    events.filter_map(|event| event["choices"][0]["delta"]["content"].as_str().map(str::to_owned)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_tier_answers_and_says_so() {
    let stage = Stage::start().await;
    let answer = stage.ask(&question("hello")).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(answer.body["choices"][0]["message"]["content"], "from local");
    assert_eq!((answer.mark("x-swarm-tier"), answer.mark("x-swarm-cache")), ("local", "none"));
    assert_eq!(stage.calls(), [1, 0, 0]);
    let again = stage.ask(&question("hello")).await;
    assert_eq!((again.mark("x-swarm-cache"), again.mark("x-swarm-tier")), ("exact", "local"));
    assert_eq!(stage.calls(), [1, 0, 0]);
    assert_eq!(stage.violations(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tier_that_fails_is_passed_over_unseen() {
    let stage = Stage::start().await;
    stage.local.always(Fault::status(500));
    let answer = stage.ask(&question("hello")).await;
    assert_eq!((answer.status, answer.mark("x-swarm-tier")), (200, "groq"));
    assert!(answer.mark("x-swarm-attempts").starts_with("local=server_error;"), "{}", answer.mark("x-swarm-attempts"));
    stage.local.die().await;
    let answer = stage.ask(&question("again")).await;
    assert_eq!((answer.status, answer.mark("x-swarm-tier")), (200, "groq"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_without_a_key_is_answered() {
    let stage = Stage::start().await;
    for key in [None, Some("wrong")] {
        let answer = stage.ask_as(key, &question("hello")).await;
        assert_eq!((answer.status, &answer.body["error"]["code"]), (401, &json!("invalid_api_key")));
    }
    assert_eq!(stage.calls(), [0, 0, 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_is_told_piece_by_piece_and_ends_with_done() {
    let stage = Stage::start().await;
    let events = stage.stream(&question("hello")).await;
    assert_eq!(events.last().map(String::as_str), Some("[DONE]"));
    assert_eq!(said(&events), "from local");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_cut_after_content_is_one_error_without_done_and_nothing_is_kept() {
    let stage = Stage::start().await;
    stage.local.always(Fault::CutAfter(2));
    let events = stage.stream(&question("hello")).await;
    let errors = events.iter().filter(|event| event.contains("\"error\"")).count();
    assert_eq!(errors, 1, "{events:?}");
    let last: Value = serde_json::from_str(events.last().unwrap()).unwrap();
    assert_eq!(last["choices"][0]["finish_reason"], "error");
    let words = last["error"]["message"].as_str().unwrap();
    assert!(words.starts_with("local: "), "nobody is told which tier it was: {words}");
    assert_eq!(stage.calls(), [1, 0, 0]);
    stage.local.healthy();
    assert_eq!(stage.ask(&question("hello")).await.mark("x-swarm-cache"), "none");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_cut_before_content_is_answered_by_the_next_tier() {
    let stage = Stage::start().await;
    stage.local.always(Fault::CutBeforeContent);
    let events = stage.stream(&question("hello")).await;
    assert_eq!(events.last().map(String::as_str), Some("[DONE]"));
    assert_eq!(said(&events), "from groq");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_that_ends_the_chain_says_whose_it_was() {
    let stage = Stage::start().await;
    stage.local.always(Fault::ContextLength);
    stage.groq.always(Fault::ContextLength);
    let refused = stage.ask(&question("long")).await;
    assert_eq!((refused.status, &refused.body["error"]["code"]), (400, &json!("context_length_exceeded")));
    assert!(refused.body["error"]["message"].as_str().unwrap().starts_with("groq: "), "{}", refused.body);
    stage.local.always(Fault::ContentFilter);
    let refused = stage.ask(&question("bad")).await;
    assert_eq!((refused.status, &refused.body["error"]["code"]), (400, &json!("content_filter")));
    assert!(refused.body["error"]["message"].as_str().unwrap().starts_with("local: "), "{}", refused.body);
    assert_eq!(stage.calls(), [2, 1, 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadline_that_passed_tells_what_each_tier_did_and_its_breaker_hears_of_it() {
    // All of the deadline is the first tier's.
    let stage = Stage::start_with(&[("floor_ms = 1500", "floor_ms = 100")]).await;
    stage.local.always(Fault::Hang);
    stage.groq.always(Fault::Hang);
    stage.openrouter.always(Fault::Hang);
    let late = stage.ask_with(&[("x-swarm-deadline-ms", "600")], &question("hello")).await;
    let words = late.body["error"]["message"].as_str().unwrap();
    assert!(words.contains("local=timeout") && words.contains("openrouter=timeout"), "{words}");
    let state = stage.state().await;
    let local = state["tiers"].as_array().unwrap().iter().find(|tier| tier["name"] == "local").unwrap();
    assert_eq!((&local["failures"], &local["last_failure"]), (&json!(1), &json!("timeout")), "{local}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_in_a_hurry_do_not_open_the_breaker_of_a_tier_that_is_well() {
    let stage = Stage::start().await;
    stage.local.latency(std::time::Duration::from_millis(200));
    for number in 0..6 {
        let hurry = [("x-swarm-deadline-ms", "20"), ("x-swarm-cache", "off")];
        let late = stage.ask_with(&hurry, &question(&format!("hurry {number}"))).await;
        assert_eq!(late.status, 504, "{}", late.body);
    }
    let usual = stage.ask(&question("no hurry")).await;
    assert_eq!((usual.status, usual.mark("x-swarm-tier")), (200, "local"), "{}", usual.mark("x-swarm-attempts"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn equal_misses_make_one_call() {
    let stage = Stage::start().await;
    stage.local.hold();
    let asked: Vec<_> = (0..64).map(|_| stage.ask_later(&question("the same"))).collect();
    stage.local.wait_for_calls(1, std::time::Duration::from_secs(10)).await;
    stage.wait_until("64 are under way", |state| state["running"] == 64).await;
    stage.local.release_all();
    for answer in asked {
        assert_eq!(answer.await.unwrap().status, 200);
    }
    assert_eq!(stage.calls(), [1, 0, 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn its_metrics_count_what_it_answered() {
    let stage = Stage::start().await;
    assert_eq!(stage.ask(&question("counted")).await.status, 200);
    let text = stage.metrics().await;
    for series in [
        r#"swarm_llm_requests_total{alias="trading-llm",outcome="ok"} "#,
        r#"swarm_llm_overhead_seconds_count{alias="trading-llm"} "#,
        r#"swarm_llm_attempts_total{tier="local",outcome="ok"} "#,
    ] {
        let counted = text.lines().find_map(|line| line.strip_prefix(series)?.parse::<u64>().ok());
        // Other tests of this process count in the same place.
        assert!(counted.is_some_and(|counted| counted > 0), "{series}: {text}");
    }
}
