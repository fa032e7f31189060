//! Strangers, forgeries and stale things at the gateway: each is a no with a code, and nothing is written.

use domain::ids::ApprovalId;
use domain::person::{Act, SignedAct, Vote};
use domain::telegram_button::{Press, encode};
use serde_json::{Value, json};
use store::approvals::ApprovalStatus;
use store::telegram::Account;
use supervisor::gateway::{self, Said};
use uuid::Uuid;

use crate::scene::{BUTTON_KEY, OTHER_DIGEST, Scene, status};

#[tokio::test]
async fn only_the_signature_of_an_active_approver_on_this_request_and_envelope_is_a_word() {
    let scene = Scene::new().await;
    let (row, other) = (scene.ask("15").await, scene.ask("16").await);
    scene.bank.approver("gone", None, false).await;
    let row = scene.row(row.approval_id).await;
    let good = scene.signed("zoe", &row, Said::Approve).await;
    let vote = |approval_id, digest| Act::Vote { approval_id, digest, vote: Vote::Approve };
    let with = |change: &dyn Fn(&mut SignedAct)| {
        let mut signed = good.clone();
        change(&mut signed);
        signed
    };
    let words = [
        (scene.signed("mallory", &row, Said::Approve).await, "UNKNOWN_APPROVER"),
        (scene.signed("gone", &row, Said::Approve).await, "UNKNOWN_APPROVER"),
        (with(&|s| s.act.person_id = "operator".to_owned()), "BAD_SIGNATURE"),
        (with(&|s| s.act.reason = "another".to_owned()), "BAD_SIGNATURE"),
        (with(&|s| s.act.what = vote(other.approval_id, other.digest)), "BAD_SIGNATURE"),
        (with(&|s| s.signature = "00".repeat(64)), "BAD_SIGNATURE"),
        (with(&|s| s.signature = String::new()), "BAD_SIGNATURE"),
        (with(&|s| s.act.schema = "swarm.act.v2".to_owned()), "BAD_SIGNATURE"),
        (with(&|s| s.act.person_id = String::new()), "BAD_TEXT"),
        (with(&|s| s.act.reason = "\u{202e}".to_owned()), "BAD_TEXT"),
        (scene.act("zoe", vote(ApprovalId(Uuid::nil()), row.digest)).await, "UNKNOWN_REQUEST"),
        (scene.act("zoe", vote(row.approval_id, OTHER_DIGEST)).await, "DIGEST_MISMATCH"),
        (scene.act("zoe", vote(row.approval_id, other.digest)).await, "DIGEST_MISMATCH"),
    ];
    for (signed, code) in words {
        let said = format!("{signed:?}");
        assert_eq!(scene.submit(gateway::entry_of_act(signed).unwrap()).await, Err(code), "{said}");
    }
    assert!(gateway::entry_of_act(scene.act("zoe", Act::LowerKill { level: 0, epoch: 1 }).await).is_none());
    assert_eq!((scene.words(&row).await, scene.status(&row).await), (0, ApprovalStatus::Pending));
    assert_eq!(scene.settle_all().await.len(), 0);
}

#[tokio::test]
async fn only_a_press_of_the_persons_own_account_under_their_own_prompt_is_a_word() {
    let scene = Scene::new().await;
    let (row, other) = (scene.ask("15").await, scene.ask("16").await);
    scene.link("zoe", 77).await;
    scene.link("operator", 88).await;
    scene.prompt(&row, "zoe", 77, 5).await;
    scene.prompt(&row, "operator", 88, 6).await;
    scene.prompt(&other, "zoe", 77, 7).await;
    let press = |account, message| scene.pressed(&row, Press::Approve, account, message);
    let with = |path: &str, value: Value| {
        let mut raw = press(77, 5);
        *raw.pointer_mut(path).unwrap() = value;
        raw
    };
    let inside = |path: &str, name: &str, value: Value| {
        let mut raw = press(77, 5);
        raw.pointer_mut(path).unwrap()[name] = value;
        raw
    };
    let (query, message) = ("/callback_query", "/callback_query/message");
    for (raw, code) in [
        // A stranger, with a button that was made for the person; another person's account; a bot.
        (press(99, 5), "NOT_LINKED"),
        (with("/callback_query/from/id", json!(99)), "NOT_LINKED"),
        (with("/callback_query/from/is_bot", json!(true)), "NOT_A_PRESS"),
        (press(88, 5), "STALE_BUTTON"),
        (press(77, 6), "STALE_BUTTON"),
        // A message that showed something else, or that is not recorded.
        (press(77, 7), "STALE_BUTTON"),
        (press(77, 4), "STALE_BUTTON"),
        (
            with("/callback_query/data", json!(encode(BUTTON_KEY, other.approval_id, Press::Approve, 77))),
            "STALE_BUTTON",
        ),
        (
            with("/callback_query/data", json!(encode(BUTTON_KEY, ApprovalId(Uuid::nil()), Press::Approve, 77))),
            "UNKNOWN_REQUEST",
        ),
        // Groups, inline messages, forwards, other chats.
        (with("/callback_query/message/chat", json!({ "id": -100, "type": "supergroup" })), "NOT_A_PRESS"),
        (with("/callback_query/message/chat", json!({ "id": 78, "type": "private" })), "NOT_LINKED"),
        (inside(query, "inline_message_id", json!("x")), "NOT_A_PRESS"),
        (inside(message, "forward_origin", json!({ "type": "user" })), "NOT_A_PRESS"),
        // No press at all.
        (with("/callback_query/data", json!("approve")), "NOT_A_PRESS"),
        (
            json!({ "update_id": 700, "message": { "text": "approve", "from": { "id": 77, "is_bot": false } } }),
            "NOT_A_PRESS",
        ),
        (json!({ "update_id": 701 }), "NOT_A_PRESS"),
    ] {
        let said = raw.to_string();
        assert_eq!(scene.telegram(raw).await, Err(code), "{said}");
    }
    let mut unit = scene.supervisor.begin().await.unwrap();
    assert_eq!(gateway::entry_of_update(&mut unit, 999_999).await.unwrap().unwrap_err().code, "UNKNOWN_UPDATE");
    assert_eq!((scene.words(&row).await, scene.status(&row).await), (0, ApprovalStatus::Pending));
    // The same press, as it should be, is one: every part above was what made the difference.
    assert_eq!(scene.telegram(press(77, 5)).await, status("allowed"));
}

/// The process that speaks with Telegram can write accounts. It can't make one speak for a person who signed nothing.
#[tokio::test]
async fn an_account_that_no_signed_code_bound_speaks_for_nobody() {
    let scene = Scene::new().await;
    let row = scene.ask("15").await;
    scene.link("operator", 88).await;
    scene.prompt(&row, "zoe", 88, 5).await;
    let forged = Account {
        telegram_user_id: 88,
        person_id: "zoe".to_owned(),
        chat_id: 88,
        linked_at: scene.now().await,
        active: true,
    };
    let mut unit = scene.telegram.begin().await.unwrap();
    sqlx::query("UPDATE telegram_accounts SET person_id = $1 WHERE telegram_user_id = 88")
        .bind(&forged.person_id)
        .execute(unit.conn().unwrap())
        .await
        .unwrap();
    unit.commit().await.unwrap();
    let mut unit = scene.telegram.begin().await.unwrap();
    assert_eq!(store::telegram::account(&mut unit, 88).await.unwrap().unwrap().person_id, "zoe");
    assert_eq!(scene.press(&row, Press::Approve, 88, 5).await, Err("NOT_LINKED"));
    assert_eq!(scene.words(&row).await, 0);
}

#[tokio::test]
async fn an_account_that_was_switched_off_speaks_no_more_not_even_for_what_it_said() {
    let scene = Scene::new().await;
    let (said, unsaid) = (scene.ask("15").await, scene.ask("16").await);
    scene.link("zoe", 77).await;
    scene.prompt(&said, "zoe", 77, 5).await;
    scene.prompt(&unsaid, "zoe", 77, 6).await;
    assert_eq!(scene.press(&said, Press::Approve, 77, 5).await, status("allowed"));
    let mut unit = scene.telegram.begin().await.unwrap();
    assert!(store::telegram::set_account_active(&mut unit, 77, false).await.unwrap());
    unit.commit().await.unwrap();
    assert_eq!(scene.press(&unsaid, Press::Approve, 77, 6).await, Err("NOT_LINKED"));
    assert_eq!(scene.settle(&said).await, None);
    assert_eq!(scene.status(&said).await, ApprovalStatus::Revoked);
    assert_eq!(scene.permits_and_reservations().await, (0, 1), "only what nobody decided holds money");
}
