//! The router under measurement: the shipped program as `swarm llm serve`, with the stub as its first tier.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;
use servers::{Child, Launch, Programs, ValkeyOptions, ValkeyServer, ValkeyUser, free_port, spawn};
use swarm::keys::Keys;
use swarm::llm::OPERATOR_KEY;

use super::clock;
use crate::bench_error::BenchError;
use crate::processes;
use crate::stage::{change, swarm_program};

const PATIENCE: Duration = Duration::from_secs(20);
/// The largest limit there is: it holds nobody back, and each request is counted against it all the same.
const LARGE: i64 = 1_000_000_000;

/// A running router. Dropping it stops it.
pub struct Process {
    child: Child,
    address: SocketAddr,
    key: String,
}

impl Process {
    /// Starts it in `folder`, over this Redis, if any; with one, its tier has limits that must be counted.
    ///
    /// # Errors
    /// [`BenchError`].
    pub fn start(shipped: &Path, folder: &Path, stub: SocketAddr, redis: Option<&Valkey>) -> Result<Self, BenchError> {
        let wrap = |error| BenchError::file(folder, error);
        std::fs::create_dir_all(folder).map_err(wrap)?;
        let config = folder.join("llm.toml");
        std::fs::copy(shipped.join("llm.toml"), &config).map_err(wrap)?;
        change(&config, |table| {
            let tier = table.get_mut("tier")?.get_mut("local")?.as_table_mut()?;
            if redis.is_some() {
                for limit in ["requests_per_minute", "requests_per_day", "tokens_per_minute", "tokens_per_day"] {
                    tier.insert(limit.to_owned(), LARGE.into())?;
                }
            }
            tier.insert("slots".to_owned(), 0.into())
        })?;
        let (data, ready_file) = (folder.join("data"), folder.join("ready"));
        let mut command = Command::new(swarm_program()?);
        // Keys of whoever measures would open tiers that cost.
        command.env_clear().envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
        command.envs(std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("SWARM_LLM_")));
        command.env_remove("SWARM_LLM_KEYS_FILE");
        command.env("LLM_LOCAL_URL", format!("http://{stub}/v1")).env("LLM_LOCAL_ADAPTER", "openai");
        command.env("LLM_LOCAL_MODEL", "stub-1").envs(redis.map(|valkey| ("SWARM_REDIS_URL", valkey.url())));
        command.arg("--data-dir").arg(&data).args(["llm", "serve", "--port", "0", "--config-dir"]).arg(folder);
        command.arg("--ready-file").arg(&ready_file);
        let mut child = spawn(Launch {
            command,
            name: "swarm llm serve".to_owned(),
            log: folder.join("router.log"),
            stop_signal: Signal::SIGTERM,
            death_signal: Signal::SIGKILL,
        })?;
        let told = || std::fs::read_to_string(&ready_file).ok()?.strip_prefix("http://")?.parse().ok();
        child.wait_until_ready(PATIENCE, || told().is_some())?;
        let address = told().ok_or_else(|| BenchError::file(&ready_file, "names no address"))?;
        let key = Keys::open(&data).and_then(|keys| keys.secret(OPERATOR_KEY));
        let key = key.map_err(|error| BenchError::file(&data, error.to_string()))?;
        Ok(Self { child, address, key })
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The operator's key.
    pub fn key(&self) -> String {
        self.key.clone()
    }

    /// What it says about itself, for whoever wants to know why a run is none.
    pub fn state(&self) -> String {
        let asked = || -> std::io::Result<String> {
            let mut stream = TcpStream::connect(self.address)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            let (key, host) = (&self.key, self.address);
            write!(
                stream,
                "GET /v1/router/state HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {key}\r\nconnection: close\r\n\r\n"
            )?;
            let mut text = String::new();
            stream.read_to_string(&mut text)?;
            Ok(text.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default())
        };
        asked().unwrap_or_else(|error| error.to_string())
    }

    /// CPU it used, us.
    ///
    /// # Errors
    /// [`BenchError::System`].
    pub fn cpu_us(&self) -> Result<f64, BenchError> {
        clock::process_us(self.child.pid())
    }

    /// What it holds in memory, MB.
    ///
    /// # Errors
    /// [`BenchError::Broken`], when it is gone.
    pub fn resident_mb(&self) -> Result<f64, BenchError> {
        let memory = processes::memory(self.child.pid());
        let memory = memory.ok_or_else(|| BenchError::Broken("the router's memory can't be looked at".to_owned()))?;
        Ok(memory.rss_kib as f64 * 1_024.0 / 1e6)
    }
}

/// The Redis of the routers.
pub struct Valkey {
    server: ValkeyServer,
    user: ValkeyUser,
}

impl Valkey {
    /// Starts it.
    ///
    /// # Errors
    /// [`BenchError::Servers`].
    pub fn start(folder: &Path) -> Result<Self, BenchError> {
        let user =
            ValkeyUser { name: "bench".to_owned(), password: "bench1".to_owned(), rules: "~llm:* +@all".to_owned() };
        let options = ValkeyOptions {
            folder: folder.to_owned(),
            port: free_port()?,
            users: vec![user.clone()],
            max_memory_mib: 64,
        };
        Ok(Self { server: ValkeyServer::start(&Programs::usual()?, &options)?, user })
    }

    fn url(&self) -> String {
        self.server.url(&self.user)
    }

    /// CPU it used, us.
    ///
    /// # Errors
    /// [`BenchError::System`].
    pub fn cpu_us(&self) -> Result<f64, BenchError> {
        clock::process_us(self.server.pid())
    }
}
