//! Writes what requests used into Postgres, in batches, beside the requests and never before them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use domain::ids::UserId;
use domain::time::{DAY_MS, UnixMs};
use llm::provenance::{UsageRow, UsageSink};
use llm::quota::{Record, RecordedUse};
use runtime::{HandleError, Work};
use store::llm_usage;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout_at};

/// Rows that wait for Postgres; more are counted and let go.
const MOST_WAITING: usize = 20_000;
/// Rows of one statement.
const BATCH: usize = 500;
/// How long a row waits for others.
const GATHER: Duration = Duration::from_millis(500);
/// Between tries of a batch that failed.
const PAUSE: Duration = Duration::from_secs(1);
/// How long rows are kept.
const KEPT_MS: i64 = 400 * DAY_MS;
/// How often old rows are looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(3_600);

/// Takes rows for the writer.
#[derive(Debug)]
struct Sink {
    rows: mpsc::Sender<UsageRow>,
    lost: AtomicU64,
}

impl UsageSink for Sink {
    fn take(&self, row: UsageRow) {
        if self.rows.try_send(row).is_err() {
            metrics::counter!("swarm_llm_usage_lost_total").increment(1);
            if self.lost.fetch_add(1, Ordering::Relaxed) == 0 {
                tracing::error!("Postgres does not take usage fast enough; rows are lost, and counted");
            }
        }
    }
}

/// What was used so far in this day and month, so that an emptied Redis forgets nothing. Without Postgres the process waits
/// and begins again: a router that does not know what was spent must not spend.
pub(crate) async fn recorded(work: &Work) -> Result<Option<Record>, HandleError> {
    let now = work.now();
    let mut unit = work.begin(UserId(uuid::Uuid::nil())).await?;
    let spent = llm_usage::spent(&mut unit, UnixMs::start_of_day(now.day()), now.start_of_month()).await?;
    unit.commit().await?;
    let mut record = Record::default();
    for (name, tier) in spent.tiers {
        let used = RecordedUse {
            day_requests: tier.day_requests,
            day_tokens: tier.day_tokens,
            day_usd_micros: tier.day_cost_micros,
            month_usd_micros: tier.month_cost_micros,
        };
        record.tiers.insert(name, used);
    }
    record.agents = spent.agents;
    Ok(Some(record))
}

/// Rows since `from`, for people.
pub(crate) async fn report(work: &Work, from: UnixMs) -> Result<Vec<llm_usage::ReportLine>, HandleError> {
    let mut unit = work.begin(UserId(uuid::Uuid::nil())).await?;
    let rows = llm_usage::report(&mut unit, from).await?;
    unit.commit().await?;
    Ok(rows)
}

/// A sink, and the work that writes what it takes until the process drains.
pub(crate) fn writer(work: Work) -> (Arc<dyn UsageSink>, impl Future<Output = ()> + Send) {
    let (tell, mut rows) = mpsc::channel(MOST_WAITING);
    let sink = Arc::new(Sink { rows: tell, lost: AtomicU64::new(0) });
    let writing = async move {
        let mut sweep_at = Instant::now();
        loop {
            let batch = gather(&mut rows, &work).await;
            if !batch.is_empty() {
                write(&work, &batch).await;
            } else if work.shutdown.is_cancelled() {
                return;
            }
            if Instant::now() >= sweep_at {
                sweep_at = Instant::now() + SWEEP_EVERY;
                if let Err(error) = sweep(&work).await {
                    tracing::warn!(%error, "old rows of usage stay until the next look");
                }
            }
        }
    };
    (sink, writing)
}

/// Rows that came within a while; empty when the process drains and nothing is left.
async fn gather(rows: &mut mpsc::Receiver<UsageRow>, work: &Work) -> Vec<llm_usage::UsageRow> {
    let mut batch = Vec::new();
    let first = tokio::select! {
        first = rows.recv() => first,
        () = work.shutdown.cancelled() => rows.try_recv().ok(),
        () = sleep(SWEEP_EVERY) => None,
    };
    let Some(first) = first else { return batch };
    batch.push(stored(first));
    let until = Instant::now() + GATHER;
    while batch.len() < BATCH {
        let next = tokio::select! {
            next = timeout_at(until, rows.recv()) => next.ok().flatten(),
            () = work.shutdown.cancelled() => rows.try_recv().ok(),
        };
        match next {
            Some(row) => batch.push(stored(row)),
            None => break,
        }
    }
    batch
}

/// Writes a batch, again until it is written: rows are told apart by their ids, so twice is once.
async fn write(work: &Work, batch: &[llm_usage::UsageRow]) {
    let mut told = false;
    loop {
        let written = async {
            let mut unit = work.begin(UserId(uuid::Uuid::nil())).await?;
            llm_usage::insert(&mut unit, batch).await?;
            unit.commit().await?;
            Ok::<(), HandleError>(())
        };
        match written.await {
            Ok(()) => return work.progress(),
            Err(error) if work.shutdown.is_cancelled() => {
                metrics::counter!("swarm_llm_usage_lost_total").increment(batch.len() as u64);
                return tracing::error!(%error, rows = batch.len(), "usage could not be written before the end");
            }
            Err(error) => {
                if !told {
                    tracing::warn!(%error, "usage waits for Postgres");
                    told = true;
                }
                sleep(PAUSE).await;
            }
        }
    }
}

async fn sweep(work: &Work) -> Result<(), HandleError> {
    let mut unit = work.begin(UserId(uuid::Uuid::nil())).await?;
    llm_usage::delete_before(&mut unit, work.now().plus_ms(-KEPT_MS), 10_000).await?;
    unit.commit().await?;
    Ok(())
}

/// A row as the table takes it. What a provider calls its model has any length and any bytes, and one row that is refused
/// would hold up every other.
fn stored(row: UsageRow) -> llm_usage::UsageRow {
    llm_usage::UsageRow {
        request_id: row.request_id,
        at: UnixMs(row.at_ms),
        agent: row.agent,
        tenant: row.tenant,
        correlation_id: row.correlation_id,
        alias: row.alias,
        tier: row.tier,
        model: fitting(row.model, llm_usage::NAME_MAX_BYTES),
        priority: row.priority,
        outcome: row.outcome.to_owned(),
        cache: row.cache.map(str::to_owned),
        prompt_tokens: row.prompt_tokens,
        completion_tokens: row.completion_tokens,
        estimated: row.estimated,
        cost_micros: row.cost_micros,
        took_ms: row.took_ms,
        attempts: fitting(row.attempts, llm_usage::ATTEMPTS_MAX_BYTES),
    }
}

/// Without control characters, and no longer than so many bytes.
fn fitting(mut text: String, most_bytes: usize) -> String {
    text.retain(|c| !c.is_control());
    text.truncate(text.floor_char_boundary(most_bytes));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_a_provider_calls_its_model_the_row_fits_its_table() {
        let row = UsageRow {
            request_id: "llm-1".to_owned(),
            at_ms: 0,
            agent: "buy_bot".to_owned(),
            tenant: None,
            correlation_id: None,
            alias: "trading-llm".to_owned(),
            tier: Some("groq".to_owned()),
            model: format!("a\0b\n{}", "é".repeat(10_000)),
            priority: 5,
            outcome: "ok",
            cache: None,
            prompt_tokens: 1,
            completion_tokens: 1,
            estimated: false,
            cost_micros: 1,
            took_ms: 1,
            attempts: "x".repeat(10_000),
        };
        let stored = stored(row);
        assert!(stored.model.starts_with("abé") && stored.model.len() <= llm_usage::NAME_MAX_BYTES);
        assert!(stored.model.len() > llm_usage::NAME_MAX_BYTES - 2, "cut, not dropped");
        assert_eq!(stored.attempts.len(), llm_usage::ATTEMPTS_MAX_BYTES);
    }
}
