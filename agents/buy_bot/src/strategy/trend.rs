//! Trend following: a channel breakout with a volatility stop.
//!
//! | step | formula |
//! |---|---|
//! | enter | `close > max(high of the previous entry_bars bars)` |
//! | exit | `close < min(low of the previous exit_bars bars)`, or the stop, or `max_bars` |
//! | stop | `close - stop_atrs * ATR(atr_bars)` at the entry; on each later bar raised to the same below its close, never lowered |
//!
//! Source: R. Donchian's channel as in "The Original Turtle Trading Rules" (C. Faith, 2003: 20-day entry, 10-day exit, 2 N
//! stop); the rising stop is C. LeBeau's chandelier exit. The average true range is Wilder's.

use std::collections::VecDeque;

use domain::market::Candle;
use domain::money::Price;
use rust_decimal::Decimal;

use super::statistics::AverageTrueRange;
use super::{Holding, Rules, Sizing, Wish};

/// Its name in origins, ids and logs.
pub const NAME: &str = "trend";

/// Parameters of the trend strategy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrendRules {
    /// Bars of the entry channel.
    pub entry_bars: usize,
    /// Bars of the exit channel.
    pub exit_bars: usize,
    /// Smoothing of the average true range.
    pub atr_bars: usize,
    /// Distance of the stop in average true ranges.
    pub stop_atrs: Decimal,
    /// Size and patience.
    pub sizing: Sizing,
}

impl TrendRules {
    pub(super) fn fingerprint(&self) -> String {
        format!("entry={} exit={} atr={} stop={}", self.entry_bars, self.exit_bars, self.atr_bars, self.stop_atrs)
    }
}

/// Memory of the trend strategy.
#[derive(Debug)]
pub(super) struct Trend {
    rules: TrendRules,
    /// High and low of previous bars, newest last.
    bars: VecDeque<(Price, Price)>,
    range: AverageTrueRange,
}

impl Trend {
    pub(super) fn new(rules: TrendRules) -> Self {
        Self { rules, bars: VecDeque::new(), range: AverageTrueRange::default() }
    }

    fn last(&self, count: usize) -> Option<impl Iterator<Item = &(Price, Price)>> {
        let skip = self.bars.len().checked_sub(count)?;
        Some(self.bars.iter().skip(skip))
    }

    fn wish(&self, candle: &Candle, average_range: Option<Decimal>, holding: bool) -> Wish {
        let Some(distance) = average_range.and_then(|range| range.checked_mul(self.rules.stop_atrs)) else {
            return Wish::Stay;
        };
        if holding {
            let floor = self.last(self.rules.exit_bars).and_then(|bars| bars.map(|(_, low)| *low).min());
            if let Some(floor) = floor.filter(|floor| candle.close < *floor) {
                return Wish::Exit { why: format!("channel_low={floor}") };
            }
            let stop = candle.close.value().checked_sub(distance).and_then(|stop| Price::new(stop).ok());
            return stop.map_or(Wish::Stay, Wish::RaiseStop);
        }
        let ceiling = self.last(self.rules.entry_bars).and_then(|bars| bars.map(|(high, _)| *high).max());
        match ceiling.filter(|ceiling| candle.close > *ceiling) {
            Some(ceiling) => Wish::Enter { stop_distance: distance, why: format!("channel_high={ceiling}") },
            None => Wish::Stay,
        }
    }
}

impl Rules for Trend {
    fn on_bar(&mut self, candle: &Candle, holding: Option<&Holding>) -> Wish {
        let average_range = self.range.next(candle, self.rules.atr_bars);
        let wish = self.wish(candle, average_range, holding.is_some());
        self.bars.push_back((candle.high, candle.low));
        while self.bars.len() > self.memory_bars() {
            self.bars.pop_front();
        }
        wish
    }

    fn forget(&mut self) {
        self.bars.clear();
        self.range = AverageTrueRange::default();
    }

    fn memory_bars(&self) -> usize {
        self.rules.entry_bars.max(self.rules.exit_bars)
    }
}
