//! What an exchange says: messages and snapshots, recordings of them, and the rules of its instruments.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use domain::market::{Symbol, Venue};
use domain::money::{MAX_MAGNITUDE, MAX_SCALE, Price, Quantity};
use domain::order::{OrderType, Side, TimeInForce};
use flate2::read::MultiGzDecoder;
use rust_decimal::Decimal;
use venues::VenueError;
use venues::binance::read_instruments;
use venues::book::Books;
use venues::exchange::OrderRequest;
use venues::feed::{FeedEvent, FeedKind, Level, Recording, parse_line, parse_message, parse_snapshot, write_line};
use venues::filters::{Account, Filters};

use crate::memory::bounded;

fn symbol() -> Symbol {
    Symbol::parse("BTCUSDT").expect("a symbol")
}

/// One message: off the stream, as the answer of a depth snapshot, and as a line of a recording.
pub fn feed(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let symbol = symbol();
    let size = text.len();
    let named = judged(bounded(size, || parse_message(7, text, Some(&symbol))));
    if let Some(event) = judged(bounded(size, || parse_message(7, text, None))) {
        assert!(named.is_some(), "a name that is given takes nothing away: {event:?}");
    }
    match bounded(size, || parse_snapshot(7, text, &symbol)) {
        Ok(event) => assert!(matches!(event.kind, FeedKind::Snapshot { .. }) && Some(&event) == named.as_ref()),
        Err(error) => is_short(&error),
    }
    judged(bounded(size, || parse_line(text, Some(&symbol))));
}

/// Checks an answer of the reader; what was read reads back from its own line.
fn judged(answer: Result<Option<FeedEvent>, VenueError>) -> Option<FeedEvent> {
    let event = answer.map_err(|error| is_short(&error)).ok()??;
    check(&event);
    let mut line = String::new();
    write_line(&mut line, &event);
    assert_eq!(parse_line(&line, None).ok().flatten().as_ref(), Some(&event), "{line}");
    Some(event)
}

/// An error names what was wrong; it is no copy of what a stranger sent.
fn is_short(error: &VenueError) {
    let text = error.to_string();
    assert!(text.chars().count() <= 400, "an error of {} characters", text.chars().count());
}

fn check(event: &FeedEvent) {
    match &event.kind {
        FeedKind::Snapshot { bids, asks, .. } | FeedKind::Depth { bids, asks, .. } => {
            for Level { price, quantity } in bids.iter().chain(asks) {
                amounts(*price, *quantity);
            }
        }
        FeedKind::Trade { price, quantity, .. } => amounts(*price, *quantity),
        FeedKind::BookTicker { bid, bid_quantity, ask, ask_quantity, .. } => {
            amounts(*bid, *bid_quantity);
            amounts(*ask, *ask_quantity);
        }
    }
}

fn amounts(price: Price, quantity: Quantity) {
    assert!(price.value() > Decimal::ZERO && quantity.value() >= Decimal::ZERO, "{price} {quantity}");
    for value in [price.value(), quantity.value()] {
        in_range(value);
    }
}

fn in_range(value: Decimal) {
    assert!(value.abs() <= Decimal::from(MAX_MAGNITUDE) && value.scale() <= MAX_SCALE, "{value}");
}

/// Most bytes that a packed input may unpack to.
const MAX_UNPACKED: u64 = 1 << 20;

/// A recording, packed or plain, into books.
pub fn recording(data: &[u8]) {
    let packed = data.starts_with(&[0x1f, 0x8b]);
    let unpacked = if packed { unpacked_size(data) } else { data.len() };
    let owned = data.to_vec();
    let lines: Box<dyn BufRead + Send> = if packed {
        Box::new(BufReader::new(MultiGzDecoder::new(std::io::Cursor::new(owned)).take(MAX_UNPACKED)))
    } else {
        Box::new(std::io::Cursor::new(owned))
    };
    bounded(data.len() + unpacked, || {
        let mut books = Books::default();
        let mut events = 0usize;
        for item in Recording::of(lines, Path::new("btcusdt_20240808.gz")) {
            match item {
                Ok(event) => {
                    check(&event);
                    books.apply(&event);
                    whole(&books, &event.symbol);
                }
                Err(error) => is_short(&error),
            }
            events += 1;
            assert!(events <= unpacked + 1, "more answers than bytes");
        }
    });
}

fn unpacked_size(data: &[u8]) -> usize {
    let mut out = std::io::sink();
    let size = std::io::copy(&mut MultiGzDecoder::new(data).take(MAX_UNPACKED), &mut out);
    // A broken end counts as what may have come before it.
    usize::try_from(size.unwrap_or(MAX_UNPACKED)).unwrap_or(usize::MAX)
}

/// A book that says it is in step has levels of something, best first.
fn whole(books: &Books, symbol: &Symbol) {
    let Some((book, _)) = books.book(symbol) else { return };
    let (bids, asks) = book.top(20);
    assert!(bids.iter().chain(&asks).all(|level| !level.quantity.is_zero()), "a level of nothing");
    assert!(bids.is_sorted_by(|a, b| a.price > b.price) && asks.is_sorted_by(|a, b| a.price < b.price));
    let tick = books.tick(Venue::Paper, symbol);
    let crossed = matches!((bids.first(), asks.first()), (Some(bid), Some(ask)) if bid.price > ask.price);
    assert!(!crossed || tick.is_none_or(|tick| tick.mark().is_none()), "a crossed book is no price");
}

/// exchangeInfo, and the filters of one instrument alone.
pub fn exchange_info(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match bounded(text.len(), || read_instruments(text, &[symbol()], Venue::Paper)) {
        Err(error) => is_short(&error),
        Ok(found) => {
            for (instrument, filters) in &found {
                assert_eq!(instrument.id.symbol, symbol());
                for value in [
                    instrument.tick,
                    instrument.step,
                    instrument.min_quantity,
                    instrument.max_quantity,
                    instrument.min_notional,
                ] {
                    in_range(value);
                    assert!(value >= Decimal::ZERO, "{value}");
                }
                judge_orders(filters);
                judge_orders(&Filters::of_instrument(instrument));
            }
        }
    }
    let Ok(value) = serde_json::from_str(text) else { return };
    match bounded(text.len(), || Filters::parse(&value)) {
        Ok(filters) => judge_orders(&filters),
        Err(error) => is_short(&error),
    }
}

/// Whatever the filters say, they say it without a panic, and an order that passes keeps the grid.
fn judge_orders(filters: &Filters) {
    let order_id = domain::ids::OrderId(uuid::Uuid::from_u128(7));
    for (quantity, price) in [("0.001", "60000"), ("1000000000000", "1000000000000"), ("0.000000000000000001", "0.01")]
    {
        for (side, order_type) in [(Side::Buy, OrderType::Limit), (Side::Sell, OrderType::Market)] {
            let request = OrderRequest {
                client_order_id: order_id.client_order_id(),
                order_id,
                instrument: domain::market::InstrumentId { venue: Venue::Paper, symbol: symbol() },
                side,
                order_type,
                time_in_force: TimeInForce::ImmediateOrCancel,
                quantity: Quantity::parse(quantity).expect("a quantity"),
                worst_price: Price::parse(price).expect("a price"),
            };
            for average_price in [None, Price::parse("1000000000000").ok()] {
                let account = Account { average_price, open_orders: 3, position: Decimal::from(MAX_MAGNITUDE) };
                let passed = filters.check(&request, &account).is_ok();
                let on_grid = filters.lot.is_none_or(|lot| lot.holds(request.quantity.value()))
                    && filters.price.is_none_or(|range| range.holds(request.worst_price.value()));
                assert!(!passed || on_grid, "{request:?} passed {filters:?}");
            }
        }
    }
}
