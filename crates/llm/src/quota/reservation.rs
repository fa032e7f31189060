//! What a caller holds while its request runs.

use std::sync::Arc;

use super::Shared;
use super::book::{Held, Reserved};
use super::tally::Amount;

/// Room for one request. It counts in full until it is settled or released, and for good when it is dropped.
#[must_use = "a reservation that is dropped counts in full"]
pub struct Reservation {
    shared: Arc<Shared>,
    held: Option<(Reserved, Held)>,
    degraded: bool,
}

impl std::fmt::Debug for Reservation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reservation")
            .field("held", &self.held)
            .field("degraded", &self.degraded)
            .finish_non_exhaustive()
    }
}

impl Reservation {
    /// Whether this process decided alone, because Redis was away.
    #[must_use]
    pub const fn degraded(&self) -> bool {
        self.degraded
    }

    pub(super) fn new(shared: &Arc<Shared>, held: Option<(Reserved, Held)>, degraded: bool) -> Self {
        Self { shared: Arc::clone(shared), held, degraded }
    }

    pub(super) fn reserved(&self) -> Option<&Reserved> {
        self.held.as_ref().map(|(of, _)| of)
    }

    /// Its id within this process; 0 where nothing is counted.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.reserved().map_or(0, |of| of.id)
    }

    pub(super) fn close(&mut self, used: Option<Amount>) {
        let Some((of, held)) = self.held.take() else { return };
        let used = used.unwrap_or(of.asked);
        let mut books = self.shared.books();
        if let Some(book) = books.tiers.get_mut(&of.tier) {
            book.open = book.open.saturating_sub(1);
        }
        books.close(of, held, used);
        drop(books);
        self.shared.work.notify_one();
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.close(None);
    }
}
