//! Exchange decimals, read straight from ASCII.
//!
//! Trailing zeros are kept: an exchange writes every price of an instrument with the same number of decimals, and two
//! decimals of one scale compare by their integers.

use domain::money::{MAX_SCALE, Price, Quantity, parse_plain};
use rust_decimal::Decimal;

/// Digits that surely fit 64 bits.
const FAST_DIGITS: usize = 18;

/// Reads `digits[.digits]`, however large; `None` for anything else. Ordinary lengths take one pass; longer ones the strict parser.
pub(crate) fn parse(text: &str) -> Option<Decimal> {
    let bytes = text.as_bytes();
    if bytes.len() > FAST_DIGITS + 1 {
        return parse_plain(text).ok();
    }
    let mut mantissa: i64 = 0;
    let mut digits = 0usize;
    let mut point: Option<usize> = None;
    for &byte in bytes {
        match byte {
            b'0'..=b'9' if digits < FAST_DIGITS => {
                mantissa = mantissa * 10 + i64::from(byte - b'0');
                digits += 1;
            }
            b'.' if point.is_none() && digits > 0 => point = Some(digits),
            _ => return parse_plain(text).ok(),
        }
    }
    let scale = match point {
        Some(at) if at == digits => return None,
        Some(at) => u32::try_from(digits - at).ok()?,
        None if digits == 0 => return None,
        None => 0,
    };
    debug_assert!(scale <= MAX_SCALE);
    Some(Decimal::new(mantissa, scale))
}

/// Reads a positive price.
pub(crate) fn price(text: &str) -> Option<Price> {
    Price::new(parse(text)?).ok()
}

/// Reads a quantity; zero is one.
pub(crate) fn quantity(text: &str) -> Option<Quantity> {
    Quantity::new(parse(text)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_fast_reader_agrees_with_the_strict_one(text in "[0-9]{0,20}(\\.[0-9]{0,20})?|[0-9.+\\-eE]{0,8}") {
            prop_assert_eq!(quantity(&text), Quantity::parse(&text).ok(), "{}", text);
        }
    }
}
