//! Judgements in Postgres.

use async_trait::async_trait;
use domain::ids::{IntentId, MessageId, OrderId, UserId};
use sqlx::postgres::PgRow;

use super::PgUnit;
use super::value::{Reader, Stamp};
use crate::StoreError;
use crate::decisions::{DecisionRow, Outcome};
use crate::port::Decisions;

fn decision_of(row: &PgRow) -> Result<DecisionRow, StoreError> {
    let row = Reader::new("policy_decisions", row);
    let digest = match row.get::<Option<&[u8]>>("digest")? {
        Some(_) => Some(row.digest("digest")?),
        None => None,
    };
    Ok(DecisionRow {
        user_id: UserId(row.uuid("user_id")?),
        order_id: OrderId(row.uuid("order_id")?),
        intent_id: IntentId(row.uuid("intent_id")?),
        signal_id: MessageId(row.uuid("signal_id")?),
        leg: u16::try_from(row.get::<i32>("leg")?).map_err(|_| row.corrupt("leg"))?,
        outcome: row.word("outcome", Outcome::parse)?,
        code: row.get("code")?,
        numbers: row.json("numbers")?,
        envelope: row.get("envelope")?,
        digest,
        policy_version: row.text("policy_version")?,
        at: row.time("at")?,
    })
}

#[async_trait]
impl Decisions for PgUnit {
    async fn insert_decision(&mut self, row: &DecisionRow) -> Result<bool, StoreError> {
        let done = sqlx::query(
        "INSERT INTO policy_decisions (user_id, order_id, intent_id, signal_id, leg, outcome, code, numbers, envelope,
           digest, policy_version, at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) ON CONFLICT DO NOTHING",
    )
    .bind(row.user_id.0)
    .bind(row.order_id.0)
    .bind(row.intent_id.0)
    .bind(row.signal_id.0)
    .bind(i32::from(row.leg))
    .bind(row.outcome.word())
    .bind(&row.code)
    .bind(&row.numbers)
    .bind(&row.envelope)
    .bind(row.digest.as_ref().map(|digest| &digest.0[..]))
    .bind(&row.policy_version)
    .bind(Stamp(row.at))
    .execute(self.conn())
    .await?;
        Ok(done.rows_affected() == 1)
    }

    async fn decision_of_order(&mut self, order_id: OrderId) -> Result<Option<DecisionRow>, StoreError> {
        let row = sqlx::query("SELECT * FROM policy_decisions WHERE order_id = $1")
            .bind(order_id.0)
            .fetch_optional(self.conn())
            .await?;
        row.as_ref().map(decision_of).transpose()
    }

    async fn recent_decisions(&mut self, user: UserId, limit: i64) -> Result<Vec<DecisionRow>, StoreError> {
        let rows = sqlx::query("SELECT * FROM policy_decisions WHERE user_id = $1 ORDER BY position DESC LIMIT $2")
            .bind(user.0)
            .bind(limit)
            .fetch_all(self.conn())
            .await?;
        rows.iter().map(decision_of).collect()
    }
}
