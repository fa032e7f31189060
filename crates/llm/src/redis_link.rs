//! One multiplexed connection to Redis (or Valkey), shared by quotas and caches, that says when it is not there.
//!
//! Whoever uses it asks for the connection of now and goes on without one; nobody waits for a reconnect. A task of its own
//! connects again, with growing pauses. The URL, which holds a password, is never logged.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, IntoConnectionInfo};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

/// Longest wait for a connection with its login.
const CONNECT_WITHIN: Duration = Duration::from_millis(500);
/// Longest wait for an answer where the asker does not say less.
const ANSWER_WITHIN: Duration = Duration::from_millis(500);
/// First and last pause between tries to connect.
const PAUSES: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));

/// A connection and the number of the try that made it: later ones have larger numbers.
#[derive(Clone)]
pub struct Connected {
    /// Cheap to clone; requests of all clones share one socket.
    pub connection: MultiplexedConnection,
    /// Which connection it is.
    pub number: u64,
}

impl std::fmt::Debug for Connected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connected").field("number", &self.number).finish_non_exhaustive()
    }
}

#[derive(Debug, Default)]
struct Shared {
    now: RwLock<Option<Connected>>,
    lost: Notify,
}

/// The link. Dropping it ends its task.
#[derive(Debug)]
pub struct RedisLink {
    shared: Arc<Shared>,
    connections: watch::Receiver<u64>,
    task: Option<JoinHandle<()>>,
}

impl RedisLink {
    /// Starts to connect in the background. Without a URL, or with one that can't be read, it stays away for good; the
    /// second is logged, without the URL.
    ///
    /// Must be called within a Tokio runtime.
    #[must_use]
    pub fn open(url: Option<&str>) -> Arc<Self> {
        let shared = Arc::new(Shared::default());
        let (tell, connections) = watch::channel(0);
        let client = url.and_then(|url| match client(url) {
            Ok(client) => Some(client),
            Err(error) => {
                // The error's own words may quote the URL.
                tracing::error!(kind = ?error.kind(), "the Redis URL can't be read; going on without Redis");
                None
            }
        });
        let task = client.map(|client| tokio::spawn(keep_connected(client, Arc::clone(&shared), tell)));
        Arc::new(Self { shared, connections, task })
    }

    /// The connection of now. `None`: away.
    #[must_use]
    pub fn connection(&self) -> Option<Connected> {
        self.shared.now.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether there is a connection.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.shared.now.read().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Whether there is a server to connect to at all.
    #[must_use]
    pub const fn is_configured(&self) -> bool {
        self.task.is_some()
    }

    /// The number of each connection as it is made.
    #[must_use]
    pub fn connections(&self) -> watch::Receiver<u64> {
        self.connections.clone()
    }

    /// Says that this connection failed or did not answer in time: it is dropped and made anew. What is said of an older
    /// one is not heard.
    pub fn failed(&self, number: u64) {
        let mut now = self.shared.now.write().unwrap_or_else(PoisonError::into_inner);
        if now.as_ref().is_some_and(|connected| connected.number == number) {
            *now = None;
            drop(now);
            self.shared.lost.notify_one();
        }
    }
}

impl Drop for RedisLink {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

/// Without TCP_NODELAY a request that follows another one waits for the acknowledgement of the first: up to 40 ms.
fn client(url: &str) -> redis::RedisResult<Client> {
    let info = url.into_connection_info()?;
    let settings = info.tcp_settings().clone().set_nodelay(true);
    Client::open(info.set_tcp_settings(settings))
}

async fn keep_connected(client: Client, shared: Arc<Shared>, tell: watch::Sender<u64>) {
    let mut number = 0;
    let mut pause = PAUSES.0;
    let mut said = false;
    loop {
        match connect(&client).await {
            Ok(connection) => {
                number += 1;
                *shared.now.write().unwrap_or_else(PoisonError::into_inner) = Some(Connected { connection, number });
                tell.send_replace(number);
                if said {
                    tracing::info!(number, "Redis is back");
                }
                let connected_at = tokio::time::Instant::now();
                shared.lost.notified().await;
                said = true;
                tracing::warn!(number, "Redis is away; going on without it");
                // A server that takes logins and answers nothing else is not asked faster and faster.
                if connected_at.elapsed() > PAUSES.1 {
                    pause = PAUSES.0;
                }
            }
            Err(error) => {
                if !said {
                    said = true;
                    tracing::warn!(kind = ?error.kind(), code = error.code(), "Redis can't be reached; going on without it");
                }
            }
        }
        tokio::time::sleep(pause).await;
        pause = pause.saturating_mul(2).min(PAUSES.1);
    }
}

async fn connect(client: &Client) -> redis::RedisResult<MultiplexedConnection> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(CONNECT_WITHIN))
        .set_response_timeout(Some(ANSWER_WITHIN));
    let mut connection = client.get_multiplexed_async_connection_with_config(&config).await?;
    redis::cmd("PING").exec_async(&mut connection).await?;
    Ok(connection)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUND: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn a_connection_that_failed_is_made_anew_and_an_older_one_can_not_fail_it() {
        let valkey = testkit::servers::fresh_valkey();
        let link = RedisLink::open(Some(&valkey.url()));
        testkit::wait_until(BOUND, "a connection", || async { link.is_up() }).await;
        let first = link.connection().unwrap().number;
        link.failed(first);
        testkit::wait_until(BOUND, "a second connection", || async { link.is_up() }).await;
        let second = link.connection().unwrap();
        link.failed(first);
        assert!(link.is_up() && second.number > first);
        let told: String = redis::cmd("PING").query_async(&mut second.connection.clone()).await.unwrap();
        assert_eq!(told, "PONG");
        assert!(!format!("{link:?} {second:?}").contains("test1"), "a password is not printed");
        valkey.kill();
        link.failed(second.number);
        valkey.start_again();
        testkit::wait_until(BOUND, "a third connection", || async { link.is_up() }).await;
    }

    #[tokio::test]
    async fn without_a_url_or_with_a_wrong_one_there_is_no_server() {
        for url in [None, Some("no url at all"), Some("http://a:b@c/")] {
            let link = RedisLink::open(url);
            assert!(!link.is_configured() && !link.is_up() && link.connection().is_none(), "{url:?}");
        }
        assert!(RedisLink::open(Some("redis://127.0.0.1:1/")).is_configured());
    }
}
