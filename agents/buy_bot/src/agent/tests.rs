//! The process without its store: what each input becomes.

use std::path::Path;

use domain::ids::{CorrelationId, OrderId, derive};
use domain::market::{MarketTick, Symbol, Venue};
use domain::message::{SignalAction, SignalSize};
use domain::money::{Price, Usd};
use domain::order::Origin;
use domain::review::{Review, ReviewAnswer};
use runtime::MarketView;
use rust_decimal::Decimal;

use super::*;
use crate::review::Question;

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
    let config = crate::config::load(&folder).unwrap();
    let strategies = StrategiesConfig::parse(STRATEGIES).unwrap();
    BuyBot::new(config.planner, &strategies)
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
        time_in_force: None,
        slices: None,
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

/// Says what the reasoning of the signal tells it to say.
#[derive(Debug)]
struct Obedient;

#[async_trait::async_trait]
impl Reviewer for Obedient {
    async fn review(&self, question: &Question) -> Result<Review, NoReview> {
        let words =
            question.prompt.user.lines().find_map(|line| line.strip_prefix("reason given: ")).unwrap_or_default();
        let text = match words {
            "agree" => r#"{"verdict":"agree","confidence_percent":80,"reasoning":"calm"}"#,
            "unsure" => r#"{"verdict":"agree","confidence_percent":20,"reasoning":"who knows"}"#,
            "object" => r#"{"verdict":"object","confidence_percent":90,"reasoning":"wide <spread>"}"#,
            "nonsense" => "BUY BUY BUY",
            "more" => r#"{"verdict":"agree","confidence_percent":80,"reasoning":"","amount":"1000000"}"#,
            _ => std::future::pending().await,
        };
        ReviewAnswer::parse(text).map(|answer| answer.by("trading-llm", false))
    }
}

fn reviewed() -> BuyBot {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config");
    bot().reviewed(crate::config::load(&folder).unwrap().review, Some(Arc::new(Obedient)))
}

/// The `n`th signal of its kind at such a door, with these words.
fn wish(n: u32, route: Route, priority: Priority, action: SignalAction, words: &str) -> Envelope {
    let mut wish = signal(action, "BTCUSDT", None);
    words.clone_into(&mut wish.reasoning);
    let mut input = envelope(route, Payload::TradingSignal(wish));
    input.header.message_id = MessageId(derive("test", &[&n.to_be_bytes()]));
    input.subject = Subject::of(route, priority);
    input
}

fn offer(bot: &BuyBot, input: &Envelope, after_ms: i64) -> Result<Vec<Message>, HandleError> {
    let market = market();
    let ctx = Ctx::new(NOW.plus_ms(after_ms), 0, &market, None);
    let Payload::TradingSignal(signal) = &input.payload else { unreachable!() };
    bot.signal(signal, input, &instruments(), &ctx)
}

/// Asks the model whatever waits for it; what it never answers is left.
async fn ask_all(bot: &BuyBot) {
    let reviews = bot.reviews().unwrap();
    while let Some(question) = reviews.desk().take() {
        let _ = futures::FutureExt::now_or_never(reviews.answer(question));
    }
}

#[tokio::test]
async fn a_reviewed_signal_becomes_what_its_row_says() {
    let (person, model) = (Route::Signal, Route::Idea);
    for (route, words, want) in [
        (person, "agree", "reviewed order"),
        (person, "unsure", "reviewed order"),
        (person, "object", "reviewed order, REVIEW_OBJECTS"),
        (person, "nonsense", "not_the_schema order"),
        (person, "more", "not_the_schema order"),
        (person, "silence", "timeout order"),
        (model, "agree", "reviewed order"),
        (model, "unsure", "SIGNAL_HELD unsure"),
        (model, "object", "SIGNAL_HELD objected"),
        (model, "nonsense", "SIGNAL_HELD not_the_schema"),
        (model, "more", "SIGNAL_HELD not_the_schema"),
        (model, "silence", "SIGNAL_HELD timeout"),
    ] {
        let bot = reviewed();
        let input = wish(1, route, Priority::Normal, SignalAction::Buy, words);
        assert!(matches!(offer(&bot, &input, 0), Err(HandleError::NotYet(_))), "{route:?} {words}");
        ask_all(&bot).await;
        if words == "silence" {
            assert!(matches!(offer(&bot, &input, 4_999), Err(HandleError::NotYet(_))), "{route:?} {words}");
        }
        let out = offer(&bot, &input, 5_000).unwrap();
        let told: Vec<String> = out.iter().map(summary).collect();
        assert_eq!(told.join(", "), want, "{route:?} {words}");
        assert_eq!(offer(&bot, &input, 5_100).unwrap(), out, "handled again, it says the same");
        bot.committed(&input);
        assert!(bot.reviews().unwrap().desk().is_empty());
    }
}

fn summary(message: &Message) -> String {
    match &message.payload {
        Payload::OrderIntent(intent) => match &intent.opinion {
            Opinion::NotAsked => "order".to_owned(),
            Opinion::NoOpinion { reason } => format!("{reason} order"),
            Opinion::Reviewed(_) => "reviewed order".to_owned(),
        },
        Payload::Notice(notice) => match notice.numbers.get("reason") {
            Some(reason) => format!("{} {reason}", notice.code),
            None => {
                assert_eq!(notice.numbers["words_of_the_model"], "wide ‹spread›");
                notice.code.clone()
            }
        },
        other => other.kind().to_owned(),
    }
}

#[test]
fn what_is_urgent_or_an_exit_waits_for_no_model() {
    for (route, priority, action, want) in [
        (Route::Signal, Priority::Critical, SignalAction::Buy, "order"),
        (Route::UserSignal, Priority::Urgent, SignalAction::Buy, "order"),
        (Route::Signal, Priority::Low, SignalAction::Sell, "order"),
        (Route::Idea, Priority::Normal, SignalAction::Sell, "order"),
        // Being urgent is no way around the review.
        (Route::Idea, Priority::Critical, SignalAction::Buy, "SIGNAL_HELD too_urgent"),
        (Route::Idea, Priority::Urgent, SignalAction::Buy, "SIGNAL_HELD too_urgent"),
    ] {
        let out = offer(&reviewed(), &wish(1, route, priority, action, "silence"), 0).unwrap();
        assert_eq!(out.iter().map(summary).collect::<Vec<_>>(), [want], "{route:?} {priority:?} {action:?}");
    }
}

#[tokio::test]
async fn a_model_that_hangs_stops_nothing_behind_those_that_wait() {
    let bot = reviewed();
    let buy = |n| wish(n, Route::Signal, Priority::Normal, SignalAction::Buy, "silence");
    let outcomes: Vec<_> = (0..12).map(|n| offer(&bot, &buy(n), 0)).collect();
    ask_all(&bot).await;
    let waiting = outcomes.iter().filter(|outcome| matches!(outcome, Err(HandleError::NotYet(_)))).count();
    assert_eq!(waiting, 6);
    assert!(waiting < BuyBot::SPEC.limits.max_in_flight, "places of the stream stay free");
    let told: Vec<_> = outcomes[6..].iter().flat_map(|out| out.as_ref().unwrap().iter().map(summary)).collect();
    assert_eq!(told, vec!["busy order"; 6]);
    let idea = wish(50, Route::Idea, Priority::High, SignalAction::Buy, "agree");
    assert_eq!(summary(&offer(&bot, &idea, 1).unwrap()[0]), "SIGNAL_HELD busy");
    for (priority, action) in [(Priority::Critical, SignalAction::Buy), (Priority::Normal, SignalAction::Sell)] {
        let out = offer(&bot, &wish(60, Route::Signal, priority, action, "silence"), 1).unwrap();
        assert_eq!(out.iter().map(summary).collect::<Vec<_>>(), ["order"]);
    }
    // When their time is over, they go.
    assert_eq!(summary(&offer(&bot, &buy(0), 5_000).unwrap()[0]), "timeout order");
}

#[test]
fn a_signal_near_its_end_does_not_wait_it_away() {
    let bot = reviewed();
    let mut input = wish(1, Route::Signal, Priority::Normal, SignalAction::Buy, "silence");
    input.header.valid_until = Some(NOW.plus_ms(7_000));
    assert!(matches!(offer(&bot, &input, 0), Err(HandleError::NotYet(_))));
    assert_eq!(summary(&offer(&bot, &input, 2_000).unwrap()[0]), "timeout order", "5 s before its end");
    input.header.message_id = MessageId(derive("test", &[b"later"]));
    assert_eq!(summary(&offer(&bot, &input, 2_500).unwrap()[0]), "timeout order", "no time at all");
}

#[test]
fn without_a_model_people_go_their_way_and_ideas_are_held() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config");
    let config = crate::config::load(&folder).unwrap().review;
    let off = ReviewConfig { enabled: false, ..config.clone() };
    for (bot, reason) in [
        (bot(), "not_configured"),
        (bot().reviewed(config, None), "not_configured"),
        (bot().reviewed(off, Some(Arc::new(Obedient))), "off"),
    ] {
        let of = |route| offer(&bot, &wish(1, route, Priority::Normal, SignalAction::Buy, "agree"), 0).unwrap();
        assert_eq!(of(Route::Signal).iter().map(summary).collect::<Vec<_>>(), [format!("{reason} order")]);
        assert_eq!(of(Route::Idea).iter().map(summary).collect::<Vec<_>>(), [format!("SIGNAL_HELD {reason}")]);
        assert!(bot.lacks()[0].contains("no model reviews"));
    }
    assert!(!reviewed().lacks().iter().any(|lack| lack.contains("reviews")));
}

#[test]
fn a_question_tells_of_the_market_as_it_was_seen() {
    let bot = reviewed();
    let reviews = bot.reviews().unwrap();
    for bar in 0..15 {
        reviews.on_candle(&candle(bar, 6_000_000 + bar * 3_000));
    }
    let position = PositionChanged {
        instrument: id(Venue::Paper, "BTCUSDT"),
        quantity: Quantity::parse("1").unwrap(),
        cost: Usd::ZERO,
        realised: Usd::ZERO,
        cash: Usd::ZERO,
    };
    reviews.on_position(&position, UserId::of_handle("operator"));
    let input = wish(1, Route::Signal, Priority::Normal, SignalAction::Buy, "agree");
    assert!(offer(&bot, &input, 3_000).is_err());
    let question = reviews.desk().take().unwrap();
    assert_eq!((question.priority, question.deadline_ms), (5, 5_000));
    for line in [
        "size_usd: under 1000",
        "spread_bps: under 1",
        "price_age: 2 to 10 s",
        "move_bps_over_15_bars: up 50 to 200",
        "mean_bar_range_bps_over_15_bars: calm, under 5",
        "position: held",
        "reason given: agree",
    ] {
        assert!(question.prompt.user.lines().any(|l| l == line), "{line} is not in\n{}", question.prompt.user);
    }
    // After a gap nothing is said of a move until there are enough bars again.
    reviews.on_candle(&candle(40, 6_000_000));
    assert!(offer(&bot, &wish(2, Route::Signal, Priority::Normal, SignalAction::Buy, ""), 0).is_err());
    assert!(reviews.desk().take().unwrap().prompt.user.contains("move_bps_over_15_bars: unknown"));
}
