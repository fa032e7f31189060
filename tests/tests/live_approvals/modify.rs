//! MODIFY: less of the same, as another request.

use std::sync::Arc;

use domain::ids::ApprovalId;
use domain::money::Price;
use domain::person::Change;
use domain::telegram_button::Press;
use serde_json::json;
use store::approvals::{ApprovalRow, ApprovalStatus};
use supervisor::gateway::{self, Said};

use crate::scene::{Scene, less, quantity, status};

/// The request that took the place of `row`, once treasury made it.
async fn successor(scene: &Scene, row: &ApprovalRow) -> Option<ApprovalRow> {
    let found = store::approvals::successor(&mut scene.bank.unit().await, row.approval_id).await.unwrap();
    match found {
        Some(id) => Some(scene.row(id).await),
        None => None,
    }
}

async fn modified(scene: &Scene, row: &ApprovalRow, change: Change) -> ApprovalRow {
    assert_eq!(scene.cli("zoe", row, Said::Modify(change)).await, status("superseded"));
    assert_eq!(scene.settle(row).await, None);
    successor(scene, row).await.expect("a new request")
}

#[tokio::test]
async fn it_is_another_request_for_the_same_order_that_needs_a_yes_of_its_own() {
    let scene = Scene::new().await;
    let old = scene.ask("60").await;
    let change = Change { quantity: Some(quantity("12")), worst_price: Price::parse("99.5").ok() };
    let new = modified(&scene, &old, change).await;
    assert_eq!(
        (new.status, new.replaces, new.order_id),
        (ApprovalStatus::Pending, Some(old.approval_id), old.order_id)
    );
    assert_eq!(new.envelope.max_notional_usd.to_string(), "1194");
    assert_eq!((old.tier, new.tier), (2, 1), "judged anew");
    assert_eq!(new.expires_at, old.expires_at, "it buys no time");
    assert_eq!(scene.words(&new).await, 0);
    assert_eq!(scene.permits_and_reservations().await, (0, 1), "one order, one reservation");
    assert_eq!(scene.cli("zoe", &old, Said::Approve).await, Err("NOT_PENDING"));
    assert_eq!(scene.settle_all().await.len(), 0, "nobody has said yes");
    // A yes to the old envelope is none to the new one.
    let wrong = ApprovalRow { digest: old.digest, ..new.clone() };
    assert_eq!(scene.cli("zoe", &wrong, Said::Approve).await, Err("DIGEST_MISMATCH"));
    assert_eq!(scene.cli("zoe", &new, Said::Approve).await, status("allowed"));
    let permit = scene.settle(&new).await.unwrap();
    assert_eq!(permit.body.envelope, new.envelope);
    assert_eq!(scene.settle_all().await.len(), 0);
    assert_eq!(scene.permits_and_reservations().await, (1, 1));
}

#[tokio::test]
async fn the_answer_names_the_request_that_treasury_will_make() {
    let scene = Scene::new().await;
    let row = scene.ask("15").await;
    let signed = scene.signed("zoe", &row, Said::Modify(less("12"))).await;
    let mut unit = scene.supervisor.begin().await.unwrap();
    let entry = gateway::entry_of_act(signed).unwrap();
    let done = gateway::submit_entry(&mut unit, &scene.config.house, entry).await.unwrap();
    unit.commit().await.unwrap();
    let id: ApprovalId = serde_json::from_value(done.answer.unwrap()["superseded_by"].clone()).unwrap();
    // Whoever died in between: the sweep finds it.
    assert_eq!(scene.settle_all().await.len(), 0);
    assert_eq!(successor(&scene, &row).await.unwrap().approval_id, id);
}

#[tokio::test]
async fn the_buttons_ask_for_a_half_and_a_quarter() {
    for (press, want) in [(Press::Half, "7.50001"), (Press::Quarter, "3.75")] {
        let scene = Scene::new().await;
        let row = scene.ask("15.00003").await;
        scene.link("zoe", 77).await;
        scene.prompt(&row, "zoe", 77, 5).await;
        assert_eq!(scene.press(&row, press, 77, 5).await, status("superseded"));
        assert_eq!(scene.press(&row, press, 77, 5).await, Err("NOT_PENDING"));
        scene.settle(&row).await;
        let new = successor(&scene, &row).await.unwrap();
        assert_eq!(new.envelope.quantity, quantity(want), "rounded down to the step");
        assert_eq!(new.tier, 1, "below $1,000 a person still decides what they were asked about");
        assert_eq!(scene.press(&new, Press::Approve, 77, 5).await, Err("STALE_BUTTON"), "it has no prompt yet");
        scene.prompt(&new, "zoe", 77, 6).await;
        assert_eq!(scene.press(&new, Press::Approve, 77, 6).await, status("allowed"));
        assert!(scene.settle(&new).await.is_some());
    }
}

#[tokio::test]
async fn the_buttons_ask_for_a_tighter_price_and_a_press_counts_once() {
    for (press, want) in [(Press::HalfPercent, "99.5"), (Press::OnePercent, "99")] {
        let scene = Scene::new().await;
        let row = scene.ask("15").await;
        scene.link("zoe", 77).await;
        assert_eq!(scene.press(&row, press, 77, 5).await, Err("STALE_BUTTON"), "it has no prompt yet");
        scene.prompt(&row, "zoe", 77, 5).await;
        assert_eq!(scene.press(&row, press, 77, 6).await, Err("STALE_BUTTON"), "under another message");
        assert_eq!(scene.press(&row, press, 77, 5).await, status("superseded"));
        assert_eq!(scene.press(&row, press, 77, 5).await, Err("NOT_PENDING"), "a second time");
        scene.settle(&row).await;
        let new = successor(&scene, &row).await.unwrap();
        assert_eq!((new.envelope.worst_price, new.envelope.quantity), (Price::parse(want).unwrap(), quantity("15")));
        assert_ne!(new.digest, row.digest, "nobody has said yes to that yet");
        assert_eq!(scene.press(&row, Press::Approve, 77, 5).await, Err("NOT_PENDING"), "the old envelope is void");
        scene.prompt(&new, "zoe", 77, 6).await;
        assert_eq!(scene.press(&new, Press::Confirm, 77, 6).await, status("allowed"));
        let permit = scene.settle(&new).await.unwrap();
        assert_eq!(permit.body.envelope, new.envelope);
        assert_eq!(scene.permits_and_reservations().await, (1, 1));
    }
}

#[tokio::test]
async fn it_never_asks_for_more() {
    let scene = Scene::new().await;
    let row = scene.ask("15").await;
    let priced = |text: &str| Change { quantity: None, worst_price: Price::parse(text).ok() };
    for change in [
        less("15.00001"),
        less("15"),
        less("0"),
        less("1.000001"),
        less("0.00001"),
        priced("100.01"),
        priced("100"),
        priced("99.999"),
        Change { quantity: None, worst_price: None },
        Change { quantity: Some(quantity("1")), worst_price: Price::parse("101").ok() },
    ] {
        assert_eq!(scene.cli("zoe", &row, Said::Modify(change)).await, Err("BAD_CHANGE"), "{change:?}");
    }
    assert_eq!((scene.words(&row).await, scene.status(&row).await), (0, ApprovalStatus::Pending));
}

#[tokio::test]
async fn what_stands_against_the_new_order_gives_the_money_back() {
    // The collar: a worst price that far from the mark passes at nobody's word.
    let scene = Scene::new().await;
    let row = scene.ask("15").await;
    let change = Change { quantity: None, worst_price: Price::parse("94").ok() };
    assert_eq!(scene.cli("zoe", &row, Said::Modify(change)).await, status("superseded"));
    let out = scene.try_settle(&row).await.unwrap();
    assert!(format!("{out:?}").contains("PRICE_COLLAR"), "{out:?}");
    assert_eq!(successor(&scene, &row).await, None);
    assert_eq!(scene.permits_and_reservations().await, (0, 0));
    // The attention budget.
    let mut scene = Scene::new().await;
    scene.config.house.approval_prompts_per_hour = 1;
    let row = scene.ask("15").await;
    assert_eq!(scene.cli("zoe", &row, Said::Modify(less("12"))).await, status("superseded"));
    let out = scene.try_settle(&row).await.unwrap();
    assert!(format!("{out:?}").contains("ATTENTION_BUDGET"), "{out:?}");
    assert_eq!(scene.permits_and_reservations().await, (0, 0));
    // The kill level.
    let scene = Scene::new().await;
    let row = scene.ask("15").await;
    assert_eq!(scene.cli("zoe", &row, Said::Modify(less("12"))).await, status("superseded"));
    scene.bank.kill(1).await;
    scene.settle(&row).await;
    assert_eq!((successor(&scene, &row).await, scene.permits_and_reservations().await), (None, (0, 0)));
    // A person's own limits, tightened in between.
    let scene = Scene::new().await;
    let row = scene.ask("15").await;
    assert_eq!(scene.cli("zoe", &row, Said::Modify(less("12"))).await, status("superseded"));
    let mut unit = scene.bank.unit_of(scene.user).await;
    store::users::set_constraints(&mut unit, scene.user, &json!({ "position_usd": "9000" })).await.unwrap();
    unit.commit().await.unwrap();
    scene.settle(&row).await;
    assert_eq!((successor(&scene, &row).await, scene.permits_and_reservations().await), (None, (0, 0)));
}

#[tokio::test]
async fn a_no_to_the_new_request_gives_the_money_back_and_the_old_one_stays_over() {
    let scene = Scene::new().await;
    let old = scene.ask("60").await;
    let new = modified(&scene, &old, less("30")).await;
    let newest = modified(&scene, &new, less("12")).await;
    assert_eq!(scene.cli("zoe", &newest, Said::Reject).await, status("denied"));
    for row in [&old, &new, &newest] {
        assert_eq!(scene.settle(row).await, None);
    }
    assert_eq!(scene.permits_and_reservations().await, (0, 0));
    let due = store::approvals::due(&mut scene.treasury.begin().await.unwrap(), scene.now().await).await.unwrap();
    assert_eq!(due, []);
}

/// A yes to the old envelope and a modification at the same moment: one of them, never both.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_yes_and_a_change_of_the_same_moment_are_one_order() {
    let scene = Arc::new(Scene::new().await);
    for _ in 0..5 {
        let row = scene.ask("10.1").await;
        let mut said = tokio::task::JoinSet::new();
        for (person, word) in [("zoe", Said::Approve), ("operator", Said::Modify(less("10")))] {
            let (scene, row) = (scene.clone(), row.clone());
            said.spawn(async move { scene.cli(person, &row, word).await });
        }
        let came = said.join_all().await;
        assert_eq!(came.iter().filter(|came| came.is_ok()).count(), 1, "{came:?}");
        let permits = scene.settle_all().await.len();
        let allowed = came.contains(&status("allowed"));
        assert_eq!(permits, usize::from(allowed), "{came:?}");
        assert_eq!(successor(&scene, &row).await.is_some(), !allowed, "{came:?}");
    }
    scene.bank.assert_audit_valid().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn treasury_makes_one_request_of_a_change_however_often_it_is_woken() {
    let scene = Arc::new(Scene::new().await);
    let row = scene.ask("15").await;
    assert_eq!(scene.cli("zoe", &row, Said::Modify(less("12"))).await, status("superseded"));
    let mut woken = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let (scene, row) = (scene.clone(), row.clone());
        woken.spawn(async move {
            loop {
                if let Ok(out) = scene.try_settle(&row).await {
                    return out.len();
                }
            }
        });
    }
    let told = woken.join_all().await;
    assert_eq!(told.iter().filter(|messages| **messages > 0).count(), 1, "{told:?}");
    assert_eq!(scene.bank.count("SELECT count(*) FROM approval_requests").await, 2);
    assert_eq!(scene.permits_and_reservations().await, (0, 1));
}
