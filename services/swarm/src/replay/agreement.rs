//! Does our book say what the exchange says? Every update of the book is compared with the exchange's own best bid and
//! ask (price and size) of the newest bookTicker at or before the book's update id.

use std::collections::VecDeque;

use venues::book::{Applied, BookSync};
use venues::feed::{FeedEvent, FeedKind, Level};

type Best = (Level, Level);

/// Points and bookTickers kept while one waits for the other: seconds of a busy market.
const MAX_WAITING: usize = 10_000;

/// Counts agreement of one instrument. The two streams overtake each other by some milliseconds, so both are kept until
/// the exchange has said something newer than the point.
#[derive(Debug, Default)]
pub struct Agreement {
    said: VecDeque<(u64, Best)>,
    points: VecDeque<(u64, Best)>,
    /// Points compared.
    pub compared: u64,
    /// Points where price and size of both sides are equal.
    pub agreed: u64,
}

impl Agreement {
    /// Takes an event and what it did to the book.
    pub fn observe(&mut self, event: &FeedEvent, applied: Applied, sync: &BookSync) {
        if let FeedKind::BookTicker { update_id, bid, bid_quantity, ask, ask_quantity } = &event.kind {
            let bid = Level { price: *bid, quantity: *bid_quantity };
            self.said.push_back((*update_id, (bid, Level { price: *ask, quantity: *ask_quantity })));
            self.settle(*update_id);
        } else if applied == Applied::Updated
            && let (Some(id), Some(book)) = (sync.last_update_id(), sync.book())
            && let (Some(bid), Some(ask)) = (book.best_bid(), book.best_ask())
        {
            self.points.push_back((id, (bid, ask)));
            self.settle(self.said.back().map_or(0, |(newest, _)| *newest));
        }
        if self.points.len().max(self.said.len()) > MAX_WAITING {
            self.finish();
        }
    }

    /// Compares every point before update `newest`: nothing that is still to come is about them.
    fn settle(&mut self, newest: u64) {
        while let Some((id, ours)) = self.points.pop_front_if(|(id, _)| *id < newest) {
            while self.said.get(1).is_some_and(|(next, _)| *next <= id) {
                self.said.pop_front();
            }
            if let Some((_, said)) = self.said.front().filter(|(known, _)| *known <= id) {
                self.compared += 1;
                self.agreed += u64::from(*said == ours);
            }
        }
    }

    /// Compares what is left at the end, and keeps only the newest word of the exchange.
    pub fn finish(&mut self) {
        self.settle(u64::MAX);
        let extra = self.said.len().saturating_sub(1);
        self.said.drain(..extra);
    }
}
