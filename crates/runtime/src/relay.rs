//! The outbox relay: what was committed is published, and forgotten once the broker has it.
//!
//! One loop a process. A commit hands its rows over in memory; rows left in the table (a crash, a broker that was away)
//! are swept up at the start and after every failure, under the same ids. So start-up and recovery are one path.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use bus::{Bus, BusError};
use domain::subject::Subject;
use domain::time::Clock;
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use store::{Db, OutboxRow};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::meters;
use crate::outbox::encoded;

/// Publishes that wait for the broker at once; more only make the latency of each longer.
const FLIGHTS: usize = 64;
/// Commits that may wait for the loop; those beyond are swept up from the table.
const QUEUE: usize = 1_024;
/// Publishes that rows of a sweep may take up: what was committed just now must never wait behind old trouble.
const SWEPT_FLIGHTS: usize = FLIGHTS / 2;
/// A published row is deleted at the latest so long after, together with those of meanwhile: a transaction for each of
/// them would sync the disk in the way of those that carry money.
const FORGET_WITHIN: Duration = Duration::from_millis(100);
/// A sweep begins when at most so many are in flight.
const SWEEP_BELOW: usize = FLIGHTS / 4;
/// Between sweeps while a row is known to be left.
const SWEEP_SOON: Duration = Duration::from_secs(1);
/// Longest pause before a row that could not be published is tried again; it doubles from a second.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// Between sweeps when none is known to be left: for rows of a commit whose outcome nobody learned.
const SWEEP_IDLE: Duration = Duration::from_secs(30);

/// Dropped when the last row of a commit was published or given back to the table.
type Done = Arc<oneshot::Sender<()>>;

struct Batch {
    rows: Vec<OutboxRow>,
    done: Done,
}

/// Hands rows to the loop; cheap to clone.
#[derive(Clone)]
pub(crate) struct Relay {
    queue: mpsc::Sender<Batch>,
    leftovers: Arc<Notify>,
}

impl Relay {
    /// The handle and the loop of `agent`'s outbox. The loop ends when `last_call` is cancelled and all it was given is
    /// published. `swept` fires when the first sweep is done.
    pub(crate) fn new(agent: &'static str, bus: Bus, db: Db, clock: Arc<dyn Clock>) -> (Self, RelayLoop) {
        let (queue, incoming) = mpsc::channel(QUEUE);
        let leftovers = Arc::new(Notify::new());
        let relay = Self { queue, leftovers: Arc::clone(&leftovers) };
        let work = RelayLoop {
            agent,
            bus,
            db,
            clock,
            incoming,
            leftovers,
            known: HashSet::new(),
            put_off: HashMap::new(),
            backlog: false,
            published: Vec::new(),
            forget_at: None,
            flights: FuturesUnordered::new(),
            sweep_at: Instant::now(),
        };
        (relay, work)
    }

    /// Publishes committed rows. The receiver resolves (to an error, which is no fault) when each was published or is
    /// left to the next sweep.
    pub(crate) fn send(&self, rows: Vec<OutboxRow>) -> oneshot::Receiver<()> {
        let (done, receiver) = oneshot::channel();
        if !rows.is_empty() && self.queue.try_send(Batch { rows, done: Arc::new(done) }).is_err() {
            self.sweep();
        }
        receiver
    }

    /// There may be rows in the table that nobody handed over.
    pub(crate) fn sweep(&self) {
        self.leftovers.notify_one();
    }
}

struct Flight {
    id: Uuid,
    end: End,
}

/// How the try to publish a row ended.
enum End {
    /// The broker has it, or nobody would act on it any more.
    Sent,
    /// Nobody answered. That is not its fault.
    Unanswered,
    /// It was refused.
    Failed,
}

/// The loop's state.
pub(crate) struct RelayLoop {
    agent: &'static str,
    bus: Bus,
    db: Db,
    clock: Arc<dyn Clock>,
    incoming: mpsc::Receiver<Batch>,
    leftovers: Arc<Notify>,
    /// Rows in flight or published and not deleted yet: a sweep leaves them alone.
    known: HashSet<Uuid>,
    /// Rows that could not be published: how often, and when they are tried again.
    put_off: HashMap<Uuid, (u32, Instant)>,
    /// The last sweep left rows in the table that it could have taken.
    backlog: bool,
    published: Vec<Uuid>,
    /// When `published` is deleted, if it is not full before.
    forget_at: Option<Instant>,
    flights: FuturesUnordered<BoxFuture<'static, Flight>>,
    sweep_at: Instant,
}

impl RelayLoop {
    /// Publishes until `last_call`. `swept` is told when the rows found at the start were tried.
    pub(crate) async fn run(mut self, last_call: CancellationToken, swept: oneshot::Sender<()>) {
        let mut swept = Some(swept);
        self.sweep().await;
        loop {
            let is_first_sweep_done = swept.is_some() && self.flights.is_empty() && !self.backlog;
            if is_first_sweep_done || self.published.len() >= FLIGHTS {
                self.forget().await;
            }
            if is_first_sweep_done {
                drop(swept.take());
            }
            meters::outbox_in_flight(self.agent, self.flights.len());
            tokio::select! {
                biased;
                Some(flight) = self.flights.next(), if !self.flights.is_empty() => self.landed(flight),
                batch = self.incoming.recv(), if self.flights.len() < FLIGHTS => match batch {
                    Some(batch) => self.take(batch),
                    None => break,
                },
                () = self.leftovers.notified() => {
                    // The broker may be back: what failed without it is not to wait.
                    self.put_off.clear();
                    self.sweep_at = self.sweep_at.min(Instant::now() + SWEEP_SOON);
                }
                () = until(self.forget_at), if self.forget_at.is_some() => self.forget().await,
                () = tokio::time::sleep_until(self.sweep_at), if self.flights.len() <= SWEEP_BELOW => self.sweep().await,
                () = last_call.cancelled() => break,
            }
        }
        self.incoming.close();
        while let Some(batch) = self.incoming.recv().await {
            self.take(batch);
        }
        while let Some(flight) = self.flights.next().await {
            self.landed(flight);
        }
        self.forget().await;
    }

    fn take(&mut self, batch: Batch) {
        for row in batch.rows {
            self.launch(row, Some(Arc::clone(&batch.done)));
        }
    }

    fn launch(&mut self, row: OutboxRow, done: Option<Done>) {
        if !self.known.insert(row.id) {
            return;
        }
        let (bus, clock, agent) = (self.bus.clone(), Arc::clone(&self.clock), self.agent);
        self.flights.push(Box::pin(async move {
            let id = row.id;
            let end = publish(&bus, clock.as_ref(), agent, row, done.is_some()).await;
            drop(done);
            Flight { id, end }
        }));
    }

    fn landed(&mut self, flight: Flight) {
        let Flight { id, end } = flight;
        if matches!(end, End::Sent) {
            self.put_off.remove(&id);
            self.published.push(id);
            self.forget_at.get_or_insert_with(|| Instant::now() + FORGET_WITHIN);
            return;
        }
        self.known.remove(&id);
        let failed = self.put_off.get(&id).map_or(0, |(failed, _)| *failed);
        // Waiting longer each time is for what is refused: the next leader may be there in a second.
        let (failed, pause) = match end {
            End::Failed => (failed.saturating_add(1), pause_after(failed)),
            _ => (failed, SWEEP_SOON),
        };
        self.put_off.insert(id, (failed, Instant::now() + pause));
        self.sweep_at = self.sweep_at.min(Instant::now() + pause);
    }

    /// Deletes what was published. What can't be deleted is kept and deleted later; published once more after a crash
    /// it carries the same id.
    async fn forget(&mut self) {
        self.forget_at = None;
        if self.published.is_empty() {
            return;
        }
        match self.db.outbox_delete(self.agent, &self.published).await {
            Ok(()) => {
                for id in self.published.drain(..) {
                    self.known.remove(&id);
                }
            }
            Err(error) => {
                tracing::warn!(error = crate::agent::chain(&error), "published outbox rows could not be deleted yet");
                self.forget_at = Some(Instant::now() + SWEEP_SOON);
            }
        }
    }

    async fn sweep(&mut self) {
        let now = Instant::now();
        let waiting = self.put_off.iter().filter(|(_, (_, at))| *at > now);
        let next = waiting.clone().map(|(_, (_, at))| *at).min();
        let besides: Vec<Uuid> = self.known.iter().copied().chain(waiting.map(|(id, _)| *id)).collect();
        let room = i64::try_from(SWEPT_FLIGHTS.saturating_sub(self.flights.len())).unwrap_or(0);
        self.sweep_at = (now + SWEEP_IDLE).min(next.unwrap_or(now + SWEEP_IDLE));
        let rows = match self.db.outbox_pending_besides(self.agent, room, &besides).await {
            Ok(rows) => rows,
            Err(error) => {
                tracing::warn!(error = crate::agent::chain(&error), "the outbox could not be read");
                self.sweep_at = Instant::now() + SWEEP_SOON;
                return;
            }
        };
        self.backlog = i64::try_from(rows.len()).is_ok_and(|n| n >= room);
        if self.backlog {
            self.sweep_at = now;
        }
        for row in rows {
            self.launch(row, None);
        }
    }
}

/// Waits for `at`; without one for ever.
async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// The pause after a row failed for the `failed + 1`st time.
fn pause_after(failed: u32) -> Duration {
    SWEEP_SOON.saturating_mul(1_u32.checked_shl(failed).unwrap_or(u32::MAX)).min(LONGEST_PAUSE)
}

/// Publishes one row. A fact whose time is over is let go. A command never is: an earlier try may have been stored, which
/// only the stream can tell by its id; and when none was, its reader refuses it as expired, keeps it as a dead letter and
/// tells its person, as with everything that came too late.
async fn publish(bus: &Bus, clock: &dyn Clock, agent: &'static str, row: OutboxRow, is_new: bool) -> End {
    if row.valid_until.is_some_and(|end| end < clock.now()) {
        tracing::warn!(subject = row.subject, id = %row.id, "an outbox message expired before it could be published");
        if !Subject::parse(&row.subject).is_some_and(|subject| subject.route().is_command()) {
            meters::outbox_expired(agent);
            return End::Sent;
        }
    }
    let valid_until = row.valid_until;
    let subject = row.subject.clone();
    let message = encoded(row);
    let sent = match bus.publish_encoded(&message, valid_until, &|| clock.now()).await {
        Ok(published) if is_new && published.duplicate && published.tries == 1 => {
            // Nobody has sent this before, yet the stream knows its id: ids can be foreseen, and whoever may publish to
            // the stream may have taken this one. It must not make a permit vanish.
            tracing::warn!(subject, id = %message.id, "a new message was called a duplicate; sent under another id");
            meters::outbox_id_taken(agent);
            bus.publish_despite(&message, valid_until, &|| clock.now()).await
        }
        sent => sent,
    };
    match sent {
        Ok(published) => {
            if !published.duplicate && valid_until.is_some_and(|end| end < clock.now()) {
                meters::outbox_expired(agent);
            }
            End::Sent
        }
        Err(error) => {
            tracing::warn!(subject, error = crate::agent::chain(&error), "an outbox message stays and is tried again");
            if matches!(error, BusError::PublishUnanswered { .. }) { End::Unanswered } else { End::Failed }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_that_fails_is_tried_ever_less_often() {
        for (failed, seconds) in [(0, 1), (1, 2), (2, 4), (8, 256), (9, 300), (40, 300), (u32::MAX, 300)] {
            assert_eq!(pause_after(failed), Duration::from_secs(seconds), "{failed}");
        }
    }
}
