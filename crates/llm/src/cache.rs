//! Answers that were given before, and how sure it is that they answer this.
//!
//! | kind | equal is | where |
//! |---|---|---|
//! | exact | every byte that decides the answer, agent and tenant | process, Redis |
//! | normalised | the same but for spaces and the lines that the caller named | process, Redis |
//! | semantic | the same request but for how politely the user text is worded | process |
//! | stale | exact or normalised, too old to be fresh; only when every tier failed and the caller allows it | process, Redis |
//!
//! A cached answer that was the wrong one is worse than none: in doubt there is no hit, and a sample of the hits is asked
//! again and compared, so that the share of hits stands beside the share of wrong ones.
//!
//! Architecture invariant: the cache knows no tier and asks no model; the router decides when to look, to keep and to ask
//! again. Errors, refusals and halves of answers are not kept, whoever puts them.

mod entry;
mod facts;
mod features;
pub mod flight;
mod keys;
mod local;
mod normal;
mod remote;
mod stats;
mod wording;
mod wrong;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use domain::time::Clock;
use serde::Serialize;

pub use entry::Entry;
pub use facts::facts;
pub use features::Features;
pub use keys::{Digest, FlightKey, Keys, SemanticKey};
pub use normal::normal;
pub use remote::{Remote, Write};
pub use stats::{ByKind, Stats};
pub use wording::Wording;
pub use wrong::is_wrong;

use self::local::Local;
use self::remote::Far;
use self::stats::Counts;
use crate::answer::Answer;
use crate::request::{ChatRequest, Format};

/// Likeness of prose that a shadow sample asks for where no threshold is set.
const USUAL_THRESHOLD: f64 = 0.92;

/// How to find answers to other wordings.
#[derive(Debug, Clone, PartialEq)]
pub struct SemanticSettings {
    /// Least cosine of the words, 0 to 1, beside equal hard words.
    pub threshold: f64,
    /// Most entries; each up to [`Settings::entry_bytes`] and its words.
    pub entries: usize,
}

/// Bounds and times.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Most bytes of answers in the process.
    pub l1_bytes: u64,
    /// An answer above this is not kept.
    pub entry_bytes: usize,
    /// How long an entry is fresh, s.
    pub fresh_s: u64,
    /// How long it may stand in when every tier failed, s.
    pub stale_s: u64,
    /// Other wordings; `None`: no.
    pub semantic: Option<SemanticSettings>,
    /// Of a thousand hits, how many are asked again upstream.
    pub shadow_per_mille: u32,
    /// Longest wait for Redis in a lookup, ms.
    pub redis_read_ms: u64,
    /// Most entries that wait to be written to Redis.
    pub redis_queue: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            l1_bytes: 16 << 20,
            entry_bytes: 64 << 10,
            fresh_s: 3_600,
            stale_s: 86_400,
            semantic: Some(SemanticSettings { threshold: USUAL_THRESHOLD, entries: 1_024 }),
            shadow_per_mille: 20,
            redis_read_ms: 30,
            redis_queue: 1_024,
        }
    }
}

/// Why an answer is taken for one to this request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CacheKind {
    /// The same request.
    Exact,
    /// The same normal form.
    Normalised,
    /// Another wording.
    Semantic,
    /// Too old to be fresh.
    Stale,
}

impl CacheKind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Exact, Self::Normalised, Self::Semantic, Self::Stale];

    /// The stable word for headers and metrics.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Normalised => "normalised",
            Self::Semantic => "semantic",
            Self::Stale => "stale",
        }
    }
}

/// What was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Hit {
    /// The answer.
    pub entry: Entry,
    /// Why it is one.
    pub kind: CacheKind,
    /// How old it is.
    pub age: Duration,
}

/// What a flush empties.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flush {
    /// This process.
    Local,
    /// Redis too. Other processes keep what they hold.
    Everything,
}

/// What a flush removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Flushed {
    /// Entries in the process.
    pub local: u64,
    /// Keys in Redis; `None` when there is none, it was not asked, or it did not do it.
    pub remote: Option<u64>,
}

/// The cache. Look [`near`](Self::near), then [`far`](Self::far); [`put`](Self::put) what a model said.
pub struct Cache {
    settings: Settings,
    clock: Arc<dyn Clock>,
    local: Local,
    far: Option<Far>,
    counts: Arc<Counts>,
    flushes: AtomicU64,
}

impl Cache {
    /// A cache, empty in the process. With `redis` it must be made inside a runtime, which then runs the writer.
    #[must_use]
    pub fn new(settings: Settings, redis: Option<Arc<dyn Remote>>, clock: Arc<dyn Clock>) -> Self {
        let counts = Arc::new(Counts::default());
        let by_wording = settings.semantic.as_ref().map(|semantic| (semantic.entries, semantic.threshold));
        let local = Local::new(settings.l1_bytes, settings.entry_bytes as u64, by_wording);
        let read_time = Duration::from_millis(settings.redis_read_ms);
        let far = redis.map(|redis| Far::new(redis, read_time, settings.redis_queue, Arc::clone(&counts)));
        Self { settings, clock, local, far, counts, flushes: AtomicU64::new(0) }
    }

    /// Keys of a request by `agent`, who is named by their key and not by the request; `None` when they want no cache.
    #[must_use]
    pub fn keys(&self, agent: &str, request: &ChatRequest) -> Option<Keys> {
        Keys::of(agent, request, self.settings.semantic.is_some())
    }

    /// What the process itself holds. Counts a lookup.
    #[must_use]
    pub fn near(&self, keys: &Keys) -> Option<Hit> {
        if !keys.is_read {
            return None;
        }
        self.counts.lookups.add(1);
        let kept = |(digest, kind)| self.fresh(self.local.get(&digest)?, kind);
        let worded = || self.fresh(self.local.get_worded(keys.semantic.as_ref()?)?, CacheKind::Semantic);
        let hit = digests(keys).find_map(kept).or_else(worded)?;
        self.counts.hits.add(hit.kind);
        Some(hit)
    }

    /// What was kept since [`near`](Self::near) found nothing: looked for by whoever is about to ask, because the call that
    /// they would have shared may have ended in between. Not counted.
    #[must_use]
    pub fn since(&self, keys: &Keys) -> Option<Hit> {
        digests(keys).filter(|_| keys.is_read).find_map(|(digest, kind)| self.fresh(self.local.get(&digest)?, kind))
    }

    /// What Redis holds, in one round trip; asked after [`near`](Self::near) found nothing. Counts the miss.
    pub async fn far(&self, keys: &Keys) -> Option<Hit> {
        if !keys.is_read {
            return None;
        }
        let fresh = self.fetch(keys).await.into_iter().find_map(|(entry, kind)| self.fresh(entry, kind));
        match &fresh {
            Some(hit) => {
                self.counts.hits.add(hit.kind);
                self.counts.hits_remote.add(1);
            }
            None => {
                self.counts.misses.add(1);
            }
        }
        fresh
    }

    /// What may stand in when every tier failed: not older than `max_age`. It is [`CacheKind::Stale`] only when it is too old
    /// to be fresh: another caller may have been answered meanwhile.
    pub async fn stale(&self, keys: &Keys, max_age: Duration) -> Option<Hit> {
        if !keys.is_read {
            return None;
        }
        let kept = digests(keys).filter_map(|(digest, kind)| Some((self.local.get(&digest)?, kind)));
        let found = kept.filter_map(|(entry, kind)| self.aged(entry, kind, max_age)).next();
        let hit = match found {
            Some(hit) => Some(hit),
            None => self.fetch(keys).await.into_iter().find_map(|(entry, kind)| self.aged(entry, kind, max_age)),
        }?;
        self.counts.hits.add(hit.kind);
        Some(hit)
    }

    /// Keeps an answer: in the process now, in Redis soon. Not what [`Answer::is_cacheable`] refuses, and not what is too large.
    pub fn put(&self, keys: &Keys, entry: Entry) {
        if !entry.answer.is_cacheable() {
            self.counts.refused_uncacheable.add(1);
            return;
        }
        if entry.bytes() > self.settings.entry_bytes {
            self.counts.refused_large.add(1);
            return;
        }
        self.counts.puts.add(1);
        if let Some(far) = &self.far {
            let value = entry.to_stored();
            let ttl_ms = self.settings.stale_s.saturating_mul(1_000).max(1);
            for (digest, kind) in digests(keys) {
                far.put(Write { key: remote::key(kind.word(), &digest), value: value.clone(), ttl_ms });
            }
        }
        if let Some(key) = &keys.semantic {
            self.local.put_worded(key, entry.clone());
        }
        for (digest, _) in digests(keys) {
            self.local.put(digest, entry.clone());
        }
    }

    /// Empties the cache. What is being asked upstream now is still kept when it comes.
    pub async fn flush(&self, what: Flush) -> Flushed {
        // What a lookup that runs now brings from Redis is not kept in the process any more.
        self.flushes.fetch_add(1, Ordering::SeqCst);
        let remote = match (&self.far, what) {
            (Some(far), Flush::Everything) => far.clear().await,
            _ => None,
        };
        self.flushes.fetch_add(1, Ordering::SeqCst);
        Flushed { local: self.local.clear(), remote }
    }

    /// Counts.
    #[must_use]
    pub fn stats(&self) -> Stats {
        Stats {
            entries: self.local.entries(),
            bytes: self.local.bytes(),
            evictions: self.local.evictions(),
            ..self.counts.stats()
        }
    }

    /// Whether this hit is one of the sample that is asked again. Drawn by a hash of a running number: no pattern of the
    /// callers can keep away from it, and a test that repeats its calls repeats its draws.
    #[must_use]
    pub fn wants_shadow(&self) -> bool {
        let drawn = mixed(self.counts.shadow_drawn.add(1)) % 1_000;
        drawn < u64::from(self.settings.shadow_per_mille)
    }

    /// Counts one answer of the sample and whether it was wrong, as [`is_wrong`] says.
    pub fn shadow(&self, kind: CacheKind, format: &Format, cached: &Answer, fresh: &Answer) -> bool {
        let threshold = self.settings.semantic.as_ref().map_or(USUAL_THRESHOLD, |semantic| semantic.threshold);
        let wrong = is_wrong(format, cached, fresh, threshold);
        self.counts.shadow_asked.add(kind);
        if wrong {
            self.counts.shadow_wrong.add(kind);
        }
        wrong
    }

    /// A hit, if the entry is fresh.
    fn fresh(&self, entry: Entry, kind: CacheKind) -> Option<Hit> {
        let age = entry.age(self.clock.now())?;
        (age <= Duration::from_secs(self.settings.fresh_s)).then_some(Hit { entry, kind, age })
    }

    /// A hit, if the entry is not older than `max_age`.
    fn aged(&self, entry: Entry, kind: CacheKind, max_age: Duration) -> Option<Hit> {
        let age = entry.age(self.clock.now())?;
        let kind = if age <= Duration::from_secs(self.settings.fresh_s) { kind } else { CacheKind::Stale };
        let longest = max_age.min(Duration::from_secs(self.settings.stale_s));
        (age <= longest).then_some(Hit { entry, kind, age })
    }

    /// What Redis holds under these keys, however old; it is kept in the process too.
    async fn fetch(&self, keys: &Keys) -> Vec<(Entry, CacheKind)> {
        let Some(far) = &self.far else { return Vec::new() };
        let flushes = self.flushes.load(Ordering::SeqCst);
        let names = digests(keys).map(|(digest, kind)| remote::key(kind.word(), &digest)).collect();
        let values = far.get(names).await;
        let mut found = Vec::new();
        for ((digest, kind), value) in digests(keys).zip(values) {
            let Some(value) = value else { continue };
            let Some(entry) = Entry::of_stored(&value).filter(|entry| entry.bytes() <= self.settings.entry_bytes)
            else {
                self.counts.remote_garbled.add(1);
                continue;
            };
            if self.flushes.load(Ordering::SeqCst) == flushes {
                self.local.put(digest, entry.clone());
            }
            found.push((entry, kind));
        }
        found
    }
}

impl std::fmt::Debug for Cache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cache").field("settings", &self.settings).field("stats", &self.stats()).finish_non_exhaustive()
    }
}

/// The keys that are digests of a request, the surest first.
fn digests(keys: &Keys) -> impl Iterator<Item = (Digest, CacheKind)> {
    let normalised = keys.normalised.map(|digest| (digest, CacheKind::Normalised));
    std::iter::once((keys.exact, CacheKind::Exact)).chain(normalised)
}

/// splitmix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014).
const fn mixed(number: u64) -> u64 {
    let mut z = number.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests;
