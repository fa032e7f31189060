//! Durable consumers: pulls messages, has them handled, and settles each with the broker.

use std::sync::Arc;

use bus::codec::{self, Arrival};
use bus::{Bus, Delivery};
use domain::ids::UserId;
use domain::message::Envelope;
use domain::reject::Reject;
use domain::subject::{Stream, Subject};
use tokio::sync::Semaphore;
use tokio::time::{Duration, Instant, MissedTickBehavior, interval};
use tracing::Instrument;

use crate::agent::{Agent, HandleError, chain};
use crate::engine::{Engine, Source};
use crate::meters;
use crate::process::RunError;
use crate::trace;
use crate::verdict::{Cause, Place, Verdict, after_failure, door_user, give_up, told};

/// A third of the consumers' 5 s ack wait.
const IN_PROGRESS_EVERY: Duration = Duration::from_millis(1_600);
/// Before a message that the agent could not take yet is offered to it again.
const NOT_YET_PAUSE: Duration = Duration::from_millis(250);
/// After a failure that is the process's own or the broker's, not the message's.
const PAUSE: Duration = Duration::from_secs(1);

/// Pulls from one stream until the process drains, then waits for what is in hand.
pub(crate) async fn pull<A: Agent>(engine: Engine<A>, stream: Stream) {
    let slots = A::SPEC.limits.max_in_flight;
    let free = Arc::new(Semaphore::new(slots));
    let shutdown = engine.core.shutdown.clone();
    while !shutdown.is_cancelled() {
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = pull_until_broken(&engine, stream, &free) => {
                tokio::select! { () = shutdown.cancelled() => {} () = tokio::time::sleep(PAUSE) => {} }
            }
        }
    }
    let _all_settled = free.acquire_many(u32::try_from(slots).unwrap_or(u32::MAX)).await;
}

async fn pull_until_broken<A: Agent>(engine: &Engine<A>, stream: Stream, free: &Arc<Semaphore>) {
    let core = &engine.core;
    let mut puller = match core.bus.consumer(stream, A::SPEC.name).await {
        Ok(puller) => puller,
        Err(error) => {
            tracing::warn!(stream = stream.name(), error = chain(&error), "a consumer could not be bound");
            core.vitals.step();
            return;
        }
    };
    let _bound = Bound::new(engine);
    loop {
        core.vitals.store_is_up().await;
        let Ok(slot) = Arc::clone(free).acquire_owned().await else { return };
        match puller.next().await {
            Ok(Some(delivery)) => {
                let engine = engine.clone();
                tokio::spawn(async move {
                    settle(&engine, delivery).await;
                    drop(slot);
                });
            }
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(stream = stream.name(), error = chain(&error), "pulling failed");
                return;
            }
        }
        core.vitals.step();
        core.vitals.answered("nats", core.clock.now().0);
    }
}

/// Counts a bound consumer for as long as it is one.
struct Bound<'a, A: Agent>(&'a Engine<A>);

impl<'a, A: Agent> Bound<'a, A> {
    fn new(engine: &'a Engine<A>) -> Self {
        engine.core.vitals.bound(true);
        Self(engine)
    }
}

impl<A: Agent> Drop for Bound<'_, A> {
    fn drop(&mut self) {
        self.0.core.vitals.bound(false);
    }
}

/// Handles one delivery and tells the broker what became of it.
async fn settle<A: Agent>(engine: &Engine<A>, delivery: Delivery) {
    let core = &engine.core;
    let _hand = core.vitals.take(delivery.reply_subject());
    let now = core.clock.now();
    let started = Instant::now();
    let subject = Subject::parse(&delivery.raw.subject);
    let route = subject.as_ref().map(Subject::route);
    #[expect(clippy::cast_precision_loss, reason = "a lag in ms is far below 2^52")]
    let lag_seconds = now.since_ms(delivery.published_at).max(0) as f64 / 1_000.0;
    if let Some(route) = route {
        meters::received(A::SPEC.name, route, Some(lag_seconds));
    }
    let at = Arrival { stream: &delivery.stream, stream_seq: delivery.stream_seq, published_at: delivery.published_at };
    let (verdict, cause) = match codec::read(&delivery.raw, &at) {
        Ok(mut input) => {
            trace::enter(&mut input.header);
            let span = tracing::info_span!("input", correlation_id = %input.header.correlation_id, message_id = %input.header.message_id, subject = delivery.raw.subject);
            let work = decide(engine, &input, &delivery).instrument(span);
            let verdict = tokio::select! {
                verdict = work => verdict,
                never = keep(&delivery) => match never {},
            };
            (verdict, Cause { route, user: input.header.user_id, message_id: Some(input.header.message_id) })
        }
        Err(reject) => {
            let user = subject.as_ref().map_or(UserId(uuid::Uuid::nil()), door_user);
            (give_up(route, reject), Cause { route, user, message_id: None })
        }
    };
    if let (Verdict::Ack, Some(route)) = (&verdict, route) {
        meters::handled(A::SPEC.name, route, started.elapsed().as_secs_f64());
        core.vitals.tried(true);
    }
    if let Err(error) = carry_out(engine, &delivery, &cause, verdict).await {
        // It comes again after the ack wait, and the inbox knows it.
        tracing::warn!(subject = delivery.raw.subject, error, "a delivery could not be settled");
    }
    core.vitals.step();
}

/// Tells the broker every while that the message is still worked on.
async fn keep(delivery: &Delivery) -> std::convert::Infallible {
    let mut every = interval(IN_PROGRESS_EVERY);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    every.tick().await;
    loop {
        every.tick().await;
        if let Err(error) = delivery.in_progress().await {
            tracing::debug!(error = chain(&error), "an in-progress acknowledgement failed");
        }
    }
}

/// Has the message handled and judges the outcome. While the store is down, or the agent can't take it yet, it is kept in
/// hand: that uses up no attempts.
async fn decide<A: Agent>(engine: &Engine<A>, input: &Envelope, delivery: &Delivery) -> Verdict {
    let core = &engine.core;
    let route = input.subject.route();
    loop {
        let error = match engine.handle(input, Source::Consumed).await {
            Ok(()) => return Verdict::Ack,
            Err(error) => error,
        };
        if !matches!(error, HandleError::NotYet(_)) {
            meters::failed(A::SPEC.name, route);
            core.vitals.tried(false);
        }
        match error {
            HandleError::Reject(reject) => return give_up(Some(route), reject),
            HandleError::NotYet(text) => {
                tracing::debug!(text, "kept in hand");
                tokio::select! {
                    () = tokio::time::sleep(NOT_YET_PAUSE) => {}
                    () = engine.agent.ready(input) => {}
                    () = core.shutdown.cancelled() => return Verdict::Again(PAUSE),
                }
            }
            HandleError::Retry(text) => {
                tracing::warn!(text, attempts = delivery.attempts, "an attempt failed");
                if core.store_answers().await {
                    return after_failure(route, delivery.attempts, &text);
                }
                tokio::select! {
                    () = core.vitals.store_is_up() => {}
                    () = core.shutdown.cancelled() => return Verdict::Again(PAUSE),
                }
            }
            HandleError::Fatal(text) => {
                core.fail(RunError::Agent(text.clone()));
                return match after_failure(route, delivery.attempts, &text) {
                    Verdict::Again(_) => Verdict::Again(PAUSE),
                    verdict => verdict,
                };
            }
        }
    }
}

async fn carry_out<A: Agent>(
    engine: &Engine<A>,
    delivery: &Delivery,
    cause: &Cause,
    verdict: Verdict,
) -> Result<(), String> {
    let settled = match verdict {
        Verdict::Ack => delivery.ack().await,
        Verdict::Again(pause) => delivery.nak(pause).await,
        Verdict::Drop => delivery.term().await,
        Verdict::DeadLetter(reject) => match bury(engine, delivery, cause, &reject).await {
            Ok(()) => delivery.term().await,
            Err(text) => {
                tracing::warn!(text, "a dead letter could not be stored; the message comes again");
                delivery.nak(PAUSE).await
            }
        },
    };
    settled.map_err(|error| chain(&error))
}

/// Stores the dead letter, tells the person, counts. Both messages have ids of their delivery, so a second burial
/// changes nothing.
async fn bury<A: Agent>(engine: &Engine<A>, delivery: &Delivery, cause: &Cause, reject: &Reject) -> Result<(), String> {
    let core = &engine.core;
    let bus: &Bus = &core.bus;
    let (stream, consumer, seq) = (&delivery.stream, &delivery.consumer, delivery.stream_seq);
    let at = Arrival { stream, stream_seq: seq, published_at: delivery.published_at };
    bus.dead_letter(&at, consumer, &delivery.raw, reject, core.clock.now()).await.map_err(|e| chain(&e))?;
    tracing::warn!(
        subject = delivery.raw.subject,
        code = reject.code.code(),
        detail = reject.detail,
        stream,
        seq,
        "dead letter"
    );
    let place = Place { stream, seq, subject: &delivery.raw.subject };
    let parent = core.root_of(place.burial_id(), cause.user);
    core.emit(&parent, told(cause, reject, place)).await.map_err(|error| error.to_string())?;
    meters::dead_lettered(core.spec.name, reject.code.code());
    Ok(())
}
