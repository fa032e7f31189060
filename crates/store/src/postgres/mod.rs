//! The adapter that ships: Postgres behind the port, each method as few statements as it needs.

mod approvals;
mod audit;
mod db;
mod decisions;
mod instruments;
mod kill;
mod ledger;
mod orders;
mod permits;
mod supervision;
mod users;
pub(crate) mod value;

use async_trait::async_trait;
use domain::ids::{MessageId, UserId};
use domain::time::UnixMs;
use sqlx::postgres::PgConnection;
use sqlx::{Postgres, Transaction};

pub use db::Db;

use crate::port::Session;
use crate::{OutboxRow, StoreError};
use value::Stamp;

/// A transaction of Postgres.
#[derive(Debug)]
pub(crate) struct PgUnit {
    transaction: Transaction<'static, Postgres>,
}

impl PgUnit {
    pub(crate) const fn new(transaction: Transaction<'static, Postgres>) -> Self {
        Self { transaction }
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

    async fn inbox_insert(&mut self, agent: &str, id: MessageId) -> Result<bool, StoreError> {
        let done = sqlx::query("INSERT INTO inbox (agent, message_id) VALUES ($1, $2) ON CONFLICT DO NOTHING")
            .bind(agent)
            .bind(id.0)
            .execute(self.conn())
            .await?;
        Ok(done.rows_affected() == 1)
    }

    async fn outbox_put(&mut self, agent: &str, row: &OutboxRow) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO outbox (agent, message_id, subject, headers, payload, valid_until)
             VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING",
        )
        .bind(agent)
        .bind(row.id)
        .bind(&row.subject)
        .bind(&row.headers)
        .bind(&row.payload)
        .bind(row.valid_until.map(Stamp))
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
