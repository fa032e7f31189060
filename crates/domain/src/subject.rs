//! Every subject of the swarm, as one closed list. `streams/`, NATS permissions and the agent graph are checked
//! against it.
//!
//! Form: `{domain}.{agent}.{action}.{priority}`; `agent` is who the message is for, `all` when it is a fact for
//! everybody, and in the domain `pulse`, which no stream stores, whose life it tells of. Market data is
//! `market.{venue}.{kind}.{instrument}`.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How urgent a message is; the last token of its subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Priority {
    /// P0 to P4.
    Low,
    /// P5.
    Normal,
    /// P6 and P7.
    High,
    /// P8.
    Urgent,
    /// P9.
    Critical,
}

impl Priority {
    /// All of them, lowest first.
    pub const ALL: [Self; 5] = [Self::Low, Self::Normal, Self::High, Self::Urgent, Self::Critical];

    /// The subject token.
    #[must_use]
    pub const fn token(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Normal => "normal",
            Self::High => "high",
            Self::Urgent => "urgent",
            Self::Critical => "critical",
        }
    }

    /// The wire number used when a message is made here: 2, 5, 7, 8, 9.
    #[must_use]
    pub const fn number(self) -> i32 {
        match self {
            Self::Low => 2,
            Self::Normal => 5,
            Self::High => 7,
            Self::Urgent => 8,
            Self::Critical => 9,
        }
    }

    /// The class of a wire number 0 to 9.
    #[must_use]
    pub const fn of_number(number: i32) -> Option<Self> {
        match number {
            0..=4 => Some(Self::Low),
            5 => Some(Self::Normal),
            6 | 7 => Some(Self::High),
            8 => Some(Self::Urgent),
            9 => Some(Self::Critical),
            _ => None,
        }
    }

    /// Reads a subject token.
    #[must_use]
    pub fn parse(token: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|p| p.token() == token)
    }
}

/// A stream of JetStream, or none for market data kept as last values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stream {
    /// Work queue of critical and urgent trading messages.
    TradingCritical,
    /// Work queue of high and normal trading messages.
    TradingHigh,
    /// Facts, social, monitoring, and trading messages of low priority.
    SystemLow,
    /// Last value per market subject.
    Market,
    /// Dead letters.
    Dlq,
    /// JetStream's own advisories.
    Advisories,
    /// Signed heads of the audit chains.
    AuditAnchors,
}

impl Stream {
    /// All streams.
    pub const ALL: [Self; 7] = [
        Self::TradingCritical,
        Self::TradingHigh,
        Self::SystemLow,
        Self::Market,
        Self::Dlq,
        Self::Advisories,
        Self::AuditAnchors,
    ];

    /// Its JetStream name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::TradingCritical => "TRADING_CRITICAL",
            Self::TradingHigh => "TRADING_HIGH",
            Self::SystemLow => "SYSTEM_LOW",
            Self::Market => "MARKET",
            Self::Dlq => "DLQ",
            Self::Advisories => "ADVISORIES",
            Self::AuditAnchors => "AUDIT_ANCHORS",
        }
    }
}

/// Every kind of message, with its domain, addressee and action.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Route {
    /// The operator's door: a person's `TradingSignal`.
    Signal,
    /// The door of another person: `signal-<handle>`.
    UserSignal,
    /// An agent's `TradingSignal` (its own action, so that agents can't crowd out people).
    Idea,
    /// `OrderIntent` from the planner.
    Intent,
    /// Signed `Permit` for the exchange desk.
    CexPermit,
    /// Signed `Permit` for the DEX desk.
    DexPermit,
    /// `ExecutionReport`: wakes treasury to post what the desk wrote.
    Report,
    /// `ApprovalRequest`: wakes the approval gateway.
    ApprovalRequested,
    /// `ApprovalResponse` was stored: wakes treasury.
    ApprovalResolved,
    /// `Task` for treasury: an act that a person signed (reset a breaker). Treasury checks the signature itself.
    PersonAct,
    /// `Notice` to the supervisor: what came to treasury as a person's word was none. Kept in the governance chain.
    VoidWord,
    /// `Task` for the launchpad governor: may this token be traded?
    TokenQuestion,
    /// `OrderDecision` as a fact.
    Decision,
    /// `PositionChanged` as a fact.
    PositionChanged,
    /// `Notice` to people.
    Notice,
    /// `TokenVerdict` as a fact.
    TokenVerdict,
    /// `HaltChanged`: the kill level has a new epoch.
    HaltChanged,
    /// A process's `Heartbeat`: the supervisor watches everybody's, everybody the supervisor's.
    Heartbeat,
    /// `AgentCommand` to one agent (drain).
    Command,
    /// `Task` for whoever can do it, handed to or back to the supervisor, who routes it; and `TaskResult`, what came of one.
    Task,
    /// `Task` for one agent, as the supervisor routed it.
    AgentTask,
    /// `Alert` from the monitor or any agent.
    Alert,
    /// `LessonProposed` by the reflector.
    Lesson,
    /// `MarketTick` of one instrument.
    Tick,
    /// Closed `Candle` of one instrument.
    Candle,
}

impl Route {
    /// All routes.
    pub const ALL: [Self; 25] = [
        Self::Signal,
        Self::UserSignal,
        Self::Idea,
        Self::Intent,
        Self::CexPermit,
        Self::DexPermit,
        Self::Report,
        Self::ApprovalRequested,
        Self::ApprovalResolved,
        Self::PersonAct,
        Self::VoidWord,
        Self::TokenQuestion,
        Self::Decision,
        Self::PositionChanged,
        Self::Notice,
        Self::TokenVerdict,
        Self::HaltChanged,
        Self::Heartbeat,
        Self::Command,
        Self::Task,
        Self::AgentTask,
        Self::Alert,
        Self::Lesson,
        Self::Tick,
        Self::Candle,
    ];

    /// Domain, addressee and action; `*` where a token varies.
    #[must_use]
    pub const fn tokens(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Signal => ("trading", "buy_bot", "signal"),
            Self::UserSignal => ("trading", "buy_bot", "signal-*"),
            Self::Idea => ("trading", "buy_bot", "idea"),
            Self::Intent => ("trading", "treasury", "intent"),
            Self::CexPermit => ("trading", "online_trading", "permit"),
            Self::DexPermit => ("trading", "dexter", "permit"),
            Self::Report => ("trading", "treasury", "report"),
            Self::ApprovalRequested => ("trading", "supervisor", "approval"),
            Self::ApprovalResolved => ("trading", "treasury", "approval"),
            Self::PersonAct => ("trading", "treasury", "act"),
            Self::VoidWord => ("trading", "supervisor", "void"),
            Self::TokenQuestion => ("trading", "launchpad_governor", "question"),
            Self::Decision => ("system", "all", "decision"),
            Self::PositionChanged => ("system", "all", "position"),
            Self::Notice => ("system", "all", "notice"),
            Self::TokenVerdict => ("system", "all", "verdict"),
            Self::HaltChanged => ("system", "all", "halt"),
            Self::Heartbeat => ("pulse", "*", "heartbeat"),
            Self::Command => ("system", "*", "command"),
            Self::Task => ("system", "supervisor", "task"),
            Self::AgentTask => ("system", "*", "task"),
            Self::Alert => ("monitoring", "all", "alert"),
            Self::Lesson => ("system", "all", "lesson"),
            Self::Tick => ("market", "*", "tick"),
            Self::Candle => ("market", "*", "candle"),
        }
    }

    /// Market data is not a queue: last values on core subscriptions.
    #[must_use]
    pub const fn is_market(self) -> bool {
        matches!(self, Self::Tick | Self::Candle)
    }

    /// Facts are told to everybody and re-read from tables; they are always of low priority on the wire.
    #[must_use]
    pub const fn is_fact(self) -> bool {
        let (domain, _, _) = self.tokens();
        !matches!(domain.as_bytes(), b"trading")
    }

    /// Commands are dead-lettered when they can't be handled. All else only says that a table has news, and is read again
    /// from there.
    #[must_use]
    pub const fn is_command(self) -> bool {
        matches!(
            self,
            Self::Signal
                | Self::UserSignal
                | Self::Idea
                | Self::Intent
                | Self::CexPermit
                | Self::DexPermit
                | Self::TokenQuestion
                | Self::PersonAct
                | Self::VoidWord
                | Self::Task
                | Self::AgentTask
        )
    }

    /// The wildcard that matches this route in every priority: what a NATS permission or a filter names. A door's
    /// `signal-<handle>` is one token and NATS has no partial wildcards, so it matches as `*`.
    #[must_use]
    pub fn filter(self) -> String {
        match self {
            Self::Tick => "market.*.tick.*".to_owned(),
            Self::Candle => "market.*.candle.*".to_owned(),
            Self::UserSignal => "trading.buy_bot.*.*".to_owned(),
            _ => {
                let (domain, agent, action) = self.tokens();
                format!("{domain}.{agent}.{action}.*")
            }
        }
    }

    /// The stream that holds this route at `priority`; `None`: it is heard now or never.
    #[must_use]
    pub const fn stream(self, priority: Priority) -> Option<Stream> {
        Some(match priority {
            _ if matches!(self, Self::Heartbeat) => return None,
            _ if self.is_market() => Stream::Market,
            _ if self.is_fact() => Stream::SystemLow,
            Priority::Critical | Priority::Urgent => Stream::TradingCritical,
            Priority::High | Priority::Normal => Stream::TradingHigh,
            Priority::Low => Stream::SystemLow,
        })
    }
}

/// A concrete subject.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// A routed message.
    Routed {
        /// What kind.
        route: Route,
        /// The variable token: the handle of a [`Route::UserSignal`], the agent of a [`Route::Command`],
        /// [`Route::AgentTask`] or [`Route::Heartbeat`].
        who: Option<String>,
        /// How urgent.
        priority: Priority,
    },
    /// `market.{venue}.{kind}.{instrument}`.
    Market {
        /// [`Route::Tick`] or [`Route::Candle`].
        route: Route,
        /// Venue token.
        venue: String,
        /// Instrument token.
        instrument: String,
    },
    /// The seed's three-token form `{domain}.{x}.{priority}`, which belongs to `buy_bot`.
    ThreeToken {
        /// The middle token, not interpreted.
        middle: String,
        /// How urgent.
        priority: Priority,
    },
}

/// A word that may stand as one subject token: letters, digits, `_` and `-`, at most 64.
#[must_use]
pub fn is_token(text: &str) -> bool {
    !text.is_empty() && text.len() <= 64 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

impl Subject {
    /// A routed subject without a variable token.
    #[must_use]
    pub const fn of(route: Route, priority: Priority) -> Self {
        Self::Routed { route, who: None, priority }
    }

    /// A fact; facts travel at low priority.
    #[must_use]
    pub const fn fact(route: Route) -> Self {
        Self::of(route, Priority::Low)
    }

    /// The command subject of one agent.
    #[must_use]
    pub fn command(agent: &str) -> Self {
        Self::Routed { route: Route::Command, who: Some(agent.to_owned()), priority: Priority::Low }
    }

    /// The subject of tasks for one agent; the supervisor's own is [`Route::Task`].
    #[must_use]
    pub fn task(agent: &str) -> Self {
        Self::Routed { route: Route::AgentTask, who: Some(agent.to_owned()), priority: Priority::Low }
    }

    /// Where an agent's heartbeats go.
    #[must_use]
    pub fn heartbeat(agent: &str) -> Self {
        Self::Routed { route: Route::Heartbeat, who: Some(agent.to_owned()), priority: Priority::Low }
    }

    /// Its route; the three-token form counts as [`Route::Signal`].
    #[must_use]
    pub const fn route(&self) -> Route {
        match self {
            Self::Routed { route, .. } | Self::Market { route, .. } => *route,
            Self::ThreeToken { .. } => Route::Signal,
        }
    }

    /// Its priority; market data is low.
    #[must_use]
    pub const fn priority(&self) -> Priority {
        match self {
            Self::Routed { priority, .. } | Self::ThreeToken { priority, .. } => *priority,
            Self::Market { .. } => Priority::Low,
        }
    }

    /// The stream that stores it, if any does.
    #[must_use]
    pub const fn stream(&self) -> Option<Stream> {
        match self {
            Self::Routed { route, priority, .. } => route.stream(*priority),
            Self::Market { .. } => Some(Stream::Market),
            Self::ThreeToken { priority, .. } => Route::Signal.stream(*priority),
        }
    }

    /// Reads a subject off the wire; `None` when it is none of ours.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let parts: Vec<&str> = text.split('.').collect();
        if !parts.iter().all(|p| is_token(p)) {
            return None;
        }
        match parts.as_slice() {
            ["market", venue, kind, instrument] => {
                let route = match *kind {
                    "tick" => Route::Tick,
                    "candle" => Route::Candle,
                    _ => return None,
                };
                Some(Self::Market { route, venue: (*venue).to_owned(), instrument: (*instrument).to_owned() })
            }
            ["trading", middle, priority] => {
                Some(Self::ThreeToken { middle: (*middle).to_owned(), priority: Priority::parse(priority)? })
            }
            [domain, agent, action, priority] => {
                let priority = Priority::parse(priority)?;
                if let ("trading", "buy_bot", Some(handle)) = (*domain, *agent, action.strip_prefix("signal-")) {
                    return is_token(handle).then(|| Self::Routed {
                        route: Route::UserSignal,
                        who: Some(handle.to_owned()),
                        priority,
                    });
                }
                let is_router = *agent == Route::Task.tokens().1;
                let of_agent = match (*domain, *action) {
                    ("system", "command") => Some(Route::Command),
                    ("system", "task") if !is_router => Some(Route::AgentTask),
                    ("pulse", "heartbeat") => Some(Route::Heartbeat),
                    _ => None,
                };
                if let Some(route) = of_agent {
                    return Some(Self::Routed { route, who: Some((*agent).to_owned()), priority });
                }
                Route::ALL.into_iter().find(|r| r.tokens() == (*domain, *agent, *action)).map(|route| Self::Routed {
                    route,
                    who: None,
                    priority,
                })
            }
            _ => None,
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Routed { route: Route::UserSignal, who, priority } => {
                write!(f, "trading.buy_bot.signal-{}.{}", who.as_deref().unwrap_or("unknown"), priority.token())
            }
            Self::Routed { route: route @ (Route::Command | Route::AgentTask | Route::Heartbeat), who, priority } => {
                let (domain, _, action) = route.tokens();
                write!(f, "{domain}.{}.{action}.{}", who.as_deref().unwrap_or("all"), priority.token())
            }
            Self::Routed { route, priority, .. } => {
                let (domain, agent, action) = route.tokens();
                write!(f, "{domain}.{agent}.{action}.{}", priority.token())
            }
            Self::Market { route, venue, instrument } => write!(f, "market.{venue}.{}.{instrument}", route.tokens().2),
            Self::ThreeToken { middle, priority } => write!(f, "trading.{middle}.{}", priority.token()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_subject_reads_back_as_itself() {
        for route in Route::ALL {
            let subject = match route {
                Route::Tick | Route::Candle => {
                    Subject::Market { route, venue: "paper".into(), instrument: "BTCUSDT".into() }
                }
                Route::UserSignal => Subject::Routed { route, who: Some("alice".into()), priority: Priority::High },
                Route::Command => Subject::command("monitor"),
                Route::AgentTask => Subject::task("monitor"),
                Route::Heartbeat => Subject::heartbeat("monitor"),
                _ => Subject::of(route, Priority::High),
            };
            assert_eq!(Subject::parse(&subject.to_string()), Some(subject));
        }
        assert_eq!(
            Subject::parse("trading.signal.urgent"),
            Some(Subject::ThreeToken { middle: "signal".into(), priority: Priority::Urgent })
        );
    }

    #[test]
    fn strangers_are_no_subjects() {
        for text in
            ["", "trading", "trading.buy_bot.signal.now", "trading.buy_bot.signal-.low", "a.b.c.low", "trading.*.low"]
        {
            assert_eq!(Subject::parse(text), None, "{text}");
        }
    }
}
