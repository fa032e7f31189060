//! The process of `telegram_jarvis`.

use std::process::ExitCode;

use telegram_jarvis::TelegramJarvis;

fn main() -> ExitCode {
    runtime::main(|_process| Ok(TelegramJarvis::default()))
}
