//! What is known of each agent: its process, its latest heartbeat, its restarts, and the verdict on it. Never just "online".
//!
//! Silence is measured by our own monotonic clock, from when a heartbeat came in: a wall clock that is wrong, ours or the
//! agent's, must not make a living agent look hung.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use domain::ids::BootId;
use domain::message::Heartbeat;
use serde_json::{Value, json};
use store::supervision::RestartKind;
use tokio::time::{Duration, Instant};

use super::Plan;
use super::settings::{AgentSettings, Settings};
use super::windows::{self, End};
use crate::NAME;

/// No heartbeat for this long: deaf.
pub const QUIET: Duration = Duration::from_secs(5);
/// Something in hand for this long without progress: stuck, ms.
const STUCK_MS: i64 = 15_000;
/// An agent that was heard once and then not for this long is ended.
pub const DEAF_AFTER: Duration = Duration::from_secs(30);
/// One that was never heard, or never ready, for this long after its start.
pub const STARTING_FOR: Duration = Duration::from_secs(60);
/// One that has something in hand for so long and made no progress meanwhile.
pub const STUCK_AFTER: Duration = Duration::from_secs(60);

/// The agents of a plan.
#[derive(Debug)]
pub struct Registry {
    known: Mutex<BTreeMap<String, Known>>,
    /// Since when our own heartbeats come in without a gap, and when the last one did.
    own: Mutex<Option<(Instant, Instant)>>,
}

#[derive(Debug, Default)]
struct Known {
    settings: Option<AgentSettings>,
    /// Somebody else starts it: we learn of a start by its first heartbeat.
    is_external: bool,
    max_concurrent: u64,
    takes_tasks: bool,
    pid: Option<u32>,
    boot_id: Option<BootId>,
    started_at: Option<Instant>,
    beat: Option<(Instant, Heartbeat)>,
    /// Its progress, and since when it is that.
    moved: Option<(u64, Instant)>,
    ready_at: Option<Instant>,
    ends: Vec<End>,
    last_end: Option<String>,
    quarantined: Option<String>,
    phase: Phase,
    rss_bytes: Option<u64>,
    drift: Value,
    /// A person wants it started anew, and why.
    wanted: Option<String>,
    /// Its declared state was changed by a person: to be read again.
    is_stale: bool,
}

/// What the supervisor is doing with a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Phase {
    /// Lets it run, or starts it.
    #[default]
    Usual,
    /// Asked it to end.
    Ending,
    /// Keeps it down: kill level 4.
    Stopped,
}

/// Why a process is ended that did not end by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sickness {
    /// It was heard, and then not any more.
    Deaf,
    /// It was never heard since its start.
    NeverHeard,
    /// It was heard and is not ready, for these reasons.
    NeverReady(String),
    /// It has something in hand and makes no progress.
    Stuck,
}

impl std::fmt::Display for Sickness {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Deaf => write!(f, "not heard for {} s", DEAF_AFTER.as_secs()),
            Self::NeverHeard => write!(f, "starting: never heard for {} s", STARTING_FOR.as_secs()),
            Self::NeverReady(why) => write!(f, "starting: not ready for {} s: {why}", STARTING_FOR.as_secs()),
            Self::Stuck => write!(f, "stuck: no progress for {} s with work in hand", STUCK_AFTER.as_secs()),
        }
    }
}

/// What there is to be known of one start of a process that somebody else started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incarnation {
    /// Which start.
    pub boot_id: BootId,
    /// It waits until it may work.
    pub is_held: bool,
    /// It is on its way out.
    pub is_draining: bool,
    /// Resident memory by its own word, bytes.
    pub rss_bytes: u64,
}

impl Registry {
    /// Knows every agent of the plan and nothing about them.
    #[must_use]
    pub fn new(plan: &Plan, settings: &Settings) -> Self {
        let known = plan.agents.iter().map(|agent| {
            let settings = settings.agents.get(&agent.name).cloned();
            let known = Known {
                settings,
                is_external: agent.launch.is_none(),
                max_concurrent: agent.max_concurrent,
                takes_tasks: agent.takes_tasks,
                ..Known::default()
            };
            (agent.name.clone(), known)
        });
        Self { known: Mutex::new(known.collect()), own: Mutex::new(None) }
    }

    /// Our own heartbeat came in, along the way that all heartbeats take.
    fn hear_own(&self, now: Instant) {
        let mut own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        let since = own.filter(|(_, last)| now.duration_since(*last) <= QUIET).map_or(now, |(since, _)| since);
        *own = Some((since, now));
    }

    /// Since when heartbeats reach us; `None` while not even our own do.
    #[must_use]
    pub fn listening_since(&self, now: Instant) -> Option<Instant> {
        let own = *self.own.lock().unwrap_or_else(PoisonError::into_inner);
        own.filter(|(_, last)| now.duration_since(*last) <= QUIET).map(|(since, _)| since)
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<String, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with<T>(&self, name: &str, act: impl FnOnce(&mut Known) -> T) -> Option<T> {
        self.known().get_mut(name).map(act)
    }

    /// A process was started, adopted, or heard for the first time.
    pub(super) fn started(&self, name: &str, pid: u32, boot_id: BootId, now: Instant) {
        self.with(name, |known| {
            known.pid = Some(pid);
            known.boot_id = Some(boot_id);
            known.started_at = Some(now);
            (known.beat, known.moved, known.ready_at, known.rss_bytes) = (None, None, None, None);
            // What somebody else starts may be in quarantine all the same.
            if !known.is_external {
                known.quarantined = None;
            }
            known.phase = Phase::Usual;
        });
    }

    /// A process ended. Gives the messages it had in hand, by their reply subjects.
    pub(super) fn ended(&self, name: &str, how: &str) -> Vec<String> {
        let in_hand = self.with(name, |known| {
            known.pid = None;
            known.rss_bytes = None;
            known.last_end = Some(how.to_owned());
            known.phase = Phase::Usual;
            known.beat.as_ref().map(|(_, beat)| beat.in_hand.clone())
        });
        in_hand.flatten().unwrap_or_default()
    }

    /// It said that it is ready.
    pub(super) fn ready(&self, name: &str, now: Instant) {
        self.with(name, |known| known.ready_at = known.ready_at.or(Some(now)));
    }

    /// How often it ended, of what the record holds.
    pub(super) fn restarts(&self, name: &str, ends: &[End]) {
        self.with(name, |known| known.ends = ends.to_vec());
    }

    /// It stays down, or not any more.
    pub(super) fn quarantined(&self, name: &str, reason: Option<&str>) {
        self.with(name, |known| known.quarantined = reason.map(str::to_owned));
    }

    /// What is being done with it.
    pub(super) fn phase(&self, name: &str, phase: Phase) {
        self.with(name, |known| known.phase = phase);
    }

    /// What was measured of it, and what drifts.
    pub(super) fn measured(&self, name: &str, rss_bytes: Option<u64>, drift: Option<Value>) {
        self.with(name, |known| {
            known.rss_bytes = rss_bytes;
            if let Some(drift) = drift {
                known.drift = drift;
            }
        });
    }

    /// A heartbeat came in. One of an earlier start of the same agent is ignored; a later start of an agent that somebody
    /// else starts is a new one (their ids are in the order of time).
    pub fn beat(&self, beat: &Heartbeat, now: Instant) {
        if beat.agent == NAME {
            if beat.pid == std::process::id() {
                self.hear_own(now);
            }
            return;
        }
        let is_new = self
            .with(&beat.agent, |known| known.is_external && known.boot_id.is_none_or(|boot_id| boot_id < beat.boot_id));
        if is_new == Some(true) {
            self.started(&beat.agent, beat.pid, beat.boot_id, now);
        }
        self.with(&beat.agent, |known| {
            if known.boot_id != Some(beat.boot_id) || known.pid.is_none() {
                return;
            }
            if known.moved.is_none_or(|(progress, _)| progress != beat.progress) {
                known.moved = Some((beat.progress, now));
            }
            if beat.unready.is_empty() && !beat.held && !beat.draining {
                known.ready_at.get_or_insert(now);
            }
            known.beat = Some((now, beat.clone()));
        });
    }

    /// What there is of a process that somebody else started; `None` before the first.
    pub(super) fn incarnation(&self, name: &str) -> Option<Incarnation> {
        self.with(name, |known| {
            let (_, beat) = known.beat.as_ref()?;
            Some(Incarnation {
                boot_id: beat.boot_id,
                is_held: beat.held,
                is_draining: beat.draining,
                rss_bytes: beat.rss_bytes,
            })
        })?
    }

    /// Why a process must be ended that runs, if it must. Counted from when we could have heard it: an outage of the broker is
    /// no reason to end everybody; nor is one of the store, without which nobody is ready (`store_since`: since when it
    /// answers us).
    pub(super) fn sickness(&self, name: &str, now: Instant, store_since: Option<Instant>) -> Option<Sickness> {
        let listening = self.listening_since(now)?;
        let known = self.known();
        let known = known.get(name)?;
        let (started, passed) = (known.started_at?, |since: Instant| now.duration_since(since.max(listening)));
        let Some((at, beat)) = &known.beat else {
            return (passed(started) > STARTING_FOR).then_some(Sickness::NeverHeard);
        };
        if passed(*at) > DEAF_AFTER {
            return Some(Sickness::Deaf);
        }
        let store_since = store_since?;
        if known.ready_at.is_none() && !beat.held && !beat.draining && passed(started.max(store_since)) > STARTING_FOR {
            return Some(Sickness::NeverReady(beat.unready.join(", ")));
        }
        let still = known.moved.is_some_and(|(_, since)| passed(since.max(store_since)) > STUCK_AFTER);
        let old = u128::try_from(beat.oldest_in_flight_ms).unwrap_or(0) > STUCK_AFTER.as_millis();
        (beat.busy && old && still && !beat.draining).then_some(Sickness::Stuck)
    }

    /// Every agent of the plan that may run was heard since its start and is ready.
    #[must_use]
    pub fn all_heard(&self) -> bool {
        let known = self.known();
        !known.is_empty() && known.values().all(|k| k.quarantined.is_some() || (k.pid.is_some() && k.beat.is_some()))
    }

    /// Whether somebody who depends on it may start: it is ready, or nobody waits for it because it stays down.
    pub(super) fn is_settled(&self, name: &str) -> bool {
        self.with(name, |known| {
            known.quarantined.is_some()
                || known.phase == Phase::Stopped
                || (known.pid.is_some() && known.ready_at.is_some())
        })
        .unwrap_or(true)
    }

    /// Since when it runs well: heard not long ago, ready, neither stuck nor ending.
    pub(super) fn well_since(&self, name: &str, now: Instant) -> Option<Instant> {
        self.with(name, |known| matches!(verdict(known, now), "healthy" | "busy").then_some(known.ready_at).flatten())?
    }

    /// Inputs handled and attempts failed since its start, of its latest heartbeat.
    pub(super) fn tried(&self, name: &str) -> Option<(u64, u64)> {
        self.with(name, |known| known.beat.as_ref().map(|(_, beat)| (beat.handled, beat.failed)))?
    }

    /// The start of it that runs.
    #[must_use]
    pub fn boot_id(&self, name: &str) -> Option<BootId> {
        self.with(name, |known| known.boot_id.filter(|_| known.pid.is_some()))?
    }

    /// A person wants it started anew. Says whether there is such an agent.
    pub fn want(&self, name: &str, reason: &str) -> bool {
        self.with(name, |known| known.wanted = Some(reason.to_owned())).is_some()
    }

    /// What a person wanted, once.
    pub(super) fn take_wanted(&self, name: &str) -> Option<String> {
        self.with(name, |known| known.wanted.take())?
    }

    /// Its declared state was changed by a person.
    pub fn declared_anew(&self, name: &str) {
        self.with(name, |known| known.is_stale = true);
    }

    /// Whether it was, once.
    pub(super) fn take_stale(&self, name: &str) -> bool {
        self.with(name, |known| std::mem::take(&mut known.is_stale)).unwrap_or(false)
    }

    /// The agents for the roster and for whoever routes tasks to them.
    #[must_use]
    pub fn members(&self, now: Instant) -> Vec<Member> {
        let member = |(name, known): (&String, &Known)| Member {
            name: name.clone(),
            verdict: verdict(known, now),
            capabilities: known.settings.as_ref().map_or_else(Vec::new, |settings| settings.capabilities.clone()),
            takes_tasks: known.takes_tasks,
            load: known.beat.as_ref().map_or(0, |(_, beat)| beat.queue_depth),
            max_concurrent: known.max_concurrent,
            heard_ago: known.beat.as_ref().map(|(at, _)| now.duration_since(*at)),
        };
        self.known().iter().map(member).collect()
    }

    /// The agents for people; `now_ms` is for the windows of restarts.
    #[must_use]
    pub fn view(&self, now: Instant, now_ms: i64) -> Value {
        let rows = self.known().iter().map(|(name, known)| row(name, known, now, now_ms)).collect();
        Value::Array(rows)
    }
}

/// What others may know of an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its name.
    pub name: String,
    /// How it is, as in `swarm agents`.
    pub verdict: &'static str,
    /// What it declares.
    pub capabilities: Vec<String>,
    /// It consumes tasks.
    pub takes_tasks: bool,
    /// Messages in its hands, of its latest heartbeat.
    pub load: u64,
    /// Messages it handles at once.
    pub max_concurrent: u64,
    /// How long ago it was heard; `None`: never since its start.
    pub heard_ago: Option<Duration>,
}

fn verdict(known: &Known, now: Instant) -> &'static str {
    if known.quarantined.is_some() {
        return "quarantined";
    }
    if known.phase == Phase::Stopped {
        return "stopped";
    }
    let Some((at, beat)) = &known.beat else {
        return if known.pid.is_some() { "starting" } else { "down" };
    };
    if known.pid.is_none() {
        "down"
    } else if now.duration_since(*at) > QUIET {
        "deaf"
    } else if beat.held {
        "held"
    } else if beat.busy && beat.oldest_in_flight_ms > STUCK_MS {
        "stuck"
    } else if beat.draining || known.phase == Phase::Ending {
        "draining"
    } else if known.ready_at.is_none() {
        "starting"
    } else if beat.busy {
        "busy"
    } else {
        "healthy"
    }
}

fn row(name: &str, known: &Known, now: Instant, now_ms: i64) -> Value {
    let beat = known.beat.as_ref().map(|(_, beat)| beat);
    let ended = |kinds: &[RestartKind], within_ms| windows::count(&known.ends, kinds, now_ms, within_ms);
    let by_kind = RestartKind::ALL.into_iter().map(|kind| (kind.word(), ended(&[kind], windows::LONGEST_MS)));
    let by_kind: BTreeMap<&str, usize> = by_kind.filter(|(_, count)| *count > 0).collect();
    json!({
        "agent": name,
        "verdict": verdict(known, now),
        "pid": known.pid,
        "boot_id": known.boot_id,
        "up_ms": known.started_at.filter(|_| known.pid.is_some()).map(|at| now.duration_since(at).as_millis()),
        "heard_ms_ago": known.beat.as_ref().map(|(at, _)| now.duration_since(*at).as_millis()),
        "moved_ms_ago": known.moved.map(|(_, since)| now.duration_since(since).as_millis()),
        "restarts": ended(&RestartKind::ALL, windows::LONGEST_MS),
        "restarts_in": {
            "60s": ended(&RestartKind::ALL, 60_000),
            "15min": ended(&RestartKind::ALL, 900_000),
            "24h": ended(&RestartKind::ALL, windows::LONGEST_MS),
        },
        "restarts_by_kind": by_kind,
        "last_end": known.last_end,
        "quarantined": known.quarantined,
        "unready": beat.map_or_else(Vec::new, |b| b.unready.clone()),
        "progress": beat.map(|b| b.progress),
        "handled": beat.map(|b| b.handled),
        "failed": beat.map(|b| b.failed),
        "queue_depth": beat.map(|b| b.queue_depth),
        "rss_bytes": known.rss_bytes.or_else(|| beat.map(|b| b.rss_bytes)),
        "profile": known.settings.as_ref().map(|settings| settings.profile.shown()),
        "capabilities": known.settings.as_ref().map(|settings| settings.capabilities.clone()),
        "critical": known.settings.as_ref().map(|settings| settings.is_critical),
        "drift": known.drift,
        "last_success_ms": beat.map(|b| b.dependencies.clone()),
        "lacks": beat.map_or_else(Vec::new, |b| b.lacks.clone()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOOT: BootId = BootId(uuid::Uuid::from_u128(5));

    fn registry() -> Registry {
        let agent = |name: &str, launch| super::super::PlannedAgent {
            name: name.to_owned(),
            launch,
            max_concurrent: 8,
            takes_tasks: false,
        };
        let launch = super::super::Launch { program: "no".into(), env: BTreeMap::new(), log: "no".into() };
        let plan = Plan { agents: vec![agent("a", Some(launch)), agent("x", None)], run_dir: "run".into() };
        Registry::new(&plan, &Settings::of_nobody())
    }

    fn heartbeat(busy: bool, oldest_in_flight_ms: i64) -> Heartbeat {
        Heartbeat {
            agent: "a".into(),
            boot_id: BOOT,
            pid: 1,
            progress: 1,
            busy,
            oldest_in_flight_ms,
            rss_bytes: 0,
            queue_depth: 0,
            dependencies: BTreeMap::new(),
            in_hand: vec!["$JS.ACK.1".into()],
            lacks: vec![],
            draining: false,
            unready: vec![],
            held: false,
            handled: 0,
            failed: 0,
        }
    }

    fn own() -> Heartbeat {
        Heartbeat { agent: NAME.into(), pid: std::process::id(), ..heartbeat(false, 0) }
    }

    /// A clock in ms, and a supervisor that hears itself.
    struct Stage {
        start: Instant,
        registry: Registry,
    }

    impl Stage {
        fn new() -> Self {
            Self { start: Instant::now(), registry: registry() }
        }

        fn at(&self, ms: u64) -> Instant {
            self.start + Duration::from_millis(ms)
        }

        fn hear_own(&self, from: u64, to: u64) {
            (from..=to).step_by(2_000).for_each(|ms| self.registry.beat(&own(), self.at(ms)));
        }

        fn sickness(&self, ms: u64) -> Option<Sickness> {
            self.registry.sickness("a", self.at(ms), Some(self.start))
        }

        fn verdict(&self, ms: u64) -> String {
            self.registry.view(self.at(ms), 0)[0]["verdict"].as_str().unwrap().to_owned()
        }
    }

    #[test]
    fn silence_counts_only_while_our_own_heartbeats_come_back_to_us() {
        let stage = Stage::new();
        stage.registry.started("a", 1, BOOT, stage.at(0));
        stage.registry.beat(&heartbeat(false, 0), stage.at(0));
        assert_eq!(stage.sickness(3_600_000), None, "nobody was ever heard");
        stage.hear_own(0, 30_000);
        assert_eq!(stage.sickness(30_000), None);
        assert_eq!(stage.sickness(30_001), Some(Sickness::Deaf));
        assert_eq!(stage.sickness(35_000), Some(Sickness::Deaf));
        assert_eq!(stage.sickness(35_001), None, "not even we can be heard");
        stage.hear_own(36_000, 66_000);
        assert_eq!(stage.sickness(66_000), None, "they get the usual time after it is back");
        assert_eq!(stage.sickness(66_001), Some(Sickness::Deaf));
        stage.registry.beat(&Heartbeat { pid: 1, ..own() }, stage.at(71_000));
        assert_eq!(stage.sickness(71_001), None, "another supervisor's heartbeats are not ours");
    }

    #[test]
    fn a_start_has_a_deadline_of_its_own_for_being_heard_and_for_being_ready() {
        let stage = Stage::new();
        stage.hear_own(0, 300_000);
        stage.registry.started("a", 1, BOOT, stage.at(0));
        assert_eq!((stage.sickness(60_000), stage.verdict(60_000).as_str()), (None, "starting"));
        assert_eq!(stage.sickness(60_001), Some(Sickness::NeverHeard));
        let unready = Heartbeat { unready: vec!["a consumer is not bound".into()], ..heartbeat(false, 0) };
        (1..31).for_each(|i| stage.registry.beat(&unready, stage.at(i * 2_000)));
        assert_eq!((stage.sickness(60_000), stage.verdict(60_000).as_str()), (None, "starting"));
        assert_eq!(stage.sickness(60_001), Some(Sickness::NeverReady("a consumer is not bound".into())));
        let since = |ms| stage.registry.sickness("a", stage.at(60_001), Some(stage.at(ms)));
        assert_eq!((since(0), since(2)), (stage.sickness(60_001), None), "the store was away until then");
        assert_eq!(stage.registry.sickness("a", stage.at(60_001), None), None, "the store is away");
        stage.registry.beat(&heartbeat(false, 0), stage.at(61_000));
        stage.registry.beat(&unready, stage.at(299_000));
        assert_eq!(stage.sickness(300_000), None, "it was ready once: an outage is no start");
    }

    #[test]
    fn busy_without_progress_is_stuck_and_busy_with_progress_is_not() {
        let stage = Stage::new();
        stage.hear_own(0, 200_000);
        stage.registry.started("a", 1, BOOT, stage.at(0));
        let held = |progress, ms: i64| Heartbeat { progress, ..heartbeat(true, ms) };
        stage.registry.beat(&held(1, 0), stage.at(0));
        stage.registry.beat(&held(1, 61_000), stage.at(60_000));
        assert_eq!((stage.sickness(60_000), stage.verdict(60_000).as_str()), (None, "stuck"));
        assert_eq!(stage.sickness(60_001), Some(Sickness::Stuck));
        stage.registry.beat(&held(2, 61_000), stage.at(60_002));
        assert_eq!(stage.sickness(60_003), None, "it moves");
        stage.registry.beat(&held(2, 60_000), stage.at(121_000));
        assert_eq!(stage.sickness(121_001), None, "nothing is in hand for that long");
        stage.registry.beat(&Heartbeat { busy: false, ..held(2, 99_000) }, stage.at(122_000));
        assert_eq!(stage.sickness(125_000), None, "idle is well");
    }

    #[test]
    fn a_verdict_needs_progress_and_not_a_pulse() {
        let stage = Stage::new();
        assert_eq!(stage.verdict(0), "down");
        stage.registry.started("a", 1, BOOT, stage.at(0));
        assert_eq!(stage.verdict(0), "starting");
        let after = |beat: Heartbeat, ms| {
            stage.registry.beat(&beat, stage.at(ms));
            stage.verdict(10_000)
        };
        assert_eq!(after(Heartbeat { boot_id: BootId(uuid::Uuid::nil()), ..heartbeat(false, 0) }, 9_000), "starting");
        assert_eq!(after(Heartbeat { unready: vec!["x".into()], ..heartbeat(false, 0) }, 9_000), "starting");
        assert_eq!(after(Heartbeat { held: true, ..heartbeat(false, 0) }, 9_000), "held");
        assert_eq!(after(heartbeat(false, 0), 10_000), "healthy");
        assert_eq!(after(heartbeat(true, 100), 10_000), "busy");
        assert_eq!(after(heartbeat(true, 15_001), 10_000), "stuck");
        assert_eq!(after(Heartbeat { draining: true, ..heartbeat(false, 0) }, 10_000), "draining");
        assert_eq!(after(heartbeat(false, 0), 4_000), "deaf");
        stage.registry.beat(&heartbeat(false, 0), stage.at(10_000));
        stage.registry.phase("a", Phase::Ending);
        assert_eq!(stage.verdict(10_000), "draining");
        stage.registry.phase("a", Phase::Stopped);
        assert_eq!(stage.verdict(10_000), "stopped");
        assert_eq!(stage.registry.ended("a", "exit 1"), ["$JS.ACK.1"]);
        assert_eq!(stage.verdict(10_000), "down");
        stage.registry.quarantined("a", Some("4 faults in 60 s"));
        assert_eq!(stage.verdict(10_000), "quarantined");
    }

    #[test]
    fn what_somebody_else_starts_is_known_by_its_newest_start() {
        let stage = Stage::new();
        let beat = |n: u128, held| {
            let beat =
                Heartbeat { agent: "x".into(), boot_id: BootId(uuid::Uuid::from_u128(n)), held, ..heartbeat(false, 0) };
            stage.registry.beat(&beat, stage.at(0));
            stage.registry.incarnation("x").map(|one| (one.boot_id.0.as_u128(), one.is_held))
        };
        assert_eq!(stage.registry.incarnation("x"), None);
        assert_eq!(beat(5, true), Some((5, true)));
        assert_eq!(beat(6, true), Some((6, true)));
        assert_eq!(beat(5, false), Some((6, true)), "late words of the one before");
        assert_eq!(beat(6, false), Some((6, false)));
        stage.registry.quarantined("x", Some("4 faults in 60 s"));
        assert_eq!(beat(7, true), Some((7, true)));
        assert_eq!(stage.registry.view(stage.at(0), 0)[1]["verdict"], "quarantined", "a new start of it is no release");
    }

    #[test]
    fn restarts_are_told_by_window_and_by_kind() {
        let stage = Stage::new();
        let now = 100_000_000;
        let ends = [(now, RestartKind::Crash), (now - 60_000, RestartKind::Hang), (now - 900_000, RestartKind::Crash)];
        stage.registry.restarts("a", &ends);
        let row = stage.registry.view(stage.at(0), now)[0].clone();
        assert_eq!(row["restarts_in"], json!({ "60s": 1, "15min": 2, "24h": 3 }));
        assert_eq!(row["restarts_by_kind"], json!({ "crash": 2, "hang": 1 }));
        assert_eq!(row["restarts"], 3);
    }

    #[test]
    fn what_a_person_wants_is_done_once() {
        let registry = registry();
        assert!(registry.want("a", "new settings") && !registry.want("nobody", ""));
        assert_eq!(registry.take_wanted("a").as_deref(), Some("new settings"));
        assert_eq!(registry.take_wanted("a"), None);
        registry.declared_anew("a");
        assert!(registry.take_stale("a") && !registry.take_stale("a"));
    }
}
