//! What everything in one world shares: the time, the dice, what is due, what breaks, the trace and the counts. One
//! thread, one order of events, all of it drawn from the seed.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use domain::time::{Clock, UnixMs};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::event::Event;

/// Names one suspended piece of work.
pub type TaskId = u64;

/// A place where a process may die.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Point {
    /// A message is in hand, nothing was done.
    BeforeHandle,
    /// All is written, nothing committed.
    BeforeCommit,
    /// Committed, nothing published.
    AfterCommit,
    /// Published, the row is still in the outbox.
    AfterPublish,
    /// All done but the acknowledgement.
    BeforeAck,
    /// The order is marked as sent and was not.
    BeforePlace,
    /// The venue has the order, nobody wrote down its answer.
    AfterPlace,
}

impl Point {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::BeforeHandle,
        Self::BeforeCommit,
        Self::AfterCommit,
        Self::AfterPublish,
        Self::BeforeAck,
        Self::BeforePlace,
        Self::AfterPlace,
    ];

    /// Its name in counts.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::BeforeHandle => "crash before handle",
            Self::BeforeCommit => "crash before commit",
            Self::AfterCommit => "crash after commit",
            Self::AfterPublish => "crash after publish",
            Self::BeforeAck => "crash before ack",
            Self::BeforePlace => "crash before place",
            Self::AfterPlace => "crash after place",
        }
    }
}

/// What one world shares.
#[derive(Debug)]
pub struct Hub {
    base_ms: AtomicI64,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    dice: ChaCha8Rng,
    wakes: Vec<(i64, TaskId)>,
    later: Vec<(i64, Event)>,
    current: TaskId,
    crashed: Option<&'static str>,
    crash_permille: u32,
    lost_permille: u32,
    store_down: bool,
    venue_down: bool,
    publish_fails: bool,
    commits: u64,
    expired: BTreeSet<Uuid>,
    agreed: BTreeSet<Uuid>,
    counts: BTreeMap<String, u64>,
    trace: Option<Vec<String>>,
    digest: Sha256,
    findings: Vec<(&'static str, String)>,
}

/// One process's clock: the world's time and an offset of its own.
#[derive(Debug, Clone)]
pub struct ProcessClock {
    hub: Arc<Hub>,
    offset_ms: Arc<AtomicI64>,
}

impl ProcessClock {
    /// A clock that is right.
    #[must_use]
    pub fn new(hub: &Arc<Hub>) -> Self {
        Self { hub: Arc::clone(hub), offset_ms: Arc::new(AtomicI64::new(0)) }
    }

    /// Steps it, to be wrong by `ms`.
    pub fn set_offset(&self, ms: i64) {
        self.offset_ms.store(ms, Ordering::SeqCst);
    }

    /// By how much it is wrong.
    #[must_use]
    pub fn offset(&self) -> i64 {
        self.offset_ms.load(Ordering::SeqCst)
    }
}

impl Clock for ProcessClock {
    fn now(&self) -> UnixMs {
        self.hub.now().plus_ms(self.offset())
    }
}

/// The world's own clock, which the database and the broker go by.
#[derive(Debug, Clone)]
pub struct WorldClock(pub Arc<Hub>);

impl Clock for WorldClock {
    fn now(&self) -> UnixMs {
        self.0.now()
    }
}

impl Hub {
    /// A world's hub at `start`.
    #[must_use]
    pub fn new(seed: u64, start: UnixMs, traced: bool) -> Arc<Self> {
        let inner = Inner {
            dice: ChaCha8Rng::seed_from_u64(seed),
            wakes: Vec::new(),
            later: Vec::new(),
            current: 0,
            crashed: None,
            crash_permille: 0,
            lost_permille: 0,
            store_down: false,
            venue_down: false,
            publish_fails: false,
            commits: 0,
            expired: BTreeSet::new(),
            agreed: BTreeSet::new(),
            counts: BTreeMap::new(),
            trace: traced.then(Vec::new),
            digest: Sha256::new(),
            findings: Vec::new(),
        };
        Arc::new(Self { base_ms: AtomicI64::new(start.0), inner: Mutex::new(inner) })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The world's time.
    #[must_use]
    pub fn now(&self) -> UnixMs {
        UnixMs(self.base_ms.load(Ordering::SeqCst))
    }

    /// Moves the world's time forward.
    pub fn go_to(&self, now: UnixMs) {
        self.base_ms.store(now.0, Ordering::SeqCst);
    }

    /// A whole number below `bound`.
    pub fn below(&self, bound: u64) -> u64 {
        self.lock().dice.random_range(0..bound.max(1))
    }

    /// A whole number within both bounds.
    pub fn between(&self, low: i64, high: i64) -> i64 {
        self.lock().dice.random_range(low..=high.max(low))
    }

    /// True this many times of a thousand.
    pub fn permille(&self, of_thousand: u32) -> bool {
        self.lock().dice.random_range(0..1_000) < of_thousand
    }

    /// One of a few.
    pub fn pick<T: Copy>(&self, of: &[T]) -> T {
        of[usize::try_from(self.below(of.len() as u64)).unwrap_or(0)]
    }

    /// A new root id, of version 7 like the real ones, its random part from the seed.
    pub fn new_id(&self) -> Uuid {
        let now = u64::try_from(self.now().0).unwrap_or(0);
        let random: [u8; 10] = self.lock().dice.random();
        uuid::Builder::from_unix_timestamp_millis(now, &random).into_uuid()
    }

    /// Counts something that happened.
    pub fn count(&self, what: &str) {
        let mut inner = self.lock();
        match inner.counts.get_mut(what) {
            Some(count) => *count += 1,
            None => drop(inner.counts.insert(what.to_owned(), 1)),
        }
    }

    /// Writes a line of the trace; every line goes into its digest.
    pub fn trace(&self, line: impl FnOnce() -> String) {
        let mut inner = self.lock();
        if inner.trace.is_none() {
            return;
        }
        let line = format!("{} {}", self.now(), line());
        inner.digest.update(line.as_bytes());
        inner.trace.as_mut().into_iter().for_each(|trace| trace.push(line.clone()));
    }

    /// Something is wrong: an invariant's name and what was seen.
    pub fn find(&self, invariant: &'static str, what: String) {
        self.lock().findings.push((invariant, what));
    }

    /// What was found wrong since the last look.
    pub fn take_findings(&self) -> Vec<(&'static str, String)> {
        std::mem::take(&mut self.lock().findings)
    }

    /// The trace so far, and the digest of its lines.
    pub fn take_trace(&self) -> (Vec<String>, String) {
        let mut inner = self.lock();
        let digest = hex::encode(inner.digest.clone().finalize());
        (inner.trace.take().unwrap_or_default(), digest)
    }

    /// What was counted.
    pub fn take_counts(&self) -> BTreeMap<String, u64> {
        std::mem::take(&mut self.lock().counts)
    }

    /// Crashes so many times of a thousand points, answers lost so many times of a thousand; 0 and 0 is peace.
    pub fn set_trouble(&self, crash_permille: u32, lost_permille: u32) {
        let mut inner = self.lock();
        (inner.crash_permille, inner.lost_permille) = (crash_permille, lost_permille);
    }

    /// An answer is lost now.
    pub fn is_lost(&self) -> bool {
        let permille = self.lock().lost_permille;
        permille > 0 && self.permille(permille)
    }

    /// The database is away, or back.
    pub fn set_store_down(&self, down: bool) {
        self.lock().store_down = down;
    }

    /// The database is away.
    #[must_use]
    pub fn store_down(&self) -> bool {
        self.lock().store_down
    }

    /// The venue is away, or back.
    pub fn set_venue_down(&self, down: bool) {
        self.lock().venue_down = down;
    }

    /// The venue is away.
    #[must_use]
    pub fn venue_down(&self) -> bool {
        self.lock().venue_down
    }

    /// The broker takes nothing, or takes again.
    pub fn set_publish_fails(&self, fails: bool) {
        self.lock().publish_fails = fails;
    }

    /// The broker takes nothing.
    #[must_use]
    pub fn publish_fails(&self) -> bool {
        self.lock().publish_fails
    }

    /// An outbox let a message go whose time was over.
    pub fn expired(&self, id: Uuid) {
        self.lock().expired.insert(id);
    }

    /// Whether an outbox let this message go.
    #[must_use]
    pub fn is_expired(&self, id: Uuid) -> bool {
        self.lock().expired.contains(&id)
    }

    /// A model agreed to a signal, surely enough.
    pub fn agreed(&self, signal: Uuid) {
        self.lock().agreed.insert(signal);
    }

    /// Whether a model ever agreed to a signal, surely enough.
    #[must_use]
    pub fn has_agreed(&self, signal: Uuid) -> bool {
        self.lock().agreed.contains(&signal)
    }

    /// Something was committed.
    pub fn committed(&self) {
        self.lock().commits += 1;
    }

    /// How often something was committed.
    #[must_use]
    pub fn commits(&self) -> u64 {
        self.lock().commits
    }

    /// Has the world do something after a while.
    pub fn later(&self, after_ms: i64, event: Event) {
        let at = self.now().0 + after_ms.max(0);
        self.lock().later.push((at, event));
    }

    /// What was asked for since the last look.
    pub fn take_later(&self) -> Vec<(i64, Event)> {
        std::mem::take(&mut self.lock().later)
    }

    /// Which piece of work is polled now.
    pub fn set_current(&self, task: TaskId) {
        self.lock().current = task;
    }

    /// When suspended work goes on.
    pub fn take_wakes(&self) -> Vec<(i64, TaskId)> {
        std::mem::take(&mut self.lock().wakes)
    }

    /// The process that has just died.
    pub fn take_crash(&self) -> Option<&'static str> {
        self.lock().crashed.take()
    }

    /// Suspends the work that is polled now.
    pub fn pause(self: &Arc<Self>, ms: i64) -> Pause {
        Pause { hub: Arc::clone(self), ms, asked: false }
    }

    /// A place where `process` may die: then this never returns.
    pub async fn point(self: &Arc<Self>, process: &'static str, point: Point) {
        let permille = self.lock().crash_permille;
        if permille == 0 || !self.permille(permille) {
            return;
        }
        self.count(point.name());
        self.trace(|| format!("{process}: {}", point.name()));
        self.lock().crashed = Some(process);
        std::future::pending::<()>().await;
    }
}

/// Suspended for a while of the world's time.
#[derive(Debug)]
pub struct Pause {
    hub: Arc<Hub>,
    ms: i64,
    asked: bool,
}

impl Future for Pause {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        if self.asked {
            return Poll::Ready(());
        }
        self.asked = true;
        let at = self.hub.now().0 + self.ms.max(0);
        let mut inner = self.hub.lock();
        let task = inner.current;
        inner.wakes.push((at, task));
        Poll::Pending
    }
}
