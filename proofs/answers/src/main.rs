//! `answers`: how often the cache of language models answers the swarm's own questions, and how often wrongly.

use std::path::PathBuf;
use std::process::ExitCode;

use answers::market::{MarketError, Recording};
use answers::workload::{Shape, WorkloadError};
use clap::Parser;

/// The swarm's own questions to a language model over recorded market data, before the cache as it ships: hits and wrong
/// answers by kind, and near-equal questions that must not be answered.
#[derive(Debug, Parser)]
#[command(name = "answers", version)]
struct Arguments {
    /// Folder of recordings; without it the built-in market makes one.
    #[arg(long)]
    data: Option<PathBuf>,
    /// Seed of everything that is drawn.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Length of the day, hours; the recording is played as often as it takes.
    #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(u16).range(1..=240))]
    hours: u16,
    /// Signals to buy, an hour and tenant.
    #[arg(long, default_value_t = 210, value_parser = clap::value_parser!(u16).range(1..))]
    per_hour: u16,
    /// Leaves out the table of other rates.
    #[arg(long)]
    short: bool,
    /// One JSON document instead of text.
    #[arg(long)]
    json: bool,
}

fn run(arguments: &Arguments) -> Result<answers::report::Report, WorkloadError> {
    let recording = match &arguments.data {
        Some(folder) => Recording::read(folder)?,
        None => Recording::builtin(arguments.seed)?,
    };
    if recording.length_ms < 1 {
        return Err(MarketError::Empty.into());
    }
    let plays = (i64::from(arguments.hours) * 3_600_000 + recording.length_ms - 1) / recording.length_ms;
    let shape = Shape { seed: arguments.seed, plays, per_hour: f64::from(arguments.per_hour), free_reasons: false };
    answers::run(&recording, shape, !arguments.short)
}

/// An error with its causes on one line.
fn chain(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {}", chain(cause)),
        None => error.to_string(),
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(report) => {
            if arguments.json {
                println!("{:#}", report.as_json());
            } else {
                print!("{report}");
            }
            if report.is_safe() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("answers: {}", chain(&error));
            ExitCode::from(66)
        }
    }
}
