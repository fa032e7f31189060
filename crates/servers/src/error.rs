//! What can go wrong, each with what to do next.

use std::path::PathBuf;

/// A server could not be found, started or stopped.
#[derive(Debug, thiserror::Error)]
pub enum ServersError {
    /// No such program anywhere it is looked for.
    #[error("{program} was not found on PATH{looked}; run `make venv`, which fetches it, or install it")]
    Missing {
        /// Program name.
        program: &'static str,
        /// Where else it was looked for, as a clause.
        looked: String,
    },
    /// The small language model, or the Python that runs it, is not where it is looked for.
    #[error("the language model is incomplete: no {}; run `make model`, which fetches it", path.display())]
    NoModel {
        /// What is not there.
        path: PathBuf,
    },
    /// A file or folder could not be made or read.
    #[error("{action} {}", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The program did not start at all.
    #[error("starting {program}")]
    Spawn {
        /// Program name.
        program: String,
        /// Why not.
        source: std::io::Error,
    },
    /// The program ended before it was ready.
    #[error("{program} ended before it was ready ({status}); its last words in {}:\n{tail}", log.display())]
    Died {
        /// Program name.
        program: String,
        /// Exit status.
        status: String,
        /// Its log.
        log: PathBuf,
        /// The end of its log.
        tail: String,
    },
    /// The program runs but did not become ready.
    #[error("{program} was not ready within {waited_ms} ms; see {}", log.display())]
    NotReady {
        /// Program name.
        program: String,
        /// How long it was waited for.
        waited_ms: u64,
        /// Its log.
        log: PathBuf,
    },
    /// PostgreSQL must drop root's rights and the user it drops to can't reach its folder.
    #[error(
        "PostgreSQL refuses root, so it runs as uid {uid}, which can't enter {}; run `chmod o+x` on it or choose another --data-dir",
        path.display()
    )]
    Unreachable {
        /// The user it runs as.
        uid: u32,
        /// The first folder that is closed to it.
        path: PathBuf,
    },
    /// A signal could not be sent or a port not be had.
    #[error("{0}")]
    System(String, #[source] std::io::Error),
}
