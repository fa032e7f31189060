//! The order itself: whose it is, its time, its instrument's filters, and that it hangs together.

use domain::ids::UserId;
use domain::market::{InstrumentId, Venue};
use domain::money::{Price, Quantity};
use domain::order::{Side, Slicing};
use rust_decimal::Decimal;

use crate::scene::{NOW, Scene, btc, check_rows, decimal, envelope, order_id, paper, price, quantity, rules, usd};

#[test]
fn a_good_order_passes_and_only_for_its_user() {
    check_rows(
        Scene::good,
        &[("good buy", |_| {}, "YES"), ("stranger", |s| s.order.user_id = UserId::of_handle("x"), "UNKNOWN_USER")],
    );
    check_rows(
        Scene::exit,
        &[("good exit", |_| {}, "YES"), ("stranger", |s| s.book.user_id = UserId::of_handle("x"), "UNKNOWN_USER")],
    );
}

#[test]
fn an_order_dies_after_its_valid_until() {
    for base in [Scene::good, Scene::exit] {
        check_rows(
            base,
            &[
                ("at", |s| s.order.valid_until = NOW, "YES"),
                ("after", |s| s.order.valid_until = NOW.plus_ms(-1), "EXPIRED"),
            ],
        );
    }
}

#[test]
fn only_an_instrument_of_the_venue_is_known() {
    for base in [Scene::good, Scene::exit] {
        check_rows(
            base,
            &[
                ("none", |s| s.instrument = None, "UNKNOWN_INSTRUMENT"),
                ("rules of another", |s| s.instrument = Some(rules(paper("ETHUSDT"))), "UNKNOWN_INSTRUMENT"),
                (
                    "rules of another venue",
                    |s| s.instrument = Some(rules(InstrumentId { venue: Venue::Binance, ..btc() })),
                    "UNKNOWN_INSTRUMENT",
                ),
            ],
        );
    }
}

#[test]
fn the_venues_filters_hold_for_buys_and_exits() {
    for base in [Scene::good, Scene::exit] {
        check_rows(
            base,
            &[
                ("on step", |s| s.order = envelope(1, &btc(), s.order.side, quantity("5.001"), price("100")), "YES"),
                (
                    "off step",
                    |s| s.order = envelope(1, &btc(), s.order.side, quantity("5.0001"), price("100")),
                    "VENUE_FILTER",
                ),
                ("on tick", |s| s.order = envelope(1, &btc(), s.order.side, quantity("5"), price("100.01")), "YES"),
                (
                    "off tick",
                    |s| s.order = envelope(1, &btc(), s.order.side, quantity("5"), price("100.001")),
                    "VENUE_FILTER",
                ),
                ("least", |s| s.instrument.as_mut().unwrap().min_quantity = decimal("5"), "YES"),
                ("below least", |s| s.instrument.as_mut().unwrap().min_quantity = decimal("5.001"), "VENUE_FILTER"),
                ("most", |s| s.instrument.as_mut().unwrap().max_quantity = decimal("5"), "YES"),
                ("above most", |s| s.instrument.as_mut().unwrap().max_quantity = decimal("4.999"), "VENUE_FILTER"),
                ("no most", |s| s.instrument.as_mut().unwrap().max_quantity = Decimal::ZERO, "YES"),
                ("notional", |s| s.instrument.as_mut().unwrap().min_notional = decimal("500"), "YES"),
                ("below notional", |s| s.instrument.as_mut().unwrap().min_notional = decimal("500.01"), "VENUE_FILTER"),
                ("claims less", |s| s.order.max_notional_usd = usd("499.99999999"), "VENUE_FILTER"),
                ("claims more", |s| s.order.max_notional_usd = usd("500.00000001"), "VENUE_FILTER"),
                (
                    "nothing at all",
                    |s| {
                        s.instrument.as_mut().unwrap().min_quantity = Decimal::ZERO;
                        s.instrument.as_mut().unwrap().min_notional = Decimal::ZERO;
                        s.order = envelope(1, &btc(), s.order.side, Quantity::ZERO, price("100"));
                    },
                    "VENUE_FILTER",
                ),
            ],
        );
    }
}

#[test]
fn an_envelope_that_does_not_hang_together_carries_no_permit() {
    for base in [Scene::good, Scene::exit] {
        check_rows(
            base,
            &[
                ("schema", |s| s.order.schema = "swarm.order.v2".to_owned(), "BAD_PERMIT"),
                ("action", |s| s.order.action = "withdraw".to_owned(), "BAD_PERMIT"),
                (
                    "order id",
                    |s| {
                        s.order.order_id = order_id(2);
                        s.order.client_order_id = order_id(2).client_order_id();
                    },
                    "BAD_PERMIT",
                ),
                ("client order id", |s| s.order.client_order_id = order_id(2).client_order_id(), "BAD_PERMIT"),
            ],
        );
    }
}

#[test]
fn an_amount_out_of_range_is_a_refusal_and_no_panic() {
    let huge = || Price::parse("1000000000000").unwrap();
    let mut order = Scene::unattended();
    order.instrument.as_mut().unwrap().max_quantity = Decimal::ZERO;
    order.order = envelope(1, &btc(), Side::Buy, quantity("1000"), huge());
    order.marks.get_mut(&btc()).unwrap().price = huge();
    assert_eq!(order.answer(), "ARITHMETIC");

    let mut held = Scene::good();
    held.hold(&paper("ETHUSDT"), "1000");
    held.mark(&paper("ETHUSDT"), "1000000000000", 0);
    assert_eq!(held.answer(), "ARITHMETIC");

    // A rail that does refuse is heard first.
    held.limits.position_usd = usd("1");
    assert_eq!(held.answer(), "POSITION");

    let mut sum = Scene::good();
    sum.unapproved(2, &btc(), Side::Buy, "1000000000000", 0);
    assert_eq!(sum.answer(), "ARITHMETIC");
}

#[test]
fn each_slice_is_an_order_that_the_venue_takes_and_together_they_are_the_whole() {
    fn sliced(s: &mut Scene, count: u16, part: &str) {
        s.order = envelope(1, &btc(), s.order.side, quantity("5"), price("100"));
        s.order.slicing = Some(Slicing { count, quantity: quantity(part), every_ms: 1_000 });
    }
    for base in [Scene::good, Scene::exit] {
        check_rows(
            base,
            &[
                ("equal parts", |s| sliced(s, 5, "1"), "YES"),
                ("the last has the rest", |s| sliced(s, 3, "1.666"), "YES"),
                ("more than the whole", |s| sliced(s, 6, "1"), "VENUE_FILTER"),
                ("the last is smaller", |s| sliced(s, 2, "2.501"), "VENUE_FILTER"),
                ("one part", |s| sliced(s, 1, "5"), "VENUE_FILTER"),
                ("no part", |s| sliced(s, 0, "5"), "VENUE_FILTER"),
                ("too many", |s| sliced(s, 51, "0.05"), "VENUE_FILTER"),
                ("nothing each", |s| sliced(s, 5, "0"), "VENUE_FILTER"),
                ("off step", |s| sliced(s, 2, "1.0001"), "VENUE_FILTER"),
                ("below the minimum notional", |s| sliced(s, 2, "0.049"), "VENUE_FILTER"),
                ("at it", |s| sliced(s, 2, "0.05"), "YES"),
                (
                    "below the minimum quantity",
                    |s| {
                        sliced(s, 2, "1");
                        s.instrument.as_mut().unwrap().min_quantity = decimal("1.001");
                    },
                    "VENUE_FILTER",
                ),
            ],
        );
    }
}
