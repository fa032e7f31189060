//! A client that knows the three dialects and trusts none of them.

use std::time::Duration;

use reqwest::{RequestBuilder, Response};
use serde_json::{Value, json};
use testkit::provider::{Dialect, KEY, Provider};

pub const BOUND: Duration = Duration::from_secs(20);
/// How long nothing must come to be called silence.
pub const SILENCE: Duration = Duration::from_millis(300);
pub const DIALECTS: [Dialect; 3] = [Dialect::OpenAi, Dialect::Ollama, Dialect::Anthropic];
/// Four pieces of one token each.
pub const TEXT: &str = "aaaabbbbccccdddd";

/// How a body ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    Well,
    Cut,
    Silent,
}

/// What a stream said.
#[derive(Debug, Default, PartialEq)]
pub struct Told {
    pub content: String,
    pub pieces: usize,
    pub finish: Option<String>,
    /// The mark of the end came.
    pub end: bool,
    pub error: bool,
    pub malformed: usize,
    /// Prompt, completion.
    pub usage: Option<(u64, u64)>,
}

pub struct Client {
    http: reqwest::Client,
    url: String,
    pub dialect: Dialect,
}

impl Client {
    pub fn new(provider: &Provider, dialect: Dialect) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        Self { http: reqwest::Client::new(), url: provider.url(), dialect }
    }

    pub async fn start(dialect: Dialect) -> (Provider, Self) {
        let provider = Provider::start(dialect).await;
        provider.answer_with(TEXT);
        let client = Self::new(&provider, dialect);
        (provider, client)
    }

    pub fn path(&self) -> &'static str {
        match self.dialect {
            Dialect::OpenAi => "/v1/chat/completions",
            Dialect::Ollama => "/api/chat",
            Dialect::Anthropic => "/v1/messages",
        }
    }

    pub fn post(&self, path: &str) -> RequestBuilder {
        let request = self.http.post(format!("{}{path}", self.url));
        match self.dialect {
            Dialect::OpenAi => request.bearer_auth(KEY),
            Dialect::Ollama => request,
            Dialect::Anthropic => request.header("x-api-key", KEY).header("anthropic-version", "2023-06-01"),
        }
    }

    pub fn get(&self, path: &str) -> RequestBuilder {
        let request = self.http.get(format!("{}{path}", self.url));
        match self.dialect {
            Dialect::OpenAi => request.bearer_auth(KEY),
            Dialect::Ollama => request,
            Dialect::Anthropic => request.header("x-api-key", KEY).header("anthropic-version", "2023-06-01"),
        }
    }

    /// A small request that is in order. Its prompt has 3 tokens.
    pub fn asks(&self, stream: bool) -> Value {
        let mut body =
            json!({ "model": "m", "messages": [{ "role": "user", "content": "0123456789" }], "stream": stream });
        match self.dialect {
            Dialect::OpenAi if stream => body["stream_options"] = json!({ "include_usage": true }),
            Dialect::Anthropic => body["max_tokens"] = json!(1_000),
            _ => {}
        }
        body
    }

    pub async fn send(&self, body: &Value) -> reqwest::Result<Response> {
        self.post(self.path()).json(body).send().await
    }

    /// Status and JSON of a whole answer.
    pub async fn whole(&self, body: &Value) -> (u16, Value) {
        let response = self.send(body).await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap())
    }

    pub async fn stream(&self) -> (Told, Ended) {
        let response = self.send(&self.asks(true)).await.unwrap();
        assert_eq!(response.status(), 200);
        let (text, ended) = read(response).await;
        (self.told(&text), ended)
    }

    /// The text of a whole answer.
    pub fn text(&self, body: &Value) -> String {
        let at = match self.dialect {
            Dialect::OpenAi => "/choices/0/message/content",
            Dialect::Ollama => "/message/content",
            Dialect::Anthropic => "/content/0/text",
        };
        body.pointer(at).and_then(Value::as_str).unwrap_or_else(|| panic!("no text: {body}")).to_owned()
    }

    /// Why a whole answer ended.
    pub fn finish(&self, body: &Value) -> Option<String> {
        let at = match self.dialect {
            Dialect::OpenAi => "/choices/0/finish_reason",
            Dialect::Ollama => "/done_reason",
            Dialect::Anthropic => "/stop_reason",
        };
        body.pointer(at).and_then(Value::as_str).map(str::to_owned)
    }

    pub fn told(&self, text: &str) -> Told {
        let mut told = Told::default();
        for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with(':')) {
            let data = match (self.dialect, line.strip_prefix("data: ")) {
                (Dialect::Ollama, _) => line,
                (Dialect::Anthropic, None) if line.starts_with("event: ") => continue,
                (_, Some("[DONE]")) => {
                    told.end = true;
                    continue;
                }
                (_, Some(data)) => data,
                (_, None) => {
                    told.malformed += 1;
                    continue;
                }
            };
            match serde_json::from_str::<Value>(data) {
                Ok(event) => self.event(&event, &mut told),
                Err(_) => told.malformed += 1,
            }
        }
        told
    }

    fn event(&self, event: &Value, told: &mut Told) {
        told.error |= event.get("error").is_some();
        let number = |at: &str| event.pointer(at).and_then(Value::as_u64);
        let (content, finish, prompt, completion) = match self.dialect {
            Dialect::OpenAi => (
                "/choices/0/delta/content",
                "/choices/0/finish_reason",
                "/usage/prompt_tokens",
                "/usage/completion_tokens",
            ),
            Dialect::Ollama => ("/message/content", "/done_reason", "/prompt_eval_count", "/eval_count"),
            Dialect::Anthropic => {
                ("/delta/text", "/delta/stop_reason", "/message/usage/input_tokens", "/usage/output_tokens")
            }
        };
        if let Some(text) = event.pointer(content).and_then(Value::as_str).filter(|text| !text.is_empty()) {
            told.content.push_str(text);
            told.pieces += 1;
        }
        if let Some(finish) = event.pointer(finish).and_then(Value::as_str) {
            told.finish = Some(finish.to_owned());
        }
        let before = told.usage.unwrap_or_default();
        if number(prompt).is_some() || number(completion).is_some() {
            told.usage = Some((number(prompt).unwrap_or(before.0), number(completion).unwrap_or(before.1)));
        }
        told.end |= event.get("done") == Some(&json!(true)) || event.get("type") == Some(&json!("message_stop"));
    }
}

/// Reads until the body ends, breaks or falls silent.
pub async fn read(mut response: Response) -> (String, Ended) {
    let mut bytes = Vec::new();
    let ended = loop {
        match tokio::time::timeout(SILENCE, response.chunk()).await {
            Err(_) => break Ended::Silent,
            Ok(Ok(Some(chunk))) => bytes.extend_from_slice(&chunk),
            Ok(Ok(None)) => break Ended::Well,
            Ok(Err(_)) => break Ended::Cut,
        }
    };
    (String::from_utf8(bytes).unwrap(), ended)
}
