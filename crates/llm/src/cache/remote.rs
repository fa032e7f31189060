//! Redis behind the process: read within a short time or not at all, written in the background. Whatever it does, the worst
//! that comes of it is a miss.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::future::BoxFuture;
use redis::aio::MultiplexedConnection;
use redis::{ErrorKind, RedisResult};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout};

use super::keys::Digest;
use super::stats::Counts;
use crate::redis_link::RedisLink;

/// What every key begins with; a flush looks for it.
const PREFIX: &str = "llm:c:";
/// Failures in a row after which Redis is left alone for a while.
const MOST_FAILURES: u64 = 3;
/// How long, ms; then one lookup tries again.
const QUIET_MS: u64 = 1_000;
/// Most entries in one write.
const LARGEST_BATCH: usize = 64;
/// Longest time of one write: nobody waits for it. Above the connection's own, so that a dead one is noticed.
const WRITE_TIME: Duration = Duration::from_secs(1);
/// Longest time of a flush: a person waits for it.
const FLUSH_TIME: Duration = Duration::from_secs(10);
/// Keys that are looked for at once in a flush.
const SCAN_COUNT: usize = 500;

/// One entry to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// Key.
    pub key: String,
    /// Value.
    pub value: Vec<u8>,
    /// Time to live, ms.
    pub ttl_ms: u64,
}

/// A store of values under keys: Redis by the link that quotas share, or a double of it.
pub trait Remote: Send + Sync + 'static {
    /// The values of these keys in one round trip, in their order.
    fn get(&self, keys: Vec<String>) -> BoxFuture<'_, RedisResult<Vec<Option<Vec<u8>>>>>;
    /// Writes these in one round trip.
    fn set(&self, entries: Vec<Write>) -> BoxFuture<'_, RedisResult<()>>;
    /// Removes every key that begins so; how many.
    fn clear(&self, prefix: &'static str) -> BoxFuture<'_, RedisResult<u64>>;
}

impl Remote for RedisLink {
    fn get(&self, keys: Vec<String>) -> BoxFuture<'_, RedisResult<Vec<Option<Vec<u8>>>>> {
        Box::pin(asked(self, |connection| {
            Box::pin(async move { redis::cmd("MGET").arg(keys).query_async(connection).await })
        }))
    }

    fn set(&self, entries: Vec<Write>) -> BoxFuture<'_, RedisResult<()>> {
        let mut pipeline = redis::pipe();
        for entry in entries {
            pipeline.cmd("SET").arg(entry.key).arg(entry.value).arg("PX").arg(entry.ttl_ms).ignore();
        }
        Box::pin(asked(self, |connection| Box::pin(async move { pipeline.query_async(connection).await })))
    }

    fn clear(&self, prefix: &'static str) -> BoxFuture<'_, RedisResult<u64>> {
        Box::pin(asked(self, move |connection| Box::pin(clear(connection, prefix))))
    }
}

async fn clear(connection: &mut MultiplexedConnection, prefix: &str) -> RedisResult<u64> {
    let (mut cursor, mut removed) = (0_u64, 0_u64);
    loop {
        let mut scan = redis::cmd("SCAN");
        scan.arg(cursor).arg("MATCH").arg(format!("{prefix}*")).arg("COUNT").arg(SCAN_COUNT);
        let (next, keys): (u64, Vec<String>) = scan.query_async(connection).await?;
        if !keys.is_empty() {
            removed += redis::cmd("UNLINK").arg(keys).query_async::<u64>(connection).await?;
        }
        if next == 0 {
            return Ok(removed);
        }
        cursor = next;
    }
}

/// Asks by the connection of now, and tells the link when that is dead: nobody else may be using it. A lookup that was given
/// up after its short time says nothing about the connection; a write, which waits longer than the connection does, hears it.
async fn asked<T, F>(link: &RedisLink, ask: F) -> RedisResult<T>
where
    F: for<'a> FnOnce(&'a mut MultiplexedConnection) -> BoxFuture<'a, RedisResult<T>>,
{
    let Some(mut connected) = link.connection() else { return Err((ErrorKind::Io, "Redis is away").into()) };
    let answer = ask(&mut connected.connection).await;
    if let Err(error) = &answer
        && (error.is_io_error() || error.is_timeout() || error.is_connection_dropped())
    {
        link.failed(connected.number);
    }
    answer
}

/// The key of an entry in Redis.
pub(super) fn key(kind: &str, digest: &Digest) -> String {
    format!("{PREFIX}{kind}:{}", hex::encode(digest))
}

/// What the writer is told, in this order: a flush removes what was to be written before it.
enum Job {
    Write(Write),
    Clear(oneshot::Sender<Option<u64>>),
}

/// Redis, asked with care.
pub(super) struct Far {
    remote: Arc<dyn Remote>,
    read_time: Duration,
    counts: Arc<Counts>,
    writer: mpsc::Sender<Job>,
    failures: AtomicU64,
    /// When one may try again, ms since `begin`.
    quiet_until_ms: AtomicU64,
    begin: Instant,
}

impl Far {
    /// Starts the writer on the runtime that this is called in; without one nothing is written.
    pub(super) fn new(remote: Arc<dyn Remote>, read_time: Duration, queue: usize, counts: Arc<Counts>) -> Self {
        let (writer, jobs) = mpsc::channel(queue.max(1));
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn(write(Arc::clone(&remote), jobs, Arc::clone(&counts)))),
            Err(error) => tracing::error!(%error, "the cache was made outside a runtime and writes nothing to Redis"),
        }
        let (failures, quiet_until_ms) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { remote, read_time, counts, writer, failures, quiet_until_ms, begin: Instant::now() }
    }

    /// The values of these keys; nothing when Redis does not say in time.
    pub(super) async fn get(&self, keys: Vec<String>) -> Vec<Option<Vec<u8>>> {
        if !self.may_ask() {
            self.counts.remote_skipped.add(1);
            return Vec::new();
        }
        match within(self.read_time, self.remote.get(keys)).await {
            Some(values) => {
                self.failures.store(0, Ordering::Relaxed);
                values
            }
            None => {
                self.counts.remote_errors.add(1);
                if self.failures.fetch_add(1, Ordering::Relaxed) + 1 >= MOST_FAILURES {
                    self.quiet_until_ms.store(self.now_ms() + QUIET_MS, Ordering::Relaxed);
                }
                Vec::new()
            }
        }
    }

    /// Whether this lookup may ask: always while Redis answers; after failures, one in a while.
    fn may_ask(&self) -> bool {
        if self.failures.load(Ordering::Relaxed) < MOST_FAILURES {
            return true;
        }
        let (now, until) = (self.now_ms(), self.quiet_until_ms.load(Ordering::Relaxed));
        let claimed = now + QUIET_MS;
        now >= until
            && self.quiet_until_ms.compare_exchange(until, claimed, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.begin.elapsed().as_millis()).unwrap_or(u64::MAX / 2)
    }

    /// Hands an entry to the writer; when too many wait it is dropped.
    pub(super) fn put(&self, entry: Write) {
        if self.writer.try_send(Job::Write(entry)).is_err() {
            self.counts.remote_dropped.add(1);
        }
    }

    /// Removes every entry, also those that still wait to be written; `None` when Redis did not do it.
    pub(super) async fn clear(&self) -> Option<u64> {
        let (done, heard) = oneshot::channel();
        let asked = async {
            self.writer.send(Job::Clear(done)).await.ok()?;
            heard.await.ok()?
        };
        timeout(FLUSH_TIME, asked).await.ok()?
    }
}

/// Writes what comes, several at once when they came together, until the cache is gone.
async fn write(remote: Arc<dyn Remote>, mut jobs: mpsc::Receiver<Job>, counts: Arc<Counts>) {
    let mut batch = Vec::with_capacity(LARGEST_BATCH);
    while jobs.recv_many(&mut batch, LARGEST_BATCH).await > 0 {
        let mut entries = Vec::with_capacity(batch.len());
        for job in batch.drain(..) {
            match job {
                Job::Write(entry) => entries.push(entry),
                Job::Clear(done) => {
                    send(&*remote, std::mem::take(&mut entries), &counts).await;
                    let removed = within(FLUSH_TIME, remote.clear(PREFIX)).await;
                    if removed.is_none() {
                        counts.remote_errors.add(1);
                    }
                    // Whoever asked may have given up.
                    let _ = done.send(removed);
                }
            }
        }
        send(&*remote, entries, &counts).await;
    }
}

async fn send(remote: &dyn Remote, entries: Vec<Write>, counts: &Counts) {
    let number = entries.len() as u64;
    if number == 0 {
        return;
    }
    match within(WRITE_TIME, remote.set(entries)).await {
        Some(()) => {
            counts.remote_writes.add(number);
        }
        None => {
            counts.remote_errors.add(1);
            counts.remote_dropped.add(number);
        }
    }
}

/// What a call says within the time; failures are told in the log, not to callers.
async fn within<T>(time: Duration, call: impl Future<Output = RedisResult<T>>) -> Option<T> {
    match timeout(time, call).await {
        Ok(Ok(value)) => Some(value),
        Ok(Err(error)) => {
            tracing::debug!(%error, "Redis failed the cache");
            None
        }
        Err(_) => {
            tracing::debug!("Redis was too slow for the cache");
            None
        }
    }
}
