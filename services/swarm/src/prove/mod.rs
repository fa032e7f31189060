//! `swarm prove`: the claims, checked against the built product by whoever doubts them. One line a claim, with its figure;
//! exit status 1 when one does not hold.
//!
//! It starts real swarms in a folder of its own (`<data dir>/prove`, emptied first), never in the one that holds a ledger.

mod approvals;
mod healing;
mod life;
mod market;
mod proof;
mod router;
mod scenes;
mod verdict;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};
use tokio::time::Instant;

/// What can be proved in this build.
pub const NAMES: &[&str] = &["main-job", "approvals", "router", "self-healing", "proof"];

/// `swarm prove`.
#[derive(Debug, Clone, Args)]
pub struct ProveArgs {
    /// Which claims: main-job, approvals (a human decides), router (language models), self-healing (the supervisor), or proof (short forms of simulation, chaos, mutants, fuzzing,
    /// benchmark); all when absent.
    pub what: Option<String>,
    /// Folder of limits, strategies and the like.
    #[arg(long, default_value = "config")]
    pub config_dir: PathBuf,
    /// Recorded market data to replay; a recording is made when the folder is absent.
    #[arg(long, default_value = "../shared/data/binance-spot-recording")]
    pub recorded: PathBuf,
}

/// Where claims are proved.
struct Ground {
    /// This program; the others lie beside it.
    program: PathBuf,
    /// Emptied at the start.
    folder: PathBuf,
    config_dir: PathBuf,
    recorded: PathBuf,
    json: bool,
    proved: Vec<Value>,
}

/// Why a claim does not hold, in words.
type Doubt = String;

impl Ground {
    /// Says what came of a claim, at once.
    fn claim(&mut self, name: &str, claim: &str, outcome: Result<String, Doubt>) {
        let (ok, figure) = match outcome {
            Ok(figure) => (true, figure),
            Err(doubt) => (false, doubt),
        };
        if !self.json {
            println!("{:<4} {name:<18} {claim}: {figure}", if ok { "ok" } else { "FAIL" });
        }
        self.proved.push(json!({ "name": name, "claim": claim, "ok": ok, "figure": figure }));
    }

    /// The same for what a program of the proof printed. A target that is missed is told, and fails nothing.
    fn tell(&mut self, told: verdict::Told) {
        self.claim(&told.name, &told.claim, told.outcome);
        if let (Some(met), Some(last)) = (told.met, self.proved.last_mut()) {
            last["met"] = json!(met);
        }
    }

    /// Claims and misses so far; exit status 1 when a claim failed.
    fn sum(&self, took_s: u64) -> ExitCode {
        let count = |key: &str, value: bool| self.proved.iter().filter(|claim| claim[key] == json!(value)).count();
        let (failed, missed) = (count("ok", false), count("met", false));
        if self.json {
            println!("{}", json!({ "claims": self.proved, "failed": failed, "missed": missed, "took_s": took_s }));
        } else {
            let missed = if missed > 0 { format!(", {missed} targets missed") } else { String::new() };
            println!("{} claims, {failed} failed{missed}, {took_s} s", self.proved.len());
        }
        ExitCode::from(u8::from(failed > 0 || self.proved.is_empty()))
    }
}

/// Proves and tells.
#[must_use]
pub fn command(args: &ProveArgs, data_dir: &Path, json_wanted: bool) -> ExitCode {
    if let Some(what) = args.what.as_deref().filter(|what| !NAMES.contains(what)) {
        eprintln!("swarm prove: {what} is not one of {}", NAMES.join(", "));
        return ExitCode::from(2);
    }
    let executor = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(executor) => executor,
        Err(error) => {
            eprintln!("no async runtime: {error}");
            return ExitCode::from(70);
        }
    };
    executor.block_on(async {
        let started = Instant::now();
        let mut ground = match ground(args, data_dir, json_wanted) {
            Ok(ground) => ground,
            Err(doubt) => {
                eprintln!("swarm prove: {doubt}");
                return ExitCode::from(70);
            }
        };
        let wants = |name: &str| args.what.as_deref().is_none_or(|what| what == name);
        if wants("main-job") {
            life::prove(&mut ground).await;
            scenes::prove(&mut ground);
            market::prove(&mut ground);
        }
        let mut parts = if wants("approvals") { approvals::parts(&ground) } else { Vec::new() };
        if wants("router") {
            parts.extend(router::parts(&ground));
        }
        if wants("self-healing") {
            parts.extend(healing::parts(&ground));
        }
        if wants("proof") {
            parts.extend(proof::parts(&ground));
        }
        if let Err(proof::Stopped) = proof::prove(&mut ground, parts).await {
            eprintln!("swarm prove: stopped; what was started is gone");
            return ExitCode::from(130);
        }
        ground.sum(started.elapsed().as_secs())
    })
}

fn ground(args: &ProveArgs, data_dir: &Path, json: bool) -> Result<Ground, Doubt> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let folder = data_dir.join("prove");
    match std::fs::remove_dir_all(&folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(format!("{}: {error}", folder.display()));
        }
        _ => {}
    }
    std::fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let folder = folder.canonicalize().map_err(|error| error.to_string())?;
    let (config_dir, recorded) = (args.config_dir.clone(), args.recorded.clone());
    Ok(Ground { program, folder, config_dir, recorded, json, proved: Vec::new() })
}
