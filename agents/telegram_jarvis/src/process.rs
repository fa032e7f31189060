//! The process of `telegram_jarvis`.

use std::process::ExitCode;

use crate::TelegramJarvis;

/// Its whole life, from its environment to its exit code.
#[must_use]
pub fn main() -> ExitCode {
    runtime::main(|_process| Ok(TelegramJarvis::default()))
}
