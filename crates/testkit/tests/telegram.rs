//! The double of Telegram holds its clients to the documented Bot API.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a failed step is a failed test

use std::time::Duration;

use domain::time::UnixMs;
use reqwest::multipart::{Form, Part};
use serde_json::{Value, json};
use testkit::telegram::{Fault, TOKEN, Telegram};
use tokio::time::Instant;

const ANNA: i64 = 11;
const BOUND: Duration = Duration::from_secs(10);

struct Client {
    http: reqwest::Client,
    base: String,
}

impl Client {
    fn new(telegram: &Telegram) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        Self { http: reqwest::Client::new(), base: format!("{}/bot{TOKEN}", telegram.url()) }
    }

    async fn call(&self, method: &str, body: Value) -> (u16, Value) {
        let sent = self.http.post(format!("{}/{method}", self.base)).json(&body).send().await.unwrap();
        (sent.status().as_u16(), sent.json().await.unwrap())
    }

    async fn refused(&self, method: &str, body: Value, status: u16, words: &str) {
        let (found, answer) = self.call(method, body.clone()).await;
        assert_eq!(found, status, "{method} {body}: {answer}");
        assert_eq!(answer["ok"], false);
        assert_eq!(answer["error_code"], status);
        assert!(answer["description"].as_str().unwrap().contains(words), "{method} {body}: {answer}");
    }

    async fn good(&self, method: &str, body: Value) -> Value {
        let (status, answer) = self.call(method, body.clone()).await;
        assert_eq!(status, 200, "{method} {body}: {answer}");
        answer["result"].clone()
    }

    async fn updates(&self, offset: Option<i64>) -> Vec<i64> {
        let mut body = json!({ "timeout": 0 });
        if let Some(offset) = offset {
            body["offset"] = json!(offset);
        }
        let updates = self.good("getUpdates", body).await;
        updates.as_array().unwrap().iter().map(|update| update["update_id"].as_i64().unwrap()).collect()
    }
}

async fn open() -> (Telegram, Client) {
    let telegram = Telegram::start(UnixMs(1_800_000_000_000)).await;
    telegram.person(ANNA, "Anna");
    let client = Client::new(&telegram);
    (telegram, client)
}

#[tokio::test]
async fn parameters_are_held_to_what_is_documented() {
    let (telegram, client) = open().await;
    let keyboard = |data: String| json!({ "inline_keyboard": [[{ "text": "ok", "callback_data": data }]] });
    let (long, none) = (keyboard("x".repeat(65)), keyboard(String::new()));
    for (method, body, words) in [
        ("sendMessage", json!({ "text": "hi" }), "chat_id"),
        ("sendMessage", json!({ "chat_id": "11", "text": "hi" }), "must be an integer"),
        ("sendMessage", json!({ "chat_id": 99, "text": "hi" }), "chat not found"),
        ("sendMessage", json!({ "chat_id": ANNA }), "message text is empty"),
        ("sendMessage", json!({ "chat_id": ANNA, "text": "x".repeat(4_097) }), "message is too long"),
        ("sendMessage", json!({ "chat_id": ANNA, "text": "a < b", "parse_mode": "HTML" }), "can't parse entities"),
        ("sendMessage", json!({ "chat_id": ANNA, "text": "x", "reply_markup": long }), "BUTTON_DATA_INVALID"),
        ("sendMessage", json!({ "chat_id": ANNA, "text": "x", "reply_markup": none }), "BUTTON_DATA_INVALID"),
        ("answerCallbackQuery", json!({ "callback_query_id": "1" }), "query is too old"),
        ("answerCallbackQuery", json!({ "callback_query_id": "1", "text": "x".repeat(201) }), "MESSAGE_TOO_LONG"),
        ("editMessageText", json!({ "chat_id": ANNA, "message_id": 7, "text": "x" }), "message to edit not found"),
        ("setMyCommands", json!({ "commands": [{ "command": "Status", "description": "x" }] }), "COMMAND_INVALID"),
        ("setWebhook", json!({ "url": "http://example.org/x" }), "HTTPS"),
        ("setWebhook", json!({ "url": "https://example.org/x", "secret_token": "a b" }), "unallowed"),
    ] {
        client.refused(method, body, 400, words).await;
    }
    // After entities, 4,096 characters are a message.
    let longest = format!("<b>{}</b>", "&lt;".repeat(4_096));
    client.good("sendMessage", json!({ "chat_id": ANNA, "text": longest, "parse_mode": "HTML" })).await;
    assert_eq!(telegram.messages(ANNA)[0].text, "<".repeat(4_096));
    client.refused("getMagic", json!({}), 404, "Not Found").await;
    assert_eq!(telegram.violations(), vec!["the method getMagic is not known to this double"]);
}

#[tokio::test]
async fn a_wrong_token_is_unauthorized() {
    let (telegram, client) = open().await;
    let stranger = Client { http: client.http.clone(), base: format!("{}/bot123:wrong", telegram.url()) };
    stranger.refused("getMe", json!({}), 401, "Unauthorized").await;
    assert_eq!(client.good("getMe", json!({})).await["is_bot"], true);
}

#[tokio::test]
async fn updates_are_confirmed_by_a_higher_offset_and_by_nothing_else() {
    let (telegram, client) = open().await;
    let first = telegram.say(ANNA, "/status");
    let second = telegram.say(ANNA, "hello");
    assert_eq!(client.updates(None).await, vec![first, second]);
    assert_eq!(client.updates(Some(first)).await, vec![first, second]);
    assert_eq!(client.updates(Some(second)).await, vec![second]);
    telegram.jump_update_ids(1_000);
    let third = telegram.say(ANNA, "again");
    assert_eq!(third, second + 1_001);
    assert_eq!(client.updates(Some(-1)).await, vec![third]);
    assert_eq!(client.updates(Some(third + 1)).await, Vec::<i64>::new());
    assert_eq!(telegram.unconfirmed(), 0);
}

#[tokio::test]
async fn a_poll_waits_for_an_update_and_a_second_poller_ends_it() {
    let (telegram, client) = open().await;
    let polls = async |count: usize| {
        testkit::wait_until(BOUND, "a poll", || async { telegram.calls("getUpdates") == count }).await;
    };
    let started = Instant::now();
    let (found, id) = tokio::join!(client.call("getUpdates", json!({ "timeout": 30 })), async {
        polls(1).await;
        telegram.say(ANNA, "hi")
    });
    assert_eq!(found.1["result"][0]["update_id"], id);
    assert!(started.elapsed() < BOUND);

    client.updates(Some(id + 1)).await;
    let first = client.call("getUpdates", json!({ "timeout": 30, "offset": id + 1 }));
    let (found, _) = tokio::join!(first, async {
        polls(3).await;
        client.updates(Some(id + 1)).await
    });
    assert_eq!(found.0, 409);
    assert!(found.1["description"].as_str().unwrap().contains("terminated by other getUpdates"));
}

#[tokio::test]
async fn messages_are_counted_and_too_many_are_refused() {
    let (telegram, client) = open().await;
    // Three at once are a short burst; on a slow machine a second goes by in between and lets one more pass.
    let mut passed = 0;
    let refused = loop {
        let (status, answer) = client.call("sendMessage", json!({ "chat_id": ANNA, "text": "again" })).await;
        if status != 200 {
            break (status, answer["parameters"]["retry_after"].clone());
        }
        passed += 1;
        assert!(passed < 30, "nothing was refused");
    };
    assert!(passed >= 3, "{passed} passed");
    assert_eq!(refused, (429, json!(1)));
    let mut last = 200;
    for person in 100..140 {
        telegram.person(person, "x");
        last = client.call("sendMessage", json!({ "chat_id": person, "text": "x" })).await.0;
    }
    // A machine so slow that forty calls take more than a second saw no refusal, and none is written down.
    let told = telegram.violations().iter().any(|text| text.contains("30 messages a second"));
    assert!(told || last == 200, "{last} {:?}", telegram.violations());
}

#[tokio::test]
async fn an_edit_must_change_something_and_a_press_is_answered_once() {
    let (telegram, client) = open().await;
    let markup = json!({ "inline_keyboard": [[{ "text": "Approve", "callback_data": "a" }]] });
    let body = json!({ "chat_id": ANNA, "text": "one", "reply_markup": markup });
    let id = client.good("sendMessage", body.clone()).await["message_id"].clone();
    let mut edit = body.clone();
    edit["message_id"] = id.clone();
    client.refused("editMessageText", edit.clone(), 400, "message is not modified").await;
    edit["text"] = json!("two");
    client.good("editMessageText", edit).await;
    let gone = json!({ "chat_id": ANNA, "message_id": id });
    let sent = telegram.messages(ANNA).remove(0);
    assert_eq!((sent.text.as_str(), sent.history.as_slice()), ("two", &["one".to_owned()][..]));
    let press = telegram.press(ANNA, &sent, "Approve");
    let again = telegram.press_again(&press);
    assert_eq!(client.updates(None).await, vec![press.update_id, again]);
    client.good("editMessageReplyMarkup", gone.clone()).await;
    client.refused("editMessageReplyMarkup", gone, 400, "message is not modified").await;
    client.good("answerCallbackQuery", json!({ "callback_query_id": press.callback_id, "text": "done" })).await;
    let late = json!({ "callback_query_id": press.callback_id });
    client.refused("answerCallbackQuery", late, 400, "query is too old").await;
    assert_eq!(telegram.wait_for_answer(&press, BOUND).await.text, "done");
}

#[tokio::test]
async fn a_picture_comes_as_a_form() {
    let (telegram, client) = open().await;
    let send = async |bytes: Vec<u8>| {
        let photo = Part::bytes(bytes).file_name("equity.png").mime_str("image/png").unwrap();
        let form =
            Form::new().text("chat_id", ANNA.to_string()).text("caption", "<b>up</b>").text("parse_mode", "HTML");
        let url = format!("{}/sendPhoto", client.base);
        let sent = client.http.post(url).multipart(form.part("photo", photo)).send().await.unwrap();
        (sent.status().as_u16(), sent.json::<Value>().await.unwrap())
    };
    assert_eq!(send(b"no picture".to_vec()).await.0, 400);
    let mut png = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".to_vec();
    png.extend([0, 0, 3, 32, 0, 0, 1, 194]);
    let (status, answer) = send(png).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(telegram.messages(ANNA)[0].text, "up");
}

#[tokio::test]
async fn faults_come_as_ordered() {
    let (telegram, client) = open().await;
    telegram.fault("getMe", Fault::ServerError, 1);
    telegram.fault("getMe", Fault::Conflict, 1);
    telegram.fault("getMe", Fault::TooMany(5), 1);
    for status in [500, 409, 429, 429] {
        assert_eq!(client.call("getMe", json!({})).await.0, status);
    }
    assert_eq!(telegram.violations(), vec!["getMe was called before its retry_after was over"]);

    telegram.fault("sendMessage", Fault::LostAnswer, 1);
    let url = format!("{}/sendMessage", client.base);
    let lost = client.http.post(url).json(&json!({ "chat_id": ANNA, "text": "x" })).send().await.unwrap();
    assert_eq!(lost.status().as_u16(), 502);
    assert_eq!(telegram.messages(ANNA).len(), 1);

    telegram.fault("getUpdates", Fault::Hang, 1);
    let url = format!("{}/getUpdates", client.base);
    let hung = client.http.post(&url).timeout(Duration::from_millis(100)).send().await;
    assert!(hung.unwrap_err().is_timeout());
    telegram.fault("getUpdates", Fault::Cut, 1);
    let is_cut = match client.http.post(&url).send().await {
        Ok(answer) => answer.text().await.is_err(),
        Err(_) => true,
    };
    assert!(is_cut);
}

#[tokio::test]
async fn a_webhook_gets_each_update_until_it_says_yes() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let (telegram, client) = open().await;
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    client.good("setWebhook", json!({ "url": url, "secret_token": "s3cret" })).await;
    client.refused("getUpdates", json!({}), 409, "webhook is active").await;
    let id = telegram.say(ANNA, "hi");
    for status in ["500 Internal Server Error", "200 OK"] {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = vec![0; 64 << 10];
        let length = stream.read(&mut request).await.unwrap();
        let request = String::from_utf8_lossy(&request[..length]).into_owned();
        assert!(request.contains("X-Telegram-Bot-Api-Secret-Token: s3cret"), "{request}");
        stream.write_all(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n").as_bytes()).await.unwrap();
    }
    testkit::wait_until(BOUND, "the delivery", || async { telegram.unconfirmed() == 0 }).await;
    client.good("deleteWebhook", json!({})).await;
    assert_eq!(client.updates(Some(id)).await, Vec::<i64>::new());
}
