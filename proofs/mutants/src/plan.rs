//! What is mutated and by which tests (`parts.toml`), and which survivors are explained (`survivors.toml`).

use serde::Deserialize;

/// Files that are mutated together and judged by the same tests.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// Its name on the command line.
    pub name: String,
    /// The package that owns the files.
    pub package: String,
    /// Globs of files, from the root of the repository.
    pub files: Vec<String>,
    /// The packages whose tests judge.
    pub test_packages: Vec<String>,
    /// The test targets of those packages, as `cargo test` takes them.
    pub targets: Vec<String>,
    /// What the test programs are given: names of tests, `--skip`, `--test-threads`.
    #[serde(default)]
    pub filters: Vec<String>,
    /// After this a test run counts as hung, seconds.
    pub timeout_seconds: u32,
}

/// The text of `parts.toml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parts {
    /// In the order they run.
    pub part: Vec<Part>,
}

/// A survivor and why no test can catch it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Survivor {
    /// From the root of the repository.
    pub file: String,
    /// As cargo-mutants says it, without line and column: `replace > with >= in Breaker::after`.
    pub mutation: String,
    /// Which one, counted from the top of the file, where several read the same.
    #[serde(default = "first")]
    pub nth: usize,
    /// Why the mutated program does the same.
    pub reason: String,
}

const fn first() -> usize {
    1
}

/// The text of `survivors.toml`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Survivors {
    /// In any order.
    #[serde(default)]
    pub survivor: Vec<Survivor>,
}
