//! Treasury: the one writer of the ledger. It turns intents into refusals, questions to a human, or signed single-use
//! permits, and posts what the desks report.
//!
//! Architecture invariant: treasury talks to no venue and knows no model. It holds the permit key and nothing else that
//! is secret.

pub mod approval;
pub mod config;
pub mod decide;
pub mod envelope;
pub mod facts;
pub mod flatten;
pub mod process;
pub mod reset;
pub mod settle;
pub mod sweep;

use std::sync::{Arc, Mutex, PoisonError};

use domain::agent::{AgentSpec, WorkLimits};
use domain::ids::{IntentId, UserId};
use domain::message::{Envelope, Message, Payload};
use domain::reject::{Reject, RejectCode};
use domain::subject::Route;
use rails::book::Marks;
use runtime::evidence::Panel;
use runtime::kill::KillSwitch;
use runtime::seal::Seal;
use runtime::{Agent, Ctx, HandleError, Work};
use store::Unit;

use crate::config::Config;
use crate::decide::Sight;

/// Its name.
pub const NAME: &str = "treasury";

/// The agent.
#[derive(Debug)]
pub struct Treasury {
    config: Config,
    memory: Mutex<Memory>,
    kill: KillSwitch,
    seal: Option<Seal>,
}

/// What is kept between messages. All of it can be lost: the tables hold the truth.
#[derive(Debug, Default)]
struct Memory {
    day: Option<i64>,
    last_marks: Marks,
    marks_before_midnight: Option<Marks>,
}

impl Treasury {
    /// Takes the checked configuration and the folder of the kill file.
    #[must_use]
    pub fn new(config: Config, data_dir: &std::path::Path) -> Self {
        Self { config, memory: Mutex::default(), kill: KillSwitch::new(data_dir), seal: None }
    }

    /// And signs nothing that takes new risk while limits, program or approvers are not what a person declared.
    #[must_use]
    pub fn sealed(mut self, seal: Option<Seal>) -> Self {
        self.seal = seal;
        self
    }

    /// Whether all of that is as it was declared, asked before an order is judged.
    async fn is_as_declared(&self, unit: &mut Unit) -> Result<bool, HandleError> {
        let Some(seal) = &self.seal else { return Ok(true) };
        let holds = seal.holds(Panel::read(unit).await?.version());
        if !holds {
            tracing::error!("limits, program or approvers are not what a person declared: no new risk");
            metrics::counter!("swarm_seal_broken_total").increment(1);
        }
        Ok(holds)
    }

    /// Its configuration.
    #[must_use]
    pub const fn config(&self) -> &Config {
        &self.config
    }

    fn memory(&self) -> std::sync::MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps the marks of the last moment of each UTC day.
    fn watch_midnight(&self, marks: &Marks, day: i64) {
        let mut memory = self.memory();
        if memory.day.is_some_and(|known| known < day) {
            memory.marks_before_midnight = Some(std::mem::take(&mut memory.last_marks));
        }
        memory.day = Some(day);
        memory.last_marks.clone_from(marks);
    }

    /// Runs `act` with what treasury sees at `now`. What is not as it was declared counts as a kill level that can't be
    /// read: there is one way to say no to new risk, and it tells nobody what would have to be changed.
    async fn with_sight<T>(
        &self,
        marks: &Marks,
        now: domain::time::UnixMs,
        clock_skew_ms: i64,
        is_as_declared: bool,
        act: impl AsyncFnOnce(Sight<'_>) -> T,
    ) -> T {
        let mut copies = self.kill.copies();
        copies.extend((!is_as_declared).then_some(None));
        let before = self.memory().marks_before_midnight.clone();
        act(Sight { marks, marks_before_midnight: before.as_ref(), kill_copies: &copies, now, clock_skew_ms }).await
    }
}

impl Agent for Treasury {
    const SPEC: AgentSpec = AgentSpec {
        name: NAME,
        job: "the ledger: rails, reservations, permits, settlement, PnL, daily loss, breaker",
        consumes: &[Route::Intent, Route::Report, Route::ApprovalResolved, Route::PersonAct],
        listens: &[Route::Tick, Route::HaltChanged],
        listens_with_store: &[],
        emits: &[
            Route::CexPermit,
            Route::DexPermit,
            Route::ApprovalRequested,
            Route::Decision,
            Route::PositionChanged,
            Route::Notice,
            Route::VoidWord,
        ],
        timers: &[],
        tables: store::grants::TREASURY,
        services: &[],
        asks: &[],
        administers_streams: false,
        limits: WorkLimits { max_in_flight: 8, handle_timeout_ms: 4_000 },
        lacks: &["transfers and reports", "live token verdicts: DEX tokens are refused"],
    };

    fn lacks(&self) -> Vec<String> {
        let unsealed = self.seal.is_none().then(|| "limits and program are not compared with a declaration".to_owned());
        Self::SPEC.lacks.iter().map(|lack| (*lack).to_owned()).chain(unsealed).collect()
    }

    async fn handle(&self, input: &Envelope, ctx: &mut Ctx<'_>) -> Result<Vec<Message>, HandleError> {
        let user_id = input.header.user_id;
        let marks = ctx.market.marks();
        let (now, skew) = (ctx.now, ctx.clock_skew_ms);
        if let Payload::HaltChanged(halt) = &input.payload {
            self.kill.hear(halt);
            return Ok(Vec::new());
        }
        let unit = ctx.unit()?;
        let is_as_declared = self.is_as_declared(unit).await?;
        self.with_sight(&marks, now, skew, is_as_declared, async |sight| match &input.payload {
            Payload::OrderIntent(intent) => {
                if intent.user_id != user_id {
                    return Err(Reject::new(RejectCode::WrongUser, "intent and header name different users").into());
                }
                if intent.intent_id != IntentId::of_leg(intent.signal_id, intent.leg) {
                    return Err(Reject::new(RejectCode::BadId, "intent id is not that of its signal and leg").into());
                }
                decide::decide(unit, &self.config, intent, sight).await
            }
            Payload::ExecutionReport(report) => settle::post(unit, &self.config, user_id, report.order_id, sight).await,
            Payload::ApprovalResponse(response) => approval::heard(unit, &self.config, user_id, response, sight).await,
            Payload::Task(task) => reset::breaker(unit, &self.config, user_id, task, sight).await,
            other => Err(Reject::new(RejectCode::WrongPayload, other.kind()).into()),
        })
        .await
    }

    async fn background(self: Arc<Self>, work: Work) -> Result<(), HandleError> {
        sweep::run(&self, &work).await
    }
}

/// A user's id as a message field.
pub(crate) fn nil_user() -> UserId {
    UserId(uuid::Uuid::nil())
}
