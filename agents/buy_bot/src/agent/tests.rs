//! The process without its store: what each input becomes.

use std::path::Path;

use domain::ids::{CorrelationId, OrderId, derive};
use domain::market::{MarketTick, Symbol, Venue};
use domain::message::{SignalAction, SignalSize};
use domain::money::{Price, Usd};
use domain::order::Origin;
use runtime::MarketView;
use rust_decimal::Decimal;

use super::*;

const NOW: UnixMs = UnixMs(1_723_161_600_000);
const MINT: &str = "EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v";

/// Not the shipped values: those are a matter of taste.
const STRATEGIES: &str = r#"
enabled = true
user = "robot"
instruments = ["BTCUSDT"]
interval_ms = 60000
signal_ttl_ms = 15000
[trend]
enabled = true
entry_bars = 20
exit_bars = 10
atr_bars = 14
stop_atrs = "2"
min_stop_percent = "0.3"
risk_per_trade_usd = "5"
max_notional_usd = "600"
max_bars = 240
[mean_reversion]
enabled = true
window_bars = 20
entry_sigmas = "2"
stop_sigmas = "2"
min_stop_percent = "0.3"
risk_per_trade_usd = "5"
max_notional_usd = "600"
max_bars = 60
"#;

fn bot() -> BuyBot {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config");
    let (planner, _) = crate::config::load(&folder).unwrap();
    let strategies = StrategiesConfig::parse(STRATEGIES).unwrap();
    BuyBot::new(planner, &strategies)
}

fn id(venue: Venue, symbol: &str) -> InstrumentId {
    InstrumentId { venue, symbol: Symbol::parse(symbol).unwrap() }
}

fn price(text: &str) -> Price {
    Price::parse(text).unwrap()
}

fn market() -> MarketView {
    let one = Quantity::parse("1").unwrap();
    let market = MarketView::new();
    let tick = MarketTick {
        instrument: id(Venue::Paper, "BTCUSDT"),
        bid: price("60000"),
        bid_quantity: one,
        ask: price("60000.02"),
        ask_quantity: one,
        received_at: NOW,
    };
    market.put(tick, NOW);
    market
}

fn instruments() -> BTreeMap<InstrumentId, Instrument> {
    let instrument = Instrument {
        id: id(Venue::Paper, "BTCUSDT"),
        base: "BTC".into(),
        quote: "USDT".into(),
        tick: Decimal::new(1, 2),
        step: Decimal::new(1, 5),
        min_quantity: Decimal::new(1, 5),
        max_quantity: Decimal::ZERO,
        min_notional: Decimal::from(5),
    };
    BTreeMap::from([(instrument.id.clone(), instrument)])
}

fn envelope(route: Route, payload: Payload) -> Envelope {
    let message_id = MessageId(derive("test", &[payload.kind().as_bytes()]));
    let header = Header {
        message_id,
        correlation_id: CorrelationId(message_id.0),
        source_agent: "test".into(),
        made_at: NOW,
        priority: 9,
        user_id: UserId::of_handle("operator"),
        valid_until: None,
        traceparent: None,
    };
    Envelope { header, subject: Subject::of(route, Priority::Critical), payload }
}

fn signal(action: SignalAction, token: &str, limit: Option<&str>) -> TradingSignal {
    let size = if action == SignalAction::Hold { SignalSize::None } else { SignalSize::Notional(Usd::dollars(600)) };
    TradingSignal {
        action,
        token_address: token.into(),
        size,
        price_limit: limit.map(price),
        confidence_bps: None,
        reasoning: String::new(),
        origin: Origin::Person { handle: "operator".into() },
    }
}

fn candle(bar: i64, close: i64) -> Candle {
    let at = |cents: i64| Price::new(Decimal::new(cents, 2)).unwrap();
    Candle {
        instrument: id(Venue::Paper, "BTCUSDT"),
        interval_ms: 60_000,
        open_time: UnixMs(bar * 60_000),
        open: at(close),
        high: at(close + 10),
        low: at(close - 10),
        close: at(close),
        volume: Quantity::parse("1").unwrap(),
        trades: 1,
    }
}

/// Thirty flat bars and a jump: the trend strategy buys.
fn breakout(bot: &BuyBot) -> Vec<StrategySignal> {
    for bar in 0..30 {
        assert!(bot.desk().on_candle(&candle(bar, 6_000_000 + bar % 2)).is_empty());
    }
    bot.desk().on_candle(&candle(30, 6_010_000))
}

#[test]
fn its_spec_has_no_faults() {
    assert_eq!(runtime::spec_faults(&BuyBot::SPEC), Vec::<String>::new());
}

#[test]
fn a_signal_becomes_the_messages_of_its_row() {
    let (bot, market) = (bot(), market());
    let ctx = Ctx::new(NOW, 0, &market, None);
    for (action, token, limit, want) in [
        (SignalAction::Buy, "BTCUSDT", None, &["trading.treasury.intent.critical"][..]),
        (SignalAction::Hold, "BTCUSDT", None, &["system.all.notice.low"][..]),
        (
            SignalAction::Buy,
            MINT,
            Some("0.5"),
            &["trading.launchpad_governor.question.critical", "trading.treasury.intent.critical"][..],
        ),
    ] {
        let input = envelope(Route::Signal, Payload::TradingSignal(signal(action, token, limit)));
        let Payload::TradingSignal(signal) = &input.payload else { unreachable!() };
        let out = bot.signal(signal, &input, &instruments(), &ctx).unwrap();
        let subjects: Vec<String> = out.iter().map(|message| message.subject.to_string()).collect();
        assert_eq!(subjects, want, "{action:?} {token}");
        assert!(out.iter().all(|message| message.user_id == input.header.user_id));
    }
}

#[test]
fn the_same_bar_twice_says_the_same_twice() {
    let bot = bot();
    let first = breakout(&bot);
    assert_eq!(first.len(), 1);
    assert_eq!(bot.desk().on_candle(&candle(30, 6_010_000)), first);
}

#[test]
fn a_strategy_signal_is_planned_for_its_user_and_expires() {
    let (bot, market) = (bot(), market());
    let ctx = Ctx::new(NOW, 0, &market, None);
    let out = bot.strategy_signals(breakout(&bot), &instruments(), &ctx);
    let [Message { payload: Payload::OrderIntent(intent), valid_until, subject, .. }] = out.as_slice() else {
        panic!("one intent, not {out:?}")
    };
    assert_eq!(subject.to_string(), "trading.treasury.intent.urgent");
    assert_eq!(*valid_until, Some(NOW.plus_ms(15_000)));
    assert_eq!(intent.user_id, UserId::of_handle("robot"));
    assert_eq!(intent.origin, Origin::Agent { name: "buy_bot/trend".into() });
}

#[test]
fn what_cannot_be_planned_is_told_and_taken_back() {
    let (bot, market) = (bot(), MarketView::new());
    let ctx = Ctx::new(NOW, 0, &market, None);
    let out = bot.strategy_signals(breakout(&bot), &instruments(), &ctx);
    let [Message { payload: Payload::Notice(notice), .. }] = out.as_slice() else { panic!("one notice, not {out:?}") };
    assert_eq!(notice.code, "STRATEGY_SIGNAL_REJECTED");
    assert!(notice.text.contains("NO_MARK"), "{}", notice.text);
    assert!(bot.desk().strategies.all().iter().all(|strategy| strategy.holding().is_none()));
}

#[test]
fn a_refused_decision_takes_the_entry_back_and_positions_of_others_do_not_count() {
    let bot = bot();
    let entry = breakout(&bot).remove(0);
    let refused = DecisionOutcome::Refused { code: "RATE".into(), numbers: BTreeMap::new() };
    for (outcome, holds) in [(DecisionOutcome::Permitted, true), (refused, false)] {
        bot.decision(&OrderDecision {
            order_id: OrderId(entry.id.0),
            signal_id: entry.id,
            instrument: entry.instrument.clone(),
            outcome,
        });
        assert_eq!(bot.desk().strategies.all().iter().any(|strategy| strategy.holding().is_some()), holds);
    }
    let position = PositionChanged {
        instrument: entry.instrument,
        quantity: Quantity::parse("1").unwrap(),
        cost: Usd::ZERO,
        realised: Usd::ZERO,
        cash: Usd::ZERO,
    };
    bot.position(&position, UserId::of_handle("somebody"));
    assert!(bot.desk().held.is_empty());
    bot.position(&position, UserId::of_handle("robot"));
    assert_eq!(bot.desk().held.len(), 1);
}

#[tokio::test]
async fn without_a_store_signals_wait_and_facts_are_heard() {
    let (bot, market) = (bot(), market());
    let mut ctx = Ctx::new(NOW, 0, &market, None);
    let input = envelope(Route::Signal, Payload::TradingSignal(signal(SignalAction::Buy, "BTCUSDT", None)));
    assert!(matches!(bot.handle(&input, &mut ctx).await, Err(HandleError::Retry(_))));
    let fact = envelope(Route::Candle, Payload::Candle(candle(0, 6_000_000)));
    assert_eq!(bot.handle(&fact, &mut ctx).await, Ok(Vec::new()));
    let stranger = envelope(Route::Signal, Payload::HealthCheck);
    assert!(matches!(bot.handle(&stranger, &mut ctx).await, Err(HandleError::Reject(_))));
}

#[test]
fn a_restart_keeps_what_the_strategies_hold_and_a_broken_file_stops_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("holdings.json");
    let first = bot().resume(file.clone()).unwrap();
    breakout(&first);
    let held = first.desk().strategies.holdings();
    assert_eq!(held.len(), 1);
    drop(first);
    let second = bot().resume(file.clone()).unwrap();
    assert_eq!(second.desk().strategies.holdings(), held);
    // The stop still works: a crash right after the restart is sold.
    let exits = second.desk().on_candle(&candle(31, 5_000_000));
    assert_eq!(exits.iter().map(|exit| exit.signal.action).collect::<Vec<_>>(), [SignalAction::Sell]);
    assert!(bot().resume(file.clone()).unwrap().desk().strategies.holdings().is_empty());
    std::fs::write(&file, "{").unwrap();
    assert!(bot().resume(file).is_err());
}
