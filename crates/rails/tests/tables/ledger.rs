//! Every way a book may change, in tables.

use crate::scene::{NOW, btc, decimal, envelope, fill, order_id, price, quantity, usd, user};
use domain::market::Mark;
use domain::money::Quantity;
use domain::order::{Fill, OrderEnvelope, Side};
use domain::time::{DAY_MS, UnixMs};
use rails::book::{Book, Breaker, BreakerRule, Change, DayBaseline, LedgerError, Marks, Posted, ReservationState};

fn rule() -> BreakerRule {
    BreakerRule { losses: 3, loss_percent: decimal("2") }
}

fn book() -> Book {
    Book::open(user(), usd("1000"), NOW)
}

fn order(number: u16, side: Side, amount: &str) -> OrderEnvelope {
    envelope(number, &btc(), side, quantity(amount), price("100"))
}

fn post(book: &mut Book, fill: &Fill) -> Posted {
    book.post_fill(fill, rule(), NOW).unwrap()
}

#[test]
fn a_buy_pays_up_and_a_sale_gets_down() {
    let mut book = book();
    // 0.3 x 33.33333333 = 9.999999999: a buy pays 10, a sale gets 9.99999999.
    let posted = post(&mut book, &fill(1, Side::Buy, "0.3", "33.33333333", "0.01"));
    assert_eq!(posted.realised, usd("0"));
    assert_eq!(posted.closed, None);
    assert_eq!(book.cash, usd("989.99"));
    let held = book.positions[&btc()];
    assert_eq!((held.quantity, held.cost, held.trade_cost), (quantity("0.3"), usd("10.01"), usd("10.01")));
    assert_eq!((held.trade_realised, held.opened_at), (usd("0"), NOW));
    assert_eq!(posted.changes, [Change::Cash(book.cash), Change::Position(btc(), held)]);

    let posted = post(&mut book, &fill(2, Side::Sell, "0.3", "33.33333333", "0.01"));
    assert_eq!(book.cash, usd("999.97999999"));
    assert_eq!(posted.realised, usd("-0.02000001"));
    assert_eq!(posted.changes, [Change::Cash(book.cash), Change::PositionClosed(btc())]);
    assert!(book.positions.is_empty());
    let closed = posted.closed.unwrap();
    assert_eq!((closed.cost, closed.realised, closed.counted_as_loss), (usd("10.01"), usd("-0.02000001"), false));
}

#[test]
fn parts_of_a_trade_are_summed_and_the_last_unit_takes_all_cost() {
    let mut book = book();
    post(&mut book, &fill(1, Side::Buy, "3", "33.33", "0.01")); // cost 100
    let first = post(&mut book, &fill(2, Side::Sell, "1", "40", "0.5"));
    // A third of 100 rounds down to 33.33333333.
    assert_eq!(first.realised, usd("6.16666667"));
    let held = book.positions[&btc()];
    assert_eq!((held.cost, held.trade_cost, held.trade_realised), (usd("66.66666667"), usd("100"), usd("6.16666667")));
    post(&mut book, &fill(3, Side::Buy, "1", "50", "0"));
    assert_eq!(book.positions[&btc()].trade_cost, usd("150"));
    let second = post(&mut book, &fill(4, Side::Sell, "2.999999999999999999", "40", "0"));
    assert_eq!(second.closed, None, "dust keeps a trade open");
    assert!(book.positions[&btc()].cost.is_positive());
    let last = post(&mut book, &fill(5, Side::Sell, "0.000000000000000001", "40", "0")).closed.unwrap();
    // 39.5 + 119.99999999 + 0 received for 150.
    assert_eq!((last.cost, last.realised), (usd("150"), usd("9.49999999")));
    assert_eq!(book.cash, usd("1009.49999999"));
}

#[test]
fn the_last_unit_takes_cost_finer_than_eight_decimals_too() {
    let mut book = book();
    post(&mut book, &fill(1, Side::Buy, "1", "10", "0.000000001"));
    assert_eq!(post(&mut book, &fill(2, Side::Sell, "1", "10", "0")).realised, usd("-0.000000001"));
}

#[test]
fn a_fill_that_can_not_be_leaves_the_book_as_it_was() {
    let mut book = book();
    post(&mut book, &fill(1, Side::Buy, "1", "10", "0"));
    for (fill, want) in [
        (fill(2, Side::Sell, "1.000000000000000001", "10", "0"), LedgerError::Oversold),
        (
            Fill { instrument: crate::scene::paper("ETHUSDT"), ..fill(2, Side::Sell, "1", "10", "0") },
            LedgerError::Oversold,
        ),
        (Fill { quantity: Quantity::ZERO, ..fill(2, Side::Buy, "1", "10", "0") }, LedgerError::EmptyFill),
        (Fill { quantity: Quantity::ZERO, ..fill(2, Side::Sell, "1", "10", "0") }, LedgerError::EmptyFill),
        (
            fill(2, Side::Buy, "1000000000000", "1000000000000", "0"),
            LedgerError::Money(domain::money::MoneyError::OutOfRange),
        ),
    ] {
        let before = book.clone();
        assert_eq!(book.post_fill(&fill, rule(), NOW), Err(want));
        assert_eq!(book, before);
    }
}

#[test]
fn a_reservation_shrinks_with_fills_and_stays_until_released() {
    let mut book = book();
    let order = order(1, Side::Buy, "2");
    book.reserve(&order, ReservationState::Pending, NOW.plus_ms(5));
    assert_eq!(book.reservations[&order_id(1)].state, ReservationState::Pending);
    assert_eq!(book.reservations[&order_id(1)].expires_at, NOW.plus_ms(5));
    let changes = book.permit(&order, true, &Marks::new(), NOW);
    let reservation = book.reservations[&order_id(1)].clone();
    assert_eq!(reservation.state, ReservationState::Permitted);
    assert_eq!(changes, [Change::Reservation(reservation), Change::Permit(book.permits[0])]);
    for (amount, left) in [("0.5", "1.5"), ("1.5", "0"), ("1", "0")] {
        let posted = post(&mut book, &fill(1, Side::Buy, amount, "100", "0"));
        assert_eq!(book.reservations[&order_id(1)].remaining, quantity(left));
        assert!(posted.changes.contains(&Change::Reservation(book.reservations[&order_id(1)].clone())));
    }
    assert_eq!(book.release(order_id(1)), Ok(vec![Change::Released(order_id(1))]));
    assert_eq!(book.release(order_id(1)), Err(LedgerError::NoReservation));
    let late = post(&mut book, &fill(1, Side::Buy, "1", "100", "0"));
    assert_eq!(late.changes.len(), 2, "a late fill is posted to cash and position");
    assert!(book.reservations.is_empty());
}

#[test]
fn a_permit_counts_unapproved_notional_only_for_a_buy_without_a_human() {
    for (side, approved, counted) in
        [(Side::Buy, false, 1), (Side::Buy, true, 0), (Side::Sell, false, 0), (Side::Sell, true, 0)]
    {
        let mut book = book();
        let changes = book.permit(&order(1, side, "2"), approved, &Marks::new(), NOW);
        assert_eq!(book.unapproved.len(), counted, "{side} {approved}");
        assert_eq!(changes.len(), 2 + counted);
        assert_eq!(book.permits[0].risk_increasing, side == Side::Buy);
        assert_eq!(book.reservations[&order_id(1)].state, ReservationState::Permitted);
        book.permit(&order(1, side, "2"), approved, &Marks::new(), NOW.plus_ms(1));
        assert_eq!((book.permits.len(), book.unapproved.len()), (1, counted), "an order is counted once");
    }
    let mut book = book();
    book.permit(&order(1, Side::Buy, "2"), false, &Marks::new(), NOW);
    assert_eq!((book.unapproved[0].notional, book.unapproved[0].side), (usd("200"), Side::Buy));
}

#[test]
fn unapproved_notional_is_counted_at_the_mark_when_that_is_more() {
    for (mark, counted) in [("99.99", "200"), ("100", "200"), ("103", "206")] {
        let mut book = book();
        let marks = Marks::from([(btc(), Mark { price: price(mark), received_at: NOW })]);
        book.permit(&order(1, Side::Buy, "2"), false, &marks, NOW);
        assert_eq!(book.unapproved[0].notional, usd(counted), "{mark}");
    }
}

#[test]
fn closable_is_the_position_less_open_exits() {
    let mut book = book();
    assert_eq!(book.closable(&btc()), Quantity::ZERO);
    post(&mut book, &fill(9, Side::Buy, "5", "10", "0"));
    assert_eq!(book.closable(&btc()), quantity("5"));
    book.permit(&order(1, Side::Sell, "2"), false, &Marks::new(), NOW);
    book.permit(&order(2, Side::Buy, "1"), false, &Marks::new(), NOW);
    assert_eq!(book.closable(&btc()), quantity("3"));
    book.permit(&order(3, Side::Sell, "4"), false, &Marks::new(), NOW);
    assert_eq!(book.closable(&btc()), Quantity::ZERO);
}

/// Buys one for 100.00 and sells it for this.
fn trade(book: &mut Book, sold_for: &str, now: UnixMs) {
    post(book, &fill(1, Side::Buy, "1", "100", "0"));
    book.post_fill(&fill(2, Side::Sell, "1", sold_for, "0"), rule(), now).unwrap();
}

#[test]
fn the_breaker_counts_losses_over_two_percent_in_a_row() {
    for (trades, streak, latched) in [
        (vec!["98"], 0, false),
        (vec!["97.99999999"], 1, false),
        (vec!["90", "90"], 2, false),
        (vec!["90", "90", "90"], 3, true),
        (vec!["90", "90", "98", "90"], 3, true),
        (vec!["90", "90", "100", "90"], 3, true),
        (vec!["90", "90", "100.00000001", "90"], 1, false),
        (vec!["90", "90", "90", "110"], 0, true),
        (vec!["90", "90", "90", "90"], 4, true),
    ] {
        let mut book = book();
        for sold_for in &trades {
            trade(&mut book, sold_for, NOW);
        }
        assert_eq!((book.breaker.losses_in_a_row, book.breaker.latched_at.is_some()), (streak, latched), "{trades:?}");
    }
}

#[test]
fn a_latch_keeps_its_time_until_a_human_resets_it() {
    let mut book = book();
    for at in 1..=5 {
        trade(&mut book, "90", NOW.plus_ms(at));
    }
    assert_eq!(book.breaker, Breaker { losses_in_a_row: 5, latched_at: Some(NOW.plus_ms(3)) });
    assert_eq!(book.reset_breaker(), [Change::Breaker(Breaker::default())]);
    assert_eq!(book.breaker, Breaker::default());
    assert_eq!(book.reset_breaker(), []);
}

#[test]
fn a_loss_is_judged_over_the_whole_trade() {
    let mut book = book();
    post(&mut book, &fill(1, Side::Buy, "2", "100", "0"));
    let part = post(&mut book, &fill(2, Side::Sell, "1", "90", "0"));
    assert_eq!((part.realised, part.closed), (usd("-10"), None));
    assert_eq!(book.breaker.losses_in_a_row, 0, "a part is no closed trade");
    let rest = post(&mut book, &fill(3, Side::Sell, "1", "106", "0")).closed.unwrap();
    assert_eq!((rest.realised, rest.counted_as_loss), (usd("-4"), false));
    post(&mut book, &fill(1, Side::Buy, "1", "100", "1"));
    let fees = post(&mut book, &fill(2, Side::Sell, "1", "100", "1.03")).closed.unwrap();
    assert!(fees.counted_as_loss, "fees are part of a loss: 2.03 of 101");
}

#[test]
fn equity_is_cash_and_positions_at_fresh_marks() {
    let mut book = book();
    assert_eq!(book.equity(&Marks::new(), NOW, 0), Some(usd("1000")));
    post(&mut book, &fill(1, Side::Buy, "0.3", "100", "0"));
    let known = Some("979.99999999");
    for (age_ms, want) in [(0, known), (30_000, known), (30_001, None), (-2_000, known), (-2_001, None)] {
        let mark = domain::market::Mark { price: price("33.33333333"), received_at: NOW.plus_ms(-age_ms) };
        assert_eq!(book.equity(&Marks::from([(btc(), mark)]), NOW, 30_000), want.map(usd), "{age_ms}");
    }
    assert_eq!(book.equity(&Marks::new(), NOW, 30_000), None);
}

#[test]
fn days_roll_forward_only_and_transfers_move_the_baseline() {
    let mut book = book();
    let today = NOW.day();
    assert_eq!(book.roll_day(usd("5"), NOW), []);
    assert_eq!(book.roll_day(usd("5"), NOW.plus_ms(-DAY_MS)), []);
    let midnight = UnixMs::start_of_day(today + 1);
    assert_eq!(book.roll_day(usd("5"), midnight.plus_ms(-1)), []);
    let tomorrow = DayBaseline { day: today + 1, equity: usd("5") };
    assert_eq!(book.roll_day(usd("5"), midnight), [Change::Day(tomorrow)]);
    assert_eq!(book.roll_day(usd("6"), midnight), []);
    book.roll_day(usd("7"), midnight.plus_ms(3 * DAY_MS));
    assert_eq!(book.day, DayBaseline { day: today + 4, equity: usd("7") });
    let moved = DayBaseline { equity: usd("4.5"), ..book.day };
    assert_eq!(book.transfer(usd("-2.5")), Ok(vec![Change::Cash(usd("997.5")), Change::Day(moved)]));
    assert_eq!((book.cash, book.day), (usd("997.5"), moved));
    let before = book.clone();
    assert!(book.transfer(usd("1000000000000")).is_err());
    assert_eq!(book, before);
}

#[test]
fn pruning_keeps_exactly_what_is_inside_the_windows() {
    let mut book = book();
    for (number, age_ms) in [(1, 10), (2, 9), (3, 5), (4, 4)] {
        book.permit(&order(number, Side::Buy, "1"), false, &Marks::new(), NOW.plus_ms(-age_ms));
    }
    book.prune(NOW, 10, 5);
    let permits: Vec<_> = book.permits.iter().map(|p| p.order_id).collect();
    assert_eq!(permits, [order_id(2), order_id(3), order_id(4)]);
    assert_eq!(book.unapproved.iter().map(|u| u.order_id).collect::<Vec<_>>(), [order_id(4)]);
}
