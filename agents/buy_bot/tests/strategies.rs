//! The strategies: what they do on made-up bars, and properties over random ones.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "integration test: a panic is a failure")]

use buy_bot::config::StrategiesConfig;
use buy_bot::strategy::{Strategies, StrategySignal};
use domain::market::{Candle, InstrumentId, Symbol, Venue};
use domain::message::{SignalAction, SignalSize};
use domain::money::{Price, Quantity};
use domain::time::UnixMs;
use proptest::prelude::*;
use rust_decimal::Decimal;

const CONFIG: &str = r#"
enabled = true
user = "operator"
instruments = ["BTCUSDT"]
interval_ms = 60000
signal_ttl_ms = 15000
[trend]
enabled = true
entry_bars = 3
exit_bars = 2
atr_bars = 3
stop_atrs = "2"
min_stop_percent = "0"
risk_per_trade_usd = "10"
max_notional_usd = "600"
max_bars = 50
[mean_reversion]
enabled = true
window_bars = 4
entry_sigmas = "2"
stop_sigmas = "2"
min_stop_percent = "0"
risk_per_trade_usd = "10"
max_notional_usd = "600"
max_bars = 5
"#;

fn strategies(only: &str) -> Strategies {
    let mut config = StrategiesConfig::parse(CONFIG).unwrap();
    if only == "trend" {
        config.mean_reversion = None;
    } else if only == "mean_reversion" {
        config.trend = None;
    }
    Strategies::new(&config, Venue::Paper)
}

fn candle(bar: i64, close: Decimal, half_range: Decimal) -> Candle {
    let price = |value: Decimal| Price::new(value.max(Decimal::new(1, 2))).unwrap();
    Candle {
        instrument: InstrumentId { venue: Venue::Paper, symbol: Symbol::parse("BTCUSDT").unwrap() },
        interval_ms: 60_000,
        open_time: UnixMs(bar * 60_000),
        open: price(close),
        high: price(close + half_range),
        low: price(close - half_range),
        close: price(close),
        volume: Quantity::parse("1").unwrap(),
        trades: 1,
    }
}

fn quantity(signal: &StrategySignal) -> Quantity {
    match signal.signal.size {
        SignalSize::Base(quantity) => quantity,
        other => panic!("a strategy always names its quantity, not {other:?}"),
    }
}

/// `bar:action quantity` of every signal on these closes, each bar one dollar wide on both sides.
fn run(strategies: &mut Strategies, closes: &[i64]) -> Vec<String> {
    let mut out = Vec::new();
    for (bar, close) in closes.iter().enumerate() {
        let bar = i64::try_from(bar).unwrap();
        for signal in strategies.on_candle(&candle(bar, Decimal::from(*close), Decimal::ONE), None) {
            out.push(format!("{bar}:{:?} {}", signal.signal.action, quantity(&signal)));
        }
    }
    out
}

#[test]
fn a_strategy_does_what_its_row_says() {
    for (only, closes, want) in [
        // Four flat bars: true range 2, channel 99..101. 105 breaks out; range 6, average (2*2+6)/3 = 3.33333334, stop
        // 6.66666668 below: 10 / 6.66666668 rounded down. Then 98 is below the channel's low of 99.
        (
            "trend",
            &[100, 100, 100, 100, 105, 98][..],
            vec!["4:Buy 1.499999997000000005", "5:Sell 1.499999997000000005"],
        ),
        // Still warming up: the average true range needs three of them.
        ("trend", &[100, 100, 105][..], vec![]),
        // A breakout needs more than the highest high.
        ("trend", &[100, 100, 100, 100, 101][..], vec![]),
        // Mean 100, variance 1; 98 is two deviations below; 10 / 2 = 5; sold when back at the mean of 99.5.
        ("mean_reversion", &[99, 101, 99, 101, 98, 100][..], vec!["4:Buy 5", "5:Sell 5"]),
        // The stop at 96 is touched by a low of 96.
        ("mean_reversion", &[99, 101, 99, 101, 98, 97][..], vec!["4:Buy 5", "5:Sell 5"]),
        // Not far enough, and nothing at all without variance.
        ("mean_reversion", &[99, 101, 99, 101, 99][..], vec![]),
        ("mean_reversion", &[100, 100, 100, 100, 90][..], vec![]),
    ] {
        assert_eq!(run(&mut strategies(only), closes), want, "{only} {closes:?}");
    }
}

#[test]
fn size_is_bounded_by_notional() {
    // Ten dollars of risk over a tiny stop would be 500 units; 600 dollars buy less than one.
    let mut trend = strategies("trend");
    let mut out = Vec::new();
    for bar in 0..6 {
        let close = Decimal::from(1_000) + Decimal::new(bar, 2);
        out.extend(trend.on_candle(&candle(bar, close, Decimal::new(1, 3)), None));
    }
    assert_eq!(quantity(&out[0]).to_string(), "0.5999820005399838", "600 / 1000.03, down to 18 decimals");
}

#[test]
fn a_refused_entry_leaves_it_flat_and_a_refused_exit_is_tried_again() {
    let mut strategies = strategies("mean_reversion");
    let bars = [99, 101, 99, 101, 98];
    let mut last = None;
    for (bar, close) in (0i64..).zip(bars) {
        last = strategies.on_candle(&candle(bar, Decimal::from(close), Decimal::ONE), None).pop();
    }
    let entry = last.unwrap();
    strategies.refused(entry.id);
    assert_eq!(strategies.all()[0].holding(), None);

    let mut strategies = self::strategies("mean_reversion");
    assert_eq!(run(&mut strategies, &[99, 101, 99, 101, 98]), ["4:Buy 5"]);
    let exit = strategies.on_candle(&candle(5, Decimal::from(120), Decimal::ONE), None).remove(0);
    strategies.refused(exit.id);
    let again = strategies.on_candle(&candle(6, Decimal::from(120), Decimal::ONE), None).remove(0);
    assert_eq!((exit.signal.action, again.signal.action), (SignalAction::Sell, SignalAction::Sell));
    assert_eq!(quantity(&exit), quantity(&again));
    assert_ne!(exit.id, again.id);
}

#[test]
fn an_exit_never_sells_more_than_the_account_holds() {
    for (held, want) in [("2", Some("2")), ("5", Some("5")), ("9", Some("5")), ("0", None)] {
        let mut strategies = strategies("mean_reversion");
        run(&mut strategies, &[99, 101, 99, 101, 98]);
        let held = Quantity::parse(held).unwrap();
        let exit = strategies.on_candle(&candle(5, Decimal::from(120), Decimal::ONE), Some(held)).pop();
        assert_eq!(exit.map(|exit| quantity(&exit).to_string()).as_deref(), want, "{held}");
        assert_eq!(strategies.all()[0].holding(), None);
    }
}

#[test]
fn the_id_is_a_function_of_strategy_parameters_instrument_and_bar() {
    let ids = |only: &str, start: i64| -> Vec<_> {
        let mut strategies = strategies(only);
        (start..)
            .zip([99, 101, 99, 101, 98, 110])
            .flat_map(|(bar, close)| strategies.on_candle(&candle(bar, Decimal::from(close), Decimal::ONE), None))
            .map(|signal| signal.id)
            .collect()
    };
    assert_eq!(ids("mean_reversion", 0), ids("mean_reversion", 0));
    assert_ne!(ids("mean_reversion", 0), ids("mean_reversion", 1));
    assert_ne!(ids("mean_reversion", 0), ids("trend", 0));
}

#[test]
fn old_bars_other_intervals_and_gaps_do_not_mislead() {
    let mut strategies = strategies("mean_reversion");
    run(&mut strategies, &[99, 101, 99, 101]);
    let mut other = candle(4, Decimal::from(98), Decimal::ONE);
    other.interval_ms = 1_000;
    assert!(strategies.on_candle(&other, None).is_empty());
    assert!(strategies.on_candle(&candle(3, Decimal::from(50), Decimal::ONE), None).is_empty());
    // Five bars later its four-bar memory is worth nothing.
    assert!(strategies.on_candle(&candle(8, Decimal::from(98), Decimal::ONE), None).is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_fold_is_deterministic_and_never_exits_more_than_it_entered(
        steps in proptest::collection::vec((-300i64..300, 0i64..200, 1i64..3, 0u8..20), 1..120),
    ) {
        let run = || {
            let mut strategies = strategies("both");
            let (mut close, mut bar, mut out) = (10_000i64, 0i64, Vec::new());
            for (move_, half, skip, refuse) in &steps {
                close = (close + move_).max(100);
                bar += skip;
                let signals = strategies.on_candle(&candle(bar, Decimal::new(close, 2), Decimal::new(*half, 2)), None);
                if *refuse == 0 {
                    signals.iter().for_each(|signal| strategies.refused(signal.id));
                } else {
                    out.extend(signals);
                }
            }
            out
        };
        let signals = run();
        prop_assert_eq!(&signals, &run());
        let mut held = std::collections::BTreeMap::new();
        for signal in &signals {
            let quantity = quantity(signal);
            let before = held.insert(signal.strategy, if signal.signal.action == SignalAction::Buy { Some(quantity) } else { None });
            match signal.signal.action {
                SignalAction::Buy => prop_assert_eq!(before.flatten(), None),
                _ => prop_assert_eq!(before.flatten(), Some(quantity)),
            }
        }
    }
}
