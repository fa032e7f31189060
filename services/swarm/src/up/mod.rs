//! `swarm up`: from nothing to a running swarm on embedded servers, and back to nothing on Ctrl-C.
//!
//! It starts NATS, PostgreSQL and Valkey, brings schema, roles, streams and rights up to what the code says, then starts the
//! supervisor, which starts the agents. A second `swarm up` on the same folder goes on with the same ledger.

mod declare;
mod house;
pub(crate) mod nats;
pub mod people;
mod report;
pub(crate) mod valkey;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use clap::Args;
use clap::builder::TypedValueParser;
use nix::sys::signal::Signal;
use serde_json::Value;
use servers::{Child, Launch};
use tokio::time::Instant;

use crate::people::{Connection, Files};
use house::House;

/// How long the agents may take to be heard.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// How often progress is told.
const TELL_EVERY: Duration = Duration::from_secs(10);
/// How often servers and supervisor are looked at; a death among them is seen at once.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How long the supervisor gets to drain its agents.
const DRAIN_WITHIN: Duration = Duration::from_secs(14);
/// Restarts of the supervisor or of a server that are borne within a minute.
const DEATHS_BORNE: usize = 3;
/// The same for one node of several: its death costs the others an election, not the swarm.
const NODE_DEATHS_BORNE: usize = 10;

/// `swarm up`.
#[derive(Debug, Clone, Args)]
pub struct UpArgs {
    /// Which market: auto, binance, builtin or scripted; the desk's configuration says when absent.
    #[arg(long)]
    pub market: Option<String>,
    /// Seed of the built-in market.
    #[arg(long)]
    pub seed: Option<u64>,
    /// Folder of limits, strategies and the like.
    #[arg(long, default_value = "config")]
    pub config_dir: PathBuf,
    /// People with an account and a door, and what they start with.
    #[arg(long)]
    pub people: Option<PathBuf>,
    /// NATS nodes: 1, or 3 that hold every message together and go on when one of them dies. When absent: as many as the
    /// data folder has, 1 in a new one.
    #[arg(long, value_name = "NODES", value_parser = clap::builder::PossibleValuesParser::new(["1", "3"]).map(|text| if text == "3" { 3_u8 } else { 1 }))]
    pub nats_nodes: Option<u8>,
    /// Port of the web page on 127.0.0.1. When absent: a free one, the same at the next start.
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub web_port: Option<u16>,
    /// What people type when a proxy with TLS stands before the web page, such as `https://desk.example`.
    #[arg(long, value_name = "ORIGIN")]
    pub web_origin: Option<String>,
    /// What stands behind the first tier of language models. `local`: a small model that is started here, for the protocol
    /// and not for quality. When absent: what llm.toml and the environment say.
    #[arg(long, value_name = "WHAT", value_parser = clap::builder::PossibleValuesParser::new(["local"]))]
    pub llm: Option<String>,
    /// Folder with a program by the name of each process, to be started instead of this one: wrappers that set an environment.
    #[arg(long, value_name = "DIR")]
    pub programs: Option<PathBuf>,
    /// Release every agent that is in quarantine, and count restarts from now. Without it they stay down, as they were left:
    /// starting the swarm is no look at why they ended.
    #[arg(long)]
    pub release: bool,
    /// End by itself after so many seconds.
    #[arg(long = "for", value_name = "SECONDS")]
    pub for_s: Option<u64>,
    /// Written (as JSON) when the swarm is ready.
    #[arg(long)]
    pub ready_file: Option<PathBuf>,
}

/// Why the swarm did not start or had to stop.
#[derive(Debug, thiserror::Error)]
pub enum UpError {
    /// A file or folder.
    #[error("{}: {text}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What is wrong and what to do.
        text: String,
    },
    /// An embedded server.
    #[error(transparent)]
    Servers(#[from] servers::ServersError),
    /// A key or password.
    #[error(transparent)]
    Keys(#[from] crate::keys::KeysError),
    /// The database.
    #[error("database: {0}")]
    Store(#[from] store::StoreError),
    /// The bus.
    #[error("bus: {0}")]
    Bus(#[from] bus::BusError),
    /// The agents did not come up.
    #[error("{0}")]
    NotReady(String),
}

impl UpError {
    fn file(path: &Path, error: impl std::fmt::Display) -> Self {
        Self::File { path: path.to_owned(), text: error.to_string() }
    }
}

/// Runs the swarm until Ctrl-C, SIGTERM or the end of `--for`.
#[must_use]
pub fn command(args: &UpArgs, data_dir: &Path, json: bool) -> ExitCode {
    let executor = match tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build() {
        Ok(executor) => executor,
        Err(error) => {
            eprintln!("no async runtime: {error}");
            return ExitCode::from(70);
        }
    };
    match executor.block_on(run(args, data_dir, json)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("swarm up: {error}");
            let mut cause = std::error::Error::source(&error);
            while let Some(error) = cause {
                eprintln!("  because {error}");
                cause = error.source();
            }
            ExitCode::from(if matches!(error, UpError::File { .. }) { 64 } else { 70 })
        }
    }
}

async fn run(args: &UpArgs, data_dir: &Path, json: bool) -> Result<(), UpError> {
    let started = Instant::now();
    std::fs::create_dir_all(data_dir).map_err(|error| UpError::file(data_dir, error))?;
    let data_dir = data_dir.canonicalize().map_err(|error| UpError::file(data_dir, error))?;
    let _lock = lock(&data_dir)?;
    let mut stop = Stop::listen()?;
    let mut house = House::open(args, &data_dir).await?;
    let files = house.files.clone();
    let mut supervisor = start_supervisor(&house, Begun::ByPerson { releases: args.release })?;
    let outcome = live(args, &mut house, &files, &mut supervisor, &mut stop, started, json).await;
    eprintln!("stopping: draining agents, then servers");
    end_supervisor(&house, &mut supervisor)?;
    house.stop()?;
    eprintln!("stopped; the ledger is kept in {}", data_dir.display());
    outcome
}

/// From the start of the supervisor to the wish to stop.
async fn live(
    args: &UpArgs,
    house: &mut House,
    files: &Files,
    supervisor: &mut Child,
    stop: &mut Stop,
    started: Instant,
    json: bool,
) -> Result<(), UpError> {
    let until = args.for_s.map(|seconds| started + Duration::from_secs(seconds));
    let mut deaths = Deaths::default();
    let Some(connection) = ready(house, files, supervisor, stop).await? else { return Ok(()) };
    let ready_in = started.elapsed();
    let summary = report::summary(house, &connection, ready_in).await;
    if json {
        println!("{summary}");
    } else {
        print!("{}", report::text(&summary));
    }
    if let Some(file) = &args.ready_file {
        std::fs::write(file, summary.to_string()).map_err(|error| UpError::file(file, error))?;
    }
    let mut tell_at = Instant::now() + TELL_EVERY;
    loop {
        let wake_at = until.map_or(tell_at, |until| until.min(tell_at));
        if stop.wanted(wake_at.saturating_duration_since(Instant::now()).min(LOOK_EVERY)).await
            || until.is_some_and(|until| Instant::now() >= until)
        {
            return Ok(());
        }
        if let Some(server) = house.revive()? {
            deaths.bear(house, &server)?;
            eprintln!("{server} died and was started again; the agents wait for it");
        }
        // The router does without it meanwhile, so its deaths are not counted against the swarm.
        if house.revive_model()? {
            eprintln!("the language model died and was started again; the next tier answers meanwhile");
        }
        if let Some((node, why)) = house.unstick()? {
            eprintln!("{node} could not store although its disk has room, and was started anew: {why}");
        }
        if let Some(status) = supervisor.try_wait()? {
            deaths.bear(house, "supervisor")?;
            eprintln!("the supervisor died ({status}); starting it again, it adopts the agents that run");
            *supervisor = start_supervisor(house, Begun::Again)?;
        }
        if Instant::now() >= tell_at {
            tell_at += TELL_EVERY;
            match connection.request("swarm.status", &Value::Null).await {
                Ok(status) if json => println!("{status}"),
                Ok(status) => println!("{}", report::progress(&status)),
                Err(error) => eprintln!("{error}"),
            }
        }
    }
}

/// What died within the last minute.
#[derive(Default)]
struct Deaths(Vec<(String, Instant)>);

impl Deaths {
    /// Counts one death; too many of one kind are not borne.
    fn bear(&mut self, house: &House, what: &str) -> Result<(), UpError> {
        let now = Instant::now();
        self.0.retain(|(_, at)| now.duration_since(*at) < Duration::from_secs(60));
        self.0.push((what.to_owned(), now));
        let is_node = house.nats.size() > 1 && house.nats.names().iter().any(|name| name == what);
        let borne = if is_node { NODE_DEATHS_BORNE } else { DEATHS_BORNE };
        if self.0.iter().filter(|(name, _)| name == what).count() > borne {
            let logs = house.log(what);
            let folder = logs.parent().and_then(Path::parent).unwrap_or(Path::new("."));
            return Err(UpError::NotReady(format!("{what} keeps dying; see the logs in {}", folder.display())));
        }
        Ok(())
    }
}

/// Waits until every agent was heard and prices flow. `None`: stopped before that.
async fn ready(
    house: &House,
    files: &Files,
    supervisor: &mut Child,
    stop: &mut Stop,
) -> Result<Option<Connection>, UpError> {
    let deadline = Instant::now() + READY_WITHIN;
    let connection = Connection::open(files).await.map_err(|error| UpError::NotReady(error.to_string()))?;
    loop {
        if stop.wanted(Duration::from_millis(50)).await {
            return Ok(None);
        }
        if let Some(status) = supervisor.try_wait()? {
            let log = house.log("supervisor");
            return Err(UpError::NotReady(format!("the supervisor ended ({status}); see {}", log.display())));
        }
        let status = connection.request("swarm.status", &Value::Null).await.unwrap_or(Value::Null);
        if report::is_ready(&status) {
            return Ok(Some(connection));
        }
        if Instant::now() > deadline {
            let waiting = report::not_ready(&status);
            let words: String =
                report::unready(&status).filter_map(|(agent, _)| last_words(&house.log(agent))).collect();
            return Err(UpError::NotReady(format!(
                "not ready after {} s: {waiting}; see {}{words}",
                READY_WITHIN.as_secs(),
                house.log("supervisor").parent().unwrap_or(Path::new(".")).display()
            )));
        }
    }
}

/// The last line of a log, on a line of its own behind the log's name.
fn last_words(log: &Path) -> Option<String> {
    let text = std::fs::read_to_string(log).ok()?;
    let last = text.lines().rfind(|line| !line.trim().is_empty())?;
    Some(format!("\n{}: {last}", log.file_name()?.to_string_lossy()))
}

/// Two swarms on one folder would share a ledger and fight over its files.
fn lock(data_dir: &Path) -> Result<File, UpError> {
    let path = data_dir.join("up.lock");
    let file = File::create(&path).map_err(|error| UpError::file(&path, error))?;
    file.try_lock().map_err(|_| {
        UpError::file(&path, "another `swarm up` runs on this data folder; stop it, or name another with --data-dir")
    })?;
    Ok(file)
}

/// How a start of the supervisor came about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Begun {
    /// Whoever started the swarm, who may have said that everything is to be released.
    ByPerson { releases: bool },
    /// The one before died.
    Again,
}

fn start_supervisor(house: &House, begun: Begun) -> Result<Child, UpError> {
    let mut command = Command::new(&house.supervisor.program);
    command.env_clear().envs(std::env::var_os("PATH").map(|path| ("PATH", path))).envs(&house.supervisor.env);
    command.env("SWARM_BOOT_ID", runtime::clock::new_id(&runtime::clock::SystemClock).to_string());
    match begun {
        Begun::Again => drop(command.env("SWARM_RESUMED", "1")),
        Begun::ByPerson { releases: true } => drop(command.env("SWARM_RELEASE", "1")),
        Begun::ByPerson { releases: false } => {}
    }
    Ok(servers::spawn(Launch {
        command,
        name: "supervisor".to_owned(),
        log: house.log("supervisor"),
        stop_signal: Signal::SIGTERM,
        death_signal: Signal::SIGTERM,
    })?)
}

/// Asks the supervisor to drain; agents that a dead supervisor left behind are ended by a new one.
fn end_supervisor(house: &House, supervisor: &mut Child) -> Result<(), UpError> {
    if supervisor.try_wait()?.is_some() && house.agents_run() {
        *supervisor = start_supervisor(house, Begun::Again)?;
    }
    supervisor.stop(DRAIN_WITHIN)?;
    Ok(())
}

/// The wish to stop: Ctrl-C or SIGTERM. Hears of dead children too.
struct Stop {
    child: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

impl Stop {
    fn listen() -> Result<Self, UpError> {
        use tokio::signal::unix::{SignalKind, signal};
        let listen = |kind| signal(kind).map_err(|error| UpError::NotReady(format!("no signal handler: {error}")));
        Ok(Self {
            child: listen(SignalKind::child())?,
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
        })
    }

    /// Waits that long for it, or until a child ends.
    async fn wanted(&mut self, within: Duration) -> bool {
        tokio::select! {
            _ = self.interrupt.recv() => true,
            _ = self.terminate.recv() => true,
            _ = self.child.recv() => false,
            () = tokio::time::sleep(within) => false,
        }
    }
}
