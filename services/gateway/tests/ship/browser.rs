//! A Chromium of the test's own, driven over its DevTools protocol.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine;
use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use testkit::wait::{wait_for, wait_until};
use tokio::sync::{mpsc, oneshot};
use tokio_tungstenite::tungstenite::Message;

/// Bound of every wait: the machine may be busy.
const SOON: Duration = Duration::from_secs(30);

/// What a page is shown on.
#[derive(Debug, Clone, Copy)]
pub struct Screen {
    pub width: u32,
    pub height: u32,
    pub is_phone: bool,
}

pub const DESK: Screen = Screen { width: 1_280, height: 900, is_phone: false };
pub const PHONE: Screen = Screen { width: 390, height: 844, is_phone: true };

/// A browser with a profile of its own; it dies with the test.
pub struct Browser {
    child: Child,
    talk: Arc<Talk>,
    _profile: tempfile::TempDir,
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The connection: commands with numbers, answers by number, events.
struct Talk {
    out: mpsc::UnboundedSender<Message>,
    waiting: Mutex<std::collections::BTreeMap<u64, oneshot::Sender<Value>>>,
    events: Mutex<Vec<Value>>,
    next: AtomicU64,
}

fn program() -> String {
    std::env::var("SHIP_CHROMIUM").unwrap_or_else(|_| "chromium".to_owned())
}

impl Browser {
    pub async fn start() -> Self {
        let profile = tempfile::tempdir().unwrap();
        let mut command = Command::new(program());
        command
            .args(["--headless=new", "--remote-debugging-port=0", "--no-first-run", "--disable-gpu"])
            .args(["--disable-dev-shm-usage", "--hide-scrollbars", "--disable-background-networking"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg("about:blank");
        // Its sandbox refuses to run as root, which is who builds in a container; only pages of this test are opened.
        if std::os::unix::fs::MetadataExt::uid(&std::fs::metadata("/proc/self").unwrap()) == 0 {
            command.arg("--no-sandbox");
        }
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let child = child.unwrap_or_else(|error| panic!("{}: {error}; `make test-ship` sees to it", program()));
        let file = profile.path().join("DevToolsActivePort");
        let address = wait_for(SOON, "Chromium listens", || async {
            let text = std::fs::read_to_string(&file).ok()?;
            let (port, path) = text.split_once('\n')?;
            (!path.is_empty()).then(|| format!("ws://127.0.0.1:{port}{}", path.trim()))
        })
        .await;
        let (socket, _) = tokio_tungstenite::connect_async(address).await.unwrap();
        Self { child, talk: Talk::over(socket), _profile: profile }
    }

    pub async fn tab(&self) -> Tab {
        let made = self.talk.call(None, "Target.createTarget", json!({ "url": "about:blank" })).await;
        let attach = json!({ "targetId": made["targetId"], "flatten": true });
        let session =
            self.talk.call(None, "Target.attachToTarget", attach).await["sessionId"].as_str().unwrap().to_owned();
        let tab = Tab { talk: Arc::clone(&self.talk), session };
        for domain in ["Page", "Runtime", "Log", "Network", "Audits"] {
            tab.call(&format!("{domain}.enable"), json!({})).await;
        }
        tab
    }
}

impl Talk {
    fn over<S>(socket: tokio_tungstenite::WebSocketStream<S>) -> Arc<Self>
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    {
        let (out, mut outgoing) = mpsc::unbounded_channel();
        let talk = Arc::new(Self { out, waiting: Mutex::default(), events: Mutex::default(), next: AtomicU64::new(1) });
        let (mut write, mut read) = socket.split();
        tokio::spawn(async move {
            while let Some(message) = outgoing.recv().await {
                if write.send(message).await.is_err() {
                    return;
                }
            }
        });
        let heard = Arc::clone(&talk);
        tokio::spawn(async move {
            while let Some(Ok(message)) = read.next().await {
                let Ok(value) = serde_json::from_slice::<Value>(&message.into_data()) else { continue };
                match value["id"].as_u64() {
                    Some(id) => {
                        let waiting = heard.waiting.lock().unwrap().remove(&id);
                        waiting.map(|waiting| waiting.send(value));
                    }
                    None => heard.events.lock().unwrap().push(value),
                }
            }
        });
        talk
    }

    async fn call(&self, session: Option<&str>, method: &str, params: Value) -> Value {
        let answer = self.send(session, method, params).await;
        assert!(answer["error"].is_null(), "{method}: {}", answer["error"]);
        answer["result"].clone()
    }

    async fn send(&self, session: Option<&str>, method: &str, params: Value) -> Value {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (answer, waiting) = oneshot::channel();
        self.waiting.lock().unwrap().insert(id, answer);
        let mut command = json!({ "id": id, "method": method, "params": params });
        if let Some(session) = session {
            command["sessionId"] = session.into();
        }
        self.out.send(Message::text(command.to_string())).unwrap();
        let answer = tokio::time::timeout(SOON, waiting).await;
        answer.unwrap_or_else(|_| panic!("{method} is not answered")).unwrap()
    }
}

/// One tab.
pub struct Tab {
    talk: Arc<Talk>,
    session: String,
}

impl Tab {
    async fn call(&self, method: &str, params: Value) -> Value {
        self.talk.call(Some(&self.session), method, params).await
    }

    pub async fn show(&self, screen: Screen, is_dark: bool) {
        let Screen { width, height, is_phone } = screen;
        let factor = if is_phone { 2 } else { 1 };
        let metrics = json!({ "width": width, "height": height, "deviceScaleFactor": factor, "mobile": is_phone });
        self.call("Emulation.setDeviceMetricsOverride", metrics).await;
        let scheme = if is_dark { "dark" } else { "light" };
        let features = json!([
            { "name": "prefers-color-scheme", "value": scheme },
            { "name": "prefers-reduced-motion", "value": "reduce" },
        ]);
        self.call("Emulation.setEmulatedMedia", json!({ "features": features })).await;
    }

    pub async fn without_scripts(&self) {
        self.call("Emulation.setScriptExecutionDisabled", json!({ "value": true })).await;
    }

    pub async fn forget_cookies(&self) {
        self.call("Network.clearBrowserCookies", json!({})).await;
    }

    /// Marks the page that is shown, so that the next one can be told from it.
    pub async fn mark(&self) {
        self.ask("window.isOld = true").await;
    }

    /// Waits until another page than the marked one is there.
    pub async fn wait_for_next(&self) {
        self.until("window.isOld === undefined && document.readyState === 'complete'").await;
    }

    /// Goes to a page without waiting for it.
    pub async fn go(&self, address: &str) {
        self.call("Page.navigate", json!({ "url": address })).await;
    }

    pub async fn visit(&self, address: &str) {
        self.mark().await;
        self.go(address).await;
        self.wait_for_next().await;
    }

    /// What an expression is worth on the page.
    pub async fn ask(&self, expression: &str) -> Value {
        let asked = json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let answer = self.call("Runtime.evaluate", asked).await;
        assert!(answer["exceptionDetails"].is_null(), "{expression}: {}", answer["exceptionDetails"]);
        answer["result"]["value"].clone()
    }

    /// Waits until an expression is true; a page that is just being left answers nothing.
    pub async fn until(&self, expression: &str) {
        let holds = wait_until(SOON, expression, || async { self.evaluate(expression).await == true });
        // The wait's own bound is as long: this one only tells what was seen instead.
        if tokio::time::timeout(SOON - Duration::from_secs(1), holds).await.is_err() {
            let seen = self.evaluate("location.href + ': ' + document.body.innerText").await;
            panic!("not within {SOON:?}: {expression}, but {seen}");
        }
    }

    async fn evaluate(&self, expression: &str) -> Value {
        let asked = json!({ "expression": expression, "returnByValue": true });
        // An error means that the page is just going.
        self.talk.send(Some(&self.session), "Runtime.evaluate", asked).await["result"]["result"]["value"].clone()
    }

    pub async fn type_text(&self, text: &str) {
        self.call("Input.insertText", json!({ "text": text })).await;
    }

    pub async fn press(&self, key: &str) {
        let (code, text) = match key {
            "Tab" => (9, ""),
            "Enter" => (13, "\r"),
            other => panic!("no key {other}"),
        };
        let down = json!({ "type": "keyDown", "key": key, "code": key, "windowsVirtualKeyCode": code, "text": text });
        self.call("Input.dispatchKeyEvent", down).await;
        self.call(
            "Input.dispatchKeyEvent",
            json!({ "type": "keyUp", "key": key, "code": key, "windowsVirtualKeyCode": code }),
        )
        .await;
    }

    /// Clicks the middle of an element, wherever it is; works on a page without scripts too.
    pub async fn click(&self, selector: &str) {
        let document = self.call("DOM.getDocument", json!({ "depth": 0 })).await;
        let found = json!({ "nodeId": document["root"]["nodeId"], "selector": selector });
        let node = self.call("DOM.querySelector", found).await["nodeId"].clone();
        assert_ne!(node, 0, "no {selector}");
        self.call("DOM.scrollIntoViewIfNeeded", json!({ "nodeId": node })).await;
        let quads = self.call("DOM.getContentQuads", json!({ "nodeId": node })).await;
        let quad: Vec<f64> = quads["quads"][0].as_array().unwrap().iter().map(|n| n.as_f64().unwrap()).collect();
        let (x, y) = ((quad[0] + quad[4]) / 2.0, (quad[1] + quad[5]) / 2.0);
        for kind in ["mousePressed", "mouseReleased"] {
            let event = json!({ "type": kind, "x": x, "y": y, "button": "left", "clickCount": 1 });
            self.call("Input.dispatchMouseEvent", event).await;
        }
    }

    /// A picture of the whole page.
    pub async fn picture(&self, path: &Path) {
        let size = self.call("Page.getLayoutMetrics", json!({})).await["cssContentSize"].clone();
        let clip = json!({ "x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1 });
        let taken = self.call("Page.captureScreenshot", json!({ "captureBeyondViewport": true, "clip": clip })).await;
        let bytes = base64::engine::general_purpose::STANDARD.decode(taken["data"].as_str().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    /// Errors and violations that the browser told of.
    pub fn complaints(&self) -> Vec<String> {
        let events = self.talk.events.lock().unwrap();
        let own = events.iter().filter(|event| event["sessionId"] == self.session.as_str());
        own.filter_map(|event| match event["method"].as_str() {
            Some("Runtime.exceptionThrown") => Some(event["params"]["exceptionDetails"].to_string()),
            Some("Log.entryAdded") if event["params"]["entry"]["level"] == "error" => {
                Some(event["params"]["entry"]["text"].to_string())
            }
            Some("Audits.issueAdded") => Some(event["params"]["issue"].to_string()),
            _ => None,
        })
        .collect()
    }
}
