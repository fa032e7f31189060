use std::collections::BTreeMap;
use std::sync::Mutex;

use domain::time::UnixMs;
use futures::future::BoxFuture;
use redis::{ErrorKind, RedisResult};
use serde_json::{Value, json};
use testkit::clock::VirtualClock;

use super::entry::tests::entry;
use super::*;
use crate::answer::Finish;

/// Redis in memory, which can fail, hang and count.
#[derive(Default)]
struct Double {
    values: Mutex<BTreeMap<String, Vec<u8>>>,
    ttl_ms: Mutex<Vec<u64>>,
    gets: AtomicU64,
    sets: AtomicU64,
    is_down: AtomicU64,
    hangs: AtomicU64,
}

impl Double {
    async fn answer(&self, count: &AtomicU64) -> RedisResult<()> {
        count.fetch_add(1, Ordering::SeqCst);
        if self.hangs.load(Ordering::SeqCst) > 0 {
            std::future::pending::<()>().await;
        }
        if self.is_down.load(Ordering::SeqCst) > 0 { Err((ErrorKind::Io, "down").into()) } else { Ok(()) }
    }
}

impl Remote for Double {
    fn get(&self, keys: Vec<String>) -> BoxFuture<'_, RedisResult<Vec<Option<Vec<u8>>>>> {
        Box::pin(async move {
            self.answer(&self.gets).await?;
            let values = self.values.lock().unwrap();
            Ok(keys.iter().map(|key| values.get(key).cloned()).collect())
        })
    }

    fn set(&self, entries: Vec<Write>) -> BoxFuture<'_, RedisResult<()>> {
        Box::pin(async move {
            self.answer(&self.sets).await?;
            for entry in entries {
                self.ttl_ms.lock().unwrap().push(entry.ttl_ms);
                self.values.lock().unwrap().insert(entry.key, entry.value);
            }
            Ok(())
        })
    }

    fn clear(&self, prefix: &'static str) -> BoxFuture<'_, RedisResult<u64>> {
        Box::pin(async move {
            self.answer(&AtomicU64::new(0)).await?;
            let mut values = self.values.lock().unwrap();
            let before = values.len();
            values.retain(|key, _| !key.starts_with(prefix));
            Ok((before - values.len()) as u64)
        })
    }
}

struct Stage {
    cache: Cache,
    clock: VirtualClock,
    redis: Arc<Double>,
}

fn stage(change: impl FnOnce(&mut Settings)) -> Stage {
    let (clock, redis) = (VirtualClock::at(UnixMs(1_000_000)), Arc::new(Double::default()));
    let mut settings = Settings::default();
    change(&mut settings);
    let remote: Arc<dyn Remote> = Arc::clone(&redis) as _;
    Stage { cache: Cache::new(settings, Some(remote), Arc::new(clock.clone())), clock, redis }
}

impl Stage {
    /// A process of its own before the same Redis.
    fn other(&self) -> Cache {
        Cache::new(Settings::default(), Some(Arc::clone(&self.redis) as _), Arc::new(self.clock.clone()))
    }

    fn entry(&self, content: &str) -> Entry {
        entry(content, self.clock.now())
    }

    /// Waits until the writer has written so many entries.
    async fn written(&self, entries: usize) {
        until(|| self.redis.values.lock().unwrap().len() >= entries).await;
    }
}

async fn until(what: impl Fn() -> bool) {
    for _ in 0..10_000 {
        if what() {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("it does not come");
}

fn request(text: &str, extra: &Value) -> ChatRequest {
    let mut body = json!({ "model": "m", "messages": [{ "role": "user", "content": text }], "temperature": 0 });
    for (name, value) in extra.as_object().unwrap() {
        body[name] = value.clone();
    }
    ChatRequest::parse(body.to_string().as_bytes()).unwrap()
}

fn keys(cache: &Cache, text: &str) -> Keys {
    cache.keys("buy_bot", &request(text, &json!({}))).unwrap()
}

#[tokio::test]
async fn each_kind_of_equal_is_found_and_named() {
    let stage = stage(|_| ());
    stage.cache.put(&keys(&stage.cache, "What is  the trend of BTC?"), stage.entry("up"));
    stage.clock.advance_ms(1_500);
    for (text, kind) in [
        ("What is  the trend of BTC?", Some(CacheKind::Exact)),
        ("What is the trend of BTC? ", Some(CacheKind::Normalised)),
        ("What's the trend of BTC", Some(CacheKind::Semantic)),
        ("What is the trend of ETH?", None),
    ] {
        let hit = stage.cache.near(&keys(&stage.cache, text));
        assert_eq!(hit.as_ref().map(|hit| hit.kind), kind, "{text}");
        if let Some(hit) = hit {
            assert_eq!((hit.age, hit.entry.answer.content.as_str()), (Duration::from_millis(1_500), "up"));
        }
    }
    let stats = stage.cache.stats();
    assert_eq!((stats.lookups, stats.puts), (4, 1));
    assert_eq!(stats.hits, ByKind { exact: 1, normalised: 1, semantic: 1, stale: 0 });
}

#[tokio::test]
async fn no_cache_has_no_keys_and_a_refresh_is_kept_but_not_given_one() {
    let stage = stage(|_| ());
    assert_eq!(stage.cache.keys("a", &request("q", &json!({ "metadata": { "cache": "off" } }))), None);
    let refresh = stage.cache.keys("a", &request("q", &json!({ "metadata": { "cache": "refresh" } }))).unwrap();
    stage.cache.put(&refresh, stage.entry("new"));
    stage.written(2).await;
    assert_eq!(stage.cache.near(&refresh), None);
    assert_eq!(stage.cache.far(&refresh).await, None);
    assert_eq!(stage.cache.stale(&refresh, Duration::from_secs(9)).await, None);
    let usual = stage.cache.keys("a", &request("q", &json!({}))).unwrap();
    assert_eq!(stage.cache.near(&usual).unwrap().entry.answer.content, "new");
}

#[tokio::test]
async fn fresh_ends_at_its_time_and_stale_at_its_own() {
    let stage = stage(|_| ());
    let keys = keys(&stage.cache, "q");
    let hours = |hours: u64| Duration::from_secs(hours * 3_600);
    stage.cache.put(&keys, stage.entry("x"));
    stage.written(2).await;
    stage.clock.advance_ms(3_600_000);
    assert_eq!(stage.cache.near(&keys).unwrap().kind, CacheKind::Exact);
    assert_eq!(stage.cache.stale(&keys, hours(2)).await.unwrap().kind, CacheKind::Exact, "fresh is not called stale");
    stage.clock.advance_ms(1);
    assert_eq!(stage.cache.near(&keys), None);
    assert_eq!(stage.cache.far(&keys).await, None);
    assert_eq!(stage.cache.stale(&keys, hours(1)).await, None, "older than the caller takes");
    for cache in [&stage.cache, &stage.other()] {
        let hit = cache.stale(&keys, hours(48)).await.unwrap();
        assert_eq!((hit.kind, hit.age), (CacheKind::Stale, hours(1) + Duration::from_millis(1)));
    }
    stage.clock.advance_ms(23 * 3_600_000);
    assert_eq!(stage.cache.stale(&keys, hours(48)).await, None);
    assert!(stage.redis.ttl_ms.lock().unwrap().iter().all(|ttl_ms| *ttl_ms == 86_400_000));
}

#[tokio::test]
async fn an_entry_from_the_future_is_none() {
    let stage = stage(|_| ());
    let keys = keys(&stage.cache, "q");
    stage.cache.put(&keys, stage.entry("x"));
    stage.clock.advance_ms(-10_000);
    assert_eq!(stage.cache.near(&keys), None);
    assert_eq!(stage.cache.stale(&keys, Duration::from_secs(99)).await, None);
}

#[tokio::test]
async fn another_process_finds_it_in_redis_and_then_in_itself() {
    let stage = stage(|_| ());
    stage.cache.put(&keys(&stage.cache, "what  moved"), stage.entry("x"));
    stage.written(2).await;
    let other = stage.other();
    for (text, kind) in [("what  moved", CacheKind::Exact), ("what moved", CacheKind::Normalised)] {
        let keys = keys(&other, text);
        let gets = stage.redis.gets.load(Ordering::SeqCst);
        if kind == CacheKind::Exact {
            assert_eq!(other.near(&keys), None);
        }
        let hit = other.far(&keys).await.unwrap();
        assert_eq!((hit.kind, hit.entry.answer.content.as_str()), (kind, "x"));
        assert_eq!(stage.redis.gets.load(Ordering::SeqCst), gets + 1, "one round trip for both keys");
        assert_eq!(other.near(&keys).unwrap().kind, kind);
    }
    assert_eq!((other.stats().hits_remote, other.stats().misses), (2, 0));
    assert_eq!(other.far(&keys(&other, "what fell")).await, None);
    assert_eq!(other.stats().misses, 1);
}

#[tokio::test]
async fn what_may_not_be_kept_is_refused_and_counted() {
    let stage = stage(|settings| settings.entry_bytes = 100);
    let keys = keys(&stage.cache, "q");
    let mut cut = stage.entry("x");
    cut.answer = Arc::new(Answer { finish: Finish::Length, ..(*cut.answer).clone() });
    let mut refusal = stage.entry("x");
    refusal.answer = Arc::new(Answer { refusal: Some("no".to_owned()), ..(*refusal.answer).clone() });
    for entry in [cut, refusal, stage.entry(&"x".repeat(101))] {
        stage.cache.put(&keys, entry);
    }
    let stats = stage.cache.stats();
    assert_eq!((stats.puts, stats.refused_uncacheable, stats.refused_large, stats.entries), (0, 2, 1, 0));
}

#[tokio::test]
async fn what_is_none_of_ours_in_redis_is_a_miss() {
    let stage = stage(|_| ());
    let keys = keys(&stage.cache, "q");
    for garbage in [&b"?"[..], b"", b"{\"version\":9}", &[0xff; 100_000]] {
        let name = remote::key("exact", &keys.exact);
        stage.redis.values.lock().unwrap().insert(name, garbage.to_vec());
        assert_eq!(stage.cache.far(&keys).await, None);
    }
    assert_eq!(stage.cache.stats().remote_garbled, 4);
}

#[tokio::test(start_paused = true)]
async fn a_redis_that_is_down_or_hangs_is_a_miss_and_is_soon_left_alone() {
    for (down, hangs) in [(1, 0), (0, 1)] {
        let stage = stage(|_| ());
        let keys = keys(&stage.cache, "q");
        stage.redis.is_down.store(down, Ordering::SeqCst);
        stage.redis.hangs.store(hangs, Ordering::SeqCst);
        let begin = tokio::time::Instant::now();
        for _ in 0..20 {
            assert_eq!(stage.cache.far(&keys).await, None);
        }
        assert_eq!(stage.redis.gets.load(Ordering::SeqCst), 3, "after three failures nobody waits for it");
        assert!(begin.elapsed() <= Duration::from_millis(3 * 30));
        let stats = stage.cache.stats();
        assert_eq!((stats.remote_errors, stats.remote_skipped, stats.misses), (3, 17, 20));
        // Later one tries, and while that fails the others do not.
        tokio::time::advance(Duration::from_millis(1_001)).await;
        for _ in 0..5 {
            assert_eq!(stage.cache.far(&keys).await, None);
        }
        assert_eq!(stage.redis.gets.load(Ordering::SeqCst), 4);
        stage.redis.is_down.store(0, Ordering::SeqCst);
        stage.redis.hangs.store(0, Ordering::SeqCst);
        tokio::time::advance(Duration::from_millis(1_001)).await;
        for _ in 0..5 {
            stage.cache.far(&keys).await;
        }
        assert_eq!(stage.redis.gets.load(Ordering::SeqCst), 9, "it answers again");
    }
}

#[tokio::test(start_paused = true)]
async fn writes_that_cannot_be_written_are_dropped_and_counted() {
    let stage = stage(|settings| settings.redis_queue = 8);
    stage.redis.hangs.store(1, Ordering::SeqCst);
    for n in 0..100 {
        stage.cache.put(&keys(&stage.cache, &format!("q{n}")), stage.entry("x"));
        tokio::task::yield_now().await;
    }
    let dropped = stage.cache.stats().remote_dropped;
    assert!((190..=198).contains(&dropped), "{dropped}");
    assert_eq!(stage.cache.near(&keys(&stage.cache, "q99")).unwrap().kind, CacheKind::Exact, "the process has it");
}

#[tokio::test]
async fn entries_that_came_together_are_written_together() {
    let stage = stage(|_| ());
    for n in 0..50 {
        stage.cache.put(&keys(&stage.cache, &format!("q{n}")), stage.entry("x"));
    }
    stage.written(100).await;
    assert_eq!(stage.redis.sets.load(Ordering::SeqCst), 2, "64 at once");
    until(|| stage.cache.stats().remote_writes == 100).await;
    for key in stage.redis.values.lock().unwrap().keys() {
        assert!(key.starts_with("llm:c:exact:") || key.starts_with("llm:c:normalised:"), "{key}");
    }
}

#[tokio::test]
async fn a_flush_empties_what_it_says_and_what_still_waits_to_be_written() {
    let stage = stage(|_| ());
    let keys = keys(&stage.cache, "what moved");
    stage.cache.put(&keys, stage.entry("x"));
    stage.written(2).await;
    assert_eq!(stage.cache.flush(Flush::Local).await, Flushed { local: 3, remote: None });
    assert_eq!(stage.cache.near(&keys), None);
    assert!(stage.cache.far(&keys).await.is_some(), "Redis has it");

    stage.redis.values.lock().unwrap().insert("llm:quota".to_owned(), Vec::new());
    let waits = self::keys(&stage.cache, "q2");
    stage.cache.put(&waits, stage.entry("y"));
    let flushed = stage.cache.flush(Flush::Everything).await;
    assert_eq!(flushed.remote, Some(4));
    for keys in [&keys, &waits] {
        assert_eq!(stage.cache.near(keys), None);
        assert_eq!(stage.cache.far(keys).await, None);
    }
    assert!(stage.redis.values.lock().unwrap().contains_key("llm:quota"), "others' keys stay");
    stage.redis.is_down.store(1, Ordering::SeqCst);
    assert_eq!(stage.cache.flush(Flush::Everything).await.remote, None);
}

#[test]
fn the_sample_has_its_size_and_counts_what_was_wrong() {
    let clock = Arc::new(VirtualClock::at(UnixMs(0)));
    for (per_mille, least, most) in [(0, 0, 0), (1_000, 10_000, 10_000), (50, 400, 600)] {
        let settings = Settings { shadow_per_mille: per_mille, ..Settings::default() };
        let cache = Cache::new(settings, None, Arc::clone(&clock) as _);
        let drawn = (0..10_000).filter(|_| cache.wants_shadow()).count();
        assert!((least..=most).contains(&drawn), "{per_mille}: {drawn}");
    }
    let cache = Cache::new(Settings::default(), None, clock);
    let answer = |content: &str| entry(content, UnixMs(0)).answer;
    assert!(!cache.shadow(CacheKind::Exact, &Format::Text, &answer("BTC is up"), &answer("BTC is up.")));
    assert!(cache.shadow(CacheKind::Semantic, &Format::Text, &answer("BTC is up"), &answer("BTC is down")));
    let stats = cache.stats();
    assert_eq!((stats.shadow_asked.sum(), stats.shadow_wrong.of(CacheKind::Semantic)), (2, 1));
    assert_eq!(stats.shadow_wrong.sum(), 1);
    assert!(serde_json::to_value(stats).unwrap()["hits"]["exact"].is_u64());
}

#[tokio::test]
async fn without_redis_the_process_is_enough() {
    let clock = Arc::new(VirtualClock::at(UnixMs(0)));
    let cache = Cache::new(Settings::default(), None, clock);
    let keys = keys(&cache, "q");
    assert_eq!((cache.near(&keys), cache.far(&keys).await), (None, None));
    cache.put(&keys, entry("x", UnixMs(0)));
    assert!(cache.near(&keys).is_some());
    assert_eq!(cache.flush(Flush::Everything).await, Flushed { local: 3, remote: None });
    assert_eq!((cache.stats().lookups, cache.stats().misses), (2, 1));
}
