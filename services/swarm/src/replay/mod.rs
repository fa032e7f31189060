//! `swarm replay`: recorded market data through book, bars, strategies, planner, rails and paper exchange, with a
//! virtual clock. Nothing is read but the recording and the configuration, and the same seed decides the same, byte by
//! byte.
//!
//! | module | holds |
//! |---|---|
//! | [`source`] | recordings of several instruments as one row of events |
//! | [`engine`] | the market side: clock, books, bars, strategies |
//! | [`trader`] | the money side: planner, rails, ledger, paper exchange |
//! | [`agreement`] | our book against the exchange's own best bid and ask |
//! | [`log`] | the decision log |
//! | [`report`] | what was found |

pub mod agreement;
pub mod config;
pub mod engine;
pub mod log;
pub mod report;
pub mod source;
pub mod trader;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use buy_bot::config::{ConfigError, PlannerConfig};
use domain::canonical::NotCanonical;
use domain::money::MoneyError;
use domain::time::Clock;
use rails::book::LedgerError;
use rails::limits::{Limits, LimitsError};
use venues::VenueError;
use venues::feed::FeedEvent;
use venues::paper::Misfit;

use config::ReplayConfig;
use engine::Engine;
use report::Summary;

/// Why a replay could not run to its end.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// There is nothing to replay.
    #[error("no recording: name files, or a folder with --data")]
    NoRecording,
    /// A folder can't be listed.
    #[error("folder {path}")]
    Folder {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A configuration or output file can't be read or written.
    #[error("file {path}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Faults of a configuration file.
    #[error("configuration")]
    Config(#[from] ConfigError),
    /// Faults of the limits.
    #[error("configuration")]
    Limits(#[from] LimitsError),
    /// The recording can't be read.
    #[error("recording")]
    Venue(#[from] VenueError),
    /// An amount left the range.
    #[error("amount")]
    Money(#[from] MoneyError),
    /// The ledger refused a fact.
    #[error("ledger")]
    Ledger(#[from] LedgerError),
    /// The paper exchange refused its own effect.
    #[error("paper exchange")]
    Misfit(#[from] Misfit),
    /// A value without canonical JSON.
    #[error("decision log")]
    NotCanonical(#[from] NotCanonical),
    /// A value without JSON.
    #[error("decision log")]
    Json(#[from] serde_json::Error),
}

/// All configuration of a replay.
#[derive(Debug, Clone)]
pub struct ReplaySetup {
    /// `config/replay.toml`.
    pub replay: ReplayConfig,
    /// `config/planner.toml`, with the paper venue whatever it says.
    pub planner: PlannerConfig,
    /// `config/limits.toml`.
    pub limits: Limits,
}

impl ReplaySetup {
    /// Reads the three files of a configuration folder.
    ///
    /// # Errors
    /// [`ReplayError::File`], [`ReplayError::Config`], [`ReplayError::Limits`].
    pub fn read(folder: &Path) -> Result<Self, ReplayError> {
        let text = |name: &str| {
            let path = folder.join(name);
            std::fs::read_to_string(&path).map_err(|source| ReplayError::File { path, source })
        };
        Self::parse(&text("replay.toml")?, &text("planner.toml")?, &text("limits.toml")?)
    }

    /// Reads the three texts.
    ///
    /// # Errors
    /// [`ReplayError::Config`], [`ReplayError::Limits`].
    pub fn parse(replay: &str, planner: &str, limits: &str) -> Result<Self, ReplayError> {
        let mut planner = PlannerConfig::parse(planner)?;
        planner.cex_venue = domain::market::Venue::Paper;
        Ok(Self { replay: ReplayConfig::parse(replay)?, planner, limits: Limits::parse(limits)? })
    }
}

/// Replays a row of events; the summary and the decision log. The wall time is left at zero.
///
/// # Errors
/// [`ReplayError`].
pub fn replay(
    events: impl Iterator<Item = Result<FeedEvent, VenueError>>,
    setup: &ReplaySetup,
    seed: u64,
) -> Result<(Summary, Vec<u8>), ReplayError> {
    let mut engine = Engine::new(setup, seed);
    for event in events {
        engine.event(&event?)?;
    }
    engine.finish()
}

/// Arguments of `swarm replay`.
#[derive(Debug, Clone, clap::Args)]
pub struct ReplayArgs {
    /// Recordings, `<symbol>_<anything>.gz` or plain; files of one symbol follow each other by name.
    pub files: Vec<PathBuf>,
    /// A folder of recordings, in addition to the files.
    #[arg(long)]
    pub data: Option<PathBuf>,
    /// Seed of everything that is drawn: the same seed decides the same.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Write the decision log there, one JSON object a line.
    #[arg(long)]
    pub out: Option<PathBuf>,
    /// Print the summary as JSON.
    #[arg(long)]
    pub json: bool,
    /// Folder of replay.toml, planner.toml and limits.toml.
    #[arg(long, env = "SWARM_CONFIG_DIR", default_value = "config")]
    pub config: PathBuf,
}

/// Runs `swarm replay`: 0 when it ran to its end, 64 for faults of configuration, 66 for no or unreadable recordings, 70
/// for everything else.
#[must_use]
pub fn command(args: &ReplayArgs) -> ExitCode {
    match run(args) {
        Ok(summary) => {
            if args.json {
                println!("{}", summary_json(&summary));
            } else {
                println!("{summary}");
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("swarm replay: {}", chain(&error));
            ExitCode::from(match error {
                ReplayError::Config(_) | ReplayError::Limits(_) => 64,
                ReplayError::NoRecording | ReplayError::Folder { .. } | ReplayError::Venue(_) => 66,
                _ => 70,
            })
        }
    }
}

fn run(args: &ReplayArgs) -> Result<Summary, ReplayError> {
    let setup = ReplaySetup::read(&args.config)?;
    let mut files = args.files.clone();
    if let Some(folder) = &args.data {
        files.extend(source::recordings_in(folder)?);
    }
    let events = source::Merged::open(&files)?;
    let clock = runtime::clock::SystemClock;
    let started = clock.now();
    let (mut summary, log) = replay(events, &setup, args.seed)?;
    summary.elapsed_ms = clock.now().since_ms(started).unsigned_abs();
    if let Some(path) = &args.out {
        std::fs::write(path, log).map_err(|source| ReplayError::File { path: path.clone(), source })?;
    }
    Ok(summary)
}

fn summary_json(summary: &Summary) -> serde_json::Value {
    let mut value = serde_json::to_value(summary).unwrap_or_default();
    if let Some(object) = value.as_object_mut() {
        object.insert("events_per_second".to_owned(), summary.events_per_second().into());
    }
    value
}

/// An error with its causes on one line.
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
