//! The swarm under measurement: `swarm up` as people start it, with many people and a venue that answers at once.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;
use servers::{Child, Launch};
use store::Db;
use swarm::people::Files;
use tokio::time::Instant;

use crate::Arguments;
use crate::bench_error::BenchError;
use crate::chat::Chat;

/// In every folder that a run may empty.
const MARKER: &str = "bench";
const READY_WITHIN: Duration = Duration::from_secs(120);
const STOP_WITHIN: Duration = Duration::from_secs(40);
const LOOK_EVERY: Duration = Duration::from_millis(30);
const OPENING_USD: &str = "100000";

/// Empties and takes the folder of all measurements; one that no run made is left alone.
///
/// # Errors
/// [`BenchError::File`].
pub fn take_folder(folder: &Path) -> Result<PathBuf, BenchError> {
    let wrap = |error| BenchError::file(folder, error);
    std::fs::create_dir_all(folder).map_err(wrap)?;
    let marker = folder.join(MARKER);
    let is_empty = std::fs::read_dir(folder).map_err(wrap)?.next().is_none();
    if !is_empty && !marker.exists() {
        return Err(BenchError::file(folder, "holds something that no benchmark made; name another folder"));
    }
    std::fs::remove_dir_all(folder).map_err(wrap)?;
    std::fs::create_dir_all(folder).map_err(wrap)?;
    std::fs::write(&marker, "Made by a benchmark, which empties this folder at its start.\n").map_err(wrap)?;
    folder.canonicalize().map_err(wrap)
}

/// A running swarm. Dropping it stops it.
pub struct Swarm {
    up: Child,
    data: PathBuf,
    /// How people reach it.
    pub files: Files,
    /// Short names of the people at their doors.
    pub handles: Vec<String>,
    /// The ledger as its administrator sees it.
    pub admin: Db,
}

impl Swarm {
    /// Starts it with so many people, strategies off and its line to Telegram in `chat`, and waits until it is ready.
    ///
    /// # Errors
    /// [`BenchError`].
    pub async fn start(
        arguments: &Arguments,
        folder: &Path,
        people: usize,
        chat: Option<&Chat>,
    ) -> Result<Self, BenchError> {
        std::fs::create_dir_all(folder).map_err(|error| BenchError::file(folder, error))?;
        let config = copy_config(&arguments.config_dir, &folder.join("config"))?;
        let handles: Vec<String> = (0..people).map(|number| format!("person{number}")).collect();
        let people = write_people(folder, &handles)?;
        let (data, ready_file) = (folder.join("data"), folder.join("ready.json"));
        let mut command = Command::new(swarm_program()?);
        command.arg("--data-dir").arg(&data).args(["up", "--market", "builtin"]);
        command.arg("--config-dir").arg(&config).arg("--people").arg(&people).arg("--ready-file").arg(&ready_file);
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("TELEGRAM_")) {
            // The bot of whoever measures is not asked.
            command.env_remove(name);
        }
        command.envs(chat.map(Chat::environment).into_iter().flatten());
        eprintln!("starting a swarm with {} people", handles.len());
        let mut up = servers::spawn(Launch {
            command,
            name: "swarm up".to_owned(),
            log: folder.join("up.log"),
            stop_signal: Signal::SIGTERM,
            death_signal: Signal::SIGTERM,
        })?;
        wait_ready(&mut up, &ready_file).await?;
        let files = Files::load(&data).map_err(|error| BenchError::Broken(error.to_string()))?;
        let url_file = data.join("secrets").join("admin.url");
        let url = std::fs::read_to_string(&url_file).map_err(|error| BenchError::file(&url_file, error))?;
        let admin = Db::connect(url.trim(), "bench").await?;
        Ok(Self { up, data, files, handles, admin })
    }

    /// The paper exchange's journal.
    pub fn journal(&self) -> PathBuf {
        self.data.join("data/paper/paper.journal")
    }

    /// The key of a person's door.
    pub fn nkey_file(&self, handle: &str) -> PathBuf {
        self.data.join("secrets").join(format!("person-{handle}.nk"))
    }

    /// Its first process.
    pub fn pid(&self) -> u32 {
        self.up.pid()
    }

    /// Drains and stops it.
    ///
    /// # Errors
    /// [`BenchError::Broken`] when it had to be killed.
    pub fn stop(mut self) -> Result<(), BenchError> {
        if self.up.stop(STOP_WITHIN)? {
            return Ok(());
        }
        Err(BenchError::Broken(format!("`swarm up` did not stop by itself; see {}", self.up.log().display())))
    }
}

/// `swarm` beside this program.
///
/// # Errors
/// [`BenchError::File`] with what to do.
pub fn swarm_program() -> Result<PathBuf, BenchError> {
    let own =
        std::env::current_exe().map_err(|error| BenchError::Broken(format!("this program has no path: {error}")))?;
    let program = own.with_file_name("swarm");
    if program.is_file() {
        return Ok(program);
    }
    Err(BenchError::file(&program, "not built: `cargo build --release --workspace --bins` (or `make bench`)"))
}

/// The shipped configuration with two differences: strategies don't trade, and the paper exchange thinks for no time,
/// because its thinking is not ours to measure.
fn copy_config(from: &Path, to: &Path) -> Result<PathBuf, BenchError> {
    std::fs::create_dir_all(to).map_err(|error| BenchError::file(to, error))?;
    for entry in std::fs::read_dir(from).map_err(|error| BenchError::file(from, error))? {
        let path = entry.map_err(|error| BenchError::file(from, error))?.path();
        let Some(name) = path.file_name() else { continue };
        if path.is_file() {
            std::fs::copy(&path, to.join(name)).map_err(|error| BenchError::file(&path, error))?;
        }
    }
    change(&to.join("desk.toml"), |table| {
        let paper = table.get_mut("paper")?.as_table_mut()?;
        paper.insert("latency_ms".to_owned(), toml::Value::Array(vec![0.into(), 0.into()]))
    })?;
    change(&to.join("strategies.toml"), |table| table.insert("enabled".to_owned(), false.into()))?;
    Ok(to.to_owned())
}

/// Replaces a setting that must be there.
pub fn change(path: &Path, replace: impl Fn(&mut toml::Table) -> Option<toml::Value>) -> Result<(), BenchError> {
    let text = std::fs::read_to_string(path).map_err(|error| BenchError::file(path, error))?;
    let mut table: toml::Table = toml::from_str(&text).map_err(|error| BenchError::file(path, error.message()))?;
    replace(&mut table).ok_or_else(|| BenchError::file(path, "a setting that the benchmark changes is not there"))?;
    let text = toml::to_string(&table).map_err(|error| BenchError::file(path, error))?;
    std::fs::write(path, text).map_err(|error| BenchError::file(path, error))
}

fn write_people(folder: &Path, handles: &[String]) -> Result<PathBuf, BenchError> {
    let everybody = std::iter::once("operator").chain(handles.iter().map(String::as_str));
    let text: String = everybody
        .map(|handle| format!("[[person]]\nhandle = \"{handle}\"\nopening_balance_usd = \"{OPENING_USD}\"\n\n"))
        .collect();
    let path = folder.join("people.toml");
    std::fs::write(&path, text).map_err(|error| BenchError::file(&path, error))?;
    Ok(path)
}

/// Looks until there is something to see.
///
/// # Errors
/// What the look fails with; [`BenchError::TimedOut`].
pub async fn until<T>(
    bound: Duration,
    what: &str,
    mut look: impl AsyncFnMut() -> Result<Option<T>, BenchError>,
) -> Result<T, BenchError> {
    let deadline = Instant::now() + bound;
    loop {
        if let Some(found) = look().await? {
            return Ok(found);
        }
        if Instant::now() > deadline {
            return Err(BenchError::TimedOut { what: what.to_owned(), bound_s: bound.as_secs() });
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

async fn wait_ready(up: &mut Child, ready_file: &Path) -> Result<(), BenchError> {
    until(READY_WITHIN, "swarm up is ready", async || {
        if ready_file.exists() {
            return Ok(Some(()));
        }
        let Some(status) = up.try_wait()? else { return Ok(None) };
        let told = std::fs::read_to_string(up.log()).unwrap_or_default();
        let last: Vec<&str> = told.lines().rev().take(3).collect();
        Err(BenchError::Broken(format!("`swarm up` ended ({status}): {}", last.join(" / "))))
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_folder_that_a_run_made_is_emptied() {
        let parent = tempfile::tempdir().unwrap();
        let folder = take_folder(&parent.path().join("bench")).unwrap();
        std::fs::write(folder.join("old"), "x").unwrap();
        take_folder(&folder).unwrap();
        assert!(!folder.join("old").exists());
        let precious = parent.path().join("precious");
        std::fs::create_dir_all(&precious).unwrap();
        std::fs::write(precious.join("ledger"), "money").unwrap();
        assert!(take_folder(&precious).is_err());
        assert!(precious.join("ledger").exists());
    }

    #[test]
    fn the_shipped_configuration_has_the_settings_that_are_changed() {
        let folder = tempfile::tempdir().unwrap();
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config");
        let copy = copy_config(&shipped, &folder.path().join("config")).unwrap();
        let desk = std::fs::read_to_string(copy.join("desk.toml")).unwrap();
        let desk: toml::Table = toml::from_str(&desk).unwrap();
        assert_eq!(desk["paper"]["latency_ms"], toml::Value::Array(vec![0.into(), 0.into()]));
        assert!(!buy_bot::config::load(&copy).unwrap().strategies.enabled);
    }
}
