//! Counts: what the cache was asked, what it gave, and how often that was wrong.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

use super::CacheKind;

/// A count for each kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct ByKind {
    /// The same request.
    pub exact: u64,
    /// The same normal form.
    pub normalised: u64,
    /// Another wording.
    pub semantic: u64,
    /// Too old to be fresh.
    pub stale: u64,
}

impl ByKind {
    /// All of them.
    #[must_use]
    pub const fn sum(&self) -> u64 {
        self.exact + self.normalised + self.semantic + self.stale
    }

    /// That of one kind.
    #[must_use]
    pub const fn of(&self, kind: CacheKind) -> u64 {
        match kind {
            CacheKind::Exact => self.exact,
            CacheKind::Normalised => self.normalised,
            CacheKind::Semantic => self.semantic,
            CacheKind::Stale => self.stale,
        }
    }
}

/// What the cache did since it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Stats {
    /// Requests that were looked up.
    pub lookups: u64,
    /// Answers that were given.
    pub hits: ByKind,
    /// Of them, those that came from Redis.
    pub hits_remote: u64,
    /// Lookups that found nothing fresh, in the process and behind it.
    pub misses: u64,
    /// Answers that were kept.
    pub puts: u64,
    /// Not kept: a refusal, or not whole.
    pub refused_uncacheable: u64,
    /// Not kept: too large.
    pub refused_large: u64,
    /// Entries in the process now.
    pub entries: u64,
    /// Bytes of those under a key, now.
    pub bytes: u64,
    /// Entries that had to go for others.
    pub evictions: u64,
    /// Calls to Redis that failed or took too long.
    pub remote_errors: u64,
    /// Lookups that did not ask Redis because it failed just before.
    pub remote_skipped: u64,
    /// Values in Redis that were none of ours.
    pub remote_garbled: u64,
    /// Entries written to Redis.
    pub remote_writes: u64,
    /// Entries not written, because too many waited or Redis failed.
    pub remote_dropped: u64,
    /// Hits that were asked again upstream.
    pub shadow_asked: ByKind,
    /// Of them, those that were wrong.
    pub shadow_wrong: ByKind,
}

/// A running count.
#[derive(Debug, Default)]
pub(super) struct Count(AtomicU64);

impl Count {
    pub(super) fn add(&self, more: u64) -> u64 {
        self.0.fetch_add(more, Ordering::Relaxed)
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[derive(Debug, Default)]
pub(super) struct CountByKind([Count; 4]);

impl CountByKind {
    pub(super) fn add(&self, kind: CacheKind) {
        let [exact, normalised, semantic, stale] = &self.0;
        match kind {
            CacheKind::Exact => exact.add(1),
            CacheKind::Normalised => normalised.add(1),
            CacheKind::Semantic => semantic.add(1),
            CacheKind::Stale => stale.add(1),
        };
    }

    pub(super) fn get(&self) -> ByKind {
        let [exact, normalised, semantic, stale] = &self.0;
        ByKind { exact: exact.get(), normalised: normalised.get(), semantic: semantic.get(), stale: stale.get() }
    }
}

/// The running counts.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) lookups: Count,
    pub(super) hits: CountByKind,
    pub(super) hits_remote: Count,
    pub(super) misses: Count,
    pub(super) puts: Count,
    pub(super) refused_uncacheable: Count,
    pub(super) refused_large: Count,
    pub(super) remote_errors: Count,
    pub(super) remote_skipped: Count,
    pub(super) remote_garbled: Count,
    pub(super) remote_writes: Count,
    pub(super) remote_dropped: Count,
    pub(super) shadow_drawn: Count,
    pub(super) shadow_asked: CountByKind,
    pub(super) shadow_wrong: CountByKind,
}

impl Counts {
    pub(super) fn stats(&self) -> Stats {
        Stats {
            lookups: self.lookups.get(),
            hits: self.hits.get(),
            hits_remote: self.hits_remote.get(),
            misses: self.misses.get(),
            puts: self.puts.get(),
            refused_uncacheable: self.refused_uncacheable.get(),
            refused_large: self.refused_large.get(),
            entries: 0,
            bytes: 0,
            evictions: 0,
            remote_errors: self.remote_errors.get(),
            remote_skipped: self.remote_skipped.get(),
            remote_garbled: self.remote_garbled.get(),
            remote_writes: self.remote_writes.get(),
            remote_dropped: self.remote_dropped.get(),
            shadow_asked: self.shadow_asked.get(),
            shadow_wrong: self.shadow_wrong.get(),
        }
    }
}
