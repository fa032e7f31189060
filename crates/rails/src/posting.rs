//! The arithmetic of one fill: pure functions from what is held to what is held afterwards.

use domain::money::{MoneyError, Quantity, USD_DECIMALS, Usd};
use domain::order::Fill;
use rust_decimal::{Decimal, RoundingStrategy};

use crate::book::{BreakerRule, ClosedTrade, LedgerError, Position};

/// Cash and position after a fill.
pub(crate) struct Turn {
    /// Cash now.
    pub cash: Usd,
    /// The position now; of zero quantity when the trade is over.
    pub position: Position,
    /// Realised by this fill.
    pub realised: Usd,
}

/// A buy: cash pays price x quantity, rounded up, and the fee; the position costs the same.
pub(crate) fn buy(cash: Usd, held: Option<Position>, fill: &Fill) -> Result<Turn, LedgerError> {
    let paid = fill.price.notional_up(fill.quantity)?.plus(fill.fee)?;
    let before = held.unwrap_or(Position {
        quantity: Quantity::ZERO,
        cost: Usd::ZERO,
        trade_cost: Usd::ZERO,
        trade_realised: Usd::ZERO,
        opened_at: fill.at,
    });
    let position = Position {
        quantity: before.quantity.plus(fill.quantity)?,
        cost: before.cost.plus(paid)?,
        trade_cost: before.trade_cost.plus(paid)?,
        ..before
    };
    Ok(Turn { cash: cash.minus(paid)?, position, realised: Usd::ZERO })
}

/// A sale: cash gets price x quantity, rounded down, less the fee; the cost of what was sold leaves the position.
pub(crate) fn sell(cash: Usd, held: Option<Position>, fill: &Fill) -> Result<Turn, LedgerError> {
    let before = held.filter(|position| position.quantity >= fill.quantity).ok_or(LedgerError::Oversold)?;
    let received = fill.price.notional_down(fill.quantity)?.minus(fill.fee)?;
    let sold_cost = cost_of_part(before.cost, fill.quantity, before.quantity)?;
    let realised = received.minus(sold_cost)?;
    let position = Position {
        quantity: before.quantity.minus(fill.quantity)?,
        cost: before.cost.minus(sold_cost)?,
        trade_realised: before.trade_realised.plus(realised)?,
        ..before
    };
    Ok(Turn { cash: cash.plus(received)?, position, realised })
}

/// The cost of `part` out of `whole`, rounded towards zero to 8 decimals; all of it for the whole.
fn cost_of_part(cost: Usd, part: Quantity, whole: Quantity) -> Result<Usd, MoneyError> {
    if part == whole {
        return Ok(cost);
    }
    let scaled = cost.value().checked_mul(part.value()).ok_or(MoneyError::OutOfRange)?;
    let exact = scaled.checked_div(whole.value()).ok_or(MoneyError::OutOfRange)?;
    Usd::new(exact.round_dp_with_strategy(USD_DECIMALS, RoundingStrategy::ToZero))
}

/// The trade that ended with `fill`. Its loss counts when it is over the breaker's part of what the trade cost.
pub(crate) fn close(over: &Position, fill: &Fill, rule: BreakerRule) -> Result<ClosedTrade, LedgerError> {
    let loss = -over.trade_realised.value();
    let scaled_loss = loss.checked_mul(Decimal::ONE_HUNDRED).ok_or(MoneyError::OutOfRange)?;
    let allowed = over.trade_cost.value().checked_mul(rule.loss_percent).ok_or(MoneyError::OutOfRange)?;
    Ok(ClosedTrade {
        instrument: fill.instrument.clone(),
        cost: over.trade_cost,
        realised: over.trade_realised,
        counted_as_loss: scaled_loss > allowed,
    })
}
