//! How fast messages may go out, and whose turn comes first.
//!
//! Telegram asks for at most one message a second in a chat, lets "short bursts that go over this limit" pass, takes 30 a
//! second in all and 20 a minute in a group (<https://core.telegram.org/bots/faq#my-bot-is-hitting-limits-how-do-i-avoid-this>);
//! what is too much anyway it refuses with a `retry_after`. So every message costs its chat a second; only prompts may go
//! before that second is over, [`AHEAD`] of them, and whatever comes after them waits until all of it is paid. What the process
//! before this one sent is not known: each chat owes as much at the start as it can.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::time::{Duration, Instant, sleep_until};

/// Messages in all within [`SECOND`].
const MOST_A_SECOND: usize = 30;
/// So many of them are kept for prompts.
const KEPT_FOR_PROMPTS: usize = 5;
/// Messages to one group within [`MINUTE`].
const MOST_A_GROUP: usize = 20;
/// A second, and a little for what two clocks and a network make of it.
const SECOND: Duration = Duration::from_millis(1_050);
/// A minute, the same way.
const MINUTE: Duration = Duration::from_millis(60_500);
/// Prompts that may go to a chat before the seconds of its earlier messages are over.
const AHEAD: u32 = 2;

/// What a message is, the most urgent first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rank {
    /// Asks a person to decide.
    Prompt,
    /// Answers what a person said.
    Answer,
    /// Tells what nobody asked for.
    Notice,
}

/// A place in the queue of a chat: by rank, then first come, first served.
type Ticket = (i64, Rank, u64);

/// Why it is nobody's turn yet.
enum Wait {
    /// The chat, the bot or the server wants a pause.
    Until(Instant),
    /// Somebody goes first.
    Behind,
}

/// One chat.
#[derive(Debug, Default)]
struct Chat {
    sent: VecDeque<Instant>,
    /// When the seconds of all its messages are over.
    owes_until: Option<Instant>,
}

/// What was sent lately, and who waits.
#[derive(Debug)]
struct Lately {
    /// What a chat may owe to messages of an earlier process is over by then.
    clean_at: Instant,
    all: VecDeque<Instant>,
    chats: BTreeMap<i64, Chat>,
    held_until: Option<Instant>,
    waiting: BTreeSet<Ticket>,
    last_ticket: u64,
}

impl Lately {
    fn new(now: Instant) -> Self {
        Self {
            clean_at: now + SECOND * (AHEAD + 1),
            all: VecDeque::new(),
            chats: BTreeMap::new(),
            held_until: None,
            waiting: BTreeSet::new(),
            last_ticket: 0,
        }
    }

    fn line_up(&mut self, chat: i64, rank: Rank) -> Ticket {
        self.last_ticket += 1;
        let ticket = (chat, rank, self.last_ticket);
        self.waiting.insert(ticket);
        ticket
    }

    /// Takes the turn of a ticket now; else says what it waits for.
    fn take(&mut self, ticket: Ticket, now: Instant) -> Result<(), Wait> {
        let (chat, rank, _) = ticket;
        if self.waiting.range((chat, Rank::Prompt, 0)..ticket).next().is_some() {
            return Err(Wait::Behind);
        }
        match self.free_at(chat, rank, now).filter(|at| *at > now) {
            Some(at) => Err(Wait::Until(at)),
            None => {
                self.spend(chat, now);
                Ok(())
            }
        }
    }

    /// When a message of that rank may go to the chat; `None`: nothing speaks against it.
    fn free_at(&mut self, chat: i64, rank: Rank, now: Instant) -> Option<Instant> {
        let is_recent = |at: &Instant, window: Duration| now.duration_since(*at) < window;
        self.all.retain(|at| is_recent(at, SECOND));
        self.chats.retain(|_, chat| {
            chat.sent.retain(|at| is_recent(at, MINUTE));
            !chat.sent.is_empty()
        });
        let (most, ahead) = match rank {
            Rank::Prompt => (MOST_A_SECOND, SECOND * AHEAD),
            Rank::Answer | Rank::Notice => (MOST_A_SECOND - KEPT_FOR_PROMPTS, Duration::ZERO),
        };
        let in_all =
            self.all.len().checked_sub(most).and_then(|too_many| self.all.get(too_many)).map(|at| *at + SECOND);
        let here = self.chats.get(&chat);
        let owes_until = here.and_then(|chat| chat.owes_until).unwrap_or(self.clean_at);
        let owed = owes_until.checked_sub(ahead);
        let in_group = here.filter(|here| chat < 0 && here.sent.len() >= MOST_A_GROUP);
        let in_group = in_group.and_then(|chat| chat.sent.front()).map(|at| *at + MINUTE);
        [in_all, owed, in_group, self.held_until].into_iter().flatten().max()
    }

    fn spend(&mut self, chat: i64, now: Instant) {
        let clean_at = self.clean_at;
        let chat = self.chats.entry(chat).or_default();
        chat.owes_until = Some(chat.owes_until.unwrap_or(clean_at).max(now) + SECOND);
        chat.sent.push_back(now);
        self.all.push_back(now);
    }
}

/// The pace of one bot.
#[derive(Debug)]
pub struct Pace {
    lately: Mutex<Lately>,
    /// Somebody left the queue.
    moved: Notify,
}

/// Somebody in the queue. Whoever stops waiting leaves it.
struct Waiting<'a> {
    pace: &'a Pace,
    ticket: Ticket,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.pace.lately().waiting.remove(&self.ticket);
        self.pace.moved.notify_waiters();
    }
}

impl Pace {
    /// The pace of a process that begins now.
    #[must_use]
    pub fn new() -> Self {
        Self { lately: Mutex::new(Lately::new(Instant::now())), moved: Notify::new() }
    }

    fn lately(&self) -> MutexGuard<'_, Lately> {
        self.lately.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a turn to send a message of that rank to `chat`.
    pub async fn turn(&self, chat: i64, rank: Rank) {
        let waiting = Waiting { pace: self, ticket: self.lately().line_up(chat, rank) };
        loop {
            let moved = self.moved.notified();
            tokio::pin!(moved);
            moved.as_mut().enable();
            let taken = self.lately().take(waiting.ticket, Instant::now());
            match taken {
                Ok(()) => return,
                Err(Wait::Behind) => moved.await,
                Err(Wait::Until(at)) => tokio::select! { () = sleep_until(at) => {} () = moved => {} },
            }
        }
    }

    /// Takes a second of the chat that nobody else wants; `false` when there is none now.
    pub fn spare(&self, chat: i64) -> bool {
        let (mut lately, now) = (self.lately(), Instant::now());
        let is_wanted = lately.waiting.range((chat, Rank::Prompt, 0)..=(chat, Rank::Notice, u64::MAX)).next().is_some();
        let is_spare = !is_wanted && lately.free_at(chat, Rank::Notice, now).is_none_or(|at| at <= now);
        if is_spare {
            lately.spend(chat, now);
        }
        is_spare
    }

    /// The server said to wait that long.
    pub fn hold(&self, wait: Duration) {
        let until = Instant::now() + wait + Duration::from_millis(50);
        let mut lately = self.lately();
        lately.held_until = lately.held_until.max(Some(until));
    }

    /// Waits until the server's wait is over: all that an edit needs for which a person waits, which is no message.
    pub async fn held(&self) {
        loop {
            let until = self.lately().held_until.filter(|until| *until > Instant::now());
            match until {
                Some(until) => sleep_until(until).await,
                None => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    /// Times at which so many messages go out, ms.
    async fn times(pace: &Pace, rank: Rank, chats: impl Iterator<Item = i64>) -> Vec<u128> {
        let started = Instant::now();
        let mut times = Vec::new();
        for chat in chats {
            pace.turn(chat, rank).await;
            times.push(started.elapsed().as_millis());
        }
        times
    }

    /// A pace so long after its start that nothing is owed.
    async fn rested() -> Pace {
        let pace = Pace::new();
        tokio::time::advance(MINUTE).await;
        pace
    }

    #[tokio::test(start_paused = true)]
    async fn what_an_earlier_process_sent_is_paid_first() {
        let pace = Pace::new();
        let found = times(&pace, Rank::Prompt, [1].into_iter()).await;
        assert!((1_050..1_060).contains(&found[0]), "{found:?}");
        let found = times(&pace, Rank::Notice, [2].into_iter()).await;
        assert!((2_090..2_110).contains(&found[0]), "{found:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_chat_gets_one_message_a_second() {
        for rank in [Rank::Answer, Rank::Notice] {
            let found = times(&rested().await, rank, [1, 1, 2, 1].into_iter()).await;
            assert!(found[0] == 0 && (1_050..1_060).contains(&found[1]) && found[2] == found[1], "{found:?}");
            assert!((2_100..2_120).contains(&found[3]), "{found:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_prompt_goes_before_the_second_is_over_and_others_pay_for_it() {
        let pace = rested().await;
        assert_eq!(times(&pace, Rank::Notice, [1].into_iter()).await, [0]);
        assert_eq!(times(&pace, Rank::Prompt, [1, 1].into_iter()).await, [0, 0]);
        let next = times(&pace, Rank::Notice, [1].into_iter()).await;
        assert!((3_150..3_160).contains(&next[0]), "{next:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn many_prompts_are_one_a_second_too() {
        let found = times(&rested().await, Rank::Prompt, std::iter::repeat_n(1, 60)).await;
        for (number, time) in (0_u128..).zip(&found) {
            let paid = number.saturating_sub(u128::from(AHEAD)) * 1_050;
            assert!((paid..paid + 100).contains(time), "message {number}: {found:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_next_second_is_a_prompts_then_an_answers_then_a_notices() {
        let (pace, told) = (Arc::new(rested().await), Arc::new(Mutex::new(Vec::new())));
        // All that may go ahead has gone: now everybody waits.
        times(&pace, Rank::Prompt, std::iter::repeat_n(1, 3)).await;
        let mut tasks = tokio::task::JoinSet::new();
        for (rank, name) in [
            (Rank::Notice, "a notice"),
            (Rank::Notice, "a second notice"),
            (Rank::Answer, "an answer"),
            (Rank::Prompt, "a prompt"),
        ] {
            let (waits, told) = (Arc::clone(&pace), Arc::clone(&told));
            tasks.spawn(async move {
                waits.turn(1, rank).await;
                told.lock().unwrap().push(name);
            });
            while pace.lately().waiting.len() < tasks.len() {
                tokio::task::yield_now().await;
            }
        }
        assert!(!pace.spare(1), "there is none while somebody waits");
        tasks.join_all().await;
        assert_eq!(*told.lock().unwrap(), ["a prompt", "an answer", "a notice", "a second notice"]);
    }

    #[tokio::test(start_paused = true)]
    async fn who_stops_waiting_holds_up_nobody() {
        let pace = rested().await;
        pace.turn(1, Rank::Answer).await;
        let gone = tokio::time::timeout(Duration::from_millis(10), pace.turn(1, Rank::Answer)).await;
        assert!(gone.is_err() && pace.lately().waiting.is_empty());
        let found = times(&pace, Rank::Notice, [1].into_iter()).await;
        assert!((1_030..1_060).contains(&found[0]), "{found:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_spare_second_is_one_that_is_free_and_it_is_used_up() {
        let pace = rested().await;
        assert!(pace.spare(1) && !pace.spare(1) && pace.spare(2));
        assert_eq!(times(&pace, Rank::Prompt, [1].into_iter()).await, [0], "a prompt does not wait for it");
        tokio::time::advance(Duration::from_millis(1_100)).await;
        assert!(!pace.spare(1), "two seconds are owed");
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(pace.spare(1));
    }

    #[tokio::test(start_paused = true)]
    async fn no_second_sees_more_than_thirty_and_some_are_left_for_prompts() {
        let (pace, started) = (rested().await, Instant::now());
        let mut found = times(&pace, Rank::Notice, 1..26).await;
        found.extend(times(&pace, Rank::Prompt, 100..105).await);
        assert_eq!(found, [0; 30], "all at once");
        pace.turn(200, Rank::Prompt).await;
        assert!(started.elapsed() >= SECOND, "the thirty-first waits");
        let found = times(&rested().await, Rank::Notice, 1..100).await;
        for (at, time) in found.iter().enumerate() {
            let within = found.iter().filter(|other| **other <= *time && time - **other < 1_000).count();
            assert!(within <= 25, "{within} within a second before message {at}");
        }
        assert!(found[98] < 4_000, "{found:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_group_gets_twenty_a_minute() {
        let found = times(&rested().await, Rank::Notice, std::iter::repeat_n(-7, 41)).await;
        assert!(found[19] < 25_000 && found[20] >= 60_000 && found[40] >= 120_000, "{found:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_that_was_asked_for_is_kept_by_all() {
        let (pace, started) = (rested().await, Instant::now());
        pace.hold(Duration::from_secs(7));
        pace.hold(Duration::from_secs(3));
        assert!(!pace.spare(1));
        let found = times(&pace, Rank::Prompt, [1].into_iter()).await;
        assert!((7_000..7_200).contains(&found[0]), "{found:?}");
        pace.hold(Duration::from_secs(7));
        pace.held().await;
        assert!(started.elapsed() >= Duration::from_secs(14));
    }
}
