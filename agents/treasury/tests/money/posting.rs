//! Fills and ends: each posted once, late ones too; a fact that can't be posted holds up only its own order; a permit is
//! spent or void, never both.

use std::sync::Arc;

use domain::order::{OrderState, Side};
use runtime::HandleError;
use store::permits::PermitState;
use treasury::settle;

use crate::scene::{NOW, Scene, fill_of, quantity, told};

#[tokio::test]
async fn a_fill_and_an_end_are_posted_once_however_often_we_are_woken() {
    let scene = Scene::new().await;
    let permit = scene.permit(Side::Buy, "5", "100").await;
    assert!(scene.spend(&permit).await);
    assert!(!scene.spend(&permit).await, "a permit is spent once");
    assert_eq!(told(&scene.post(&permit).await), "", "nothing happened yet");
    let part = fill_of(&permit, "t1", "2", "99", "0.2");
    scene.venue(&permit, Some(part.clone()), Some((OrderState::Open, "2"))).await;
    assert_eq!(told(&scene.post(&permit).await), "position FILLED");
    assert_eq!(scene.money().await, "cash 19801.8 btc 2 reserved 1");
    assert_eq!(scene.book().await.reservations[&part.order_id].remaining, quantity("3"));
    scene.venue(&permit, Some(part), None).await;
    assert_eq!(told(&scene.post(&permit).await), "", "the same fill again");
    let rest = fill_of(&permit, "t2", "3", "100", "0.3");
    scene.venue(&permit, Some(rest), Some((OrderState::Filled, "5"))).await;
    assert_eq!(told(&scene.post(&permit).await), "position FILLED ORDER_OUTCOME");
    assert_eq!(told(&scene.post(&permit).await), "");
    assert_eq!(scene.money().await, "cash 19501.5 btc 5 reserved 0");
    scene.bank.assert_audit_valid().await;
}

#[tokio::test]
async fn a_late_fill_of_a_finished_order_is_posted() {
    let scene = Scene::new().await;
    let permit = scene.permit(Side::Buy, "5", "100").await;
    scene.spend(&permit).await;
    scene.venue(&permit, None, Some((OrderState::Cancelled, "0"))).await;
    assert_eq!(told(&scene.post(&permit).await), "ORDER_OUTCOME");
    assert_eq!(scene.money().await, "cash 20000 btc 0 reserved 0");
    scene.venue(&permit, Some(fill_of(&permit, "late", "1", "100", "0.1")), None).await;
    let mut unit = scene.treasury.begin().await.unwrap();
    let found = store::orders::unposted(&mut unit, 10, &[]).await.unwrap();
    assert_eq!(found, [(scene.user, permit.body.envelope.order_id)], "the sweep finds it");
    drop(unit);
    assert_eq!(told(&scene.post(&permit).await), "position FILLED");
    assert_eq!(scene.money().await, "cash 19899.9 btc 1 reserved 0");
}

#[tokio::test]
async fn an_end_that_speaks_of_more_than_the_fills_we_have_holds_its_money() {
    let scene = Scene::new().await;
    let permit = scene.permit(Side::Buy, "5", "100").await;
    scene.spend(&permit).await;
    scene.venue(&permit, Some(fill_of(&permit, "t1", "1", "100", "0")), Some((OrderState::Cancelled, "3"))).await;
    assert_eq!(told(&scene.post(&permit).await), "position FILLED");
    assert_eq!(scene.money().await, "cash 19900 btc 1 reserved 1");
    scene.venue(&permit, Some(fill_of(&permit, "t2", "2", "100", "0")), None).await;
    assert_eq!(told(&scene.post(&permit).await), "position FILLED ORDER_OUTCOME");
    assert_eq!(scene.money().await, "cash 19700 btc 3 reserved 0");
}

#[tokio::test]
async fn a_fill_that_cant_be_posted_waits_and_holds_up_only_its_own_order() {
    let scene = Scene::new().await;
    scene.trade(Side::Buy, "5", "100").await;
    let (bad, good) = (scene.permit(Side::Sell, "2", "100").await, scene.permit(Side::Sell, "1", "100").await);
    scene.spend(&bad).await;
    scene.spend(&good).await;
    let oversold = fill_of(&bad, "impossible", "50", "100", "0");
    scene.venue(&bad, Some(oversold), Some((OrderState::Filled, "2"))).await;
    scene.venue(&good, Some(fill_of(&good, "fine", "1", "100", "0")), Some((OrderState::Filled, "1"))).await;
    let order_id = bad.body.envelope.order_id;
    for _ in 0..2 {
        assert!(matches!(scene.try_post(order_id).await, Err(HandleError::Retry(_))));
    }
    assert_eq!(told(&scene.post(&good).await), "position FILLED ORDER_OUTCOME");
    assert_eq!(scene.money().await, "cash 19600 btc 4 reserved 1", "its own money stays reserved");
    assert_eq!(scene.bank.count("SELECT count(*) FROM fills WHERE posted_at IS NULL").await, 1);
    scene.trade(Side::Buy, "4", "100").await;
    assert_eq!(told(&scene.decide(&scene.intent(Side::Sell, "1", "100")).await), "permit permitted");
}

#[tokio::test]
async fn a_report_under_another_users_name_posts_nothing() {
    let mut scene = Scene::new().await;
    let permit = scene.permit(Side::Buy, "5", "100").await;
    scene.spend(&permit).await;
    scene.venue(&permit, None, Some((OrderState::Cancelled, "0"))).await;
    let owner = scene.user;
    scene.user = scene.bank.account("other", "1000", serde_json::json!({}), NOW).await;
    let before = scene.rows().await;
    assert_eq!(told(&scene.post(&permit).await), "");
    assert_eq!(scene.rows().await, before);
    scene.user = owner;
    assert_eq!(told(&scene.post(&permit).await), "ORDER_OUTCOME");
}

#[tokio::test]
async fn an_unspent_permit_is_voided_and_a_spent_one_is_not() {
    let mut scene = Scene::new().await;
    let (unspent, spent) = (scene.permit(Side::Buy, "1", "100").await, scene.permit(Side::Buy, "2", "100").await);
    scene.spend(&spent).await;
    scene.wait(60_000);
    let mut unit = scene.treasury.begin().await.unwrap();
    let due = store::permits::unspent_due(&mut unit, scene.now).await.unwrap();
    drop(unit);
    assert_eq!(due.iter().map(|d| d.permit_id).collect::<Vec<_>>(), [unspent.body.permit_id]);
    assert!(!scene.spend(&unspent).await, "its time is over");
    assert_eq!(told(&scene.void(&unspent).await), "PERMIT_VOIDED");
    assert_eq!(told(&scene.void(&unspent).await), "");
    assert_eq!(told(&scene.void(&spent).await), "");
    assert_eq!(scene.money().await, "cash 20000 btc 0 reserved 1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_void_and_a_spend_at_once_have_one_winner() {
    let mut scene = Scene::new().await;
    scene.config.house.rate_risk_increasing = 1_000;
    let scene = Arc::new(scene);
    let mut wins = [0; 2];
    for round in 0..100 {
        let permit = Arc::new(scene.permit(Side::Buy, "0.06", "100").await);
        let spend = tokio::spawn({
            let (scene, permit) = (scene.clone(), permit.clone());
            async move { scene.spend(&permit).await }
        });
        let void = tokio::spawn({
            let (scene, permit) = (scene.clone(), permit.clone());
            async move { scene.void(&permit).await }
        });
        let (spent, voided) = (spend.await.unwrap(), !void.await.unwrap().is_empty());
        assert_ne!(spent, voided, "round {round}: exactly one of them");
        wins[usize::from(voided)] += 1;
        let order_id = permit.body.envelope.order_id;
        assert_eq!(scene.book().await.reservations.contains_key(&order_id), spent, "round {round}");
        let row = store::permits::get(&mut scene.bank.unit().await, permit.body.permit_id).await.unwrap().unwrap();
        assert_eq!(row.state, if spent { PermitState::Spent } else { PermitState::Void });
    }
    println!("spent {}, voided {}", wins[0], wins[1]);
}

/// The desk commits an end with its fill while treasury looks. Whatever treasury saw, it never releases the money of a
/// fill that it has not posted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_and_its_fill_that_arrive_while_we_look_are_posted_together_or_not_at_all() {
    let mut scene = Scene::new().await;
    scene.config.house.rate_risk_increasing = 1_000;
    let scene = Arc::new(scene);
    for round in 0..60 {
        let permit = Arc::new(scene.permit(Side::Buy, "0.06", "100").await);
        scene.spend(&permit).await;
        let desk = tokio::spawn({
            let (scene, permit) = (scene.clone(), permit.clone());
            async move {
                let fill = fill_of(&permit, &permit.body.permit_id.to_string(), "0.06", "100", "0");
                scene.venue(&permit, Some(fill), Some((OrderState::Filled, "0.06"))).await;
            }
        });
        let order_id = permit.body.envelope.order_id;
        loop {
            let mut unit = scene.treasury.begin().await.unwrap();
            settle::post(&mut unit, &scene.config, scene.user, order_id, scene.sight()).await.unwrap();
            unit.commit().await.unwrap();
            let (ended, unposted): (bool, bool) = sqlx::query_as(
                "SELECT outcome_posted, EXISTS (SELECT FROM fills f WHERE f.order_id = o.order_id AND posted_at IS NULL)
                 FROM orders o WHERE order_id = $1",
            )
            .bind(order_id.0)
            .fetch_one(scene.bank.admin.pool())
            .await
            .unwrap();
            assert!(!(ended && unposted), "round {round}: released without its fill");
            if ended {
                break;
            }
        }
        desk.await.unwrap();
    }
}
