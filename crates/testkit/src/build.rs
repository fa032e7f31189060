//! Ready-made values for tests; change the fields that the test is about.

use domain::ids::{CorrelationId, IntentId, MessageId, UserId, derive};
use domain::market::{InstrumentId, Symbol, Venue};
use domain::message::{Header, SignalAction, SignalSize, TradingSignal};
use domain::money::{Price, Quantity, Usd};
use domain::order::{Amount, OrderIntent, OrderType, Origin, Side, TimeInForce};
use domain::time::UnixMs;

/// The user most tests act for.
#[must_use]
pub fn operator() -> UserId {
    UserId::of_handle("operator")
}

/// A message id that is a function of `name`.
#[must_use]
pub fn message_id(name: &str) -> MessageId {
    MessageId(derive("swarm.test.v1", &[name.as_bytes()]))
}

/// The head of a root message of `source` for the operator, made at `now` and valid for a minute.
#[must_use]
pub fn root_header(name: &str, source: &str, now: UnixMs) -> Header {
    let id = message_id(name);
    Header {
        message_id: id,
        correlation_id: CorrelationId(id.0),
        source_agent: source.to_owned(),
        made_at: now,
        priority: 9,
        user_id: operator(),
        valid_until: Some(now.plus_ms(60_000)),
        traceparent: None,
    }
}

/// An instrument of the paper venue.
///
/// # Panics
/// When `symbol` is none.
#[must_use]
pub fn paper(symbol: &str) -> InstrumentId {
    InstrumentId { venue: Venue::Paper, symbol: Symbol::parse(symbol).expect("a symbol") }
}

/// The operator's wish to buy for `notional` dollars.
///
/// # Panics
/// When `notional` is no amount.
#[must_use]
pub fn buy_signal(symbol: &str, notional: &str) -> TradingSignal {
    TradingSignal {
        action: SignalAction::Buy,
        token_address: symbol.to_owned(),
        size: SignalSize::Notional(Usd::parse(notional).expect("an amount")),
        price_limit: None,
        time_in_force: None,
        slices: None,
        confidence_bps: None,
        reasoning: "a test".to_owned(),
        origin: Origin::Person { handle: "operator".to_owned() },
    }
}

/// The operator's limit buy on the paper venue, valid for a minute; `name` makes its ids.
///
/// # Panics
/// When `quantity` or `price` is none.
#[must_use]
pub fn buy_intent(name: &str, symbol: &str, quantity: &str, price: &str, now: UnixMs) -> OrderIntent {
    let signal_id = message_id(name);
    OrderIntent {
        intent_id: IntentId::of_leg(signal_id, 0),
        signal_id,
        leg: 0,
        user_id: operator(),
        origin: Origin::Person { handle: "operator".to_owned() },
        instrument: paper(symbol),
        side: Side::Buy,
        order_type: OrderType::Limit,
        time_in_force: TimeInForce::ImmediateOrCancel,
        amount: Amount::Exactly(Quantity::parse(quantity).expect("a quantity")),
        worst_price: Price::parse(price).expect("a price"),
        reduce_only: false,
        valid_until: now.plus_ms(60_000),
        slices: None,
        reasoning: "a test".to_owned(),
        opinion: domain::review::Opinion::NotAsked,
    }
}
