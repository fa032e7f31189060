//! `swarm doctor`: is everything there that the swarm needs, and does what runs agree with what should be? Each finding
//! says what to do.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};
use servers::{Programs, StablePorts};
use store::Db;

use crate::people::{Connection, Files};

/// `swarm doctor`.
#[derive(Debug, Clone, Args)]
pub struct DoctorArgs {
    /// Folder of limits, strategies and the like.
    #[arg(long, default_value = "config")]
    pub config_dir: std::path::PathBuf,
}

/// One thing that was looked at.
struct Finding {
    what: &'static str,
    good: bool,
    detail: String,
}

impl Finding {
    fn of(what: &'static str, found: Result<String, String>) -> Self {
        match found {
            Ok(detail) => Self { what, good: true, detail },
            Err(detail) => Self { what, good: false, detail },
        }
    }
}

/// Looks at everything and tells; exit status 1 when something is wrong.
#[must_use]
pub fn command(args: &DoctorArgs, data_dir: &Path, json_wanted: bool) -> ExitCode {
    let executor = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(executor) => executor,
        Err(error) => {
            eprintln!("no async runtime: {error}");
            return ExitCode::from(70);
        }
    };
    let findings = executor.block_on(look(args, data_dir));
    if json_wanted {
        let rows: Vec<Value> =
            findings.iter().map(|f| json!({ "what": f.what, "ok": f.good, "detail": f.detail })).collect();
        println!("{}", Value::Array(rows));
    } else {
        for finding in &findings {
            println!("{:<4} {:<22} {}", if finding.good { "ok" } else { "FAIL" }, finding.what, finding.detail);
        }
    }
    ExitCode::from(u8::from(findings.iter().any(|f| !f.good)))
}

async fn look(args: &DoctorArgs, data_dir: &Path) -> Vec<Finding> {
    let mut findings = vec![
        Finding::of("server programs", programs()),
        Finding::of("limits", limits(&args.config_dir)),
        Finding::of("disk", disk(data_dir)),
    ];
    let files = match Files::load(data_dir) {
        Ok(files) => files,
        Err(error) => {
            findings.push(Finding::of("data folder", Err(error.to_string())));
            return findings;
        }
    };
    findings.push(Finding::of("data folder", Ok(data_dir.display().to_string())));
    findings.push(Finding::of(
        "secrets are private",
        private(&[&files.nkey_file, &files.person_key_file, &Files::path(data_dir)]),
    ));
    findings.push(Finding::of("NATS", nats(&files, data_dir)));
    findings.push(Finding::of("Valkey", valkey(data_dir)));
    findings.push(Finding::of("kill level", kill_level(&files, data_dir).await));
    let connection = match Connection::open(&files).await {
        Ok(connection) => connection,
        Err(error) => {
            findings.push(Finding::of("swarm", Err(error.to_string())));
            return findings;
        }
    };
    let status = match connection.request("swarm.status", &Value::Null).await {
        Ok(status) => status,
        Err(error) => {
            findings.push(Finding::of("swarm", Err(error.to_string())));
            return findings;
        }
    };
    findings.push(Finding::of("agents", agents(&status)));
    findings.push(Finding::of("prices", prices(&status)));
    findings.push(Finding::of("clock", clock(&files).await));
    findings
}

fn programs() -> Result<String, String> {
    let programs = Programs::usual().map_err(|error| error.to_string())?;
    let (nats, postgres) = (programs.nats_server.display(), programs.postgres_bin.display());
    Ok(format!("{nats}, {postgres}, {}", programs.valkey_server.display()))
}

fn limits(config_dir: &Path) -> Result<String, String> {
    let file = config_dir.join("limits.toml");
    let text = std::fs::read_to_string(&file).map_err(|error| format!("{}: {error}", file.display()))?;
    let limits = rails::limits::Limits::parse(&text).map_err(|error| error.to_string())?;
    Ok(format!("policy version {}", limits.version()))
}

/// At least 2 GB free: JetStream and PostgreSQL stop at a full disk.
fn disk(data_dir: &Path) -> Result<String, String> {
    const FLOOR_MB: u64 = 2_000;
    let near = data_dir.ancestors().find(|p| p.exists()).unwrap_or(Path::new("/"));
    let near = if near.as_os_str().is_empty() { Path::new(".") } else { near };
    let stat = nix::sys::statvfs::statvfs(near).map_err(|error| error.to_string())?;
    let free_mb = stat.blocks_available().saturating_mul(stat.fragment_size()) >> 20;
    let text = format!("{free_mb} MB free");
    if free_mb >= FLOOR_MB { Ok(text) } else { Err(format!("{text}: make room, at least {FLOOR_MB} MB")) }
}

fn private(paths: &[&Path]) -> Result<String, String> {
    for path in paths {
        let mode =
            std::fs::metadata(path).map_err(|error| format!("{}: {error}", path.display()))?.permissions().mode();
        if mode & 0o077 != 0 {
            return Err(format!("{} can be read by others: chmod 600 it", path.display()));
        }
    }
    Ok("only their owner reads them".to_owned())
}

/// Every node answers, and has what it should have.
fn nats(files: &Files, data_dir: &Path) -> Result<String, String> {
    let count = files.nats_url.split(',').count();
    let ports = StablePorts::open(&data_dir.join("ports.json"));
    let names = crate::up::nats::names(count);
    let nodes = names.iter().map(|name| (name, ports.known(&crate::up::nats::monitoring_port(name)).unwrap_or(0)));
    let mut lacks = servers::lacking(nodes.map(|(name, port)| (name.as_str(), port)));
    for name in &names {
        let complaint = servers::cannot_store(&crate::up::nats::folder(data_dir, name));
        lacks.extend(complaint.map(|words| format!("{name} can't store, make room on its disk ({words})")));
    }
    match (lacks.len(), count) {
        (0, 1) => Ok("the server answers".to_owned()),
        (0, count) => Ok(format!("{count} nodes answer, every stream has a leader and is on all of them")),
        (1..=3, _) => Err(format!("{}; `swarm up` starts again what is dead, or stuck with room", lacks.join(", "))),
        (more, _) => {
            Err(format!("{} and {} more; `swarm up` starts again what is dead, or stuck with room", lacks[0], more - 1))
        }
    }
}

/// Its loss stops nothing: quotas are counted more carefully and nothing is answered from a shared cache.
fn valkey(data_dir: &Path) -> Result<String, String> {
    let port = StablePorts::open(&data_dir.join("ports.json")).known(crate::up::valkey::PORT);
    match port {
        Some(port) if servers::valkey_answers(port) => Ok("the server answers".to_owned()),
        Some(_) => Err("does not answer; `swarm up` starts it again when it is dead".to_owned()),
        None => Err("was never started here; start `swarm up` anew".to_owned()),
    }
}

async fn kill_level(files: &Files, data_dir: &Path) -> Result<String, String> {
    let copy = runtime::kill::read_file(&runtime::kill::file_path(&data_dir.join("data")))
        .ok_or("the file copy can't be read, which counts as level 1; `swarm up` writes it again")?;
    let db = audit_db(files).await?;
    let mut unit = db.begin().await.map_err(|error| error.to_string())?;
    let stored = store::kill::current(&mut unit).await.map_err(|error| error.to_string())?;
    unit.rollback().await.map_err(|error| error.to_string())?;
    match stored {
        Some(kill) if (kill.level, kill.epoch) == (copy.level, copy.epoch) => {
            Ok(format!("{} (epoch {}), the same in both copies", kill.level, kill.epoch))
        }
        Some(kill) => Err(format!(
            "the database says {} (epoch {}), the file {} (epoch {}): the newer counts, and the file can't lower it",
            kill.level, kill.epoch, copy.level, copy.epoch
        )),
        None => Err("no level is stored, which counts as 1; `swarm up` writes 0 on a first start".to_owned()),
    }
}

async fn audit_db(files: &Files) -> Result<Db, String> {
    let url = std::fs::read_to_string(&files.audit_pg_url_file).map_err(|error| error.to_string())?;
    Db::connect(url.trim(), "doctor")
        .await
        .map_err(|_| "the database can't be reached; is the swarm running?".to_owned())
}

async fn clock(files: &Files) -> Result<String, String> {
    use domain::time::Clock;
    let db = audit_db(files).await?;
    let stored = db.now().await.map_err(|error| error.to_string())?;
    let skew_ms = runtime::clock::SystemClock.now().since_ms(stored);
    let text = format!("{skew_ms} ms from the database's");
    if skew_ms.abs() <= 2_000 { Ok(text) } else { Err(format!("{text}: no new risk is taken; set the clock (NTP)")) }
}

fn agents(status: &Value) -> Result<String, String> {
    let rows = status["agents"].as_array().cloned().unwrap_or_default();
    let sick: Vec<String> = rows
        .iter()
        .filter(|a| !matches!(a["verdict"].as_str(), Some("healthy" | "busy")))
        .map(|a| format!("{} is {}", a["agent"].as_str().unwrap_or("?"), a["verdict"].as_str().unwrap_or("?")))
        .collect();
    match (rows.is_empty(), sick.is_empty()) {
        (true, _) => Err("the supervisor names none".to_owned()),
        (false, true) => Ok(format!("{} healthy", rows.len())),
        (false, false) => Err(format!("{}; see the logs in the data folder", sick.join(", "))),
    }
}

fn prices(status: &Value) -> Result<String, String> {
    let rows = status["market"].as_array().cloned().unwrap_or_default();
    let stale: Vec<&str> = rows
        .iter()
        .filter(|row| row["age_ms"].as_i64().is_none_or(|age| age > 30_000))
        .filter_map(|row| row["instrument"].as_str())
        .collect();
    match (rows.is_empty(), stale.is_empty()) {
        (true, _) => Err("none; see the log of online_trading".to_owned()),
        (false, true) => Ok(format!("{} fresh", rows.len())),
        (false, false) => Err(format!("older than 30 s: {}; see the log of online_trading", stale.join(", "))),
    }
}
