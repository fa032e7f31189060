//! What runs beside the work: heartbeats, the store's pulse, the supervisor's, the connection's, and the watchdog.

use std::sync::Arc;
use std::sync::mpsc as blocking;

use bus::BusEvent;
use domain::ids::UserId;
use domain::message::{Envelope, Heartbeat, Payload};
use domain::subject::Subject;
use domain::time::DAY_MS;
use tokio::sync::mpsc;
use tokio::time::{Duration, timeout};

use crate::agent::chain;
use crate::core::Core;
use crate::grid::{USUALLY, grid};
use crate::meters;
use crate::process::RunError;
use crate::vitals::{NO_STORE, resident_bytes};

/// A heartbeat that the connection did not take by then is replaced by the next.
const BEAT_TIMEOUT: Duration = Duration::from_millis(900);
/// Between signs of life for the watchdog.
const TURN_EVERY: Duration = Duration::from_secs(4);
/// A store that does not answer a ping by then is down.
pub(crate) const PING_TIMEOUT: Duration = Duration::from_secs(2);
/// Without a supervisor for this long a supervised process drains.
pub(crate) const ORPHANED_AFTER: Duration = Duration::from_secs(15);
/// An async runtime that does not turn for this long hangs.
const HUNG_AFTER: Duration = Duration::from_secs(20);
/// Between clean-ups of the inbox.
const FORGET_EVERY: Duration = Duration::from_secs(3_600);
/// Inbox rows forgotten in one statement.
const FORGET_BATCH: i64 = 1_000;
/// Nothing is redelivered after this.
const INBOX_KEEP_MS: i64 = 7 * DAY_MS;
/// Exit code of a hung process: EX_SOFTWARE.
const HUNG_EXIT: i32 = 70;

/// Sends heartbeats until it is aborted.
pub(crate) async fn beat(core: Arc<Core>) {
    let mut every = grid(USUALLY);
    loop {
        every.tick().await;
        let rss_bytes = resident_bytes();
        meters::gauges(core.spec.name, !core.vitals.unready().contains(&NO_STORE), core.vitals.skew_ms(), rss_bytes);
        if (core.spec.consumes.is_empty() && core.spec.timers.is_empty()) || !*core.may_work.borrow() {
            // Nothing but its subscriptions moves this process; that this loop turns is all the progress there is.
            core.vitals.step();
        }
        if !core.bus.is_connected() {
            // It would be sent when the connection is back, and tell of now as if it were then.
            continue;
        }
        let header = core.root_header(UserId(uuid::Uuid::nil()));
        let payload = Payload::Heartbeat(heartbeat(&core, rss_bytes));
        let envelope = Envelope { header, subject: Subject::heartbeat(core.spec.name), payload };
        match timeout(BEAT_TIMEOUT, core.bus.publish_latest(&envelope)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(error = chain(&error), "a heartbeat was not sent"),
            Err(_) => tracing::debug!("a heartbeat was not sent in time"),
        }
    }
}

fn heartbeat(core: &Core, rss_bytes: u64) -> Heartbeat {
    let in_hand = core.vitals.in_hand();
    Heartbeat {
        agent: core.spec.name.to_owned(),
        boot_id: core.boot_id,
        pid: std::process::id(),
        progress: core.vitals.progress(),
        busy: !in_hand.is_empty(),
        oldest_in_flight_ms: i64::try_from(core.vitals.oldest_in_hand().as_millis()).unwrap_or(i64::MAX),
        rss_bytes,
        queue_depth: u64::try_from(in_hand.len()).unwrap_or(u64::MAX),
        dependencies: core.vitals.dependencies(),
        in_hand,
        lacks: core.lacks.clone(),
        draining: core.shutdown.is_cancelled(),
        unready: core.vitals.unready().into_iter().map(str::to_owned).collect(),
        held: !*core.may_work.borrow(),
        handled: core.vitals.handled(),
        failed: core.vitals.failed(),
    }
}

/// Watches the store: asks it the time every two seconds, at once when somebody saw it fail, and forgets old inbox rows.
pub(crate) async fn store(core: Arc<Core>) {
    let Some(db) = core.db.clone() else { return };
    let mut every = grid(USUALLY);
    let mut forget = grid(FORGET_EVERY);
    loop {
        tokio::select! {
            _ = every.tick() => {}
            () = core.vitals.store_suspect.notified() => {}
            _ = forget.tick() => {
                tokio::spawn(forget_inbox(db.clone(), core.spec.name, core.clock.now().plus_ms(-INBOX_KEEP_MS)));
            }
        }
        if !core.store_answers().await {
            // Waiting for the store is all that can be done, and that is being done.
            core.vitals.step();
        }
    }
}

/// Forgets all inbox rows from before `before`, in batches: an agent may take in more within an hour than one batch.
async fn forget_inbox(db: store::Db, agent: &'static str, before: domain::time::UnixMs) {
    loop {
        match db.inbox_forget(agent, before, FORGET_BATCH).await {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) => {
                tracing::warn!(error = chain(&error), "old inbox rows could not be forgotten");
                return;
            }
        }
    }
}

/// Drains a supervised process that has heard no supervisor for 15 s. A supervisor that was only restarted finds it
/// alive and adopts it.
pub(crate) async fn supervisor(core: Arc<Core>) {
    let mut every = grid(USUALLY);
    loop {
        every.tick().await;
        // One that is held has nothing that it could do without a supervisor.
        let works = *core.may_work.borrow() && !core.shutdown.is_cancelled();
        if works && core.vitals.supervisor_silence() > ORPHANED_AFTER {
            core.fail(RunError::Orphaned);
        }
    }
}

/// Follows the connection's events; a right that is missing ends the process.
pub(crate) async fn connection(core: Arc<Core>, mut events: mpsc::Receiver<BusEvent>) {
    while let Some(event) = events.recv().await {
        match event {
            BusEvent::Fatal(text) => core.fail(RunError::Bus(text)),
            BusEvent::Disconnected => {
                core.vitals.set_bus_up(false);
                tracing::warn!("the connection to NATS was lost");
            }
            BusEvent::Connected => {
                core.vitals.set_bus_up(true);
                tracing::info!("connected to NATS");
                core.relay.as_ref().inspect(|relay| relay.sweep());
            }
            BusEvent::SlowConsumer => tracing::warn!("a subscription was too slow and lost messages"),
        }
    }
}

/// Ends the process from a thread of its own when the async runtime hangs. It lives until the sender is dropped; the
/// task [`turn`] feeds it.
pub(crate) fn watchdog() -> Option<blocking::SyncSender<()>> {
    let (alive, turns) = blocking::sync_channel::<()>(1);
    let watch = move || {
        loop {
            match turns.recv_timeout(HUNG_AFTER) {
                Ok(()) => {}
                Err(blocking::RecvTimeoutError::Disconnected) => return,
                Err(blocking::RecvTimeoutError::Timeout) => {
                    tracing::error!("the async runtime hangs: ending this process");
                    std::process::exit(HUNG_EXIT);
                }
            }
        }
    };
    std::thread::Builder::new().name("watchdog".to_owned()).spawn(watch).ok().map(|_| alive)
}

/// Shows the watchdog that the runtime turns.
pub(crate) async fn turn(alive: blocking::SyncSender<()>) {
    let mut every = grid(TURN_EVERY);
    loop {
        every.tick().await;
        // A full channel means that the watchdog has not looked yet.
        let _ = alive.try_send(());
    }
}
