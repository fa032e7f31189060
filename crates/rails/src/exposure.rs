//! Sums over a book, each at the worse of two prices and each rounded against the order.

use domain::ids::OrderId;
use domain::market::InstrumentId;
use domain::money::{MoneyError, Price, Usd};
use domain::order::Side;
use rust_decimal::{Decimal, RoundingStrategy};

use crate::book::{Reservation, fresh_mark};
use crate::check::Surroundings;

impl Surroundings<'_> {
    /// The mark of an instrument when it is fresh.
    pub(crate) fn fresh_mark(&self, instrument: &InstrumentId) -> Option<Price> {
        fresh_mark(self.marks, instrument, self.now, self.limits.mark_max_age_ms)
    }

    /// The worse price for a buyer: the limit, or the mark when that is fresh and higher.
    pub(crate) fn worse_for_buyer(&self, instrument: &InstrumentId, limit: Price) -> Price {
        self.fresh_mark(instrument).map_or(limit, |mark| mark.max(limit))
    }

    /// Open buys, besides those of `own`.
    pub(crate) fn open_buys(&self, own: OrderId) -> impl Iterator<Item = &Reservation> {
        self.book.reservations.values().filter(move |r| r.side == Side::Buy && r.order_id != own)
    }

    /// Held at the mark plus open buys at the worse price, over the instruments that `counts` names, besides `own`. A held
    /// instrument without a fresh mark has no exposure anyone could name: an error, after the stale-mark rail refused it.
    pub(crate) fn exposure(&self, own: OrderId, counts: impl Fn(&InstrumentId) -> bool) -> Result<Usd, MoneyError> {
        let mut sum = Usd::ZERO;
        for (instrument, position) in self.book.positions.iter().filter(|(instrument, _)| counts(instrument)) {
            let mark = self.fresh_mark(instrument).ok_or(MoneyError::OutOfRange)?;
            sum = sum.plus(mark.notional_up(position.quantity)?)?;
        }
        for open in self.open_buys(own).filter(|open| counts(&open.instrument)) {
            let price = self.worse_for_buyer(&open.instrument, open.worst_price);
            sum = sum.plus(price.notional_up(open.remaining)?)?;
        }
        Ok(sum)
    }

    /// `notional` and the fee the venue may take of it at worst, rounded up.
    pub(crate) fn with_worst_fee(&self, notional: Usd) -> Result<Usd, MoneyError> {
        notional.plus(percent_of(notional, self.limits.worst_fee_percent, RoundingStrategy::AwayFromZero)?)
    }
}

/// `percent` of `amount`, rounded to 8 decimals in the named direction.
pub(crate) fn percent_of(amount: Usd, percent: Decimal, direction: RoundingStrategy) -> Result<Usd, MoneyError> {
    let factor = percent.checked_mul(Decimal::new(1, 2)).ok_or(MoneyError::OutOfRange)?;
    amount.times(factor, direction)
}
