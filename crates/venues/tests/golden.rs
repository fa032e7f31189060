//! A book built from the real recording must say what the exchange itself said.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test may fail loudly

use std::path::{Path, PathBuf};

use domain::market::{InstrumentId, Symbol, Venue};
use domain::money::{Price, Quantity};
use domain::time::UnixMs;
use venues::book::{Applied, BookSync};
use venues::builtin::{BuiltinConfig, BuiltinInstrument, BuiltinMarket};
use venues::candles::CandleBuilder;
use venues::feed::{self, FeedEvent, FeedKind, Level};

/// What a replay found.
#[derive(Debug, Default, PartialEq, Eq)]
struct Found {
    events: usize,
    /// Depth updates applied after which a bookTicker at or before the book's id is known.
    points: usize,
    /// Points where the newest such bookTicker equals the book's best bid and ask, in price and size.
    agree: usize,
    /// Points where a bookTicker carries exactly the book's id.
    same_id: usize,
    same_id_agree: usize,
    chain_gaps: usize,
    trade_gaps: usize,
}

/// Replays. A bookTicker may be received before the depth update that contains its id, so points are compared at the end.
fn replay(events: impl Iterator<Item = FeedEvent>) -> Found {
    let mut found = Found::default();
    let mut sync = BookSync::default();
    let mut tickers = std::collections::BTreeMap::new();
    let mut points: Vec<(u64, Level, Level)> = Vec::new();
    let (mut last_depth, mut last_trade) = (None, None);
    for event in events {
        found.events += 1;
        match &event.kind {
            FeedKind::Depth { first_update_id, final_update_id, .. } => {
                found.chain_gaps += usize::from(last_depth.is_some_and(|last| *first_update_id != last + 1));
                last_depth = Some(*final_update_id);
            }
            FeedKind::Trade { trade_id, .. } => {
                found.trade_gaps += usize::from(last_trade.is_some_and(|last| *trade_id != last + 1));
                last_trade = Some(*trade_id);
            }
            FeedKind::BookTicker { update_id, bid, bid_quantity, ask, ask_quantity } => {
                let bid = Level { price: *bid, quantity: *bid_quantity };
                let ask = Level { price: *ask, quantity: *ask_quantity };
                tickers.insert(*update_id, (bid, ask));
            }
            FeedKind::Snapshot { .. } => {}
        }
        match sync.apply(&event) {
            Applied::Resync(gap) => panic!("{gap}"),
            Applied::Updated => {
                let book = sync.book().unwrap();
                points.push((sync.last_update_id().unwrap(), book.best_bid().unwrap(), book.best_ask().unwrap()));
            }
            _ => {}
        }
    }
    for (id, bid, ask) in points {
        let Some((&ticker_id, said)) = tickers.range(..=id).next_back() else { continue };
        let agrees = *said == (bid, ask);
        found.points += 1;
        found.agree += usize::from(agrees);
        if ticker_id == id {
            found.same_id += 1;
            found.same_id_agree += usize::from(agrees);
        }
    }
    found
}

/// The same code on a recording of our own, through the same files: nothing is left to the presence of the real one.
#[test]
fn the_book_of_a_generated_recording_agrees_with_its_tickers() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("solusdt_generated.gz");
    let instrument = BuiltinInstrument {
        symbol: Symbol::parse("SOLUSDT").unwrap(),
        base: "SOL".into(),
        quote: "USDT".into(),
        start_price: Price::parse("155.5").unwrap(),
        tick: rust_decimal::Decimal::new(1, 2),
        step: rust_decimal::Decimal::new(1, 3),
        min_notional: rust_decimal::Decimal::from(5),
        volatility_milli_percent: 50,
        spread_ticks: 1,
        levels: 20,
        level_quantity: Quantity::parse("40").unwrap(),
    };
    let config = BuiltinConfig { seed: 7, step_ms: 100, instruments: vec![instrument], script: Vec::new() };
    let start = UnixMs(1_700_000_000_000);
    let made = BuiltinMarket::new(config, start).unwrap().advance_to(start.plus_ms(300_000));
    let mut recorder = feed::Recorder::create(&file).unwrap();
    made.iter().for_each(|event| recorder.write(event).unwrap());
    recorder.finish().unwrap();
    assert!(feed::Recorder::create(&file).is_err(), "a recording is never overwritten");

    let read: Vec<FeedEvent> = events(&[file]).collect();
    assert_eq!(read, made);
    let found = replay(read.into_iter());
    assert_eq!((found.chain_gaps, found.trade_gaps), (0, 0), "{found:?}");
    // 3000 steps; the snapshot comes before any ticker.
    assert_eq!((found.points, found.agree, found.same_id, found.same_id_agree), (3000, 3000, 3000, 3000), "{found:?}");
}

fn data() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/binance-spot-recording");
    folder.is_dir().then_some(folder)
}

fn events(files: &[PathBuf]) -> impl Iterator<Item = FeedEvent> + '_ {
    files.iter().flat_map(|file| feed::open(file).unwrap().map(Result::unwrap))
}

fn check(test: &str, symbol: &str, points: usize, at_least: usize) {
    let Some(folder) = data() else {
        println!("skipped: {test}: no ../shared/data");
        return;
    };
    let files = [folder.join(format!("{symbol}_20240808.gz")), folder.join(format!("{symbol}_20240809.gz"))];
    let found = replay(events(&files));
    assert_eq!((found.chain_gaps, found.trade_gaps), (0, 0), "{found:?}");
    // The snapshot is a point too where a bookTicker came before it.
    assert!(found.points >= points, "{found:?}");
    assert!(found.points - found.agree <= points - at_least, "{found:?}");
    assert!(found.agree >= at_least, "{found:?}");
    assert_eq!(found.same_id_agree, found.same_id, "{found:?}");
    assert!(found.same_id > 1000, "{found:?}");
}

#[test]
fn the_btc_book_agrees_with_the_exchange() {
    check("the_btc_book_agrees_with_the_exchange", "btcusdt", 6_493, 6_491);
}

#[test]
fn the_eth_book_agrees_with_the_exchange() {
    check("the_eth_book_agrees_with_the_exchange", "ethusdt", 6_468, 6_468);
}

#[test]
fn candles_of_the_recording_hold_every_trade_once() {
    let Some(folder) = data() else {
        println!("skipped: candles_of_the_recording_hold_every_trade_once: no ../shared/data");
        return;
    };
    let files = [folder.join("btcusdt_20240808.gz"), folder.join("btcusdt_20240809.gz")];
    let instrument = InstrumentId { venue: Venue::Binance, symbol: Symbol::parse("BTCUSDT").unwrap() };
    let mut builder = CandleBuilder::new(instrument, 60_000, 0);
    let mut candles = Vec::new();
    let mut trades = 0;
    for event in events(&files) {
        if let FeedKind::Trade { price, quantity, traded_ms, .. } = event.kind {
            trades += 1;
            candles.extend(builder.trade(price, quantity, UnixMs(traded_ms)).unwrap());
        }
    }
    candles.extend(builder.close_due(UnixMs(i64::MAX)));
    assert_eq!(candles.iter().map(|c| c.trades).sum::<u64>(), trades);
    assert_eq!(trades, 9_757 + 10_147);
    assert_eq!(builder.late(), 0);
    assert!(candles.windows(2).all(|w| w[0].open_time < w[1].open_time));
    assert!(candles.iter().all(|c| c.low <= c.open && c.open <= c.high && c.low <= c.close && c.close <= c.high));
    let midnight = candles.iter().find(|c| c.open_time == UnixMs(1_723_161_600_000)).unwrap();
    assert_eq!(midnight.open_time.to_string(), "2024-08-09T00:00:00.000Z");
}
