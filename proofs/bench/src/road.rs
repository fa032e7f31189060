//! As many signals as the whole swarm takes: a burst from many doors, and how fast the decisions and the orders come.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use sqlx::Row as _;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use crate::bench_error::BenchError;
use crate::doors::{Doors, PLAIN_USD};
use crate::latency::{PER_PERSON, people_of_the_road};
use crate::noise::Noise;
use crate::report::{Report, Row, Target};
use crate::stage::Swarm;
use crate::venue::Journal;
use crate::{Arguments, Part};

/// Publishes that wait for the stream at once.
const IN_FLIGHT: usize = 32;
const WITHIN: Duration = Duration::from_secs(60);

fn signals(arguments: &Arguments) -> usize {
    arguments.size(1_400, 400)
}

/// People this run needs.
pub fn own_people(arguments: &Arguments) -> usize {
    if arguments.wants(Part::Road) { signals(arguments).div_ceil(PER_PERSON) } else { 0 }
}

/// Sends the burst and counts.
///
/// # Errors
/// [`BenchError`].
pub async fn measure(
    arguments: &Arguments,
    swarm: &Swarm,
    doors: &Doors,
    venue: &mut Journal,
    report: &mut Report,
) -> Result<(), BenchError> {
    let plan = doors.plan("road", people_of_the_road(arguments), signals(arguments), PLAIN_USD);
    eprintln!("{} signals as fast as they are taken", plan.len());
    let mut waiting: BTreeSet<String> = plan.iter().map(|signal| signal.client_order_id.clone()).collect();
    let ids: Vec<uuid::Uuid> = plan.iter().map(|signal| signal.order_id.0).collect();
    let all = plan.len();
    let (noise, began) = (Noise::begin(), Instant::now());
    let free = Arc::new(Semaphore::new(IN_FLIGHT));
    let mut sending = JoinSet::new();
    for signal in plan {
        let (doors, free) = (doors.clone(), Arc::clone(&free));
        sending.spawn(async move {
            let _slot = free.acquire().await;
            doors.publish(&signal).await
        });
    }
    let mut last = began;
    while !waiting.is_empty() {
        let Ok(Some((id, at))) = timeout_at(began + WITHIN, venue.next()).await else { break };
        if waiting.remove(&id) {
            last = at;
        }
    }
    let strangers = noise.strangers_percent();
    while let Some(outcome) = sending.join_next().await {
        outcome.map_err(|error| BenchError::Broken(format!("a sender failed: {error}")))??;
    }
    let there = all - waiting.len();
    let took = last.saturating_duration_since(began).as_secs_f64().max(1e-9);
    report.push(
        Row::new("road", "signals from door to venue in a burst", there as f64 / took, "/s")
            .noise(strangers)
            .note(format!("{there} of {all} in {took:.1} s")),
    );
    let row = sqlx::query(
        "SELECT count(*) AS n, extract(epoch FROM max(at) - min(at))::float8 AS s FROM policy_decisions WHERE order_id = ANY($1)",
    )
    .bind(&ids)
    .fetch_one(swarm.admin.pool())
    .await?;
    let (decided, seconds): (i64, Option<f64>) = (row.try_get("n")?, row.try_get("s")?);
    let rate = (decided - 1).max(0) as f64 / seconds.unwrap_or(0.0).max(1e-3);
    report.push(
        Row::new("road", "decisions of treasury in that burst", rate, "/s")
            .noise(strangers)
            .note(format!("{decided} decisions")),
    );
    report.push(
        Row::new("road", "signals that never reached the venue", waiting.len() as f64, "").target(Target::AtMost(0.0)),
    );
    Ok(())
}
