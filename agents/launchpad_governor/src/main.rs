//! The process of `launchpad_governor`.

use std::process::ExitCode;

use launchpad_governor::LaunchpadGovernor;

fn main() -> ExitCode {
    runtime::main(|_process| Ok(LaunchpadGovernor::default()))
}
