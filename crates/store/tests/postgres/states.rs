//! Compare-and-set under contention, and states that only move on.

use std::sync::Arc;

use domain::market::Venue;
use domain::message::Decision;
use domain::money::Quantity;
use domain::order::OrderState;
use domain::person::Assurance;
use store::approvals::{self, ApprovalStatus, Approver, EntryRow};
use store::permits::{self, PermitState};
use store::{Db, OutboxRow, StoreError, decisions, kill, orders, supervision};
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use crate::samples::{T0, account, decision, envelope, fill, order, permit, permitted, request, signal};
use crate::support::World;

#[tokio::test]
async fn a_leg_of_a_signal_is_judged_once() {
    let world = World::new().await;
    let treasury = world.login("treasury").await;
    let anna = account(&treasury, "anna").await;
    let row = decision(&envelope(anna, 1, Venue::Paper), signal(1), 0);
    let again = decision(&envelope(anna, 2, Venue::Paper), signal(1), 0);
    let next_leg = decision(&envelope(anna, 3, Venue::Paper), signal(1), 1);
    let mut unit = treasury.begin().await.unwrap();
    assert!(decisions::insert(&mut unit, &row).await.unwrap());
    assert!(!decisions::insert(&mut unit, &row).await.unwrap());
    assert!(!decisions::insert(&mut unit, &again).await.unwrap());
    assert!(decisions::insert(&mut unit, &next_leg).await.unwrap());
    unit.commit().await.unwrap();
    let mut unit = treasury.begin().await.unwrap();
    assert_eq!(decisions::recent(&mut unit, anna, 9).await.unwrap(), [next_leg, row.clone()]);
    assert_eq!(decisions::get_by_order(&mut unit, row.order_id).await.unwrap(), Some(row));
}

/// Runs `spenders` spends and `voiders` voids of one permit at once; says how many of each won.
async fn race(
    db: &[Db],
    user: domain::ids::UserId,
    id: domain::ids::PermitId,
    spenders: usize,
    voiders: usize,
) -> (usize, usize) {
    let start = Arc::new(Barrier::new(spenders + voiders));
    let mut tasks = JoinSet::new();
    for n in 0..spenders + voiders {
        let (db, start) = (db[n % db.len()].clone(), Arc::clone(&start));
        tasks.spawn(async move {
            start.wait().await;
            let mut unit = db.begin().await.unwrap();
            unit.set_tenant(user).await.unwrap();
            let spends = n < spenders;
            let won = if spends {
                permits::spend(&mut unit, id, T0).await.unwrap()
            } else {
                permits::void(&mut unit, id).await.unwrap()
            };
            unit.commit().await.unwrap();
            (spends && won, !spends && won)
        });
    }
    let done = tasks.join_all().await;
    (done.iter().filter(|w| w.0).count(), done.iter().filter(|w| w.1).count())
}

#[tokio::test]
async fn of_24_spenders_one_wins() {
    let world = World::new().await;
    let treasury = world.login("treasury").await;
    let anna = account(&treasury, "anna").await;
    let permit = permitted(&treasury, anna, 1, Venue::Paper).await;
    let mut desks = Vec::new();
    for _ in 0..6 {
        desks.push(world.login("online_trading").await);
    }
    assert_eq!(race(&desks, anna, permit.body.permit_id, 24, 0).await, (1, 0));
    assert_eq!(race(&desks, anna, permit.body.permit_id, 4, 4).await, (0, 0));
}

#[tokio::test]
async fn spending_against_voiding_has_one_winner_every_time() {
    let world = World::new().await;
    let (treasury, desk) = (world.login("treasury").await, world.login("online_trading").await);
    let anna = account(&treasury, "anna").await;
    let dbs = [desk, treasury.clone()];
    for n in 0..20 {
        let permit = permitted(&treasury, anna, n, Venue::Paper).await;
        let (spent, voided) = race(&dbs, anna, permit.body.permit_id, 2, 2).await;
        assert_eq!(spent + voided, 1, "round {n}");
        let mut unit = treasury.begin().await.unwrap();
        let row = permits::get(&mut unit, permit.body.permit_id).await.unwrap().unwrap();
        assert_eq!(row.state, if spent == 1 { PermitState::Spent } else { PermitState::Void });
        assert_eq!(row.permit, permit);
    }
}

#[tokio::test]
async fn a_permit_past_its_time_is_voided_not_spent_and_an_order_has_one() {
    let world = World::new().await;
    let treasury = world.login("treasury").await;
    let anna = account(&treasury, "anna").await;
    let first = permitted(&treasury, anna, 1, Venue::Paper).await;
    let (id, end) = (first.body.permit_id, first.body.expires_at);
    let mut unit = treasury.begin().await.unwrap();
    assert!(permits::unspent_due(&mut unit, end.plus_ms(-1)).await.unwrap().is_empty());
    let due = permits::unspent_due(&mut unit, end).await.unwrap();
    assert_eq!((due.len(), due[0].permit_id, due[0].user_id), (1, id, anna));
    unit.set_tenant(anna).await.unwrap();
    assert!(!permits::spend(&mut unit, id, end).await.unwrap());
    assert!(permits::void(&mut unit, id).await.unwrap());
    unit.commit().await.unwrap();
    let mut second = permit(&first.body.envelope);
    second.body.permit_id = domain::ids::PermitId(uuid::Uuid::from_u128(7));
    let mut unit = treasury.begin().await.unwrap();
    let error = permits::insert(&mut unit, &second, anna).await.unwrap_err();
    assert_eq!(error.sql_state().as_deref(), Some("23505"));
    drop(unit);
    let back = sqlx::query("UPDATE permits SET state = 'signed'").execute(world.admin.pool()).await;
    assert!(back.is_err(), "a void permit came back");
}

#[tokio::test]
async fn a_permit_reads_back_as_it_was_signed_with_what_became_of_it() {
    let world = World::new().await;
    let treasury = world.login("treasury").await;
    let anna = account(&treasury, "anna").await;
    let mut unit = treasury.begin().await.unwrap();
    assert_eq!(permits::get(&mut unit, domain::ids::PermitId(uuid::Uuid::from_u128(7))).await.unwrap(), None);
    drop(unit);
    for (n, state) in [(1, PermitState::Signed), (2, PermitState::Spent), (3, PermitState::Void)] {
        let permit = permitted(&treasury, anna, n, Venue::Paper).await;
        let id = permit.body.permit_id;
        let mut unit = world.admin.begin().await.unwrap();
        unit.set_tenant(anna).await.unwrap();
        let (spend, void) = (state == PermitState::Spent, state == PermitState::Void);
        assert_eq!(spend && permits::spend(&mut unit, id, T0).await.unwrap(), spend);
        assert_eq!(void && permits::void(&mut unit, id).await.unwrap(), void);
        let row = permits::get(&mut unit, id).await.unwrap().unwrap();
        unit.commit().await.unwrap();
        assert_eq!((row.permit, row.user_id, row.state), (permit, anna, state));
    }
    for (state, word) in [(PermitState::Signed, "signed"), (PermitState::Spent, "spent"), (PermitState::Void, "void")] {
        assert_eq!((state.word(), PermitState::parse(word)), (word, Some(state)));
    }
    assert_eq!(PermitState::parse("SPENT"), None);
}

#[tokio::test]
async fn an_approval_moves_once_and_never_back() {
    use ApprovalStatus::{Allowed, Consumed, Denied, Expired, Pending};
    let world = World::new().await;
    let (treasury, supervisor) = (world.login("treasury").await, world.login("supervisor").await);
    let anna = account(&treasury, "anna").await;
    let row = request(&envelope(anna, 1, Venue::Paper));
    let id = row.approval_id;
    let mut unit = treasury.begin().await.unwrap();
    assert!(approvals::insert_request(&mut unit, &row).await.unwrap());
    assert!(!approvals::insert_request(&mut unit, &row).await.unwrap());
    assert_eq!(approvals::prompts_since(&mut unit, anna, T0).await.unwrap(), 1);
    unit.commit().await.unwrap();
    let mut unit = supervisor.begin().await.unwrap();
    assert_eq!(approvals::pending(&mut unit, None).await.unwrap(), std::slice::from_ref(&row));
    assert!(approvals::set_status(&mut unit, id, &[Pending], Allowed).await.is_err(), "no tenant");
    unit.set_tenant(anna).await.unwrap();
    for (from, to, want) in [
        (&[Allowed][..], Consumed, false),
        (&[Pending], Allowed, true),
        (&[Pending], Denied, false),
        (&[Pending], Allowed, false),
        (&[Pending, Allowed], Expired, true),
        (&[Pending, Allowed], Consumed, false),
    ] {
        assert_eq!(approvals::set_status(&mut unit, id, from, to).await.unwrap(), want, "{from:?} to {to:?}");
    }
    unit.commit().await.unwrap();
    let mut unit = treasury.begin().await.unwrap();
    assert_eq!(approvals::get(&mut unit, id).await.unwrap().unwrap().status, Expired);
    assert!(approvals::due(&mut unit, T0.plus_ms(i64::from(u32::MAX))).await.unwrap().is_empty());
    unit.set_tenant(anna).await.unwrap();
    let revived = approvals::set_status(&mut unit, id, &[Expired], Allowed).await;
    assert!(revived.is_err(), "an expired request was allowed");
}

#[tokio::test]
async fn a_decided_question_is_due_until_its_money_is_free_whatever_became_of_the_message() {
    let world = World::new().await;
    let treasury = world.login("treasury").await;
    let bela = account(&treasury, "bela").await;
    let anna = account(&treasury, "anna").await;
    let row = request(&envelope(anna, 1, Venue::Paper));
    let reservation = rails::book::Reservation {
        order_id: row.order_id,
        instrument: row.envelope.instrument(),
        side: row.envelope.side,
        reduce_only: false,
        remaining: row.envelope.quantity,
        worst_price: row.envelope.worst_price,
        state: rails::book::ReservationState::Pending,
        expires_at: row.expires_at,
    };
    let mut unit = treasury.begin().await.unwrap();
    approvals::insert_request(&mut unit, &row).await.unwrap();
    store::ledger::apply(&mut unit, anna, &[rails::book::Change::Reservation(reservation)], T0).await.unwrap();
    unit.commit().await.unwrap();
    let due = async || {
        let mut unit = treasury.begin().await.unwrap();
        approvals::due(&mut unit, T0).await.unwrap()
    };
    assert!(due().await.is_empty(), "it still waits for a human");
    let step = async |to, released: bool| {
        let mut unit = treasury.begin().await.unwrap();
        unit.set_tenant(anna).await.unwrap();
        if released {
            let change = rails::book::Change::Released(row.order_id);
            store::ledger::apply(&mut unit, anna, &[change], T0).await.unwrap();
        } else {
            let from = [ApprovalStatus::Pending, ApprovalStatus::Allowed];
            assert!(approvals::set_status(&mut unit, row.approval_id, &from, to).await.unwrap());
        }
        unit.commit().await.unwrap();
    };
    step(ApprovalStatus::Allowed, false).await;
    assert_eq!(due().await, [(anna, row.approval_id)], "allowed: to be consumed at once");
    step(ApprovalStatus::Revoked, false).await;
    assert_eq!(due().await, [(anna, row.approval_id)], "its money is still reserved");
    step(ApprovalStatus::Revoked, true).await;
    assert!(due().await.is_empty());
    let mut unit = treasury.begin().await.unwrap();
    assert!(
        store::ledger::holders(&mut unit, None, 9).await.unwrap().is_empty(),
        "nobody holds anything, {bela} neither"
    );
}

#[tokio::test]
async fn a_person_has_one_vote() {
    let world = World::new().await;
    let (treasury, supervisor) = (world.login("treasury").await, world.login("supervisor").await);
    let anna = account(&treasury, "anna").await;
    let row = request(&envelope(anna, 1, Venue::Paper));
    let mut unit = treasury.begin().await.unwrap();
    approvals::insert_request(&mut unit, &row).await.unwrap();
    unit.commit().await.unwrap();
    let mut unit = supervisor.begin().await.unwrap();
    let person = Approver {
        person_id: "anna".to_owned(),
        handle: Some("anna".to_owned()),
        public_key: "0f".repeat(32),
        active: true,
    };
    let own = approvals::upsert_approver(&mut unit, &person).await.unwrap_err();
    assert_eq!(own.sql_state().as_deref(), Some("42501"), "a gateway that adds a key can approve anything");
    unit.rollback().await.unwrap();
    let mut unit = world.admin.begin().await.unwrap();
    approvals::upsert_approver(&mut unit, &person).await.unwrap();
    unit.commit().await.unwrap();
    let mut unit = supervisor.begin().await.unwrap();
    unit.set_tenant(anna).await.unwrap();
    let yes = EntryRow {
        approval_id: row.approval_id,
        person_id: "anna".to_owned(),
        decision: Decision::Approve,
        change: None,
        channel: "cli".to_owned(),
        assurance: Assurance::CliKey,
        evidence: serde_json::json!({}),
        digest: row.digest,
        shown_digest: None,
        reason: "fine".to_owned(),
        signature: Some("cd".repeat(64)),
        signed_at: T0,
    };
    assert!(approvals::insert_entry(&mut unit, &yes).await.unwrap());
    let no = EntryRow { decision: Decision::Reject, ..yes.clone() };
    assert!(!approvals::insert_entry(&mut unit, &no).await.unwrap());
    assert_eq!(approvals::entries(&mut unit, row.approval_id).await.unwrap(), std::slice::from_ref(&yes));
    assert_eq!(approvals::approver(&mut unit, "anna").await.unwrap(), Some(person.clone()));
    assert_eq!(approvals::approvers(&mut unit).await.unwrap(), [person]);
    let stranger = EntryRow { person_id: "mallory".to_owned(), ..yes };
    assert!(approvals::insert_entry(&mut unit, &stranger).await.is_err());
}

#[tokio::test]
async fn an_order_ends_once_and_each_fill_is_posted_once() {
    let world = World::new().await;
    let (treasury, desk) = (world.login("treasury").await, world.login("online_trading").await);
    let anna = account(&treasury, "anna").await;
    let row = order(&permitted(&treasury, anna, 1, Venue::Paper).await);
    let id = row.order_id;
    let half = Quantity::parse("0.00006").unwrap();
    let mut unit = desk.begin().await.unwrap();
    assert!(orders::insert(&mut unit, &row).await.unwrap());
    assert!(!orders::insert(&mut unit, &row).await.unwrap());
    assert_eq!(orders::get(&mut unit, id).await.unwrap(), Some(row.clone()));
    assert!(orders::mark_sent(&mut unit, id, T0).await.unwrap());
    assert!(!orders::mark_sent(&mut unit, id, T0).await.unwrap());
    let one = fill(&row, "1");
    assert!(orders::insert_fill(&mut unit, &one, anna).await.unwrap());
    assert!(!orders::insert_fill(&mut unit, &one, anna).await.unwrap());
    assert!(orders::set_state(&mut unit, id, OrderState::Unknown, half, Some("v1"), None).await.unwrap());
    assert!(orders::set_state(&mut unit, id, OrderState::Cancelled, Quantity::ZERO, None, Some("IOC")).await.unwrap());
    assert!(!orders::set_state(&mut unit, id, OrderState::Filled, half, None, None).await.unwrap());
    unit.commit().await.unwrap();
    let mut unit = treasury.begin().await.unwrap();
    let ended = orders::recent(&mut unit, anna, 1).await.unwrap().remove(0);
    assert_eq!((ended.state, ended.filled, ended.code.as_deref()), (OrderState::Cancelled, half, Some("IOC")));
    assert_eq!((ended.venue_order_id.as_deref(), ended.sent_at), (Some("v1"), Some(T0)));
    assert_eq!(orders::unposted(&mut unit, 9, &[]).await.unwrap(), [(anna, id)]);
    assert_eq!(orders::fills_unposted(&mut unit, anna, id).await.unwrap(), std::slice::from_ref(&one));
    assert!(orders::mark_fill_posted(&mut unit, anna, &one).await.unwrap());
    assert!(!orders::mark_fill_posted(&mut unit, anna, &one).await.unwrap());
    assert_eq!(orders::unposted(&mut unit, 9, &[]).await.unwrap(), [(anna, id)]);
    assert!(orders::mark_outcome_posted(&mut unit, anna, id).await.unwrap());
    assert!(!orders::mark_outcome_posted(&mut unit, anna, id).await.unwrap());
    assert!(orders::unposted(&mut unit, 9, &[]).await.unwrap().is_empty());
    unit.commit().await.unwrap();
    let mut unit = desk.begin().await.unwrap();
    assert!(orders::insert_fill(&mut unit, &fill(&row, "2"), anna).await.unwrap());
    unit.commit().await.unwrap();
    let mut unit = treasury.begin().await.unwrap();
    assert_eq!(orders::unposted(&mut unit, 9, &[]).await.unwrap(), [(anna, id)], "a late fill is posted too");
    assert_eq!(orders::fills(&mut unit, anna, 9).await.unwrap().len(), 2);
}

#[tokio::test]
async fn kill_epochs_have_no_gaps_and_lowering_needs_a_reason() {
    let world = World::new().await;
    let supervisor = world.login("supervisor").await;
    let mut unit = supervisor.begin().await.unwrap();
    assert_eq!(kill::current(&mut unit).await.unwrap(), None);
    kill::raise(&mut unit, 0, "up", "first start", T0).await.unwrap();
    unit.commit().await.unwrap();
    let mut tasks = JoinSet::new();
    for _ in 0..8 {
        let db = supervisor.clone();
        tasks.spawn(async move {
            let mut unit = db.begin().await.unwrap();
            let kill = kill::raise(&mut unit, 2, "anna", "", T0).await.unwrap();
            unit.commit().await.unwrap();
            kill.epoch
        });
    }
    let mut epochs = tasks.join_all().await;
    epochs.sort_unstable();
    assert_eq!(epochs, (2..10).collect::<Vec<_>>());
    let mut unit = supervisor.begin().await.unwrap();
    assert!(matches!(kill::raise(&mut unit, 1, "anna", "  ", T0).await, Err(StoreError::ReasonNeeded)));
    assert!(matches!(kill::raise(&mut unit, 5, "anna", "x", T0).await, Err(StoreError::OutOfRange(_))));
    let lowered = kill::raise(&mut unit, 0, "anna", "all clear", T0).await.unwrap();
    assert_eq!(kill::current(&mut unit).await.unwrap(), Some(lowered));
    unit.commit().await.unwrap();
    assert!(sqlx::query("DELETE FROM kill_levels").execute(world.admin.pool()).await.is_err());
}

#[tokio::test]
async fn a_message_is_handled_once_and_waits_in_order_until_published() {
    let world = World::new().await;
    let db = world.login("buy_bot").await;
    let row = |n: u128| OutboxRow {
        id: uuid::Uuid::from_u128(n),
        subject: "system.treasury.intent.critical".to_owned(),
        headers: serde_json::json!({"Nats-Msg-Id": n.to_string()}),
        payload: vec![0, 255],
        valid_until: Some(T0),
    };
    let mut unit = db.begin().await.unwrap();
    assert!(unit.open(None, "buy_bot", signal(1)).await.unwrap().is_some());
    assert!(unit.open(None, "buy_bot", signal(1)).await.unwrap().is_none());
    for n in [3, 1, 2, 1] {
        unit.outbox_put("buy_bot", &[row(n)]).await.unwrap();
    }
    unit.commit().await.unwrap();
    let mut unit = db.begin().await.unwrap();
    assert!(unit.open(None, "buy_bot", signal(2)).await.unwrap().is_some());
    unit.outbox_put("buy_bot", &[row(4)]).await.unwrap();
    unit.rollback().await.unwrap();
    assert_eq!(db.outbox_pending("buy_bot", 9).await.unwrap(), [row(3), row(1), row(2)]);
    assert_eq!(db.outbox_pending("buy_bot", 1).await.unwrap(), [row(3)]);
    db.outbox_delete("buy_bot", &[row(3).id, row(1).id]).await.unwrap();
    assert_eq!(db.outbox_pending("buy_bot", 9).await.unwrap(), [row(2)]);
    let now = db.now().await.unwrap();
    assert_eq!(db.inbox_forget("buy_bot", now.plus_ms(-60_000), 10).await.unwrap(), 0);
    assert_eq!(db.inbox_forget("buy_bot", now.plus_ms(60_000), 10).await.unwrap(), 1);
    db.ping().await.unwrap();
}

#[tokio::test]
async fn restarts_and_declared_state_outlive_the_supervisor() {
    let world = World::new().await;
    let db = world.login("supervisor").await;
    let mut unit = db.begin().await.unwrap();
    let restart = |n: u128, ms| supervision::Restart {
        agent: "dexter".to_owned(),
        boot_id: domain::ids::BootId(uuid::Uuid::from_u128(n)),
        at: T0.plus_ms(ms),
        kind: supervision::RestartKind::Crash,
        cause: "exit 1".to_owned(),
    };
    for (n, ms, is_new) in [(1, 0, true), (2, 10, true), (2, 10, false), (3, 20, true)] {
        assert_eq!(supervision::insert_restart(&mut unit, &restart(n, ms)).await.unwrap(), is_new);
    }
    let since = supervision::restarts_since(&mut unit, "dexter", T0.plus_ms(10)).await.unwrap();
    assert_eq!(since, [restart(2, 10), restart(3, 20)]);
    let mut declared = supervision::Declared {
        agent: "dexter".to_owned(),
        state: "running".to_owned(),
        config_hash: "aa".to_owned(),
        binary_hash: "bb".to_owned(),
        reason: String::new(),
        at: T0,
    };
    supervision::declare(&mut unit, &declared).await.unwrap();
    declared.state = "quarantined".to_owned();
    supervision::declare(&mut unit, &declared).await.unwrap();
    assert_eq!(supervision::declared(&mut unit).await.unwrap(), [declared]);
}
