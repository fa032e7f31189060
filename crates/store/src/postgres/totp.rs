//! Authenticators in Postgres.

use async_trait::async_trait;
use domain::ids::ApprovalId;
use domain::time::UnixMs;

use super::PgUnit;
use super::value::{Reader, Stamp};
use crate::StoreError;
use crate::port::Totp;
use crate::totp::Spent;

#[async_trait]
impl Totp for PgUnit {
    async fn totp_secret(&mut self, person_id: &str) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(sqlx::query_scalar("SELECT secret FROM approver_totp WHERE person_id = $1")
            .bind(person_id)
            .fetch_optional(self.conn())
            .await?)
    }

    async fn set_totp_secret(&mut self, person_id: &str, secret: &[u8], now: UnixMs) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO approver_totp (person_id, secret, enrolled_at) VALUES ($1, $2, $3)
             ON CONFLICT (person_id) DO UPDATE SET secret = EXCLUDED.secret, enrolled_at = EXCLUDED.enrolled_at",
        )
        .bind(person_id)
        .bind(secret)
        .bind(Stamp(now))
        .execute(self.conn())
        .await?;
        Ok(())
    }

    async fn spend_totp_step(&mut self, spent: &Spent) -> Result<bool, StoreError> {
        let done = sqlx::query(
            "INSERT INTO approver_totp_used (person_id, step, approval_id, at) VALUES ($1, $2, $3, $4)
             ON CONFLICT DO NOTHING",
        )
        .bind(&spent.person_id)
        .bind(spent.step)
        .bind(spent.approval_id.0)
        .bind(Stamp(spent.at))
        .execute(self.conn())
        .await?;
        Ok(done.rows_affected() == 1)
    }

    async fn spent_totp_step(&mut self, person_id: &str, step: i64) -> Result<Option<Spent>, StoreError> {
        let row = sqlx::query("SELECT * FROM approver_totp_used WHERE person_id = $1 AND step = $2")
            .bind(person_id)
            .bind(step)
            .fetch_optional(self.conn())
            .await?;
        row.as_ref().map(spent_of).transpose()
    }
}

fn spent_of(row: &sqlx::postgres::PgRow) -> Result<Spent, StoreError> {
    let row = Reader::new("approver_totp_used", row);
    Ok(Spent {
        person_id: row.text("person_id")?,
        step: row.get("step")?,
        approval_id: ApprovalId(row.uuid("approval_id")?),
        at: row.time("at")?,
    })
}
