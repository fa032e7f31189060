//! The market data client against a strict double of the exchange that breaks in every way we know of.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods)] // a test may fail loudly

mod common;
#[path = "common/double.rs"]
mod double;

use std::sync::Arc;
use std::time::{Duration, Instant};

use domain::market::{Symbol, Venue};
use domain::time::{Clock, UnixMs};
use double::{Double, Fault, RestFault, symbols};
use rust_decimal::Decimal;
use venues::VenueError;
use venues::binance::{BinanceConfig, RestClient};
use venues::book::Books;
use venues::feed::FeedKind;
use venues::market::{BinanceSource, MarketSource, SourceEvent};

/// Nothing here may take longer.
const BOUND: Duration = Duration::from_secs(20);

struct Wall;

impl Clock for Wall {
    fn now(&self) -> UnixMs {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        UnixMs(i64::try_from(since.as_millis()).unwrap())
    }
}

fn tls() {
    // Only the first test to come here installs it.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

fn config(double: &Double) -> BinanceConfig {
    BinanceConfig {
        rest_url: format!("http://127.0.0.1:{}", double.port),
        stream_url: format!("ws://127.0.0.1:{}", double.port),
        stale_ms: 60_000,
        backoff_min_ms: 20,
        backoff_max_ms: 100,
        ..BinanceConfig::public(symbols())
    }
}

fn start(double: &Double, change: impl FnOnce(&mut BinanceConfig)) -> BinanceSource {
    tls();
    let mut config = config(double);
    change(&mut config);
    BinanceSource::start(config, Arc::new(Wall)).unwrap()
}

/// A reader as the desk is one: keeps books, and checks them against each bookTicker of the same update id.
#[derive(Default)]
struct Reader {
    books: Books,
    lost: Vec<(Option<Symbol>, String)>,
    checked: std::collections::BTreeMap<Symbol, usize>,
}

impl Reader {
    fn take(&mut self, event: SourceEvent) {
        let event = match event {
            SourceEvent::Lost { symbol, reason } => {
                self.books.reset(symbol.as_ref());
                self.checked.clear();
                self.lost.push((symbol, reason));
                return;
            }
            SourceEvent::Feed(event) => event,
        };
        if let venues::book::Applied::Resync(gap) = self.books.apply(&event) {
            panic!("the source passed on a gap: {gap}");
        }
        // The double sends a bookTicker behind each depth update, of the same id.
        if let FeedKind::BookTicker { update_id, bid, bid_quantity, ask, ask_quantity, .. } = event.kind
            && self.books.last_update_id(&event.symbol) == Some(update_id)
            && let Some(tick) = self.books.tick(Venue::Binance, &event.symbol)
        {
            assert_eq!(
                (tick.bid, tick.bid_quantity, tick.ask, tick.ask_quantity),
                (bid, bid_quantity, ask, ask_quantity)
            );
            *self.checked.entry(event.symbol).or_default() += 1;
        }
    }

    /// Reads until both books have agreed with so many bookTickers since the last loss, and so much was lost.
    async fn follow(&mut self, source: &mut BinanceSource, points: usize, losses: usize) {
        let reading = async {
            while self.lost.len() < losses || self.checked.len() < 2 || self.checked.values().any(|&n| n < points) {
                self.take(source.next().await.expect("a source never ends"));
            }
        };
        tokio::time::timeout(BOUND, reading).await.expect("within the bound");
    }
}

#[tokio::test]
async fn books_follow_the_exchange() {
    let double = Double::start(&[], &[]).await;
    let mut source = start(&double, |_| {});
    source.probe().await.unwrap();
    let mut reader = Reader::default();
    reader.follow(&mut source, 50, 0).await;
    assert!(reader.lost.is_empty(), "{:?}", reader.lost);
    let world = double.world.lock().unwrap();
    assert_eq!(world.connections, 1);
    assert!(world.pongs > 0, "pings are answered");
    assert_eq!(world.calls.iter().filter(|path| path.starts_with("/api/v3/depth")).count(), 2);
    assert!(world.violations.is_empty(), "{:?}", world.violations);
}

#[tokio::test]
async fn whatever_breaks_the_books_are_whole_again_afterwards() {
    for (fault, of_one, reason) in [
        (Fault::Gap, true, "expected update"),
        (Fault::Drop, false, ""),
        (Fault::Close, false, "closed by the exchange"),
        (Fault::Garbage, false, "unknown form"),
        (Fault::Binary, false, "no text"),
        (Fault::Silence, false, "nothing received for 1000 ms"),
    ] {
        let double = Double::start(&[(60, fault)], &[]).await;
        // A machine that stands still for a second is no silence of the exchange.
        let stale_ms = if fault == Fault::Silence { 1_000 } else { 60_000 };
        let mut source = start(&double, |config| config.stale_ms = stale_ms);
        let mut reader = Reader::default();
        reader.follow(&mut source, 20, 1).await;
        assert_eq!(reader.lost.len(), 1, "{fault:?}: {:?}", reader.lost);
        let (symbol, why) = &reader.lost[0];
        assert_eq!(symbol.is_some(), of_one, "{fault:?}");
        assert!(why.contains(reason), "{fault:?}: {why}");
        assert_eq!(double.world.lock().unwrap().connections, if of_one { 1 } else { 2 }, "{fault:?}");
        assert!(double.violations().is_empty(), "{fault:?}: {:?}", double.violations());
    }
}

#[tokio::test]
async fn a_snapshot_that_is_no_good_is_fetched_again() {
    let rest_faults =
        [RestFault::OldSnapshot, RestFault::Garbage, RestFault::Status(503, None), RestFault::OldSnapshot];
    let double = Double::start(&[], &rest_faults).await;
    let mut source = start(&double, |_| {});
    let mut reader = Reader::default();
    reader.follow(&mut source, 10, 0).await;
    assert!(reader.lost.is_empty(), "{:?}", reader.lost);
    let depth_calls = double.world.lock().unwrap().calls.iter().filter(|path| path.contains("depth")).count();
    assert_eq!(depth_calls, 6);
    assert!(double.violations().is_empty(), "{:?}", double.violations());
}

#[tokio::test]
async fn nothing_is_sent_while_the_exchange_wants_quiet() {
    for status in [429, 418] {
        let double = Double::start(&[], &[RestFault::Status(status, Some(1))]).await;
        let mut source = start(&double, |_| {});
        let mut reader = Reader::default();
        let began = Instant::now();
        reader.follow(&mut source, 5, 0).await;
        assert!(began.elapsed() > Duration::from_millis(950), "{status}");
        assert!(double.violations().is_empty(), "{status}: {:?}", double.violations());
    }
}

#[tokio::test]
async fn a_refused_handshake_is_a_throttle_too() {
    for status in [429, 418] {
        let double = Double::start(&[(0, Fault::Refuse(status, Some(1)))], &[]).await;
        let mut source = start(&double, |_| {});
        let mut reader = Reader::default();
        reader.follow(&mut source, 5, 1).await;
        assert!(reader.lost[0].1.contains("rate limited"), "{:?}", reader.lost);
        assert!(double.violations().is_empty(), "{status}: {:?}", double.violations());
    }
}

#[tokio::test]
async fn a_throttle_without_a_time_has_one_of_ours() {
    tls();
    for (status, banned, pause_ms) in [(429, false, 10_000), (418, true, 120_000)] {
        let double = Double::start(&[], &[RestFault::Status(status, None)]).await;
        let client = RestClient::new(&format!("http://127.0.0.1:{}", double.port)).unwrap();
        for _ in 0..3 {
            let got = client.probe().await;
            let Err(VenueError::RateLimited { retry_after_ms, banned: is_ban }) = got else { panic!("{got:?}") };
            assert_eq!(is_ban, banned);
            assert!((pause_ms - 5_000..=pause_ms).contains(&retry_after_ms), "{retry_after_ms}");
        }
        assert_eq!(double.world.lock().unwrap().calls.len(), 1, "the later calls never left");
    }
}

#[tokio::test]
async fn a_connection_is_replaced_before_the_exchange_ends_it() {
    let double = Double::start(&[], &[]).await;
    let mut source = start(&double, |config| config.max_connection_ms = 1_000);
    let mut reader = Reader::default();
    reader.follow(&mut source, 5, 2).await;
    assert!(reader.lost.iter().all(|(symbol, why)| symbol.is_none() && why.contains("24 hours")), "{:?}", reader.lost);
    assert!(double.violations().is_empty(), "{:?}", double.violations());
}

#[tokio::test]
async fn the_rules_of_the_instruments_are_read() {
    let double = Double::start(&[], &[]).await;
    let mut source = start(&double, |_| {});
    let instruments = source.instruments(Venue::Paper).await.unwrap();
    assert_eq!(instruments.len(), 2);
    let btc = &instruments[0];
    assert_eq!((btc.id.to_string(), btc.base.as_str(), btc.quote.as_str()), ("paper:BTCUSDT".into(), "BTC", "USDT"));
    assert_eq!((btc.tick, btc.step, btc.min_notional), (Decimal::new(1, 2), Decimal::new(1, 4), Decimal::from(5)));
    assert_eq!(btc.max_quantity, Decimal::from(9_000));
}

#[tokio::test]
async fn an_exchange_out_of_reach_is_known_within_three_seconds() {
    tls();
    // A port that was free a moment ago, and one that takes connections and never answers.
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let mute = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    for address in [closed, mute.local_addr().unwrap()] {
        let began = Instant::now();
        let client = RestClient::new(&format!("http://{address}")).unwrap();
        assert!(matches!(client.probe().await, Err(VenueError::Connection(_))));
        assert!(began.elapsed() < Duration::from_millis(3_900), "{:?}", began.elapsed());
    }
}
