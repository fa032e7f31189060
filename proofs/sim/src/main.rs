//! `sim`: runs seeds of the simulated swarm and says what they found.

use std::process::ExitCode;

use clap::Parser;
use sim::report::{as_json, failure, faults, many, one, table, unreached};
use sim::world::Options;

/// From so many seeds on every expected path must have been taken.
const LARGE: u64 = 2_000;

/// The whole swarm on one thread, from a seed: people, market, venue, broker, database and crashes. Every step is checked
/// for every way to lose money.
#[derive(Debug, Parser)]
#[command(name = "sim", version)]
struct Arguments {
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many seeds.
    #[arg(long, default_value_t = 2_000)]
    seeds: u64,
    /// Threads; each runs a world of its own. All cores when not given.
    #[arg(long)]
    threads: Option<usize>,
    /// Runs the first seed alone and prints every step of it.
    #[arg(long)]
    trace: bool,
    /// Also runs worlds with deliberate faults, until the check of each has noticed it: at most so many seeds a fault.
    #[arg(long, value_name = "SEEDS", num_args = 0..=1, default_missing_value = "400")]
    faults: Option<u64>,
    /// One JSON document instead of text.
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // A panic of the product is a finding, told with its seed; the default message would be told a thousand times.
    std::panic::set_hook(Box::new(|_| {}));
    if arguments.trace {
        return trace(arguments.seed);
    }
    let threads = arguments.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    let summary = many(arguments.seed, arguments.seeds, threads, arguments.json);
    let missing =
        if arguments.seeds >= LARGE && summary.failures.is_empty() { unreached(&summary.counts) } else { Vec::new() };
    let caught =
        arguments.faults.map(|seeds| faults(arguments.seed, seeds, threads, arguments.json)).unwrap_or_default();
    let missed = caught.iter().filter(|caught| !caught.is_proof()).count();
    let good = summary.failures.is_empty() && missing.is_empty() && missed == 0;
    if arguments.json {
        println!("{:#}", as_json(arguments.seed, &summary, &missing, &caught));
    } else {
        for (what, count) in &summary.counts {
            println!("  {count:>10}  {what}");
        }
        summary.failures.iter().for_each(|outcome| print!("{}", failure(outcome)));
        missing.iter().for_each(|name| println!("NEVER REACHED: {name}"));
        if arguments.faults.is_some() {
            print!("{}", table(&caught));
        }
        let rate = summary.seeds as f64 / summary.seconds.max(0.001);
        println!(
            "sim: {} seeds, {} steps, {rate:.0} seeds/s, {} failed, {} paths missing, {} of {} faults caught: {}",
            summary.seeds,
            summary.steps,
            summary.failures.len(),
            missing.len(),
            caught.len() - missed,
            caught.len(),
            if good { "GOOD" } else { "BAD" },
        );
    }
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn trace(seed: u64) -> ExitCode {
    // What the agents themselves say goes to standard error, between the lines of the trace.
    tracing_subscriber::fmt()
        .without_time()
        .with_writer(std::io::stderr)
        .with_max_level(tracing_subscriber::filter::LevelFilter::WARN)
        .init();
    let outcome = one(seed, Options { traced: true, ..Options::default() });
    outcome.trace.iter().for_each(|line| println!("{line}"));
    println!("sim: seed {seed}, {} steps, digest {}", outcome.steps, outcome.digest);
    if outcome.findings.is_empty() {
        return ExitCode::SUCCESS;
    }
    print!("{}", failure(&outcome));
    ExitCode::FAILURE
}
