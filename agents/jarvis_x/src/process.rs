//! The process of `jarvis_x`.

use std::process::ExitCode;

use crate::JarvisX;

/// Its whole life, from its environment to its exit code.
#[must_use]
pub fn main() -> ExitCode {
    runtime::main(|_process| Ok(JarvisX::default()))
}
