//! The process of `llm_router`.

use std::process::ExitCode;

use crate::{Config, LlmRouter};

/// Its whole life, from its environment to its exit code.
#[must_use]
pub fn main() -> ExitCode {
    runtime::main(|process| Config::check(&std::env::vars().collect(), &process.config_dir).map(LlmRouter::new))
}
