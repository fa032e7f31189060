//! One fuzzer process: its folders, its flags, and what it says.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;
use tokio::time::Instant;

use super::{RunArgs, TARGET_VARIABLE, write_all};
use crate::corpus;
use crate::targets::Target;

/// No input may take longer, in seconds: on a loaded machine a good one takes milliseconds.
const INPUT_TIMEOUT_S: u32 = 25;
/// Memory of a fuzzer process, MB; what a decoder may take of it is checked in the target.
const MEMORY_MB: u32 = 2_048;
/// The fuzzer's exit status after Ctrl-C.
const INTERRUPTED: i32 = 72;
/// Lines kept to show after a crash.
const TAIL: usize = 30;

/// A target ready to be fuzzed.
pub(super) struct Job {
    target: &'static Target,
    work: PathBuf,
    seconds: u64,
    seed: Option<u32>,
}

/// The numbers of a line of the fuzzer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub(super) struct Numbers {
    /// Inputs run.
    pub runs: u64,
    /// Edges of the program reached.
    pub coverage: u64,
    /// Features: edges with their counts, and comparisons.
    pub features: u64,
    /// Inputs in the corpus.
    pub corpus: u64,
}

/// What came of a job.
#[derive(Debug, Clone, serde::Serialize)]
pub(super) struct Outcome {
    /// Which target.
    pub target: &'static str,
    /// How long it ran.
    pub seconds: u64,
    /// When the seeds and the kept corpus had been read.
    pub first: Numbers,
    /// At the end.
    pub last: Numbers,
    /// Inputs a second over the whole run.
    pub runs_per_second: u64,
    /// A person stopped it.
    pub interrupted: bool,
    /// The fuzzer's exit status when it failed.
    pub failed: Option<i32>,
    /// Input that broke it.
    pub reproducer: Option<PathBuf>,
    /// Last words, when it failed.
    pub tail: Vec<String>,
}

impl Outcome {
    pub(super) const fn crashed(&self) -> bool {
        self.failed.is_some()
    }
}

impl Job {
    /// Makes the folders and writes seeds and words.
    pub(super) fn prepare(target: &'static Target, args: &RunArgs) -> Result<Self, String> {
        let work = args.work.join(target.name);
        let told = |error: std::io::Error| format!("{}: {error}", work.display());
        for folder in ["corpus", "crashes"] {
            std::fs::create_dir_all(work.join(folder)).map_err(told)?;
        }
        write_all(&work.join("seeds"), &(target.seeds)())?;
        let words: String = corpus::words(target).iter().map(|word| format!("\"{word}\"\n")).collect();
        std::fs::write(work.join("words"), words).map_err(told)?;
        Ok(Self { target, work, seconds: args.seconds, seed: args.seed })
    }

    fn command(&self) -> Result<Command, String> {
        let program = std::env::current_exe().map_err(|error| format!("this program's own file: {error}"))?;
        let mut command = Command::new(program);
        command.env(TARGET_VARIABLE, self.target.name);
        command.arg(format!("-max_total_time={}", self.seconds));
        command.arg(format!("-timeout={INPUT_TIMEOUT_S}"));
        command.arg(format!("-rss_limit_mb={MEMORY_MB}"));
        command.arg(format!("-max_len={}", self.target.max_bytes));
        command.arg(format!("-dict={}", self.work.join("words").display()));
        command.arg(format!("-artifact_prefix={}/", self.work.join("crashes").display()));
        command.arg("-print_final_stats=1");
        if let Some(seed) = self.seed {
            command.arg(format!("-seed={seed}"));
        }
        // The first folder grows; the others are read.
        command.args(["corpus", "seeds"].map(|folder| self.work.join(folder)));
        command.args(corpus::FOLDERS.map(|kind| corpus::folder(kind, self.target.name)).iter().filter(|f| f.is_dir()));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
        Ok(command)
    }

    /// Fuzzes until the time is up, something breaks, or a person stops it.
    pub(super) async fn run(self, progress_every: Duration) -> Result<Outcome, String> {
        let begun = Instant::now();
        let mut child = self.command()?.spawn().map_err(|error| format!("the fuzzer does not start: {error}"))?;
        let stderr = child.stderr.take().ok_or("the fuzzer has no output")?;
        let mut lines = BufReader::new(stderr).split(b'\n');
        let mut heard = Heard::default();
        let mut ticks = tokio::time::interval_at(begun + progress_every, progress_every);
        loop {
            tokio::select! {
                line = lines.next_segment() => match line {
                    Ok(Some(line)) => heard.line(&String::from_utf8_lossy(&line)),
                    Ok(None) => break,
                    Err(error) => return Err(format!("the fuzzer's output: {error}")),
                },
                _ = ticks.tick() => {
                    let numbers = heard.last;
                    println!(
                        "  {:14}{:>5} s  {:>11} runs  coverage {} (+{})  corpus {}",
                        self.target.name,
                        begun.elapsed().as_secs(),
                        numbers.runs,
                        numbers.coverage,
                        numbers.coverage.saturating_sub(heard.first.coverage),
                        numbers.corpus
                    );
                }
            }
        }
        let status = child.wait().await.map_err(|error| format!("the fuzzer's end: {error}"))?;
        Ok(heard.outcome(self.target.name, begun.elapsed(), status))
    }
}

/// What a fuzzer said so far.
#[derive(Debug, Default)]
struct Heard {
    first: Numbers,
    last: Numbers,
    reproducer: Option<PathBuf>,
    tail: VecDeque<String>,
}

impl Heard {
    fn line(&mut self, line: &str) {
        if let Some(numbers) = numbers(line) {
            if line.contains("INITED") {
                self.first = numbers;
            }
            self.last = numbers;
            return;
        }
        if let Some(runs) = after(line, "stat::number_of_executed_units:") {
            self.last.runs = runs;
        }
        if let Some((_, path)) = line.split_once("Test unit written to ") {
            self.reproducer = Some(PathBuf::from(path.trim()));
        }
        if !line.starts_with("INFO:") && !line.is_empty() {
            if self.tail.len() == TAIL {
                self.tail.pop_front();
            }
            self.tail.push_back(line.chars().take(300).collect());
        }
    }

    fn outcome(self, target: &'static str, took: Duration, status: ExitStatus) -> Outcome {
        let code = status.code().unwrap_or(-1);
        let failed = (code != 0 && code != INTERRUPTED).then_some(code);
        Outcome {
            target,
            seconds: took.as_secs(),
            first: self.first,
            last: self.last,
            runs_per_second: self.last.runs / took.as_secs().max(1),
            interrupted: code == INTERRUPTED,
            failed,
            reproducer: self.reproducer,
            tail: if failed.is_some() { self.tail.into() } else { Vec::new() },
        }
    }
}

/// Reads `#1234 NEW cov: 56 ft: 78 corp: 9/10b ...`.
fn numbers(line: &str) -> Option<Numbers> {
    let runs = line.strip_prefix('#')?.split_ascii_whitespace().next()?.parse().ok()?;
    Some(Numbers {
        runs,
        coverage: after(line, "cov:")?,
        features: after(line, "ft:")?,
        corpus: after(line, "corp:").unwrap_or(0),
    })
}

/// The number that follows `name`.
fn after(line: &str, name: &str) -> Option<u64> {
    let rest = line.split_once(name)?.1.trim_start();
    rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fuzzers_lines_are_read() {
        let mut heard = Heard::default();
        for line in [
            "INFO: Seed: 1",
            "#9\tINITED cov: 8 ft: 11 corp: 2/30b exec/s: 0 rss: 27Mb",
            "#5513\tREDUCE cov: 11 ft: 21 corp: 4/16b lim: 53 exec/s: 0 rss: 27Mb L: 5/5 MS: 1 ChangeBit-",
            "thread panicked at x",
            "artifact_prefix='a/'; Test unit written to a/crash-1",
            "stat::number_of_executed_units: 6000",
        ] {
            heard.line(line);
        }
        assert_eq!(heard.first, Numbers { runs: 9, coverage: 8, features: 11, corpus: 2 });
        assert_eq!(heard.last, Numbers { runs: 6_000, coverage: 11, features: 21, corpus: 4 });
        assert_eq!(heard.reproducer, Some(PathBuf::from("a/crash-1")));
        let outcome = heard.outcome("money", Duration::from_secs(3), ExitStatus::default());
        assert!(!outcome.crashed() && outcome.runs_per_second == 2_000);
    }
}
