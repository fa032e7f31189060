//! The latest price of each instrument, as this process saw it.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use domain::market::{InstrumentId, Mark, MarketTick};
use domain::time::UnixMs;

/// Instruments kept at most; ticks of further ones are dropped.
const MAX_INSTRUMENTS: usize = 10_000;

/// Latest ticks; cheap to clone, all clones show the same.
#[derive(Debug, Clone, Default)]
pub struct MarketView {
    ticks: Arc<RwLock<BTreeMap<InstrumentId, MarketTick>>>,
}

impl MarketView {
    /// Nothing seen yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes in a tick that arrived at `now`. Its `received_at` becomes the earlier of the desk's and ours: a tick that
    /// waited on its way is as old as it is, and a desk whose clock is ahead can't make a price look fresh.
    pub fn put(&self, mut tick: MarketTick, now: UnixMs) {
        tick.received_at = tick.received_at.min(now);
        let mut ticks = self.ticks.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = ticks.get_mut(&tick.instrument) {
            if known.received_at <= tick.received_at {
                *known = tick;
            }
        } else if ticks.len() < MAX_INSTRUMENTS {
            ticks.insert(tick.instrument.clone(), tick);
        }
    }

    /// The latest tick of an instrument.
    #[must_use]
    pub fn tick(&self, instrument: &InstrumentId) -> Option<MarketTick> {
        self.ticks.read().unwrap_or_else(PoisonError::into_inner).get(instrument).cloned()
    }

    /// The price of every instrument seen; a crossed book is no price and is left out.
    #[must_use]
    pub fn marks(&self) -> BTreeMap<InstrumentId, Mark> {
        let ticks = self.ticks.read().unwrap_or_else(PoisonError::into_inner);
        ticks.iter().filter_map(|(id, tick)| Some((id.clone(), tick.mark()?))).collect()
    }

    /// When each instrument's latest tick was received.
    #[must_use]
    pub fn received(&self) -> BTreeMap<InstrumentId, UnixMs> {
        let ticks = self.ticks.read().unwrap_or_else(PoisonError::into_inner);
        ticks.iter().map(|(id, tick)| (id.clone(), tick.received_at)).collect()
    }
}
