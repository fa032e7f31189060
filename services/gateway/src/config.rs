//! Where the page is served and under which names.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use runtime::ConfigFaults;
use tokio::net::TcpListener;

use crate::guard::Names;

/// File in the run folder that names the port of the page.
pub const PORT_FILE: &str = "gateway.web";

/// Checked settings of the page.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Config {
    /// `SWARM_WEB_PORT`: port on 127.0.0.1; 0 picks a free one.
    pub port: u16,
    /// `SWARM_WEB_ORIGIN`: what people type when a proxy stands before it, such as `https://desk.example`.
    pub origin: Option<String>,
}

impl Config {
    /// Reads the environment.
    ///
    /// # Errors
    /// All faults at once.
    pub fn check(vars: &BTreeMap<String, String>) -> Result<Self, ConfigFaults> {
        let mut faults = ConfigFaults::new();
        let get = |name: &str| vars.get(name).map(|v| v.trim().to_owned()).filter(|v| !v.is_empty());
        let port = get("SWARM_WEB_PORT").unwrap_or_else(|| "0".to_owned()).parse().unwrap_or_else(|_| {
            faults.add("SWARM_WEB_PORT", "must be a port, or 0 for a free one");
            0
        });
        let origin = get("SWARM_WEB_ORIGIN").map(|text| text.to_ascii_lowercase());
        if origin.as_deref().is_some_and(|text| !is_origin(text)) {
            faults.add("SWARM_WEB_ORIGIN", "must be like https://desk.example, without a path");
        }
        faults.or(Self { port, origin })
    }

    /// The names it answers to on this port.
    #[must_use]
    pub fn names(&self, port: u16) -> Names {
        Names::new(port, self.origin.as_deref())
    }

    /// Opens the port and writes it into the run folder.
    ///
    /// # Errors
    /// What the system says.
    pub async fn open(&self, run_dir: Option<&Path>) -> std::io::Result<TcpListener> {
        let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))).await?;
        if let Some(folder) = run_dir {
            runtime::write_port(folder, PORT_FILE, listener.local_addr()?.port())?;
        }
        Ok(listener)
    }
}

/// Scheme, host and maybe a port, as browsers write an origin.
fn is_origin(text: &str) -> bool {
    let Some(rest) = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")) else { return false };
    let (host, port) = rest.split_once(':').map_or((rest, None), |(host, port)| (host, Some(port)));
    let is_host = !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.' || b == b'-');
    is_host && port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(vars: &[(&str, &str)]) -> Result<Config, ConfigFaults> {
        Config::check(&vars.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    #[test]
    fn all_faults_are_found_at_once() {
        assert_eq!(check(&[]).unwrap(), Config::default());
        let good = check(&[("SWARM_WEB_PORT", "8080"), ("SWARM_WEB_ORIGIN", "https://Desk.example")]).unwrap();
        assert_eq!(good, Config { port: 8080, origin: Some("https://desk.example".to_owned()) });
        for origin in
            ["desk.example", "https://", "https://a/b", "https://a:b", "https://a:0", "ftp://a", "https://a b"]
        {
            let faults = check(&[("SWARM_WEB_PORT", "x"), ("SWARM_WEB_ORIGIN", origin)]).unwrap_err();
            assert_eq!(faults.0.len(), 2, "{origin}");
        }
    }
}
