//! Telegram's updates, accounts and prompts.

use domain::canonical::Sha256Digest;
use domain::ids::ApprovalId;
use serde_json::json;
use store::telegram::{self, Account, Link, Prompt};
use uuid::Uuid;

use crate::samples::{T0, approver};
use crate::world::{World, assert_locked, state};

cases! {
    an_update_is_kept_once_and_as_it_came,
    an_update_is_dealt_with_once,
    a_link_binds_one_account_in_time_and_once,
    of_two_accounts_one_uses_the_link,
    a_link_needs_a_person_and_a_code_of_its_own,
    an_account_speaks_for_one_person,
    a_prompt_is_recorded_once_and_ends_once,
    the_offset_is_kept,
    each_login_does_its_part_of_it_only,
}

const ROLE: &str = "telegram_jarvis";

fn link(person_id: &str, code: u8) -> Link {
    Link {
        code_hash: Sha256Digest([code; 32]),
        person_id: person_id.to_owned(),
        act: json!({ "act": "link" }),
        made_at: T0,
        expires_at: T0.plus_ms(600_000),
        used_by: None,
        used_at: None,
    }
}

async fn linked(world: &World, link: &Link) {
    let mut unit = world.begin("supervisor").await;
    telegram::make_link(&mut unit, link).await.unwrap();
    unit.commit().await.unwrap();
}

fn prompt(n: u128, message_id: i64) -> Prompt {
    Prompt {
        approval_id: ApprovalId(Uuid::from_u128(n)),
        person_id: "zoe".to_owned(),
        chat_id: 5,
        message_id,
        sent_at: T0,
        edited_at: None,
        is_final: false,
    }
}

async fn an_update_is_kept_once_and_as_it_came(world: &World) {
    let raw = json!({ "update_id": 7, "message": { "text": "ü\u{202e}", "chat": { "id": -1_001_234_567_890_i64 } } });
    let mut unit = world.begin(ROLE).await;
    assert!(telegram::put_update(&mut unit, 7, &raw, T0).await.unwrap());
    unit.commit().await.unwrap();
    let mut unit = world.begin(ROLE).await;
    assert!(!telegram::put_update(&mut unit, 7, &json!({ "update_id": 7 }), T0.plus_ms(1)).await.unwrap());
    let kept = telegram::update(&mut unit, 7).await.unwrap().unwrap();
    assert_eq!((kept.update_id, kept.received_at, kept.kind.as_str()), (7, T0, "message"));
    assert_eq!((kept.raw, kept.handled_at, kept.outcome), (raw, None, None));
    assert_eq!(telegram::update(&mut unit, 8).await.unwrap(), None);
    for (raw, kind) in [
        (json!({ "update_id": 1 }), "unknown"),
        (json!({ "message": {}, "callback_query": {} }), "unknown"),
        (json!({ "callback_query": {}, "update_id": 1 }), "callback_query"),
        (json!({ "n\0ew": {} }), "new"),
    ] {
        let mut unit = world.begin(ROLE).await;
        assert!(telegram::put_update(&mut unit, 9, &raw, T0).await.unwrap());
        assert_eq!(telegram::update(&mut unit, 9).await.unwrap().unwrap().kind, kind);
    }
    let mut unit = world.begin(ROLE).await;
    let poison = json!({ "message": { "text": ["a\0b"], "k\0": 1 } });
    assert!(telegram::put_update(&mut unit, -1, &poison, T0).await.unwrap());
    let kept = telegram::update(&mut unit, -1).await.unwrap().unwrap().raw;
    assert_eq!(kept, json!({ "message": { "text": ["a\u{fffd}b"], "k\u{fffd}": 1 } }));
    let mut unit = world.begin(ROLE).await;
    assert_eq!(state(telegram::put_update(&mut unit, 1, &json!([]), T0).await), "23514");
}

async fn an_update_is_dealt_with_once(world: &World) {
    let mut unit = world.begin(ROLE).await;
    for id in [30, 10, 20] {
        assert!(telegram::put_update(&mut unit, id, &json!({ "message": {} }), T0).await.unwrap());
    }
    unit.commit().await.unwrap();
    let mut unit = world.begin(ROLE).await;
    let ids = |updates: Vec<telegram::Update>| updates.iter().map(|update| update.update_id).collect::<Vec<_>>();
    assert_eq!(ids(telegram::unhandled(&mut unit, 2).await.unwrap()), [10, 20]);
    assert!(telegram::set_handled(&mut unit, 10, "ignored", T0.plus_ms(1)).await.unwrap());
    assert!(!telegram::set_handled(&mut unit, 10, "again", T0.plus_ms(2)).await.unwrap());
    assert!(!telegram::set_handled(&mut unit, 11, "nothing", T0).await.unwrap());
    assert_eq!(ids(telegram::unhandled(&mut unit, 9).await.unwrap()), [20, 30]);
    let done = telegram::update(&mut unit, 10).await.unwrap().unwrap();
    assert_eq!((done.handled_at, done.outcome.as_deref()), (Some(T0.plus_ms(1)), Some("ignored")));
    let mut second = world.begin_impatient(ROLE).await;
    assert_locked(telegram::set_handled(&mut second, 10, "beside", T0).await);
}

async fn a_link_binds_one_account_in_time_and_once(world: &World) {
    approver(world, "zoe").await;
    let (good, late) = (link("zoe", 1), link("zoe", 2));
    linked(world, &good).await;
    linked(world, &late).await;
    let mut unit = world.begin(ROLE).await;
    let at = T0.plus_ms(599_999);
    assert_eq!(telegram::use_link(&mut unit, Sha256Digest([3; 32]), 99, 5, at).await.unwrap(), None, "no such code");
    assert_eq!(telegram::use_link(&mut unit, late.code_hash, 99, 5, late.expires_at).await.unwrap(), None, "too late");
    assert_eq!(telegram::account(&mut unit, 99).await.unwrap(), None);
    assert_eq!(telegram::use_link(&mut unit, good.code_hash, 99, 5, at).await.unwrap().as_deref(), Some("zoe"));
    assert_eq!(telegram::use_link(&mut unit, good.code_hash, 98, 4, at).await.unwrap(), None, "used");
    assert_eq!(telegram::use_link(&mut unit, good.code_hash, 99, 5, at).await.unwrap(), None, "even by the same");
    let zoe = Account { telegram_user_id: 99, person_id: "zoe".to_owned(), chat_id: 5, linked_at: at, active: true };
    assert_eq!(telegram::account(&mut unit, 99).await.unwrap(), Some(zoe));
    unit.commit().await.unwrap();
    let mut unit = world.begin("treasury").await;
    let used = telegram::links_used_by(&mut unit, 99).await.unwrap();
    assert_eq!(used, [Link { used_by: Some(99), used_at: Some(at), ..good }]);
    assert_eq!(telegram::links_used_by(&mut unit, 98).await.unwrap(), []);
}

async fn of_two_accounts_one_uses_the_link(world: &World) {
    approver(world, "zoe").await;
    linked(world, &link("zoe", 1)).await;
    let mut first = world.begin(ROLE).await;
    let hash = Sha256Digest([1; 32]);
    assert!(telegram::use_link(&mut first, hash, 99, 5, T0).await.unwrap().is_some());
    let mut second = world.begin_impatient(ROLE).await;
    assert_locked(telegram::use_link(&mut second, hash, 98, 4, T0).await);
    first.commit().await.unwrap();
    let mut second = world.begin(ROLE).await;
    assert_eq!(telegram::use_link(&mut second, hash, 98, 4, T0).await.unwrap(), None);
}

async fn a_link_needs_a_person_and_a_code_of_its_own(world: &World) {
    approver(world, "zoe").await;
    linked(world, &link("zoe", 1)).await;
    for (bad, want) in [
        (link("zoe", 1), "23505"),
        (link("nobody", 2), "23503"),
        (Link { act: json!("act"), ..link("zoe", 3) }, "23514"),
    ] {
        let mut unit = world.begin("supervisor").await;
        assert_eq!(state(telegram::make_link(&mut unit, &bad).await), want, "{bad:?}");
    }
}

async fn an_account_speaks_for_one_person(world: &World) {
    approver(world, "zoe").await;
    approver(world, "anna").await;
    for (code, person) in [(1, "zoe"), (2, "zoe"), (3, "anna")] {
        linked(world, &link(person, code)).await;
    }
    let mut unit = world.begin(ROLE).await;
    for (code, account) in [(1, 99), (2, 11)] {
        telegram::use_link(&mut unit, Sha256Digest([code; 32]), account, 5, T0).await.unwrap().unwrap();
    }
    let ids = |accounts: Vec<Account>| accounts.iter().map(|a| a.telegram_user_id).collect::<Vec<_>>();
    assert_eq!(ids(telegram::accounts_of(&mut unit, "zoe").await.unwrap()), [11, 99]);
    telegram::use_link(&mut unit, Sha256Digest([3; 32]), 99, 6, T0).await.unwrap().unwrap();
    assert_eq!(ids(telegram::accounts_of(&mut unit, "zoe").await.unwrap()), [11]);
    let moved = telegram::account(&mut unit, 99).await.unwrap().unwrap();
    assert_eq!((moved.person_id.as_str(), moved.chat_id), ("anna", 6));
    assert!(telegram::set_account_active(&mut unit, 99, false).await.unwrap());
    assert!(!telegram::set_account_active(&mut unit, 98, false).await.unwrap());
    assert_eq!(telegram::account(&mut unit, 99).await.unwrap(), Some(Account { active: false, ..moved }));
}

async fn a_prompt_is_recorded_once_and_ends_once(world: &World) {
    approver(world, "zoe").await;
    let (first, later) = (prompt(1, 10), Prompt { sent_at: T0.plus_ms(1), ..prompt(1, 3) });
    let mut unit = world.begin(ROLE).await;
    for prompt in [&later, &first, &prompt(2, 10)] {
        assert!(telegram::put_prompt(&mut unit, prompt).await.unwrap());
        assert!(!telegram::put_prompt(&mut unit, prompt).await.unwrap());
    }
    unit.commit().await.unwrap();
    let mut unit = world.begin(ROLE).await;
    assert_eq!(telegram::prompts(&mut unit, first.approval_id).await.unwrap(), [first.clone(), later.clone()]);
    assert_eq!(telegram::open_prompts(&mut unit).await.unwrap().len(), 3);
    assert!(telegram::set_prompt_edited(&mut unit, &first, T0.plus_ms(5), false).await.unwrap());
    assert!(telegram::set_prompt_edited(&mut unit, &first, T0.plus_ms(6), true).await.unwrap());
    assert!(!telegram::set_prompt_edited(&mut unit, &first, T0.plus_ms(7), false).await.unwrap(), "final is final");
    assert!(!telegram::set_prompt_edited(&mut unit, &prompt(3, 1), T0, true).await.unwrap());
    let done = Prompt { edited_at: Some(T0.plus_ms(6)), is_final: true, ..first.clone() };
    assert_eq!(telegram::prompts(&mut unit, first.approval_id).await.unwrap(), [done, later.clone()]);
    assert_eq!(telegram::open_prompts(&mut unit).await.unwrap(), [prompt(2, 10), later]);
    let stranger = Prompt { person_id: "nobody".to_owned(), ..prompt(4, 1) };
    assert_eq!(state(telegram::put_prompt(&mut unit, &stranger).await), "23503");
}

async fn the_offset_is_kept(world: &World) {
    let mut unit = world.begin(ROLE).await;
    assert_eq!(telegram::offset(&mut unit).await.unwrap(), None);
    telegram::set_offset(&mut unit, 41).await.unwrap();
    telegram::set_offset(&mut unit, 7).await.unwrap();
    unit.commit().await.unwrap();
    let mut unit = world.begin(ROLE).await;
    assert_eq!(telegram::offset(&mut unit).await.unwrap(), Some(7), "numbers may begin anew");
}

async fn each_login_does_its_part_of_it_only(world: &World) {
    approver(world, "zoe").await;
    for role in ["supervisor", "treasury", "audit_verify"] {
        let mut unit = world.begin(role).await;
        assert_eq!(state(telegram::put_update(&mut unit, 1, &json!({}), T0).await), "42501", "{role}");
        let mut unit = world.begin(role).await;
        assert_eq!(state(telegram::put_prompt(&mut unit, &prompt(1, 1)).await), "42501", "{role}");
        let mut unit = world.begin(role).await;
        assert_eq!(state(telegram::use_link(&mut unit, Sha256Digest::ZERO, 1, 1, T0).await), "42501", "{role}");
    }
    for role in [ROLE, "treasury"] {
        let mut unit = world.begin(role).await;
        let made = telegram::make_link(&mut unit, &link("zoe", 1)).await;
        assert_eq!(state(made), "42501", "{role}: whoever makes links could bind any account to any person");
    }
    for role in ["supervisor", "treasury", ROLE] {
        let mut unit = world.begin(role).await;
        telegram::update(&mut unit, 1).await.unwrap();
        telegram::account(&mut unit, 1).await.unwrap();
        telegram::links_used_by(&mut unit, 1).await.unwrap();
        telegram::prompts(&mut unit, ApprovalId(Uuid::nil())).await.unwrap();
    }
    let mut unit = world.begin("online_trading").await;
    assert_eq!(state(telegram::accounts_of(&mut unit, "zoe").await), "42501");
    let mut unit = world.begin(ROLE).await;
    assert_eq!(state(store::approvals::pending(&mut unit, None).await), "42501");
}
