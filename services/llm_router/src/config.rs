//! Settings of the process: the router's configuration, where it listens, its keys, its Redis.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use domain::time::Clock;
use llm::cache::Cache;
use llm::provenance::UsageSink;
use llm::quota::{Options, Quota, Record};
use llm::redis_link::RedisLink;
use llm::router::{Parts, Router};
use runtime::ConfigFaults;
use tokio::net::TcpListener;

use crate::keys::Keys;

/// File in the run folder that names the port.
pub const PORT_FILE: &str = "llm_router.port";
/// The router's file in the folder of configuration.
pub const FILE: &str = "llm.toml";

/// Checked settings.
#[derive(Clone)]
pub struct Config {
    /// `config/llm.toml` with the environment.
    pub router: llm::config::Config,
    /// `SWARM_LLM_KEYS_FILE`: who may ask.
    pub keys: Keys,
    /// `SWARM_LLM_PORT`: on 127.0.0.1; 0 picks a free one.
    pub port: u16,
    /// `SWARM_LLM_LISTEN`: another address to listen at, as in a container's own network.
    pub address: std::net::IpAddr,
    /// `SWARM_REDIS_URL`: counters and cached answers; without it they are kept in the process alone. Never shown.
    redis_url: Option<String>,
}

impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Config")
            .field("port", &self.port)
            .field("redis", &self.redis_url.is_some())
            .finish_non_exhaustive()
    }
}

impl Config {
    /// Reads the environment and the files it names.
    ///
    /// # Errors
    /// All faults at once.
    pub fn check(vars: &BTreeMap<String, String>, config_dir: &Path) -> Result<Self, ConfigFaults> {
        let mut faults = ConfigFaults::new();
        let get = |name: &str| vars.get(name).map(|v| v.trim().to_owned()).filter(|v| !v.is_empty());
        let port = get("SWARM_LLM_PORT").unwrap_or_else(|| "0".to_owned()).parse().unwrap_or_else(|_| {
            faults.add("SWARM_LLM_PORT", "must be a port, or 0 for a free one");
            0
        });
        let address = get("SWARM_LLM_LISTEN").map(|text| text.parse()).transpose().unwrap_or_else(|_| {
            faults.add("SWARM_LLM_LISTEN", "must be an IP address");
            None
        });
        let redis_url = get("SWARM_REDIS_URL");
        if redis_url.as_deref().is_some_and(|url| !url.starts_with("redis://") && !url.starts_with("unix://")) {
            faults.add("SWARM_REDIS_URL", "must start with redis://");
        }
        let router = read(&config_dir.join(FILE), &mut faults).and_then(|text| {
            llm::config::Config::read(&text, vars)
                .map_err(|found| found.into_iter().for_each(|fault| faults.add(FILE, fault)))
                .ok()
        });
        let keys_file = get("SWARM_LLM_KEYS_FILE").map(PathBuf::from);
        let keys = match (&keys_file, &router) {
            (None, _) => {
                faults.add("SWARM_LLM_KEYS_FILE", "must name the file of keys; without a key nobody may ask");
                None
            }
            (Some(file), Some(router)) => read(file, &mut faults).and_then(|text| {
                Keys::parse(&text, &router.agents)
                    .map_err(|found| found.into_iter().for_each(|fault| faults.add("SWARM_LLM_KEYS_FILE", fault)))
                    .ok()
            }),
            (Some(_), None) => None,
        };
        match (router, keys) {
            (Some(router), Some(keys)) => {
                let address = address.unwrap_or(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST));
                faults.or(Self { router, keys, port, address, redis_url })
            }
            _ => Err(faults),
        }
    }

    /// The router, with its cache and its counters.
    ///
    /// # Errors
    /// What can't be used although it could be read.
    pub async fn open(
        &self,
        record: Option<Record>,
        usage: Arc<dyn UsageSink>,
        clock: Arc<dyn Clock>,
    ) -> Result<Arc<Router>, String> {
        let link = RedisLink::open(self.redis_url.as_deref());
        let limits = self.router.tiers.iter().map(|(name, tier)| (name.clone(), tier.limits.clone())).collect();
        // Alone by choice, it takes all that is left; left alone, it leaves room for what it does not know.
        let usual = Options::default();
        let options = match &self.redis_url {
            Some(_) => Options { record, ..usual },
            None => Options { share_alone_permille: 1_000, share_unknown_permille: 1_000, record, ..usual },
        };
        let quota = Quota::over(Arc::clone(&link), limits, Arc::clone(&clock), options).await;
        let cache = Cache::new(self.router.cache.clone(), Some(link), Arc::clone(&clock));
        Router::new(self.router.clone(), Parts { cache, quota, usage, clock }).map_err(|faults| faults.join("; "))
    }

    /// Opens the port and writes it into the run folder.
    ///
    /// # Errors
    /// What the system says.
    pub async fn listen(&self, run_dir: Option<&Path>) -> std::io::Result<TcpListener> {
        let listener = TcpListener::bind(SocketAddr::from((self.address, self.port))).await?;
        if let Some(folder) = run_dir {
            runtime::write_port(folder, PORT_FILE, listener.local_addr()?.port())?;
        }
        Ok(listener)
    }
}

fn read(file: &Path, faults: &mut ConfigFaults) -> Option<String> {
    std::fs::read_to_string(file).map_err(|error| faults.add(file.display(), error)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_faults_are_found_at_once() {
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config");
        let folder = tempfile::tempdir().unwrap();
        let keys = folder.path().join("keys");
        std::fs::write(&keys, crate::keys::line("operator", "x")).unwrap();
        let vars = |vars: &[(&str, &str)]| vars.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        let keys = keys.display().to_string();
        let good =
            Config::check(&vars(&[("SWARM_LLM_KEYS_FILE", &keys), ("SWARM_REDIS_URL", "redis://:secret@x")]), &shipped);
        assert!(!format!("{:?}", good.unwrap()).contains("secret"));
        let bad = vars(&[("SWARM_LLM_PORT", "x"), ("SWARM_LLM_LISTEN", "here"), ("SWARM_REDIS_URL", "http://x")]);
        let faults = Config::check(&bad, &shipped).unwrap_err();
        assert_eq!(faults.0.len(), 4, "{faults}");
        assert_eq!(Config::check(&vars(&[("SWARM_LLM_KEYS_FILE", &keys)]), folder.path()).unwrap_err().0.len(), 1);
    }
}
