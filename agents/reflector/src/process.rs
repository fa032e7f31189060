//! The process of `reflector`.

use std::process::ExitCode;

use crate::Reflector;

/// Its whole life, from its environment to its exit code.
#[must_use]
pub fn main() -> ExitCode {
    runtime::main(|_process| Ok(Reflector::default()))
}
