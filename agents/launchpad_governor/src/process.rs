//! The process of `launchpad_governor`.

use std::process::ExitCode;

use crate::LaunchpadGovernor;

/// Its whole life, from its environment to its exit code.
#[must_use]
pub fn main() -> ExitCode {
    runtime::main(|_process| Ok(LaunchpadGovernor::default()))
}
