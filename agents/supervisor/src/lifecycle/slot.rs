//! One agent of the plan: what is being done with it, and what is to be done next.

use std::time::Duration;

use domain::ids::BootId;
use domain::message::{AgentCommand, Alert, Payload, Severity};
use domain::subject::{Route, Subject};
use runtime::HandleError;
use store::supervision::RestartKind;
use tokio::time::Instant;

use super::drift::{Sample, Watch};
use super::ledger::{self, Ended, Why};
use super::probe;
use super::process::{Process, Recalled};
use super::registry::Phase;
use super::settings::AgentSettings;
use super::usage::{self, Appetite, CpuShare, TooMuch};
use super::windows::{self, End};
use super::{House, Launch, PlannedAgent, tell};
use crate::{NAME, in_flight};

/// How long a process that was asked to end may take before it is killed: longer than its own drain.
pub(super) const DRAIN_WITHIN: Duration = Duration::from_secs(10);
/// Before a program that could not be started is tried again.
const NOT_STARTED_PAUSE: Duration = Duration::from_secs(5);
/// How long others are waited for that are to be ready first.
const AFTER_FOR: Duration = Duration::from_secs(30);
/// How often a process that is held, or must end, is told so again.
const TOLD_EVERY: Duration = Duration::from_secs(2);
/// How often a person is told what waits for an agent that stays down.
const WAITING_EVERY: Duration = Duration::from_secs(60);
/// How often slow changes are looked at.
const DRIFT_EVERY: Duration = Duration::from_secs(60);
/// How often memory and time on a core are.
const USAGE_EVERY: Duration = Duration::from_secs(1);

/// One agent.
pub(super) struct Slot {
    pub(super) planned: PlannedAgent,
    pub(super) settings: AgentSettings,
    pub(super) stage: Stage,
    /// Not before.
    pub(super) next_start: Instant,
    /// Since when it could start but for those it waits for.
    waits_since: Option<Instant>,
    /// Why it stays down; `None` until the store said.
    quarantined: Option<Option<String>>,
    /// How it ended, until that is counted: a database that is away for a moment must not lose an end.
    uncounted: Option<Ended>,
    ends: Vec<End>,
    started_at: Instant,
    appetite: Appetite,
    cpu: CpuShare,
    cpu_percent: Option<u64>,
    measured_at: Option<Instant>,
    pub(super) rss_bytes: Option<u64>,
    drift: Watch,
    drift_at: Option<Instant>,
    kills: u64,
    is_told_sick: bool,
    is_settled: bool,
    waiting_told_at: Option<Instant>,
}

/// What there is of it.
pub(super) enum Stage {
    /// Nothing.
    Down,
    /// A process of ours.
    Running(Process),
    /// One that was asked to end, until when, and why.
    Ending { process: Process, why: Option<Why>, until: Instant },
    /// Somebody else starts it.
    External { known: Option<BootId>, asked: Option<Why>, told_at: Option<Instant> },
}

/// What all agents are told at one turn.
#[derive(Debug, Clone, Copy)]
pub(super) struct Turn {
    pub(super) now: Instant,
    /// Kill level 4: nobody runs.
    pub(super) all_stop: bool,
}

impl Slot {
    /// What an earlier supervisor left of it, or nothing.
    pub(super) fn new(planned: PlannedAgent, settings: AgentSettings, house: &House<'_>) -> Self {
        let now = Instant::now();
        let name = planned.name.clone();
        let recalled = Process::recall(house.places, &name);
        let mut uncounted = None;
        let stage = match (planned.launch.is_some(), recalled) {
            (true, Some(Recalled::Running(process))) => {
                tracing::info!(process = name, pid = process.pid(), "adopted");
                let since = process.age().and_then(|age| now.checked_sub(age)).unwrap_or(now);
                house.shared.registry.started(&name, process.pid(), process.boot_id(), since);
                Stage::Running(process)
            }
            (true, Some(Recalled::Ended(boot_id, how))) => {
                let why = how.map_or_else(|| Why::new(RestartKind::Outage, "the machine went down"), Why::of_exit);
                uncounted = Some(Ended { boot_id, why });
                Stage::Down
            }
            (true, Some(Recalled::Known(_)) | None) => Stage::Down,
            (false, recalled) => {
                let known = match recalled {
                    Some(Recalled::Known(boot_id)) => Some(boot_id),
                    _ => None,
                };
                Stage::External { known, asked: None, told_at: None }
            }
        };
        Self {
            planned,
            settings,
            stage,
            next_start: now,
            waits_since: None,
            quarantined: None,
            uncounted,
            ends: Vec::new(),
            started_at: now,
            appetite: Appetite::default(),
            cpu: CpuShare::default(),
            cpu_percent: None,
            measured_at: None,
            rss_bytes: None,
            drift: Watch::default(),
            drift_at: None,
            kills: 0,
            is_told_sick: false,
            is_settled: false,
            waiting_told_at: None,
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.planned.name
    }

    /// Nothing is to be done for it until it dies, which the kernel tells.
    pub(super) fn is_calm(&self) -> bool {
        match &self.stage {
            Stage::Running(process) => process.is_child() && self.uncounted.is_none() && self.is_settled,
            Stage::Down => matches!(self.quarantined, Some(Some(_))) && self.uncounted.is_none(),
            Stage::Ending { .. } | Stage::External { .. } => false,
        }
    }

    /// One turn: what ended is counted, what must end is ended, what may run is started.
    pub(super) async fn turn(&mut self, house: &House<'_>, turn: Turn) -> Result<(), HandleError> {
        if house.shared.registry.take_stale(self.name()) {
            self.quarantined = None;
        }
        self.measure(house, turn.now).await;
        self.is_settled = house.shared.registry.is_settled(self.name());
        match &self.stage {
            Stage::Running(_) => {
                self.watch(house, turn);
                self.probe(house).await;
            }
            Stage::Ending { .. } => self.end(house, turn.now),
            Stage::Down => {}
            Stage::External { .. } => self.follow(house, turn).await,
        }
        self.count(house).await?;
        self.tell_of_waiting(house, turn.now).await;
        if matches!(self.stage, Stage::Down) {
            self.start_if_may(house, turn).await?;
        }
        Ok(())
    }

    /// Looks at a process of ours that runs.
    fn watch(&mut self, house: &House<'_>, turn: Turn) {
        let name = self.name().to_owned();
        let Stage::Running(process) = &mut self.stage else { return };
        if let Some(how) = process.ended() {
            let why = self.why_of(house, how);
            return self.ended(house, Some(why));
        }
        let sickness = house.shared.registry.sickness(&name, turn.now, house.store_since());
        if let Some(sickness) = sickness {
            let cause = sickness.to_string();
            tracing::error!(process = name, cause, "killed");
            process.kill();
            return self.ended(house, Some(Why::new(RestartKind::Hang, cause)));
        }
        if turn.all_stop {
            return self.ask_to_end(house, None, turn.now);
        }
        if let Some(reason) = house.shared.registry.take_wanted(&name) {
            let why = Why::new(RestartKind::Config, format!("a person wanted it: {reason}"));
            return self.ask_to_end(house, Some(why), turn.now);
        }
        let Some(rss) = self.rss_bytes.filter(|_| self.measured_at == Some(turn.now)) else { return };
        let cause = |what: &str| {
            format!("{what}: {} MB, its budget is {} MB", rss >> 20, self.settings.profile.memory_bytes >> 20)
        };
        match self.appetite.look(rss, &self.settings.profile) {
            Some(TooMuch::Drain) => {
                let why = Why::new(RestartKind::Memory, cause("too much memory"));
                self.ask_to_end(house, Some(why), turn.now);
            }
            Some(TooMuch::Kill) => {
                let why = Why::new(RestartKind::Memory, cause("far too much memory"));
                tracing::error!(process = name, cause = why.cause, "killed");
                if let Stage::Running(process) = &mut self.stage {
                    process.kill();
                }
                self.ended(house, Some(why));
            }
            None => {}
        }
    }

    /// Asks a process of ours that is not known to be ready.
    async fn probe(&self, house: &House<'_>) {
        if matches!(self.stage, Stage::Running(_))
            && !house.shared.registry.is_settled(self.name())
            && probe::is_ready(&house.places.run_dir, self.name()).await
        {
            house.shared.registry.ready(self.name(), Instant::now());
        }
    }

    /// Why a process ended that nobody asked to: the kernel kills for memory by the same signal as anybody.
    fn why_of(&mut self, house: &House<'_>, how: String) -> Why {
        let kills = house.cgroups.as_ref().map_or(0, |cgroups| cgroups.kills(self.name()));
        if kills > std::mem::replace(&mut self.kills, kills) && how == "signal 9" {
            return Why::new(RestartKind::Memory, "the kernel ended it above its memory limit");
        }
        Why::of_exit(how)
    }

    /// SIGTERM, and SIGKILL when its time is up. Without a reason it stays down afterwards, uncounted.
    pub(super) fn ask_to_end(&mut self, house: &House<'_>, why: Option<Why>, now: Instant) {
        match std::mem::replace(&mut self.stage, Stage::Down) {
            Stage::Running(process) => {
                tracing::info!(process = self.name(), why = why.as_ref().map(|why| &why.cause), "asked to end");
                process.ask_to_end();
                house.shared.registry.phase(self.name(), Phase::Ending);
                self.stage = Stage::Ending { process, why, until: now + DRAIN_WITHIN };
            }
            Stage::External { known, .. } => self.stage = Stage::External { known, asked: why, told_at: None },
            stage => self.stage = stage,
        }
    }

    /// Looks at a process that was asked to end.
    fn end(&mut self, house: &House<'_>, now: Instant) {
        let Stage::Ending { process, why, until } = &mut self.stage else { return };
        if process.ended().is_some() {
            let why = why.take();
            return self.ended(house, why);
        }
        if now >= *until {
            process.kill();
            let why = why.take().map(|why| Why { cause: format!("{}; had to be killed", why.cause), ..why });
            tracing::error!(process = self.name(), "did not end within {} s; killed", DRAIN_WITHIN.as_secs());
            self.ended(house, why);
        }
    }

    fn ended(&mut self, house: &House<'_>, why: Option<Why>) {
        let stage = std::mem::replace(&mut self.stage, Stage::Down);
        let (Stage::Running(process) | Stage::Ending { process, .. }) = stage else { return };
        let cause = why.as_ref().map_or("stopped", |why| &why.cause);
        tracing::warn!(process = self.name(), cause, "ended");
        house.give_back(self.name(), house.shared.registry.ended(self.name(), cause));
        match why {
            Some(why) => {
                if why.kind != RestartKind::Recycle && why.kind != RestartKind::Config {
                    house.failed(self.name());
                }
                self.uncounted = Some(Ended { boot_id: process.boot_id(), why });
            }
            None => Process::forget(house.places, self.name()),
        }
        self.appetite = Appetite::default();
        self.rss_bytes = None;
    }

    /// Writes an end down; the agent is quarantined by the same transaction when it was one too many.
    async fn count(&mut self, house: &House<'_>) -> Result<(), HandleError> {
        let Some(ended) = self.uncounted.clone() else { return Ok(()) };
        if !house.may_count {
            return Ok(());
        }
        let name = self.name().to_owned();
        let listening = house.shared.registry.listening_since(Instant::now());
        let alone = listening.is_some_and(|since| since <= self.started_at)
            && house.store_since().is_some_and(|since| since <= self.started_at);
        let counted = ledger::count(house.work, &name, &ended, alone).await?;
        self.uncounted = None;
        let now_ms = house.work.now().0;
        let pause = windows::pause_ms(&counted.ends, counted.kind, now_ms, super::chance(ended.boot_id));
        self.next_start = Instant::now() + Duration::from_millis(u64::try_from(pause).unwrap_or(0));
        house.shared.registry.restarts(&name, &counted.ends);
        self.ends = counted.ends;
        if let Some(breach) = counted.breach {
            let reason = breach.to_string();
            tracing::error!(process = name, reason, "quarantined until a person releases it");
            house.shared.registry.quarantined(&name, Some(&reason));
            self.quarantined = Some(Some(reason.clone()));
            let text = format!(
                "{name}: {reason}, the last: {}. It stays down until a person runs `swarm agents release {name}`.",
                ended.why.cause
            );
            alert(house, format!("quarantined:{name}"), Severity::Critical, text).await;
            self.waiting_told_at = None;
        }
        Ok(())
    }

    /// Whether it is quarantined. Asked of the store once, and again until it answers: a start on a guess would forget why the
    /// agent is down.
    async fn is_quarantined(&mut self, house: &House<'_>) -> Result<bool, HandleError> {
        if self.quarantined.is_none() {
            let (reason, ends) = ledger::read(house.work, self.name()).await?;
            house.shared.registry.restarts(self.name(), &ends);
            house.shared.registry.quarantined(self.name(), reason.as_deref());
            self.ends = ends;
            self.quarantined = Some(reason);
        }
        Ok(matches!(self.quarantined, Some(Some(_))))
    }

    async fn start_if_may(&mut self, house: &House<'_>, turn: Turn) -> Result<(), HandleError> {
        let Some(launch) = self.planned.launch.clone() else { return Ok(()) };
        if turn.all_stop {
            house.shared.registry.phase(self.name(), Phase::Stopped);
            return Ok(());
        }
        let is_later = turn.now < self.next_start || !house.work.bus.is_connected();
        if self.uncounted.is_some() || !house.may_count || is_later || self.is_quarantined(house).await? {
            return Ok(());
        }
        house.shared.registry.phase(self.name(), Phase::Usual);
        let since = *self.waits_since.get_or_insert(turn.now);
        let missing = self.settings.after.iter().find(|name| !house.shared.registry.is_settled(name));
        if let Some(missing) = missing {
            if turn.now.duration_since(since) < AFTER_FOR {
                return Ok(());
            }
            tracing::warn!(process = self.name(), missing, "started although it is not ready");
        }
        self.waits_since = None;
        self.start(house, &launch);
        Ok(())
    }

    /// Tells a person what waits for it while it stays down, and again every while.
    async fn tell_of_waiting(&mut self, house: &House<'_>, now: Instant) {
        let is_down = matches!(self.quarantined, Some(Some(_)));
        if !is_down || self.waiting_told_at.is_some_and(|at| now.duration_since(at) < WAITING_EVERY) {
            return;
        }
        match in_flight::waiting(&house.work.bus, self.name()).await {
            Ok(waiting) => {
                self.waiting_told_at = Some(now);
                if let Some(told) = in_flight::alert(self.name(), "quarantined", &waiting) {
                    alert(house, told.name, told.severity, told.text).await;
                }
            }
            Err(error) => tracing::warn!(%error, process = self.name(), "nobody knows yet what waits for it"),
        }
    }

    fn start(&mut self, house: &House<'_>, launch: &Launch) {
        let boot_id = BootId(runtime::clock::new_id(house.work.clock.as_ref()));
        probe::forget(&house.places.run_dir, self.name());
        match Process::start(house.places, self.name(), launch, boot_id) {
            Ok(process) => {
                tracing::info!(process = self.name(), pid = process.pid(), "started");
                if let Some(cgroups) = &house.cgroups
                    && let Err(error) = cgroups.confine(self.name(), process.pid(), &self.settings.profile)
                {
                    tracing::error!(process = self.name(), %error, "the kernel keeps no limits for it");
                }
                self.started_at = Instant::now();
                house.shared.registry.started(self.name(), process.pid(), boot_id, self.started_at);
                self.stage = Stage::Running(process);
            }
            Err(error) => {
                tracing::error!(process = self.name(), %error, program = %launch.program.display(), "can't be started");
                self.next_start = Instant::now() + NOT_STARTED_PAUSE;
                self.uncounted = Some(Ended { boot_id, why: Why::new(RestartKind::Crash, "can't be started") });
            }
        }
    }

    /// Follows a process that somebody else starts: counts its starts, lets it work, or has it end.
    async fn follow(&mut self, house: &House<'_>, turn: Turn) {
        let name = self.name().to_owned();
        let registry = &house.shared.registry;
        let Some(seen) = registry.incarnation(&name) else { return };
        if let Err(error) = self.is_quarantined(house).await {
            tracing::warn!(%error, process = name, "nobody knows yet whether it may work");
        }
        // Somebody who starts it for ever would fill the record for ever; it does no work, and that it stays down is known.
        let is_quarantined = matches!(self.quarantined, Some(Some(_)));
        let Stage::External { known, asked, told_at } = &mut self.stage else { return };
        if *known != Some(seen.boot_id) {
            if let Some(before) = known.replace(seen.boot_id) {
                let why =
                    asked.take().unwrap_or_else(|| Why::new(RestartKind::Crash, "ended; somebody started it again"));
                self.uncounted = (!is_quarantined).then_some(Ended { boot_id: before, why });
                // A second one of the same name, should it still run, makes room for the newest.
                command(house, &name, "drain", before).await;
            }
            *told_at = None;
            self.started_at = turn.now;
            self.is_told_sick = false;
            if let Err(error) = Process::note_external(house.places, &name, seen.boot_id) {
                tracing::warn!(%error, process = name, "after a restart of ours this start may be counted again");
            }
        }
        let is_down = is_quarantined || turn.all_stop;
        if is_down && (seen.is_held || turn.all_stop) {
            registry.phase(&name, if turn.all_stop { Phase::Stopped } else { Phase::Usual });
        } else {
            registry.phase(&name, if asked.is_some() { Phase::Ending } else { Phase::Usual });
        }
        if asked.is_none() && !is_down {
            *asked = registry
                .take_wanted(&name)
                .map(|reason| Why::new(RestartKind::Config, format!("a person wanted it: {reason}")));
        }
        let says = if seen.is_held {
            let may = !is_down && self.uncounted.is_none() && matches!(self.quarantined, Some(None));
            may.then_some("work")
        } else {
            ((is_down || asked.is_some()) && !seen.is_draining).then_some("drain")
        };
        if let Some(says) = says
            && told_at.is_none_or(|at| turn.now.duration_since(at) >= TOLD_EVERY)
        {
            *told_at = Some(turn.now);
            command(house, &name, says, seen.boot_id).await;
        }
        if let Some(sickness) = registry.sickness(&name, turn.now, house.store_since())
            && !std::mem::replace(&mut self.is_told_sick, true)
        {
            let text = format!("{name}: {sickness}. Somebody else starts it, so only they can end it.");
            alert(house, format!("sick:{name}"), Severity::Critical, text).await;
        }
        if let Some(TooMuch::Drain | TooMuch::Kill) = self.appetite.look(seen.rss_bytes, &self.settings.profile) {
            let why = Why::new(RestartKind::Memory, format!("too much memory: {} MB", seen.rss_bytes >> 20));
            self.ask_to_end(house, Some(why), turn.now);
        }
        self.rss_bytes = Some(seen.rss_bytes);
    }

    /// Looks at memory and time on a core every second, and at what changes slowly every minute.
    async fn measure(&mut self, house: &House<'_>, now: Instant) {
        if self.measured_at.is_some_and(|at| now.duration_since(at) < USAGE_EVERY) {
            return;
        }
        self.measured_at = Some(now);
        if let Stage::Running(process) | Stage::Ending { process, .. } = &self.stage {
            let usage = usage::of_process(process.pid());
            self.rss_bytes = usage.map(|usage| usage.rss_bytes);
            self.cpu_percent = usage.and_then(|usage| self.cpu.look(usage.cpu_ms, now));
        }
        let is_due = self.drift_at.is_none_or(|at| now.duration_since(at) >= DRIFT_EVERY);
        let shown = if is_due { Some(self.look_at_drift(house, now).await) } else { None };
        house.shared.registry.measured(self.name(), self.rss_bytes, shown);
    }

    async fn look_at_drift(&mut self, house: &House<'_>, now: Instant) -> serde_json::Value {
        self.drift_at = Some(now);
        let now_ms = house.work.now().0;
        let unplanned =
            [RestartKind::Crash, RestartKind::Hang, RestartKind::Memory, RestartKind::Recycle, RestartKind::Outage];
        let sample = Sample {
            now_ms,
            ends_this_hour: u64::try_from(windows::count(&self.ends, &unplanned, now_ms, 3_600_000)).unwrap_or(0),
            tried: house.shared.registry.tried(self.name()),
            rss_bytes: self.rss_bytes,
            budget_bytes: self.settings.profile.memory_bytes,
            cpu_percent: self.cpu_percent,
            cpu_budget_percent: self.settings.profile.cpu_percent,
        };
        for drift in self.drift.look(&sample) {
            let text = format!("{} drifts: {}. `swarm agents` shows by how much.", self.name(), drift.word());
            metrics::counter!("swarm_drifts_total", "agent" => self.name().to_owned(), "of" => drift.word())
                .increment(1);
            alert(house, format!("drift:{}:{}", self.name(), drift.word()), Severity::Warning, text).await;
        }
        self.drift.shown()
    }
}

/// Tells a person. The key holds the moment: the next alert of the same name is another one.
pub(super) async fn alert(house: &House<'_>, name: String, severity: Severity, text: String) {
    let key = format!("{name}:{}", house.work.now().0);
    tell(house.work, Route::Alert, key, Payload::Alert(Alert { name, severity, text })).await;
}

/// Says a word to one start of an agent.
async fn command(house: &House<'_>, name: &str, command: &str, boot_id: BootId) {
    let header = house.work.root_header(crate::services::nobody());
    let payload = Payload::AgentCommand(AgentCommand { command: command.to_owned(), boot_id: Some(boot_id) });
    let envelope = domain::message::Envelope { header, subject: Subject::command(name), payload };
    tracing::info!(process = name, command, %boot_id, by = NAME, "told");
    match tokio::time::timeout(super::TELL_WITHIN, house.work.bus.publish(&envelope)).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => tracing::warn!(%error, process = name, command, "not told"),
        Err(_) => tracing::warn!(process = name, command, "not told in time"),
    }
}
