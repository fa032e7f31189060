//! The process of `reflector`.

use std::process::ExitCode;

use reflector::Reflector;

fn main() -> ExitCode {
    runtime::main(|_process| Ok(Reflector::default()))
}
