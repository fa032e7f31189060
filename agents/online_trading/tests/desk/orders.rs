//! One order from row to end, and everything that may keep it from being sent.

use domain::order::Side::{Buy, Sell};
use domain::order::TimeInForce::{GoodTillCancelled, ImmediateOrCancel};
use runtime::HandleError;

use crate::scene::Scene;

#[tokio::test]
async fn an_order_is_sent_once_and_its_fills_and_end_are_written_together() {
    let scene = Scene::new().await;
    let desk = scene.start().await;
    let order = scene.order(Buy, "1", "101", ImmediateOrCancel).await;
    assert_eq!(scene.shown(order).await, "pending 0 in 0 fills");
    for _ in 0..3 {
        desk.turn().await.unwrap();
        assert_eq!(scene.shown(order).await, "filled 1 in 1 fills");
        assert_eq!((desk.placed(), desk.rows.told.lock().unwrap().len()), (1, 1));
    }
}

#[tokio::test]
async fn what_the_venue_refuses_is_rejected_with_its_reason() {
    let mut scene = Scene::new().await;
    scene.reject_bps = 10_000;
    let desk = scene.start().await;
    let order = scene.order(Buy, "1", "101", ImmediateOrCancel).await;
    desk.turn().await.unwrap();
    let row = scene.row(order).await;
    assert!(row.state.is_terminal() && row.code.is_some() && row.filled.is_zero(), "{row:?}");
    desk.turn().await.unwrap();
    assert_eq!(desk.placed(), 1);
}

#[tokio::test]
async fn the_kill_level_between_permit_and_sending_stops_a_buy_and_not_an_exit() {
    let scene = Scene::new().await;
    let desk = scene.start().await;
    let (buy, sell) =
        (scene.order(Buy, "1", "101", ImmediateOrCancel).await, scene.order(Sell, "1", "99", ImmediateOrCancel).await);
    scene.bank.kill(1).await;
    desk.turn().await.unwrap();
    assert_eq!(scene.shown(buy).await, "rejected 0 in 0 fills KILL_LEVEL");
    assert_eq!(scene.shown(sell).await, "filled 1 in 1 fills");
    assert_eq!(desk.placed(), 1);
}

#[tokio::test]
async fn a_halt_while_one_order_is_on_its_way_stops_the_buy_behind_it_and_not_the_exit() {
    let scene = Scene::new().await;
    let desk = scene.start().await;
    let first = scene.order(Buy, "1", "101", ImmediateOrCancel).await;
    let second = scene.order(Buy, "2", "101", ImmediateOrCancel).await;
    let exit = scene.order(Sell, "1", "99", ImmediateOrCancel).await;
    *desk.exchange.halts.lock().unwrap() = Some(scene.bank.login("supervisor").await);
    desk.turn().await.unwrap();
    assert_eq!(scene.shown(first).await, "filled 1 in 1 fills");
    assert_eq!(scene.shown(second).await, "pending 0 in 0 fills", "level 0 when the turn began, 1 when it was due");
    assert_eq!((scene.shown(exit).await, desk.placed()), ("filled 1 in 1 fills".to_owned(), 2));
    desk.turn().await.unwrap();
    assert_eq!(scene.shown(second).await, "rejected 0 in 0 fills KILL_LEVEL");
    assert_eq!(desk.placed(), 2);
}

#[tokio::test]
async fn an_order_past_its_time_is_not_sent() {
    let scene = Scene::new().await;
    let desk = scene.start().await;
    let order = scene.order(Buy, "1", "101", ImmediateOrCancel).await;
    scene.expire(1).await;
    desk.turn().await.unwrap();
    assert_eq!((scene.shown(order).await, desk.placed()), ("rejected 0 in 0 fills EXPIRED".to_owned(), 0));
}

#[tokio::test]
async fn a_resting_order_ends_at_its_time_or_at_kill_level_two() {
    for by_kill in [true, false] {
        let scene = Scene::new().await;
        let desk = scene.start().await;
        let order = scene.order(Buy, "1", "90", GoodTillCancelled).await;
        desk.turn().await.unwrap();
        assert_eq!(scene.shown(order).await, "open 0 in 0 fills");
        scene.bank.kill(1).await;
        desk.turn().await.unwrap();
        assert_eq!(scene.shown(order).await, "open 0 in 0 fills", "level 1 cancels nothing");
        if by_kill {
            scene.bank.kill(2).await;
        } else {
            scene.expire(1).await;
        }
        desk.turn().await.unwrap();
        assert_eq!(scene.shown(order).await, "cancelled 0 in 0 fills", "by kill: {by_kill}");
    }
}

#[tokio::test]
async fn an_open_order_at_the_venue_that_is_not_ours_stops_the_start_and_says_which() {
    let scene = Scene::new().await;
    let order = scene.order(Buy, "1", "90", GoodTillCancelled).await;
    let desk = scene.start().await;
    desk.turn().await.unwrap();
    desk.reconcile().await.unwrap();
    scene.bank.run("ALTER TABLE orders DISABLE TRIGGER ALL; DELETE FROM orders").await;
    let Err(HandleError::Fatal(text)) = desk.reconcile().await else { panic!("the start went on") };
    assert!(text.contains(&order.client_order_id()) && text.contains("paper") && text.contains("cancel it"), "{text}");
}
