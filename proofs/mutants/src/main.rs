//! The mutation run: changes one thing at a time in money code and asks whether a test notices.
//!
//! cargo-mutants makes, builds and tests the mutants; this program chooses what and by which tests, keeps the copy of the
//! repository that is mutated, counts by file, and fails on a survivor that nobody explained.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::float_cmp))]

mod plan;
mod report;
mod tree;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use clap::Parser;
use plan::{Part, Parts, Survivor, Survivors};
use report::{Mutant, Outcomes, Report};

/// Mutates the money code and checks that a test notices each change. Exit status 1: an unexplained survivor, or a list
/// of survivors that is no longer true.
#[derive(Debug, Parser)]
#[command(name = "mutants")]
struct Args {
    /// Only these parts (proofs/mutants/parts.toml names them); all when none is given
    #[arg(long = "part", value_name = "NAME")]
    parts: Vec<String>,
    /// About this many mutants a part instead of all
    #[arg(long, value_name = "COUNT")]
    sample: Option<usize>,
    /// Which sample
    #[arg(long, default_value_t = 0, requires = "sample")]
    seed: usize,
    /// Only files whose path contains this; survivors of other files are not asked for
    #[arg(long, value_name = "TEXT")]
    file: Option<String>,
    /// Print the counts as JSON instead of a table
    #[arg(long)]
    json: bool,
    /// The cargo-mutants program
    #[arg(long, default_value = ".local/tools/bin/cargo-mutants")]
    tool: PathBuf,
    /// Where the mutated copy, its builds, logs and results.json are kept; `mutants` in cargo's target folder by default
    #[arg(long)]
    folder: Option<PathBuf>,
}

/// Why the run could not be made.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error("{0}: {1}")]
    File(PathBuf, std::io::Error),
    #[error("{0}: {1}")]
    Toml(PathBuf, toml::de::Error),
    #[error("{0}: {1}")]
    Json(PathBuf, serde_json::Error),
    #[error("{0} can't be started: {1}; `make mutants` installs it")]
    Tool(PathBuf, std::io::Error),
    #[error("cargo-mutants could not run part {0}; it says why above")]
    Run(String),
    #[error("no part is named {0}; there are: {1}")]
    NoPart(String, String),
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(fault) => {
            eprintln!("mutants: {fault}");
            ExitCode::from(69)
        }
    }
}

fn run(args: &Args) -> Result<bool, Fault> {
    let root = std::env::current_dir().map_err(|error| Fault::File(".".into(), error))?;
    let here = root.join("proofs/mutants");
    let parts = chosen(args, read_toml::<Parts>(&here.join("parts.toml"))?.part)?;
    let survivors = read_toml::<Survivors>(&here.join("survivors.toml"))?.survivor;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| PathBuf::from("target"), PathBuf::from);
    let folder = root.join(args.folder.clone().unwrap_or_else(|| target.join("mutants")));
    let copy = folder.join("tree");
    std::fs::create_dir_all(&copy).map_err(|error| Fault::File(copy.clone(), error))?;
    tree::mirror(&root, &copy).map_err(|error| Fault::File(copy.clone(), error))?;

    let mut report = Report::default();
    for part in &parts {
        let lab = Lab { part, tool: &root.join(&args.tool), folder: &folder, copy: &copy };
        let listed: Vec<Mutant> = lab.list()?;
        let asked = args.file.as_deref().unwrap_or("");
        let mine: Vec<Mutant> = listed.into_iter().filter(|mutant| mutant.file.contains(asked)).collect();
        let known: Vec<Survivor> =
            survivors.iter().filter(|s| mine.iter().any(|m| m.file == s.file)).cloned().collect();
        if mine.is_empty() {
            continue;
        }
        let judge = [&part.targets[..], &part.filters[..]].concat().join(" ");
        eprintln!("{}: {} mutants, judged by cargo test {judge}", part.name, mine.len());
        let files: Vec<&str> = mine.iter().map(|mutant| mutant.file.as_str()).collect();
        let outcomes = lab.run(&files, shard(mine.len(), args))?;
        report.judge(&mine, &outcomes.outcomes, &known);
    }
    let results = serde_json::to_string_pretty(&report).map_err(|error| Fault::Json("results".into(), error))?;
    let to = folder.join("results.json");
    std::fs::write(&to, &results).map_err(|error| Fault::File(to, error))?;
    println!("{}", if args.json { results } else { report.table() });
    report.faults.iter().for_each(|fault| eprintln!("{fault}"));
    if !report.faults.is_empty() {
        eprintln!("write the test that notices it, or explain it in proofs/mutants/survivors.toml");
    }
    Ok(report.faults.is_empty())
}

fn chosen(args: &Args, parts: Vec<Part>) -> Result<Vec<Part>, Fault> {
    let names: Vec<String> = parts.iter().map(|part| part.name.clone()).collect();
    if let Some(stranger) = args.parts.iter().find(|name| !names.contains(name)) {
        return Err(Fault::NoPart(stranger.clone(), names.join(", ")));
    }
    Ok(parts.into_iter().filter(|part| args.parts.is_empty() || args.parts.contains(&part.name)).collect())
}

/// `k/n`: every n-th mutant from the k-th on, so that about as many run as asked for.
fn shard(mutants: usize, args: &Args) -> Option<String> {
    let shards = mutants.div_ceil(args.sample?.max(1));
    Some(format!("{}/{shards}", args.seed % shards.max(1)))
}

fn read_toml<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, Fault> {
    let text = std::fs::read_to_string(path).map_err(|error| Fault::File(path.to_owned(), error))?;
    toml::from_str(&text).map_err(|error| Fault::Toml(path.to_owned(), error))
}

/// One part and where it is mutated.
struct Lab<'a> {
    part: &'a Part,
    tool: &'a Path,
    folder: &'a Path,
    copy: &'a Path,
}

impl Lab<'_> {
    fn command(&self) -> Command {
        let mut command = Command::new(self.tool);
        command.arg("mutants").arg("--dir").arg(self.copy).args(["--package", &self.part.package]);
        command.env("CARGO_TARGET_DIR", self.folder.join("target"));
        command.stderr(Stdio::inherit());
        command
    }

    fn list(&self) -> Result<Vec<Mutant>, Fault> {
        let mut command = self.command();
        for file in &self.part.files {
            command.arg("--file").arg(file);
        }
        let done = command.args(["--list", "--json"]).output().map_err(|error| self.not_started(error))?;
        if !done.status.success() {
            return Err(Fault::Run(self.part.name.clone()));
        }
        serde_json::from_slice(&done.stdout).map_err(|error| Fault::Json("the list of mutants".into(), error))
    }

    fn run(&self, files: &[&str], shard: Option<String>) -> Result<Outcomes, Fault> {
        let out = self.folder.join(&self.part.name);
        let found = out.join("mutants.out/outcomes.json");
        // What an earlier run found must not be taken for this one's.
        let _ = std::fs::remove_file(&found);
        std::fs::create_dir_all(&out).map_err(|error| Fault::File(out.clone(), error))?;
        let mut command = self.command();
        let mut distinct = files.to_vec();
        distinct.dedup();
        for file in distinct {
            command.arg("--file").arg(file);
        }
        command.args(["--in-place", "--colors", "never"]).arg("--output").arg(&out);
        command.args(["--timeout", &self.part.timeout_seconds.to_string()]);
        for package in &self.part.test_packages {
            command.args(["--test-package", package]);
        }
        if let Some(shard) = shard {
            command.arg("--shard").arg(shard);
        }
        // cargo-mutants gives these to the build too: no other test target is linked.
        for argument in &self.part.targets {
            command.arg(format!("--cargo-arg={argument}"));
        }
        command.args(["--", "--"]).args(&self.part.filters).stdout(std::io::stderr());
        let status = command.status().map_err(|error| self.not_started(error))?;
        // 0 all caught, 2 some missed, 3 some hung, 4 the tests fail without a mutation: all of them left their outcomes.
        if !matches!(status.code(), Some(0 | 2 | 3 | 4)) {
            return Err(Fault::Run(self.part.name.clone()));
        }
        let text = std::fs::read(&found).map_err(|error| Fault::File(found.clone(), error))?;
        serde_json::from_slice(&text).map_err(|error| Fault::Json(found, error))
    }

    fn not_started(&self, error: std::io::Error) -> Fault {
        Fault::Tool(self.tool.to_owned(), error)
    }
}
