//! The port to an exchange. The desk is written against this; paper and live differ only behind it.
//!
//! The answer to an order has three values. **Unknown is an answer**: a lost reply, a timeout, a 5xx. It is resolved by
//! asking again by client order id, never by sending again under a new one.

use async_trait::async_trait;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use domain::ids::OrderId;
use domain::market::{Instrument, InstrumentId, Venue};
use domain::money::{Price, Quantity};
use domain::order::{OrderEnvelope, OrderStatus, OrderType, Side, TimeInForce};

use crate::error::VenueError;

/// One order as it is sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderRequest {
    /// Our idempotency handle: the same id is the same order, for ever.
    pub client_order_id: String,
    /// Our order, for the fills.
    pub order_id: OrderId,
    /// Where and what.
    pub instrument: InstrumentId,
    /// Direction.
    pub side: Side,
    /// Limit or market.
    pub order_type: OrderType,
    /// How long the venue keeps it. A market order never rests, whatever this says.
    pub time_in_force: TimeInForce,
    /// Base quantity.
    pub quantity: Quantity,
    /// No fill is worse than this.
    pub worst_price: Price,
}

impl OrderRequest {
    /// The order a permitted envelope asks for.
    #[must_use]
    pub fn of_envelope(envelope: &OrderEnvelope) -> Self {
        Self {
            client_order_id: envelope.client_order_id.clone(),
            order_id: envelope.order_id,
            instrument: envelope.instrument(),
            side: envelope.side,
            order_type: envelope.order_type,
            time_in_force: envelope.time_in_force,
            quantity: envelope.quantity,
            worst_price: envelope.worst_price,
        }
    }
}

/// What became of sending an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The venue has it. The status may already be terminal.
    Placed(OrderStatus),
    /// A definite no.
    Rejected {
        /// The venue's reason, in stable words.
        code: String,
    },
    /// It may or may not be there. Ask by client order id.
    Unknown {
        /// What was seen, for people.
        reason: String,
    },
}

/// What became of a cancel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CancelOutcome {
    /// It no longer rests; the status says how much had traded.
    Cancelled(OrderStatus),
    /// It was over before the cancel came: its end state.
    AlreadyOver(OrderStatus),
    /// The venue knows no such order (yet).
    NotFound,
    /// Not known. Ask by client order id.
    Unknown {
        /// What was seen, for people.
        reason: String,
    },
}

/// How much of one asset the account holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Balance {
    /// Asset name, as in [`Instrument::base`] and [`Instrument::quote`].
    pub asset: String,
    /// Free to be used.
    pub free: Decimal,
    /// Held by open orders.
    pub locked: Decimal,
}

/// An exchange with one account.
#[async_trait]
pub trait Exchange: Send + Sync {
    /// Which venue this is.
    fn venue(&self) -> Venue;

    /// Sends an order. The same client order id a second time gives the first order's fate, even when that is over.
    async fn place(&self, order: &OrderRequest) -> Outcome;

    /// What the venue knows of an order; `None` when it knows none (which, just after a send, may still change).
    ///
    /// # Errors
    /// The venue could not answer: nothing is known.
    async fn query(&self, instrument: &InstrumentId, client_order_id: &str) -> Result<Option<OrderStatus>, VenueError>;

    /// Takes a resting order back.
    async fn cancel(&self, instrument: &InstrumentId, client_order_id: &str) -> CancelOutcome;

    /// All resting orders of the account, whoever placed them.
    ///
    /// # Errors
    /// The venue could not answer.
    async fn open_orders(&self) -> Result<Vec<OrderStatus>, VenueError>;

    /// What the account holds; assets without any are left out.
    ///
    /// # Errors
    /// The venue could not answer.
    async fn balances(&self) -> Result<Vec<Balance>, VenueError>;

    /// The instruments and their rules.
    ///
    /// # Errors
    /// The venue could not answer.
    async fn instruments(&self) -> Result<Vec<Instrument>, VenueError>;
}
