//! The book of one built-in instrument, in whole ticks and steps.

use std::collections::BTreeMap;

use domain::money::{Price, Quantity};
use domain::time::UnixMs;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rust_decimal::Decimal;

use super::{BuiltinInstrument, whole_units};
use crate::error::VenueError;
use crate::feed::{FeedKind, Level};

/// Trades printed at most when the price moves through several levels in one step.
const MAX_TRADES_A_STEP: usize = 8;

/// Ticks and steps of one side.
type Side = BTreeMap<i64, i64>;

/// Makes one market: where the price goes, what trades on the way, what rests afterwards.
#[derive(Debug, Clone)]
pub(super) struct Maker {
    tick: Decimal,
    step: Decimal,
    start_bid: i64,
    spread: i64,
    spacing: i64,
    levels: usize,
    level_steps: i64,
    volatility_milli_percent: i64,
    rng: ChaCha8Rng,
    /// Where the best bid is to be.
    bid: i64,
    bids: Side,
    asks: Side,
    update_id: u64,
    trade_id: u64,
}

impl Maker {
    pub(super) fn new(instrument: &BuiltinInstrument, seed: u64, number: u64) -> Result<Self, VenueError> {
        let bad = |why: &str| VenueError::Config(format!("{}: {why}", instrument.symbol));
        let positive = |value: Decimal| value > Decimal::ZERO;
        if !positive(instrument.tick) || !positive(instrument.step) {
            return Err(bad("tick and step must be positive"));
        }
        if instrument.spread_ticks == 0 || instrument.levels == 0 {
            return Err(bad("spread and number of levels must be positive"));
        }
        let level_steps = whole_units(instrument.level_quantity.value(), instrument.step)
            .filter(|steps| (1..=i64::MAX / 4).contains(steps))
            .ok_or_else(|| bad("the quantity of a level must be at least one step"))?;
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(number);
        let mut maker = Self {
            tick: instrument.tick,
            step: instrument.step,
            start_bid: 0,
            spread: i64::from(instrument.spread_ticks),
            spacing: 1,
            levels: instrument.levels,
            level_steps,
            volatility_milli_percent: i64::from(instrument.volatility_milli_percent),
            rng,
            bid: 0,
            bids: Side::new(),
            asks: Side::new(),
            update_id: 1_000,
            trade_id: 0,
        };
        maker.aim(instrument.start_price)?;
        maker.start_bid = maker.bid;
        maker.refill();
        Ok(maker)
    }

    /// Sends the mid price to `price`.
    pub(super) fn aim(&mut self, price: Price) -> Result<(), VenueError> {
        let no_room = || VenueError::Config(format!("no room for a book around {price}"));
        let mid = whole_units(price.value(), self.tick).ok_or_else(no_room)?;
        // One level in 20,000th of the price: half a hundredth of a percent apart.
        let spacing = (mid / 20_000).max(1);
        let lowest = i64::try_from(self.levels).ok().and_then(|n| n.checked_mul(spacing)).ok_or_else(no_room)?;
        let bid = mid - self.spread / 2;
        if bid <= lowest || mid > i64::MAX / 4 {
            return Err(no_room());
        }
        (self.bid, self.spacing) = (bid, spacing);
        Ok(())
    }

    pub(super) fn snapshot(&self) -> FeedKind {
        FeedKind::Snapshot {
            last_update_id: self.update_id,
            bids: self.bids.iter().rev().filter_map(|(&p, &q)| self.level(p, q)).collect(),
            asks: self.asks.iter().filter_map(|(&p, &q)| self.level(p, q)).collect(),
        }
    }

    /// One step: trades, then what they and the makers left, then the best bid and ask.
    pub(super) fn step(&mut self, now: UnixMs) -> Vec<FeedKind> {
        let before = (self.bids.clone(), self.asks.clone());
        self.walk();
        let mut out = self.trade(now);
        self.refill();
        self.breathe();
        let bids = self.changes(&before.0, &self.bids);
        let asks = self.changes(&before.1, &self.asks);
        let first_update_id = self.update_id + 1;
        self.update_id += (bids.len() + asks.len()).max(1) as u64;
        out.push(FeedKind::Depth { first_update_id, final_update_id: self.update_id, event_ms: now.0, bids, asks });
        out.extend(self.ticker());
        out
    }

    /// Moves the price at random; the further it is from where it started, the more it is drawn back.
    fn walk(&mut self) {
        if self.volatility_milli_percent == 0 {
            return;
        }
        let reach = (self.bid / 100 * self.volatility_milli_percent / 1_000).max(1);
        let pull = (self.start_bid - self.bid) / 2_000;
        let move_ticks = self.rng.random_range(-reach..=reach) + pull;
        let lowest = (self.start_bid / 10).max(self.spacing * self.levels as i64 + 1);
        self.bid = (self.bid + move_ticks).clamp(lowest, self.start_bid.saturating_mul(10));
    }

    /// Takers: through every level on the way to the new price, or a part of the best one when it stays.
    fn trade(&mut self, now: UnixMs) -> Vec<FeedKind> {
        let (bid, ask) = (self.bid, self.bid + self.spread);
        let lifted: Vec<i64> = self.asks.range(..ask).map(|(&p, _)| p).collect();
        let hit: Vec<i64> = self.bids.range(bid + 1..).rev().map(|(&p, _)| p).collect();
        let mut out = Vec::new();
        for (prices, buyer_is_maker) in [(lifted, false), (hit, true)] {
            for price in prices {
                let side = if buyer_is_maker { &mut self.bids } else { &mut self.asks };
                let steps = side.remove(&price).unwrap_or(0);
                if out.len() < MAX_TRADES_A_STEP {
                    out.extend(self.print(price, steps, buyer_is_maker, now));
                }
            }
        }
        if out.is_empty() {
            let buyer_is_maker = self.rng.random_bool(0.5);
            let side = if buyer_is_maker { &mut self.bids } else { &mut self.asks };
            let best = if buyer_is_maker { side.last_entry() } else { side.first_entry() };
            if let Some(mut best) = best.filter(|best| *best.get() > 1) {
                let steps = self.rng.random_range(1..=(*best.get() / 10).max(1));
                *best.get_mut() -= steps;
                let price = *best.key();
                out.extend(self.print(price, steps, buyer_is_maker, now));
            }
        }
        out
    }

    fn print(&mut self, price: i64, steps: i64, buyer_is_maker: bool, now: UnixMs) -> Option<FeedKind> {
        let Level { price, quantity } = self.level(price, steps)?;
        self.trade_id += 1;
        Some(FeedKind::Trade { trade_id: self.trade_id, price, quantity, traded_ms: now.0, buyer_is_maker })
    }

    /// Makers: a level at the best bid and ask, more behind it, none too far away.
    fn refill(&mut self) {
        let (bid, ask) = (self.bid, self.bid + self.spread);
        let far = self.spacing * (self.levels as i64) * 2;
        self.bids.retain(|&price, _| price <= bid && price > bid - far);
        self.asks.retain(|&price, _| price >= ask && price < ask + far);
        for n in 0..self.levels as i64 {
            for (price, is_bid) in [(bid - n * self.spacing, true), (ask + n * self.spacing, false)] {
                let side = if is_bid { &self.bids } else { &self.asks };
                if side.len() < self.levels && !side.contains_key(&price) || (n == 0 && !side.contains_key(&price)) {
                    let steps = self.some_steps();
                    let side = if is_bid { &mut self.bids } else { &mut self.asks };
                    side.insert(price, steps);
                }
            }
        }
        while self.bids.len() > self.levels {
            self.bids.pop_first();
        }
        while self.asks.len() > self.levels {
            self.asks.pop_last();
        }
    }

    /// Makers change their mind about one level on each side.
    fn breathe(&mut self) {
        for is_bid in [true, false] {
            let steps = self.some_steps();
            let pick = self.rng.random_range(0..self.levels);
            let side = if is_bid { &mut self.bids } else { &mut self.asks };
            if let Some(level) = side.values_mut().nth(pick) {
                *level = steps;
            }
        }
    }

    fn some_steps(&mut self) -> i64 {
        let half = (self.level_steps / 2).max(1);
        self.rng.random_range(half..=half * 3)
    }

    fn changes(&self, before: &Side, after: &Side) -> Vec<Level> {
        let gone = before.keys().filter(|price| !after.contains_key(price)).map(|&price| (price, 0));
        let set = after.iter().filter(|(price, steps)| before.get(price) != Some(steps)).map(|(&p, &q)| (p, q));
        gone.chain(set).filter_map(|(price, steps)| self.level(price, steps)).collect()
    }

    fn ticker(&self) -> Option<FeedKind> {
        let (&bid, &bid_steps) = self.bids.last_key_value()?;
        let (&ask, &ask_steps) = self.asks.first_key_value()?;
        let (bid, ask) = (self.level(bid, bid_steps)?, self.level(ask, ask_steps)?);
        Some(FeedKind::BookTicker {
            update_id: self.update_id,
            bid: bid.price,
            bid_quantity: bid.quantity,
            ask: ask.price,
            ask_quantity: ask.quantity,
        })
    }

    fn level(&self, ticks: i64, steps: i64) -> Option<Level> {
        let price = Price::new(Decimal::from(ticks).checked_mul(self.tick)?).ok()?;
        let quantity = Quantity::new(Decimal::from(steps).checked_mul(self.step)?).ok()?;
        Some(Level { price, quantity })
    }
}
