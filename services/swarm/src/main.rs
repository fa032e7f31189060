//! The `swarm` command line; under the name of an agent, that agent.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use swarm::people;

/// A request of a language model is some hundred small allocations, made on one thread and often freed on another: a fifth of the
/// router's time in the system's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// An event-driven trading swarm with limits that code enforces.
#[derive(Debug, Parser)]
#[command(name = "swarm", version, about)]
struct Arguments {
    #[command(flatten)]
    common: people::Common,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start the whole swarm and run it until Ctrl-C.
    Up(swarm::up::UpArgs),
    /// Is everything there, and does what runs agree with what should be?
    Doctor(swarm::doctor::DoctorArgs),
    /// Play the rules of the house on a swarm of its own and check every one of them.
    Demo(swarm::demo::DemoArgs),
    /// Check the claims against this build, one line each.
    Prove(swarm::prove::ProveArgs),
    /// The router of language models: how it is, what it cost, a test, its cache.
    #[command(subcommand)]
    Llm(swarm::llm::LlmCommand),
    /// Write market data into a recording.
    Record(swarm::record::RecordArgs),
    /// Run recorded market data through strategies, rails and paper exchange.
    Replay(swarm::replay::ReplayArgs),
    /// What people ask a running swarm, and tell it.
    #[command(flatten)]
    People(people::Command),
}

fn main() -> ExitCode {
    let called = std::env::args_os().next().map(PathBuf::from).unwrap_or_default();
    if let Some(life) = called.file_name().and_then(|name| name.to_str()).and_then(swarm::process_named) {
        return life();
    }
    let arguments = Arguments::parse();
    let ended = match arguments.command {
        Command::Up(args) => swarm::up::command(&args, &arguments.common.data_dir, arguments.common.json),
        Command::Doctor(args) => swarm::doctor::command(&args, &arguments.common.data_dir, arguments.common.json),
        Command::Demo(args) => swarm::demo::command(&args, &arguments.common.data_dir, arguments.common.json),
        Command::Prove(args) => swarm::prove::command(&args, &arguments.common.data_dir, arguments.common.json),
        Command::Llm(command) => swarm::llm::command(&command, &arguments.common.data_dir, arguments.common.json),
        Command::Record(args) => swarm::record::command(&args),
        Command::Replay(args) => swarm::replay::command(&args),
        Command::People(command) => people::main(&command, &arguments.common),
    };
    swarm::print::status(ended)
}
