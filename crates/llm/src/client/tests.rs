//! The client against a plain server of bytes.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

/// What a server does with the one request it gets.
enum Plays {
    Answers(Vec<u8>),
    FallsSilent,
    HangsUp,
}

#[derive(Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
struct Word {
    word: String,
}

fn http(status: &str, headers: &str, body: &str) -> Plays {
    let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n{headers}\r\n", body.len());
    Plays::Answers([head.as_bytes(), body.as_bytes()].concat())
}

fn said(content: &str, finish: &str) -> String {
    json!({ "choices": [{ "index": 0, "message": { "role": "assistant", "content": content }, "finish_reason": finish }] })
        .to_string()
}

/// A server that plays once, and what it was asked.
async fn server(plays: Plays) -> (String, Arc<Mutex<Vec<u8>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let heard = Arc::new(Mutex::new(Vec::new()));
    let hears = Arc::clone(&heard);
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut bytes = vec![0; 65_536];
        while !is_whole(&hears.lock().unwrap()) {
            let read = stream.read(&mut bytes).await.unwrap();
            hears.lock().unwrap().extend_from_slice(&bytes[..read]);
        }
        match plays {
            // A client that has read enough may hang up first.
            Plays::Answers(bytes) => drop(stream.write_all(&bytes).await),
            Plays::FallsSilent => std::future::pending().await,
            Plays::HangsUp => {}
        }
    });
    (url, heard)
}

fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request).to_lowercase();
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
    length.is_some_and(|length: usize| body.len() >= length)
}

fn client(url: &str) -> Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::new(Access::read(Some(url), Some("sk-secret")).unwrap().unwrap()).unwrap()
}

async fn ask(url: &str, deadline_ms: u64) -> Result<Answered<Word>, Failure> {
    let schema = json!({ "type": "object" });
    let ask = Ask {
        model: "trading-llm",
        system: "judge",
        user: "as_of: 1\nside: buy",
        volatile: &["as_of", "signal_id"],
        schema_name: "word",
        schema: &schema,
        max_tokens: 50,
        priority: 5,
        tenant: "someone",
        deadline_ms,
        correlation_id: "chain",
    };
    client(url).ask(&ask).await
}

#[tokio::test]
async fn a_question_carries_what_the_router_must_know() {
    let headers = "x-swarm-tier: groq\r\nx-swarm-cache: exact\r\nx-swarm-cache-age-s: 12\r\n";
    let (url, heard) = server(http("200 OK", headers, &said(r#"{"word":"yes"}"#, "stop"))).await;
    let answered = ask(&url, 5_000).await.unwrap();
    assert_eq!(answered.value, Word { word: "yes".to_owned() });
    assert_eq!(answered.provenance.to_string(), "trading-llm via groq, cached exact 12 s");
    let request = String::from_utf8(heard.lock().unwrap().clone()).unwrap();
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    for line in [
        "POST /v1/chat/completions HTTP/1.1",
        "authorization: Bearer sk-secret",
        "x-swarm-priority: 5",
        "x-swarm-tenant: someone",
        "x-swarm-deadline-ms: 5000",
        "x-swarm-volatile: as_of,signal_id",
        "x-swarm-correlation-id: chain",
    ] {
        assert!(head.lines().any(|l| l == line), "{line} is not in:\n{head}");
    }
    let body: Value = serde_json::from_str(body).unwrap();
    assert_eq!((&body["temperature"], &body["max_tokens"], &body["stream"]), (&json!(0), &json!(50), &json!(false)));
    assert_eq!(body["response_format"]["json_schema"]["strict"], json!(true));
    assert_eq!(body["messages"][1], json!({ "role": "user", "content": "as_of: 1\nside: buy" }));
}

#[tokio::test]
async fn every_failure_has_its_code() {
    let good = r#"{"word":"yes"}"#;
    let declined = r#"{"choices":[{"message":{"content":null,"refusal":"no"},"finish_reason":"stop"}]}"#;
    for (plays, want) in [
        (Plays::HangsUp, "LLM_UNREACHABLE the connection broke"),
        (Plays::Answers(b"hello\r\n\r\n".to_vec()), "LLM_UNREACHABLE the connection broke"),
        (
            http("503 Busy", "retry-after: 1\r\n", r#"{"error":{"code":"queue_full <b>","message":"sk-secret"}}"#),
            "LLM_REFUSED status=503 code=queue_fullb",
        ),
        (http("401 No", "", r#"{"error":{"type":"auth"}}"#), "LLM_REFUSED status=401 code=auth"),
        (http("500 Oops", "", "<html>"), "LLM_REFUSED status=500 code=none"),
        (http("302 Elsewhere", "location: http://127.0.0.1:1/\r\n", ""), "LLM_REFUSED status=302 code=none"),
        (http("200 OK", "", "{"), "LLM_NOT_AN_ANSWER"),
        (http("200 OK", "", r#"{"choices":[]}"#), "LLM_NOT_AN_ANSWER"),
        (http("200 OK", "", &said(good, "tool_calls")), "LLM_NOT_AN_ANSWER"),
        (http("200 OK", "", &said(good, "error")), "LLM_NOT_AN_ANSWER"),
        (http("200 OK", "", &said(good, "length")), "LLM_CUT"),
        (http("200 OK", "", &said(good, "content_filter")), "LLM_DECLINED"),
        (http("200 OK", "", declined), "LLM_DECLINED"),
        (http("200 OK", "", &said("yes", "stop")), "LLM_NOT_THE_SCHEMA"),
        (http("200 OK", "", &said(r#"{"word":"yes"} indeed"#, "stop")), "LLM_NOT_THE_SCHEMA"),
        (http("200 OK", "", &said(r#"{"word":"yes","more":1}"#, "stop")), "LLM_NOT_THE_SCHEMA"),
        (http("200 OK", "", &said(&"x".repeat(70_000), "stop")), "LLM_OVERSIZED limit_bytes=65536"),
    ] {
        let (url, _) = server(plays).await;
        let failure = ask(&url, 10_000).await.unwrap_err();
        assert_eq!(failure.to_string(), want);
        assert!(want.starts_with(failure.code()));
    }
}

#[tokio::test]
async fn a_silent_router_costs_the_deadline_and_no_more() {
    let (url, _) = server(Plays::FallsSilent).await;
    assert_eq!(ask(&url, 50).await, Err(Failure::Deadline { after_ms: 50 }));
}

#[tokio::test]
async fn nobody_there_is_said_so() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    assert_eq!(ask(&url, 10_000).await, Err(Failure::Unreachable { what: "no connection" }));
}

#[test]
fn an_address_needs_a_key_and_keeps_it() {
    for (url, key, want) in [
        (None, Some("k"), Ok(false)),
        (Some("  "), Some("k"), Ok(false)),
        (Some("http://127.0.0.1:4000/"), Some("k"), Ok(true)),
        (Some("http://llm_router:4000"), Some("k"), Ok(true)),
        (Some("https://models.example.org"), Some("k"), Ok(true)),
        (Some("http://models.example.org"), Some("k"), Err(vec!["SWARM_LLM_URL"])),
        (Some("http://10.0.0.7:4000"), Some("k"), Err(vec!["SWARM_LLM_URL"])),
        (Some("http://me:pw@localhost"), Some("k"), Err(vec!["SWARM_LLM_URL"])),
        (Some("ftp://localhost"), None, Err(vec!["SWARM_LLM_URL", "SWARM_LLM_KEY"])),
        (Some("http://localhost:1"), Some("a b"), Err(vec!["SWARM_LLM_KEY"])),
        (Some("http://localhost:1"), None, Err(vec!["SWARM_LLM_KEY"])),
    ] {
        let read = Access::read(url, key);
        let told = read.as_ref().map(Option::is_some).map_err(|f| f.iter().map(|(v, _)| *v).collect::<Vec<_>>());
        assert_eq!(told, want, "{url:?}");
    }
    let access = Access::read(Some("http://localhost:1"), Some("sk-secret")).unwrap().unwrap();
    assert!(!format!("{access:?}").contains("sk-secret"));
    assert!(!format!("{:?}", client("http://localhost:1")).contains("sk-secret"));
}
