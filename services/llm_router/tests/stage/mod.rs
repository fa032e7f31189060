//! The service on a free port, with three doubles behind the shipped aliases.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use reqwest::header::HeaderMap;
use serde_json::{Value, json};
use testkit::provider::{Dialect, KEY, Provider};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// The operator's key.
pub const OWN_KEY: &str = "test-operator-key";

/// The service and its providers.
pub struct Stage {
    pub local: Provider,
    pub groq: Provider,
    pub openrouter: Provider,
    pub url: String,
    http: reqwest::Client,
    stop: CancellationToken,
    served: JoinHandle<Result<(), String>>,
    _folder: tempfile::TempDir,
}

/// What was answered.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub body: Value,
    pub headers: HeaderMap,
}

impl Answer {
    pub fn mark(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("")
    }
}

/// One question to `trading-llm`.
pub fn question(text: &str) -> Value {
    json!({ "model": "trading-llm", "messages": [{ "role": "user", "content": text }] })
}

impl Stage {
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// With lines of the shipped file replaced, and more in the environment under names in capitals.
    pub async fn start_with(changes: &[(&str, &str)]) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let local = Provider::start(Dialect::Ollama).await;
        let groq = Provider::start(Dialect::OpenAi).await;
        let openrouter = Provider::start(Dialect::OpenAi).await;
        for (double, text) in [(&local, "from local"), (&groq, "from groq"), (&openrouter, "from openrouter")] {
            double.answer_with(text);
        }
        let folder = tempfile::tempdir().unwrap();
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config/llm.toml");
        let mut text = std::fs::read_to_string(shipped).unwrap();
        let mut vars = BTreeMap::from([
            ("LLM_LOCAL_URL".to_owned(), local.url()),
            ("LLM_GROQ_URL".to_owned(), format!("{}/openai/v1", groq.url())),
            ("LLM_OPENROUTER_URL".to_owned(), format!("{}/api/v1", openrouter.url())),
            ("LLM_LOCAL_EMBED_URL".to_owned(), local.url()),
            ("GROQ_API_KEY".to_owned(), KEY.to_owned()),
            ("OPENROUTER_API_KEY".to_owned(), KEY.to_owned()),
        ]);
        for (from, to) in changes {
            if from.bytes().all(|b| b.is_ascii_uppercase() || b == b'_') {
                vars.insert((*from).to_owned(), (*to).to_owned());
            } else {
                assert!(text.contains(from), "{from} is not in llm.toml");
                text = text.replacen(from, to, 1);
            }
        }
        std::fs::write(folder.path().join("llm.toml"), text).unwrap();
        let keys = folder.path().join("keys");
        std::fs::write(&keys, llm_router::keys::line("operator", OWN_KEY)).unwrap();
        vars.insert("SWARM_LLM_KEYS_FILE".to_owned(), keys.display().to_string());
        let stop = CancellationToken::new();
        let (tell, told) = oneshot::channel();
        let (until, config_dir) = (stop.clone(), folder.path().to_owned());
        let served = tokio::spawn(async move {
            llm_router::standalone::run(&vars, &config_dir, until, |address| tell.send(address).unwrap()).await
        });
        let Ok(address) = told.await else { panic!("the service did not start: {:?}", served.await) };
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let url = format!("http://{address}");
        Self { local, groq, openrouter, url, http, stop, served, _folder: folder }
    }

    /// Calls of each tier so far.
    pub fn calls(&self) -> [usize; 3] {
        [self.local.calls(), self.groq.calls(), self.openrouter.calls()]
    }

    pub fn violations(&self) -> Vec<String> {
        [&self.local, &self.groq, &self.openrouter].into_iter().flat_map(Provider::violations).collect()
    }

    pub async fn ask(&self, body: &Value) -> Answer {
        self.ask_as(Some(OWN_KEY), body).await
    }

    pub async fn ask_as(&self, key: Option<&str>, body: &Value) -> Answer {
        send(self.request(key, body)).await
    }

    pub async fn ask_with(&self, headers: &[(&str, &str)], body: &Value) -> Answer {
        send(self.with(headers, body)).await
    }

    pub fn ask_later(&self, body: &Value) -> JoinHandle<Answer> {
        tokio::spawn(send(self.request(Some(OWN_KEY), body)))
    }

    pub fn ask_later_with(&self, headers: &[(&str, &str)], body: &Value) -> JoinHandle<Answer> {
        tokio::spawn(send(self.with(headers, body)))
    }

    fn with(&self, headers: &[(&str, &str)], body: &Value) -> reqwest::RequestBuilder {
        let request = self.request(Some(OWN_KEY), body);
        headers.iter().fold(request, |request, (name, value)| request.header(*name, *value))
    }

    fn request(&self, key: Option<&str>, body: &Value) -> reqwest::RequestBuilder {
        let request = self.http.post(format!("{}/v1/chat/completions", self.url)).json(body);
        match key {
            Some(key) => request.bearer_auth(key),
            None => request,
        }
    }

    /// The data of every event of a stream.
    pub async fn stream(&self, body: &Value) -> Vec<String> {
        let mut body = body.clone();
        body["stream"] = json!(true);
        let response = self.request(Some(OWN_KEY), &body).send().await.unwrap();
        let text = response.text().await.unwrap();
        text.split("\n\n").filter_map(|event| event.strip_prefix("data: ").map(str::to_owned)).collect()
    }

    pub async fn state(&self) -> Value {
        let url = format!("{}/v1/router/state", self.url);
        self.http.get(url).bearer_auth(OWN_KEY).send().await.unwrap().json().await.unwrap()
    }

    pub async fn metrics(&self) -> String {
        self.http.get(format!("{}/metrics", self.url)).send().await.unwrap().text().await.unwrap()
    }

    pub async fn wait_until(&self, what: &str, is_so: impl Fn(&Value) -> bool) {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
        loop {
            let state = self.state().await;
            if is_so(&state) {
                return;
            }
            assert!(tokio::time::Instant::now() < deadline, "{what}: {state}");
            tokio::task::yield_now().await;
        }
    }
}

async fn send(request: reqwest::RequestBuilder) -> Answer {
    let response = request.send().await.unwrap();
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let text = response.text().await.unwrap();
    Answer { status, body: serde_json::from_str(&text).unwrap_or(Value::String(text)), headers }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.stop.cancel();
        self.served.abort();
    }
}
