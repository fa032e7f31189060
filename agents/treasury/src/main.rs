//! The treasury process.

use std::process::ExitCode;

use treasury::Treasury;
use treasury::config::Config;

fn main() -> ExitCode {
    runtime::main(|process| {
        let key_file = std::env::var_os("SWARM_PERMIT_KEY_FILE").map(std::path::PathBuf::from);
        let config = Config::load(&process.config_dir, key_file.as_deref()).map_err(runtime::ConfigFaults)?;
        Ok(Treasury::new(config, &process.data_dir))
    })
}
