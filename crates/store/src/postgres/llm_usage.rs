//! What language models cost, in Postgres.

use async_trait::async_trait;
use domain::time::UnixMs;

use super::PgUnit;
use super::value::{Reader, Stamp};
use crate::StoreError;
use crate::llm_usage::{ANSWERED, UsageGroup, UsageRow};
use crate::port::LlmUsage;

const TABLE: &str = "llm_usage";

/// One column of a batch.
fn column<'a, T>(rows: &'a [UsageRow], value: impl Fn(&'a UsageRow) -> T) -> Vec<T> {
    rows.iter().map(value).collect()
}

/// One column of a batch of numbers.
fn numbers(rows: &[UsageRow], column: &'static str, value: impl Fn(&UsageRow) -> u64) -> Result<Vec<i64>, StoreError> {
    rows.iter().map(|row| value(row).try_into().map_err(|_| StoreError::OutOfRange(column))).collect()
}

#[async_trait]
impl LlmUsage for PgUnit {
    async fn insert_usage(&mut self, rows: &[UsageRow]) -> Result<u64, StoreError> {
        let done = sqlx::query(
            "INSERT INTO llm_usage (request_id, at, agent, tenant, correlation_id, alias, tier, model, priority, outcome,
               cache, prompt_tokens, completion_tokens, estimated, cost_micros, took_ms, attempts)
             SELECT * FROM unnest($1::text[], $2::timestamptz[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[],
               $8::text[], $9::smallint[], $10::text[], $11::text[], $12::bigint[], $13::bigint[], $14::boolean[],
               $15::bigint[], $16::bigint[], $17::text[])
             ON CONFLICT DO NOTHING",
        )
        .bind(column(rows, |row| row.request_id.as_str()))
        .bind(column(rows, |row| Stamp(row.at)))
        .bind(column(rows, |row| row.agent.as_str()))
        .bind(column(rows, |row| row.tenant.as_deref()))
        .bind(column(rows, |row| row.correlation_id.as_deref()))
        .bind(column(rows, |row| row.alias.as_str()))
        .bind(column(rows, |row| row.tier.as_deref()))
        .bind(column(rows, |row| row.model.as_str()))
        .bind(column(rows, |row| i16::from(row.priority)))
        .bind(column(rows, |row| row.outcome.as_str()))
        .bind(column(rows, |row| row.cache.as_deref()))
        .bind(numbers(rows, "prompt_tokens", |row| row.prompt_tokens)?)
        .bind(numbers(rows, "completion_tokens", |row| row.completion_tokens)?)
        .bind(column(rows, |row| row.estimated))
        .bind(numbers(rows, "cost_micros", |row| row.cost_micros)?)
        .bind(numbers(rows, "took_ms", |row| row.took_ms)?)
        .bind(column(rows, |row| row.attempts.as_str()))
        .execute(self.conn())
        .await?;
        Ok(done.rows_affected())
    }

    async fn usage_since(&mut self, since: UnixMs) -> Result<Vec<UsageGroup>, StoreError> {
        let rows = sqlx::query(
            "SELECT tier, agent, alias, cache, count(*)::numeric AS requests,
               (count(*) FILTER (WHERE outcome <> $2))::numeric AS failed, sum(prompt_tokens) AS prompt_tokens,
               sum(completion_tokens) AS completion_tokens, sum(cost_micros) AS cost_micros
             FROM llm_usage WHERE at >= $1 GROUP BY tier, agent, alias, cache",
        )
        .bind(Stamp(since))
        .bind(ANSWERED)
        .fetch_all(self.conn())
        .await?;
        rows.iter()
            .map(|row| {
                let row = Reader::new(TABLE, row);
                // A sum of bigints is numeric, which may be more than a number of ours.
                let sum = |column| u64::try_from(row.decimal(column)?).map_err(|_| StoreError::OutOfRange(column));
                Ok(UsageGroup {
                    tier: row.get("tier")?,
                    agent: row.text("agent")?,
                    alias: row.text("alias")?,
                    cache: row.get("cache")?,
                    requests: sum("requests")?,
                    failed: sum("failed")?,
                    prompt_tokens: sum("prompt_tokens")?,
                    completion_tokens: sum("completion_tokens")?,
                    cost_micros: sum("cost_micros")?,
                })
            })
            .collect()
    }

    async fn delete_usage_before(&mut self, before: UnixMs, limit: i64) -> Result<u64, StoreError> {
        let done = sqlx::query(
            "DELETE FROM llm_usage WHERE request_id IN
               (SELECT request_id FROM llm_usage WHERE at < $1 ORDER BY at, request_id COLLATE \"C\" LIMIT $2)",
        )
        .bind(Stamp(before))
        .bind(limit)
        .execute(self.conn())
        .await?;
        Ok(done.rows_affected())
    }
}
