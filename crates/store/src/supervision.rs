//! What the supervisor must not forget when it dies: restarts, and what each process was declared to be.

use domain::ids::BootId;
use domain::time::UnixMs;

use crate::fits::fits;
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
    fits(restart.at, "at")?;
    unit.records().insert_restart(restart).await
}

/// Starts of a process since `since`, oldest first.
///
/// # Errors
/// [`StoreError`].
pub async fn restarts_since(unit: &mut Unit, agent: &str, since: UnixMs) -> Result<Vec<Restart>, StoreError> {
    fits(since, "at")?;
    unit.records().restarts_since(agent, since).await
}

/// Writes what a process should be.
///
/// # Errors
/// [`StoreError`].
pub async fn declare(unit: &mut Unit, declared: &Declared) -> Result<(), StoreError> {
    fits(declared.at, "at")?;
    unit.records().declare(declared).await
}

/// Writes what a process should be, unless somebody wrote it since `seen` was read (`None`: there was nothing). Says
/// whether it was written.
///
/// # Errors
/// [`StoreError`].
pub async fn declare_over(unit: &mut Unit, seen: Option<&Declared>, declared: &Declared) -> Result<bool, StoreError> {
    fits(declared.at, "at")?;
    unit.records().declare_over(seen, declared).await
}

/// What every process should be, by name.
///
/// # Errors
/// [`StoreError`].
pub async fn declared(unit: &mut Unit) -> Result<Vec<Declared>, StoreError> {
    unit.records().declared().await
}
