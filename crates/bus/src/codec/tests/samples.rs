//! Payloads of every kind out of a handful of random values.

use std::collections::BTreeMap;

use domain::canonical::Sha256Digest;
use domain::ids::{ApprovalId, BootId, CorrelationId, IntentId, MessageId, OrderId, PermitId, TaskId, UserId};
use domain::market::{Candle, InstrumentId, MarketTick, Symbol, Venue};
use domain::message::{
    AgentCommand, Alert, ApprovalRequest, ApprovalResponse, Decision, DecisionOutcome, Envelope, ExecutionReport,
    HaltChanged, Header, Heartbeat, LessonProposed, Notice, OrderDecision, Payload, PositionChanged, Severity,
    SignalAction, SignalSize, Task, TaskResult, TokenVerdict, TradingSignal,
};
use domain::money::{Price, Quantity, Usd};
use domain::order::{
    Amount, OrderEnvelope, OrderIntent, OrderState, OrderType, Origin, Permit, PermitBody, Side, Slices, Slicing,
    TimeInForce,
};
use domain::review::{NoReview, Opinion, Percent, Review, Verdict};
use domain::subject::{Priority, Route, Subject};
use domain::time::UnixMs;
use proptest::prelude::*;
use rust_decimal::Decimal;
use uuid::Uuid;

use super::NOW;

/// Number of payload kinds.
pub(super) const KINDS: usize = 20;

/// What a payload is made of.
#[derive(Debug, Clone)]
pub(super) struct Dice {
    ids: [u128; 3],
    amounts: [(i64, u32); 4],
    name: String,
    text: String,
    map: BTreeMap<String, String>,
    pick: usize,
    number: u32,
    flag: bool,
    later_ms: i64,
}

pub(super) fn dice() -> impl Strategy<Value = Dice> {
    (
        prop::array::uniform3(1u128..),
        prop::array::uniform4((1i64..1_000_000_000_000, 0u32..=12)),
        "[a-z][a-z0-9_.:-]{0,40}",
        "[ -~äß€]{0,80}",
        prop::collection::btree_map("[a-z_]{1,12}", "[ -~]{0,40}", 0..4),
        (0usize..1000, any::<u32>(), any::<bool>(), 1i64..86_400_000),
    )
        .prop_map(|(ids, amounts, name, text, map, (pick, number, flag, later_ms))| Dice {
            ids,
            amounts,
            name,
            text,
            map,
            pick,
            number,
            flag,
            later_ms,
        })
}

impl Dice {
    fn id(&self, at: usize) -> Uuid {
        Uuid::from_u128(self.ids[at])
    }

    fn decimal(&self, at: usize) -> Decimal {
        Decimal::new(self.amounts[at].0, self.amounts[at].1)
    }

    fn price(&self, at: usize) -> Price {
        Price::new(self.decimal(at)).unwrap()
    }

    fn quantity(&self, at: usize) -> Quantity {
        Quantity::new(self.decimal(at)).unwrap()
    }

    fn usd(&self, at: usize) -> Usd {
        Usd::new(self.decimal(at)).unwrap()
    }

    fn signed(&self, at: usize) -> Usd {
        Usd::new(if self.flag { -self.decimal(at) } else { self.decimal(at) }).unwrap()
    }

    fn one_of<T: Copy>(&self, all: &[T]) -> T {
        all[self.pick % all.len()]
    }

    fn later(&self) -> UnixMs {
        NOW.plus_ms(self.later_ms)
    }

    fn user(&self) -> UserId {
        UserId(self.id(2))
    }

    fn instrument(&self) -> InstrumentId {
        InstrumentId { venue: self.one_of(&Venue::ALL), symbol: Symbol::parse("BTCUSDT").unwrap() }
    }

    fn signal(&self) -> TradingSignal {
        let (action, size) = self.one_of(&[
            (SignalAction::Buy, SignalSize::Base(self.quantity(0))),
            (SignalAction::Buy, SignalSize::Notional(self.usd(1))),
            (SignalAction::Sell, SignalSize::Base(self.quantity(0))),
            (SignalAction::Sell, SignalSize::All),
            (SignalAction::Hold, SignalSize::None),
        ]);
        TradingSignal {
            action,
            token_address: self.name.clone(),
            size,
            price_limit: self.flag.then(|| self.price(2)),
            time_in_force: self.flag.then(|| self.one_of(TimeInForce::ALL)),
            slices: if action == SignalAction::Hold { None } else { self.slices() },
            confidence_bps: self.flag.then(|| u16::try_from(self.number % 10_001).unwrap()),
            reasoning: self.text.clone(),
            origin: Origin::Agent {
                name: if self.flag { "reflector".into() } else { format!("reflector/{}", self.name) },
            },
        }
    }

    fn envelope(&self) -> OrderEnvelope {
        let InstrumentId { venue, symbol } = self.instrument();
        OrderEnvelope {
            schema: OrderEnvelope::SCHEMA.into(),
            action: "place".into(),
            user_id: self.user(),
            client_order_id: OrderId(self.id(0)).client_order_id(),
            order_id: OrderId(self.id(0)),
            intent_id: IntentId(self.id(1)),
            venue,
            symbol,
            side: self.one_of(Side::ALL),
            order_type: self.one_of(OrderType::ALL),
            time_in_force: self.one_of(TimeInForce::ALL),
            quantity: self.quantity(0),
            worst_price: self.price(1),
            max_notional_usd: self.usd(2),
            max_slippage_bps: self.number,
            min_out: if self.flag { Quantity::ZERO } else { self.quantity(3) },
            reduce_only: self.flag,
            valid_until: self.later(),
            policy_version: self.name.clone(),
            slicing: self.slices().map(|slices| Slicing {
                count: slices.count(),
                quantity: self.quantity(2),
                every_ms: slices.every_ms(),
            }),
        }
    }

    /// None, or some: of the whole range.
    fn slices(&self) -> Option<Slices> {
        let span = Slices::EVERY_MS_MAX - Slices::EVERY_MS_MIN + 1;
        let count = 2 + u16::try_from(self.number % u32::from(Slices::MOST - 1)).unwrap();
        self.number.is_multiple_of(2).then(|| Slices::new(count, Slices::EVERY_MS_MIN + self.number % span).unwrap())
    }

    fn intent(&self) -> OrderIntent {
        OrderIntent {
            intent_id: IntentId(self.id(0)),
            signal_id: MessageId(self.id(1)),
            leg: u16::try_from(self.number % 65_536).unwrap(),
            user_id: self.user(),
            origin: if self.flag {
                Origin::Person { handle: self.name.clone() }
            } else {
                Origin::Agent { name: self.name.clone() }
            },
            instrument: self.instrument(),
            side: self.one_of(Side::ALL),
            order_type: self.one_of(OrderType::ALL),
            time_in_force: self.one_of(TimeInForce::ALL),
            amount: if self.flag { Amount::All } else { Amount::Exactly(self.quantity(0)) },
            worst_price: self.price(1),
            reduce_only: self.flag,
            valid_until: self.later(),
            slices: self.slices(),
            reasoning: self.text.clone(),
            opinion: self.opinion(),
        }
    }

    fn opinion(&self) -> Opinion {
        let percent = Percent::new(self.number % 101).unwrap();
        match self.number % 3 {
            0 => Opinion::NotAsked,
            1 => Opinion::NoOpinion { reason: self.one_of(NoReview::ALL) },
            _ => Opinion::Reviewed(Review::new(self.one_of(Verdict::ALL), percent, &self.text, &self.name, self.flag)),
        }
    }

    fn decision(&self) -> OrderDecision {
        OrderDecision {
            order_id: OrderId(self.id(0)),
            signal_id: MessageId(self.id(1)),
            instrument: self.instrument(),
            outcome: match self.pick % 3 {
                0 => DecisionOutcome::Permitted,
                1 => DecisionOutcome::Refused { code: self.name.clone(), numbers: self.map.clone() },
                _ => DecisionOutcome::NeedsHuman { approval_id: ApprovalId(self.id(2)) },
            },
        }
    }

    fn task(&self, capability: String, arguments: BTreeMap<String, String>) -> Task {
        let task_id = self.flag.then(|| TaskId(Uuid::from_u128(self.ids[2])));
        Task { task_id, hops: self.number, capability, arguments }
    }

    fn heartbeat(&self) -> Heartbeat {
        Heartbeat {
            agent: self.name.clone(),
            boot_id: BootId(self.id(0)),
            pid: self.number,
            progress: u64::from(self.number) * 3,
            busy: self.flag,
            oldest_in_flight_ms: self.later_ms,
            rss_bytes: u64::MAX,
            queue_depth: u64::from(self.number),
            dependencies: self.map.keys().map(|k| (k.clone(), self.later_ms)).collect(),
            in_hand: vec![format!("$JS.ACK.TRADING_HIGH.{}.1.2.3.4.5", self.name)],
            lacks: self.map.keys().cloned().collect(),
            draining: self.flag,
            unready: self.map.keys().cloned().collect(),
            held: self.flag,
            handled: u64::from(self.number),
            failed: u64::MAX,
        }
    }

    /// The payload of the `kind`-th kind, and where it goes.
    pub(super) fn payload(&self, kind: usize) -> (Subject, Payload) {
        let routed = |route| Subject::of(route, self.one_of(&Priority::ALL));
        let (name, text, map) = (self.name.clone(), self.text.clone(), self.map.clone());
        let market = |route| Subject::Market { route, venue: "paper".into(), instrument: "BTCUSDT".into() };
        match kind {
            0 => (routed(Route::Idea), Payload::TradingSignal(self.signal())),
            1 => (routed(Route::Intent), Payload::OrderIntent(self.intent())),
            2 => (routed(Route::Decision), Payload::OrderDecision(self.decision())),
            3 => (Subject::heartbeat("monitor"), Payload::Heartbeat(self.heartbeat())),
            4 => (Subject::command("monitor"), Payload::HealthCheck),
            5 => (
                Subject::command("monitor"),
                Payload::AgentCommand(AgentCommand { command: name, boot_id: self.flag.then(|| BootId(self.id(0))) }),
            ),
            6 => (
                routed(Route::ApprovalRequested),
                Payload::ApprovalRequest(ApprovalRequest {
                    approval_id: ApprovalId(self.id(1)),
                    envelope: self.envelope(),
                    digest: self.envelope().digest().unwrap(),
                    tier: u8::try_from(self.pick % 3 + 1).unwrap(),
                    expires_at: self.later(),
                    reasoning: text,
                }),
            ),
            7 => (
                routed(Route::ApprovalResolved),
                Payload::ApprovalResponse(ApprovalResponse {
                    approval_id: ApprovalId(self.id(1)),
                    decision: self.one_of(&[Decision::Reject, Decision::Modify, Decision::Approve]),
                    approver_id: name,
                    approved_at: NOW,
                    reason: text,
                }),
            ),
            8 => (
                routed(Route::CexPermit),
                Payload::Permit(Permit {
                    body: PermitBody {
                        schema: PermitBody::SCHEMA.into(),
                        permit_id: PermitId(self.id(1)),
                        envelope: self.envelope(),
                        kill_epoch: i64::from(self.number),
                        signed_at: NOW,
                        expires_at: self.later(),
                        key_id: name,
                    },
                    signature: Sha256Digest([7; 32]).to_string().repeat(2),
                }),
            ),
            9 => (
                routed(Route::Report),
                Payload::ExecutionReport(ExecutionReport {
                    order_id: OrderId(self.id(0)),
                    state: self.one_of(OrderState::ALL),
                    filled: if self.flag { Quantity::ZERO } else { self.quantity(0) },
                    code: self.flag.then_some(name),
                }),
            ),
            10 => (
                routed(Route::PositionChanged),
                Payload::PositionChanged(PositionChanged {
                    instrument: self.instrument(),
                    quantity: self.quantity(0),
                    cost: self.usd(1),
                    realised: self.signed(2),
                    cash: self.signed(3),
                }),
            ),
            11 => (
                market(Route::Tick),
                Payload::MarketTick(MarketTick {
                    instrument: self.instrument(),
                    bid: self.price(0),
                    bid_quantity: self.quantity(1),
                    ask: self.price(2),
                    ask_quantity: self.quantity(3),
                    received_at: NOW,
                }),
            ),
            12 => (
                market(Route::Candle),
                Payload::Candle(Candle {
                    instrument: self.instrument(),
                    interval_ms: 60_000,
                    open_time: NOW,
                    open: self.price(0),
                    high: self.price(1),
                    low: self.price(2),
                    close: self.price(3),
                    volume: self.quantity(0),
                    trades: u64::from(self.number),
                }),
            ),
            13 => (
                routed(Route::TokenVerdict),
                Payload::TokenVerdict(TokenVerdict {
                    venue: self.one_of(&Venue::ALL),
                    mint: name,
                    allowed: self.flag,
                    max_notional: self.usd(0),
                    reason: text,
                    valid_until: self.later(),
                }),
            ),
            14 => (
                routed(Route::Alert),
                Payload::Alert(Alert {
                    name,
                    severity: self.one_of(&[Severity::Info, Severity::Warning, Severity::Critical]),
                    text,
                }),
            ),
            15 => (routed(Route::Notice), Payload::Notice(Notice { code: name, text, numbers: map })),
            16 => (routed(Route::PersonAct), Payload::Task(self.task(name, map))),
            17 => (
                routed(Route::TokenQuestion),
                Payload::TaskResult(TaskResult {
                    task_id: Some(TaskId(Uuid::from_u128(self.ids[2]))),
                    capability: name,
                    ok: self.flag,
                    results: map,
                }),
            ),
            18 => (
                routed(Route::HaltChanged),
                Payload::HaltChanged(HaltChanged {
                    level: u8::try_from(self.pick % 5).unwrap(),
                    epoch: i64::from(self.number),
                    by: name,
                    reason: text,
                }),
            ),
            _ => (routed(Route::Lesson), Payload::LessonProposed(LessonProposed { text, evidence: map })),
        }
    }

    /// A whole message of that kind.
    pub(super) fn message(&self, kind: usize) -> Envelope {
        let (subject, payload) = self.payload(kind);
        let mortal = self.flag || matches!(payload, Payload::TradingSignal(_));
        Envelope {
            header: Header {
                message_id: MessageId(self.id(0)),
                correlation_id: CorrelationId(self.id(1)),
                source_agent: "reflector".into(),
                made_at: NOW.plus_ms(-self.later_ms),
                priority: u8::try_from(self.pick % 10).unwrap(),
                user_id: self.user(),
                valid_until: mortal.then(|| self.later()),
                traceparent: self.flag.then(|| "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into()),
            },
            subject,
            payload,
        }
    }
}
