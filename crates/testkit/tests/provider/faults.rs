//! Every fault, as the client sees it.

use std::time::Duration;

use serde_json::{Value, json};
use testkit::provider::{Dialect, ErrorBody, Fault, Provider};
use testkit::wait_until;
use tokio::time::Instant;

use super::client::{BOUND, Client, DIALECTS, Ended, SILENCE, TEXT};

/// What is told of one stream.
struct Case {
    fault: Fault,
    content: &'static str,
    ended: Ended,
    /// The reason for the end came, and the mark of it.
    finish: bool,
    end: bool,
    error: bool,
    malformed: usize,
}

fn case(fault: Fault, content: &'static str, ended: Ended) -> Case {
    Case { fault, content, ended, finish: false, end: false, error: false, malformed: 0 }
}

fn broken_streams() -> Vec<Case> {
    use Ended::{Cut, Silent, Well};
    vec![
        case(Fault::ResetAfterHeaders, "", Cut),
        case(Fault::CutBeforeContent, "", Cut),
        case(Fault::CutAfter(0), "", Cut),
        case(Fault::CutAfter(2), "aaaabbbb", Cut),
        case(Fault::CutAfter(99), TEXT, Cut),
        case(Fault::CutBelowLength, "", Cut),
        case(Fault::EndAfter(2), "aaaabbbb", Well),
        case(Fault::EndAfter(99), TEXT, Well),
        case(Fault::StallBeforeContent, "", Silent),
        case(Fault::StallAfter(3), "aaaabbbbcccc", Silent),
        Case { error: true, ..case(Fault::ErrorEventFirst, "", Well) },
        Case { error: true, ..case(Fault::ErrorEventAfter(1), "aaaa", Well) },
        Case { malformed: 1, ..case(Fault::CutJson, "", Well) },
        Case { malformed: 1, finish: true, end: true, ..case(Fault::MalformedChunkAt(1), "aaaaccccdddd", Well) },
        Case { finish: true, ..case(Fault::NoDone, TEXT, Well) },
        Case { end: true, ..case(Fault::NoFinish, TEXT, Well) },
        Case { finish: true, end: true, ..case(Fault::EmptyContent, "", Well) },
        Case { finish: true, end: true, ..case(Fault::ContentFiltered, "aaaabbbb", Well) },
    ]
}

#[tokio::test]
async fn a_stream_breaks_where_it_is_told_to_and_bills_what_was_written() {
    for dialect in DIALECTS {
        let (provider, client) = Client::start(dialect).await;
        for case in broken_streams() {
            let what = format!("{dialect:?} {:?}", case.fault);
            let before = provider.billed().completion;
            provider.play(vec![case.fault.clone()]);
            let (told, ended) = client.stream().await;
            // A piece that is no JSON or is half of one is not counted as content by the client.
            assert_eq!((told.content.as_str(), ended), (case.content, case.ended), "{what}");
            let finish = case.finish && (dialect != Dialect::Ollama || case.end);
            assert_eq!((told.finish.is_some(), told.end), (finish, case.end), "{what} {told:?}");
            assert_eq!(told.error, case.error, "{what}");
            let half = case.fault == Fault::CutBelowLength;
            assert!(half || told.malformed == case.malformed, "{what} {told:?}");
            let written = case.content.len() as u64 / 4 + u64::from(matches!(case.fault, Fault::MalformedChunkAt(_)));
            wait_until(BOUND, &format!("{what}: {written} tokens are billed"), || async {
                provider.billed().completion - before == written
            })
            .await;
        }
        let (told, ended) = client.stream().await;
        assert_eq!((told.content.as_str(), ended), (TEXT, Ended::Well), "the next one is good again");
    }
}

#[tokio::test]
async fn what_breaks_streams_breaks_whole_answers_too() {
    for dialect in DIALECTS {
        let (provider, client) = Client::start(dialect).await;
        let asks = client.asks(false);
        for fault in
            [Fault::Reset, Fault::ResetAfterHeaders, Fault::CutBeforeContent, Fault::CutAfter(1), Fault::CutBelowLength]
        {
            provider.play(vec![fault.clone()]);
            let text = match client.send(&asks).await {
                Ok(response) => response.text().await.map(|text| assert_eq!(text, "never", "{fault:?}")),
                Err(error) => Err(error),
            };
            assert!(text.is_err(), "{dialect:?} {fault:?}");
        }
        for fault in [Fault::CutJson, Fault::EndAfter(1), Fault::MalformedChunkAt(0)] {
            provider.play(vec![fault.clone()]);
            let response = client.send(&asks).await.unwrap();
            assert_eq!(response.status(), 200);
            let text = response.text().await.unwrap();
            assert!(text.starts_with('{') && serde_json::from_str::<Value>(&text).is_err(), "{fault:?} {text}");
        }
        for fault in [Fault::Hang, Fault::StallBeforeContent, Fault::StallAfter(1)] {
            provider.play(vec![fault.clone()]);
            let answer = async { client.send(&asks).await.unwrap().text().await.unwrap() };
            assert!(tokio::time::timeout(SILENCE, answer).await.is_err(), "{fault:?}");
        }
        for fault in [Fault::ErrorEventFirst, Fault::ErrorEventAfter(1)] {
            provider.play(vec![fault]);
            assert_eq!(client.whole(&asks).await.0, 500);
        }
        assert_eq!(provider.unplayed(), 0);
        wait_until(BOUND, "the silent ones are let go", || async { provider.in_flight() == 0 }).await;
        assert!(provider.cancelled() >= 3, "{}", provider.cancelled());
    }
}

#[tokio::test]
async fn an_error_status_has_the_body_and_the_headers_it_is_told_to() {
    for dialect in DIALECTS {
        let (provider, client) = Client::start(dialect).await;
        let status = |code, body| Fault::Status { code, retry_after: Some(7), retry_after_ms: Some(6_500), body };
        provider.play(vec![status(429, ErrorBody::Json), status(502, ErrorBody::Html), status(503, ErrorBody::Empty)]);
        for (code, kind) in [(429, "application/json"), (502, "text/html"), (503, "text/plain")] {
            let response = client.send(&client.asks(true)).await.unwrap();
            let header = |name: &str| response.headers()[name].to_str().unwrap().to_owned();
            assert_eq!(response.status(), code);
            assert_eq!((header("content-type").as_str(), header("retry-after").as_str()), (kind, "7"));
            assert_eq!(header("retry-after-ms"), "6500");
            let text = response.text().await.unwrap();
            assert_eq!(serde_json::from_str::<Value>(&text).is_ok(), code == 429, "{text}");
            assert_eq!(text.is_empty(), code == 503);
        }
        provider.play(vec![Fault::too_many(None), Fault::status(529)]);
        let response = client.send(&client.asks(false)).await.unwrap();
        assert_eq!((response.status().as_u16(), response.headers().get("retry-after")), (429, None));
        let (code, body) = client.whole(&client.asks(false)).await;
        assert_eq!(code, 529);
        if dialect == Dialect::Anthropic {
            assert_eq!(body["error"], json!({ "type": "overloaded_error", "message": "Overloaded" }));
        }
        assert_eq!(provider.billed().completion, 0, "errors cost nothing");
    }
}

#[tokio::test]
async fn refusals_have_the_form_of_the_dialect() {
    let words = |body: &Value, dialect: Dialect| match dialect {
        Dialect::OpenAi => body["error"]["code"].clone(),
        Dialect::Ollama => body["error"].clone(),
        Dialect::Anthropic => body["error"]["type"].clone(),
    };
    for (fault, status, openai, anthropic) in [
        (Fault::ContextLength, 400, json!("context_length_exceeded"), "invalid_request_error"),
        (Fault::ContentFilter, 400, json!("content_filter"), "invalid_request_error"),
        (Fault::RefusedPrefill, 400, Value::Null, "invalid_request_error"),
        (Fault::Unauthorized, 401, json!("invalid_api_key"), "authentication_error"),
        (Fault::ModelNotFound, 404, json!("model_not_found"), "not_found_error"),
    ] {
        for dialect in DIALECTS {
            let (provider, client) = Client::start(dialect).await;
            provider.always(fault.clone());
            for stream in [false, true] {
                let (found, body) = client.whole(&client.asks(stream)).await;
                assert_eq!(found, status, "{dialect:?} {fault:?} {body}");
                match dialect {
                    Dialect::OpenAi => assert_eq!(words(&body, dialect), openai, "{body}"),
                    Dialect::Ollama => assert!(words(&body, dialect).is_string(), "{body}"),
                    Dialect::Anthropic => assert_eq!(words(&body, dialect), anthropic, "{body}"),
                }
            }
            assert_eq!(provider.violations(), Vec::<String>::new(), "a played fault is not the client's");
        }
    }
}

#[tokio::test]
async fn what_is_said_can_be_wrong_though_the_answer_is_whole() {
    for dialect in DIALECTS {
        let (provider, client) = Client::start(dialect).await;
        let asks = client.asks(false);
        let play = async |fault: Fault| {
            provider.play(vec![fault]);
            client.whole(&asks).await.1
        };
        let hollow = play(Fault::EmptyChoices).await;
        match dialect {
            Dialect::OpenAi => assert_eq!(hollow["choices"], json!([])),
            Dialect::Ollama => assert_eq!(hollow.get("message"), None),
            Dialect::Anthropic => assert_eq!(hollow["content"], json!([])),
        }
        assert_eq!(client.text(&play(Fault::EmptyContent).await), "");
        assert_eq!(client.text(&play(Fault::WrongSchema).await), "{\"unexpected\":true}");
        assert_eq!(client.text(&play(Fault::Oversized(100_000)).await).len(), 100_000);
        assert_eq!(client.finish(&play(Fault::NoFinish).await), None);
        let filtered = if dialect == Dialect::Anthropic { "refusal" } else { "content_filter" };
        assert_eq!(client.finish(&play(Fault::ContentFiltered).await).as_deref(), Some(filtered));
        let usage = |body: &Value| match dialect {
            Dialect::Ollama => body.get("eval_count").cloned(),
            Dialect::OpenAi => body.pointer("/usage/completion_tokens").cloned(),
            Dialect::Anthropic => body.pointer("/usage/output_tokens").cloned(),
        };
        assert_eq!(usage(&play(Fault::WrongUsage { prompt: 1, completion: 77 }).await), Some(json!(77)));
        assert_eq!(usage(&play(Fault::NoUsage).await), None);

        provider.play(vec![Fault::NotJson200, Fault::Oversized(50_000), Fault::NoUsage, Fault::EmptyChoices]);
        let response = client.send(&asks).await.unwrap();
        assert_eq!(
            (response.status().as_u16(), response.headers()["content-type"].to_str().unwrap()),
            (200, "text/html")
        );
        assert!(response.text().await.unwrap().starts_with("<html>"));
        assert_eq!(client.stream().await.0.content.len(), 50_000);
        assert_eq!(client.stream().await.0.usage, None);
        let (told, ended) = client.stream().await;
        assert_eq!((told.content.as_str(), told.pieces, told.end, ended), ("", 0, true, Ended::Well));
    }
}

#[tokio::test]
async fn an_answer_can_be_late_before_its_head_or_after_it() {
    let wait = Duration::from_millis(400);
    for dialect in DIALECTS {
        let (provider, client) = Client::start(dialect).await;
        for stream in [false, true] {
            for headers_first in [false, true] {
                provider.play(vec![Fault::SlowFirst { wait, headers_first }]);
                let begun = Instant::now();
                let response = client.send(&client.asks(stream)).await.unwrap();
                let head = begun.elapsed();
                let text = response.text().await.unwrap();
                assert_eq!(head < wait, headers_first, "{dialect:?} {stream} {head:?}");
                assert!(begun.elapsed() >= wait && text.contains("aaaa"), "{text}");
            }
        }
    }
}

#[tokio::test]
async fn faults_are_played_in_turn_and_lasting_ones_until_the_double_is_healthy() {
    let provider = Provider::start(Dialect::OpenAi).await;
    let client = Client::new(&provider, Dialect::OpenAi);
    let status = async || client.whole(&client.asks(false)).await.0;
    provider.flap(Fault::status(500));
    let mut found = Vec::new();
    for _ in 0..4 {
        found.push(status().await);
    }
    assert_eq!(found, [500, 200, 500, 200]);
    provider.always(Fault::status(503));
    provider.play(vec![Fault::status(502), Fault::status(504)]);
    assert_eq!(client.get("/v1/models").send().await.unwrap().status(), 503, "what lasts hits a health check too");
    assert_eq!(provider.unplayed(), 2, "what is played once waits for a request for an answer");
    assert_eq!([status().await, status().await, status().await], [502, 504, 503]);
    provider.play(vec![Fault::status(502)]);
    provider.healthy();
    assert_eq!([status().await, provider.unplayed().try_into().unwrap()], [200, 0]);
}
