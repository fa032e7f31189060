//! A permit at the desk: verified, spent and written down in one commit, before anything is sent.

use domain::market::Venue;
use domain::message::{ExecutionReport, Message, Payload};
use domain::money::Quantity;
use domain::order::{OrderState, Permit, Side};
use domain::reject::{Reject, RejectCode};
use domain::subject::{Priority, Route, Subject};
use domain::time::UnixMs;
use rails::check::KillReading;
use rails::refusal::RefusalCode;
use rails::signature::PermitVerifier;
use runtime::HandleError;
use store::Unit;
use store::orders::OrderRow;

/// Verifies `permit`, marks it spent and writes the order row. A permit spent before is a repetition and does nothing; a
/// permit that does not verify is rejected with its reason.
///
/// # Errors
/// [`HandleError::Reject`] for a permit that is worth nothing here; store failures.
pub async fn accept(
    unit: &mut Unit,
    permit: &Permit,
    verifier: &PermitVerifier,
    venue: Venue,
    kill: KillReading,
    now: UnixMs,
) -> Result<Vec<Message>, HandleError> {
    let order = &permit.body.envelope;
    if order.venue != venue {
        return Err(bad("the permit is for another venue").into());
    }
    if order.slicing.is_some() && order.child_quantity(0).is_none() {
        return Err(bad("its slices are not those of its quantity").into());
    }
    if let Err(fault) = verifier.verify(permit, now) {
        metrics::counter!("swarm_permits_refused_total", "code" => RefusalCode::BadPermit.code()).increment(1);
        return Err(bad(&fault.to_string()).into());
    }
    if is_stopped(kill, order.side) {
        // Treasury voids the permit when it is not spent in time; nothing is owed to anybody.
        return Err(Reject::new(RejectCode::Expired, "the kill level forbids new risk").into());
    }
    if order.side == Side::Buy && permit.body.kill_epoch != kill.epoch() {
        // What a press stopped is not taken up again when somebody lowers the level, however short it was.
        return Err(Reject::new(RejectCode::Expired, "the kill level was changed since the permit was signed").into());
    }
    if !store::permits::spend(unit, permit.body.permit_id, now).await? {
        return Ok(Vec::new());
    }
    store::orders::insert(unit, &order_row(permit, now)).await?;
    metrics::counter!("swarm_permits_spent_total").increment(1);
    Ok(Vec::new())
}

/// Whether the kill level forbids this side: buying is new risk from level 1 on, selling is none at any.
#[must_use]
pub const fn is_stopped(kill: KillReading, side: Side) -> bool {
    match side {
        Side::Buy => kill.level() >= 1,
        Side::Sell => false,
    }
}

fn order_row(permit: &Permit, now: UnixMs) -> OrderRow {
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
        created_at: now,
        updated_at: now,
        sent_at: None,
        outcome_posted: false,
        children: Vec::new(),
    }
}

fn bad(detail: &str) -> Reject {
    Reject::new(RejectCode::NotSupported, format!("{}: {detail}", RefusalCode::BadPermit.code()))
}

/// Wakes treasury to post what was written about an order.
#[must_use]
pub fn report(
    user_id: domain::ids::UserId,
    order_id: domain::ids::OrderId,
    state: OrderState,
    filled: Quantity,
    code: Option<String>,
) -> Message {
    Message {
        subject: Subject::of(Route::Report, Priority::Critical),
        key: format!("{order_id}:{}:{filled}", state.word()),
        user_id,
        valid_until: None,
        payload: Payload::ExecutionReport(ExecutionReport { order_id, state, filled, code }),
    }
}
