//! Open orders at kill level 2: taken back without the store, by the file, by what was heard, by a wish, and at the start.

use domain::message::HaltChanged;
use domain::order::Side::Buy;
use domain::order::TimeInForce::{GoodTillCancelled, ImmediateOrCancel};
use domain::time::UnixMs;
use runtime::kill::{KillSwitch, Way, Wish, file_path, latch, read_file, wish_path, write_file};

use crate::scene::{Desk, Scene};

fn heard(level: u8, epoch: i64) -> HaltChanged {
    HaltChanged { level, epoch, by: "test".to_owned(), reason: "test".to_owned() }
}

/// A desk with three orders that rest.
async fn resting(scene: &Scene) -> Desk {
    let desk = scene.start().await;
    for worst in ["90", "91", "92"] {
        scene.order(Buy, "1", worst, GoodTillCancelled).await;
    }
    desk.turn().await.unwrap();
    assert_eq!(desk.resting().await, 3);
    desk
}

/// What the rows say of every order, in one line.
async fn rows(scene: &Scene) -> String {
    let states = "SELECT string_agg(state || ' ' || trim_scale(filled), ',' ORDER BY created_at, order_id) FROM orders";
    sqlx::query_scalar(states).fetch_one(scene.bank.admin.pool()).await.unwrap()
}

#[tokio::test]
async fn the_file_is_enough_to_cancel_and_the_rows_follow_when_the_store_is_back() {
    let scene = Scene::new().await;
    let desk = resting(&scene).await;
    for level in [0, 1] {
        write_file(&file_path(&scene.folder), level, 2).unwrap();
        assert_eq!((desk.cancel().await, desk.resting().await), (None, 3), "level {level} cancels nothing");
    }
    let wish = Wish { level: 2, by: "anna".to_owned(), way: Way::Cli, reason: "fire".to_owned() };
    assert!(latch(&file_path(&scene.folder), &wish, None, &[], UnixMs(1)).is_new);
    assert_eq!((desk.cancel().await, desk.resting().await), (Some(3), 0));
    assert_eq!(desk.cancel().await, Some(0));
    assert_eq!(rows(&scene).await, "open 0,open 0,open 0", "nothing was asked of the store");
    desk.turn().await.unwrap();
    assert_eq!(rows(&scene).await, "cancelled 0,cancelled 0,cancelled 0");
}

#[tokio::test]
async fn what_was_heard_is_enough_to_cancel_and_only_the_row_ends_it() {
    let scene = Scene::new().await;
    let desk = resting(&scene).await;
    desk.kill.hear(&heard(2, 5));
    assert_eq!((desk.cancel().await, desk.resting().await), (Some(3), 0));
    desk.kill.hear(&heard(0, 6));
    write_file(&file_path(&scene.folder), 0, 6).unwrap();
    assert_eq!(desk.cancel().await, Some(0), "no message and no file lowers");
    // Rows up to the epoch that was heard.
    for level in [1, 2, 2, 2, 0] {
        scene.bank.kill(level).await;
    }
    desk.turn().await.unwrap();
    assert_eq!(desk.cancel().await, None);
}

#[tokio::test]
async fn an_order_that_was_on_its_way_is_cancelled_when_it_arrives() {
    let scene = Scene::new().await;
    let desk = resting(&scene).await;
    desk.kill.hear(&heard(3, 5));
    assert_eq!(desk.cancel().await, Some(3));
    let late = scene.row(scene.order(Buy, "1", "90", GoodTillCancelled).await).await;
    let request = venues::exchange::OrderRequest::of_envelope(&late.envelope);
    venues::exchange::Exchange::place(&desk.exchange.paper, &request).await;
    assert_eq!((desk.resting().await, desk.cancel().await, desk.resting().await), (1, Some(1), 0));
}

#[tokio::test]
async fn a_file_named_halt_counts_for_the_desk_alone_for_as_long_as_it_lies_there() {
    let scene = Scene::new().await;
    let desk = resting(&scene).await;
    let kill_file = file_path(&scene.folder);
    std::fs::write(wish_path(&kill_file), "2").unwrap();
    assert_eq!((desk.cancel().await, desk.resting().await), (Some(3), 0));
    assert_eq!(KillSwitch::new(&scene.folder).without_database().level(), 2, "for the next start too");
    assert_eq!(read_file(&kill_file).unwrap().level, 0, "who may change the level is the supervisor's and people's");
}

#[tokio::test]
async fn a_wish_that_lies_there_stops_a_buy_that_is_about_to_be_sent() {
    let scene = Scene::new().await;
    let desk = scene.start().await;
    let buy = scene.order(Buy, "1", "101", ImmediateOrCancel).await;
    std::fs::write(wish_path(&file_path(&scene.folder)), "").unwrap();
    desk.turn().await.unwrap();
    assert_eq!((scene.shown(buy).await, desk.placed()), ("rejected 0 in 0 fills KILL_LEVEL".to_owned(), 0));
}

#[tokio::test]
async fn a_start_cancels_what_rests_before_it_has_reached_anything() {
    let scene = Scene::new().await;
    assert_eq!(scene.boot().await, None, "no journal, no order");
    let desk = resting(&scene).await;
    drop(desk);
    assert_eq!(scene.boot().await, None, "level 0");
    write_file(&file_path(&scene.folder), 2, 9).unwrap();
    assert_eq!(scene.boot().await, Some(3));
    assert_eq!(scene.boot().await, Some(0));
    let desk = scene.start().await;
    assert_eq!(desk.resting().await, 0);
    desk.reconcile().await.unwrap();
    assert_eq!(rows(&scene).await, "cancelled 0,cancelled 0,cancelled 0");
}
