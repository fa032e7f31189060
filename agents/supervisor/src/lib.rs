//! The supervisor: starts and watches the agents, is the approval gateway and the door for people, signs the heads of
//! the audit chains, and raises the kill level. It decides nothing about money.
//!
//! Architecture invariant: no order and no permit passes through here.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod anchors;
pub mod answer;
mod close;
pub mod config;
pub mod curve;
pub mod doors;
pub mod files;
pub mod gateway;
pub mod halt;
pub mod in_flight;
pub mod letters;
pub mod lifecycle;
mod login;
pub mod process;
pub mod roster;
pub mod routing;
pub mod services;
pub mod tasks;
pub mod view;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use domain::agent::{AgentSpec, USUAL_LIMITS};
use domain::message::{Envelope, Message, Payload};
use domain::subject::{Route, Subject};
use runtime::sandbox::Reach;
use runtime::seal::Grounds;
use runtime::{Agent, Ctx, HandleError, Work};

/// Its name.
pub const NAME: &str = "supervisor";

/// Where the signed heads of the audit chains lie in a data folder.
#[must_use]
pub fn anchors_path(data_dir: &std::path::Path) -> PathBuf {
    data_dir.join("audit-anchors.jsonl")
}

/// What the supervisor's tasks share.
#[derive(Debug)]
pub struct Shared {
    /// The latest heartbeat and verdict of each agent.
    pub registry: lifecycle::Registry,
    /// The file copy of the kill level.
    pub kill_file: PathBuf,
    /// The house limits: what was asked under others is over.
    pub house: rails::limits::Limits,
    /// Wrong one-time codes.
    pub codes: doors::CodeGuard,
    /// The kill level as this process knows it, by all ways of raising and lowering, its own file and memory included. At the
    /// start what the file says and at least 1, until the database was read. [`tokio::sync::watch::Sender::subscribe`] tells
    /// each change; at 4 the agents are stopped.
    pub level: tokio::sync::watch::Sender<u8>,
    /// What is known of the kill level besides its file.
    pub lever: halt::Lever,
    /// Whoever reads the stream of dead letters.
    pub letters: letters::Reading,
    /// The protected files.
    pub files: files::Known,
    /// Tasks that somebody waits for.
    pub tasks: tasks::Tasks,
}

/// The agent.
#[derive(Debug)]
pub struct Supervisor {
    shared: Arc<Shared>,
    config: config::Config,
    anchor_file: PathBuf,
    grounds: Option<Grounds>,
    roster: roster::Roster,
}

impl Supervisor {
    /// Takes what `swarm up` prepared: which processes to run, and the keys of audit heads.
    #[must_use]
    pub fn new(config: config::Config, data_dir: &std::path::Path) -> Self {
        let (kill_file, lever) = (runtime::kill::file_path(data_dir), halt::Lever::default());
        let level = tokio::sync::watch::Sender::new(halt::standing(&kill_file, &lever).level);
        Self {
            shared: Arc::new(Shared {
                registry: lifecycle::Registry::new(&config.plan, &config.agents),
                kill_file,
                house: config.house.clone(),
                codes: doors::CodeGuard::default(),
                level,
                lever,
                letters: letters::Reading::default(),
                files: files::Known::default(),
                tasks: tasks::Tasks::default(),
            }),
            config,
            anchor_file: anchors_path(data_dir),
            grounds: None,
            roster: roster::Roster::open(None),
        }
    }

    /// And looks after the protected files that `swarm up` declared.
    #[must_use]
    pub fn guarding(mut self, grounds: Option<Grounds>) -> Self {
        self.grounds = grounds;
        self
    }

    /// Also writes down, where others can read it, who is there.
    #[must_use]
    pub fn with_roster(self, roster: roster::Roster) -> Self {
        Self { roster, ..self }
    }

    /// What its tasks share.
    #[must_use]
    pub fn shared(&self) -> &Shared {
        &self.shared
    }
}

impl Agent for Supervisor {
    const SPEC: AgentSpec = AgentSpec {
        name: NAME,
        job: "starts and watches agents, approval gateway, doors for people, audit heads, kill level",
        consumes: &[Route::ApprovalRequested, Route::VoidWord, Route::Task],
        listens: &[Route::Tick, Route::Heartbeat],
        listens_with_store: &[],
        emits: &[
            Route::Signal,
            Route::ApprovalResolved,
            Route::PersonAct,
            Route::HaltChanged,
            Route::Command,
            Route::Task,
            Route::AgentTask,
            Route::Notice,
            Route::Alert,
        ],
        timers: &[],
        tables: store::grants::SUPERVISOR,
        services: &["swarm.>"],
        asks: &[],
        administers_streams: true,
        limits: USUAL_LIMITS,
        lacks: &[],
    };

    /// It starts the others, so it may do what each of them may before it gives up the rest; it writes the kill level and the
    /// anchors, and reads what it guards; and it must be able to end a process that an earlier supervisor started.
    fn reach(vars: &BTreeMap<String, String>) -> Reach {
        let plan = vars.get("SWARM_PLAN").and_then(|file| std::fs::read_to_string(file).ok());
        let plan = plan.and_then(|text| serde_json::from_str::<lifecycle::Plan>(&text).ok());
        let grounds = vars.get("SWARM_PROTECTED").and_then(|text| serde_json::from_str::<Grounds>(text).ok());
        let guarded = grounds.into_iter().flat_map(|grounds| grounds.untouchable.into_values());
        let cgroup = lifecycle::cgroup::own_folder().ok().filter(|folder| folder.join("memory.high").is_file());
        let own = Reach::usual(vars).keeping(vars, "").reading(guarded).writing(cgroup).signalling_anybody();
        let agents = plan.into_iter().flat_map(|plan| plan.agents).filter_map(|agent| agent.launch);
        agents.fold(own, |reach, launch| reach.starting(&launch.program, &launch.env, &launch.log))
    }

    fn lacks(&self) -> Vec<String> {
        let unguarded = self.grounds.is_none().then(|| "protected files: nobody said which they are".to_owned());
        Self::SPEC.lacks.iter().map(|lack| (*lack).to_owned()).chain(unguarded).collect()
    }

    async fn handle(&self, input: &Envelope, ctx: &mut Ctx<'_>) -> Result<Vec<Message>, HandleError> {
        match &input.payload {
            // By when it came in: the sender's clock may be wrong. Whose life it is says the subject, which NATS guards.
            Payload::Heartbeat(beat) if input.subject == Subject::heartbeat(&beat.agent) => {
                self.shared.registry.beat(beat, tokio::time::Instant::now());
            }
            Payload::ApprovalRequest(request) => {
                // Treasury stored it in the transaction that decided; prompts of other channels hang on here.
                tracing::info!(approval_id = %request.approval_id, tier = request.tier, "a human is needed");
                metrics::counter!("swarm_approvals_waiting_total").increment(1);
            }
            Payload::Notice(void) if input.subject.route() == Route::VoidWord => {
                gateway::void_word(ctx, &input.header.source_agent, void).await?;
            }
            Payload::Task(task) => return Ok(tasks::assign(&self.shared, &input.header, task)),
            Payload::TaskResult(result) => tasks::answered(&self.shared, &input.header, result),
            _ => {}
        }
        Ok(Vec::new())
    }

    async fn background(self: Arc<Self>, work: Work) -> Result<(), HandleError> {
        tokio::try_join!(
            services::run(self.shared.clone(), work.clone()),
            anchors::run(
                self.anchor_file.clone(),
                self.config.anchor_key.clone(),
                self.config.old_anchor_keys.clone(),
                self.shared.clone(),
                work.clone(),
            ),
            halt::run(self.shared.clone(), work.clone()),
            roster::run(&self.roster, &self.shared, &work),
            lifecycle::run(self.config.plan.clone(), self.config.agents.clone(), self.shared.clone(), work.clone()),
            letters::run(self.shared.clone(), work.clone()),
            files::run(self.grounds.clone(), self.shared.clone(), work.clone()),
        )?;
        Ok(())
    }
}
