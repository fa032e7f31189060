//! Audit chains.

use domain::ids::UserId;
use domain::time::UnixMs;
use serde_json::json;
use store::audit::{self, Anchors, AuditHead, Chain, Keys, Report};
use store::{StoreError, Unit};

use crate::samples::{T0, account};
use crate::world::{World, assert_locked, state};

cases! {
    a_chain_grows_by_one_row_and_verifies,
    a_chain_has_no_gap_whoever_rolls_back,
    one_unit_at_a_time_appends_to_a_chain,
    an_audit_row_says_what_and_who,
    heads_come_governance_first_then_by_user,
    a_head_that_moved_under_a_look_is_in_the_next,
    a_chain_is_seen_by_its_user_and_the_verifiers,
    a_verifier_that_sees_no_rows_does_not_say_valid,
    only_the_supervisor_writes_the_governance_chain,
}

async fn append(world: &World, user: UserId, n: i64) -> AuditHead {
    let mut unit = world.begin("treasury").await;
    let head = append_in(&mut unit, user, n).await.unwrap();
    unit.commit().await.unwrap();
    head
}

async fn append_in(unit: &mut Unit, user: UserId, n: i64) -> Result<AuditHead, StoreError> {
    let body =
        json!({"n": n, "amount": "1.50", "float": 0.1, "text": "ü\u{2028}", "deep": {"b": [1, null], "a": true}});
    audit::append(unit, user, "test", "treasury", &body, T0.plus_ms(n)).await
}

async fn govern(world: &World, n: i64) -> AuditHead {
    let mut unit = world.begin("supervisor").await;
    let head = audit::append_governance(&mut unit, "start", "supervisor", &json!({"n": n}), T0).await.unwrap();
    unit.commit().await.unwrap();
    head
}

async fn verify(world: &World, before: UnixMs) -> Report {
    let mut unit = world.begin("audit_verify").await;
    audit::verify_unit(&mut unit, &Anchors::default(), &Keys::default(), before).await.unwrap()
}

async fn a_chain_grows_by_one_row_and_verifies(world: &World) {
    let anna = account(world, "anna").await;
    assert!(!verify(world, UnixMs(0)).await.valid, "a user, and no rows at all");
    let mut heads = Vec::new();
    for n in 1..=4 {
        let head = append(world, anna, n).await;
        assert_eq!(head.seq, n);
        heads.push(head);
    }
    govern(world, 1).await;
    let mut unit = world.begin("supervisor").await;
    for head in &heads {
        assert_eq!(audit::hash_at(&mut unit, Chain::User(anna), head.seq).await.unwrap(), Some(head.hash));
    }
    for seq in [0, -1, 5, i64::MAX] {
        assert_eq!(audit::hash_at(&mut unit, Chain::User(anna), seq).await.unwrap(), None, "{seq}");
    }
    let (mine, house) = (Chain::User(anna), Chain::Governance);
    let asked =
        [(mine, 3), (house, 1), (mine, 9), (house, 7), (Chain::User(UserId::of_handle("nobody")), 1), (mine, 1)];
    let mut expected = Vec::new();
    for (chain, seq) in asked {
        expected.push(audit::hash_at(&mut unit, chain, seq).await.unwrap());
    }
    assert_eq!(audit::hashes_at(&mut unit, &asked).await.unwrap(), expected);
    assert_eq!(expected.iter().map(Option::is_some).collect::<Vec<_>>(), [true, true, false, false, false, true]);
    assert_eq!(audit::hashes_at(&mut unit, &[]).await.unwrap(), []);
    let report = verify(world, UnixMs(0)).await;
    assert!(report.valid, "{report:?}");
    let rows: Vec<_> = report.chains.iter().map(|chain| (chain.user, chain.rows, chain.unanchored)).collect();
    assert_eq!(rows, [(None, 1, 1), (Some(anna), 4, 4)]);
    assert!(!verify(world, T0.plus_ms(2)).await.valid, "old rows without an anchor");
}

async fn a_chain_has_no_gap_whoever_rolls_back(world: &World) {
    let anna = account(world, "anna").await;
    let mut unit = world.begin("treasury").await;
    assert_eq!(append_in(&mut unit, anna, 1).await.unwrap().seq, 1);
    assert_eq!(append_in(&mut unit, anna, 2).await.unwrap().seq, 2);
    unit.rollback().await.unwrap();
    assert_eq!(append(world, anna, 3).await.seq, 1);
    let mut unit = world.begin("treasury").await;
    assert_eq!(append_in(&mut unit, anna, 4).await.unwrap().seq, 2);
    drop(unit);
    assert_eq!(append(world, anna, 5).await.seq, 2);
    let report = verify(world, UnixMs(0)).await;
    assert!(report.valid, "{report:?}");
}

async fn one_unit_at_a_time_appends_to_a_chain(world: &World) {
    let (anna, berta) = (account(world, "anna").await, account(world, "berta").await);
    let mut first = world.begin("treasury").await;
    let head = append_in(&mut first, anna, 1).await.unwrap();
    let mut second = world.begin_impatient("online_trading").await;
    assert_locked(append_in(&mut second, anna, 2).await);
    drop(second);
    let mut third = world.begin_impatient("online_trading").await;
    append_in(&mut third, berta, 2).await.unwrap();
    first.commit().await.unwrap();
    let mut fourth = world.begin("online_trading").await;
    assert_eq!(append_in(&mut fourth, anna, 3).await.unwrap().seq, head.seq + 1);
    let mut first = world.begin("supervisor").await;
    audit::append_governance(&mut first, "a", "b", &json!({}), T0).await.unwrap();
    let mut second = world.begin_impatient("supervisor").await;
    assert_locked(audit::append_governance(&mut second, "a", "b", &json!({}), T0).await);
}

async fn an_audit_row_says_what_and_who(world: &World) {
    let anna = account(world, "anna").await;
    for (kind, agent) in [("", "a"), ("a", "")] {
        let mut unit = world.begin("treasury").await;
        assert_eq!(state(audit::append(&mut unit, anna, kind, agent, &json!({}), T0).await), "23514");
        let mut unit = world.begin("supervisor").await;
        assert_eq!(state(audit::append_governance(&mut unit, kind, agent, &json!({}), T0).await), "23514");
    }
    assert_eq!(append(world, anna, 1).await.seq, 1, "nothing of them is left");
}

async fn heads_come_governance_first_then_by_user(world: &World) {
    let mut users = Vec::new();
    for handle in ["anna", "berta", "carla"] {
        users.push(account(world, handle).await);
    }
    let mut unit = world.begin("supervisor").await;
    let first = audit::moved_heads(&mut unit, 0).await.unwrap();
    assert_eq!(first.heads, []);
    let mut want = Vec::new();
    for user in &users[..2] {
        append(world, *user, 1).await;
        want.push((Chain::User(*user), append(world, *user, 2).await));
    }
    want.push((Chain::Governance, govern(world, 1).await));
    want.sort_by_key(|(chain, _)| *chain);
    for since in [0, first.until] {
        let moved = audit::moved_heads(&mut unit, since).await.unwrap();
        let heads: Vec<_> = moved.heads.iter().map(|named| (named.chain, named.head)).collect();
        assert_eq!(heads, want);
        assert_eq!(heads[0].0, Chain::Governance);
    }
    let page = audit::heads_after(&mut unit, None, 1).await.unwrap();
    assert_eq!(page.iter().map(|named| (named.chain, named.head)).collect::<Vec<_>>(), want[1..2]);
    let Chain::User(after) = page[0].chain else { panic!("a user's chain") };
    let page = audit::heads_after(&mut unit, Some(after), 9).await.unwrap();
    assert_eq!(page.iter().map(|named| (named.chain, named.head)).collect::<Vec<_>>(), want[2..]);
    assert_eq!(state(audit::heads_after(&mut unit, None, -1).await), "2201W");
    let mut unit = world.begin("treasury").await;
    assert_eq!(state(audit::moved_heads(&mut unit, 0).await), "42501");
}

async fn a_head_that_moved_under_a_look_is_in_the_next(world: &World) {
    let (anna, berta) = (account(world, "anna").await, account(world, "berta").await);
    append(world, anna, 1).await;
    let mut slow = world.begin("treasury").await;
    let slow_head = append_in(&mut slow, anna, 2).await.unwrap();
    // Begun later, committed sooner.
    append(world, berta, 1).await;
    let mut looker = world.begin("supervisor").await;
    let look = audit::moved_heads(&mut looker, 0).await.unwrap();
    assert_eq!(look.heads.iter().map(|named| named.head.seq).collect::<Vec<_>>(), [1, 1]);
    slow.commit().await.unwrap();
    let next = audit::moved_heads(&mut looker, look.until).await.unwrap();
    assert!(next.heads.iter().any(|named| named.chain == Chain::User(anna) && named.head == slow_head), "{next:?}");
}

async fn a_chain_is_seen_by_its_user_and_the_verifiers(world: &World) {
    let (anna, berta) = (account(world, "anna").await, account(world, "berta").await);
    append(world, anna, 1).await;
    for (role, tenant, seen) in [
        ("treasury", None, false),
        ("treasury", Some(berta), false),
        ("treasury", Some(anna), true),
        ("online_trading", Some(berta), false),
        ("supervisor", None, true),
        ("audit_verify", None, true),
    ] {
        let mut unit = world.begin(role).await;
        if let Some(tenant) = tenant {
            unit.set_tenant(tenant).await.unwrap();
        }
        let found = audit::hash_at(&mut unit, Chain::User(anna), 1).await.unwrap();
        assert_eq!(found.is_some(), seen, "{role}, {tenant:?}");
    }
    let mut unit = world.begin_for("treasury", berta).await;
    assert!(matches!(append_in(&mut unit, anna, 2).await, Err(StoreError::WrongTenant { .. })));
    let mut unit = world.begin("buy_bot").await;
    assert_eq!(state(audit::hash_at(&mut unit, Chain::User(anna), 1).await), "42501");
}

async fn a_verifier_that_sees_no_rows_does_not_say_valid(world: &World) {
    let anna = account(world, "anna").await;
    append(world, anna, 1).await;
    let mut unit = world.begin("treasury").await;
    let blind = audit::verify_unit(&mut unit, &Anchors::default(), &Keys::default(), UnixMs(0)).await;
    assert_eq!(state(blind), "42501", "that is no verdict");
}

async fn only_the_supervisor_writes_the_governance_chain(world: &World) {
    for n in 1..=2 {
        assert_eq!(govern(world, n).await.seq, n);
    }
    for role in ["treasury", "online_trading", "audit_verify"] {
        let mut unit = world.begin(role).await;
        let refused = audit::append_governance(&mut unit, "a", "b", &json!({}), T0).await;
        assert_eq!(state(refused), "42501", "{role}");
    }
    let anna = account(world, "anna").await;
    let mut unit = world.begin("audit_verify").await;
    assert_eq!(state(append_in(&mut unit, anna, 1).await), "42501");
    let mut unit = world.begin("audit_verify").await;
    assert!(audit::hash_at(&mut unit, Chain::Governance, 2).await.unwrap().is_some());
    assert_eq!(audit::hash_at(&mut unit, Chain::Governance, 3).await.unwrap(), None);
}
