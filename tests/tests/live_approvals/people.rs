//! Whose yes counts, how many are needed, and that a no wins.

use std::sync::Arc;

use domain::message::Payload;
use domain::order::{OrderIntent, Origin};
use serde_json::json;
use store::approvals::ApprovalStatus;
use supervisor::gateway::Said;

use crate::scene::{Scene, status};

/// So that the attention budget has room for the next question.
const ASKED_LONG_AGO: &str = "ALTER TABLE approval_requests DISABLE TRIGGER ALL;
    UPDATE approval_requests SET requested_at = '2000-01-01';
    ALTER TABLE approval_requests ENABLE TRIGGER ALL";
/// What no login can do.
const ALLOWED_BY_HAND: &str = "ALTER TABLE approval_requests DISABLE TRIGGER ALL;
    UPDATE approval_requests SET status = 'allowed';
    ALTER TABLE approval_requests ENABLE TRIGGER ALL";

/// The user's own limits ask for more people than the house's.
async fn needs_two(scene: &Scene) {
    let mut unit = scene.bank.unit_of(scene.user).await;
    let own = json!({ "approval_people_tier1": 2, "approval_people_tier2": 2 });
    store::users::set_constraints(&mut unit, scene.user, &own).await.unwrap();
    unit.commit().await.unwrap();
}

#[tokio::test]
async fn two_people_are_two_and_one_person_twice_is_one() {
    let scene = Scene::new().await;
    needs_two(&scene).await;
    let row = scene.ask("15").await;
    assert_eq!(row.needed, 2);
    assert_eq!(scene.cli("zoe", &row, Said::Approve).await, status("pending"));
    assert_eq!(scene.cli("zoe", &row, Said::Approve).await, Err("ALREADY_VOTED"));
    scene.enroll("zoe").await;
    assert_eq!(scene.web("zoe", &row, Said::Approve, &scene.code(0).await).await, Err("ALREADY_VOTED"));
    assert_eq!(scene.status(&row).await, ApprovalStatus::Pending);
    assert_eq!(scene.cli("operator", &row, Said::Approve).await, status("allowed"));
    assert!(scene.settle(&row).await.is_some());
}

/// Each counts the other's word although both came at once: nobody is left waiting for a word that was said.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_words_at_the_same_moment_are_two() {
    let scene = Arc::new(Scene::new().await);
    needs_two(&scene).await;
    for _ in 0..10 {
        let row = scene.ask("10.1").await;
        let mut said = tokio::task::JoinSet::new();
        for person in ["zoe", "operator"] {
            let (scene, row) = (scene.clone(), row.clone());
            said.spawn(async move { scene.cli(person, &row, Said::Approve).await });
        }
        let mut came = said.join_all().await;
        came.sort();
        assert_eq!(came, [status("allowed"), status("pending")]);
        assert_eq!(scene.cli("zoe", &row, Said::Revoke).await, status("revoked"));
        assert_eq!(scene.settle(&row).await, None);
        scene.bank.run(ASKED_LONG_AGO).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_no_wins_over_a_yes_of_the_same_moment() {
    let scene = Arc::new(Scene::new().await);
    for _ in 0..10 {
        let row = scene.ask("10.1").await;
        let mut said = tokio::task::JoinSet::new();
        for (person, word) in [("zoe", Said::Approve), ("operator", Said::Reject)] {
            let (scene, row) = (scene.clone(), row.clone());
            said.spawn(async move { (person, scene.cli(person, &row, word).await) });
        }
        let came: std::collections::BTreeMap<_, _> = said.join_all().await.into_iter().collect();
        let no = came["operator"].clone().unwrap();
        assert!(no == "denied" || no == "revoked", "{came:?}");
        assert_eq!(scene.settle(&row).await, None, "{came:?}");
        let status = scene.status(&row).await;
        assert!(matches!(status, ApprovalStatus::Denied | ApprovalStatus::Revoked), "{status:?}");
    }
    assert_eq!(scene.permits_and_reservations().await, (0, 0));
}

#[tokio::test]
async fn a_yes_that_was_not_used_is_taken_back_by_anybody_who_may_decide() {
    for (person, word) in [("zoe", Said::Revoke), ("operator", Said::Revoke), ("operator", Said::Reject)] {
        let scene = Scene::new().await;
        let row = scene.ask("15").await;
        assert_eq!(scene.cli("zoe", &row, Said::Approve).await, status("allowed"));
        assert_eq!(scene.cli(person, &row, word).await, status("revoked"), "{person}");
        assert_eq!(scene.settle(&row).await, None);
        assert_eq!(scene.permits_and_reservations().await, (0, 0));
        assert_eq!(scene.cli("zoe", &row, Said::Approve).await, Err("NOT_PENDING"));
    }
    let scene = Scene::new().await;
    let row = scene.ask("15").await;
    assert_eq!(scene.cli("zoe", &row, Said::Revoke).await, status("denied"), "before anybody said yes it is a no");
}

/// Should a no stand beside a yes in the tables, however it got there, treasury goes by the no.
#[tokio::test]
async fn treasury_goes_by_a_no_that_the_status_does_not_show() {
    let scene = Scene::new().await;
    let row = scene.ask("15").await;
    assert_eq!(scene.cli("operator", &row, Said::Reject).await, status("denied"));
    scene.bank.run(ALLOWED_BY_HAND).await;
    assert_eq!(scene.settle(&row).await, None);
    assert_eq!(scene.permits_and_reservations().await, (0, 0));
}

#[tokio::test]
async fn at_tier_two_the_requester_says_no_but_not_yes() {
    let scene = Scene::new().await;
    let row = scene.ask("60").await;
    assert_eq!(row.tier, 2);
    assert_eq!(scene.cli("operator", &row, Said::Approve).await, Err("REQUESTER"));
    assert_eq!(scene.words(&row).await, 0);
    assert_eq!(scene.cli("zoe", &row, Said::Approve).await, status("allowed"));
    assert_eq!(scene.cli("operator", &row, Said::Reject).await, status("revoked"));
    let alone = Scene::new().await;
    alone.bank.approver("zoe", None, false).await;
    let row = alone.ask("60").await;
    assert_eq!(alone.cli("operator", &row, Said::Approve).await, status("allowed"), "nobody else can");
    assert!(alone.settle(&row).await.is_some());
}

#[tokio::test]
async fn an_agent_that_names_a_person_is_not_that_person_and_signs_nothing() {
    let scene = Scene::new().await;
    let intent = OrderIntent { origin: Origin::Agent { name: "zoe".to_owned() }, ..scene.intent("60").await };
    let out = scene.decide(&intent).await;
    let Payload::ApprovalRequest(request) = &out[0].payload else { panic!("{out:?}") };
    let row = scene.row(request.approval_id).await;
    assert_eq!(scene.cli("buy_bot", &row, Said::Approve).await, Err("UNKNOWN_APPROVER"));
    assert_eq!(scene.cli("zoe", &row, Said::Approve).await, status("allowed"));
}

#[tokio::test]
async fn what_nobody_could_say_yes_to_is_refused_at_once() {
    for (own, people) in [(json!({}), 0), (json!({ "approval_people_tier1": 3 }), 2)] {
        let scene = Scene::new().await;
        if people == 0 {
            scene.bank.approver("zoe", None, false).await;
            scene.bank.approver("operator", Some("operator"), false).await;
        }
        let mut unit = scene.bank.unit_of(scene.user).await;
        store::users::set_constraints(&mut unit, scene.user, &own).await.unwrap();
        unit.commit().await.unwrap();
        let out = scene.decide(&scene.intent("15").await).await;
        let Payload::OrderDecision(decision) = &out[0].payload else { panic!("{out:?}") };
        let text = format!("{:?}", decision.outcome);
        assert!(text.contains("DENIED") && text.contains(&format!(r#""approvers": "{people}""#)), "{text}");
        assert_eq!(scene.permits_and_reservations().await, (0, 0));
    }
}

#[tokio::test]
async fn above_the_attention_budget_the_swarm_stops_proposing() {
    let mut scene = Scene::new().await;
    scene.config.house.approval_prompts_per_hour = 2;
    scene.ask("10.1").await;
    scene.ask("10.1").await;
    let out = scene.decide(&scene.intent("10.1").await).await;
    assert!(format!("{:?}", out[0].payload).contains("ATTENTION_BUDGET"), "{out:?}");
    assert_eq!(scene.permits_and_reservations().await, (0, 2), "it asks nobody and permits nothing");
}
