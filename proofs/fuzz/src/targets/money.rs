//! Amounts: what is read, against a second reader written apart, and what is computed, against exact integers.

use std::cmp::Ordering;

use domain::money::{MAX_SCALE, MoneyError, Price, Quantity, Usd, canonical_text, parse_plain};
use domain::order::{Side, slippage_bps};
use rust_decimal::Decimal;

use crate::memory::bounded;

/// Up to three lines, each an amount.
pub fn money(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let lines: Vec<&str> = text.splitn(3, '\n').collect();
    for line in &lines {
        let read = bounded(line.len(), || parse_plain(line));
        assert_eq!(read.map(canonical_text), expected(line), "{line:?}");
        forms(line);
    }
    let amount = |at: usize| lines.get(at).and_then(|line| parse_plain(line).ok());
    let (Some(first), Some(second)) = (amount(0), amount(1)) else { return };
    sums(first, second);
    products(first, second);
    steps(first, second);
    if let Some(third) = amount(2) {
        sums(first, third);
        products(second, third);
    }
}

/// What the rules of `domain::money` say of a text.
fn expected(text: &str) -> Result<String, MoneyError> {
    if text.is_empty() {
        return Err(MoneyError::Empty);
    }
    if text.len() > 64 {
        return Err(MoneyError::TooManyDigits);
    }
    let points = text.matches('.').count();
    let plain = text.chars().all(|c| c.is_ascii_digit() || c == '.');
    if !plain || points > 1 || text.starts_with('.') || text.ends_with('.') {
        return Err(MoneyError::NotPlain);
    }
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let (whole, fraction) = (whole.trim_start_matches('0'), fraction.trim_end_matches('0'));
    let digits = format!("{whole}{fraction}");
    if fraction.len() > 18 || digits.trim_start_matches('0').len() > 28 {
        return Err(MoneyError::TooManyDigits);
    }
    let trillion = "1000000000000";
    let above = match whole.len().cmp(&trillion.len()) {
        Ordering::Less => false,
        Ordering::Greater => true,
        Ordering::Equal => whole > trillion || (whole == trillion && !fraction.is_empty()),
    };
    if above {
        return Err(MoneyError::OutOfRange);
    }
    let whole = if whole.is_empty() { "0" } else { whole };
    Ok(if fraction.is_empty() { whole.to_owned() } else { format!("{whole}.{fraction}") })
}

/// The types read what the text reader reads, and their JSON reads back.
fn forms(text: &str) {
    let plain = parse_plain(text);
    assert_eq!(Usd::parse(text).map(Usd::value), plain);
    assert_eq!(Quantity::parse(text).map(Quantity::value), plain);
    let price = Price::parse(text).map(Price::value);
    match plain {
        Ok(value) if value.is_zero() => assert_eq!(price, Err(MoneyError::NotPositive)),
        other => assert_eq!(price, other),
    }
    let json = serde_json::to_string(text).expect("a text has a JSON form");
    let read: Option<Usd> = serde_json::from_str(&json).ok();
    let signed = text.strip_prefix('-').map_or(plain, |digits| parse_plain(digits).map(|value| -value));
    assert_eq!(read.map(Usd::value), signed.ok(), "{text:?}");
    if let Some(usd) = read {
        let again: Usd = serde_json::from_str(&serde_json::to_string(&usd).expect("has a form")).expect("reads back");
        assert_eq!(again, usd);
    }
    let read: Option<Price> = serde_json::from_str(&json).ok();
    assert_eq!(read.map(Price::value), price.ok());
}

fn sums(first: Decimal, second: Decimal) {
    let (a, b) = (Usd::new(first).expect("in range"), Usd::new(second).expect("in range"));
    if let Ok(sum) = a.plus(b) {
        in_range(sum.value());
        assert_eq!(sum.minus(b), Ok(a), "{a} + {b}");
        assert_eq!(sum.minus(a), Ok(b), "{a} + {b}");
    }
    assert_eq!(a.plus(b), b.plus(a));
    let (a, b) = (Quantity::new(first).expect("in range"), Quantity::new(second).expect("in range"));
    match a.minus(b) {
        Ok(rest) => assert!(first >= second && rest <= a),
        Err(MoneyError::Negative) => assert!(first < second, "{a} - {b}"),
        Err(fault) => assert_eq!(fault, MoneyError::OutOfRange, "{a} - {b}"),
    }
}

fn products(first: Decimal, second: Decimal) {
    let (Ok(price), quantity) = (Price::new(first), Quantity::new(second).expect("in range")) else { return };
    match (price.notional_up(quantity), price.notional_down(quantity)) {
        (Ok(up), Ok(down)) => {
            in_range(up.value());
            assert_ne!(compare(first, second, down.value()), Ordering::Less, "{price} * {quantity} brings {down}");
            assert_ne!(compare(first, second, up.value()), Ordering::Greater, "{price} * {quantity} costs {up}");
        }
        (up, down) => assert!(up.is_err(), "{up:?} {down:?}"),
    }
    if let Ok(amount) = Usd::new(second)
        && let Ok(bought) = Quantity::affordable(amount, price)
    {
        assert_ne!(compare(bought.value(), first, second), Ordering::Greater, "{bought} at {price} for {amount}");
    }
    if let Ok(mark) = Price::new(second) {
        let (buy, sell) = (slippage_bps(Side::Buy, price, mark), slippage_bps(Side::Sell, price, mark));
        assert!(buy == 0 || sell == 0, "worse both ways");
        assert_eq!(buy > 0, price > mark);
        assert_eq!(sell > 0, price < mark);
    }
}

fn steps(value: Decimal, step: Decimal) {
    let quantity = Quantity::new(value).expect("in range");
    let floored = quantity.floor_to(step);
    assert!(floored <= quantity, "{quantity} grew to {floored}");
    let Ok(price) = Price::new(value) else { return };
    if let Some(below) = price.floor_to(step) {
        assert!(below <= price);
    }
    if let Some(above) = price.ceil_to(step) {
        assert!(above >= price, "{price} up to {above} by {step}");
    }
}

fn in_range(value: Decimal) {
    assert!(value.abs() <= Decimal::from(domain::money::MAX_MAGNITUDE) && value.scale() <= MAX_SCALE, "{value}");
}

/// `a * b` against `c`, exactly.
fn compare(a: Decimal, b: Decimal, c: Decimal) -> Ordering {
    let mantissa = |value: Decimal| value.mantissa().unsigned_abs();
    let (scale, of_c) = (a.scale() + b.scale(), c.scale());
    let product = wide(mantissa(a), mantissa(b));
    // Both sides in units of 10^-max(scale, of_c).
    let left = times_ten(product, of_c.saturating_sub(scale));
    let right = times_ten((0, mantissa(c)), scale.saturating_sub(of_c));
    left.cmp(&right)
}

/// 128 times 128 bits.
fn wide(a: u128, b: u128) -> (u128, u128) {
    let low = |value: u128| value & u128::from(u64::MAX);
    let (a1, a0, b1, b0) = (a >> 64, low(a), b >> 64, low(b));
    let bottom = a0 * b0;
    let middle = a1 * b0 + (bottom >> 64);
    let other = a0 * b1 + low(middle);
    (a1 * b1 + (middle >> 64) + (other >> 64), (other << 64) | low(bottom))
}

fn times_ten(value: (u128, u128), times: u32) -> (u128, u128) {
    (0..times).fold(value, |(high, low), _| {
        let (carry, low) = wide(low, 10);
        (high * 10 + carry, low)
    })
}
