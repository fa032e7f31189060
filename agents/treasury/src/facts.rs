//! The messages treasury returns, made in one place so that each fact looks the same wherever it comes from.

use std::collections::BTreeMap;

use domain::ids::{ApprovalId, MessageId, OrderId, UserId};
use domain::market::InstrumentId;
use domain::message::{ApprovalRequest, DecisionOutcome, Message, Notice, OrderDecision, Payload, PositionChanged};
use domain::order::Permit;
use domain::subject::{Priority, Route, Subject};
use rails::refusal::Refusal;

/// The fact that an order was decided.
#[must_use]
pub fn decision(
    user_id: UserId,
    order_id: OrderId,
    signal_id: MessageId,
    instrument: &InstrumentId,
    outcome: DecisionOutcome,
) -> Message {
    let phase = match &outcome {
        DecisionOutcome::Permitted => "permitted",
        DecisionOutcome::Refused { .. } => "refused",
        DecisionOutcome::NeedsHuman { .. } => "needs_human",
    };
    let payload =
        Payload::OrderDecision(OrderDecision { order_id, signal_id, instrument: instrument.clone(), outcome });
    Message::fact(Subject::fact(Route::Decision), user_id, format!("{order_id}:{phase}"), payload)
}

/// A refusal as decision and notice.
#[must_use]
pub fn refused(
    user_id: UserId,
    order_id: OrderId,
    signal_id: MessageId,
    instrument: &InstrumentId,
    refusal: &Refusal,
) -> Vec<Message> {
    metrics::counter!("swarm_refused_total", "code" => refusal.code.code()).increment(1);
    let mut numbers = refusal.numbers.clone();
    numbers.insert("order_id".to_owned(), order_id.to_string());
    numbers.insert("instrument".to_owned(), instrument.to_string());
    vec![
        decision(
            user_id,
            order_id,
            signal_id,
            instrument,
            DecisionOutcome::Refused { code: refusal.code.code().to_owned(), numbers: refusal.numbers.clone() },
        ),
        notice(user_id, format!("{order_id}:refused"), refusal.code.code(), format!("refused: {refusal}"), numbers),
    ]
}

/// The signed permit on its way to the desk of its venue.
#[must_use]
pub fn permit(user_id: UserId, permit: Permit) -> Message {
    let route = if permit.body.envelope.venue.is_dex() { Route::DexPermit } else { Route::CexPermit };
    Message {
        subject: Subject::of(route, Priority::Critical),
        key: permit.body.permit_id.to_string(),
        user_id,
        valid_until: Some(permit.body.expires_at),
        payload: Payload::Permit(permit),
    }
}

/// A stored request for a human decision.
#[must_use]
pub fn approval_requested(user_id: UserId, request: ApprovalRequest) -> Message {
    Message {
        subject: Subject::of(Route::ApprovalRequested, Priority::High),
        key: request.approval_id.to_string(),
        user_id,
        valid_until: None,
        payload: Payload::ApprovalRequest(request),
    }
}

/// The outcome of a human decision, refused or consumed.
#[must_use]
pub fn approval_ended(user_id: UserId, approval_id: ApprovalId, status: &str) -> Message {
    let numbers =
        BTreeMap::from([("approval_id".to_owned(), approval_id.to_string()), ("status".to_owned(), status.to_owned())]);
    notice(
        user_id,
        format!("{approval_id}:{status}"),
        "APPROVAL_ENDED",
        format!("approval {approval_id}: {status}"),
        numbers,
    )
}

/// The ledger moved.
#[must_use]
pub fn position_changed(user_id: UserId, key: String, change: PositionChanged) -> Message {
    Message::fact(Subject::fact(Route::PositionChanged), user_id, key, Payload::PositionChanged(change))
}

/// Something to tell a person.
#[must_use]
pub fn notice(user_id: UserId, key: String, code: &str, text: String, numbers: BTreeMap<String, String>) -> Message {
    Message::fact(
        Subject::fact(Route::Notice),
        user_id,
        key,
        Payload::Notice(Notice { code: code.to_owned(), text, numbers }),
    )
}
