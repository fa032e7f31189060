//! The few counters that every agent has, and their exporter.

use std::sync::OnceLock;
use std::time::Duration;

use domain::message::{DecisionOutcome, Message, Payload};
use domain::subject::Route;
use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};

/// Buckets of `swarm_handle_seconds` and `swarm_lag_seconds`.
const SECONDS: [f64; 14] = [0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// Installs the recorder once and returns its handle; `None` when another recorder was installed before.
pub(crate) fn install() -> Option<PrometheusHandle> {
    static HANDLE: OnceLock<Option<PrometheusHandle>> = OnceLock::new();
    HANDLE
        .get_or_init(|| {
            let builder = PrometheusBuilder::new().set_buckets(&SECONDS).ok()?;
            let handle = builder.install_recorder().ok()?;
            describe();
            Some(handle)
        })
        .clone()
}

/// How often histograms are summed up.
const UPKEEP_EVERY: Duration = Duration::from_secs(5);

/// Sums up what histograms noted, every while and for as long as it runs: the recorder keeps each note until then, so a
/// process whose metrics nobody asks for would grow with all it does.
pub async fn metrics_upkeep() {
    let Some(handle) = install() else { return };
    loop {
        tokio::time::sleep(UPKEEP_EVERY).await;
        handle.run_upkeep();
    }
}

fn describe() {
    describe_counter!("swarm_received_total", "Messages taken from consumers, subscriptions and timers");
    describe_counter!("swarm_handled_total", "Messages handled to the end");
    describe_counter!("swarm_duplicates_total", "Deliveries that the inbox had seen before");
    describe_counter!("swarm_emitted_total", "Messages that handlers returned");
    describe_counter!("swarm_refused_total", "Orders that a rail refused, by code");
    describe_counter!("swarm_failed_total", "Attempts that failed and are made again, or facts given up");
    describe_counter!("swarm_dead_lettered_total", "Messages given up, by code");
    describe_counter!(
        "swarm_outbox_id_taken_total",
        "New messages whose id the stream had seen: somebody may be suppressing messages"
    );
    describe_counter!("swarm_outbox_expired_total", "Outbox messages that nobody would act on any more");
    describe_histogram!("swarm_handle_seconds", Unit::Seconds, "Time from taking a message to settling it");
    describe_histogram!("swarm_lag_seconds", Unit::Seconds, "Time from a message's storing to its taking");
    describe_gauge!("swarm_outbox_in_flight", "Outbox messages being published");
    describe_gauge!("swarm_store_up", "Whether the store answers");
    describe_gauge!("swarm_clock_skew_ms", "Local clock minus database clock");
    describe_gauge!("swarm_resident_bytes", Unit::Bytes, "Resident memory");
}

fn label(route: Route) -> String {
    format!("{route:?}")
}

pub(crate) fn received(agent: &'static str, route: Route, lag_seconds: Option<f64>) {
    counter!("swarm_received_total", "agent" => agent, "route" => label(route)).increment(1);
    if let Some(lag) = lag_seconds {
        histogram!("swarm_lag_seconds", "agent" => agent).record(lag);
    }
}

pub(crate) fn handled(agent: &'static str, route: Route, seconds: f64) {
    counter!("swarm_handled_total", "agent" => agent, "route" => label(route)).increment(1);
    histogram!("swarm_handle_seconds", "agent" => agent, "route" => label(route)).record(seconds);
}

pub(crate) fn duplicate(agent: &'static str, route: Route) {
    counter!("swarm_duplicates_total", "agent" => agent, "route" => label(route)).increment(1);
}

pub(crate) fn failed(agent: &'static str, route: Route) {
    counter!("swarm_failed_total", "agent" => agent, "route" => label(route)).increment(1);
}

pub(crate) fn dead_lettered(agent: &'static str, code: &'static str) {
    counter!("swarm_dead_lettered_total", "agent" => agent, "code" => code).increment(1);
}

pub(crate) fn emitted(agent: &'static str, messages: &[Message]) {
    for message in messages {
        counter!("swarm_emitted_total", "agent" => agent, "route" => label(message.subject.route())).increment(1);
        if let Payload::OrderDecision(decision) = &message.payload
            && let DecisionOutcome::Refused { code, .. } = &decision.outcome
        {
            counter!("swarm_refused_total", "agent" => agent, "code" => code.clone()).increment(1);
        }
    }
}

pub(crate) fn outbox_id_taken(agent: &'static str) {
    counter!("swarm_outbox_id_taken_total", "agent" => agent).increment(1);
}

pub(crate) fn outbox_expired(agent: &'static str) {
    counter!("swarm_outbox_expired_total", "agent" => agent).increment(1);
}

#[expect(clippy::cast_precision_loss, reason = "gauges are floats; these numbers are far below 2^52")]
pub(crate) fn gauges(agent: &'static str, store_up: bool, skew_ms: i64, resident_bytes: u64) {
    gauge!("swarm_store_up", "agent" => agent).set(if store_up { 1.0 } else { 0.0 });
    gauge!("swarm_clock_skew_ms", "agent" => agent).set(skew_ms as f64);
    gauge!("swarm_resident_bytes", "agent" => agent).set(resident_bytes as f64);
}

#[expect(clippy::cast_precision_loss, reason = "gauges are floats; this number is below 1,000")]
pub(crate) fn outbox_in_flight(agent: &'static str, rows: usize) {
    gauge!("swarm_outbox_in_flight", "agent" => agent).set(rows as f64);
}
