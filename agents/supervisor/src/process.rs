//! The process of `supervisor`.

use std::process::ExitCode;

use crate::Supervisor;
use crate::config::load;
use crate::roster::Roster;

/// Its whole life, from its environment to its exit code.
#[must_use]
pub fn main() -> ExitCode {
    runtime::main(|process| {
        let file = |name: &str| std::env::var_os(name).map(std::path::PathBuf::from);
        let (plan, key) = (file("SWARM_PLAN"), file("SWARM_ANCHOR_KEY_FILE"));
        let public_keys = file("SWARM_ANCHOR_PUBLIC_KEYS_FILE");
        let config = load(&process.config_dir, plan.as_deref(), key.as_deref(), public_keys.as_deref())
            .map_err(runtime::ConfigFaults)?;
        let grounds = std::env::var("SWARM_PROTECTED").ok().map(|text| serde_json::from_str(&text)).transpose();
        let grounds = grounds.map_err(|error| runtime::ConfigFaults(vec![format!("SWARM_PROTECTED: {error}")]))?;
        let roster = Roster::open(std::env::var("SWARM_REDIS_URL").ok().as_deref());
        Ok(Supervisor::new(config, &process.data_dir).guarding(grounds).with_roster(roster))
    })
}
