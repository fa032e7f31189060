//! The real process of `telegram_jarvis` dies by SIGKILL around a press and is started again by the supervisor. Whenever it
//! dies, the order fills once and the person sees how it ended.
//!
//! The moment is not left to chance: whoever would act next is stopped or gets no answer, what there is to see by then is
//! waited for, and then it is killed.

use domain::time::Clock;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use runtime::clock::SystemClock;
use serde_json::Value;
use sqlx::{PgPool, Row};
use testkit::telegram::{Fault, Press, Sent, Telegram};
use testkit::{wait_for, wait_until};
use uuid::Uuid;

use crate::swarm::{BOUND, OPERATOR, Swarm};

/// A swarm whose operator is linked, and its tables.
struct Stage {
    telegram: Telegram,
    swarm: Swarm,
    ledger: PgPool,
}

/// A question for $1,500 that waits in the chat.
struct Question {
    approval_id: Uuid,
    order_id: Uuid,
    /// The first message that asks.
    prompt: Sent,
}

/// What there is of an order: the status of its question, permits, orders at the desk, prompts, prompts that are final.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    status: String,
    permits: i64,
    orders: i64,
    prompts: i64,
    finals: i64,
}

fn signal(pid: i32, signal: Signal) {
    kill(Pid::from_raw(pid), signal).unwrap();
}

impl Stage {
    async fn new() -> Self {
        let telegram = Telegram::start(SystemClock.now()).await;
        telegram.person(OPERATOR, "Olga");
        let swarm = Swarm::start(&telegram);
        swarm.link(&telegram).await;
        let ledger = swarm.ledger().await;
        Self { telegram, swarm, ledger }
    }

    /// A signal that a person must decide, and its first message.
    async fn ask(&self, symbol: &str) -> Question {
        let known = self.telegram.messages(OPERATOR).len();
        let sent = self.swarm.run(&["signal", "BUY", symbol, "--notional-usd", "1500"]);
        assert_eq!(sent["accepted"], true, "{sent}");
        wait_until(BOUND, "a prompt", || async { !self.asking(known).is_empty() }).await;
        let waiting = self.swarm.run(&["approvals"])["approvals"][0].clone();
        let id = |field: &str| waiting[field].as_str().unwrap().parse::<Uuid>().unwrap();
        let prompt = self.asking(known).remove(0);
        Question { approval_id: id("approval_id"), order_id: id("order_id"), prompt }
    }

    /// Messages that asked for a decision, after the first `known` of the chat.
    fn asking(&self, known: usize) -> Vec<Sent> {
        let asks = |sent: &Sent| sent.history.first().unwrap_or(&sent.text).starts_with("A human decides");
        self.telegram.messages(OPERATOR).into_iter().skip(known).filter(asks).collect()
    }

    /// Messages that asked for this decision.
    fn prompts(&self, question: &Question) -> Vec<Sent> {
        let known = self.telegram.messages(OPERATOR).iter().position(|sent| sent.id == question.prompt.id).unwrap();
        self.asking(known)
    }

    async fn seen(&self, question: &Question) -> Seen {
        let row = sqlx::query(
            "SELECT (SELECT status FROM approval_requests WHERE approval_id = $1) AS status,
               (SELECT count(*) FROM permits WHERE order_id = $2) AS permits,
               (SELECT count(*) FROM orders WHERE order_id = $2) AS orders,
               (SELECT count(*) FROM telegram_prompts WHERE approval_id = $1) AS prompts,
               (SELECT count(*) FROM telegram_prompts WHERE approval_id = $1 AND final) AS finals",
        )
        .bind(question.approval_id)
        .bind(question.order_id)
        .fetch_one(&self.ledger)
        .await
        .unwrap();
        Seen {
            status: row.get("status"),
            permits: row.get("permits"),
            orders: row.get("orders"),
            prompts: row.get("prompts"),
            finals: row.get("finals"),
        }
    }

    /// How often the exchange took the order, by its own journal.
    fn at_venue(&self, question: &Question) -> usize {
        let client = format!("s{}", question.order_id.simple());
        let takes = |line: &str| {
            let effects: Vec<Value> = serde_json::from_str(line.split_once(' ')?.1).ok()?;
            Some(effects.iter().filter(|effect| effect["request"]["client_order_id"] == client.as_str()).count())
        };
        let files = std::fs::read_dir(self.swarm.folder.join("data/data/paper")).unwrap();
        let texts = files.filter_map(|file| std::fs::read_to_string(file.ok()?.path()).ok());
        texts.map(|text| text.lines().filter_map(takes).sum::<usize>()).sum()
    }

    async fn is_recorded(&self, question: &Question) {
        wait_until(BOUND, "the row of the prompt", || async { self.seen(question).await.prompts == 1 }).await;
    }

    /// What became of an update; `None` while it is no row, or waits.
    async fn outcome(&self, update_id: i64) -> Option<String> {
        let row = sqlx::query_scalar::<_, Option<String>>("SELECT outcome FROM telegram_updates WHERE update_id = $1");
        row.bind(update_id).fetch_optional(&self.ledger).await.unwrap().flatten()
    }

    async fn is_stored(&self, update_id: i64) -> bool {
        let row = sqlx::query_scalar::<_, i64>("SELECT count(*) FROM telegram_updates WHERE update_id = $1");
        row.bind(update_id).fetch_one(&self.ledger).await.unwrap() == 1
    }

    /// The bot's process as it is now.
    fn bot(&self) -> Option<i32> {
        let agents = self.swarm.run(&["agents"])["result"].clone();
        let row = agents.as_array()?.iter().find(|agent| agent["agent"] == "telegram_jarvis")?.clone();
        row["pid"].as_u64().and_then(|pid| i32::try_from(pid).ok())
    }

    fn supervisor(&self) -> i32 {
        i32::try_from(self.swarm.run(&["status"])["supervisor_pid"].as_u64().unwrap()).unwrap()
    }

    /// The supervisor started another one in the place of `old`.
    async fn is_started_again(&self, old: i32) {
        wait_until(BOUND, "another process", || async { self.bot().is_some_and(|pid| pid != old) }).await;
    }

    /// Stops the bot while its poll waits at the double: the next update goes to it and no further.
    async fn stop_while_polling(&self, bot: i32) {
        wait_until(BOUND, "a poll", || async {
            signal(bot, Signal::SIGSTOP);
            let is_polled = self.telegram.is_polled();
            if !is_polled {
                signal(bot, Signal::SIGCONT);
            }
            is_polled
        })
        .await;
    }

    fn press(&self, prompt: &Sent) -> Press {
        self.telegram.press(OPERATOR, prompt, "✅ Approve")
    }

    /// The order filled once, the message that counts says so and has no buttons, and a late press changes nothing.
    async fn assert_bought_once(&self, question: &Question, prompt: &Sent) {
        let filled = |sent: &Sent| sent.id == prompt.id && sent.text.contains("Filled: ");
        let done = self.telegram.wait_for(OPERATOR, BOUND, "the fill", filled).await;
        assert!(done.buttons.is_empty(), "{}", done.describe());
        let once = Seen { status: "consumed".to_owned(), permits: 1, orders: 1, prompts: 1, finals: 1 };
        wait_until(BOUND, "a final prompt", || async { self.seen(question).await == once }).await;
        let late = self.telegram.press_data(OPERATOR, &done, &question.prompt.button("✅ Approve").unwrap().data);
        let outcome = wait_for(BOUND, "an answer to the late press", || self.outcome(late.update_id)).await;
        assert_eq!(outcome, "refused: That request is over.");
        assert_eq!((self.seen(question).await, self.at_venue(question)), (once, 1));
        assert!(self.prompts(question).iter().all(|sent| sent.buttons.is_empty()));
        assert_eq!(self.telegram.violations(), Vec::<String>::new());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_before_the_press_it_finds_its_prompt_again() {
    let stage = Stage::new().await;
    // The prompt is there and recorded.
    let question = stage.ask("BTCUSDT").await;
    stage.is_recorded(&question).await;
    let bot = stage.bot().unwrap();
    signal(bot, Signal::SIGKILL);
    stage.press(&question.prompt);
    stage.is_started_again(bot).await;
    stage.assert_bought_once(&question, &question.prompt).await;
    assert_eq!(stage.prompts(&question).len(), 1, "it was not asked twice");

    // The prompt is there, and the bot dies before it hears of that: Telegram knows no id of a message that could be
    // repeated, so it asks again. Only the second one is a row and decides.
    let bot = stage.bot().unwrap();
    stage.telegram.fault("sendMessage", Fault::Unanswered, 1);
    let question = stage.ask("ETHUSDT").await;
    assert_eq!(stage.seen(&question).await.prompts, 0);
    signal(bot, Signal::SIGKILL);
    stage.is_started_again(bot).await;
    stage.is_recorded(&question).await;
    let prompts = stage.prompts(&question);
    assert_eq!(prompts.len(), 2);
    let press = stage.press(&prompts[0]);
    let outcome = wait_for(BOUND, "an answer to the first", || stage.outcome(press.update_id)).await;
    assert!(outcome.starts_with("refused: This message is not the prompt"), "{outcome}");
    assert_eq!(stage.seen(&question).await.status, "pending");
    stage.press(&prompts[1]);
    stage.assert_bought_once(&question, &prompts[1]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_after_the_press_it_decides_once_and_says_so() {
    let stage = Stage::new().await;
    // Telegram has answered its poll with the press, and it never reads that.
    let question = stage.ask("BTCUSDT").await;
    stage.is_recorded(&question).await;
    let bot = stage.bot().unwrap();
    stage.stop_while_polling(bot).await;
    let press = stage.press(&question.prompt);
    wait_until(BOUND, "the poll to be answered", || async { stage.telegram.was_handed_out(press.update_id) }).await;
    signal(bot, Signal::SIGKILL);
    assert!(!stage.is_stored(press.update_id).await && stage.seen(&question).await.status == "pending");
    stage.is_started_again(bot).await;
    stage.assert_bought_once(&question, &question.prompt).await;
    assert_eq!(stage.prompts(&question).len(), 1);

    // The press is a row and Telegram has forgotten it, and nobody has decided.
    let question = stage.ask("ETHUSDT").await;
    stage.is_recorded(&question).await;
    let (bot, supervisor) = (stage.bot().unwrap(), stage.supervisor());
    signal(supervisor, Signal::SIGSTOP);
    let press = stage.press(&question.prompt);
    wait_until(BOUND, "the row of the press", || stage.is_stored(press.update_id)).await;
    wait_until(BOUND, "the confirmation", || async { stage.telegram.unconfirmed() == 0 }).await;
    signal(bot, Signal::SIGKILL);
    assert_eq!(stage.seen(&question).await.status, "pending");
    assert_eq!(stage.outcome(press.update_id).await, None);
    signal(supervisor, Signal::SIGCONT);
    stage.is_started_again(bot).await;
    stage.assert_bought_once(&question, &question.prompt).await;
    assert_eq!(stage.prompts(&question).len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_after_the_order_filled_it_still_says_so() {
    let stage = Stage::new().await;
    // It was decided and bought, and the message does not say so yet.
    let question = stage.ask("BTCUSDT").await;
    stage.is_recorded(&question).await;
    let bot = stage.bot().unwrap();
    stage.telegram.fault("editMessageText", Fault::Hang, 10);
    stage.press(&question.prompt);
    wait_until(BOUND, "the order", || async { stage.at_venue(&question) == 1 }).await;
    signal(bot, Signal::SIGKILL);
    assert!(stage.prompts(&question).iter().all(|sent| !sent.buttons.is_empty()), "the buttons are still there");
    stage.telegram.outage(None);
    stage.is_started_again(bot).await;
    stage.assert_bought_once(&question, &question.prompt).await;
    assert_eq!(stage.prompts(&question).len(), 1);
}
