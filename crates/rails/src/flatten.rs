//! The price of an exit at kill level 3, when everything that is held is sold.

use domain::money::Price;
use rust_decimal::Decimal;

/// Steps in which exits give way, from a fifth of the price collar to all of it.
pub const STEPS: u32 = 5;

/// The worst price of the exit number `attempt` (from 0) at the last known `mark`: each attempt gives way by another fifth of
/// the collar, and none by more than all of it. Rounded up to the tick, so that rounding sells for no less. `None` when there
/// is no such price.
#[must_use]
pub fn worst_price(mark: Price, collar_percent: Decimal, attempt: u32, tick: Decimal) -> Option<Price> {
    let step = Decimal::from(attempt.saturating_add(1).min(STEPS));
    let gives_way = collar_percent.checked_mul(step)?.checked_div(Decimal::from(STEPS))?;
    let part = Decimal::ONE_HUNDRED.checked_sub(gives_way)?;
    let exact = mark.value().checked_mul(part)?.checked_div(Decimal::ONE_HUNDRED)?;
    let bound = Price::new(exact.round_dp_with_strategy(18, rust_decimal::RoundingStrategy::AwayFromZero)).ok()?;
    bound.ceil_to(tick)
}
