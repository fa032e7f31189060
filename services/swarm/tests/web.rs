//! A person at the web page of a whole swarm: real servers, real agents, a real authenticator's codes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::time::Duration;

use common::{Up, send};
use nix::sys::signal::Signal;
use testkit::servers::fresh_folder;
use testkit::wait::wait_until_blocking;

/// A person at the web page, with the authenticator that `swarm web enroll` set up.
struct Browser {
    client: reqwest::Client,
    page: String,
    secret: Vec<u8>,
    cookie: String,
    csrf: String,
}

/// What lies between two marks; empty without them.
fn between<'a>(text: &'a str, from: &str, to: &str) -> &'a str {
    text.split_once(from).and_then(|(_, rest)| rest.split_once(to)).map_or("", |(found, _)| found)
}

/// The bytes of a secret as authenticators read it (RFC 4648, base 32).
fn base32(text: &str) -> Vec<u8> {
    let value = |c: u8| u64::from(if c.is_ascii_digit() { c - b'2' + 26 } else { c - b'A' });
    let bytes = |group: &[u8]| group.iter().fold(0, |bits, c| bits << 5 | value(*c)).to_be_bytes()[3..].to_vec();
    text.as_bytes().chunks_exact(8).flat_map(bytes).collect()
}

impl Browser {
    async fn login(up: &Up) -> Self {
        // Another test of this process may have been first.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let uri = up.ask(&["web", "enroll"])["uri"].as_str().unwrap().to_owned();
        let secret = base32(uri.split_once("secret=").unwrap().1.split('&').next().unwrap());
        let page = up.ready["web"].as_str().unwrap().trim_end_matches('/').to_owned();
        let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
        let mut browser = Self { client, page, secret, cookie: String::new(), csrf: String::new() };
        let code = browser.code(0);
        let answer = browser.post("/login", &format!("person=operator&totp={code}")).await;
        assert_eq!(answer.status(), 303, "{}", answer.text().await.unwrap());
        let cookie = answer.headers()["set-cookie"].to_str().unwrap();
        browser.cookie = cookie.split(';').next().unwrap().to_owned();
        browser.csrf = between(&browser.get("/").await, "name=\"csrf\" value=\"", "\"").to_owned();
        browser
    }

    fn code(&self, later: i64) -> String {
        let step = rails::totp::step_of(domain::time::Clock::now(&runtime::clock::SystemClock));
        rails::totp::code(&self.secret, step + later).unwrap()
    }

    async fn try_get(&self, path: &str) -> reqwest::Result<reqwest::Response> {
        self.client.get(format!("{}{path}", self.page)).header("cookie", &self.cookie).send().await
    }

    async fn get(&self, path: &str) -> String {
        self.try_get(path).await.unwrap().text().await.unwrap()
    }

    async fn post(&self, path: &str, form: &str) -> reqwest::Response {
        let request = self.client.post(format!("{}{path}", self.page)).header("cookie", &self.cookie);
        let request = request.header("origin", &self.page).header("content-type", "application/x-www-form-urlencoded");
        request.body(form.to_owned()).send().await.unwrap()
    }
}

#[test]
fn an_order_above_the_limit_is_approved_at_the_web_page_and_the_button_stops_trading() {
    let data = fresh_folder("web");
    let mut up = Up::start_without_telegram_answering(&data);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let browser = runtime.block_on(Browser::login(&up));
    assert_eq!(up.ask(&["signal", "BUY", "ETHUSDT", "--notional-usd", "1500"])["ok"], true);
    let mut id = String::new();
    wait_until_blocking(Duration::from_secs(20), "the request on the page", || {
        id = between(&runtime.block_on(browser.get("/")), "data-request=\"", "\"").to_owned();
        !id.is_empty()
    });
    let shown = runtime.block_on(browser.get(&format!("/approvals/{id}")));
    assert!(shown.contains("Digest words") && shown.contains("ETHUSDT"), "{shown}");
    let digest = between(&shown, "name=\"digest\" value=\"", "\"");
    let form = |code: &str| format!("csrf={}&decision=approve&digest={digest}&totp={code}", browser.csrf);
    let path = format!("/approvals/{id}/decide");
    let refused = runtime.block_on(browser.post(&path, &form("000000")));
    assert_eq!(refused.status(), 409);
    let pressed_at = tokio::time::Instant::now();
    let taken = runtime.block_on(browser.post(&path, &form(&browser.code(1))));
    assert_eq!(taken.status(), 303, "{}", runtime.block_on(taken.text()).unwrap());
    wait_until_blocking(Duration::from_secs(20), "a fill on the page", || {
        runtime.block_on(browser.get("/trades")).contains("ETHUSDT")
    });
    println!("figure: filled and on the page {} ms after the button", pressed_at.elapsed().as_millis());
    let stopped = runtime.block_on(browser.post("/stop", &format!("csrf={}&level=1&reason=enough", browser.csrf)));
    assert_eq!(stopped.status(), 303);
    let kill = up.ask(&["status"])["kill"].clone();
    assert_eq!((&kill["level"], &kill["by"], &kill["reason"]), (&1.into(), &"operator".into(), &"enough".into()));
    // A page that died is at the same address again, and nobody is logged in there.
    send(up.processes()["gateway"], Signal::SIGKILL);
    wait_until_blocking(Duration::from_secs(20), "the page again", || {
        runtime.block_on(async {
            browser
                .try_get("/")
                .await
                .is_ok_and(|answer| answer.headers().get("location").is_some_and(|to| to == "/login"))
        })
    });
    assert_eq!(up.ask(&["audit", "verify"])["verdict"], "valid");
    send(up.child.id(), Signal::SIGINT);
    assert_eq!(up.wait_for_end("the end after Ctrl-C"), 0);
}
