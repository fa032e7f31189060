//! Requests for a human's word.

use domain::ids::{ApprovalId, UserId};
use domain::market::Venue;
use domain::message::Decision;
use domain::money::Quantity;
use domain::order::Side;
use domain::person::{Assurance, Change as Less};
use rails::book::{Change, Reservation, ReservationState};
use serde_json::json;
use store::approvals::{self, ApprovalRow, ApprovalStatus, Approver, EntryRow};
use store::{StoreError, ledger};
use uuid::Uuid;

use crate::samples::{T0, account, approver, envelope, request, yes};
use crate::world::{World, assert_locked, state};

cases! {
    a_request_reads_back_and_is_stored_once,
    a_request_starts_pending_and_within_its_bounds,
    a_request_takes_only_the_steps_of_its_life,
    of_two_units_one_takes_the_step,
    a_locked_request_moves_for_nobody_else,
    requests_that_wait_come_oldest_first,
    prompts_are_counted_from_a_moment,
    a_person_says_one_word,
    a_request_is_replaced_once,
    a_word_needs_a_person_and_a_request,
    what_waits_for_treasury_is_found,
    an_approver_is_replaced_by_an_administrator_only,
    requests_and_words_are_seen_by_those_who_handle_them,
}

const LESS: Less = Less { quantity: Some(Quantity::ZERO), worst_price: None };

use ApprovalStatus::{Allowed, Cancelled, Consumed, Denied, Expired, Pending, Revoked, Superseded};

const ALL: [ApprovalStatus; 8] = [Pending, Allowed, Denied, Expired, Cancelled, Superseded, Consumed, Revoked];

async fn requested(world: &World, row: &ApprovalRow) {
    let mut unit = world.begin("treasury").await;
    assert!(approvals::insert_request(&mut unit, row).await.unwrap());
    unit.commit().await.unwrap();
}

async fn asked(world: &World, user: UserId, n: u32) -> ApprovalRow {
    let row = request(&envelope(user, n, Venue::Paper));
    requested(world, &row).await;
    row
}

async fn step(world: &World, row: &ApprovalRow, from: &[ApprovalStatus], to: ApprovalStatus) -> bool {
    let mut unit = world.begin_for("treasury", row.user_id).await;
    let moved = approvals::set_status(&mut unit, row.approval_id, from, to).await.unwrap();
    unit.commit().await.unwrap();
    moved
}

async fn a_request_reads_back_and_is_stored_once(world: &World) {
    let (anna, berta) = (account(world, "anna").await, account(world, "berta").await);
    let mut row = request(&envelope(anna, 1, Venue::Paper));
    row.intent = json!({"a": [1, 0.5, {"b": null}], "ü": "\u{2028}"});
    row.reasoning = "ü".repeat(500);
    row.tier = 3;
    requested(world, &row).await;
    let mut unit = world.begin("treasury").await;
    let other = ApprovalRow { reasoning: "other".to_owned(), ..row.clone() };
    assert!(!approvals::insert_request(&mut unit, &other).await.unwrap());
    let mut unit = world.begin("treasury").await;
    let hers = ApprovalRow { user_id: berta, ..row.clone() };
    assert!(!approvals::insert_request(&mut unit, &hers).await.unwrap(), "an id is one request");
    assert_eq!(approvals::get(&mut unit, row.approval_id).await.unwrap(), Some(row));
    assert_eq!(approvals::get(&mut unit, ApprovalId(Uuid::nil())).await.unwrap(), None);
}

async fn a_request_starts_pending_and_within_its_bounds(world: &World) {
    let anna = account(world, "anna").await;
    let good = request(&envelope(anna, 1, Venue::Paper));
    for status in &ALL[1..] {
        let mut unit = world.begin("treasury").await;
        let bad = ApprovalRow { status: *status, ..good.clone() };
        assert_eq!(state(approvals::insert_request(&mut unit, &bad).await), "23001", "{status:?}");
    }
    for (bad, want) in [
        (ApprovalRow { tier: 0, ..good.clone() }, "23514"),
        (ApprovalRow { tier: 4, ..good.clone() }, "23514"),
        (ApprovalRow { reasoning: "ü".repeat(501), ..good.clone() }, "23514"),
        (ApprovalRow { reasoning: "\0".to_owned(), ..good.clone() }, "22021"),
        (ApprovalRow { intent: json!("\0"), ..good.clone() }, "22P05"),
        (ApprovalRow { user_id: UserId::of_handle("nobody"), ..good.clone() }, "23503"),
        (ApprovalRow { needed: 0, ..good.clone() }, "23514"),
        (ApprovalRow { needed: 101, ..good.clone() }, "23514"),
        (ApprovalRow { approvers_version: "\0".to_owned(), ..good.clone() }, "22021"),
    ] {
        let mut unit = world.begin("treasury").await;
        assert_eq!(state(approvals::insert_request(&mut unit, &bad).await), want, "{bad:?}");
    }
    let mut unit = world.begin("supervisor").await;
    assert_eq!(state(approvals::insert_request(&mut unit, &good).await), "42501");
}

async fn a_request_takes_only_the_steps_of_its_life(world: &World) {
    let anna = account(world, "anna").await;
    let of = |from| match from {
        Pending => vec![Allowed, Denied, Expired, Cancelled, Superseded],
        Allowed => vec![Consumed, Expired, Revoked],
        _ => vec![],
    };
    let mut n = 0;
    for from in ALL {
        n += 1;
        let row = asked(world, anna, n).await;
        if matches!(from, Consumed | Revoked | Allowed) {
            assert!(step(world, &row, &[Pending], Allowed).await);
        }
        if from != Pending && from != Allowed {
            assert!(step(world, &row, &[Pending, Allowed], from).await);
        }
        for to in ALL {
            let mut unit = world.begin_for("treasury", anna).await;
            let elsewhere: Vec<_> = ALL.into_iter().filter(|status| *status != from).collect();
            assert!(!approvals::set_status(&mut unit, row.approval_id, &elsewhere, to).await.unwrap(), "{from:?}");
            assert!(!approvals::set_status(&mut unit, row.approval_id, &[], to).await.unwrap());
            let moved = approvals::set_status(&mut unit, row.approval_id, &ALL, to).await;
            if to == from {
                assert!(!moved.unwrap(), "{from:?} stays");
            } else if of(from).contains(&to) {
                assert!(moved.unwrap(), "{from:?} to {to:?}");
                let seen = approvals::get(&mut unit, row.approval_id).await.unwrap().unwrap();
                assert_eq!(seen, ApprovalRow { status: to, ..row.clone() });
            } else {
                assert_eq!(state(moved), "23001", "{from:?} to {to:?}");
            }
        }
    }
    let row = asked(world, anna, 99).await;
    let berta = account(world, "berta").await;
    let mut unit = world.begin_for("treasury", berta).await;
    assert!(!approvals::set_status(&mut unit, row.approval_id, &ALL, Allowed).await.unwrap(), "of another user");
    assert!(!approvals::set_status(&mut unit, ApprovalId(Uuid::nil()), &ALL, Allowed).await.unwrap());
    let mut unit = world.begin_for("online_trading", anna).await;
    assert_eq!(state(approvals::set_status(&mut unit, row.approval_id, &ALL, Allowed).await), "42501");
}

async fn of_two_units_one_takes_the_step(world: &World) {
    let anna = account(world, "anna").await;
    let row = asked(world, anna, 1).await;
    assert!(step(world, &row, &[Pending], Allowed).await);
    let mut first = world.begin_for("treasury", anna).await;
    assert!(approvals::set_status(&mut first, row.approval_id, &[Allowed], Consumed).await.unwrap());
    let mut second = world.begin_impatient("treasury").await;
    second.set_tenant(anna).await.unwrap();
    assert_locked(approvals::set_status(&mut second, row.approval_id, &[Allowed], Consumed).await);
    drop(second);
    first.commit().await.unwrap();
    assert!(!step(world, &row, &[Allowed], Consumed).await);
    assert!(!step(world, &row, &[Allowed], Revoked).await);
    let seen = approvals::get(&mut world.begin("treasury").await, row.approval_id).await.unwrap().unwrap();
    assert_eq!(seen.status, Consumed);
}

async fn a_locked_request_moves_for_nobody_else(world: &World) {
    let (anna, berta) = (account(world, "anna").await, account(world, "berta").await);
    let row = asked(world, anna, 1).await;
    let mut first = world.begin_for("supervisor", anna).await;
    assert_eq!(approvals::lock(&mut first, row.approval_id).await.unwrap(), Some(row.clone()));
    for role in ["supervisor", "treasury"] {
        let mut second = world.begin_impatient(role).await;
        second.set_tenant(anna).await.unwrap();
        assert_locked(approvals::lock(&mut second, row.approval_id).await);
        let mut second = world.begin_impatient(role).await;
        second.set_tenant(anna).await.unwrap();
        assert_locked(approvals::set_status(&mut second, row.approval_id, &[Pending], Denied).await);
    }
    assert!(approvals::set_status(&mut first, row.approval_id, &[Pending], Allowed).await.unwrap());
    first.commit().await.unwrap();
    let mut second = world.begin_for("treasury", anna).await;
    let seen = approvals::lock(&mut second, row.approval_id).await.unwrap().unwrap();
    assert_eq!(seen.status, Allowed, "what happened while one waited is seen");
    let mut other = world.begin_for("supervisor", berta).await;
    assert_eq!(approvals::lock(&mut other, row.approval_id).await.unwrap(), None, "of another user");
    assert_eq!(approvals::lock(&mut other, ApprovalId(Uuid::nil())).await.unwrap(), None);
    let mut desk = world.begin_for("audit_verify", anna).await;
    assert_eq!(state(approvals::lock(&mut desk, row.approval_id).await), "42501");
}

async fn requests_that_wait_come_oldest_first(world: &World) {
    let (anna, berta) = (account(world, "anna").await, account(world, "berta").await);
    let mut rows = Vec::new();
    for (n, (user, ms)) in (1..).zip([(anna, 5), (berta, 1), (anna, 3), (berta, 3), (anna, 0)]) {
        let mut row = request(&envelope(user, n, Venue::Paper));
        row.requested_at = T0.plus_ms(ms);
        requested(world, &row).await;
        rows.push(row);
    }
    assert!(step(world, &rows[4], &[Pending], Denied).await);
    rows.pop();
    rows.sort_by_key(|row| (row.requested_at, row.approval_id));
    let mut unit = world.begin("supervisor").await;
    assert_eq!(approvals::pending(&mut unit, None).await.unwrap(), rows);
    let mine: Vec<_> = rows.iter().filter(|row| row.user_id == anna).cloned().collect();
    assert_eq!(approvals::pending(&mut unit, Some(anna)).await.unwrap(), mine);
    let other = approvals::pending(&mut unit, Some(berta)).await;
    assert!(matches!(other, Err(StoreError::WrongTenant { .. })));
}

async fn prompts_are_counted_from_a_moment(world: &World) {
    let (anna, berta) = (account(world, "anna").await, account(world, "berta").await);
    for (n, (user, ms)) in (1..).zip([(anna, 0), (anna, 10), (berta, 10), (anna, 20)]) {
        let mut row = request(&envelope(user, n, Venue::Paper));
        row.requested_at = T0.plus_ms(ms);
        requested(world, &row).await;
        assert!(step(world, &row, &[Pending], Denied).await || n == 0);
    }
    let mut unit = world.begin("treasury").await;
    for (ms, want) in [(-1, 3), (0, 3), (1, 2), (10, 2), (11, 1), (21, 0)] {
        assert_eq!(approvals::prompts_since(&mut unit, anna, T0.plus_ms(ms)).await.unwrap(), want, "{ms}");
    }
}

async fn a_person_says_one_word(world: &World) {
    let anna = account(world, "anna").await;
    for person in ["zoe", "anna", "mia"] {
        approver(world, person).await;
    }
    let (row, other) = (asked(world, anna, 1).await, asked(world, anna, 2).await);
    let mut want = Vec::new();
    for (person, decision) in [("zoe", Decision::Approve), ("anna", Decision::Reject), ("mia", Decision::Modify)] {
        let change = (decision == Decision::Modify).then_some(LESS);
        let word = EntryRow { decision, change, reason: "ü".to_owned(), ..yes(&row, person) };
        let mut unit = world.begin_for("supervisor", anna).await;
        assert!(approvals::insert_entry(&mut unit, &word).await.unwrap());
        let again = EntryRow { decision: Decision::Reject, change: None, ..word.clone() };
        assert!(!approvals::insert_entry(&mut unit, &again).await.unwrap());
        unit.commit().await.unwrap();
        let mut unit = world.begin_for("supervisor", anna).await;
        assert!(!approvals::insert_entry(&mut unit, &again).await.unwrap());
        want.push(word);
    }
    let back = EntryRow {
        decision: Decision::Revoke,
        assurance: Assurance::Telegram,
        evidence: json!({ "update_id": 7 }),
        shown_digest: Some(row.digest),
        signature: None,
        ..yes(&row, "zoe")
    };
    let mut unit = world.begin_for("supervisor", anna).await;
    assert!(approvals::insert_entry(&mut unit, &back).await.unwrap(), "what was said can be taken back, once");
    assert!(!approvals::insert_entry(&mut unit, &back).await.unwrap());
    unit.commit().await.unwrap();
    want.push(back);
    let mut unit = world.begin_for("supervisor", anna).await;
    assert!(approvals::insert_entry(&mut unit, &yes(&other, "zoe")).await.unwrap());
    assert_eq!(approvals::entries(&mut unit, row.approval_id).await.unwrap(), want, "in the order they were given");
    assert_eq!(approvals::entries(&mut unit, ApprovalId(Uuid::nil())).await.unwrap(), []);
    let mut second = world.begin_impatient("supervisor").await;
    second.set_tenant(anna).await.unwrap();
    assert_locked(approvals::insert_entry(&mut second, &yes(&other, "zoe")).await);
}

async fn a_request_is_replaced_once(world: &World) {
    let (anna, berta) = (account(world, "anna").await, account(world, "berta").await);
    let old = asked(world, anna, 1).await;
    reserve(world, &old, ReservationState::Pending).await;
    assert!(step(world, &old, &[Pending], Superseded).await);
    let due = async |id| {
        let found = approvals::due(&mut world.begin("treasury").await, T0).await.unwrap();
        found.contains(&(anna, id))
    };
    assert!(due(old.approval_id).await);
    let mut envelope = old.envelope.clone();
    envelope.max_slippage_bps = 1;
    let new = ApprovalRow {
        approval_id: ApprovalId(Uuid::from_u128(77)),
        digest: envelope.digest().unwrap(),
        envelope,
        needed: 2,
        replaces: Some(old.approval_id),
        ..old.clone()
    };
    let mut unit = world.begin("treasury").await;
    assert!(approvals::insert_request(&mut unit, &new).await.unwrap());
    let mut second = world.begin_impatient("treasury").await;
    let other = ApprovalRow { approval_id: ApprovalId(Uuid::from_u128(78)), ..new.clone() };
    assert_locked(approvals::insert_request(&mut second, &other).await);
    unit.commit().await.unwrap();
    let mut unit = world.begin("treasury").await;
    assert!(!approvals::insert_request(&mut unit, &other).await.unwrap(), "another took its place");
    assert_eq!(approvals::get(&mut unit, new.approval_id).await.unwrap(), Some(new.clone()));
    assert_eq!(approvals::successor(&mut unit, old.approval_id).await.unwrap(), Some(new.approval_id));
    assert_eq!(approvals::successor(&mut unit, new.approval_id).await.unwrap(), None);
    assert!(!due(old.approval_id).await, "the money is held for the other now");
    assert!(step(world, &new, &[Pending], Denied).await);
    assert!(due(new.approval_id).await && !due(old.approval_id).await);
    let mut unit = world.begin_for("online_trading", berta).await;
    assert_eq!(state(approvals::successor(&mut unit, old.approval_id).await), "42501");
}

async fn a_word_needs_a_person_and_a_request(world: &World) {
    let (anna, berta) = (account(world, "anna").await, account(world, "berta").await);
    approver(world, "zoe").await;
    let row = asked(world, anna, 1).await;
    let good = yes(&row, "zoe");
    for (user, bad, want) in [
        (anna, yes(&row, "mallory"), "23503"),
        (anna, EntryRow { approval_id: ApprovalId(Uuid::nil()), ..good.clone() }, "23503"),
        (berta, good.clone(), "23503"),
        (anna, EntryRow { signature: Some("CD".repeat(64)), ..good.clone() }, "23514"),
        (anna, EntryRow { signature: None, ..good.clone() }, "23514"),
        (anna, EntryRow { evidence: json!([]), ..good.clone() }, "23514"),
        (anna, EntryRow { evidence: json!({"a": "\0"}), ..good.clone() }, "22P05"),
        (anna, EntryRow { decision: Decision::Modify, ..good.clone() }, "23514"),
        (anna, EntryRow { change: Some(LESS), ..good.clone() }, "23514"),
        (anna, EntryRow { reason: "\0".to_owned(), ..good.clone() }, "22021"),
    ] {
        let mut unit = world.begin_for("supervisor", user).await;
        assert_eq!(state(approvals::insert_entry(&mut unit, &bad).await), want, "{bad:?}");
    }
    for role in ["treasury", "online_trading", "audit_verify"] {
        let mut unit = world.begin_for(role, anna).await;
        assert_eq!(state(approvals::insert_entry(&mut unit, &good).await), "42501", "{role}");
    }
    let mut unit = world.begin("supervisor").await;
    assert!(matches!(approvals::insert_entry(&mut unit, &good).await, Err(StoreError::NoTenant)));
}

async fn reserve(world: &World, row: &ApprovalRow, state: ReservationState) {
    let reservation = Reservation {
        order_id: row.order_id,
        instrument: row.envelope.instrument(),
        side: Side::Buy,
        reduce_only: false,
        remaining: row.envelope.quantity,
        worst_price: row.envelope.worst_price,
        state,
        expires_at: row.expires_at,
    };
    let mut unit = world.begin("treasury").await;
    ledger::apply(&mut unit, row.user_id, &[Change::Reservation(reservation)], T0).await.unwrap();
    unit.commit().await.unwrap();
}

async fn what_waits_for_treasury_is_found(world: &World) {
    let (anna, berta) = (account(world, "anna").await, account(world, "berta").await);
    let (late, allowed, denied) =
        (asked(world, anna, 1).await, asked(world, berta, 2).await, asked(world, anna, 3).await);
    let (released, permitted) = (asked(world, berta, 4).await, asked(world, anna, 5).await);
    for row in [&late, &allowed, &denied] {
        reserve(world, row, ReservationState::Pending).await;
    }
    reserve(world, &permitted, ReservationState::Permitted).await;
    assert!(step(world, &allowed, &[Pending], Allowed).await);
    for row in [&denied, &released, &permitted] {
        assert!(step(world, row, &[Pending], Denied).await);
    }
    let due = async |role, ms| approvals::due(&mut world.begin(role).await, T0.plus_ms(ms)).await.unwrap();
    let of = |rows: &[&ApprovalRow]| {
        let mut rows: Vec<_> = rows.iter().map(|row| (row.user_id, row.approval_id)).collect();
        rows.sort_unstable();
        rows
    };
    assert_eq!(due("treasury", 599_999).await, of(&[&allowed, &denied]), "allowed, or decided with money reserved");
    assert_eq!(due("treasury", 600_000).await, of(&[&allowed, &denied, &late]), "and out of time");
    assert!(step(world, &allowed, &[Allowed], Consumed).await);
    assert_eq!(due("treasury", 0).await, of(&[&allowed, &denied]), "consumed, and its money still only asked for");
    reserve(world, &allowed, ReservationState::Permitted).await;
    assert_eq!(due("treasury", 0).await, of(&[&denied]));
    assert_eq!(due("supervisor", 600_000).await, of(&[&late]), "it sees no reservations of others");
}

async fn an_approver_is_replaced_by_an_administrator_only(world: &World) {
    let (zoe, anna) = (approver(world, "zoe").await, approver(world, "anna").await);
    let mut unit = world.begin("supervisor").await;
    assert_eq!(approvals::approver(&mut unit, "zoe").await.unwrap(), Some(zoe.clone()));
    assert_eq!(approvals::approver(&mut unit, "nobody").await.unwrap(), None);
    assert_eq!(approvals::approvers(&mut unit).await.unwrap(), [anna.clone(), zoe]);
    let gone = Approver { handle: None, active: false, public_key: "ab".repeat(32), ..approver(world, "zoe").await };
    let mut unit = world.begin("admin").await;
    approvals::upsert_approver(&mut unit, &gone).await.unwrap();
    unit.commit().await.unwrap();
    let mut unit = world.begin("treasury").await;
    assert_eq!(approvals::approvers(&mut unit).await.unwrap(), [anna, gone.clone()]);
    for role in ["supervisor", "treasury"] {
        let mut unit = world.begin(role).await;
        assert_eq!(state(approvals::upsert_approver(&mut unit, &gone).await), "42501", "{role}");
    }
    for bad in [
        Approver { person_id: String::new(), ..gone.clone() },
        Approver { public_key: "AB".repeat(32), ..gone.clone() },
        Approver { public_key: "ab".repeat(31), ..gone.clone() },
    ] {
        let mut unit = world.begin("admin").await;
        assert_eq!(state(approvals::upsert_approver(&mut unit, &bad).await), "23514", "{bad:?}");
    }
    let mut first = world.begin("admin").await;
    approvals::upsert_approver(&mut first, &gone).await.unwrap();
    let mut second = world.begin_impatient("admin").await;
    assert_locked(approvals::upsert_approver(&mut second, &gone).await);
    let mut unit = world.begin("buy_bot").await;
    assert_eq!(state(approvals::approvers(&mut unit).await), "42501");
}

async fn requests_and_words_are_seen_by_those_who_handle_them(world: &World) {
    let (anna, berta) = (account(world, "anna").await, account(world, "berta").await);
    approver(world, "zoe").await;
    let row = asked(world, anna, 1).await;
    let mut unit = world.begin_for("supervisor", anna).await;
    assert!(approvals::insert_entry(&mut unit, &yes(&row, "zoe")).await.unwrap());
    unit.commit().await.unwrap();
    for (role, tenant, request, words) in [
        ("treasury", None, true, 0),
        ("treasury", Some(berta), true, 0),
        ("treasury", Some(anna), true, 1),
        ("supervisor", None, true, 1),
        ("supervisor", Some(berta), true, 1),
        ("audit_verify", None, true, 1),
        ("admin", None, true, 1),
    ] {
        let mut unit = world.begin(role).await;
        if let Some(tenant) = tenant {
            unit.set_tenant(tenant).await.unwrap();
        }
        assert_eq!(approvals::get(&mut unit, row.approval_id).await.unwrap().is_some(), request, "{role}, {tenant:?}");
        assert_eq!(approvals::entries(&mut unit, row.approval_id).await.unwrap().len(), words, "{role}, {tenant:?}");
    }
    let mut unit = world.begin_for("online_trading", anna).await;
    assert_eq!(state(approvals::get(&mut unit, row.approval_id).await), "42501");
}
