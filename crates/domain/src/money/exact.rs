//! Comparison of a product in 256 bits: a decimal holds 96, and rounds what does not fit.

use std::cmp::Ordering;

use rust_decimal::Decimal;

/// 256 bits, the high half first.
type Wide = (u128, u128);

/// `|first * second|` against `|value|`, exactly.
pub(super) fn compare_product(first: Decimal, second: Decimal, value: Decimal) -> Ordering {
    let mantissa = |decimal: Decimal| decimal.mantissa().unsigned_abs();
    let (scale, of_value) = (first.scale() + second.scale(), value.scale());
    let product = multiply(mantissa(first), mantissa(second));
    let product = times_ten(product, of_value.saturating_sub(scale));
    let value = times_ten((0, mantissa(value)), scale.saturating_sub(of_value));
    match (product, value) {
        (Some(product), Some(value)) => product.cmp(&value),
        // At most one of the two was multiplied; what left 256 bits is the larger one.
        (None, _) => Ordering::Greater,
        (_, None) => Ordering::Less,
    }
}

/// 128 bits times 128 bits.
const fn multiply(a: u128, b: u128) -> Wide {
    const LOW: u128 = u64::MAX as u128;
    let (a_high, a_low, b_high, b_low) = (a >> 64, a & LOW, b >> 64, b & LOW);
    let bottom = a_low * b_low;
    let middle = a_high * b_low + (bottom >> 64);
    let other = a_low * b_high + (middle & LOW);
    (a_high * b_high + (middle >> 64) + (other >> 64), (other << 64) | (bottom & LOW))
}

/// `None` beyond 256 bits.
fn times_ten(value: Wide, times: u32) -> Option<Wide> {
    (0..times).try_fold(value, |(high, low), _| {
        let (carry, low) = multiply(low, 10);
        Some((high.checked_mul(10)?.checked_add(carry)?, low))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_are_compared_beyond_28_digits() {
        let decimal = |text: &str| Decimal::from_str_exact(text).unwrap();
        for (first, second, value, want) in [
            ("2", "3", "6", Ordering::Equal),
            ("-2", "3", "6", Ordering::Equal),
            ("0.000000000000000001", "999999999999.9999999999999999", "0.000001", Ordering::Less),
            ("1.000000000000000001", "1.000000000000000001", "1.000000000000000002", Ordering::Greater),
            ("79228162514264337593543950335", "79228162514264337593543950335", "1", Ordering::Greater),
            (
                "0.0000000000000000000000000001",
                "0.0000000000000000000000000001",
                "79228162514264337593543950335",
                Ordering::Less,
            ),
        ] {
            assert_eq!(compare_product(decimal(first), decimal(second), decimal(value)), want, "{first} {second}");
        }
    }
}
