//! The monitor: watches prices, the host and other agents' alerts, and raises alerts of its own. It moves no money.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod host;
pub mod process;

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use domain::agent::{AgentSpec, Timer, USUAL_LIMITS};
use domain::ids::UserId;
use domain::market::{InstrumentId, Mark};
use domain::message::{Alert, Envelope, Message, Payload, Severity};
use domain::subject::{Route, Subject};
use domain::time::UnixMs;
use runtime::{Agent, Ctx, HandleError};

/// Its name.
pub const NAME: &str = "monitor";
/// A price older than this is stale: the same age at which the rails stop new risk, ms.
const STALE_AFTER_MS: i64 = 30_000;
/// Free memory below this is an alert, bytes.
const MEMORY_FLOOR_BYTES: u64 = 500 * 1024 * 1024;

/// The agent.
#[derive(Debug, Default)]
pub struct Monitor {
    raised: Mutex<BTreeMap<String, UnixMs>>,
}

impl Monitor {
    /// Raises or clears the alert `name`; a message only when that changed.
    fn judge(&self, name: &str, bad: bool, severity: Severity, text: &str, now: UnixMs) -> Option<Message> {
        let mut raised = self.raised.lock().unwrap_or_else(PoisonError::into_inner);
        let since = raised.get(name).copied();
        let (key, severity, text) = match (since, bad) {
            (None, true) => {
                raised.insert(name.to_owned(), now);
                (format!("{name}:raised:{}", now.0), severity, text.to_owned())
            }
            (Some(since), false) => {
                raised.remove(name);
                let text = format!("over after {} s: {text}", now.since_ms(since) / 1_000);
                (format!("{name}:cleared:{}", now.0), Severity::Info, text)
            }
            _ => return None,
        };
        metrics::counter!("swarm_alerts_total", "name" => name.to_owned()).increment(1);
        let alert = Alert { name: name.to_owned(), severity, text };
        Some(Message::fact(Subject::fact(Route::Alert), UserId(uuid::Uuid::nil()), key, Payload::Alert(alert)))
    }

    fn look_at_prices(&self, marks: &BTreeMap<InstrumentId, Mark>, now: UnixMs) -> Vec<Message> {
        let judged = marks.iter().filter_map(|(id, mark)| {
            let age_ms = now.since_ms(mark.received_at);
            metrics::gauge!("swarm_mark_age_seconds", "instrument" => id.to_string()).set(seconds(age_ms));
            let text = format!("no price of {id} for {} s: no new risk in it", STALE_AFTER_MS / 1_000);
            self.judge(&format!("feed_stale:{id}"), age_ms > STALE_AFTER_MS, Severity::Critical, &text, now)
        });
        judged.collect()
    }

    fn look_at_host(&self, now: UnixMs) -> Vec<Message> {
        let mut out = Vec::new();
        if let Some(memory) = host::memory() {
            metrics::gauge!("swarm_host_memory_available_bytes").set(host::float(memory.available_bytes));
            metrics::gauge!("swarm_host_memory_total_bytes").set(host::float(memory.total_bytes));
            let text = format!("less than {} MB of memory left", MEMORY_FLOOR_BYTES >> 20);
            let low = memory.available_bytes < MEMORY_FLOOR_BYTES;
            out.extend(self.judge("host_memory_low", low, Severity::Warning, &text, now));
        }
        if let Some(load_milli) = host::load_milli() {
            metrics::gauge!("swarm_host_load1").set(host::float(load_milli) / 1_000.0);
        }
        out
    }
}

/// What the host says of itself, and how old each price is.
fn host_report(marks: &BTreeMap<InstrumentId, Mark>, now: UnixMs) -> BTreeMap<String, String> {
    let mut report = BTreeMap::new();
    if let Some(memory) = host::memory() {
        report.insert("memory_total_mb".to_owned(), (memory.total_bytes >> 20).to_string());
        report.insert("memory_available_mb".to_owned(), (memory.available_bytes >> 20).to_string());
    }
    if let Some(load_milli) = host::load_milli() {
        report.insert("load_1min_milli".to_owned(), load_milli.to_string());
    }
    let age =
        |(id, mark): (&InstrumentId, &Mark)| (format!("price_age_ms {id}"), now.since_ms(mark.received_at).to_string());
    report.extend(marks.iter().map(age));
    report
}

/// The last price of each instrument.
fn prices(marks: &BTreeMap<InstrumentId, Mark>) -> BTreeMap<String, String> {
    marks.iter().map(|(id, mark)| (id.to_string(), mark.price.to_string())).collect()
}

fn seconds(ms: i64) -> f64 {
    host::float(u64::try_from(ms).unwrap_or(0)) / 1_000.0
}

impl Agent for Monitor {
    const SPEC: AgentSpec = AgentSpec {
        name: NAME,
        job: "prices, staleness, host metrics, alerts",
        consumes: &[Route::AgentTask],
        listens: &[Route::Tick],
        listens_with_store: &[],
        emits: &[Route::Alert, Route::Task],
        timers: &[Timer { name: "look", every_ms: 5_000 }],
        tables: &[],
        services: &[],
        asks: &[],
        administers_streams: false,
        limits: USUAL_LIMITS,
        lacks: &["load levels that shed low-priority work"],
    };

    async fn handle(&self, input: &Envelope, ctx: &mut Ctx<'_>) -> Result<Vec<Message>, HandleError> {
        if let Payload::Task(task) = &input.payload {
            let marks = ctx.market.marks();
            return Ok(vec![match task.capability.as_str() {
                "host_report" => task.done(Ok(host_report(&marks, ctx.now))),
                "prices" => task.done(Ok(prices(&marks))),
                _ => task.back(input.header.valid_until),
            }]);
        }
        if !matches!(input.payload, Payload::Timer(_)) {
            return Ok(Vec::new());
        }
        let mut out = self.look_at_prices(&ctx.market.marks(), ctx.now);
        out.extend(self.look_at_host(ctx.now));
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::market::{Symbol, Venue};
    use domain::money::Price;

    fn marks(received_at: i64) -> BTreeMap<InstrumentId, Mark> {
        let id = InstrumentId { venue: Venue::Paper, symbol: Symbol::parse("BTCUSDT").unwrap() };
        BTreeMap::from([(id, Mark { price: Price::parse("60000").unwrap(), received_at: UnixMs(received_at) })])
    }

    fn texts(messages: &[Message]) -> Vec<(Severity, String)> {
        messages
            .iter()
            .map(|m| match &m.payload {
                Payload::Alert(alert) => (alert.severity, alert.name.clone()),
                other => panic!("{other:?}"),
            })
            .collect()
    }

    #[test]
    fn a_stale_price_is_told_once_and_its_end_too() {
        let monitor = Monitor::default();
        let name = "feed_stale:paper:BTCUSDT".to_owned();
        let look = |received, now| texts(&monitor.look_at_prices(&marks(received), UnixMs(now)));
        assert_eq!(look(0, 30_000), vec![]);
        assert_eq!(look(0, 30_001), vec![(Severity::Critical, name.clone())]);
        assert_eq!(look(0, 35_000), vec![]);
        assert_eq!(look(35_500, 36_000), vec![(Severity::Info, name)]);
        assert_eq!(look(36_000, 37_000), vec![]);
    }

    #[test]
    fn a_report_has_the_host_and_the_age_of_each_price() {
        let report = host_report(&marks(1_000), UnixMs(1_250));
        assert_eq!(report["price_age_ms paper:BTCUSDT"], "250");
        assert_eq!(prices(&marks(0)), BTreeMap::from([("paper:BTCUSDT".to_owned(), "60000".to_owned())]));
        assert_eq!(report.contains_key("memory_available_mb"), host::memory().is_some());
        assert_eq!(report.contains_key("load_1min_milli"), host::load_milli().is_some());
    }

    #[test]
    fn its_spec_has_no_fault() {
        assert_eq!(runtime::spec_faults(&Monitor::SPEC), Vec::<String>::new());
    }
}
