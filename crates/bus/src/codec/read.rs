//! Wire payloads to typed ones.

use domain::canonical::Sha256Digest;
use domain::ids::UserId;
use domain::market::{Candle, InstrumentId, MarketTick, Symbol, Venue};
use domain::message::{
    AgentCommand, Alert, ApprovalRequest, ApprovalResponse, Decision, DecisionOutcome, ExecutionReport, HaltChanged,
    Header, Heartbeat, LessonProposed, Notice, OrderDecision, Payload, PositionChanged, Severity, Task, TaskResult,
    TokenVerdict,
};
use domain::order::{
    Amount, OrderEnvelope, OrderIntent, OrderState, OrderType, Origin, Permit, PermitBody, Side, Slices, Slicing,
    TimeInForce,
};
use domain::reject::{Reject, RejectCode};
use domain::review::{NoReview, Opinion, Percent, Review, Verdict};
use proto::v1;
use v1::agent_message::Payload as Wire;

use super::fields::{
    arguments, bounded, details, id, moment, name, names, optional_name, positive_quantity, price, prose, quantity,
    reject, signed_usd, usd, word,
};
use super::header::Door;
use super::signal;

pub(super) fn payload(wire: &Wire, head: &Header, door: &Door) -> Result<Payload, Reject> {
    Ok(match wire {
        Wire::TradingSignal(p) => Payload::TradingSignal(signal::read(p, &head.source_agent, door)?),
        Wire::ApprovalRequest(p) => Payload::ApprovalRequest(approval_request(p, head.user_id)?),
        Wire::ApprovalResponse(p) => Payload::ApprovalResponse(approval_response(p)?),
        Wire::HealthCheck(_) => Payload::HealthCheck,
        Wire::Command(p) => Payload::AgentCommand(AgentCommand {
            command: name(&p.command, "command")?,
            boot_id: given(&p.boot_id).map(|text| id(text, "boot_id")).transpose()?,
        }),
        Wire::OrderIntent(p) => Payload::OrderIntent(order_intent(p, head.user_id)?),
        Wire::OrderDecision(p) => Payload::OrderDecision(order_decision(p)?),
        Wire::Permit(p) => Payload::Permit(permit(p, head.user_id)?),
        Wire::ExecutionReport(p) => Payload::ExecutionReport(ExecutionReport {
            order_id: id(&p.order_id, "order_id")?,
            state: order_state(p.state)?,
            filled: quantity(&p.filled, "filled")?,
            code: optional_name(&p.code, "code")?,
        }),
        Wire::PositionChanged(p) => Payload::PositionChanged(PositionChanged {
            instrument: instrument(p.instrument.as_ref())?,
            quantity: quantity(&p.quantity, "quantity")?,
            cost: signed_usd(&p.cost_usd, "cost_usd")?,
            realised: signed_usd(&p.realised_usd, "realised_usd")?,
            cash: signed_usd(&p.cash_usd, "cash_usd")?,
        }),
        Wire::MarketTick(p) => Payload::MarketTick(MarketTick {
            instrument: instrument(p.instrument.as_ref())?,
            bid: price(&p.bid, "bid")?,
            bid_quantity: quantity(&p.bid_quantity, "bid_quantity")?,
            ask: price(&p.ask, "ask")?,
            ask_quantity: quantity(&p.ask_quantity, "ask_quantity")?,
            received_at: moment(p.received_at_ms, "received_at_ms")?,
        }),
        Wire::Candle(p) => Payload::Candle(candle(p)?),
        Wire::TokenVerdict(p) => Payload::TokenVerdict(TokenVerdict {
            venue: venue(p.venue)?,
            mint: name(&p.mint, "mint")?,
            allowed: p.allowed,
            max_notional: usd(&p.max_notional_usd, "max_notional_usd")?,
            reason: prose(&p.reason, "reason")?,
            valid_until: moment(p.valid_until_ms, "valid_until_ms")?,
        }),
        Wire::Alert(p) => Payload::Alert(Alert {
            name: name(&p.name, "name")?,
            severity: severity(p.severity)?,
            text: prose(&p.text, "text")?,
        }),
        Wire::Notice(p) => Payload::Notice(Notice {
            code: name(&p.code, "code")?,
            text: prose(&p.text, "text")?,
            numbers: details(&p.numbers, "numbers")?,
        }),
        Wire::Task(p) => Payload::Task(Task {
            task_id: given(&p.task_id).map(|text| id(text, "task_id")).transpose()?,
            hops: p.hops,
            capability: name(&p.capability, "capability")?,
            arguments: arguments(&p.arguments, "arguments")?,
        }),
        Wire::TaskResult(p) => Payload::TaskResult(TaskResult {
            task_id: given(&p.task_id).map(|text| id(text, "task_id")).transpose()?,
            capability: name(&p.capability, "capability")?,
            ok: p.ok,
            results: arguments(&p.results, "results")?,
        }),
        Wire::Heartbeat(p) => Payload::Heartbeat(heartbeat(p)?),
        Wire::HaltChanged(p) => Payload::HaltChanged(HaltChanged {
            level: u8::try_from(p.level)
                .ok()
                .filter(|l| *l <= 4)
                .ok_or_else(|| reject(RejectCode::BadEnum, "level", "not 0 to 4"))?,
            epoch: p.epoch,
            by: name(&p.by, "by")?,
            reason: prose(&p.reason, "reason")?,
        }),
        Wire::LessonProposed(p) => Payload::LessonProposed(LessonProposed {
            text: prose(&p.text, "text")?,
            evidence: details(&p.evidence, "evidence")?,
        }),
    })
}

fn approval_request(p: &v1::ApprovalRequest, user: UserId) -> Result<ApprovalRequest, Reject> {
    Ok(ApprovalRequest {
        approval_id: id(&p.approval_id, "approval_id")?,
        envelope: envelope(p.envelope.as_ref(), user)?,
        digest: Sha256Digest::parse(&p.digest)
            .ok_or_else(|| reject(RejectCode::BadText, "digest", "not 64 hex digits"))?,
        tier: u8::try_from(p.tier)
            .ok()
            .filter(|t| (1..=3).contains(t))
            .ok_or_else(|| reject(RejectCode::BadEnum, "tier", "not 1 to 3"))?,
        expires_at: moment(p.expires_at_ms, "expires_at_ms")?,
        reasoning: prose(&p.description, "description")?,
    })
}

fn approval_response(p: &v1::ApprovalResponse) -> Result<ApprovalResponse, Reject> {
    use v1::approval_response::Decision as Said;
    if !p.modified_params.is_empty() {
        return Err(reject(RejectCode::NotSupported, "modified_params", "a modified order is a new request"));
    }
    Ok(ApprovalResponse {
        approval_id: id(&p.approval_id, "approval_id")?,
        decision: match word::<Said>(p.decision, "decision")? {
            Said::Unspecified => return Err(reject(RejectCode::BadEnum, "decision", "unspecified")),
            Said::Reject => Decision::Reject,
            Said::Modify => Decision::Modify,
            Said::Approve => Decision::Approve,
        },
        approver_id: name(&p.approver_id, "approver_id")?,
        approved_at: moment(p.approved_at, "approved_at")?,
        reason: prose(&p.reason, "reason")?,
    })
}

fn order_intent(p: &v1::OrderIntent, user: UserId) -> Result<OrderIntent, Reject> {
    use v1::order_intent::{Amount as WireAmount, Origin as WireOrigin};
    let missing = |field| reject(RejectCode::MissingField, field, "missing");
    Ok(OrderIntent {
        intent_id: id(&p.intent_id, "intent_id")?,
        signal_id: id(&p.signal_id, "signal_id")?,
        leg: u16::try_from(p.leg).map_err(|_| reject(RejectCode::BadDecimal, "leg", "over 65535"))?,
        user_id: same_user(&p.user_id, user)?,
        origin: match p.origin.as_ref().ok_or_else(|| missing("origin"))? {
            WireOrigin::Person(handle) => Origin::Person { handle: name(handle, "person")? },
            WireOrigin::Agent(agent) => Origin::Agent { name: name(agent, "agent")? },
        },
        instrument: instrument(p.instrument.as_ref())?,
        side: side(p.side)?,
        order_type: order_type(p.order_type)?,
        time_in_force: time_in_force(p.time_in_force)?,
        amount: match p.amount.as_ref().ok_or_else(|| missing("amount"))? {
            WireAmount::Quantity(text) => Amount::Exactly(positive_quantity(text, "quantity")?),
            WireAmount::All(true) => Amount::All,
            WireAmount::All(false) => return Err(reject(RejectCode::AmbiguousAmount, "all", "false")),
        },
        worst_price: price(&p.worst_price, "worst_price")?,
        reduce_only: p.reduce_only,
        valid_until: moment(p.valid_until_ms, "valid_until_ms")?,
        reasoning: prose(&p.reasoning, "reasoning")?,
        opinion: opinion(p.opinion.as_ref())?,
        slices: p.slicing.as_ref().map(slices_of_intent).transpose()?,
    })
}

/// What was wished of slices; how large they are is not an intent's to say.
fn slices_of_intent(p: &v1::Slicing) -> Result<Slices, Reject> {
    if !p.quantity.is_empty() {
        return Err(reject(RejectCode::NotSupported, "slicing.quantity", "an intent names none"));
    }
    slices(p.count, p.every_ms)
}

/// So many parts, so far apart.
pub(super) fn slices(count: u32, every_ms: u32) -> Result<Slices, Reject> {
    u16::try_from(count).ok().and_then(|count| Slices::new(count, every_ms)).ok_or_else(|| {
        let detail =
            format!("not 2 to {} parts, {} to {} ms apart", Slices::MOST, Slices::EVERY_MS_MIN, Slices::EVERY_MS_MAX);
        reject(RejectCode::BadDecimal, "slices", &detail)
    })
}

/// As it stands in the envelope: whether the parts fit the whole is for the rails to say.
fn slicing(p: &v1::Slicing) -> Result<Slicing, Reject> {
    let slices = slices(p.count, p.every_ms)?;
    let quantity = positive_quantity(&p.quantity, "slicing.quantity")?;
    Ok(Slicing { count: slices.count(), quantity, every_ms: slices.every_ms() })
}

/// A message from before there were reviews has none.
fn opinion(p: Option<&v1::order_intent::Opinion>) -> Result<Opinion, Reject> {
    use v1::order_intent::Opinion as Said;
    Ok(match p {
        None => Opinion::NotAsked,
        Some(Said::NoReview(number)) => Opinion::NoOpinion { reason: no_review(*number)? },
        Some(Said::Review(review)) => Opinion::Reviewed(Review::new(
            verdict(review.verdict)?,
            Percent::new(review.confidence_percent)
                .ok_or_else(|| reject(RejectCode::BadDecimal, "confidence_percent", "not within 0 and 100"))?,
            &prose(&review.reasoning, "review.reasoning")?,
            &prose(&review.model, "review.model")?,
            review.is_stale,
        )),
    })
}

/// Nothing in an envelope is cleaned or cut: its digest is what a human approved.
fn envelope(p: Option<&v1::OrderEnvelope>, user: UserId) -> Result<OrderEnvelope, Reject> {
    let p = p.ok_or_else(|| reject(RejectCode::MissingField, "envelope", "missing"))?;
    if p.schema != OrderEnvelope::SCHEMA {
        return Err(reject(RejectCode::UnknownVersion, "envelope.schema", "unknown"));
    }
    if p.action != "place" {
        return Err(reject(RejectCode::NotSupported, "envelope.action", "not `place`"));
    }
    let InstrumentId { venue, symbol } = instrument(p.instrument.as_ref())?;
    Ok(OrderEnvelope {
        schema: p.schema.clone(),
        action: p.action.clone(),
        user_id: same_user(&p.user_id, user)?,
        client_order_id: name(&p.client_order_id, "client_order_id")?,
        order_id: id(&p.order_id, "order_id")?,
        intent_id: id(&p.intent_id, "intent_id")?,
        venue,
        symbol,
        side: side(p.side)?,
        order_type: order_type(p.order_type)?,
        time_in_force: time_in_force(p.time_in_force)?,
        quantity: positive_quantity(&p.quantity, "quantity")?,
        worst_price: price(&p.worst_price, "worst_price")?,
        max_notional_usd: usd(&p.max_notional_usd, "max_notional_usd")?,
        max_slippage_bps: p.max_slippage_bps,
        min_out: quantity(&p.min_out, "min_out")?,
        reduce_only: p.reduce_only,
        valid_until: moment(p.valid_until_ms, "valid_until_ms")?,
        policy_version: name(&p.policy_version, "policy_version")?,
        slicing: p.slicing.as_ref().map(slicing).transpose()?,
    })
}

/// A text that may be left out.
fn given(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}

fn order_decision(p: &v1::OrderDecision) -> Result<OrderDecision, Reject> {
    use v1::order_decision::Outcome;
    Ok(OrderDecision {
        order_id: id(&p.order_id, "order_id")?,
        signal_id: id(&p.signal_id, "signal_id")?,
        instrument: instrument(p.instrument.as_ref())?,
        outcome: match p.outcome.as_ref().ok_or_else(|| reject(RejectCode::MissingField, "outcome", "missing"))? {
            Outcome::Permitted(_) => DecisionOutcome::Permitted,
            Outcome::Refused(r) => {
                DecisionOutcome::Refused { code: name(&r.code, "code")?, numbers: details(&r.numbers, "numbers")? }
            }
            Outcome::NeedsHuman(n) => DecisionOutcome::NeedsHuman { approval_id: id(&n.approval_id, "approval_id")? },
        },
    })
}

fn permit(p: &v1::Permit, user: UserId) -> Result<Permit, Reject> {
    if p.schema != PermitBody::SCHEMA {
        return Err(reject(RejectCode::UnknownVersion, "schema", "unknown"));
    }
    if p.signature.len() != 128 || !p.signature.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(reject(RejectCode::BadText, "signature", "not 128 hex digits"));
    }
    Ok(Permit {
        body: PermitBody {
            schema: p.schema.clone(),
            permit_id: id(&p.permit_id, "permit_id")?,
            envelope: envelope(p.envelope.as_ref(), user)?,
            kill_epoch: p.kill_epoch,
            signed_at: moment(p.signed_at_ms, "signed_at_ms")?,
            expires_at: moment(p.expires_at_ms, "expires_at_ms")?,
            key_id: name(&p.key_id, "key_id")?,
        },
        signature: p.signature.clone(),
    })
}

fn candle(p: &v1::Candle) -> Result<Candle, Reject> {
    Ok(Candle {
        instrument: instrument(p.instrument.as_ref())?,
        interval_ms: moment(p.interval_ms, "interval_ms")?.0,
        open_time: moment(p.open_time_ms, "open_time_ms")?,
        open: price(&p.open, "open")?,
        high: price(&p.high, "high")?,
        low: price(&p.low, "low")?,
        close: price(&p.close, "close")?,
        volume: quantity(&p.volume, "volume")?,
        trades: p.trades,
    })
}

fn heartbeat(p: &v1::Heartbeat) -> Result<Heartbeat, Reject> {
    bounded(p.dependencies.len(), "dependencies")?;
    Ok(Heartbeat {
        agent: name(&p.agent, "agent")?,
        boot_id: id(&p.boot_id, "boot_id")?,
        pid: p.pid,
        progress: p.progress,
        busy: p.busy,
        oldest_in_flight_ms: p.oldest_in_flight_ms,
        rss_bytes: p.rss_bytes,
        queue_depth: p.queue_depth,
        dependencies: p
            .dependencies
            .iter()
            .map(|(k, v)| Ok((name(k, "dependencies")?, *v)))
            .collect::<Result<_, Reject>>()?,
        in_hand: names(&p.in_hand, "in_hand")?,
        lacks: names(&p.lacks, "lacks")?,
        draining: p.draining,
        unready: names(&p.unready, "unready")?,
        held: p.held,
        handled: p.handled,
        failed: p.failed,
    })
}

/// The same user in the body as in the head: a body can't be moved to another account by its head.
fn same_user(text: &str, head: UserId) -> Result<UserId, Reject> {
    let user: UserId = id(text, "user_id")?;
    if user == head { Ok(user) } else { Err(reject(RejectCode::WrongUser, "user_id", "not the header's")) }
}

fn instrument(p: Option<&v1::Instrument>) -> Result<InstrumentId, Reject> {
    let p = p.ok_or_else(|| reject(RejectCode::MissingField, "instrument", "missing"))?;
    let symbol = Symbol::parse(&p.symbol).ok_or_else(|| reject(RejectCode::BadText, "symbol", "not a symbol"))?;
    Ok(InstrumentId { venue: venue(p.venue)?, symbol })
}

/// A reader of one enum: generated words to domain words, zero and strangers refused.
macro_rules! enums {
    ($($reader:ident: $wire:ident => $domain:ident { $($from:ident => $to:ident),+ $(,)? })+) => {
        $(fn $reader(number: i32) -> Result<$domain, Reject> {
            match word::<v1::$wire>(number, stringify!($reader))? {
                v1::$wire::Unspecified => Err(reject(RejectCode::BadEnum, stringify!($reader), "unspecified")),
                $(v1::$wire::$from => Ok($domain::$to)),+
            }
        })+
    };
}

enums! {
    venue: Venue => Venue { Paper => Paper, PaperDex => PaperDex, Binance => Binance, Jupiter => Jupiter }
    side: Side => Side { Buy => Buy, Sell => Sell }
    order_type: OrderType => OrderType { Limit => Limit, Market => Market }
    time_in_force: TimeInForce => TimeInForce { Ioc => ImmediateOrCancel, Gtc => GoodTillCancelled }
    order_state: OrderState => OrderState {
        Pending => Pending, Open => Open, Filled => Filled, Rejected => Rejected, Cancelled => Cancelled, Unknown => Unknown,
    }
    verdict: Verdict => Verdict { Agree => Agree, Object => Object }
    no_review: NoReview => NoReview {
        NotConfigured => NotConfigured, Off => Off, Busy => Busy, Timeout => Timeout, Unreachable => Unreachable,
        Refused => Refused, NotTheSchema => NotTheSchema, TooLong => TooLong,
    }
    severity: Severity => Severity { Info => Info, Warning => Warning, Critical => Critical }
}
