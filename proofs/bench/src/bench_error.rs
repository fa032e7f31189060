//! Why something could not be measured.

use std::path::{Path, PathBuf};

/// A measurement that could not be made; never a figure that is too high.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// A file or folder.
    #[error("{}: {text}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        text: String,
    },
    /// Something was not as it must be for the figure to mean anything.
    #[error("{0}")]
    Broken(String),
    /// It did not happen in time.
    #[error("not within {bound_s} s: {what}")]
    TimedOut {
        /// What was waited for.
        what: String,
        /// How long, s.
        bound_s: u64,
    },
    /// An embedded server or a child process.
    #[error(transparent)]
    Servers(#[from] servers::ServersError),
    /// The database.
    #[error("database: {0}")]
    Store(#[from] store::StoreError),
    /// A statement of ours.
    #[error("database: {0}")]
    Sql(#[from] sqlx::Error),
    /// The broker.
    #[error("bus: {0}")]
    Bus(#[from] bus::BusError),
    /// A system call.
    #[error("{0}: {1}")]
    System(&'static str, #[source] nix::Error),
    /// The handler under measurement.
    #[error("a decision failed: {0}")]
    Handle(#[from] runtime::HandleError),
    /// The replay under measurement.
    #[error("replay: {0}")]
    Replay(#[from] swarm::replay::ReplayError),
}

impl BenchError {
    /// A fault of a file.
    pub fn file(path: &Path, error: impl std::fmt::Display) -> Self {
        Self::File { path: path.to_owned(), text: error.to_string() }
    }
}
