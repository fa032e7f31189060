//! What the tests of the paper exchange share.
#![allow(dead_code)] // each test file uses its own part

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, Ordering};

use domain::ids::{IntentId, MessageId, OrderId};
use domain::market::{Instrument, InstrumentId, Symbol, Venue};
use domain::money::{Price, Quantity};
use domain::order::{OrderType, Side, TimeInForce};
use domain::time::{Clock, UnixMs};
use rust_decimal::Decimal;
use venues::exchange::OrderRequest;
use venues::feed::{FeedEvent, FeedKind, Level};
use venues::paper::PaperConfig;

/// A clock that stands where it is put.
pub struct Hand(pub AtomicI64);

impl Clock for Hand {
    fn now(&self) -> UnixMs {
        UnixMs(self.0.load(Ordering::Relaxed))
    }
}

pub fn symbol() -> Symbol {
    Symbol::parse("BTCUSDT").unwrap()
}

pub fn instrument() -> Instrument {
    Instrument {
        id: InstrumentId { venue: Venue::Paper, symbol: symbol() },
        base: "BTC".into(),
        quote: "USDT".into(),
        tick: Decimal::ONE,
        step: Decimal::new(1, 1),
        min_quantity: Decimal::new(1, 1),
        max_quantity: Decimal::from(100),
        min_notional: Decimal::from(10),
    }
}

pub fn config(journal: PathBuf) -> PaperConfig {
    PaperConfig {
        venue: Venue::Paper,
        instruments: vec![instrument()],
        opening: BTreeMap::from([("USDT".to_owned(), Decimal::from(10_000)), ("BTC".to_owned(), Decimal::from(20))]),
        maker_fee_percent: Decimal::new(1, 1),
        taker_fee_percent: Decimal::new(2, 1),
        latency_ms: 0..=0,
        reject_bps: 0,
        lost_reply_bps: 0,
        max_book_age_ms: 30_000,
        seed: 1,
        journal,
    }
}

pub fn order(number: u16, side: Side, kind: (OrderType, TimeInForce), quantity: &str, worst: &str) -> OrderRequest {
    let order_id = OrderId::of_intent(IntentId::of_leg(MessageId(uuid::Uuid::nil()), number));
    OrderRequest {
        client_order_id: order_id.client_order_id(),
        order_id,
        instrument: instrument().id,
        side,
        order_type: kind.0,
        time_in_force: kind.1,
        quantity: Quantity::parse(quantity).unwrap(),
        worst_price: Price::parse(worst).unwrap(),
    }
}

pub const IOC: (OrderType, TimeInForce) = (OrderType::Limit, TimeInForce::ImmediateOrCancel);
pub const GTC: (OrderType, TimeInForce) = (OrderType::Limit, TimeInForce::GoodTillCancelled);
pub const MARKET: (OrderType, TimeInForce) = (OrderType::Market, TimeInForce::GoodTillCancelled);

pub fn levels(pairs: &[(&str, &str)]) -> Vec<Level> {
    let level = |(price, quantity): &(&str, &str)| Level {
        price: Price::parse(price).unwrap(),
        quantity: Quantity::parse(quantity).unwrap(),
    };
    pairs.iter().map(level).collect()
}

pub fn event(kind: FeedKind) -> FeedEvent {
    FeedEvent { received_at_ns: 1_000_000_000, symbol: symbol(), kind }
}

/// Bids 99 x 2, 98 x 3; asks 101 x 1, 102 x 2, 105 x 10.
pub fn book() -> FeedEvent {
    event(FeedKind::Snapshot {
        last_update_id: 10,
        bids: levels(&[("99", "2"), ("98", "3")]),
        asks: levels(&[("101", "1"), ("102", "2"), ("105", "10")]),
    })
}

pub fn depth(id: u64, bids: &[(&str, &str)], asks: &[(&str, &str)]) -> FeedEvent {
    let (bids, asks) = (levels(bids), levels(asks));
    event(FeedKind::Depth { first_update_id: id, final_update_id: id, event_ms: 1_000, bids, asks })
}

pub fn trade(id: u64, price: &str, quantity: &str, buyer_is_maker: bool) -> FeedEvent {
    event(FeedKind::Trade {
        trade_id: id,
        price: Price::parse(price).unwrap(),
        quantity: Quantity::parse(quantity).unwrap(),
        traded_ms: 1_000,
        buyer_is_maker,
    })
}
