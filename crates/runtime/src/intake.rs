//! Durable consumers: pulls messages, has them handled, and settles each with the broker.

use std::collections::BTreeMap;
use std::sync::Arc;

use bus::codec::{self, Arrival};
use bus::{Bus, Delivery};
use domain::ids::{MessageId, UserId, derive};
use domain::message::{Envelope, Message, Notice, Payload};
use domain::reject::{Reject, RejectCode};
use domain::subject::{Route, Stream, Subject};
use tokio::sync::Semaphore;
use tokio::time::{Duration, Instant, MissedTickBehavior, interval};
use tracing::Instrument;

use crate::agent::{Agent, HandleError, chain, is_command};
use crate::engine::{Engine, Source};
use crate::meters;
use crate::process::RunError;
use crate::trace;

/// A third of the consumers' 5 s ack wait.
const IN_PROGRESS_EVERY: Duration = Duration::from_millis(1_600);
/// After a failure that is the process's own or the broker's, not the message's.
const PAUSE: Duration = Duration::from_secs(1);
/// Pauses before the second, third, .. delivery of trading messages.
const TRADING_PAUSES_MS: [u64; 3] = [100, 400, 2_000];
/// The same for everything that only watches.
const WATCHING_PAUSES_MS: [u64; 5] = [1_000, 4_000, 15_000, 30_000, 60_000];

/// What becomes of a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Verdict {
    Ack,
    Again(Duration),
    /// Given up without a dead letter: the tables hold what it was about.
    Drop,
    DeadLetter(Reject),
}

/// What is known of a delivery when it is settled.
struct Cause {
    route: Option<Route>,
    user: UserId,
    /// None when the message could not be read.
    message_id: Option<MessageId>,
}

/// The pause after delivery number `attempts` failed; `None` when there is no further one.
fn pause_after(route: Option<Route>, attempts: u64) -> Option<Duration> {
    let watching = route.is_some_and(|route| route.tokens().0 == "monitoring");
    let pauses: &[u64] = if watching { &WATCHING_PAUSES_MS } else { &TRADING_PAUSES_MS };
    let at = usize::try_from(attempts.saturating_sub(1)).ok()?;
    pauses.get(at).map(|ms| Duration::from_millis(*ms))
}

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
    let (verdict, cause) = match codec::decode(&delivery.raw, &at, now) {
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

/// Has the message handled and judges the outcome. While the store is down it is kept in hand: an outage uses up no
/// attempts.
async fn decide<A: Agent>(engine: &Engine<A>, input: &Envelope, delivery: &Delivery) -> Verdict {
    let core = &engine.core;
    let route = input.subject.route();
    loop {
        if input.header.valid_until.is_some_and(|end| end < core.clock.now()) {
            return give_up(Some(route), Reject::new(RejectCode::Expired, "valid_until passed while it waited here"));
        }
        let error = match engine.handle(input, Source::Consumed).await {
            Ok(()) => return Verdict::Ack,
            Err(error) => error,
        };
        meters::failed(A::SPEC.name, route);
        match error {
            HandleError::Reject(reject) => return give_up(Some(route), reject),
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

fn after_failure(route: Route, attempts: u64, text: &str) -> Verdict {
    match pause_after(Some(route), attempts) {
        Some(pause) => Verdict::Again(pause),
        None => give_up(Some(route), Reject::new(RejectCode::AttemptsExhausted, text)),
    }
}

/// Commands become dead letters, as does what is none of our subjects; facts and wake-ups are read again from tables.
fn give_up(route: Option<Route>, reject: Reject) -> Verdict {
    if route.is_none_or(is_command) {
        return Verdict::DeadLetter(reject);
    }
    tracing::warn!(code = reject.code.code(), detail = reject.detail, "a fact is given up");
    Verdict::Drop
}

/// Whose door a subject is; nil for subjects that are no doors.
fn door_user(subject: &Subject) -> UserId {
    match subject {
        Subject::Routed { route: Route::UserSignal, who: Some(handle), .. } => UserId::of_handle(handle),
        Subject::Routed { route: Route::Signal, .. } | Subject::ThreeToken { .. } => UserId::of_handle("operator"),
        _ => UserId(uuid::Uuid::nil()),
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
    bus.dead_letter(stream, consumer, seq, &delivery.raw, reject, core.clock.now()).await.map_err(|e| chain(&e))?;
    tracing::warn!(
        subject = delivery.raw.subject,
        code = reject.code.code(),
        detail = reject.detail,
        stream,
        seq,
        "dead letter"
    );
    let id = derive("swarm.dead-letter.v1", &[stream.as_bytes(), &seq.to_be_bytes()]);
    let parent = core.root_of(id, cause.user);
    core.emit(&parent, vec![notice(cause, reject, delivery)]).await.map_err(|error| error.to_string())?;
    meters::dead_lettered(core.spec.name, reject.code.code());
    Ok(())
}

fn notice(cause: &Cause, reject: &Reject, delivery: &Delivery) -> Message {
    let signal = matches!(cause.route, Some(Route::Signal | Route::UserSignal | Route::Idea));
    let code = if signal { "SIGNAL_REJECTED" } else { "MESSAGE_GIVEN_UP" };
    let mut numbers = BTreeMap::from([
        ("code".to_owned(), reject.code.code().to_owned()),
        ("detail".to_owned(), reject.detail.clone()),
        ("subject".to_owned(), delivery.raw.subject.clone()),
        ("stream".to_owned(), delivery.stream.clone()),
        ("seq".to_owned(), delivery.stream_seq.to_string()),
    ]);
    if let Some(id) = cause.message_id {
        numbers.insert("message_id".to_owned(), id.to_string());
    }
    let text = format!("{code}: {} {}", reject.code.code(), reject.detail);
    let notice = Notice { code: code.to_owned(), text, numbers };
    Message::fact(Subject::fact(Route::Notice), cause.user, code, Payload::Notice(notice))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trading_is_retried_three_times_and_watching_five() {
        let check = |route, attempts, expected: Option<u64>| {
            assert_eq!(pause_after(Some(route), attempts), expected.map(Duration::from_millis), "{route:?} {attempts}");
        };
        check(Route::Signal, 1, Some(100));
        check(Route::Signal, 2, Some(400));
        check(Route::CexPermit, 3, Some(2_000));
        check(Route::CexPermit, 4, None);
        check(Route::Alert, 5, Some(60_000));
        check(Route::Alert, 6, None);
    }

    #[test]
    fn only_commands_and_strangers_become_dead_letters() {
        let reject = Reject::new(RejectCode::BadJson, "x");
        let check = |route: Option<Route>, dead: bool| {
            assert_eq!(matches!(give_up(route, reject.clone()), Verdict::DeadLetter(_)), dead, "{route:?}");
        };
        check(None, true);
        check(Some(Route::Signal), true);
        check(Some(Route::Intent), true);
        check(Some(Route::DexPermit), true);
        check(Some(Route::Report), false);
        check(Some(Route::ApprovalResolved), false);
        check(Some(Route::Notice), false);
    }

    #[test]
    fn a_rejected_signal_is_told_to_the_owner_of_its_door() {
        let check = |subject: &str, handle: &str| {
            assert_eq!(door_user(&Subject::parse(subject).unwrap()), UserId::of_handle(handle), "{subject}");
        };
        check("trading.buy_bot.signal.critical", "operator");
        check("trading.signal.urgent", "operator");
        check("trading.buy_bot.signal-alice.high", "alice");
    }
}
