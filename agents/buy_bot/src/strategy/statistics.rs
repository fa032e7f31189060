//! Mean, variance, square root and average true range over decimals. Every rounding names its direction; a result that
//! leaves the range is `None`.

use std::collections::VecDeque;

use domain::market::Candle;
use rust_decimal::{Decimal, RoundingStrategy};

/// Decimals kept in a computed statistic.
pub const STATISTIC_DECIMALS: u32 = 8;

/// Arithmetic mean and population variance of `values`; the mean is rounded to even at 28 digits by the division, the
/// variance is taken around that mean.
#[must_use]
pub fn mean_and_variance(values: &VecDeque<Decimal>) -> Option<(Decimal, Decimal)> {
    let count = Decimal::from(values.len());
    let sum = values.iter().try_fold(Decimal::ZERO, |sum, value| sum.checked_add(*value))?;
    let mean = sum.checked_div(count)?;
    let squares = values.iter().try_fold(Decimal::ZERO, |sum, value| {
        let gap = value.checked_sub(mean)?;
        sum.checked_add(gap.checked_mul(gap)?)
    })?;
    Some((mean, squares.checked_div(count)?))
}

/// Square root rounded up to 8 decimals, by the integer square root of `value * 10^16`. `None` below zero and beyond
/// about 3.4e22.
#[must_use]
pub fn sqrt_up(value: Decimal) -> Option<Decimal> {
    let doubled = STATISTIC_DECIMALS * 2;
    let value = value.round_dp_with_strategy(doubled, RoundingStrategy::AwayFromZero);
    let mantissa = u128::try_from(value.mantissa()).ok()?;
    let scaled = mantissa.checked_mul(10u128.checked_pow(doubled.checked_sub(value.scale())?)?)?;
    let root = scaled.isqrt();
    let root = if root * root == scaled { root } else { root + 1 };
    Decimal::try_from_i128_with_scale(i128::try_from(root).ok()?, STATISTIC_DECIMALS).ok().map(|root| root.normalize())
}

/// Average true range, smoothed by J. Welles Wilder ("New Concepts in Technical Trading Systems", 1978):
/// `TR = max(high, previous close) - min(low, previous close)`, seeded by the mean of the first `bars` true ranges, then
/// `ATR = (ATR * (bars - 1) + TR) / bars`. Rounded up to 8 decimals: a wider stop, a smaller trade.
#[derive(Debug, Clone, Default)]
pub struct AverageTrueRange {
    previous_close: Option<Decimal>,
    seen: usize,
    sum_or_average: Decimal,
}

impl AverageTrueRange {
    /// Takes one bar; the average after it, once `bars` true ranges were seen. The very first bar has no previous close
    /// and gives no true range.
    pub fn next(&mut self, candle: &Candle, bars: usize) -> Option<Decimal> {
        let previous = self.previous_close.replace(candle.close.value())?;
        let range = candle.high.value().max(previous).checked_sub(candle.low.value().min(previous))?;
        let count = Decimal::from(bars);
        if self.seen < bars {
            self.seen += 1;
            self.sum_or_average = self.sum_or_average.checked_add(range)?;
            if self.seen < bars {
                return None;
            }
            self.sum_or_average = self.sum_or_average.checked_div(count)?;
        } else {
            let kept = self.sum_or_average.checked_mul(count - Decimal::ONE)?;
            self.sum_or_average = kept.checked_add(range)?.checked_div(count)?;
        }
        self.sum_or_average =
            self.sum_or_average.round_dp_with_strategy(STATISTIC_DECIMALS, RoundingStrategy::AwayFromZero);
        Some(self.sum_or_average)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::money::parse_plain;

    #[test]
    fn a_square_root_is_rounded_up_to_eight_decimals() {
        for (value, want) in [
            ("0", "0"),
            ("4", "2"),
            ("2", "1.41421357"),
            ("0.0001", "0.01"),
            ("0.00000000000000000001", "0.00000001"),
            ("10000000000000000000000", "100000000000"),
        ] {
            let value = Decimal::from_str_exact(value).unwrap();
            assert_eq!(sqrt_up(value), Some(parse_plain(want).unwrap()), "{value}");
        }
        assert_eq!(sqrt_up(-Decimal::ONE), None);
        assert_eq!(sqrt_up(Decimal::MAX), None);
    }

    #[test]
    fn mean_and_variance_are_those_of_the_population() {
        let values: VecDeque<Decimal> = [2, 4, 4, 4, 5, 5, 7, 9].into_iter().map(Decimal::from).collect();
        assert_eq!(mean_and_variance(&values), Some((Decimal::from(5), Decimal::from(4))));
        assert_eq!(mean_and_variance(&VecDeque::new()), None);
    }
}
