//! MODIFY: less of the same. What comes out is another envelope with another digest, and so another request: nobody has said
//! yes to it yet.

use domain::canonical::NotCanonical;
use domain::ids::{ApprovalId, derive};
use domain::market::Instrument;
use domain::money::{Price, Quantity};
use domain::order::{OrderEnvelope, Side};
use domain::person::Change;
use domain::telegram_button::Less;
use rust_decimal::{Decimal, RoundingStrategy};

/// Why a change can't be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ModifyFault {
    /// It names neither a quantity nor a price, or what is there already.
    #[error("it changes nothing")]
    Nothing,
    /// A larger quantity.
    #[error("the quantity can only become smaller")]
    MoreQuantity,
    /// A price that gives more room.
    #[error("the worst price can only give less room: lower for a buy, higher for a sale")]
    MoreRoom,
    /// Below the venue's minimum, or no multiple of its step or tick.
    #[error("the venue takes no such order: {0}")]
    Venue(&'static str),
    /// The numbers leave the range.
    #[error("the amount is out of range")]
    OutOfRange,
}

/// The envelope with less quantity, or a worst price that gives less room, or both. All else stays, its end too: a change
/// buys no time. Its slippage bound stays as an upper bound, and its slices keep their size: there are fewer of them.
///
/// # Errors
/// [`ModifyFault`]: it never asks for more than was asked.
pub fn modified(envelope: &OrderEnvelope, change: Change) -> Result<OrderEnvelope, ModifyFault> {
    let quantity = change.quantity.unwrap_or(envelope.quantity);
    let worst_price = change.worst_price.unwrap_or(envelope.worst_price);
    if quantity > envelope.quantity || quantity.is_zero() {
        return Err(if quantity.is_zero() { ModifyFault::Venue("no quantity") } else { ModifyFault::MoreQuantity });
    }
    let more_room = match envelope.side {
        Side::Buy => worst_price > envelope.worst_price,
        Side::Sell => worst_price < envelope.worst_price,
    };
    if more_room {
        return Err(ModifyFault::MoreRoom);
    }
    if (quantity, worst_price) == (envelope.quantity, envelope.worst_price) {
        return Err(ModifyFault::Nothing);
    }
    let max_notional_usd = worst_price.notional_up(quantity).map_err(|_| ModifyFault::OutOfRange)?;
    let slicing = envelope.slicing.and_then(|slicing| slicing.of_less(quantity));
    Ok(OrderEnvelope { quantity, worst_price, max_notional_usd, slicing, ..envelope.clone() })
}

/// What the venue would refuse of a modified order. The rails judge it anyway; this answers the person at once.
///
/// # Errors
/// [`ModifyFault::Venue`].
pub fn suits_venue(envelope: &OrderEnvelope, rules: &Instrument) -> Result<(), ModifyFault> {
    let (quantity, price) = (envelope.quantity, envelope.worst_price);
    let notional = price.notional_down(quantity).map_err(|_| ModifyFault::OutOfRange)?;
    let part = envelope.slicing.map_or(quantity, |slicing| slicing.quantity);
    let part_notional = price.notional_down(part).map_err(|_| ModifyFault::OutOfRange)?;
    for (good, fault) in [
        (quantity.floor_to(rules.step) == quantity, "the quantity is no multiple of its step"),
        (quantity.value() >= rules.min_quantity, "the quantity is below its minimum"),
        (price.floor_to(rules.tick) == Some(price), "the price is no multiple of its tick"),
        (notional.value() >= rules.min_notional, "the notional is below its minimum"),
        (part_notional.value() >= rules.min_notional, "the notional of a slice is below its minimum"),
    ] {
        if !good {
            return Err(ModifyFault::Venue(fault));
        }
    }
    Ok(())
}

/// Basis points of a whole.
const WHOLE: u32 = 10_000;

/// The change that a modifying button asks for, of the envelope and the venue's rules alone. Whether it may be made is for
/// [`modified`] and [`suits_venue`] to say.
#[must_use]
pub fn lessened(envelope: &OrderEnvelope, less: Less, rules: &Instrument) -> Option<Change> {
    match less {
        Less::Part(divisor) => part(envelope, divisor, rules.step),
        Less::Closer(basis_points) => closer(envelope, basis_points, rules.tick),
    }
}

/// A part of the quantity, rounded down to the venue's step: what the buttons "half" and "quarter" ask for.
#[must_use]
pub fn part(envelope: &OrderEnvelope, divisor: u32, step: Decimal) -> Option<Change> {
    let value = envelope.quantity.value().checked_div(Decimal::from(divisor))?;
    // More decimals than an amount has are cut off, downwards too.
    let value = value.trunc_with_scale(domain::money::MAX_SCALE);
    Some(Change { quantity: Some(Quantity::new(value).ok()?.floor_to(step)), worst_price: None::<Price> })
}

/// A worst price with less room by so many basis points of it: lower for a buy, higher for a sale, and rounded that way to
/// the venue's tick.
#[must_use]
pub fn closer(envelope: &OrderEnvelope, basis_points: u32, tick: Decimal) -> Option<Change> {
    let (factor, towards) = match envelope.side {
        Side::Buy => (WHOLE.checked_sub(basis_points)?, RoundingStrategy::ToZero),
        Side::Sell => (WHOLE.checked_add(basis_points)?, RoundingStrategy::AwayFromZero),
    };
    let value = envelope.worst_price.value().checked_mul(Decimal::new(i64::from(factor), 4))?;
    let price = Price::new(value.round_dp_with_strategy(domain::money::MAX_SCALE, towards)).ok()?;
    let price = match envelope.side {
        Side::Buy => price.floor_to(tick)?,
        Side::Sell => price.ceil_to(tick)?,
    };
    Some(Change { quantity: None, worst_price: Some(price) })
}

/// The id of the request that takes the place of `old`: a function of both, so that the same change makes the same one.
///
/// # Errors
/// [`NotCanonical`], which no value of this type can cause.
pub fn successor_id(old: ApprovalId, envelope: &OrderEnvelope) -> Result<ApprovalId, NotCanonical> {
    let digest = envelope.digest()?;
    Ok(ApprovalId(derive("swarm.approval.v1", &[old.0.as_bytes(), &digest.0])))
}
