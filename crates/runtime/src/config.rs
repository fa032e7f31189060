//! Settings of a process: read from the environment, checked as a whole, all faults reported at once before anything
//! is opened.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use domain::ids::BootId;

/// All that is wrong with a configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConfigFaults(pub Vec<String>);

impl ConfigFaults {
    /// None yet.
    #[must_use]
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Adds one: what (a variable, a file and key) and why.
    pub fn add(&mut self, what: impl fmt::Display, why: impl fmt::Display) {
        self.0.push(format!("{what}: {why}"));
    }

    /// `value`, unless there are faults.
    ///
    /// # Errors
    /// The faults.
    pub fn or<T>(self, value: T) -> Result<T, Self> {
        if self.0.is_empty() { Ok(value) } else { Err(self) }
    }
}

impl fmt::Display for ConfigFaults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("; "))
    }
}

impl std::error::Error for ConfigFaults {}

/// Checked settings of one process.
#[derive(Clone)]
pub struct ProcessConfig {
    /// `SWARM_NATS_URL`; several nodes of a cluster are separated by commas.
    pub nats_url: String,
    /// `SWARM_NKEY_FILE`: the seed of this process's NATS user; absent only with a server without users, in tests.
    pub nkey_file: Option<PathBuf>,
    /// `SWARM_PG_URL`: login of this process; absent when it has no tables. Never logged.
    pub pg_url: Option<String>,
    /// `SWARM_HTTP_PORT`: metrics and health on 127.0.0.1; 0 picks a free one.
    pub http_port: u16,
    /// `SWARM_DATA_DIR`: files this process keeps.
    pub data_dir: PathBuf,
    /// `SWARM_CONFIG_DIR`: limits, strategies and the like.
    pub config_dir: PathBuf,
    /// `SWARM_RUN_DIR`: where `<agent>.http` names the picked port; absent: not written.
    pub run_dir: Option<PathBuf>,
    /// `SWARM_BOOT_ID`: this start of the process, given by the supervisor; else made here.
    pub boot_id: Option<BootId>,
    /// `SWARM_SUPERVISED`: who starts this process.
    pub supervision: Supervision,
}

/// Who starts a process, and what it owes to a supervisor for that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Supervision {
    /// `0`, or nothing: nobody watches it.
    None,
    /// `1`: the supervisor. It drains and exits after 15 s without a beat of it.
    Spawned,
    /// `external`: somebody else, such as Docker Compose, who would start it again for ever. So it is held, and takes nothing, until
    /// the supervisor says that this start of it may work; from then on as [`Self::Spawned`].
    External,
}

impl ProcessConfig {
    /// Checks the variables of an environment. The configuration is only good when there are no faults; it is given
    /// all the same so that the agent's own faults can be found in the same run.
    #[must_use]
    pub fn check(vars: &BTreeMap<String, String>, needs_store: bool) -> (Self, ConfigFaults) {
        let mut faults = ConfigFaults::new();
        let get = |name: &str| vars.get(name).map(|v| v.trim().to_owned()).filter(|v| !v.is_empty());
        let nats_url = get("SWARM_NATS_URL").unwrap_or_default();
        if let Err(error) = bus::servers(&nats_url) {
            faults.add("SWARM_NATS_URL", format!("{error}; several nodes of a cluster are separated by commas"));
        }
        let nkey_file = get("SWARM_NKEY_FILE").map(PathBuf::from);
        if let Some(file) = nkey_file.as_ref().filter(|f| !f.is_file()) {
            faults.add("SWARM_NKEY_FILE", format!("{} is no file", file.display()));
        }
        let pg_url = get("SWARM_PG_URL").filter(|_| needs_store);
        match &pg_url {
            None if needs_store => faults.add("SWARM_PG_URL", "must be given, this agent has tables"),
            Some(url) if !(url.starts_with("postgres://") || url.starts_with("postgresql://")) => {
                faults.add("SWARM_PG_URL", "must start with postgres://");
            }
            _ => {}
        }
        let http_port = get("SWARM_HTTP_PORT").unwrap_or_else(|| "0".to_owned()).parse().unwrap_or_else(|_| {
            faults.add("SWARM_HTTP_PORT", "must be a port, or 0 for a free one");
            0
        });
        let folder = |name: &str, faults: &mut ConfigFaults| {
            let folder = get(name).map(PathBuf::from);
            if let Some(folder) = folder.as_ref().filter(|f| !f.is_dir()) {
                faults.add(name, format!("{} is no folder", folder.display()));
            }
            folder
        };
        let data_dir = folder("SWARM_DATA_DIR", &mut faults).unwrap_or_else(|| PathBuf::from("."));
        let config_dir = folder("SWARM_CONFIG_DIR", &mut faults).unwrap_or_else(|| PathBuf::from("config"));
        let run_dir = folder("SWARM_RUN_DIR", &mut faults);
        let boot_id = get("SWARM_BOOT_ID")
            .and_then(|text| text.parse().map_err(|_| faults.add("SWARM_BOOT_ID", "is no UUID")).ok());
        let supervision = match get("SWARM_SUPERVISED").as_deref() {
            None | Some("0") => Supervision::None,
            Some("1") => Supervision::Spawned,
            Some("external") => Supervision::External,
            Some(_) => {
                faults.add("SWARM_SUPERVISED", "must be 0, 1 or external");
                Supervision::None
            }
        };
        (Self { nats_url, nkey_file, pg_url, http_port, data_dir, config_dir, run_dir, boot_id, supervision }, faults)
    }
}

impl fmt::Debug for ProcessConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProcessConfig")
            .field("nats_url", &self.nats_url)
            .field("store", &self.pg_url.is_some())
            .field("http_port", &self.http_port)
            .field("data_dir", &self.data_dir)
            .field("config_dir", &self.config_dir)
            .field("supervision", &self.supervision)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(vars: &[(&str, &str)], needs_store: bool, wrong: &[&str]) {
        let vars = vars.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let (_, faults) = ProcessConfig::check(&vars, needs_store);
        let named: Vec<&str> = faults.0.iter().filter_map(|fault| fault.split(':').next()).collect();
        assert_eq!(named, wrong, "{vars:?}");
    }

    #[test]
    fn all_faults_are_found_at_once() {
        let nats = ("SWARM_NATS_URL", "nats://127.0.0.1:4222");
        check(&[nats], false, &[]);
        check(&[("SWARM_NATS_URL", "nats://127.0.0.1:4222,nats://127.0.0.1:4223")], false, &[]);
        check(&[("SWARM_NATS_URL", "nats://127.0.0.1:4222,127.0.0.1:4223")], false, &["SWARM_NATS_URL"]);
        check(&[nats], true, &["SWARM_PG_URL"]);
        check(&[nats, ("SWARM_PG_URL", "postgres://x@127.0.0.1/y"), ("SWARM_SUPERVISED", "1")], true, &[]);
        let bad = [
            ("SWARM_NATS_URL", "127.0.0.1"),
            ("SWARM_NKEY_FILE", "no/such/file"),
            ("SWARM_PG_URL", "mysql://x"),
            ("SWARM_HTTP_PORT", "70000"),
            ("SWARM_DATA_DIR", "no/such/folder"),
            ("SWARM_BOOT_ID", "one"),
            ("SWARM_SUPERVISED", "yes"),
        ];
        check(&bad, true, &bad.map(|(name, _)| name));
    }

    #[test]
    fn a_login_is_never_shown() {
        let url = "postgres://treasury:secret@127.0.0.1/swarm";
        let vars = [("SWARM_PG_URL", url), ("SWARM_NATS_URL", "nats://127.0.0.1:4222")];
        let vars = vars.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let (config, _) = ProcessConfig::check(&vars, true);
        assert!(!format!("{config:?}").contains("secret"));
    }
}
