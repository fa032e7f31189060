//! `nats-server` with JetStream.

use std::fs::{OpenOptions, Permissions};
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::child::{Child, Launch, plain_environment, spawn};
use crate::{Programs, ServersError};

/// How to start a NATS server.
#[derive(Debug, Clone)]
pub struct NatsOptions {
    /// Its folder; its config, JetStream store and log lie in it.
    pub folder: PathBuf,
    /// The loopback port for clients.
    pub port: u16,
    /// The config text: authorisation, limits, JetStream. Port and address of the client listener are given on the
    /// command line and win over it.
    pub config: String,
}

/// A running NATS server. Dropping it stops it.
#[derive(Debug)]
pub struct NatsServer {
    child: Child,
    port: u16,
    ready_in: Duration,
}

const PATIENCE: Duration = Duration::from_secs(20);
/// What its memory should stay below (`GOMEMLIMIT` of the Go runtime, a soft mark). An environment that says otherwise wins.
const MEMORY_MARK: &str = "48MiB";

impl NatsServer {
    /// Starts it and waits for its greeting, which it sends only after JetStream has recovered.
    ///
    /// # Errors
    /// When its files can't be written, or it does not start.
    pub fn start(programs: &Programs, options: &NatsOptions) -> Result<Self, ServersError> {
        let started = Instant::now();
        let config = options.folder.join("nats.conf");
        let file = |action, path: &PathBuf| {
            let path = path.clone();
            move |source| ServersError::File { action, path, source }
        };
        std::fs::create_dir_all(&options.folder).map_err(file("making", &options.folder))?;
        write_private(&config, &options.config).map_err(file("writing", &config))?;
        let mut command = Command::new(&programs.nats_server);
        plain_environment(&mut command);
        // Its collector works harder from here on; without a mark it lets garbage double the heap first. A server that is not
        // told what its streams in memory may take would make that a part of the mark.
        if options.config.contains("max_memory_store") && std::env::var_os("GOMEMLIMIT").is_none() {
            command.env("GOMEMLIMIT", MEMORY_MARK);
        }
        command.arg("-c").arg(&config).args(["-a", "127.0.0.1", "-p", &options.port.to_string()]).arg("-js");
        // Said twice, on the command line and in the file, the server refuses to start.
        if !options.config.contains("store_dir") {
            command.arg("-sd").arg(options.folder.join("jetstream"));
        }
        let mut child = spawn(Launch {
            command,
            name: "nats-server".to_owned(),
            log: options.folder.join("nats.log"),
            stop_signal: Signal::SIGTERM,
            death_signal: Signal::SIGTERM,
        })?;
        child.wait_until_ready(PATIENCE, || greets(options.port))?;
        Ok(Self { child, port: options.port, ready_in: started.elapsed() })
    }

    /// Where clients connect.
    #[must_use]
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Its loopback port.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// How long it took from start to ready.
    #[must_use]
    pub const fn ready_in(&self) -> Duration {
        self.ready_in
    }

    /// Its process.
    #[must_use]
    pub const fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.pid()
    }

    /// Stops it; `false` when it had to be killed.
    ///
    /// # Errors
    /// When it can't be signalled.
    pub fn stop(mut self) -> Result<bool, ServersError> {
        self.child.stop(Duration::from_secs(10))
    }
}

/// Readable by its owner alone: a node's config holds what the nodes show each other.
fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(path)?;
    file.set_permissions(Permissions::from_mode(0o600))?;
    file.write_all(text.as_bytes())
}

/// Whether a NATS server with JetStream says hello on this port.
#[must_use]
pub fn greets(port: u16) -> bool {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(200)) else { return false };
    if stream.set_read_timeout(Some(Duration::from_millis(500))).is_err() {
        return false;
    }
    let mut hello = String::new();
    BufReader::new(stream).read_line(&mut hello).is_ok()
        && hello.starts_with("INFO ")
        && hello.contains("\"jetstream\":true")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::free_port;

    #[test]
    fn nats_starts_stops_and_keeps_its_store() {
        let folder = tempfile::tempdir().unwrap();
        let programs = Programs::usual().unwrap();
        let options =
            NatsOptions { folder: folder.path().join("nats"), port: free_port().unwrap(), config: String::new() };
        for _ in 0..2 {
            let server = NatsServer::start(&programs, &options).unwrap();
            assert!(greets(options.port));
            assert!(server.stop().unwrap());
            assert!(!greets(options.port));
        }
    }

    #[test]
    fn a_server_sees_nothing_of_our_environment_but_where_things_are() {
        let folder = tempfile::tempdir().unwrap();
        let options =
            NatsOptions { folder: folder.path().join("nats"), port: free_port().unwrap(), config: String::new() };
        let server = NatsServer::start(&Programs::usual().unwrap(), &options).unwrap();
        let seen = std::fs::read(format!("/proc/{}/environ", server.pid())).unwrap();
        let seen = String::from_utf8_lossy(&seen);
        assert!(std::env::var_os("CARGO_MANIFEST_DIR").is_some() && seen.contains("PATH="), "{seen}");
        assert!(!seen.contains("CARGO_MANIFEST_DIR"), "{seen}");
    }

    #[test]
    fn a_bad_config_is_quoted() {
        let folder = tempfile::tempdir().unwrap();
        let options = NatsOptions {
            folder: folder.path().to_owned(),
            port: free_port().unwrap(),
            config: "no_such_setting: [".to_owned(),
        };
        let error = NatsServer::start(&Programs::usual().unwrap(), &options).unwrap_err();
        assert!(matches!(&error, ServersError::Died { tail, .. } if !tail.is_empty()), "{error}");
    }
}
