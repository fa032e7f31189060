//! The process of `monitor`.

use std::process::ExitCode;

use monitor::Monitor;

fn main() -> ExitCode {
    runtime::main(|_process| Ok(Monitor::default()))
}
