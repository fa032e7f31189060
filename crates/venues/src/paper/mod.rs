//! The paper exchange: fills orders from the live book, with fees, latency, partial fills and rejects, and keeps its own
//! record of it, apart from the ledger's, so that "ledger equals venue" compares two records.
//!
//! How it fills:
//! - An order that arrives takes what the book offers at its worst price or better, level by level. What it took is gone
//!   for our later orders until the market says anew what rests at that level.
//! - What is left of a limit order that is good till cancelled rests behind everything that rests at its price. It
//!   trades at its own price when a trade goes through that price, when trades at it have used up what was ahead, or
//!   when the book comes to cross it. Everything else that is left is cancelled.
//! - Buys cost their notional rounded up, sales bring it rounded down, fees are rounded up; all in the quote asset.
//! - One account. Spot: nothing is sold that is not there.
//!
//! Lost with a restart: what was taken from levels, and the place in the queue (an order that rested stands last again).
//! Everything that was answered is kept, of orders that ended for 7 days.

mod core;
pub mod journal;
mod liquidity;
mod state;
mod venue;

use std::collections::BTreeMap;
use std::path::PathBuf;

use domain::market::{Instrument, Venue};
use rust_decimal::Decimal;

pub use self::core::{Decision, Drawn, PaperCore};
pub use journal::Journal;
pub use state::{Effect, Misfit, Order, State};
pub use venue::PaperExchange;

/// How a paper exchange behaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PaperConfig {
    /// [`Venue::Paper`] or [`Venue::PaperDex`].
    pub venue: Venue,
    /// Its instruments, under that venue.
    pub instruments: Vec<Instrument>,
    /// What the account holds on its first start, by asset.
    pub opening: BTreeMap<String, Decimal>,
    /// Fee of an order that rested, in percent of notional.
    pub maker_fee_percent: Decimal,
    /// Fee of an order that took, in percent of notional.
    pub taker_fee_percent: Decimal,
    /// Time between sending and matching, drawn evenly from this range.
    pub latency_ms: std::ops::RangeInclusive<u64>,
    /// Orders refused for no reason, in hundredths of a percent.
    pub reject_bps: u32,
    /// Orders whose reply is lost after they were accepted, in hundredths of a percent.
    pub lost_reply_bps: u32,
    /// No order is matched against a book older than this.
    pub max_book_age_ms: i64,
    /// Seed of everything that is drawn.
    pub seed: u64,
    /// Its record.
    pub journal: PathBuf,
}
