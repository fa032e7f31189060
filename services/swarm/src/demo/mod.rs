//! `swarm demo`: plays the rules of the house on a running swarm, one scene each, and asserts all of them.
//!
//! Every scene has a person of its own, so none leans on another's money; the market and the kill level are shared, so
//! they are played one after another. Its folder is `demo` in the data folder; it is emptied at the start and left for
//! looking at afterwards. Exit status: 0 all scenes ended as they must, 1 one did not, 70 there was no stage.

mod approval;
mod audit;
mod limits;
mod loss;
mod tale;
mod tamper;
mod venue;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use futures::future::LocalBoxFuture;
use serde_json::json;
use tokio::time::Instant;

use crate::stage::{Player, Stage, StageError, StageOptions};
use tale::Tale;

/// `swarm demo`.
#[derive(Debug, Clone, Args)]
pub struct DemoArgs {
    /// Folder of limits, strategies and the like.
    #[arg(long, default_value = "config")]
    pub config_dir: PathBuf,
}

/// What a scene needs, and what it found: its figures in one line.
type Play = for<'a> fn(&'a Stage, &'a mut Tale) -> LocalBoxFuture<'a, Result<String, StageError>>;

/// One scene.
struct Scene {
    name: &'static str,
    claim: &'static str,
    play: Play,
}

/// Everybody on the stage besides the operator.
const CAST: &[Player] = &[
    Player { handle: "ann", opening_usd: "50000" },
    Player { handle: "ben", opening_usd: "50000" },
    Player { handle: "cleo", opening_usd: "50000" },
    Player { handle: "dan", opening_usd: "50000" },
    Player { handle: "eve", opening_usd: "50000" },
    Player { handle: "fay", opening_usd: "50000" },
    Player { handle: "gus", opening_usd: "1000" },
    Player { handle: "hal", opening_usd: "50000" },
];

const SCENES: &[Scene] = &[
    Scene { name: "fill", claim: "a $600 buy fills", play: |s, t| Box::pin(limits::small_buy(s, t)) },
    Scene {
        name: "approval",
        claim: "a $1,500 buy waits for a person's signed yes, then fills",
        play: |s, t| Box::pin(approval::large_buy(s, t)),
    },
    Scene {
        name: "split",
        claim: "4 x $750 in 5 minutes is caught: the sum needs a person",
        play: |s, t| Box::pin(approval::split_buy(s, t)),
    },
    Scene { name: "position", claim: "$12,000 is refused", play: |s, t| Box::pin(limits::too_large(s, t)) },
    Scene {
        name: "rate",
        claim: "the 21st trade of the hour is refused",
        play: |s, t| Box::pin(limits::too_many(s, t)),
    },
    Scene {
        name: "breaker",
        claim: "three losses over 2 % latch the breaker until a person resets it",
        play: |s, t| Box::pin(loss::breaker(s, t)),
    },
    Scene {
        name: "daily_loss",
        claim: "a 5 % open loss stops new risk, an exit passes",
        play: |s, t| Box::pin(loss::daily_loss(s, t)),
    },
    Scene {
        name: "kill_level",
        claim: "kill level 1 refuses a buy and lets an exit pass; only a person with a reason lowers it",
        play: |s, t| Box::pin(limits::kill_level(s, t)),
    },
    Scene {
        name: "ledger_venue",
        claim: "the ledger equals the exchange's own journal",
        play: |s, t| Box::pin(venue::ledger_equals_venue(s, t)),
    },
    Scene {
        name: "audit",
        claim: "the audit chain is valid, and INVALID after each way of tampering",
        play: |s, t| Box::pin(audit::tampering(s, t)),
    },
];

/// What came of a scene.
struct Played {
    name: &'static str,
    claim: &'static str,
    outcome: Result<String, String>,
    took_ms: u128,
}

/// Plays all scenes and says what came of them.
#[must_use]
pub fn command(args: &DemoArgs, data_dir: &Path, json: bool) -> ExitCode {
    let executor = match tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build() {
        Ok(executor) => executor,
        Err(error) => {
            eprintln!("no async runtime: {error}");
            return ExitCode::from(70);
        }
    };
    let started = executor.block_on(async { Instant::now() });
    match executor.block_on(run(args, &data_dir.join("demo"), json)) {
        Ok(played) => {
            let failed = played.iter().filter(|scene| scene.outcome.is_err()).count();
            report(&played, started.elapsed().as_millis(), json);
            ExitCode::from(u8::from(failed > 0))
        }
        Err(error) => {
            eprintln!("swarm demo: {error}");
            ExitCode::from(70)
        }
    }
}

async fn run(args: &DemoArgs, folder: &Path, json: bool) -> Result<Vec<Played>, StageError> {
    let mut tale = Tale::new(!json);
    tale.line(&format!("starting a swarm on a scripted market in {}", folder.display()));
    let options = StageOptions {
        folder: folder.to_owned(),
        config_dir: args.config_dir.clone(),
        players: CAST.to_vec(),
        // Scenes count fills, permits and losses from nothing.
        keep: false,
    };
    let started = Instant::now();
    let stage = Stage::open(&options).await?;
    tale.line(&format!("ready after {} ms", started.elapsed().as_millis()));
    let mut played = Vec::with_capacity(SCENES.len());
    for (at, scene) in SCENES.iter().enumerate() {
        tale.scene(at + 1, scene.claim);
        let began = Instant::now();
        let outcome = match prepare(&stage).await {
            Ok(()) => (scene.play)(&stage, &mut tale).await,
            Err(error) => Err(error),
        };
        let took_ms = began.elapsed().as_millis();
        let scene = Played {
            name: scene.name,
            claim: scene.claim,
            outcome: outcome.map_err(|error| error.to_string()),
            took_ms,
        };
        tale.line(&line(&scene));
        played.push(scene);
    }
    tale.line("");
    stage.close()?;
    Ok(played)
}

/// Every scene begins at the same prices.
async fn prepare(stage: &Stage) -> Result<(), StageError> {
    stage.steer(loss::SYMBOL, loss::START).await
}

fn line(scene: &Played) -> String {
    match &scene.outcome {
        Ok(figures) => format!("ok    {:<12} {figures} ({} ms)", scene.name, scene.took_ms),
        Err(why) => format!("FAIL  {:<12} {why} ({} ms)", scene.name, scene.took_ms),
    }
}

fn report(played: &[Played], took_ms: u128, json: bool) {
    let failed = played.iter().filter(|scene| scene.outcome.is_err()).count();
    if json {
        let scenes: Vec<_> = played
            .iter()
            .map(|scene| {
                json!({
                    "scene": scene.name,
                    "claim": scene.claim,
                    "ok": scene.outcome.is_ok(),
                    "figures": scene.outcome.as_ref().ok(),
                    "fault": scene.outcome.as_ref().err(),
                    "took_ms": u64::try_from(scene.took_ms).unwrap_or(u64::MAX),
                })
            })
            .collect();
        let took_ms = u64::try_from(took_ms).unwrap_or(u64::MAX);
        println!("{}", json!({ "ok": failed == 0, "took_ms": took_ms, "scenes": scenes }));
        return;
    }
    for scene in played {
        println!("{}", line(scene));
    }
    println!(
        "{} of {} scenes as they must be, in {}.{} s",
        played.len() - failed,
        played.len(),
        took_ms / 1000,
        took_ms / 100 % 10
    );
}
