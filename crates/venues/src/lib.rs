//! Exchanges: what the market says, and where orders go.
//!
//! | module | what it holds |
//! |---|---|
//! | [`feed`] | market data as typed events; reader and writer of the recording format |
//! | [`book`] | an order book kept by the exchange's update-id rules |
//! | [`candles`] | closed candles out of trades |
//! | [`builtin`] | a seeded market of our own, and one that follows a script |
//! | [`market`] | the port [`market::MarketSource`] and its four sources |
//! | [`filters`] | the exchange's order rules, checked here before it does |
//! | [`exchange`] | the port [`exchange::Exchange`]: place, query, cancel |
//! | [`paper`] | the paper exchange: a pure core and its fsynced journal |
//! | [`binance`] | public market data of Binance Spot, keyless |
//!
//! Architecture invariant: this crate knows no NATS, no SQL and no user. It decides nothing about risk: an order that
//! reaches it was permitted elsewhere. Parsing, books, candles, filters and [`paper::PaperCore`] are pure; only
//! [`paper::PaperExchange`], [`market`] and [`binance`] do I/O.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod binance;
pub mod book;
pub mod builtin;
pub mod candles;
mod decimal;
pub mod error;
pub mod exchange;
pub mod feed;
pub mod filters;
pub mod market;
pub mod paper;

pub use error::VenueError;
