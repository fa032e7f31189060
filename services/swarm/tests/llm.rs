//! `swarm llm serve`: the router by itself, by what it prints about itself.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::fs::{File, read_to_string};
use std::process::Child;
use std::time::Duration;

use common::{Up, config, send, swarm};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use testkit::provider::{Dialect, Provider};
use testkit::servers::fresh_folder;
use testkit::wait::{wait_until, wait_until_blocking};

const PATIENCE: Duration = Duration::from_secs(30);

/// Killed when the test fails.
struct Served(Child);

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn the_router_alone_answers_at_the_address_and_by_the_key_that_it_names() {
    let provider = Provider::start(Dialect::OpenAi).await;
    provider.expect_key(None);
    provider.answer_with("by the local tier");
    let folder = fresh_folder("llm-serve");
    let (ready_file, told) = (folder.join("ready"), folder.join("told"));
    let mut command = swarm();
    command.arg("--data-dir").arg(folder.join("data")).args(["llm", "serve", "--config-dir"]).arg(config());
    command.arg("--ready-file").arg(&ready_file).stderr(File::create(&told).unwrap());
    command.env("LLM_LOCAL_URL", format!("{}/v1", provider.url())).env("LLM_LOCAL_ADAPTER", "openai");
    let mut served = Served(command.env("LLM_LOCAL_MODEL", "m").spawn().unwrap());
    wait_until(PATIENCE, "an address", || async {
        ready_file.exists() && !read_to_string(&ready_file).unwrap().is_empty()
    })
    .await;
    let address = read_to_string(&ready_file).unwrap();
    let text = read_to_string(&told).unwrap();
    let key_file = text.lines().find_map(|line| line.strip_prefix("the operator's key is in ")).expect(&text);
    let key = read_to_string(key_file).unwrap();
    let _ = rustls::crypto::ring::default_provider().install_default();
    let http = reqwest::Client::new();
    let body = json!({ "model": "trading-llm", "messages": [{ "role": "user", "content": "who answers?" }] });
    let asked = http.post(format!("{address}/v1/chat/completions")).bearer_auth(key.trim()).json(&body);
    let answer: Value = asked.send().await.unwrap().json().await.unwrap();
    assert_eq!(answer["choices"][0]["message"]["content"], "by the local tier", "{answer}");
    assert!(!read_to_string(&told).unwrap().contains(key.trim()), "a key is not printed");
    send(served.0.id(), Signal::SIGTERM);
    let mut status = None;
    wait_until(PATIENCE, "the end", || {
        status = served.0.try_wait().unwrap();
        std::future::ready(status.is_some())
    })
    .await;
    assert!(status.unwrap().success());
}

#[test]
fn beside_each_agent_stands_what_it_cost_today_and_nothing_while_the_router_is_silent() {
    let up = Up::start(&fresh_folder("llm-cost"));
    let costs = |command: &str, field: &str| -> Vec<Value> {
        let rows = up.ask(&[command])[field].as_array().cloned().unwrap_or_default();
        assert_eq!(rows.len(), 11);
        rows.iter().map(|row| row.get("cost_usd_today").expect("a cost, or null").clone()).collect()
    };
    for (command, field) in [("agents", "result"), ("status", "agents")] {
        wait_until_blocking(PATIENCE, "what it cost", || costs(command, field).iter().all(|cost| cost == "0.000000"));
    }
    let router = up.processes()["llm_router"];
    send(router, Signal::SIGSTOP);
    assert!(costs("agents", "result").iter().all(Value::is_null));
    send(router, Signal::SIGCONT);
}
