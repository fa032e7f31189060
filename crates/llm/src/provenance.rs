//! Where an answer came from, and what was tried for it: told with every answer, and in one line of the log.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use crate::cache::CacheKind;
use crate::failure::Kind;

/// One tier, tried or left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// Which.
    pub tier: Arc<str>,
    /// `None`: it answered.
    pub failed: Option<Kind>,
    /// Whether it was called at all.
    pub called: bool,
    /// How long it took, waiting for a slot not included.
    pub took: Duration,
}

impl Attempt {
    /// The word for how it ended.
    #[must_use]
    pub const fn outcome(&self) -> &'static str {
        match self.failed {
            None => "ok",
            Some(kind) => kind.code(),
        }
    }
}

/// A cached answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cached {
    /// By which key it was found.
    pub kind: CacheKind,
    /// How old it is.
    pub age: Duration,
}

/// Everything about one request but its words.
#[derive(Debug, Clone, Default)]
pub struct Provenance {
    /// Made by the router.
    pub request_id: String,
    /// Who answered; of a cached answer, who answered then.
    pub tier: Option<Arc<str>>,
    /// What the provider calls the model that answered.
    pub model: String,
    /// Every tier that was tried or left out, in order.
    pub attempts: Vec<Attempt>,
    /// Where it was cached.
    pub cached: Option<Cached>,
    /// Cost of this request, millionths of a dollar.
    pub cost_micros: u64,
    /// Quotas were counted without Redis.
    pub degraded: bool,
    /// Waited for a slot.
    pub queued: Duration,
    /// Waited for providers.
    pub upstream: Duration,
}

impl Provenance {
    /// A cached answer older than it should be, because every tier failed.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        self.cached.is_some_and(|cached| cached.kind == CacheKind::Stale)
    }

    /// The attempts on one line: `local=unreachable;1ms, groq=ok;203ms`. Tiers that were not called have no time.
    #[must_use]
    pub fn attempts_line(&self) -> String {
        let mut line = String::new();
        for attempt in &self.attempts {
            if !line.is_empty() {
                line.push_str(", ");
            }
            line.push_str(&attempt.tier);
            line.push('=');
            line.push_str(attempt.outcome());
            if attempt.called {
                line.push_str(&format!(";{}ms", attempt.took.as_millis()));
            }
        }
        line
    }
}

/// What one request used: a row of `llm_usage`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UsageRow {
    /// Of the request.
    pub request_id: String,
    /// When it ended, ms since the epoch.
    pub at_ms: i64,
    /// Who asked.
    pub agent: String,
    /// For whom.
    pub tenant: Option<String>,
    /// Of the work it belongs to.
    pub correlation_id: Option<String>,
    /// What was asked for.
    pub alias: String,
    /// Who answered.
    pub tier: Option<String>,
    /// What the provider calls the model.
    pub model: String,
    /// 0 to 9.
    pub priority: u8,
    /// `ok`, or the code of the failure.
    pub outcome: &'static str,
    /// By which key it was cached; `None`: it was not.
    pub cache: Option<&'static str>,
    /// Tokens of the prompt.
    pub prompt_tokens: u64,
    /// Tokens of the answer.
    pub completion_tokens: u64,
    /// Counted by us because the provider did not say.
    pub estimated: bool,
    /// Millionths of a dollar.
    pub cost_micros: u64,
    /// From arrival to end.
    pub took_ms: u64,
    /// [`Provenance::attempts_line`].
    pub attempts: String,
}

/// Takes rows without waiting; what it can't keep it counts.
pub trait UsageSink: Send + Sync + std::fmt::Debug {
    /// Takes one.
    fn take(&self, row: UsageRow);
}

/// Forgets them: a router without a record.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoRecord;

impl UsageSink for NoRecord {
    fn take(&self, _row: UsageRow) {}
}
