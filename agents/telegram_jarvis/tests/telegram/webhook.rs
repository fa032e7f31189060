//! Deliveries instead of polls.

use testkit::wait_until;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::stage::{BOUND, OPERATOR, Stage};

const SECRET: &str = "a-secret-of-the-webhook";

/// Posts to the webhook as anybody could; gives the status.
async fn post(address: &str, secret: Option<&str>, body: &str) -> u16 {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let secret = secret.map_or(String::new(), |secret| format!("X-Telegram-Bot-Api-Secret-Token: {secret}\r\n"));
    let length = body.len();
    let head =
        format!("POST /hook HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n{secret}Connection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(body.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer.split(' ').nth(1).unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn updates_are_delivered_with_the_secret_and_taken_with_nothing_else() {
    let mut stage = Stage::set().await;
    let address = {
        let free = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        free.local_addr().unwrap().to_string()
    };
    for (name, value) in [
        ("TELEGRAM_WEBHOOK_URL", format!("http://{address}/hook")),
        ("TELEGRAM_WEBHOOK_SECRET", SECRET.to_owned()),
        ("TELEGRAM_WEBHOOK_LISTEN", address.clone()),
    ] {
        stage.settings.insert(name.to_owned(), value);
    }
    stage.link("operator", OPERATOR).await;
    stage.start();
    wait_until(BOUND, "the webhook", || async { stage.telegram.webhook().is_some() }).await;
    let id = stage.ask(61, 1).await;
    let prompt = stage.recorded(OPERATOR, id).await;
    let press = stage.telegram.press(OPERATOR, &prompt, "✅");
    assert_eq!(stage.outcome(press.update_id).await, "decided: Approve allowed");
    assert_eq!(stage.script().entries(id).len(), 1);
    assert_eq!(stage.telegram.calls("getUpdates"), 0);

    // Somebody who found the address.
    let forged = r#"{"update_id":7,"message":{}}"#;
    for secret in [None, Some(""), Some("a-secret-of-the-webhooK"), Some("a-secret-of-the-webhook2")] {
        assert_eq!(post(&address, secret, forged).await, 401, "{secret:?}");
    }
    assert_eq!(post(&address, Some(SECRET), "no json").await, 400);
    assert_eq!(post(&address, Some(SECRET), "{}").await, 400);
    let mut unit = stage.admin.begin().await.unwrap();
    assert_eq!(store::telegram::update(&mut unit, 7).await.unwrap(), None);
    // The same delivery twice is one row.
    let known = format!(r#"{{"update_id":{},"message":{{}}}}"#, press.update_id);
    assert_eq!(post(&address, Some(SECRET), &known).await, 200);
    let row = store::telegram::update(&mut unit, press.update_id).await.unwrap().unwrap();
    assert_eq!(row.kind, "callback_query");
}
