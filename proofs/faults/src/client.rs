//! A client that holds the service to the form of the OpenAI API, to the letter.

use std::time::Duration;

use llm::failure::Kind;
use reqwest::header::HeaderMap;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::stage::{OWN_KEY, PATIENCE, TIERS};

/// Longest wait for anything: a hang is told as one and not waited out.
const LONGEST: Duration = Duration::from_secs(150);

/// How an answer ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// Whole: a body, or a stream with one reason for its end and one `[DONE]`, last.
    Answer,
    /// An error with a code of the router's own table and words that name a tier.
    Refused {
        /// [`Kind::code`].
        code: String,
        /// What a person reads.
        message: String,
    },
    /// A stream that ended, after content, with exactly one error event and without `[DONE]`.
    CutShort {
        /// [`Kind::code`].
        code: String,
        /// What a person reads.
        message: String,
    },
    /// Anything else: what an agent could make nothing of.
    Unexplained(String),
}

/// What came back.
#[derive(Debug, Clone)]
pub struct Reply {
    /// HTTP status; 0: none came.
    pub status: u16,
    /// Headers.
    pub headers: HeaderMap,
    /// The content that was told.
    pub content: String,
    /// Tokens of prompt and answer as they were told.
    pub usage: Option<(u64, u64)>,
    /// How it ended.
    pub end: End,
    /// From the first byte sent to the last read.
    pub took: Duration,
}

impl Reply {
    /// A header of the router's, or nothing.
    #[must_use]
    pub fn mark(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("")
    }

    /// Whether it is an answer.
    #[must_use]
    pub fn is_answer(&self) -> bool {
        self.end == End::Answer
    }

    /// The cost that its header tells, millionths of a dollar.
    #[must_use]
    pub fn cost_micros(&self) -> u64 {
        let (whole, part) = self.mark("x-swarm-cost-usd").split_once('.').unwrap_or(("0", "0"));
        whole.parse::<u64>().unwrap_or(0) * 1_000_000 + part.parse::<u64>().unwrap_or(0)
    }
}

/// One who asks the service.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    url: String,
}

/// One question to `trading-llm`.
#[must_use]
pub fn question(text: &str) -> Value {
    json!({ "model": "trading-llm", "messages": [{ "role": "user", "content": text }] })
}

/// The same as a stream that tells its tokens.
#[must_use]
pub fn streamed(mut body: Value) -> Value {
    body["stream"] = json!(true);
    body["stream_options"] = json!({ "include_usage": true });
    body
}

/// The header that keeps the cache out.
pub const NO_CACHE: (&str, &str) = ("x-swarm-cache", "off");

impl Client {
    /// Of the service at this address.
    ///
    /// # Errors
    /// When there is no HTTP client.
    pub fn new(url: &str) -> Result<Self, String> {
        let http = reqwest::Client::builder().no_proxy().tcp_nodelay(true).timeout(LONGEST).build();
        Ok(Self { http: http.map_err(|error| error.to_string())?, url: url.to_owned() })
    }

    /// Asks and reads to the end.
    pub async fn ask(&self, headers: &[(&str, &str)], body: &Value) -> Reply {
        let began = Instant::now();
        let request = self.http.post(format!("{}/v1/chat/completions", self.url)).bearer_auth(OWN_KEY).json(body);
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        let mut reply = Reply {
            status: 0,
            headers: HeaderMap::new(),
            content: String::new(),
            usage: None,
            end: End::Unexplained(String::new()),
            took: Duration::ZERO,
        };
        match request.send().await {
            Ok(response) => {
                reply.status = response.status().as_u16();
                reply.headers = response.headers().clone();
                match response.text().await {
                    Ok(text) => judge(&mut reply, &text),
                    Err(error) => reply.end = End::Unexplained(format!("the body broke: {error}")),
                }
            }
            Err(error) => reply.end = End::Unexplained(format!("no response: {error}")),
        }
        reply.took = began.elapsed();
        reply
    }

    /// The same in the background.
    #[must_use]
    pub fn ask_later(&self, headers: &[(&str, &str)], body: Value) -> tokio::task::JoinHandle<Reply> {
        let client = self.clone();
        let headers: Vec<(String, String)> =
            headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        tokio::spawn(async move {
            let headers: Vec<(&str, &str)> =
                headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            client.ask(&headers, &body).await
        })
    }

    /// The state of the router.
    ///
    /// # Errors
    /// When it can't be read.
    pub async fn state(&self) -> Result<Value, String> {
        let asked = self.http.get(format!("{}/v1/router/state", self.url)).bearer_auth(OWN_KEY).send().await;
        asked.map_err(|error| error.to_string())?.json().await.map_err(|error| error.to_string())
    }

    /// Asks a tier past its breaker, so that connections are open.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn warm(&self, tier: &str) -> Result<(), String> {
        let asked = self.http.post(format!("{}/v1/router/test/{tier}", self.url)).bearer_auth(OWN_KEY).send().await;
        let tested: Value =
            asked.map_err(|error| error.to_string())?.json().await.map_err(|error| error.to_string())?;
        if tested["ok"] == true { Ok(()) } else { Err(format!("{tier} is not well before the fault: {tested}")) }
    }

    /// Waits until the state is as wanted, and gives it.
    ///
    /// # Errors
    /// The last state, when it takes too long.
    pub async fn wait_until(&self, what: &str, is_so: impl Fn(&Value) -> bool) -> Result<Value, String> {
        let deadline = Instant::now() + PATIENCE * 3;
        loop {
            let state = self.state().await?;
            if is_so(&state) {
                return Ok(state);
            }
            if Instant::now() > deadline {
                return Err(format!("not in time: {what}: {state}"));
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

/// One tier in a state.
#[must_use]
pub fn tier<'a>(state: &'a Value, name: &str) -> &'a Value {
    let tiers = state["tiers"].as_array().into_iter().flatten();
    tiers.into_iter().find(|tier| tier["name"] == name).unwrap_or(&Value::Null)
}

/// What is booked on the paid tiers, millionths of a dollar.
#[must_use]
pub fn booked(state: &Value) -> u64 {
    let of = |name: &&str| state["quota"]["tiers"][*name]["month_usd_micros"].as_u64().unwrap_or(0);
    TIERS.iter().map(of).sum()
}

/// Code and words of an error, when both are as an agent needs them.
fn explained(error: &Value) -> Result<(String, String), String> {
    let code = error["code"].as_str().unwrap_or_default();
    let message = error["message"].as_str().unwrap_or_default();
    if !error["type"].is_string() || error.get("param").is_none() {
        return Err(format!("no error of the OpenAI API: {error}"));
    }
    if !Kind::ALL.iter().any(|kind| kind.code() == code) {
        return Err(format!("an unknown code: {error}"));
    }
    if !TIERS.iter().any(|tier| message.contains(tier)) {
        return Err(format!("no tier is named: {error}"));
    }
    Ok((code.to_owned(), message.to_owned()))
}

fn judge(reply: &mut Reply, text: &str) {
    let is_stream = reply.headers.get("content-type").is_some_and(|kind| kind.as_bytes().starts_with(b"text/event"));
    if is_stream && reply.status == 200 {
        reply.end = stream(text, &mut reply.content, &mut reply.usage).unwrap_or_else(End::Unexplained);
        return;
    }
    let Ok(body) = serde_json::from_str::<Value>(text) else {
        reply.end = End::Unexplained(format!("status {} with no JSON", reply.status));
        return;
    };
    if reply.status != 200 {
        reply.end = match explained(&body["error"]) {
            Ok((code, message)) => End::Refused { code, message },
            Err(why) => End::Unexplained(format!("status {}: {why}", reply.status)),
        };
        return;
    }
    let choice = &body["choices"][0];
    if let Some(content) = choice["message"]["content"].as_str()
        && choice["finish_reason"].is_string()
    {
        content.clone_into(&mut reply.content);
        reply.usage = usage(&body["usage"]);
        reply.end = End::Answer;
    } else {
        reply.end = End::Unexplained(format!("200 without an answer: {body}"));
    }
}

fn usage(value: &Value) -> Option<(u64, u64)> {
    Some((value["prompt_tokens"].as_u64()?, value["completion_tokens"].as_u64()?))
}

/// Reads the events of a stream.
fn stream(text: &str, content: &mut String, told: &mut Option<(u64, u64)>) -> Result<End, String> {
    let mut reasons = Vec::new();
    let mut error = None;
    let mut done = false;
    for event in text.split_terminator("\n\n") {
        let data = event.strip_prefix("data: ").ok_or_else(|| format!("no event: {event}"))?;
        if done || error.is_some() {
            return Err(format!("something after the end: {data}"));
        }
        if data == "[DONE]" {
            done = true;
            continue;
        }
        let chunk: Value = serde_json::from_str(data).map_err(|_| format!("an event with no JSON: {data}"))?;
        content.push_str(chunk["choices"][0]["delta"]["content"].as_str().unwrap_or_default());
        reasons.extend(chunk["choices"][0]["finish_reason"].as_str().map(str::to_owned));
        *told = usage(&chunk["usage"]).or(*told);
        error = chunk.get("error").cloned();
    }
    match (error, done, reasons.as_slice()) {
        (None, true, [reason]) if reason != "error" => Ok(End::Answer),
        (Some(error), false, [reason]) if reason == "error" => {
            let (code, message) = explained(&error)?;
            Ok(End::CutShort { code, message })
        }
        (error, done, reasons) => Err(format!("error {error:?}, [DONE] {done}, finish reasons {reasons:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<End, String> {
        stream(text, &mut String::new(), &mut None)
    }

    #[test]
    fn a_stream_is_an_answer_only_when_it_is_whole() {
        let piece = r#"data: {"choices":[{"delta":{"content":"a"},"finish_reason":null}]}"#;
        let stop = r#"data: {"choices":[{"delta":{},"finish_reason":"stop"}]}"#;
        let error = r#"data: {"choices":[{"delta":{},"finish_reason":"error"}],"error":{"code":"stalled","type":"router_error","param":null,"message":"local: x"}}"#;
        let done = "data: [DONE]";
        let all = |events: &[&str]| read(&events.iter().map(|event| format!("{event}\n\n")).collect::<String>());
        assert_eq!(all(&[piece, stop, done]), Ok(End::Answer));
        assert!(matches!(all(&[piece, error]), Ok(End::CutShort { .. })));
        for wrong in [
            &[piece, stop][..],
            &[piece, done],
            &[piece, stop, stop, done],
            &[piece, error, done],
            &[piece, error, error],
            &[piece, done, piece],
            &[piece],
            &[],
        ] {
            assert!(all(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn an_error_needs_a_code_of_the_table_and_the_name_of_a_tier() {
        let error = |code: &str, message: &str| json!({ "code": code, "message": message, "type": "x", "param": null });
        assert!(explained(&error("stalled", "groq: stood still")).is_ok());
        for wrong in
            [error("odd", "groq: x"), error("stalled", "it stood still"), Value::Null, json!({"code": "stalled"})]
        {
            assert!(explained(&wrong).is_err(), "{wrong}");
        }
    }
}
