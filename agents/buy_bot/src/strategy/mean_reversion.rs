//! Mean reversion: buy what fell far below its rolling mean, sell it at the mean.
//!
//! With mean `m` and population deviation `s` of the previous `window_bars` closes (the judged bar is not among them):
//!
//! | step | formula |
//! |---|---|
//! | enter | `close < m` and `(m - close)^2 >= entry_sigmas^2 * s^2`, that is z-score `(close - m) / s <= -entry_sigmas` |
//! | exit | `close >= m` (the mean of that moment), or the stop, or `max_bars` |
//! | stop | `close - stop_sigmas * s` at the entry, `s` rounded up; it does not move |
//!
//! Squares are compared, so the entry needs no root. Source: the z-score band as in E. Chan, "Algorithmic Trading"
//! (2013), chapter 3, Bollinger bands (J. Bollinger, 20 periods and 2 deviations).

use std::collections::VecDeque;

use domain::market::Candle;
use rust_decimal::Decimal;

use super::statistics::{mean_and_variance, sqrt_up};
use super::{Holding, Rules, Sizing, Wish};

/// Its name in origins, ids and logs.
pub const NAME: &str = "mean_reversion";

/// Parameters of the mean reversion strategy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MeanReversionRules {
    /// Closes of the rolling mean and deviation.
    pub window_bars: usize,
    /// Deviations below the mean at which it buys.
    pub entry_sigmas: Decimal,
    /// Deviations below the entry at which it gives up.
    pub stop_sigmas: Decimal,
    /// Size and patience.
    pub sizing: Sizing,
}

impl MeanReversionRules {
    pub(super) fn fingerprint(&self) -> String {
        format!("window={} entry={} stop={}", self.window_bars, self.entry_sigmas, self.stop_sigmas)
    }
}

/// Memory of the mean reversion strategy.
#[derive(Debug)]
pub(super) struct MeanReversion {
    rules: MeanReversionRules,
    closes: VecDeque<Decimal>,
}

impl MeanReversion {
    pub(super) fn new(rules: MeanReversionRules) -> Self {
        Self { rules, closes: VecDeque::new() }
    }

    /// `None` when a number leaves the range, which is no reason to trade.
    fn wish(&self, close: Decimal, holding: bool) -> Option<Wish> {
        let (mean, variance) = mean_and_variance(&self.closes)?;
        if holding {
            let why = format!("mean={}", mean.round_dp(8).normalize());
            return (close >= mean).then_some(Wish::Exit { why });
        }
        let gap = mean.checked_sub(close)?;
        let sigmas = self.rules.entry_sigmas;
        let far = gap.checked_mul(gap)? >= sigmas.checked_mul(sigmas)?.checked_mul(variance)?;
        if gap <= Decimal::ZERO || variance <= Decimal::ZERO || !far {
            return None;
        }
        let deviation = sqrt_up(variance)?;
        Some(Wish::Enter {
            stop_distance: deviation.checked_mul(self.rules.stop_sigmas)?,
            why: format!("mean={} sigma={deviation}", mean.round_dp(8).normalize()),
        })
    }
}

impl Rules for MeanReversion {
    fn on_bar(&mut self, candle: &Candle, holding: Option<&Holding>) -> Wish {
        let close = candle.close.value();
        let warm = self.closes.len() == self.rules.window_bars;
        let wish = if warm { self.wish(close, holding.is_some()) } else { None };
        self.closes.push_back(close);
        while self.closes.len() > self.rules.window_bars {
            self.closes.pop_front();
        }
        wish.unwrap_or(Wish::Stay)
    }

    fn forget(&mut self) {
        self.closes.clear();
    }

    fn memory_bars(&self) -> usize {
        self.rules.window_bars
    }
}
