//! One input, one unit of work: inbox entry, the handler's changes and its outputs are committed together or not at
//! all.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use domain::message::{Envelope, Message};
use domain::time::UnixMs;
use futures::FutureExt;
use store::{Db, StoreError, Unit};
use tokio::time::{Duration, timeout};

use crate::agent::{Agent, Ctx, HandleError};
use crate::core::Core;
use crate::meters;

/// Bound of all database work around one handler; single statements are bounded far below it by the server.
const STORE_BOUND: Duration = Duration::from_secs(10);
/// Tries within the process after a conflict in the database, before the message goes back to the broker.
const CONFLICT_TRIES: u32 = 4;
/// First pause between those tries; doubles.
const CONFLICT_PAUSE: Duration = Duration::from_millis(10);

/// Where an input came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// A durable consumer: the inbox drops duplicates, and without the store nothing is handled.
    Consumed,
    /// A timer, or a subscription whose handler uses the store: handled even when the store is down.
    Passing,
    /// Any other subscription: never touches the store, so that a slow one delays nothing that is heard.
    Heard,
}

/// An agent and what surrounds it.
pub(crate) struct Engine<A> {
    pub(crate) agent: Arc<A>,
    pub(crate) core: Arc<Core>,
}

impl<A> Clone for Engine<A> {
    fn clone(&self) -> Self {
        Self { agent: Arc::clone(&self.agent), core: Arc::clone(&self.core) }
    }
}

impl<A: Agent> Engine<A> {
    /// Handles an input, trying again a few times after conflicts in the database.
    pub(crate) async fn handle(&self, input: &Envelope, source: Source) -> Result<(), HandleError> {
        if source == Source::Heard {
            return self.without_store(input).await;
        }
        let mut pause = CONFLICT_PAUSE;
        let mut tries = 1;
        loop {
            match self.attempt(input, source).await {
                Err(HandleError::Retry(text)) if self.core.db.is_some() && tries < CONFLICT_TRIES => {
                    tracing::debug!(text, tries, "tried again at once");
                    if !self.core.store_answers().await {
                        return Err(HandleError::Retry(text));
                    }
                    tokio::time::sleep(pause).await;
                    pause *= 2;
                    tries += 1;
                }
                // An outage has many faces, some of which read like a fault of ours. It must not end the process.
                Err(HandleError::Fatal(text)) if self.core.db.is_some() && !self.core.store_answers().await => {
                    return Err(HandleError::Retry(text));
                }
                settled => return settled,
            }
        }
    }

    async fn attempt(&self, input: &Envelope, source: Source) -> Result<(), HandleError> {
        let core = &self.core;
        let Some(db) = &core.db else {
            in_time(input, source, core.clock.now())?;
            return self.without_store(input).await;
        };
        let opened =
            timeout(STORE_BOUND, self.open(db, input, source)).await.map_err(|_| slow("opening a transaction"));
        let (mut unit, now) = match opened.and_then(|opened| opened) {
            Ok(Some(opened)) => opened,
            Ok(None) => {
                meters::duplicate(core.spec.name, input.subject.route());
                return Ok(());
            }
            Err(HandleError::Retry(text) | HandleError::Fatal(text)) if source == Source::Passing => {
                tracing::debug!(text, "handled without the store");
                core.vitals.store_suspect.notify_one();
                return self.without_store(input).await;
            }
            Err(error) => {
                core.vitals.store_suspect.notify_one();
                return Err(error);
            }
        };
        // By the database's time, and only now: what the inbox knows was handled, however late it comes again.
        in_time(input, source, now)?;
        let ctx = Ctx::new(now, core.vitals.skew_ms(), &core.market, Some(&mut unit));
        let out = self.call(input, ctx).await?;
        let closed = timeout(STORE_BOUND, self.close(unit, input, out)).await.map_err(|_| slow("a commit"));
        let closed = closed.and_then(|closed| closed);
        if closed.is_err() {
            // Whether it was committed is not known. If it was, the next try finds the inbox entry and the sweep the rows.
            core.relay.as_ref().inspect(|relay| relay.sweep());
        }
        closed
    }

    /// A transaction for an input and the database's time; `None` when the input was handled before.
    async fn open(&self, db: &Db, input: &Envelope, source: Source) -> Result<Option<(Unit, UnixMs)>, HandleError> {
        let core = &self.core;
        let mut unit = db.begin().await?;
        let tenant = Some(input.header.user_id).filter(|user| !user.0.is_nil());
        let now = match source {
            Source::Consumed => match unit.open(tenant, core.spec.name, input.header.message_id).await? {
                Some(now) => now,
                None => {
                    unit.rollback().await?;
                    return Ok(None);
                }
            },
            Source::Passing | Source::Heard => {
                if let Some(user) = tenant {
                    unit.set_tenant(user).await?;
                }
                unit.now().await?
            }
        };
        core.vitals.set_skew_ms(core.clock.now().since_ms(now));
        Ok(Some((unit, now)))
    }

    async fn close(&self, mut unit: Unit, input: &Envelope, out: Vec<Message>) -> Result<(), HandleError> {
        let core = &self.core;
        let rows = core.rows(&input.header, out)?;
        unit.outbox_put(core.spec.name, &rows).await?;
        unit.commit().await.map_err(unknown_commit)?;
        self.agent.committed(input);
        if let Some(relay) = &core.relay {
            // Published, or left to the relay: in both cases the input is done. Waiting keeps intake at the broker's pace.
            let _ = relay.send(rows).await;
        }
        Ok(())
    }

    async fn without_store(&self, input: &Envelope) -> Result<(), HandleError> {
        let core = &self.core;
        let out = self.call(input, Ctx::new(core.now(), core.vitals.skew_ms(), &core.market, None)).await?;
        core.emit(&input.header, out).await
    }

    /// The handler itself, bounded in time; a panic is a failed attempt.
    async fn call(&self, input: &Envelope, mut ctx: Ctx<'_>) -> Result<Vec<Message>, HandleError> {
        let limit_ms = self.core.spec.limits.handle_timeout_ms;
        let handler = AssertUnwindSafe(self.agent.handle(input, &mut ctx)).catch_unwind();
        match timeout(Duration::from_millis(limit_ms), handler).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(panic)) => Err(HandleError::Retry(format!("the handler panicked: {}", panic_text(panic.as_ref())))),
            Err(_) => Err(HandleError::Retry(format!("the handler took longer than {limit_ms} ms"))),
        }
    }
}

/// Whether a consumed message may still be acted on. What is heard in passing was looked at when it was heard.
fn in_time(input: &Envelope, source: Source, now: UnixMs) -> Result<(), HandleError> {
    if source == Source::Consumed {
        bus::codec::in_time(input, now)?;
    }
    Ok(())
}

fn slow(what: &str) -> HandleError {
    HandleError::Retry(format!("{what} took longer than {} s", STORE_BOUND.as_secs()))
}

/// A failed commit is tried again whatever it was: its outcome is not known, and the inbox makes the retry safe.
fn unknown_commit(error: StoreError) -> HandleError {
    HandleError::Retry(crate::agent::chain(&error))
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no text")
}
