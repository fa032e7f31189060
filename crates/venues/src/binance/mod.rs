//! Public market data of Binance Spot. No key is needed, and none is held.

mod rest;
mod source;

use domain::market::Symbol;

pub use rest::{RestClient, read_instruments};
pub use source::BinanceSource;

/// Where the data comes from and how patient we are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BinanceConfig {
    /// Base of the REST API, without a slash at the end.
    pub rest_url: String,
    /// Base of the streams, without a slash at the end.
    pub stream_url: String,
    /// What to follow.
    pub symbols: Vec<Symbol>,
    /// Levels on each side of a snapshot (1000 cost 50 of the 6000 weight a minute).
    pub snapshot_levels: u32,
    /// A connection on which nothing comes for so long is dead.
    pub stale_ms: u64,
    /// First pause before connecting again; it doubles with each failure.
    pub backoff_min_ms: u64,
    /// Longest pause before connecting again.
    pub backoff_max_ms: u64,
    /// A connection older than this is replaced: the exchange ends it at 24 hours anyway.
    pub max_connection_ms: u64,
}

impl BinanceConfig {
    /// The public endpoints. At one connection a second at most it stays below 300 in 5 minutes.
    #[must_use]
    pub fn public(symbols: Vec<Symbol>) -> Self {
        Self {
            rest_url: "https://api.binance.com".to_owned(),
            stream_url: "wss://stream.binance.com:9443".to_owned(),
            symbols,
            snapshot_levels: 1_000,
            stale_ms: 10_000,
            backoff_min_ms: 1_000,
            backoff_max_ms: 30_000,
            max_connection_ms: 23 * 3_600_000 + 50 * 60_000,
        }
    }
}
