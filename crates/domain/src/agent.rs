//! What a process is, as data: NATS permissions, Postgres grants, consumers and the agent graph are generated from it.

use crate::subject::Route;

/// A timer whose ticks reach the handler as messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timer {
    /// Its name, which the handler sees.
    pub name: &'static str,
    /// Period.
    pub every_ms: u64,
}

/// Rights of one process on one table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TableGrant {
    /// Table, or `table(column, column)` for an update of some columns only.
    pub table: &'static str,
    /// Comma-separated SQL rights, such as `SELECT, INSERT`.
    pub rights: &'static str,
}

/// Bounds of one process's work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WorkLimits {
    /// Messages handled at once.
    pub max_in_flight: usize,
    /// A handler that takes longer is given up and the message is retried.
    pub handle_timeout_ms: u64,
}

/// One process of the swarm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AgentSpec {
    /// Folder, package, process, agent id and subject token.
    pub name: &'static str,
    /// One line on what it is for.
    pub job: &'static str,
    /// Routes it takes from a durable consumer, with acks.
    pub consumes: &'static [Route],
    /// Routes it hears on a plain subscription, where only the latest matters.
    pub listens: &'static [Route],
    /// Those of `listens` whose handler uses the record, in a transaction. All others are handled without one: what only
    /// passes by must not wait for a database that is slow.
    pub listens_with_store: &'static [Route],
    /// Routes it may publish.
    pub emits: &'static [Route],
    /// Its timers.
    pub timers: &'static [Timer],
    /// What it may do in Postgres; empty: it has no login at all.
    pub tables: &'static [TableGrant],
    /// NATS services it answers (`swarm.status` and the like).
    pub services: &'static [&'static str],
    /// Doors for people that it may knock at in their name (`swarm.decide.telegram` and the like). No agent answers another
    /// there: the supervisor does, and what it believes is what is stored, not who asks.
    pub asks: &'static [&'static str],
    /// Administers streams and consumers.
    pub administers_streams: bool,
    /// Bounds.
    pub limits: WorkLimits,
    /// What this build of it can't do yet; shown in `swarm status`.
    pub lacks: &'static [&'static str],
}

/// Bounds that suit most agents: 8 at once, 4 s each (below the consumers' 5 s ack wait).
pub const USUAL_LIMITS: WorkLimits = WorkLimits { max_in_flight: 8, handle_timeout_ms: 4_000 };
