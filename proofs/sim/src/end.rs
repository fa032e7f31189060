//! What must hold when a world has come to rest: every signal has one end, ledger and venue say the same, nothing is left.

use std::collections::{BTreeMap, BTreeSet};

use bus::codec::{self, Arrival};
use domain::ids::{IntentId, MessageId, OrderId, UserId};
use domain::market::InstrumentId;
use domain::message::{Payload, SignalAction};
use domain::order::{Fill, OrderState};
use domain::subject::{Route, Stream};
use memory::bus::{Broker, Kept};
use memory::record::Tables;
use store::approvals::ApprovalStatus;
use store::decisions::Outcome;
use store::permits::PermitState;

use crate::checks::{AGREES, Findings, NOTHING_LEFT, TENANCY, TERMINAL};
use crate::hub::Hub;

/// What is still open, reserved or unsent.
#[must_use]
pub fn nothing_left(tables: &Tables, resting: usize) -> Vec<String> {
    let orders = tables.orders.values().filter(|order| !order.state.is_terminal() || !order.outcome_posted);
    let mut left: Vec<String> = orders.map(|order| format!("order {} is {}", order.order_id, order.state)).collect();
    left.extend(
        tables
            .fills
            .values()
            .filter(|f| f.posted_at.is_none())
            .map(|f| format!("fill {} is not posted", f.fill.venue_trade_id)),
    );
    left.extend(
        tables
            .permits
            .iter()
            .filter(|(_, p)| p.state == PermitState::Signed)
            .map(|(id, _)| format!("permit {id} is neither spent nor void")),
    );
    left.extend(
        tables
            .requests
            .iter()
            .filter(|(_, r)| !r.status.is_terminal())
            .map(|(id, r)| format!("question {id} is {}", r.status.word())),
    );
    left.extend(tables.reservations.keys().map(|(_, id)| format!("{id} is reserved")));
    left.extend(tables.outbox.keys().map(|(agent, at)| format!("the outbox of {agent} holds {at}")));
    if resting > 0 {
        left.push(format!("{resting} orders rest at the venue"));
    }
    left
}

/// Looks once, when all is quiet or the time for that is over.
#[must_use]
pub fn look(
    tables: &Tables,
    broker: &Broker,
    hub: &Hub,
    venue: &BTreeMap<(InstrumentId, String), Fill>,
    resting: usize,
) -> Findings {
    let mut found: Findings = Vec::new();
    found.extend(nothing_left(tables, resting).into_iter().map(|what| (NOTHING_LEFT, what)));
    let ledger: BTreeSet<_> =
        tables.fills.values().map(|f| (f.fill.instrument.clone(), f.fill.venue_trade_id.clone())).collect();
    for trade in venue.keys().filter(|trade| !ledger.contains(*trade)) {
        found.push((AGREES, format!("the ledger does not know the venue's trade {}", trade.1)));
    }
    let letters = Letters::read(broker);
    for signal in broker.kept() {
        if let Err((invariant, what)) = fate(tables, hub, &letters, &signal) {
            found.push((invariant, format!("{}:{}: {what}", signal.stream.name(), signal.seq)));
        }
    }
    found
}

/// Dead letters by the place of the message and by its id, and what was told.
struct Letters {
    places: BTreeSet<String>,
    ids: BTreeSet<String>,
    /// Notices that were told.
    told: BTreeSet<String>,
}

impl Letters {
    fn read(broker: &Broker) -> Self {
        let letters = broker.messages(Stream::Dlq);
        let of = |name: &str| letters.iter().filter_map(|raw| raw.header(name).map(str::to_owned)).collect();
        let low = broker.messages(Stream::SystemLow);
        let told = low.iter().filter_map(|raw| raw.header("Nats-Msg-Id").map(str::to_owned)).collect();
        Self { places: of("swarm-place"), ids: of("swarm-msg-id"), told }
    }
}

/// How a signal ended; an error when it did not, or did so in the wrong hands.
fn fate(tables: &Tables, hub: &Hub, letters: &Letters, signal: &Kept) -> Result<(), (&'static str, String)> {
    let place = format!("{}:{}", signal.stream.name(), signal.seq);
    let at = Arrival { stream: signal.stream.name(), stream_seq: signal.seq, published_at: signal.at };
    // Whatever the time: what comes again late was handled before, and its end is that of the first.
    let read = codec::read(&signal.raw, &at);
    if letters.places.contains(&place) {
        hub.count("end dead letter");
        return Ok(());
    }
    let input = read.map_err(|reject| (TERMINAL, format!("can't be read ({reject}) and has no dead letter")))?;
    let Payload::TradingSignal(wish) = &input.payload else { return Ok(()) };
    if wish.action == SignalAction::Hold {
        hub.count("end held");
        return Ok(());
    }
    let intent = IntentId::of_leg(input.header.message_id, 0);
    let order = OrderId::of_intent(intent);
    let message = MessageId::child(input.header.message_id, "buy_bot", "order_intent", &intent.to_string());
    let owner = owner_of(tables, order);
    if owner.is_some_and(|owner| owner != input.header.user_id) {
        return Err((TENANCY, format!("order {order} is of {owner:?}, its signal of {}", input.header.user_id)));
    }
    let Some(decision) = tables.decisions.values().find(|d| d.order_id == order) else {
        if letters.ids.contains(&message.to_string()) || hub.is_expired(message.0) {
            hub.count("end intent given up");
            return Ok(());
        }
        let id = input.header.message_id;
        let held = MessageId::child(id, "buy_bot", "notice", &format!("SIGNAL_HELD {id}"));
        if input.subject.route() == Route::Idea && letters.told.contains(&held.to_string()) {
            hub.count("end idea held");
            return Ok(());
        }
        if !tables.users.contains_key(&input.header.user_id) {
            hub.count("end unknown user");
            return Ok(());
        }
        return Err((TERMINAL, format!("order {order} was never judged")));
    };
    if input.subject.route() == Route::Idea && wish.action == SignalAction::Buy {
        hub.count("idea judged");
    }
    // Of those that were modified into each other the one that came out.
    let requests = tables.requests.values().filter(|r| r.order_id == order);
    let request = requests.min_by_key(|r| r.status == ApprovalStatus::Superseded);
    let permit = tables.permits.values().find(|p| p.permit.body.envelope.order_id == order);
    let placed = tables.orders.values().find(|o| o.order_id == order);
    let end = match (decision.outcome, request.map(|r| r.status), permit.map(|p| p.state), placed.map(|o| o.state)) {
        (Outcome::Refused, None, None, None) => "end refused",
        (Outcome::NeedsHuman, Some(status), None, None)
            if status.is_terminal() && status != ApprovalStatus::Consumed =>
        {
            "end no human yes"
        }
        (Outcome::Permitted, None, Some(PermitState::Void), None)
        | (Outcome::NeedsHuman, Some(ApprovalStatus::Consumed), Some(PermitState::Void), None) => "end permit void",
        (Outcome::Permitted, None, Some(PermitState::Spent), Some(state))
        | (Outcome::NeedsHuman, Some(ApprovalStatus::Consumed), Some(PermitState::Spent), Some(state))
            if state.is_terminal() =>
        {
            match state {
                OrderState::Filled => "end filled",
                OrderState::Rejected => "end rejected",
                _ => "end cancelled",
            }
        }
        other => return Err((TERMINAL, format!("order {order} stands at {other:?}"))),
    };
    hub.count(end);
    Ok(())
}

fn owner_of(tables: &Tables, order: OrderId) -> Option<UserId> {
    tables.orders.values().find(|row| row.order_id == order).map(|row| row.user_id)
}

/// Counts what happened, so that one sees which paths were taken.
pub fn tally(tables: &Tables, hub: &Hub) {
    for row in tables.decisions.values() {
        hub.count(&match &row.code {
            Some(code) => format!("refused {code}"),
            None => format!("decision {}", row.outcome.word()),
        });
    }
    tables.requests.values().for_each(|row| hub.count(&format!("approval {}", row.status.word())));
    tables.permits.values().for_each(|row| hub.count(&format!("permit {}", row.state.word())));
    tables.orders.values().for_each(|row| hub.count(&format!("order {}", row.state)));
    tables.fills.values().for_each(|row| hub.count(&format!("fill {}", row.fill.side)));
    for row in tables.audit.values() {
        if matches!(
            row.kind.as_str(),
            "breaker_latched" | "breaker_reset" | "day_started" | "kill_lowered" | "kill_raised"
        ) {
            hub.count(&format!("audit {}", row.kind));
        }
    }
}
