//! The built-in, the scripted and the recorded market through the port the desk is written against.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods)] // a test may fail loudly

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use domain::market::{Symbol, Venue};
use domain::money::{Price, Quantity};
use domain::time::{Clock, UnixMs};
use proptest::prelude::*;
use rust_decimal::Decimal;
use venues::VenueError;
use venues::book::{Applied, Books};
use venues::builtin::{BuiltinConfig, BuiltinInstrument, BuiltinMarket, ScriptPoint};
use venues::feed::{FeedEvent, FeedKind, Recorder, parse_line, write_line};
use venues::market::{BuiltinSource, MarketSource, Pace, RecordingSource, SourceEvent};

const BOUND: Duration = Duration::from_secs(20);

/// Goes forward by 10 ms with each look at it.
struct Hurried(AtomicI64);

impl Clock for Hurried {
    fn now(&self) -> UnixMs {
        UnixMs(self.0.fetch_add(10, Ordering::Relaxed))
    }
}

fn symbol(name: &str) -> Symbol {
    Symbol::parse(name).unwrap()
}

fn instrument(name: &str, price: &str, volatility_milli_percent: u32) -> BuiltinInstrument {
    BuiltinInstrument {
        symbol: symbol(name),
        base: name.trim_end_matches("USDT").to_owned(),
        quote: "USDT".into(),
        start_price: Price::parse(price).unwrap(),
        tick: Decimal::new(1, 2),
        step: Decimal::new(1, 4),
        min_notional: Decimal::from(5),
        volatility_milli_percent,
        spread_ticks: 2,
        levels: 15,
        level_quantity: Quantity::parse("2").unwrap(),
    }
}

fn config(seed: u64, volatility: u32, script: Vec<ScriptPoint>) -> BuiltinConfig {
    let instruments = vec![instrument("BTCUSDT", "60000", volatility), instrument("ETHUSDT", "2500", volatility)];
    BuiltinConfig { seed, step_ms: 100, instruments, script }
}

/// What a market says must be without contradiction.
fn consistent(events: &[FeedEvent]) -> Books {
    let mut books = Books::default();
    let mut last_trade = std::collections::BTreeMap::<Symbol, u64>::new();
    assert!(events.is_sorted_by_key(|event| event.received_at_ns));
    for event in events {
        let before = books.book(&event.symbol).map(|(book, _)| (book.best_bid(), book.best_ask()));
        match &event.kind {
            FeedKind::Trade { trade_id, price, quantity, buyer_is_maker, .. } => {
                let last = last_trade.insert(event.symbol.clone(), *trade_id);
                assert_eq!(*trade_id, last.map_or(1, |last| last + 1));
                assert!(!quantity.is_zero());
                let (bid, ask) = before.unwrap();
                // Nobody sells above the best bid or buys below the best ask.
                assert!(if *buyer_is_maker { *price <= bid.unwrap().price } else { *price >= ask.unwrap().price });
            }
            FeedKind::BookTicker { bid, ask, bid_quantity, ask_quantity, .. } => {
                let tick = books.tick(Venue::Paper, &event.symbol).unwrap();
                assert_eq!(
                    (tick.bid, tick.ask, tick.bid_quantity, tick.ask_quantity),
                    (*bid, *ask, *bid_quantity, *ask_quantity)
                );
                assert!(bid < ask);
            }
            _ => assert_eq!(books.apply(event), Applied::Updated, "{event:?}"),
        }
    }
    books
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_built_in_market_never_contradicts_itself_and_is_a_function_of_its_seed(
        seed in any::<u64>(), volatility in 0u32..3_000, moves in proptest::collection::vec((0i64..20, 1u32..9_000_000), 0..6)
    ) {
        let mut made = Vec::new();
        for round in 0..2 {
            let mut market = BuiltinMarket::new(config(seed, volatility, Vec::new()), UnixMs(0)).unwrap();
            let mut events = market.advance_to(UnixMs(1_000));
            let mut now = 1_000;
            for (steps, cents) in &moves {
                // A price without room for a book is refused and changes nothing.
                let _ = market.set_price(&symbol("BTCUSDT"), Price::new(Decimal::new(i64::from(*cents), 2)).unwrap());
                now += steps * 100;
                // Many small advances are one large one.
                if round == 0 {
                    events.extend(market.advance_to(UnixMs(now)));
                } else {
                    ((now - steps * 100)..=now).step_by(37).for_each(|at| events.extend(market.advance_to(UnixMs(at))));
                    events.extend(market.advance_to(UnixMs(now)));
                }
            }
            consistent(&events);
            made.push(events);
        }
        prop_assert_eq!(&made[0], &made[1]);
        for event in &made[0] {
            let mut line = String::new();
            write_line(&mut line, event);
            let read = parse_line(&line, None).unwrap();
            prop_assert_eq!(read.as_ref(), Some(event));
        }
    }
}

#[test]
fn a_scripted_price_is_where_the_script_says_and_is_traded_to() {
    let script = vec![
        ScriptPoint { after_ms: 500, symbol: symbol("BTCUSDT"), price: Price::parse("57000").unwrap() },
        ScriptPoint { after_ms: 900, symbol: symbol("BTCUSDT"), price: Price::parse("63000").unwrap() },
    ];
    let mut market = BuiltinMarket::new(config(1, 0, script), UnixMs(0)).unwrap();
    let mut events = Vec::new();
    for (at_ms, want) in [(400, "60000"), (500, "57000"), (800, "57000"), (900, "63000"), (5_000, "63000")] {
        events.extend(market.advance_to(UnixMs(at_ms)));
        let books = consistent(&events);
        let mid = |name: &str| books.tick(Venue::Paper, &symbol(name)).unwrap().mark().unwrap().price.to_string();
        assert_eq!((mid("BTCUSDT").as_str(), mid("ETHUSDT").as_str()), (want, "2500"), "at {at_ms}");
    }
    market.set_price(&symbol("ETHUSDT"), Price::parse("2000").unwrap()).unwrap();
    events.extend(market.advance_to(UnixMs(5_100)));
    assert_eq!(
        consistent(&events).tick(Venue::Paper, &symbol("ETHUSDT")).unwrap().mark().unwrap().price.to_string(),
        "2000"
    );
    let unknown = market.set_price(&symbol("DOGEUSDT"), Price::parse("1").unwrap());
    assert!(matches!(unknown, Err(VenueError::UnknownInstrument(_))));
    assert!(matches!(market.set_price(&symbol("ETHUSDT"), Price::parse("0.05").unwrap()), Err(VenueError::Config(_))));
}

#[test]
fn a_market_joined_late_is_followed_from_a_snapshot() {
    let mut market = BuiltinMarket::new(config(9, 50, Vec::new()), UnixMs(0)).unwrap();
    market.advance_to(UnixMs(2_000));
    let mut books = Books::default();
    for event in market.snapshots(UnixMs(2_000)).iter().chain(&market.advance_to(UnixMs(4_000))) {
        assert!(matches!(books.apply(event), Applied::Updated | Applied::Other));
    }
    assert!(books.tick(Venue::Paper, &symbol("ETHUSDT")).is_some());
}

async fn take(source: &mut impl MarketSource, most: usize) -> Vec<FeedEvent> {
    let mut events = Vec::new();
    let reading = async {
        while events.len() < most {
            match source.next().await {
                Some(SourceEvent::Feed(event)) => events.push(event),
                Some(SourceEvent::Lost { reason, .. }) => panic!("{reason}"),
                None => return,
            }
        }
    };
    tokio::time::timeout(BOUND, reading).await.expect("within the bound");
    events
}

#[tokio::test]
async fn a_running_market_can_be_steered() {
    let mut source = BuiltinSource::start(config(4, 0, Vec::new()), Arc::new(Hurried(AtomicI64::new(0)))).unwrap();
    assert_eq!(source.instruments(Venue::Paper).await.unwrap().len(), 2);
    let mut events = take(&mut source, 20).await;
    let steering = source.steering();
    steering.set_price(&symbol("BTCUSDT"), Price::parse("61000").unwrap()).unwrap();
    events.extend(take(&mut source, 60).await);
    let whole = events.iter().rposition(|event| matches!(event.kind, FeedKind::BookTicker { .. })).unwrap();
    let books = consistent(&events[..=whole]);
    assert_eq!(books.tick(Venue::Paper, &symbol("BTCUSDT")).unwrap().mark().unwrap().price.to_string(), "61000");
}

#[tokio::test]
async fn a_recording_plays_what_was_recorded_and_ends() {
    let folder = tempfile::tempdir().unwrap();
    let mut market = BuiltinMarket::new(config(5, 100, Vec::new()), UnixMs(0)).unwrap();
    let mut all = Vec::new();
    let mut files = Vec::new();
    for (part, until_ms) in [("btcusdt_1.gz", 300), ("btcusdt_2.gz", 600)] {
        let events = market.advance_to(UnixMs(until_ms));
        let path = folder.path().join(part);
        let mut recorder = Recorder::create(&path).unwrap();
        events.iter().for_each(|event| recorder.write(event).unwrap());
        recorder.finish().unwrap();
        files.push(path);
        all.extend(events);
    }
    let rules = market.instruments(Venue::Binance);
    for pace in [Pace::Unbounded, Pace::AsRecorded] {
        let began = std::time::Instant::now();
        let mut source = RecordingSource::new(files.clone(), rules.clone(), pace);
        assert_eq!(source.instruments(Venue::Paper).await.unwrap()[0].id.venue, Venue::Paper);
        assert_eq!(take(&mut source, usize::MAX).await, all);
        let paced = began.elapsed() >= Duration::from_millis(590);
        assert_eq!(paced, pace == Pace::AsRecorded);
    }
}

#[tokio::test]
async fn a_damaged_recording_says_what_was_lost_and_ends() {
    let folder = tempfile::tempdir().unwrap();
    let (plain, missing) = (folder.path().join("btcusdt_1.txt"), folder.path().join("nowhere.gz"));
    std::fs::write(&plain, "1 {\"lastUpdateId\":1,\"bids\":[],\"asks\":[]}\n2 garbage\n").unwrap();
    let cut = folder.path().join("btcusdt_2.gz");
    std::fs::write(&cut, [0x1f, 0x8b, 8, 0, 0, 0]).unwrap();
    let mut source = RecordingSource::new(vec![plain, missing, cut], Vec::new(), Pace::Unbounded);
    let mut said = Vec::new();
    while let Some(event) = source.next().await {
        said.push(match event {
            SourceEvent::Feed(event) => event.symbol.to_string(),
            SourceEvent::Lost { reason, .. } => reason.split(':').next().unwrap().to_owned(),
        });
        assert!(said.len() < 10, "{said:?}");
    }
    assert_eq!(said.len(), 4, "{said:?}");
    assert_eq!(said[0], "BTCUSDT");
}
