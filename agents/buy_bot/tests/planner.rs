//! The planner: tables of what a signal becomes, and properties over arbitrary signals.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "integration test: a panic is a failure")]

use std::collections::BTreeMap;

use buy_bot::config::PlannerConfig;
use buy_bot::planner::{PlanInputs, plan};
use domain::ids::{CorrelationId, IntentId, MessageId, UserId, derive};
use domain::market::{Instrument, InstrumentId, Mark, Symbol, Venue};
use domain::message::{Header, MAX_TEXT_CHARS, SignalAction, SignalSize, TradingSignal};
use domain::money::{Price, Quantity, Usd};
use domain::order::{Amount, OrderIntent, OrderType, Origin, Side, Slices, TimeInForce};
use domain::reject::{Reject, RejectCode};
use domain::time::UnixMs;
use proptest::prelude::*;
use rust_decimal::{Decimal, RoundingStrategy};

const NOW: UnixMs = UnixMs(1_723_161_600_000);
const MINT: &str = "EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v";

struct World {
    instruments: BTreeMap<InstrumentId, Instrument>,
    marks: BTreeMap<InstrumentId, Mark>,
    config: PlannerConfig,
}

impl World {
    fn new() -> Self {
        let text = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../config/planner.toml"));
        let id = InstrumentId { venue: Venue::Paper, symbol: Symbol::parse("BTCUSDT").unwrap() };
        let instrument = Instrument {
            id: id.clone(),
            base: "BTC".into(),
            quote: "USDT".into(),
            tick: Decimal::new(1, 2),
            step: Decimal::new(1, 5),
            min_quantity: Decimal::new(1, 5),
            max_quantity: Decimal::from(9_000),
            min_notional: Decimal::from(5),
        };
        let mark = Mark { price: Price::parse("61738.005").unwrap(), received_at: NOW.plus_ms(-1_000) };
        Self {
            instruments: BTreeMap::from([(id.clone(), instrument)]),
            marks: BTreeMap::from([(id, mark)]),
            config: PlannerConfig::parse(text).unwrap(),
        }
    }

    fn plan(&self, signal: &TradingSignal, header: &Header) -> Result<Vec<OrderIntent>, Reject> {
        let around = PlanInputs { instruments: &self.instruments, marks: &self.marks, now: NOW, config: &self.config };
        plan(signal, header, around)
    }
}

fn header() -> Header {
    let id = MessageId(derive("test", &[b"signal"]));
    Header {
        message_id: id,
        correlation_id: CorrelationId(id.0),
        source_agent: "test".into(),
        made_at: NOW,
        priority: 9,
        user_id: UserId::of_handle("operator"),
        valid_until: Some(NOW.plus_ms(60_000)),
        traceparent: None,
    }
}

fn signal(action: SignalAction, token: &str, size: SignalSize, limit: Option<&str>) -> TradingSignal {
    TradingSignal {
        action,
        token_address: token.into(),
        size,
        price_limit: limit.map(|text| Price::parse(text).unwrap()),
        time_in_force: None,
        slices: None,
        confidence_bps: None,
        reasoning: "because".into(),
        origin: Origin::Person { handle: "operator".into() },
    }
}

fn dollars(text: &str) -> SignalSize {
    SignalSize::Notional(Usd::parse(text).unwrap())
}

fn base(text: &str) -> SignalSize {
    SignalSize::Base(Quantity::parse(text).unwrap())
}

/// `side amount worst_price order_type time_in_force reduce_only`, or the code of the rejection, or nothing for a HOLD.
fn outcome(planned: Result<Vec<OrderIntent>, Reject>) -> String {
    match planned {
        Err(reject) => reject.code.code().to_owned(),
        Ok(intents) => intents
            .iter()
            .map(|intent| {
                let amount = match intent.amount {
                    Amount::Exactly(quantity) => quantity.to_string(),
                    Amount::All => "all".to_owned(),
                };
                let exit = if intent.reduce_only { " reduce_only" } else { "" };
                format!(
                    "{} {amount} {} {} {}{exit}",
                    intent.side, intent.worst_price, intent.order_type, intent.time_in_force
                )
            })
            .collect(),
    }
}

#[test]
fn a_signal_becomes_the_intent_of_its_row() {
    use SignalAction::{Buy, Hold, Sell};
    let world = World::new();
    for (action, token, size, limit, want) in [
        // 61738.005 + 1 % = 62355.38505; 600 / 62355.38 = 0.0096222...
        (Buy, "BTCUSDT", dollars("600"), None, "buy 0.00962 62355.38 market ioc"),
        (Buy, "BTCUSDT", dollars("600"), Some("60000.019"), "buy 0.00999 60000.01 limit ioc"),
        (Buy, "BTCUSDT", base("0.0123456789"), None, "buy 0.01234 62355.38 market ioc"),
        // 61738.005 - 1 % = 61120.62495; 600 / 61738.005 = 0.0097185...
        (Sell, "BTCUSDT", dollars("600"), None, "sell 0.00971 61120.63 market ioc reduce_only"),
        (Sell, "BTCUSDT", dollars("600"), Some("70000.001"), "sell 0.00857 70000.01 limit ioc reduce_only"),
        (Sell, "BTCUSDT", base("0.5"), Some("61000"), "sell 0.5 61000 limit ioc reduce_only"),
        (Sell, "BTCUSDT", SignalSize::All, None, "sell all 61120.63 market ioc reduce_only"),
        (Hold, "BTCUSDT", SignalSize::None, None, ""),
        (Buy, "BTCUSDT", SignalSize::All, None, "AMBIGUOUS_AMOUNT"),
        (Buy, "BTCUSDT", SignalSize::None, None, "MISSING_FIELD"),
        (Buy, "BTCUSDT", dollars("4.99"), None, "TOO_SMALL"),
        (Buy, "BTCUSDT", dollars("0"), None, "TOO_SMALL"),
        (Buy, "BTCUSDT", base("0.000009"), None, "TOO_SMALL"),
        (Buy, "BTCUSDT", dollars("600"), Some("0.001"), "TOO_SMALL"),
        (Buy, "BTCUSDT", SignalSize::Notional(Usd::dollars(-1)), None, "BAD_DECIMAL"),
        (Buy, "DOGEUSDT", dollars("600"), None, "UNKNOWN_INSTRUMENT"),
        (Buy, "btc usdt", dollars("600"), None, "UNKNOWN_INSTRUMENT"),
        (Buy, "", dollars("600"), None, "UNKNOWN_INSTRUMENT"),
        (Buy, MINT, dollars("600"), None, "NO_MARK"),
        (Buy, MINT, dollars("600"), Some("0.5"), "buy 1200 0.5 limit ioc"),
    ] {
        let planned = world.plan(&signal(action, token, size, limit), &header());
        assert_eq!(outcome(planned), want, "{action:?} {token} {size:?} {limit:?}");
    }
}

#[test]
fn an_old_mark_is_no_mark_and_a_price_limit_does_without() {
    let mut world = World::new();
    for (age_ms, limit, want) in [
        (30_000, None, "buy 0.00962 62355.38 market ioc"),
        (30_001, None, "NO_MARK"),
        (30_001, Some("60000"), "buy 0.01 60000 limit ioc"),
    ] {
        for mark in world.marks.values_mut() {
            mark.received_at = NOW.plus_ms(-age_ms);
        }
        let planned = world.plan(&signal(SignalAction::Buy, "BTCUSDT", dollars("600"), limit), &header());
        assert_eq!(outcome(planned), want, "{age_ms} {limit:?}");
    }
}

#[test]
fn an_intent_dies_with_its_signal() {
    let world = World::new();
    let buy = signal(SignalAction::Buy, "BTCUSDT", dollars("600"), None);
    for (valid_until, made_ms_ago, want) in [
        (Some(NOW), 0, Err(RejectCode::Expired)),
        (Some(NOW.plus_ms(1)), 0, Ok(NOW.plus_ms(1))),
        (None, 0, Ok(NOW.plus_ms(60_000))),
        (None, 59_999, Ok(NOW.plus_ms(1))),
        (None, 60_000, Err(RejectCode::Expired)),
    ] {
        let header = Header { valid_until, made_at: NOW.plus_ms(-made_ms_ago), ..header() };
        let planned = world.plan(&buy, &header).map(|intents| intents[0].valid_until).map_err(|reject| reject.code);
        assert_eq!(planned, want, "{valid_until:?} made {made_ms_ago} ms ago");
    }
}

#[test]
fn ids_come_from_the_signal_and_prose_is_cleaned() {
    let world = World::new();
    let mut buy = signal(SignalAction::Buy, "BTCUSDT", dollars("600"), None);
    buy.reasoning = format!("\u{202e}up\n{}", "x".repeat(1_000));
    let intent = world.plan(&buy, &header()).unwrap().remove(0);
    assert_eq!(intent.intent_id, IntentId::of_leg(header().message_id, 0));
    assert_eq!((intent.signal_id, intent.leg, intent.user_id), (header().message_id, 0, header().user_id));
    assert_eq!(intent.reasoning.chars().count(), MAX_TEXT_CHARS);
    assert!(intent.reasoning.starts_with("upx"));
}

#[test]
fn a_limit_order_rests_only_when_configured_so() {
    let mut world = World::new();
    world.config.limit_time_in_force = TimeInForce::GoodTillCancelled;
    let sell = signal(SignalAction::Sell, "BTCUSDT", base("1"), Some("62000"));
    assert_eq!(outcome(world.plan(&sell, &header())), "sell 1 62000 limit gtc reduce_only");
    // What the signal says comes first.
    let said = TradingSignal { time_in_force: Some(TimeInForce::ImmediateOrCancel), ..sell };
    assert_eq!(outcome(world.plan(&said, &header())), "sell 1 62000 limit ioc reduce_only");
    let market = signal(SignalAction::Sell, "BTCUSDT", base("1"), None);
    assert_eq!(outcome(world.plan(&market, &header())), "sell 1 61120.63 market ioc reduce_only");
}

#[test]
fn slices_stay_one_order_and_must_fit_before_its_end() {
    let world = World::new();
    // The signal of `header` ends 60 s after NOW.
    for (count, every_ms, fits) in [(2, 59_999, true), (2, 60_000, false), (50, 1_000, true), (50, 1_300, false)] {
        let slices = Slices::new(count, every_ms);
        let buy = TradingSignal { slices, ..signal(SignalAction::Buy, "BTCUSDT", dollars("600"), None) };
        match world.plan(&buy, &header()) {
            Ok(intents) => {
                assert_eq!((intents.len(), intents[0].slices, fits), (1, slices, true), "{count} {every_ms}")
            }
            Err(reject) => assert_eq!((reject.code.code(), fits), ("EXPIRED", false), "{count} {every_ms}"),
        }
    }
}

/// Any decimal that can be written with up to 18 places, biased to no size.
fn any_decimal() -> impl Strategy<Value = Decimal> {
    (any::<u64>(), 0u32..=18).prop_map(|(digits, scale)| Decimal::from_i128_with_scale(i128::from(digits), scale))
}

fn any_size() -> impl Strategy<Value = SignalSize> {
    prop_oneof![
        4 => any_decimal().prop_filter_map("range", |d| Quantity::new(d).ok()).prop_map(SignalSize::Base),
        4 => (any_decimal(), any::<bool>())
            .prop_filter_map("range", |(d, minus)| Usd::new(if minus { -d } else { d }).ok())
            .prop_map(SignalSize::Notional),
        4 => (0u32..2_000_000, 0u32..4).prop_map(|(n, scale)| {
            SignalSize::Notional(Usd::new(Decimal::from_i128_with_scale(i128::from(n), scale)).unwrap())
        }),
        1 => Just(SignalSize::All),
        1 => Just(SignalSize::None),
    ]
}

fn any_signal() -> impl Strategy<Value = TradingSignal> {
    let action = prop_oneof![Just(SignalAction::Buy), Just(SignalAction::Sell), Just(SignalAction::Hold)];
    let token = prop_oneof![6 => Just("BTCUSDT".to_owned()), 2 => Just(MINT.to_owned()), 1 => ".{0,60}"];
    let limit = proptest::option::of(any_decimal().prop_filter_map("positive", |d| Price::new(d).ok()));
    (action, token, any_size(), limit, ".{0,40}").prop_map(|(action, token_address, size, price_limit, reasoning)| {
        TradingSignal {
            action,
            token_address,
            size,
            price_limit,
            time_in_force: None,
            slices: None,
            confidence_bps: None,
            reasoning,
            origin: Origin::Agent { name: "anyone".into() },
        }
    })
}

fn any_instrument() -> impl Strategy<Value = (Decimal, Decimal, Option<Decimal>)> {
    let unit = prop_oneof![Just(Decimal::ZERO), (1i64..100, 0u32..=8).prop_map(|(n, scale)| Decimal::new(n, scale))];
    (unit.clone(), unit, proptest::option::of(any_decimal()))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 10_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_plan_asks_for_more_than_its_signal(signal in any_signal(), (tick, step, mark) in any_instrument()) {
        let mut world = World::new();
        for instrument in world.instruments.values_mut() {
            (instrument.tick, instrument.step) = (tick, step);
        }
        for known in world.marks.values_mut() {
            if let Some(price) = mark.and_then(|price| Price::new(price).ok()) {
                known.price = price;
            }
        }
        let Ok(intents) = world.plan(&signal, &header()) else { return Ok(()) };
        prop_assert_eq!(intents.len(), usize::from(signal.action != SignalAction::Hold));
        for intent in intents {
            let listed = intent.instrument.venue == Venue::Paper;
            prop_assert_eq!(intent.side == Side::Sell, intent.reduce_only);
            prop_assert_eq!(intent.order_type == OrderType::Limit, signal.price_limit.is_some());
            if listed && !tick.is_zero() {
                prop_assert!((intent.worst_price.value() % tick).is_zero(), "{} on {tick}", intent.worst_price);
            }
            if let Some(limit) = signal.price_limit {
                let inside = if intent.side == Side::Buy { intent.worst_price <= limit } else { intent.worst_price >= limit };
                prop_assert!(inside, "{} against {limit}", intent.worst_price);
            }
            let Amount::Exactly(quantity) = intent.amount else {
                prop_assert_eq!(signal.size, SignalSize::All);
                continue;
            };
            prop_assert!(!quantity.is_zero());
            if listed && !step.is_zero() {
                prop_assert!((quantity.value() % step).is_zero(), "{quantity} on {step}");
            }
            match signal.size {
                SignalSize::Base(asked) => prop_assert!(quantity <= asked),
                SignalSize::Notional(asked) => {
                    let whole = asked.value().round_dp_with_strategy(8, RoundingStrategy::AwayFromZero);
                    let cost = intent.worst_price.notional_up(quantity).unwrap();
                    prop_assert!(cost.value() <= whole, "{cost} of {asked}");
                }
                SignalSize::All | SignalSize::None => prop_assert!(false, "an exact amount out of {:?}", signal.size),
            }
        }
    }
}
