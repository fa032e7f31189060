//! The gateway against a real Postgres: what two people do at the same moment.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a failed step is a failed test

use std::time::Duration;

use domain::person::{Act, PersonAct, SignedAct};
use domain::time::UnixMs;
use ed25519_dalek::SigningKey;
use rails::signature::sign_act;
use runtime::kill::{Raise, Way};
use store::approvals::Approver;
use store::migrate::{RoleSpec, ensure_roles, migrate};
use store::{Db, Unit, kill};
use supervisor::gateway;
use testkit::servers;
use testkit::wait::wait_until;

struct House {
    admin: Db,
    supervisor: Db,
}

/// Writes one raise down, as the epoch after those that were there before it.
async fn raise(unit: &mut Unit, level: u8, by: &str, reason: &str) -> i64 {
    let raise =
        Raise { level, epoch: 2, by: by.to_owned(), way: Way::Cli, reason: reason.to_owned(), at: UnixMs(1_000) };
    let (row, _) = gateway::record(unit, &[raise]).await.unwrap();
    row.unwrap().epoch
}

fn key() -> SigningKey {
    SigningKey::from_bytes(&[3; 32])
}

impl House {
    /// Kill level 0, and one approver.
    async fn new() -> Self {
        let postgres = tokio::task::spawn_blocking(servers::postgres).await.unwrap();
        let database = postgres.empty_database().await;
        migrate(&database.admin_url()).await.unwrap();
        let role = RoleSpec { name: "supervisor", password: "test", grants: store::grants::SUPERVISOR };
        ensure_roles(&database.admin_url(), &[role]).await.unwrap();
        let admin = Db::connect(&database.admin_url(), "test").await.unwrap();
        let supervisor = Db::connect(&database.url_as("supervisor"), "test").await.unwrap();
        let mut unit = admin.begin().await.unwrap();
        let public_key = hex::encode(key().verifying_key().as_bytes());
        let person = Approver { person_id: "operator".into(), handle: None, public_key, active: true };
        store::approvals::upsert_approver(&mut unit, &person).await.unwrap();
        kill::raise(&mut unit, 0, "test", "start", UnixMs(1)).await.unwrap();
        unit.commit().await.unwrap();
        Self { admin, supervisor }
    }

    async fn level(&self) -> u8 {
        let mut unit = self.admin.begin().await.unwrap();
        kill::current(&mut unit).await.unwrap().unwrap().level
    }

    /// Somebody waits for the lock of the kill level.
    async fn somebody_waits(&self) -> bool {
        let waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted
            AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
        let count: i64 = sqlx::query_scalar(waiting).fetch_one(self.admin.pool()).await.unwrap();
        count > 0
    }

    async fn signed(&self, what: Act, reason: &str) -> SignedAct {
        let signed_at = self.admin.now().await.unwrap();
        let act = PersonAct {
            schema: PersonAct::SCHEMA.into(),
            person_id: "operator".into(),
            what,
            reason: reason.into(),
            signed_at,
        };
        sign_act(&key(), act).unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_halt_that_comes_second_never_lowers_the_one_before_it() {
    let house = House::new().await;
    let mut first = house.supervisor.begin().await.unwrap();
    raise(&mut first, 2, "anna", "cancel everything").await;
    let db = house.supervisor.clone();
    let second = tokio::spawn(async move {
        let mut unit = db.begin().await.unwrap();
        raise(&mut unit, 1, "bela", "no new risk").await;
        unit.commit().await.unwrap();
    });
    wait_until(Duration::from_secs(10), "the second to wait", || house.somebody_waits()).await;
    first.commit().await.unwrap();
    second.await.unwrap();
    assert_eq!(house.level().await, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_raise_is_written_down_once_however_often_that_is_tried_and_says_which_way_it_came() {
    let house = House::new().await;
    let raise = |level, epoch, by: &str, way| Raise {
        level,
        epoch,
        by: by.to_owned(),
        way,
        reason: "fire\u{0}".to_owned(),
        at: UnixMs(1_000),
    };
    let raises = [raise(2, 2, "anna", Way::Cli), raise(1, 3, "bela", Way::Signal), raise(3, 9, "", Way::File)];
    for _ in 0..3 {
        let mut unit = house.supervisor.begin().await.unwrap();
        gateway::record(&mut unit, &raises).await.unwrap();
        unit.commit().await.unwrap();
    }
    let mut unit = house.admin.begin().await.unwrap();
    let rows: Vec<_> = kill::since(&mut unit, 2).await.unwrap().iter().map(|row| (row.level, row.epoch)).collect();
    assert_eq!(rows, [(2, 2), (2, 3), (3, 9)], "no row lowers the one before it");
    let entries: Vec<String> = sqlx::query_scalar(
        "SELECT concat_ws(' ', body->>'level', body->>'in_force', body->>'epoch', body->>'by', body->>'way',
             body->>'reason') FROM governance_audit WHERE kind = 'kill_raised' ORDER BY seq",
    )
    .fetch_all(house.admin.pool())
    .await
    .unwrap();
    assert_eq!(entries, ["2 2 2 anna cli fire", "1 2 3 bela signal fire", "3 3 9 unknown file fire"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_halt_is_not_undone_by_somebody_who_has_not_seen_it() {
    let house = House::new().await;
    let mut unit = house.supervisor.begin().await.unwrap();
    let seen = raise(&mut unit, 1, "anna", "no new risk").await;
    unit.commit().await.unwrap();
    let lower = house.signed(Act::LowerKill { level: 0, epoch: seen }, "looked at it").await;
    let mut first = house.supervisor.begin().await.unwrap();
    raise(&mut first, 2, "anna", "worse").await;
    let db = house.supervisor.clone();
    let second = tokio::spawn(async move {
        let mut unit = db.begin().await.unwrap();
        let said = gateway::lower(&mut unit, &lower).await.unwrap();
        unit.commit().await.unwrap();
        said.map(drop)
    });
    wait_until(Duration::from_secs(10), "the second to wait", || house.somebody_waits()).await;
    first.commit().await.unwrap();
    assert_eq!(second.await.unwrap().unwrap_err().code, "STALE_EPOCH");
    assert_eq!(house.level().await, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_act_counts_once_and_says_nothing_a_table_or_a_terminal_can_not_take() {
    let house = House::new().await;
    let mut unit = house.supervisor.begin().await.unwrap();
    let seen = raise(&mut unit, 1, "anna", "no new risk").await;
    unit.commit().await.unwrap();
    let long = "x".repeat(501);
    for reason in ["nul \0", "\u{1b}[2J", "right\u{202e}left", long.as_str()] {
        let lower = house.signed(Act::LowerKill { level: 0, epoch: seen }, reason).await;
        let mut unit = house.supervisor.begin().await.unwrap();
        let said = gateway::lower(&mut unit, &lower).await.unwrap();
        assert_eq!(said.unwrap_err().code, "BAD_TEXT", "{reason:?}");
    }
    let lower = house.signed(Act::LowerKill { level: 0, epoch: seen }, "looked at it").await;
    for again in [false, true] {
        let mut unit = house.supervisor.begin().await.unwrap();
        let said = gateway::lower(&mut unit, &lower).await.unwrap();
        unit.commit().await.unwrap();
        assert_eq!(said.map(drop).map_err(|no| no.code), if again { Err("STALE_EPOCH") } else { Ok(()) });
    }
}
