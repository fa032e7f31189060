//! The process of `treasury`.

use std::process::ExitCode;

use crate::Treasury;
use crate::config::Config;

/// Its whole life, from its environment to its exit code.
#[must_use]
pub fn main() -> ExitCode {
    runtime::main(|process| {
        let key_file = std::env::var_os("SWARM_PERMIT_KEY_FILE").map(std::path::PathBuf::from);
        let config = Config::load(&process.config_dir, key_file.as_deref()).map_err(runtime::ConfigFaults)?;
        let seal = std::env::var("SWARM_SEAL").ok().map(|text| serde_json::from_str(&text)).transpose();
        let seal = seal.map_err(|error| runtime::ConfigFaults(vec![format!("SWARM_SEAL: {error}")]))?;
        Ok(Treasury::new(config, &process.data_dir).sealed(seal))
    })
}
