//! Chaos: the real processes and servers of a swarm are killed, stopped, cut off and misled at moments drawn from a seed,
//! while signals flow; at the end every signal must have exactly one end, and the records must agree to the last unit.
//!
//! It has no way of its own into the swarm: signals and votes go through people's doors, the processes are those of
//! `swarm up`, started through wrappers that only set their environment. What it checks it reads from the tables, the
//! exchange's journal and the streams, with code of its own.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod checks;
pub mod end;
pub mod house;
pub mod load;
pub mod memory;
pub mod process;
pub mod proxy;
pub mod report;
pub mod run;
pub mod skew;
pub mod strike;
pub mod tracker;
pub mod wound;

/// Why chaos could not go on; not a finding about the swarm.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// A file or folder.
    #[error("{}: {text}", path.display())]
    File {
        /// Which.
        path: std::path::PathBuf,
        /// What is wrong with it.
        text: String,
    },
    /// A server or process.
    #[error(transparent)]
    Servers(#[from] servers::ServersError),
    /// The swarm does not answer.
    #[error(transparent)]
    People(#[from] swarm::people::PeopleError),
    /// The database, under the administrator's login.
    #[error("database: {0}")]
    Store(#[from] store::StoreError),
    /// A query of the checks.
    #[error("query: {0}")]
    Query(#[from] sqlx::Error),
    /// Anything else, in words.
    #[error("{0}")]
    Other(String),
}

impl Trouble {
    pub(crate) fn file(path: &std::path::Path, error: impl std::fmt::Display) -> Self {
        Self::File { path: path.to_owned(), text: error.to_string() }
    }
}
