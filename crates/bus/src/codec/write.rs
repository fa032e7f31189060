//! Typed payloads to wire ones.

use domain::market::{InstrumentId, Venue};
use domain::message::{
    ApprovalRequest, ApprovalResponse, Decision, DecisionOutcome, Heartbeat, OrderDecision, Payload, Severity,
    SignalAction, SignalSize, TradingSignal,
};
use domain::order::{Amount, OrderEnvelope, OrderIntent, OrderState, OrderType, Origin, Permit, Side, TimeInForce};
use domain::review::{NoReview, Opinion, Verdict};
use proto::v1;
use v1::agent_message::Payload as Wire;

pub(super) fn payload(payload: &Payload) -> Option<Wire> {
    Some(match payload {
        Payload::TradingSignal(p) => Wire::TradingSignal(signal(p)),
        Payload::ApprovalRequest(p) => Wire::ApprovalRequest(approval_request(p)),
        Payload::ApprovalResponse(p) => Wire::ApprovalResponse(approval_response(p)),
        Payload::HealthCheck => Wire::HealthCheck(v1::HealthCheck {}),
        Payload::AgentCommand(p) => Wire::Command(v1::AgentCommand {
            command: p.command.clone(),
            boot_id: p.boot_id.map(|id| id.to_string()).unwrap_or_default(),
        }),
        Payload::OrderIntent(p) => Wire::OrderIntent(order_intent(p)),
        Payload::OrderDecision(p) => Wire::OrderDecision(order_decision(p)),
        Payload::Permit(p) => Wire::Permit(permit(p)),
        Payload::ExecutionReport(p) => Wire::ExecutionReport(v1::ExecutionReport {
            order_id: p.order_id.to_string(),
            state: order_state(p.state).into(),
            filled: p.filled.to_string(),
            code: p.code.clone().unwrap_or_default(),
        }),
        Payload::PositionChanged(p) => Wire::PositionChanged(v1::PositionChanged {
            instrument: Some(instrument(&p.instrument)),
            quantity: p.quantity.to_string(),
            cost_usd: p.cost.to_string(),
            realised_usd: p.realised.to_string(),
            cash_usd: p.cash.to_string(),
        }),
        Payload::MarketTick(p) => Wire::MarketTick(v1::MarketTick {
            instrument: Some(instrument(&p.instrument)),
            bid: p.bid.to_string(),
            bid_quantity: p.bid_quantity.to_string(),
            ask: p.ask.to_string(),
            ask_quantity: p.ask_quantity.to_string(),
            received_at_ms: p.received_at.0,
        }),
        Payload::Candle(p) => Wire::Candle(v1::Candle {
            instrument: Some(instrument(&p.instrument)),
            interval_ms: p.interval_ms,
            open_time_ms: p.open_time.0,
            open: p.open.to_string(),
            high: p.high.to_string(),
            low: p.low.to_string(),
            close: p.close.to_string(),
            volume: p.volume.to_string(),
            trades: p.trades,
        }),
        Payload::TokenVerdict(p) => Wire::TokenVerdict(v1::TokenVerdict {
            venue: venue(p.venue).into(),
            mint: p.mint.clone(),
            allowed: p.allowed,
            max_notional_usd: p.max_notional.to_string(),
            reason: p.reason.clone(),
            valid_until_ms: p.valid_until.0,
        }),
        Payload::Alert(p) => {
            Wire::Alert(v1::Alert { name: p.name.clone(), severity: severity(p.severity).into(), text: p.text.clone() })
        }
        Payload::Notice(p) => {
            Wire::Notice(v1::Notice { code: p.code.clone(), text: p.text.clone(), numbers: p.numbers.clone() })
        }
        Payload::Task(p) => Wire::Task(v1::Task {
            capability: p.capability.clone(),
            arguments: p.arguments.clone(),
            task_id: p.task_id.map(|id| id.to_string()).unwrap_or_default(),
            hops: p.hops,
        }),
        Payload::TaskResult(p) => Wire::TaskResult(v1::TaskResult {
            capability: p.capability.clone(),
            ok: p.ok,
            results: p.results.clone(),
            task_id: p.task_id.map(|id| id.to_string()).unwrap_or_default(),
        }),
        Payload::Heartbeat(p) => Wire::Heartbeat(heartbeat(p)),
        Payload::HaltChanged(p) => Wire::HaltChanged(v1::HaltChanged {
            level: u32::from(p.level),
            epoch: p.epoch,
            by: p.by.clone(),
            reason: p.reason.clone(),
        }),
        Payload::LessonProposed(p) => {
            Wire::LessonProposed(v1::LessonProposed { text: p.text.clone(), evidence: p.evidence.clone() })
        }
        Payload::Timer(_) => return None,
    })
}

fn signal(p: &TradingSignal) -> v1::TradingSignal {
    let (amount, notional_usd) = match p.size {
        SignalSize::Base(quantity) => (quantity.to_string(), String::new()),
        SignalSize::Notional(usd) => (String::new(), usd.to_string()),
        SignalSize::All => ("all".to_owned(), String::new()),
        SignalSize::None => (String::new(), String::new()),
    };
    let strategy = match &p.origin {
        Origin::Agent { name } => name.split_once('/').map(|(_, strategy)| strategy.to_owned()).unwrap_or_default(),
        Origin::Person { .. } => String::new(),
    };
    v1::TradingSignal {
        action: match p.action {
            SignalAction::Buy => "BUY",
            SignalAction::Sell => "SELL",
            SignalAction::Hold => "HOLD",
        }
        .to_owned(),
        token_address: p.token_address.clone(),
        amount,
        price_limit: p.price_limit.map(|price| price.to_string()).unwrap_or_default(),
        expiry_timestamp: 0,
        confidence: p.confidence_bps.map(|bps| f64::from(bps) / 10_000.0),
        reasoning: p.reasoning.clone(),
        notional_usd,
        strategy,
        time_in_force: p.time_in_force.map(|word| word.word().to_owned()).unwrap_or_default(),
        slices: p.slices.map_or(0, |slices| u32::from(slices.count())),
        slice_interval_ms: p.slices.map_or(0, |slices| slices.every_ms()),
    }
}

fn approval_request(p: &ApprovalRequest) -> v1::ApprovalRequest {
    v1::ApprovalRequest {
        action_type: "place".to_owned(),
        description: p.reasoning.clone(),
        parameters: std::collections::BTreeMap::new(),
        timeout_ms: 0,
        requester_agent: String::new(),
        approval_id: p.approval_id.to_string(),
        envelope: Some(envelope(&p.envelope)),
        digest: p.digest.to_string(),
        tier: u32::from(p.tier),
        expires_at_ms: p.expires_at.0,
    }
}

fn approval_response(p: &ApprovalResponse) -> v1::ApprovalResponse {
    use v1::approval_response::Decision as Said;
    v1::ApprovalResponse {
        decision: match p.decision {
            // The message only wakes: what was taken back is a no to whoever hears of it.
            Decision::Reject | Decision::Revoke => Said::Reject,
            Decision::Modify => Said::Modify,
            Decision::Approve => Said::Approve,
        }
        .into(),
        modified_params: std::collections::BTreeMap::new(),
        reason: p.reason.clone(),
        approver_id: p.approver_id.clone(),
        approved_at: p.approved_at.0,
        approval_id: p.approval_id.to_string(),
    }
}

fn order_intent(p: &OrderIntent) -> v1::OrderIntent {
    use v1::order_intent::{Amount as WireAmount, Origin as WireOrigin};
    v1::OrderIntent {
        intent_id: p.intent_id.to_string(),
        signal_id: p.signal_id.to_string(),
        leg: u32::from(p.leg),
        user_id: p.user_id.to_string(),
        origin: Some(match &p.origin {
            Origin::Person { handle } => WireOrigin::Person(handle.clone()),
            Origin::Agent { name } => WireOrigin::Agent(name.clone()),
        }),
        instrument: Some(instrument(&p.instrument)),
        side: side(p.side).into(),
        order_type: order_type(p.order_type).into(),
        time_in_force: time_in_force(p.time_in_force).into(),
        amount: Some(match p.amount {
            Amount::Exactly(quantity) => WireAmount::Quantity(quantity.to_string()),
            Amount::All => WireAmount::All(true),
        }),
        worst_price: p.worst_price.to_string(),
        reduce_only: p.reduce_only,
        valid_until_ms: p.valid_until.0,
        reasoning: p.reasoning.clone(),
        opinion: opinion(&p.opinion),
        slicing: p.slices.map(|slices| v1::Slicing {
            count: slices.count().into(),
            quantity: String::new(),
            every_ms: slices.every_ms(),
        }),
    }
}

fn opinion(p: &Opinion) -> Option<v1::order_intent::Opinion> {
    use v1::order_intent::Opinion as Said;
    match p {
        Opinion::NotAsked => None,
        Opinion::NoOpinion { reason } => Some(Said::NoReview(no_review(*reason).into())),
        Opinion::Reviewed(review) => Some(Said::Review(v1::Review {
            verdict: verdict(review.verdict()).into(),
            confidence_percent: review.confidence_percent().into(),
            reasoning: review.reasoning().to_owned(),
            model: review.model().to_owned(),
            is_stale: review.is_stale(),
        })),
    }
}

fn envelope(p: &OrderEnvelope) -> v1::OrderEnvelope {
    v1::OrderEnvelope {
        schema: p.schema.clone(),
        action: p.action.clone(),
        user_id: p.user_id.to_string(),
        client_order_id: p.client_order_id.clone(),
        order_id: p.order_id.to_string(),
        intent_id: p.intent_id.to_string(),
        instrument: Some(instrument(&p.instrument())),
        side: side(p.side).into(),
        order_type: order_type(p.order_type).into(),
        time_in_force: time_in_force(p.time_in_force).into(),
        quantity: p.quantity.to_string(),
        worst_price: p.worst_price.to_string(),
        max_notional_usd: p.max_notional_usd.to_string(),
        max_slippage_bps: p.max_slippage_bps,
        min_out: p.min_out.to_string(),
        reduce_only: p.reduce_only,
        valid_until_ms: p.valid_until.0,
        policy_version: p.policy_version.clone(),
        slicing: p.slicing.map(|slicing| v1::Slicing {
            count: slicing.count.into(),
            quantity: slicing.quantity.to_string(),
            every_ms: slicing.every_ms,
        }),
    }
}

fn order_decision(p: &OrderDecision) -> v1::OrderDecision {
    use v1::order_decision::{NeedsHuman, Outcome, Permitted, Refused};
    v1::OrderDecision {
        order_id: p.order_id.to_string(),
        signal_id: p.signal_id.to_string(),
        instrument: Some(instrument(&p.instrument)),
        outcome: Some(match &p.outcome {
            DecisionOutcome::Permitted => Outcome::Permitted(Permitted {}),
            DecisionOutcome::Refused { code, numbers } => {
                Outcome::Refused(Refused { code: code.clone(), numbers: numbers.clone() })
            }
            DecisionOutcome::NeedsHuman { approval_id } => {
                Outcome::NeedsHuman(NeedsHuman { approval_id: approval_id.to_string() })
            }
        }),
    }
}

fn permit(p: &Permit) -> v1::Permit {
    v1::Permit {
        schema: p.body.schema.clone(),
        permit_id: p.body.permit_id.to_string(),
        envelope: Some(envelope(&p.body.envelope)),
        kill_epoch: p.body.kill_epoch,
        signed_at_ms: p.body.signed_at.0,
        expires_at_ms: p.body.expires_at.0,
        key_id: p.body.key_id.clone(),
        signature: p.signature.clone(),
    }
}

fn heartbeat(p: &Heartbeat) -> v1::Heartbeat {
    v1::Heartbeat {
        agent: p.agent.clone(),
        boot_id: p.boot_id.to_string(),
        pid: p.pid,
        progress: p.progress,
        busy: p.busy,
        oldest_in_flight_ms: p.oldest_in_flight_ms,
        rss_bytes: p.rss_bytes,
        queue_depth: p.queue_depth,
        dependencies: p.dependencies.clone(),
        in_hand: p.in_hand.clone(),
        lacks: p.lacks.clone(),
        draining: p.draining,
        unready: p.unready.clone(),
        held: p.held,
        handled: p.handled,
        failed: p.failed,
    }
}

fn instrument(p: &InstrumentId) -> v1::Instrument {
    v1::Instrument { venue: venue(p.venue).into(), symbol: p.symbol.to_string() }
}

/// A writer of one enum.
macro_rules! enums {
    ($($writer:ident: $domain:ident => $wire:ident { $($from:ident => $to:ident),+ $(,)? })+) => {
        $(const fn $writer(word: $domain) -> v1::$wire {
            match word { $($domain::$from => v1::$wire::$to),+ }
        })+
    };
}

enums! {
    venue: Venue => Venue { Paper => Paper, PaperDex => PaperDex, Binance => Binance, Jupiter => Jupiter }
    side: Side => Side { Buy => Buy, Sell => Sell }
    order_type: OrderType => OrderType { Limit => Limit, Market => Market }
    time_in_force: TimeInForce => TimeInForce { ImmediateOrCancel => Ioc, GoodTillCancelled => Gtc }
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
