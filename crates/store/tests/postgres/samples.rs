//! Rows to test with.

use domain::canonical::Sha256Digest;
use domain::ids::{ApprovalId, IntentId, MessageId, OrderId, PermitId, UserId, derive};
use domain::market::{InstrumentId, Symbol, Venue};
use domain::money::{Price, Quantity, Usd};
use domain::order::{Fill, OrderEnvelope, OrderState, OrderType, Permit, PermitBody, Side, TimeInForce};
use domain::time::UnixMs;
use serde_json::json;
use store::approvals::{ApprovalRow, ApprovalStatus};
use store::decisions::{DecisionRow, Outcome};
use store::orders::OrderRow;
use store::{Db, users};

pub const T0: UnixMs = UnixMs(1_723_161_599_999);

pub fn signal(n: u32) -> MessageId {
    MessageId(derive("test.signal", &[&n.to_be_bytes()]))
}

pub fn instrument(venue: Venue) -> InstrumentId {
    InstrumentId { venue, symbol: Symbol::parse("BTCUSDT").unwrap() }
}

/// Order number `n` of a user.
pub fn envelope(user: UserId, n: u32, venue: Venue) -> OrderEnvelope {
    let intent_id = IntentId(derive("test.intent", &[user.0.as_bytes(), &n.to_be_bytes()]));
    let order_id = OrderId::of_intent(intent_id);
    OrderEnvelope {
        schema: OrderEnvelope::SCHEMA.to_owned(),
        action: "place".to_owned(),
        user_id: user,
        client_order_id: order_id.client_order_id(),
        order_id,
        intent_id,
        venue,
        symbol: Symbol::parse("BTCUSDT").unwrap(),
        side: Side::Buy,
        order_type: OrderType::Limit,
        time_in_force: TimeInForce::ImmediateOrCancel,
        quantity: Quantity::parse("0.00012345").unwrap(),
        worst_price: Price::parse("61000.01").unwrap(),
        max_notional_usd: Usd::parse("7.53045124").unwrap(),
        max_slippage_bps: 100,
        min_out: Quantity::ZERO,
        reduce_only: false,
        valid_until: T0.plus_ms(900_000),
        policy_version: "p1".to_owned(),
        slicing: None,
    }
}

pub fn permit(envelope: &OrderEnvelope) -> Permit {
    Permit {
        body: PermitBody {
            schema: PermitBody::SCHEMA.to_owned(),
            permit_id: PermitId(derive("test.permit", &[envelope.order_id.0.as_bytes()])),
            envelope: envelope.clone(),
            kill_epoch: 1,
            signed_at: T0,
            expires_at: T0.plus_ms(10_000),
            key_id: "0123456789abcdef".to_owned(),
        },
        signature: "ab".repeat(64),
    }
}

pub fn order(permit: &Permit) -> OrderRow {
    let envelope = permit.body.envelope.clone();
    OrderRow {
        order_id: envelope.order_id,
        user_id: envelope.user_id,
        client_order_id: envelope.client_order_id.clone(),
        permit_id: permit.body.permit_id,
        envelope,
        venue_order_id: None,
        state: OrderState::Pending,
        filled: Quantity::ZERO,
        code: None,
        created_at: T0,
        updated_at: T0,
        sent_at: None,
        outcome_posted: false,
        children: Vec::new(),
    }
}

pub fn fill(order: &OrderRow, trade: &str) -> Fill {
    Fill {
        order_id: order.order_id,
        venue_trade_id: trade.to_owned(),
        instrument: order.envelope.instrument(),
        side: order.envelope.side,
        quantity: Quantity::parse("0.00001").unwrap(),
        price: Price::parse("60999.123456789012345678").unwrap(),
        fee: Usd::parse("0.000610").unwrap(),
        at: T0,
    }
}

pub fn decision(envelope: &OrderEnvelope, signal_id: MessageId, leg: u16) -> DecisionRow {
    DecisionRow {
        user_id: envelope.user_id,
        order_id: envelope.order_id,
        intent_id: envelope.intent_id,
        signal_id,
        leg,
        outcome: Outcome::Permitted,
        code: None,
        numbers: json!({"notional_usd": "7.53045124"}),
        envelope: Some(serde_json::to_value(envelope).unwrap()),
        digest: Some(envelope.digest().unwrap()),
        policy_version: "p1".to_owned(),
        at: T0,
    }
}

pub fn request(envelope: &OrderEnvelope) -> ApprovalRow {
    ApprovalRow {
        approval_id: ApprovalId(derive("test.approval", &[envelope.order_id.0.as_bytes()])),
        user_id: envelope.user_id,
        order_id: envelope.order_id,
        envelope: envelope.clone(),
        intent: json!({"intent_id": envelope.intent_id}),
        digest: envelope.digest().unwrap_or(Sha256Digest::ZERO),
        tier: 1,
        status: ApprovalStatus::Pending,
        policy_version: "p1".to_owned(),
        approvers_version: "a1".to_owned(),
        needed: 1,
        replaces: None,
        requested_by: "person:anna".to_owned(),
        reasoning: "because".to_owned(),
        requested_at: T0,
        expires_at: T0.plus_ms(600_000),
    }
}

/// Opens an account with 10,000 dollars.
pub async fn account(db: &Db, handle: &str) -> UserId {
    let mut unit = db.begin().await.unwrap();
    let user = users::open_account(&mut unit, handle, Usd::dollars(10_000), json!({}), T0).await.unwrap();
    unit.commit().await.unwrap();
    user.user_id
}

/// Stores a signed permit of order `n`.
pub async fn permitted(db: &Db, user: UserId, n: u32, venue: Venue) -> Permit {
    let permit = permit(&envelope(user, n, venue));
    let mut unit = db.begin().await.unwrap();
    store::permits::insert(&mut unit, &permit, user).await.unwrap();
    unit.commit().await.unwrap();
    permit
}
