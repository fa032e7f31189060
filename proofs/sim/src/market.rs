//! The market of a world: two instruments that walk, jump and fall silent, with thin books so that orders trade in part.

use std::collections::BTreeMap;

use domain::market::{Candle, Instrument, InstrumentId, MarketTick, Symbol, Venue as VenueId};
use domain::money::{Price, Quantity};
use domain::time::UnixMs;
use rust_decimal::Decimal;
use venues::feed::{FeedEvent, FeedKind, Level};
use venues::paper::{PaperConfig, PaperCore};

use crate::hub::Hub;

/// Bars of this length reach the strategies.
pub const CANDLE_MS: i64 = 15_000;
/// How long it is remembered what was shown.
const SHOWN_MS: i64 = 60_000;
const SYMBOLS: [(&str, i64); 2] = [("BTCUSDT", 6_000_000), ("ETHUSDT", 260_000)];

/// A price that the market showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// Of what.
    pub instrument: InstrumentId,
    /// How much: the middle of the book.
    pub price: Decimal,
    /// When, by the world's clock.
    pub at: UnixMs,
}

/// The market.
#[derive(Debug)]
pub struct Market {
    shown: Vec<Shown>,
    prices: Vec<Quote>,
    updates: u64,
    /// How wild it is: largest usual move of one step, in hundredths of a percent.
    step_bps: i64,
    /// Jumps, of a thousand steps.
    jump_permille: u32,
    /// Where it drifts to, hundredths of a percent a step.
    pub drift_bps: i64,
    /// Quantity on each level, in thousandths of what is usual.
    thin_permille: i64,
}

#[derive(Debug, Clone)]
struct Quote {
    id: InstrumentId,
    cents: i64,
    open: i64,
    high: i64,
    low: i64,
}

/// The rules of one instrument of the venue.
#[must_use]
pub fn rules(symbol: &Symbol) -> Instrument {
    Instrument {
        id: InstrumentId { venue: VenueId::Paper, symbol: symbol.clone() },
        base: symbol.as_str().trim_end_matches("USDT").to_owned(),
        quote: "USDT".to_owned(),
        tick: Decimal::new(1, 2),
        step: Decimal::new(1, 5),
        min_quantity: Decimal::ZERO,
        max_quantity: Decimal::from(9_000),
        min_notional: Decimal::from(5),
    }
}

fn symbols() -> impl Iterator<Item = (Symbol, i64)> {
    SYMBOLS.into_iter().filter_map(|(name, cents)| Some((Symbol::parse(name)?, cents)))
}

/// The exchange behind the desk.
///
/// # Panics
/// When its own configuration is wrong.
#[must_use]
#[expect(clippy::expect_used, reason = "a fixed configuration")]
pub fn exchange(seed: u64, reject_bps: u32) -> PaperCore {
    let config = PaperConfig {
        venue: VenueId::Paper,
        instruments: symbols().map(|(symbol, _)| rules(&symbol)).collect(),
        opening: BTreeMap::from([("USDT".to_owned(), Decimal::from(100_000_000))]),
        maker_fee_percent: Decimal::new(1, 1),
        taker_fee_percent: Decimal::new(1, 1),
        latency_ms: 0..=0,
        reject_bps,
        lost_reply_bps: 0,
        max_book_age_ms: 30_000,
        seed,
        journal: std::path::PathBuf::new(),
    };
    let mut core = PaperCore::new(config).expect("a paper exchange");
    let opening = core.opening();
    core.commit(&opening).expect("an open account");
    core
}

fn price(cents: i64) -> Option<Price> {
    Price::new(Decimal::new(cents, 2)).ok()
}

impl Market {
    /// A market of this temper.
    #[must_use]
    pub fn new(hub: &Hub) -> Self {
        let prices = symbols().map(|(symbol, cents)| {
            let id = InstrumentId { venue: VenueId::Paper, symbol };
            Quote { id, cents, open: cents, high: cents, low: cents }
        });
        Self {
            shown: Vec::new(),
            prices: prices.collect(),
            updates: 0,
            step_bps: hub.pick(&[2, 10, 40]),
            jump_permille: hub.pick(&[0, 10, 60]),
            drift_bps: hub.pick(&[0, 0, -15, 10]),
            thin_permille: hub.pick(&[1_000, 1_000, 50, 5]),
        }
    }

    /// Its instruments.
    #[must_use]
    pub fn instruments(&self) -> Vec<Instrument> {
        self.prices.iter().map(|quote| rules(&quote.id.symbol)).collect()
    }

    /// The present price of an instrument, in cents.
    #[must_use]
    pub fn cents(&self, symbol: &str) -> i64 {
        self.prices.iter().find(|quote| quote.id.symbol.as_str() == symbol).map_or(0, |quote| quote.cents)
    }

    /// What it showed in the last minute.
    #[must_use]
    pub fn shown(&self) -> &[Shown] {
        &self.shown
    }

    /// Every price moves; what the feed says and what is told.
    pub fn step(&mut self, hub: &Hub) -> Vec<(FeedEvent, MarketTick)> {
        let now = hub.now();
        self.shown.retain(|shown| now.since_ms(shown.at) <= SHOWN_MS);
        let mut out = Vec::new();
        for at in 0..self.prices.len() {
            let mut bps = hub.between(-self.step_bps, self.step_bps) + self.drift_bps;
            if self.jump_permille > 0 && hub.permille(self.jump_permille) {
                bps += hub.pick(&[-800, -300, 250, 600]);
                hub.count("market jump");
            }
            let quote = &mut self.prices[at];
            quote.cents = (quote.cents + quote.cents * bps / 10_000).max(1_000);
            (quote.high, quote.low) = (quote.high.max(quote.cents), quote.low.min(quote.cents));
            self.updates += 1;
            let quote = quote.clone();
            let price = Decimal::new(quote.cents, 2);
            self.shown.push(Shown { instrument: quote.id.clone(), price, at: now });
            out.extend(self.told(&quote, now));
        }
        out
    }

    fn told(&self, quote: &Quote, now: UnixMs) -> Option<(FeedEvent, MarketTick)> {
        let spread = (quote.cents / 20_000).max(1);
        // About $20,000 on the best level of a usual market.
        let usual = Decimal::new(2_000_000, 0) / Decimal::from(quote.cents.max(1));
        let quantity = Quantity::new((usual * Decimal::new(self.thin_permille, 3)).round_dp(5)).ok()?;
        let level = |cents: i64| Some(Level { price: price(cents)?, quantity });
        let bids = vec![level(quote.cents - spread)?, level(quote.cents - spread * 4)?];
        let asks = vec![level(quote.cents + spread)?, level(quote.cents + spread * 4)?];
        let tick = MarketTick {
            instrument: quote.id.clone(),
            bid: bids[0].price,
            bid_quantity: quantity,
            ask: asks[0].price,
            ask_quantity: quantity,
            received_at: now,
        };
        let kind = FeedKind::Snapshot { last_update_id: self.updates, bids, asks };
        Some((FeedEvent { received_at_ns: now.as_ns(), symbol: quote.id.symbol.clone(), kind }, tick))
    }

    /// The bars that end now.
    pub fn close(&mut self, now: UnixMs) -> Vec<Candle> {
        let open_time = UnixMs((now.0 - 1).div_euclid(CANDLE_MS) * CANDLE_MS);
        let bars = self.prices.iter_mut().filter_map(|quote| {
            let candle = Candle {
                instrument: quote.id.clone(),
                interval_ms: CANDLE_MS,
                open_time,
                open: price(quote.open)?,
                high: price(quote.high)?,
                low: price(quote.low)?,
                close: price(quote.cents)?,
                volume: Quantity::new(Decimal::ONE).ok()?,
                trades: 10,
            };
            (quote.open, quote.high, quote.low) = (quote.cents, quote.cents, quote.cents);
            Some(candle)
        });
        bars.collect()
    }
}
