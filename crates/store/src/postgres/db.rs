//! The pool, and what a process does outside of a unit: relay and forget messages.

use domain::ids::UserId;
use domain::time::UnixMs;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::{ConnectOptions, Connection, Postgres, Transaction};
use std::str::FromStr;
use std::time::Duration;

use super::PgUnit;
use super::value::{Reader, Stamp};
use crate::port::Records;
use crate::{OutboxRow, StoreError, Unit};

/// Connections of one process.
const POOL_SIZE: u32 = 3;
/// A connection that lay idle for longer is asked whether it still answers before it is used; one that answered just now
/// is not, because asking takes as long as a statement.
const TRUSTED_IDLE: Duration = Duration::from_secs(1);
/// How long a unit waits for a connection.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(3);

/// Begins in a task of its own: dropped after BEGIN was sent and before its answer, sqlx's future would hand the connection
/// back inside a transaction that nobody ends, and the next user of it would work in there.
async fn begun(
    begin: impl Future<Output = sqlx::Result<Transaction<'static, Postgres>>> + Send + 'static,
) -> Result<Box<dyn Records>, StoreError> {
    let transaction = tokio::spawn(begin).await.map_err(|_| sqlx::Error::WorkerCrashed)??;
    Ok(Box::new(PgUnit::new(transaction)))
}

/// One process's way to the database.
#[derive(Debug, Clone)]
pub struct Db {
    pool: PgPool,
}

impl Db {
    /// Opens a small pool. `role_hint` becomes the connection's `application_name` (the agent's name). Statements are
    /// given up after 4 s, waits for a lock after 3 s, and a transaction left open by a hung handler after 15 s.
    ///
    /// # Errors
    /// [`StoreError::Database`] when the URL does not parse or nothing answers.
    pub async fn connect(url: &str, role_hint: &str) -> Result<Self, StoreError> {
        let options = PgConnectOptions::from_str(url)?
            .application_name(role_hint)
            .options([
                ("statement_timeout", "4000"),
                ("lock_timeout", "3000"),
                ("idle_in_transaction_session_timeout", "15000"),
                ("timezone", "UTC"),
            ])
            .disable_statement_logging();
        let pool = PgPoolOptions::new()
            .max_connections(POOL_SIZE)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .test_before_acquire(false)
            .before_acquire(|connection, seen| {
                Box::pin(async move { Ok(seen.idle_for < TRUSTED_IDLE || connection.ping().await.is_ok()) })
            })
            .connect_with(options)
            .await?;
        Ok(Self { pool })
    }

    /// Starts a transaction without a tenant. A caller who gives up waiting leaves no transaction open.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn begin(&self) -> Result<Unit, StoreError> {
        let pool = self.pool.clone();
        Ok(Unit::new(begun(async move { pool.begin().await }).await?))
    }

    /// [`Db::begin`] followed by [`Unit::set_tenant`], in one round trip.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn begin_for(&self, user: UserId) -> Result<Unit, StoreError> {
        let pool = self.pool.clone();
        // A UUID's text is hexadecimal digits and dashes; statements that come in one have no parameters.
        let statement = sqlx::AssertSqlSafe(format!("BEGIN; SET LOCAL app.tenant = '{}'", user.0));
        Ok(Unit::of(begun(async move { pool.begin_with(statement).await }).await?, user))
    }

    /// The database's clock, which rows are stamped by.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn now(&self) -> Result<UnixMs, StoreError> {
        let stamp: Stamp = sqlx::query_scalar("SELECT clock_timestamp()").fetch_one(&self.pool).await?;
        Ok(stamp.0)
    }

    /// Whether the database answers.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn ping(&self) -> Result<(), StoreError> {
        sqlx::query("SELECT 1").execute(&self.pool).await?;
        Ok(())
    }

    /// The oldest waiting messages of `agent`, in the order they were put.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn outbox_pending(&self, agent: &str, limit: i64) -> Result<Vec<OutboxRow>, StoreError> {
        self.outbox_pending_besides(agent, limit, &[]).await
    }

    /// The oldest waiting messages of `agent` but for `besides`, in the order they were put: messages that can't be
    /// published now must not hide those behind them.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn outbox_pending_besides(
        &self,
        agent: &str,
        limit: i64,
        besides: &[uuid::Uuid],
    ) -> Result<Vec<OutboxRow>, StoreError> {
        let rows = sqlx::query(
            "SELECT message_id, subject, headers, payload, valid_until FROM outbox
             WHERE agent = $1 AND message_id <> ALL($3) ORDER BY position LIMIT $2",
        )
        .bind(agent)
        .bind(limit)
        .bind(besides)
        .fetch_all(&self.pool)
        .await?;
        rows.iter()
            .map(|row| {
                let row = Reader::new("outbox", row);
                Ok(OutboxRow {
                    id: row.uuid("message_id")?,
                    subject: row.text("subject")?,
                    headers: row.json("headers")?,
                    payload: row.get("payload")?,
                    valid_until: row.maybe_time("valid_until")?,
                })
            })
            .collect()
    }

    /// Forgets published messages.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn outbox_delete(&self, agent: &str, ids: &[uuid::Uuid]) -> Result<(), StoreError> {
        // Not synced: a row that a crash brings back is published once more under the id that its readers know.
        sqlx::query(
            "WITH unsynced AS MATERIALIZED (SELECT set_config('synchronous_commit', 'off', true) AS mode)
             DELETE FROM outbox USING unsynced WHERE unsynced.mode = 'off' AND agent = $1 AND message_id = ANY($2)",
        )
        .bind(agent)
        .bind(ids)
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Forgets inbox rows of `agent` older than `before`, `batch` at a time, and says how many went. Call it until it
    /// says 0. Nothing is redelivered after 7 days.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn inbox_forget(&self, agent: &str, before: UnixMs, batch: i64) -> Result<u64, StoreError> {
        let done = sqlx::query(
            "DELETE FROM inbox WHERE agent = $1 AND message_id IN
               (SELECT message_id FROM inbox WHERE agent = $1 AND received_at < $2 ORDER BY received_at LIMIT $3)",
        )
        .bind(agent)
        .bind(Stamp(before))
        .bind(batch)
        .execute(&self.pool)
        .await?;
        Ok(done.rows_affected())
    }

    /// The pool itself, for what this crate does not offer.
    #[must_use]
    pub const fn pool(&self) -> &PgPool {
        &self.pool
    }
}
