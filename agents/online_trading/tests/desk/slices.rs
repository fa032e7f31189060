//! A sliced order: one child after another inside of its permit, whatever dies, is lost or is pressed between two of them.

use std::sync::atomic::Ordering;
use std::time::Duration;

use domain::ids::OrderId;
use domain::money::Quantity;
use domain::order::Side::{Buy, Sell};
use domain::order::Slicing;
use domain::order::TimeInForce::{GoodTillCancelled, ImmediateOrCancel};
use domain::time::UnixMs;
use runtime::HandleError;
use runtime::kill::{Way, Wish, file_path, latch, write_file};
use testkit::wait::wait_until;
use venues::exchange::Exchange;

use crate::scene::{Desk, Scene};

/// Far enough apart that no second child comes by itself.
const FAR_MS: u32 = 300_000;
/// As close as allowed.
const CLOSE_MS: u32 = 100;

const BOUND: Duration = Duration::from_secs(30);

/// Turns until the desk has placed `count` orders since its start.
async fn until_placed(desk: &Desk, count: u32) {
    let placed = async || {
        desk.turn().await.unwrap();
        desk.placed() >= count
    };
    wait_until(BOUND, "placed", placed).await;
}

/// Turns until the order has ended, and says how.
async fn until_ended(scene: &Scene, desk: &Desk, order: OrderId) -> String {
    let ended = async || {
        desk.turn().await.unwrap();
        scene.row(order).await.state.is_terminal()
    };
    wait_until(BOUND, "ended", ended).await;
    scene.shown(order).await
}

/// Quantity and state of each child.
async fn children(scene: &Scene, order: OrderId) -> String {
    let row = scene.row(order).await;
    row.children.iter().map(|child| format!("{} {}", child.quantity, child.state)).collect::<Vec<_>>().join(", ")
}

#[tokio::test]
async fn children_come_one_after_another_and_are_the_whole_in_sum() {
    let scene = Scene::new().await;
    let desk = scene.start().await;
    let order = scene.sliced(Buy, "101", ImmediateOrCancel, 3, CLOSE_MS).await;
    assert_eq!(until_ended(&scene, &desk, order).await, "filled 1 in 3 fills");
    assert_eq!(children(&scene, order).await, "0.33333 filled, 0.33333 filled, 0.33334 filled");
    let row = scene.row(order).await;
    for (n, pair) in row.children.windows(2).enumerate() {
        let apart = pair[1].sent_at.since_ms(pair[0].sent_at);
        assert!(apart >= i64::from(CLOSE_MS), "child {} came {apart} ms after the one before", n + 1);
    }
    desk.turn().await.unwrap();
    assert_eq!((desk.placed(), desk.exchange.paper.fills().unwrap().len()), (3, 3));
    let ours = [0, 1, 2].map(|n| order.child_client_order_id(n));
    assert_eq!(row.children.iter().map(|child| child.client_order_id.clone()).collect::<Vec<_>>(), ours);
}

#[tokio::test]
async fn the_next_child_waits_for_its_time_however_often_somebody_looks() {
    let scene = Scene::new().await;
    let desk = scene.start().await;
    let order = scene.sliced(Buy, "101", ImmediateOrCancel, 2, FAR_MS).await;
    for _ in 0..5 {
        desk.turn().await.unwrap();
    }
    assert_eq!((desk.placed(), children(&scene, order).await), (1, "0.5 filled".to_owned()));
    assert_eq!(scene.shown(order).await, "open 0.5 in 1 fills");
}

#[tokio::test]
async fn level_two_in_the_middle_cancels_what_rests_and_nothing_comes_after_however_soon_it_is_lowered() {
    for side in [Buy, Sell] {
        let scene = Scene::new().await;
        let desk = scene.start().await;
        let worst = if side == Buy { "90" } else { "110" };
        let order = scene.sliced(side, worst, GoodTillCancelled, 5, CLOSE_MS).await;
        until_placed(&desk, 2).await;
        assert_eq!(desk.resting().await, 2);
        let wish = Wish { level: 2, by: "anna".to_owned(), way: Way::Cli, reason: "fire".to_owned() };
        assert!(latch(&file_path(&scene.folder), &wish, None, &[], UnixMs(1)).is_new);
        assert_eq!((desk.cancel().await, desk.resting().await), (Some(2), 0), "without the store");
        assert_eq!(until_ended(&scene, &desk, order).await, "cancelled 0 in 0 fills KILL_LEVEL", "{side}");
        write_file(&file_path(&scene.folder), 0, 9).unwrap();
        scene.bank.kill(0).await;
        for _ in 0..3 {
            desk.turn().await.unwrap();
        }
        assert_eq!((desk.placed(), desk.resting().await), (2, 0), "{side}");
        assert_eq!(children(&scene, order).await, "0.2 cancelled, 0.2 cancelled", "{side}: no third was begun");
    }
}

#[tokio::test]
async fn the_executor_takes_children_back_by_itself_when_the_row_says_two() {
    let scene = Scene::new().await;
    let desk = scene.start().await;
    let order = scene.sliced(Sell, "110", GoodTillCancelled, 3, FAR_MS).await;
    desk.turn().await.unwrap();
    scene.bank.kill(2).await;
    assert_eq!(until_ended(&scene, &desk, order).await, "cancelled 0 in 0 fills KILL_LEVEL");
    assert_eq!((desk.placed(), desk.resting().await), (1, 0));
}

#[tokio::test]
async fn a_press_that_was_taken_back_before_anybody_looked_has_ended_the_buy_all_the_same() {
    let scene = Scene::new().await;
    let desk = scene.start().await;
    let order = scene.sliced(Buy, "101", ImmediateOrCancel, 3, CLOSE_MS).await;
    desk.turn().await.unwrap();
    scene.bank.kill(1).await;
    scene.bank.kill(0).await;
    assert_eq!(until_ended(&scene, &desk, order).await, "cancelled 0.33333 in 1 fills KILL_LEVEL");
    assert_eq!(desk.placed(), 1);
}

#[tokio::test]
async fn an_exit_goes_on_at_level_one() {
    let scene = Scene::new().await;
    let desk = scene.start().await;
    let order = scene.sliced(Sell, "99", ImmediateOrCancel, 2, CLOSE_MS).await;
    desk.turn().await.unwrap();
    scene.bank.kill(1).await;
    assert_eq!(until_ended(&scene, &desk, order).await, "filled 1 in 2 fills");
}

#[tokio::test]
async fn a_level_that_is_pressed_while_it_is_written_down_keeps_an_order_or_a_child_from_the_venue() {
    for is_sliced in [true, false] {
        let scene = Scene::new().await;
        let desk = scene.start().await;
        let order = if is_sliced {
            scene.sliced(Buy, "101", ImmediateOrCancel, 2, CLOSE_MS).await
        } else {
            scene.order(Buy, "1", "101", ImmediateOrCancel).await
        };
        let held = scene.hold_commits().await;
        let press = async {
            scene.until_a_commit_waits().await;
            let wish = Wish { level: 2, by: "anna".to_owned(), way: Way::Cli, reason: "fire".to_owned() };
            assert!(latch(&file_path(&scene.folder), &wish, None, &[], UnixMs(1)).is_new);
            held.rollback().await.unwrap();
        };
        let (turned, ()) = tokio::join!(desk.turn(), press);
        turned.unwrap();
        assert!(scene.row(order).await.sent_at.is_some(), "it was written down as sent, at level 0");
        assert_eq!(until_ended(&scene, &desk, order).await, "rejected 0 in 0 fills KILL_LEVEL", "sliced: {is_sliced}");
        assert_eq!(desk.placed(), 0, "sliced: {is_sliced}");
    }
}

#[tokio::test]
async fn its_time_ends_it_between_two_children() {
    let scene = Scene::new().await;
    let desk = scene.start().await;
    let order = scene.sliced(Buy, "90", GoodTillCancelled, 3, FAR_MS).await;
    desk.turn().await.unwrap();
    assert_eq!(children(&scene, order).await, "0.33333 open");
    scene.expire(1).await;
    assert_eq!(until_ended(&scene, &desk, order).await, "cancelled 0 in 0 fills EXPIRED");
    assert_eq!((desk.placed(), desk.resting().await), (1, 0));
}

#[tokio::test]
async fn what_the_venue_refuses_ends_it_with_the_reason() {
    let mut scene = Scene::new().await;
    scene.reject_bps = 10_000;
    let desk = scene.start().await;
    let order = scene.sliced(Buy, "101", ImmediateOrCancel, 3, CLOSE_MS).await;
    let shown = until_ended(&scene, &desk, order).await;
    assert!(shown.starts_with("rejected 0 in 0 fills ") && scene.row(order).await.code.is_some(), "{shown}");
    assert_eq!(desk.placed(), 1);
}

#[tokio::test]
async fn a_child_whose_outcome_is_unknown_is_asked_for_before_another_comes() {
    let scene = Scene::new().await;
    let desk = scene.start().await;
    desk.exchange.paper.lose_replies(1);
    let order = scene.sliced(Buy, "101", ImmediateOrCancel, 2, CLOSE_MS).await;
    desk.exchange.is_mute.store(true, Ordering::SeqCst);
    desk.turn().await.unwrap();
    let sent_at = scene.row(order).await.children[0].sent_at;
    let due = async || {
        desk.turn().await.unwrap();
        scene.db.now().await.unwrap().since_ms(sent_at) > 2 * i64::from(CLOSE_MS)
    };
    wait_until(BOUND, "the time of the second child", due).await;
    desk.turn().await.unwrap();
    assert_eq!((children(&scene, order).await, desk.placed()), ("0.5 unknown".to_owned(), 1));
    desk.exchange.is_mute.store(false, Ordering::SeqCst);
    assert_eq!(until_ended(&scene, &desk, order).await, "filled 1 in 2 fills");
    assert_eq!(desk.placed(), 2);
}

#[tokio::test]
async fn died_at_each_step_no_child_is_sent_twice_and_none_is_left_out() {
    for kept in [ImmediateOrCancel, GoodTillCancelled] {
        let scene = Scene::new().await;
        let order = scene.sliced(Buy, "101", kept, 3, CLOSE_MS).await;
        let mut placed = 0;
        // Each start dies after the venue had the next child, before what became of it was written down.
        for n in 0..3_u32 {
            let desk = scene.start().await;
            desk.rows.dies.store(true, Ordering::SeqCst);
            let next_is_placed = async || {
                let _ = desk.turn().await;
                // What became of the child before is written by this start; it dies at the next one.
                let is_known = scene.row(order).await.children.iter().all(|child| child.state.is_terminal());
                desk.rows.dies.store(is_known || desk.placed() > 0, Ordering::SeqCst);
                desk.placed() > 0
            };
            wait_until(BOUND, "the next child", next_is_placed).await;
            placed += desk.placed();
            assert_eq!(placed, n + 1);
            let row = scene.row(order).await;
            assert_eq!(row.children.len(), usize::try_from(placed).unwrap());
        }
        let desk = scene.start().await;
        desk.reconcile().await.unwrap();
        assert_eq!(until_ended(&scene, &desk, order).await, "filled 1 in 3 fills");
        assert_eq!((desk.placed(), desk.exchange.paper.fills().unwrap().len()), (0, 3));
    }
}

#[tokio::test]
async fn a_child_that_never_came_to_the_venue_is_looked_for_until_it_can_no_longer_arrive() {
    let scene = Scene::new().await;
    let order = scene.sliced(Buy, "101", ImmediateOrCancel, 2, CLOSE_MS).await;
    scene.dies_on_the_way().await;
    let desk = scene.start().await;
    desk.reconcile().await.unwrap();
    assert_eq!(children(&scene, order).await, "0.5 open", "it may still arrive");
    scene.expire(10_001).await;
    assert_eq!(until_ended(&scene, &desk, order).await, "rejected 0 in 0 fills NOT_AT_VENUE");
    assert_eq!(desk.placed(), 0);
}

#[tokio::test]
async fn children_at_the_venue_are_ours_at_a_start() {
    let scene = Scene::new().await;
    let order = scene.sliced(Buy, "90", GoodTillCancelled, 2, FAR_MS).await;
    let desk = scene.start().await;
    desk.turn().await.unwrap();
    desk.reconcile().await.unwrap();
    assert_eq!(desk.exchange.open_orders().await.unwrap()[0].client_order_id, order.child_client_order_id(0));
    scene.bank.run("ALTER TABLE orders DISABLE TRIGGER ALL; UPDATE orders SET children = '[]'").await;
    let Err(HandleError::Fatal(text)) = desk.reconcile().await else { panic!("the start went on") };
    assert!(text.contains(&order.child_client_order_id(0)), "{text}");
}

#[tokio::test]
async fn two_desks_at_once_send_each_child_once() {
    let scene = Scene::new().await;
    let order = scene.sliced(Buy, "101", ImmediateOrCancel, 2, FAR_MS).await;
    let desk = scene.start().await;
    let (one, other) = tokio::join!(desk.turn(), desk.turn());
    assert!(one.is_ok() && other.is_ok(), "{one:?} {other:?}");
    assert_eq!((desk.placed(), scene.row(order).await.children.len()), (1, 1));
}

#[tokio::test]
async fn a_permit_whose_slices_are_not_its_quantity_is_worth_nothing() {
    let scene = Scene::new().await;
    let good = scene.sliced_body(Buy, "101", ImmediateOrCancel, 4, CLOSE_MS).envelope.slicing.unwrap();
    let more = Quantity::parse("0.4").unwrap();
    for bad in [
        Slicing { quantity: more, ..good },
        Slicing { quantity: Quantity::ZERO, ..good },
        Slicing { count: 1, ..good },
        Slicing { count: 1_000, ..good },
        Slicing { every_ms: 0, ..good },
    ] {
        let mut body = scene.sliced_body(Buy, "101", ImmediateOrCancel, 4, CLOSE_MS);
        body.envelope.slicing = Some(bad);
        let permit = scene.sign(body).await;
        let refused = scene.accept(&permit).await.unwrap_err().to_string();
        assert!(refused.contains("BAD_PERMIT") && refused.contains("slices"), "{bad:?}: {refused}");
    }
}
