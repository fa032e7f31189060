//! What people say and what they are answered.

use serde_json::json;
use testkit::telegram::Sent;

use crate::stage::{OPERATOR, Stage};

async fn answer(stage: &Stage, text: &str) -> Sent {
    let before = stage.telegram.messages(OPERATOR).len();
    let update = stage.telegram.say(OPERATOR, text);
    let outcome = stage.outcome(update).await;
    assert!(outcome.starts_with("answered") || outcome.starts_with("late"), "{text}: {outcome}");
    stage.telegram.messages(OPERATOR).into_iter().nth(before).unwrap_or_else(|| panic!("{text} has no answer"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_command_is_answered_from_the_doors() {
    let stage = Stage::open().await;
    stage.request(41, 1).await;
    stage.prompt(OPERATOR, "the prompt", |sent| sent.text.contains("BUY 0.41")).await;
    for (command, parts) in [
        ("/positions", &["BTCUSDT", "0.025", "1,512.25", "12.25"][..]),
        ("/balance", &["48,500.25", "50,012.50", "50,000.00"]),
        ("/daily", &["+/- $", "50,0"]),
        ("/trades", &["BUY", "BTCUSDT", "60000"]),
        ("/performance", &["BTCUSDT", "10.75", "All fills"]),
        ("/signals", &["17:31:05", "refused", "POSITION_LIMIT"]),
        ("/approvals", &["1 wait for a human", "BUY 0.41 BTCUSDT, at most $1500.00", "left"]),
        ("/limits", &["position_usd", "5000 (house 10000)"]),
        ("/risk", &["+0.03 %", "Losses in a row", "Breaker latched"]),
        ("/agents", &["treasury", "healthy", "restarts", "0/0/1"]),
        ("/logs", &["No notice and no alert"]),
        ("/resume", &["The kill level is 0"]),
        ("/help", &["/status", "/close", "I never lower a limit"]),
        ("/nonsense <b>", &["I don't know /nonsense"]),
        ("hello there", &["What I know"]),
    ] {
        let sent = answer(&stage, command).await;
        for part in parts {
            assert!(sent.text.contains(part), "{command}: {part} is not in {}", sent.text);
        }
    }
    assert_eq!(stage.telegram.violations(), Vec::<String>::new());
    assert!(stage.telegram.commands().contains(&"halt".to_owned()), "the menu is set");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn status_and_profit_come_with_the_equity_curve() {
    let stage = Stage::open().await;
    for (command, parts) in [
        ("/status", &["🟢 Running", "50,012.50", "Agents well", "2 of 2"][..]),
        ("/profit", &["12.25", "1.50", "+59.00"]),
    ] {
        let sent = answer(&stage, command).await;
        assert!(sent.photo.as_ref().is_some_and(|png| png.len() > 5_000), "{command} has no picture");
        for part in parts {
            assert!(sent.text.contains(part), "{command}: {part} is not in {}", sent.text);
        }
    }
    // Without a curve the words come all the same.
    stage.script().answers.insert("swarm.equity", json!({ "ok": true, "points": [] }));
    let sent = answer(&stage, "/status").await;
    assert!(sent.photo.is_none() && sent.text.contains("50,012.50"), "{}", sent.describe());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_halt_goes_through_at_once_however_late_it_comes_and_resume_is_left_to_the_command_line() {
    let stage = Stage::open().await;
    let sent = answer(&stage, "/halt 2 fire in the house").await;
    assert!(sent.text.contains("Kill level 1"), "as the door answered: {}", sent.text);
    let asked = stage.script().asked.iter().find(|(door, _)| door == "swarm.halt").cloned().unwrap().1;
    assert_eq!(asked, json!({ "level": 2, "reason": "fire in the house", "by": "operator", "way": "telegram" }));
    for (words, level, reason) in [("/halt 3", 3, "asked in Telegram"), ("/halt 4 now", 4, "now"), ("/halt 5", 1, "5")]
    {
        answer(&stage, words).await;
        let asked = stage.script().asked.iter().rfind(|(door, _)| door == "swarm.halt").cloned().unwrap().1;
        assert_eq!((&asked["level"], &asked["reason"]), (&json!(level), &json!(reason)), "{words}");
    }
    stage.script().answers.get_mut("swarm.status").unwrap()["kill"] =
        json!({ "level": 2, "epoch": 3, "by": "operator", "reason": "fire <in> the house" });
    let sent = answer(&stage, "/resume").await;
    assert!(sent.text.contains("swarm resume --reason") && sent.text.contains("fire <in> the house"), "{}", sent.text);
    assert!(!stage.script().asked.iter().any(|(door, _)| door == "swarm.resume"), "a chat lowers nothing");
    // A supervisor that does not answer is asked again until it does.
    stage.script().silent.push("swarm.halt");
    let update = stage.telegram.say(OPERATOR, "/halt");
    testkit::wait_until(crate::stage::BOUND, "a second try", || async { stage.knocks("swarm.halt") >= 6 }).await;
    stage.script().silent.clear();
    assert_eq!(stage.outcome(update).await, "answered: /halt");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exit_is_asked_of_its_door_by_the_stored_words_alone() {
    let stage = Stage::open().await;
    let sent = answer(&stage, "/close").await;
    assert!(sent.text.contains("/close BTCUSDT") && stage.knocks("swarm.close") == 0, "{}", sent.text);
    let update = stage.telegram.say(OPERATOR, "/close btcusdt");
    assert_eq!(stage.outcome(update).await, "answered: /close");
    stage.prompt(OPERATOR, "the answer", |sent| sent.text.contains("signal-7")).await;
    let asked = stage.script().asked.iter().find(|(door, _)| door == "swarm.close").cloned().unwrap().1;
    assert_eq!(asked, json!({ "update_id": update }));
    stage
        .script()
        .answers
        .insert("swarm.close", json!({ "ok": false, "code": "NOT_YOURS", "detail": "use <your> door" }));
    let sent = answer(&stage, "/close ETHUSDT").await;
    assert_eq!(sent.text, "❌ NOT_YOURS: use <your> door");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_that_lay_around_is_not_done_any_more_but_a_halt_is() {
    let mut stage = Stage::set().await;
    stage.link("operator", OPERATOR).await;
    // Said ten minutes ago, by the sender's date.
    let now = stage.admin.now().await.unwrap();
    let late = |id: i64, text: &str| {
        json!({ "update_id": id, "message": {
            "message_id": id, "date": now.0 / 1_000 - 600, "text": text,
            "from": { "id": OPERATOR, "is_bot": false, "first_name": "Olga" },
            "chat": { "id": OPERATOR, "type": "private", "first_name": "Olga" } } })
    };
    let mut unit = stage.admin.begin().await.unwrap();
    for (id, text) in [(1, "/close BTCUSDT"), (2, "/halt")] {
        store::telegram::put_update(&mut unit, id, &late(id, text), now).await.unwrap();
    }
    unit.commit().await.unwrap();
    stage.start();
    assert_eq!(stage.outcome(1).await, "late: /close");
    assert_eq!(stage.outcome(2).await, "answered: /halt");
    assert_eq!((stage.knocks("swarm.close"), stage.knocks("swarm.halt")), (0, 1));
}
