//! The cache before a real Valkey: what it leaves there, and what it does when the server goes away.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::time::Duration;

use domain::time::UnixMs;
use llm::answer::{Answer, Finish, Usage};
use llm::cache::{Cache, CacheKind, Entry, Flush, Keys, Settings};
use llm::redis_link::RedisLink;
use llm::request::ChatRequest;
use redis::aio::MultiplexedConnection;
use serde_json::json;
use testkit::clock::VirtualClock;
use testkit::servers::{TestValkey, fresh_valkey};

/// Longest wait for something that comes in the background.
const PATIENCE: Duration = Duration::from_secs(30);

struct Stage {
    valkey: TestValkey,
    link: Arc<RedisLink>,
    /// To look in from beside.
    connection: MultiplexedConnection,
    clock: VirtualClock,
}

impl Stage {
    async fn new() -> Self {
        let valkey = fresh_valkey();
        let client = redis::Client::open(valkey.url()).unwrap();
        let connection = client.get_multiplexed_async_connection().await.unwrap();
        let link = RedisLink::open(Some(&valkey.url()));
        tokio::time::timeout(PATIENCE, link.connections().wait_for(|number| *number > 0)).await.unwrap().unwrap();
        Self { valkey, link, connection, clock: VirtualClock::at(UnixMs(1_000_000)) }
    }

    /// A process of its own. It waits long in a lookup: this machine may be busy with other tests.
    fn process(&self) -> Cache {
        let settings = Settings { redis_read_ms: 2_000, ..Settings::default() };
        Cache::new(settings, Some(Arc::clone(&self.link) as _), Arc::new(self.clock.clone()))
    }

    async fn keys(&self, pattern: &str) -> Vec<String> {
        redis::cmd("KEYS").arg(pattern).query_async(&mut self.connection.clone()).await.unwrap()
    }
}

fn keys(cache: &Cache, text: &str) -> Keys {
    let body = json!({ "model": "m", "messages": [{ "role": "user", "content": text }] });
    cache.keys("buy_bot", &ChatRequest::parse(body.to_string().as_bytes()).unwrap()).unwrap()
}

fn entry(content: &str) -> Entry {
    let answer = Answer {
        content: content.to_owned(),
        reasoning: String::new(),
        refusal: None,
        tool_calls: Vec::new(),
        finish: Finish::Stop,
        usage: Usage { prompt_tokens: 1, completion_tokens: 2, estimated: false },
        model: "m".to_owned(),
    };
    let answer = Arc::new(answer);
    Entry { answer, tier: "local".to_owned(), model: "m".to_owned(), cost_micros: 7, stored_at: UnixMs(1_000_000) }
}

async fn written(cache: &Cache, entries: u64) {
    let wait = async {
        while cache.stats().remote_writes < entries {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.expect("the writer writes");
}

#[tokio::test]
async fn what_one_process_keeps_another_finds_and_every_key_has_an_end() {
    let stage = Stage::new().await;
    let (one, other) = (stage.process(), stage.process());
    one.put(&keys(&one, "what  moved"), entry("gold"));
    written(&one, 2).await;
    stage.clock.advance_ms(2_000);
    for (text, kind) in [("what  moved", CacheKind::Exact), ("what moved", CacheKind::Normalised)] {
        let hit = other.far(&keys(&other, text)).await.unwrap();
        assert_eq!((hit.kind, hit.age, hit.entry), (kind, Duration::from_secs(2), entry("gold")));
    }
    assert_eq!(other.far(&keys(&other, "what fell")).await, None);

    let names = stage.keys("*").await;
    assert_eq!(names.len(), 2);
    for name in names {
        assert!(name.starts_with("llm:c:"), "{name}");
        let ttl_ms: i64 = redis::cmd("PTTL").arg(&name).query_async(&mut stage.connection.clone()).await.unwrap();
        assert!((86_000_000..=86_400_000).contains(&ttl_ms), "{name} ends in {ttl_ms} ms");
    }
}

#[tokio::test]
async fn a_flush_takes_every_key_of_the_cache_and_no_other() {
    let stage = Stage::new().await;
    let cache = stage.process();
    for n in 0..600 {
        cache.put(&keys(&cache, &format!("what moved at {n}")), entry("gold"));
        if n % 300 == 299 {
            written(&cache, 2 * (n + 1)).await;
        }
    }
    let mut connection = stage.connection.clone();
    redis::cmd("SET").arg("llm:q:day").arg(1).query_async::<()>(&mut connection).await.unwrap();
    let flushed = cache.flush(Flush::Everything).await;
    assert_eq!((flushed.local, flushed.remote), (1_200, Some(1_200)));
    assert_eq!(stage.keys("*").await, ["llm:q:day"]);
    assert_eq!(cache.far(&keys(&cache, "what moved at 3")).await, None);
}

#[tokio::test]
async fn a_server_that_is_gone_is_a_miss_and_is_used_again_when_it_is_back() {
    let stage = Stage::new().await;
    let cache = stage.process();
    let keys = keys(&cache, "what moved");
    stage.valkey.kill();
    for _ in 0..5 {
        assert_eq!(cache.far(&keys).await, None);
    }
    cache.put(&keys, entry("gold"));
    assert!(cache.near(&keys).is_some(), "the process has it");
    let stats = cache.stats();
    assert!(stats.remote_errors >= 3 && stats.misses == 5, "{stats:?}");

    stage.valkey.start_again();
    let other = stage.process();
    let back = async {
        loop {
            cache.put(&keys, entry("gold"));
            if other.far(&keys).await.is_some() {
                return;
            }
            // Without a connection nothing of it waits.
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, back).await.expect("it is used again");
}

#[tokio::test]
async fn a_server_that_hangs_costs_its_short_time_and_then_none() {
    let stage = Stage::new().await;
    let settings = Settings { redis_read_ms: 30, ..Settings::default() };
    let cache = Cache::new(settings, Some(Arc::clone(&stage.link) as _), Arc::new(stage.clock.clone()));
    let keys = keys(&cache, "what moved");
    stage.valkey.freeze();
    for _ in 0..50 {
        assert_eq!(cache.far(&keys).await, None);
    }
    let stats = cache.stats();
    assert!(stats.remote_skipped > 0 && stats.remote_errors >= 3, "{stats:?}");
    assert_eq!(stats.remote_errors + stats.remote_skipped, 50);
    // A write hears that the connection is dead, and has it made anew.
    cache.put(&keys, entry("gold"));
    let heard = async {
        while stage.link.is_up() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, heard).await.expect("the link hears it");
    stage.valkey.thaw();
}
