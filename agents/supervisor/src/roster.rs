//! The roster: who is there, what each can do and how it is, in Valkey under `agents:registry` (a hash, agent to JSON) and
//! `agents:health` (a sorted set, by the second each was last heard), for other tools to read.
//!
//! It is a copy of what the supervisor knows from heartbeats, written whole every two seconds, so that a Valkey that forgot
//! everything has it again and an agent that is no more is gone from it. Nothing of the swarm reads it back: a Valkey that is
//! away costs nothing.

use std::time::Duration;

use domain::subject::Route;
use redis::AsyncConnectionConfig;
use redis::aio::MultiplexedConnection;
use runtime::{CancellationToken, HandleError, Work};
use serde_json::{Value, json};
use tokio::sync::Mutex;

use crate::Shared;
use crate::lifecycle::Member;

/// The hash of agents.
pub const REGISTRY: &str = "agents:registry";
/// The sorted set of when each was heard.
pub const HEALTH: &str = "agents:health";
/// Between two writes.
const EVERY: Duration = Duration::from_secs(2);
/// How long a write holds when no other follows, s: longer than a restart of the supervisor.
const HOLDS_S: i64 = 30;
/// Longest time for one write, the connection included.
const WITHIN: Duration = Duration::from_millis(500);

/// Where the roster is written.
pub struct Roster {
    client: Option<redis::Client>,
    connection: Mutex<Option<MultiplexedConnection>>,
}

impl std::fmt::Debug for Roster {
    /// The URL holds a password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Roster").field("is_configured", &self.client.is_some()).finish_non_exhaustive()
    }
}

/// Why a write failed.
#[derive(Debug, thiserror::Error)]
enum WriteError {
    /// Valkey said no, or was not there.
    #[error("{0}")]
    Redis(#[from] redis::RedisError),
    /// No answer in time.
    #[error("no answer within {} ms", WITHIN.as_millis())]
    Timeout,
}

impl Roster {
    /// A roster at this URL. Without one, or with one that can't be read, which is logged, none is written.
    #[must_use]
    pub fn open(url: Option<&str>) -> Self {
        let client = url.and_then(|url| match redis::Client::open(url) {
            Ok(client) => Some(client),
            Err(error) => {
                // The error's own words may quote the URL.
                tracing::error!(kind = ?error.kind(), "SWARM_REDIS_URL can't be read: no roster is written");
                None
            }
        });
        Self { client, connection: Mutex::default() }
    }

    /// Writes it whole: readers see the one before or this one.
    async fn write(&self, members: &[Member], now_ms: i64) -> Result<(), WriteError> {
        let Some(client) = &self.client else { return Ok(()) };
        let mut connection = self.connection.lock().await;
        let written = tokio::time::timeout(WITHIN, async {
            let mut open = match connection.take() {
                Some(open) => open,
                None => {
                    let config = AsyncConnectionConfig::new()
                        .set_connection_timeout(Some(WITHIN))
                        .set_response_timeout(Some(WITHIN));
                    client.get_multiplexed_async_connection_with_config(&config).await?
                }
            };
            commands(members, now_ms).exec_async(&mut open).await?;
            Ok(open)
        });
        // One that failed is not used again.
        *connection = Some(written.await.unwrap_or(Err(WriteError::Timeout))?);
        Ok(())
    }
}

/// Writes the roster until shutdown.
///
/// # Errors
/// None: what can't be written is written two seconds later.
pub async fn run(roster: &Roster, shared: &Shared, work: &Work) -> Result<(), HandleError> {
    let look = || (shared.registry.members(tokio::time::Instant::now()), work.now().0);
    keep(roster, look, &work.shutdown).await;
    Ok(())
}

async fn keep(roster: &Roster, look: impl Fn() -> (Vec<Member>, i64), shutdown: &CancellationToken) {
    if roster.client.is_none() {
        return shutdown.cancelled().await;
    }
    let mut ticks = runtime::grid(EVERY);
    let mut is_away = false;
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let (members, now_ms) = look();
        let written = roster.write(&members, now_ms).await;
        let outcome = if written.is_ok() { "written" } else { "failed" };
        metrics::counter!("swarm_roster_writes_total", "outcome" => outcome).increment(1);
        match written {
            Ok(()) if is_away => {
                is_away = false;
                tracing::info!("the roster is written again");
            }
            Err(error) if !is_away => {
                is_away = true;
                tracing::warn!(%error, "the roster can't be written; nothing of the swarm needs it");
            }
            _ => {}
        }
    }
}

fn commands(members: &[Member], now_ms: i64) -> redis::Pipeline {
    let mut pipe = redis::pipe();
    pipe.atomic().del(REGISTRY).del(HEALTH);
    for member in members {
        pipe.hset(REGISTRY, &member.name, entry(member).to_string());
        if let Some(heard_s) = heard_s(member, now_ms) {
            pipe.zadd(HEALTH, &member.name, heard_s);
        }
    }
    pipe.expire(REGISTRY, HOLDS_S).expire(HEALTH, HOLDS_S);
    pipe
}

/// When it was last heard, seconds since the epoch.
fn heard_s(member: &Member, now_ms: i64) -> Option<i64> {
    let ago_ms = i64::try_from(member.heard_ago?.as_millis()).unwrap_or(i64::MAX);
    Some(now_ms.saturating_sub(ago_ms).max(0) / 1_000)
}

fn entry(member: &Member) -> Value {
    json!({
        "name": title(&member.name),
        "capabilities": member.capabilities,
        "status": status(member.verdict),
        "queue": queue(&member.name),
        "current_load": member.load,
        "max_concurrent": member.max_concurrent,
    })
}

/// `Buy Bot` for `buy_bot`.
fn title(name: &str) -> String {
    let capital = |word: &str| {
        let (first, rest) = word.split_at(word.chars().next().map_or(0, char::len_utf8));
        format!("{}{rest}", first.to_uppercase())
    };
    name.split('_').map(capital).collect::<Vec<_>>().join(" ")
}

/// The verdict in the words of the registry.
fn status(verdict: &'static str) -> &'static str {
    match verdict {
        "healthy" => "active",
        "held" => "starting",
        "stopped" => "down",
        // busy, stuck, deaf, starting, draining, quarantined, down
        other => other,
    }
}

/// What its subjects begin with: `trading.` where commands of trading are addressed to it, `system.` for everybody else.
fn queue(name: &str) -> String {
    let trades = Route::ALL.into_iter().any(|route| matches!(route.tokens(), ("trading", agent, _) if agent == name));
    format!("{}.{name}", if trades { "trading" } else { "system" })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::{Arc, Mutex, PoisonError};

    use redis::AsyncCommands;
    use testkit::wait_until;

    use super::*;

    const BOUND: Duration = Duration::from_secs(20);
    const NOW_MS: i64 = 1_790_000_000_500;

    fn member(name: &str, verdict: &'static str, heard_ago_ms: Option<u64>) -> Member {
        Member {
            name: name.to_owned(),
            verdict,
            capabilities: vec!["token_purchase".to_owned()],
            takes_tasks: false,
            load: 3,
            max_concurrent: 10,
            heard_ago: heard_ago_ms.map(Duration::from_millis),
        }
    }

    #[test]
    fn an_entry_has_the_fields_that_other_tools_read() {
        let wanted = json!({
            "name": "Buy Bot", "capabilities": ["token_purchase"], "status": "active", "queue": "trading.buy_bot",
            "current_load": 3, "max_concurrent": 10,
        });
        assert_eq!(entry(&member("buy_bot", "healthy", None)), wanted);
        assert_eq!(entry(&member("monitor", "healthy", None))["queue"], "system.monitor");
        let words =
            ["healthy", "busy", "stuck", "deaf", "starting", "held", "draining", "quarantined", "stopped", "down"];
        let told =
            ["active", "busy", "stuck", "deaf", "starting", "starting", "draining", "quarantined", "down", "down"];
        assert_eq!(words.map(status), told);
    }

    #[test]
    fn who_was_heard_has_the_second_of_it_and_who_was_not_has_none() {
        let at = |ago| heard_s(&member("a", "busy", ago), NOW_MS);
        assert_eq!((at(Some(0)), at(Some(501)), at(None)), (Some(1_790_000_000), Some(1_789_999_999), None));
        assert_eq!(at(Some(u64::MAX)), Some(0), "not before the epoch");
    }

    #[test]
    fn the_url_is_never_shown_and_a_wrong_one_is_none() {
        let roster = Roster::open(Some("redis://supervisor:secret@127.0.0.1:1/"));
        assert!(roster.client.is_some() && !format!("{roster:?}").contains("secret"));
        assert!(Roster::open(Some("no url")).client.is_none() && Roster::open(None).client.is_none());
    }

    #[derive(Clone, Default)]
    struct Seen(Arc<Mutex<Vec<Member>>>);

    impl Seen {
        fn set(&self, members: Vec<Member>) {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = members;
        }

        fn get(&self) -> Vec<Member> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
        }
    }

    async fn read(url: &str) -> Option<(BTreeMap<String, String>, Vec<(String, i64)>, [i64; 2])> {
        let client = redis::Client::open(url).ok()?;
        let mut open = client.get_multiplexed_async_connection().await.ok()?;
        let hash = open.hgetall(REGISTRY).await.ok()?;
        let health = open.zrange_withscores(HEALTH, 0, -1).await.ok()?;
        Some((hash, health, [open.ttl(REGISTRY).await.ok()?, open.ttl(HEALTH).await.ok()?]))
    }

    #[tokio::test]
    async fn a_valkey_that_forgot_everything_has_the_roster_again_and_who_left_is_gone_from_it() {
        let valkey = tokio::task::spawn_blocking(testkit::servers::fresh_valkey).await.unwrap();
        let (url, seen, stop) = (valkey.url(), Seen::default(), CancellationToken::new());
        seen.set(vec![member("buy_bot", "healthy", Some(0)), member("dexter", "starting", None)]);
        let task = tokio::spawn({
            let (roster, seen, stop) = (Roster::open(Some(&url)), seen.clone(), stop.clone());
            async move { keep(&roster, || (seen.get(), NOW_MS), &stop).await }
        });
        let names = || async { read(&url).await.map(|(hash, ..)| hash.into_keys().collect::<Vec<_>>()) };
        let is = |wanted: Option<&'static [&'static str]>| {
            let names = names();
            async move {
                names.await.as_deref().map(|n| n.iter().map(String::as_str).collect::<Vec<_>>())
                    == wanted.map(<[_]>::to_vec)
            }
        };
        wait_until(BOUND, "the roster", || is(Some(&["buy_bot", "dexter"]))).await;
        let (hash, health, ttls) = read(&url).await.unwrap();
        assert_eq!(serde_json::from_str::<Value>(&hash["buy_bot"]).unwrap()["status"], "active");
        assert_eq!(health, [("buy_bot".to_owned(), 1_790_000_000)]);
        assert!(ttls.iter().all(|ttl| (1..=HOLDS_S).contains(ttl)), "{ttls:?}");
        seen.set(vec![member("buy_bot", "deaf", Some(9_000))]);
        wait_until(BOUND, "who left is gone", || is(Some(&["buy_bot"]))).await;
        valkey.kill();
        valkey.start_again();
        wait_until(BOUND, "the roster again", || is(Some(&["buy_bot"]))).await;
        let mut open = redis::Client::open(url.as_str()).unwrap().get_multiplexed_async_connection().await.unwrap();
        let _: () = redis::cmd("FLUSHALL").query_async(&mut open).await.unwrap();
        let flushed = tokio::time::Instant::now();
        wait_until(BOUND, "the roster after a flush", || is(Some(&["buy_bot"]))).await;
        assert!(flushed.elapsed() < EVERY + WITHIN + Duration::from_secs(1), "{:?}", flushed.elapsed());
        stop.cancel();
        task.await.unwrap();
    }

    #[tokio::test]
    async fn a_valkey_that_hangs_is_given_up_in_time_and_not_asked_twice_over_one_connection() {
        let valkey = tokio::task::spawn_blocking(testkit::servers::fresh_valkey).await.unwrap();
        let roster = Roster::open(Some(&valkey.url()));
        roster.write(&[member("a", "busy", Some(0))], NOW_MS).await.unwrap();
        assert!(roster.connection.lock().await.is_some());
        valkey.freeze();
        let began = tokio::time::Instant::now();
        roster.write(&[], NOW_MS).await.unwrap_err();
        assert!(began.elapsed() < WITHIN * 4, "{:?}", began.elapsed());
        assert!(roster.connection.lock().await.is_none());
        valkey.thaw();
        wait_until(BOUND, "a write", || async { roster.write(&[], NOW_MS).await.is_ok() }).await;
        let (hash, health, _) = read(&valkey.url()).await.unwrap();
        assert!(hash.is_empty() && health.is_empty());
    }
}
