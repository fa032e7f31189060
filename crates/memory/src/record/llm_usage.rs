//! What language models cost, in memory.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use domain::time::UnixMs;
use store::StoreError;
use store::llm_usage::{ANSWERED, ATTEMPTS_MAX_BYTES, NAME_MAX_BYTES, PRIORITY_MAX, UsageGroup, UsageRow};
use store::port::LlmUsage;

use crate::record::access::Right;
use crate::record::refusal::{check, denied, limit, texts};
use crate::record::unit::{Lock, MemoryUnit, Statement, view};

const TABLE: &str = "llm_usage";
/// The one login that the policy of the table lets in.
const OWNER: &str = "llm_router";

/// Whether the row fits its table.
fn may_stand(row: &UsageRow) -> Result<(), StoreError> {
    let named = [&row.request_id, &row.agent, &row.alias, &row.outcome];
    let maybe_named = [&row.tenant, &row.correlation_id, &row.tier, &row.cache];
    let names = || named.into_iter().chain(maybe_named.into_iter().flatten());
    texts(names().chain([&row.model, &row.attempts]).map(String::as_str))?;
    check(names().all(|name| (1..=NAME_MAX_BYTES).contains(&name.len())), "a name has a length")?;
    check(row.model.len() <= NAME_MAX_BYTES, "a model's name has an end")?;
    check(row.attempts.len() <= ATTEMPTS_MAX_BYTES, "an account of attempts has an end")?;
    check(row.priority <= PRIORITY_MAX, "no such priority")
}

/// Adds to a sum as wide as any, as Postgres does.
fn sum(rows: &[&UsageRow], column: &'static str, value: impl Fn(&UsageRow) -> u64) -> Result<u64, StoreError> {
    let total: u128 = rows.iter().map(|row| u128::from(value(row))).sum();
    u64::try_from(total).map_err(|_| StoreError::OutOfRange(column))
}

fn put(s: &mut Statement<'_>, row: &UsageRow) -> Result<u64, StoreError> {
    may_stand(row)?;
    if view!(s, llm_usage).has(&row.request_id) {
        return Ok(0);
    }
    s.lock(Lock::LlmUsage(row.request_id.clone()))?;
    s.changes.llm_usage.insert(row.request_id.clone(), Some(Arc::new(row.clone())));
    Ok(1)
}

#[async_trait]
impl LlmUsage for MemoryUnit {
    async fn insert_usage(&mut self, rows: &[UsageRow]) -> Result<u64, StoreError> {
        self.run(|s| {
            s.insert(TABLE)?;
            if !s.access.is_agent(OWNER) {
                return Err(denied("rows of the router"));
            }
            rows.iter().try_fold(0, |new, row| Ok(new + put(s, row)?))
        })
    }

    async fn usage_since(&mut self, since: UnixMs) -> Result<Vec<UsageGroup>, StoreError> {
        self.run(|s| {
            s.select(TABLE)?;
            let mut groups: BTreeMap<_, Vec<&UsageRow>> = BTreeMap::new();
            let seen = view!(s, llm_usage).all().filter(|(_, row)| s.access.is_agent(OWNER) && row.at >= since);
            for (_, row) in seen {
                groups.entry((&row.tier, &row.agent, &row.alias, &row.cache)).or_default().push(row);
            }
            groups
                .into_iter()
                .map(|((tier, agent, alias, cache), rows)| {
                    Ok(UsageGroup {
                        tier: tier.clone(),
                        agent: agent.clone(),
                        alias: alias.clone(),
                        cache: cache.clone(),
                        requests: sum(&rows, "requests", |_| 1)?,
                        failed: sum(&rows, "failed", |row| u64::from(row.outcome != ANSWERED))?,
                        prompt_tokens: sum(&rows, "prompt_tokens", |row| row.prompt_tokens)?,
                        completion_tokens: sum(&rows, "completion_tokens", |row| row.completion_tokens)?,
                        cost_micros: sum(&rows, "cost_micros", |row| row.cost_micros)?,
                    })
                })
                .collect()
        })
    }

    async fn delete_usage_before(&mut self, before: UnixMs, rows: i64) -> Result<u64, StoreError> {
        self.run(|s| {
            s.select(TABLE)?;
            s.access.allow(TABLE, Right::Delete)?;
            let rows = limit(rows)?;
            let seen = view!(s, llm_usage).all().filter(|(_, row)| s.access.is_agent(OWNER) && row.at < before);
            let mut old: Vec<(UnixMs, String)> = seen.map(|(id, row)| (row.at, id.clone())).collect();
            old.sort();
            old.truncate(rows);
            let gone = old.len();
            for (_, id) in old {
                s.lock(Lock::LlmUsage(id.clone()))?;
                s.changes.llm_usage.insert(id, None);
            }
            u64::try_from(gone).map_err(|_| StoreError::OutOfRange("requests"))
        })
    }
}
