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

#[cfg(test)]
mod tests {
    use domain::ids::{OrderId, UserId};
    use domain::market::{Mark, Symbol, Venue};
    use domain::money::{Price, Quantity, Usd};
    use rails::book::{Breaker, DayBaseline, Position};

    use super::*;

    fn btc() -> InstrumentId {
        InstrumentId { venue: Venue::Paper, symbol: Symbol::parse("BTCUSDT").unwrap() }
    }

    fn fill(side: Side, quantity: &str, price: &str, at: i64) -> Fill {
        Fill {
            order_id: OrderId(uuid::Uuid::nil()),
            venue_trade_id: at.to_string(),
            instrument: btc(),
            side,
            quantity: Quantity::parse(quantity).unwrap(),
            price: Price::parse(price).unwrap(),
            fee: Usd::parse("1").unwrap(),
            at: UnixMs(at),
        }
    }

    fn book(cash: &str, held: &str) -> Book {
        let mut book = Book {
            user_id: UserId(uuid::Uuid::nil()),
            cash: Usd::parse(cash).unwrap(),
            positions: BTreeMap::new(),
            reservations: BTreeMap::new(),
            permits: Vec::new(),
            unapproved: Vec::new(),
            day: DayBaseline { day: 0, equity: Usd::ZERO },
            breaker: Breaker::default(),
        };
        let quantity = Quantity::parse(held).unwrap();
        if !quantity.is_zero() {
            let (nothing, opened_at) = (Usd::ZERO, UnixMs(0));
            let position =
                Position { quantity, cost: nothing, trade_cost: nothing, trade_realised: nothing, opened_at };
            book.positions.insert(btc(), position);
        }
        book
    }

    #[test]
    fn the_curve_goes_back_from_what_is_held_to_where_it_began() {
        // 10,000; bought 2 at 100, sold 1 at 110, each for a fee of 1; the mark is 120 now.
        let fills = [fill(Side::Sell, "1", "110", 20), fill(Side::Buy, "2", "100", 10)];
        let marks = Marks::from([(btc(), Mark { price: Price::parse("120").unwrap(), received_at: UnixMs(30) })]);
        let points = points(&book("9908", "1"), &fills, &marks, Some(UnixMs(5)), UnixMs(30)).unwrap();
        let seen: Vec<(i64, String)> = points.iter().map(|p| (p.at.0, p.equity.normalize().to_string())).collect();
        let want = [(5, "10000"), (10, "9999"), (20, "10018"), (30, "10028")];
        assert_eq!(seen, want.map(|(at, equity)| (at, equity.to_owned())));
    }

    #[test]
    fn without_a_trade_it_is_two_points_and_without_a_price_none() {
        let two = points(&book("7", "0"), &[], &Marks::new(), Some(UnixMs(1)), UnixMs(9)).unwrap();
        assert_eq!(
            two.iter().map(|p| (p.at.0, p.equity)).collect::<Vec<_>>(),
            [(1, Decimal::from(7)), (9, Decimal::from(7))]
        );
        assert_eq!(points(&book("7", "1"), &[], &Marks::new(), None, UnixMs(9)), None);
    }
}
