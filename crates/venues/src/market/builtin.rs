//! The built-in and the scripted market as a source, moved by a clock.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use domain::market::{Instrument, Symbol, Venue};
use domain::money::Price;
use domain::time::Clock;

use super::{MarketSource, SourceEvent};
use crate::builtin::{BuiltinConfig, BuiltinMarket};
use crate::error::VenueError;
use crate::feed::FeedEvent;

/// Further behind than this, the steps between are left out: the machine slept.
const MAX_BEHIND_MS: i64 = 10_000;

/// A built-in market in the clock's time.
pub struct BuiltinSource {
    market: Arc<Mutex<BuiltinMarket>>,
    clock: Arc<dyn Clock>,
    queue: VecDeque<FeedEvent>,
}

/// Sends prices of a running built-in market somewhere.
#[derive(Clone)]
pub struct Steering {
    market: Arc<Mutex<BuiltinMarket>>,
}

impl Steering {
    /// Sends the mid price there with the next step.
    ///
    /// # Errors
    /// See [`BuiltinMarket::set_price`].
    pub fn set_price(&self, symbol: &Symbol, price: Price) -> Result<(), VenueError> {
        self.market.lock().unwrap_or_else(PoisonError::into_inner).set_price(symbol, price)
    }
}

impl BuiltinSource {
    /// Starts a market now.
    ///
    /// # Errors
    /// See [`BuiltinMarket::new`].
    pub fn start(config: BuiltinConfig, clock: Arc<dyn Clock>) -> Result<Self, VenueError> {
        let market = Arc::new(Mutex::new(BuiltinMarket::new(config, clock.now())?));
        Ok(Self { market, clock, queue: VecDeque::new() })
    }

    /// A handle to send prices somewhere while it runs.
    #[must_use]
    pub fn steering(&self) -> Steering {
        Steering { market: Arc::clone(&self.market) }
    }

    /// Moves the market to the clock; returns how long until its next step.
    fn advance(&mut self) -> Duration {
        let now = self.clock.now();
        let mut market = self.market.lock().unwrap_or_else(PoisonError::into_inner);
        if now.since_ms(market.next_step()) > MAX_BEHIND_MS {
            market.skip_to(now);
        }
        self.queue.extend(market.advance_to(now));
        let wait_ms = market.next_step().since_ms(now);
        Duration::from_millis(u64::try_from(wait_ms).unwrap_or(0).max(1))
    }
}

#[async_trait]
impl MarketSource for BuiltinSource {
    async fn instruments(&mut self, venue: Venue) -> Result<Vec<Instrument>, VenueError> {
        Ok(self.market.lock().unwrap_or_else(PoisonError::into_inner).instruments(venue))
    }

    async fn next(&mut self) -> Option<SourceEvent> {
        loop {
            if let Some(event) = self.queue.pop_front() {
                return Some(SourceEvent::Feed(event));
            }
            let wait = self.advance();
            if self.queue.is_empty() {
                tokio::time::sleep(wait).await;
            }
        }
    }
}
