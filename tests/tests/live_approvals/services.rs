//! The same as the services answer it, and what a no leaves behind: a count, a row of the governance chain, nothing else.

use std::sync::Arc;

use bus::{BusError, Published, Raw};
use domain::ids::UserId;
use domain::link_code;
use domain::message::Message;
use domain::person::Act;
use domain::telegram_button::Press;
use domain::time::UnixMs;
use ed25519_dalek::SigningKey;
use rails::book::Marks;
use runtime::{HandleError, Means, Record};
use serde_json::{Value, json};
use store::approvals::ApprovalStatus;
use store::{Db, Unit};
use supervisor::Supervisor;
use supervisor::config::Config;
use supervisor::gateway::Said;
use supervisor::lifecycle::{Plan, Settings};
use supervisor::services::{SignalHead, answer};
use testkit::servers::fresh_folder;

use crate::scene::Scene;

/// The supervisor's record, without a broker behind it.
struct House {
    db: Db,
    supervisor: Arc<Supervisor>,
}

impl Record for House {
    async fn begin(&self, user: UserId) -> Result<Unit, HandleError> {
        let mut unit = self.db.begin().await?;
        if !user.0.is_nil() {
            unit.set_tenant(user).await?;
        }
        Ok(unit)
    }

    async fn commit(&self, unit: Unit, _user: UserId, _out: Vec<Message>) -> Result<(), HandleError> {
        Ok(unit.commit().await?)
    }
}

impl Means for House {
    fn now(&self) -> UnixMs {
        UnixMs(1_800_000_000_000)
    }

    fn marks(&self) -> Marks {
        Marks::new()
    }

    fn new_id(&self) -> uuid::Uuid {
        uuid::Uuid::nil()
    }

    async fn emit(&self, _user: UserId, _out: Vec<Message>) -> Result<(), HandleError> {
        Err(HandleError::Retry("no broker in this test".to_owned()))
    }

    async fn pause(&self, ms: u64) {
        tokio::time::sleep(std::time::Duration::from_millis(ms)).await;
    }

    async fn forward(&self, _raw: &Raw, _until: Option<UnixMs>) -> Result<Published, BusError> {
        Err(BusError::Config("no broker in this test".to_owned()))
    }
}

impl House {
    async fn new(scene: &Scene) -> Self {
        let folder = fresh_folder("approvals");
        let plan = Plan { agents: Vec::new(), run_dir: folder.clone() };
        let anchor_key = SigningKey::from_bytes(&[5; 32]);
        let agents = Settings::of_nobody();
        let config =
            Config { house: scene.config.house.clone(), plan, agents, anchor_key, old_anchor_keys: Vec::new() };
        let supervisor = Arc::new(Supervisor::new(config, &folder));
        Self { db: scene.bank.login("supervisor").await, supervisor }
    }

    async fn ask(&self, subject: &str, body: &[u8]) -> Value {
        answer(self.supervisor.shared(), self, subject, body, SignalHead::default()).await
    }

    async fn asked(&self, subject: &str, body: Value) -> Value {
        self.ask(subject, &serde_json::to_vec(&body).unwrap()).await
    }

    async fn code(&self, subject: &str, body: &[u8]) -> String {
        let answer = self.ask(subject, body).await;
        assert_eq!(answer["ok"], false, "{answer}");
        answer["code"].as_str().unwrap().to_owned()
    }
}

async fn refusals(scene: &Scene) -> Vec<String> {
    sqlx::query_scalar("SELECT body ->> 'code' FROM governance_audit WHERE kind = 'entry_refused' ORDER BY seq")
        .fetch_all(scene.bank.admin.pool())
        .await
        .unwrap()
}

#[tokio::test]
async fn garbled_and_foreign_words_are_denied_and_in_the_governance_chain() {
    let scene = Scene::new().await;
    let house = House::new(&scene).await;
    let row = scene.ask("15").await;
    let signed = serde_json::to_value(scene.signed("mallory", &row, Said::Approve).await).unwrap();
    let mut unknown = serde_json::to_value(scene.signed("zoe", &row, Said::Approve).await).unwrap();
    unknown["act"]["what"]["approval_id"] = json!(uuid::Uuid::nil());
    let mut zero = serde_json::to_value(scene.signed("zoe", &row, Said::Approve).await).unwrap();
    zero["act"]["what"]["vote"] = json!(0);
    let mut twice = serde_json::to_string(&scene.signed("zoe", &row, Said::Approve).await).unwrap();
    twice = twice.replace(r#""vote":"approve""#, r#""vote":"reject","vote":"approve""#);
    let mut want = Vec::new();
    for (subject, body, code) in [
        ("swarm.approve", Vec::new(), "NOT_SIGNED"),
        ("swarm.approve", b"{}".to_vec(), "NOT_SIGNED"),
        ("swarm.approve", b"\xff\xfe".to_vec(), "NOT_SIGNED"),
        ("swarm.approve", zero.to_string().into_bytes(), "NOT_SIGNED"),
        ("swarm.approve", twice.into_bytes(), "NOT_SIGNED"),
        ("swarm.approve", signed.to_string().into_bytes(), "UNKNOWN_APPROVER"),
        ("swarm.approve", unknown.to_string().into_bytes(), "BAD_SIGNATURE"),
        ("swarm.decide.telegram", Vec::new(), "BAD_JSON"),
        ("swarm.decide.telegram", b"{\"update_id\":\"1\"}".to_vec(), "BAD_JSON"),
        ("swarm.decide.telegram", b"{\"update_id\":1,\"person\":\"zoe\"}".to_vec(), "BAD_JSON"),
        ("swarm.decide.telegram", b"{\"update_id\":1}".to_vec(), "UNKNOWN_UPDATE"),
        ("swarm.decide.web", Vec::new(), "BAD_JSON"),
        ("swarm.decide.web", b"null".to_vec(), "BAD_JSON"),
        ("swarm.telegram.link", b"{}".to_vec(), "NOT_SIGNED"),
    ] {
        assert_eq!(house.code(subject, &body).await, code, "{subject} {}", String::from_utf8_lossy(&body));
        want.push(code.to_owned());
    }
    assert_eq!(refusals(&scene).await, want);
    assert_eq!((scene.words(&row).await, scene.status(&row).await), (0, ApprovalStatus::Pending));
    scene.bank.assert_audit_valid().await;
}

#[tokio::test]
async fn a_press_and_a_form_are_answered_with_what_they_led_to() {
    let scene = Scene::new().await;
    let house = House::new(&scene).await;
    let row = scene.ask("15").await;
    let code = link_code::of_bits([9; 5]);
    let act = scene.act("zoe", Act::LinkTelegram { code_hash: link_code::hash(&code).unwrap() }).await;
    let made = house.asked("swarm.telegram.link", serde_json::to_value(&act).unwrap()).await;
    assert_eq!((made["ok"].clone(), made["person_id"].clone()), (json!(true), json!("zoe")));
    let again = house.asked("swarm.telegram.link", serde_json::to_value(&act).unwrap()).await;
    assert_eq!(again["code"], "CODE_USED");
    let mut unit = scene.telegram.begin().await.unwrap();
    let hash = link_code::hash(&code.to_lowercase()).unwrap();
    let now = scene.now().await;
    assert!(store::telegram::use_link(&mut unit, hash, 77, 77, now).await.unwrap().is_some());
    let raw = scene.pressed(&row, Press::Half, 77, 5);
    store::telegram::put_update(&mut unit, raw["update_id"].as_i64().unwrap(), &raw, now).await.unwrap();
    unit.commit().await.unwrap();
    scene.prompt(&row, "zoe", 77, 5).await;
    let answer = house.asked("swarm.decide.telegram", json!({ "update_id": raw["update_id"] })).await;
    assert_eq!((answer["ok"].clone(), answer["status"].clone()), (json!(true), json!("superseded")));
    assert_eq!(answer["approval_id"], json!(row.approval_id));
    scene.settle_all().await;
    let shown = house.asked("swarm.approvals", json!({ "approval_id": answer["superseded_by"] })).await;
    let new = &shown["approvals"][0];
    assert_eq!(
        (&new["quantity"], &new["status"], &new["replaces"]),
        (&json!("7.5"), &json!("pending"), &json!(row.approval_id))
    );
    scene.enroll("operator").await;
    let form = json!({
        "person": "operator", "approval_id": new["approval_id"], "digest": new["digest"], "decision": "approve",
        "totp": scene.code(0).await,
    });
    let answer = house.asked("swarm.decide.web", form).await;
    assert_eq!((answer["ok"].clone(), answer["status"].clone()), (json!(true), json!("allowed")));
    assert_eq!(scene.settle_all().await.len(), 1);
    let shown = house.asked("swarm.approvals", json!({ "approval_id": new["approval_id"] })).await;
    assert_eq!(shown["approvals"][0]["status"], "consumed");
    let entry = &shown["approvals"][0]["entries"][0];
    assert_eq!(
        (&entry["person_id"], &entry["decision"], &entry["channel"]),
        (&json!("operator"), &json!("approve"), &json!("web"))
    );
}

#[tokio::test]
async fn a_login_takes_a_code_that_is_good_for_nothing_else() {
    let scene = Scene::new().await;
    let house = House::new(&scene).await;
    let row = scene.ask("15").await;
    scene.enroll("zoe").await;
    let login = async |person: &str, totp: &str| {
        house.asked("swarm.web.login", json!({ "person": person, "totp": totp })).await
    };
    let code = scene.code(0).await;
    let answer = login("zoe", &code).await;
    assert_eq!((&answer["ok"], &answer["person"], &answer["user"]), (&json!(true), &json!("zoe"), &json!(null)));
    let refused = login("zoe", &code).await;
    assert_eq!(refused["code"], "LOGIN_REFUSED", "a code is good once");
    for (person, totp) in [("zoe", "badbad"), ("operator", &code), ("mallory", &code), ("", ""), ("zo\u{0}e", &code)] {
        assert_eq!(login(person, totp).await, refused, "{person:?}: nobody learns who is there");
    }
    assert_eq!(login(&"z".repeat(101), &code).await["code"], "BAD_TEXT");
    assert_eq!(house.code("swarm.web.login", b"{\"person\":\"zoe\"}").await, "BAD_JSON");
    let form = async |totp: &str| {
        let body = json!({
            "person": "zoe", "approval_id": row.approval_id, "digest": row.digest, "decision": "reject", "totp": totp,
        });
        house.asked("swarm.decide.web", body).await
    };
    assert_eq!(form(&code).await["code"], "CODE_USED", "what opened the page decides nothing");
    for _ in 0..4 {
        login("zoe", "badbad").await;
    }
    assert_eq!(login("zoe", &scene.code(1).await).await["code"], "TOO_MANY_CODES");
    assert_eq!(form(&scene.code(1).await).await["status"], "denied", "a stranger's guesses hold up no decision");
    scene.bank.assert_audit_valid().await;
}

#[tokio::test]
async fn after_five_wrong_codes_none_is_looked_at() {
    let scene = Scene::new().await;
    let house = House::new(&scene).await;
    let row = scene.ask("15").await;
    scene.enroll("zoe").await;
    let form = async |totp: &str| {
        let body = json!({
            "person": "zoe", "approval_id": row.approval_id, "digest": row.digest, "decision": "approve", "totp": totp,
        });
        house.asked("swarm.decide.web", body).await["code"].clone()
    };
    for _ in 0..5 {
        assert_eq!(form("badbad").await, "BAD_CODE");
    }
    assert_eq!(form(&scene.code(0).await).await, "TOO_MANY_CODES");
    assert_eq!(scene.status(&row).await, ApprovalStatus::Pending);
}

#[tokio::test]
async fn what_waits_is_shown_as_its_digest_says_and_no_longer_than_it_lasts() {
    let mut scene = Scene::new().await;
    let house = House::new(&scene).await;
    let row = scene.ask("60").await;
    let shown = house.ask("swarm.approvals", b"").await["approvals"][0].clone();
    let rendering: Vec<(String, String)> = serde_json::from_value(shown["rendering"].clone()).unwrap();
    assert_eq!(rendering, rails::render::lines(&row.envelope, 2, row.digest));
    let words = rails::render::digest_words(row.digest);
    assert_eq!(shown["digest_words"], json!(words));
    assert_eq!((&shown["needed"], &shown["tier"], &shown["entries"]), (&json!(1), &json!(2), &json!([])));
    assert_eq!(
        (&shown["requested_at_ms"], &shown["expires_at_ms"]),
        (&json!(row.requested_at), &json!(row.expires_at))
    );
    assert_eq!((&shown["prose_heading"], &shown["prose"]), (&json!("agent says (unverified)"), &json!("> a test")));
    scene.config.house.approval_ttl_ms = 1;
    let short = scene.ask("15").await;
    let waits = |list: Value| list["approvals"].as_array().unwrap().len();
    assert_eq!(waits(house.ask("swarm.approvals", b"{}").await), 1, "what is out of time waits no more");
    let one = house.asked("swarm.approvals", json!({ "approval_id": short.approval_id })).await;
    assert_eq!(one["approvals"][0]["status"], "expired");
    for (body, code) in [
        (&b"[]"[..], "BAD_JSON"),
        (b"{\"approval_id\":7}", "BAD_JSON"),
        (b"{\"approval_id\":\"x\"}", "BAD_JSON"),
        (b"{\"approval_id\":\"00000000-0000-0000-0000-000000000000\"}", "UNKNOWN_REQUEST"),
    ] {
        assert_eq!(house.code("swarm.approvals", body).await, code);
    }
}

#[tokio::test]
async fn an_account_is_shown_by_its_trades_its_curve_and_its_limits() {
    let scene = Scene::new().await;
    let house = House::new(&scene).await;
    scene.ask("15").await;
    let limits = house.ask("swarm.limits", b"").await;
    assert_eq!(
        (&limits["limits"]["position_usd"], &limits["limits"]["approval_people_tier3"]),
        (&json!("10000"), &json!("2"))
    );
    assert_eq!((&limits["used"]["approval_prompts"], &limits["used"]["risk_permits"]), (&json!(1), &json!(0)));
    assert_eq!(limits["policy_version"], json!(scene.config.house.version()));
    let trades = house.asked("swarm.trades", json!({ "user": "operator", "limit": 5 })).await;
    assert_eq!(trades["trades"], json!([]));
    let equity = house.asked("swarm.equity", json!({ "user": "operator" })).await;
    let points = equity["points"].as_array().unwrap();
    assert!(points.len() == 2 && points.iter().all(|point| point["equity_usd"] == "20000"), "{equity}");
    for subject in ["swarm.limits", "swarm.trades", "swarm.equity"] {
        assert_eq!(house.asked(subject, json!({ "user": "nobody" })).await["code"], "UNKNOWN_USER", "{subject}");
        assert_eq!(house.code(subject, b"{\"user\":7}").await, "BAD_TEXT");
    }
    for limit in [json!(0), json!(501), json!("5"), json!(-1)] {
        assert_eq!(house.asked("swarm.trades", json!({ "limit": limit })).await["code"], "BAD_JSON");
    }
}

#[tokio::test]
async fn an_exit_is_believed_for_its_stored_words_and_sells_for_the_operator_alone() {
    let scene = Scene::new().await;
    let house = House::new(&scene).await;
    scene.bank.approver("operator", Some("operator"), true).await;
    scene.bank.approver("nadia", None, true).await;
    let mut unit = scene.bank.unit().await;
    let now = unit.now().await.unwrap();
    for (person, account) in [("operator", 11), ("nadia", 22)] {
        let code_hash = link_code::hash(&link_code::of_bits([account; 5])).unwrap();
        let link = store::telegram::Link {
            code_hash,
            person_id: person.to_owned(),
            act: json!({}),
            made_at: now,
            expires_at: now.plus_ms(60_000),
            used_by: None,
            used_at: None,
        };
        store::telegram::make_link(&mut unit, &link).await.unwrap();
        let account = i64::from(account);
        store::telegram::use_link(&mut unit, code_hash, account, account, now).await.unwrap().unwrap();
    }
    let said = |id: i64, from: i64, text: &str, age_s: i64| {
        json!({ "update_id": id, "message": { "message_id": id, "date": now.0 / 1_000 - age_s, "text": text,
            "from": { "id": from, "is_bot": false }, "chat": { "id": from, "type": "private" } } })
    };
    let mut forwarded = said(5, 11, "/close BTCUSDT", 0);
    forwarded["message"]["forward_origin"] = json!({ "type": "user" });
    for (id, raw) in [
        (1, said(1, 99, "/close BTCUSDT", 0)),
        (2, said(2, 22, "/close BTCUSDT", 0)),
        (3, said(3, 11, "/close BTCUSDT", 301)),
        (4, said(4, 11, "buy BTCUSDT", 0)),
        (5, forwarded),
        (6, said(6, 11, "/close BTCUSDT", 0)),
    ] {
        store::telegram::put_update(&mut unit, id, &raw, now).await.unwrap();
    }
    unit.commit().await.unwrap();
    for (body, code) in [
        ("", "BAD_JSON"),
        (r#"{"update_id":6,"symbol":"ETHUSDT"}"#, "BAD_JSON"),
        (r#"{"update_id":7}"#, "UNKNOWN_UPDATE"),
        (r#"{"update_id":1}"#, "NOT_LINKED"),
        (r#"{"update_id":2}"#, "NOT_YOURS"),
        (r#"{"update_id":3}"#, "EXPIRED"),
        (r#"{"update_id":4}"#, "NOT_AN_EXIT"),
        (r#"{"update_id":5}"#, "NOT_AN_EXIT"),
        // On its way, but for the broker that this test does not have.
        (r#"{"update_id":6}"#, "NOT_STORED"),
    ] {
        assert_eq!(house.code("swarm.close", body.as_bytes()).await, code, "{body}");
    }
    let asked = "SELECT count(*) FROM governance_audit WHERE kind = 'exit_asked' AND body ->> 'symbol' = 'BTCUSDT'";
    assert_eq!(scene.bank.count(asked).await, 1, "and that one is in the governance chain");
}
