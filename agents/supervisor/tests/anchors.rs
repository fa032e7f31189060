//! No head is signed over a history that changed, neither within one life of the supervisor nor after a restart.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a failed step is a failed test

use std::path::PathBuf;

use domain::ids::UserId;
use domain::time::UnixMs;
use ed25519_dalek::SigningKey;
use serde_json::json;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use store::Db;
use store::audit::{Chain, SignedHead};
use store::migrate::{RoleSpec, ensure_roles, migrate};
use supervisor::anchors::{Notary, Tampered};
use testkit::servers::{self, TestDatabase};

struct House {
    database: TestDatabase,
    supervisor: Db,
    file: PathBuf,
    user: UserId,
}

fn key() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

impl House {
    /// A user with five audit rows.
    async fn new() -> Self {
        let postgres = tokio::task::spawn_blocking(servers::postgres).await.unwrap();
        let database = postgres.empty_database().await;
        migrate(&database.admin_url()).await.unwrap();
        let roles = [
            RoleSpec { name: "supervisor", password: "test", grants: store::grants::SUPERVISOR },
            RoleSpec { name: "treasury", password: "test", grants: store::grants::TREASURY },
        ];
        ensure_roles(&database.admin_url(), &roles).await.unwrap();
        let supervisor = Db::connect(&database.url_as("supervisor"), "test").await.unwrap();
        let file = servers::fresh_folder("anchors").join("anchors.jsonl");
        let house = Self { database, supervisor, file, user: UserId::of_handle("alice") };
        house.append(5).await;
        house
    }

    async fn append(&self, rows: i64) {
        self.append_of(self.user, rows).await;
    }

    async fn append_of(&self, user: UserId, rows: i64) {
        let treasury = Db::connect(&self.database.url_as("treasury"), "test").await.unwrap();
        for n in 0..rows {
            let mut unit = treasury.begin().await.unwrap();
            store::audit::append(&mut unit, user, "test", "treasury", &json!({ "n": n }), UnixMs(n)).await.unwrap();
            unit.commit().await.unwrap();
        }
    }

    fn notary(&self) -> Result<Notary, Tampered> {
        Notary::open(self.file.clone(), key(), &[]).unwrap()
    }

    /// Signs what moved and writes it as the supervisor does.
    async fn sign(&self, notary: &mut Notary) -> Result<Vec<SignedHead>, Tampered> {
        let mut unit = self.supervisor.begin().await.unwrap();
        let look = notary.sign(&mut unit, UnixMs(1)).await.unwrap()?;
        unit.rollback().await.unwrap();
        notary.write(&look).unwrap();
        Ok(look.signed)
    }

    /// What somebody with the administrator's login and all triggers off does.
    async fn tamper(&self, statements: &str) {
        let mut admin = PgConnection::connect(&self.database.admin_url()).await.unwrap();
        let off = "ALTER TABLE trade_audit DISABLE TRIGGER ALL; ALTER TABLE audit_heads DISABLE TRIGGER ALL;";
        sqlx::raw_sql(AssertSqlSafe(format!("{off} {statements}"))).execute(&mut admin).await.unwrap();
    }
}

const REWRITTEN: &str = "UPDATE trade_audit SET hash = decode(repeat('ab', 32), 'hex') WHERE seq = 5;
    UPDATE audit_heads SET hash = decode(repeat('ab', 32), 'hex')";
const CUT: &str = "DELETE FROM trade_audit WHERE seq > 3;
    UPDATE audit_heads SET seq = 3, hash = (SELECT hash FROM trade_audit WHERE seq = 3)";
const EMPTIED: &str = "DELETE FROM trade_audit; DELETE FROM audit_heads";
const HEAD_MOVED_BACK_TO: &str = "UPDATE audit_heads SET seq = SEQ,
    hash = (SELECT hash FROM trade_audit WHERE seq = SEQ AND user_id = 'USER')";
const HEAD_MOVED_BACK: &str = "UPDATE audit_heads SET seq = 3, hash = (SELECT hash FROM trade_audit WHERE seq = 3)";

#[tokio::test]
async fn an_honest_chain_is_signed_once_a_head_and_again_when_it_moved() {
    let house = House::new().await;
    let mut notary = house.notary().unwrap();
    assert_eq!(house.sign(&mut notary).await.unwrap().len(), 1);
    assert!(house.sign(&mut notary).await.unwrap().is_empty());
    house.append(2).await;
    let mut restarted = house.notary().unwrap();
    let signed = house.sign(&mut restarted).await.unwrap();
    assert_eq!(signed.iter().map(|head| (head.chain, head.seq)).collect::<Vec<_>>(), [(Chain::User(house.user), 7)]);
    assert_eq!(std::fs::read_to_string(&house.file).unwrap().lines().count(), 2);
}

#[tokio::test]
async fn a_changed_history_is_never_signed_not_even_after_a_restart() {
    for (what, grows_after) in
        [(REWRITTEN, false), (REWRITTEN, true), (CUT, false), (CUT, true), (EMPTIED, false), (HEAD_MOVED_BACK, false)]
    {
        for restart in [false, true] {
            let house = House::new().await;
            let mut notary = house.notary().unwrap();
            house.sign(&mut notary).await.unwrap();
            house.tamper(what).await;
            if grows_after {
                // The chain is longer again than what was anchored.
                house.append(4).await;
            }
            if restart {
                notary = house.notary().unwrap();
            }
            let said = house.sign(&mut notary).await;
            let found = matches!(said, Err(Tampered::Gone { seq: 5, .. } | Tampered::Rewritten { seq: 5, .. }));
            assert!(found, "{what}, restart {restart}, grows {grows_after}: {said:?}");
        }
    }
}

#[tokio::test]
async fn a_head_that_changed_without_a_word_is_found_in_the_round_over_all_users() {
    let house = House::new().await;
    let users: Vec<UserId> = ["bob", "carol", "dave"].map(UserId::of_handle).into();
    for user in &users {
        house.append_of(*user, 5).await;
    }
    for user in users.iter().chain([&house.user]) {
        let _ = std::fs::remove_file(&house.file);
        let mut notary = house.notary().unwrap().with_round(1);
        assert_eq!(house.sign(&mut notary).await.unwrap().len(), 4, "all of them after a start");
        assert!(house.sign(&mut notary).await.unwrap().is_empty());
        let of_user = format!("{HEAD_MOVED_BACK_TO} WHERE user_id = '{user}'");
        house.tamper(&of_user.replace("SEQ", "3").replace("USER", &user.to_string())).await;
        let mut found = None;
        for _ in 0..5 {
            found = found.or(house.sign(&mut notary).await.err());
        }
        assert!(
            matches!(found, Some(Tampered::Rewritten { chain: Chain::User(of), seq: 5 }) if of == *user),
            "{found:?}"
        );
        house.tamper(&of_user.replace("SEQ", "5").replace("USER", &user.to_string())).await;
    }
}

#[tokio::test]
async fn an_anchor_that_was_not_signed_here_is_found_and_half_a_line_of_a_crash_is_cut_off() {
    let house = House::new().await;
    let mut notary = house.notary().unwrap();
    house.sign(&mut notary).await.unwrap();
    let honest = std::fs::read_to_string(&house.file).unwrap();
    let check = |text: String, good: bool| {
        std::fs::write(&house.file, text).unwrap();
        assert_eq!(house.notary().is_ok(), good);
    };
    check(format!("{honest}{{\"chain\""), true);
    assert_eq!(std::fs::read_to_string(&house.file).unwrap(), honest, "the half line is gone");
    check(format!("{honest}{{\"chain\"\n"), false);
    check(honest.replace("\"seq\":5", "\"seq\":4"), false);
    std::fs::write(&house.file, &honest).unwrap();
    let new_key = |old: &[ed25519_dalek::VerifyingKey]| {
        Notary::open(house.file.clone(), SigningKey::from_bytes(&[8; 32]), old).unwrap().is_ok()
    };
    assert!(!new_key(&[]));
    assert!(new_key(&[key().verifying_key()]), "after a change of keys old anchors still count");
}
