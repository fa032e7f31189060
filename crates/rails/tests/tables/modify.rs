//! MODIFY asks for less, never for more, and what it makes is another request.

use domain::ids::ApprovalId;
use domain::market::Instrument;
use domain::order::{OrderEnvelope, Side, Slicing};
use domain::person::Change;
use domain::telegram_button::{Less, Press};
use rails::modify::{ModifyFault, closer, lessened, modified, part, successor_id, suits_venue};
use rust_decimal::Decimal;

use crate::scene::{btc, decimal, envelope, price, quantity, rules};

fn order(side: Side) -> OrderEnvelope {
    envelope(1, &btc(), side, quantity("2"), price("100"))
}

fn change(of: Option<&str>, at: Option<&str>) -> Change {
    Change { quantity: of.map(quantity), worst_price: at.map(price) }
}

#[test]
fn a_change_asks_for_less_or_gives_less_room() {
    use ModifyFault::{MoreQuantity, MoreRoom, Nothing};
    for (side, of, at, want) in [
        (Side::Buy, Some("1"), None, Ok(("1", "100", "100"))),
        (Side::Buy, None, Some("99.5"), Ok(("2", "99.5", "199"))),
        (Side::Buy, Some("0.5"), Some("99"), Ok(("0.5", "99", "49.5"))),
        (Side::Buy, Some("2"), Some("99"), Ok(("2", "99", "198"))),
        (Side::Sell, Some("1"), Some("101"), Ok(("1", "101", "101"))),
        (Side::Sell, Some("1"), None, Ok(("1", "100", "100"))),
        (Side::Sell, None, None, Err(Nothing)),
        (Side::Buy, None, None, Err(Nothing)),
        (Side::Buy, Some("2"), None, Err(Nothing)),
        (Side::Buy, Some("2"), Some("100"), Err(Nothing)),
        (Side::Buy, Some("2.1"), None, Err(MoreQuantity)),
        (Side::Buy, Some("0"), None, Err(ModifyFault::Venue("no quantity"))),
        (Side::Buy, Some("1"), Some("100.01"), Err(MoreRoom)),
        (Side::Sell, Some("1"), Some("99.99"), Err(MoreRoom)),
    ] {
        let got = modified(&order(side), change(of, at));
        let got =
            got.as_ref().map(|e| (e.quantity.to_string(), e.worst_price.to_string(), e.max_notional_usd.to_string()));
        let want = want.map(|(q, p, n)| (q.to_owned(), p.to_owned(), n.to_owned()));
        assert_eq!(got.map_err(|fault| *fault), want, "{side} {of:?} {at:?}");
    }
}

#[test]
fn all_but_quantity_price_and_their_product_stays() {
    let old = order(Side::Buy);
    let new = modified(&old, change(Some("1"), Some("99"))).unwrap();
    let (quantity, worst_price, max_notional_usd) = (old.quantity, old.worst_price, old.max_notional_usd);
    assert_eq!(OrderEnvelope { quantity, worst_price, max_notional_usd, ..new.clone() }, old);
    assert_ne!(new.digest().unwrap(), old.digest().unwrap());
    let id = ApprovalId(uuid::Uuid::from_u128(1));
    assert_eq!(successor_id(id, &new).unwrap(), successor_id(id, &new).unwrap());
    assert_ne!(successor_id(id, &new).unwrap(), successor_id(id, &old).unwrap());
    assert_ne!(successor_id(id, &new).unwrap(), successor_id(ApprovalId(uuid::Uuid::nil()), &new).unwrap());
}

#[test]
fn what_the_venue_does_not_take_is_said_at_once() {
    let rules = rules(btc());
    let of = |q: &str, p: &str| suits_venue(&envelope(1, &btc(), Side::Buy, quantity(q), price(p)), &rules);
    for (q, p, fault) in [
        ("1", "100", None),
        ("0.001", "5000", None),
        ("0.001", "4999.99", Some("the notional is below its minimum")),
        ("0.0011", "100000", Some("the quantity is no multiple of its step")),
        ("1", "100.001", Some("the price is no multiple of its tick")),
    ] {
        assert_eq!(of(q, p), fault.map_or(Ok(()), |fault| Err(ModifyFault::Venue(fault))), "{q} {p}");
    }
    let larger = Instrument { min_quantity: decimal("0.002"), ..rules };
    let of = |q: &str| suits_venue(&envelope(1, &btc(), Side::Buy, quantity(q), price("9000")), &larger);
    assert_eq!(of("0.002"), Ok(()));
    assert_eq!(of("0.001"), Err(ModifyFault::Venue("the quantity is below its minimum")));
}

#[test]
fn a_part_is_rounded_down_to_the_step() {
    let order = envelope(1, &btc(), Side::Buy, quantity("0.00005"), price("100"));
    let of = |divisor, step: &str| part(&order, divisor, decimal(step)).and_then(|c| c.quantity).map(|q| q.to_string());
    assert_eq!(of(2, "0.00001").as_deref(), Some("0.00002"));
    assert_eq!(of(4, "0.00001").as_deref(), Some("0.00001"));
    assert_eq!(of(4, "0.0001").as_deref(), Some("0"));
    assert_eq!(of(0, "0.00001"), None);
    let finest = envelope(1, &btc(), Side::Buy, quantity("0.000000000000000001"), price("100"));
    assert_eq!(part(&finest, 2, Decimal::ZERO).unwrap().quantity.map(|q| q.is_zero()), Some(true));
}

#[test]
fn a_tighter_price_gives_less_room_and_is_rounded_to_the_tick_that_way() {
    for (side, at, basis_points, tick, want) in [
        (Side::Buy, "100", 50, "0.01", Some("99.5")),
        (Side::Buy, "100", 100, "0.01", Some("99")),
        (Side::Sell, "100", 50, "0.01", Some("100.5")),
        (Side::Sell, "100", 100, "0.01", Some("101")),
        (Side::Buy, "0.07", 50, "0.01", Some("0.06")),
        (Side::Sell, "0.07", 50, "0.01", Some("0.08")),
        (Side::Buy, "123.45", 50, "0", Some("122.83275")),
        (Side::Buy, "0.01", 50, "0.01", None),
        (Side::Buy, "0.000000000000000001", 50, "0", None),
        (Side::Sell, "0.000000000000000001", 50, "0", Some("0.000000000000000002")),
        (Side::Buy, "100", 10_000, "0", None),
        (Side::Buy, "100", 10_001, "0", None),
    ] {
        let order = envelope(1, &btc(), side, quantity("2"), price(at));
        let asked = closer(&order, basis_points, decimal(tick));
        assert_eq!(asked.and_then(|c| c.worst_price).map(|p| p.to_string()).as_deref(), want, "{side} {at} {tick}");
        if let Some(asked) = asked {
            assert_eq!(asked.quantity, None);
            assert!(modified(&order, asked).is_ok(), "{side} {at} {tick}");
        }
    }
}

#[test]
fn every_modifying_button_asks_for_less_of_any_order() {
    let rules = rules(btc());
    for side in [Side::Buy, Side::Sell] {
        let order = order(side);
        for (press, less) in Press::ALL.into_iter().filter_map(|press| Some((press, press.less()?))) {
            let wanted = modified(&order, lessened(&order, less, &rules).unwrap()).unwrap();
            let (is_smaller, is_tighter) = (wanted.quantity < order.quantity, wanted.worst_price != order.worst_price);
            let part = matches!(less, Less::Part(_));
            assert_eq!((is_smaller, is_tighter), (part, !part), "{side} {press:?}");
            assert_eq!(suits_venue(&wanted, &rules), Ok(()));
        }
    }
}

#[test]
fn fewer_slices_of_the_same_size_are_left_of_less() {
    let whole = order(Side::Buy);
    let part = Slicing { count: 4, quantity: quantity("0.01"), every_ms: 1_000 };
    let sliced = OrderEnvelope { quantity: quantity("0.04"), slicing: Some(part), ..whole };
    for (less, count) in [("0.039", Some(3)), ("0.02", Some(2)), ("0.019", None)] {
        let change = Change { quantity: Some(quantity(less)), worst_price: None };
        let slicing = modified(&sliced, change).unwrap().slicing;
        assert_eq!(slicing.map(|slicing| slicing.count), count, "{less}");
        assert!(slicing.is_none_or(|slicing| slicing.quantity == part.quantity), "{less}");
    }
    let rules = Instrument { min_notional: decimal("100"), ..rules(btc()) };
    let cheap = OrderEnvelope { worst_price: price("9000"), ..sliced };
    assert_eq!(suits_venue(&cheap, &rules), Err(ModifyFault::Venue("the notional of a slice is below its minimum")));
    assert_eq!(suits_venue(&OrderEnvelope { slicing: None, ..cheap }, &rules), Ok(()));
}
