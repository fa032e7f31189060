//! What a person decides reaches the supervisor exactly, and its answer the person.

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::support::samples::{DIGEST, LARGE, SMALL, large, small};
use crate::support::{Answer, CODE, Visitor, World};

async fn send(world: &World, visitor: &Visitor, id: &str, decision: &str, more: &[(&str, &str)]) -> Answer {
    let digest = if id == SMALL { DIGEST.to_owned() } else { "1".repeat(64) };
    let mut fields = vec![("csrf", visitor.csrf.as_str()), ("decision", decision), ("digest", &digest), ("totp", CODE)];
    fields.extend_from_slice(more);
    world.post(&format!("/approvals/{id}/decide"), Some(visitor), &fields).await
}

#[tokio::test]
async fn a_decision_is_handed_on_under_the_name_of_the_session() {
    let world = World::open().await;
    let anna = world.login().await;
    let answer = send(&world, &anna, SMALL, "approve", &[("reason", "looks\u{202e} right\n")]).await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.body);
    let want = json!({
        "person": "anna", "approval_id": SMALL, "digest": DIGEST, "decision": "approve", "reason": "looks right", "totp": CODE,
    });
    assert_eq!(world.script.asked("swarm.decide.web"), [want]);
    let page = world.get(answer.location(), Some(&anna)).await.body;
    assert!(page.contains("approved. The treasury checks"), "{page}");
    assert!(world.get(answer.location(), Some(&anna)).await.body.contains("approved. The treasury"), "loaded again");
    let nobody = send(&world, &anna, SMALL, "approve", &[("person", "bert")]).await;
    assert_eq!(nobody.status, StatusCode::UNPROCESSABLE_ENTITY, "who decides is no field of a form");
    assert_eq!(world.script.asked("swarm.decide.web").len(), 1);
}

#[tokio::test]
async fn reject_and_revoke_are_decisions_and_nothing_else_is() {
    let world = World::open().await;
    let anna = world.login().await;
    for decision in ["reject", "revoke"] {
        assert_eq!(send(&world, &anna, SMALL, decision, &[]).await.status, StatusCode::SEE_OTHER);
    }
    for decision in ["", "Approve", "allow", "approve,reject", "0"] {
        assert_eq!(send(&world, &anna, SMALL, decision, &[]).await.status, StatusCode::UNPROCESSABLE_ENTITY);
    }
    let asked: Vec<Value> =
        world.script.asked("swarm.decide.web").iter().map(|asked| asked["decision"].clone()).collect();
    assert_eq!(asked, ["reject", "revoke"]);
    assert_eq!(send(&world, &anna, "x", "reject", &[]).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_smaller_request_leads_to_the_one_that_replaces_it() {
    let world = World::open().await;
    let anna = world.login().await;
    world.script.answer("swarm.decide.web", json!({ "ok": true, "status": "superseded", "superseded_by": LARGE }));
    let answer = send(&world, &anna, SMALL, "modify", &[("quantity", " 0.25 "), ("worst_price", "")]).await;
    assert!(answer.location().starts_with(&format!("/approvals/{LARGE}?said=")), "{}", answer.location());
    let asked = &world.script.asked("swarm.decide.web")[0];
    assert_eq!((&asked["quantity"], asked.get("worst_price")), (&json!("0.25"), None));
    for fields in [
        &[][..],
        &[("quantity", "-1")],
        &[("quantity", "1e3")],
        &[("quantity", "0,5")],
        &[("worst_price", "2 999")],
        &[("quantity", "0.2"), ("worst_price", "x")],
    ] {
        let answer = send(&world, &anna, SMALL, "modify", fields).await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{fields:?}");
    }
    assert_eq!(world.script.asked("swarm.decide.web").len(), 1);
}

#[tokio::test]
async fn a_large_order_takes_two_words_of_its_digest() {
    let world = World::open().await;
    let anna = world.login().await;
    for words in ["", "velvet", "velvet harbor", "pencil velvet", "copper maple", "velvet harbor thunder pencil"] {
        let answer = send(&world, &anna, LARGE, "approve", &[("words", words)]).await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{words:?}");
    }
    assert!(world.script.asked("swarm.decide.web").is_empty());
    assert_eq!(
        send(&world, &anna, LARGE, "approve", &[("words", "Velvet  pencil")]).await.status,
        StatusCode::SEE_OTHER
    );
    assert_eq!(send(&world, &anna, LARGE, "reject", &[]).await.status, StatusCode::SEE_OTHER, "a no is always easy");
    let mut wordless = large();
    wordless["digest_words"] = Value::Null;
    world.script.answer("swarm.approvals", json!({ "ok": true, "approvals": [wordless] }));
    let answer = send(&world, &anna, LARGE, "approve", &[("words", "")]).await;
    assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "no words are no reason to pass");
    let mut tierless = large();
    tierless["tier"] = Value::Null;
    world.script.answer("swarm.approvals", json!({ "ok": true, "approvals": [tierless] }));
    let answer = send(&world, &anna, LARGE, "approve", &[]).await;
    assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "an unknown tier is no low one");
}

#[tokio::test]
async fn a_no_of_the_supervisor_is_shown_with_what_was_typed() {
    let world = World::open().await;
    let anna = world.login().await;
    let no = json!({ "ok": false, "code": "MODIFY_NOT_SMALLER", "detail": "the quantity is not below <0.5>" });
    world.script.answer("swarm.decide.web", no);
    let answer = send(&world, &anna, SMALL, "modify", &[("quantity", "0.75"), ("reason", "half")]).await;
    assert_eq!(answer.status, StatusCode::CONFLICT);
    for part in [
        "role=\"alert\"",
        "MODIFY_NOT_SMALLER the quantity is not below &lt;0.5&gt;",
        "value=\"0.75\"",
        "value=\"half\"",
        "<details class=\"decision change\" name=\"decision\" open>",
    ] {
        assert!(answer.body.contains(part), "{part} in {}", answer.body);
    }
    assert!(!answer.body.contains(CODE), "a code is never shown again");
}

#[tokio::test]
async fn only_what_can_still_be_done_is_offered() {
    let world = World::open().await;
    let anna = world.login().await;
    for (status, offered) in [
        ("pending", &["approve", "reject", "modify"][..]),
        ("allowed", &["revoke"]),
        ("consumed", &[]),
        ("denied", &[]),
        ("expired", &[]),
        ("superseded", &[]),
        ("no such state", &[]),
    ] {
        let mut row = small();
        row["status"] = status.into();
        world.script.answer("swarm.approvals", json!({ "ok": true, "approvals": [row] }));
        let page = world.get(&format!("/approvals/{SMALL}"), Some(&anna)).await.body;
        for decision in ["approve", "reject", "modify", "revoke"] {
            let has = page.contains(&format!("name=\"decision\" value=\"{decision}\""));
            assert_eq!(has, offered.contains(&decision), "{status} {decision}");
        }
    }
    let unknown = world.get("/approvals/0192f3c1-0000-7000-8000-0000000000ff", Some(&anna)).await;
    assert!(unknown.body.contains("No such request"), "{}", unknown.body);
}

#[tokio::test]
async fn an_envelope_without_a_rendering_can_t_be_decided_here() {
    let world = World::open().await;
    let anna = world.login().await;
    let mut row = small();
    row["rendering"] = Value::Null;
    world.script.answer("swarm.approvals", json!({ "ok": true, "approvals": [row] }));
    let page = world.get(&format!("/approvals/{SMALL}"), Some(&anna)).await.body;
    assert!(page.contains("sent no rendering") && !page.contains("/decide"), "{page}");
    assert_eq!(send(&world, &anna, SMALL, "approve", &[]).await.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(world.script.asked("swarm.decide.web").is_empty());
}
