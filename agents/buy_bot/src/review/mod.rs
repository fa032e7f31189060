//! What a language model has to say about a signal before it becomes an intent, and what that may do.
//!
//! A model can hold back what a model had the idea of, and nothing else. It never makes an order, never makes one larger,
//! and never keeps a person or a rule from theirs:
//!
//! | signal | asked | agrees, sure enough | agrees, unsure or stale | objects | no opinion |
//! |---|---|---|---|---|---|
//! | person's BUY, P0-P7 | yes | goes | goes | goes, and the person is told | goes |
//! | model's BUY, P0-P7 | yes | goes | held | held | held |
//! | person's BUY, P8-P9 | no | | | | goes |
//! | model's BUY, P8-P9 | no | | | | held: being urgent is no way around the review |
//! | strategy's, any | no | | | | goes |
//! | SELL, any | no | | | | goes: an exit waits for no model |
//!
//! Whose idea it is is told by the door it came through, never by the message: what comes over [`Route::Idea`] is a model's,
//! also when it names a strategy, for that name is the sender's own word. A strategy's signals are made inside this process.
//!
//! What was said goes into the intent ([`domain::review::Opinion`]) and with it into treasury's audit row. No rail is given it.
//!
//! # How a handler waits
//! A review takes seconds and a handler runs inside a database transaction, so it does not wait: it leaves the question on the
//! [`ReviewDesk`] and answers [`runtime::HandleError::NotYet`]. The background work asks the model; the handler, called again,
//! finds the answer or that the time is over. At most `max_at_once` signals wait; that is fewer than one stream has places in
//! hand, so a model that hangs never keeps a sale behind it from being taken. What is urgent comes over another stream anyway. A
//! crash forgets the desk, and the signal, which was not acknowledged, asks anew.

pub mod desk;
pub mod prompt;
pub mod reviewer;
pub mod reviews;
pub mod situation;

use std::sync::Arc;

use domain::money::Usd;
use domain::order::Side;
use domain::review::{NoReview, Opinion, Percent, Verdict};
use domain::subject::{Priority, Route};
use runtime::ConfigFaults;

use crate::config::{ConfigError, checked};

pub use desk::{Look, ReviewDesk};
pub use prompt::{Prompt, prompt};
pub use reviewer::{Bounds, ModelReviewer, Question, Reviewer};
pub use reviews::Reviews;
pub use situation::{Situation, Tape};

/// Most signals that may wait: two fewer than a stream has places in hand.
const MOST_AT_ONCE: i64 = 6;

/// Contents of `config/review.toml`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReviewConfig {
    /// Reviews are wanted at all.
    pub enabled: bool,
    /// Alias of the model at the router.
    pub model: String,
    /// Longest wait, ms.
    pub deadline_ms: i64,
    /// No signal waits later than this before its own end, ms.
    pub valid_until_margin_ms: i64,
    /// Least confidence of an agreement that an idea of a model needs.
    pub min_confidence_percent: Percent,
    /// Reviews at once.
    pub max_at_once: usize,
    /// Longest answer, tokens.
    pub max_tokens: u32,
    /// Length of the candles that a question tells of, ms.
    pub bar_interval_ms: i64,
    /// Closed candles that a question tells of.
    pub bars: usize,
}

impl ReviewConfig {
    /// Reads the text of `config/review.toml`.
    ///
    /// # Errors
    /// [`ConfigError`] with all faults.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        checked("review.toml", text, |section| Self {
            enabled: section.flag("enabled"),
            model: section.text("model"),
            deadline_ms: section.whole("deadline_ms", 1, 30_000),
            valid_until_margin_ms: section.whole("valid_until_margin_ms", 0, 600_000),
            min_confidence_percent: u32::try_from(section.whole("min_confidence_percent", 0, 100))
                .ok()
                .and_then(Percent::new)
                .unwrap_or_default(),
            max_at_once: usize::try_from(section.whole("max_at_once", 1, MOST_AT_ONCE)).unwrap_or(1),
            max_tokens: u32::try_from(section.whole("max_tokens", 16, 4_096)).unwrap_or(16),
            bar_interval_ms: section.whole("bar_interval_ms", 1_000, domain::time::DAY_MS),
            bars: usize::try_from(section.whole("bars", 2, 500)).unwrap_or(2),
        })
    }
}

/// Whose idea a signal is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Birth {
    /// A person's, through their own door.
    Person,
    /// A rule's, made in this process from a closed candle.
    Strategy,
    /// A model's: whatever an agent sends.
    Model,
}

impl Birth {
    /// By the door it came through.
    #[must_use]
    pub const fn of(route: Route) -> Self {
        match route {
            Route::Signal | Route::UserSignal => Self::Person,
            Route::Candle => Self::Strategy,
            _ => Self::Model,
        }
    }

    /// The word in prompts and notices.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Person => "person",
            Self::Strategy => "strategy",
            Self::Model => "model",
        }
    }
}

/// Whether a model is asked about such a signal.
#[must_use]
pub fn is_asked(birth: Birth, side: Side, priority: Priority) -> bool {
    birth != Birth::Strategy && side == Side::Buy && priority < Priority::Urgent
}

/// What an opinion does to a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Nothing.
    Go,
    /// Nothing, but whoever asked is told that a model objects.
    GoAndTell,
    /// There is no intent.
    Hold(Held),
}

/// Why an idea of a model is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    /// A model objects.
    Objected,
    /// A model agrees, and is not sure enough.
    Unsure,
    /// A model agreed some time ago, and none could be asked now.
    Stale,
    /// There is no review.
    NoReview(NoReview),
    /// It was too urgent for a review.
    TooUrgent,
}

impl Held {
    /// Its stable word, told as the `reason` of the notice `SIGNAL_HELD`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Objected => "objected",
            Self::Unsure => "unsure",
            Self::Stale => "stale",
            Self::NoReview(reason) => reason.word(),
            Self::TooUrgent => "too_urgent",
        }
    }

    /// Every word there is.
    #[must_use]
    pub fn words() -> Vec<&'static str> {
        let own = [Self::Objected, Self::Unsure, Self::Stale, Self::TooUrgent].map(Self::word);
        own.into_iter().chain(NoReview::ALL.iter().map(|reason| reason.word())).collect()
    }
}

/// What an opinion does to a signal: the table of this module.
#[must_use]
pub fn effect(birth: Birth, side: Side, opinion: &Opinion, min_confidence_percent: Percent) -> Effect {
    let objects = matches!(opinion, Opinion::Reviewed(review) if review.verdict() == Verdict::Object);
    if side == Side::Sell || birth != Birth::Model {
        return if objects { Effect::GoAndTell } else { Effect::Go };
    }
    match opinion {
        Opinion::NotAsked => Effect::Hold(Held::TooUrgent),
        Opinion::NoOpinion { reason } => Effect::Hold(Held::NoReview(*reason)),
        Opinion::Reviewed(_) if objects => Effect::Hold(Held::Objected),
        Opinion::Reviewed(review) if review.is_stale() => Effect::Hold(Held::Stale),
        Opinion::Reviewed(review) if review.confidence_percent() < min_confidence_percent => Effect::Hold(Held::Unsure),
        Opinion::Reviewed(_) => Effect::Go,
    }
}

/// Reads `SWARM_LLM_URL` and `SWARM_LLM_KEY`, and makes the reviewer that they lead to; `None` without an address, or without a
/// configuration, whose faults are told elsewhere.
///
/// # Errors
/// Every fault of the two.
pub fn reviewer_of(
    config: Option<&ReviewConfig>,
    var: impl Fn(&str) -> Option<String>,
) -> Result<Option<Arc<dyn Reviewer>>, ConfigFaults> {
    let (url, key) = (var("SWARM_LLM_URL"), var("SWARM_LLM_KEY"));
    let access = llm::client::Access::read(url.as_deref(), key.as_deref());
    let mut faults = ConfigFaults::new();
    let bounds = Bounds::read(&var).map_err(|wrong| {
        wrong.into_iter().for_each(|name| faults.add(name, "must be a whole number above zero, as `swarm up` sets it"));
    });
    match access {
        Ok(None) => return Ok(None),
        Ok(Some(access)) => match (llm::client::Client::new(access), config, bounds) {
            (Ok(client), Some(config), Ok(bounds)) => {
                let reviewer = ModelReviewer::new(client, config.model.clone(), config.max_tokens, bounds);
                return Ok(Some(Arc::new(reviewer)));
            }
            (Ok(_), _, Err(())) => {}
            (Ok(_), None, Ok(_)) => return Ok(None),
            (Err(error), ..) => faults.add("SWARM_LLM_URL", error),
        },
        Err(wrong) => wrong.into_iter().for_each(|(variable, why)| faults.add(variable, why)),
    }
    Err(faults)
}

/// The dollars of a planned buy at its worst price; zero for what has no size yet.
fn dollars(intent: &domain::order::OrderIntent) -> Usd {
    match intent.amount {
        domain::order::Amount::Exactly(quantity) => intent.worst_price.notional_down(quantity).unwrap_or(Usd::ZERO),
        domain::order::Amount::All => Usd::ZERO,
    }
}

#[cfg(test)]
mod tests;
