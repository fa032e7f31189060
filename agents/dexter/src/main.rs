//! The process of `dexter`.

use std::process::ExitCode;

use dexter::Dexter;

fn main() -> ExitCode {
    runtime::main(|_process| Ok(Dexter::default()))
}
