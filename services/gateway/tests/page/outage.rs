//! When the supervisor is away: the page says so and what to do, shows what it knew, and does not pretend.

use reqwest::StatusCode;
use serde_json::json;

use crate::support::samples::{DIGEST, SMALL};
use crate::support::{CODE, World};

#[tokio::test]
async fn a_lost_supervisor_is_told_with_what_to_do_and_how_old_the_page_is() {
    let mut world = World::open().await;
    let anna = world.login().await;
    world.lose_the_supervisor().await;
    world.clock.advance_ms(65_000);
    // Within a second the page may still show what it has just heard.
    let page = testkit::wait_for(crate::support::SOON, "the banner", || async {
        let page = world.get("/", Some(&anna)).await.body;
        page.contains("The supervisor does not answer").then_some(page)
    })
    .await;
    for part in ["Since <time", "17:41:05 UTC", "17:40:00 UTC", "swarm doctor", "Ctrl-C", "$50,718.34", "Not known now"]
    {
        assert!(page.contains(part), "{part} in {page}");
    }
    assert!(!page.contains("Trading</span>"), "what was true is not what is");
    let request = world.get(&format!("/approvals/{SMALL}"), Some(&anna)).await.body;
    assert!(request.contains("does not answer") && !request.contains("/decide\""), "{request}");
    let fields = [("csrf", anna.csrf.as_str()), ("decision", "reject"), ("digest", DIGEST), ("totp", CODE)];
    let answer = world.post(&format!("/approvals/{SMALL}/decide"), Some(&anna), &fields).await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    let answer = world.post("/stop", Some(&anna), &[("csrf", &anna.csrf), ("level", "1")]).await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(answer.body.contains("NOT stopped"), "{}", answer.body);
    let answer = world.post("/login", None, &[("person", "anna"), ("totp", CODE)]).await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn a_decision_without_an_answer_is_not_called_undone() {
    let world = World::open().await;
    let anna = world.login().await;
    world.script.silence("swarm.decide.web");
    let fields = [("csrf", anna.csrf.as_str()), ("decision", "reject"), ("digest", DIGEST), ("totp", CODE)];
    let answer = world.post(&format!("/approvals/{SMALL}/decide"), Some(&anna), &fields).await;
    assert_eq!(answer.status, StatusCode::GATEWAY_TIMEOUT);
    assert!(answer.body.contains("may or may not have been taken"), "{}", answer.body);
    assert_eq!(world.script.asked("swarm.decide.web").len(), 1, "a code is good once: it is not sent again");
}

#[tokio::test]
async fn a_supervisor_without_its_database_is_told_apart() {
    let world = World::open().await;
    let no = json!({ "ok": false, "code": "UNAVAILABLE", "detail": "try again" });
    for subject in ["status", "approvals", "positions", "equity", "trades", "limits"] {
        world.script.answer(&format!("swarm.{subject}"), no.clone());
    }
    let anna = world.login().await;
    let page = world.get("/", Some(&anna)).await.body;
    assert!(page.contains("can&#39;t read its records") || page.contains("can't read its records"), "{page}");
    assert!(!page.contains("Nothing waits for a person"), "what is not known is not called empty: {page}");
    let page = world.get(&format!("/approvals/{SMALL}"), Some(&anna)).await.body;
    assert!(!page.contains("No such request"), "{page}");
}
