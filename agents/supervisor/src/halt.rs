//! Raising the kill level. A raise is in force before the database is asked: it stands in memory and in the synced file,
//! and everybody was told, when it is written down as a row with its entry in the governance chain. When the database is
//! away the row follows as soon as it is back, also after this process was killed in between, because the file says what is
//! not written down yet.
//!
//! Nothing here needs a model, a price, a ledger or Telegram.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use domain::message::{HaltChanged, Message};
use domain::time::UnixMs;
use futures::future::{Either, select};
use rails::kill::{KillCopy, effective, without_database};
use runtime::kill::{Raise, Way, Wish};
use runtime::{HandleError, Means, Work, kill};
use tokio::signal::unix::{SignalKind, signal};

use crate::services::nobody;
use crate::{NAME, Shared, gateway};

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How often the row is read; sooner after something was raised.
const READ_EVERY: Duration = Duration::from_secs(2);
/// Before what could not be written down is tried again.
const RETRY_AFTER: Duration = Duration::from_millis(500);
/// The longest try to write down.
const RECORD_BOUND: Duration = Duration::from_secs(5);
/// How long a person waits for the record, ms; then they are told that it follows.
const RECORD_WITHIN_MS: u64 = 1_000;
/// How long everybody is told before the record is turned to, ms; it tells them again.
const TELL_WITHIN_MS: u64 = 400;

/// What this process knows of the kill level besides the file.
#[derive(Debug, Default)]
pub struct Lever {
    memory: Mutex<Memory>,
    /// One writer of the record at a time. No raise waits for it.
    turn: tokio::sync::Mutex<()>,
    raised: tokio::sync::Notify,
}

#[derive(Debug, Default)]
struct Memory {
    latched: Option<KillCopy>,
    last_row: Option<KillCopy>,
    /// Raises that the file could not take.
    unwritten: Vec<Raise>,
    /// Level and epoch of what everybody was told.
    told: BTreeSet<(u8, i64)>,
}

/// What came of a wish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Raised {
    /// Level and epoch that are in force.
    pub copy: KillCopy,
    /// It is in force because of this wish; `false`: it was as high before.
    pub is_new: bool,
    /// It is in the record; `false`: the record follows.
    pub is_recorded: bool,
}

impl Lever {
    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The level by all copies: at least 1 until the database was read once.
#[must_use]
pub(crate) fn standing(file: &Path, lever: &Lever) -> KillCopy {
    let memory = lever.memory();
    let copies = [kill::read_whole(file).map(|file| file.after(memory.last_row))];
    let others: Vec<_> = copies.into_iter().chain(memory.latched.map(Some)).collect();
    let reading = match memory.last_row {
        None => without_database(None, &others),
        row => effective(row, &others),
    };
    let epoch = others.iter().flatten().map(|copy| copy.epoch).chain(memory.last_row.map(|row| row.epoch)).max();
    KillCopy { level: reading.level(), epoch: epoch.unwrap_or(0) }
}

/// Tells this process's own listeners what the level is now.
fn refresh(shared: &Shared) {
    let KillCopy { level, .. } = standing(&shared.kill_file, &shared.lever);
    metrics::gauge!("swarm_kill_level").set(f64::from(level));
    shared.level.send_if_modified(|known| std::mem::replace(known, level) != level);
}

/// Raises the level: first in memory, file and on the bus, then in the record. Waits about a second for the record.
pub async fn raise(shared: &Shared, work: &impl Means, wish: &Wish) -> Raised {
    let latched = latch(shared, wish, work.now());
    if latched.is_new {
        let halt = HaltChanged {
            level: latched.copy.level,
            epoch: latched.copy.epoch,
            by: wish.by.clone(),
            reason: wish.reason.clone(),
        };
        tell(shared, work, halt).await;
    }
    let recording = std::pin::pin!(record(shared, work));
    let patience = std::pin::pin!(work.pause(RECORD_WITHIN_MS));
    let is_recorded = match select(recording, patience).await {
        Either::Left((Ok(row), _)) => row.is_some_and(|row| !latched.copy.outranks(row)),
        Either::Left((Err(error), _)) => {
            tracing::warn!(%error, "the kill level is raised; the record follows");
            false
        }
        Either::Right(_) => false,
    };
    shared.lever.raised.notify_one();
    Raised { copy: latched.copy, is_new: latched.is_new, is_recorded }
}

/// Memory and file.
fn latch(shared: &Shared, wish: &Wish, now: UnixMs) -> kill::Latched {
    let (last_row, known) = {
        let memory = shared.lever.memory();
        (memory.last_row, memory.latched)
    };
    let latched = kill::latch(&shared.kill_file, wish, last_row, &[known], now);
    {
        let mut memory = shared.lever.memory();
        if memory.latched.is_none_or(|known| latched.copy.epoch > known.epoch) {
            memory.latched = Some(latched.copy);
        }
        if let (true, Err(error)) = (latched.is_new, &latched.written) {
            tracing::error!(%error, "the kill file could not be written; the level stands in memory and on the bus");
            memory.unwritten.push(Raise {
                level: wish.level,
                epoch: latched.copy.epoch,
                by: wish.by.clone(),
                way: wish.way,
                reason: wish.reason.clone(),
                at: now,
            });
        }
    }
    if latched.is_new {
        let (by, way, reason) = (wish.by.as_str(), wish.way.word(), wish.reason.as_str());
        tracing::warn!(level = latched.copy.level, epoch = latched.copy.epoch, by, way, reason, "kill level raised");
        metrics::counter!("swarm_kill_raised_total", "way" => way).increment(1);
    }
    refresh(shared);
    latched
}

/// Publishes at once, not by the outbox: that needs the database.
async fn tell(shared: &Shared, work: &impl Means, halt: HaltChanged) {
    let key = (halt.level, halt.epoch);
    let telling = std::pin::pin!(work.emit(nobody(), vec![gateway::told(halt)]));
    let patience = std::pin::pin!(work.pause(TELL_WITHIN_MS));
    match select(telling, patience).await {
        Either::Left((Ok(()), _)) => drop(shared.lever.memory().told.insert(key)),
        Either::Left((Err(error), _)) => tracing::warn!(%error, "the raise is told again with its record"),
        Either::Right(_) => tracing::warn!("no stream took the raise in time; it is told again with its record"),
    }
}

/// What is in force and not in the record, when `row` is the newest there.
fn unrecorded(shared: &Shared, row: Option<KillCopy>, now: UnixMs) -> Vec<Raise> {
    let file = kill::read_whole(&shared.kill_file);
    let mut raises = file.as_ref().map_or_else(Vec::new, |file| file.unrecorded.clone());
    raises.extend(shared.lever.memory().unwritten.iter().cloned());
    let nothing = KillCopy { level: 0, epoch: 0 };
    if let Some(file) = file.filter(|file| raises.is_empty() && file.copy.outranks(row.unwrap_or(nothing))) {
        raises.push(Raise::unknown(file.copy, now));
    }
    raises
}

/// Writes down what the record does not know, and brings the file up to the record. Gives the newest row.
///
/// # Errors
/// Store failures.
pub async fn record(shared: &Shared, work: &impl Means) -> Result<Option<KillCopy>, HandleError> {
    let _turn = shared.lever.turn.lock().await;
    write_down(shared, work).await
}

/// The caller holds the turn.
async fn write_down(shared: &Shared, work: &impl Means) -> Result<Option<KillCopy>, HandleError> {
    let mut unit = work.begin(nobody()).await?;
    let found = store::kill::current(&mut unit).await?.map(|kill| KillCopy { level: kill.level, epoch: kill.epoch });
    let raises = unrecorded(shared, found, work.now());
    let row = if raises.is_empty() {
        unit.rollback().await?;
        found
    } else {
        let (row, halts) = gateway::record(&mut unit, &raises).await?;
        let untold = |halt: &HaltChanged| !shared.lever.memory().told.contains(&(halt.level, halt.epoch));
        let out: Vec<Message> = halts.into_iter().filter(untold).map(gateway::told).collect();
        work.commit(unit, nobody(), out).await?;
        row
    };
    if let Some(row) = row {
        follow(shared, row, &raises);
    }
    Ok(row)
}

/// The database's row is `row`, and `done` is in it.
fn follow(shared: &Shared, row: KillCopy, done: &[Raise]) {
    {
        let mut memory = shared.lever.memory();
        memory.last_row = Some(row);
        memory.unwritten.retain(|raise| !done.contains(raise));
        memory.told.retain(|(_, epoch)| *epoch >= row.epoch);
    }
    // One that can't be read counts as level 1 until somebody acts: that is not ours to undo.
    let is_readable = kill::read_file(&shared.kill_file).is_some();
    if (is_readable || !done.is_empty())
        && let Err(error) = kill::settle(&shared.kill_file, row, done)
    {
        tracing::error!(%error, "the kill file could not be written; a copy that can't be read counts as level 1");
    }
    refresh(shared);
}

/// Lowers the level by a signed act. What was raised without the database is written down first: nobody lowers what they
/// can't have seen.
///
/// # Errors
/// Store failures; a refusal is an answer.
pub async fn lower(
    shared: &Shared,
    work: &impl Means,
    signed: &domain::person::SignedAct,
) -> Result<Result<HaltChanged, crate::answer::Refused>, HandleError> {
    let _turn = shared.lever.turn.lock().await;
    write_down(shared, work).await?;
    let mut unit = work.begin(nobody()).await?;
    let (halt, out) = match gateway::lower(&mut unit, signed).await? {
        Err(refused) => return Ok(Err(refused)),
        Ok(lowered) => lowered,
    };
    work.commit(unit, nobody(), out).await?;
    let row = KillCopy { level: halt.level, epoch: halt.epoch };
    // A person acted: a file that could not be read is made anew.
    if kill::read_file(&shared.kill_file).is_none()
        && let Err(error) = kill::settle(&shared.kill_file, row, &[])
    {
        tracing::error!(%error, "the kill file could not be written; a copy that can't be read counts as level 1");
    }
    follow(shared, row, &[]);
    Ok(Ok(halt))
}

/// Takes up files `halt`, hears signals, and writes down what is not in the record, until shutdown.
///
/// # Errors
/// [`HandleError::Fatal`] when signals can't be heard.
pub async fn run(shared: Arc<Shared>, work: Work) -> Result<(), HandleError> {
    tokio::try_join!(hear(&shared, &work), watch(&shared, &work), keep(&shared, &work))?;
    Ok(())
}

/// SIGUSR1 is level 1, SIGUSR2 level 2.
async fn hear(shared: &Shared, work: &Work) -> Result<(), HandleError> {
    let listen = |kind| signal(kind).map_err(|error| HandleError::Fatal(format!("signals can't be heard: {error}")));
    let (mut first, mut second) = (listen(SignalKind::user_defined1())?, listen(SignalKind::user_defined2())?);
    loop {
        let (level, name) = tokio::select! {
            () = work.shutdown.cancelled() => return Ok(()),
            Some(()) = first.recv() => (1, "SIGUSR1"),
            Some(()) = second.recv() => (2, "SIGUSR2"),
        };
        let wish =
            Wish { level, by: "signal".to_owned(), way: Way::Signal, reason: format!("{name} to the supervisor") };
        raise(shared, work, &wish).await;
    }
}

/// Looks at the files.
async fn watch(shared: &Shared, work: &Work) -> Result<(), HandleError> {
    let mut ticks = runtime::grid(LOOK_EVERY);
    loop {
        tokio::select! {
            () = work.shutdown.cancelled() => return Ok(()),
            _ = ticks.tick() => {}
        }
        take_wish(shared, work).await;
        tell_others_raises(shared, work).await;
        refresh(shared);
    }
}

/// Raises by a file `halt` and lays it aside once it is latched. A wish that can't be latched in the file stays, because
/// then it is the only copy on disk.
pub async fn take_wish(shared: &Shared, work: &impl Means) {
    while let Some(level) = kill::wished(&shared.kill_file) {
        let wish = Wish { level, by: "file".to_owned(), way: Way::File, reason: "a file `halt`".to_owned() };
        let raised = raise(shared, work, &wish).await;
        if kill::wished(&shared.kill_file) != Some(level) {
            continue;
        }
        let is_on_disk = kill::read_file(&shared.kill_file).is_some_and(|file| file.level >= level);
        if !is_on_disk {
            return;
        }
        let (from, to) = (kill::wish_path(&shared.kill_file), taken_path(&shared.kill_file, raised.copy.epoch));
        if let Err(error) = std::fs::rename(&from, &to) {
            tracing::error!(%error, file = %from.display(), "take this file away: it raises the kill level again and again");
            return;
        }
    }
}

fn taken_path(kill_file: &Path, epoch: i64) -> PathBuf {
    kill_file.with_file_name(format!("halt.taken-{epoch}"))
}

/// Somebody else wrote the file: a desk that took up a wish, or a person whom we did not answer. They can tell nobody.
async fn tell_others_raises(shared: &Shared, work: &impl Means) {
    let Some(file) = kill::read_whole(&shared.kill_file) else { return };
    for raise in file.unrecorded {
        let is_told = shared.lever.memory().told.contains(&(file.copy.level, raise.epoch));
        if is_told || raise.epoch != file.copy.epoch {
            continue;
        }
        {
            let mut memory = shared.lever.memory();
            memory.latched = Some(file.copy);
        }
        let halt = HaltChanged { level: file.copy.level, epoch: raise.epoch, by: raise.by, reason: raise.reason };
        tell(shared, work, halt).await;
        shared.lever.raised.notify_one();
    }
}

/// Reads the record, and writes down what is missing there.
async fn keep(shared: &Shared, work: &Work) -> Result<(), HandleError> {
    loop {
        let is_done = match tokio::time::timeout(RECORD_BOUND, record(shared, work)).await {
            Ok(Ok(_)) => true,
            Ok(Err(HandleError::Fatal(text))) => return Err(HandleError::Fatal(text)),
            Ok(Err(error)) => {
                tracing::debug!(%error, "the kill level will be compared with the record again");
                false
            }
            Err(_) => false,
        };
        let pause = if is_done { READ_EVERY } else { RETRY_AFTER };
        tokio::select! {
            () = work.shutdown.cancelled() => return Ok(()),
            () = shared.lever.raised.notified() => tokio::time::sleep(RETRY_AFTER.min(pause) / 5).await,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// A raise by the supervisor itself.
#[must_use]
pub fn own_wish(level: u8, reason: String) -> Wish {
    Wish { level, by: NAME.to_owned(), way: Way::Supervisor, reason }
}
