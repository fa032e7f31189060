//! Three ways, one function: what each of them leads to.

use domain::person::Assurance;
use domain::telegram_button::Press;
use serde_json::json;
use store::approvals::ApprovalStatus;
use supervisor::gateway::Said;

use crate::scene::{Scene, status};

#[tokio::test]
async fn a_signed_yes_a_press_and_a_code_each_get_one_order_permitted() {
    for way in ["cli", "telegram", "web"] {
        let scene = Scene::new().await;
        let row = scene.ask("15").await;
        assert_eq!((row.tier, row.needed), (1, 1));
        let came = match way {
            "cli" => scene.cli("zoe", &row, Said::Approve).await,
            "telegram" => {
                scene.link("zoe", 77).await;
                scene.prompt(&row, "zoe", 77, 5).await;
                scene.press(&row, Press::Approve, 77, 5).await
            }
            _ => {
                scene.enroll("zoe").await;
                scene.web("zoe", &row, Said::Approve, &scene.code(0).await).await
            }
        };
        assert_eq!(came, status("allowed"), "{way}");
        let permit = scene.settle(&row).await.expect(way);
        assert_eq!(permit.body.envelope, row.envelope, "{way}");
        assert_eq!(scene.status(&row).await, ApprovalStatus::Consumed, "{way}");
        assert_eq!(scene.settle_all().await.len(), 0, "{way}");
        assert_eq!(scene.permits_and_reservations().await, (1, 1), "{way}");
        let mut unit = scene.bank.unit_of(scene.user).await;
        let entry = store::approvals::entries(&mut unit, row.approval_id).await.unwrap().remove(0);
        assert_eq!(entry.channel, way);
        let shown = rails::render::shown(&row.envelope, row.tier, row.digest, &row.reasoning);
        assert_eq!(entry.shown_digest, Some(shown.digest), "{way}: what was shown is kept");
        assert_eq!(entry.signature.is_some(), entry.assurance == Assurance::CliKey, "{way}");
    }
}

#[tokio::test]
async fn a_no_over_any_way_ends_it_and_gives_the_money_back() {
    for way in ["cli", "telegram", "web"] {
        let scene = Scene::new().await;
        let row = scene.ask("15").await;
        let came = match way {
            "cli" => scene.cli("zoe", &row, Said::Reject).await,
            "telegram" => {
                scene.link("zoe", 77).await;
                scene.prompt(&row, "zoe", 77, 5).await;
                scene.press(&row, Press::Reject, 77, 5).await
            }
            _ => {
                scene.enroll("zoe").await;
                scene.web("zoe", &row, Said::Reject, &scene.code(-1).await).await
            }
        };
        assert_eq!(came, status("denied"), "{way}");
        assert_eq!(scene.settle(&row).await, None, "{way}");
        assert_eq!(scene.permits_and_reservations().await, (0, 0), "{way}");
        assert_eq!(scene.cli("operator", &row, Said::Approve).await, Err("NOT_PENDING"), "{way}");
    }
}

#[tokio::test]
async fn presses_that_telegram_repeats_under_new_numbers_count_once() {
    let scene = Scene::new().await;
    let row = scene.ask("15").await;
    scene.link("zoe", 77).await;
    scene.prompt(&row, "zoe", 77, 5).await;
    assert_eq!(scene.press(&row, Press::Approve, 77, 5).await, status("allowed"));
    for _ in 0..3 {
        assert_eq!(scene.press(&row, Press::Approve, 77, 5).await, Err("NOT_PENDING"));
    }
    assert_eq!(scene.words(&row).await, 1);
    assert!(scene.settle(&row).await.is_some());
    assert_eq!(scene.press(&row, Press::Approve, 77, 5).await, Err("NOT_PENDING"));
    assert_eq!(scene.press(&row, Press::Reject, 77, 5).await, Err("NOT_PENDING"), "too late: it was used");
    assert_eq!(scene.permits_and_reservations().await, (1, 1));
}

#[tokio::test]
async fn at_tier_two_the_first_tap_is_no_yes() {
    let scene = Scene::new().await;
    let row = scene.ask("60").await;
    assert_eq!(row.tier, 2);
    scene.link("zoe", 77).await;
    scene.prompt(&row, "zoe", 77, 5).await;
    assert_eq!(scene.press(&row, Press::Approve, 77, 5).await, Err("CONFIRM_NEEDED"));
    for press in [Press::Menu, Press::Back] {
        assert_eq!(scene.press(&row, press, 77, 5).await, Err("NOT_A_DECISION"));
    }
    assert_eq!(scene.words(&row).await, 0);
    assert_eq!(scene.press(&row, Press::Confirm, 77, 5).await, status("allowed"));
    assert!(scene.settle(&row).await.is_some());
}

#[tokio::test]
async fn a_code_is_used_up_by_one_request() {
    let scene = Scene::new().await;
    let (first, second) = (scene.ask("15").await, scene.ask("16").await);
    scene.enroll("zoe").await;
    let code = scene.code(0).await;
    assert_eq!(scene.web("zoe", &first, Said::Approve, &code).await, status("allowed"));
    assert_eq!(scene.web("zoe", &second, Said::Approve, &code).await, Err("CODE_USED"));
    assert_eq!(scene.web("zoe", &first, Said::Revoke, &code).await, Err("CODE_USED"));
    for wrong in ["", "000000", "12345", &scene.code(-3).await, &scene.code(3).await, &format!("{code} ")] {
        let came = scene.web("zoe", &second, Said::Approve, wrong).await;
        assert!(matches!(came, Err("BAD_CODE" | "CODE_USED")), "{wrong}: {came:?}");
    }
    assert_eq!(scene.web("operator", &second, Said::Approve, &scene.code(1).await).await, Err("BAD_CODE"));
    assert_eq!(scene.web("nobody", &second, Said::Approve, &scene.code(1).await).await, Err("BAD_CODE"));
    assert_eq!(scene.web("zoe", &second, Said::Approve, &scene.code(1).await).await, status("allowed"));
    assert_eq!(scene.settle_all().await.len(), 2);
}

/// A yes in the tables that the gateway did not let in buys nothing: treasury checks the evidence itself.
#[tokio::test]
async fn a_word_that_was_written_past_the_gateway_buys_nothing() {
    for (assurance, evidence) in [
        ("telegram", json!({ "update_id": 1 })),
        ("telegram", json!({ "update_id": 999 })),
        ("telegram", json!({})),
        ("web_totp", json!({ "step": 1, "code": "000000" })),
        ("web_totp", json!({ "step": rails::totp::step_of(domain::time::UnixMs(0)), "code": "" })),
        ("web_totp", json!({})),
    ] {
        let scene = Scene::new().await;
        let row = scene.ask("15").await;
        scene.enroll("zoe").await;
        scene.link("zoe", 77).await;
        let mut unit = scene.supervisor.begin().await.unwrap();
        unit.set_tenant(row.user_id).await.unwrap();
        let entry = store::approvals::EntryRow {
            approval_id: row.approval_id,
            person_id: "zoe".to_owned(),
            decision: domain::message::Decision::Approve,
            change: None,
            channel: "cli".to_owned(),
            assurance: Assurance::parse(assurance).unwrap(),
            evidence: evidence.clone(),
            digest: row.digest,
            shown_digest: None,
            reason: String::new(),
            signature: None,
            signed_at: scene.now().await,
        };
        assert!(store::approvals::insert_entry(&mut unit, &entry).await.unwrap());
        let from = [ApprovalStatus::Pending];
        store::approvals::set_status(&mut unit, row.approval_id, &from, ApprovalStatus::Allowed).await.unwrap();
        unit.commit().await.unwrap();
        assert_eq!(scene.settle(&row).await, None, "{assurance} {evidence}");
        assert_eq!(scene.status(&row).await, ApprovalStatus::Revoked, "{assurance} {evidence}");
        assert_eq!(scene.permits_and_reservations().await, (0, 0), "{assurance} {evidence}");
    }
}

/// Whoever passed a press on may die before the answer came, and ask again.
#[tokio::test]
async fn the_same_press_asked_again_is_answered_with_how_the_request_stands() {
    let scene = Scene::new().await;
    let (row, other) = (scene.ask("15").await, scene.ask("16").await);
    scene.link("zoe", 77).await;
    scene.prompt(&row, "zoe", 77, 5).await;
    scene.prompt(&other, "zoe", 77, 6).await;
    let press = scene.pressed(&row, Press::Approve, 77, 5);
    assert_eq!(scene.telegram(press.clone()).await, status("allowed"));
    assert_eq!(scene.telegram(press.clone()).await, status("allowed"));
    assert!(scene.settle(&row).await.is_some());
    assert_eq!(scene.telegram(press).await, status("consumed"));
    let press = scene.pressed(&other, Press::Half, 77, 6);
    assert_eq!(scene.telegram(press.clone()).await, status("superseded"));
    assert_eq!(scene.telegram(press).await, status("superseded"));
    assert_eq!((scene.words(&row).await, scene.words(&other).await), (1, 1));
    assert_eq!(scene.permits_and_reservations().await, (1, 2));
}
