//! What language models were asked and what it cost: rows of the LLM router, which nobody else reads or writes.
//!
//! Money is counted in millionths of a US dollar. A row holds what its request used up itself: an answer out of a cache costs
//! nothing again, so what the first one cost is not repeated there.

use std::collections::BTreeMap;

use domain::time::UnixMs;

use crate::fits::fits;
use crate::{StoreError, Unit};

/// The longest name in a row (request, agent, tenant, correlation id, alias, tier, model, outcome, cache), in bytes. One that
/// is longer, or empty where a name is needed, is refused with its whole batch: whoever takes names from callers cuts them.
pub const NAME_MAX_BYTES: usize = 128;
/// The longest account of attempts, in bytes.
pub const ATTEMPTS_MAX_BYTES: usize = 4_096;
/// The highest priority.
pub const PRIORITY_MAX: u8 = 9;
/// The outcome of a request that was answered; every other is a failure.
pub const ANSWERED: &str = "ok";

/// One request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageRow {
    /// The request, by a name that no other boot of the router gives to another.
    pub request_id: String,
    /// When it was over.
    pub at: UnixMs,
    /// Who asked.
    pub agent: String,
    /// Whose cached answers it might see; no user of the ledger.
    pub tenant: Option<String>,
    /// What the caller asked for.
    pub correlation_id: Option<String>,
    /// The model asked for.
    pub alias: String,
    /// The tier that was called last; for a cached answer the one that gave it, where that is known.
    pub tier: Option<String>,
    /// The model that answered; empty when none did.
    pub model: String,
    /// From 0 to [`PRIORITY_MAX`].
    pub priority: u8,
    /// [`ANSWERED`], or the code of the failure that the caller got.
    pub outcome: String,
    /// The kind of cache the answer came from; `None` when it came from none.
    pub cache: Option<String>,
    /// Tokens read.
    pub prompt_tokens: u64,
    /// Tokens written.
    pub completion_tokens: u64,
    /// The tokens were estimated, as the provider said nothing.
    pub estimated: bool,
    /// What it cost, in millionths of a US dollar.
    pub cost_micros: u64,
    /// From its coming to its end.
    pub took_ms: u64,
    /// What was tried, in the router's words.
    pub attempts: String,
}

/// Rows alike in their names, added up: what an adapter returns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageGroup {
    /// [`UsageRow::tier`].
    pub tier: Option<String>,
    /// [`UsageRow::agent`].
    pub agent: String,
    /// [`UsageRow::alias`].
    pub alias: String,
    /// [`UsageRow::cache`].
    pub cache: Option<String>,
    /// Rows.
    pub requests: u64,
    /// Rows that are not [`ANSWERED`].
    pub failed: u64,
    /// Tokens read.
    pub prompt_tokens: u64,
    /// Tokens written.
    pub completion_tokens: u64,
    /// Their cost, in millionths of a US dollar.
    pub cost_micros: u64,
}

impl UsageGroup {
    /// The tier that these requests really called.
    fn called(&self) -> Option<&str> {
        self.tier.as_deref().filter(|_| self.cache.is_none())
    }
}

/// What of a tier's quota and budget is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TierSpent {
    /// Requests of the day that called it.
    pub day_requests: u64,
    /// Their tokens, read and written.
    pub day_tokens: u64,
    /// Their cost, in millionths of a US dollar.
    pub day_cost_micros: u64,
    /// The cost of the month, in millionths of a US dollar.
    pub month_cost_micros: u64,
}

/// What is used up.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Spent {
    /// By tier; only requests that called it, not those that a cache answered.
    pub tiers: BTreeMap<String, TierSpent>,
    /// The cost of the month by agent, in millionths of a US dollar: of every row, as a request that a cache answered in the
    /// end may have paid for an answer that broke off.
    pub agents: BTreeMap<String, u64>,
}

/// A line of the report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportLine {
    /// The tier; `None` for requests that reached none.
    pub tier: Option<String>,
    /// Who asked.
    pub agent: String,
    /// The model asked for.
    pub alias: String,
    /// Requests, however they ended.
    pub requests: u64,
    /// Those of them that a cache answered, by its kind.
    pub cached: BTreeMap<String, u64>,
    /// Those of them that failed.
    pub failed: u64,
    /// Tokens read, those of cached answers left out.
    pub prompt_tokens: u64,
    /// Tokens written, those of cached answers left out.
    pub completion_tokens: u64,
    /// The cost of all of them, in millionths of a US dollar.
    pub cost_micros: u64,
}

/// A number that its column holds.
fn number(value: u64, column: &'static str) -> Result<(), StoreError> {
    if i64::try_from(value).is_ok() { Ok(()) } else { Err(StoreError::OutOfRange(column)) }
}

fn add(sum: &mut u64, more: u64, column: &'static str) -> Result<(), StoreError> {
    *sum = sum.checked_add(more).ok_or(StoreError::OutOfRange(column))?;
    Ok(())
}

/// Writes a batch, and says how many of its rows are new: a request that is there already stays as it is.
///
/// # Errors
/// [`StoreError`]; of the batch nothing is written then.
pub async fn insert(unit: &mut Unit, rows: &[UsageRow]) -> Result<u64, StoreError> {
    for row in rows {
        fits(row.at, "at")?;
        number(row.prompt_tokens, "prompt_tokens")?;
        number(row.completion_tokens, "completion_tokens")?;
        number(row.cost_micros, "cost_micros")?;
        number(row.took_ms, "took_ms")?;
    }
    if rows.is_empty() { Ok(0) } else { unit.records().insert_usage(rows).await }
}

/// What is used up since the day and the month began, both included.
///
/// # Errors
/// [`StoreError`].
pub async fn spent(unit: &mut Unit, since_day: UnixMs, since_month: UnixMs) -> Result<Spent, StoreError> {
    let month = groups_since(unit, since_month).await?;
    let day = groups_since(unit, since_day).await?;
    let mut spent = Spent::default();
    for group in &month {
        if let Some(tier) = group.called() {
            let tier = spent.tiers.entry(tier.to_owned()).or_default();
            add(&mut tier.month_cost_micros, group.cost_micros, "cost_micros")?;
        }
        add(spent.agents.entry(group.agent.clone()).or_default(), group.cost_micros, "cost_micros")?;
    }
    for group in &day {
        if let Some(tier) = group.called() {
            let tier = spent.tiers.entry(tier.to_owned()).or_default();
            add(&mut tier.day_requests, group.requests, "requests")?;
            add(&mut tier.day_tokens, group.prompt_tokens, "prompt_tokens")?;
            add(&mut tier.day_tokens, group.completion_tokens, "completion_tokens")?;
            add(&mut tier.day_cost_micros, group.cost_micros, "cost_micros")?;
        }
    }
    Ok(spent)
}

/// Who asked for what, who answered and what it cost, since `since` (included), by tier, agent and alias.
///
/// # Errors
/// [`StoreError`].
pub async fn report(unit: &mut Unit, since: UnixMs) -> Result<Vec<ReportLine>, StoreError> {
    let mut lines = BTreeMap::new();
    for group in groups_since(unit, since).await? {
        let line = lines.entry((group.tier.clone(), group.agent.clone(), group.alias.clone())).or_insert(ReportLine {
            tier: group.tier,
            agent: group.agent,
            alias: group.alias,
            requests: 0,
            cached: BTreeMap::new(),
            failed: 0,
            prompt_tokens: 0,
            completion_tokens: 0,
            cost_micros: 0,
        });
        add(&mut line.requests, group.requests, "requests")?;
        add(&mut line.failed, group.failed, "requests")?;
        add(&mut line.cost_micros, group.cost_micros, "cost_micros")?;
        match group.cache {
            Some(kind) => add(line.cached.entry(kind).or_default(), group.requests, "requests")?,
            None => {
                add(&mut line.prompt_tokens, group.prompt_tokens, "prompt_tokens")?;
                add(&mut line.completion_tokens, group.completion_tokens, "completion_tokens")?;
            }
        }
    }
    Ok(lines.into_values().collect())
}

/// Forgets up to `limit` rows from before `before`, oldest first, and says how many went. Call it until it says 0.
///
/// # Errors
/// [`StoreError`].
pub async fn delete_before(unit: &mut Unit, before: UnixMs, limit: i64) -> Result<u64, StoreError> {
    fits(before, "at")?;
    unit.records().delete_usage_before(before, limit).await
}

async fn groups_since(unit: &mut Unit, since: UnixMs) -> Result<Vec<UsageGroup>, StoreError> {
    fits(since, "at")?;
    unit.records().usage_since(since).await
}
