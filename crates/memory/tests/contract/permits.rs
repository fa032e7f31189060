//! Single-use permits.

use domain::ids::{OrderId, PermitId, UserId};
use domain::market::Venue;
use domain::order::Permit;
use store::StoreError;
use store::permits::{self, PermitState};
use uuid::Uuid;

use crate::samples::{T0, account, envelope, permit, permitted};
use crate::world::{World, assert_locked, state};

cases! {
    a_permit_reads_back_and_an_order_has_one,
    a_permit_is_signed_and_belongs_to_a_user,
    a_permit_is_spent_or_voided_once,
    a_permit_past_its_time_is_voided_not_spent,
    of_two_spenders_the_second_waits_for_the_first,
    unspent_permits_come_by_their_time,
    a_permit_is_seen_by_its_user_treasury_and_the_verifier,
    only_the_desk_and_treasury_step_a_permit,
}

async fn status(world: &World, id: PermitId) -> PermitState {
    permits::get(&mut world.begin("treasury").await, id).await.unwrap().unwrap().state
}

async fn a_permit_reads_back_and_an_order_has_one(world: &World) {
    let anna = account(world, "anna").await;
    let stored = permitted(world, anna, 1, Venue::Paper).await;
    let mut unit = world.begin("treasury").await;
    let row = permits::get(&mut unit, stored.body.permit_id).await.unwrap().unwrap();
    assert_eq!((row.permit, row.user_id, row.state), (stored.clone(), anna, PermitState::Signed));
    assert_eq!(permits::get(&mut unit, PermitId(Uuid::nil())).await.unwrap(), None);
    let mut second = stored.clone();
    second.body.permit_id = PermitId(Uuid::from_u128(7));
    let mut other = permit(&envelope(anna, 2, Venue::Paper));
    other.body.permit_id = stored.body.permit_id;
    for again in [stored, second, other] {
        let mut unit = world.begin("treasury").await;
        assert_eq!(state(permits::insert(&mut unit, &again, anna).await), "23505");
    }
}

async fn a_permit_is_signed_and_belongs_to_a_user(world: &World) {
    let anna = account(world, "anna").await;
    let good = permit(&envelope(anna, 1, Venue::Paper));
    for signature in ["", "ab", &"AB".repeat(64), &"ab".repeat(65), &"xy".repeat(64)] {
        let mut unit = world.begin("treasury").await;
        let bad = Permit { signature: signature.to_owned(), ..good.clone() };
        assert_eq!(state(permits::insert(&mut unit, &bad, anna).await), "23514", "{signature}");
    }
    let mut unit = world.begin("treasury").await;
    assert_eq!(state(permits::insert(&mut unit, &good, UserId::of_handle("nobody")).await), "23503");
}

async fn a_permit_is_spent_or_voided_once(world: &World) {
    let (anna, berta) = (account(world, "anna").await, account(world, "berta").await);
    for (n, spend_first) in [(1, true), (2, false)] {
        let id = permitted(world, anna, n, Venue::Paper).await.body.permit_id;
        let mut unit = world.begin_for("online_trading", berta).await;
        assert!(!permits::spend(&mut unit, id, T0).await.unwrap(), "a permit of another user");
        assert!(!permits::void(&mut unit, id).await.unwrap());
        let mut unit = world.begin_for("online_trading", anna).await;
        let won =
            if spend_first { permits::spend(&mut unit, id, T0).await } else { permits::void(&mut unit, id).await };
        assert!(won.unwrap());
        assert!(!permits::spend(&mut unit, id, T0).await.unwrap());
        unit.commit().await.unwrap();
        for _ in 0..2 {
            let mut unit = world.begin_for("treasury", anna).await;
            assert!(!permits::void(&mut unit, id).await.unwrap());
            assert!(!permits::spend(&mut unit, id, T0).await.unwrap());
            unit.commit().await.unwrap();
        }
        let want = if spend_first { PermitState::Spent } else { PermitState::Void };
        assert_eq!(status(world, id).await, want);
    }
    let mut unit = world.begin_for("online_trading", anna).await;
    assert!(!permits::spend(&mut unit, PermitId(Uuid::nil()), T0).await.unwrap());
    let mut unit = world.begin("online_trading").await;
    assert!(matches!(permits::spend(&mut unit, PermitId(Uuid::nil()), T0).await, Err(StoreError::NoTenant)));
}

async fn a_permit_past_its_time_is_voided_not_spent(world: &World) {
    let anna = account(world, "anna").await;
    let stored = permitted(world, anna, 1, Venue::Paper).await;
    let (id, end) = (stored.body.permit_id, stored.body.expires_at);
    let mut unit = world.begin_for("online_trading", anna).await;
    assert!(!permits::spend(&mut unit, id, end).await.unwrap(), "its end is no part of its time");
    assert!(!permits::spend(&mut unit, id, end.plus_ms(1)).await.unwrap());
    unit.commit().await.unwrap();
    let mut unit = world.begin_for("online_trading", anna).await;
    assert!(permits::spend(&mut unit, id, end.plus_ms(-1)).await.unwrap());
    unit.rollback().await.unwrap();
    assert_eq!(status(world, id).await, PermitState::Signed);
    let mut unit = world.begin_for("treasury", anna).await;
    assert!(permits::void(&mut unit, id).await.unwrap());
    unit.commit().await.unwrap();
    assert_eq!(status(world, id).await, PermitState::Void);
}

async fn of_two_spenders_the_second_waits_for_the_first(world: &World) {
    let anna = account(world, "anna").await;
    let id = permitted(world, anna, 1, Venue::Paper).await.body.permit_id;
    let mut first = world.begin_for("online_trading", anna).await;
    assert!(permits::spend(&mut first, id, T0).await.unwrap());
    let mut second = world.begin_impatient("treasury").await;
    second.set_tenant(anna).await.unwrap();
    assert_locked(permits::void(&mut second, id).await);
    drop(second);
    first.rollback().await.unwrap();
    let mut third = world.begin_for("treasury", anna).await;
    assert!(permits::void(&mut third, id).await.unwrap());
    third.commit().await.unwrap();
    let mut fourth = world.begin_for("online_trading", anna).await;
    assert!(!permits::spend(&mut fourth, id, T0).await.unwrap());
}

async fn unspent_permits_come_by_their_time(world: &World) {
    let (anna, berta) = (account(world, "anna").await, account(world, "berta").await);
    let mut want: Vec<(i64, PermitId, UserId, OrderId)> = Vec::new();
    for (n, (user, ms)) in (1..).zip([(anna, 30), (berta, 10), (anna, 10), (berta, 20), (anna, 10)]) {
        let mut row = permit(&envelope(user, n, Venue::Paper));
        row.body.expires_at = T0.plus_ms(ms);
        let mut unit = world.begin("treasury").await;
        permits::insert(&mut unit, &row, user).await.unwrap();
        unit.commit().await.unwrap();
        want.push((ms, row.body.permit_id, user, row.body.envelope.order_id));
    }
    want.sort_unstable();
    let due = async |role, ms| -> Vec<(PermitId, UserId, OrderId)> {
        let found = permits::unspent_due(&mut world.begin(role).await, T0.plus_ms(ms)).await.unwrap();
        found.iter().map(|due| (due.permit_id, due.user_id, due.order_id)).collect()
    };
    for (ms, count) in [(9, 0), (10, 3), (19, 3), (20, 4), (30, 5), (99, 5)] {
        let want: Vec<_> = want[..count].iter().map(|(_, id, user, order)| (*id, *user, *order)).collect();
        assert_eq!(due("treasury", ms).await, want, "{ms}");
    }
    assert_eq!(due("online_trading", 99).await, [], "no tenant, and no policy");
    let mut unit = world.begin_for("treasury", want[0].2).await;
    assert!(permits::void(&mut unit, want[0].1).await.unwrap());
    unit.commit().await.unwrap();
    let mut unit = world.begin_for("treasury", want[1].2).await;
    assert!(permits::spend(&mut unit, want[1].1, T0).await.unwrap());
    unit.commit().await.unwrap();
    assert_eq!(due("treasury", 99).await.len(), 3);
}

async fn a_permit_is_seen_by_its_user_treasury_and_the_verifier(world: &World) {
    let (anna, berta) = (account(world, "anna").await, account(world, "berta").await);
    let id = permitted(world, anna, 1, Venue::Paper).await.body.permit_id;
    for (role, tenant, seen) in [
        ("treasury", None, true),
        ("treasury", Some(berta), true),
        ("audit_verify", None, true),
        ("admin", None, true),
        ("online_trading", None, false),
        ("online_trading", Some(berta), false),
        ("online_trading", Some(anna), true),
        ("supervisor", None, false),
        ("supervisor", Some(anna), true),
    ] {
        let mut unit = world.begin(role).await;
        if let Some(tenant) = tenant {
            unit.set_tenant(tenant).await.unwrap();
        }
        assert_eq!(permits::get(&mut unit, id).await.unwrap().is_some(), seen, "{role}, {tenant:?}");
    }
}

async fn only_the_desk_and_treasury_step_a_permit(world: &World) {
    let anna = account(world, "anna").await;
    let id = permitted(world, anna, 1, Venue::Paper).await.body.permit_id;
    for role in ["supervisor", "audit_verify", "buy_bot"] {
        let mut unit = world.begin_for(role, anna).await;
        assert_eq!(state(permits::spend(&mut unit, id, T0).await), "42501", "{role}");
        let mut unit = world.begin_for(role, anna).await;
        assert_eq!(state(permits::void(&mut unit, id).await), "42501", "{role}");
    }
    for role in ["supervisor", "online_trading"] {
        let mut unit = world.begin_for(role, anna).await;
        let new = permit(&envelope(anna, 2, Venue::Paper));
        assert_eq!(state(permits::insert(&mut unit, &new, anna).await), "42501", "{role}");
    }
}
