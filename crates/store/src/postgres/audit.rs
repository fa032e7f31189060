//! Audit chains in Postgres.

use async_trait::async_trait;
use domain::canonical::Sha256Digest;
use domain::ids::UserId;
use sqlx::postgres::PgRow;

use super::PgUnit;
use super::value::{Reader, Stamp};
use crate::StoreError;
use crate::audit::{AuditHead, AuditRow, Chain, ChainHead, MovedHeads};
use crate::port::Audit;

fn head_of(table: &'static str, row: &PgRow) -> Result<AuditHead, StoreError> {
    let row = Reader::new(table, row);
    Ok(AuditHead { seq: row.get("seq")?, hash: row.digest("hash")? })
}

fn chain_head(row: &PgRow) -> Result<ChainHead, StoreError> {
    let user: Option<uuid::Uuid> = Reader::new("audit_heads", row).get("user_id")?;
    let chain = user.map_or(Chain::Governance, |user| Chain::User(UserId(user)));
    Ok(ChainHead { chain, head: head_of("audit_heads", row)? })
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

async fn lock_user_head(unit: &mut PgUnit, user: UserId) -> Result<Option<AuditHead>, StoreError> {
    let row = sqlx::query("SELECT seq, hash FROM audit_heads WHERE user_id = $1 FOR UPDATE")
        .bind(user.0)
        .fetch_optional(unit.conn())
        .await?;
    row.map(|row| head_of("audit_heads", &row)).transpose()
}

#[async_trait]
impl Audit for PgUnit {
    async fn lock_head(&mut self, chain: Chain) -> Result<AuditHead, StoreError> {
        if let Some((_, head)) = self.head.filter(|(known, _)| *known == chain) {
            return Ok(head);
        }
        let Chain::User(user) = chain else {
            let row = sqlx::query("SELECT seq, hash FROM governance_head FOR UPDATE").fetch_one(self.conn()).await?;
            return head_of("governance_head", &row);
        };
        if let Some(head) = lock_user_head(self, user).await? {
            return Ok(head);
        }
        sqlx::query("INSERT INTO audit_heads (user_id, seq, hash) VALUES ($1, 0, $2) ON CONFLICT DO NOTHING")
            .bind(user.0)
            .bind(&Sha256Digest::ZERO.0[..])
            .execute(self.conn())
            .await?;
        let made = lock_user_head(self, user).await?;
        made.ok_or(StoreError::Corrupt { table: "audit_heads", column: "user_id" })
    }

    async fn append_row(&mut self, chain: Chain, row: AuditRow) -> Result<(), StoreError> {
        // The head moves in the statement that adds the row, and after it: the trigger on the head looks for the row.
        let append = match chain {
            Chain::User(user) => sqlx::query(
                "WITH added AS (INSERT INTO trade_audit (user_id, seq, at, kind, agent, body, prev_hash, hash)
                                VALUES ($8, $1, $2, $3, $4, $5, $6, $7) RETURNING seq, hash)
                 UPDATE audit_heads h SET seq = added.seq, hash = added.hash FROM added WHERE h.user_id = $8",
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
                "WITH added AS (INSERT INTO governance_audit (seq, at, kind, agent, body, prev_hash, hash)
                                VALUES ($1, $2, $3, $4, $5, $6, $7) RETURNING seq, hash)
                 UPDATE governance_head SET seq = added.seq, hash = added.hash FROM added",
            )
            .bind(row.seq)
            .bind(Stamp(row.at))
            .bind(&row.kind)
            .bind(&row.agent)
            .bind(&row.body)
            .bind(&row.prev_hash.0[..])
            .bind(&row.hash.0[..]),
        };
        let moved = append.execute(self.conn()).await?.rows_affected();
        // A row without its head would be lost to the next writer.
        if moved != 1 {
            return Err(StoreError::Corrupt { table: "audit_heads", column: "seq" });
        }
        self.head = Some((chain, AuditHead { seq: row.seq, hash: row.hash }));
        Ok(())
    }

    async fn moved_heads(&mut self, since: i64) -> Result<MovedHeads, StoreError> {
        // Every transaction below a snapshot's xmin is over, and what it wrote is in the snapshot.
        let rows = sqlx::query(
            "SELECT NULL::uuid AS user_id, seq, hash, pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS until
             FROM governance_head
             UNION ALL SELECT user_id, seq, hash, NULL FROM audit_heads WHERE seq > 0 AND moved_in >= $1::text::xid8
             ORDER BY user_id NULLS FIRST",
        )
        .bind(since.to_string())
        .fetch_all(self.conn())
        .await?;
        let governance = rows.first().ok_or(StoreError::Corrupt { table: "governance_head", column: "seq" })?;
        let until = Reader::new("governance_head", governance).get("until")?;
        let mut heads = rows.iter().map(chain_head).collect::<Result<Vec<_>, _>>()?;
        heads.retain(|named| named.head.seq > 0);
        Ok(MovedHeads { heads, until })
    }

    async fn heads_after(&mut self, after: Option<UserId>, limit: i64) -> Result<Vec<ChainHead>, StoreError> {
        let rows = sqlx::query(
            "SELECT user_id, seq, hash FROM audit_heads WHERE user_id > $1 AND seq > 0 ORDER BY user_id LIMIT $2",
        )
        .bind(after.map_or(uuid::Uuid::nil(), |user| user.0))
        .bind(limit)
        .fetch_all(self.conn())
        .await?;
        rows.iter().map(chain_head).collect()
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

    async fn hashes_at(&mut self, rows: &[(Chain, i64)]) -> Result<Vec<Option<Sha256Digest>>, StoreError> {
        let user_of = |chain: &Chain| match chain {
            Chain::User(user) => Some(user.0),
            Chain::Governance => None,
        };
        let found = sqlx::query(
            "SELECT coalesce(t.hash, g.hash) AS hash
             FROM unnest($1::uuid[], $2::bigint[]) WITH ORDINALITY AS asked (user_id, seq, n)
             LEFT JOIN trade_audit t ON t.user_id = asked.user_id AND t.seq = asked.seq
             LEFT JOIN governance_audit g ON asked.user_id IS NULL AND g.seq = asked.seq
             ORDER BY asked.n",
        )
        .bind(rows.iter().map(|(chain, _)| user_of(chain)).collect::<Vec<_>>())
        .bind(rows.iter().map(|(_, seq)| *seq).collect::<Vec<_>>())
        .fetch_all(self.conn())
        .await?;
        found
            .iter()
            .map(|row| {
                let row = Reader::new("trade_audit", row);
                let hash: Option<Vec<u8>> = row.get("hash")?;
                hash.map(|hash| hash.try_into().map(Sha256Digest).map_err(|_| row.corrupt("hash"))).transpose()
            })
            .collect()
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
