//! Market data as typed events, and the recording format `<local receive time, ns> <raw JSON of the exchange>`.

mod read;
mod wire;
mod write;

use domain::market::Symbol;
use domain::money::{Price, Quantity};
use domain::time::UnixMs;

pub use read::{Recording, open, symbol_of_file};
pub use wire::{parse_line, parse_message, parse_snapshot};
pub use write::{Recorder, write_line};

/// One price level.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Level {
    /// Price per unit.
    pub price: Price,
    /// Base quantity there; zero in an update means the level is gone.
    pub quantity: Quantity,
}

/// Something the market said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeedEvent {
    /// When we received it, by our own clock, in nanoseconds since the epoch.
    pub received_at_ns: i64,
    /// Which instrument.
    pub symbol: Symbol,
    /// What.
    pub kind: FeedKind,
}

/// The kinds of market data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FeedKind {
    /// The whole book, as of one update id.
    Snapshot {
        /// Everything up to this id is in it.
        last_update_id: u64,
        /// Bids, best first.
        bids: Vec<Level>,
        /// Asks, best first.
        asks: Vec<Level>,
    },
    /// Changed levels.
    Depth {
        /// First update id in it (`U`).
        first_update_id: u64,
        /// Last update id in it (`u`).
        final_update_id: u64,
        /// The exchange's clock, in milliseconds.
        event_ms: i64,
        /// Changed bids.
        bids: Vec<Level>,
        /// Changed asks.
        asks: Vec<Level>,
    },
    /// One trade.
    Trade {
        /// The exchange's trade id, without gaps.
        trade_id: u64,
        /// Price per unit.
        price: Price,
        /// Base quantity.
        quantity: Quantity,
        /// The exchange's clock, in milliseconds.
        traded_ms: i64,
        /// The seller was the aggressor.
        buyer_is_maker: bool,
    },
    /// Best bid and ask.
    BookTicker {
        /// As of this update id.
        update_id: u64,
        /// Best bid.
        bid: Price,
        /// Quantity there.
        bid_quantity: Quantity,
        /// Best ask.
        ask: Price,
        /// Quantity there.
        ask_quantity: Quantity,
    },
}

impl FeedEvent {
    /// When we received it, in milliseconds.
    #[must_use]
    pub const fn received_at(&self) -> UnixMs {
        UnixMs(self.received_at_ns.div_euclid(1_000_000))
    }
}
