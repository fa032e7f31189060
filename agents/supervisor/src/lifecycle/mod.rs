//! Starting, watching, restarting and draining the agents (`spawn` mode).
//!
//! Every restart is counted whatever the uptime, but for those that an outage caused, in windows that are stored: a restart
//! of the supervisor resets nothing, and it adopts the agents that still run.

mod persons_start;
mod process;
mod registry;
pub mod windows;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use domain::ids::{BootId, UserId};
use domain::message::{Alert, Message, Payload, Severity};
use domain::subject::{Route, Subject};
use domain::time::UnixMs;
use runtime::{HandleError, Record, Work};
use serde::{Deserialize, Serialize};
use store::supervision::{Declared, Restart};
use tokio::time::Instant;

use persons_start::PersonsStart;
pub use process::Process;
pub use registry::Registry;

use crate::services::nobody;
use crate::{NAME, Shared};

/// Declared state of an agent that a person wants to run.
const RUNNING: &str = "running";
/// How often the processes are looked at while one is down or not our child; else a death is a signal.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How long a fact may take to be stored.
const TELL_WITHIN: Duration = Duration::from_secs(1);
/// An agent that was heard once and then not for this long is taken for hung.
const DEAF_AFTER: Duration = Duration::from_secs(30);
/// An agent that was never heard for this long after its start is taken for hung.
const STARTING_FOR: Duration = Duration::from_secs(60);
/// Before a program that could not be started is tried again.
const NOT_STARTED_PAUSE: Duration = Duration::from_secs(5);
/// After one that found its servers out of reach.
const UNREACHABLE_PAUSE: Duration = Duration::from_secs(1);
/// How long everybody but the money agents gets to drain, and then those.
const DRAIN_OTHERS: Duration = Duration::from_secs(5);
const DRAIN_MONEY: Duration = Duration::from_secs(4);
/// Drained last: they finish what others began.
const MONEY: [&str; 2] = ["treasury", "online_trading"];

/// What to run; written by `swarm up`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// The agents, in the order they are started.
    pub agents: Vec<PlannedAgent>,
    /// Where `<agent>.json` tells of the running process.
    pub run_dir: PathBuf,
}

/// One agent of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlannedAgent {
    /// Its name.
    pub name: String,
    /// Its program.
    pub program: PathBuf,
    /// Its whole environment besides `PATH`; nothing is inherited.
    pub env: BTreeMap<String, String>,
    /// Where its output goes.
    pub log: PathBuf,
}

/// Whether the agent that a note in `run_dir` tells of still runs.
#[must_use]
pub fn is_running(run_dir: &std::path::Path, name: &str) -> bool {
    Process::adopt(run_dir, name).is_some()
}

struct Slot {
    planned: PlannedAgent,
    process: Option<Process>,
    /// Not before.
    next_start: Instant,
    /// `None` until the store said whether it was quarantined before.
    quarantined: Option<bool>,
    /// How it ended, until that is counted: a database that is away for a moment must not lose a restart.
    uncounted: Option<String>,
}

impl Slot {
    /// Nothing is to be done for it until it dies, which the kernel tells.
    fn is_calm(&self) -> bool {
        self.process.as_ref().map_or(self.quarantined == Some(true), Process::is_child)
    }
}

/// Runs the plan until shutdown, then drains it.
///
/// # Errors
/// [`HandleError::Fatal`].
pub async fn run(plan: Plan, shared: Arc<Shared>, work: Work) -> Result<(), HandleError> {
    let mut slots = Vec::new();
    for planned in plan.agents {
        let process = Process::adopt(&plan.run_dir, &planned.name);
        if let Some(found) = &process {
            tracing::info!(process = planned.name, pid = found.pid(), "adopted");
            shared.registry.started(&planned.name, found.pid(), found.boot_id(), Instant::now());
        }
        let is_resumed = std::env::var_os("SWARM_RESUMED").is_some();
        let quarantined = (process.is_some() || !is_resumed).then_some(false);
        slots.push(Slot { planned, process, next_start: Instant::now(), quarantined, uncounted: None });
    }
    let watch = watch(&plan.run_dir, &mut slots, &shared, &work);
    tokio::select! {
        () = work.shutdown.cancelled() => {}
        ended = watch => ended?,
    }
    drain(&mut slots).await;
    Ok(())
}

/// Tells a fact. One that is not stored in time is only logged: the next one says it again.
async fn tell(work: &Work, route: Route, key: String, payload: Payload) {
    let root = work.root_header(nobody());
    let message = Message::fact(Subject::fact(route), UserId(uuid::Uuid::nil()), key, payload);
    let envelope = message.into_child(&root, NAME, work.clock.now());
    match tokio::time::timeout(TELL_WITHIN, work.bus.publish(&envelope)).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => tracing::warn!(%error, "fact not stored"),
        Err(_) => tracing::warn!("fact not stored in time"),
    }
}

async fn watch(run_dir: &std::path::Path, slots: &mut [Slot], shared: &Shared, work: &Work) -> Result<(), HandleError> {
    let mut deaths = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::child())
        .map_err(|error| HandleError::Fatal(format!("no signal of dead children: {error}")))?;
    let mut ticks = runtime::grid(runtime::USUALLY);
    let mut first = true;
    let is_resumed = std::env::var_os("SWARM_RESUMED").is_some();
    let mut start = (!is_resumed).then(PersonsStart::default);
    loop {
        if let Some(told) = &mut start {
            match told.store(slots, work).await {
                Ok(()) => start = None,
                Err(error) => tracing::warn!(%error, "earlier restarts still count"),
            }
        }
        let may_count = start.as_ref().is_none_or(|start| start.before.is_some());
        for slot in slots.iter_mut() {
            match look(run_dir, slot, shared, work, first, may_count).await {
                Ok(()) => {}
                Err(HandleError::Fatal(text)) => return Err(HandleError::Fatal(text)),
                // Beginning anew would forget pauses and quarantines.
                Err(error) => tracing::warn!(process = slot.planned.name, %error, "looked at again"),
            }
        }
        first = false;
        work.progress();
        let is_calm = start.is_none() && slots.iter().all(Slot::is_calm);
        tokio::select! {
            _ = deaths.recv() => {}
            _ = ticks.tick() => {}
            () = tokio::time::sleep(LOOK_EVERY), if !is_calm => {}
        }
    }
}

async fn look(
    run_dir: &std::path::Path,
    slot: &mut Slot,
    shared: &Shared,
    work: &Work,
    first: bool,
    may_count: bool,
) -> Result<(), HandleError> {
    let name = slot.planned.name.clone();
    let now = work.clock.now();
    let mut cause = "first".to_owned();
    if let Some(process) = &mut slot.process {
        match process.ended() {
            Some(how) => cause = how,
            None if shared.registry.is_hung(&name, Instant::now(), STARTING_FOR, DEAF_AFTER) => {
                tracing::error!(process = name, "no sign of life; killed");
                process.kill();
                cause = "hung".to_owned();
            }
            None => return Ok(()),
        }
        tracing::warn!(process = name, cause, "ended");
        slot.process = None;
        shared.registry.ended(&name, &cause);
        if !uses_up_a_restart(&cause) {
            slot.next_start = Instant::now() + UNREACHABLE_PAUSE;
            return Ok(());
        }
        slot.uncounted = Some(cause.clone());
    } else if let Some(uncounted) = &slot.uncounted {
        cause.clone_from(uncounted);
    } else if !work.bus.is_connected() {
        // Without the broker no agent can start; trying would only use up its restarts.
        return Ok(());
    } else if Instant::now() < slot.next_start || is_down(slot, work).await? {
        return Ok(());
    } else if !first {
        cause = "again".to_owned();
    }
    if cause != "first" {
        if !may_count {
            return Ok(());
        }
        let restarts = count(work, &name).await?;
        let times: Vec<i64> = restarts.iter().map(|r| r.at.0).collect();
        if let Some(window) = windows::breached(&times, now.0) {
            quarantine(slot, shared, work, window).await?;
            slot.uncounted = None;
            return Ok(());
        }
        if cause != "again" {
            slot.next_start = Instant::now() + pause(windows::pause_ms(&times, now.0));
            record(work, &name, &cause).await?;
            slot.uncounted = None;
            return Ok(());
        }
    }
    start(run_dir, slot, shared, work).await
}

/// A process that could not reach NATS or the store at its start says so by its exit code and ends, and so does one that
/// did not hear us for a while. That is an outage, maybe only of its own link, or our own silence, and no fault of
/// that process: it is started again until it can, as everybody waits who ran before.
fn uses_up_a_restart(cause: &str) -> bool {
    [runtime::EXIT_UNAVAILABLE, runtime::EXIT_ORPHANED].iter().all(|code| cause != format!("exit {code}"))
}

async fn start(run_dir: &std::path::Path, slot: &mut Slot, shared: &Shared, work: &Work) -> Result<(), HandleError> {
    let boot_id = BootId(runtime::clock::new_id(work.clock.as_ref()));
    match Process::start(run_dir, &slot.planned, boot_id) {
        Ok(process) => {
            tracing::info!(process = slot.planned.name, pid = process.pid(), "started");
            shared.registry.started(&slot.planned.name, process.pid(), boot_id, Instant::now());
            slot.process = Some(process);
            Ok(())
        }
        Err(error) => {
            tracing::error!(process = slot.planned.name, %error, program = %slot.planned.program.display(), "can't be started");
            slot.next_start = Instant::now() + NOT_STARTED_PAUSE;
            record(work, &slot.planned.name, "not started").await
        }
    }
}

async fn count(work: &Work, agent: &str) -> Result<Vec<Restart>, HandleError> {
    let mut unit = work.begin(nobody()).await?;
    let declared = store::supervision::declared(&mut unit).await?;
    let since = counted_since(&declared, agent, work.clock.now());
    let restarts = store::supervision::restarts_since(&mut unit, agent, since).await?;
    unit.rollback().await?;
    Ok(restarts)
}

/// Restarts count within the longest window, and only since a person last started the swarm: whoever does that has
/// looked, and a quarantine they cleared must not come back with the next restart.
fn counted_since(declared: &[Declared], agent: &str, now: UnixMs) -> UnixMs {
    let oldest = now.plus_ms(-windows::LONGEST_MS);
    let started = declared.iter().filter(|row| row.agent == agent && row.state == RUNNING).map(|row| row.at);
    started.fold(oldest, UnixMs::max)
}

fn pause(ms: i64) -> Duration {
    Duration::from_millis(u64::try_from(ms).unwrap_or(0))
}

async fn record(work: &Work, agent: &str, cause: &str) -> Result<(), HandleError> {
    metrics::counter!("swarm_restarts_total", "agent" => agent.to_owned(), "cause" => cause.to_owned()).increment(1);
    let mut unit = work.begin(nobody()).await?;
    let now = unit.now().await?;
    let boot_id = BootId(runtime::clock::new_id(work.clock.as_ref()));
    let restart = Restart { agent: agent.to_owned(), boot_id, at: now, cause: cause.to_owned() };
    store::supervision::insert_restart(&mut unit, &restart).await?;
    unit.commit().await.map_err(Into::into)
}

async fn quarantine(slot: &mut Slot, shared: &Shared, work: &Work, window: windows::Window) -> Result<(), HandleError> {
    let name = slot.planned.name.clone();
    let reason = format!("{} restarts in {} s", window.restarts, window.within_ms / 1_000);
    tracing::error!(process = name, reason, "quarantined until a person starts the swarm again");
    shared.registry.quarantined(&name, &reason);
    let mut unit = work.begin(nobody()).await?;
    let now = unit.now().await?;
    let declared = Declared {
        agent: name.clone(),
        state: "quarantined".to_owned(),
        config_hash: String::new(),
        binary_hash: String::new(),
        reason: reason.clone(),
        at: now,
    };
    store::supervision::declare(&mut unit, &declared).await?;
    let body = serde_json::json!({ "agent": name, "reason": reason });
    store::audit::append_governance(&mut unit, "quarantined", NAME, &body, now).await?;
    unit.commit().await?;
    slot.quarantined = Some(true);
    let text = format!("{name}: {reason}; it stays down until a person starts the swarm again");
    let alert = Alert { name: format!("quarantined:{name}"), severity: Severity::Critical, text };
    tell(work, Route::Alert, format!("quarantined:{name}:{}", now.0), Payload::Alert(alert)).await;
    Ok(())
}

/// Whether the agent was quarantined. Asked of the store once, and again until it answers: a start on a guess would
/// forget why the agent is down.
async fn is_down(slot: &mut Slot, record: &impl Record) -> Result<bool, HandleError> {
    if let Some(known) = slot.quarantined {
        return Ok(known);
    }
    let mut unit = record.begin(nobody()).await?;
    let rows = store::supervision::declared(&mut unit).await?;
    unit.rollback().await?;
    let is_quarantined = rows.iter().any(|row| row.agent == slot.planned.name && row.state == "quarantined");
    slot.quarantined = Some(is_quarantined);
    Ok(is_quarantined)
}

/// Asks everybody to drain, the money agents last; who does not end in time is killed, which loses nothing.
async fn drain(slots: &mut [Slot]) {
    let is_money = |slot: &Slot| MONEY.contains(&slot.planned.name.as_str());
    let (mut money, mut others): (Vec<&mut Slot>, Vec<&mut Slot>) = slots.iter_mut().partition(|slot| is_money(slot));
    end_all(&mut others, DRAIN_OTHERS).await;
    end_all(&mut money, DRAIN_MONEY).await;
}

async fn end_all(slots: &mut [&mut Slot], within: Duration) {
    for slot in slots.iter_mut() {
        if let Some(process) = &mut slot.process {
            process.ask_to_end();
        }
    }
    let waited = tokio::time::timeout(within, async {
        loop {
            let running = slots.iter_mut().any(|s| s.process.as_mut().is_some_and(|p| p.ended().is_none()));
            if !running {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    if waited.await.is_err() {
        for slot in slots.iter_mut() {
            if let Some(process) = slot.process.as_mut().filter(|p| p.is_running()) {
                tracing::error!(process = slot.planned.name, "did not drain in time; killed");
                process.kill();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use store::Unit;
    use testkit::VirtualClock;

    use super::*;

    /// The store, which may be away.
    struct Door {
        store: memory::Store,
        is_away: AtomicBool,
    }

    impl Record for Door {
        async fn begin(&self, _: UserId) -> Result<Unit, HandleError> {
            if self.is_away.load(Ordering::SeqCst) {
                return Err(HandleError::Retry("the store is away".to_owned()));
            }
            Ok(self.store.begin())
        }

        async fn commit(&self, unit: Unit, _: UserId, _: Vec<Message>) -> Result<(), HandleError> {
            Ok(unit.commit().await?)
        }
    }

    fn slot(name: &str) -> Slot {
        let planned = PlannedAgent {
            name: name.to_owned(),
            program: PathBuf::from("no such program"),
            env: BTreeMap::new(),
            log: PathBuf::from("no such log"),
        };
        Slot { planned, process: None, next_start: Instant::now(), quarantined: None, uncounted: None }
    }

    #[test]
    fn an_outage_uses_up_no_restart() {
        for (cause, counts) in [
            ("exit 69", false),
            ("exit 75", false),
            ("exit 70", true),
            ("exit 0", true),
            ("signal 9", true),
            ("hung", true),
        ] {
            assert_eq!(uses_up_a_restart(cause), counts, "{cause}");
        }
    }

    #[tokio::test]
    async fn a_quarantine_is_not_forgotten_because_the_store_was_away_when_it_was_asked() {
        let clock = Arc::new(VirtualClock::at(UnixMs(1_800_000_000_000)));
        let door = Door { store: memory::Store::new(clock), is_away: AtomicBool::new(false) };
        let mut unit = door.begin(nobody()).await.unwrap();
        let declared = Declared {
            agent: "dexter".to_owned(),
            state: "quarantined".to_owned(),
            config_hash: String::new(),
            binary_hash: String::new(),
            reason: "3 restarts in 60 s".to_owned(),
            at: UnixMs(1_800_000_000_000),
        };
        store::supervision::declare(&mut unit, &declared).await.unwrap();
        unit.commit().await.unwrap();
        let (mut down, mut up) = (slot("dexter"), slot("monitor"));
        door.is_away.store(true, Ordering::SeqCst);
        for slot in [&mut down, &mut up] {
            assert!(is_down(slot, &door).await.is_err(), "{}: nobody knows", slot.planned.name);
        }
        door.is_away.store(false, Ordering::SeqCst);
        assert!(is_down(&mut down, &door).await.unwrap());
        assert!(!is_down(&mut up, &door).await.unwrap());
        door.is_away.store(true, Ordering::SeqCst);
        assert!(is_down(&mut down, &door).await.unwrap(), "what the store said is kept");
    }

    #[tokio::test]
    async fn a_persons_start_that_is_stored_late_clears_no_quarantine_from_since() {
        let clock = Arc::new(VirtualClock::at(UnixMs(1_800_000_000_000)));
        let door = Door { store: memory::Store::new(clock), is_away: AtomicBool::new(false) };
        let quarantine = async |agent: &str, at| {
            let mut unit = door.begin(nobody()).await.unwrap();
            let declared = Declared {
                agent: agent.to_owned(),
                state: "quarantined".to_owned(),
                config_hash: String::new(),
                binary_hash: String::new(),
                reason: "3 restarts in 60 s".to_owned(),
                at: UnixMs(at),
            };
            store::supervision::declare(&mut unit, &declared).await.unwrap();
            unit.commit().await.unwrap();
        };
        quarantine("dexter", 1).await;
        quarantine("monitor", 1).await;
        let slots = [slot("dexter"), slot("monitor"), slot("reflector")];
        let mut start = PersonsStart::default();
        start.read(&door).await.unwrap();
        quarantine("dexter", 2).await;
        quarantine("reflector", 2).await;
        start.store(&slots, &door).await.unwrap();
        let mut unit = door.begin(nobody()).await.unwrap();
        let rows = store::supervision::declared(&mut unit).await.unwrap();
        let states: Vec<_> = rows.iter().map(|row| (row.agent.as_str(), row.state.as_str())).collect();
        assert_eq!(states, [("dexter", "quarantined"), ("monitor", RUNNING), ("reflector", "quarantined")]);
    }

    #[test]
    fn restarts_from_before_a_person_started_the_swarm_do_not_count() {
        let row = |agent: &str, state: &str, at| Declared {
            agent: agent.to_owned(),
            state: state.to_owned(),
            config_hash: String::new(),
            binary_hash: String::new(),
            reason: String::new(),
            at: UnixMs(at),
        };
        let now = UnixMs(100 * windows::LONGEST_MS);
        let day_ago = now.plus_ms(-windows::LONGEST_MS);
        let since = |rows: &[Declared]| counted_since(rows, "a", now);
        assert_eq!(since(&[]), day_ago);
        assert_eq!(since(&[row("a", RUNNING, now.0 - 5_000), row("b", RUNNING, now.0)]), now.plus_ms(-5_000));
        assert_eq!(since(&[row("a", RUNNING, day_ago.0 - 1)]), day_ago, "an old start does not widen the window");
        assert_eq!(since(&[row("a", "quarantined", now.0)]), day_ago);
    }
}
