//! The line to Telegram when it is bad: two pollers, refusals for speed, hung and lost answers, ids that jump.

use std::time::Duration;

use domain::message::Payload;
use domain::time::UnixMs;
use futures::StreamExt;
use serde_json::json;
use testkit::telegram::Fault;
use testkit::wait_until;
use tokio::time::Instant;

use crate::stage::{BOUND, OPERATOR, Stage};

/// A command gets its answer: the line works.
async fn works(stage: &Stage) {
    let update = stage.telegram.say(OPERATOR, "/help");
    assert_eq!(stage.outcome(update).await, "answered: /help");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_poller_server_errors_cut_lines_and_a_webhook_are_overcome() {
    let stage = Stage::open().await;
    for fault in [Fault::Conflict, Fault::ServerError, Fault::Cut, Fault::LostAnswer] {
        stage.telegram.fault("getUpdates", fault, 2);
        works(&stage).await;
    }
    // Somebody set a webhook: it is removed, since this build polls.
    let http = reqwest_post(&stage, "setWebhook", "{\"url\":\"https://example.org/x\"}").await;
    assert!(http.contains("\"ok\":true"), "{http}");
    works(&stage).await;
    assert_eq!(stage.telegram.webhook(), None);
    assert_eq!(stage.telegram.violations(), Vec::<String>::new());
}

/// A call of the Bot API by somebody else who has the token.
async fn reqwest_post(stage: &Stage, method: &str, body: &str) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let host = stage.telegram.url().trim_start_matches("http://").to_owned();
    let mut stream = tokio::net::TcpStream::connect(&host).await.unwrap();
    let token = testkit::telegram::TOKEN;
    let head = format!(
        "POST /bot{token}/{method} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_sends_without_a_pace_is_refused_after_a_short_burst() {
    let stage = Stage::set().await;
    let body = json!({ "chat_id": OPERATOR, "text": "now" }).to_string();
    for _ in 0..3 {
        assert!(reqwest_post(&stage, "sendMessage", &body).await.contains("\"ok\":true"));
    }
    let refused = reqwest_post(&stage, "sendMessage", &body).await;
    assert!(refused.contains("\"error_code\":429") && refused.contains("\"retry_after\":1"), "{refused}");
    assert_eq!(stage.telegram.violations().len(), 1, "{:?}", stage.telegram.violations());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_poll_that_hangs_is_given_up_and_a_slow_one_is_waited_for() {
    let stage = Stage::open().await;
    stage.telegram.fault("getUpdates", Fault::Slow(Duration::from_secs(2)), 1);
    works(&stage).await;
    stage.telegram.fault("getUpdates", Fault::Hang, 1);
    works(&stage).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wait_that_telegram_asks_for_is_kept() {
    let stage = Stage::open().await;
    works(&stage).await;
    stage.telegram.fault("getUpdates", Fault::TooMany(2), 1);
    works(&stage).await;
    stage.telegram.fault("sendMessage", Fault::TooMany(2), 1);
    let started = Instant::now();
    stage.ask(31, 1).await;
    stage.prompt(OPERATOR, "a prompt", |sent| sent.button("✅").is_some()).await;
    assert!(started.elapsed() >= Duration::from_millis(1_800), "{:?}", started.elapsed());
    assert_eq!(stage.telegram.violations(), Vec::<String>::new(), "none was called before its time");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_an_answer_that_was_lost_the_prompt_that_is_recorded_counts() {
    let stage = Stage::open().await;
    stage.telegram.fault("sendMessage", Fault::LostAnswer, 1);
    let id = stage.ask(32, 1).await;
    let first = stage.prompt(OPERATOR, "a prompt", |sent| sent.button("✅").is_some()).await;
    // Nobody can know that it was sent, so it is sent again: the one that has a row is the prompt.
    let second = stage.prompt(OPERATOR, "a second prompt", |sent| sent.id != first.id).await;
    let press = stage.telegram.press(OPERATOR, &first, "✅");
    assert!(stage.outcome(press.update_id).await.starts_with("refused: This message is not the prompt"));
    let press = stage.telegram.press(OPERATOR, &second, "✅");
    assert_eq!(stage.outcome(press.update_id).await, "decided: Approve allowed");
    assert_eq!(stage.script().entries(id).len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silence_is_an_alert_and_so_is_its_end() {
    let mut stage = Stage::set().await;
    stage.settings.insert("TELEGRAM_SILENT_AFTER_S".to_owned(), "1".to_owned());
    stage.link("operator", OPERATOR).await;
    let mut alerts = stage.bus.client().subscribe("monitoring.all.alert.*").await.unwrap();
    stage.start();
    wait_until(BOUND, "a poll", || async { stage.telegram.calls("getUpdates") > 1 }).await;
    stage.telegram.outage(Some(Fault::ServerError));
    for words in ["gave no good answer", "answers again after"] {
        let alert = tokio::time::timeout(BOUND, alerts.next()).await.unwrap().unwrap();
        let headers =
            alert.headers.as_ref().unwrap().iter().map(|(name, values)| (name.to_string(), values[0].to_string()));
        let raw = bus::Raw {
            subject: alert.subject.to_string(),
            headers: headers.collect(),
            payload: alert.payload.to_vec(),
        };
        let arrival = bus::codec::Arrival { stream: "", stream_seq: 0, published_at: UnixMs(0) };
        let Payload::Alert(alert) = bus::codec::read(&raw, &arrival).unwrap().payload else { panic!("no alert") };
        assert_eq!(alert.name, "telegram_silent");
        assert!(alert.text.contains(words), "{}", alert.text);
        stage.telegram.outage(None);
    }
    // Told in Telegram too, once that is possible.
    stage.prompt(OPERATOR, "the alert", |sent| sent.text.contains("telegram_silent")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ids_that_jump_and_updates_that_nobody_knows_are_no_obstacle() {
    let stage = Stage::open().await;
    works(&stage).await;
    stage.telegram.jump_update_ids(1_000_000);
    for (kind, body, outcome) in [
        ("chat_boost_of_the_future", json!({ "what": "ever" }), "unreadable"),
        ("message", json!({ "message_id": "no number" }), "unreadable"),
    ] {
        let update = stage.telegram.strange_update(kind, body);
        let found = stage.outcome(update).await;
        assert!(found == outcome || found.starts_with("ignored"), "{kind}: {found}");
    }
    works(&stage).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_week_without_updates_a_lower_id_is_not_taken_for_a_confirmed_one() {
    let mut stage = Stage::set().await;
    stage.link("operator", OPERATOR).await;
    let first = stage.telegram.say(OPERATOR, "/help");
    stage.start();
    assert_eq!(stage.outcome(first).await, "answered: /help");
    stage.stop().await;
    // A week later the next id may be any.
    let mut unit = stage.admin.begin().await.unwrap();
    let now = unit.now().await.unwrap();
    let old = first + 10;
    let week = now.plus_ms(-7 * 24 * 3_600_000);
    store::telegram::put_update(&mut unit, old, &json!({ "update_id": old }), week).await.unwrap();
    store::telegram::set_handled(&mut unit, old, "test", week).await.unwrap();
    store::telegram::set_offset(&mut unit, old + 1).await.unwrap();
    unit.commit().await.unwrap();
    stage.telegram.jump_update_ids(-1_000);
    let lower = stage.telegram.say(OPERATOR, "/help");
    assert!(lower < first);
    stage.start();
    assert_eq!(stage.outcome(lower).await, "answered: /help");
    let next = stage.telegram.say(OPERATOR, "/help");
    assert_eq!(stage.outcome(next).await, "answered: /help");
}
