//! Looks how many letters wait and for how long, and tells people once when it is too many or too long.

use std::sync::Arc;
use std::time::Duration;

use domain::message::{Alert, Message, Payload, Severity};
use domain::subject::{Route, Subject};
use domain::time::UnixMs;
use runtime::{HandleError, Work};
use store::dead_letters::OpenLetters;

use super::catch_up;
use crate::Shared;
use crate::services::nobody;

/// How often the stream is looked at.
const EVERY: Duration = Duration::from_secs(10);

/// From where on people are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Thresholds {
    /// More open letters than this.
    pub depth: i64,
    /// An open letter older than this, ms.
    pub age_ms: i64,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self { depth: 10, age_ms: 900_000 }
    }
}

/// Which thresholds are passed, so that each crossing is told once.
#[derive(Debug, Default)]
pub struct Crossings {
    depth: bool,
    age: bool,
}

impl Crossings {
    /// Alerts for what was crossed since the look before.
    pub fn look(&mut self, open: OpenLetters, thresholds: Thresholds, now: UnixMs) -> Vec<Alert> {
        let age_ms = open.oldest.map_or(0, |oldest| now.since_ms(oldest).max(0));
        let what = "`swarm dlq list` shows them; redrive or drop each";
        let deep = format!("{} dead letters are open, more than {}: {what}", open.count, thresholds.depth);
        let old = format!("the oldest of {} open dead letters is {} min old: {what}", open.count, age_ms / 60_000);
        [
            (&mut self.depth, open.count > thresholds.depth, "dlq_depth", deep),
            (&mut self.age, age_ms > thresholds.age_ms, "dlq_age", old),
        ]
        .into_iter()
        .filter_map(|(was, is, name, text)| {
            let before = std::mem::replace(was, is);
            (is && !before).then(|| Alert { name: name.to_owned(), severity: Severity::Warning, text })
        })
        .collect()
    }
}

/// Looks until shutdown. What can't be read now is read at the next look.
///
/// # Errors
/// Never.
pub async fn run(shared: Arc<Shared>, work: Work) -> Result<(), HandleError> {
    let mut crossings = Crossings::default();
    let mut ticks = runtime::grid(EVERY);
    loop {
        tokio::select! {
            () = work.shutdown.cancelled() => return Ok(()),
            _ = ticks.tick() => {}
        }
        if let Err(error) = look(&shared, &work, &mut crossings).await {
            tracing::warn!(%error, "dead letters could not be looked at");
        }
    }
}

async fn look(shared: &Shared, work: &Work, crossings: &mut Crossings) -> Result<(), HandleError> {
    while !catch_up(&shared.letters, work, &work.bus).await? {}
    let mut unit = work.begin(nobody()).await?;
    let now = unit.now().await?;
    let open = store::dead_letters::open(&mut unit).await?;
    unit.rollback().await?;
    let oldest_ms = open.oldest.map_or(0, |oldest| now.since_ms(oldest).max(0));
    #[expect(clippy::cast_precision_loss, reason = "for a graph")]
    {
        metrics::gauge!("swarm_dead_letters_open").set(open.count as f64);
        metrics::gauge!("swarm_dead_letters_oldest_seconds").set(oldest_ms as f64 / 1_000.0);
    }
    for alert in crossings.look(open, Thresholds::default(), now) {
        tracing::warn!(name = alert.name, text = alert.text, "dead letters wait");
        let key = format!("{}:{}", alert.name, now.0);
        let message = Message::fact(Subject::fact(Route::Alert), nobody(), key, Payload::Alert(alert));
        work.emit(&work.root_header(nobody()), vec![message]).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMs = UnixMs(1_800_000_000_000);

    #[test]
    fn each_crossing_is_told_once_and_again_after_it_was_over() {
        let mut crossings = Crossings::default();
        let mut check = |count, age_ms: i64, names: &[&str]| {
            let open = OpenLetters { count, oldest: (count > 0).then(|| NOW.plus_ms(-age_ms)) };
            let alerts = crossings.look(open, Thresholds::default(), NOW);
            assert_eq!(alerts.iter().map(|alert| alert.name.as_str()).collect::<Vec<_>>(), names, "{count} {age_ms}");
        };
        check(0, 0, &[]);
        check(10, 900_000, &[]);
        check(11, 1_000, &["dlq_depth"]);
        check(12, 900_001, &["dlq_age"]);
        check(40, 9_000_000, &[]);
        check(1, 9_000_000, &[]);
        check(0, 0, &[]);
        check(11, 900_001, &["dlq_depth", "dlq_age"]);
    }
}
