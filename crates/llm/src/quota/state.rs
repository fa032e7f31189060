//! What was used, told by the record before and by a process that runs.

use std::collections::BTreeMap;

use serde::Serialize;

use super::tally::Hold;
use super::{Limits, NO_TIER, Quota, Windows};

/// What was used before this process began, from the record of spending.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Record {
    /// By tier.
    pub tiers: BTreeMap<String, RecordedUse>,
    /// What each agent spent this UTC month, millionths of a US dollar.
    pub agents: BTreeMap<String, u64>,
}

/// What a tier used in the provider's day and month of now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RecordedUse {
    /// Requests today.
    pub day_requests: u64,
    /// Tokens today.
    pub day_tokens: u64,
    /// Money today, millionths of a US dollar.
    pub day_usd_micros: u64,
    /// Money this month, millionths of a US dollar.
    pub month_usd_micros: u64,
}

impl Quota {
    /// What this process knows, for people and metrics.
    #[must_use]
    pub fn state(&self) -> QuotaState {
        let now = self.shared.clock.now();
        let books = self.shared.books();
        let tiers = books.tiers.iter().filter(|(name, _)| &***name != NO_TIER).map(|(name, book)| {
            let windows = Windows::at(now, book.limits.day_starts_at_minutes_utc);
            let view = books.view(name, windows);
            let held = |hold: Hold| (now.0 < hold.until_ms).then_some(hold.left);
            let state = TierState {
                limits: book.limits.clone(),
                minute_requests: view.minute_requests,
                minute_tokens: view.minute_tokens,
                day_requests: view.day_requests,
                day_tokens: view.day_tokens,
                day_usd_micros: view.day_cost,
                month_usd_micros: view.month_cost,
                open: book.open,
                provider_requests_left: held(view.hold_requests),
                provider_tokens_left: held(view.hold_tokens),
            };
            (name.to_string(), state)
        });
        let month = Windows::at(now, 0).month;
        let agents = books.agents.spent.keys().map(|name| (name.to_string(), books.spent(name, month)));
        QuotaState {
            degraded: books.ready.is_none(),
            degraded_decisions: books.degraded,
            tiers: tiers.collect(),
            agents_usd_micros: agents.collect(),
        }
    }
}

/// What a process knows of all quotas.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct QuotaState {
    /// Whether it decides alone right now.
    pub degraded: bool,
    /// Decisions it made alone since it began.
    pub degraded_decisions: u64,
    /// Tiers that have limits.
    pub tiers: BTreeMap<String, TierState>,
    /// What agents with a cap spent this UTC month, millionths of a US dollar.
    pub agents_usd_micros: BTreeMap<String, u64>,
}

/// What a process knows of one tier; open reservations count in full.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TierState {
    /// What it may use.
    pub limits: Limits,
    /// Requests this minute.
    pub minute_requests: u64,
    /// Tokens this minute.
    pub minute_tokens: u64,
    /// Requests today.
    pub day_requests: u64,
    /// Tokens today.
    pub day_tokens: u64,
    /// Money today, millionths of a US dollar.
    pub day_usd_micros: u64,
    /// Money this month, millionths of a US dollar.
    pub month_usd_micros: u64,
    /// Reservations of this process that are neither settled nor released.
    pub open: u64,
    /// Requests left by the provider's word, while that holds.
    pub provider_requests_left: Option<u64>,
    /// Tokens left by the provider's word, while that holds.
    pub provider_tokens_left: Option<u64>,
}
