//! The process of `jarvis_x`.

use std::process::ExitCode;

use jarvis_x::JarvisX;

fn main() -> ExitCode {
    runtime::main(|_process| Ok(JarvisX::default()))
}
