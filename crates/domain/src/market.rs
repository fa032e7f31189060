//! Instruments, prices seen, and candles.

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use crate::money::{Price, Quantity};
use crate::time::UnixMs;

/// Where an order goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Venue {
    /// The paper exchange of the exchange desk.
    Paper,
    /// The paper exchange of the DEX desk.
    PaperDex,
    /// Binance Spot.
    Binance,
    /// Jupiter on Solana.
    Jupiter,
}

impl Venue {
    /// All venues.
    pub const ALL: [Self; 4] = [Self::Paper, Self::PaperDex, Self::Binance, Self::Jupiter];

    /// Its name in subjects, tables and messages.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Paper => "paper",
            Self::PaperDex => "paper_dex",
            Self::Binance => "binance",
            Self::Jupiter => "jupiter",
        }
    }

    /// Reads a name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|v| v.name() == name)
    }

    /// A venue of tokens named by mint address, each of which needs a live verdict of the launchpad governor.
    #[must_use]
    pub const fn is_dex(self) -> bool {
        matches!(self, Self::PaperDex | Self::Jupiter)
    }
}

impl std::fmt::Display for Venue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// An instrument of one venue: an exchange symbol (`BTCUSDT`) or a mint address, never a ticker. Letters and digits,
/// at most 48, so it fits a subject token.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Symbol(String);

impl Symbol {
    /// Checks and wraps.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let good = !text.is_empty() && text.len() <= 48 && text.bytes().all(|b| b.is_ascii_alphanumeric());
        good.then(|| Self(text.to_owned()))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<'de> Deserialize<'de> for Symbol {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom("not a symbol"))
    }
}

impl std::fmt::Display for Symbol {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// A venue's instrument, by name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct InstrumentId {
    /// Where.
    pub venue: Venue,
    /// What.
    pub symbol: Symbol,
}

impl std::fmt::Display for InstrumentId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.venue, self.symbol)
    }
}

/// The venue's rules for one instrument (Binance names in brackets). A zero tick, step or maximum means no such rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instrument {
    /// Which.
    pub id: InstrumentId,
    /// Base asset, for people.
    pub base: String,
    /// Quote asset, for people; counted as dollars.
    pub quote: String,
    /// Price increment [PRICE_FILTER.tickSize].
    pub tick: Decimal,
    /// Quantity increment [LOT_SIZE.stepSize].
    pub step: Decimal,
    /// Smallest quantity [LOT_SIZE.minQty].
    pub min_quantity: Decimal,
    /// Largest quantity [LOT_SIZE.maxQty].
    pub max_quantity: Decimal,
    /// Smallest price times quantity [NOTIONAL.minNotional].
    pub min_notional: Decimal,
}

/// Best bid and ask of one instrument, as its desk saw them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MarketTick {
    /// Which.
    pub instrument: InstrumentId,
    /// Best bid.
    pub bid: Price,
    /// Quantity at the best bid.
    pub bid_quantity: Quantity,
    /// Best ask.
    pub ask: Price,
    /// Quantity at the best ask.
    pub ask_quantity: Quantity,
    /// When the desk received it, by the desk's clock: what its age is counted from.
    pub received_at: UnixMs,
}

/// One closed candle, built from trades by the desk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candle {
    /// Which.
    pub instrument: InstrumentId,
    /// Length of the bar.
    pub interval_ms: i64,
    /// Start of the bar: a multiple of the interval since the epoch.
    pub open_time: UnixMs,
    /// First price.
    pub open: Price,
    /// Highest price.
    pub high: Price,
    /// Lowest price.
    pub low: Price,
    /// Last price.
    pub close: Price,
    /// Base quantity traded.
    pub volume: Quantity,
    /// Number of trades.
    pub trades: u64,
}

/// The price a rail judges by: the mid of best bid and ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// Mid of best bid and ask.
    pub price: Price,
    /// When the desk received the book it comes from.
    pub received_at: UnixMs,
}

impl MarketTick {
    /// Mid of bid and ask; `None` for a crossed book, which is no price at all.
    #[must_use]
    pub fn mark(&self) -> Option<Mark> {
        Mark::of(self.bid, self.ask, self.received_at)
    }
}

impl Mark {
    /// Mid of bid and ask; `None` for a crossed book, which is no price at all.
    #[must_use]
    pub fn of(bid: Price, ask: Price, received_at: UnixMs) -> Option<Self> {
        if bid.value() > ask.value() {
            return None;
        }
        let sum = bid.value().checked_add(ask.value())?;
        Price::new(sum / Decimal::TWO).ok().map(|price| Self { price, received_at })
    }
}
