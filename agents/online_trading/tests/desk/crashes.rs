//! The desk dies at each step of an order, and starts again: the order is sent at most once, and recorded once.

use std::sync::atomic::Ordering;

use domain::order::Side::Buy;
use domain::order::TimeInForce::{GoodTillCancelled, ImmediateOrCancel};

use crate::scene::Scene;

#[tokio::test]
async fn died_before_sending_the_order_is_sent_by_the_next_start() {
    let scene = Scene::new().await;
    let order = scene.order(Buy, "1", "101", ImmediateOrCancel).await;
    let desk = scene.start().await;
    desk.reconcile().await.unwrap();
    assert_eq!((scene.shown(order).await, desk.placed()), ("filled 1 in 1 fills".to_owned(), 1));
    drop(desk);
    let desk = scene.start().await;
    desk.reconcile().await.unwrap();
    assert_eq!((scene.shown(order).await, desk.placed()), ("filled 1 in 1 fills".to_owned(), 0));
}

#[tokio::test]
async fn died_after_the_venue_had_it_the_venue_is_asked_and_nothing_is_sent_again() {
    for time_in_force in [ImmediateOrCancel, GoodTillCancelled] {
        let scene = Scene::new().await;
        let order = scene.order(Buy, "1", "101", time_in_force).await;
        let desk = scene.start().await;
        desk.rows.dies.store(true, Ordering::SeqCst);
        assert!(desk.turn().await.is_err());
        assert_eq!((scene.shown(order).await, desk.placed()), ("open 0 in 0 fills".to_owned(), 1));
        drop(desk);
        let desk = scene.start().await;
        desk.reconcile().await.unwrap();
        desk.turn().await.unwrap();
        assert_eq!((scene.shown(order).await, desk.placed()), ("filled 1 in 1 fills".to_owned(), 0));
        assert_eq!(desk.exchange.paper.fills().unwrap().len(), 1);
        assert_eq!(desk.rows.told.lock().unwrap().len(), 1);
    }
}

#[tokio::test]
async fn died_on_the_way_the_order_is_looked_for_until_it_can_no_longer_arrive() {
    let scene = Scene::new().await;
    let order = scene.order(Buy, "1", "101", ImmediateOrCancel).await;
    scene.dies_on_the_way().await;
    let desk = scene.start().await;
    desk.reconcile().await.unwrap();
    assert_eq!(scene.shown(order).await, "open 0 in 0 fills", "it may still arrive");
    scene.expire(9_000).await;
    desk.turn().await.unwrap();
    assert_eq!(scene.shown(order).await, "open 0 in 0 fills", "it may still arrive");
    scene.expire(10_001).await;
    desk.turn().await.unwrap();
    assert_eq!((scene.shown(order).await, desk.placed()), ("rejected 0 in 0 fills NOT_AT_VENUE".to_owned(), 0));
}

#[tokio::test]
async fn a_lost_reply_is_unknown_until_the_venue_is_asked() {
    let scene = Scene::new().await;
    let desk = scene.start().await;
    desk.exchange.paper.lose_replies(1);
    let order = scene.order(Buy, "1", "101", ImmediateOrCancel).await;
    desk.turn().await.unwrap();
    assert_eq!(scene.shown(order).await, "unknown 0 in 0 fills");
    desk.turn().await.unwrap();
    assert_eq!((scene.shown(order).await, desk.placed()), ("filled 1 in 1 fills".to_owned(), 1));
}
