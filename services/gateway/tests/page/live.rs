//! Pages that keep themselves up to date.

use reqwest::StatusCode;
use serde_json::json;

use crate::support::World;
use crate::support::samples::{SMALL, positions, small, status, trades};

#[tokio::test]
async fn an_open_page_hears_of_a_new_request_and_of_a_halt() {
    let world = World::open().await;
    world.script.answer("swarm.approvals", json!({ "ok": true, "approvals": [] }));
    let anna = world.login().await;
    let mut events = world.events("page=desk", &anna).await;
    events.part("approvals", |html| html.contains("Nothing waits")).await;
    world.script.answer("swarm.approvals", json!({ "ok": true, "approvals": [small()] }));
    let html = events.part("approvals", |html| html.contains(SMALL)).await;
    assert!(html.contains("BUY 0.5 ETHUSDT") && html.contains("$1500.00"), "{html}");
    world.script.answer("swarm.status", status(1));
    let html = events.part("state", |html| html.contains("Stopped")).await;
    assert!(html.contains("prices look odd"), "{html}");
}

/// Trades are asked for every few seconds, and at once when there is a new one.
#[tokio::test]
async fn a_fill_is_on_the_page_with_the_position_it_made() {
    let world = World::open().await;
    let anna = world.login().await;
    let mut events = world.events("page=trades", &anna).await;
    events.part("trades", |html| html.contains("Fills, newest first")).await;
    let asked = |subject: &str| world.script.asked(subject).len();
    let (looks, before) = (asked("swarm.positions"), asked("swarm.trades"));
    let (mut positions, mut trades) = (positions(), trades());
    positions["fills"] = 15.into();
    trades["trades"][0]["order_id"] = "the new one".into();
    world.script.answer("swarm.positions", positions);
    world.script.answer("swarm.trades", trades);
    events.part("trades", |html| html.contains("the new one")).await;
    assert_eq!(asked("swarm.trades"), before + 1);
    assert!(asked("swarm.positions") <= looks + 2, "one look may have been under way, the next one saw the fill");
}

#[tokio::test]
async fn the_page_of_a_request_hears_what_others_decided() {
    let world = World::open().await;
    let anna = world.login().await;
    let mut events = world.events(&format!("page=request&id={SMALL}"), &anna).await;
    events.part("request-state", |html| html.contains("data-status=\"pending\"")).await;
    let mut row = small();
    row["status"] = "denied".into();
    row["entries"] =
        json!([{ "person_id": "bert", "decision": "reject", "channel": "telegram", "at": 1_795_282_790_000_i64 }]);
    world.script.answer("swarm.approvals", json!({ "ok": true, "approvals": [row] }));
    let html = events.part("request-state", |html| html.contains("data-status=\"denied\"")).await;
    assert!(html.contains("bert") && html.contains("reject by telegram"), "{html}");
}

#[tokio::test]
async fn an_open_page_is_no_sign_of_a_person_and_ends_with_the_session() {
    let world = World::open().await;
    let anna = world.login().await;
    let mut events = world.events("page=desk", &anna).await;
    events.part("state", |_| true).await;
    world.clock.advance_ms(29 * 60_000);
    events.part("approvals", |_| true).await;
    world.clock.advance_ms(2 * 60_000);
    loop {
        match events.next().await {
            Some((name, _)) if name == "part" => {}
            Some((name, _)) => break assert_eq!(name, "gone"),
            None => panic!("the end is told"),
        }
    }
    assert_eq!(events.next().await, None);
    assert_eq!(world.get("/events?page=desk", Some(&anna)).await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn open_pages_do_not_hold_up_the_end_of_the_process() {
    let world = World::open().await;
    let anna = world.login().await;
    let mut events = world.events("page=agents", &anna).await;
    events.part("agents", |_| true).await;
    world.shutdown.cancel();
    while events.next().await.is_some() {}
    tokio::time::timeout(crate::support::SOON, world.serving).await.expect("an end in time").unwrap().unwrap();
}

#[tokio::test]
async fn open_pages_are_bounded_and_many_of_them_ask_no_more_than_one() {
    let world = World::open().await;
    let anna = world.login().await;
    let mut open = Vec::new();
    for _ in 0..32 {
        open.push(world.events("page=desk", &anna).await);
    }
    assert_eq!(world.get("/events?page=desk", Some(&anna)).await.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(world.get("/events?page=nothing", Some(&anna)).await.status, StatusCode::NOT_FOUND);
    for events in &mut open {
        events.part("state", |_| true).await;
    }
    let asked = world.script.asked("swarm.status").len();
    assert!(asked < 16, "{asked} times for 32 pages");
    drop(open);
    testkit::wait_until(crate::support::SOON, "a place is free again", || async {
        world.try_events("page=desk", &anna).await.is_ok()
    })
    .await;
}
