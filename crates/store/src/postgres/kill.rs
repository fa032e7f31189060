//! Kill levels in Postgres.

use async_trait::async_trait;
use sqlx::postgres::PgRow;

use super::PgUnit;
use super::value::{Reader, Stamp};
use crate::StoreError;
use crate::kill::Kill;
use crate::port::KillLevels;

fn kill_of(row: &PgRow) -> Result<Kill, StoreError> {
    let row = Reader::new("kill_levels", row);
    let level = u8::try_from(row.get::<i16>("level")?).map_err(|_| row.corrupt("level"))?;
    Ok(Kill {
        level,
        epoch: row.get("epoch")?,
        by: row.text("by_whom")?,
        reason: row.text("reason")?,
        at: row.time("at")?,
    })
}

#[async_trait]
impl KillLevels for PgUnit {
    async fn kill_level(&mut self) -> Result<Option<Kill>, StoreError> {
        let row = sqlx::query("SELECT level, epoch, by_whom, reason, at FROM kill_levels ORDER BY epoch DESC LIMIT 1")
            .fetch_optional(self.conn())
            .await?;
        row.as_ref().map(kill_of).transpose()
    }

    async fn kill_levels_since(&mut self, epoch: i64) -> Result<Vec<Kill>, StoreError> {
        let rows = sqlx::query(
            "SELECT level, epoch, by_whom, reason, at FROM kill_levels WHERE epoch >= $1 ORDER BY epoch LIMIT 100",
        )
        .bind(epoch)
        .fetch_all(self.conn())
        .await?;
        rows.iter().map(kill_of).collect()
    }

    async fn lock_kill_level(&mut self) -> Result<(), StoreError> {
        sqlx::query("SELECT pg_advisory_xact_lock(hashtextextended('swarm.kill', 0))").execute(self.conn()).await?;
        Ok(())
    }

    async fn insert_kill_level(&mut self, kill: &Kill) -> Result<(), StoreError> {
        sqlx::query("INSERT INTO kill_levels (epoch, level, by_whom, reason, at) VALUES ($1, $2, $3, $4, $5)")
            .bind(kill.epoch)
            .bind(i16::from(kill.level))
            .bind(&kill.by)
            .bind(&kill.reason)
            .bind(Stamp(kill.at))
            .execute(self.conn())
            .await?;
        Ok(())
    }
}
