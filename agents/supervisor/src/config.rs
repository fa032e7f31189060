//! The supervisor's configuration: the house limits, the plan and the key that signs audit heads.

use std::path::Path;

use ed25519_dalek::{SigningKey, VerifyingKey};
use rails::limits::Limits;
use rails::signature::parse_private_key;

use crate::lifecycle::{Plan, Settings, settings};

/// What the supervisor is started with.
#[derive(Debug)]
pub struct Config {
    /// The house limits.
    pub house: Limits,
    /// Which processes to run.
    pub plan: Plan,
    /// What each of them may use.
    pub agents: Settings,
    /// Signs audit heads.
    pub anchor_key: SigningKey,
    /// Public keys that earlier heads may be signed with.
    pub old_anchor_keys: Vec<VerifyingKey>,
}

/// Reads `limits.toml` from `config_dir`, the plan and the keys; `public_keys` may be absent, then only our own key's anchors are believed.
///
/// # Errors
/// One line per fault.
pub fn load(
    config_dir: &Path,
    plan: Option<&Path>,
    key: Option<&Path>,
    public_keys: Option<&Path>,
) -> Result<Config, Vec<String>> {
    let mut faults = Vec::new();
    let read = |what: &str, file: Option<&Path>| match file {
        None => Err(format!("{what} is not set; `swarm up` sets it")),
        Some(file) => std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display())),
    };
    let limits_file = config_dir.join("limits.toml");
    let house = read("SWARM_CONFIG_DIR", Some(&limits_file))
        .and_then(|text| Limits::parse(&text).map_err(|error| format!("{}: {error}", limits_file.display())))
        .map_err(|fault| faults.push(fault));
    let plan = read("SWARM_PLAN", plan)
        .and_then(|text| serde_json::from_str::<Plan>(&text).map_err(|error| format!("SWARM_PLAN: {error}")))
        .map_err(|fault| faults.push(fault));
    let agents_file = config_dir.join(settings::FILE);
    let agents = plan.as_ref().map_err(|&()| ()).and_then(|plan| {
        let names: Vec<String> = plan.agents.iter().map(|agent| agent.name.clone()).collect();
        let text = read("SWARM_CONFIG_DIR", Some(&agents_file)).map_err(|fault| vec![fault]);
        text.and_then(|text| {
            let named = |fault| format!("{}: {fault}", agents_file.display());
            Settings::parse(&text, &names).map_err(|found| found.into_iter().map(named).collect())
        })
        .map_err(|found: Vec<String>| faults.extend(found))
    });
    let key = read("SWARM_ANCHOR_KEY_FILE", key)
        .and_then(|text| parse_private_key(&text).map_err(|error| format!("SWARM_ANCHOR_KEY_FILE: {error}")))
        .map_err(|fault| faults.push(fault));
    let old_keys = public_keys
        .map_or(Ok(Vec::new()), crate::anchors::read_keys)
        .map_err(|error| faults.push(format!("SWARM_ANCHOR_PUBLIC_KEYS_FILE: {error}")));
    match (house, plan, agents, key, old_keys) {
        (Ok(house), Ok(plan), Ok(agents), Ok(anchor_key), Ok(old_anchor_keys)) => {
            Ok(Config { house, plan, agents, anchor_key, old_anchor_keys })
        }
        _ => Err(faults),
    }
}
