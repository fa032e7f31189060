//! The exchange's rules, from its own documentation.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test may fail loudly

mod common;

use std::path::Path;

use common::{GTC, MARKET, instrument, order};
use domain::money::Price;
use domain::order::Side;
use proptest::prelude::*;
use rust_decimal::Decimal;
use venues::exchange::OrderRequest;
use venues::filters::{Account, FilterFailure, Filters, Range};

/// The filters of the documentation, those this crate knows, with its own numbers.
fn documented() -> serde_json::Value {
    serde_json::json!([
        {"filterType": "PRICE_FILTER", "minPrice": "0.00000100", "maxPrice": "100000.00000000", "tickSize": "0.00000100"},
        {"filterType": "PERCENT_PRICE_BY_SIDE", "bidMultiplierUp": "1.2", "bidMultiplierDown": "0.2", "askMultiplierUp": "5", "askMultiplierDown": "0.8", "avgPriceMins": 1},
        {"filterType": "LOT_SIZE", "minQty": "0.00100000", "maxQty": "100000.00000000", "stepSize": "0.00100000"},
        {"filterType": "NOTIONAL", "minNotional": "10.00000000", "applyMinToMarket": false, "maxNotional": "10000.00000000", "applyMaxToMarket": false, "avgPriceMins": 5},
        {"filterType": "MARKET_LOT_SIZE", "minQty": "0.00100000", "maxQty": "5000.00000000", "stepSize": "0.00100000"},
        {"filterType": "ICEBERG_PARTS", "limit": 10},
        {"filterType": "MAX_NUM_ORDERS", "maxNumOrders": 25},
        {"filterType": "MAX_POSITION", "maxPosition": "10000.00000000"}
    ])
}

fn judge(filters: &Filters, order: &OrderRequest, account: Account) -> &'static str {
    filters.check(order, &account).map_or_else(FilterFailure::code, |()| "")
}

#[test]
fn each_rule_is_what_the_documentation_says() {
    let filters = Filters::parse(&documented()).unwrap();
    let average = |price: &str| Account { average_price: Some(Price::parse(price).unwrap()), ..Account::default() };
    let check = |kind, side, quantity: &str, price: &str, account: Account, want: &str| {
        let order = order(1, side, kind, quantity, price);
        assert_eq!(judge(&filters, &order, account), want, "{quantity} at {price}, {account:?}");
    };
    let none = Account::default();
    check(GTC, Side::Buy, "1", "100", none, "");
    // Price: on the grid, inside the bounds, both ends included.
    check(GTC, Side::Buy, "0.1", "100000", none, "");
    check(GTC, Side::Buy, "0.1", "100000.000001", none, "FILTER_PRICE_FILTER");
    check(GTC, Side::Buy, "1", "100.0000005", none, "FILTER_PRICE_FILTER");
    // Quantity: a market order obeys both sizes.
    check(GTC, Side::Buy, "0.0005", "100000", none, "FILTER_LOT_SIZE");
    check(GTC, Side::Buy, "0.0015", "100000", none, "FILTER_LOT_SIZE");
    check(GTC, Side::Buy, "0", "100", none, "FILTER_LOT_SIZE");
    check(GTC, Side::Buy, "6000", "1", none, "");
    check(MARKET, Side::Buy, "6000", "1", none, "FILTER_MARKET_LOT_SIZE");
    // Notional: equal passes; for market orders only where the exchange says so.
    check(GTC, Side::Buy, "0.1", "100", none, "");
    check(GTC, Side::Buy, "0.099", "100", none, "FILTER_NOTIONAL");
    check(GTC, Side::Buy, "100", "100", none, "");
    check(GTC, Side::Buy, "100.001", "100", none, "FILTER_NOTIONAL");
    check(MARKET, Side::Buy, "0.001", "100", average("100"), "");
    // The band round the average price, different for buyers and sellers.
    check(GTC, Side::Buy, "1", "120", average("100"), "");
    check(GTC, Side::Buy, "1", "120.000001", average("100"), "FILTER_PERCENT_PRICE");
    check(GTC, Side::Buy, "1", "19.999999", average("100"), "FILTER_PERCENT_PRICE");
    check(GTC, Side::Sell, "1", "500", average("100"), "");
    check(GTC, Side::Sell, "1", "79.999999", average("100"), "FILTER_PERCENT_PRICE");
    // Counts.
    check(GTC, Side::Buy, "1", "100", Account { open_orders: 24, ..none }, "");
    check(GTC, Side::Buy, "1", "100", Account { open_orders: 25, ..none }, "FILTER_MAX_NUM_ORDERS");
    let held = |position: i64| Account { position: Decimal::from(position), ..none };
    check(GTC, Side::Buy, "1", "100", held(9_999), "");
    check(GTC, Side::Buy, "1", "100", held(10_000), "FILTER_MAX_POSITION");
    check(GTC, Side::Sell, "1", "100", held(10_000), "");
}

#[test]
fn every_example_of_the_documentation_is_read() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/vectors/filters-examples.json");
    let Ok(text) = std::fs::read_to_string(&path) else {
        println!("skipped: every_example_of_the_documentation_is_read: no ../shared/data");
        return;
    };
    let examples: serde_json::Value = serde_json::from_str(&text).unwrap();
    let filters = Filters::parse(&examples["symbol_filters"]).unwrap();
    let range = |min, max, increment| Some(Range { min, max, increment });
    let decimal = |text: &str| text.parse::<Decimal>().unwrap();
    assert_eq!(filters.price, range(decimal("0.000001"), decimal("100000"), decimal("0.000001")));
    assert_eq!(filters.lot, range(decimal("0.001"), decimal("100000"), decimal("0.001")));
    assert_eq!(filters.market_lot, filters.lot);
    let notional = filters.notional.unwrap();
    assert_eq!((notional.min, notional.max), (decimal("10"), decimal("10000")), "NOTIONAL decides, not MIN_NOTIONAL");
    assert!(!notional.min_applies_to_market && !notional.max_applies_to_market);
    let percent = filters.percent_price.unwrap();
    assert_eq!((percent.buy, percent.sell), ((decimal("0.2"), decimal("1.2")), (decimal("0.8"), decimal("5"))));
    assert_eq!((filters.max_orders, filters.max_position), (Some(25), Some(decimal("10"))));
}

#[test]
fn a_zero_switches_a_rule_off() {
    let zero = Range { min: Decimal::ZERO, max: Decimal::ZERO, increment: Decimal::ZERO };
    assert!(zero.holds("123.456789".parse().unwrap()));
    let filters = Filters { price: Some(zero), lot: Some(zero), ..Filters::default() };
    assert_eq!(judge(&filters, &order(1, Side::Buy, GTC, "0.123456", "77.123"), Account::default()), "");
}

#[test]
fn a_filter_that_cannot_be_read_is_no_filter_that_is_met() {
    let mut filters = documented();
    filters[0]["tickSize"] = serde_json::json!("x");
    assert!(Filters::parse(&filters).is_err());
    filters[0]["tickSize"] = serde_json::json!(0.01);
    assert!(Filters::parse(&filters).is_err(), "no floats");
    assert!(Filters::parse(&serde_json::json!({})).is_err());
}

proptest! {
    #[test]
    fn an_order_rounded_down_by_the_planner_is_on_the_grid(mantissa in 1i64..1_000_000_000, scale in 0u32..9) {
        let rules = instrument();
        let filters = Filters::of_instrument(&rules);
        let raw = domain::money::Quantity::new(Decimal::new(mantissa, scale)).unwrap();
        let quantity = raw.floor_to(rules.step);
        prop_assert!(quantity <= raw);
        let worst_price = Price::parse("1000").unwrap();
        let order = OrderRequest { quantity, worst_price, ..order(1, Side::Buy, GTC, "1", "1") };
        let inside = (rules.min_quantity..=rules.max_quantity).contains(&quantity.value());
        prop_assert_eq!(filters.check(&order, &Account::default()).is_ok(), inside);
    }
}
