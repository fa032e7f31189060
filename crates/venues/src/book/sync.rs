//! Books that keep themselves in step with a feed.

use std::collections::{BTreeMap, VecDeque};

use domain::market::{MarketTick, Symbol, Venue};
use domain::time::UnixMs;

use super::{Chain, Gap, Link, OrderBook};
use crate::feed::{FeedEvent, FeedKind, Level};

/// Updates kept while waiting for a snapshot. At ten a second this is a quarter of an hour; beyond it the oldest goes,
/// and a snapshot from before it shows as a gap.
const MAX_BUFFERED: usize = 10_000;

/// What an event did to a book.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    /// Not about the book: a trade or a bookTicker.
    Other,
    /// Kept until the snapshot comes.
    Buffered,
    /// Already in the book.
    Stale,
    /// The book is now this much further.
    Updated,
    /// The chain broke: the book is empty and waits for a new snapshot.
    Resync(Gap),
}

#[derive(Debug, Clone)]
struct Update {
    first_update_id: u64,
    final_update_id: u64,
    received_at: UnixMs,
    bids: Vec<Level>,
    asks: Vec<Level>,
}

/// The book of one instrument: waits for a snapshot, links updates to it, says when something is missing.
#[derive(Debug, Clone, Default)]
pub struct BookSync {
    chain: Chain,
    book: OrderBook,
    buffer: VecDeque<Update>,
    received_at: UnixMs,
}

impl BookSync {
    /// Applies one event of this instrument.
    pub fn apply(&mut self, event: &FeedEvent) -> Applied {
        match &event.kind {
            FeedKind::Snapshot { last_update_id, bids, asks } => {
                self.snapshot(*last_update_id, bids, asks, event.received_at())
            }
            FeedKind::Depth { first_update_id, final_update_id, bids, asks, .. } => {
                match self.chain.offer(*first_update_id, *final_update_id) {
                    Link::Next => {
                        self.book.update(bids, asks);
                        self.received_at = event.received_at();
                        Applied::Updated
                    }
                    Link::Stale => Applied::Stale,
                    Link::Keep => {
                        self.keep(event);
                        Applied::Buffered
                    }
                    Link::Gap(gap) => {
                        self.book = OrderBook::default();
                        self.keep(event);
                        Applied::Resync(gap)
                    }
                }
            }
            FeedKind::Trade { .. } | FeedKind::BookTicker { .. } => Applied::Other,
        }
    }

    /// Forgets everything: the connection broke, updates may be missing.
    pub fn reset(&mut self) {
        *self = Self::default();
    }

    /// The book, once a snapshot is in it and nothing is missing.
    #[must_use]
    pub fn book(&self) -> Option<&OrderBook> {
        self.chain.last().map(|_| &self.book)
    }

    /// Last update id in the book.
    #[must_use]
    pub fn last_update_id(&self) -> Option<u64> {
        self.chain.last()
    }

    /// Updates are kept for a snapshot that has not come.
    #[must_use]
    pub fn waits_for_snapshot(&self) -> bool {
        self.chain == Chain::Waiting && !self.buffer.is_empty()
    }

    /// When the last update that changed the book was received.
    #[must_use]
    pub const fn received_at(&self) -> UnixMs {
        self.received_at
    }

    fn keep(&mut self, event: &FeedEvent) {
        let FeedKind::Depth { first_update_id, final_update_id, bids, asks, .. } = &event.kind else { return };
        if self.buffer.len() == MAX_BUFFERED {
            self.buffer.pop_front();
        }
        self.buffer.push_back(Update {
            first_update_id: *first_update_id,
            final_update_id: *final_update_id,
            received_at: event.received_at(),
            bids: bids.clone(),
            asks: asks.clone(),
        });
    }

    /// A snapshot older than the book is stale; any other starts the book anew and takes up the updates kept.
    fn snapshot(&mut self, last_update_id: u64, bids: &[Level], asks: &[Level], received_at: UnixMs) -> Applied {
        if self.chain.last().is_some_and(|last| last_update_id < last) {
            return Applied::Stale;
        }
        self.chain = Chain::Snapshot { last: last_update_id };
        self.book = OrderBook::of_levels(bids, asks);
        self.received_at = received_at;
        while let Some(update) = self.buffer.pop_front() {
            match self.chain.offer(update.first_update_id, update.final_update_id) {
                Link::Next => {
                    self.book.update(&update.bids, &update.asks);
                    self.received_at = self.received_at.max(update.received_at);
                }
                Link::Stale | Link::Keep => {}
                Link::Gap(gap) => {
                    // This snapshot is too old; the updates stay for a younger one.
                    self.book = OrderBook::default();
                    self.buffer.push_front(update);
                    return Applied::Resync(gap);
                }
            }
        }
        Applied::Updated
    }
}

/// The books of one venue, by symbol.
#[derive(Debug, Clone, Default)]
pub struct Books {
    books: BTreeMap<Symbol, BookSync>,
}

impl Books {
    /// Applies one event to the book it is about.
    pub fn apply(&mut self, event: &FeedEvent) -> Applied {
        if let Some(book) = self.books.get_mut(&event.symbol) {
            return book.apply(event);
        }
        self.books.entry(event.symbol.clone()).or_default().apply(event)
    }

    /// Forgets the book of one instrument, or all of them.
    pub fn reset(&mut self, symbol: Option<&Symbol>) {
        match symbol {
            Some(symbol) => drop(self.books.remove(symbol)),
            None => self.books.clear(),
        }
    }

    /// What keeps the book of an instrument; `None` before its first event.
    #[must_use]
    pub fn sync(&self, symbol: &Symbol) -> Option<&BookSync> {
        self.books.get(symbol)
    }

    /// The book of an instrument and when it was last received; `None` while it is not in step.
    #[must_use]
    pub fn book(&self, symbol: &Symbol) -> Option<(&OrderBook, UnixMs)> {
        let sync = self.books.get(symbol)?;
        sync.book().map(|book| (book, sync.received_at()))
    }

    /// Last update id in the book of an instrument.
    #[must_use]
    pub fn last_update_id(&self, symbol: &Symbol) -> Option<u64> {
        self.books.get(symbol)?.last_update_id()
    }

    /// Best bid and ask of an instrument.
    #[must_use]
    pub fn tick(&self, venue: Venue, symbol: &Symbol) -> Option<MarketTick> {
        let (book, received_at) = self.book(symbol)?;
        book.tick(venue, symbol, received_at)
    }
}
