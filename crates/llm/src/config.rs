//! `config/llm.toml` and the environment, read into checked values, all faults at once. No value has a default.
//!
//! The environment overrides where a tier is (`LLM_<TIER>_URL`, `LLM_<TIER>_MODEL`, `LLM_<TIER>_ADAPTER`) and holds its key
//! under the name that the file gives. A tier whose key is not there is off and says so; that is no fault.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rust_decimal::Decimal;
use settings::{Section, checked};

use crate::adapter::Adapter;
use crate::breaker;
use crate::cache;
use crate::money::micros_of_usd;
use crate::quota::{Limits, Prices};
use crate::request::{HIGHEST_PRIORITY, URGENT_PRIORITY};

/// A key of a provider. Never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Key(String);

impl Key {
    /// Its text, for the one header that carries it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

/// Whether a tier can be asked at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Access {
    /// No key needed.
    Open,
    /// With this key.
    Keyed(Key),
    /// Off: this variable is not set.
    Missing(String),
}

/// One model at one provider.
#[derive(Debug, Clone, PartialEq)]
pub struct TierConfig {
    /// Its name.
    pub name: String,
    /// The provider's API.
    pub adapter: Adapter,
    /// Without a slash at the end.
    pub base_url: String,
    /// Key.
    pub access: Access,
    /// The provider's name of the model.
    pub model: String,
    /// Prompt and answer together.
    pub context_tokens: u64,
    /// Bound of an answer.
    pub max_output_tokens: u64,
    /// Until a stream's first content.
    pub first_token: Duration,
    /// Between parts of a stream.
    pub idle: Duration,
    /// Of one try.
    pub total: Duration,
    /// Requests at once; 0: no bound.
    pub slots: usize,
    /// Requests that may wait for a slot.
    pub queue: usize,
    /// Time in which a waiting request gains one priority.
    pub ageing: Duration,
    /// The model goes on with a message of the assistant.
    pub prefill: bool,
    /// Costs money, or a quota that does.
    pub paid: bool,
    /// What tokens cost.
    pub prices: Prices,
    /// Quotas and budgets.
    pub limits: Limits,
}

/// What an alias is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AliasKind {
    /// Chat completions.
    Chat,
    /// Vectors of texts.
    Embeddings,
}

/// What clients ask for as `model`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AliasConfig {
    /// Its name.
    pub name: String,
    /// What for.
    pub kind: AliasKind,
    /// Tiers in their order.
    pub tiers: Vec<String>,
    /// Of a request that does not say its own.
    pub deadline: Duration,
    /// A cached answer may stand in when every tier failed.
    pub stale: bool,
    /// Requests below this priority prefer a cached answer to a paid tier.
    pub free_below_priority: u8,
}

/// Bounds of the router as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Of a request's body.
    pub max_request_bytes: usize,
    /// Of a provider's answer.
    pub max_answer_bytes: usize,
    /// Requests at once.
    pub max_at_once: usize,
    /// Of a stream before its first content.
    pub hold_back_bytes: usize,
    /// Of a deadline, for each tier that comes after the one that is asked.
    pub floor: Duration,
    /// Of the last tier that is left.
    pub retries: u32,
    /// What came faster is a fast failure.
    pub retry_below: Duration,
}

/// Everything the router is told.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Bounds.
    pub bounds: Bounds,
    /// When a tier is left alone.
    pub breaker: breaker::Settings,
    /// Caches.
    pub cache: cache::Settings,
    /// Tiers by name.
    pub tiers: BTreeMap<String, TierConfig>,
    /// Aliases by name.
    pub aliases: BTreeMap<String, Arc<AliasConfig>>,
    /// What each agent may spend in a month, millionths of a dollar.
    pub agents: BTreeMap<String, u64>,
}

const LONGEST_MS: i64 = 600_000;
const MOST: i64 = 1_000_000_000;

impl Config {
    /// Reads the text of `config/llm.toml` with an environment.
    ///
    /// # Errors
    /// Every fault found.
    pub fn read(text: &str, vars: &BTreeMap<String, String>) -> Result<Self, Vec<String>> {
        let config = checked(text, |section| Self::of(section, vars))?;
        let mut faults = Vec::new();
        for alias in config.aliases.values() {
            for tier in alias.tiers.iter().filter(|tier| !config.tiers.contains_key(*tier)) {
                faults.push(format!("alias.{}.tiers: there is no tier {tier}", alias.name));
            }
            if alias.tiers.is_empty() {
                faults.push(format!("alias.{}.tiers: empty", alias.name));
            }
        }
        if config.aliases.is_empty() {
            faults.push("alias: none".to_owned());
        }
        if config.cache.fresh_s > config.cache.stale_s {
            faults.push("cache.fresh_s: longer than cache.stale_s".to_owned());
        }
        if faults.is_empty() { Ok(config) } else { Err(faults) }
    }

    fn of(section: &mut Section<'_>, vars: &BTreeMap<String, String>) -> Self {
        let mut tiers = BTreeMap::new();
        let mut aliases = BTreeMap::new();
        let mut agents = BTreeMap::new();
        let bounds = section.part("router", |part| Some(bounds(part)));
        let breaker = section.part("breaker", |part| Some(breaker_settings(part)));
        let cache = section.part("cache", |part| Some(cache_settings(part)));
        each(section, "tier", |name, part| {
            tiers.insert(name.to_owned(), tier(name, part, vars));
        });
        each(section, "alias", |name, part| {
            aliases.insert(name.to_owned(), Arc::new(alias(name, part)));
        });
        each(section, "agent", |name, part| {
            agents.insert(name.to_owned(), dollars(part, "usd_per_month"));
        });
        // A missing part was noted, and what is not read is not used.
        Self {
            bounds: bounds.unwrap_or(NO_BOUNDS),
            breaker: breaker.unwrap_or_default(),
            cache: cache.unwrap_or_default(),
            tiers,
            aliases,
            agents,
        }
    }

    /// What each tier that is off waits for, in words.
    #[must_use]
    pub fn tiers_off(&self) -> Vec<String> {
        let off = self.tiers.values().filter_map(|tier| match &tier.access {
            Access::Missing(variable) => Some(format!("tier {} is off: {variable} is not set", tier.name)),
            Access::Open | Access::Keyed(_) => None,
        });
        off.collect()
    }

    /// An alias.
    #[must_use]
    pub fn alias(&self, name: &str, kind: AliasKind) -> Option<&Arc<AliasConfig>> {
        self.aliases.get(name).filter(|alias| alias.kind == kind)
    }
}

const NO_BOUNDS: Bounds = Bounds {
    max_request_bytes: 0,
    max_answer_bytes: 0,
    max_at_once: 0,
    hold_back_bytes: 0,
    floor: Duration::ZERO,
    retries: 0,
    retry_below: Duration::ZERO,
};

/// Every section under `key`.
fn each(section: &mut Section<'_>, key: &str, mut read: impl FnMut(&str, &mut Section<'_>)) {
    section.part(key, |all| {
        for name in all.keys() {
            all.part(&name, |part| {
                read(&name, part);
                Some(())
            });
        }
        Some(())
    });
}

fn bounds(part: &mut Section<'_>) -> Bounds {
    Bounds {
        max_request_bytes: count(part, "max_request_bytes", 1_024),
        max_answer_bytes: count(part, "max_answer_bytes", 1_024),
        max_at_once: count(part, "max_at_once", 1),
        hold_back_bytes: count(part, "hold_back_bytes", 1_024),
        floor: ms(part, "floor_ms"),
        retries: u32::try_from(part.whole("retries", 0, 10)).unwrap_or(0),
        retry_below: ms(part, "retry_below_ms"),
    }
}

fn breaker_settings(part: &mut Section<'_>) -> breaker::Settings {
    let small = |part: &mut Section<'_>, key: &str, most: i64| u32::try_from(part.whole(key, 1, most)).unwrap_or(1);
    breaker::Settings {
        failures: small(part, "failures", 1_000),
        open: ms(part, "open_ms"),
        share_percent: small(part, "share_percent", 100),
        share_of_calls: small(part, "share_of_calls", 100_000),
        window: ms(part, "window_ms"),
        cooldown_failures: small(part, "cooldown_failures", 1_000),
        cooldown: ms(part, "cooldown_ms"),
    }
}

fn cache_settings(part: &mut Section<'_>) -> cache::Settings {
    let number = |part: &mut Section<'_>, key: &str| u64::try_from(part.whole(key, 1, MOST)).unwrap_or(1);
    let semantic = part.flag("semantic");
    let percent = u32::try_from(part.whole("semantic_percent", 50, 100)).unwrap_or(100);
    let threshold = f64::from(percent) / 100.0;
    let entries = count(part, "semantic_entries", 1);
    cache::Settings {
        l1_bytes: whole(part, "l1_bytes", 0),
        entry_bytes: count(part, "entry_bytes", 0),
        fresh_s: number(part, "fresh_s"),
        stale_s: number(part, "stale_s"),
        semantic: semantic.then_some(cache::SemanticSettings { threshold, entries }),
        shadow_per_mille: u32::try_from(part.whole("shadow_per_mille", 0, 1_000)).unwrap_or(0),
        redis_read_ms: number(part, "redis_read_ms"),
        redis_queue: count(part, "redis_queue", 1),
    }
}

fn tier(name: &str, part: &mut Section<'_>, vars: &BTreeMap<String, String>) -> TierConfig {
    let told = |what: &str| {
        let variable = format!("LLM_{}_{what}", name.to_ascii_uppercase());
        vars.get(&variable).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
    };
    let adapters = [("ollama", Adapter::Ollama), ("openai", Adapter::OpenAi), ("anthropic", Adapter::Anthropic)];
    let mut adapter = part.choice("adapter", &adapters);
    if let Some(word) = told("ADAPTER") {
        match Adapter::parse(&word) {
            Some(told) => adapter = told,
            None => part.note("adapter", "LLM_.._ADAPTER is not one of ollama, openai, anthropic"),
        }
    }
    let base_url = part.line("base_url");
    let base_url = told("URL").unwrap_or(base_url).trim_end_matches('/').to_owned();
    let access = access(&part.line("key_env"), vars);
    check_url(part, &base_url, &access);
    let model = part.line("model");
    let model = told("MODEL").unwrap_or(model);
    if model.is_empty() {
        part.note("model", "empty");
    }
    TierConfig {
        name: name.to_owned(),
        adapter,
        base_url,
        access,
        model,
        context_tokens: whole(part, "context_tokens", 1),
        max_output_tokens: whole(part, "max_output_tokens", 1),
        first_token: ms(part, "first_token_ms"),
        idle: ms(part, "idle_ms"),
        total: ms(part, "total_ms"),
        slots: count(part, "slots", 0),
        queue: count(part, "queue", 0),
        ageing: ms(part, "ageing_ms"),
        prefill: part.flag("prefill"),
        paid: part.flag("paid"),
        prices: Prices {
            input_usd_per_million: part.decimal("input_usd_per_million", Decimal::ZERO, Decimal::ONE_THOUSAND),
            output_usd_per_million: part.decimal("output_usd_per_million", Decimal::ZERO, Decimal::ONE_THOUSAND),
        },
        limits: limits(part),
    }
}

fn limits(part: &mut Section<'_>) -> Limits {
    let some = |number: u64| (number > 0).then_some(number);
    Limits {
        requests_per_minute: some(whole(part, "requests_per_minute", 0)),
        requests_per_day: some(whole(part, "requests_per_day", 0)),
        tokens_per_minute: some(whole(part, "tokens_per_minute", 0)),
        tokens_per_day: some(whole(part, "tokens_per_day", 0)),
        usd_micros_per_day: some(dollars(part, "usd_per_day")),
        usd_micros_per_month: some(dollars(part, "usd_per_month")),
        buffer_requests: whole(part, "buffer_requests", 0),
        buffer_from_priority: URGENT_PRIORITY,
        day_starts_at_minutes_utc: i32::try_from(part.whole("day_starts_at_minutes_utc", -720, 840)).unwrap_or(0),
    }
}

fn access(variable: &str, vars: &BTreeMap<String, String>) -> Access {
    if variable.is_empty() {
        return Access::Open;
    }
    match vars.get(variable).map(|key| key.trim()).filter(|key| !key.is_empty()) {
        Some(key) => Access::Keyed(Key(key.to_owned())),
        None => Access::Missing(variable.to_owned()),
    }
}

/// http or https; a key goes over https, or to this machine.
fn check_url(part: &mut Section<'_>, url: &str, access: &Access) {
    match reqwest::Url::parse(url) {
        Ok(parsed) if matches!(parsed.scheme(), "http" | "https") && parsed.host_str().is_some() => {
            let is_near = matches!(parsed.host_str(), Some("127.0.0.1" | "localhost" | "[::1]"));
            if parsed.scheme() == "http" && !is_near && *access != Access::Open {
                part.note("base_url", "would send the key in the clear; use https");
            }
            if !parsed.username().is_empty() || parsed.password().is_some() {
                part.note("base_url", "holds a login; put the key into the variable that key_env names");
            }
        }
        _ => part.note("base_url", "not an http or https address"),
    }
}

fn alias(name: &str, part: &mut Section<'_>) -> AliasConfig {
    AliasConfig {
        name: name.to_owned(),
        kind: part.choice("kind", &[("chat", AliasKind::Chat), ("embeddings", AliasKind::Embeddings)]),
        tiers: part.words("tiers"),
        deadline: ms(part, "deadline_ms"),
        stale: part.flag("stale"),
        free_below_priority: priority(part, "free_below_priority"),
    }
}

fn priority(part: &mut Section<'_>, key: &str) -> u8 {
    u8::try_from(part.whole(key, 0, i64::from(HIGHEST_PRIORITY) + 1)).unwrap_or(0)
}

fn ms(part: &mut Section<'_>, key: &str) -> Duration {
    Duration::from_millis(u64::try_from(part.whole(key, 1, LONGEST_MS)).unwrap_or(1))
}

fn whole(part: &mut Section<'_>, key: &str, least: i64) -> u64 {
    u64::try_from(part.whole(key, least, MOST)).unwrap_or(0)
}

fn count(part: &mut Section<'_>, key: &str, least: i64) -> usize {
    usize::try_from(part.whole(key, least, MOST)).unwrap_or(0)
}

/// Dollars in quotes, as millionths.
fn dollars(part: &mut Section<'_>, key: &str) -> u64 {
    micros_of_usd(part.decimal(key, Decimal::ZERO, Decimal::from(1_000_000)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHIPPED: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../config/llm.toml"));

    fn vars(vars: &[(&str, &str)]) -> BTreeMap<String, String> {
        vars.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn the_shipped_file_is_read_and_a_tier_without_a_key_is_off() {
        let config = Config::read(SHIPPED, &vars(&[("GROQ_API_KEY", "secret")])).unwrap();
        assert_eq!(config.aliases["trading-llm"].tiers, ["local", "groq", "openrouter"]);
        assert_eq!(config.tiers["local"].access, Access::Open);
        assert!(matches!(&config.tiers["groq"].access, Access::Keyed(key) if key.reveal() == "secret"));
        assert_eq!(config.tiers["openrouter"].access, Access::Missing("OPENROUTER_API_KEY".to_owned()));
        assert_eq!(config.tiers["groq"].limits.usd_micros_per_month, Some(10_000_000));
        assert!(!format!("{config:?}").contains("secret"));
    }

    #[test]
    fn the_environment_says_where_a_tier_is() {
        let vars = vars(&[
            ("LLM_LOCAL_URL", "http://127.0.0.1:9/v1/"),
            ("LLM_LOCAL_ADAPTER", "openai"),
            ("LLM_LOCAL_MODEL", "m"),
        ]);
        let config = Config::read(SHIPPED, &vars).unwrap();
        let local = &config.tiers["local"];
        assert_eq!(
            (local.base_url.as_str(), local.adapter, local.model.as_str()),
            ("http://127.0.0.1:9/v1", Adapter::OpenAi, "m")
        );
    }

    #[test]
    fn every_line_of_the_shipped_file_is_required() {
        for line in SHIPPED.lines().filter(|line| line.contains(" = ")) {
            let without = SHIPPED.replacen(&format!("\n{line}"), "\n", 1);
            assert!(Config::read(&without, &BTreeMap::new()).is_err(), "still read without: {line}");
        }
    }

    #[test]
    fn all_faults_are_told_at_once() {
        let text = SHIPPED
            .replacen("adapter = \"ollama\"", "adapter = \"gopher\"", 1)
            .replacen("base_url = \"https://api.groq.com/openai/v1\"", "base_url = \"http://api.groq.com\"", 1)
            .replacen("base_url = \"https://api.anthropic.com\"", "base_url = \"anthropic\"", 1)
            .replacen("usd_per_month = \"10\"", "usd_per_month = 10", 1)
            .replacen("retries = 1", "retries = 11\nsurprise = 1", 1)
            .replacen("fresh_s = 3600", "fresh_s = 0", 1);
        let faults = Config::read(&text, &vars(&[("GROQ_API_KEY", "x")])).unwrap_err();
        let named: Vec<&str> = faults.iter().filter_map(|fault| fault.split(':').next()).collect();
        let wrong = [
            "router.retries",
            "router.surprise",
            "cache.fresh_s",
            "tier.anthropic.base_url",
            "tier.groq.base_url",
            "tier.groq.usd_per_month",
            "tier.local.adapter",
        ];
        assert_eq!(named, wrong, "{faults:#?}");
        let text = SHIPPED.replacen("tiers = [\"local\", \"groq\", \"openrouter\"]", "tiers = [\"lokal\"]", 1);
        assert_eq!(
            Config::read(&text, &BTreeMap::new()).unwrap_err(),
            ["alias.trading-llm.tiers: there is no tier lokal"]
        );
    }
}
