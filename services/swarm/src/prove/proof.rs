//! The short forms of the proofs: simulation, chaos, cluster, mutants, fuzzing and benchmark. Each is a program of its own
//! under `proofs/`, built beside this one; here they are started one after the other, and what they print is read as claims.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::signal::unix::{Signal as Signals, SignalKind, signal};
use tokio::time::Instant;

use super::verdict::{self, Ended, Judge, Told};
use super::{Doubt, Ground};

/// A part that takes longer hangs: the whole of them takes 10 minutes.
const WITHIN: Duration = Duration::from_secs(900);
/// How often it is told that a part still runs.
const TELL_EVERY: Duration = Duration::from_secs(20);
/// How long a part may take to end its own children when it is told to stop.
const GONE_WITHIN: Duration = Duration::from_secs(30);
/// Lines of a program that are told when it fails.
const LAST_WORDS: usize = 3;

/// One program of the proof.
pub(super) struct Part {
    pub name: &'static str,
    /// From the folder of this program; `cargo` is the one on the path.
    pub program: &'static str,
    /// What builds it.
    pub built_by: &'static str,
    pub arguments: Vec<String>,
    /// Where it writes its answer, when that is not its standard output.
    pub answer: Option<PathBuf>,
    pub judge: Judge,
}

impl Part {
    /// Where its program is; the inner words when it is not there.
    fn program(&self, ground: &Ground) -> Result<PathBuf, Doubt> {
        let program = if self.program == CARGO {
            let path = std::env::var_os("PATH").unwrap_or_default();
            std::env::split_paths(&path).map(|folder| folder.join(CARGO)).find(|program| program.is_file())
        } else {
            Some(ground.program.with_file_name(self.program)).filter(|program| program.is_file())
        };
        program.ok_or_else(|| format!("{} is not there: {} builds it", self.program, self.built_by))
    }
}

/// Runs the tests of this repository.
pub(super) const CARGO: &str = "cargo";

/// Why no further part is tried.
pub(super) struct Stopped;

/// The short forms of all proofs.
pub(super) fn parts(ground: &Ground) -> Vec<Part> {
    let folder = |name: &str| ground.folder.join(name).display().to_string();
    let config = ground.config_dir.display().to_string();
    let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let in_folder = |line: &str, flag: &str, name: &str| {
        let mut words = words(line);
        words.extend([flag.to_owned(), folder(name), "--config-dir".to_owned(), config.clone()]);
        words
    };
    let fuzz_answer = ground.folder.join("fuzz.json");
    let mut fuzz = words("run --seconds 10 --jobs 2 --seed 1 --work");
    fuzz.extend([folder("fuzz"), "--json".to_owned(), fuzz_answer.display().to_string()]);
    let part = |name, program, built_by, arguments, judge: fn(&Ended) -> Vec<Told>| {
        let judge: Judge = Box::new(judge);
        Part { name, program, built_by, arguments, answer: None, judge }
    };
    vec![
        part("sim", "sim", "cargo build --release -p sim", words("--json --seeds 600 --faults 400"), verdict::sim),
        part(
            "chaos",
            "chaos",
            "make release",
            in_folder("--json --kills 12 --seed 7", "--folder", "chaos"),
            verdict::chaos,
        ),
        part(
            "cluster",
            "chaos",
            "make release",
            in_folder("--json --cluster --kills 2 --seed 7", "--folder", "cluster"),
            verdict::cluster,
        ),
        part(
            "mutants",
            "mutants",
            "make release cargo-mutants",
            words("--json --part rails --sample 8 --seed 7"),
            verdict::mutants,
        ),
        Part { answer: Some(fuzz_answer), ..part("fuzz", "../debug/fuzz", "make fuzz ARGS=list", fuzz, verdict::fuzz) },
        bench(ground, "bench", "", Box::new(verdict::bench)),
    ]
}

/// The short form of the benchmark, with `more` arguments.
pub(super) fn bench(ground: &Ground, name: &'static str, more: &str, judge: Judge) -> Part {
    let mut arguments: Vec<String> = ["--json", "--short", "--data-dir"].map(str::to_owned).into();
    arguments.push(ground.folder.join(name).display().to_string());
    arguments.extend(["--config-dir".to_owned(), ground.config_dir.display().to_string()]);
    arguments.extend(more.split_whitespace().map(str::to_owned));
    Part { name, program: "bench", built_by: "make release", arguments, answer: None, judge }
}

/// Runs every part and tells what came of it.
pub(super) async fn prove(ground: &mut Ground, parts: Vec<Part>) -> Result<(), Stopped> {
    let mut stop = match (signal(SignalKind::interrupt()), signal(SignalKind::terminate())) {
        (Ok(interrupt), Ok(terminate)) => Stop { interrupt, terminate },
        (Err(error), _) | (_, Err(error)) => {
            ground.tell(Told::untried("proof", format!("no signals: {error}")));
            return Ok(());
        }
    };
    for part in parts {
        let program = match part.program(ground) {
            Ok(program) => program,
            Err(doubt) => {
                ground.tell(Told::untried(part.name, doubt));
                continue;
            }
        };
        match run(&part, &program, &mut stop).await {
            Ok(ended) => (part.judge)(&ended).into_iter().for_each(|told| ground.tell(told)),
            Err(End::Doubt(doubt)) => ground.tell(Told::untried(part.name, doubt)),
            Err(End::Stopped) => return Err(Stopped),
        }
    }
    Ok(())
}

struct Stop {
    interrupt: Signals,
    terminate: Signals,
}

impl Stop {
    async fn asked(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

enum End {
    Doubt(Doubt),
    Stopped,
}

/// Starts a part in a process group of its own, so that whatever it started can be told to stop with it.
async fn run(part: &Part, program: &std::path::Path, stop: &mut Stop) -> Result<Ended, End> {
    let begun = Instant::now();
    eprintln!("proof: {} {}", part.program, part.arguments.join(" "));
    let mut child = Command::new(program)
        .args(&part.arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| End::Doubt(format!("{}: {error}", program.display())))?;
    let printed = tokio::spawn(all(child.stdout.take()));
    let said = tokio::spawn(last_lines(child.stderr.take()));
    let mut ticks = tokio::time::interval_at(begun + TELL_EVERY, TELL_EVERY);
    let status = loop {
        tokio::select! {
            status = child.wait() => break status,
            () = stop.asked() => {
                end(&mut child).await;
                return Err(End::Stopped);
            }
            () = tokio::time::sleep_until(begun + WITHIN) => {
                end(&mut child).await;
                return Err(End::Doubt(format!("not done after {} s", WITHIN.as_secs())));
            }
            _ = ticks.tick() => eprintln!("proof: {} runs for {} s", part.name, begun.elapsed().as_secs()),
        }
    };
    let status = status.map_err(|error| End::Doubt(error.to_string()))?;
    let printed = within(printed).await;
    let text = match &part.answer {
        Some(file) => std::fs::read(file).unwrap_or_default(),
        None => printed,
    };
    let answer = serde_json::from_slice(&text).unwrap_or(Value::Null);
    let last_words = within(said).await.join(" | ");
    Ok(Ended { status: status.code(), answer, text: String::from_utf8_lossy(&text).into_owned(), last_words })
}

/// Tells a part and everything it started to stop, and ends what does not.
async fn end(child: &mut Child) {
    let Some(group) = child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw) else { return };
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        // It may be gone by itself meanwhile.
        let _ = killpg(group, signal);
        if tokio::time::timeout(GONE_WITHIN, child.wait()).await.is_ok() {
            break;
        }
    }
    // What the part left behind in its group.
    let _ = killpg(group, Signal::SIGKILL);
}

/// What was read of a program that is gone; nothing when something it left behind holds the other end.
async fn within<T: Default>(reads: tokio::task::JoinHandle<T>) -> T {
    tokio::time::timeout(GONE_WITHIN, reads).await.ok().and_then(Result::ok).unwrap_or_default()
}

async fn all(from: Option<impl AsyncRead + Unpin>) -> Vec<u8> {
    let mut text = Vec::new();
    if let Some(mut from) = from {
        // Half an answer is no JSON and so no verdict.
        let _ = from.read_to_end(&mut text).await;
    }
    text
}

async fn last_lines(from: Option<impl AsyncRead + Unpin>) -> Vec<String> {
    let mut last = std::collections::VecDeque::new();
    if let Some(from) = from {
        let mut lines = BufReader::new(from).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            if !line.trim().is_empty() {
                last.push_back(line.trim().to_owned());
            }
            if last.len() > LAST_WORDS {
                last.pop_front();
            }
        }
    }
    last.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(script: &str) -> Part {
        let arguments = vec!["-c".to_owned(), script.to_owned()];
        let judge = Box::new(verdict::chaos);
        Part { name: "p", program: "sh", built_by: "nobody", arguments, answer: None, judge }
    }

    /// Asked by `kind`: a signal reaches every test of this process.
    fn stop(kind: SignalKind) -> Stop {
        Stop { interrupt: signal(kind).unwrap(), terminate: signal(kind).unwrap() }
    }

    #[tokio::test]
    async fn what_a_part_prints_is_its_answer() {
        let script = r#"echo '{"ok": true}'; for n in 1 2 3 4; do echo "line $n" >&2; done; exit 3"#;
        let Ok(ended) = run(&part(script), "/bin/sh".as_ref(), &mut stop(SignalKind::user_defined2())).await else {
            panic!("it did not run")
        };
        assert_eq!((ended.status, &ended.answer["ok"]), (Some(3), &Value::Bool(true)));
        assert_eq!(ended.last_words, "line 2 | line 3 | line 4");
    }

    #[tokio::test]
    async fn a_stop_ends_a_part_and_what_it_started() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pid");
        let script = format!("sleep 600 & echo $! > {0}.new; mv {0}.new {0}; wait", file.display());
        let child = part(&script);
        let told = file.clone();
        let asks = async move {
            while !told.exists() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            nix::sys::signal::raise(Signal::SIGUSR1).unwrap();
        };
        let mut stop = stop(SignalKind::user_defined1());
        let (ended, ()) = tokio::join!(run(&child, "/bin/sh".as_ref(), &mut stop), asks);
        assert!(matches!(ended, Err(End::Stopped)));
        let pid: i32 = std::fs::read_to_string(&file).unwrap().trim().parse().unwrap();
        let gone = async {
            // Without a parent it is gone or nobody's zombie.
            while is_running(pid) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), gone).await.expect("what the part started goes on");
    }

    fn is_running(pid: i32) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
    }
}
