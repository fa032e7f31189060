//! Connections: kept, reset, left by the client, refused by a dead provider; and how many are answered at a time.

use std::io::ErrorKind;
use std::time::Duration;

use testkit::provider::{Dialect, Fault, KEY, Provider};
use testkit::wait_until;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::client::{BOUND, Client, DIALECTS, Ended, TEXT, read};

async fn connect(provider: &Provider) -> TcpStream {
    TcpStream::connect(provider.url().strip_prefix("http://").unwrap()).await.unwrap()
}

fn raw() -> Vec<u8> {
    let body = r#"{"model":"m","messages":[{"role":"user","content":"hi"}]}"#;
    let head = "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n";
    format!("{head}authorization: Bearer {KEY}\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

#[tokio::test]
async fn a_reset_is_a_reset_and_a_cut_is_an_end() {
    let provider = Provider::start(Dialect::OpenAi).await;
    provider.play(vec![Fault::Reset, Fault::ResetAfterHeaders, Fault::CutBeforeContent]);
    let mut ends = Vec::new();
    for _ in 0..3 {
        let mut stream = connect(&provider).await;
        stream.write_all(&raw()).await.unwrap();
        let mut bytes = Vec::new();
        let end = stream.read_to_end(&mut bytes).await.map_err(|error| error.kind()).map(|_| ());
        ends.push((end, bytes.starts_with(b"HTTP/1.1 200 OK\r\n")));
    }
    let reset = Err(ErrorKind::ConnectionReset);
    assert_eq!(ends[0], (reset, false));
    assert_eq!(ends[1].0, reset);
    assert_eq!(ends[2], (Ok(()), true));
}

#[tokio::test]
async fn a_connection_is_kept_for_the_next_request() {
    let provider = Provider::start(Dialect::OpenAi).await;
    provider.answer_with("good");
    let mut stream = connect(&provider).await;
    for _ in 0..3 {
        stream.write_all(&raw()).await.unwrap();
        let mut text = String::new();
        while !text.ends_with('}') || !text.contains("\"good\"") {
            let mut bytes = [0; 4_096];
            let read = stream.read(&mut bytes).await.unwrap();
            assert!(read > 0, "closed after {text}");
            text.push_str(std::str::from_utf8(&bytes[..read]).unwrap());
        }
    }
    assert_eq!(provider.calls(), 3);
}

#[tokio::test]
async fn a_client_that_leaves_a_stream_is_seen_at_once() {
    for dialect in DIALECTS {
        let (provider, client) = Client::start(dialect).await;
        provider.chunk_pause(Duration::from_secs(600));
        let mut response = client.send(&client.asks(true)).await.unwrap();
        let mut text = String::new();
        while !text.contains("aaaa") {
            text.push_str(std::str::from_utf8(&response.chunk().await.unwrap().unwrap()).unwrap());
        }
        assert_eq!((provider.cancelled(), provider.in_flight()), (0, 1));
        drop(response);
        wait_until(BOUND, "the client is missed", || async { provider.cancelled() == 1 && provider.in_flight() == 0 })
            .await;
        assert_eq!(provider.billed().completion, 1, "one piece was written");
    }
}

#[tokio::test]
async fn a_dead_provider_refuses_connects_and_comes_back_on_its_port() {
    let (provider, client) = Client::start(Dialect::Ollama).await;
    provider.play(vec![Fault::StallAfter(1)]);
    let stalled = client.send(&client.asks(true)).await.unwrap();
    assert_eq!(client.whole(&client.asks(false)).await.0, 200);
    provider.die().await;
    assert_eq!(read(stalled).await.1, Ended::Cut, "what was open is cut");
    for _ in 0..3 {
        let error = client.send(&client.asks(false)).await.unwrap_err();
        assert!(error.is_connect(), "{error:?}");
    }
    assert_eq!((provider.calls(), provider.in_flight()), (2, 0), "nothing reaches the dead");
    provider.revive().await;
    provider.revive().await;
    let (status, body) = client.whole(&client.asks(false)).await;
    assert_eq!((status, client.text(&body).as_str()), (200, TEXT));
    let url = provider.url();
    drop(provider);
    let address = url.strip_prefix("http://").unwrap().to_owned();
    wait_until(BOUND, "a dropped double is gone", || async { TcpStream::connect(&address).await.is_err() }).await;
}

#[tokio::test]
async fn only_so_many_are_answered_at_a_time_and_so_many_may_wait() {
    let (provider, client) = Client::start(Dialect::Ollama).await;
    provider.parallel(2, 1);
    provider.hold();
    let client = std::sync::Arc::new(client);
    let mut answers = JoinSet::new();
    for count in 1..=3 {
        let client = std::sync::Arc::clone(&client);
        answers.spawn(async move { client.whole(&client.asks(false)).await.0 });
        provider.wait_for_calls(count, BOUND).await;
    }
    wait_until(BOUND, "one waits inside", || async { provider.waiting() == 1 }).await;
    assert_eq!((provider.in_flight(), provider.max_in_flight()), (3, 3));
    let (status, body) = client.whole(&client.asks(false)).await;
    assert_eq!(status, 503);
    assert!(body["error"].as_str().unwrap().starts_with("server busy"), "{body}");
    provider.release(1);
    assert_eq!(answers.join_next().await.unwrap().unwrap(), 200);
    wait_until(BOUND, "its slot is taken", || async { provider.waiting() == 0 && provider.in_flight() == 2 }).await;
    provider.release_all();
    while let Some(status) = answers.join_next().await {
        assert_eq!(status.unwrap(), 200);
    }
    assert_eq!(client.whole(&client.asks(false)).await.0, 200, "nothing is held any more");
}

#[tokio::test]
async fn one_who_waits_inside_and_leaves_frees_its_place() {
    let (provider, client) = Client::start(Dialect::Ollama).await;
    provider.parallel(1, 8);
    provider.hold();
    let asks = client.asks(false);
    let (first, second) = (client.send(&asks), client.send(&asks));
    let both = async { tokio::join!(first, second) };
    let seen = wait_until(BOUND, "one of two waits", || async { provider.waiting() == 1 });
    tokio::select! {
        _ = both => panic!("nothing is released"),
        () = seen => {}
    }
    wait_until(BOUND, "both are gone", || async { provider.in_flight() == 0 && provider.waiting() == 0 }).await;
    assert_eq!(provider.cancelled(), 2);
    provider.release_all();
    assert_eq!(client.whole(&asks).await.0, 200);
}

#[tokio::test]
async fn answers_begin_after_the_latency() {
    let (provider, client) = Client::start(Dialect::OpenAi).await;
    provider.latency(Duration::from_millis(150));
    let begun = tokio::time::Instant::now();
    assert_eq!(client.whole(&client.asks(false)).await.0, 200);
    assert!(begun.elapsed() >= Duration::from_millis(150));
    provider.keep_requests(false);
    assert_eq!(client.stream().await.0.content, TEXT);
    assert_eq!((provider.requests().len(), provider.calls()), (1, 2));
}
