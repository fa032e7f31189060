//! The process of `dexter`.

use std::process::ExitCode;

use crate::Dexter;

/// Its whole life, from its environment to its exit code.
#[must_use]
pub fn main() -> ExitCode {
    runtime::main(|_process| Ok(Dexter::default()))
}
