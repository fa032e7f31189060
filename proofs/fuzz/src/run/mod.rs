//! The command behind `make fuzz`: one fuzzer process for each target, progress, a table, and what to do about a crash.
//!
//! It lives in the fuzzer's own binary: started plainly it is the command, started by itself with `FUZZ_TARGET` it is
//! the fuzzer of that target.

mod job;
mod keep;
mod table;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::targets::{TARGETS, Target, find};
use job::{Job, Outcome};

/// Names the target of a fuzzer process.
const TARGET_VARIABLE: &str = "FUZZ_TARGET";
/// How often progress is told.
const PROGRESS_EVERY: Duration = Duration::from_secs(30);

/// Fuzzes everything that reads what a stranger, an exchange or a file says.
#[derive(Debug, Parser)]
#[command(name = "fuzz")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Fuzz, one target after the other or several at once.
    Run(RunArgs),
    /// Feed files to a target once; one that breaks it ends this command with its panic.
    Replay {
        /// Which target.
        target: String,
        /// Files: reproducers, or anything else.
        files: Vec<PathBuf>,
    },
    /// Minimise what was found and keep the smallest of it in the repository.
    Keep {
        /// Folder that `run` worked in.
        #[arg(long, default_value = ".local/fuzz")]
        work: PathBuf,
        /// Bytes kept for each target at most.
        #[arg(long, default_value_t = 12_288)]
        bytes: usize,
    },
    /// Name the targets and what they read.
    List,
}

/// Arguments of `fuzz run`.
#[derive(Debug, Clone, Args)]
pub struct RunArgs {
    /// Targets; all when left out.
    targets: Vec<String>,
    /// Seconds for each target.
    #[arg(long, default_value_t = 600, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,
    /// Targets fuzzed at the same time.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    jobs: u16,
    /// Seed of the mutations; another one each time when left out.
    #[arg(long)]
    seed: Option<u32>,
    /// Where corpora grow and reproducers are written.
    #[arg(long, default_value = ".local/fuzz")]
    work: PathBuf,
    /// Write the table as JSON to this file too.
    #[arg(long)]
    json: Option<PathBuf>,
}

static TARGET: OnceLock<&'static Target> = OnceLock::new();

/// The start of the process: as a fuzzer it returns and the fuzzer goes on; as the command it ends the process.
///
/// # Panics
/// When the variable names no target: only this program sets it.
pub fn start() {
    if let Ok(name) = std::env::var(TARGET_VARIABLE) {
        let target = find(&name).expect("a target");
        let _ = TARGET.set(target);
        return;
    }
    let code = match Cli::parse().command {
        Command::Run(args) => run(&args),
        Command::Replay { target, files } => replay(&target, &files),
        Command::Keep { work, bytes } => keep::keep(&work, bytes),
        Command::List => {
            TARGETS.iter().for_each(|target| println!("{:14}{}", target.name, target.reads));
            Ok(0)
        }
    };
    std::process::exit(code.unwrap_or_else(|fault| {
        eprintln!("fuzz: {fault}");
        2
    }));
}

/// Feeds the process's target one input.
///
/// # Panics
/// When the decoder broke a promise.
pub fn one(data: &[u8]) {
    if let Some(target) = TARGET.get() {
        (target.run)(data);
    }
}

fn named(name: &str) -> Result<&'static Target, String> {
    find(name).ok_or_else(|| format!("no target is called {name}; `fuzz list` names them"))
}

fn replay(target: &str, files: &[PathBuf]) -> Result<i32, String> {
    let target = named(target)?;
    for file in files {
        let data = std::fs::read(file).map_err(|error| format!("{}: {error}", file.display()))?;
        println!("{} ({} bytes) into {}", file.display(), data.len(), target.name);
        (target.run)(&data);
    }
    println!("{} inputs, no fault", files.len());
    Ok(0)
}

fn run(args: &RunArgs) -> Result<i32, String> {
    let targets: Vec<&'static Target> = if args.targets.is_empty() {
        TARGETS.iter().collect()
    } else {
        args.targets.iter().map(|name| named(name)).collect::<Result<_, _>>()?
    };
    let rounds = targets.len().div_ceil(usize::from(args.jobs));
    println!(
        "{} targets, {} s each, {} at a time: about {} min; Ctrl-C stops and prints what there is",
        targets.len(),
        args.seconds,
        args.jobs,
        (rounds as u64 * args.seconds).div_ceil(60)
    );
    let runtime = tokio::runtime::Runtime::new().map_err(|error| format!("async runtime: {error}"))?;
    let (outcomes, stopped) = runtime.block_on(all(args, targets))?;
    print!("{}", table::text(&outcomes));
    if let Some(file) = &args.json {
        std::fs::write(file, table::json(&outcomes)).map_err(|error| format!("{}: {error}", file.display()))?;
    }
    let crashed: Vec<&Outcome> = outcomes.iter().filter(|outcome| outcome.crashed()).collect();
    for outcome in &crashed {
        print!("{}", table::advice(outcome));
    }
    Ok(if !crashed.is_empty() {
        1
    } else if stopped {
        130
    } else {
        0
    })
}

/// Runs the jobs; the outcomes in the order of the targets, and whether a person stopped it.
async fn all(args: &RunArgs, targets: Vec<&'static Target>) -> Result<(Vec<Outcome>, bool), String> {
    let slots = Arc::new(Semaphore::new(usize::from(args.jobs)));
    let stop = Arc::new(AtomicBool::new(false));
    let mut running = JoinSet::new();
    let count = targets.len();
    for (number, target) in targets.into_iter().enumerate() {
        let job = Job::prepare(target, args)?;
        let (slots, stop) = (slots.clone(), stop.clone());
        running.spawn(async move {
            let Ok(_slot) = slots.acquire_owned().await else { return (number, None) };
            if stop.load(Ordering::Relaxed) {
                return (number, None);
            }
            println!("[{}/{count}] {}: {}", number + 1, target.name, target.reads);
            (number, Some(job.run(PROGRESS_EVERY).await))
        });
    }
    let mut outcomes = Vec::new();
    loop {
        tokio::select! {
            // The fuzzers get the same signal from the terminal, write what they know and end.
            _ = tokio::signal::ctrl_c() => stop.store(true, Ordering::Relaxed),
            joined = running.join_next() => match joined {
                None => break,
                Some(Ok((number, Some(outcome)))) => outcomes.push((number, outcome?)),
                Some(Ok((_, None))) => {}
                Some(Err(error)) => return Err(error.to_string()),
            }
        }
    }
    outcomes.sort_by_key(|(number, _)| *number);
    Ok((outcomes.into_iter().map(|(_, outcome)| outcome).collect(), stop.load(Ordering::Relaxed)))
}

/// Writes inputs into a folder, named by number.
fn write_all(folder: &Path, inputs: &[Vec<u8>]) -> Result<(), String> {
    let told = |error: std::io::Error| format!("{}: {error}", folder.display());
    std::fs::create_dir_all(folder).map_err(told)?;
    for (number, input) in inputs.iter().enumerate() {
        std::fs::write(folder.join(format!("seed-{number:02}")), input).map_err(told)?;
    }
    Ok(())
}
