//! What people and dashboards see of the router.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use super::Router;
use crate::breaker::Phase;
use crate::cache;
use crate::config::{Access, AliasKind};
use crate::failure::Failure;
use crate::quota::QuotaState;
use crate::request::ChatRequest;

/// How one tier is.
#[derive(Debug, Clone, Serialize)]
pub struct TierState {
    /// Its name.
    pub name: String,
    /// The provider's API.
    pub adapter: &'static str,
    /// Where it is.
    pub base_url: String,
    /// The model.
    pub model: String,
    /// Why it is off; `None`: it is on.
    pub off: Option<String>,
    /// What its breaker does.
    pub breaker: Phase,
    /// How long until it may be asked again, ms.
    pub retry_in_ms: Option<u64>,
    /// How often its breaker opened.
    pub opened: u64,
    /// What failed last.
    pub last_failure: Option<&'static str>,
    /// Calls made.
    pub calls: u64,
    /// Those that failed.
    pub failures: u64,
    /// How long its answers usually take, ms.
    pub usual_ms: u64,
    /// Requests that wait for a slot.
    pub waiting: usize,
    /// Requests that have one.
    pub running: usize,
    /// How many there are; 0: no bound.
    pub slots: usize,
    /// Costs money.
    pub paid: bool,
}

/// One alias and its chain.
#[derive(Debug, Clone, Serialize)]
pub struct AliasState {
    /// Its name.
    pub name: String,
    /// `chat` or `embeddings`.
    pub kind: &'static str,
    /// Tiers in order.
    pub tiers: Vec<String>,
    /// Whether a cached answer may stand in.
    pub stale: bool,
}

/// Everything.
#[derive(Debug, Clone, Serialize)]
pub struct RouterState {
    /// Aliases.
    pub aliases: Vec<AliasState>,
    /// Tiers.
    pub tiers: Vec<TierState>,
    /// Quotas and budgets.
    pub quota: QuotaState,
    /// Cached answers.
    pub cache: cache::Stats,
    /// Requests under way.
    pub running: usize,
}

/// How a tier answered a test.
#[derive(Debug, Clone, Serialize)]
pub struct Tested {
    /// Which.
    pub tier: String,
    /// Whether it answered.
    pub ok: bool,
    /// In how long, ms.
    pub took_ms: u64,
    /// What it said, or why not; cut.
    pub text: String,
}

impl Router {
    /// What people see.
    #[must_use]
    pub fn state(&self) -> RouterState {
        let now = Instant::now();
        let tiers = self.tiers.values().map(|tier| {
            let (opened, last_failure) = tier.breaker.history();
            let (calls, failures) = tier.counts();
            let (waiting, running) = tier.gate.as_ref().map_or((0, 0), |gate| gate.depth());
            TierState {
                name: tier.config.name.clone(),
                adapter: tier.config.adapter.word(),
                base_url: tier.config.base_url.clone(),
                model: tier.config.model.clone(),
                off: match &tier.config.access {
                    Access::Missing(variable) => Some(format!("{variable} is not set")),
                    Access::Open | Access::Keyed(_) => None,
                },
                breaker: tier.breaker.phase(now),
                retry_in_ms: tier.breaker.look(now).err().map(|(_, wait)| ms(wait)),
                opened,
                last_failure: last_failure.map(|kind| kind.code()),
                calls,
                failures,
                usual_ms: ms(tier.usual_latency()),
                waiting,
                running,
                slots: tier.config.slots,
                paid: tier.config.paid,
            }
        });
        let aliases = self.config.aliases.values().map(|alias| AliasState {
            name: alias.name.clone(),
            kind: match alias.kind {
                AliasKind::Chat => "chat",
                AliasKind::Embeddings => "embeddings",
            },
            tiers: alias.tiers.clone(),
            stale: alias.stale,
        });
        RouterState {
            aliases: aliases.collect(),
            tiers: tiers.collect(),
            quota: self.quota.state(),
            cache: self.cache.stats(),
            running: self.config.bounds.max_at_once - self.at_once.available_permits(),
        }
    }

    /// Asks one tier a small question, past its breaker and queue; when it answers, its breaker closes. `None`: no such tier.
    pub async fn test(self: &Arc<Self>, tier: &str) -> Option<Tested> {
        let tier = self.tiers.get(tier)?;
        let began = Instant::now();
        let until = began + tier.config.total;
        let answered = if tier.is_off() {
            Err(Failure::new(crate::failure::Kind::Off, "its key is not set"))
        } else if self.serves_vectors(&tier.config.name) {
            tier.embed(&["test".to_owned()], until)
                .await
                .map(|(vectors, _)| format!("a vector of {} dimensions", vectors.vectors.first().map_or(0, Vec::len)))
        } else {
            tier.whole(&ChatRequest::plain(&tier.config.model, "Answer with the word OK.", 16), until)
                .await
                .map(|(answer, _)| answer.content.chars().take(80).collect())
        };
        if answered.is_ok() {
            tier.breaker.reset();
        }
        Some(Tested {
            tier: tier.config.name.clone(),
            ok: answered.is_ok(),
            took_ms: ms(began.elapsed()),
            text: answered.unwrap_or_else(|failure| failure.to_string()),
        })
    }

    fn serves_vectors(&self, tier: &str) -> bool {
        let mut aliases = self.config.aliases.values().filter(|alias| alias.tiers.iter().any(|name| name == tier));
        aliases.all(|alias| alias.kind == AliasKind::Embeddings)
    }
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
