//! What people are told without asking.

use domain::ids::UserId;
use domain::message::{Alert, HaltChanged, Message, Notice, Payload, PositionChanged, Severity};
use domain::money::{Quantity, Usd};
use domain::subject::{Route, Subject};
use testkit::telegram::Fault;
use testkit::{build, wait_until};
use tokio::time::{Duration, Instant};

use crate::stage::{ANNA, BOUND, OPERATOR, Stage};

fn notice(text: &str, user: UserId) -> Message {
    let notice = Notice { code: "POSITION_LIMIT".into(), text: text.into(), numbers: [].into() };
    Message::fact(Subject::fact(Route::Notice), user, text, Payload::Notice(notice))
}

fn nobody() -> UserId {
    UserId(uuid::Uuid::nil())
}

/// All texts in a chat, one after the other.
fn told(stage: &Stage, chat: i64) -> String {
    stage.telegram.messages(chat).iter().map(|sent| sent.text.clone() + "\n").collect()
}

async fn queue_is_empty(stage: &Stage) {
    wait_until(BOUND, "an empty queue", || async {
        let mut unit = stage.admin.begin().await.unwrap();
        store::telegram_notices::queued(&mut unit, 1).await.unwrap().is_empty()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fills_refusals_alerts_and_the_kill_level_are_told_to_whom_they_concern() {
    let mut stage = Stage::set().await;
    stage.link("operator", OPERATOR).await;
    stage.link("anna", ANNA).await;
    stage.start();
    let change = PositionChanged {
        instrument: build::paper("BTCUSDT"),
        quantity: Quantity::parse("0.025").unwrap(),
        cost: Usd::parse("1500").unwrap(),
        realised: Usd::parse("0").unwrap(),
        cash: Usd::parse("48500").unwrap(),
    };
    let alert = Alert { name: "quarantined".into(), severity: Severity::Critical, text: "buy_bot stays down".into() };
    let halt = HaltChanged { level: 1, epoch: 2, by: "anna".into(), reason: "a < b".into() };
    let operator = UserId::of_handle("operator");
    for (message, source) in [
        (notice("refused: POSITION_LIMIT <limit> 10000", operator), "treasury"),
        (
            Message::fact(Subject::fact(Route::PositionChanged), operator, "k", Payload::PositionChanged(change)),
            "treasury",
        ),
        (Message::fact(Subject::fact(Route::Alert), nobody(), "k", Payload::Alert(alert)), "supervisor"),
        (Message::fact(Subject::fact(Route::HaltChanged), nobody(), "k", Payload::HaltChanged(halt)), "supervisor"),
    ] {
        stage.publish(message, source).await;
    }
    for part in [
        "POSITION_LIMIT refused: POSITION_LIMIT <limit> 10000",
        "Fill BTCUSDT: 0.025 held, cost $1,500.00",
        "🚨 quarantined buy_bot stays down",
        "🛑 Kill level 1 by anna: a < b",
    ] {
        wait_until(BOUND, part, || async { told(&stage, OPERATOR).contains(part) }).await;
    }
    wait_until(BOUND, "Anna's", || async { told(&stage, ANNA).contains("Kill level 1") }).await;
    queue_is_empty(&stage).await;
    assert!(!told(&stage, ANNA).contains("Fill"), "another's money is none of hers: {}", told(&stage, ANNA));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_is_grouped_within_telegrams_limits_and_a_prompt_is_not_behind_it() {
    let stage = Stage::open().await;
    for number in 0..150 {
        stage.publish(notice(&format!("number {number}."), nobody()), "treasury").await;
    }
    stage.ask(51, 1).await;
    stage.prompt(OPERATOR, "the prompt", |sent| sent.button("✅").is_some()).await;
    wait_until(BOUND, "the last", || async { told(&stage, OPERATOR).contains("number 149.") }).await;
    queue_is_empty(&stage).await;
    assert!(stage.telegram.messages(OPERATOR).len() < 20, "{}", stage.telegram.messages(OPERATOR).len());
    assert_eq!(stage.telegram.violations(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_prompt_goes_before_all_that_waits_in_its_chat_and_comes_within_a_second() {
    let stage = Stage::open().await;
    stage.is_warm().await;
    stage.publish(notice("a notice", nobody()), "treasury").await;
    for _ in 0..6 {
        stage.telegram.say(OPERATOR, "/help");
    }
    stage.prompt(OPERATOR, "the first message", |_| true).await;
    let asked_at = Instant::now();
    stage.ask(54, 1).await;
    stage.prompt(OPERATOR, "the prompt", |sent| sent.button("✅").is_some()).await;
    let took = asked_at.elapsed();
    assert!(took < Duration::from_secs(1), "asked after {took:?}");
    let before = stage.telegram.messages(OPERATOR).iter().filter(|sent| sent.buttons.is_empty()).count();
    assert!(before <= 2, "{before} came before it");
    wait_until(BOUND, "all the rest", || async { stage.telegram.messages(OPERATOR).len() == 8 }).await;
    assert!(told(&stage, OPERATOR).contains("a notice"));
    assert_eq!(stage.telegram.violations(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_prompts_notices_and_commands_at_once_are_never_refused_for_their_speed() {
    let mut stage = Stage::set().await;
    stage.link("operator", OPERATOR).await;
    stage.link("anna", ANNA).await;
    stage.start();
    for number in 60..66 {
        for _ in 0..10 {
            stage.publish(notice(&format!("number {number}."), nobody()), "treasury").await;
        }
        stage.ask(number, 1).await;
        for person in [OPERATOR, ANNA] {
            stage.telegram.say(person, "/limits");
        }
    }
    for (chat, number) in [OPERATOR, ANNA].into_iter().flat_map(|chat| (60..66).map(move |number| (chat, number))) {
        stage.prompt(chat, "a prompt", |sent| sent.text.contains(&format!("BUY 0.{number}"))).await;
    }
    queue_is_empty(&stage).await;
    for chat in [OPERATOR, ANNA] {
        wait_until(BOUND, "the answers", || async { told(&stage, chat).matches("Limits").count() == 6 }).await;
        assert!(told(&stage, chat).contains("number 65."));
    }
    let sent = stage.telegram.messages(OPERATOR).len() + stage.telegram.messages(ANNA).len();
    assert_eq!((stage.telegram.violations(), stage.telegram.calls("sendMessage")), (Vec::<String>::new(), sent));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_notice_outlives_a_crash_and_an_outage_and_is_told_once() {
    let mut stage = Stage::open().await;
    stage.telegram.outage(Some(Fault::ServerError));
    let kept = stage.publish(notice("during the outage", nobody()), "treasury").await;
    wait_until(BOUND, "the row", || async {
        let mut unit = stage.admin.begin().await.unwrap();
        !store::telegram_notices::queued(&mut unit, 1).await.unwrap().is_empty()
    })
    .await;
    stage.kill().await;
    // While it is down: one more, and the same again, as a redelivery would bring it.
    stage.publish(notice("during the crash", nobody()), "treasury").await;
    stage.bus.publish(&kept).await.unwrap();
    stage.telegram.outage(None);
    stage.start();
    for part in ["during the outage", "during the crash"] {
        wait_until(BOUND, part, || async { told(&stage, OPERATOR).contains(part) }).await;
    }
    queue_is_empty(&stage).await;
    stage.publish(notice("the end", nobody()), "treasury").await;
    wait_until(BOUND, "the end", || async { told(&stage, OPERATOR).contains("the end") }).await;
    let all = told(&stage, OPERATOR);
    for part in ["during the outage", "during the crash", "the end"] {
        assert_eq!(all.matches(part).count(), 1, "{all}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_blocked_the_bot_holds_up_nobody() {
    let mut stage = Stage::set().await;
    stage.link("operator", OPERATOR).await;
    stage.link("anna", ANNA).await;
    stage.telegram.block(ANNA, true);
    stage.start();
    stage.ask(52, 1).await;
    stage.publish(notice("for all", nobody()), "treasury").await;
    stage.prompt(OPERATOR, "the prompt", |sent| sent.button("✅").is_some()).await;
    wait_until(BOUND, "the notice", || async { told(&stage, OPERATOR).contains("for all") }).await;
    queue_is_empty(&stage).await;
    let tries = stage.telegram.calls("sendMessage");
    stage.ask(53, 1).await;
    stage.prompt(OPERATOR, "the next prompt", |sent| sent.text.contains("BUY 0.53")).await;
    assert_eq!(stage.telegram.calls("sendMessage"), tries + 1, "she is not written to again and again");
}
