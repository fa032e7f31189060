//! Dollars as whole millionths.

use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive;

/// Dollars as millionths, rounded down: a limit is never larger than what was written.
#[must_use]
pub fn micros_of_usd(usd: Decimal) -> u64 {
    usd.checked_mul(Decimal::from(1_000_000)).and_then(|micros| micros.floor().to_u64()).unwrap_or(0)
}

/// Millionths of a dollar as text in dollars.
#[must_use]
pub fn usd_text(micros: u64) -> String {
    format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_rounded_down_and_read_back() {
        assert_eq!(micros_of_usd("0.0000019".parse().unwrap()), 1);
        assert_eq!(micros_of_usd("10".parse().unwrap()), 10_000_000);
        assert_eq!(micros_of_usd("-1".parse().unwrap()), 0);
        assert_eq!(usd_text(4_500), "0.004500");
    }
}
