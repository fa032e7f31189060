//! What the rails said.

use domain::ids::{OrderId, UserId};
use domain::market::Venue;
use serde_json::json;
use store::decisions::{self, DecisionRow, Outcome};
use store::{StoreError, Unit};
use uuid::Uuid;

use crate::samples::{T0, account, decision, envelope, signal};
use crate::world::{World, assert_locked, state};

cases! {
    a_leg_of_a_signal_is_judged_once,
    a_judgement_says_what_its_outcome_needs,
    a_judgement_is_seen_by_its_user_and_the_verifier,
    the_newest_judgements_come_first,
    two_units_do_not_judge_one_leg_at_once,
}

async fn insert(unit: &mut Unit, row: &DecisionRow) -> bool {
    decisions::insert(unit, row).await.unwrap()
}

async fn a_leg_of_a_signal_is_judged_once(world: &World) {
    let (anna, berta) = (account(world, "anna").await, account(world, "berta").await);
    let row = decision(&envelope(anna, 1, Venue::Paper), signal(1), 0);
    let again = decision(&envelope(anna, 2, Venue::Paper), signal(1), 0);
    let other_leg = decision(&envelope(anna, 1, Venue::Paper), signal(1), 1);
    let next_leg = decision(&envelope(anna, 3, Venue::Paper), signal(1), u16::MAX);
    let mut unit = world.begin("treasury").await;
    assert!(insert(&mut unit, &row).await);
    assert!(!insert(&mut unit, &row).await);
    assert!(!insert(&mut unit, &again).await, "the same leg, another order");
    assert!(!insert(&mut unit, &other_leg).await, "the same order, another leg");
    assert!(insert(&mut unit, &next_leg).await);
    unit.commit().await.unwrap();
    let mut unit = world.begin("treasury").await;
    assert!(!insert(&mut unit, &again).await);
    assert_eq!(decisions::recent(&mut unit, anna, 9).await.unwrap(), [next_leg, row.clone()]);
    let mut unit = world.begin("treasury").await;
    assert!(insert(&mut unit, &DecisionRow { user_id: berta, ..row.clone() }).await, "signals are a user's own");
    let mut unit = world.begin_for("treasury", anna).await;
    assert!(matches!(
        decisions::insert(&mut unit, &DecisionRow { user_id: berta, ..row }).await,
        Err(StoreError::WrongTenant { .. })
    ));
}

async fn a_judgement_says_what_its_outcome_needs(world: &World) {
    let anna = account(world, "anna").await;
    let good = decision(&envelope(anna, 1, Venue::Paper), signal(1), 0);
    let code = || Some("DAILY_LOSS".to_owned());
    for bad in [
        DecisionRow { code: code(), ..good.clone() },
        DecisionRow { outcome: Outcome::Refused, ..good.clone() },
        DecisionRow { envelope: None, ..good.clone() },
        DecisionRow { digest: None, ..good.clone() },
        DecisionRow { outcome: Outcome::NeedsHuman, envelope: None, digest: None, ..good.clone() },
    ] {
        let mut unit = world.begin("treasury").await;
        assert_eq!(state(decisions::insert(&mut unit, &bad).await), "23514", "{bad:?}");
    }
    let refused = DecisionRow {
        outcome: Outcome::Refused,
        code: code(),
        envelope: None,
        digest: None,
        numbers: json!({"a": [1, -2, 0.5, 1e300, "1.50", null, true, {"ü": "\u{2028}"}]}),
        ..good.clone()
    };
    let human = DecisionRow {
        outcome: Outcome::NeedsHuman,
        leg: 1,
        ..decision(&envelope(anna, 2, Venue::Paper), signal(1), 1)
    };
    let mut unit = world.begin("treasury").await;
    for row in [&refused, &human] {
        assert!(insert(&mut unit, row).await);
        assert_eq!(decisions::get_by_order(&mut unit, row.order_id).await.unwrap().as_ref(), Some(row));
    }
}

async fn a_judgement_is_seen_by_its_user_and_the_verifier(world: &World) {
    let (anna, berta) = (account(world, "anna").await, account(world, "berta").await);
    let row = decision(&envelope(anna, 1, Venue::Paper), signal(1), 0);
    let mut unit = world.begin("treasury").await;
    assert!(insert(&mut unit, &row).await);
    unit.commit().await.unwrap();
    for (role, tenant, seen) in [
        ("treasury", None, false),
        ("treasury", Some(berta), false),
        ("treasury", Some(anna), true),
        ("supervisor", None, false),
        ("audit_verify", None, true),
        ("audit_verify", Some(berta), true),
        ("admin", None, true),
    ] {
        let mut unit = world.begin(role).await;
        if let Some(tenant) = tenant {
            unit.set_tenant(tenant).await.unwrap();
        }
        let found = decisions::get_by_order(&mut unit, row.order_id).await.unwrap();
        assert_eq!(found.is_some(), seen, "{role}, {tenant:?}");
    }
    let mut unit = world.begin_for("treasury", anna).await;
    assert_eq!(decisions::get_by_order(&mut unit, OrderId(Uuid::nil())).await.unwrap(), None);
    for role in ["supervisor", "online_trading"] {
        let mut unit = world.begin_for(role, anna).await;
        let next = decision(&envelope(anna, 2, Venue::Paper), signal(2), 0);
        assert_eq!(state(decisions::insert(&mut unit, &next).await), "42501", "{role}");
    }
}

async fn the_newest_judgements_come_first(world: &World) {
    let (anna, berta) = (account(world, "anna").await, account(world, "berta").await);
    let mut mine = Vec::new();
    for n in 1..=3 {
        for user in [anna, berta] {
            let row = decision(&envelope(user, n, Venue::Paper), signal(n), 0);
            let mut unit = world.begin("treasury").await;
            assert!(insert(&mut unit, &row).await);
            unit.commit().await.unwrap();
            if user == anna {
                mine.insert(0, row);
            }
        }
    }
    let mut unit = world.begin("treasury").await;
    assert_eq!(decisions::recent(&mut unit, anna, 9).await.unwrap(), mine);
    assert_eq!(decisions::recent(&mut unit, anna, 2).await.unwrap(), mine[..2]);
    assert_eq!(decisions::recent(&mut unit, anna, 0).await.unwrap(), []);
    let mut unit = world.begin("treasury").await;
    assert_eq!(decisions::recent(&mut unit, UserId::of_handle("nobody"), 9).await.unwrap(), []);
    assert_eq!(state(decisions::recent(&mut world.begin("treasury").await, anna, -1).await), "2201W");
}

async fn two_units_do_not_judge_one_leg_at_once(world: &World) {
    let anna = account(world, "anna").await;
    let row = decision(&envelope(anna, 1, Venue::Paper), signal(1), 0);
    let mut first = world.begin("treasury").await;
    assert!(insert(&mut first, &row).await);
    for again in [
        row.clone(),
        decision(&envelope(anna, 2, Venue::Paper), signal(1), 0),
        DecisionRow { at: T0.plus_ms(1), ..decision(&envelope(anna, 1, Venue::Paper), signal(1), 1) },
    ] {
        let mut second = world.begin_impatient("treasury").await;
        assert_locked(decisions::insert(&mut second, &again).await);
    }
    first.commit().await.unwrap();
    let mut third = world.begin("treasury").await;
    assert!(!insert(&mut third, &row).await);
}
