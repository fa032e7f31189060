//! Free loopback ports, and ports that stay the same over restarts.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};

use crate::ServersError;

/// A loopback port nobody listens on right now. Between this answer and its use somebody else may take it: starters try
/// again with another one.
///
/// # Errors
/// When the machine has no free port.
pub fn free_port() -> Result<u16, ServersError> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| listener.local_addr())
        .map(|address| address.port())
        .map_err(|e| ServersError::System("finding a free port".to_owned(), e))
}

/// Whether nobody listens on this loopback port.
#[must_use]
pub fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

/// Ports by name, kept in a file, so that a second start listens where the first did.
#[derive(Debug)]
pub struct StablePorts {
    file: PathBuf,
    ports: BTreeMap<String, u16>,
}

impl StablePorts {
    /// Reads the file, if there is one. A file that can't be understood counts as none: ports are only a convenience.
    #[must_use]
    pub fn open(file: &Path) -> Self {
        let ports = std::fs::read(file).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
        Self { file: file.to_owned(), ports }
    }

    /// The port of `name`: the one it had when that is free now, else a new one, which is remembered.
    ///
    /// # Errors
    /// When there is no free port or the file can't be written.
    pub fn get(&mut self, name: &str) -> Result<u16, ServersError> {
        if let Some(&port) = self.ports.get(name)
            && is_free(port)
        {
            return Ok(port);
        }
        let port = loop {
            let port = free_port()?;
            if !self.ports.values().any(|&taken| taken == port) {
                break port;
            }
        };
        self.ports.insert(name.to_owned(), port);
        self.save()?;
        Ok(port)
    }

    /// The port that `name` was given, whether it is free or not.
    #[must_use]
    pub fn known(&self, name: &str) -> Option<u16> {
        self.ports.get(name).copied()
    }

    fn save(&self) -> Result<(), ServersError> {
        let bytes = serde_json::to_vec_pretty(&self.ports).unwrap_or_default();
        std::fs::write(&self.file, bytes).map_err(|source| ServersError::File {
            action: "writing",
            path: self.file.clone(),
            source,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_stays_the_same_while_it_is_free_and_moves_when_it_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ports.json");
        let first = StablePorts::open(&file).get("nats").unwrap();
        assert_eq!(StablePorts::open(&file).get("nats").unwrap(), first);
        let _held = TcpListener::bind((Ipv4Addr::LOCALHOST, first)).unwrap();
        let mut ports = StablePorts::open(&file);
        assert_ne!(ports.get("nats").unwrap(), first);
        assert_ne!(ports.get("postgres").unwrap(), ports.get("nats").unwrap());
    }
}
