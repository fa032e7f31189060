//! The contract between an agent and the runtime.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;

use domain::agent::AgentSpec;
use domain::message::{Envelope, Message};
use domain::reject::Reject;
use domain::subject::Priority;
use domain::time::UnixMs;
use store::{StoreError, Unit};

use crate::market::MarketView;
use crate::sandbox::Reach;
use crate::work::Work;

/// One process of the swarm. A handler *returns* its messages and the runtime publishes them after the commit, so it
/// can never publish half its work.
pub trait Agent: Send + Sync + Sized + 'static {
    /// What this process is: NATS rights, Postgres grants, consumers and the agent graph come from it.
    const SPEC: AgentSpec;

    /// Turns one input into zero or more messages. Inputs are consumed messages, listened facts and timer ticks.
    ///
    /// It may run more than once for the same input (redelivery, a conflict in the database), but its changes in
    /// [`Ctx::unit`] and its messages count once.
    ///
    /// # Errors
    /// [`HandleError`]. A refusal by a rail is an output, not an error.
    fn handle(
        &self,
        input: &Envelope,
        ctx: &mut Ctx<'_>,
    ) -> impl Future<Output = Result<Vec<Message>, HandleError>> + Send;

    /// Called once after the transaction of an input was committed: the place to wake background work that reads what
    /// was written. It must not block; a crash may lose it, so background work also looks by itself.
    fn committed(&self, _input: &Envelope) {}

    /// Resolves when an input that was [`HandleError::NotYet`] is worth another try before the usual pause is over. A hint:
    /// it may come too early, and by default never comes.
    fn ready(&self, _input: &Envelope) -> impl Future<Output = ()> + Send {
        std::future::pending()
    }

    /// What this start of it can't do; what its SPEC says, unless its configuration says more.
    fn lacks(&self) -> Vec<String> {
        Self::SPEC.lacks.iter().map(|lack| (*lack).to_owned()).collect()
    }

    /// What a process of it may touch of its machine, given its environment: what every process may, unless it keeps files
    /// or starts others.
    #[must_use]
    fn reach(vars: &BTreeMap<String, String>) -> Reach {
        Reach::usual(vars)
    }

    /// Work that no message starts, such as a market feed. Runs beside the handlers until [`Work::shutdown`] is
    /// cancelled; the default does nothing.
    ///
    /// # Errors
    /// [`HandleError::Retry`] starts it again after a pause; anything else ends the process.
    fn background(self: Arc<Self>, work: Work) -> impl Future<Output = Result<(), HandleError>> + Send {
        async move {
            work.shutdown.cancelled().await;
            Ok(())
        }
    }
}

/// Why a handler gave no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HandleError {
    /// Try again later: bounded, with growing pauses.
    #[error("to be retried: {0}")]
    Retry(String),
    /// Nothing is wrong with it, but this process can't take it yet: kept in hand until it can, or until its valid-until.
    /// That uses up no attempt.
    #[error("not yet: {0}")]
    NotYet(String),
    /// Never to be handled: dead letter with the reason.
    #[error("rejected: {0}")]
    Reject(Reject),
    /// This process must not go on; the supervisor starts it again.
    #[error("fatal: {0}")]
    Fatal(String),
}

impl From<Reject> for HandleError {
    fn from(reject: Reject) -> Self {
        Self::Reject(reject)
    }
}

impl From<StoreError> for HandleError {
    fn from(error: StoreError) -> Self {
        let text = chain(&error);
        if error.is_transient() { Self::Retry(text) } else { Self::Fatal(text) }
    }
}

/// An error and its causes on one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// What a handler may see and touch while it handles one input.
pub struct Ctx<'a> {
    /// Now: the database's time for agents with tables, else the local clock.
    pub now: UnixMs,
    /// Local clock minus database clock; more than 2,000 either way refuses new risk.
    pub clock_skew_ms: i64,
    /// Latest prices, when the agent listens to [`domain::subject::Route::Tick`].
    pub market: &'a MarketView,
    unit: Option<&'a mut Unit>,
}

impl<'a> Ctx<'a> {
    /// Puts a context together; agents need this only in their tests.
    #[must_use]
    pub const fn new(now: UnixMs, clock_skew_ms: i64, market: &'a MarketView, unit: Option<&'a mut Unit>) -> Self {
        Self { now, clock_skew_ms, market, unit }
    }

    /// The transaction of this input. Its tenant is the user of the input's header; the runtime commits it together
    /// with the inbox entry and the outputs.
    ///
    /// # Errors
    /// [`HandleError::Retry`] when there is none: the store is down (what is listened to and timers are handled all the
    /// same), the agent has no tables, or the route is listened to and not among `listens_with_store` of the SPEC.
    pub fn unit(&mut self) -> Result<&mut Unit, HandleError> {
        self.unit.as_deref_mut().ok_or_else(|| HandleError::Retry("the store can't be reached".to_owned()))
    }
}

/// What is wrong with a SPEC; empty when all is well. Each agent's tests call it, and [`crate::main`] refuses to start
/// on a fault.
#[must_use]
pub fn spec_faults(spec: &AgentSpec) -> Vec<String> {
    let mut faults = Vec::new();
    let mut check = |good: bool, fault: String| {
        if !good {
            faults.push(format!("{}: {fault}", spec.name));
        }
    };
    check(domain::subject::is_token(spec.name), "its name is no subject token".to_owned());
    check(!spec.job.trim().is_empty(), "no job is stated".to_owned());
    check((1..=256).contains(&spec.limits.max_in_flight), "max_in_flight is not within 1 and 256".to_owned());
    check(
        (1..=60_000).contains(&spec.limits.handle_timeout_ms),
        "handle_timeout_ms is not within 1 and 60,000".to_owned(),
    );
    for (field, routes) in [
        ("consumes", spec.consumes),
        ("listens", spec.listens),
        ("listens_with_store", spec.listens_with_store),
        ("emits", spec.emits),
    ] {
        for (at, route) in routes.iter().enumerate() {
            check(!routes[..at].contains(route), format!("{field} names {route:?} twice"));
        }
    }
    for route in spec.consumes {
        check(!route.is_market(), format!("{route:?} is market data and can't be consumed durably"));
        check(
            route.stream(Priority::Low).is_some(),
            format!("{route:?} is in no stream and can't be consumed durably"),
        );
        check(!spec.listens.contains(route), format!("{route:?} is both consumed and listened to"));
        let (domain, addressee, _) = route.tokens();
        check(domain != "trading" || addressee == spec.name, format!("{route:?} is addressed to {addressee}"));
    }
    for route in spec.listens_with_store {
        check(spec.listens.contains(route), format!("{route:?} is not listened to, with or without the store"));
        check(!spec.tables.is_empty(), format!("{route:?} is listened to with the store, and there are no tables"));
    }
    for timer in spec.timers {
        check(timer.every_ms >= 10, format!("timer {} runs more often than every 10 ms", timer.name));
    }
    for lack in spec.lacks {
        check(!lack.trim().is_empty(), "an empty text in lacks".to_owned());
    }
    faults
}
