//! Permits in Postgres.

use async_trait::async_trait;
use domain::ids::{OrderId, PermitId, UserId};
use domain::order::Permit;
use domain::time::UnixMs;

use super::PgUnit;
use super::value::{Reader, Stamp};
use crate::StoreError;
use crate::permits::{DuePermit, PermitRow, PermitState};
use crate::port::Permits;

#[async_trait]
impl Permits for PgUnit {
    async fn insert_permit(&mut self, permit: &Permit, user: UserId) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO permits (user_id, permit_id, order_id, body, signature, state, signed_at, expires_at)
         VALUES ($1, $2, $3, $4, $5, 'signed', $6, $7)",
        )
        .bind(user.0)
        .bind(permit.body.permit_id.0)
        .bind(permit.body.envelope.order_id.0)
        .bind(serde_json::to_value(&permit.body)?)
        .bind(&permit.signature)
        .bind(Stamp(permit.body.signed_at))
        .bind(Stamp(permit.body.expires_at))
        .execute(self.conn())
        .await?;
        Ok(())
    }

    async fn spend_permit(&mut self, user: UserId, permit_id: PermitId, now: UnixMs) -> Result<bool, StoreError> {
        let done = sqlx::query(
            "UPDATE permits SET state = 'spent', changed_at = clock_timestamp()
         WHERE user_id = $1 AND permit_id = $2 AND state = 'signed' AND expires_at > $3",
        )
        .bind(user.0)
        .bind(permit_id.0)
        .bind(Stamp(now))
        .execute(self.conn())
        .await?;
        Ok(done.rows_affected() == 1)
    }

    async fn void_permit(&mut self, user: UserId, permit_id: PermitId) -> Result<bool, StoreError> {
        let done = sqlx::query(
            "UPDATE permits SET state = 'void', changed_at = clock_timestamp()
         WHERE user_id = $1 AND permit_id = $2 AND state = 'signed'",
        )
        .bind(user.0)
        .bind(permit_id.0)
        .execute(self.conn())
        .await?;
        Ok(done.rows_affected() == 1)
    }

    async fn unspent_due(&mut self, now: UnixMs) -> Result<Vec<DuePermit>, StoreError> {
        let rows = sqlx::query(
            "SELECT user_id, permit_id, order_id FROM permits WHERE state = 'signed' AND expires_at <= $1
         ORDER BY expires_at, permit_id",
        )
        .bind(Stamp(now))
        .fetch_all(self.conn())
        .await?;
        rows.iter()
            .map(|row| {
                let row = Reader::new("permits", row);
                Ok(DuePermit {
                    user_id: UserId(row.uuid("user_id")?),
                    permit_id: PermitId(row.uuid("permit_id")?),
                    order_id: OrderId(row.uuid("order_id")?),
                })
            })
            .collect()
    }

    async fn permit(&mut self, permit_id: PermitId) -> Result<Option<PermitRow>, StoreError> {
        let row = sqlx::query("SELECT user_id, body, signature, state FROM permits WHERE permit_id = $1")
            .bind(permit_id.0)
            .fetch_optional(self.conn())
            .await?;
        row.map(|row| {
            let row = Reader::new("permits", &row);
            Ok(PermitRow {
                permit: Permit { body: serde_json::from_value(row.json("body")?)?, signature: row.text("signature")? },
                user_id: UserId(row.uuid("user_id")?),
                state: row.word("state", PermitState::parse)?,
            })
        })
        .transpose()
    }
}
