//! Posting what the desks wrote: fills and final outcomes. Facts never expire; whatever is unposted is posted at start,
//! on each report and on a timer, by this one path.

use domain::ids::{OrderId, UserId};
use domain::message::{Message, PositionChanged};
use domain::money::{Quantity, Usd};
use domain::order::Fill;
use rails::book::{Book, LedgerError};
use runtime::HandleError;
use serde_json::json;
use store::Unit;
use store::orders::OrderRow;

use crate::config::Config;
use crate::decide::{Locked, Sight, lock};
use crate::{NAME, facts};

/// Posts every unposted fact of one order.
///
/// # Errors
/// Store failures; [`HandleError::Retry`] when the venue reports what the ledger can't hold: the fact stays unposted and its money reserved.
pub async fn post(
    unit: &mut Unit,
    config: &Config,
    user_id: UserId,
    order_id: OrderId,
    sight: Sight<'_>,
) -> Result<Vec<Message>, HandleError> {
    let Some(mut locked) = lock(unit, config, user_id, sight).await? else {
        return Err(HandleError::Fatal(format!("order {order_id} belongs to no user {user_id}")));
    };
    // The order is read before its fills: the desk writes an end and its fills in one commit, so whoever sees the end
    // sees the fills. Read the other way round, a commit in between would release money whose fills are not posted yet.
    let Some(order) = store::orders::get(unit, order_id).await?.filter(|order| order.user_id == user_id) else {
        return Ok(Vec::new());
    };
    let mut out = Vec::new();
    for fill in store::orders::fills_unposted(unit, user_id, order_id).await? {
        out.extend(post_fill(unit, user_id, &fill, &mut locked, sight).await?);
    }
    if order.state.is_terminal() && !order.outcome_posted && !awaits_fills(&locked.book, &order) {
        match locked.book.release(order_id) {
            Ok(changes) => store::ledger::apply(unit, user_id, &changes, sight.now).await?,
            Err(LedgerError::NoReservation) => {}
            Err(error) => return Err(HandleError::Retry(format!("release of order {order_id}: {error}"))),
        }
        if !store::orders::mark_outcome_posted(unit, user_id, order_id).await? {
            return Err(HandleError::Retry(format!("the end of order {order_id} was posted meanwhile")));
        }
        let mut audit = json!({
            "order_id": order_id,
            "client_order_id": order.client_order_id,
            "venue_order_id": order.venue_order_id,
            "permit_id": order.permit_id,
            "state": order.state.word(),
            "filled": order.filled,
            "code": order.code,
        });
        if !order.children.is_empty() {
            audit["children"] = json!(order.children);
        }
        store::audit::append(unit, user_id, "order_outcome", NAME, &audit, sight.now).await?;
        let code = order.code.clone().unwrap_or_default();
        let text = format!(
            "order {} {} {}: {}, filled {} of {} {code}",
            order_id, order.envelope.side, order.envelope.symbol, order.state, order.filled, order.envelope.quantity
        );
        let numbers = [
            ("order_id", order_id.to_string()),
            ("state", order.state.to_string()),
            ("filled", order.filled.to_string()),
            ("code", code),
        ];
        let numbers = numbers.into_iter().map(|(k, v)| (k.to_owned(), v)).collect();
        out.push(facts::notice(
            user_id,
            format!("{order_id}:outcome"),
            "ORDER_OUTCOME",
            text.trim().to_owned(),
            numbers,
        ));
    }
    Ok(out)
}

/// The venue says that more was traded than the fills we have add up to: its money stays reserved until they are here.
fn awaits_fills(book: &Book, order: &OrderRow) -> bool {
    let Some(reservation) = book.reservations.get(&order.order_id) else {
        return false;
    };
    let posted = order.envelope.quantity.minus(reservation.remaining).unwrap_or(Quantity::ZERO);
    posted < order.filled
}

async fn post_fill(
    unit: &mut Unit,
    user_id: UserId,
    fill: &Fill,
    locked: &mut Locked,
    sight: Sight<'_>,
) -> Result<Vec<Message>, HandleError> {
    let breaker_before = locked.book.breaker;
    let posted = locked.book.post_fill(fill, locked.limits.breaker, sight.now).map_err(|error| {
        HandleError::Retry(format!("fill {} of order {} can't be posted: {error}", fill.venue_trade_id, fill.order_id))
    })?;
    store::ledger::apply(unit, user_id, &posted.changes, sight.now).await?;
    if !store::orders::mark_fill_posted(unit, user_id, fill).await? {
        return Err(HandleError::Retry(format!(
            "fill {} of order {} was posted meanwhile",
            fill.venue_trade_id, fill.order_id
        )));
    }
    let position = locked.book.positions.get(&fill.instrument);
    let quantity = position.map_or(Quantity::ZERO, |p| p.quantity);
    let cost = position.map_or(Usd::ZERO, |p| p.cost);
    let audit = json!({
        "order_id": fill.order_id,
        "venue_trade_id": fill.venue_trade_id,
        "fill": fill,
        "realised_usd": posted.realised,
        "position": quantity,
        "cost_usd": cost,
        "cash_usd": locked.book.cash,
        "breaker_losses_in_a_row": locked.book.breaker.losses_in_a_row,
    });
    store::audit::append(unit, user_id, "fill_posted", NAME, &audit, sight.now).await?;
    metrics::counter!("swarm_fills_total", "side" => fill.side.word()).increment(1);
    let key = format!("{}:{}", fill.instrument, fill.venue_trade_id);
    let text =
        format!("filled: {} {} {} at {} fee {}", fill.side, fill.quantity, fill.instrument, fill.price, fill.fee);
    let numbers = [
        ("order_id", fill.order_id.to_string()),
        ("price", fill.price.to_string()),
        ("quantity", fill.quantity.to_string()),
        ("realised_usd", posted.realised.to_string()),
    ];
    let numbers = numbers.into_iter().map(|(k, v)| (k.to_owned(), v)).collect();
    let mut out = vec![
        facts::position_changed(
            user_id,
            key.clone(),
            PositionChanged {
                instrument: fill.instrument.clone(),
                quantity,
                cost,
                realised: posted.realised,
                cash: locked.book.cash,
            },
        ),
        facts::notice(user_id, key, "FILLED", text, numbers),
    ];
    if breaker_before.latched_at.is_none()
        && let Some(latched_at) = locked.book.breaker.latched_at
    {
        let body = json!({ "latched_at": latched_at, "losses_in_a_row": locked.book.breaker.losses_in_a_row });
        store::audit::append(unit, user_id, "breaker_latched", NAME, &body, sight.now).await?;
        out.push(facts::notice(
            user_id,
            format!("breaker:{}", latched_at.0),
            "BREAKER_LATCHED",
            "three counted losses in a row: no new risk until a person resets the breaker (`swarm breaker reset`)"
                .to_owned(),
            std::collections::BTreeMap::new(),
        ));
    }
    Ok(out)
}

/// Voids a permit that nobody spent in time, and gives the reserved money back. The desk's compare-and-set races with
/// this one; exactly one of them wins.
///
/// # Errors
/// Store failures.
pub async fn void_unspent(
    unit: &mut Unit,
    config: &Config,
    user_id: UserId,
    permit_id: domain::ids::PermitId,
    order_id: OrderId,
    sight: Sight<'_>,
) -> Result<Vec<Message>, HandleError> {
    let Some(mut locked) = lock(unit, config, user_id, sight).await? else {
        return Ok(Vec::new());
    };
    if !store::permits::void(unit, permit_id).await? {
        return Ok(Vec::new());
    }
    if let Ok(changes) = locked.book.release(order_id) {
        store::ledger::apply(unit, user_id, &changes, sight.now).await?;
    }
    let audit = json!({ "permit_id": permit_id, "order_id": order_id });
    store::audit::append(unit, user_id, "permit_voided", NAME, &audit, sight.now).await?;
    let numbers = [("permit_id", permit_id.to_string()), ("order_id", order_id.to_string())];
    let numbers = numbers.into_iter().map(|(k, v)| (k.to_owned(), v)).collect();
    let text = format!("permit {permit_id} was not spent in time and is void");
    Ok(vec![facts::notice(user_id, format!("{permit_id}:void"), "PERMIT_VOIDED", text, numbers)])
}
