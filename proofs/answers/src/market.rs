//! The market of a run: a recording, thinned to what a review can see of it, and played several times in a row.
//!
//! Books are kept by the desk's own code ([`Books`]). Of the trades of one second and instrument the first, the highest, the
//! lowest and the last are kept: a candle of whole seconds is the same with them alone, and a day fits into memory.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use domain::market::{InstrumentId, MarketTick, Symbol, Venue};
use domain::money::{MoneyError, Price, Quantity};
use domain::time::UnixMs;
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rust_decimal::Decimal;
use venues::VenueError;
use venues::book::Books;
use venues::builtin::{BuiltinConfig, BuiltinInstrument, BuiltinMarket};
use venues::feed::{self, FeedEvent, FeedKind};

/// Least time between two prices of one instrument, ms: reviews have no finer sense of age.
const QUOTE_EVERY_MS: i64 = 200;
/// Length of what the built-in market makes where there is no recording, ms.
const BUILTIN_MS: i64 = 660_000;

/// Why there is no market.
#[derive(Debug, thiserror::Error)]
pub enum MarketError {
    /// The folder of recordings can't be listed.
    #[error("folder {path}")]
    Folder {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// There is nothing in it, or no price.
    #[error("the recording has no price of any instrument")]
    Empty,
    /// A recording can't be read, or the built-in market can't be made.
    #[error("market")]
    Venue(#[from] VenueError),
    /// A price or quantity left the range of amounts.
    #[error("amount")]
    Money(#[from] MoneyError),
}

/// What happened at one moment to one instrument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// Best bid and ask.
    Quote {
        /// Highest bid.
        bid: Price,
        /// Lowest ask.
        ask: Price,
    },
    /// A trade, by the exchange's clock.
    Trade {
        /// Price per unit.
        price: Price,
        /// When, ms from the begin of the recording.
        traded_ms: i64,
    },
}

/// A moment of the recording.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moment {
    /// When it was received, ms from the begin of the recording.
    pub at_ms: i64,
    /// Of which instrument.
    pub symbol: Symbol,
    /// What.
    pub seen: Seen,
}

/// A recording in memory.
#[derive(Debug, Clone)]
pub struct Recording {
    /// What it is.
    pub name: String,
    /// Events before thinning.
    pub events: u64,
    /// Begin, by the clock of whoever recorded it.
    pub begin: UnixMs,
    /// Length, ms: whole seconds.
    pub length_ms: i64,
    /// Moments in order.
    pub moments: Vec<Moment>,
}

impl Recording {
    /// Reads all recordings of a folder as one market.
    ///
    /// # Errors
    /// [`MarketError`].
    pub fn read(folder: &Path) -> Result<Self, MarketError> {
        let wrap = |source| MarketError::Folder { path: folder.to_owned(), source };
        let mut files = Vec::new();
        for entry in std::fs::read_dir(folder).map_err(wrap)? {
            let path = entry.map_err(wrap)?.path();
            if path.extension().is_some_and(|extension| extension == "gz") {
                files.push(path);
            }
        }
        files.sort();
        let mut events = Vec::new();
        for file in &files {
            events.extend(feed::open(file)?.collect::<Result<Vec<_>, _>>()?);
        }
        // Stable: what was received in the same nanosecond stays in the order of the files.
        events.sort_by_key(|event| event.received_at_ns);
        let name =
            folder.file_name().map_or_else(|| "recording".to_owned(), |name| name.to_string_lossy().into_owned());
        Self::of(name, &events)
    }

    /// Eleven minutes of the built-in market, as `make replay` makes them where there is no recording.
    ///
    /// # Errors
    /// [`MarketError`].
    pub fn builtin(seed: u64) -> Result<Self, MarketError> {
        let instrument = |symbol: &str, price: &str, volatility_milli_percent, step, level: &str| {
            Ok::<_, MarketError>(BuiltinInstrument {
                symbol: Symbol::parse(&format!("{symbol}USDT")).ok_or(MarketError::Empty)?,
                base: symbol.to_owned(),
                quote: "USDT".to_owned(),
                start_price: Price::parse(price)?,
                tick: Decimal::new(1, 2),
                step,
                min_notional: Decimal::from(5),
                volatility_milli_percent,
                spread_ticks: 1,
                levels: 20,
                level_quantity: Quantity::parse(level)?,
            })
        };
        let instruments = vec![
            instrument("BTC", "60000", 20, Decimal::new(1, 5), "0.5")?,
            instrument("ETH", "2700", 25, Decimal::new(1, 4), "8")?,
        ];
        let begin = UnixMs(1_790_000_000_000);
        let mut market =
            BuiltinMarket::new(BuiltinConfig { seed, step_ms: 100, instruments, script: Vec::new() }, begin)?;
        Self::of("built-in market".to_owned(), &market.advance_to(begin.plus_ms(BUILTIN_MS)))
    }

    fn of(name: String, events: &[FeedEvent]) -> Result<Self, MarketError> {
        let (Some(first), Some(last)) = (events.first(), events.last()) else { return Err(MarketError::Empty) };
        let begin = UnixMs(first.received_at().0.div_euclid(1_000) * 1_000);
        let mut thinning = Thinning {
            begin,
            books: Books::default(),
            quoted: BTreeMap::new(),
            bars: BTreeMap::new(),
            out: Vec::new(),
        };
        events.iter().for_each(|event| thinning.take(event));
        let mut moments = thinning.finish();
        moments.sort_by_key(|moment| moment.at_ms);
        if !moments.iter().any(|moment| matches!(moment.seen, Seen::Quote { .. })) {
            return Err(MarketError::Empty);
        }
        let length_ms = (last.received_at().since_ms(begin) / 1_000 + 1) * 1_000;
        Ok(Self { name, events: events.len() as u64, begin, length_ms, moments })
    }
}

/// First, highest, lowest and last trade of one second.
type Second = (i64, [(Price, i64, i64); 4]);

struct Thinning {
    begin: UnixMs,
    books: Books,
    quoted: BTreeMap<Symbol, i64>,
    bars: BTreeMap<Symbol, Second>,
    out: Vec<Moment>,
}

impl Thinning {
    fn take(&mut self, event: &FeedEvent) {
        let at_ms = event.received_at().since_ms(self.begin);
        self.books.apply(event);
        if let FeedKind::Trade { price, traded_ms, .. } = &event.kind {
            let traded_ms = UnixMs(*traded_ms).since_ms(self.begin);
            self.trade(&event.symbol, *price, at_ms, traded_ms);
            return;
        }
        let is_due = self.quoted.get(&event.symbol).is_none_or(|last| at_ms - last >= QUOTE_EVERY_MS);
        if let Some(tick) = self.books.tick(Venue::Paper, &event.symbol).filter(|tick| is_due && tick.bid < tick.ask) {
            self.quoted.insert(event.symbol.clone(), at_ms);
            let seen = Seen::Quote { bid: tick.bid, ask: tick.ask };
            self.out.push(Moment { at_ms, symbol: event.symbol.clone(), seen });
        }
    }

    fn trade(&mut self, symbol: &Symbol, price: Price, at_ms: i64, traded_ms: i64) {
        let (second, this) = (traded_ms.div_euclid(1_000), (price, at_ms, traded_ms));
        if let Some((open, [_, high, low, last])) = self.bars.get_mut(symbol)
            && *open == second
        {
            *high = if price > high.0 { this } else { *high };
            *low = if price < low.0 { this } else { *low };
            *last = this;
            return;
        }
        if let Some((_, trades)) = self.bars.insert(symbol.clone(), (second, [this; 4])) {
            self.write(symbol, trades);
        }
    }

    fn write(&mut self, symbol: &Symbol, mut trades: [(Price, i64, i64); 4]) {
        trades.sort_by_key(|(_, at_ms, traded_ms)| (*at_ms, *traded_ms));
        let moments = trades.into_iter().map(|(price, at_ms, traded_ms)| Moment {
            at_ms,
            symbol: symbol.clone(),
            seen: Seen::Trade { price, traded_ms },
        });
        self.out.extend(moments);
    }

    fn finish(mut self) -> Vec<Moment> {
        for (symbol, (_, trades)) in std::mem::take(&mut self.bars) {
            self.write(&symbol, trades);
        }
        self.out
    }
}

/// One play of the recording: times moved, prices going on from where the play before left them. A mirrored one moves the
/// other way, by the same ratios, so that a day of plays has no drift of its own.
#[derive(Debug)]
pub struct Play {
    begin: UnixMs,
    is_mirrored: bool,
    /// For each instrument: where this play goes on from, and the first price of the recording.
    joints: BTreeMap<Symbol, (Decimal, Decimal)>,
}

impl Play {
    /// The play `number` of `recording`; `last` are the prices at the end of the one before.
    pub fn new(recording: &Recording, number: i64, last: &BTreeMap<Symbol, Decimal>, rng: &mut ChaCha8Rng) -> Self {
        let mut joints = BTreeMap::new();
        for moment in &recording.moments {
            if let Seen::Quote { bid, .. } = moment.seen
                && !joints.contains_key(&moment.symbol)
            {
                let first = bid.value();
                let from = last.get(&moment.symbol).copied().unwrap_or(first);
                joints.insert(moment.symbol.clone(), (from, first));
            }
        }
        let begin = recording.begin.plus_ms(recording.length_ms.saturating_mul(number));
        Self { begin, is_mirrored: number > 0 && rng.random_bool(0.5), joints }
    }

    /// When a moment of the recording is, in this play.
    #[must_use]
    pub const fn at(&self, ms: i64) -> UnixMs {
        self.begin.plus_ms(ms)
    }

    /// A price of the recording in this play, to the cent; `None` before the first price of the instrument.
    #[must_use]
    pub fn price(&self, symbol: &Symbol, price: Price) -> Option<Price> {
        let (from, first) = self.joints.get(symbol)?;
        let (part, whole) = if self.is_mirrored { (*first, price.value()) } else { (price.value(), *first) };
        Price::new(from.checked_mul(part)?.checked_div(whole)?.round_dp(2)).ok()
    }

    /// Best bid and ask in this play.
    #[must_use]
    pub fn tick(&self, moment: &Moment, bid: Price, ask: Price) -> Option<MarketTick> {
        let (bid, ask) = if self.is_mirrored { (ask, bid) } else { (bid, ask) };
        let one = Quantity::new(Decimal::ONE).ok()?;
        Some(MarketTick {
            instrument: InstrumentId { venue: Venue::Paper, symbol: moment.symbol.clone() },
            bid: self.price(&moment.symbol, bid)?,
            bid_quantity: one,
            ask: self.price(&moment.symbol, ask)?,
            ask_quantity: one,
            received_at: self.at(moment.at_ms),
        })
    }
}
