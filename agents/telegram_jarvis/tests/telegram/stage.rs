//! The agent between a double of Telegram, a real PostgreSQL, a real NATS, and a scripted supervisor behind the doors.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bus::{Bus, BusConfig};
use domain::canonical::Sha256Digest;
use domain::ids::{ApprovalId, UserId};
use domain::message::{Envelope, Header, Message, Payload};
use domain::telegram_button::{self, Press as Word};
use domain::time::UnixMs;
use futures::StreamExt;
use runtime::{Agent, CancellationToken, ProcessConfig, RunError};
use serde_json::{Value, json};
use store::Db;
use store::approvals::Approver;
use store::migrate::{RoleSpec, ensure_roles, migrate};
use store::telegram::Link;
use telegram_jarvis::TelegramJarvis;
use telegram_jarvis::config::load;
use testkit::bank::person_key;
use testkit::servers::{self, TestDatabase, TestNats};
use testkit::telegram::{Sent, TOKEN, Telegram};
use testkit::{wait_for, wait_until};
use tokio::task::JoinHandle;

/// Bound of every wait for something that takes milliseconds on an idle machine.
pub const BOUND: Duration = Duration::from_secs(30);
/// The operator's account at Telegram.
pub const OPERATOR: i64 = 11;
/// Anna's, who has no account with the house.
pub const ANNA: i64 = 22;
/// Nobody of the house.
pub const STRANGER: i64 = 99;

/// The scripted supervisor.
#[derive(Default)]
pub struct Script {
    pub requests: BTreeMap<ApprovalId, Value>,
    /// Every knock: door and body.
    pub asked: Vec<(String, Value)>,
    /// Doors that give no answer.
    pub silent: Vec<&'static str>,
    /// Doors behind which a part of the swarm is down.
    pub down: Vec<&'static str>,
    /// Answers of the doors that only read.
    pub answers: BTreeMap<&'static str, Value>,
}

impl Script {
    /// The words that count on a request: person and decision.
    pub fn entries(&self, id: ApprovalId) -> Vec<(String, String)> {
        let entries = self.requests[&id]["entries"].as_array().unwrap().iter();
        entries.map(|e| (e["person_id"].as_str().unwrap().into(), e["decision"].as_str().unwrap().into())).collect()
    }

    /// Ends a request as somebody did elsewhere.
    pub fn end(&mut self, id: ApprovalId, status: &str, entry: Option<Value>) {
        let row = self.requests.get_mut(&id).unwrap();
        row["status"] = json!(status);
        row["entries"].as_array_mut().unwrap().extend(entry);
    }
}

pub struct Stage {
    pub telegram: Arc<Telegram>,
    pub script: Arc<Mutex<Script>>,
    pub admin: Db,
    pub bus: Bus,
    pub settings: BTreeMap<String, String>,
    database: TestDatabase,
    nats: TestNats,
    doors: JoinHandle<()>,
    agent: Option<Running>,
}

struct Running {
    stop: CancellationToken,
    task: JoinHandle<Result<(), RunError>>,
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.doors.abort();
        if let Some(agent) = &self.agent {
            agent.task.abort();
        }
    }
}

impl Stage {
    /// Everything but the agent.
    pub async fn set() -> Self {
        let _ = tracing_subscriber::fmt().with_env_filter(tracing_subscriber::EnvFilter::from_default_env()).try_init();
        let nats = tokio::task::spawn_blocking(servers::fresh_nats).await.unwrap();
        let postgres = tokio::task::spawn_blocking(servers::postgres).await.unwrap();
        let database = postgres.empty_database().await;
        migrate(&database.admin_url()).await.unwrap();
        let role = RoleSpec { name: telegram_jarvis::NAME, password: "test", grants: TelegramJarvis::SPEC.tables };
        ensure_roles(&database.admin_url(), &[role]).await.unwrap();
        let admin = Db::connect(&database.admin_url(), "test").await.unwrap();
        let mut unit = admin.begin().await.unwrap();
        for (person, handle) in [("operator", Some("operator")), ("anna", None)] {
            let public_key = hex::encode(person_key(person).verifying_key().as_bytes());
            let (person_id, handle) = (person.to_owned(), handle.map(str::to_owned));
            let approver = Approver { person_id, handle, public_key, active: true };
            store::approvals::upsert_approver(&mut unit, &approver).await.unwrap();
        }
        let now = unit.now().await.unwrap();
        unit.commit().await.unwrap();
        let telegram = Arc::new(Telegram::start(now).await);
        for (id, name) in [(OPERATOR, "Olga"), (ANNA, "Anna"), (STRANGER, "Eve")] {
            telegram.person(id, name);
        }
        let (bus, _events) =
            Bus::connect(BusConfig { url: nats.url(), name: "test".into(), ..BusConfig::default() }).await.unwrap();
        bus::streams::apply(&bus, &[TelegramJarvis::SPEC]).await.unwrap();
        let script = Arc::new(Mutex::new(Script { answers: answers(), ..Script::default() }));
        let doors = tokio::spawn(doors(bus.clone(), Arc::clone(&script), admin.clone()));
        let settings = [
            ("TELEGRAM_TOKEN", TOKEN.to_owned()),
            ("TELEGRAM_API_URL", telegram.url()),
            ("TELEGRAM_BUTTON_KEY", "5a".repeat(32)),
            ("TELEGRAM_POLL_S", "1".to_owned()),
        ];
        let settings = settings.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        Self { telegram, script, admin, bus, settings, database, nats, doors, agent: None }
    }

    /// Everything, the operator's account linked.
    pub async fn open() -> Self {
        let mut stage = Self::set().await;
        stage.link("operator", OPERATOR).await;
        stage.start();
        stage
    }

    /// Waits until the agent polls and may send at once: what one before it sent is paid for in its first seconds.
    pub async fn is_warm(&self) {
        wait_until(BOUND, "three polls", || async { self.telegram.calls("getUpdates") > 3 }).await;
    }

    /// Binds an account to a person, as `swarm telegram link` and `/start` do.
    pub async fn link(&self, person: &str, telegram_id: i64) {
        let hash = self.code(person, &format!("{telegram_id:08}")).await;
        let mut unit = self.admin.begin().await.unwrap();
        let now = unit.now().await.unwrap();
        let used = store::telegram::use_link(&mut unit, hash, telegram_id, telegram_id, now).await.unwrap();
        assert_eq!(used.as_deref(), Some(person));
        unit.commit().await.unwrap();
    }

    /// Makes a one-time code good for a person.
    pub async fn code(&self, person: &str, code: &str) -> Sha256Digest {
        let code_hash = domain::link_code::hash(code).unwrap();
        let mut unit = self.admin.begin().await.unwrap();
        let made_at = unit.now().await.unwrap();
        let link = Link {
            code_hash,
            person_id: person.to_owned(),
            act: json!({}),
            made_at,
            expires_at: made_at.plus_ms(600_000),
            used_by: None,
            used_at: None,
        };
        store::telegram::make_link(&mut unit, &link).await.unwrap();
        unit.commit().await.unwrap();
        code_hash
    }

    /// Starts the agent.
    pub fn start(&mut self) {
        let agent = TelegramJarvis::new(load(&self.settings).unwrap()).unwrap();
        let vars = [("SWARM_NATS_URL", self.nats.url()), ("SWARM_PG_URL", self.database.url_as(telegram_jarvis::NAME))];
        let vars = vars.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let (config, faults) = ProcessConfig::check(&vars, true);
        assert!(faults.0.is_empty(), "{faults}");
        let stop = CancellationToken::new();
        let task = tokio::spawn(runtime::run(agent, config, stop.clone()));
        self.agent = Some(Running { stop, task });
    }

    /// Ends the agent as SIGTERM does.
    pub async fn stop(&mut self) {
        let agent = self.agent.take().unwrap();
        agent.stop.cancel();
        agent.task.await.unwrap().unwrap();
    }

    /// Ends the agent as SIGKILL does: nothing of it goes on.
    pub async fn kill(&mut self) {
        let agent = self.agent.take().unwrap();
        agent.task.abort();
        assert!(agent.task.await.unwrap_err().is_cancelled());
    }

    pub fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap()
    }

    /// How often a door was knocked at.
    pub fn knocks(&self, door: &str) -> usize {
        self.script().asked.iter().filter(|(asked, _)| asked == door).count()
    }

    /// A request that waits, without telling anybody.
    pub async fn request(&self, number: u128, tier: u8) -> ApprovalId {
        let id = ApprovalId(uuid::Uuid::from_u128(number));
        let now = self.admin.now().await.unwrap();
        self.script().requests.insert(id, row(id, tier, now));
        id
    }

    /// A request that waits, and the message that treasury sends about it.
    pub async fn ask(&self, number: u128, tier: u8) -> ApprovalId {
        let id = self.request(number, tier).await;
        self.wake(id).await;
        id
    }

    /// What treasury sends about a request; here only its subject matters.
    pub async fn wake(&self, id: ApprovalId) {
        use domain::subject::{Priority, Route, Subject};
        let response = domain::message::ApprovalResponse {
            approval_id: id,
            decision: domain::message::Decision::Approve,
            approver_id: "operator".into(),
            approved_at: self.admin.now().await.unwrap(),
            reason: String::new(),
        };
        let message = Message {
            subject: Subject::of(Route::ApprovalResolved, Priority::High),
            key: id.to_string(),
            user_id: UserId::of_handle("operator"),
            valid_until: None,
            payload: Payload::ApprovalResponse(response),
        };
        self.publish(message, "treasury").await;
    }

    /// Publishes a message as an agent would.
    pub async fn publish(&self, message: Message, source: &str) -> Envelope {
        let now = self.admin.now().await.unwrap();
        let id = runtime::clock::new_id(&runtime::clock::SystemClock);
        let header = Header {
            message_id: domain::ids::MessageId(id),
            correlation_id: domain::ids::CorrelationId(id),
            source_agent: source.into(),
            made_at: now,
            priority: 5,
            user_id: message.user_id,
            valid_until: None,
            traceparent: None,
        };
        let envelope = message.into_child(&header, source, now);
        self.bus.publish(&envelope).await.unwrap();
        envelope
    }

    /// The prompt of a request in a chat, once it looks right.
    pub async fn prompt(&self, chat: i64, what: &str, matches: impl Fn(&Sent) -> bool) -> Sent {
        self.telegram.wait_for(chat, BOUND, what, matches).await
    }

    /// The prompt of a request in a chat, once it is recorded as one: a message without its row is none.
    pub async fn recorded(&self, chat: i64, id: ApprovalId) -> Sent {
        let message_id = wait_for(BOUND, "a recorded prompt", || async move {
            let mut unit = self.admin.begin().await.unwrap();
            let prompts = store::telegram::prompts(&mut unit, id).await.unwrap();
            prompts.iter().find(|prompt| prompt.chat_id == chat).map(|prompt| prompt.message_id)
        })
        .await;
        self.telegram.messages(chat).into_iter().find(|sent| sent.id == message_id).unwrap()
    }

    /// How an update was dealt with.
    pub async fn outcome(&self, update_id: i64) -> String {
        wait_for(BOUND, "an update that was dealt with", || async move {
            let mut unit = self.admin.begin().await.unwrap();
            store::telegram::update(&mut unit, update_id).await.unwrap().and_then(|update| update.outcome)
        })
        .await
    }
}

/// A request as `swarm.approvals` tells of it.
fn row(id: ApprovalId, tier: u8, now: UnixMs) -> Value {
    let text = id.0.as_u128();
    json!({
        "approval_id": id,
        "status": "pending",
        "tier": tier,
        "digest": "00".repeat(32),
        "digest_words": ["lusab", "babad", "gutih", "tugad"],
        "needed": 1,
        "entries": [],
        "rendering": [["Order", format!("BUY 0.{text} BTCUSDT")], ["At most", "$1500.00"]],
        "agent_says_unverified": "> looks good",
        "requested_by": "operator",
        "requested_at_ms": now.0,
        "expires_at_ms": now.0 + 900_000,
        "order_id": format!("order-{text}"),
        "superseded_by": null,
    })
}

/// What the doors that only read answer at first.
fn answers() -> BTreeMap<&'static str, Value> {
    let agents: Vec<Value> = ["treasury", "buy_bot"]
        .iter()
        .map(|name| json!({ "agent": name, "verdict": "healthy", "restarts_in": { "60s": 0, "15min": 0, "24h": 1 } }))
        .collect();
    let point =
        |n: i64| json!({ "at_ms": 1_795_000_000_000_i64 + n * 3_600_000, "equity_usd": format!("{}", 50_000 + n) });
    BTreeMap::from([
        (
            "swarm.status",
            json!({ "ok": true, "kill": { "level": 0, "epoch": 1, "by": "swarm up", "reason": "first start" },
                "pending_approvals": 0, "market": [{ "instrument": "paper:BTCUSDT", "age_ms": 1500 }], "agents": agents }),
        ),
        (
            "swarm.positions",
            json!({ "ok": true, "user": "operator", "cash_usd": "48500.25", "equity_usd": "50012.5",
                "day": { "baseline_equity_usd": "50000", "profit_usd": "12.5" }, "fees_usd": "1.5", "fills": 3,
                "positions": [{ "instrument": "paper:BTCUSDT", "quantity": "0.02500", "cost_usd": "1500",
                    "value_usd": "1512.25", "unrealised_usd": "12.25" }],
                "open_reservations": 0, "risk_permits_last_hour": 2,
                "breaker": { "losses_in_a_row": 1, "latched_at": null },
                "recent_decisions": [{ "at": "2026-11-21T17:31:05.000Z", "outcome": "refused", "code": "POSITION_LIMIT" }] }),
        ),
        ("swarm.equity", json!({ "ok": true, "points": (0..60).map(point).collect::<Vec<_>>() })),
        (
            "swarm.trades",
            json!({ "ok": true, "trades": [{ "at_ms": 1_795_000_000_000_i64, "instrument": "paper:BTCUSDT",
                "side": "buy", "quantity": "0.025", "price": "60000", "notional_usd": "1500", "fee_usd": "1.5",
                "order_id": "order-1" }] }),
        ),
        (
            "swarm.limits",
            json!({ "ok": true, "policy_version": "1",
                "limits": [{ "name": "position_usd", "value": "5000", "house": "10000" }] }),
        ),
        ("swarm.halt", json!({ "ok": true, "level": 1, "epoch": 2 })),
        ("swarm.close", json!({ "ok": true, "accepted": true, "id": "signal-7" })),
    ])
}

/// Answers as the supervisor does, of what it is scripted to know.
async fn doors(bus: Bus, script: Arc<Mutex<Script>>, admin: Db) {
    let mut requests = bus.client().subscribe("swarm.>").await.unwrap();
    while let Some(request) = requests.next().await {
        let body: Value = serde_json::from_slice(&request.payload).unwrap_or(Value::Null);
        let door = request.subject.to_string();
        let is_silent = {
            let mut script = script.lock().unwrap();
            script.asked.push((door.clone(), body.clone()));
            script.silent.contains(&door.as_str())
        };
        let Some(reply) = request.reply.filter(|_| !is_silent) else { continue };
        let is_down = script.lock().unwrap().down.contains(&door.as_str());
        let answer = match door.as_str() {
            _ if is_down => refused("UNAVAILABLE"),
            "swarm.decide.telegram" => decide(&script, &admin, &body).await,
            "swarm.approvals" => approvals(&script.lock().unwrap(), &body),
            other => script.lock().unwrap().answers.get(other).cloned().unwrap_or_else(|| refused("UNKNOWN_SUBJECT")),
        };
        bus.client().publish(reply, answer.to_string().into()).await.unwrap();
    }
}

fn refused(code: &str) -> Value {
    json!({ "ok": false, "code": code, "detail": "scripted" })
}

fn approvals(script: &Script, body: &Value) -> Value {
    let one = body["approval_id"].as_str();
    let rows: Vec<&Value> = match one {
        Some(id) => script.requests.values().filter(|row| row["approval_id"] == id).collect(),
        None => script.requests.values().filter(|row| row["status"] == "pending").collect(),
    };
    if one.is_some() && rows.is_empty() { refused("UNKNOWN_REQUEST") } else { json!({ "ok": true, "approvals": rows }) }
}

/// What the supervisor makes of a stored press: person and word from its row, one word a person.
async fn decide(script: &Arc<Mutex<Script>>, admin: &Db, body: &Value) -> Value {
    let mut unit = admin.begin().await.unwrap();
    let update = store::telegram::update(&mut unit, body["update_id"].as_i64().unwrap()).await.unwrap();
    let raw = update.expect("a press is a row before it is told of").raw;
    let from = raw["callback_query"]["from"]["id"].as_i64().unwrap();
    let person = store::telegram::account(&mut unit, from).await.unwrap().expect("a linked account").person_id;
    let button = telegram_button::decode(raw["callback_query"]["data"].as_str().unwrap()).unwrap();
    let mut script = script.lock().unwrap();
    let Some(row) = script.requests.get_mut(&button.approval_id) else { return refused("UNKNOWN_REQUEST") };
    let tier = row["tier"].as_u64().unwrap();
    let entries = row["entries"].as_array().unwrap();
    if entries.iter().any(|entry| entry["person_id"] == person.as_str()) {
        return refused("ALREADY_VOTED");
    }
    if row["status"] != "pending" {
        return refused("NOT_PENDING");
    }
    let (decision, status) = match button.press {
        Word::Approve if tier >= 2 => return refused("CONFIRM_NEEDED"),
        Word::Approve | Word::Confirm => ("approve", "allowed"),
        Word::Reject => ("reject", "denied"),
        Word::Half | Word::Quarter | Word::HalfPercent | Word::OnePercent => ("modify", "superseded"),
        Word::Menu | Word::Back => return refused("NO_DECISION"),
    };
    let yes = entries.iter().filter(|entry| entry["decision"] == "approve").count() + 1;
    let entry =
        json!({ "person_id": person, "decision": decision, "channel": "telegram", "at": "2026-11-21T17:31:05.000Z" });
    row["entries"].as_array_mut().unwrap().push(entry);
    let is_waiting = status == "allowed" && yes < usize::try_from(row["needed"].as_u64().unwrap()).unwrap();
    if !is_waiting {
        row["status"] = json!(status);
    }
    let status = if is_waiting { "pending" } else { status };
    json!({ "ok": true, "approval_id": button.approval_id, "status": status, "superseded_by": null })
}
