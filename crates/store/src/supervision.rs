//! What the supervisor must not forget when it dies: restarts, and what each process was declared to be.

use domain::ids::BootId;
use domain::time::UnixMs;

use crate::fits::fits;
use crate::{StoreError, Unit};

/// Why a process had to be started again. Each is counted against bounds of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RestartKind {
    /// It ended by itself, whatever its exit code.
    Crash,
    /// It did not move any more, or never began, and was killed.
    Hang,
    /// It, or the machine, had too little memory left.
    Memory,
    /// Planned, so that nothing has time to pile up.
    Recycle,
    /// A person wanted it.
    Config,
    /// It could not reach its servers or its supervisor.
    Outage,
}

impl RestartKind {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Crash, Self::Hang, Self::Memory, Self::Recycle, Self::Config, Self::Outage];

    /// The word in tables and for people.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Crash => "crash",
            Self::Hang => "hang",
            Self::Memory => "memory",
            Self::Recycle => "recycle",
            Self::Config => "config",
            Self::Outage => "outage",
        }
    }

    /// Reads the word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.word() == word)
    }
}

/// The end of one start of one process, after which it is started again or stays down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restart {
    /// Which process.
    pub agent: String,
    /// The start that ended; counted once.
    pub boot_id: BootId,
    /// When.
    pub at: UnixMs,
    /// What kind.
    pub kind: RestartKind,
    /// How it ended: `exit 1`, `signal 9`, `not heard for 30 s`.
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

/// Counts the end of a start; says whether it was not counted before.
///
/// # Errors
/// [`StoreError`].
pub async fn insert_restart(unit: &mut Unit, restart: &Restart) -> Result<bool, StoreError> {
    fits(restart.at, "at")?;
    unit.records().insert_restart(restart).await
}

/// Ends of a process since `since`, oldest first.
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
