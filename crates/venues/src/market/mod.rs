//! The port to market data. The desk is written against this; where the data comes from is configuration.

mod builtin;
mod recording;

use async_trait::async_trait;
use domain::market::{Instrument, Symbol, Venue};

use crate::error::VenueError;
use crate::feed::FeedEvent;

pub use crate::binance::BinanceSource;
pub use builtin::{BuiltinSource, Steering};
pub use recording::{Pace, RecordingSource};

/// What a source of market data says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceEvent {
    /// Market data.
    Feed(FeedEvent),
    /// Updates were or may have been lost: books are worth nothing until their next snapshot, which the source fetches
    /// by itself.
    Lost {
        /// Which instrument; all of them when `None`.
        symbol: Option<Symbol>,
        /// Why, for people.
        reason: String,
    },
}

/// A source of market data.
#[async_trait]
pub trait MarketSource: Send {
    /// The instruments it tells of, with their rules, named for `venue`.
    ///
    /// # Errors
    /// The source could not be asked.
    async fn instruments(&mut self, venue: Venue) -> Result<Vec<Instrument>, VenueError>;

    /// The next event; `None` when there will be no more. Safe to drop at any await (in `select!`).
    async fn next(&mut self) -> Option<SourceEvent>;
}
