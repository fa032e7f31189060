//! Counters and histograms, made once for each tier and alias of the configuration: no name that a client makes up becomes
//! a series.

use std::collections::BTreeMap;
use std::time::Duration;

use metrics::{Counter, Histogram, counter, histogram};

use crate::answer::Usage;
use crate::cache::CacheKind;
use crate::config::Config;
use crate::provenance::Provenance;

/// Handles.
pub struct Meters {
    tiers: BTreeMap<String, TierMeters>,
    aliases: BTreeMap<String, AliasMeters>,
    lookups: BTreeMap<&'static str, Counter>,
    followers: Counter,
}

struct TierMeters {
    answered: Counter,
    failed: BTreeMap<&'static str, Counter>,
    queued: Histogram,
    prompt_tokens: Counter,
    completion_tokens: Counter,
    cost: Counter,
}

struct AliasMeters {
    answered: Counter,
    failed: Counter,
    overhead: Histogram,
    took: Histogram,
}

impl std::fmt::Debug for Meters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Meters(..)")
    }
}

impl Meters {
    /// Those of a configuration.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let tier = |name: &String| {
            let failed = crate::failure::Kind::ALL.iter().map(|kind| {
                let code = kind.code();
                (code, counter!("swarm_llm_attempts_total", "tier" => name.clone(), "outcome" => code))
            });
            TierMeters {
                answered: counter!("swarm_llm_attempts_total", "tier" => name.clone(), "outcome" => "ok"),
                failed: failed.collect(),
                queued: histogram!("swarm_llm_queue_seconds", "tier" => name.clone()),
                prompt_tokens: counter!("swarm_llm_tokens_total", "tier" => name.clone(), "kind" => "prompt"),
                completion_tokens: counter!("swarm_llm_tokens_total", "tier" => name.clone(), "kind" => "completion"),
                cost: counter!("swarm_llm_cost_micro_usd_total", "tier" => name.clone()),
            }
        };
        let alias = |name: &String| AliasMeters {
            answered: counter!("swarm_llm_requests_total", "alias" => name.clone(), "outcome" => "ok"),
            failed: counter!("swarm_llm_requests_total", "alias" => name.clone(), "outcome" => "failed"),
            overhead: histogram!("swarm_llm_overhead_seconds", "alias" => name.clone()),
            took: histogram!("swarm_llm_request_seconds", "alias" => name.clone()),
        };
        let kinds = CacheKind::ALL.iter().map(|kind| kind.word()).chain(["miss"]);
        Self {
            tiers: config.tiers.keys().map(|name| (name.clone(), tier(name))).collect(),
            aliases: config.aliases.keys().map(|name| (name.clone(), alias(name))).collect(),
            lookups: kinds.map(|kind| (kind, counter!("swarm_llm_cache_lookups_total", "kind" => kind))).collect(),
            followers: counter!("swarm_llm_single_flight_followers_total"),
        }
    }

    /// One look into the cache.
    pub fn lookup(&self, hit: Option<CacheKind>) {
        if let Some(counter) = self.lookups.get(hit.map_or("miss", CacheKind::word)) {
            counter.increment(1);
        }
    }

    /// One request that had or shared a flight.
    pub fn flight(&self, follows: bool) {
        if follows {
            self.followers.increment(1);
        }
    }

    /// Waited for a slot.
    pub fn queued(&self, tier: &str, waited: Duration) {
        if let Some(tier) = self.tiers.get(tier) {
            tier.queued.record(waited);
        }
    }

    /// One call of a tier.
    pub fn attempt(&self, tier: &str, outcome: &'static str) {
        let Some(tier) = self.tiers.get(tier) else { return };
        match tier.failed.get(outcome) {
            Some(failed) => failed.increment(1),
            None => tier.answered.increment(1),
        }
    }

    /// One request that ended. Its overhead is what the router itself took: all of it less waiting for slots and providers.
    pub fn ended(&self, alias: &str, outcome: &str, provenance: &Provenance, took: Duration, usage: Usage) {
        if let Some(alias) = self.aliases.get(alias) {
            if outcome == "ok" { &alias.answered } else { &alias.failed }.increment(1);
            alias.overhead.record(took.saturating_sub(provenance.upstream).saturating_sub(provenance.queued));
            alias.took.record(took);
        }
        if let Some(tier) = provenance.tier.as_deref().and_then(|tier| self.tiers.get(tier)) {
            tier.prompt_tokens.increment(usage.prompt_tokens);
            tier.completion_tokens.increment(usage.completion_tokens);
            tier.cost.increment(provenance.cost_micros);
        }
    }
}
