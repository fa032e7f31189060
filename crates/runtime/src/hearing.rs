//! Inputs that pass by: plain subscriptions, where only the latest matters, and timers.

use bus::Raw;
use bus::codec::{self, Arrival};
use domain::ids::UserId;
use domain::message::{Envelope, Payload};
use domain::reject::Reject;
use domain::subject::{Route, Subject};
use domain::time::UnixMs;
use tokio::time::{Duration, Instant};
use tracing::Instrument;

use crate::agent::{Agent, HandleError, chain};
use crate::engine::{Engine, Source};
use crate::grid::grid;
use crate::meters;
use crate::process::RunError;
use crate::trace;

/// Before a lost subscription is made again.
const PAUSE: Duration = Duration::from_secs(1);

/// What is done with what is heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ear {
    /// The agent's handler gets it.
    Agent,
    /// The market view takes it in.
    Market,
    /// Drain, when told so.
    Command,
    /// The supervisor lives.
    Beat,
}

/// Hears `filter` until the process drains.
pub(crate) async fn hear<A: Agent>(engine: Engine<A>, filter: String, ear: Ear) {
    let shutdown = engine.core.shutdown.clone();
    while !shutdown.is_cancelled() {
        let mut subscription = match engine.core.bus.subscribe(&filter).await {
            Ok(subscription) => subscription,
            Err(error) => {
                tracing::warn!(filter, error = chain(&error), "a subscription could not be made");
                tokio::select! { () = shutdown.cancelled() => return, () = tokio::time::sleep(PAUSE) => continue }
            }
        };
        if ear == Ear::Market {
            // Subscribed first, then asked: nothing falls between. An older value never replaces a newer one.
            match engine.core.bus.last_values(&filter).await {
                Ok(values) => {
                    for raw in values {
                        heard(&engine, &raw, ear).await;
                    }
                }
                Err(error) => tracing::warn!(filter, error = chain(&error), "no last values; waiting for new ones"),
            }
        }
        loop {
            let raw = tokio::select! { () = shutdown.cancelled() => return, raw = subscription.next() => raw };
            match raw {
                Some(raw) => heard(&engine, &raw, ear).await,
                None => break,
            }
        }
        tokio::select! { () = shutdown.cancelled() => return, () = tokio::time::sleep(PAUSE) => {} }
    }
}

async fn heard<A: Agent>(engine: &Engine<A>, raw: &Raw, ear: Ear) {
    let core = &engine.core;
    let now = core.now();
    let mut input = match read(raw, now) {
        Ok(input) => input,
        Err(reject) => {
            tracing::warn!(
                subject = raw.subject,
                code = reject.code.code(),
                detail = reject.detail,
                "unreadable, let go"
            );
            return;
        }
    };
    meters::received(A::SPEC.name, input.subject.route(), None);
    core.vitals.answered("nats", now.0);
    match (ear, &input.payload) {
        (Ear::Market, Payload::MarketTick(tick)) => {
            core.market.put(tick.clone(), now);
            core.vitals.answered("market", now.0);
        }
        (Ear::Command, Payload::AgentCommand(command)) if command.boot_id.is_some_and(|id| id != core.boot_id) => {
            tracing::info!(command = command.command, "meant for another start of this process, let go");
        }
        (Ear::Command, Payload::AgentCommand(command)) if command.command == "drain" => {
            tracing::info!(by = input.header.source_agent, "told to drain");
            core.shutdown.cancel();
        }
        // Only by name of this start: what was said to an earlier one, which may be what ended it, holds no more.
        (Ear::Command, Payload::AgentCommand(command)) if command.command == "work" && command.boot_id.is_some() => {
            core.may_work.send_if_modified(|may| !std::mem::replace(may, true));
        }
        (Ear::Command, Payload::AgentCommand(command)) => {
            tracing::warn!(command = command.command, "unknown command, let go")
        }
        (Ear::Beat, Payload::Heartbeat(_)) => core.vitals.supervisor_heard(),
        (Ear::Agent, _) => {
            trace::enter(&mut input.header);
            let with_store = A::SPEC.listens_with_store.contains(&input.subject.route());
            pass(engine, &input, if with_store { Source::Passing } else { Source::Heard }).await;
        }
        _ => tracing::warn!(
            subject = raw.subject,
            kind = input.payload.kind(),
            "another payload than its subject carries"
        ),
    }
}

/// Reads what was heard. A heartbeat says that somebody lives, whatever his clock or ours says.
fn read(raw: &Raw, now: UnixMs) -> Result<Envelope, Reject> {
    let input = codec::read(raw, &Arrival { stream: "", stream_seq: 0, published_at: now })?;
    if input.subject.route() != Route::Heartbeat {
        codec::in_time(&input, now)?;
    }
    Ok(input)
}

/// Hands a passing input to the handler. It is not kept: what matters of it is in tables or comes again.
async fn pass<A: Agent>(engine: &Engine<A>, input: &Envelope, source: Source) {
    let core = &engine.core;
    let route = input.subject.route();
    let span = tracing::info_span!("input", correlation_id = %input.header.correlation_id, kind = input.payload.kind());
    let started = Instant::now();
    match engine.handle(input, source).instrument(span).await {
        Ok(()) => {
            meters::handled(A::SPEC.name, route, started.elapsed().as_secs_f64());
            core.vitals.tried(true);
        }
        Err(HandleError::Fatal(text)) => core.fail(RunError::Agent(text)),
        Err(error) => {
            meters::failed(A::SPEC.name, route);
            core.vitals.tried(false);
            tracing::warn!(%error, kind = input.payload.kind(), "a passing input was not handled");
        }
    }
    core.vitals.step();
}

/// Ticks until the process drains; the first tick is at once. A tick that takes longer than the period costs the next.
pub(crate) async fn tick<A: Agent>(engine: Engine<A>, name: &'static str, every: Duration) {
    let mut every = grid(every);
    loop {
        tokio::select! { () = engine.core.shutdown.cancelled() => return, _ = every.tick() => {} }
        let header = engine.core.root_header(UserId(uuid::Uuid::nil()));
        let input = Envelope { header, subject: Subject::command(A::SPEC.name), payload: Payload::Timer(name) };
        meters::received(A::SPEC.name, Route::Command, None);
        pass(&engine, &input, Source::Passing).await;
    }
}
