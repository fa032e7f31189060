//! The process of `gateway`.

use std::process::ExitCode;

use crate::Gateway;
use crate::config::Config;

/// Its whole life, from its environment to its exit code.
#[must_use]
pub fn main() -> ExitCode {
    runtime::main(|_process| Config::check(&std::env::vars().collect()).map(Gateway::new))
}
