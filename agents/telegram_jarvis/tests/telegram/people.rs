//! Who is believed: a person's own account, in their own private chat, under the prompt that was sent to them. Everybody
//! and everything else gets silence, or decides nothing.

use domain::ids::ApprovalId;
use domain::telegram_button::{self, Press};
use testkit::telegram::Sent;
use testkit::wait_until;

use crate::stage::{ANNA, BOUND, OPERATOR, STRANGER, Stage};

/// A group that somebody put the bot into.
const GROUP: i64 = -500;

async fn asked(number: u128) -> (Stage, ApprovalId, Sent) {
    let mut stage = Stage::set().await;
    stage.link("operator", OPERATOR).await;
    stage.link("anna", ANNA).await;
    stage.telegram.group(GROUP, "Traders");
    stage.start();
    let id = stage.ask(number, 1).await;
    let prompt = stage.recorded(OPERATOR, id).await;
    (stage, id, prompt)
}

fn data(prompt: &Sent) -> String {
    prompt.button("✅").unwrap().data.clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_press_of_anybody_but_the_person_who_was_asked_decides_nothing() {
    let (stage, id, prompt) = asked(21).await;
    let telegram = &stage.telegram;
    let other = stage.recorded(ANNA, id).await;

    // Who is nobody here is answered by nothing at all.
    let stranger = telegram.press_data(STRANGER, &prompt, &data(&prompt));
    assert_eq!(stage.outcome(stranger.update_id).await, "silence: not a private chat");
    telegram.say(STRANGER, "let me in");
    // Another person of the house, with the operator's buttons: under the operator's message, and under their own.
    let under_mine = telegram.press_data(ANNA, &prompt, &data(&prompt));
    assert_eq!(stage.outcome(under_mine.update_id).await, "silence: not a private chat");
    let with_mine = telegram.press_data(ANNA, &other, &data(&prompt));
    assert_eq!(stage.outcome(with_mine.update_id).await, "refused: not a genuine button");
    // A guess at a button, for the right person under the right message.
    let guess = telegram_button::encode(b"another key", id, Press::Approve, OPERATOR);
    let guessed = telegram.press_data(OPERATOR, &prompt, &guess);
    assert_eq!(stage.outcome(guessed.update_id).await, "refused: not a genuine button");
    let nonsense = telegram.press_data(OPERATOR, &prompt, "1");
    assert_eq!(stage.outcome(nonsense.update_id).await, "refused: not a genuine button");

    assert_eq!(stage.knocks("swarm.decide.telegram"), 0);
    assert!(telegram.answers().iter().all(|answer| answer.callback_id != stranger.callback_id));
    assert_eq!(telegram.messages(STRANGER).len(), 0);
    // The prompt is as it was.
    telegram.press(OPERATOR, &prompt, "✅");
    stage.prompt(OPERATOR, "the end", |sent| sent.text.contains("✅ Approved")).await;
    assert_eq!(stage.script().entries(id), vec![("operator".to_owned(), "approve".to_owned())]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn groups_forwarded_messages_and_inline_messages_decide_nothing() {
    let (stage, _, prompt) = asked(22).await;
    let telegram = &stage.telegram;
    let data = data(&prompt);
    let copy = telegram.press_forwarded(OPERATOR, GROUP, &prompt, &data);
    assert_eq!(stage.outcome(copy.update_id).await, "silence: not a private chat");
    let inline = telegram.press_inline(OPERATOR, &data);
    assert_eq!(stage.outcome(inline.update_id).await, "silence: an inline message");
    // Forwarded to oneself: a private chat of the right person, but not the message that was sent as the prompt.
    let own_copy = telegram.press_forwarded(OPERATOR, OPERATOR, &prompt, &data);
    assert!(stage.outcome(own_copy.update_id).await.starts_with("refused: This message is not the prompt"));
    let words = "This message is not the prompt of that request. /approvals tells what waits.";
    assert_eq!(telegram.wait_for_answer(&own_copy, BOUND).await.text, words);
    for (update_id, why) in [
        (telegram.say_in(GROUP, OPERATOR, "/halt"), "silence: not a private chat"),
        (telegram.forward(OPERATOR, STRANGER, "/halt"), "silence: not their own words"),
        (telegram.say(STRANGER, "/halt"), "silence: a stranger"),
        (telegram.say(STRANGER, "/start 0A1B2C3D"), "silence: a wrong code"),
        (telegram.say(STRANGER, "/start nonsense!"), "silence: no code"),
    ] {
        assert_eq!(stage.outcome(update_id).await, why);
    }
    assert_eq!(stage.knocks("swarm.decide.telegram") + stage.knocks("swarm.halt"), 0);
    assert_eq!(telegram.messages(GROUP).len() + telegram.messages(STRANGER).len(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_button_under_a_message_that_is_no_prompt_is_stale_and_is_taken_away() {
    let (stage, first, prompt) = asked(23).await;
    let telegram = &stage.telegram;
    // A prompt that a crash left without a row.
    let mut unit = stage.admin.begin().await.unwrap();
    sqlx::query("DELETE FROM telegram_prompts WHERE chat_id = $1")
        .bind(OPERATOR)
        .execute(unit.conn().unwrap())
        .await
        .unwrap();
    unit.commit().await.unwrap();
    stage.wake(first).await;
    let second = stage.prompt(OPERATOR, "a second prompt", |sent| sent.id != prompt.id).await;
    let press = telegram.press(OPERATOR, &prompt, "✅");
    assert!(stage.outcome(press.update_id).await.starts_with("refused: This message is not the prompt"));
    stage.prompt(OPERATOR, "no buttons", |sent| sent.id == prompt.id && sent.buttons.is_empty()).await;
    assert_eq!(stage.knocks("swarm.decide.telegram"), 0);
    // A prompt of another request does not decide this one.
    let other = stage.ask(24, 1).await;
    let third = stage.prompt(OPERATOR, "a third prompt", |sent| sent.text.contains("BUY 0.24")).await;
    let crossed = telegram.press_data(OPERATOR, &third, &data(&second));
    assert!(stage.outcome(crossed.update_id).await.starts_with("refused: This message is not the prompt"));
    assert_eq!(stage.script().entries(other), vec![]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_too_old_to_be_shown_is_known_by_its_ids() {
    let (stage, id, prompt) = asked(25).await;
    let press = stage.telegram.press_inaccessible(OPERATOR, &prompt, &data(&prompt));
    assert_eq!(stage.outcome(press.update_id).await, "decided: Approve allowed");
    assert_eq!(stage.script().entries(id).len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_that_was_unlinked_and_an_approver_who_was_removed_are_strangers() {
    let (stage, _, prompt) = asked(26).await;
    let mut unit = stage.admin.begin().await.unwrap();
    assert!(store::telegram::set_account_active(&mut unit, OPERATOR, false).await.unwrap());
    let mut anna = store::approvals::approver(&mut unit, "anna").await.unwrap().unwrap();
    anna.active = false;
    store::approvals::upsert_approver(&mut unit, &anna).await.unwrap();
    unit.commit().await.unwrap();
    let press = stage.telegram.press(OPERATOR, &prompt, "✅");
    assert_eq!(stage.outcome(press.update_id).await, "silence: a stranger");
    let said = stage.telegram.say(ANNA, "/status");
    assert_eq!(stage.outcome(said).await, "silence: no active approver");
    assert_eq!(stage.knocks("swarm.decide.telegram"), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_one_time_code_binds_an_account_once() {
    let mut stage = Stage::set().await;
    stage.start();
    stage.code("anna", "0A1B2C3D").await;
    stage.ask(27, 1).await;
    let update = stage.telegram.say(ANNA, "/start oaib-2c3d");
    assert_eq!(stage.outcome(update).await, "linked: anna");
    stage.prompt(ANNA, "the greeting", |sent| sent.text.contains("This account now speaks for anna")).await;
    // What waits is asked at once.
    stage.prompt(ANNA, "a prompt", |sent| sent.text.contains("BUY 0.27")).await;
    let again = stage.telegram.say(STRANGER, "/start 0A1B2C3D");
    assert_eq!(stage.outcome(again).await, "silence: a wrong code");
    wait_until(BOUND, "nothing for a stranger", || async { stage.telegram.messages(STRANGER).is_empty() }).await;
}
