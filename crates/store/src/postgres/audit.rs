//! Audit chains in Postgres.

use async_trait::async_trait;
use domain::canonical::Sha256Digest;
use domain::ids::UserId;
use sqlx::postgres::PgRow;

use super::PgUnit;
use super::value::{Reader, Stamp};
use crate::StoreError;
use crate::audit::{AuditHead, AuditRow, Chain, ChainHead};
use crate::port::Audit;

fn head_of(table: &'static str, row: &PgRow) -> Result<AuditHead, StoreError> {
    let row = Reader::new(table, row);
    Ok(AuditHead { seq: row.get("seq")?, hash: row.digest("hash")? })
}

fn row_of(row: &PgRow) -> Result<AuditRow, StoreError> {
    let row = Reader::new("trade_audit", row);
    Ok(AuditRow {
        seq: row.get("seq")?,
        at: row.time("at")?,
        kind: row.text("kind")?,
        agent: row.text("agent")?,
        body: row.json("body")?,
        prev_hash: row.digest("prev_hash")?,
        hash: row.digest("hash")?,
    })
}

#[async_trait]
impl Audit for PgUnit {
    async fn lock_head(&mut self, chain: Chain) -> Result<AuditHead, StoreError> {
        let Chain::User(user) = chain else {
            let row = sqlx::query("SELECT seq, hash FROM governance_head FOR UPDATE").fetch_one(self.conn()).await?;
            return head_of("governance_head", &row);
        };
        sqlx::query("INSERT INTO audit_heads (user_id, seq, hash) VALUES ($1, 0, $2) ON CONFLICT DO NOTHING")
            .bind(user.0)
            .bind(&Sha256Digest::ZERO.0[..])
            .execute(self.conn())
            .await?;
        let row = sqlx::query("SELECT seq, hash FROM audit_heads WHERE user_id = $1 FOR UPDATE")
            .bind(user.0)
            .fetch_one(self.conn())
            .await?;
        head_of("audit_heads", &row)
    }

    async fn append_row(&mut self, chain: Chain, row: AuditRow) -> Result<(), StoreError> {
        let insert = match chain {
            Chain::User(user) => sqlx::query(
                "INSERT INTO trade_audit (user_id, seq, at, kind, agent, body, prev_hash, hash)
                 VALUES ($8, $1, $2, $3, $4, $5, $6, $7)",
            )
            .bind(row.seq)
            .bind(Stamp(row.at))
            .bind(&row.kind)
            .bind(&row.agent)
            .bind(&row.body)
            .bind(&row.prev_hash.0[..])
            .bind(&row.hash.0[..])
            .bind(user.0),
            Chain::Governance => sqlx::query(
                "INSERT INTO governance_audit (seq, at, kind, agent, body, prev_hash, hash)
                 VALUES ($1, $2, $3, $4, $5, $6, $7)",
            )
            .bind(row.seq)
            .bind(Stamp(row.at))
            .bind(&row.kind)
            .bind(&row.agent)
            .bind(&row.body)
            .bind(&row.prev_hash.0[..])
            .bind(&row.hash.0[..]),
        };
        insert.execute(self.conn()).await?;
        let moved = match chain {
            Chain::User(user) => sqlx::query("UPDATE audit_heads SET seq = $1, hash = $2 WHERE user_id = $3")
                .bind(row.seq)
                .bind(&row.hash.0[..])
                .bind(user.0),
            Chain::Governance => {
                sqlx::query("UPDATE governance_head SET seq = $1, hash = $2").bind(row.seq).bind(&row.hash.0[..])
            }
        };
        moved.execute(self.conn()).await?;
        Ok(())
    }

    async fn heads(&mut self) -> Result<Vec<ChainHead>, StoreError> {
        let rows = sqlx::query(
            "SELECT NULL::uuid AS user_id, seq, hash FROM governance_head WHERE seq > 0
             UNION ALL SELECT user_id, seq, hash FROM audit_heads WHERE seq > 0 ORDER BY user_id NULLS FIRST",
        )
        .fetch_all(self.conn())
        .await?;
        rows.iter()
            .map(|row| {
                let user: Option<uuid::Uuid> = Reader::new("audit_heads", row).get("user_id")?;
                let chain = user.map_or(Chain::Governance, |user| Chain::User(UserId(user)));
                Ok(ChainHead { chain, head: head_of("audit_heads", row)? })
            })
            .collect()
    }

    async fn hash_at(&mut self, chain: Chain, seq: i64) -> Result<Option<Sha256Digest>, StoreError> {
        let query = match chain {
            Chain::User(user) => {
                sqlx::query("SELECT hash FROM trade_audit WHERE user_id = $2 AND seq = $1").bind(seq).bind(user.0)
            }
            Chain::Governance => sqlx::query("SELECT hash FROM governance_audit WHERE seq = $1").bind(seq),
        };
        let row = query.fetch_optional(self.conn()).await?;
        row.map(|row| Reader::new("trade_audit", &row).digest("hash")).transpose()
    }

    async fn audited_users(&mut self) -> Result<Vec<UserId>, StoreError> {
        let ids: Vec<uuid::Uuid> =
            sqlx::query_scalar("SELECT DISTINCT user_id FROM trade_audit").fetch_all(self.conn()).await?;
        Ok(ids.into_iter().map(UserId).collect())
    }

    async fn users_exist(&mut self) -> Result<bool, StoreError> {
        Ok(sqlx::query_scalar("SELECT EXISTS (SELECT FROM users)").fetch_one(self.conn()).await?)
    }

    async fn audit_rows(&mut self, chain: Chain, after: i64, limit: i64) -> Result<Vec<AuditRow>, StoreError> {
        let query = match chain {
            Chain::User(user) => sqlx::query(
                "SELECT seq, at, kind, agent, body, prev_hash, hash FROM trade_audit
                 WHERE user_id = $3 AND seq > $1 ORDER BY seq LIMIT $2",
            )
            .bind(after)
            .bind(limit)
            .bind(user.0),
            Chain::Governance => sqlx::query(
                "SELECT seq, at, kind, agent, body, prev_hash, hash FROM governance_audit
                 WHERE seq > $1 ORDER BY seq LIMIT $2",
            )
            .bind(after)
            .bind(limit),
        };
        let rows = query.fetch_all(self.conn()).await?;
        rows.iter().map(row_of).collect()
    }
}
