//! The supervisor process.

use std::process::ExitCode;

use supervisor::Supervisor;
use supervisor::config::load;

fn main() -> ExitCode {
    runtime::main(|process| {
        let file = |name: &str| std::env::var_os(name).map(std::path::PathBuf::from);
        let (plan, key) = (file("SWARM_PLAN"), file("SWARM_ANCHOR_KEY_FILE"));
        let public_keys = file("SWARM_ANCHOR_PUBLIC_KEYS_FILE");
        let config = load(plan.as_deref(), key.as_deref(), public_keys.as_deref()).map_err(runtime::ConfigFaults)?;
        Ok(Supervisor::new(config, &process.data_dir))
    })
}
