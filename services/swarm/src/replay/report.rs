//! What a replay found, for people and as JSON.

use std::collections::BTreeMap;
use std::fmt;

use domain::canonical::Sha256Digest;
use domain::money::Usd;
use serde::Serialize;

/// Agreement of one book with the exchange's own best bid and ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Agreed {
    /// Points where price and size of both sides are equal.
    pub agreed: u64,
    /// Points compared.
    pub compared: u64,
}

/// What a replay found. Everything but `elapsed_ms` is a function of recording, configuration and seed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Seed of everything that is drawn.
    pub seed: u64,
    /// Events read.
    pub events: u64,
    /// Times a book lost its chain of updates.
    pub resyncs: u64,
    /// Books by symbol.
    pub books: BTreeMap<String, Agreed>,
    /// Closed bars.
    pub candles: u64,
    /// Signals of the strategies.
    pub signals: u64,
    /// Decisions by code.
    pub decisions: BTreeMap<String, u64>,
    /// Fills posted.
    pub fills: u64,
    /// Realised profit and loss, fees included.
    pub realised_usd: Usd,
    /// Fees paid.
    pub fees_usd: Usd,
    /// Equity at the last marks.
    pub equity_usd: Usd,
    /// Equity less opening balance.
    pub pnl_usd: Usd,
    /// SHA-256 of the decision log.
    pub log_sha256: Sha256Digest,
    /// Wall time, reading and unpacking included.
    pub elapsed_ms: u64,
}

impl Summary {
    /// Events per second of wall time.
    #[must_use]
    pub fn events_per_second(&self) -> u64 {
        self.events.saturating_mul(1_000) / self.elapsed_ms.max(1)
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "events      {} ({} per second, {} ms)", self.events, self.events_per_second(), self.elapsed_ms)?;
        for (symbol, book) in &self.books {
            writeln!(f, "book        {symbol} agrees at {} of {} points", book.agreed, book.compared)?;
        }
        writeln!(f, "resyncs     {}", self.resyncs)?;
        writeln!(f, "candles     {}", self.candles)?;
        writeln!(f, "signals     {}", self.signals)?;
        for (code, count) in &self.decisions {
            writeln!(f, "decision    {code} {count}")?;
        }
        writeln!(f, "fills       {}", self.fills)?;
        writeln!(f, "fees        {} usd", self.fees_usd)?;
        writeln!(f, "realised    {} usd", self.realised_usd)?;
        writeln!(f, "equity      {} usd (profit and loss {} usd)", self.equity_usd, self.pnl_usd)?;
        write!(f, "decisions   sha256 {} (seed {})", self.log_sha256, self.seed)
    }
}
