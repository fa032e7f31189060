//! The page in a real Chromium: what a person sees, at a desk and on a phone, in both colour schemes. `make test-ship`.
//!
//! Pictures of every page are left in the folder that `SHIP_PICTURES` names.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "../support/mod.rs"]
mod support;

mod audit;
mod browser;

use std::path::PathBuf;

use serde_json::json;
use support::samples::{LARGE, SMALL, large, small, status};
use support::{CODE, World};
use testkit::wait::wait_until;

use browser::{Browser, DESK, PHONE, Screen, Tab};

fn pictures() -> Option<PathBuf> {
    let folder = PathBuf::from(std::env::var_os("SHIP_PICTURES")?);
    std::fs::create_dir_all(&folder).unwrap();
    Some(folder)
}

async fn picture(tab: &Tab, name: &str) {
    if let Some(folder) = pictures() {
        tab.picture(&folder.join(format!("{name}.png"))).await;
    }
}

fn address(world: &World, path: &str) -> String {
    format!("{}{path}", world.own_origin())
}

/// Logs in with the keyboard alone.
async fn login(world: &World, tab: &Tab) {
    tab.visit(&address(world, "/login")).await;
    tab.until("document.activeElement.id === 'person'").await;
    tab.type_text("anna").await;
    tab.press("Tab").await;
    tab.until("document.activeElement.id === 'totp'").await;
    tab.type_text(CODE).await;
    tab.mark().await;
    tab.press("Enter").await;
    tab.wait_for_next().await;
    assert_eq!(tab.ask("location.pathname").await, "/");
}

/// Opens one of the forms of a request and sends it with a code.
async fn decide(tab: &Tab, decision: &str, more: &[(&str, &str)]) {
    let field = |name: &str| format!("{decision}-{name}");
    tab.click(&format!("details:has(#{}) summary", field("totp"))).await;
    for (name, text) in more {
        tab.click(&format!("#{}", field(name))).await;
        tab.type_text(text).await;
    }
    tab.click(&format!("#{}", field("totp"))).await;
    tab.type_text(CODE).await;
    tab.mark().await;
    tab.click(&format!("details:has(#{}) button", field("totp"))).await;
    tab.wait_for_next().await;
}

#[tokio::test]
async fn every_page_is_good_at_a_desk_and_on_a_phone_in_both_schemes() {
    let world = World::open().await;
    let browser = Browser::start().await;
    let tab = browser.tab().await;
    for (name, screen, is_dark) in [
        ("desk", DESK, false),
        ("desk-dark", DESK, true),
        ("phone", PHONE, false),
        ("phone-dark", PHONE, true),
        ("narrow", Screen { width: 320, ..PHONE }, false),
    ] {
        tab.show(screen, is_dark).await;
        tab.forget_cookies().await;
        tab.visit(&address(&world, "/login")).await;
        picture(&tab, &format!("login-{name}")).await;
        audit::check(&tab, &format!("login {name}"), screen).await;
        login(&world, &tab).await;
        let (small, large) = (format!("/approvals/{SMALL}"), format!("/approvals/{LARGE}"));
        for (page, path) in [
            ("first", "/"),
            ("trades", "/trades"),
            ("agents", "/agents"),
            ("limits", "/limits"),
            ("stop", "/stop"),
            ("request", small.as_str()),
            ("large", large.as_str()),
        ] {
            tab.visit(&address(&world, path)).await;
            if path.starts_with("/approvals") {
                tab.ask(
                    "document.querySelectorAll('details').forEach(d => { d.removeAttribute('name'); d.open = true; })",
                )
                .await;
            }
            picture(&tab, &format!("{page}-{name}")).await;
            audit::check(&tab, &format!("{page} {name}"), screen).await;
        }
    }
    assert_eq!(tab.complaints(), Vec::<String>::new(), "no error in the console, no violation of the policy");
}

#[tokio::test]
async fn a_request_appears_by_itself_and_is_approved_with_a_code() {
    let world = World::open().await;
    world.script.answer("swarm.approvals", json!({ "ok": true, "approvals": [] }));
    let browser = Browser::start().await;
    let tab = browser.tab().await;
    tab.show(PHONE, false).await;
    login(&world, &tab).await;
    tab.until("document.querySelector('#approvals').textContent.includes('Nothing waits')").await;
    world.script.answer("swarm.approvals", json!({ "ok": true, "approvals": [small()] }));
    tab.until("document.title.startsWith('(1)')").await;
    tab.until("document.querySelector('#announce').textContent.includes('1 new approval request')").await;
    let first = tab.ask("document.querySelector('[data-until]').textContent").await;
    tab.until(&format!("document.querySelector('[data-until]').textContent !== {first}")).await;
    tab.mark().await;
    tab.click("#approvals a.button").await;
    tab.wait_for_next().await;
    decide(&tab, "approve", &[("reason", "fine")]).await;
    let asked = world.script.asked("swarm.decide.web");
    assert_eq!((asked.len(), &asked[0]["decision"], &asked[0]["reason"]), (1, &json!("approve"), &json!("fine")));
    assert!(tab.ask("document.body.textContent").await.as_str().unwrap().contains("approved. The treasury"));
    let mut row = small();
    row["status"] = "consumed".into();
    world.script.answer("swarm.approvals", json!({ "ok": true, "approvals": [row] }));
    tab.until("document.querySelector('[data-status]').dataset.status === 'consumed'").await;
    tab.until("[...document.querySelectorAll('.decisions button')].every(b => b.disabled)").await;
    assert_eq!(tab.complaints(), Vec::<String>::new());
}

#[tokio::test]
async fn without_scripts_everything_still_works() {
    let world = World::open().await;
    let browser = Browser::start().await;
    let tab = browser.tab().await;
    tab.show(PHONE, false).await;
    tab.without_scripts().await;
    login(&world, &tab).await;
    tab.visit(&address(&world, &format!("/approvals/{LARGE}"))).await;
    decide(&tab, "approve", &[("words", "velvet pencil")]).await;
    assert_eq!(world.script.asked("swarm.decide.web").len(), 1);
    tab.visit(&address(&world, "/stop")).await;
    tab.mark().await;
    tab.click("button[value='1']").await;
    tab.wait_for_next().await;
    assert_eq!(world.script.asked("swarm.halt"), [json!({ "level": 1, "reason": "", "by": "anna", "way": "web" })]);
}

#[tokio::test]
async fn what_is_typed_and_where_the_keyboard_is_outlives_an_update() {
    let world = World::open().await;
    let browser = Browser::start().await;
    let tab = browser.tab().await;
    tab.show(DESK, false).await;
    login(&world, &tab).await;
    tab.ask("document.querySelector('#approvals a.button').focus()").await;
    let mut row = small();
    row["needed"] = 3.into();
    world.script.answer("swarm.approvals", json!({ "ok": true, "approvals": [row, large()] }));
    tab.until("document.querySelector('#approvals').textContent.includes('0 of 3')").await;
    assert_eq!(tab.ask("document.activeElement.dataset.key").await, SMALL);
    tab.visit(&address(&world, &format!("/approvals/{SMALL}"))).await;
    tab.click("details:has(#reject-totp) summary").await;
    tab.click("#reject-reason").await;
    tab.type_text("too mu").await;
    world.script.answer("swarm.status", status(1));
    tab.until("document.querySelector('#state').textContent.includes('Stopped')").await;
    tab.type_text("ch").await;
    assert_eq!(tab.ask("document.querySelector('#reject-reason').value").await, "too much");
}

#[tokio::test]
async fn a_lost_supervisor_is_seen_without_a_reload() {
    let mut world = World::open().await;
    let browser = Browser::start().await;
    let tab = browser.tab().await;
    tab.show(PHONE, false).await;
    login(&world, &tab).await;
    world.lose_the_supervisor().await;
    tab.until("document.querySelector('#banner').textContent.includes('does not answer')").await;
    picture(&tab, "lost-phone").await;
    audit::check(&tab, "lost supervisor", PHONE).await;
    tab.show(DESK, true).await;
    picture(&tab, "lost-desk-dark").await;
    world.shutdown.cancel();
    tab.until("!document.querySelector('#stale').hidden").await;
}

/// Pages of a stranger, on another port of this machine.
async fn evil(world: &World) -> String {
    let target = world.own_origin();
    let form = format!(
        "<form id=f method=post action='{target}/stop'><input name=level value=1><input name=csrf value=x></form>\
         <iframe id=i src='{target}/stop'></iframe><script>\
         fetch('{target}/stop', {{method: 'POST', mode: 'no-cors', credentials: 'include', \
         headers: {{'content-type': 'application/x-www-form-urlencoded'}}, body: 'level=1'}}).finally(() => f.submit())</script>"
    );
    let page = axum::Router::new().route("/", axum::routing::get(move || async { axum::response::Html(form) }));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://127.0.0.1:{}/", listener.local_addr().unwrap().port());
    tokio::spawn(async { axum::serve(listener, page).await });
    address
}

#[tokio::test]
async fn a_page_of_a_stranger_can_neither_press_nor_frame() {
    let world = World::open().await;
    let browser = Browser::start().await;
    let tab = browser.tab().await;
    tab.show(DESK, false).await;
    login(&world, &tab).await;
    // 127.0.0.1 on another port is the same *site*: the browser sends the cookie along.
    tab.go(&evil(&world).await).await;
    tab.until("document.body && document.body.textContent.includes('not sent by this page')").await;
    assert!(world.script.asked("swarm.halt").is_empty());
    wait_until(support::SOON, "the browser tells of the refused frame", || async {
        tab.complaints().iter().any(|text| text.contains("frame-ancestors") || text.contains("X-Frame-Options"))
    })
    .await;
    tab.visit(&address(&world, "/stop")).await;
    tab.mark().await;
    tab.click("button[value='1']").await;
    tab.wait_for_next().await;
    assert_eq!(world.script.asked("swarm.halt").len(), 1, "the own page still can");
}
