//! Treasury's configuration: the house limits and the key it signs permits with.

use std::path::Path;

use rails::limits::Limits;
use rails::signature::{PermitSigner, parse_private_key};

/// Checked configuration.
#[derive(Debug)]
pub struct Config {
    /// The house limits of `config/limits.toml`.
    pub house: Limits,
    /// Signs permits.
    pub signer: PermitSigner,
}

impl Config {
    /// Reads `limits.toml` from `config_dir` and the private key from `key_file`; reports every fault.
    ///
    /// # Errors
    /// One line per fault.
    pub fn load(config_dir: &Path, key_file: Option<&Path>) -> Result<Self, Vec<String>> {
        let mut faults = Vec::new();
        let limits_file = config_dir.join("limits.toml");
        let house = match std::fs::read_to_string(&limits_file) {
            Err(error) => {
                faults.push(format!("{}: {error}", limits_file.display()));
                None
            }
            Ok(text) => match Limits::parse(&text) {
                Ok(limits) => Some(limits),
                Err(error) => {
                    faults.extend(error.faults.into_iter().map(|f| format!("{}: {f}", limits_file.display())));
                    None
                }
            },
        };
        let signer = match key_file {
            None => {
                faults.push("SWARM_PERMIT_KEY_FILE is not set: treasury has no key to sign permits with".to_owned());
                None
            }
            Some(file) => match std::fs::read_to_string(file) {
                Err(error) => {
                    faults.push(format!("{}: {error}", file.display()));
                    None
                }
                Ok(text) => match parse_private_key(&text) {
                    Ok(key) => Some(PermitSigner::new(key)),
                    Err(error) => {
                        faults.push(format!("{}: {error}", file.display()));
                        None
                    }
                },
            },
        };
        match (house, signer) {
            (Some(house), Some(signer)) => Ok(Self { house, signer }),
            _ => Err(faults),
        }
    }
}
