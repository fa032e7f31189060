//! Sums over a book, each at the worse of two prices and each rounded against the order.

use domain::ids::OrderId;
use domain::market::InstrumentId;
use domain::money::{MoneyError, Price, Usd};
use domain::order::Side;
use rust_decimal::{Decimal, RoundingStrategy};

use crate::book::{Reservation, fresh_mark};
use crate::check::Surroundings;

impl<'a> Surroundings<'a> {
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

    /// Sums over everything held, in one walk: several rails ask for them.
    pub(crate) fn held(&self) -> Held<'a> {
        let (mut equity, mut exposure) = (Ok(self.book.cash), Ok(Usd::ZERO));
        for (instrument, position) in &self.book.positions {
            let Some(mark) = self.fresh_mark(instrument) else {
                let unknown = Err(MoneyError::OutOfRange);
                return Held { unmarked: Some(instrument), equity: unknown, exposure: unknown };
            };
            equity = equity.and_then(|sum: Usd| sum.plus(mark.notional_down(position.quantity)?));
            exposure = exposure.and_then(|sum: Usd| sum.plus(mark.notional_up(position.quantity)?));
        }
        Held { unmarked: None, equity, exposure }
    }

    /// What is held of one instrument, at its mark. Without a fresh mark it has no exposure anyone could name: an error,
    /// after the stale-mark rail refused it.
    pub(crate) fn held_of(&self, instrument: &InstrumentId) -> Result<Usd, MoneyError> {
        let Some(position) = self.book.positions.get(instrument) else { return Ok(Usd::ZERO) };
        self.fresh_mark(instrument).ok_or(MoneyError::OutOfRange)?.notional_up(position.quantity)
    }

    /// `sum` and the open buys of the instruments that `counts` names at the worse price, besides `own`.
    pub(crate) fn with_open_buys(
        &self,
        sum: Usd,
        own: OrderId,
        counts: impl Fn(&InstrumentId) -> bool,
    ) -> Result<Usd, MoneyError> {
        self.open_buys(own).filter(|open| counts(&open.instrument)).try_fold(sum, |sum, open| {
            let price = self.worse_for_buyer(&open.instrument, open.worst_price);
            sum.plus(price.notional_up(open.remaining)?)
        })
    }

    /// `notional` and the fee the venue may take of it at worst, rounded up.
    pub(crate) fn with_worst_fee(&self, notional: Usd) -> Result<Usd, MoneyError> {
        notional.plus(percent_of(notional, self.limits.worst_fee_percent, RoundingStrategy::AwayFromZero)?)
    }
}

/// What is held, at fresh marks.
pub(crate) struct Held<'a> {
    /// A held instrument without a fresh mark: then neither sum is known.
    pub unmarked: Option<&'a InstrumentId>,
    /// Cash and every position, each rounded down.
    pub equity: Result<Usd, MoneyError>,
    /// Every position, each rounded up.
    pub exposure: Result<Usd, MoneyError>,
}

/// `percent` of `amount`, rounded to 8 decimals in the named direction.
pub(crate) fn percent_of(amount: Usd, percent: Decimal, direction: RoundingStrategy) -> Result<Usd, MoneyError> {
    let factor = percent.checked_mul(Decimal::new(1, 2)).ok_or(MoneyError::OutOfRange)?;
    amount.times(factor, direction)
}
