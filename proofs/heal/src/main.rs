//! `heal`: fifty processes break in every way there is, under the supervisor and under a runner that only starts again; exit
//! status 1 when the supervisor did not see and handle one as it says.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use heal::fault::Fault;
use heal::report::{self, Claim};
use heal::stage::{Mode, Stage};
use heal::{Trouble, child, rounds};

/// Fifty processes break in every way there is, under the supervisor and under a runner that only starts again what ended.
/// Nothing but 127.0.0.1 is used.
#[derive(Debug, Parser)]
#[command(name = "heal", version, about)]
struct Arguments {
    /// Processes that break in each round, 1 to 50.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=50))]
    runs: u16,
    /// Only rounds with this in their name.
    #[arg(long)]
    only: Option<String>,
    /// Folder with limits.toml and agents.toml.
    #[arg(long, default_value = "config")]
    config_dir: PathBuf,
    /// One JSON document instead of text.
    #[arg(long)]
    json: bool,
}

/// The shortest window in which restarts are counted, and some.
const MINUTE: tokio::time::Duration = tokio::time::Duration::from_secs(62);

fn main() -> ExitCode {
    // Started by itself: one of the fifty, or the supervisor.
    if let Ok(name) = std::env::var("HEAL_AGENT") {
        return child::main(&name);
    }
    if std::env::args().nth(1).as_deref() == Some("supervisor") {
        return heal::stage::supervise();
    }
    let arguments = Arguments::parse();
    let executor = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(executor) => executor,
        Err(error) => {
            eprintln!("no async runtime: {error}");
            return ExitCode::from(70);
        }
    };
    let ended = executor.block_on(prove(&arguments));
    executor.shutdown_timeout(std::time::Duration::from_secs(1));
    match ended {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(trouble) => {
            eprintln!("heal: {trouble}");
            ExitCode::from(70)
        }
    }
}

async fn prove(arguments: &Arguments) -> Result<bool, Trouble> {
    let started = tokio::time::Instant::now();
    let count = usize::from(arguments.runs);
    let wants = |name: &str| arguments.only.as_ref().is_none_or(|only| name.contains(only.as_str()));
    let mut claims: Vec<Claim> = Vec::new();
    let mut tell = |claim: Claim| {
        if !arguments.json {
            println!(
                "{:<4} {:<18} {}: {}",
                if claim.ok { "ok" } else { "FAIL" },
                claim.name,
                claim.claim,
                claim.figure
            );
        }
        claims.push(claim);
    };
    let faults: Vec<Fault> = Fault::ALL.into_iter().filter(|fault| wants(fault.word())).collect();
    let mut found = Vec::new();
    if !faults.is_empty() {
        let mut stage = Stage::open(&arguments.config_dir, Mode::Spawn).await?;
        // Three faults within a minute are borne and not four: each round is a minute after the one three before it.
        let mut ends = Vec::new();
        for fault in &faults {
            if let Some(end) = ends.len().checked_sub(3).and_then(|third| ends.get(third)) {
                tokio::time::sleep_until(*end + MINUTE).await;
            }
            found.push(rounds::supervised(&stage, *fault, count).await?);
            ends.push(tokio::time::Instant::now());
        }
        // The plain runner's turn: without the supervisor, on the same servers.
        stage.close();
        for mut round in found {
            round.plain = rounds::plain(&stage, round.fault, count).await?;
            tell(report::of_round(&round));
        }
    }
    for (mode, name) in [(Mode::Spawn, "loop-spawn"), (Mode::External, "loop-external")] {
        if wants(name) {
            let mut stage = Stage::open(&arguments.config_dir, mode).await?;
            let found = rounds::crash_loop(&mut stage, mode, count).await?;
            tell(report::of_loop(&found));
        }
    }
    let failed = claims.iter().filter(|claim| !claim.ok).count();
    if arguments.json {
        let claims: Vec<_> = claims.iter().map(Claim::json).collect();
        println!(
            "{:#}",
            serde_json::json!({ "claims": claims, "failed": failed, "took_s": started.elapsed().as_secs() })
        );
    } else {
        println!("{} claims, {failed} failed, {} s", claims.len(), started.elapsed().as_secs());
    }
    Ok(failed == 0 && !claims.is_empty())
}
