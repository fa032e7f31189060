//! `chaos`: kill, stop and cut off a running swarm's processes at random while signals flow, and check that no signal
//! was lost, none doubled, no limit passed and no record disagrees.

use std::path::PathBuf;
use std::process::ExitCode;

use chaos::run::{Outcome, Plan, run};
use clap::Parser;
use domain::time::Clock;
use rand::SeedableRng;

/// Between two planned restarts of a soak: four waves over nine agents at 1.5 signals a second are then some 480 signals, as many as
/// one person may have permitted in a day.
const RECYCLES_APART: std::time::Duration = std::time::Duration::from_secs(9);

/// Kill, stop and cut off a running swarm's processes at random while signals flow; then check every record.
#[derive(Debug, Parser)]
#[command(name = "chaos", version, about)]
struct Arguments {
    /// How many faults.
    #[arg(long, default_value_t = 200, default_value_if("cluster", "true", "10"))]
    kills: usize,
    /// Seed of every draw; made up when absent. Moments and interleaving are the machine's.
    #[arg(long)]
    seed: Option<u64>,
    /// Signals a second.
    #[arg(long, default_value_t = 1.5)]
    rate: f64,
    /// People who send them; each may take 20 new risks an hour.
    #[arg(long)]
    players: Option<usize>,
    /// Folder of limits, strategies and the like; the exchange is made worse, the limits stay as they are.
    #[arg(long, default_value = "config")]
    config_dir: PathBuf,
    /// Where each run makes a folder of its own. PostgreSQL must be able to enter it.
    #[arg(long, default_value = ".local/chaos")]
    folder: PathBuf,
    /// Three NATS nodes: the one that leads is killed --kills times, 10 when that is absent, and others are killed or fall
    /// silent in between.
    #[arg(long)]
    cluster: bool,
    /// A soak instead of faults: so many waves in which each agent is drained and started anew once, while signals flow; at the
    /// end memory must be flat too. Four waves are a day of a restart every six hours.
    #[arg(long, value_name = "WAVES", conflicts_with = "cluster")]
    recycle: Option<usize>,
    /// Mount nothing: JetStream's disk is then never full.
    #[arg(long)]
    no_mount: bool,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
    /// Keep the folder of a run in which nothing was wrong, too.
    #[arg(long)]
    keep: bool,
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
    let code = executor.block_on(command(&arguments));
    executor.shutdown_timeout(std::time::Duration::from_secs(1));
    code
}

async fn command(arguments: &Arguments) -> ExitCode {
    let plan = match plan(arguments) {
        Ok(plan) => plan,
        Err(error) => {
            eprintln!("chaos: {error}");
            return ExitCode::from(64);
        }
    };
    if arguments.rate <= 0.0 || arguments.kills == 0 {
        eprintln!("chaos: --rate and --kills must be above 0");
        return ExitCode::from(64);
    }
    eprintln!("chaos: seed {}, {} faults, {} signals/s of {} people", plan.seed, plan.kills, plan.rate, plan.players);
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).ok();
    let outcome = tokio::select! {
        outcome = run(&plan, true) => Some(outcome),
        _ = tokio::signal::ctrl_c() => None,
        _ = async { match terminate.as_mut() { Some(told) => told.recv().await, None => std::future::pending().await } } => None,
    };
    match outcome {
        Some(Outcome::Checked(report)) => {
            if arguments.json {
                println!("{}", report.json());
            } else {
                println!("{}", report.text());
            }
            if report.is_good() {
                if !arguments.keep {
                    let _ = std::fs::remove_dir_all(&plan.folder);
                }
                return ExitCode::SUCCESS;
            }
            eprintln!("everything of this run is kept in {}", plan.folder.display());
            ExitCode::from(1)
        }
        Some(Outcome::Broken(reason, dealt)) => {
            for line in &dealt {
                eprintln!("{line}");
            }
            if arguments.json {
                println!(
                    "{}",
                    serde_json::json!({ "good": false, "seed": plan.seed, "reason": reason, "strikes": dealt })
                );
            }
            eprintln!("chaos: {reason}");
            eprintln!("seed {}; everything of this run is kept in {}", plan.seed, plan.folder.display());
            ExitCode::from(1)
        }
        None => {
            eprintln!("stopped; what was started is gone, the folder is {}", plan.folder.display());
            ExitCode::from(130)
        }
    }
}

fn plan(arguments: &Arguments) -> Result<Plan, String> {
    let own = std::env::current_exe().map_err(|error| format!("this program has no path: {error}"))?;
    let programs = own.parent().ok_or("this program lies nowhere")?.to_owned();
    let now = runtime::clock::SystemClock.now();
    let seed = arguments.seed.unwrap_or(u64::try_from(now.0).unwrap_or(1) % 1_000_000);
    // A buy or so a second, and 20 an hour for each.
    let players = arguments.players.unwrap_or((arguments.kills / 4).clamp(6, 48));
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
    let script = match arguments.recycle {
        Some(waves) => chaos::strike::waves(waves, &mut rng),
        None if arguments.cluster => chaos::strike::at_nodes(arguments.kills, &mut rng),
        None => Vec::new(),
    };
    // An outage of a cluster takes longer than one of an agent, and people go on all the while.
    let scripted = !script.is_empty();
    let players = if scripted { arguments.players.unwrap_or(24) } else { players };
    let folder = arguments.folder.join(format!("{seed}-{}", now.0));
    std::fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let folder = folder.canonicalize().map_err(|error| format!("{}: {error}", folder.display()))?;
    Ok(Plan {
        kills: if scripted { script.len() } else { arguments.kills },
        seed,
        rate: arguments.rate,
        players,
        folder,
        programs,
        config_dir: arguments.config_dir.clone(),
        mount: !arguments.no_mount,
        cluster: arguments.cluster,
        one_by_one: scripted,
        apart: if arguments.recycle.is_some() { RECYCLES_APART } else { std::time::Duration::ZERO },
        script,
    })
}
