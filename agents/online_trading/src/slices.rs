//! What comes next of a sliced order, purely. A child is a function of the permitted envelope and its number, so that what is
//! sent is the same whoever sends it, after whatever crash; their sum is the permit's quantity and never more.

use domain::money::Quantity;
use domain::order::{ChildOrder, OrderState, OrderStatus, Side};
use domain::time::UnixMs;
use rails::check::KillReading;
use store::orders::OrderRow;

use crate::permit::is_stopped;

/// From here on a sliced order is over, an exit too: it is an open order, and open orders are cancelled.
const CANCELLED_FROM: u8 = 2;

/// What is to be done about the next child.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// It is due.
    Send(ChildOrder),
    /// It is due then.
    At(UnixMs),
    /// Not before the venue has said what became of the one before.
    Ask,
    /// All were sent.
    AllSent,
    /// None will be sent, and why.
    Stop(String),
}

/// What comes next of `order`, a sliced one.
#[must_use]
pub fn next(order: &OrderRow, kill: KillReading, now: UnixMs) -> Next {
    let envelope = &order.envelope;
    let n = u16::try_from(order.children.len()).unwrap_or(u16::MAX);
    let last = order.children.last();
    if envelope.slicing.is_some_and(|slicing| n >= slicing.count) {
        return Next::AllSent;
    }
    if is_over(kill, order) {
        return Next::Stop("KILL_LEVEL".to_owned());
    }
    if let Some(refused) = last.filter(|last| last.state == OrderState::Rejected) {
        return Next::Stop(refused.code.clone().unwrap_or_default());
    }
    if now > envelope.valid_until {
        return Next::Stop("EXPIRED".to_owned());
    }
    if order.children.iter().any(|child| child.state == OrderState::Unknown) {
        return Next::Ask;
    }
    if let Some((last, slicing)) = last.zip(envelope.slicing) {
        let due = last.sent_at.plus_ms(slicing.every_ms.into());
        if now < due {
            return Next::At(due);
        }
    }
    match envelope.child_quantity(n) {
        Some(quantity) => Next::Send(ChildOrder {
            client_order_id: envelope.order_id.child_client_order_id(n),
            quantity,
            state: OrderState::Open,
            filled: Quantity::ZERO,
            venue_order_id: None,
            code: None,
            sent_at: now,
            kill_epoch: kill.epoch(),
        }),
        // Such a permit is not accepted.
        None => Next::Stop("BAD_PERMIT".to_owned()),
    }
}

/// Whether children that rest are to be taken back.
#[must_use]
pub fn is_cancelled(order: &OrderRow, kill: KillReading, now: UnixMs) -> bool {
    kill.level() >= CANCELLED_FROM || now > order.envelope.valid_until
}

/// The level forbids more of it now, or did since its first child: what a press stopped is not taken up again when somebody
/// lowers the level, however short it was.
fn is_over(kill: KillReading, order: &OrderRow) -> bool {
    let pressed_since = order.envelope.side == Side::Buy
        && order.children.first().is_some_and(|first| first.kill_epoch != kill.epoch());
    is_stopped(kill, order.envelope.side) || kill.level() >= CANCELLED_FROM || pressed_since
}

/// What became of a child.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// The venue's word on it.
    Known(OrderStatus),
    /// It was refused, or never came to the venue.
    Refused(String),
    /// Nobody knows yet.
    Unknown,
}

/// `child` after `fate`. An end never changes, and what was filled never falls.
#[must_use]
pub fn after(child: &ChildOrder, fate: &Fate) -> ChildOrder {
    let mut child = child.clone();
    if let Fate::Known(status) = fate {
        child.filled = child.filled.max(status.filled);
        child.venue_order_id = Some(status.venue_order_id.clone());
    }
    if child.state.is_terminal() {
        return child;
    }
    match fate {
        Fate::Known(status) => {
            child.state = status.state;
            child.code.clone_from(&status.reject_code);
        }
        Fate::Refused(code) => {
            child.state = OrderState::Rejected;
            child.code = Some(code.clone());
        }
        Fate::Unknown => child.state = OrderState::Unknown,
    }
    child
}

/// What all children traded; `None` when it leaves the range.
#[must_use]
pub fn filled(children: &[ChildOrder]) -> Option<Quantity> {
    children.iter().try_fold(Quantity::ZERO, |sum, child| sum.plus(child.filled).ok())
}

/// How the order ended, and why, when it did: no child lives, and `next` sends none.
#[must_use]
pub fn end(order: &OrderRow, next: &Next) -> Option<(OrderState, Option<String>)> {
    if order.children.iter().any(|child| !child.state.is_terminal()) {
        return None;
    }
    let code = match next {
        Next::AllSent => order.children.iter().rev().find_map(|child| child.code.clone()),
        Next::Stop(why) => Some(why.clone()),
        Next::Send(_) | Next::At(_) | Next::Ask => return None,
    };
    let filled = filled(&order.children)?;
    Some(if filled == order.envelope.quantity {
        (OrderState::Filled, None)
    } else if filled.is_zero() && (order.children.is_empty() || code.is_some() && all_refused(order)) {
        (OrderState::Rejected, code)
    } else {
        (OrderState::Cancelled, code)
    })
}

fn all_refused(order: &OrderRow) -> bool {
    order.children.iter().all(|child| child.state == OrderState::Rejected)
}
