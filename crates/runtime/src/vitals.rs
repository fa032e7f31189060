//! The process's vital signs: what heartbeats and health checks tell.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, watch};
use tokio::time::{Duration, Instant};

/// Without progress for this long a process is not healthy.
const STUCK_AFTER: Duration = Duration::from_secs(15);
/// A message in hand for this long says that its handler hangs, whatever the timeout meant.
const HUNG_AFTER: Duration = Duration::from_secs(60);

/// Why a process is not ready while its store is away.
pub(crate) const NO_STORE: &str = "the store does not answer";

/// Counters and flags of one process.
pub(crate) struct Vitals {
    progress: AtomicU64,
    handled: AtomicU64,
    failed: AtomicU64,
    moved: Mutex<(u64, Instant)>,
    serial: AtomicU64,
    in_hand: Mutex<BTreeMap<u64, (String, Instant)>>,
    answered: Mutex<BTreeMap<String, i64>>,
    skew_ms: AtomicI64,
    bus_up: AtomicBool,
    unbound: AtomicI64,
    store_up: watch::Sender<bool>,
    /// Somebody saw the store fail: look at once.
    pub(crate) store_suspect: Notify,
    beat: Mutex<Instant>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A message in hand; dropped when it is settled.
pub(crate) struct InHand {
    vitals: Arc<Vitals>,
    serial: u64,
}

impl Drop for InHand {
    fn drop(&mut self) {
        lock(&self.vitals.in_hand).remove(&self.serial);
    }
}

impl Vitals {
    /// A process that begins, with `consumers` to be bound.
    pub(crate) fn new(consumers: usize) -> Self {
        Self {
            progress: AtomicU64::new(0),
            handled: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            moved: Mutex::new((0, Instant::now())),
            serial: AtomicU64::new(0),
            in_hand: Mutex::new(BTreeMap::new()),
            answered: Mutex::new(BTreeMap::new()),
            skew_ms: AtomicI64::new(0),
            bus_up: AtomicBool::new(true),
            unbound: AtomicI64::new(i64::try_from(consumers).unwrap_or(i64::MAX)),
            store_up: watch::Sender::new(true),
            store_suspect: Notify::new(),
            beat: Mutex::new(Instant::now()),
        }
    }

    /// One turn further.
    pub(crate) fn step(&self) {
        self.progress.fetch_add(1, Ordering::Relaxed);
    }

    /// Turns so far.
    pub(crate) fn progress(&self) -> u64 {
        self.progress.load(Ordering::Relaxed)
    }

    /// An input was handled to the end, or an attempt at it failed.
    pub(crate) fn tried(&self, went_well: bool) {
        let counter = if went_well { &self.handled } else { &self.failed };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Inputs handled to the end so far.
    pub(crate) fn handled(&self) -> u64 {
        self.handled.load(Ordering::Relaxed)
    }

    /// Attempts that failed so far.
    pub(crate) fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }

    /// Whether it moves: there was progress not long ago and nothing hangs.
    pub(crate) fn healthy(&self) -> bool {
        let mut moved = lock(&self.moved);
        let progress = self.progress();
        if moved.0 != progress {
            *moved = (progress, Instant::now());
        }
        moved.1.elapsed() < STUCK_AFTER && self.oldest_in_hand() < HUNG_AFTER
    }

    /// Takes a message in hand, named by its reply subject.
    pub(crate) fn take(self: &Arc<Self>, reply_subject: &str) -> InHand {
        let serial = self.serial.fetch_add(1, Ordering::Relaxed);
        lock(&self.in_hand).insert(serial, (reply_subject.to_owned(), Instant::now()));
        InHand { vitals: Arc::clone(self), serial }
    }

    /// Reply subjects of the messages in hand, oldest first.
    pub(crate) fn in_hand(&self) -> Vec<String> {
        lock(&self.in_hand).values().map(|(reply, _)| reply.clone()).collect()
    }

    /// Age of the message longest in hand.
    pub(crate) fn oldest_in_hand(&self) -> Duration {
        lock(&self.in_hand).values().map(|(_, since)| since.elapsed()).max().unwrap_or_default()
    }

    /// A dependency answered at `now_ms`.
    pub(crate) fn answered(&self, dependency: &str, now_ms: i64) {
        lock(&self.answered).insert(dependency.to_owned(), now_ms);
    }

    /// When each dependency last answered.
    pub(crate) fn dependencies(&self) -> BTreeMap<String, i64> {
        lock(&self.answered).clone()
    }

    /// Local clock minus database clock.
    pub(crate) fn skew_ms(&self) -> i64 {
        self.skew_ms.load(Ordering::Relaxed)
    }

    /// Notes a new clock skew.
    pub(crate) fn set_skew_ms(&self, skew_ms: i64) {
        self.skew_ms.store(skew_ms, Ordering::Relaxed);
    }

    /// The connection to NATS came or went.
    pub(crate) fn set_bus_up(&self, up: bool) {
        self.bus_up.store(up, Ordering::Relaxed);
    }

    /// A consumer was bound (`true`) or lost.
    pub(crate) fn bound(&self, bound: bool) {
        self.unbound.fetch_add(if bound { -1 } else { 1 }, Ordering::Relaxed);
    }

    /// The store answers or not. Returns whether that is news.
    pub(crate) fn set_store_up(&self, up: bool) -> bool {
        self.store_up.send_if_modified(|known| std::mem::replace(known, up) != up)
    }

    /// Returns when the store is up.
    pub(crate) async fn store_is_up(&self) {
        let mut watch = self.store_up.subscribe();
        // The sender lives in self, so this can't fail.
        let _ = watch.wait_for(|up| *up).await;
    }

    /// Why it should get no work; empty when it is ready.
    pub(crate) fn unready(&self) -> Vec<&'static str> {
        let checks = [
            (self.bus_up.load(Ordering::Relaxed), "no connection to NATS"),
            (*self.store_up.borrow(), NO_STORE),
            (self.unbound.load(Ordering::Relaxed) <= 0, "a consumer is not bound"),
        ];
        checks.into_iter().filter(|(good, _)| !good).map(|(_, text)| text).collect()
    }

    /// The supervisor was heard.
    pub(crate) fn supervisor_heard(&self) {
        *lock(&self.beat) = Instant::now();
    }

    /// How long the supervisor has been silent.
    pub(crate) fn supervisor_silence(&self) -> Duration {
        lock(&self.beat).elapsed()
    }
}

/// Resident memory of this process in bytes; 0 where there is no `/proc`.
pub(crate) fn resident_bytes() -> u64 {
    let pages: u64 = std::fs::read_to_string("/proc/self/statm")
        .ok()
        .and_then(|text| text.split_whitespace().nth(1)?.parse().ok())
        .unwrap_or(0);
    pages.saturating_mul(page_bytes())
}

/// Size of a memory page, from the kernel's own table of this process.
fn page_bytes() -> u64 {
    static PAGE: std::sync::OnceLock<u64> = std::sync::OnceLock::new();
    *PAGE.get_or_init(|| {
        std::fs::read_to_string("/proc/self/smaps")
            .ok()
            .and_then(|text| {
                let line = text.lines().find_map(|l| l.strip_prefix("KernelPageSize:"))?;
                line.split_whitespace().next()?.parse::<u64>().ok()
            })
            .map_or(4096, |kib| kib * 1024)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn health_is_progress() {
        let vitals = Arc::new(Vitals::new(1));
        assert!(vitals.healthy());
        tokio::time::advance(Duration::from_secs(16)).await;
        assert!(!vitals.healthy());
        vitals.step();
        assert!(vitals.healthy());
        let hand = vitals.take("$JS.ACK.X");
        assert_eq!(vitals.in_hand(), ["$JS.ACK.X"]);
        tokio::time::advance(Duration::from_secs(61)).await;
        vitals.step();
        assert!(!vitals.healthy());
        drop(hand);
        assert!(vitals.healthy());
    }

    #[test]
    fn a_process_is_ready_when_all_it_needs_is_there() {
        let vitals = Vitals::new(1);
        assert_eq!(vitals.unready(), ["a consumer is not bound"]);
        vitals.bound(true);
        assert!(vitals.unready().is_empty());
        assert!(vitals.set_store_up(false));
        assert!(!vitals.set_store_up(false));
        assert_eq!(vitals.unready(), ["the store does not answer"]);
    }

    #[test]
    fn memory_is_measured() {
        assert!(resident_bytes() > 1_000_000);
    }
}
