//! Signals that wait for a review, and what came of those that were asked about. Pure but for the wake-ups: time comes in, and
//! somebody else asks the model.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use domain::ids::MessageId;
use domain::review::{NoReview, Opinion, Review};
use domain::time::UnixMs;
use tokio::sync::Notify;

use super::reviewer::Question;

/// Signals remembered, waiting or answered.
const MOST_KEPT: usize = 256;
/// How long an answer is remembered after the signal's wait was over, ms: a commit that failed handles the signal again.
const KEPT_MS: i64 = 120_000;

/// What the desk says of a signal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Look {
    /// It waits.
    Wait,
    /// It need not wait any longer.
    Settled(Opinion),
}

#[derive(Debug)]
enum State {
    Asked(Box<Question>),
    Running,
    Settled(Result<Review, NoReview>),
}

#[derive(Debug)]
struct Entry {
    until: UnixMs,
    state: State,
    settled: Arc<Notify>,
}

/// The desk.
#[derive(Debug)]
pub struct ReviewDesk {
    max_at_once: usize,
    entries: Mutex<BTreeMap<MessageId, Entry>>,
    asked: Notify,
}

impl ReviewDesk {
    /// An empty desk, with room for so many that wait.
    #[must_use]
    pub fn new(max_at_once: usize) -> Self {
        Self { max_at_once, entries: Mutex::default(), asked: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<MessageId, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known of `signal` at `now`. The first look leaves the question; the wait is over at `until`, which later looks
    /// can't move. When as many wait as may, the signal has no review, and nothing is remembered of it.
    pub fn look(&self, signal: MessageId, now: UnixMs, until: UnixMs, question: impl FnOnce() -> Question) -> Look {
        let mut entries = self.lock();
        entries.retain(|_, entry| now.since_ms(entry.until) <= KEPT_MS);
        if let Some(entry) = entries.get_mut(&signal) {
            if !matches!(entry.state, State::Settled(_)) && now >= entry.until {
                entry.state = State::Settled(Err(NoReview::Timeout));
            }
            return match &entry.state {
                State::Settled(Ok(review)) => Look::Settled(Opinion::Reviewed(review.clone())),
                State::Settled(Err(reason)) => none(*reason),
                State::Asked(_) | State::Running => Look::Wait,
            };
        }
        if now >= until {
            return none(NoReview::Timeout);
        }
        let waiting = entries.values().filter(|entry| !matches!(entry.state, State::Settled(_))).count();
        if waiting >= self.max_at_once {
            return none(NoReview::Busy);
        }
        if entries.len() >= MOST_KEPT {
            let settled = entries.iter().filter(|(_, entry)| matches!(entry.state, State::Settled(_)));
            let oldest = settled.min_by_key(|(_, entry)| entry.until).map(|(id, _)| *id);
            oldest.and_then(|id| entries.remove(&id));
        }
        let state = State::Asked(Box::new(question()));
        entries.insert(signal, Entry { until, state, settled: Arc::default() });
        self.asked.notify_one();
        Look::Wait
    }

    /// The next question that nobody has asked yet; whoever takes it asks it.
    #[must_use]
    pub fn take(&self) -> Option<Question> {
        self.lock().values_mut().find_map(|entry| {
            if !matches!(entry.state, State::Asked(_)) {
                return None;
            }
            match std::mem::replace(&mut entry.state, State::Running) {
                State::Asked(question) => Some(*question),
                State::Running | State::Settled(_) => None,
            }
        })
    }

    /// Waits for a question that nobody has asked yet.
    pub async fn next(&self) -> Question {
        loop {
            let asked = self.asked.notified();
            if let Some(question) = self.take() {
                return question;
            }
            asked.await;
        }
    }

    /// What came of a question. Nothing of a signal whose wait is over, or that was forgotten.
    pub fn settle(&self, signal: MessageId, outcome: Result<Review, NoReview>) {
        if let Some(entry) = self.lock().get_mut(&signal)
            && matches!(entry.state, State::Running)
        {
            entry.state = State::Settled(outcome);
            entry.settled.notify_one();
        }
    }

    /// Resolves when `signal` has been settled; never for one that is not here.
    pub async fn settled(&self, signal: MessageId) {
        let settled = self.lock().get(&signal).map(|entry| Arc::clone(&entry.settled));
        match settled {
            Some(settled) => settled.notified().await,
            None => std::future::pending().await,
        }
    }

    /// The signal was handled for good.
    pub fn forget(&self, signal: MessageId) {
        self.lock().remove(&signal);
    }

    /// How many are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Nothing is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }
}

const fn none(reason: NoReview) -> Look {
    Look::Settled(Opinion::NoOpinion { reason })
}
