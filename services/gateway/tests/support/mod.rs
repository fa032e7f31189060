//! A page on a port of its own, a real NATS, and a script that answers in the supervisor's place.
#![allow(dead_code, reason = "each test binary uses its own part of this module")]

pub mod samples;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use domain::time::UnixMs;
use futures::StreamExt;
use gateway::guard::Names;
use gateway::site::{Site, serve};
use reqwest::header::{COOKIE, HeaderMap, LOCATION, ORIGIN, SET_COOKIE};
use reqwest::{Client, Method, StatusCode};
use runtime::CancellationToken;
use serde_json::{Value, json};
use testkit::VirtualClock;
use testkit::servers::{TestNats, fresh_nats};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// Bound of every wait.
pub const SOON: Duration = Duration::from_secs(10);
/// The code that the script takes.
pub const CODE: &str = "123456";

/// What is answered to which subject; a subject that is not there is not answered.
#[derive(Debug, Default)]
pub struct Script {
    answers: Mutex<BTreeMap<String, Value>>,
    asked: Mutex<Vec<(String, Value)>>,
}

impl Script {
    /// From now on this is the answer.
    pub fn answer(&self, subject: &str, value: Value) {
        self.answers.lock().unwrap().insert(subject.to_owned(), value);
    }

    /// From now on there is none.
    pub fn silence(&self, subject: &str) {
        self.answers.lock().unwrap().remove(subject);
    }

    /// What was asked of one subject so far.
    pub fn asked(&self, subject: &str) -> Vec<Value> {
        let asked = self.asked.lock().unwrap();
        asked.iter().filter(|(s, _)| s == subject).map(|(_, body)| body.clone()).collect()
    }

    /// Every subject that was asked.
    pub fn subjects(&self) -> std::collections::BTreeSet<String> {
        self.asked.lock().unwrap().iter().map(|(subject, _)| subject.clone()).collect()
    }

    fn hear(&self, subject: &str, body: Value) -> Option<Value> {
        let one = body["approval_id"].as_str().map(str::to_owned);
        self.asked.lock().unwrap().push((subject.to_owned(), body));
        let answer = self.answers.lock().unwrap().get(subject).cloned()?;
        let Some(id) = one.filter(|_| subject == "swarm.approvals" && answer["ok"] == true) else {
            return Some(answer);
        };
        let found = answer["approvals"].as_array().into_iter().flatten().find(|row| row["approval_id"] == id.as_str());
        Some(match found {
            Some(row) => json!({ "ok": true, "approvals": [row] }),
            None => json!({ "ok": false, "code": "UNKNOWN_REQUEST", "detail": "no approval request of that id" }),
        })
    }
}

/// Everything a test of the page needs.
pub struct World {
    pub script: Arc<Script>,
    pub clock: VirtualClock,
    pub port: u16,
    pub shutdown: CancellationToken,
    pub serving: JoinHandle<std::io::Result<()>>,
    client: Client,
    responding: JoinHandle<()>,
    nats: TestNats,
}

/// An answer of the page.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: String,
}

impl Answer {
    pub fn location(&self) -> &str {
        self.headers.get(LOCATION).map_or("", |value| value.to_str().unwrap())
    }
}

/// Somebody who is logged in.
#[derive(Debug, Clone)]
pub struct Visitor {
    pub cookie: String,
    pub csrf: String,
}

impl World {
    pub async fn open() -> Self {
        Self::open_with(None).await
    }

    /// Known to people as `origin` too.
    pub async fn open_with(origin: Option<&str>) -> Self {
        // Another test of this process may have been first.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let nats = fresh_nats();
        let script = Arc::new(Script::default());
        samples::fill(&script);
        let responder = async_nats::connect(nats.url()).await.unwrap();
        let mut requests = responder.subscribe("swarm.>").await.unwrap();
        responder.flush().await.unwrap();
        let answers = Arc::clone(&script);
        let responding = tokio::spawn(async move {
            while let Some(request) = requests.next().await {
                let body = serde_json::from_slice(&request.payload).unwrap();
                if let (Some(answer), Some(reply)) = (answers.hear(&request.subject, body), request.reply) {
                    responder.publish(reply, answer.to_string().into()).await.unwrap();
                }
            }
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let clock = VirtualClock::at(UnixMs(samples::NOW_MS));
        let shutdown = CancellationToken::new();
        let client = async_nats::connect(nats.url()).await.unwrap();
        let site = Site::new(client, Arc::new(clock.clone()), Names::new(port, origin), shutdown.clone());
        let serving = tokio::spawn(serve(listener, Arc::new(site)));
        let client = Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
        Self { script, clock, port, shutdown, serving, client, responding, nats }
    }

    /// From now on nobody answers: the supervisor is dead.
    pub async fn lose_the_supervisor(&mut self) {
        self.responding.abort();
        let _ = (&mut self.responding).await;
    }

    pub fn own_origin(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Sends exactly this.
    pub async fn send(&self, method: Method, path: &str, headers: &[(&str, &str)], body: String) -> Answer {
        let mut request = self.client.request(method, format!("{}{path}", self.own_origin())).body(body);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        Answer { status, headers, body: response.text().await.unwrap() }
    }

    pub async fn get(&self, path: &str, visitor: Option<&Visitor>) -> Answer {
        let cookie = visitor.map(|visitor| visitor.cookie.clone()).unwrap_or_default();
        self.send(Method::GET, path, &[(COOKIE.as_str(), &cookie)], String::new()).await
    }

    /// A form as a browser sends it from this page.
    pub async fn post(&self, path: &str, visitor: Option<&Visitor>, fields: &[(&str, &str)]) -> Answer {
        let origin = self.own_origin();
        self.post_with(path, visitor, fields, &[(ORIGIN.as_str(), &origin), ("sec-fetch-site", "same-origin")]).await
    }

    /// The same with other headers.
    pub async fn post_with(
        &self,
        path: &str,
        visitor: Option<&Visitor>,
        fields: &[(&str, &str)],
        headers: &[(&str, &str)],
    ) -> Answer {
        let cookie = visitor.map(|visitor| visitor.cookie.clone()).unwrap_or_default();
        let mut all = vec![(COOKIE.as_str(), cookie.as_str()), ("content-type", "application/x-www-form-urlencoded")];
        all.extend_from_slice(headers);
        self.send(Method::POST, path, &all, encoded(fields)).await
    }

    /// Logs anna in.
    pub async fn login(&self) -> Visitor {
        let answer = self.post("/login", None, &[("person", "anna"), ("totp", CODE)]).await;
        assert_eq!((answer.status, answer.location()), (StatusCode::SEE_OTHER, "/"), "{}", answer.body);
        let cookie = answer.headers[SET_COOKIE].to_str().unwrap().split(';').next().unwrap().to_owned();
        let visitor = Visitor { cookie, csrf: String::new() };
        let page = self.get("/", Some(&visitor)).await;
        assert_eq!(page.status, StatusCode::OK, "{}", page.body);
        Visitor { csrf: between(&page.body, "name=\"csrf\" value=\"", "\"").to_owned(), ..visitor }
    }

    /// The stream of an open page.
    pub async fn events(&self, query: &str, visitor: &Visitor) -> Events {
        self.try_events(query, visitor).await.expect("a stream")
    }

    /// The stream of an open page, or the status it is refused with.
    pub async fn try_events(&self, query: &str, visitor: &Visitor) -> Result<Events, StatusCode> {
        let request = self.client.get(format!("{}/events?{query}", self.own_origin()));
        let response = request.header(COOKIE, &visitor.cookie).send().await.unwrap();
        if response.status() != StatusCode::OK {
            return Err(response.status());
        }
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Ok(Events { response, buffer: String::new() })
    }
}

/// Server-sent events as they come.
pub struct Events {
    response: reqwest::Response,
    buffer: String,
}

impl Events {
    /// The next event's name and data; `None` at the end.
    pub async fn next(&mut self) -> Option<(String, String)> {
        let next = async {
            loop {
                if let Some((event, rest)) = self.buffer.split_once("\n\n") {
                    let field = |name: &str| {
                        event.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim().to_owned()
                    };
                    let (name, data) = (field("event:"), field("data:"));
                    self.buffer = rest.to_owned();
                    if !name.is_empty() {
                        return Some((name, data));
                    }
                    continue;
                }
                let chunk = self.response.chunk().await.unwrap()?;
                self.buffer.push_str(std::str::from_utf8(&chunk).unwrap());
            }
        };
        tokio::time::timeout(SOON, next).await.expect("an event in time")
    }

    /// The next change of one part that `wanted` likes.
    pub async fn part(&mut self, id: &str, wanted: impl Fn(&str) -> bool) -> String {
        loop {
            let (name, data) = self.next().await.expect("the stream goes on");
            assert_eq!(name, "part");
            let part: Value = serde_json::from_str(&data).unwrap();
            let html = part["html"].as_str().unwrap();
            if part["id"] == id && wanted(html) {
                return html.to_owned();
            }
        }
    }
}

/// What lies between two marks; fails without them.
pub fn between<'a>(text: &'a str, from: &str, to: &str) -> &'a str {
    let (_, rest) = text.split_once(from).unwrap_or_else(|| panic!("no {from} in {text}"));
    rest.split_once(to).unwrap_or_else(|| panic!("no {to} after {from}")).0
}

fn encoded(fields: &[(&str, &str)]) -> String {
    let mut out = String::new();
    for (name, value) in fields {
        let _ = write!(out, "{}{name}=", if out.is_empty() { "" } else { "&" });
        for byte in value.bytes() {
            let _ = if byte.is_ascii_alphanumeric() {
                write!(out, "{}", char::from(byte))
            } else {
                write!(out, "%{byte:02X}")
            };
        }
    }
    out
}
