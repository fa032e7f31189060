//! A market of our own: for demos without a network, for tests, for `swarm record` and replay.
//!
//! It speaks like the exchange does, update ids and all, so everything behind the feed is the same code. The same seed
//! and configuration give the same events. With zero volatility it stands still and goes where a script or
//! [`BuiltinMarket::set_price`] sends it.

mod maker;

use std::collections::BTreeMap;

use domain::market::{Instrument, InstrumentId, Symbol, Venue};
use domain::money::{Price, Quantity};
use domain::time::UnixMs;
use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive;

use crate::error::VenueError;
use crate::feed::FeedEvent;
use maker::Maker;

/// One instrument of the market.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuiltinInstrument {
    /// Its name.
    pub symbol: Symbol,
    /// Base asset.
    pub base: String,
    /// Quote asset.
    pub quote: String,
    /// Where the price starts, and what it is drawn back to when it has gone far.
    pub start_price: Price,
    /// Price increment.
    pub tick: Decimal,
    /// Quantity increment.
    pub step: Decimal,
    /// Smallest order.
    pub min_notional: Decimal,
    /// Largest move of the price in one step, in thousandths of a percent; 0 stands still.
    pub volatility_milli_percent: u32,
    /// Best ask less best bid, in ticks.
    pub spread_ticks: u32,
    /// Price levels on each side.
    pub levels: usize,
    /// About how much rests at one level.
    pub level_quantity: Quantity,
}

/// The price of an instrument is to be this from a moment on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScriptPoint {
    /// Milliseconds after the start.
    pub after_ms: i64,
    /// Which instrument.
    pub symbol: Symbol,
    /// Mid price from then on.
    pub price: Price,
}

/// A market.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuiltinConfig {
    /// Seed of everything that is drawn.
    pub seed: u64,
    /// Time between steps, in milliseconds.
    pub step_ms: i64,
    /// What is traded.
    pub instruments: Vec<BuiltinInstrument>,
    /// Where prices are sent, in order of time.
    pub script: Vec<ScriptPoint>,
}

/// The market, moved by [`BuiltinMarket::advance_to`]; it reads no clock.
#[derive(Debug, Clone)]
pub struct BuiltinMarket {
    config: BuiltinConfig,
    start: UnixMs,
    next_step: UnixMs,
    makers: BTreeMap<Symbol, Maker>,
    scripted: usize,
    begun: bool,
}

impl BuiltinMarket {
    /// A market that begins at `start`.
    ///
    /// # Errors
    /// [`VenueError::Config`]: no instruments, one twice, a tick, step, spread or size that cannot work.
    pub fn new(config: BuiltinConfig, start: UnixMs) -> Result<Self, VenueError> {
        if config.step_ms < 1 || config.instruments.is_empty() {
            return Err(VenueError::Config("a market needs instruments and a step of at least 1 ms".into()));
        }
        if !config.script.is_sorted_by_key(|point| point.after_ms) {
            return Err(VenueError::Config("the points of a script go forward in time".into()));
        }
        let mut makers = BTreeMap::new();
        for (number, instrument) in config.instruments.iter().enumerate() {
            let maker = Maker::new(instrument, config.seed, number as u64)?;
            if makers.insert(instrument.symbol.clone(), maker).is_some() {
                return Err(VenueError::Config(format!("{} is listed twice", instrument.symbol)));
            }
        }
        if let Some(point) = config.script.iter().find(|point| !makers.contains_key(&point.symbol)) {
            return Err(VenueError::UnknownInstrument(point.symbol.to_string()));
        }
        let next_step = start.plus_ms(config.step_ms);
        Ok(Self { config, start, next_step, makers, scripted: 0, begun: false })
    }

    /// Its instruments, named for `venue`.
    #[must_use]
    pub fn instruments(&self, venue: Venue) -> Vec<Instrument> {
        let rules = |instrument: &BuiltinInstrument| Instrument {
            id: InstrumentId { venue, symbol: instrument.symbol.clone() },
            base: instrument.base.clone(),
            quote: instrument.quote.clone(),
            tick: instrument.tick,
            step: instrument.step,
            min_quantity: instrument.step,
            max_quantity: Decimal::ZERO,
            min_notional: instrument.min_notional,
        };
        self.config.instruments.iter().map(rules).collect()
    }

    /// When the next step is due.
    #[must_use]
    pub const fn next_step(&self) -> UnixMs {
        self.next_step
    }

    /// The whole books as of now, for whoever comes later or lost something.
    #[must_use]
    pub fn snapshots(&self, now: UnixMs) -> Vec<FeedEvent> {
        let event = |(symbol, maker): (&Symbol, &Maker)| FeedEvent {
            received_at_ns: now.as_ns(),
            symbol: symbol.clone(),
            kind: maker.snapshot(),
        };
        self.makers.iter().map(event).collect()
    }

    /// Everything that happens up to and including `now`. The first call begins with a snapshot of each book.
    pub fn advance_to(&mut self, now: UnixMs) -> Vec<FeedEvent> {
        let mut events = Vec::new();
        if !self.begun && now >= self.start {
            self.begun = true;
            events = self.snapshots(self.start);
        }
        while self.next_step <= now {
            let at = self.next_step;
            self.next_step = at.plus_ms(self.config.step_ms);
            self.follow_script(at);
            let mut offset_ns = 0;
            for (symbol, maker) in &mut self.makers {
                for kind in maker.step(at) {
                    // No two events at one moment, as on a wire.
                    offset_ns += 1_000;
                    events.push(FeedEvent { received_at_ns: at.as_ns() + offset_ns, symbol: symbol.clone(), kind });
                }
            }
        }
        events
    }

    /// Leaves out the steps before `now`: the machine slept, and nobody wants to see them.
    pub fn skip_to(&mut self, now: UnixMs) {
        let behind = now.since_ms(self.next_step);
        if behind > 0 {
            let steps = behind / self.config.step_ms;
            self.next_step = self.next_step.plus_ms(steps.saturating_mul(self.config.step_ms));
        }
    }

    /// Sends the mid price there with the next step: what is in the way is traded through.
    ///
    /// # Errors
    /// [`VenueError::UnknownInstrument`]; [`VenueError::Config`] when the price has no room for a book around it.
    pub fn set_price(&mut self, symbol: &Symbol, price: Price) -> Result<(), VenueError> {
        let maker = self.makers.get_mut(symbol).ok_or_else(|| VenueError::UnknownInstrument(symbol.to_string()))?;
        maker.aim(price)
    }

    fn follow_script(&mut self, at: UnixMs) {
        while let Some(point) = self.config.script.get(self.scripted) {
            if self.start.plus_ms(point.after_ms) > at {
                return;
            }
            if let Some(maker) = self.makers.get_mut(&point.symbol)
                && let Err(error) = maker.aim(point.price)
            {
                tracing::warn!(%error, symbol = %point.symbol, "a point of the script was left out");
            }
            self.scripted += 1;
        }
    }
}

/// `value` in whole units of `unit`, rounded down.
fn whole_units(value: Decimal, unit: Decimal) -> Option<i64> {
    value.checked_div(unit)?.floor().to_i64()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::feed::FeedKind;

    #[test]
    fn a_step_that_cannot_work_is_a_fault_of_the_configuration() {
        let good = BuiltinInstrument {
            symbol: Symbol::parse("BTCUSDT").unwrap(),
            base: "BTC".into(),
            quote: "USDT".into(),
            start_price: Price::parse("60000").unwrap(),
            tick: Decimal::new(1, 2),
            step: Decimal::new(1, 5),
            min_notional: Decimal::from(5),
            volatility_milli_percent: 20,
            spread_ticks: 2,
            levels: 20,
            level_quantity: Quantity::parse("0.5").unwrap(),
        };
        let check = |change: &dyn Fn(&mut BuiltinInstrument), works: bool| {
            let mut instrument = good.clone();
            change(&mut instrument);
            let config = BuiltinConfig { seed: 1, step_ms: 100, instruments: vec![instrument], script: Vec::new() };
            assert_eq!(BuiltinMarket::new(config, UnixMs(0)).is_ok(), works);
        };
        check(&|_| {}, true);
        check(&|i| i.tick = Decimal::ZERO, false);
        check(&|i| i.step = Decimal::ZERO, false);
        check(&|i| i.spread_ticks = 0, false);
        check(&|i| i.levels = 0, false);
        check(&|i| i.level_quantity = Quantity::ZERO, false);
        check(&|i| i.start_price = Price::parse("0.01").unwrap(), false);
    }

    #[test]
    fn a_slept_through_hour_is_left_out() {
        let instrument = BuiltinInstrument {
            symbol: Symbol::parse("ETHUSDT").unwrap(),
            base: "ETH".into(),
            quote: "USDT".into(),
            start_price: Price::parse("2500").unwrap(),
            tick: Decimal::new(1, 2),
            step: Decimal::new(1, 4),
            min_notional: Decimal::from(5),
            volatility_milli_percent: 20,
            spread_ticks: 2,
            levels: 5,
            level_quantity: Quantity::parse("3").unwrap(),
        };
        let config = BuiltinConfig { seed: 1, step_ms: 100, instruments: vec![instrument], script: Vec::new() };
        let mut market = BuiltinMarket::new(config, UnixMs(0)).unwrap();
        market.advance_to(UnixMs(1_000));
        market.skip_to(UnixMs(3_600_050));
        let first = &market.advance_to(UnixMs(3_600_050))[0];
        assert!(matches!(first.kind, FeedKind::Depth { .. } | FeedKind::Trade { .. }));
        assert_eq!(first.received_at(), UnixMs(3_600_000));
    }
}
