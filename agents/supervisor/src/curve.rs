//! The equity of an account over time, as a curve for people: worked out backwards from what is held now, through the fills
//! that led there, each instrument at the price it traded at last. Only for looking: money is judged by the book.

use std::collections::BTreeMap;

use domain::market::InstrumentId;
use domain::order::{Fill, Side};
use domain::time::UnixMs;
use rails::book::{Book, Marks};
use rust_decimal::Decimal;

/// Equity at a moment, dollars.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Point {
    /// When.
    pub at: UnixMs,
    /// What all was worth.
    pub equity: Decimal,
}

/// A point before the first fill, one after each, and one now. `fills` are all that led to the book, newest first, or the newest
/// of them. `None` when the numbers leave the range.
#[must_use]
pub fn points(book: &Book, fills: &[Fill], marks: &Marks, opened: Option<UnixMs>, now: UnixMs) -> Option<Vec<Point>> {
    let mut cash = book.cash.value();
    let mut held: BTreeMap<&InstrumentId, Decimal> =
        book.positions.iter().map(|(id, position)| (id, position.quantity.value())).collect();
    for fill in fills {
        let (sign, spent) = turn(fill)?;
        cash = cash.checked_add(spent)?.checked_add(fill.fee.value())?;
        let before = held.entry(&fill.instrument).or_default();
        *before = before.checked_sub(sign.checked_mul(fill.quantity.value())?)?;
    }
    // What was never traded in this stretch is valued at the mark of now: no older price of it is known.
    let mut prices: BTreeMap<&InstrumentId, Decimal> =
        marks.iter().map(|(id, mark)| (id, mark.price.value())).collect();
    for fill in fills {
        prices.insert(&fill.instrument, fill.price.value());
    }
    let mut out = Vec::with_capacity(fills.len() + 2);
    let first = fills.last().map_or(now, |fill| fill.at);
    out.push(Point { at: opened.map_or(first, |at| at.min(first)), equity: worth(cash, &held, &prices)? });
    for fill in fills.iter().rev() {
        let (sign, spent) = turn(fill)?;
        cash = cash.checked_sub(spent)?.checked_sub(fill.fee.value())?;
        let after = held.entry(&fill.instrument).or_default();
        *after = after.checked_add(sign.checked_mul(fill.quantity.value())?)?;
        prices.insert(&fill.instrument, fill.price.value());
        out.push(Point { at: fill.at, equity: worth(cash, &held, &prices)? });
    }
    prices.extend(marks.iter().map(|(id, mark)| (id, mark.price.value())));
    out.push(Point { at: now, equity: worth(cash, &held, &prices)? });
    Some(out)
}

/// Direction, and what it cost without the fee.
fn turn(fill: &Fill) -> Option<(Decimal, Decimal)> {
    let sign = match fill.side {
        Side::Buy => Decimal::ONE,
        Side::Sell => Decimal::NEGATIVE_ONE,
    };
    let spent = fill.price.value().checked_mul(fill.quantity.value())?.checked_mul(sign)?;
    Some((sign, spent))
}

fn worth(
    cash: Decimal,
    held: &BTreeMap<&InstrumentId, Decimal>,
    prices: &BTreeMap<&InstrumentId, Decimal>,
) -> Option<Decimal> {
    held.iter()
        .filter(|(_, quantity)| !quantity.is_zero())
        .try_fold(cash, |sum, (id, quantity)| sum.checked_add(quantity.checked_mul(*prices.get(id)?)?))
}
