//! A human's word: what it takes to turn a stored yes into a permit, and that everything else gives the money back.

use std::sync::Arc;

use domain::canonical::Sha256Digest;
use domain::ids::{ApprovalId, UserId};
use domain::message::{ApprovalResponse, Decision};
use domain::order::{OrderIntent, Origin, Side};
use domain::person::{PersonAct, SignedAct, Vote};
use runtime::HandleError;
use serde_json::json;
use store::approvals::{ApprovalRow, ApprovalStatus, Approver};
use store::permits::PermitState;
use testkit::bank::person_key;

use crate::scene::{Scene, permit_in, told, usd, vote_of};

const CONSUMED: &str = "permit permitted APPROVAL_ENDED";

/// A $1,100 request, spoiled by `spoil`, settled: what is told, where the request ends, and that no money stays held
/// unless a permit was signed.
async fn check(name: &str, spoil: impl AsyncFnOnce(&mut Scene, &ApprovalRow), want: &str, status: ApprovalStatus) {
    let mut scene = Scene::new().await;
    let request = scene.request(Side::Buy, "11", "100").await;
    assert_eq!(scene.book().await.reservations.len(), 1, "{name}");
    spoil(&mut scene, &request).await;
    assert_eq!(told(&scene.settle(&request).await), want, "{name}");
    assert_eq!(scene.approval(request.approval_id).await.status, status, "{name}");
    let held =
        usize::from(matches!(status, ApprovalStatus::Pending | ApprovalStatus::Allowed | ApprovalStatus::Consumed));
    assert_eq!(scene.book().await.reservations.len(), held, "{name}");
    let permits = scene.bank.count("SELECT count(*) FROM permits").await;
    assert_eq!(permits, i64::from(status == ApprovalStatus::Consumed), "{name}");
    let rows = scene.rows().await;
    assert_eq!(told(&scene.settle(&request).await), "", "{name}: a second time");
    assert_eq!(scene.rows().await, rows, "{name}: a second time");
    scene.bank.assert_audit_valid().await;
}

fn ended(code: &str) -> String {
    format!("refused:{code} {code} APPROVAL_ENDED")
}

/// Stores a yes that the supervisor should never have let in.
async fn store_yes(scene: &Scene, request: &ApprovalRow, signed: SignedAct) {
    scene.vote(request, &signed, ApprovalStatus::Allowed).await;
}

#[tokio::test]
async fn a_verified_yes_is_used_once_and_a_no_or_silence_gives_the_money_back() {
    check("yes", async |s, r| s.approve(r).await, CONSUMED, ApprovalStatus::Consumed).await;
    check("nothing yet", async |_, _| {}, "", ApprovalStatus::Pending).await;
    let no = async |s: &mut Scene, r: &ApprovalRow| {
        s.vote(r, &vote_of("operator", r, r.digest, Vote::Reject), ApprovalStatus::Denied).await;
    };
    check("no", no, &ended("DENIED"), ApprovalStatus::Denied).await;
    let silence = async |s: &mut Scene, _: &ApprovalRow| s.wait(900_001);
    check("silence", silence, &ended("APPROVAL_EXPIRED"), ApprovalStatus::Expired).await;
    check("the last moment", async |s, _| s.wait(900_000), "", ApprovalStatus::Pending).await;
    let unused = async |s: &mut Scene, r: &ApprovalRow| {
        s.approve(r).await;
        s.wait(900_001);
    };
    check("a yes used too late", unused, &ended("APPROVAL_EXPIRED"), ApprovalStatus::Expired).await;
    for status in [ApprovalStatus::Cancelled, ApprovalStatus::Superseded, ApprovalStatus::Expired] {
        let code = match status {
            ApprovalStatus::Expired => "APPROVAL_EXPIRED",
            _ => "SUPERSEDED",
        };
        let by_hand = async |s: &mut Scene, r: &ApprovalRow| {
            let mut unit = s.bank.unit_of(s.user).await;
            store::approvals::set_status(&mut unit, r.approval_id, &[ApprovalStatus::Pending], status).await.unwrap();
            unit.commit().await.unwrap();
        };
        check("ended elsewhere", by_hand, &ended(code), status).await;
    }
}

#[tokio::test]
async fn a_yes_that_is_not_an_active_approvers_signature_on_this_digest_is_worth_nothing() {
    let revoked = ended("APPROVAL_MISMATCH");
    let forged = async |s: &mut Scene, r: &ApprovalRow| {
        let yes = vote_of("operator", r, r.digest, Vote::Approve);
        let signature = vote_of("mallory", r, r.digest, Vote::Approve).signature;
        store_yes(s, r, SignedAct { signature, ..yes }).await;
    };
    check("somebody else's key", forged, &revoked, ApprovalStatus::Revoked).await;
    let other_digest = async |s: &mut Scene, r: &ApprovalRow| {
        store_yes(s, r, vote_of("operator", r, Sha256Digest::ZERO, Vote::Approve)).await;
    };
    check("another digest, shown as this one", other_digest, &revoked, ApprovalStatus::Revoked).await;
    let relabelled = async |s: &mut Scene, r: &ApprovalRow| {
        let signed = vote_of("operator", r, Sha256Digest::ZERO, Vote::Approve);
        let here = vote_of("operator", r, r.digest, Vote::Approve);
        store_yes(s, r, SignedAct { signature: signed.signature, ..here }).await;
    };
    check("a signature of another digest", relabelled, &revoked, ApprovalStatus::Revoked).await;
    let no_as_yes = async |s: &mut Scene, r: &ApprovalRow| {
        store_yes(s, r, vote_of("operator", r, r.digest, Vote::Reject)).await;
    };
    check("a no stored as allowed", no_as_yes, &ended("DENIED"), ApprovalStatus::Revoked).await;
    let reworded = async |s: &mut Scene, r: &ApprovalRow| {
        let yes = vote_of("operator", r, r.digest, Vote::Approve);
        let act = PersonAct { reason: "something else".to_owned(), ..yes.act };
        store_yes(s, r, SignedAct { act, ..yes }).await;
    };
    check("another reason than was signed", reworded, &revoked, ApprovalStatus::Revoked).await;
    let inactive = async |s: &mut Scene, r: &ApprovalRow| {
        s.approve(r).await;
        s.bank.approver("operator", Some("operator"), false).await;
    };
    check("no longer an approver", inactive, &ended("SUPERSEDED"), ApprovalStatus::Revoked).await;
    let new_key = async |s: &mut Scene, r: &ApprovalRow| {
        s.approve(r).await;
        let public_key = hex::encode(person_key("new").verifying_key().as_bytes());
        let approver = Approver { person_id: "operator".to_owned(), handle: None, public_key, active: true };
        let mut unit = s.bank.unit().await;
        store::approvals::upsert_approver(&mut unit, &approver).await.unwrap();
        unit.commit().await.unwrap();
    };
    check("a key that was replaced", new_key, &ended("SUPERSEDED"), ApprovalStatus::Revoked).await;
    let nobody = async |s: &mut Scene, r: &ApprovalRow| {
        let mut unit = s.bank.unit_of(s.user).await;
        store::approvals::set_status(&mut unit, r.approval_id, &[ApprovalStatus::Pending], ApprovalStatus::Allowed)
            .await
            .unwrap();
        unit.commit().await.unwrap();
    };
    check("allowed by nobody", nobody, &revoked, ApprovalStatus::Revoked).await;
}

#[tokio::test]
async fn what_changed_since_the_question_counts() {
    let superseded = async |s: &mut Scene, _: &ApprovalRow| s.config.house.position_usd = usd("9999");
    check("limits, unanswered", superseded, &ended("SUPERSEDED"), ApprovalStatus::Superseded).await;
    let house = async |s: &mut Scene, r: &ApprovalRow| {
        s.approve(r).await;
        s.config.house.position_usd = usd("9999");
    };
    check("house limits, after the yes", house, &ended("SUPERSEDED"), ApprovalStatus::Revoked).await;
    let own = async |s: &mut Scene, r: &ApprovalRow| {
        s.approve(r).await;
        s.own_limits(&json!({ "position_usd": "5000" })).await;
    };
    check("own limits, after the yes", own, &ended("SUPERSEDED"), ApprovalStatus::Revoked).await;
    let unreadable = async |s: &mut Scene, r: &ApprovalRow| {
        s.approve(r).await;
        s.own_limits(&json!({ "position_usd": 1.5 })).await;
    };
    check("own limits that can't be read", unreadable, &ended("UNKNOWN_USER"), ApprovalStatus::Revoked).await;
    let collar = async |s: &mut Scene, r: &ApprovalRow| {
        s.approve(r).await;
        s.mark(&s.btc.clone(), "94");
    };
    check("the mark left", collar, &ended("PRICE_COLLAR"), ApprovalStatus::Revoked).await;
    let stale = async |s: &mut Scene, r: &ApprovalRow| {
        s.approve(r).await;
        s.now = s.now.plus_ms(30_001);
    };
    check("no fresh mark: the yes waits for one", stale, "", ApprovalStatus::Allowed).await;
    let too_long = async |s: &mut Scene, r: &ApprovalRow| {
        s.approve(r).await;
        s.now = s.now.plus_ms(900_001);
    };
    check("no fresh mark until its end", too_long, &ended("APPROVAL_EXPIRED"), ApprovalStatus::Expired).await;
    let kill = async |s: &mut Scene, r: &ApprovalRow| {
        s.approve(r).await;
        s.bank.kill(1).await;
    };
    check("the kill level", kill, &ended("KILL_LEVEL"), ApprovalStatus::Revoked).await;
    let poor = async |s: &mut Scene, r: &ApprovalRow| {
        s.approve(r).await;
        s.bank.run("UPDATE accounts SET cash = 1000; UPDATE equity_daily SET equity = 1000").await;
    };
    check("the cash", poor, &ended("TOTAL"), ApprovalStatus::Revoked).await;
}

/// What an unreadable clock stops is the purchase, not the yes: it is used when the clock is right again.
#[tokio::test]
async fn a_yes_waits_while_our_clock_is_off_by_more_than_two_seconds() {
    for (skew_ms, waits) in [(2_000, false), (-2_000, false), (2_001, true), (-2_001, true)] {
        let mut scene = Scene::new().await;
        let request = scene.request(Side::Buy, "11", "100").await;
        scene.approve(&request).await;
        scene.skew_ms = skew_ms;
        if waits {
            let rows = scene.rows().await;
            let said = scene.try_settle(&request).await;
            assert!(matches!(said, Err(HandleError::Retry(_))), "{skew_ms}: {said:?}");
            assert_eq!(scene.approval(request.approval_id).await.status, ApprovalStatus::Allowed, "{skew_ms}");
            assert_eq!(scene.rows().await, rows, "{skew_ms}");
            scene.skew_ms = 0;
        }
        assert_eq!(told(&scene.settle(&request).await), CONSUMED, "{skew_ms}");
    }
}

#[tokio::test]
async fn fifty_at_once_use_a_yes_once() {
    let scene = Arc::new(Scene::new().await);
    let request = scene.request(Side::Buy, "11", "100").await;
    scene.approve(&request).await;
    let tasks: Vec<_> = (0..50)
        .map(|_| {
            let (scene, request) = (scene.clone(), request.clone());
            tokio::spawn(async move {
                let (user, id) = (request.user_id, request.approval_id);
                // A wait for the lock or a connection may run out: then it is asked again, as the runtime does.
                loop {
                    let Ok(mut unit) = scene.treasury.begin().await else { continue };
                    match treasury::approval::settle(&mut unit, &scene.config, user, id, scene.sight()).await {
                        Ok(out) if unit.commit().await.is_ok() => return told(&out),
                        _ => {}
                    }
                }
            })
        })
        .collect();
    let mut answers = Vec::new();
    for task in tasks {
        answers.push(task.await.unwrap());
    }
    assert_eq!(answers.iter().filter(|a| *a == CONSUMED).count(), 1, "{answers:?}");
    assert_eq!(answers.iter().filter(|a| a.is_empty()).count(), 49, "{answers:?}");
    let rows = "decisions 1 reservations 1 permits 1 stamps 1 unapproved 0 approvals 1 \
                audit decision,approval_requested,approval_consumed,permit_signed";
    assert_eq!(scene.rows().await, rows);
}

#[tokio::test]
async fn from_tier_two_on_the_requester_does_not_approve_their_own_where_somebody_else_can() {
    for (others, person, handle, want) in [
        (false, "operator", Some("operator"), CONSUMED.to_owned()),
        (true, "operator", Some("operator"), ended("APPROVAL_MISMATCH")),
        (true, "second", None, CONSUMED.to_owned()),
        (true, "alias", Some("operator"), ended("APPROVAL_MISMATCH")),
    ] {
        let scene = Scene::new().await;
        if others {
            scene.bank.approver("third", None, true).await;
            scene.bank.approver(person, handle, true).await;
        }
        let request = scene.request(Side::Buy, "60", "100").await;
        assert_eq!(request.tier, 2);
        let yes = vote_of(person, &request, request.digest, Vote::Approve);
        scene.vote(&request, &yes, ApprovalStatus::Allowed).await;
        assert_eq!(told(&scene.settle(&request).await), want, "{person} with others: {others}");
    }
}

#[tokio::test]
async fn an_agents_request_names_no_person_as_requester() {
    let scene = Scene::new().await;
    scene.bank.approver("third", None, true).await;
    let name = r#"x","handle":"operator"#.to_owned();
    let intent = OrderIntent { origin: Origin::Agent { name }, ..scene.intent(Side::Buy, "60", "100") };
    scene.decide(&intent).await;
    let mut unit = scene.bank.unit_of(scene.user).await;
    let request = store::approvals::pending(&mut unit, Some(scene.user)).await.unwrap().remove(0);
    drop(unit);
    scene.approve(&request).await;
    assert_eq!(told(&scene.settle(&request).await), CONSUMED);
}

#[tokio::test]
async fn money_held_for_a_question_comes_back_without_anybody_waking_us() {
    let mut scene = Scene::new().await;
    let denied = scene.request(Side::Buy, "11", "100").await;
    let allowed = scene.request(Side::Buy, "12", "100").await;
    let open = scene.request(Side::Buy, "13", "100").await;
    scene.vote(&denied, &vote_of("operator", &denied, denied.digest, Vote::Reject), ApprovalStatus::Denied).await;
    scene.approve(&allowed).await;
    let due = store::approvals::due(&mut scene.treasury.begin().await.unwrap(), scene.now).await.unwrap();
    assert_eq!(due.len(), 2, "the sweep finds them, and not the one that still waits");
    let mut out = Vec::new();
    for (_, approval_id) in due {
        out.extend(scene.settle(&scene.approval(approval_id).await).await);
    }
    assert_eq!(told(&out).matches("DENIED").count(), 2, "{}", told(&out));
    assert_eq!(permit_in(&out).body.envelope.order_id, allowed.order_id);
    assert_eq!(scene.book().await.reservations.len(), 2);
    scene.config.house.position_usd = usd("9999");
    assert_eq!(told(&scene.settle(&open).await), ended("SUPERSEDED"));
    assert_eq!(scene.approval(open.approval_id).await.status, ApprovalStatus::Superseded);
    assert_eq!(scene.book().await.reservations.keys().copied().collect::<Vec<_>>(), [allowed.order_id]);
    let permit = store::permits::unspent_due(&mut scene.bank.unit().await, scene.now.plus_ms(60_000)).await.unwrap();
    let stored = store::permits::get(&mut scene.bank.unit().await, permit[0].permit_id).await.unwrap().unwrap();
    assert_eq!(stored.state, PermitState::Signed);
}

#[tokio::test]
async fn one_users_wake_up_never_touches_anothers_request() {
    let mut scene = Scene::new().await;
    let request = scene.request(Side::Buy, "11", "100").await;
    scene.vote(&request, &vote_of("operator", &request, request.digest, Vote::Reject), ApprovalStatus::Denied).await;
    let other = scene.bank.account("other", "1000", json!({}), scene.now).await;
    let before = scene.rows().await;
    let stray = ApprovalRow { user_id: other, ..request.clone() };
    assert_eq!(told(&scene.settle(&stray).await), "");
    assert_eq!(scene.rows().await, before);
    scene.user = request.user_id;
    assert_eq!(told(&scene.settle(&request).await), ended("DENIED"));
}

/// Right after a start no price is known: a yes that was there before is used with the first one, once.
#[tokio::test]
async fn a_yes_waits_for_a_price_and_is_used_with_the_first() {
    let mut scene = Scene::new().await;
    let request = scene.request(Side::Buy, "11", "100").await;
    scene.approve(&request).await;
    let marks = std::mem::take(&mut scene.marks);
    for _ in 0..3 {
        assert_eq!(told(&scene.settle(&request).await), "");
    }
    assert_eq!(scene.approval(request.approval_id).await.status, ApprovalStatus::Allowed);
    scene.marks = marks;
    assert_eq!(told(&scene.settle(&request).await), CONSUMED);
    assert_eq!(told(&scene.settle(&request).await), "");
}

#[tokio::test]
async fn a_message_that_lies_about_a_decision_is_a_dead_letter() {
    let scene = Scene::new().await;
    let request = scene.request(Side::Buy, "11", "100").await;
    let other = scene.bank.account("other", "1000", json!({}), scene.now).await;
    let heard = async |user: UserId, approval_id: ApprovalId| {
        let response = ApprovalResponse {
            approval_id,
            decision: Decision::Approve,
            approver_id: "mallory".to_owned(),
            approved_at: scene.now,
            reason: String::new(),
        };
        let mut unit = scene.treasury.begin().await.unwrap();
        unit.set_tenant(user).await.unwrap();
        let heard = treasury::approval::heard(&mut unit, &scene.config, user, &response, scene.sight()).await;
        match heard {
            Ok(out) => {
                unit.commit().await.unwrap();
                told(&out)
            }
            Err(HandleError::Reject(reject)) => reject.code.code().to_owned(),
            Err(other) => panic!("{other}"),
        }
    };
    let rows = scene.rows().await;
    assert_eq!(heard(scene.user, ApprovalId(uuid::Uuid::nil())).await, "BAD_ID", "no such request");
    assert_eq!(heard(other, request.approval_id).await, "BAD_ID", "of another user");
    assert_eq!(heard(scene.user, request.approval_id).await, "WRONG_PAYLOAD", "nobody decided");
    assert_eq!(scene.rows().await, rows);
    assert_eq!(scene.approval(request.approval_id).await.status, ApprovalStatus::Pending);
    scene.approve(&request).await;
    assert_eq!(heard(scene.user, request.approval_id).await, CONSUMED);
    assert_eq!(heard(scene.user, request.approval_id).await, "", "once more is nothing");
}
