//! Money as exact decimals.
//!
//! | operation | result | rounding |
//! |---|---|---|
//! | `Usd + Usd`, `Usd - Usd` | `Usd` | none; a sum that no 28 digits hold is an error |
//! | `Price.notional_up(Quantity)` | `Usd` | to 8 decimals, away from zero: what an order may cost at worst |
//! | `Price.notional_down(Quantity)` | `Usd` | to 8 decimals, towards zero: what a sale brings at least |
//! | `Quantity.floor_to(step)` | `Quantity` | down to a multiple of the step: an order never grows |
//! | `Price.floor_to(tick)`, `Price.ceil_to(tick)` | `Price` | as named |
//!
//! Amounts are in US dollars (the quote asset of a paper account is taken as dollars); quantities are in units of the
//! base asset, never in atomic units. At most 28 significant digits and 18 decimals, so that every amount fits the
//! ledger's `NUMERIC(38,18)`.

mod exact;

use std::cmp::Ordering;
use std::fmt;

use rust_decimal::{Decimal, RoundingStrategy};
use serde::{Deserialize, Serialize};

/// Decimals kept in a dollar amount that was computed by a multiplication or a division.
pub const USD_DECIMALS: u32 = 8;
/// Decimals the ledger can hold.
pub const MAX_SCALE: u32 = 18;
/// Largest magnitude accepted at any door: one trillion.
pub const MAX_MAGNITUDE: i64 = 1_000_000_000_000;

/// Why a text is not an amount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MoneyError {
    /// The text is empty.
    #[error("empty amount")]
    Empty,
    /// A character other than a digit or one point.
    #[error("not a plain decimal: digits and at most one point, no sign, no exponent")]
    NotPlain,
    /// More than 28 significant digits or more than 18 decimals.
    #[error("too many digits")]
    TooManyDigits,
    /// Larger than one trillion, or a computation left the range.
    #[error("amount out of range")]
    OutOfRange,
    /// Zero where only positive makes sense.
    #[error("amount must be positive")]
    NotPositive,
    /// Negative where that makes no sense.
    #[error("amount must not be negative")]
    Negative,
}

/// Parses a wire decimal strictly: digits with at most one point, no sign, no exponent, at most 28 significant digits.
///
/// # Errors
/// See [`MoneyError`].
pub fn parse_plain(text: &str) -> Result<Decimal, MoneyError> {
    if text.is_empty() {
        return Err(MoneyError::Empty);
    }
    if text.len() > 64 {
        return Err(MoneyError::TooManyDigits);
    }
    let mut point = None;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'0'..=b'9' => {}
            b'.' if point.is_none() => point = Some(at),
            _ => return Err(MoneyError::NotPlain),
        }
    }
    let (whole, fraction) = match point {
        Some(at) => (&text[..at], &text[at + 1..]),
        None => (text, ""),
    };
    if whole.is_empty() || (point.is_some() && fraction.is_empty()) {
        return Err(MoneyError::NotPlain);
    }
    let fraction = fraction.trim_end_matches('0');
    if fraction.len() > MAX_SCALE as usize {
        return Err(MoneyError::TooManyDigits);
    }
    let whole = whole.trim_start_matches('0');
    let significant =
        if whole.is_empty() { fraction.trim_start_matches('0').len() } else { whole.len() + fraction.len() };
    if significant > 28 {
        return Err(MoneyError::TooManyDigits);
    }
    let whole = if whole.is_empty() { "0" } else { whole };
    let canonical = if fraction.is_empty() { whole.to_owned() } else { format!("{whole}.{fraction}") };
    let value = Decimal::from_str_exact(&canonical).map_err(|_| MoneyError::TooManyDigits)?;
    bounded(value.normalize())
}

fn bounded(value: Decimal) -> Result<Decimal, MoneyError> {
    // With 17 decimals or more, 96 bits hold nothing larger.
    let is_bounded = value.scale() >= 17
        || value.mantissa().unsigned_abs()
            <= u128::from(MAX_MAGNITUDE.unsigned_abs()) * u128::from(10_u64.pow(value.scale()));
    if is_bounded { Ok(value) } else { Err(MoneyError::OutOfRange) }
}

/// The order of decimals. Most that meet have one scale (an exchange writes all prices of an instrument alike) and compare
/// as integers.
#[inline]
fn compare(one: Decimal, other: Decimal) -> Ordering {
    if one.scale() == other.scale() { one.mantissa().cmp(&other.mantissa()) } else { one.cmp(&other) }
}

/// Canonical decimal text: no exponent, no trailing zeros, `0` for zero.
#[must_use]
pub fn canonical_text(value: Decimal) -> String {
    let normal = value.normalize();
    if normal.is_zero() { "0".to_owned() } else { normal.to_string() }
}

macro_rules! amount {
    ($(#[$meta:meta])* $name:ident) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash)]
        pub struct $name(Decimal);

        impl Ord for $name {
            #[inline]
            fn cmp(&self, other: &Self) -> Ordering {
                compare(self.0, other.0)
            }
        }

        impl PartialOrd for $name {
            #[inline]
            fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
                Some(self.cmp(other))
            }
        }

        impl $name {
            /// The plain decimal.
            #[must_use]
            pub const fn value(self) -> Decimal {
                self.0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), canonical_text(self.0))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&canonical_text(self.0))
            }
        }

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&canonical_text(self.0))
            }
        }
    };
}

amount! {
    /// A signed dollar amount.
    Usd
}
amount! {
    /// A positive price in dollars per unit of the base asset.
    Price
}
amount! {
    /// A non-negative quantity in units of the base asset.
    Quantity
}

impl<'de> Deserialize<'de> for Usd {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let (negative, digits) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.as_str()),
        };
        let value = parse_plain(digits).map_err(serde::de::Error::custom)?;
        Ok(Self(if negative { -value } else { value }))
    }
}

impl<'de> Deserialize<'de> for Price {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

impl Usd {
    /// No money.
    pub const ZERO: Self = Self(Decimal::ZERO);

    /// Wraps a decimal.
    ///
    /// # Errors
    /// [`MoneyError::OutOfRange`] beyond one trillion.
    pub fn new(value: Decimal) -> Result<Self, MoneyError> {
        bounded(value).map(Self)
    }

    /// Whole dollars, for tables and tests.
    #[must_use]
    pub fn dollars(value: i32) -> Self {
        Self(Decimal::from(value))
    }

    /// Parses a non-negative plain decimal.
    ///
    /// # Errors
    /// See [`MoneyError`].
    pub fn parse(text: &str) -> Result<Self, MoneyError> {
        parse_plain(text).map(Self)
    }

    /// Sum.
    ///
    /// # Errors
    /// [`MoneyError::OutOfRange`].
    pub fn plus(self, other: Self) -> Result<Self, MoneyError> {
        exact_sum(self.0, other.0).and_then(Self::new)
    }

    /// Difference.
    ///
    /// # Errors
    /// [`MoneyError::OutOfRange`].
    pub fn minus(self, other: Self) -> Result<Self, MoneyError> {
        exact_sum(self.0, -other.0).and_then(Self::new)
    }

    /// This amount times `factor`, rounded to 8 decimals in the named direction.
    ///
    /// # Errors
    /// [`MoneyError::OutOfRange`].
    pub fn times(self, factor: Decimal, direction: RoundingStrategy) -> Result<Self, MoneyError> {
        let product = self.0.checked_mul(factor).ok_or(MoneyError::OutOfRange)?;
        let rounded = product.round_dp_with_strategy(USD_DECIMALS, direction);
        if product.scale() == self.0.scale() + factor.scale() {
            return Self::new(rounded);
        }
        // More digits than a decimal holds: the product was rounded to nearest before, and may lie on the wrong side.
        let negative = self.0.is_sign_negative() != factor.is_sign_negative();
        let mut unit = Decimal::new(1, USD_DECIMALS);
        unit.set_sign_negative(negative);
        let (shrinks, grows) = match direction {
            RoundingStrategy::ToZero => (true, false),
            RoundingStrategy::AwayFromZero => (false, true),
            RoundingStrategy::ToNegativeInfinity => (!negative, negative),
            RoundingStrategy::ToPositiveInfinity => (negative, !negative),
            _ => (false, false),
        };
        let corrected = match exact::compare_product(self.0, factor, rounded) {
            Ordering::Less if shrinks => rounded.checked_sub(unit),
            Ordering::Greater if grows => rounded.checked_add(unit),
            _ => Some(rounded),
        };
        Self::new(corrected.ok_or(MoneyError::OutOfRange)?)
    }

    /// Below zero.
    #[must_use]
    pub fn is_negative(self) -> bool {
        self.0 < Decimal::ZERO
    }

    /// Above zero.
    #[must_use]
    pub fn is_positive(self) -> bool {
        self.0 > Decimal::ZERO
    }
}

impl Price {
    /// Wraps a positive decimal.
    ///
    /// # Errors
    /// [`MoneyError::NotPositive`], [`MoneyError::OutOfRange`].
    pub fn new(value: Decimal) -> Result<Self, MoneyError> {
        if value.is_zero() || value.is_sign_negative() {
            return Err(MoneyError::NotPositive);
        }
        bounded(value).map(Self)
    }

    /// Parses a positive plain decimal.
    ///
    /// # Errors
    /// See [`MoneyError`].
    pub fn parse(text: &str) -> Result<Self, MoneyError> {
        Self::new(parse_plain(text)?)
    }

    /// What `quantity` costs at this price, rounded away from zero to 8 decimals.
    ///
    /// # Errors
    /// [`MoneyError::OutOfRange`].
    pub fn notional_up(self, quantity: Quantity) -> Result<Usd, MoneyError> {
        Usd(self.0).times(quantity.0, RoundingStrategy::AwayFromZero)
    }

    /// What `quantity` brings at this price, rounded towards zero to 8 decimals.
    ///
    /// # Errors
    /// [`MoneyError::OutOfRange`].
    pub fn notional_down(self, quantity: Quantity) -> Result<Usd, MoneyError> {
        Usd(self.0).times(quantity.0, RoundingStrategy::ToZero)
    }

    /// The largest multiple of `tick` not above this price; `None` when that is zero. A zero tick leaves the price.
    #[must_use]
    pub fn floor_to(self, tick: Decimal) -> Option<Self> {
        Self::new(floor_multiple(self.0, tick)?).ok()
    }

    /// The smallest multiple of `tick` not below this price. A zero tick leaves the price.
    #[must_use]
    pub fn ceil_to(self, tick: Decimal) -> Option<Self> {
        let floored = floor_multiple(self.0, tick)?;
        let value = if floored == self.0 { floored } else { floored.checked_add(tick)? };
        Self::new(value).ok()
    }
}

impl Quantity {
    /// None at all.
    pub const ZERO: Self = Self(Decimal::ZERO);

    /// Wraps a non-negative decimal.
    ///
    /// # Errors
    /// [`MoneyError::Negative`], [`MoneyError::OutOfRange`].
    pub fn new(value: Decimal) -> Result<Self, MoneyError> {
        if value.is_sign_negative() && !value.is_zero() {
            return Err(MoneyError::Negative);
        }
        bounded(value).map(Self)
    }

    /// Parses a non-negative plain decimal.
    ///
    /// # Errors
    /// See [`MoneyError`].
    pub fn parse(text: &str) -> Result<Self, MoneyError> {
        parse_plain(text).map(Self)
    }

    /// Sum.
    ///
    /// # Errors
    /// [`MoneyError::OutOfRange`].
    pub fn plus(self, other: Self) -> Result<Self, MoneyError> {
        exact_sum(self.0, other.0).and_then(Self::new)
    }

    /// Difference.
    ///
    /// # Errors
    /// [`MoneyError::Negative`] when `other` is larger.
    pub fn minus(self, other: Self) -> Result<Self, MoneyError> {
        exact_sum(self.0, -other.0).and_then(Self::new)
    }

    /// The largest multiple of `step` not above this quantity. A zero step leaves the quantity.
    #[must_use]
    pub fn floor_to(self, step: Decimal) -> Self {
        floor_multiple(self.0, step).map_or(Self::ZERO, Self)
    }

    /// How much of the base asset `amount` buys at `price` at most: rounded down to 18 decimals.
    ///
    /// # Errors
    /// [`MoneyError::OutOfRange`], [`MoneyError::Negative`].
    pub fn affordable(amount: Usd, price: Price) -> Result<Self, MoneyError> {
        let raw = amount.0.checked_div(price.0).ok_or(MoneyError::OutOfRange)?;
        let cut = raw.round_dp_with_strategy(MAX_SCALE, RoundingStrategy::ToZero);
        // A 28-digit division rounds to nearest; step back when that bought more than the amount pays for.
        let paid_for = amount.is_negative() || exact::compare_product(cut, price.0, amount.0) != Ordering::Greater;
        Self::new(if paid_for { cut } else { cut - Decimal::new(1, cut.scale()) })
    }

    /// No quantity.
    #[must_use]
    pub fn is_zero(self) -> bool {
        self.0.is_zero()
    }
}

/// The sum, when 28 digits hold it: an addition rounds in silence otherwise.
fn exact_sum(first: Decimal, second: Decimal) -> Result<Decimal, MoneyError> {
    let sum = first.checked_add(second).ok_or(MoneyError::OutOfRange)?;
    if sum.scale() < first.scale().max(second.scale()) && !first.is_zero() && !second.is_zero() {
        return Err(MoneyError::OutOfRange);
    }
    Ok(sum)
}

fn floor_multiple(value: Decimal, unit: Decimal) -> Option<Decimal> {
    if unit.is_zero() {
        return Some(value);
    }
    let rest = value.checked_rem(unit)?;
    value.checked_sub(rest).map(|v| v.normalize())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decimal() -> impl Strategy<Value = Decimal> {
        let scale = prop_oneof![0..=28_u32, 7..=9_u32, 15..=18_u32];
        let mantissa =
            prop_oneof![-(1_i128 << 95)..1_i128 << 95, -2_000_i128..2_000, -20_i128.pow(12)..20_i128.pow(12)];
        let near = (0..=16_u32, -2_i128..=2, any::<bool>()).prop_map(|(scale, off, is_negative)| {
            let limit = Decimal::from_i128_with_scale(i128::from(MAX_MAGNITUDE) * 10_i128.pow(scale) + off, scale);
            if is_negative { -limit } else { limit }
        });
        prop_oneof![4 => (mantissa, scale).prop_map(|(m, s)| Decimal::from_i128_with_scale(m, s)), 1 => near]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_000))]

        #[test]
        fn amounts_are_ordered_as_their_decimals(one in decimal(), other in decimal()) {
            prop_assert_eq!(compare(one, other), one.cmp(&other), "{} {}", one, other);
        }

        #[test]
        fn bounds_and_signs_are_those_of_the_decimals(value in decimal()) {
            let limit = Decimal::from(MAX_MAGNITUDE);
            prop_assert_eq!(Usd::new(value).is_ok(), value.abs() <= limit, "{}", value);
            prop_assert_eq!(Price::new(value).is_ok(), value > Decimal::ZERO && value <= limit, "{}", value);
            prop_assert_eq!(Quantity::new(value).is_ok(), value >= Decimal::ZERO && value <= limit, "{}", value);
        }
    }

    #[test]
    fn only_plain_decimals_pass() {
        for (text, want) in [
            ("1", Ok("1")),
            ("0001.50", Ok("1.5")),
            ("0.000000000000000001", Ok("0.000000000000000001")),
            ("", Err(MoneyError::Empty)),
            (".5", Err(MoneyError::NotPlain)),
            ("5.", Err(MoneyError::NotPlain)),
            ("-1", Err(MoneyError::NotPlain)),
            ("+1", Err(MoneyError::NotPlain)),
            ("1e3", Err(MoneyError::NotPlain)),
            ("NaN", Err(MoneyError::NotPlain)),
            ("1.2.3", Err(MoneyError::NotPlain)),
            ("１", Err(MoneyError::NotPlain)),
            ("1000000000000.1", Err(MoneyError::OutOfRange)),
            ("9177777777777777779999999999", Err(MoneyError::OutOfRange)),
            ("0.0000000000000000001", Err(MoneyError::TooManyDigits)),
            ("12345678901234567890123456789", Err(MoneyError::TooManyDigits)),
        ] {
            assert_eq!(parse_plain(text).map(canonical_text), want.map(str::to_owned), "{text}");
        }
    }

    #[test]
    fn an_affordable_quantity_never_costs_more_than_the_amount() {
        for (amount, price) in [
            ("600", "61001.01"),
            ("1", "3"),
            ("10000", "0.00000007"),
            ("999.99", "7777.7777"),
            ("999999999999.9999999999999999", "3"),
        ] {
            let amount = Usd::parse(amount).unwrap();
            let price = Price::parse(price).unwrap();
            let quantity = Quantity::affordable(amount, price).unwrap();
            let cost = exact::compare_product(quantity.value(), price.value(), amount.value());
            assert_ne!(cost, Ordering::Greater, "{amount} at {price}");
        }
    }

    #[test]
    fn rounding_is_right_to_the_last_digit_where_no_decimal_holds_the_product() {
        for (price, quantity, down, up) in [
            // 0.0000009999999999999999999, rounded to nearest 0.000001.
            ("0.000000000000000001", "999999999999.9999999999999999", "0.00000099", "0.000001"),
            ("0.000000000000000001", "0.000000000000000001", "0", "0.00000001"),
            ("999999999999.9999999999999999", "0.9", "899999999999.99999999", "900000000000"),
        ] {
            let (price, quantity) = (Price::parse(price).unwrap(), Quantity::parse(quantity).unwrap());
            assert_eq!(price.notional_down(quantity).unwrap().to_string(), down);
            assert_eq!(price.notional_up(quantity).unwrap().to_string(), up);
        }
    }

    #[test]
    fn a_sum_is_exact_or_an_error() {
        let (large, small) = (Usd::parse("100000000000").unwrap(), Usd::parse("0.000000000000000001").unwrap());
        assert_eq!(large.plus(small), Err(MoneyError::OutOfRange));
        assert_eq!(large.minus(small), Err(MoneyError::OutOfRange));
        assert_eq!(large.plus(Usd::ZERO), Ok(large));
        assert_eq!(large.minus(large), Ok(Usd::ZERO));
        assert_eq!(small.plus(Usd::dollars(1)).unwrap().to_string(), "1.000000000000000001");
    }

    #[test]
    fn rounding_goes_where_its_name_says() {
        let price = Price::parse("0.123456789").unwrap();
        let one = Quantity::parse("1").unwrap();
        assert_eq!(price.notional_up(one).unwrap().to_string(), "0.12345679");
        assert_eq!(price.notional_down(one).unwrap().to_string(), "0.12345678");
        let tick = Decimal::new(1, 2);
        assert_eq!(price.floor_to(tick).unwrap().to_string(), "0.12");
        assert_eq!(price.ceil_to(tick).unwrap().to_string(), "0.13");
        assert_eq!(Quantity::parse("5.3243423").unwrap().floor_to(tick).to_string(), "5.32");
    }
}
