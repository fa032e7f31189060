//! What the supervisor must not forget when it dies: restarts, and what each process was declared to be.

use domain::ids::BootId;
use domain::time::UnixMs;

use crate::value::{Reader, Stamp};
use crate::{StoreError, Unit};

/// One start of one process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restart {
    /// Which process.
    pub agent: String,
    /// This start of it.
    pub boot_id: BootId,
    /// When.
    pub at: UnixMs,
    /// Why: `first`, `exit 1`, `signal 9`, `hung`, `recycled`.
    pub cause: String,
}

/// What a process should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Declared {
    /// Which process.
    pub agent: String,
    /// `running`, `stopped` or `quarantined`.
    pub state: String,
    /// Digest of its configuration, hex.
    pub config_hash: String,
    /// Digest of its binary, hex.
    pub binary_hash: String,
    /// Why it is in that state.
    pub reason: String,
    /// Since when.
    pub at: UnixMs,
}

/// Records a start.
///
/// # Errors
/// [`StoreError`].
pub async fn insert_restart(unit: &mut Unit, restart: &Restart) -> Result<(), StoreError> {
    sqlx::query("INSERT INTO restarts (agent, boot_id, at, cause) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING")
        .bind(&restart.agent)
        .bind(restart.boot_id.0)
        .bind(Stamp(restart.at))
        .bind(&restart.cause)
        .execute(unit.conn())
        .await?;
    Ok(())
}

/// Starts of a process since `since`, oldest first.
///
/// # Errors
/// [`StoreError`].
pub async fn restarts_since(unit: &mut Unit, agent: &str, since: UnixMs) -> Result<Vec<Restart>, StoreError> {
    let rows = sqlx::query(
        "SELECT agent, boot_id, at, cause FROM restarts WHERE agent = $1 AND at >= $2 ORDER BY at, boot_id",
    )
    .bind(agent)
    .bind(Stamp(since))
    .fetch_all(unit.conn())
    .await?;
    rows.iter()
        .map(|row| {
            let row = Reader::new("restarts", row);
            Ok(Restart {
                agent: row.text("agent")?,
                boot_id: BootId(row.uuid("boot_id")?),
                at: row.time("at")?,
                cause: row.text("cause")?,
            })
        })
        .collect()
}

/// Writes what a process should be.
///
/// # Errors
/// [`StoreError`].
pub async fn declare(unit: &mut Unit, declared: &Declared) -> Result<(), StoreError> {
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
    .execute(unit.conn())
    .await?;
    Ok(())
}

/// What every process should be, by name.
///
/// # Errors
/// [`StoreError`].
pub async fn declared(unit: &mut Unit) -> Result<Vec<Declared>, StoreError> {
    let rows =
        sqlx::query("SELECT agent, state, config_hash, binary_hash, reason, at FROM declared_state ORDER BY agent")
            .fetch_all(unit.conn())
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
