//! `bench`: what the swarm costs and how fast it is, against the floors of the machine it runs on.
//!
//! Every figure stands beside its target and, where it has one, the raw cost of what it can't do without, measured in
//! the same run on the same disk. A miss is told as a miss; the exit status says only whether the measuring worked.
//!
//! | module | measures |
//! |---|---|
//! | [`floors`] | fdatasync, JetStream, PostgreSQL, each alone |
//! | [`latency`] | signal to venue at a fixed rate, timed from the instant due |
//! | [`road`] | as many signals as the whole swarm takes |
//! | [`approval`] | a person's yes to venue, beside plain signals at the same rate |
//! | [`ledger`] | signals through rails and ledger, and what one costs with many accounts |
//! | [`gate`] | `rails::check` alone |
//! | [`market`] | replay of recorded market data |
//! | [`footprint`] | memory and idle CPU of every process |
//! | [`router`] | what the router of language models adds to a provider that answers at once |

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]
#![allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "figures for people: counts and microseconds far below 2^52"
)]

mod approval;
mod bank;
mod bench_error;
mod chat;
mod doors;
mod floors;
mod footprint;
mod gate;
mod latency;
mod ledger;
mod limits;
mod market;
mod noise;
mod processes;
mod report;
mod road;
mod router;
mod spans;
mod stage;
mod venue;
mod yes;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};

use crate::bench_error::BenchError;
use crate::report::Report;

/// What can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// The raw costs of disk, broker and database.
    Floors,
    /// Signal to venue at a fixed rate.
    Latency,
    /// As many signals as the whole swarm takes.
    Road,
    /// A person's yes to venue.
    Approval,
    /// Signals through rails and ledger.
    Ledger,
    /// The cost of a signal with 1 to 100,000 accounts.
    Users,
    /// `rails::check`.
    Gate,
    /// Feed events through `swarm replay`.
    Replay,
    /// Memory of every process.
    Memory,
    /// CPU of a swarm that has nothing to do.
    Idle,
    /// The router of language models, against a provider that answers at once.
    Router,
}

/// Benchmarks of the swarm, with floors and targets.
#[derive(Debug, Clone, Parser)]
#[command(name = "bench", version, about)]
pub struct Arguments {
    /// Only these, separated by commas; everything when absent.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Part>,
    /// Shorter runs, under three minutes together; the tails say less.
    #[arg(long)]
    short: bool,
    /// Signals a second of the latency run.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    rate: u32,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
    /// Where servers and swarm keep their files; emptied at the start.
    #[arg(long, default_value = ".local/bench")]
    data_dir: PathBuf,
    /// Folder of limits, strategies and the like.
    #[arg(long, default_value = "config")]
    config_dir: PathBuf,
    /// Recorded market data to replay; a recording is made when the folder is absent.
    #[arg(long, default_value = "../shared/data/binance-spot-recording")]
    recorded: PathBuf,
}

impl Arguments {
    fn wants(&self, part: Part) -> bool {
        self.only.is_empty() || self.only.contains(&part)
    }

    fn wants_any(&self, parts: &[Part]) -> bool {
        parts.iter().any(|part| self.wants(*part))
    }

    /// `whole`, or `short` when that was asked for.
    const fn size<T: Copy>(&self, whole: T, short: T) -> T {
        if self.short { short } else { whole }
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let executor = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(executor) => executor,
        Err(error) => {
            eprintln!("no async runtime: {error}");
            return ExitCode::from(70);
        }
    };
    match executor.block_on(run(&arguments)) {
        Ok(report) => {
            if arguments.json {
                println!("{}", report.json());
            } else {
                println!("{}", report.table());
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::from(70)
        }
    }
}

async fn run(arguments: &Arguments) -> Result<Report, BenchError> {
    let folder = stage::take_folder(&arguments.data_dir)?;
    let mut report = Report::new(arguments.short);
    if cfg!(debug_assertions) {
        report.remark("a debug build: the figures say nothing about the product");
    }
    let floors = if arguments.wants_any(&[Part::Floors, Part::Latency]) {
        Some(floors::measure(arguments, &folder, &mut report).await?)
    } else {
        None
    };
    if arguments.wants(Part::Gate) {
        gate::measure(arguments, &mut report)?;
    }
    if arguments.wants(Part::Replay) {
        market::measure(arguments, &folder, &mut report)?;
    }
    if arguments.wants_any(&[Part::Ledger, Part::Users]) {
        ledger::measure(arguments, &folder, &mut report).await?;
    }
    if arguments.wants_any(&[Part::Latency, Part::Road, Part::Memory, Part::Idle]) {
        whole_swarm(arguments, &folder, floors.as_ref(), &mut report).await?;
    }
    if arguments.wants(Part::Router) {
        router::measure(arguments, &folder, &mut report)?;
    }
    if arguments.wants(Part::Approval) {
        approval::measure(arguments, &folder, &mut report).await?;
    }
    Ok(report)
}

async fn whole_swarm(
    arguments: &Arguments,
    folder: &std::path::Path,
    floors: Option<&floors::Floors>,
    report: &mut Report,
) -> Result<(), BenchError> {
    let people = latency::people_needed(arguments);
    let swarm = stage::Swarm::start(arguments, &folder.join("swarm"), people, None).await?;
    // Idle first: afterwards there is history to post, sweep and sign.
    if arguments.wants(Part::Idle) {
        footprint::idle(arguments, &swarm, report).await?;
    }
    if arguments.wants_any(&[Part::Latency, Part::Road]) {
        let mut venue = venue::Journal::watch(&swarm.journal())?;
        let doors = doors::Doors::open(&swarm).await?;
        if let (true, Some(floors)) = (arguments.wants(Part::Latency), floors) {
            latency::measure(arguments, &swarm, &doors, &mut venue, floors, report).await?;
        }
        if arguments.wants(Part::Road) {
            road::measure(arguments, &swarm, &doors, &mut venue, report).await?;
        }
    }
    if arguments.wants(Part::Memory) {
        footprint::memory(&swarm, report);
    }
    swarm.stop()
}
