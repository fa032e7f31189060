//! A request, its prompt, presses on it, and how it ends.

use std::time::Duration;

use domain::ids::ApprovalId;
use serde_json::json;
use testkit::telegram::{Fault, Sent};
use testkit::wait_until;
use tokio::time::Instant;

use crate::stage::{ANNA, BOUND, OPERATOR, Stage};

/// Its row says that nothing more is drawn.
async fn prompt_is_final(stage: &Stage, id: ApprovalId) {
    wait_until(BOUND, "a final prompt", || async {
        let mut unit = stage.admin.begin().await.unwrap();
        store::telegram::prompts(&mut unit, id).await.unwrap().iter().all(|prompt| prompt.is_final)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_is_asked_at_once_and_a_press_decides_it() {
    let stage = Stage::open().await;
    stage.is_warm().await;
    let asked_at = Instant::now();
    let id = stage.ask(25, 1).await;
    let prompt = stage.prompt(OPERATOR, "a prompt", |sent| sent.button("✅").is_some()).await;
    let took = asked_at.elapsed();
    assert!(took < Duration::from_secs(1), "asked after {took:?}");
    for part in
        ["BUY 0.25 BTCUSDT", "$1500.00", "agent says (unverified)", "> looks good", "15 min 00 s left", "0 of 1"]
    {
        let countdown = part.ends_with("left") && prompt.text.contains("14 min 59 s left");
        assert!(prompt.text.contains(part) || countdown, "{part}: {}", prompt.text);
    }
    stage.recorded(OPERATOR, id).await;
    let press = stage.telegram.press(OPERATOR, &prompt, "✅ Approve");
    assert_eq!(stage.telegram.wait_for_answer(&press, BOUND).await.text, "Received.");
    let done = stage.prompt(OPERATOR, "a decided prompt", |sent| sent.text.contains("✅ Approved")).await;
    assert_eq!((done.id, done.buttons.len()), (prompt.id, 0), "{}", done.describe());
    assert!(done.text.contains("operator: approve (telegram, 17:31:05)"), "{}", done.text);
    assert_eq!(stage.outcome(press.update_id).await, "decided: Approve allowed");
    assert_eq!(stage.script().entries(id), vec![("operator".to_owned(), "approve".to_owned())]);

    // Treasury uses it, the desk fills it: the prompt says so and is final.
    stage.script().end(id, "consumed", None);
    stage.script().answers.get_mut("swarm.trades").unwrap()["trades"][0]["order_id"] = json!("order-25");
    stage.wake(id).await;
    stage.prompt(OPERATOR, "the fill", |sent| sent.text.contains("Filled: 0.025 BTCUSDT at 60000")).await;
    prompt_is_final(&stage, id).await;
    assert_eq!(stage.telegram.messages(OPERATOR).len(), 1, "one message for one request");
    assert_eq!(stage.telegram.violations(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_press_that_comes_again_under_new_update_ids_counts_once() {
    let stage = Stage::open().await;
    let id = stage.ask(1, 1).await;
    let prompt = stage.recorded(OPERATOR, id).await;
    let press = stage.telegram.press(OPERATOR, &prompt, "❌ Reject");
    let again: Vec<i64> = (0..5).map(|_| stage.telegram.press_again(&press)).collect();
    let done = stage.prompt(OPERATOR, "a decided prompt", |sent| sent.text.contains("❌ Rejected")).await;
    let mut outcomes = vec![stage.outcome(press.update_id).await];
    for update_id in again {
        outcomes.push(stage.outcome(update_id).await);
    }
    let decided = outcomes.iter().filter(|outcome| outcome.starts_with("decided")).count();
    assert_eq!(decided, 1, "{outcomes:?}");
    assert!(outcomes.iter().all(|outcome| outcome.starts_with("decided") || outcome.starts_with("refused")));
    assert_eq!(stage.script().entries(id).len(), 1);
    assert!(!done.text.contains('⚠'), "what the message shows anyway is not said besides: {}", done.text);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn from_tier_two_on_a_yes_is_two_taps_beside_the_words_of_the_digest() {
    let stage = Stage::open().await;
    let id = stage.ask(2, 2).await;
    let prompt = stage.recorded(OPERATOR, id).await;
    let press = stage.telegram.press(OPERATOR, &prompt, "✅ Approve");
    assert_eq!(stage.outcome(press.update_id).await, "shown: Confirm");
    assert_eq!(stage.telegram.wait_for_answer(&press, BOUND).await.text, "Compare the words, then confirm.");
    let words = "lusab babad gutih tugad";
    let second = stage.prompt(OPERATOR, "the words", |sent| sent.button("✅ Confirm").is_some()).await;
    assert!(
        second.text.contains(words) && second.button("✅ Confirm").unwrap().text.contains(words),
        "{}",
        second.text
    );
    assert_eq!(stage.script().entries(id), vec![], "nothing is decided yet");

    stage.telegram.press(OPERATOR, &second, "Back");
    stage.prompt(OPERATOR, "the first buttons", |sent| sent.button("❌ Reject").is_some()).await;
    stage.telegram.press(OPERATOR, &second, "✅ Approve");
    let second = stage.prompt(OPERATOR, "the words", |sent| sent.button("✅ Confirm").is_some()).await;
    stage.telegram.press(OPERATOR, &second, "✅ Confirm");
    stage.prompt(OPERATOR, "a decided prompt", |sent| sent.text.contains("✅ Approved")).await;
    assert_eq!(stage.script().entries(id), vec![("operator".to_owned(), "approve".to_owned())]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn less_may_be_asked_for_and_is_a_new_request() {
    let stage = Stage::open().await;
    let id = stage.ask(3, 1).await;
    let prompt = stage.recorded(OPERATOR, id).await;
    stage.telegram.press(OPERATOR, &prompt, "✏️ Modify");
    let menu = stage.prompt(OPERATOR, "the menu", |sent| sent.button("½").is_some()).await;
    let labels: Vec<&str> = menu.buttons.iter().flatten().map(|button| button.text.as_str()).collect();
    let wanted = ["½ Half the size", "¼ A quarter", "Price 0.5 % tighter", "Price 1 % tighter", "Back"];
    assert_eq!(labels, wanted);
    let next = stage.request(4, 1).await;
    stage.script().requests.get_mut(&id).unwrap()["superseded_by"] = json!(next);
    stage.telegram.press(OPERATOR, &menu, "½");
    let old = stage.prompt(OPERATOR, "the old prompt", |sent| sent.text.contains("Superseded")).await;
    assert!(old.text.contains(&next.to_string()) && old.buttons.is_empty(), "{}", old.text);
    stage
        .prompt(OPERATOR, "the new prompt", |sent| sent.text.contains("BUY 0.4 BTCUSDT") && !sent.buttons.is_empty())
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tighter_price_may_be_asked_for_once_and_only_under_the_prompt_that_waits() {
    let stage = Stage::open().await;
    for (number, label) in [(30, "Price 0.5 %"), (31, "Price 1 %")] {
        let id = stage.ask(number, 2).await;
        let prompt = stage.recorded(OPERATOR, id).await;
        stage.telegram.press(OPERATOR, &prompt, "✏️ Modify");
        let is_menu = |sent: &Sent| sent.id == prompt.id && sent.button(label).is_some();
        let menu = stage.prompt(OPERATOR, "the menu", is_menu).await;
        let data = menu.button(label).unwrap().data.clone();
        assert!(data.len() <= 64, "{data}");
        let press = stage.telegram.press(OPERATOR, &menu, label);
        let again: Vec<i64> = (0..3).map(|_| stage.telegram.press_again(&press)).collect();
        let is_over = |sent: &Sent| sent.id == prompt.id && sent.text.contains("Superseded");
        let over = stage.prompt(OPERATOR, "the end", is_over).await;
        assert!(over.buttons.is_empty(), "{}", over.describe());
        let mut outcomes = vec![stage.outcome(press.update_id).await];
        for update_id in again {
            outcomes.push(stage.outcome(update_id).await);
        }
        assert_eq!(outcomes.iter().filter(|outcome| outcome.starts_with("decided")).count(), 1, "{outcomes:?}");
        assert_eq!(stage.script().entries(id), vec![("operator".to_owned(), "modify".to_owned())]);
        // An old screen still shows the button, and another message gets a copy of it.
        prompt_is_final(&stage, id).await;
        let stale = stage.telegram.press_data(OPERATOR, &over, &data);
        assert_eq!(stage.outcome(stale.update_id).await, "refused: That request is over.");
        let greeting = stage.telegram.say(OPERATOR, "/help");
        stage.outcome(greeting).await;
        let other = stage.prompt(OPERATOR, "no prompt", |sent| sent.text.contains("What I know")).await;
        let moved = stage.telegram.press_data(OPERATOR, &other, &data);
        assert!(stage.outcome(moved.update_id).await.starts_with("refused: This message is not the prompt"));
        assert_eq!(stage.script().entries(id).len(), 1);
    }
    assert_eq!(stage.telegram.violations(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_decided_elsewhere_is_shown_here_and_can_not_be_pressed_any_more() {
    let stage = Stage::open().await;
    let id = stage.ask(5, 1).await;
    let prompt = stage.recorded(OPERATOR, id).await;
    let data = prompt.button("✅").unwrap().data.clone();
    let entry =
        json!({ "person_id": "anna", "decision": "reject", "channel": "cli", "at": "2026-11-21T17:40:00.000Z" });
    stage.script().end(id, "denied", Some(entry));
    stage.wake(id).await;
    let done = stage.prompt(OPERATOR, "the end", |sent| sent.text.contains("❌ Rejected")).await;
    assert!(done.text.contains("anna: reject (cli, 17:40:00)") && done.buttons.is_empty(), "{}", done.text);
    prompt_is_final(&stage, id).await;
    // An old screen still shows the buttons.
    let press = stage.telegram.press_data(OPERATOR, &done, &data);
    assert_eq!(stage.outcome(press.update_id).await, "refused: That request is over.");
    assert_eq!(stage.telegram.wait_for_answer(&press, BOUND).await.text, "That request is over.");
    assert_eq!(stage.knocks("swarm.decide.telegram"), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_people_decide_and_each_sees_what_the_other_said() {
    let mut stage = Stage::set().await;
    stage.link("operator", OPERATOR).await;
    stage.link("anna", ANNA).await;
    stage.start();
    let id = stage.request(6, 1).await;
    stage.script().requests.get_mut(&id).unwrap()["needed"] = json!(2);
    stage.wake(id).await;
    let first = stage.recorded(OPERATOR, id).await;
    let other = stage.recorded(ANNA, id).await;
    assert_ne!(first.button("✅").unwrap().data, other.button("✅").unwrap().data, "each has buttons of their own");
    stage.telegram.press(OPERATOR, &first, "✅");
    stage.prompt(OPERATOR, "the count", |sent| sent.text.contains("Your word is counted")).await;
    stage.prompt(ANNA, "the count", |sent| sent.text.contains("1 of 2 said yes")).await;
    stage.telegram.press(ANNA, &other, "✅");
    for chat in [OPERATOR, ANNA] {
        let done = stage.prompt(chat, "the end", |sent| sent.text.contains("✅ Approved")).await;
        assert!(done.text.contains("operator: approve") && done.text.contains("anna: approve"), "{}", done.text);
        assert!(done.buttons.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_press_while_the_agent_is_down_counts_when_it_is_back() {
    let mut stage = Stage::open().await;
    let id = stage.ask(7, 1).await;
    let prompt = stage.recorded(OPERATOR, id).await;
    stage.kill().await;
    let press = stage.telegram.press(OPERATOR, &prompt, "✅");
    stage.start();
    stage.prompt(OPERATOR, "the end", |sent| sent.text.contains("✅ Approved")).await;
    assert_eq!(stage.outcome(press.update_id).await, "decided: Approve allowed");
    assert_eq!(stage.script().entries(id).len(), 1);
    assert_eq!(stage.telegram.messages(OPERATOR).len(), 1, "the prompt was found again, not sent again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_between_storing_a_press_and_deciding_it_loses_and_doubles_nothing() {
    let mut stage = Stage::open().await;
    let id = stage.ask(8, 1).await;
    let prompt = stage.recorded(OPERATOR, id).await;
    stage.script().silent.push("swarm.decide.telegram");
    let press = stage.telegram.press(OPERATOR, &prompt, "✅");
    wait_until(BOUND, "the knock", || async { stage.knocks("swarm.decide.telegram") > 0 }).await;
    // Telegram was told that we have it: from here on only the row knows of the press.
    wait_until(BOUND, "the confirmation", || async { stage.telegram.unconfirmed() == 0 }).await;
    stage.kill().await;
    stage.script().silent.clear();
    stage.start();
    stage.prompt(OPERATOR, "the end", |sent| sent.text.contains("✅ Approved")).await;
    assert_eq!(stage.outcome(press.update_id).await, "decided: Approve allowed");
    assert_eq!(stage.script().entries(id).len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_supervisor_that_does_not_answer_is_asked_until_it_does() {
    let stage = Stage::open().await;
    let id = stage.ask(9, 1).await;
    let prompt = stage.recorded(OPERATOR, id).await;
    stage.script().silent.push("swarm.decide.telegram");
    let press = stage.telegram.press(OPERATOR, &prompt, "✅");
    // The person is not kept waiting for it.
    stage.telegram.wait_for_answer(&press, BOUND).await;
    wait_until(BOUND, "a second try", || async { stage.knocks("swarm.decide.telegram") >= 2 }).await;
    // It is there, and its database is not.
    stage.script().down.push("swarm.decide.telegram");
    stage.script().silent.clear();
    let before = stage.knocks("swarm.decide.telegram");
    wait_until(BOUND, "two more", || async { stage.knocks("swarm.decide.telegram") >= before + 2 }).await;
    stage.script().down.clear();
    stage.prompt(OPERATOR, "the end", |sent| sent.text.contains("✅ Approved")).await;
    assert_eq!(stage.script().entries(id).len(), 1);
    assert_eq!(stage.telegram.answers().len(), 1, "a press is answered once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_telephone_that_can_not_be_answered_holds_up_no_decision() {
    let stage = Stage::open().await;
    let id = stage.ask(12, 1).await;
    let prompt = stage.recorded(OPERATOR, id).await;
    stage.telegram.fault("answerCallbackQuery", Fault::Hang, 1);
    let pressed_at = Instant::now();
    stage.telegram.press(OPERATOR, &prompt, "✅");
    stage.prompt(OPERATOR, "the end", |sent| sent.text.contains("✅ Approved")).await;
    assert!(pressed_at.elapsed() < Duration::from_secs(8), "{:?}", pressed_at.elapsed());
    // One that Telegram does not take any more neither.
    let id = stage.ask(13, 1).await;
    let prompt = stage.recorded(OPERATOR, id).await;
    let press = stage.telegram.press(OPERATOR, &prompt, "❌");
    stage.telegram.let_press_expire(&press);
    assert_eq!(stage.outcome(press.update_id).await, "decided: Reject denied");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_can_not_be_shown_whole_is_not_shown() {
    let stage = Stage::open().await;
    let id = stage.request(10, 1).await;
    stage.script().requests.get_mut(&id).unwrap()["rendering"] = json!([]);
    stage.ask(11, 1).await;
    stage.prompt(OPERATOR, "the other", |sent| sent.text.contains("BUY 0.11")).await;
    assert_eq!(stage.telegram.messages(OPERATOR).len(), 1);
}
