//! The process of `telegram_jarvis`.

use std::process::ExitCode;

use crate::TelegramJarvis;
use crate::config::load;

/// Its whole life, from its environment to its exit code.
#[must_use]
pub fn main() -> ExitCode {
    runtime::main(|_process| {
        let config = load(&std::env::vars().collect()).map_err(runtime::ConfigFaults)?;
        TelegramJarvis::new(config).map_err(|error| runtime::ConfigFaults(vec![error.to_string()]))
    })
}
