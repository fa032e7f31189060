//! The transaction itself, inbox and outbox.

use domain::ids::UserId;
use domain::time::UnixMs;
use serde_json::json;
use store::{OutboxRow, StoreError, approvals, audit, kill, ledger, orders, permits, supervision, users};
use uuid::Uuid;

use crate::samples::{T0, account, decision, envelope, permit, permitted, request, signal};
use crate::world::{World, assert_locked, state};
use domain::market::Venue;

cases! {
    an_agent_takes_a_message_once,
    two_units_take_one_message_one_after_the_other,
    a_unit_that_opens_with_a_message_works_for_its_user,
    messages_wait_in_order_until_deleted,
    nobody_speaks_through_anothers_outbox,
    old_inbox_rows_are_forgotten_oldest_first,
    nothing_of_a_unit_that_is_not_committed_stays,
    a_commit_keeps_all_of_a_unit,
    a_unit_sees_what_others_committed_meanwhile_and_nothing_else,
    nothing_of_a_failed_unit_is_kept,
    a_unit_works_for_one_user_at_a_time,
    a_rule_above_the_record_leaves_the_unit_usable,
    text_without_a_form_in_rows_is_refused,
}

fn message(n: u128) -> OutboxRow {
    OutboxRow {
        id: Uuid::from_u128(n),
        subject: "system.treasury.intent.critical".to_owned(),
        headers: json!({"Nats-Msg-Id": n.to_string()}),
        payload: vec![0, 255],
        valid_until: n.is_multiple_of(2).then_some(T0),
    }
}

async fn an_agent_takes_a_message_once(world: &World) {
    let mut unit = world.begin("treasury").await;
    assert!(unit.open(None, "treasury", signal(1)).await.unwrap().is_some());
    assert!(unit.open(None, "treasury", signal(1)).await.unwrap().is_none());
    assert!(unit.open(None, "treasury", signal(2)).await.unwrap().is_some());
    unit.commit().await.unwrap();
    let mut unit = world.begin("treasury").await;
    assert!(unit.open(None, "treasury", signal(1)).await.unwrap().is_none());
    unit.rollback().await.unwrap();
    let mut unit = world.begin("buy_bot").await;
    assert!(unit.open(None, "buy_bot", signal(1)).await.unwrap().is_some(), "each agent has its own");
    assert_eq!(state(unit.open(None, "treasury", signal(3)).await), "42501");
}

async fn two_units_take_one_message_one_after_the_other(world: &World) {
    let mut first = world.begin("treasury").await;
    assert!(first.open(None, "treasury", signal(1)).await.unwrap().is_some());
    let mut second = world.begin_impatient("treasury").await;
    assert_locked(second.open(None, "treasury", signal(1)).await);
    drop(second);
    first.rollback().await.unwrap();
    let mut third = world.begin("treasury").await;
    assert!(third.open(None, "treasury", signal(1)).await.unwrap().is_some());
    third.commit().await.unwrap();
    let mut fourth = world.begin("treasury").await;
    assert!(fourth.open(None, "treasury", signal(1)).await.unwrap().is_none());
}

async fn a_unit_that_opens_with_a_message_works_for_its_user(world: &World) {
    let (anna, berta) = (account(world, "anna").await, account(world, "berta").await);
    let before = world.now().await;
    let mut unit = world.begin("online_trading").await;
    let now = unit.open(Some(anna), "online_trading", signal(1)).await.unwrap().unwrap();
    assert!(now >= before && now <= world.now().await, "the time of the record");
    assert_eq!(unit.tenant(), Some(anna));
    audit::append(&mut unit, anna, "test", "online_trading", &json!({}), T0).await.unwrap();
    let other = audit::append(&mut unit, berta, "test", "online_trading", &json!({}), T0).await;
    assert!(matches!(other, Err(StoreError::WrongTenant { asked }) if asked == berta));
    unit.commit().await.unwrap();
    let mut unit = world.begin_for("online_trading", anna).await;
    assert!(unit.open(None, "online_trading", signal(2)).await.unwrap().is_some());
    assert_eq!(unit.tenant(), None);
    assert_eq!(audit::hash_at(&mut unit, audit::Chain::User(anna), 1).await.unwrap(), None, "nobody's rows");
    assert!(unit.open(Some(anna), "online_trading", signal(2)).await.unwrap().is_none());
    assert!(audit::hash_at(&mut unit, audit::Chain::User(anna), 1).await.unwrap().is_some());
}

async fn messages_wait_in_order_until_deleted(world: &World) {
    let mut unit = world.begin("treasury").await;
    unit.outbox_put("treasury", &[]).await.unwrap();
    unit.outbox_put("treasury", &[3, 1, 2, 1].map(message)).await.unwrap();
    unit.commit().await.unwrap();
    let mut unit = world.begin("treasury").await;
    let again = OutboxRow { payload: vec![9], ..message(3) };
    unit.outbox_put("treasury", std::slice::from_ref(&again)).await.unwrap();
    unit.outbox_put("treasury", &[message(5)]).await.unwrap();
    unit.commit().await.unwrap();
    let waiting = world.pending("treasury", "treasury", 9, &[]).await;
    assert_eq!(waiting, [message(3), message(1), message(2), message(5)], "the same id twice is one message");
    assert_eq!(world.pending("treasury", "treasury", 2, &[]).await, [message(3), message(1)]);
    assert_eq!(world.pending("treasury", "treasury", 0, &[]).await, []);
    let besides = world.pending("treasury", "treasury", 2, &[message(3).id]).await;
    assert_eq!(besides, [message(1), message(2)]);
    world.delete("treasury", "treasury", &[message(3).id, message(1).id, message(77).id]).await;
    assert_eq!(world.pending("treasury", "treasury", 9, &[]).await, [message(2), message(5)]);
    let mut unit = world.begin("treasury").await;
    unit.outbox_put("treasury", &[message(3)]).await.unwrap();
    unit.commit().await.unwrap();
    assert_eq!(world.pending("treasury", "treasury", 9, &[]).await, [message(2), message(5), message(3)]);
    for bad in [OutboxRow { subject: String::new(), ..message(8) }, OutboxRow { headers: json!([]), ..message(8) }] {
        let mut unit = world.begin("treasury").await;
        assert_eq!(state(unit.outbox_put("treasury", &[message(7), bad]).await), "23514");
    }
}

async fn nobody_speaks_through_anothers_outbox(world: &World) {
    let mut unit = world.begin("buy_bot").await;
    assert_eq!(state(unit.outbox_put("treasury", &[message(1)]).await), "42501");
    let mut unit = world.begin("treasury").await;
    unit.outbox_put("treasury", &[message(1)]).await.unwrap();
    unit.commit().await.unwrap();
    assert_eq!(world.pending("buy_bot", "treasury", 9, &[]).await, []);
    assert_eq!(world.pending("buy_bot", "buy_bot", 9, &[]).await, []);
    world.delete("buy_bot", "treasury", &[message(1).id]).await;
    assert_eq!(world.pending("treasury", "treasury", 9, &[]).await, [message(1)]);
    assert_eq!(world.pending("admin", "treasury", 9, &[]).await, [message(1)]);
}

async fn old_inbox_rows_are_forgotten_oldest_first(world: &World) {
    for n in 1..=3 {
        let mut unit = world.begin("treasury").await;
        assert!(unit.open(None, "treasury", signal(n)).await.unwrap().is_some());
        unit.commit().await.unwrap();
    }
    let mut unit = world.begin("buy_bot").await;
    assert!(unit.open(None, "buy_bot", signal(1)).await.unwrap().is_some());
    unit.commit().await.unwrap();
    let now = world.now().await;
    assert_eq!(world.forget("treasury", "treasury", now.plus_ms(-60_000), 9).await, 0);
    assert_eq!(world.forget("treasury", "buy_bot", now.plus_ms(60_000), 9).await, 0, "rows of another agent");
    assert_eq!(world.forget("treasury", "treasury", now.plus_ms(60_000), 2).await, 2);
    assert_eq!(world.forget("treasury", "treasury", now.plus_ms(60_000), 2).await, 1);
    assert_eq!(world.forget("treasury", "treasury", now.plus_ms(60_000), 2).await, 0);
    let mut unit = world.begin("treasury").await;
    assert!(unit.open(None, "treasury", signal(1)).await.unwrap().is_some());
    let mut unit = world.begin("buy_bot").await;
    assert!(unit.open(None, "buy_bot", signal(1)).await.unwrap().is_none());
}

/// Writes a row of most kinds for a new user.
async fn write_much(unit: &mut store::Unit, handle: &str) -> UserId {
    let dollars = domain::money::Usd::dollars(50);
    let user = users::open_account(unit, handle, dollars, json!({}), T0).await.unwrap().user_id;
    let envelope = envelope(user, 1, Venue::Paper);
    assert!(store::decisions::insert(unit, &decision(&envelope, signal(1), 0)).await.unwrap());
    assert!(approvals::insert_request(unit, &request(&envelope)).await.unwrap());
    permits::insert(unit, &permit(&envelope), user).await.unwrap();
    let cash = rails::book::Change::Cash(domain::money::Usd::dollars(7));
    ledger::apply(unit, user, &[cash], T0).await.unwrap();
    audit::append(unit, user, "test", "treasury", &json!({}), T0).await.unwrap();
    unit.outbox_put("treasury", &[message(1)]).await.unwrap();
    assert!(unit.open(None, "treasury", signal(1)).await.unwrap().is_some());
    user
}

/// How many of those rows there are.
async fn count_much(world: &World, user: UserId) -> usize {
    let mut unit = world.begin_for("treasury", user).await;
    let envelope = envelope(user, 1, Venue::Paper);
    let mut rows = usize::from(users::user(&mut unit, user).await.unwrap().is_some());
    rows += store::decisions::recent(&mut unit, user, 9).await.unwrap().len();
    rows += approvals::pending(&mut unit, Some(user)).await.unwrap().len();
    rows += usize::from(permits::get(&mut unit, permit(&envelope).body.permit_id).await.unwrap().is_some());
    let book = ledger::read_book(&mut unit, user, T0, 1, 1).await.unwrap();
    rows += usize::from(book.is_some_and(|book| book.cash == domain::money::Usd::dollars(7)));
    rows += usize::from(audit::hash_at(&mut unit, audit::Chain::User(user), 1).await.unwrap().is_some());
    rows += world.pending("treasury", "treasury", 9, &[]).await.len();
    rows + usize::from(unit.open(None, "treasury", signal(1)).await.unwrap().is_none())
}

async fn nothing_of_a_unit_that_is_not_committed_stays(world: &World) {
    let mut unit = world.begin("treasury").await;
    let user = write_much(&mut unit, "anna").await;
    unit.rollback().await.unwrap();
    assert_eq!(count_much(world, user).await, 0, "rolled back");
    let mut unit = world.begin("treasury").await;
    write_much(&mut unit, "anna").await;
    drop(unit);
    assert_eq!(count_much(world, user).await, 0, "dropped");
}

async fn a_commit_keeps_all_of_a_unit(world: &World) {
    let mut unit = world.begin("treasury").await;
    let user = write_much(&mut unit, "anna").await;
    unit.commit().await.unwrap();
    assert_eq!(count_much(world, user).await, 8);
}

async fn a_unit_sees_what_others_committed_meanwhile_and_nothing_else(world: &World) {
    let mut looker = world.begin("treasury").await;
    assert!(users::user_ids(&mut looker, 9).await.unwrap().is_empty());
    let mut writer = world.begin("treasury").await;
    let anna = write_much(&mut writer, "anna").await;
    assert!(users::user_ids(&mut looker, 9).await.unwrap().is_empty(), "not committed yet");
    assert_eq!(users::user_ids(&mut writer, 9).await.unwrap(), [anna]);
    writer.commit().await.unwrap();
    assert_eq!(users::user_ids(&mut looker, 9).await.unwrap(), [anna], "each statement sees what is committed");
}

async fn nothing_of_a_failed_unit_is_kept(world: &World) {
    let mut unit = world.begin("treasury").await;
    let user = write_much(&mut unit, "anna").await;
    let again = permits::insert(&mut unit, &permit(&envelope(user, 1, Venue::Paper)), user).await;
    assert_eq!(state(again), "23505");
    let next = users::user_ids(&mut unit, 9).await;
    assert!(!next.as_ref().unwrap_err().is_transient());
    assert_eq!(state(next), "25P02");
    assert_eq!(state(unit.now().await), "25P02");
    let mut other = world.begin_impatient("treasury").await;
    write_much(&mut other, "anna").await;
    drop(other);
    unit.commit().await.unwrap();
    assert_eq!(count_much(world, user).await, 0, "its commit is a rollback");
}

async fn a_unit_works_for_one_user_at_a_time(world: &World) {
    let (anna, berta) = (account(world, "anna").await, account(world, "berta").await);
    let permit = permitted(world, anna, 1, Venue::Paper).await.body.permit_id;
    let mut unit = world.begin("treasury").await;
    assert_eq!(unit.tenant(), None);
    assert!(matches!(permits::spend(&mut unit, permit, T0).await, Err(StoreError::NoTenant)));
    assert!(matches!(permits::void(&mut unit, permit).await, Err(StoreError::NoTenant)));
    let status = approvals::ApprovalStatus::Pending;
    let step = approvals::set_status(&mut unit, request(&envelope(anna, 1, Venue::Paper)).approval_id, &[], status);
    assert!(matches!(step.await, Err(StoreError::NoTenant)));
    assert!(users::user(&mut unit, anna).await.unwrap().is_some());
    assert_eq!(unit.tenant(), Some(anna), "the first user asked about is the tenant");
    let other = users::user(&mut unit, berta).await;
    assert!(matches!(other, Err(StoreError::WrongTenant { asked }) if asked == berta));
    let other = ledger::lock_book(&mut unit, berta, T0, 1, 1).await;
    assert!(matches!(other, Err(StoreError::WrongTenant { .. })));
    unit.set_tenant(berta).await.unwrap();
    assert!(!permits::void(&mut unit, permit).await.unwrap(), "a permit of another user");
    unit.set_tenant(anna).await.unwrap();
    assert!(permits::void(&mut unit, permit).await.unwrap());
}

async fn a_rule_above_the_record_leaves_the_unit_usable(world: &World) {
    let anna = account(world, "anna").await;
    let mut unit = world.begin_for("admin", anna).await;
    for at in [UnixMs(i64::MIN), UnixMs(i64::MAX), UnixMs(9_224_318_016_000_000), UnixMs(-210_866_803_200_001)] {
        let envelope = envelope(anna, 1, Venue::Paper);
        let mut late = permit(&envelope);
        late.body.expires_at = at;
        let refusals = [
            permits::insert(&mut unit, &late, anna).await.err(),
            permits::spend(&mut unit, late.body.permit_id, at).await.err(),
            permits::unspent_due(&mut unit, at).await.err(),
            orders::mark_sent(&mut unit, envelope.order_id, at).await.err(),
            approvals::due(&mut unit, at).await.err(),
            approvals::prompts_since(&mut unit, anna, at).await.err(),
            ledger::read_book(&mut unit, anna, at, 1, 1).await.err(),
            ledger::apply(&mut unit, anna, &[], at).await.err(),
            audit::append(&mut unit, anna, "test", "test", &json!({}), at).await.err(),
            kill::raise(&mut unit, 1, "test", "", at).await.err(),
            supervision::restarts_since(&mut unit, "test", at).await.err(),
            unit.outbox_put("test", &[OutboxRow { valid_until: Some(at), ..message(1) }]).await.err(),
        ];
        for (n, refusal) in refusals.iter().enumerate() {
            assert!(matches!(refusal, Some(StoreError::OutOfRange(_))), "{at:?}, {n}: {refusal:?}");
            assert!(!refusal.as_ref().unwrap().is_transient());
        }
    }
    assert!(users::user(&mut unit, anna).await.unwrap().is_some(), "nothing was sent to the record");
    let edges = [UnixMs(9_224_318_015_999_999), UnixMs(-210_866_803_200_000)];
    for at in edges {
        assert!(permits::unspent_due(&mut unit, at).await.unwrap().is_empty());
        assert_eq!(approvals::prompts_since(&mut unit, anna, at).await.unwrap(), 0);
        audit::append(&mut unit, anna, "test", "test", &json!({}), at).await.unwrap();
    }
    let book = ledger::read_book(&mut unit, anna, T0, i64::MAX, i64::MAX).await.unwrap();
    assert!(book.is_some(), "a window longer than time is all of it");
}

async fn text_without_a_form_in_rows_is_refused(world: &World) {
    let anna = account(world, "anna").await;
    let mut unit = world.begin("treasury").await;
    assert_eq!(state(unit.open(None, "\0", signal(1)).await), "22021");
    let mut unit = world.begin_for("admin", anna).await;
    assert_eq!(state(audit::append(&mut unit, anna, "a\0", "b", &json!({}), T0).await), "22021");
    for body in [json!({"a": "\0"}), json!({"\0": 1}), json!([[{"b": ["c\0"]}]])] {
        let mut unit = world.begin_for("admin", anna).await;
        assert_eq!(state(audit::append(&mut unit, anna, "a", "b", &body, T0).await), "22P05", "{body}");
    }
    let mut unit = world.begin("admin").await;
    assert_eq!(state(approvals::approver(&mut unit, "\0").await), "22021");
    let mut unit = world.begin_for("admin", anna).await;
    assert_eq!(state(kill::raise(&mut unit, 1, "a", "\0", T0).await), "22021");
}
