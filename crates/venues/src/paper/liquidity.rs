//! What the market offers the paper exchange: the live books, less what it has taken out of them itself.

use std::collections::BTreeMap;

use domain::market::Symbol;
use domain::money::{Price, Quantity};
use domain::order::Side;
use domain::time::UnixMs;

use crate::book::{Applied, BookSync, Books, OrderBook};
use crate::feed::{FeedEvent, FeedKind, Level};

/// Taken from one level of the real book, by orders that the real market never saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Taken {
    pub symbol: Symbol,
    /// Side of the order that took it.
    pub taker: Side,
    pub price: Price,
    pub quantity: Quantity,
}

/// What was taken, by level.
pub(super) type AllTaken = BTreeMap<(Symbol, Side), BTreeMap<Price, Quantity>>;

/// Books and what was taken from them. A level is whole again when the market next says what rests there.
#[derive(Debug, Clone, Default)]
pub(super) struct Liquidity {
    books: Books,
    taken: AllTaken,
}

impl Liquidity {
    pub(super) fn apply(&mut self, event: &FeedEvent) -> Applied {
        let applied = self.books.apply(event);
        match (&event.kind, applied) {
            (FeedKind::Depth { bids, asks, .. }, Applied::Updated) if !self.taken.is_empty() => {
                for (taker, levels) in [(Side::Buy, asks), (Side::Sell, bids)] {
                    if let Some(taken) = self.taken.get_mut(&(event.symbol.clone(), taker)) {
                        for level in levels {
                            taken.remove(&level.price);
                        }
                    }
                }
            }
            (FeedKind::Snapshot { .. }, Applied::Updated) | (_, Applied::Resync(_)) => self.forget(&event.symbol),
            _ => {}
        }
        applied
    }

    pub(super) fn lost(&mut self, symbol: Option<&Symbol>) {
        self.books.reset(symbol);
        match symbol {
            Some(symbol) => self.forget(symbol),
            None => self.taken.clear(),
        }
    }

    pub(super) fn book(&self, symbol: &Symbol) -> Option<(&OrderBook, UnixMs)> {
        self.books.book(symbol)
    }

    pub(super) fn sync(&self, symbol: &Symbol) -> Option<&BookSync> {
        self.books.sync(symbol)
    }

    /// What a `taker` can have at `worst` or better, best first.
    pub(super) fn offered(&self, symbol: &Symbol, taker: Side, worst: Price) -> Vec<Level> {
        let Some((book, _)) = self.books.book(symbol) else { return Vec::new() };
        let taken = self.taken.get(&(symbol.clone(), taker));
        let rest = |level: Level| {
            let used = taken.and_then(|taken| taken.get(&level.price)).copied().unwrap_or(Quantity::ZERO);
            let quantity = level.quantity.minus(used).ok()?;
            (!quantity.is_zero()).then_some(Level { quantity, ..level })
        };
        book.opposite(taker, worst).filter_map(rest).collect()
    }

    pub(super) fn take(&mut self, taken: &Taken) {
        let levels = self.taken.entry((taken.symbol.clone(), taken.taker)).or_default();
        let used = levels.entry(taken.price).or_insert(Quantity::ZERO);
        // A sum beyond the range of amounts cannot be: each part was offered by a level within it.
        *used = used.plus(taken.quantity).unwrap_or(*used);
    }

    pub(super) fn clone_taken(&self) -> AllTaken {
        self.taken.clone()
    }

    pub(super) fn restore_taken(&mut self, taken: AllTaken) {
        self.taken = taken;
    }

    fn forget(&mut self, symbol: &Symbol) {
        self.taken.retain(|(of, _), _| of != symbol);
    }
}
