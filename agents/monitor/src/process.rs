//! The process of `monitor`.

use std::process::ExitCode;

use crate::Monitor;

/// Its whole life, from its environment to its exit code.
#[must_use]
pub fn main() -> ExitCode {
    runtime::main(|_process| Ok(Monitor::default()))
}
