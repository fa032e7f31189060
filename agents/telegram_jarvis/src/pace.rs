//! How fast messages may go out: 30 a second in all, one a second to a chat, 20 a minute to a group, and not before a
//! `retry_after` is over.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use tokio::time::{Duration, Instant, sleep_until};

/// Messages in all within [`SECOND`].
const MOST_A_SECOND: usize = 30;
/// Messages to one group within [`MINUTE`].
const MOST_A_GROUP: usize = 20;
/// A second, and a little for what two clocks and a network make of it.
const SECOND: Duration = Duration::from_millis(1_050);
/// A minute, the same way.
const MINUTE: Duration = Duration::from_millis(60_500);

/// What was sent lately.
#[derive(Debug, Default)]
struct Lately {
    all: VecDeque<Instant>,
    chats: BTreeMap<i64, VecDeque<Instant>>,
    held_until: Option<Instant>,
}

impl Lately {
    /// Takes a turn now; else says when to ask again.
    fn take(&mut self, chat: i64, now: Instant) -> Result<(), Instant> {
        let is_recent = |at: &Instant, window: Duration| now.duration_since(*at) < window;
        while self.all.front().is_some_and(|at| !is_recent(at, SECOND)) {
            self.all.pop_front();
        }
        self.chats.retain(|_, sent| {
            sent.retain(|at| is_recent(at, MINUTE));
            !sent.is_empty()
        });
        let sent = self.chats.entry(chat).or_default();
        let in_all = (self.all.len() >= MOST_A_SECOND).then(|| self.all.front().map(|at| *at + SECOND)).flatten();
        let here = sent.back().map(|at| *at + SECOND);
        let in_group = (chat < 0 && sent.len() >= MOST_A_GROUP).then(|| sent.front().map(|at| *at + MINUTE)).flatten();
        let free_at = [in_all, here, in_group, self.held_until].into_iter().flatten().max();
        match free_at.filter(|at| *at > now) {
            Some(at) => Err(at),
            None => {
                sent.push_back(now);
                self.all.push_back(now);
                Ok(())
            }
        }
    }
}

/// The pace of one bot.
#[derive(Debug, Default)]
pub struct Pace(Mutex<Lately>);

impl Pace {
    /// Waits for a turn to send a message to `chat`.
    pub async fn turn(&self, chat: i64) {
        loop {
            let taken = self.0.lock().unwrap_or_else(PoisonError::into_inner).take(chat, Instant::now());
            match taken {
                Ok(()) => return,
                Err(at) => sleep_until(at).await,
            }
        }
    }

    /// The server said to wait that long.
    pub fn hold(&self, wait: Duration) {
        let until = Instant::now() + wait + Duration::from_millis(50);
        let mut lately = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lately.held_until = lately.held_until.max(Some(until));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Times at which so many messages go out, ms.
    async fn times(pace: &Pace, chats: impl Iterator<Item = i64>) -> Vec<u128> {
        let started = Instant::now();
        let mut times = Vec::new();
        for chat in chats {
            pace.turn(chat).await;
            times.push(started.elapsed().as_millis());
        }
        times
    }

    #[tokio::test(start_paused = true)]
    async fn a_chat_gets_one_message_a_second() {
        let found = times(&Pace::default(), [1, 1, 2, 1].into_iter()).await;
        assert!(found[0] == 0 && (1_050..1_060).contains(&found[1]) && found[2] == found[1], "{found:?}");
        assert!((2_100..2_120).contains(&found[3]), "{found:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn no_second_sees_more_than_thirty() {
        let found = times(&Pace::default(), 1..100).await;
        for (at, time) in found.iter().enumerate() {
            let within = found.iter().filter(|other| **other <= *time && time - **other < 1_000).count();
            assert!(within <= 30, "{within} within a second before message {at}");
        }
        assert!(found[98] < 4_000, "{found:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_group_gets_twenty_a_minute() {
        let found = times(&Pace::default(), std::iter::repeat_n(-7, 41)).await;
        assert!(found[19] < 25_000 && found[20] >= 60_000 && found[40] >= 120_000, "{found:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_that_was_asked_for_is_kept() {
        let pace = Pace::default();
        pace.hold(Duration::from_secs(7));
        pace.hold(Duration::from_secs(3));
        let found = times(&pace, [1].into_iter()).await;
        assert!((7_000..7_200).contains(&found[0]), "{found:?}");
    }
}
