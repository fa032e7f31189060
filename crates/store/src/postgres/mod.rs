//! The adapter that ships: Postgres behind the port, each method as few statements as it needs.

mod approvals;
mod audit;
mod db;
mod dead_letters;
mod decisions;
mod instruments;
mod kill;
mod ledger;
mod llm_usage;
mod orders;
mod permits;
mod supervision;
mod telegram;
mod telegram_notices;
mod totp;
mod users;
pub(crate) mod value;

use async_trait::async_trait;
use domain::ids::{MessageId, UserId};
use domain::time::UnixMs;
use sqlx::postgres::PgConnection;
use sqlx::{Postgres, Transaction};

pub use db::Db;

use crate::audit::{AuditHead, Chain};
use crate::port::Session;
use crate::{OutboxRow, StoreError};
use value::{Reader, Stamp};

/// A transaction of Postgres.
#[derive(Debug)]
pub(crate) struct PgUnit {
    transaction: Transaction<'static, Postgres>,
    /// The chain this unit appended to last. Its head stays locked until the unit ends, so nobody else moves it.
    head: Option<(Chain, AuditHead)>,
}

impl PgUnit {
    pub(crate) const fn new(transaction: Transaction<'static, Postgres>) -> Self {
        Self { transaction, head: None }
    }

    fn conn(&mut self) -> &mut PgConnection {
        &mut self.transaction
    }
}

#[async_trait]
impl Session for PgUnit {
    async fn set_tenant(&mut self, user: UserId) -> Result<(), StoreError> {
        sqlx::query("SELECT set_config('app.tenant', $1, true)").bind(user.to_string()).execute(self.conn()).await?;
        Ok(())
    }

    async fn now(&mut self) -> Result<UnixMs, StoreError> {
        let stamp: Stamp = sqlx::query_scalar("SELECT clock_timestamp()").fetch_one(self.conn()).await?;
        Ok(stamp.0)
    }

    async fn open(&mut self, tenant: Option<UserId>, agent: &str, id: MessageId) -> Result<(bool, UnixMs), StoreError> {
        // The clock is read of the counted rows, so not before the insert has waited for whoever handles the message too.
        let row = sqlx::query(
            "WITH taken AS (INSERT INTO inbox (agent, message_id) VALUES ($1, $2) ON CONFLICT DO NOTHING RETURNING 1)
             SELECT t.n = 1 AS is_new, clock_timestamp() AS now, set_config('app.tenant', $3, true)
             FROM (SELECT count(*) AS n FROM taken) t",
        )
        .bind(agent)
        .bind(id.0)
        .bind(tenant.map_or_else(String::new, |user| user.to_string()))
        .fetch_one(self.conn())
        .await?;
        let row = Reader::new("inbox", &row);
        Ok((row.get("is_new")?, row.time("now")?))
    }

    async fn outbox_put(&mut self, agent: &str, rows: &[OutboxRow]) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO outbox (agent, message_id, subject, headers, payload, valid_until)
             SELECT $1, r.id, r.subject, r.headers, r.payload, r.valid_until
             FROM unnest($2::uuid[], $3::text[], $4::jsonb[], $5::bytea[], $6::timestamptz[])
               WITH ORDINALITY AS r (id, subject, headers, payload, valid_until, n)
             ORDER BY r.n ON CONFLICT DO NOTHING",
        )
        .bind(agent)
        .bind(rows.iter().map(|row| row.id).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.subject.as_str()).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.headers.clone()).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.payload.as_slice()).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.valid_until.map(Stamp)).collect::<Vec<_>>())
        .execute(self.conn())
        .await?;
        Ok(())
    }

    async fn commit(self: Box<Self>) -> Result<(), StoreError> {
        Ok(self.transaction.commit().await?)
    }

    async fn rollback(self: Box<Self>) -> Result<(), StoreError> {
        Ok(self.transaction.rollback().await?)
    }

    fn postgres(&mut self) -> Option<&mut PgConnection> {
        Some(&mut self.transaction)
    }
}
