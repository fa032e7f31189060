//! One process from its first line to its exit code.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use bus::{Bus, BusConfig};
use domain::ids::BootId;
use domain::subject::{Route, Stream, Subject};
use domain::time::Clock;
use store::Db;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{Duration, Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::agent::{Agent, HandleError, chain, spec_faults};
use crate::clock::{SystemClock, new_id};
use crate::config::{ConfigFaults, ProcessConfig, Supervision};
use crate::core::Core;
use crate::engine::Engine;
use crate::hearing::{Ear, hear, tick};
use crate::market::MarketView;
use crate::relay::{Relay, RelayLoop};
use crate::vitals::Vitals;
use crate::work::Work;
use crate::{ending, http, intake, logs, meters, pulse, sandbox};

/// Exit code for a configuration that can't be used: EX_USAGE.
const EXIT_CONFIG: u8 = 64;
/// Exit code for a server that can't be reached at the start: EX_UNAVAILABLE.
pub const EXIT_UNAVAILABLE: u8 = 69;
/// Exit code of a process that lost its supervisor, or the way to it: EX_TEMPFAIL.
pub const EXIT_ORPHANED: u8 = 75;
/// Exit code for everything else: EX_SOFTWARE.
const EXIT_FAILED: u8 = 70;
/// How long the start waits for the store.
const START_BOUND: Duration = Duration::from_secs(30);
/// How long leftovers of the outbox are published before work begins.
const SWEEP_BOUND: Duration = Duration::from_secs(10);
/// How long handlers and background work may take to finish when the process drains.
const DRAIN_WORK: Duration = Duration::from_secs(7);
/// How long the outbox may take after that. Together below the 10 s a process is given.
const DRAIN_OUTBOX: Duration = Duration::from_secs(2);
/// Whose heartbeats the others watch.
const SUPERVISOR: &str = "supervisor";
/// Between tries of something that failed.
const PAUSE: Duration = Duration::from_secs(1);

/// Why a process ended otherwise than by a drain.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The configuration can't be used.
    #[error("configuration: {0}")]
    Config(ConfigFaults),
    /// A server can't be reached at the start.
    #[error("not reachable: {0}")]
    Unreachable(String),
    /// The connection to NATS was closed for good, or a right is missing on it.
    #[error("bus: {0}")]
    Bus(String),
    /// The agent said that it must not go on.
    #[error("agent: {0}")]
    Agent(String),
    /// The supervisor was not heard, though it may live behind a broker or a link that is down.
    #[error("no supervisor for {} s: drained", pulse::ORPHANED_AFTER.as_secs())]
    Orphaned,
    /// Work was still in hand when the drain's time was up; it will be delivered again.
    #[error("the drain took longer than {} s", (DRAIN_WORK + DRAIN_OUTBOX).as_secs())]
    DrainTimedOut,
}

impl RunError {
    /// What the process ends with; its supervisor tells an outage from a fault by it.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_) => EXIT_CONFIG,
            Self::Unreachable(_) => EXIT_UNAVAILABLE,
            Self::Orphaned => EXIT_ORPHANED,
            Self::Bus(_) | Self::Agent(_) | Self::DrainTimedOut => EXIT_FAILED,
        }
    }
}

/// The whole life of an agent's process: configuration from the environment, logs, metrics and health, connections,
/// work, and a drain on SIGTERM, SIGINT or command. Before any of it, the process gives up what it does not need of its
/// machine ([`Agent::reach`]). All faults of the configuration, the agent's own included, are
/// reported at once, before anything is opened.
pub fn main<A: Agent>(build: impl FnOnce(&ProcessConfig) -> Result<A, ConfigFaults>) -> ExitCode {
    logs::start(A::SPEC.name);
    let code = match start(build) {
        Ok(()) => {
            tracing::info!("drained");
            0
        }
        Err(RunError::Config(faults)) => {
            for fault in &faults.0 {
                tracing::error!(fault, "the configuration can't be used");
            }
            EXIT_CONFIG
        }
        Err(error) => {
            tracing::error!(%error, "ended");
            error.exit_code()
        }
    };
    if let (Some(run_dir), Ok(boot_id)) = (std::env::var_os("SWARM_RUN_DIR"), std::env::var("SWARM_BOOT_ID"))
        && let Err(error) = ending::write(Path::new(&run_dir), A::SPEC.name, &boot_id, code)
    {
        tracing::warn!(%error, "how this process ended is told to its parent alone");
    }
    ExitCode::from(code)
}

fn start<A: Agent>(build: impl FnOnce(&ProcessConfig) -> Result<A, ConfigFaults>) -> Result<(), RunError> {
    let vars = std::env::vars().collect();
    let lacks = confine::<A>(&vars);
    let (config, mut faults) = ProcessConfig::check(&vars, !A::SPEC.tables.is_empty());
    faults.0.extend(spec_faults(&A::SPEC));
    let agent = match build(&config) {
        Ok(agent) => Some(agent),
        Err(own) => {
            faults.0.extend(own.0);
            None
        }
    };
    let Some(agent) = agent.filter(|_| faults.0.is_empty()) else { return Err(RunError::Config(faults)) };
    // A provider that was installed before is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| RunError::Unreachable(format!("async runtime: {error}")))?;
    let ended = runtime.block_on(async {
        let stop = CancellationToken::new();
        let (mut term, mut int) = (signal(SignalKind::terminate()).ok(), signal(SignalKind::interrupt()).ok());
        let told = stop.clone();
        tokio::spawn(async move {
            tokio::select! {
                Some(_) = async { term.as_mut()?.recv().await } => {}
                Some(_) = async { int.as_mut()?.recv().await } => {}
                else => return,
            }
            tracing::info!("told to end: draining");
            told.cancel();
        });
        let watchdog = pulse::watchdog().map(|alive| tokio::spawn(pulse::turn(alive)));
        let ended = live(agent, config, stop, Arc::new(SystemClock), lacks).await;
        watchdog.inspect(|task| task.abort());
        ended
    });
    runtime.shutdown_timeout(Duration::from_millis(500));
    ended
}

/// Gives up what this process does not need; says what the machine does not enforce of that, here and from then on in
/// every heartbeat.
fn confine<A: Agent>(vars: &BTreeMap<String, String>) -> Vec<String> {
    let threads = sandbox::threads();
    let mut lacks = sandbox::enter(&A::reach(vars));
    if threads != 1 {
        lacks.push(format!("the sandbox: {threads} threads ran before it and are not held by it"));
    }
    for lack in &lacks {
        tracing::warn!(lack, "not all that this process does not need is refused to it");
    }
    lacks
}

/// Runs an agent until `stop` is cancelled, it is told to drain, or it fails. [`main`] does this for a process of its
/// own, in its sandbox; tests run several in one, in none.
///
/// # Errors
/// [`RunError`].
pub async fn run<A: Agent>(agent: A, config: ProcessConfig, stop: CancellationToken) -> Result<(), RunError> {
    run_by(agent, config, stop, Arc::new(SystemClock)).await
}

/// [`run`] by a clock of the caller's, which may be wrong.
///
/// # Errors
/// [`RunError`].
pub async fn run_by<A: Agent>(
    agent: A,
    config: ProcessConfig,
    stop: CancellationToken,
    clock: Arc<dyn Clock>,
) -> Result<(), RunError> {
    live(agent, config, stop, clock, Vec::new()).await
}

async fn live<A: Agent>(
    agent: A,
    config: ProcessConfig,
    stop: CancellationToken,
    clock: Arc<dyn Clock>,
    lacks: Vec<String>,
) -> Result<(), RunError> {
    let listener = http::open(config.http_port, config.run_dir.as_deref(), A::SPEC.name)
        .await
        .map_err(|error| RunError::Unreachable(format!("port for metrics and health: {error}")))?;
    let (bus, events) = connect_bus::<A>(&config).await?;
    let db = connect_store::<A>(&config, &stop).await?;
    // Who has a store but no outbox sends nothing from there.
    let sends = A::SPEC.tables.iter().any(|grant| grant.table == "outbox");
    let (relay, relay_loop) =
        db.clone().filter(|_| sends).map(|db| Relay::new(A::SPEC.name, bus.clone(), db, Arc::clone(&clock))).unzip();
    let streams: BTreeSet<Stream> =
        bus::streams::consumers_of(&A::SPEC).into_iter().map(|consumer| consumer.stream).collect();
    let is_held = config.supervision == Supervision::External;
    let core = Arc::new(Core {
        spec: A::SPEC,
        lacks: agent.lacks().into_iter().chain(lacks).collect(),
        boot_id: config.boot_id.unwrap_or_else(|| BootId(new_id(clock.as_ref()))),
        config: Arc::new(config),
        clock,
        bus,
        db,
        relay,
        market: MarketView::new(),
        vitals: Arc::new(Vitals::new(streams.len())),
        shutdown: stop,
        may_work: watch::Sender::new(!is_held),
        failure: Mutex::new(None),
    });
    tracing::info!(boot_id = %core.boot_id, build = env!("CARGO_PKG_VERSION"), "started");
    // Aborted when it goes out of scope, after the drain: a draining process still beats.
    let mut beside = JoinSet::new();
    beside.spawn(http::serve(listener, Arc::clone(&core), meters::install()));
    beside.spawn(meters::metrics_upkeep());
    beside.spawn(pulse::connection(Arc::clone(&core), events));
    beside.spawn(pulse::store(Arc::clone(&core)));
    beside.spawn(pulse::beat(Arc::clone(&core)));
    let mut work = JoinSet::new();
    let engine = Engine { agent: Arc::new(agent), core: Arc::clone(&core) };
    start_ears(&engine, &mut work, &mut beside);
    let mut outbox = None;
    if may_work(&core).await {
        outbox = start_outbox(relay_loop).await;
        start_work(&engine, streams, &mut work);
    }
    core.shutdown.cancelled().await;
    drain(&core, work, outbox).await
}

/// The relay's task and the token that ends it.
struct Outbox {
    task: tokio::task::JoinHandle<()>,
    last_call: CancellationToken,
}

/// Starts the relay and lets it publish what an earlier start left, before anything new is taken.
async fn start_outbox(relay_loop: Option<RelayLoop>) -> Option<Outbox> {
    let relay_loop = relay_loop?;
    let last_call = CancellationToken::new();
    let (told, swept) = oneshot::channel();
    let task = tokio::spawn(relay_loop.run(last_call.clone(), told));
    if timeout(SWEEP_BOUND, swept).await.is_err() {
        tracing::warn!("messages of an earlier start still wait for the broker");
    }
    Some(Outbox { task, last_call })
}

/// What every process hears, held or not: commands, and whether its supervisor lives.
fn start_ears<A: Agent>(engine: &Engine<A>, work: &mut JoinSet<()>, beside: &mut JoinSet<()>) {
    work.spawn(hear(engine.clone(), Subject::command(A::SPEC.name).to_string(), Ear::Command));
    if engine.core.config.supervision != Supervision::None {
        beside.spawn(hear(engine.clone(), Subject::heartbeat(SUPERVISOR).to_string(), Ear::Beat));
        beside.spawn(pulse::supervisor(Arc::clone(&engine.core)));
    }
}

/// Waits until this start may work; says no when it is told to end before that.
async fn may_work(core: &Core) -> bool {
    let mut watch = core.may_work.subscribe();
    if !*watch.borrow() {
        tracing::info!("held until the supervisor says that this start may work");
    }
    tokio::select! {
        may = watch.wait_for(|may| *may) => may.is_ok(),
        () = core.shutdown.cancelled() => false,
    }
}

fn start_work<A: Agent>(engine: &Engine<A>, streams: BTreeSet<Stream>, work: &mut JoinSet<()>) {
    for stream in streams {
        work.spawn(intake::pull(engine.clone(), stream));
    }
    for route in A::SPEC.listens {
        let ear = if *route == Route::Tick { Ear::Market } else { Ear::Agent };
        work.spawn(hear(engine.clone(), route.filter(), ear));
    }
    for timer in A::SPEC.timers {
        work.spawn(tick(engine.clone(), timer.name, Duration::from_millis(timer.every_ms)));
    }
    work.spawn(background(engine.clone()));
}

/// The agent's background work, started again after a pause when it asks for that.
async fn background<A: Agent>(engine: Engine<A>) {
    let core = &engine.core;
    loop {
        match Arc::clone(&engine.agent).background(Work::new(Arc::clone(core))).await {
            Ok(()) => return,
            Err(HandleError::Retry(text) | HandleError::NotYet(text)) => {
                tracing::warn!(text, "background work is started again");
            }
            Err(HandleError::Fatal(text)) => return core.fail(RunError::Agent(text)),
            Err(HandleError::Reject(reject)) => return core.fail(RunError::Agent(reject.to_string())),
        }
        tokio::select! { () = core.shutdown.cancelled() => return, () = tokio::time::sleep(PAUSE) => {} }
    }
}

/// Finishes what is in hand, empties the outbox and says how it ended.
async fn drain(core: &Core, mut work: JoinSet<()>, outbox: Option<Outbox>) -> Result<(), RunError> {
    let deadline = Instant::now() + DRAIN_WORK;
    let mut in_time = true;
    while in_time {
        match timeout_at(deadline, work.join_next()).await {
            Ok(Some(Ok(()))) => {}
            Ok(Some(Err(error))) => tracing::error!(%error, "a task panicked"),
            Ok(None) => break,
            Err(_) => in_time = false,
        }
    }
    if let Some(Outbox { mut task, last_call }) = outbox {
        last_call.cancel();
        if timeout(DRAIN_OUTBOX, &mut task).await.is_err() {
            tracing::warn!("messages stay in the outbox for the next start");
            task.abort();
        }
    }
    // What was handed to the client must be on the wire before the connection goes; acknowledgements were answered.
    let _ = timeout(PAUSE, core.bus.client().flush()).await;
    match core.failure.lock().unwrap_or_else(PoisonError::into_inner).take() {
        Some(error) => Err(error),
        None if in_time => Ok(()),
        None => Err(RunError::DrainTimedOut),
    }
}

async fn connect_bus<A: Agent>(
    config: &ProcessConfig,
) -> Result<(Bus, tokio::sync::mpsc::Receiver<bus::BusEvent>), RunError> {
    let nkey_seed = match &config.nkey_file {
        Some(file) => Some(Bus::read_seed(file).map_err(|error| RunError::Unreachable(chain(&error)))?),
        None => None,
    };
    let bus_config = BusConfig {
        url: config.nats_url.clone(),
        name: A::SPEC.name.to_owned(),
        nkey_seed,
        inbox_prefix: Some(bus::permissions::inbox_prefix(A::SPEC.name)),
    };
    Bus::connect(bus_config).await.map_err(|error| RunError::Unreachable(chain(&error)))
}

/// Connects an agent with tables; a store that is away for a while at the start is waited for.
async fn connect_store<A: Agent>(config: &ProcessConfig, stop: &CancellationToken) -> Result<Option<Db>, RunError> {
    let Some(url) = config.pg_url.as_deref().filter(|_| !A::SPEC.tables.is_empty()) else { return Ok(None) };
    let deadline = Instant::now() + START_BOUND;
    loop {
        let error = match Db::connect(url, A::SPEC.name).await {
            Ok(db) => return Ok(Some(db)),
            Err(error) => chain(&error),
        };
        if Instant::now() > deadline || stop.is_cancelled() {
            return Err(RunError::Unreachable(format!("store: {error}")));
        }
        tracing::warn!(error, "the store can't be reached yet");
        tokio::select! { () = stop.cancelled() => {}, () = tokio::time::sleep(PAUSE) => {} }
    }
}
