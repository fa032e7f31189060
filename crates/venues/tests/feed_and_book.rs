//! What the exchange writes is read as it is meant, and a book is what a plain map would be.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test may fail loudly

use std::collections::BTreeMap;

use domain::market::{Symbol, Venue};
use domain::money::{Price, Quantity};
use domain::order::Side;
use domain::time::UnixMs;
use proptest::prelude::*;
use rust_decimal::Decimal;
use venues::VenueError;
use venues::book::{Applied, BookSync, Books, OrderBook};
use venues::feed::{FeedEvent, FeedKind, Level, Recording, parse_line, parse_message, write_line};

fn symbol() -> Symbol {
    Symbol::parse("BTCUSDT").unwrap()
}

fn level(price: i64, quantity: i64) -> Level {
    let price = Price::new(Decimal::new(price, 2)).unwrap();
    Level { price, quantity: Quantity::new(Decimal::new(quantity, 5)).unwrap() }
}

fn event(kind: FeedKind) -> FeedEvent {
    FeedEvent { received_at_ns: 1_723_161_253_937_085_768, symbol: symbol(), kind }
}

fn depth(first_update_id: u64, final_update_id: u64, bids: Vec<Level>, asks: Vec<Level>) -> FeedEvent {
    event(FeedKind::Depth { first_update_id, final_update_id, event_ms: 1_723_161_255_208, bids, asks })
}

fn snapshot(last_update_id: u64, bids: Vec<Level>, asks: Vec<Level>) -> FeedEvent {
    event(FeedKind::Snapshot { last_update_id, bids, asks })
}

#[test]
fn the_exchange_s_messages_are_read() {
    let check = |json: &str, want: Option<FeedKind>| {
        let got = parse_message(5, json, Some(&symbol())).unwrap();
        assert_eq!(got.map(|event| event.kind), want, "{json}");
    };
    let trade = FeedKind::Trade {
        trade_id: 3_735_683_259,
        price: Price::parse("61837.63").unwrap(),
        quantity: Quantity::parse("0.02").unwrap(),
        traded_ms: 1_723_161_255_342,
        buyer_is_maker: true,
    };
    let bare = r#"{"e":"trade","E":1723161255343,"s":"BTCUSDT","t":3735683259,"p":"61837.63000000","q":"0.02000000","T":1723161255342,"m":true,"M":true}"#;
    check(bare, Some(trade.clone()));
    check(&format!(r#"{{"stream":"btcusdt@trade","data":{bare}}}"#), Some(trade.clone()));
    check(&format!(r#"{{"data":{bare},"stream":"btcusdt@trade"}}"#), Some(trade));
    check(
        r#"{"u":400900217,"s":"BTCUSDT","b":"25.35190000","B":"31.21000000","a":"25.36520000","A":"40.66000000"}"#,
        Some(FeedKind::BookTicker {
            update_id: 400_900_217,
            bid: Price::parse("25.3519").unwrap(),
            bid_quantity: Quantity::parse("31.21").unwrap(),
            ask: Price::parse("25.3652").unwrap(),
            ask_quantity: Quantity::parse("40.66").unwrap(),
        }),
    );
    // No market data: the answer to a subscription, a stream of no use here, a book with an empty side.
    check(r#"{"result":null,"id":1}"#, None);
    check(r#"{"e":"kline","E":1,"s":"BTCUSDT","k":{"t":1}}"#, None);
    check(r#"{"u":1,"s":"BTCUSDT","b":"0.00000000","B":"0.00000000","a":"2.0","A":"1.0"}"#, None);
    // Snapshots of long ago carried an empty third element; a field of tomorrow is no reason to stop.
    check(
        r#"{"lastUpdateId":7,"bids":[["1.50","2.0",[]]],"asks":[],"new":{"x":1}}"#,
        Some(FeedKind::Snapshot { last_update_id: 7, bids: vec![level(150, 200_000)], asks: vec![] }),
    );
}

#[test]
fn what_cannot_be_read_is_refused() {
    for json in [
        "",
        "garbage",
        "{",
        r#"{"e":"trade","s":"BTCUSDT"}"#,
        r#"{"e":"trade","E":1,"s":"BTCUSDT","t":1,"p":"-1","q":"1","T":1,"m":true}"#,
        r#"{"e":"trade","E":1,"s":"BTCUSDT","t":1,"p":"1e3","q":"1","T":1,"m":true}"#,
        r#"{"e":"trade","E":1,"s":"BTC/USDT","t":1,"p":"1","q":"1","T":1,"m":true}"#,
        r#"{"e":"depthUpdate","E":1,"s":"BTCUSDT","U":1,"u":2,"b":[["0","1"]],"a":[]}"#,
        r#"{"e":"depthUpdate","E":1,"s":"BTCUSDT","U":1,"u":2,"b":[["1"]],"a":[]}"#,
        r#"{"e":"depthUpdate","E":1,"s":"BTCUSDT","U":1,"u":2,"b":[[1.5,"1"]],"a":[]}"#,
        r#"{"e":"depthUpdate","E":1,"s":"BTCUSDT","U":-1,"u":2,"b":[],"a":[]}"#,
    ] {
        let got = parse_message(5, json, None);
        assert!(matches!(got, Err(VenueError::Malformed { .. })), "{json}: {got:?}");
    }
    assert!(matches!(parse_line("x {}", None), Err(VenueError::Malformed { .. })));
    assert!(matches!(parse_line("17", None), Err(VenueError::Malformed { .. })));
    assert!(matches!(parse_line("\n", None), Ok(None)));
}

#[test]
fn a_refusal_does_not_repeat_what_was_sent_at_length() {
    let long = "9".repeat(100_000);
    for json in
        [format!(r#"{{"e":"trade","t":"{long}"}}"#), format!(r#"{{"{long}"#), format!(r#"{{"e":"{long}","u":[]}}"#)]
    {
        let error = parse_message(5, &json, None).unwrap_err().to_string();
        assert!(error.len() < 400, "{} bytes", error.len());
    }
}

#[test]
fn a_line_without_an_end_ends_the_recording() {
    let endless = std::io::BufReader::new(std::io::repeat(b'x'));
    let mut recording = Recording::of(Box::new(endless), std::path::Path::new("btcusdt.gz"));
    let error = recording.next().unwrap().unwrap_err().to_string();
    assert!(error.contains("line 1 is longer than"), "{error}");
    assert!(recording.next().is_none());
}

#[test]
fn updates_are_linked_to_a_snapshot_by_their_ids() {
    let check = |events: &[FeedEvent], want: &[Applied]| {
        let mut sync = BookSync::default();
        let got: Vec<Applied> = events.iter().map(|event| sync.apply(event)).collect();
        assert_eq!(got, want);
        sync
    };
    let up = |first, last| depth(first, last, vec![], vec![]);
    let snap = |last| snapshot(last, vec![level(100, 1)], vec![level(101, 1)]);
    let gap = |expected, first_update_id, final_update_id| {
        Applied::Resync(venues::book::Gap { expected, first_update_id, final_update_id })
    };
    use Applied::{Buffered, Stale, Updated};
    // Kept, then dropped, straddled and linked.
    let sync = check(
        &[up(1, 4), up(5, 9), up(10, 12), snap(7), up(13, 13)],
        &[Buffered, Buffered, Buffered, Updated, Updated],
    );
    assert_eq!(sync.last_update_id(), Some(13));
    // The first may straddle, no later one.
    check(&[snap(7), up(6, 9), up(9, 11)], &[Updated, Updated, gap(10, 9, 11)]);
    check(&[snap(7), up(3, 7), up(8, 9), up(8, 9), up(10, 10)], &[Updated, Stale, Updated, Stale, Updated]);
    check(&[snap(7), up(9, 9)], &[Updated, gap(8, 9, 9)]);
    // After a gap everything is kept again, the one that showed it included.
    let sync = check(&[snap(7), up(10, 11), up(12, 12), snap(9)], &[Updated, gap(8, 10, 11), Buffered, Updated]);
    assert_eq!(sync.last_update_id(), Some(12));
    // A snapshot older than the updates kept is of no use; a younger one is.
    let sync = check(&[up(20, 21), snap(15), snap(20)], &[Buffered, gap(16, 20, 21), Updated]);
    assert_eq!(sync.last_update_id(), Some(21));
    assert!(check(&[up(20, 21), snap(15)], &[Buffered, gap(16, 20, 21)]).book().is_none());
    // An older snapshot never takes a book back.
    assert_eq!(check(&[snap(7), up(8, 8), snap(7)], &[Updated, Updated, Stale]).last_update_id(), Some(8));
}

#[test]
fn a_book_out_of_step_has_no_price() {
    let mut books = Books::default();
    books.apply(&snapshot(1, vec![level(100, 5)], vec![level(102, 5)]));
    let tick = books.tick(Venue::Paper, &symbol()).unwrap();
    assert_eq!(tick.mark().unwrap().price.to_string(), "1.01");
    assert_eq!(tick.received_at, UnixMs(1_723_161_253_937));
    books.apply(&depth(3, 3, vec![], vec![]));
    assert!(books.tick(Venue::Paper, &symbol()).is_none());
    books.apply(&snapshot(3, vec![level(100, 5)], vec![]));
    assert!(books.tick(Venue::Paper, &symbol()).is_none(), "one side is empty");
    books.reset(None);
    assert!(books.book(&symbol()).is_none());
}

fn levels(most: usize) -> impl Strategy<Value = Vec<Level>> {
    proptest::collection::vec((1i64..60, 0i64..5).prop_map(|(price, quantity)| level(price, quantity)), 0..most)
}

fn any_kind() -> impl Strategy<Value = FeedKind> {
    let price = || (1i64..10_000_000_000, 0u32..9).prop_map(|(n, scale)| Price::new(Decimal::new(n, scale)).unwrap());
    let quantity =
        || (0i64..10_000_000_000, 0u32..9).prop_map(|(n, scale)| Quantity::new(Decimal::new(n, scale)).unwrap());
    prop_oneof![
        (any::<u64>(), levels(8), levels(8)).prop_map(|(last_update_id, bids, asks)| FeedKind::Snapshot {
            last_update_id,
            bids,
            asks
        }),
        (any::<u64>(), any::<u64>(), any::<i64>(), levels(8), levels(8)).prop_map(
            |(first_update_id, final_update_id, event_ms, bids, asks)| FeedKind::Depth {
                first_update_id,
                final_update_id,
                event_ms,
                bids,
                asks
            }
        ),
        (any::<u64>(), price(), quantity(), any::<i64>(), any::<bool>()).prop_map(
            |(trade_id, price, quantity, traded_ms, buyer_is_maker)| FeedKind::Trade {
                trade_id,
                price,
                quantity,
                traded_ms,
                buyer_is_maker
            }
        ),
        (any::<u64>(), price(), quantity(), price(), quantity()).prop_map(
            |(update_id, bid, bid_quantity, ask, ask_quantity)| FeedKind::BookTicker {
                update_id,
                bid,
                bid_quantity,
                ask,
                ask_quantity
            }
        ),
    ]
}

proptest! {
    #[test]
    fn what_is_written_reads_back_the_same(received_at_ns in any::<i64>(), kind in any_kind()) {
        let event = FeedEvent { received_at_ns, symbol: symbol(), kind };
        let mut line = String::new();
        write_line(&mut line, &event);
        prop_assert_eq!(parse_line(&line, None).unwrap(), Some(event));
    }

    #[test]
    fn nothing_that_comes_over_the_wire_panics(text in ".{0,80}|\\{\"[a-zA-Z]{1,6}\":[\\[\\]0-9\",.]{0,40}\\}") {
        let _ = parse_message(0, &text, None);
        let _ = parse_line(&text, None);
    }

    #[test]
    fn a_book_is_what_a_plain_map_would_be(updates in proptest::collection::vec((levels(12), levels(12)), 1..40)) {
        let mut book = OrderBook::default();
        let mut naive: [BTreeMap<Price, Quantity>; 2] = [BTreeMap::new(), BTreeMap::new()];
        for (bids, asks) in &updates {
            book.update(bids, asks);
            for (side, levels) in naive.iter_mut().zip([bids, asks]) {
                side.extend(levels.iter().map(|level| (level.price, level.quantity)));
            }
        }
        let [bids, asks] = naive.map(|side| side.into_iter().filter(|(_, q)| !q.is_zero()).collect::<Vec<_>>());
        let pair = |level: Level| (level.price, level.quantity);
        prop_assert_eq!(book.best_bid().map(pair), bids.last().copied());
        prop_assert_eq!(book.best_ask().map(pair), asks.first().copied());
        prop_assert_eq!(book.len(), (bids.len(), asks.len()));
        let worst = level(30, 1).price;
        let to_buyer: Vec<_> = asks.iter().copied().filter(|(price, _)| *price <= worst).collect();
        let to_seller: Vec<_> = bids.iter().rev().copied().filter(|(price, _)| *price >= worst).collect();
        prop_assert_eq!(book.opposite(Side::Buy, worst).map(pair).collect::<Vec<_>>(), to_buyer);
        prop_assert_eq!(book.opposite(Side::Sell, worst).map(pair).collect::<Vec<_>>(), to_seller);
    }
}
