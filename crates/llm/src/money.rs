//! What tokens cost, in whole millionths of a dollar, always rounded up: a budget is never passed by a fraction.

use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive;

use crate::answer::Usage;

/// Price of tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Price {
    /// Of a million tokens of the prompt, dollars.
    pub input: Decimal,
    /// Of a million tokens of the answer, dollars.
    pub output: Decimal,
}

impl Price {
    /// What so many tokens cost, millionths of a dollar, rounded up. A dollar for a million tokens is a millionth of a
    /// dollar a token, so the price is the factor.
    #[must_use]
    pub fn micros(&self, prompt_tokens: u64, completion_tokens: u64) -> u64 {
        if self.is_free() {
            return 0;
        }
        let input = self.input.checked_mul(Decimal::from(prompt_tokens));
        let output = self.output.checked_mul(Decimal::from(completion_tokens));
        let sum = input.zip(output).and_then(|(input, output)| input.checked_add(output));
        sum.and_then(|sum| sum.ceil().to_u64()).unwrap_or(u64::MAX)
    }

    /// What was used.
    #[must_use]
    pub fn of(&self, usage: Usage) -> u64 {
        self.micros(usage.prompt_tokens, usage.completion_tokens)
    }

    /// Costs nothing.
    #[must_use]
    pub fn is_free(&self) -> bool {
        self.input.is_zero() && self.output.is_zero()
    }
}

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

    fn price(input: &str, output: &str) -> Price {
        Price { input: input.parse().unwrap(), output: output.parse().unwrap() }
    }

    #[test]
    fn cost_is_rounded_up_and_limits_down() {
        assert_eq!(price("0.05", "0.08").micros(1, 0), 1);
        assert_eq!(price("0.05", "0.08").micros(1_000_000, 1_000_000), 130_000);
        assert_eq!(price("3", "15").micros(1_000, 100), 4_500);
        assert_eq!(price("0", "0").micros(u64::MAX, u64::MAX), 0);
        assert_eq!(price("1000", "1000").micros(u64::MAX, u64::MAX), u64::MAX);
        assert_eq!(micros_of_usd("0.0000019".parse().unwrap()), 1);
        assert_eq!(usd_text(4_500), "0.004500");
    }
}
