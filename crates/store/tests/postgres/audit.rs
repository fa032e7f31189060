//! Every attack on the audit chain, each on its own database.

use domain::ids::UserId;
use ed25519_dalek::SigningKey;
use serde_json::json;
use sqlx::AssertSqlSafe;
use store::audit::{self, Anchors, Chain, Keys, Report, SignedHead, sign_head};
use store::{Db, StoreError, approvals, decisions, orders, permits};

use crate::samples::{T0, account, decision, envelope, fill, order, permit, request, signal};
use crate::support::World;

/// Rows of each user in a scene.
pub const ROWS: i64 = 5;

pub struct Scene {
    pub world: World,
    pub anna: UserId,
    pub keys: Keys,
    pub key: SigningKey,
    pub anchors: Anchors,
}

pub async fn append(db: &Db, user: UserId, n: i64) {
    let mut unit = db.begin().await.unwrap();
    let body =
        json!({"n": n, "amount": "1.50", "float": 0.1, "text": "ü\u{2028}", "nested": {"b": [1, null], "a": true}});
    audit::append(&mut unit, user, "test", "treasury", &body, T0.plus_ms(n)).await.unwrap();
    unit.commit().await.unwrap();
}

impl Scene {
    /// Anna's and Berta's chains of five rows and governance's of one, all anchored, Anna's twice.
    pub async fn new() -> Self {
        Self::of(World::new().await).await
    }

    /// The same in a world of the caller's own.
    pub async fn of(world: World) -> Self {
        let (treasury, supervisor) = (world.login("treasury").await, world.login("supervisor").await);
        let (anna, berta) = (account(&treasury, "anna").await, account(&treasury, "berta").await);
        let key = SigningKey::from_bytes(&[7; 32]);
        let keys = Keys::new([key.verifying_key()]);
        let mut scene = Self { world, anna, keys, key, anchors: Anchors::default() };
        for n in 1..=ROWS {
            append(&treasury, anna, n).await;
            append(&treasury, berta, n).await;
            if n == 3 {
                scene.anchor(&supervisor).await;
            }
        }
        let mut unit = supervisor.begin().await.unwrap();
        audit::append_governance(&mut unit, "start", "supervisor", &json!({}), T0).await.unwrap();
        unit.commit().await.unwrap();
        scene.anchor(&supervisor).await;
        scene
    }

    pub async fn anchor(&mut self, supervisor: &Db) {
        let mut unit = supervisor.begin().await.unwrap();
        for named in audit::moved_heads(&mut unit, 0).await.unwrap().heads {
            self.anchors.heads.push(sign_head(named.chain, named.head, named.head.seq, T0, &self.key).unwrap());
        }
    }

    pub async fn verify(&self) -> Report {
        let db = self.world.login("audit_verify").await;
        audit::verify(&db, &self.anchors, &self.keys, T0.plus_ms(1000)).await.unwrap()
    }

    /// What an intruder with the database's own administrator may do: no trigger, no policy holds them.
    pub async fn attack(&self, sql: &str) {
        let sql = format!(
            "ALTER TABLE trade_audit DISABLE TRIGGER ALL; ALTER TABLE audit_heads DISABLE TRIGGER ALL;
             ALTER TABLE governance_audit DISABLE TRIGGER ALL; ALTER TABLE governance_head DISABLE TRIGGER ALL; {}",
            sql.replace("ANNA", &format!("user_id = '{}'", self.anna))
        );
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(self.world.admin.pool()).await.unwrap();
    }
}

/// The first fault of Anna's chain (or of governance) after an attack, and that all other chains stay valid.
async fn check(attack: &str, want_seq: i64, want_reason: &str) {
    let scene = Scene::new().await;
    let before = scene.verify().await;
    assert!(before.valid, "{before:?}");
    scene.attack(attack).await;
    let report = scene.verify().await;
    assert!(!report.valid, "{attack}");
    let bad: Vec<_> = report.chains.iter().filter_map(|c| c.first_bad.as_ref().map(|bad| (c.user, bad))).collect();
    assert_eq!(bad.len(), 1, "{attack}: {report:?}");
    assert_eq!(bad[0].1.seq, want_seq, "{attack}: {report:?}");
    assert!(bad[0].1.reason.contains(want_reason), "{attack}: {report:?}");
    let governance = attack.contains("governance");
    assert_eq!(bad[0].0, (!governance).then_some(scene.anna), "{attack}");
}

#[tokio::test]
async fn an_edited_field_is_found() {
    check(r#"UPDATE trade_audit SET body = jsonb_set(body, '{amount}', '"9.50"') WHERE ANNA AND seq = 2"#, 2, "edited")
        .await;
    check("UPDATE trade_audit SET at = at + interval '1 ms' WHERE ANNA AND seq = 3", 3, "edited").await;
    check("UPDATE trade_audit SET agent = 'x', kind = agent WHERE ANNA AND seq = 5", 5, "edited").await;
    check("UPDATE governance_audit SET kind = 'stop'", 1, "edited").await;
}

#[tokio::test]
async fn a_deleted_row_is_found() {
    check("DELETE FROM trade_audit WHERE ANNA AND seq = 2", 2, "missing").await;
    check("DELETE FROM trade_audit WHERE ANNA AND seq = 1", 1, "missing").await;
    // Renumbered to hide the gap.
    check(
        "DELETE FROM trade_audit WHERE ANNA AND seq = 4; UPDATE trade_audit SET seq = 4 WHERE ANNA AND seq = 5;
         UPDATE audit_heads SET seq = 4 WHERE ANNA",
        4,
        "edited or moved",
    )
    .await;
}

#[tokio::test]
async fn reordered_rows_are_found() {
    check(
        "UPDATE trade_audit SET seq = 100 WHERE ANNA AND seq = 2; UPDATE trade_audit SET seq = 2 WHERE ANNA AND seq = 4;
         UPDATE trade_audit SET seq = 4 WHERE ANNA AND seq = 100",
        2,
        "edited or moved",
    )
    .await;
}

/// A row between two anchors is replaced by one with a hash of its own that fits; only the next row's link tells.
#[tokio::test]
async fn a_row_replaced_with_a_fitting_hash_is_found_by_the_row_after_it() {
    let scene = Scene::new().await;
    scene
        .attack(
            "CREATE TABLE kept AS SELECT * FROM trade_audit WHERE ANNA AND seq = 5;
             CREATE TABLE kept_head AS SELECT * FROM audit_heads WHERE ANNA;
             DELETE FROM trade_audit WHERE ANNA AND seq > 3;
             UPDATE audit_heads h SET seq = 3, hash = t.hash FROM trade_audit t
             WHERE t.user_id = h.user_id AND t.seq = 3 AND t.ANNA",
        )
        .await;
    append(&scene.world.admin, scene.anna, 40).await;
    scene
        .attack(
            "INSERT INTO trade_audit SELECT * FROM kept;
             UPDATE audit_heads h SET seq = k.seq, hash = k.hash FROM kept_head k WHERE k.user_id = h.user_id",
        )
        .await;
    let report = scene.verify().await;
    let anna = report.chains.iter().find(|chain| chain.user == Some(scene.anna)).unwrap();
    let bad = anna.first_bad.as_ref().unwrap();
    assert!(bad.seq == 5 && bad.reason.contains("does not follow the row before it"), "{bad:?}");
    assert_eq!((report.valid, anna.rows), (false, ROWS));
}

#[tokio::test]
async fn a_missing_forged_or_unreadable_anchor_is_a_fault() {
    let mut scene = Scene::new().await;
    let good = scene.anchors.clone();

    scene.anchors.heads.retain(|head| head.chain != Chain::User(scene.anna));
    let report = scene.verify().await;
    let bad = report.chains.iter().find(|chain| chain.user == Some(scene.anna)).unwrap().first_bad.as_ref();
    assert!(!report.valid && bad.unwrap().reason.contains("no anchor"), "{report:?}");

    scene.anchors = Anchors::default();
    assert!(!scene.verify().await.valid, "no anchors at all");

    scene.anchors = good.clone();
    let forged = SignedHead { seq: 4, ..good.heads[0].clone() };
    scene.anchors.heads.push(forged);
    assert!(!scene.verify().await.faults.is_empty(), "forged");

    scene.anchors = good.clone();
    scene.keys = Keys::default();
    assert!(!scene.verify().await.valid, "unknown key");
    scene.keys = Keys::new([scene.key.verifying_key()]);

    let lines: Vec<String> = good.heads.iter().map(|head| serde_json::to_string(head).unwrap()).collect();
    let text = lines.join("\n");
    scene.anchors = Anchors::parse(&text);
    assert_eq!(scene.anchors, good);
    assert!(scene.verify().await.valid);
    scene.anchors = Anchors::parse(&format!("{text}\n{}\n", &lines[0][..lines[0].len() / 2]));
    let report = scene.verify().await;
    assert!(!report.valid && report.faults[0].contains("does not read"), "{report:?}");
}

#[tokio::test]
async fn rows_after_the_newest_anchor_are_reported_as_such() {
    let scene = Scene::new().await;
    let treasury = scene.world.login("treasury").await;
    append(&treasury, scene.anna, 6).await;
    append(&treasury, scene.anna, 7).await;
    let report = scene.verify().await;
    assert!(report.valid, "{report:?}");
    let anna = report.chains.iter().find(|chain| chain.user == Some(scene.anna)).unwrap();
    assert_eq!((anna.rows, anna.anchored, anna.unanchored), (7, 5, 2));
    scene.attack("DELETE FROM trade_audit WHERE ANNA AND seq = 7").await;
    assert!(!scene.verify().await.valid, "the head knows a row that no anchor knows yet");
}

#[tokio::test]
async fn a_verifier_that_sees_no_rows_does_not_say_valid() {
    let scene = Scene::new().await;
    // Its policies do not name this role, so it reads nothing at all.
    scene
        .world
        .run("DROP POLICY audit_verify_reads ON trade_audit; DROP POLICY audit_verify_reads ON audit_heads")
        .await;
    assert!(!scene.verify().await.valid);
}

#[tokio::test]
async fn nobody_changes_a_row_by_grant_or_by_trigger_the_owner_neither() {
    let scene = Scene::new().await;
    for statement in [
        "UPDATE trade_audit SET kind = 'x'",
        "DELETE FROM trade_audit",
        "TRUNCATE trade_audit",
        "UPDATE governance_audit SET kind = 'x'",
        "DELETE FROM governance_audit",
        "TRUNCATE governance_audit",
        "UPDATE audit_heads SET seq = 1",
        "DELETE FROM audit_heads",
        "SET session_replication_role = replica; DELETE FROM trade_audit",
        "UPDATE policy_decisions SET code = 'x'; TRUNCATE policy_decisions",
    ] {
        let mut unit = scene.world.admin.begin().await.unwrap();
        let failed = sqlx::raw_sql(statement).execute(unit.conn().unwrap()).await;
        let error: StoreError = failed.unwrap_err().into();
        assert_eq!(error.sql_state().as_deref(), Some("23001"), "{statement}: {error:?}");
    }
}

#[tokio::test]
async fn explain_tells_the_whole_story_of_an_order_by_any_of_its_ids() {
    let world = World::new().await;
    let treasury = world.login("treasury").await;
    let anna = account(&treasury, "anna").await;
    let envelope = envelope(anna, 1, domain::market::Venue::Paper);
    let (permit, request) = (permit(&envelope), request(&envelope));
    let row = order(&permit);
    let mut unit = world.admin.begin().await.unwrap();
    decisions::insert(&mut unit, &decision(&envelope, signal(1), 0)).await.unwrap();
    approvals::insert_request(&mut unit, &request).await.unwrap();
    permits::insert(&mut unit, &permit, anna).await.unwrap();
    orders::insert(&mut unit, &row).await.unwrap();
    orders::insert_fill(&mut unit, &fill(&row, "trade-1"), anna).await.unwrap();
    for (kind, body) in [
        ("signal", json!({"signal_id": signal(1)})),
        ("decided", json!({"order_id": envelope.order_id})),
        ("other", json!({"order_id": signal(9)})),
    ] {
        audit::append(&mut unit, anna, kind, "treasury", &body, T0).await.unwrap();
    }
    unit.commit().await.unwrap();
    let db = world.login("audit_verify").await;
    for id in [
        envelope.order_id.to_string(),
        envelope.intent_id.to_string(),
        signal(1).to_string(),
        permit.body.permit_id.to_string(),
        request.approval_id.to_string(),
        envelope.client_order_id.clone(),
        "trade-1".to_owned(),
    ] {
        let mut unit = db.begin().await.unwrap();
        let story = audit::explain(&mut unit, &id).await.unwrap().unwrap();
        let order = &story["orders"][0];
        let kinds: Vec<_> =
            order["audit"].as_array().unwrap().iter().map(|row| row["kind"].as_str().unwrap()).collect();
        assert_eq!(kinds, ["signal", "decided"], "{id}");
        assert_eq!(order["decision"]["outcome"], "permitted");
        assert_eq!(order["decision"]["digest"], envelope.digest().unwrap().to_string());
        assert_eq!(order["approvals"][0]["status"], "pending");
        assert_eq!(order["permit"]["state"], "signed");
        assert_eq!(order["order"]["client_order_id"], envelope.client_order_id);
        assert_eq!(order["fills"][0]["price"], "60999.123456789012345678");
    }
    let mut unit = db.begin().await.unwrap();
    assert_eq!(audit::explain(&mut unit, "nothing").await.unwrap(), None);
}
