//! A whole swarm on a stage: `swarm up` as a child process on a scripted market and a data folder of its own, with
//! people who stand at their own doors. The demo plays its scenes on it and asserts what came of them.
//!
//! Nothing here has a way of its own into the swarm: signals go through each person's NATS door under their NKEY, votes
//! are signed with the operator's key, results are read from the services and the audit tables that people have.

mod folder;
mod story;

use std::collections::BTreeMap;
use std::fs::File;
use std::path::PathBuf;
use std::process::Command as Process;
use std::time::Duration;

use domain::ids::{MessageId, UserId};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use servers::{Child, Launch};
use store::Db;
use tokio::time::Instant;

use crate::people::audit::Auditor;
use crate::people::{self, Connection, Files, PeopleError};

pub use story::{Event, Story, amount};

/// How long a swarm may take from nothing to ready.
const READY_WITHIN: Duration = Duration::from_secs(120);
/// How long `swarm up` gets to drain and stop.
const STOP_WITHIN: Duration = Duration::from_secs(40);
/// Bound of every wait for something that takes milliseconds on an idle machine.
const SOON: Duration = Duration::from_secs(20);
/// How often a condition is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(30);

/// Who takes part, with what in their account.
#[derive(Debug, Clone, Copy)]
pub struct Player {
    /// Short name.
    pub handle: &'static str,
    /// Opening balance in dollars.
    pub opening_usd: &'static str,
}

/// What a stage is opened with.
#[derive(Debug, Clone)]
pub struct StageOptions {
    /// Its data folder; emptied at the start unless `keep`.
    pub folder: PathBuf,
    /// Folder of limits, strategies and the like.
    pub config_dir: PathBuf,
    /// Everybody besides the operator.
    pub players: Vec<Player>,
    /// Go on with what the folder holds.
    pub keep: bool,
}

/// Why a scene did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    /// What happened is not what must happen.
    #[error("{0}")]
    Differs(String),
    /// It did not happen in time.
    #[error("not within {} s: {what}", bound.as_secs())]
    TimedOut {
        /// What was waited for.
        what: String,
        /// How long.
        bound: Duration,
    },
    /// A file or folder.
    #[error("{}: {text}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        text: String,
    },
    /// `swarm up` did not start, or ended.
    #[error("{0}")]
    Up(String),
    /// The swarm did not answer.
    #[error(transparent)]
    People(#[from] PeopleError),
    /// The database, under the administrator's login.
    #[error("database: {0}")]
    Store(#[from] store::StoreError),
    /// The process of `swarm up`.
    #[error(transparent)]
    Servers(#[from] servers::ServersError),
}

impl StageError {
    pub(crate) fn file(path: &std::path::Path, error: impl std::fmt::Display) -> Self {
        Self::File { path: path.to_owned(), text: error.to_string() }
    }
}

/// Passes when it holds; else the scene differs from what it must be.
///
/// # Errors
/// [`StageError::Differs`].
pub fn must(holds: bool, what: impl FnOnce() -> String) -> Result<(), StageError> {
    if holds { Ok(()) } else { Err(StageError::Differs(what())) }
}

/// A running swarm. Dropping it stops it.
pub struct Stage {
    up: Child,
    files: Files,
    operator: Connection,
    doors: BTreeMap<&'static str, Connection>,
    auditor: Auditor,
    folder: PathBuf,
    next_signal: std::sync::atomic::AtomicU32,
    run: uuid::Uuid,
    _lock: File,
}

impl Stage {
    /// Starts a swarm and opens everybody's door.
    ///
    /// # Errors
    /// [`StageError`].
    pub async fn open(options: &StageOptions) -> Result<Self, StageError> {
        let (folder, lock) = folder::take(&options.folder, options.keep)?;
        let people = folder::write_people(&folder, &options.players)?;
        let ready_file = folder.join("ready.json");
        let up = start(options, &folder, &people, &ready_file)?;
        let mut up = up;
        wait_ready(&mut up, &ready_file).await?;
        let files = Files::load(&folder)?;
        let operator = Connection::open(&files).await?;
        let mut doors = BTreeMap::new();
        for player in &options.players {
            let own = Files {
                nkey_file: folder.join("secrets").join(format!("person-{}.nk", player.handle)),
                person_id: player.handle.to_owned(),
                ..files.clone()
            };
            doors.insert(player.handle, Connection::open(&own).await?);
        }
        let auditor = Auditor::open(&files).await?;
        let run = runtime::clock::new_id(&runtime::clock::SystemClock);
        Ok(Self { up, files, operator, doors, auditor, folder, next_signal: 1.into(), run, _lock: lock })
    }

    /// Its data folder.
    #[must_use]
    pub fn folder(&self) -> &std::path::Path {
        &self.folder
    }

    /// Drains and stops the swarm.
    ///
    /// # Errors
    /// [`StageError::Up`] when it had to be killed or did not end well.
    pub fn close(mut self) -> Result<(), StageError> {
        let ended = self.up.stop(STOP_WITHIN)?;
        let status = self.up.try_wait()?;
        if ended && status.is_some_and(|status| status.success()) {
            return Ok(());
        }
        Err(StageError::Up(format!("`swarm up` did not stop well ({status:?}); see {}", self.up.log().display())))
    }

    /// What a person at the operator's terminal does.
    ///
    /// # Errors
    /// [`StageError::People`]; a no is an answer.
    pub async fn ask(&self, command: &people::Command) -> Result<Value, StageError> {
        Ok(people::perform(&self.operator, &self.files, command).await?)
    }

    /// Publishes a buy through a person's own door.
    ///
    /// # Errors
    /// See [`Stage::publish`].
    pub async fn buy(&self, handle: &str, symbol: &str, usd: &str) -> Result<MessageId, StageError> {
        self.publish(handle, &json!({ "action": "BUY", "token_address": symbol, "notional_usd": usd })).await
    }

    /// Publishes the sale of everything held through a person's own door.
    ///
    /// # Errors
    /// See [`Stage::publish`].
    pub async fn sell_all(&self, handle: &str, symbol: &str) -> Result<MessageId, StageError> {
        self.publish(handle, &json!({ "action": "SELL", "token_address": symbol, "amount": "all" })).await
    }

    /// Publishes a signal through a person's own door and waits until the stream has stored it.
    ///
    /// # Errors
    /// [`StageError::Differs`] when the stream did not take it.
    pub async fn publish(&self, handle: &str, signal: &Value) -> Result<MessageId, StageError> {
        let number = self.next_signal.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let key = format!("{}-{number}", self.run);
        let door = self.doors.get(handle).ok_or_else(|| StageError::Differs(format!("{handle} has no door")))?;
        let subject = format!("trading.buy_bot.signal-{handle}.critical");
        let stored = door.request_with_id(&subject, signal, Some(&key)).await?;
        must(stored["seq"].as_u64().is_some(), || format!("the stream did not store the signal: {stored}"))?;
        Ok(MessageId::of_person(UserId::of_handle(handle), &format!("id:{key}")))
    }

    /// Waits until a signal was decided.
    ///
    /// # Errors
    /// [`StageError`].
    pub async fn decided(&self, signal: MessageId) -> Result<Story, StageError> {
        self.told(signal, "a decision", Story::is_decided).await
    }

    /// Waits until the order of a signal is over and posted to the ledger.
    ///
    /// # Errors
    /// [`StageError::Differs`] at once when it was refused or waits for a human.
    pub async fn over(&self, signal: MessageId) -> Result<Story, StageError> {
        let story = self.decided(signal).await?;
        story.must_be("permitted", None)?;
        self.told(signal, "the outcome of its order", Story::is_over).await
    }

    /// Waits until the audit chain of a signal says something.
    ///
    /// # Errors
    /// [`StageError`].
    pub async fn told(
        &self,
        signal: MessageId,
        what: &str,
        enough: impl Fn(&Story) -> bool,
    ) -> Result<Story, StageError> {
        let id = signal.to_string();
        self.wait_for(&format!("{what} of signal {id}"), async || {
            let answer = self.auditor.explain(&id).await?;
            Ok(Story::of(&answer).filter(|story| enough(story)))
        })
        .await
    }

    /// Sends a price of the scripted market somewhere, and waits until every process has had a later price to hear.
    ///
    /// # Errors
    /// [`StageError`].
    pub async fn steer(&self, symbol: &str, price: &str) -> Result<(), StageError> {
        let answer = self.operator.request("swarm.market", &json!({ "symbol": symbol, "price": price })).await?;
        must(answer["ok"] == true, || format!("the market can't be steered: {answer}"))?;
        let mut last_age_ms = None;
        self.wait_for(&format!("{symbol} at {price}"), async || {
            let Some((mark, age_ms)) = self.mark(symbol).await? else { return Ok(None) };
            if mark != price {
                return Ok(None);
            }
            // Younger than before: one more tick at this price went to everybody since the first was seen here.
            let later = last_age_ms.is_some_and(|last| age_ms < last);
            last_age_ms = Some(age_ms);
            Ok(later.then_some(()))
        })
        .await
    }

    async fn mark(&self, symbol: &str) -> Result<Option<(String, i64)>, StageError> {
        let status = self.ask(&people::Command::Status).await?;
        let rows = status["market"].as_array().cloned().unwrap_or_default();
        let row = rows.iter().find(|row| row["instrument"].as_str().is_some_and(|name| name.ends_with(symbol)));
        Ok(row.and_then(|row| Some((row["mark"].as_str()?.to_owned(), row["age_ms"].as_i64()?))))
    }

    /// A person's ledger as the swarm shows it.
    ///
    /// # Errors
    /// [`StageError`].
    pub async fn ledger(&self, handle: &str) -> Result<Value, StageError> {
        let answer = self.ask(&people::Command::Positions { user: handle.to_owned() }).await?;
        must(answer["user"] == handle, || format!("no ledger of {handle}: {answer}"))?;
        Ok(answer)
    }

    /// What `swarm audit verify` says.
    ///
    /// # Errors
    /// [`StageError`].
    pub async fn verify(&self) -> Result<Value, StageError> {
        Ok(self.auditor.verify().await?)
    }

    /// The database under the login of its administrator, which no process of the swarm has.
    ///
    /// # Errors
    /// [`StageError`].
    pub async fn administrator(&self) -> Result<Db, StageError> {
        let path = self.folder.join("secrets").join("admin.url");
        let url = std::fs::read_to_string(&path).map_err(|error| StageError::file(&path, error))?;
        Ok(Db::connect(url.trim(), "swarm_stage").await?)
    }

    /// Waits, with a bound, until a look gives something.
    ///
    /// # Errors
    /// [`StageError::TimedOut`], or what the look failed with.
    pub async fn wait_for<T>(
        &self,
        what: &str,
        mut look: impl AsyncFnMut() -> Result<Option<T>, StageError>,
    ) -> Result<T, StageError> {
        let deadline = Instant::now() + SOON;
        loop {
            if let Some(found) = look().await? {
                return Ok(found);
            }
            if Instant::now() > deadline {
                return Err(StageError::TimedOut { what: what.to_owned(), bound: SOON });
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

fn start(
    options: &StageOptions,
    folder: &std::path::Path,
    people: &std::path::Path,
    ready_file: &std::path::Path,
) -> Result<Child, StageError> {
    let own = std::env::current_exe().map_err(|error| StageError::Up(format!("this program has no path: {error}")))?;
    let mut command = Process::new(own);
    command.arg("--data-dir").arg(folder).args(["up", "--market", "scripted"]);
    command
        .arg("--config-dir")
        .arg(&options.config_dir)
        .arg("--people")
        .arg(people)
        .arg("--ready-file")
        .arg(ready_file);
    Ok(servers::spawn(Launch {
        command,
        name: "swarm up".to_owned(),
        log: folder.join("up.log"),
        stop_signal: Signal::SIGTERM,
        death_signal: Signal::SIGTERM,
    })?)
}

async fn wait_ready(up: &mut Child, ready_file: &std::path::Path) -> Result<(), StageError> {
    let deadline = Instant::now() + READY_WITHIN;
    while !ready_file.exists() {
        if let Some(status) = up.try_wait()? {
            let told = std::fs::read_to_string(up.log()).unwrap_or_default();
            let last: Vec<&str> = told.lines().rev().take(3).collect();
            return Err(StageError::Up(format!("`swarm up` ended ({status}): {}", last.join(" / "))));
        }
        if Instant::now() > deadline {
            return Err(StageError::TimedOut { what: "swarm up is ready".to_owned(), bound: READY_WITHIN });
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(())
}
