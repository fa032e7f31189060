//! Messages between agents, as typed values. `bus` turns them into Protobuf and back.

use std::collections::BTreeMap;

use crate::canonical::Sha256Digest;
use crate::ids::{ApprovalId, BootId, CorrelationId, MessageId, OrderId, TaskId, UserId};
use crate::market::{Candle, InstrumentId, MarketTick, Venue};
use crate::money::{Price, Quantity, Usd};
use crate::order::{OrderEnvelope, OrderIntent, OrderState, Origin, Permit, Slices, TimeInForce};
use crate::subject::{Priority, Route, Subject};
use crate::time::UnixMs;

/// Version of the wire contract this build speaks.
pub const SCHEMA_VERSION: u32 = 1;
/// Longest free text kept of any message.
pub const MAX_TEXT_CHARS: usize = 500;

/// The head of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Equal ids mean the same message.
    pub message_id: MessageId,
    /// The root of its chain.
    pub correlation_id: CorrelationId,
    /// Who sent it, as the message says; the subject and the NATS grants are what is trusted.
    pub source_agent: String,
    /// When it was made.
    pub made_at: UnixMs,
    /// P0 to P9.
    pub priority: u8,
    /// Whose money; nil for facts about no user.
    pub user_id: UserId,
    /// After this it is dead; `None` for facts, which never expire.
    pub valid_until: Option<UnixMs>,
    /// W3C trace context, when there is one.
    pub traceparent: Option<String>,
}

/// A received message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// Its head.
    pub header: Header,
    /// Where it came in.
    pub subject: Subject,
    /// What it says.
    pub payload: Payload,
}

/// A message that a handler returns. The runtime gives it an id derived from its parent, `kind` and `key`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Where it goes.
    pub subject: Subject,
    /// What makes it different from its siblings: an order id, a leg.
    pub key: String,
    /// Whose money; nil for facts about no user.
    pub user_id: UserId,
    /// After this it is dead; `None` for facts.
    pub valid_until: Option<UnixMs>,
    /// What it says.
    pub payload: Payload,
}

/// Every kind of content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Payload {
    /// A wish to trade.
    TradingSignal(TradingSignal),
    /// A request for a human decision was stored.
    ApprovalRequest(ApprovalRequest),
    /// A human decision was stored.
    ApprovalResponse(ApprovalResponse),
    /// Are you there.
    HealthCheck,
    /// Drain, and the like.
    AgentCommand(AgentCommand),
    /// A planned order.
    OrderIntent(OrderIntent),
    /// What the rails said.
    OrderDecision(OrderDecision),
    /// A signed single-use permit.
    Permit(Permit),
    /// A desk wrote something about an order.
    ExecutionReport(ExecutionReport),
    /// The ledger moved.
    PositionChanged(PositionChanged),
    /// Best bid and ask.
    MarketTick(MarketTick),
    /// A closed bar.
    Candle(Candle),
    /// May this token be traded.
    TokenVerdict(TokenVerdict),
    /// Something needs attention.
    Alert(Alert),
    /// Something to tell a person.
    Notice(Notice),
    /// A task for a capability.
    Task(Task),
    /// What came of a task.
    TaskResult(TaskResult),
    /// Proof of progress.
    Heartbeat(Heartbeat),
    /// The kill level has a new epoch.
    HaltChanged(HaltChanged),
    /// A lesson a human may promote.
    LessonProposed(LessonProposed),
    /// The runtime's own clock tick; never on the wire.
    Timer(&'static str),
}

impl Payload {
    /// Its name in ids, logs and metrics.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::TradingSignal(_) => "trading_signal",
            Self::ApprovalRequest(_) => "approval_request",
            Self::ApprovalResponse(_) => "approval_response",
            Self::HealthCheck => "health_check",
            Self::AgentCommand(_) => "agent_command",
            Self::OrderIntent(_) => "order_intent",
            Self::OrderDecision(_) => "order_decision",
            Self::Permit(_) => "permit",
            Self::ExecutionReport(_) => "execution_report",
            Self::PositionChanged(_) => "position_changed",
            Self::MarketTick(_) => "market_tick",
            Self::Candle(_) => "candle",
            Self::TokenVerdict(_) => "token_verdict",
            Self::Alert(_) => "alert",
            Self::Notice(_) => "notice",
            Self::Task(_) => "task",
            Self::TaskResult(_) => "task_result",
            Self::Heartbeat(_) => "heartbeat",
            Self::HaltChanged(_) => "halt_changed",
            Self::LessonProposed(_) => "lesson_proposed",
            Self::Timer(_) => "timer",
        }
    }
}

/// What a signal wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignalAction {
    /// Open or add.
    Buy,
    /// Close or reduce.
    Sell,
    /// Nothing; recorded only.
    Hold,
}

/// How much a signal wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignalSize {
    /// Units of the base asset.
    Base(Quantity),
    /// At most this many dollars.
    Notional(Usd),
    /// The whole position; only for a sale.
    All,
    /// Nothing: a HOLD.
    None,
}

/// A wish to trade, from a person, an agent or a strategy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TradingSignal {
    /// What.
    pub action: SignalAction,
    /// Exchange symbol or mint address.
    pub token_address: String,
    /// How much.
    pub size: SignalSize,
    /// Worst price per unit that is accepted, when given.
    pub price_limit: Option<Price>,
    /// How long the venue keeps a price limit, when the sender says so.
    pub time_in_force: Option<TimeInForce>,
    /// In how many parts, and how far apart; `None`: in one piece.
    pub slices: Option<Slices>,
    /// Confidence in hundredths of a percent (0 to 10,000), when given.
    pub confidence_bps: Option<u16>,
    /// Why, at most 500 characters; untrusted.
    pub reasoning: String,
    /// Who asked.
    pub origin: Origin,
}

/// A stored request for a human decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApprovalRequest {
    /// Which.
    pub approval_id: ApprovalId,
    /// What is approved.
    pub envelope: OrderEnvelope,
    /// Digest of that envelope.
    pub digest: Sha256Digest,
    /// How many and who: tier 1 to 3.
    pub tier: u8,
    /// After this it is denied.
    pub expires_at: UnixMs,
    /// Prose of the requester, untrusted.
    pub reasoning: String,
}

/// A human's word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// No.
    Reject,
    /// Not this, but that: a new request.
    Modify,
    /// Yes.
    Approve,
    /// What was said before is taken back. On the wire it reads as a no: the message only wakes.
    Revoke,
}

/// A decision was stored; this only wakes treasury, which reads the record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApprovalResponse {
    /// Which request.
    pub approval_id: ApprovalId,
    /// The word.
    pub decision: Decision,
    /// Who said it.
    pub approver_id: String,
    /// When.
    pub approved_at: UnixMs,
    /// Why, in their words.
    pub reason: String,
}

/// A command to an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentCommand {
    /// `drain`, or `work` for a process that is held until it may.
    pub command: String,
    /// The start it is meant for; whichever runs when absent.
    pub boot_id: Option<BootId>,
}

/// What the rails said about an intent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderDecision {
    /// Which order.
    pub order_id: OrderId,
    /// The signal it came from.
    pub signal_id: MessageId,
    /// Where and what.
    pub instrument: InstrumentId,
    /// The outcome.
    pub outcome: DecisionOutcome,
}

/// Permitted, refused or waiting for a human.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DecisionOutcome {
    /// A permit was signed.
    Permitted,
    /// A rail refused.
    Refused {
        /// Stable code.
        code: String,
        /// `key=value` numbers of the refusal, in order.
        numbers: BTreeMap<String, String>,
    },
    /// A human must decide.
    NeedsHuman {
        /// Which request.
        approval_id: ApprovalId,
    },
}

/// A desk wrote something about an order. Only wakes treasury: the tables hold the facts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecutionReport {
    /// Which order.
    pub order_id: OrderId,
    /// Where it stands.
    pub state: OrderState,
    /// Cumulative quantity.
    pub filled: Quantity,
    /// Why, when refused by desk or venue.
    pub code: Option<String>,
}

/// A posted change of the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PositionChanged {
    /// Where and what.
    pub instrument: InstrumentId,
    /// Base quantity now held.
    pub quantity: Quantity,
    /// What it cost, fees included.
    pub cost: Usd,
    /// Profit or loss realised by this posting.
    pub realised: Usd,
    /// Cash now.
    pub cash: Usd,
}

/// May a token be traded, and up to what size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenVerdict {
    /// Venue.
    pub venue: Venue,
    /// Mint address.
    pub mint: String,
    /// Yes or no; unknown is no.
    pub allowed: bool,
    /// Largest notional when allowed.
    pub max_notional: Usd,
    /// Why.
    pub reason: String,
    /// After this it is no verdict.
    pub valid_until: UnixMs,
}

/// How bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// For the record.
    Info,
    /// Look at it today.
    Warning,
    /// Look at it now.
    Critical,
}

/// Something needs attention.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alert {
    /// Stable name, such as `feed_stale`.
    pub name: String,
    /// How bad.
    pub severity: Severity,
    /// For people.
    pub text: String,
}

/// Something to tell a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// Stable code, such as `SIGNAL_REJECTED`.
    pub code: String,
    /// For people.
    pub text: String,
    /// Details as `key=value`.
    pub numbers: BTreeMap<String, String>,
}

/// A task for a capability.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// Which, for whoever waits for what comes of it; absent where a table tells that.
    pub task_id: Option<TaskId>,
    /// How often it was handed on.
    pub hops: u32,
    /// Capability, such as `token_verdict`.
    pub capability: String,
    /// Arguments.
    pub arguments: BTreeMap<String, String>,
}

impl Task {
    /// A task between two agents that nobody routes.
    #[must_use]
    pub const fn plain(capability: String, arguments: BTreeMap<String, String>) -> Self {
        Self { task_id: None, hops: 0, capability, arguments }
    }

    /// Tells whoever waits what came of it; an error stands under `error`.
    #[must_use]
    pub fn done(&self, outcome: Result<BTreeMap<String, String>, String>) -> Message {
        let ok = outcome.is_ok();
        let results = outcome.unwrap_or_else(|error| BTreeMap::from([("error".to_owned(), error)]));
        let (task_id, capability) = (self.task_id, self.capability.clone());
        self.to_router(None, Payload::TaskResult(TaskResult { task_id, capability, ok, results }))
    }

    /// Hands it back: this agent can't do it, somebody else may.
    #[must_use]
    pub fn back(&self, valid_until: Option<UnixMs>) -> Message {
        self.to_router(valid_until, Payload::Task(self.clone()))
    }

    fn to_router(&self, valid_until: Option<UnixMs>, payload: Payload) -> Message {
        let key = self.task_id.map(|id| id.to_string()).unwrap_or_default();
        Message { valid_until, ..Message::fact(Subject::fact(Route::Task), UserId(uuid::Uuid::nil()), key, payload) }
    }
}

/// What came of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskResult {
    /// Which task.
    pub task_id: Option<TaskId>,
    /// Capability.
    pub capability: String,
    /// Worked or not.
    pub ok: bool,
    /// Results or the error.
    pub results: BTreeMap<String, String>,
}

/// Proof of progress of one process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heartbeat {
    /// Who.
    pub agent: String,
    /// This start of it.
    pub boot_id: BootId,
    /// Its process id.
    pub pid: u32,
    /// Counts up with each message handled and each turn of the work loop.
    pub progress: u64,
    /// Something is in hand.
    pub busy: bool,
    /// Age of the oldest message in hand, ms.
    pub oldest_in_flight_ms: i64,
    /// Resident memory, bytes.
    pub rss_bytes: u64,
    /// Messages waiting for it.
    pub queue_depth: u64,
    /// Last success per dependency (`nats`, `postgres`, `feed`), ms since the epoch.
    pub dependencies: BTreeMap<String, i64>,
    /// Reply subjects of messages in hand, so that the supervisor can hand them back when this process dies.
    pub in_hand: Vec<String>,
    /// What it can't do yet, for `swarm status`.
    pub lacks: Vec<String>,
    /// Draining, not taking more.
    pub draining: bool,
    /// Why it should get no work yet; empty when it is ready.
    pub unready: Vec<String>,
    /// Held: takes nothing until the supervisor says so.
    pub held: bool,
    /// Inputs handled to the end since its start.
    pub handled: u64,
    /// Attempts that failed since its start.
    pub failed: u64,
}

/// The kill level changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HaltChanged {
    /// 0 to 4.
    pub level: u8,
    /// Counts up with each change.
    pub epoch: i64,
    /// Who.
    pub by: String,
    /// Why.
    pub reason: String,
}

/// A lesson a human may promote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LessonProposed {
    /// For people.
    pub text: String,
    /// What it was learned from.
    pub evidence: BTreeMap<String, String>,
}

impl Message {
    /// A fact for everybody.
    #[must_use]
    pub fn fact(subject: Subject, user_id: UserId, key: impl Into<String>, payload: Payload) -> Self {
        Self { subject, key: key.into(), user_id, valid_until: None, payload }
    }

    /// Turns it into an envelope as the child of `parent`, made by `agent` at `now`.
    #[must_use]
    pub fn into_child(self, parent: &Header, agent: &str, now: UnixMs) -> Envelope {
        let message_id = MessageId::child(parent.message_id, agent, self.payload.kind(), &self.key);
        let priority: Priority = self.subject.priority();
        Envelope {
            header: Header {
                message_id,
                correlation_id: parent.correlation_id,
                source_agent: agent.to_owned(),
                made_at: now,
                priority: u8::try_from(priority.number()).unwrap_or(0),
                user_id: self.user_id,
                valid_until: self.valid_until,
                traceparent: parent.traceparent.clone(),
            },
            subject: self.subject,
            payload: self.payload,
        }
    }
}

/// Cuts free text to [`MAX_TEXT_CHARS`] and drops control and bidi characters, so that prose can't move or imitate the
/// numbers it is shown beside.
#[must_use]
pub fn clean_text(text: &str) -> String {
    text.chars()
        .filter(|c| !c.is_control())
        .filter(|c| {
            !matches!(*c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}' | '\u{61c}')
        })
        .take(MAX_TEXT_CHARS)
        .collect()
}
