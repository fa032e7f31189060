//! An order book, and the rules by which an exchange's updates keep it.

mod chain;
mod sync;

use std::collections::BTreeMap;

use domain::market::Symbol;
use domain::market::{InstrumentId, Mark, MarketTick, Venue};
use domain::money::{Price, Quantity};
use domain::order::Side;
use domain::time::UnixMs;

pub use chain::{Chain, Gap, Link};
pub use sync::{Applied, BookSync, Books};

use crate::feed::Level;

/// Price levels of one instrument.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OrderBook {
    bids: BTreeMap<Price, Quantity>,
    asks: BTreeMap<Price, Quantity>,
}

impl OrderBook {
    /// A book with these levels; those of zero quantity are left out.
    #[must_use]
    pub fn of_levels(bids: &[Level], asks: &[Level]) -> Self {
        let mut book = Self::default();
        book.update(bids, asks);
        book
    }

    /// Sets the levels given; zero quantity takes one away.
    pub fn update(&mut self, bids: &[Level], asks: &[Level]) {
        for (side, levels) in [(&mut self.bids, bids), (&mut self.asks, asks)] {
            for level in levels {
                if level.quantity.is_zero() {
                    side.remove(&level.price);
                } else {
                    side.insert(level.price, level.quantity);
                }
            }
        }
    }

    /// Highest bid.
    #[must_use]
    pub fn best_bid(&self) -> Option<Level> {
        self.bids.last_key_value().map(|(&price, &quantity)| Level { price, quantity })
    }

    /// Lowest ask.
    #[must_use]
    pub fn best_ask(&self) -> Option<Level> {
        self.asks.first_key_value().map(|(&price, &quantity)| Level { price, quantity })
    }

    /// What rests at exactly this price on the side of `side` orders (buys rest among the bids).
    #[must_use]
    pub fn resting_at(&self, side: Side, price: Price) -> Quantity {
        let levels = match side {
            Side::Buy => &self.bids,
            Side::Sell => &self.asks,
        };
        levels.get(&price).copied().unwrap_or(Quantity::ZERO)
    }

    /// The levels a `taker` order meets, best first: asks for a buy, bids for a sale, none beyond `worst`.
    pub fn opposite(&self, taker: Side, worst: Price) -> impl Iterator<Item = Level> + '_ {
        let (asks, bids) = match taker {
            Side::Buy => (Some(self.asks.range(..=worst)), None),
            Side::Sell => (None, Some(self.bids.range(worst..).rev())),
        };
        asks.into_iter()
            .flatten()
            .chain(bids.into_iter().flatten())
            .map(|(&price, &quantity)| Level { price, quantity })
    }

    /// The best `depth` bids and asks, best first.
    #[must_use]
    pub fn top(&self, depth: usize) -> (Vec<Level>, Vec<Level>) {
        let level = |(&price, &quantity): (&Price, &Quantity)| Level { price, quantity };
        (self.bids.iter().rev().take(depth).map(level).collect(), self.asks.iter().take(depth).map(level).collect())
    }

    /// Number of levels, bids and asks.
    #[must_use]
    pub fn len(&self) -> (usize, usize) {
        (self.bids.len(), self.asks.len())
    }

    /// No level at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bids.is_empty() && self.asks.is_empty()
    }

    /// Mid of best bid and ask; `None` while a side is empty or they cross.
    #[must_use]
    pub fn mark(&self, received_at: UnixMs) -> Option<Mark> {
        Mark::of(self.best_bid()?.price, self.best_ask()?.price, received_at)
    }

    /// Best bid and ask as a tick; `None` while a side is empty.
    #[must_use]
    pub fn tick(&self, venue: Venue, symbol: &Symbol, received_at: UnixMs) -> Option<MarketTick> {
        let (bid, ask) = (self.best_bid()?, self.best_ask()?);
        Some(MarketTick {
            instrument: InstrumentId { venue, symbol: symbol.clone() },
            bid: bid.price,
            bid_quantity: bid.quantity,
            ask: ask.price,
            ask_quantity: ask.quantity,
            received_at,
        })
    }
}
