//! What voids a question: time, limits, approvers.

use std::time::Duration;

use serde_json::json;
use store::approvals::ApprovalStatus;
use supervisor::gateway::Said;
use testkit::wait::wait_until;

use crate::scene::{Scene, status};

const BOUND: Duration = Duration::from_secs(20);

#[tokio::test]
async fn out_of_time_is_a_no_when_somebody_answers_and_when_a_yes_is_used() {
    let mut scene = Scene::new().await;
    scene.config.house.approval_ttl_ms = 1_500;
    let (unanswered, unused) = (scene.ask("15").await, scene.ask("16").await);
    assert_eq!(scene.cli("zoe", &unused, Said::Approve).await, status("allowed"));
    wait_until(BOUND, "the end", || async { scene.now().await > unused.expires_at }).await;
    assert_eq!(scene.cli("zoe", &unanswered, Said::Approve).await, Err("EXPIRED"));
    assert_eq!(scene.status(&unanswered).await, ApprovalStatus::Expired, "whoever meets it first writes it down");
    assert_eq!(scene.cli("zoe", &unanswered, Said::Approve).await, Err("NOT_PENDING"));
    assert_eq!(scene.settle(&unused).await, None);
    assert_eq!(scene.status(&unused).await, ApprovalStatus::Expired);
    scene.settle_all().await;
    assert_eq!(scene.permits_and_reservations().await, (0, 0));
}

#[tokio::test]
async fn an_approver_who_comes_or_goes_voids_what_was_asked() {
    for (what, person, active) in [("comes", "new", true), ("goes", "operator", false)] {
        let scene = Scene::new().await;
        let (pending, allowed) = (scene.ask("15").await, scene.ask("16").await);
        assert_eq!(scene.cli("zoe", &allowed, Said::Approve).await, status("allowed"));
        scene.bank.approver(person, (person == "operator").then_some("operator"), active).await;
        assert_eq!(scene.cli("zoe", &pending, Said::Approve).await, Err("SUPERSEDED"), "{what}");
        assert_eq!(scene.status(&pending).await, ApprovalStatus::Superseded, "{what}");
        assert_eq!(scene.settle(&allowed).await, None, "{what}");
        assert_eq!(scene.status(&allowed).await, ApprovalStatus::Revoked, "{what}");
        scene.settle_all().await;
        assert_eq!(scene.permits_and_reservations().await, (0, 0), "{what}");
        let again = scene.ask("15").await;
        assert_eq!(scene.cli("zoe", &again, Said::Approve).await, status("allowed"), "{what}: asked anew");
    }
}

/// The words of who may no longer decide count for nothing, even should the question stand.
#[tokio::test]
async fn a_removed_approvers_word_counts_for_nothing() {
    let scene = Scene::new().await;
    let row = scene.ask("15").await;
    assert_eq!(scene.cli("zoe", &row, Said::Approve).await, status("allowed"));
    scene.bank.approver("zoe", None, false).await;
    let mut unit = scene.bank.unit().await;
    let version = store::approvals::version_of(&store::approvals::approvers(&mut unit).await.unwrap());
    sqlx::query("UPDATE approval_requests SET approvers_version = $1")
        .bind(version)
        .execute(unit.conn().unwrap())
        .await
        .unwrap();
    unit.commit().await.unwrap();
    assert_eq!(scene.settle(&row).await, None);
    assert_eq!(scene.status(&row).await, ApprovalStatus::Revoked);
    assert_eq!(scene.permits_and_reservations().await, (0, 0));
}

#[tokio::test]
async fn a_change_of_the_limits_voids_what_was_asked() {
    for own in [false, true] {
        let mut scene = Scene::new().await;
        let (pending, allowed) = (scene.ask("15").await, scene.ask("16").await);
        assert_eq!(scene.cli("zoe", &allowed, Said::Approve).await, status("allowed"));
        if own {
            let mut unit = scene.bank.unit_of(scene.user).await;
            let tighter = json!({ "position_usd": "9000" });
            store::users::set_constraints(&mut unit, scene.user, &tighter).await.unwrap();
            unit.commit().await.unwrap();
        } else {
            scene.config.house.position_usd = domain::money::Usd::dollars(9_000);
        }
        assert_eq!(scene.cli("operator", &pending, Said::Approve).await, Err("SUPERSEDED"), "own: {own}");
        assert_eq!(scene.settle(&allowed).await, None, "own: {own}");
        scene.settle_all().await;
        assert_eq!(scene.permits_and_reservations().await, (0, 0), "own: {own}");
    }
}
