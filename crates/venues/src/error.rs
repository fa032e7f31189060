//! What can go wrong at a venue.

use std::path::PathBuf;

use domain::money::MoneyError;

/// Every failure of this crate. An order's fate is not in here: that is [`crate::exchange::Outcome`].
#[derive(Debug, thiserror::Error)]
pub enum VenueError {
    /// A line or message of market data that does not have the exchange's form.
    #[error("market data of unknown form: {what}")]
    Malformed {
        /// Which part, with the first bytes of it.
        what: String,
    },
    /// A file could not be read or written.
    #[error("file {path}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A journal line that was complete and is not what was written: nothing may be built on it.
    #[error("journal {path} is corrupt at line {line}: {reason}")]
    JournalCorrupt {
        /// Which file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// Another process holds the journal.
    #[error("journal {path} is in use by another process")]
    JournalInUse {
        /// Which file.
        path: PathBuf,
    },
    /// A journal write failed earlier; nothing is answered until a restart has replayed what is really there.
    #[error("the journal failed earlier; restart to replay it")]
    JournalBroken,
    /// A configuration that makes no sense.
    #[error("configuration: {0}")]
    Config(String),
    /// No such instrument here.
    #[error("unknown instrument {0}")]
    UnknownInstrument(String),
    /// An amount out of range.
    #[error("amount")]
    Amount(#[from] MoneyError),
    /// The exchange could not be reached, or the connection broke.
    #[error("connection to the exchange: {0}")]
    Connection(String),
    /// The exchange asks to be left alone.
    #[error("rate limited for {retry_after_ms} ms (banned: {banned})")]
    RateLimited {
        /// How long nothing may be sent.
        retry_after_ms: u64,
        /// An IP ban (418) rather than a throttle (429).
        banned: bool,
    },
    /// The exchange answered with an error.
    #[error("the exchange answered {status}: {body}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// First part of the body.
        body: String,
    },
}

impl VenueError {
    /// Wraps an I/O error with its path.
    pub(crate) fn file(path: &std::path::Path, source: std::io::Error) -> Self {
        Self::File { path: path.to_owned(), source }
    }
}
