//! Starting, watching, restarting and draining the agents.
//!
//! An agent of the plan with a launch is ours (`spawn`): we start and end its process. One without is started by somebody else
//! (`external`): we learn of each start by its first heartbeat, let it work or leave it held, and ask it to end over NATS. In both
//! every end is counted whatever the uptime and exit code, in windows that are stored: a restart of the supervisor resets
//! nothing, and it adopts the agents that still run. A breach puts the agent into quarantine until a person releases it.

pub mod cgroup;
pub mod drift;
mod ledger;
mod probe;
mod process;
pub mod recycle;
mod registry;
pub mod settings;
mod slot;
pub mod usage;
pub mod windows;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use domain::ids::{BootId, UserId};
use domain::message::{Message, Payload, Severity};
use domain::subject::{Route, Subject};
use runtime::{HandleError, Record, Work};
use serde::{Deserialize, Serialize};
use store::supervision::RestartKind;
use tokio::time::Instant;

pub use ledger::release;
pub use process::Process;
pub use registry::{DEAF_AFTER, Member, Registry, STARTING_FOR, STUCK_AFTER};
pub use settings::Settings;

use crate::services::nobody;
use crate::{NAME, Shared, in_flight};
use cgroup::Cgroups;
use ledger::Why;
use slot::{Slot, Stage, Turn, alert};

/// Declared state of an agent that a person wants to run.
const RUNNING: &str = "running";
/// That of one that stays down until a person releases it.
const QUARANTINED: &str = "quarantined";
/// How often the processes are looked at while one is down, ending or not our child.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// And while all of them run; a death is a signal.
const CALM_EVERY: Duration = Duration::from_secs(1);
/// How long a fact may take to be stored.
const TELL_WITHIN: Duration = Duration::from_secs(1);
/// How often it is asked whether a process is due, and whether that would disturb anybody.
const PLAN_EVERY: Duration = Duration::from_secs(10);
/// How long the desk has at least, at kill level 4, to take open orders back before everybody is stopped.
const CANCEL_FIRST: Duration = Duration::from_secs(5);
/// And at most until what is held is sold.
const SELL_FIRST: Duration = Duration::from_secs(30);
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
    /// Where each process tells its port and how it ended.
    pub run_dir: PathBuf,
}

/// One agent of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlannedAgent {
    /// Its name.
    pub name: String,
    /// How it is started; absent: somebody else does.
    #[serde(default)]
    pub launch: Option<Launch>,
    /// Messages it handles at once, by its SPEC.
    pub max_concurrent: u64,
    /// It consumes tasks, by its SPEC.
    pub takes_tasks: bool,
}

/// How a process is started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Launch {
    /// Its program.
    pub program: PathBuf,
    /// Its whole environment besides `PATH`; nothing is inherited.
    pub env: BTreeMap<String, String>,
    /// Where its output goes.
    pub log: PathBuf,
}

/// Where is kept what outlives a supervisor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    /// What processes say of themselves; each of them may write there.
    pub run_dir: PathBuf,
    /// What we say of them: which process to adopt, and so to kill. Nobody else may write there.
    pub notes_dir: PathBuf,
}

impl Places {
    /// With the notes in the supervisor's own data folder.
    #[must_use]
    pub fn new(run_dir: &Path, data_dir: &Path) -> Self {
        Self { run_dir: run_dir.to_owned(), notes_dir: data_dir.join("processes") }
    }
}

/// Whether the agent that a note tells of still runs.
#[must_use]
pub fn is_running(places: &Places, name: &str) -> bool {
    Process::adopt(places, name).is_some()
}

/// Around all agents: what they share at one turn.
struct House<'a> {
    places: &'a Places,
    shared: &'a Shared,
    work: &'a Work,
    cgroups: Option<Cgroups>,
    /// What was declared before this start was read: ends may be counted.
    may_count: bool,
    /// Since when the store answers us.
    store_since: Option<Instant>,
    /// Who ended within this turn without being asked to.
    failures: Mutex<Vec<String>>,
}

impl House<'_> {
    const fn store_since(&self) -> Option<Instant> {
        self.store_since
    }

    /// What a process had in hand is delivered again at once, and not after the ack wait.
    fn give_back(&self, name: &str, in_hand: Vec<String>) {
        if in_hand.is_empty() {
            return;
        }
        let (bus, name) = (self.work.bus.clone(), name.to_owned());
        tokio::spawn(async move {
            let released = tokio::time::timeout(TELL_WITHIN, in_flight::release(&bus, &name, &in_hand)).await;
            tracing::info!(process = name, in_hand = in_hand.len(), released = released.unwrap_or(0), "handed back");
        });
    }

    fn failed(&self, name: &str) {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).push(name.to_owned());
    }

    fn look_at_store(&mut self, now: Instant) {
        self.store_since = self.work.has_store().then(|| self.store_since.unwrap_or(now));
    }
}

/// A number that is another for each start.
fn chance(boot_id: BootId) -> u64 {
    let (_, random) = boot_id.0.as_u64_pair();
    random
}

/// Runs the plan until shutdown, then drains it.
///
/// # Errors
/// [`HandleError::Fatal`].
pub async fn run(plan: Plan, settings: Settings, shared: Arc<Shared>, work: Work) -> Result<(), HandleError> {
    let spawns = plan.agents.iter().any(|agent| agent.launch.is_some());
    let cgroups = if spawns { Cgroups::find() } else { Err("nothing is started here".to_owned()) };
    match &cgroups {
        Ok(_) => tracing::info!("the kernel keeps the limits of memory and time (cgroup v2)"),
        Err(why) => tracing::info!(why, "memory is looked at every second; the kernel keeps no limits"),
    }
    let places = Places::new(&plan.run_dir, &work.config.data_dir);
    std::fs::create_dir_all(&places.notes_dir)
        .map_err(|error| HandleError::Fatal(format!("{}: {error}", places.notes_dir.display())))?;
    let mut house = House {
        places: &places,
        shared: &shared,
        work: &work,
        cgroups: cgroups.ok(),
        may_count: false,
        store_since: None,
        failures: Mutex::default(),
    };
    let start = start_of(&plan);
    let mut slots = Vec::new();
    for planned in plan.agents.clone() {
        let own = settings.agents.get(&planned.name).cloned();
        let own = own.ok_or_else(|| HandleError::Fatal(format!("agents.toml has no agent.{}", planned.name)))?;
        slots.push(Slot::new(planned, own, &house));
    }
    let watch = watch(&mut house, &mut slots, &settings, start);
    tokio::select! {
        () = work.shutdown.cancelled() => {}
        ended = watch => ended?,
    }
    drain(&places, &mut slots).await;
    Ok(())
}

/// Digests of what each agent is told and of its program, and what the person who started us said.
fn start_of(plan: &Plan) -> ledger::Start {
    let mut programs: BTreeMap<PathBuf, String> = BTreeMap::new();
    let mut hashes = BTreeMap::new();
    for agent in &plan.agents {
        let Some(launch) = &agent.launch else {
            hashes.insert(agent.name.clone(), [String::new(), String::new()]);
            continue;
        };
        let real = launch.program.canonicalize().unwrap_or_else(|_| launch.program.clone());
        let binary = programs
            .entry(real)
            .or_insert_with_key(|program| std::fs::read(program).map(|bytes| digest(&[&bytes])).unwrap_or_default());
        // Values may be secret; a digest over all of them together tells none.
        let told: Vec<&[u8]> =
            launch.env.iter().flat_map(|(name, value)| [name.as_bytes(), value.as_bytes()]).collect();
        hashes.insert(agent.name.clone(), [digest(&told), binary.clone()]);
    }
    ledger::Start { releases: std::env::var_os("SWARM_RELEASE").is_some(), hashes }
}

/// SHA-256 over parts, each with its length before it; hex.
fn digest(parts: &[&[u8]]) -> String {
    use sha2::Digest;
    let mut hash = sha2::Sha256::new();
    for part in parts {
        hash.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        hash.update(part);
    }
    hex::encode(hash.finalize())
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

async fn watch(
    house: &mut House<'_>,
    slots: &mut [Slot],
    settings: &Settings,
    start: ledger::Start,
) -> Result<(), HandleError> {
    let mut deaths = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::child())
        .map_err(|error| HandleError::Fatal(format!("no signal of dead children: {error}")))?;
    let mut ticks = runtime::grid(CALM_EVERY);
    let mut overseer = Overseer::new(settings);
    let mut halted = Halted::default();
    let is_resumed = std::env::var_os("SWARM_RESUMED").is_some();
    loop {
        house.look_at_store(Instant::now());
        if !house.may_count {
            house.may_count = declare(house, &start, is_resumed).await;
        }
        let level = *house.shared.level.borrow();
        let is_flat = halted.asks(level) && is_flat(house.work).await;
        let now = Instant::now();
        let turn = Turn { now, all_stop: halted.all_stop(level, is_flat, now) };
        overseer.look(house, slots, turn).await;
        for slot in slots.iter_mut() {
            match slot.turn(house, turn).await {
                Ok(()) => {}
                Err(HandleError::Fatal(text)) => return Err(HandleError::Fatal(text)),
                // Beginning anew would forget pauses and quarantines.
                Err(error) => tracing::warn!(process = slot.name(), %error, "looked at again"),
            }
        }
        house.work.progress();
        let is_calm = house.may_count && slots.iter().all(Slot::is_calm);
        tokio::select! {
            _ = deaths.recv() => {}
            _ = ticks.tick() => {}
            () = tokio::time::sleep(LOOK_EVERY), if !is_calm => {}
        }
    }
}

/// Since when the kill level is 4.
#[derive(Debug, Clone, Copy, Default)]
struct Halted {
    since: Option<Instant>,
    has_looked: bool,
    has_stopped: bool,
}

impl Halted {
    /// Whether it matters now if anything is held.
    const fn asks(&self, level: u8) -> bool {
        level >= 4 && self.has_looked && !self.has_stopped
    }

    /// Whether everybody is to be stopped: after the level came to 4, the desk took open orders back and what was held is sold,
    /// or after [`SELL_FIRST`], sold or not. When it was 4 before we began, at once: nobody is started to be stopped. Who was
    /// stopped stays so for as long as the level stands.
    fn all_stop(&mut self, level: u8, is_flat: bool, now: Instant) -> bool {
        let was_before = !std::mem::replace(&mut self.has_looked, true) && level >= 4;
        if level < 4 {
            (self.since, self.has_stopped) = (None, false);
            return false;
        }
        let passed = now.duration_since(*self.since.get_or_insert(now));
        self.has_stopped |= was_before || passed >= SELL_FIRST || (is_flat && passed >= CANCEL_FIRST);
        self.has_stopped
    }
}

/// Nobody holds anything and no order is open, so far as the record says; not known is no.
async fn is_flat(record: &impl Record) -> bool {
    let asked = async {
        let mut unit = record.begin(nobody()).await?;
        let holders = store::ledger::holders(&mut unit, None, 1).await?;
        let open = store::orders::open_orders(&mut unit, &domain::market::Venue::ALL).await?;
        unit.rollback().await?;
        Ok::<_, HandleError>(holders.is_empty() && open.is_empty())
    };
    matches!(tokio::time::timeout(TELL_WITHIN, asked).await, Ok(Ok(true)))
}

/// Stores what is meant to run, or compares with it when we were only started again. Says whether that is done.
async fn declare(house: &House<'_>, start: &ledger::Start, is_resumed: bool) -> bool {
    let told = if is_resumed { start.differences(house.work).await } else { start.store(house.work).await };
    match told {
        Ok(changed) if is_resumed && !changed.is_empty() => {
            let text = format!("Changed while the swarm ran, and nobody said so: {}.", changed.join(", "));
            alert(house, "drift:declared".to_owned(), Severity::Critical, text).await;
            true
        }
        Ok(changed) => {
            if !changed.is_empty() {
                tracing::info!(changed = changed.join(", "), "declared anew");
            }
            true
        }
        Err(error) => {
            tracing::warn!(%error, "what was declared is not known yet; nobody is started");
            false
        }
    }
}

/// What concerns all agents at once: planned restarts, and the memory of the machine.
struct Overseer<'a> {
    settings: &'a Settings,
    planner: recycle::Planner,
    floor: usage::Floor,
    planned_at: Option<Instant>,
}

impl<'a> Overseer<'a> {
    fn new(settings: &'a Settings) -> Self {
        Self { settings, planner: recycle::Planner::default(), floor: usage::Floor::default(), planned_at: None }
    }

    async fn look(&mut self, house: &House<'_>, slots: &mut [Slot], turn: Turn) {
        let failures = std::mem::take(&mut *house.failures.lock().unwrap_or_else(PoisonError::into_inner));
        for name in failures {
            if self.planner.failed(&name, self.settings.recycle_every, turn.now) {
                let text =
                    format!("{name} ended again after its planned restart: nobody else is restarted as planned today.");
                alert(house, format!("recycle:{name}"), Severity::Warning, text).await;
            }
        }
        self.flush(house, slots, turn);
        if self.planned_at.is_none_or(|at| turn.now.duration_since(at) >= PLAN_EVERY) {
            self.planned_at = Some(turn.now);
            self.recycle(house, slots, turn).await;
        }
    }

    /// Ends the largest process that may be, when the machine has too little memory left.
    fn flush(&mut self, house: &House<'_>, slots: &mut [Slot], turn: Turn) {
        let Some(available) = usage::available_bytes() else { return };
        let sizes: BTreeMap<String, u64> = slots
            .iter()
            .filter(|slot| matches!(slot.stage, Stage::Running(_)))
            .filter_map(|slot| Some((slot.name().to_owned(), slot.rss_bytes?)))
            .collect();
        let is_critical = |name: &str| self.settings.agents.get(name).is_none_or(|agent| agent.is_critical);
        let may = usage::may_be_flushed(&sizes, is_critical);
        let Some(name) = self.floor.look(available, self.settings.system_floor_bytes, may, turn.now) else { return };
        if let Some(slot) = slots.iter_mut().find(|slot| slot.name() == name) {
            let cause = format!("{} MB left on the machine, {name} is the largest that may be ended", available >> 20);
            slot.ask_to_end(house, Some(Why::new(RestartKind::Memory, cause)), turn.now);
        }
    }

    /// Starts the process anew whose turn it is.
    async fn recycle(&mut self, house: &House<'_>, slots: &mut [Slot], turn: Turn) {
        let registry = &house.shared.registry;
        let seen = slots.iter().map(|slot| {
            let chance = match &slot.stage {
                Stage::Running(process) => chance(process.boot_id()),
                Stage::External { known: Some(boot_id), .. } => chance(*boot_id),
                _ => 0,
            };
            let well_since = registry.well_since(slot.name(), turn.now);
            (slot.name().to_owned(), recycle::Seen { well_since, chance, idle_only: slot.settings.idle_only })
        });
        let seen: BTreeMap<String, recycle::Seen> = seen.collect();
        let now_ms = house.work.now().0;
        let is_blackout = self.settings.blackouts.iter().any(|part| part.holds(now_ms));
        let every = self.settings.recycle_every;
        // The store is only asked when somebody is due.
        if self.planner.next(&seen, every, is_blackout, true, turn.now).is_none() {
            return;
        }
        let is_idle = match is_idle(house.work).await {
            Ok(is_idle) => is_idle,
            Err(error) => return tracing::warn!(%error, "planned restarts wait"),
        };
        let Some(name) = self.planner.next(&seen, every, is_blackout, is_idle, turn.now).map(str::to_owned) else {
            return;
        };
        if let Some(slot) = slots.iter_mut().find(|slot| slot.name() == name) {
            self.planner.begun(&name, turn.now);
            slot.ask_to_end(house, Some(Why::new(RestartKind::Recycle, "planned")), turn.now);
        }
    }
}

/// No order is open and no approval waits.
async fn is_idle(record: &impl Record) -> Result<bool, HandleError> {
    let mut unit = record.begin(nobody()).await?;
    let open = store::orders::open_orders(&mut unit, &domain::market::Venue::ALL).await?;
    let waiting = store::approvals::pending(&mut unit, None).await?;
    unit.rollback().await?;
    Ok(open.is_empty() && waiting.is_empty())
}

/// Asks everybody to drain, the money agents last; who does not end in time is killed, which loses nothing. What ended so was
/// asked to, and is not counted.
async fn drain(places: &Places, slots: &mut [Slot]) {
    let is_money = |slot: &Slot| MONEY.contains(&slot.name());
    let (mut money, mut others): (Vec<&mut Slot>, Vec<&mut Slot>) = slots.iter_mut().partition(|slot| is_money(slot));
    end_all(places, &mut others, DRAIN_OTHERS).await;
    end_all(places, &mut money, DRAIN_MONEY).await;
}

async fn end_all(places: &Places, slots: &mut [&mut Slot], within: Duration) {
    let mut left: Vec<(String, &mut Process)> = Vec::new();
    for slot in slots.iter_mut() {
        let name = slot.name().to_owned();
        if let Stage::Running(process) | Stage::Ending { process, .. } = &mut slot.stage {
            process.ask_to_end();
            left.push((name, process));
        }
    }
    let until = Instant::now() + within;
    while !left.is_empty() && Instant::now() < until {
        left.retain_mut(|(name, process)| {
            let is_over = process.ended().is_some();
            if is_over {
                Process::forget(places, name);
            }
            !is_over
        });
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for (name, process) in left {
        tracing::error!(process = name, "did not drain in time; killed");
        process.kill();
        Process::forget(places, &name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_level_4_everybody_is_stopped_after_what_is_held_was_sold_or_time_is_up() {
        let start = Instant::now();
        let mut halted = Halted::default();
        let mut look = |level, is_flat, seconds| halted.all_stop(level, is_flat, start + Duration::from_secs(seconds));
        assert_eq!(
            [look(3, true, 0), look(4, true, 1), look(4, true, 5), look(4, true, 6)],
            [false, false, false, true]
        );
        assert!(look(4, false, 7), "who was stopped stays so");
        assert_eq!([look(0, true, 8), look(4, false, 9), look(4, false, 15)], [false; 3]);
        assert_eq!([look(4, false, 38), look(4, false, 39)], [false, true]);
        assert!(Halted::default().all_stop(4, false, start), "it was 4 before we began");
        let asks = |halted: Halted, level| halted.asks(level);
        let looked = Halted { has_looked: true, ..Halted::default() };
        let stopped = Halted { has_stopped: true, ..looked };
        assert_eq!(
            [asks(looked, 4), asks(looked, 3), asks(stopped, 4), asks(Halted::default(), 4)],
            [true, false, false, false]
        );
    }

    /// The record as the supervisor's login reads it.
    struct Door(memory::Store);

    impl Record for Door {
        async fn begin(&self, _: UserId) -> Result<store::Unit, HandleError> {
            Ok(self.0.begin())
        }

        async fn commit(&self, unit: store::Unit, _: UserId, _: Vec<Message>) -> Result<(), HandleError> {
            Ok(unit.commit().await?)
        }
    }

    #[tokio::test]
    async fn what_anybody_holds_is_seen_whoever_it_is() {
        let now = domain::time::UnixMs(1_800_000_000_000);
        let admin = memory::Store::new(std::sync::Arc::new(testkit::VirtualClock::at(now)));
        let door = Door(admin.login("supervisor", store::grants::SUPERVISOR));
        assert!(is_flat(&door).await);
        let mut unit = admin.begin();
        let dollars = domain::money::Usd::dollars(100);
        let user =
            store::users::open_account(&mut unit, "anna", dollars, serde_json::json!({}), now).await.unwrap().user_id;
        unit.set_tenant(user).await.unwrap();
        let position = rails::book::Position {
            quantity: domain::money::Quantity::parse("1").unwrap(),
            cost: dollars,
            trade_cost: dollars,
            trade_realised: domain::money::Usd::ZERO,
            opened_at: now,
        };
        let held = rails::book::Change::Position(testkit::build::paper("BTCUSDT"), position);
        store::ledger::apply(&mut unit, user, &[held], now).await.unwrap();
        unit.commit().await.unwrap();
        assert!(!is_flat(&door).await);
        assert!(!is_flat(&Door(admin.login("supervisor", &[]))).await, "not known is no");
    }
}
