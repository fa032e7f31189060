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
mod tests;
