//! Restarts and declared states in Postgres.

use async_trait::async_trait;
use domain::ids::BootId;
use domain::time::UnixMs;

use super::PgUnit;
use super::value::{Reader, Stamp};
use crate::StoreError;
use crate::port::Supervision;
use crate::supervision::{Declared, Restart, RestartKind};

#[async_trait]
impl Supervision for PgUnit {
    async fn insert_restart(&mut self, restart: &Restart) -> Result<bool, StoreError> {
        let inserted = sqlx::query(
            "INSERT INTO restarts (agent, boot_id, at, kind, cause) VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING",
        )
        .bind(&restart.agent)
        .bind(restart.boot_id.0)
        .bind(Stamp(restart.at))
        .bind(restart.kind.word())
        .bind(&restart.cause)
        .execute(self.conn())
        .await?;
        Ok(inserted.rows_affected() == 1)
    }

    async fn restarts_since(&mut self, agent: &str, since: UnixMs) -> Result<Vec<Restart>, StoreError> {
        let rows = sqlx::query(
            "SELECT agent, boot_id, at, kind, cause FROM restarts WHERE agent = $1 AND at >= $2 ORDER BY at, boot_id",
        )
        .bind(agent)
        .bind(Stamp(since))
        .fetch_all(self.conn())
        .await?;
        rows.iter()
            .map(|row| {
                let row = Reader::new("restarts", row);
                Ok(Restart {
                    agent: row.text("agent")?,
                    boot_id: BootId(row.uuid("boot_id")?),
                    at: row.time("at")?,
                    kind: row.word("kind", RestartKind::parse)?,
                    cause: row.text("cause")?,
                })
            })
            .collect()
    }

    async fn declare(&mut self, declared: &Declared) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO declared_state (agent, state, config_hash, binary_hash, reason, at)
         VALUES ($1, $2, $3, $4, $5, $6)
         ON CONFLICT (agent) DO UPDATE SET state = EXCLUDED.state, config_hash = EXCLUDED.config_hash,
           binary_hash = EXCLUDED.binary_hash, reason = EXCLUDED.reason, at = EXCLUDED.at",
        )
        .bind(&declared.agent)
        .bind(&declared.state)
        .bind(&declared.config_hash)
        .bind(&declared.binary_hash)
        .bind(&declared.reason)
        .bind(Stamp(declared.at))
        .execute(self.conn())
        .await?;
        Ok(())
    }

    async fn declare_over(&mut self, seen: Option<&Declared>, declared: &Declared) -> Result<bool, StoreError> {
        // Without a row that was seen the comparison is with NULL, which no row equals.
        let written = sqlx::query(
            "INSERT INTO declared_state AS found (agent, state, config_hash, binary_hash, reason, at)
         VALUES ($1, $2, $3, $4, $5, $6)
         ON CONFLICT (agent) DO UPDATE SET state = EXCLUDED.state, config_hash = EXCLUDED.config_hash,
           binary_hash = EXCLUDED.binary_hash, reason = EXCLUDED.reason, at = EXCLUDED.at
         WHERE found.state = $7 AND found.reason = $8 AND found.at = $9",
        )
        .bind(&declared.agent)
        .bind(&declared.state)
        .bind(&declared.config_hash)
        .bind(&declared.binary_hash)
        .bind(&declared.reason)
        .bind(Stamp(declared.at))
        .bind(seen.map(|seen| &seen.state))
        .bind(seen.map(|seen| &seen.reason))
        .bind(seen.map(|seen| Stamp(seen.at)))
        .execute(self.conn())
        .await?;
        Ok(written.rows_affected() == 1)
    }

    async fn declared(&mut self) -> Result<Vec<Declared>, StoreError> {
        let rows =
            sqlx::query("SELECT agent, state, config_hash, binary_hash, reason, at FROM declared_state ORDER BY agent")
                .fetch_all(self.conn())
                .await?;
        rows.iter()
            .map(|row| {
                let row = Reader::new("declared_state", row);
                Ok(Declared {
                    agent: row.text("agent")?,
                    state: row.text("state")?,
                    config_hash: row.text("config_hash")?,
                    binary_hash: row.text("binary_hash")?,
                    reason: row.text("reason")?,
                    at: row.time("at")?,
                })
            })
            .collect()
    }
}
