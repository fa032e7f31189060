//! The service on a free port, and the doubles of its three tiers behind it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use testkit::provider::{Dialect, KEY, Provider};
use tokio::process::{Child, Command};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::client::Client;

/// The operator's key.
pub const OWN_KEY: &str = "faults-operator-key";
/// Names of the tiers in their order.
pub const TIERS: [&str; 3] = ["local", "groq", "openrouter"];
/// What each tier answers.
pub const TEXTS: [&str; 3] = [
    "local: hold, confidence 0.41, because the spread is wide and the book is thin",
    "groq: hold, confidence 0.52, because the spread is wide and the book is thin",
    "openrouter: hold, confidence 0.63, because the spread is wide and the book is thin",
];
/// How long a start or a change of state may take.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// One line of llm.toml: section, name, value.
pub type Line = (&'static str, &'static str, String);

/// The doubles of Ollama, Groq and OpenRouter.
#[derive(Debug)]
pub struct Doubles(pub [Provider; 3]);

impl Doubles {
    /// Three that are well.
    pub async fn start() -> Self {
        let doubles = [
            Provider::start(Dialect::Ollama).await,
            Provider::start(Dialect::OpenAi).await,
            Provider::start(Dialect::OpenAi).await,
        ];
        for (double, text) in doubles.iter().zip(TEXTS) {
            double.answer_with(text);
        }
        Self(doubles)
    }

    /// Calls of each so far.
    #[must_use]
    pub fn calls(&self) -> [usize; 3] {
        [self.0[0].calls(), self.0[1].calls(), self.0[2].calls()]
    }

    /// Addresses and keys for the service.
    fn vars(&self) -> BTreeMap<String, String> {
        let [local, groq, openrouter] = &self.0;
        [
            ("LLM_LOCAL_URL", local.url()),
            ("LLM_LOCAL_EMBED_URL", local.url()),
            ("LLM_GROQ_URL", format!("{}/openai/v1", groq.url())),
            ("LLM_OPENROUTER_URL", format!("{}/api/v1", openrouter.url())),
            ("GROQ_API_KEY", KEY.to_owned()),
            ("OPENROUTER_API_KEY", KEY.to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
    }
}

/// How the service is set up.
#[derive(Debug, Clone, Default)]
pub struct Setup {
    /// Lines of the shipped llm.toml that are replaced.
    pub lines: Vec<Line>,
    /// `SWARM_REDIS_URL`.
    pub redis_url: Option<String>,
    /// Serve as a process of this program's own.
    pub program: Option<PathBuf>,
}

/// The service, in this process or in one of its own. Dropping it ends it.
#[derive(Debug)]
pub struct Service {
    /// Who asks it.
    pub client: Client,
    running: Running,
    folder: tempfile::TempDir,
}

#[derive(Debug)]
enum Running {
    Here(CancellationToken, JoinHandle<Result<(), String>>),
    There(Box<Child>),
}

impl Service {
    /// Starts it before these doubles.
    ///
    /// # Errors
    /// Why it did not start.
    pub async fn start(doubles: &Doubles, setup: &Setup) -> Result<Self, String> {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let text = |error: std::io::Error| error.to_string();
        let folder = tempfile::tempdir().map_err(text)?;
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config/llm.toml");
        let mut toml = std::fs::read_to_string(&shipped).map_err(text)?;
        for line in &setup.lines {
            toml = replaced(&toml, line)?;
        }
        std::fs::write(folder.path().join("llm.toml"), toml).map_err(text)?;
        let keys = folder.path().join("keys");
        std::fs::write(&keys, llm_router::keys::line("operator", OWN_KEY)).map_err(text)?;
        let mut vars = doubles.vars();
        vars.insert("SWARM_LLM_KEYS_FILE".to_owned(), keys.display().to_string());
        vars.extend(setup.redis_url.iter().map(|url| ("SWARM_REDIS_URL".to_owned(), url.clone())));
        let (running, address) = match &setup.program {
            Some(program) => there(program, folder.path(), &vars).await?,
            None => here(folder.path(), vars).await?,
        };
        Ok(Self { client: Client::new(&format!("http://{address}"))?, running, folder })
    }

    /// Kills the process (SIGKILL) and waits for its end.
    ///
    /// # Errors
    /// It is no process of its own, or could not be killed.
    pub async fn kill(&mut self) -> Result<(), String> {
        match &mut self.running {
            Running::There(child) => child.kill().await.map_err(|error| error.to_string()),
            Running::Here(..) => Err("the service has no process of its own".to_owned()),
        }
    }

    /// The settings it runs with.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if let Running::Here(stop, served) = &self.running {
            stop.cancel();
            served.abort();
        }
    }
}

async fn here(folder: &Path, vars: BTreeMap<String, String>) -> Result<(Running, String), String> {
    let stop = CancellationToken::new();
    let (tell, told) = oneshot::channel();
    let (until, config_dir) = (stop.clone(), folder.to_owned());
    let served = tokio::spawn(async move {
        let opened = |address| {
            let _ = tell.send(address);
        };
        llm_router::standalone::run(&vars, &config_dir, until, opened).await
    });
    match told.await {
        Ok(address) => Ok((Running::Here(stop, served), address.to_string())),
        Err(_) => Err(format!("the service did not start: {:?}", served.await)),
    }
}

async fn there(program: &Path, folder: &Path, vars: &BTreeMap<String, String>) -> Result<(Running, String), String> {
    let ready = folder.join("ready");
    let mut command = Command::new(program);
    command.arg("serve").arg("--config-dir").arg(folder).arg("--ready-file").arg(&ready);
    command.env_clear().envs(vars).kill_on_drop(true);
    let mut child = command.spawn().map_err(|error| format!("{}: {error}", program.display()))?;
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        if let Ok(address) = std::fs::read_to_string(&ready)
            && !address.is_empty()
        {
            return Ok((Running::There(Box::new(child)), address));
        }
        if let Ok(Some(status)) = child.try_wait() {
            return Err(format!("the service ended at once: {status}"));
        }
        if tokio::time::Instant::now() > deadline {
            return Err("the service did not open its port".to_owned());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Serves the router in this process, until it is killed or told to stop.
///
/// # Errors
/// What is wrong with the settings or the port.
pub async fn serve_here(config_dir: &Path, ready_file: &Path) -> Result<(), String> {
    let stop = CancellationToken::new();
    let stopping = stop.clone();
    tokio::spawn(async move {
        let _ = tokio::signal::ctrl_c().await;
        stopping.cancel();
    });
    let vars = std::env::vars().collect();
    let opened = |address: std::net::SocketAddr| {
        // Whole or not at all: whoever waits reads it as soon as it is there.
        let half = ready_file.with_extension("half");
        let written = std::fs::write(&half, address.to_string()).and_then(|()| std::fs::rename(&half, ready_file));
        if let Err(error) = written {
            eprintln!("{}: {error}", ready_file.display());
        }
    };
    llm_router::standalone::run(&vars, config_dir, stop, opened).await
}

/// The text with one line of one section replaced.
fn replaced(toml: &str, (section, name, value): &Line) -> Result<String, String> {
    let head = format!("\n[{section}]\n");
    let missing = || format!("llm.toml has no {name} in [{section}]");
    let from = toml.find(&head).ok_or_else(missing)? + head.len();
    let until = toml[from..].find("\n[").map_or(toml.len(), |at| from + at);
    let start = toml[..until]
        .match_indices(&format!("{name} ="))
        .map(|(at, _)| at)
        .find(|at| *at >= from && toml[..*at].ends_with('\n'))
        .ok_or_else(missing)?;
    let end = toml[start..].find('\n').map_or(toml.len(), |at| start + at);
    Ok(format!("{}{name} = {value}{}", &toml[..start], &toml[end..]))
}

/// Lines that make a tier's patience short: first content, stillness, whole, all in ms.
#[must_use]
pub fn patience(section: &'static str, first_token_ms: u64, idle_ms: u64, total_ms: u64) -> Vec<Line> {
    vec![
        (section, "first_token_ms", first_token_ms.to_string()),
        (section, "idle_ms", idle_ms.to_string()),
        (section, "total_ms", total_ms.to_string()),
    ]
}

/// Lines that lift every quota of a tier, for checks that ask more than an account may.
#[must_use]
pub fn without_quota(section: &'static str) -> Vec<Line> {
    let zero = ["requests_per_minute", "requests_per_day", "tokens_per_minute", "tokens_per_day", "buffer_requests"];
    zero.map(|name| (section, name, "0".to_owned())).to_vec()
}

/// The line that names the chain of `trading-llm`.
#[must_use]
pub fn chain(tiers: &[&str]) -> Line {
    ("alias.trading-llm", "tiers", format!("{tiers:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_line_of_the_section_is_replaced() {
        let toml = "\n[a]\nx = 1 # one\nxx = 2\n\n[b]\nx = 3\n";
        let with = |section, name| replaced(toml, &(section, name, "9".to_owned()));
        assert_eq!(with("b", "x").unwrap(), "\n[a]\nx = 1 # one\nxx = 2\n\n[b]\nx = 9\n");
        assert_eq!(with("a", "x").unwrap(), "\n[a]\nx = 9\nxx = 2\n\n[b]\nx = 3\n");
        assert!(with("a", "y").is_err() && with("b", "xx").is_err() && with("c", "x").is_err());
    }
}
