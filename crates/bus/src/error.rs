//! What can go wrong on the road.

use std::path::PathBuf;

/// One error for the whole crate, named after what failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BusError {
    /// The configuration can't be used.
    #[error("bus configuration: {0}")]
    Config(String),
    /// No connection.
    #[error("no connection to NATS")]
    Connect(#[source] async_nats::ConnectError),
    /// The stream has no room; nothing was stored and nobody's unread message was dropped for it.
    #[error("stream is full for {subject}: {text}")]
    StreamFull {
        /// Where it should have gone.
        subject: String,
        /// The server's words.
        text: String,
    },
    /// Refused by the stream, and a retry would change nothing.
    #[error("publish to {subject} refused: {text}")]
    PublishRefused {
        /// Where it should have gone.
        subject: String,
        /// The server's words.
        text: String,
    },
    /// No answer until its time was up. It may still have been stored: only the same id may be sent again.
    #[error("publish to {subject} unanswered after {tries} tries")]
    PublishUnanswered {
        /// Where it should have gone.
        subject: String,
        /// How often it was sent.
        tries: u32,
    },
    /// Larger than the server or stream takes.
    #[error("message of {bytes} bytes for {subject} is too large")]
    TooLarge {
        /// Where it should have gone.
        subject: String,
        /// Its size.
        bytes: usize,
    },
    /// The server did not confirm an acknowledgement: expect the message again.
    #[error("acknowledgement not confirmed: {0}")]
    AckUnconfirmed(String),
    /// A core publish, subscription or flush failed.
    #[error("core NATS: {0}")]
    Core(String),
    /// A consumer does not exist or can't be read.
    #[error("consumer {consumer} of {stream}: {text}")]
    Consumer {
        /// Stream name.
        stream: String,
        /// Consumer name.
        consumer: String,
        /// What failed.
        text: String,
    },
    /// A stream could not be read, created or changed.
    #[error("stream {stream}: {text}")]
    Stream {
        /// Stream name.
        stream: String,
        /// What failed.
        text: String,
    },
    /// A setting differs that the server can't change in place; says what to do.
    #[error("{name}: {text}")]
    Immutable {
        /// Stream, or `stream/consumer`.
        name: String,
        /// Which settings differ and what an operator has to do.
        text: String,
    },
    /// A file could not be read.
    #[error("{}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

impl BusError {
    /// Worth another try later with the same id.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::Connect(_)
                | Self::StreamFull { .. }
                | Self::PublishUnanswered { .. }
                | Self::AckUnconfirmed(_)
                | Self::Core(_)
                | Self::Consumer { .. }
        )
    }
}
