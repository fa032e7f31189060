//! Every process dies (kill -9) at every moment of a question to a person: pending, answered, used, sent. Whatever dies when,
//! the venue gets one order that a person said yes to, or none; never two.
//!
//! The moment is not left to chance: whoever would act next is stopped (SIGSTOP) before it can, what there is to see by then is
//! waited for, and then they are killed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::path::{Path, PathBuf};
use std::time::Duration;

use common::{Up, is_alive, pid_of, send, wait_until_gone};
use nix::sys::signal::Signal;
use serde_json::Value;
use sqlx::Row;
use testkit::servers::fresh_folder;
use testkit::wait::wait_until_blocking;

const BOUND: Duration = Duration::from_secs(60);

/// A swarm with one question that waits for a person: an order for $1,500.
struct Scene {
    up: Option<Up>,
    data: PathBuf,
    config: PathBuf,
    approval_id: String,
    order_id: uuid::Uuid,
    runtime: tokio::runtime::Runtime,
}

/// What there is of the order: its question's status, permits, orders at the desk, orders the venue took.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    status: String,
    permits: i64,
    orders: i64,
    at_venue: usize,
}

fn seen(status: &str, permits: i64, orders: i64, at_venue: usize) -> Seen {
    Seen { status: status.to_owned(), permits, orders, at_venue }
}

/// The shipped configuration without strategies: what trades here came from this test.
fn configuration(name: &str) -> PathBuf {
    let folder = fresh_folder(name).join("config");
    std::fs::create_dir_all(&folder).unwrap();
    for file in std::fs::read_dir(common::config()).unwrap() {
        let file = file.unwrap().path();
        std::fs::copy(&file, folder.join(file.file_name().unwrap())).unwrap();
    }
    change(&folder, "strategies.toml", "enabled = true", "enabled = false");
    folder
}

fn change(config: &Path, file: &str, old: &str, new: &str) {
    let text = std::fs::read_to_string(config.join(file)).unwrap();
    assert!(text.contains(old), "{file} has no {old}");
    std::fs::write(config.join(file), text.replace(old, new)).unwrap();
}

impl Scene {
    fn new(name: &str) -> Self {
        Self::with(name, |_| {})
    }

    fn with(name: &str, configure: impl FnOnce(&Path)) -> Self {
        let config = configuration(name);
        configure(&config);
        let data = fresh_folder(name);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let up = Some(Up::start_with(&data, &config));
        let mut scene = Self { up, data, config, approval_id: String::new(), order_id: uuid::Uuid::nil(), runtime };
        let sent = scene.ask(&["signal", "BUY", "ETHUSDT", "--notional-usd", "1500"]);
        assert_eq!(sent["ok"], true, "{sent}");
        wait_until_blocking(BOUND, "a question", || {
            let waiting = scene.ask(&["approvals"])["approvals"][0].clone();
            scene.approval_id = waiting["approval_id"].as_str().unwrap_or_default().to_owned();
            scene.order_id = waiting["order_id"].as_str().unwrap_or_default().parse().unwrap_or_default();
            !scene.approval_id.is_empty()
        });
        assert_eq!(scene.seen(), seen("pending", 0, 0, 0));
        scene
    }

    fn up(&self) -> &Up {
        self.up.as_ref().unwrap()
    }

    fn ask(&self, arguments: &[&str]) -> Value {
        self.up().ask(arguments)
    }

    /// The process of that name as it is now.
    fn pid(&self, name: &str) -> u32 {
        match name {
            "supervisor" => self.supervisor(),
            "postgres" | "nats-server" => self.up().processes()[name],
            agent => {
                let found = self.agent(agent);
                found.unwrap_or_else(|| panic!("no process of {agent}"))
            }
        }
    }

    fn supervisor(&self) -> u32 {
        pid_of(&self.ask(&["status"])["supervisor_pid"])
    }

    fn agent(&self, name: &str) -> Option<u32> {
        let agents = self.ask(&["agents"])["result"].clone();
        let row = agents.as_array()?.iter().find(|agent| agent["agent"] == name)?.clone();
        row["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok())
    }

    fn kill(&self, pid: u32) {
        send(pid, Signal::SIGKILL);
        wait_until_blocking(BOUND, "the end of a killed process", || !is_alive(pid));
    }

    /// Says yes until the gateway heard it: while it is down nobody does.
    fn approve(&self) {
        wait_until_blocking(BOUND, "a yes to be heard", || {
            let answer = self.ask(&["approve", &self.approval_id]);
            answer["ok"] == true || matches!(answer["code"].as_str(), Some("ALREADY_VOTED" | "NOT_PENDING"))
        });
    }

    /// Reads the tables with a login that no process has; none while Postgres is down.
    fn try_seen(&self) -> Option<Seen> {
        let url = std::fs::read_to_string(self.data.join("secrets/admin.url")).ok()?;
        let row = self.runtime.block_on(async {
            let pool = sqlx::PgPool::connect(url.trim()).await.ok()?;
            let row = sqlx::query(
                "SELECT (SELECT status FROM approval_requests WHERE approval_id = $1) AS status,
                   (SELECT count(*) FROM permits WHERE order_id = $2) AS permits,
                   (SELECT count(*) FROM orders WHERE order_id = $2) AS orders",
            )
            .bind(self.approval_id.parse::<uuid::Uuid>().ok()?)
            .bind(self.order_id)
            .fetch_one(&pool)
            .await
            .ok();
            pool.close().await;
            row
        })?;
        let (status, at_venue) = (row.get::<String, _>("status"), self.at_venue());
        Some(Seen { status, permits: row.get("permits"), orders: row.get("orders"), at_venue })
    }

    fn seen(&self) -> Seen {
        self.try_seen().expect("the tables")
    }

    fn wait_for(&self, want: &Seen) {
        let mut last = None;
        wait_until_blocking(BOUND, &format!("{want:?}"), || {
            last = self.try_seen();
            let found = last.as_ref();
            assert!(found.is_none_or(|s| s.permits <= 1 && s.orders <= 1 && s.at_venue <= 1), "twice: {last:?}");
            found == Some(want)
        });
    }

    /// How often the exchange took the order, by its own journal.
    fn at_venue(&self) -> usize {
        let client = format!("s{}", self.order_id.simple());
        let Ok(files) = std::fs::read_dir(self.data.join("data/paper")) else { return 0 };
        let takes = |line: &str| {
            let effects: Vec<Value> = serde_json::from_str(line.split_once(' ')?.1).ok()?;
            Some(effects.iter().filter(|effect| effect["request"]["client_order_id"] == client.as_str()).count())
        };
        let texts = files.filter_map(|file| std::fs::read_to_string(file.ok()?.path()).ok());
        texts.map(|text| text.lines().filter_map(takes).sum::<usize>()).sum()
    }

    /// One order was bought, the venue took it once, and the chains hold together.
    fn assert_bought_once(&self) {
        self.wait_for(&seen("consumed", 1, 1, 1));
        wait_until_blocking(BOUND, "a fill in the account", || {
            self.ask(&["positions"])["fills"].as_u64().is_some_and(|fills| fills > 0)
        });
        self.assert_in_order();
        assert_eq!(self.seen(), seen("consumed", 1, 1, 1));
        let again = self.ask(&["approve", &self.approval_id]);
        assert_eq!(again["ok"], false, "{again}");
    }

    fn assert_in_order(&self) {
        let mut said = Value::Null;
        wait_until_blocking(BOUND, "a valid audit", || {
            said = self.ask(&["audit", "verify"]);
            said["verdict"] == "valid"
        });
    }

    /// The whole swarm dies at once, and is started again.
    fn restart(&mut self) {
        let up = self.up.take().unwrap();
        let processes = up.processes();
        let supervisor = pid_of(&up.ask(&["status"])["supervisor_pid"]);
        send(up.child.id(), Signal::SIGKILL);
        send(supervisor, Signal::SIGKILL);
        for pid in processes.values().filter(|pid| is_alive(**pid)) {
            // Stopped processes end too.
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid.cast_signed()), Signal::SIGCONT);
        }
        wait_until_gone(&processes);
        drop(up);
        self.up = Some(Up::start_with(&self.data, &self.config));
    }
}

#[test]
fn while_pending_each_process_may_die_and_the_question_stays() {
    for name in ["supervisor", "treasury", "telegram_jarvis", "nats-server", "postgres"] {
        let scene = Scene::new("pending");
        scene.kill(scene.pid(name));
        wait_until_blocking(BOUND, "the question to be shown again", || {
            scene.ask(&["approvals"])["approvals"][0]["approval_id"] == scene.approval_id.as_str()
        });
        assert_eq!(scene.seen(), seen("pending", 0, 0, 0), "{name}: nobody has said yes");
        scene.approve();
        scene.assert_bought_once();
    }
}

#[test]
fn while_pending_the_whole_swarm_may_die() {
    let mut scene = Scene::new("pending-all");
    scene.restart();
    assert_eq!(scene.seen(), seen("pending", 0, 0, 0));
    scene.approve();
    scene.assert_bought_once();
}

#[test]
fn allowed_and_not_used_it_is_used_once_by_whoever_comes_back() {
    let scene = Scene::new("allowed");
    let treasury = scene.pid("treasury");
    send(treasury, Signal::SIGSTOP);
    scene.approve();
    assert_eq!(scene.seen(), seen("allowed", 0, 0, 0), "treasury is stopped");
    let supervisor = scene.pid("supervisor");
    scene.kill(supervisor);
    scene.kill(treasury);
    scene.assert_bought_once();
}

#[test]
fn allowed_and_not_used_the_whole_swarm_may_die() {
    let mut scene = Scene::new("allowed-all");
    send(scene.pid("treasury"), Signal::SIGSTOP);
    scene.approve();
    assert_eq!(scene.seen(), seen("allowed", 0, 0, 0), "treasury is stopped");
    scene.restart();
    scene.assert_bought_once();
}

#[test]
fn used_and_not_sent_the_order_is_sent_once() {
    let scene = Scene::new("used");
    let desk = scene.pid("online_trading");
    let treasury = scene.pid("treasury");
    send(desk, Signal::SIGSTOP);
    scene.approve();
    scene.wait_for(&seen("consumed", 1, 0, 0));
    scene.kill(treasury);
    scene.kill(desk);
    scene.assert_bought_once();
}

#[test]
fn used_and_not_sent_the_whole_swarm_may_die() {
    let mut scene = Scene::new("used-all");
    send(scene.pid("online_trading"), Signal::SIGSTOP);
    scene.approve();
    scene.wait_for(&seen("consumed", 1, 0, 0));
    scene.restart();
    scene.assert_bought_once();
}

#[test]
fn without_postgres_nobody_says_yes_and_nothing_is_bought() {
    let scene = Scene::new("postgres");
    let postgres = scene.pid("postgres");
    send(postgres, Signal::SIGSTOP);
    scene.kill(postgres);
    // Whatever is answered meanwhile, it is no yes that was stored twice.
    scene.approve();
    scene.assert_bought_once();
}

#[test]
fn out_of_time_while_all_were_dead_it_is_denied() {
    let mut scene = Scene::with("late", |config| {
        change(config, "limits.toml", "approval_ttl_ms = 900000", "approval_ttl_ms = 3000");
    });
    scene.restart();
    scene.wait_for(&seen("expired", 0, 0, 0));
    let answer = scene.ask(&["approve", &scene.approval_id]);
    assert!(matches!(answer["code"].as_str(), Some("EXPIRED" | "NOT_PENDING")), "{answer}");
    scene.assert_in_order();
    assert_eq!(scene.seen(), seen("expired", 0, 0, 0));
}

#[test]
fn with_other_limits_after_a_start_what_was_asked_is_over() {
    let mut scene = Scene::new("limits");
    change(&scene.config, "limits.toml", "position_usd = \"10000\"", "position_usd = \"9000\"");
    scene.restart();
    scene.wait_for(&seen("superseded", 0, 0, 0));
    let answer = scene.ask(&["approve", &scene.approval_id]);
    assert!(matches!(answer["code"].as_str(), Some("SUPERSEDED" | "NOT_PENDING")), "{answer}");
    scene.assert_in_order();
    assert_eq!(scene.seen(), seen("superseded", 0, 0, 0));
}

#[test]
fn an_approver_who_is_removed_takes_their_yes_with_them() {
    let scene = Scene::new("removed");
    let treasury = scene.pid("treasury");
    send(treasury, Signal::SIGSTOP);
    scene.approve();
    let url = std::fs::read_to_string(scene.data.join("secrets/admin.url")).unwrap();
    scene.runtime.block_on(async {
        let pool = sqlx::PgPool::connect(url.trim()).await.unwrap();
        sqlx::query("UPDATE approvers SET active = false").execute(&pool).await.unwrap();
        pool.close().await;
    });
    scene.kill(treasury);
    scene.wait_for(&seen("revoked", 0, 0, 0));
    scene.assert_in_order();
    assert_eq!(scene.seen(), seen("revoked", 0, 0, 0));
}

/// The person's own commands, and the web page's door under the web page's key, while nobody is at Telegram.
#[test]
fn a_person_asks_for_less_takes_it_back_and_decides_with_a_code() {
    let mut scene = Scene::new("commands");
    let shown = scene.ask(&["approvals"])["approvals"][0].clone();
    let asked: f64 = shown["quantity"].as_str().unwrap().parse().unwrap();
    let more = format!("{}", asked * 2.0);
    assert_eq!(scene.ask(&["modify", "last", "--quantity", &more])["code"], "BAD_CHANGE");
    let answer = scene.ask(&["modify", "last", "--quantity", "0.5"]);
    assert_eq!((&answer["ok"], &answer["status"]), (&Value::Bool(true), &Value::from("superseded")), "{answer}");
    let id = answer["superseded_by"].as_str().unwrap().to_owned();
    wait_until_blocking(BOUND, "the new question", || {
        scene.ask(&["approvals"])["approvals"][0]["approval_id"] == id.as_str()
    });
    assert_eq!(scene.ask(&["revoke", &id])["status"], "denied");
    scene.wait_for(&seen("superseded", 0, 0, 0));
    assert_eq!(scene.ask(&["revoke", &id])["code"], "NOT_PENDING");

    let linked = scene.ask(&["telegram", "link"]);
    let code = linked["code"].as_str().unwrap().to_owned();
    assert_eq!((linked["person_id"].as_str(), code.len()), (Some("operator"), 8), "{linked}");
    let enrolled = scene.ask(&["web", "enroll"]);
    let secret =
        enrolled["uri"].as_str().unwrap().split("secret=").nth(1).unwrap().split('&').next().unwrap().to_owned();
    let url = std::fs::read_to_string(scene.data.join("secrets/admin.url")).unwrap();
    let (person, stored) = scene.runtime.block_on(async {
        let pool = sqlx::PgPool::connect(url.trim()).await.unwrap();
        let hash = domain::link_code::hash(&code).unwrap();
        let person: String = sqlx::query_scalar("SELECT person_id FROM telegram_links WHERE code_hash = $1")
            .bind(&hash.0[..])
            .fetch_one(&pool)
            .await
            .unwrap();
        let stored: Vec<u8> = sqlx::query_scalar("SELECT secret FROM approver_totp").fetch_one(&pool).await.unwrap();
        (person, stored)
    });
    assert_eq!((person.as_str(), rails::totp::base32(&stored)), ("operator", secret));

    assert_eq!(scene.ask(&["signal", "BUY", "ETHUSDT", "--notional-usd", "1200"])["ok"], true);
    let mut shown = Value::Null;
    wait_until_blocking(BOUND, "another question", || {
        shown = scene.ask(&["approvals"])["approvals"][0].clone();
        shown["digest"].is_string()
    });
    scene.approval_id = shown["approval_id"].as_str().unwrap().to_owned();
    scene.order_id = shown["order_id"].as_str().unwrap().parse().unwrap();
    let answer = scene.runtime.block_on(decide_on_the_web(&scene.data, &shown, &stored));
    assert_eq!((&answer["ok"], &answer["status"]), (&Value::Bool(true), &Value::from("allowed")), "{answer}");
    scene.assert_bought_once();
}

/// Asks as the web page does, with its key and a code of now.
async fn decide_on_the_web(data: &Path, shown: &Value, secret: &[u8]) -> Value {
    let connect: Value = serde_json::from_slice(&std::fs::read(data.join("connect.json")).unwrap()).unwrap();
    let seed = std::fs::read_to_string(data.join("secrets/gateway.nk")).unwrap();
    let client = async_nats::ConnectOptions::with_nkey(seed.trim().to_owned())
        .custom_inbox_prefix("_INBOX_gateway")
        .connect(connect["nats_url"].as_str().unwrap())
        .await
        .unwrap();
    let now = domain::time::Clock::now(&runtime::clock::SystemClock);
    let form = serde_json::json!({
        "person": "operator", "approval_id": shown["approval_id"], "digest": shown["digest"], "decision": "approve",
        "reason": "", "totp": rails::totp::code(secret, rails::totp::step_of(now)).unwrap(),
    });
    let answer = client.request("swarm.decide.web", form.to_string().into()).await.unwrap();
    serde_json::from_slice(&answer.payload).unwrap()
}
