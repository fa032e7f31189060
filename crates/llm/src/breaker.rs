//! When a tier is left alone: a breaker with a true half-open state, and a cooldown for tiers that are busy.
//!
//! Five failures in a row open the breaker, or half of the calls of a minute when there were enough of them. After its time
//! exactly one call is let through; everybody else goes on to the next tier until that one call said how the tier is. A timer
//! that ran out is no recovery. A cooldown is for 429: the tier is well, but it does not want us now.
//!
//! Pure but for a lock: time comes in as an argument.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use crate::failure::{Counts, Failure, Kind};

/// Its numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Settings {
    /// Failures in a row that open it.
    pub failures: u32,
    /// How long it stays open before a probe.
    pub open: Duration,
    /// So many calls of a window that failed open it too, percent...
    pub share_percent: u32,
    /// ...of at least so many calls.
    pub share_of_calls: u32,
    /// The window.
    pub window: Duration,
    /// 429s within the window that begin a cooldown.
    pub cooldown_failures: u32,
    /// How long it is.
    pub cooldown: Duration,
}

/// What it is doing, as people see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Calls pass.
    Closed,
    /// No call passes.
    Open,
    /// One call is under way to find out.
    HalfOpen,
    /// Left alone because it is busy.
    Cooling,
    /// Closed to us until the configuration changes: the provider refuses our key.
    Rejected,
}

impl Phase {
    /// The word for metrics and people.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
            Self::Cooling => "cooling",
            Self::Rejected => "rejected",
        }
    }
}

/// Most calls that a window remembers.
const MOST_CALLS: usize = 4_096;
/// A cooldown is never longer, whatever a provider asks for.
const LONGEST_COOLDOWN: Duration = Duration::from_secs(86_400);

#[derive(Debug)]
enum State {
    Closed,
    Open { until: Instant },
    HalfOpen,
    Rejected,
}

#[derive(Debug)]
struct Inner {
    state: State,
    /// Counts the openings: how a call of an earlier time ended says nothing about now.
    generation: u64,
    in_a_row: u32,
    /// When each call of the window ended, and whether it failed.
    calls: VecDeque<(Instant, bool)>,
    busy: VecDeque<Instant>,
    cooling_until: Option<Instant>,
    opened: u64,
    last_failure: Option<Kind>,
}

/// The breaker of one tier.
#[derive(Debug)]
pub struct Breaker {
    settings: Settings,
    inner: Mutex<Inner>,
}

/// The right to call once. Dropped without a word it changes nothing: whoever waited went away.
#[derive(Debug)]
pub struct Pass {
    breaker: Arc<Breaker>,
    generation: u64,
    is_probe: bool,
    is_spent: bool,
}

/// Why there is no call now, and when to ask again.
pub type Closed = (Kind, Duration);

impl Breaker {
    /// A closed one.
    #[must_use]
    pub const fn new(settings: Settings) -> Self {
        let inner = Inner {
            state: State::Closed,
            generation: 0,
            in_a_row: 0,
            calls: VecDeque::new(),
            busy: VecDeque::new(),
            cooling_until: None,
            opened: 0,
            last_failure: None,
        };
        Self { settings, inner: Mutex::new(inner) }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether [`Breaker::pass`] would give a right now.
    ///
    /// # Errors
    /// Why not, and for how long.
    pub fn look(&self, now: Instant) -> Result<(), Closed> {
        self.inner().look(now, self.settings.open)
    }

    /// The right to call once. Taken last, after waiting for everything else, because the one probe must be a call.
    ///
    /// # Errors
    /// Why not, and for how long.
    pub fn pass(self: &Arc<Self>, now: Instant) -> Result<Pass, Closed> {
        let mut inner = self.inner();
        inner.look(now, self.settings.open)?;
        let is_probe = matches!(inner.state, State::Open { .. });
        if is_probe {
            inner.state = State::HalfOpen;
        }
        Ok(Pass { breaker: Arc::clone(self), generation: inner.generation, is_probe, is_spent: false })
    }

    /// What it is doing.
    #[must_use]
    pub fn phase(&self, now: Instant) -> Phase {
        let inner = self.inner();
        match inner.state {
            State::Rejected => Phase::Rejected,
            State::HalfOpen => Phase::HalfOpen,
            State::Open { .. } => Phase::Open,
            State::Closed if inner.cooling_until.is_some_and(|until| now < until) => Phase::Cooling,
            State::Closed => Phase::Closed,
        }
    }

    /// How often it opened, and what failed last.
    #[must_use]
    pub fn history(&self) -> (u64, Option<Kind>) {
        let inner = self.inner();
        (inner.opened, inner.last_failure)
    }

    /// Closes it: a person asked for it, or the tier answered a test.
    pub fn reset(&self) {
        let mut inner = self.inner();
        inner.close();
        inner.cooling_until = None;
        inner.busy.clear();
    }
}

impl Inner {
    fn look(&self, now: Instant, open: Duration) -> Result<(), Closed> {
        match self.state {
            State::Rejected => return Err((Kind::Unauthorized, open)),
            // Until the probe ends nobody knows more than before.
            State::HalfOpen => return Err((Kind::BreakerOpen, Duration::from_secs(1))),
            State::Open { until } if now < until => return Err((Kind::BreakerOpen, until - now)),
            State::Open { .. } | State::Closed => {}
        }
        match self.cooling_until {
            Some(until) if now < until => Err((Kind::CoolingDown, until - now)),
            _ => Ok(()),
        }
    }

    fn close(&mut self) {
        self.state = State::Closed;
        self.generation += 1;
        self.in_a_row = 0;
        self.calls.clear();
    }

    fn open(&mut self, until: Instant) {
        self.state = State::Open { until };
        self.generation += 1;
        self.opened += 1;
        self.in_a_row = 0;
        self.calls.clear();
    }

    fn remember(&mut self, now: Instant, window: Duration, failed: bool) {
        self.calls.push_back((now, failed));
        while self.calls.len() > MOST_CALLS || self.calls.front().is_some_and(|(at, _)| now - *at > window) {
            self.calls.pop_front();
        }
    }

    fn share_is_reached(&self, settings: &Settings) -> bool {
        let failed = self.calls.iter().filter(|(_, failed)| *failed).count();
        self.calls.len() >= settings.share_of_calls as usize
            && failed * 100 >= self.calls.len() * settings.share_percent as usize
    }
}

impl Pass {
    /// Whether this call is the one that finds out how an open tier is.
    #[must_use]
    pub const fn is_probe(&self) -> bool {
        self.is_probe
    }

    /// The tier answered.
    pub fn succeeded(mut self, now: Instant) {
        self.is_spent = true;
        let settings = self.breaker.settings;
        let mut inner = self.breaker.inner();
        if inner.generation != self.generation {
            return;
        }
        if self.is_probe {
            inner.close();
        }
        inner.in_a_row = 0;
        inner.remember(now, settings.window, false);
    }

    /// It did not, and this is why. Says whether the breaker opened now.
    pub fn failed(mut self, now: Instant, failure: &Failure) -> bool {
        self.is_spent = true;
        let settings = self.breaker.settings;
        let mut inner = self.breaker.inner();
        if failure.kind.counts() != Counts::Nothing {
            inner.last_failure = Some(failure.kind);
        }
        // A provider's wish holds whenever the call began.
        if failure.kind.counts() == Counts::Cooldown {
            inner.busy.push_back(now);
            while inner.busy.front().is_some_and(|at| now - *at > settings.window) {
                inner.busy.pop_front();
            }
            let is_much = inner.busy.len() >= settings.cooldown_failures as usize;
            let asked = failure.retry_after.unwrap_or_default().min(LONGEST_COOLDOWN);
            let pause = if is_much { asked.max(settings.cooldown) } else { asked };
            let until = now + pause;
            if inner.cooling_until.is_none_or(|before| before < until) {
                inner.cooling_until = Some(until);
            }
        }
        if inner.generation != self.generation {
            return false;
        }
        match failure.kind.counts() {
            Counts::UntilChange => {
                inner.open(now);
                inner.state = State::Rejected;
                true
            }
            Counts::Breaker => {
                inner.in_a_row += 1;
                inner.remember(now, settings.window, true);
                let is_ill = inner.in_a_row >= settings.failures || inner.share_is_reached(&settings);
                if self.is_probe || is_ill {
                    inner.open(now + settings.open);
                }
                self.is_probe || is_ill
            }
            // It spoke: it is there. What it said is for the cooldown or the caller.
            Counts::Cooldown | Counts::Nothing => {
                if self.is_probe {
                    inner.close();
                }
                false
            }
        }
    }

    /// Nothing was learned, as when whoever waited went away: the next caller may probe at once.
    fn give_back(&mut self) {
        let mut inner = self.breaker.inner();
        if self.is_probe && inner.generation == self.generation && matches!(inner.state, State::HalfOpen) {
            inner.state = State::Open { until: Instant::now() };
        }
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        if !self.is_spent {
            self.give_back();
        }
    }
}

#[cfg(test)]
mod tests;
