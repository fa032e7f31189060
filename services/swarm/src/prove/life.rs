//! Start, trade, die, go on, stop.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{Doubt, Ground};
use crate::people::{Connection, Files};

/// How long a start may take.
const START_WITHIN: Duration = Duration::from_secs(60);
/// How long processes may outlive their supervisor and its parent.
const GONE_WITHIN: Duration = Duration::from_secs(30);
/// How often is looked.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// A running `swarm up`.
struct Run {
    up: Child,
    ready: Value,
    connection: Connection,
}

impl Run {
    async fn start(ground: &Ground) -> Result<Self, Doubt> {
        let data = ground.folder.join("life");
        let ready_file = ground.folder.join("ready.json");
        let _ = std::fs::remove_file(&ready_file);
        let log = std::fs::File::create(ground.folder.join("up.log")).map_err(|error| error.to_string())?;
        let mut up = Command::new(&ground.program)
            .arg("--data-dir")
            .arg(&data)
            .args(["up", "--market", "builtin", "--config-dir"])
            .arg(&ground.config_dir)
            .arg("--ready-file")
            .arg(&ready_file)
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(|error| error.to_string())?)
            .stderr(log)
            .spawn()
            .map_err(|error| error.to_string())?;
        let deadline = Instant::now() + START_WITHIN;
        let ready = loop {
            // Written in one go, but not atomically: half a file is no JSON yet.
            let text = std::fs::read_to_string(&ready_file).unwrap_or_default();
            if let Ok(ready) = serde_json::from_str::<Value>(&text) {
                break ready;
            }
            if let Ok(Some(status)) = up.try_wait() {
                return Err(format!("swarm up ended ({status}); see {}", ground.folder.join("up.log").display()));
            }
            if Instant::now() > deadline {
                let _ = up.kill();
                return Err(format!("not ready after {} s", START_WITHIN.as_secs()));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        };
        let files = Files::load(&data).map_err(|error| error.to_string())?;
        let connection = Connection::open(&files).await.map_err(|error| error.to_string())?;
        Ok(Self { up, ready, connection })
    }

    /// Process ids by name, as told at the start.
    fn pids(&self) -> BTreeMap<String, i32> {
        let rows = self.ready["processes"].as_array().cloned().unwrap_or_default();
        rows.iter()
            .filter_map(|row| {
                let pid = i32::try_from(row["pid"].as_i64()?).ok()?;
                Some((row["name"].as_str()?.to_owned(), pid))
            })
            .collect()
    }

    async fn ask(&self, subject: &str) -> Result<Value, Doubt> {
        self.connection.request(subject, &Value::Null).await.map_err(|error| error.to_string())
    }

    async fn fills(&self) -> Result<u64, Doubt> {
        self.ask("swarm.positions").await?["fills"].as_u64().ok_or_else(|| "no count of fills".to_owned())
    }

    /// Sends a signal and waits for one fill more.
    async fn trade(&self) -> Result<String, Doubt> {
        let before = self.fills().await?;
        let signal = json!({ "action": "BUY", "token_address": "BTCUSDT", "notional_usd": "100" });
        let sent = Instant::now();
        let answer = self.connection.request("swarm.signal", &signal).await.map_err(|error| error.to_string())?;
        if answer["ok"] != json!(true) {
            return Err(format!("signal refused: {answer}"));
        }
        let deadline = sent + Duration::from_secs(10);
        while self.fills().await? <= before {
            if Instant::now() > deadline {
                return Err("no fill within 10 s".to_owned());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(format!("filled {} ms after it was sent", sent.elapsed().as_millis()))
    }

    /// Ctrl-C, and how long it took to end.
    async fn interrupt(mut self) -> Result<(ExitStatus, Duration), Doubt> {
        let sent = Instant::now();
        signal(i32::try_from(self.up.id()).unwrap_or(0), Signal::SIGINT);
        while sent.elapsed() < GONE_WITHIN {
            if let Ok(Some(status)) = self.up.try_wait() {
                return Ok((status, sent.elapsed()));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        let _ = self.up.kill();
        Err(format!("still running {} s after Ctrl-C", GONE_WITHIN.as_secs()))
    }
}

fn signal(pid: i32, signal: Signal) {
    if pid > 0 {
        let _ = kill(Pid::from_raw(pid), signal);
    }
}

/// Still a process and no zombie.
fn runs(pid: i32) -> bool {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    text.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().next()).is_some_and(|s| !matches!(s, "Z" | "X"))
}

async fn wait_gone(pids: &[i32]) -> Result<Duration, Doubt> {
    let started = Instant::now();
    loop {
        let left: Vec<&i32> = pids.iter().filter(|pid| runs(**pid)).collect();
        if left.is_empty() {
            return Ok(started.elapsed());
        }
        if started.elapsed() > GONE_WITHIN {
            return Err(format!("{left:?} still run after {} s", GONE_WITHIN.as_secs()));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Proves one life after another on one ledger.
pub(super) async fn prove(ground: &mut Ground) {
    let first = first_life(ground).await;
    if let Err(doubt) = first {
        ground.claim("start", "the first life goes as it should", Err(doubt));
        return;
    }
    if let Err(doubt) = second_life(ground).await {
        ground.claim("restart", "the second life goes as it should", Err(doubt));
    }
}

async fn first_life(ground: &mut Ground) -> Result<(), Doubt> {
    let run = Run::start(ground).await?;
    let mb = |value: &Value| value.as_u64().unwrap_or(0) >> 20;
    let figure = format!(
        "ready in {} ms, {} processes, {} MB own share in all",
        run.ready["ready_ms"],
        run.pids().len(),
        mb(&run.ready["pss_bytes"])
    );
    ground.claim("start", "from an empty folder to ready", Ok(figure));
    let traded = run.trade().await;
    ground.claim("trade", "a signal becomes a paper trade", traded);

    let pids = run.pids();
    let adopted = kill_supervisor(&run, &pids).await;
    ground.claim("supervisor dies", "kill -9 of the supervisor: a new one adopts the running agents", adopted);
    let traded = run.trade().await;
    ground.claim("trade goes on", "after it trades go on", traded);

    let mut all: Vec<i32> = pids.values().copied().collect();
    all.extend(run.ask("swarm.status").await?["supervisor_pid"].as_i64().and_then(|pid| i32::try_from(pid).ok()));
    signal(i32::try_from(run.up.id()).unwrap_or(0), Signal::SIGKILL);
    let gone = wait_gone(&all).await.map(|took| format!("{} processes gone after {} ms", all.len(), took.as_millis()));
    ground.claim("all dies", "kill -9 of swarm up leaves no process behind", gone);
    let Run { mut up, .. } = run;
    let _ = up.wait();
    Ok(())
}

async fn kill_supervisor(run: &Run, before: &BTreeMap<String, i32>) -> Result<String, Doubt> {
    let old = before.get("supervisor").copied().ok_or("no supervisor")?;
    let started = Instant::now();
    signal(old, Signal::SIGKILL);
    loop {
        let status = run.ask("swarm.status").await.unwrap_or(Value::Null);
        let agents = status["agents"].as_array().cloned().unwrap_or_default();
        let healthy =
            !agents.is_empty() && agents.iter().all(|a| matches!(a["verdict"].as_str(), Some("healthy" | "busy")));
        if healthy && status["supervisor_pid"].as_i64().is_some_and(|pid| pid != i64::from(old)) {
            let same = agents.iter().all(|a| {
                let name = a["agent"].as_str().unwrap_or_default();
                before.get(name).map(|pid| i64::from(*pid)) == a["pid"].as_i64()
            });
            let took = started.elapsed().as_millis();
            return if same {
                Ok(format!("{} agents kept their process, {took} ms", agents.len()))
            } else {
                Err("agents were started again".to_owned())
            };
        }
        if started.elapsed() > START_WITHIN {
            return Err("no new supervisor with healthy agents".to_owned());
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

async fn second_life(ground: &mut Ground) -> Result<(), Doubt> {
    let run = Run::start(ground).await?;
    let fills = run.fills().await?;
    let kept = if fills >= 2 { Ok(format!("{fills} fills are still there")) } else { Err(format!("{fills} fills")) };
    ground.claim("ledger kept", "a second run goes on with the same ledger", kept);
    let traded = run.trade().await;
    ground.claim("trade again", "and trades", traded);
    let data = ground.folder.join("life");
    let verified = verify(&ground.program, &data);
    ground.claim("audit kept", "the audit chain over both lives is valid", verified);
    let all: Vec<i32> = run.pids().values().copied().collect();
    let (status, took) = run.interrupt().await?;
    let left = wait_gone(&all).await;
    let stopped = match (status.success(), left) {
        (true, Ok(_)) => Ok(format!("{} processes drained and gone in {} ms", all.len(), took.as_millis())),
        (false, _) => Err(format!("swarm up ended with {status}")),
        (_, Err(doubt)) => Err(doubt),
    };
    ground.claim("stop", "Ctrl-C leaves no process behind", stopped);
    Ok(())
}

/// `swarm audit verify` as a person runs it.
fn verify(program: &Path, data: &PathBuf) -> Result<String, Doubt> {
    let output = Command::new(program)
        .arg("--data-dir")
        .arg(data)
        .args(["audit", "verify", "--json"])
        .output()
        .map_err(|error| error.to_string())?;
    let answer: Value = serde_json::from_slice(&output.stdout).map_err(|_| "no answer".to_owned())?;
    let rows: i64 = answer["chains"].as_array().into_iter().flatten().filter_map(|c| c["rows"].as_i64()).sum();
    if output.status.success() && answer["verdict"] == json!("valid") {
        Ok(format!("{rows} rows"))
    } else {
        Err(answer.to_string())
    }
}
