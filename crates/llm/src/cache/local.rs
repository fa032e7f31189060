//! The caches inside the process: bounded, and each entry judged by its own time when it is read.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use quick_cache::sync::Cache;
use quick_cache::{DefaultHashBuilder, Lifecycle, OptionsBuilder, Weighter};

use super::entry::Entry;
use super::keys::{Digest, SemanticKey};
use super::wording::Wording;

/// What an entry takes beside its content, bytes: keys, times, pointers.
const OVERHEAD_BYTES: u64 = 256;

/// An entry found by what was said, with the wording it was kept under.
#[derive(Clone)]
struct Worded {
    wording: Arc<Wording>,
    entry: Entry,
}

type Kept<V, W> = Cache<Digest, V, W, DefaultHashBuilder, Counted>;

/// Both of them.
pub(super) struct Local {
    by_key: Kept<Entry, ByBytes>,
    by_wording: Option<(Kept<Worded, ByNumber>, f64)>,
    evictions: Arc<AtomicU64>,
}

#[derive(Clone)]
struct ByBytes;

impl Weighter<Digest, Entry> for ByBytes {
    fn weight(&self, _: &Digest, entry: &Entry) -> u64 {
        entry.bytes() as u64 + OVERHEAD_BYTES
    }
}

#[derive(Clone)]
struct ByNumber;

impl Weighter<Digest, Worded> for ByNumber {
    fn weight(&self, _: &Digest, _: &Worded) -> u64 {
        1
    }
}

/// Counts what had to go.
#[derive(Clone)]
struct Counted(Arc<AtomicU64>);

impl<V> Lifecycle<Digest, V> for Counted {
    type RequestState = ();

    fn on_evict(&self, (): &mut (), _: Digest, _: V) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn kept<V: Clone, W: Weighter<Digest, V> + Clone>(
    weight: u64,
    heaviest: u64,
    weighter: W,
    evictions: &Arc<AtomicU64>,
) -> Kept<V, W> {
    let heaviest = heaviest.max(1);
    // A part holds at least eight of the heaviest, so that one of these never empties it.
    let shards = usize::try_from(weight / (8 * heaviest)).unwrap_or(1).clamp(1, 16);
    let items = usize::try_from(weight / heaviest.min(1_024)).unwrap_or(1).clamp(1, 1 << 20);
    let mut options = OptionsBuilder::new();
    options.shards(if shards.is_power_of_two() { shards } else { shards.next_power_of_two() / 2 });
    options.estimated_items_capacity(items).weight_capacity(weight);
    let lifecycle = Counted(Arc::clone(evictions));
    match options.build() {
        Ok(options) => Cache::with_options(options, weighter, DefaultHashBuilder::default(), lifecycle),
        // Both numbers it asks for are given above.
        Err(_) => Cache::with(items, weight, weighter, DefaultHashBuilder::default(), lifecycle),
    }
}

impl Local {
    /// Of so many bytes, no entry above `entry_bytes`; by wording so many entries, from a similarity on.
    pub(super) fn new(bytes: u64, entry_bytes: u64, by_wording: Option<(usize, f64)>) -> Self {
        let evictions = Arc::new(AtomicU64::new(0));
        Self {
            by_key: kept(bytes, entry_bytes + OVERHEAD_BYTES, ByBytes, &evictions),
            by_wording: by_wording
                .map(|(entries, threshold)| (kept(entries as u64, 1, ByNumber, &evictions), threshold)),
            evictions,
        }
    }

    /// What is kept under a key, however old.
    pub(super) fn get(&self, key: &Digest) -> Option<Entry> {
        self.by_key.get(key)
    }

    /// What is kept under another wording of the same, however old.
    pub(super) fn get_worded(&self, key: &SemanticKey) -> Option<Entry> {
        let (kept, threshold) = self.by_wording.as_ref()?;
        let found = kept.get(&key.place)?;
        // The place says so already; a hash is all it has, so what is served is compared itself.
        let is_same = found.wording.hard() == key.wording.hard();
        (is_same && found.wording.similarity(&key.wording) >= *threshold).then_some(found.entry)
    }

    pub(super) fn put(&self, key: Digest, entry: Entry) {
        self.by_key.insert(key, entry);
    }

    pub(super) fn put_worded(&self, key: &SemanticKey, entry: Entry) {
        if let Some((kept, _)) = &self.by_wording {
            kept.insert(key.place, Worded { wording: Arc::clone(&key.wording), entry });
        }
    }

    /// Empties both; how many entries there were.
    pub(super) fn clear(&self) -> u64 {
        let entries = self.entries();
        self.by_key.clear();
        if let Some((kept, _)) = &self.by_wording {
            kept.clear();
        }
        entries
    }

    pub(super) fn entries(&self) -> u64 {
        (self.by_key.len() + self.by_wording.as_ref().map_or(0, |(kept, _)| kept.len())) as u64
    }

    pub(super) fn bytes(&self) -> u64 {
        self.by_key.weight()
    }

    pub(super) fn evictions(&self) -> u64 {
        self.evictions.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use domain::time::UnixMs;

    use super::super::entry::tests::entry;
    use super::*;

    #[test]
    fn bytes_are_bounded_and_what_had_to_go_is_counted() {
        let local = Local::new(64 * 1024, 4 * 1024, None);
        for n in 0..200_u8 {
            local.put([n; 32], entry(&"x".repeat(2_000), UnixMs(0)));
            assert!(local.bytes() <= 64 * 1024);
        }
        assert!(local.evictions() >= 150, "{}", local.evictions());
        assert!(local.entries() >= 20, "{}", local.entries());
        assert_eq!(local.clear(), local.entries() + 200 - local.evictions());
        assert_eq!((local.entries(), local.bytes()), (0, 0));
    }

    #[test]
    fn wordings_are_bounded_by_number() {
        let local = Local::new(1, 1, Some((64, 0.9)));
        let wording = Arc::new(Wording::of("what moved").unwrap());
        for n in 0..200_u8 {
            local.put_worded(&SemanticKey { place: [n; 32], wording: wording.clone() }, entry("x", UnixMs(0)));
        }
        assert!(local.entries() <= 64, "{}", local.entries());
    }

    #[test]
    fn an_equal_place_alone_is_no_hit() {
        let local = Local::new(1, 1, Some((64, 0.92)));
        let key = |text: &str| SemanticKey { place: [1; 32], wording: Arc::new(Wording::of(text).unwrap()) };
        local.put_worded(&key("what moved up"), entry("x", UnixMs(0)));
        assert!(local.get_worded(&key("What moved up?")).is_some());
        assert!(local.get_worded(&key("what moved down")).is_none());
        assert!(local.get_worded(&key("Hello, could you please tell me what moved up, thank you")).is_none());
    }
}
