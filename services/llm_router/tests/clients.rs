//! Clients that are not ours, as they come from their registry, before the service: the official `openai` package in two
//! major versions, and `litellm`. What they make of an answer or an error is asserted in their own language.
//!
//! They live in a virtual environment of their own, `.local/venv-llm`, made by `make llm-clients`. Where it is missing these
//! tests fail.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod stage;

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Map, Value, json};
use stage::{OWN_KEY, Stage};
use testkit::provider::{Answer, Fault, Provider, vector};

const OPENAI: &[&str] = &[
    "chat_answers",
    "every_usual_parameter",
    "provenance_in_raw_response",
    "stream",
    "stream_with_usage",
    "stream_from_the_cache",
    "stream_helper",
    "async_stream",
    "tools_round_trip",
    "streamed_tool_calls",
    "streamed_tool_calls_by_the_helper",
    "json_schema",
    "json_object",
    "parse_into_pydantic",
    "parse_a_stream_into_pydantic",
    "embeddings_as_the_client_asks",
    "embeddings_as_floats",
    "models_are_listed",
    "one_model_is_told",
    "wrong_key",
    "unknown_model",
    "bad_parameter",
    "context_too_long",
    "all_tiers_down",
    "the_clients_own_retry_finds_a_tier_that_is_back",
    "error_in_the_middle_of_a_stream",
    "client_times_out",
    "deadline_of_the_request",
];

const LITELLM: &[&str] = &[
    "chat_answers",
    "stream",
    "stream_with_usage",
    "async_stream",
    "tools_round_trip",
    "streamed_tool_calls",
    "json_schema",
    "embeddings",
    "models_are_listed",
    "wrong_key",
    "unknown_model",
    "bad_parameter",
    "context_too_long",
    "all_tiers_down",
    "error_in_the_middle_of_a_stream",
    "client_times_out",
    "deadline_of_the_request",
];

/// Played a second time with the second tier's API behind the service: what differs between the dialects.
const ALSO_BY_THE_SECOND_TIER: &[&str] = &[
    "chat_answers",
    "stream",
    "stream_with_usage",
    "tools_round_trip",
    "streamed_tool_calls",
    "json_schema",
    "error_in_the_middle_of_a_stream",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_official_client_that_litellm_brings_works_unchanged() {
    play("openai_client.py", "openai 2.", None, OPENAI).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_newest_official_client_works_unchanged() {
    play("openai_client.py", "openai 3.", Some("openai-3"), OPENAI).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn litellm_as_a_client_works_unchanged() {
    play("litellm_client.py", "litellm ", None, LITELLM).await;
}

/// Plays every case, each with a service and providers of its own, prints how each went, and fails if one did.
async fn play(script: &str, wanted: &str, instead: Option<&str>, cases: &[&str]) {
    let mut client = tokio::task::block_in_place(|| Client::start(script, instead));
    let name = client.greeting["client"].as_str().unwrap().to_owned();
    assert!(name.starts_with(wanted), "{name} is not {wanted}: run `make llm-clients`");
    let mut sorted: Vec<&str> = cases.to_vec();
    sorted.sort_unstable();
    assert_eq!(client.greeting["cases"], json!(sorted), "{script} and this file list other cases");
    let again = cases.iter().filter(|case| ALSO_BY_THE_SECOND_TIER.contains(*case)).map(|case| (*case, "groq"));
    let mut failed = Vec::new();
    for (case, tier) in cases.iter().map(|case| (*case, "local")).chain(again) {
        let stage = Stage::start().await;
        let mut told = prepare(&stage, case, tier).await;
        told.insert("case".to_owned(), json!(case));
        let said = tokio::task::block_in_place(|| client.ask(&Value::Object(told)));
        let mut wrong = if said["ok"] == true { Vec::new() } else { vec![said["why"].as_str().unwrap().to_owned()] };
        wrong.extend(after(&stage, case).await);
        println!("{name:<16} {tier:<6} {case:<48} {}", if wrong.is_empty() { "works" } else { "FAILS" });
        if !wrong.is_empty() {
            failed.push(format!("{case} by {tier}: {}", wrong.join("\n")));
        }
    }
    assert!(failed.is_empty(), "{name}: {} cases fail\n\n{}", failed.len(), failed.join("\n"));
}

/// What the providers do in this case, and what the client must know of it.
async fn prepare(stage: &Stage, case: &str, tier: &str) -> Map<String, Value> {
    let doubles = [&stage.local, &stage.groq, &stage.openrouter];
    let first = if tier == "local" { &stage.local } else { &stage.groq };
    if tier != "local" {
        stage.local.die().await;
    }
    let mut says = format!("from {tier}");
    match case {
        "tools_round_trip" | "streamed_tool_calls" | "streamed_tool_calls_by_the_helper" => {
            first.answer_fn(call_a_tool)
        }
        "json_schema" | "json_object" | "parse_into_pydantic" | "parse_a_stream_into_pydantic" => {
            first.answer_with(r#"{"verdict": "object", "confidence_percent": 80, "reasoning": "too large"}"#)
        }
        "embeddings_as_the_client_asks" | "embeddings_as_floats" | "embeddings" => {
            stage.local.embed_fn(|text| vector(text, DIMENSIONS));
        }
        "context_too_long" => doubles.iter().for_each(|double| double.always(Fault::ContextLength)),
        "all_tiers_down" => {
            for double in doubles {
                double.die().await;
            }
        }
        "the_clients_own_retry_finds_a_tier_that_is_back" => {
            stage.local.die().await;
            stage.groq.die().await;
            // The router asks the last tier twice.
            stage.openrouter.play(vec![Fault::status(500); 2]);
            "from openrouter".clone_into(&mut says);
        }
        "error_in_the_middle_of_a_stream" => first.always(Fault::CutAfter(2)),
        "client_times_out" | "deadline_of_the_request" => doubles.iter().for_each(|double| double.hold()),
        _ => {}
    }
    let vectors: Map<String, Value> =
        ["buy one", "sell two"].into_iter().map(|text| (text.to_owned(), json!(vector(text, DIMENSIONS)))).collect();
    let told = json!({
        "url": format!("{}/v1", stage.url), "key": OWN_KEY, "tier": tier, "says": says, "vectors": vectors,
        "code": "connection_reset",
    });
    match told {
        Value::Object(told) => told,
        _ => unreachable!("an object was written"),
    }
}

const DIMENSIONS: usize = 8;

fn call_a_tool(body: &Value) -> Answer {
    let last = body["messages"].as_array().and_then(|messages| messages.last());
    match last {
        Some(message) if message["role"] == "tool" => {
            Answer::Text(format!("It is {}.", message["content"].as_str().unwrap()))
        }
        _ => Answer::tool("price_of", json!({ "symbol": "BTC-USD" })),
    }
}

/// What must be true on the other side when the client is done, each fault in words.
async fn after(stage: &Stage, case: &str) -> Vec<String> {
    let mut wrong = stage.violations();
    if case == "client_times_out" {
        stage.wait_until("the request of a client that went away is over", |state| state["running"] == 0).await;
        if stage.calls() != [1, 0, 0] {
            wrong.push(format!("a client that went away was still served: calls {:?}", stage.calls()));
        }
    }
    if case == "error_in_the_middle_of_a_stream" {
        let calls: usize = [&stage.local, &stage.groq, &stage.openrouter].into_iter().map(Provider::calls).sum();
        if calls != 1 {
            wrong.push(format!("{calls} calls for one stream that had begun"));
        }
    }
    wrong
}

/// A script that plays cases. Its end is that of its standard input.
struct Client {
    child: Child,
    asks: Option<ChildStdin>,
    says: BufReader<ChildStdout>,
    greeting: Value,
}

impl Client {
    /// Starts it; `instead`: the folder of packages that stand before the environment's own.
    fn start(script: &str, instead: Option<&str>) -> Self {
        let venv = venv();
        let python = venv.join("bin/python");
        assert!(python.is_file(), "the clients are not in {}: run `make llm-clients`", venv.display());
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients").join(script);
        let mut command = Command::new(python);
        command.arg(script).stdin(Stdio::piped()).stdout(Stdio::piped());
        // A proxy or a key of whoever runs this is not the clients' business.
        for name in ["http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"] {
            command.env_remove(name);
        }
        command.env_remove("OPENAI_API_KEY").env_remove("OPENAI_BASE_URL");
        if let Some(folder) = instead {
            command.env("PYTHONPATH", venv.join(folder));
        }
        let mut child = command.spawn().unwrap();
        let (asks, says) = (child.stdin.take(), BufReader::new(child.stdout.take().unwrap()));
        let mut client = Self { child, asks, says, greeting: Value::Null };
        client.greeting = client.read();
        client
    }

    fn ask(&mut self, told: &Value) -> Value {
        writeln!(self.asks.as_mut().unwrap(), "{told}").unwrap();
        let said = self.read();
        assert_eq!(said["case"], told["case"]);
        said
    }

    fn read(&mut self) -> Value {
        let mut line = String::new();
        self.says.read_line(&mut line).unwrap();
        serde_json::from_str(&line)
            .unwrap_or_else(|error| panic!("the script ended or said {line:?}: {error}; `make llm-clients`"))
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        drop(self.asks.take());
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `$SWARM_LLM_VENV`, else `.local/venv-llm` of the repository.
fn venv() -> PathBuf {
    let usual = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.local/venv-llm");
    std::env::var_os("SWARM_LLM_VENV").map_or_else(usual, PathBuf::from)
}
