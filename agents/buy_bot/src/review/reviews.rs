//! Reviews of one process: what a handler looks at, and the work that asks.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use domain::ids::{MessageId, UserId};
use domain::market::{Candle, InstrumentId};
use domain::message::{Envelope, PositionChanged};
use domain::order::OrderIntent;
use domain::review::{NoReview, Opinion};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use runtime::{CancellationToken, Ctx};

use super::desk::{Look, ReviewDesk};
use super::prompt::prompt;
use super::reviewer::{Question, Reviewer};
use super::situation::{Situation, Tape};
use super::{Birth, Effect, ReviewConfig, effect, is_asked};

/// Positions remembered; of further ones nothing is known.
const MOST_POSITIONS: usize = 10_000;

/// Reviews of one process.
#[derive(Debug)]
pub struct Reviews {
    config: ReviewConfig,
    reviewer: Option<Arc<dyn Reviewer>>,
    desk: ReviewDesk,
    seen: Mutex<Seen>,
}

/// What a question is made of besides the signal.
#[derive(Debug)]
struct Seen {
    tape: Tape,
    held: BTreeMap<(UserId, InstrumentId), bool>,
}

impl Reviews {
    /// Reviews by `reviewer`; without one every review that is wanted is missing.
    #[must_use]
    pub fn new(config: ReviewConfig, reviewer: Option<Arc<dyn Reviewer>>) -> Self {
        let seen = Seen { tape: Tape::new(config.bar_interval_ms, config.bars), held: BTreeMap::new() };
        Self { desk: ReviewDesk::new(config.max_at_once), config, reviewer, seen: Mutex::new(seen) }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The signals that wait.
    #[must_use]
    pub const fn desk(&self) -> &ReviewDesk {
        &self.desk
    }

    /// What there is not; `None` when signals are reviewed.
    #[must_use]
    pub fn lack(&self) -> Option<String> {
        let why = match (self.config.enabled, &self.reviewer) {
            (true, Some(_)) => return None,
            (true, None) => "SWARM_LLM_URL is not set",
            (false, _) => "config/review.toml switches it off",
        };
        Some(format!("no model reviews P0-P7 signals, ideas of models are held: {why}"))
    }

    /// Takes in a closed candle.
    pub fn on_candle(&self, candle: &Candle) {
        self.seen().tape.push(candle);
    }

    /// Takes in what somebody holds.
    pub fn on_position(&self, position: &PositionChanged, user: UserId) {
        let mut seen = self.seen();
        let key = (user, position.instrument.clone());
        if seen.held.len() < MOST_POSITIONS || seen.held.contains_key(&key) {
            seen.held.insert(key, !position.quantity.is_zero());
        }
    }

    /// What a model says of a planned signal, as far as that is known.
    pub fn look(&self, intent: &OrderIntent, birth: Birth, input: &Envelope, ctx: &Ctx<'_>) -> Look {
        let priority = input.subject.priority();
        if !is_asked(birth, intent.side, priority) {
            return Look::Settled(Opinion::NotAsked);
        }
        if !self.config.enabled {
            return Look::Settled(Opinion::NoOpinion { reason: NoReview::Off });
        }
        if self.reviewer.is_none() {
            return Look::Settled(Opinion::NoOpinion { reason: NoReview::NotConfigured });
        }
        let last = intent.valid_until.plus_ms(self.config.valid_until_margin_ms.saturating_neg());
        let until = ctx.now.plus_ms(self.config.deadline_ms).min(last);
        self.desk.look(intent.signal_id, ctx.now, until, || {
            let seen = self.seen();
            let holds = seen.held.get(&(intent.user_id, intent.instrument.clone())).copied();
            let tick = ctx.market.tick(&intent.instrument);
            Question {
                signal_id: intent.signal_id,
                correlation_id: input.header.correlation_id,
                user_id: intent.user_id,
                priority: u8::try_from(priority.number()).unwrap_or(0),
                deadline_ms: u64::try_from(until.since_ms(ctx.now)).unwrap_or(0),
                prompt: prompt(&Situation::of(intent, birth, ctx.now, tick.as_ref(), &seen.tape, holds)),
            }
        })
    }

    /// What an opinion does.
    #[must_use]
    pub fn effect(&self, intent: &OrderIntent, birth: Birth, opinion: &Opinion) -> Effect {
        effect(birth, intent.side, opinion, self.config.min_confidence_percent)
    }

    /// Asks one question and leaves the answer.
    pub async fn answer(&self, question: Question) {
        let outcome = match &self.reviewer {
            Some(reviewer) => reviewer.review(&question).await,
            None => Err(NoReview::NotConfigured),
        };
        self.desk.settle(question.signal_id, outcome);
    }

    async fn answer_in_time(&self, question: Question) {
        let (signal, limit) = (question.signal_id, Duration::from_millis(question.deadline_ms));
        if tokio::time::timeout(limit, self.answer(question)).await.is_err() {
            self.desk.settle(signal, Err(NoReview::Timeout));
        }
    }

    /// Asks whatever is to be asked, several at once, until `shutdown`; `progress` is called after each answer.
    pub async fn run(&self, shutdown: &CancellationToken, progress: impl Fn()) {
        let mut running = FuturesUnordered::new();
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                question = self.desk.next(), if running.len() < self.config.max_at_once => {
                    running.push(self.answer_in_time(question));
                }
                Some(()) = running.next() => progress(),
            }
        }
    }

    /// Resolves when a signal that waits has been answered.
    pub async fn settled(&self, signal: MessageId) {
        self.desk.settled(signal).await;
    }
}
