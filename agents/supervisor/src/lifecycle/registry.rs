//! What is known of each agent: its process, its latest heartbeat, and the verdict on it. Never just "online".
//!
//! Silence is measured by our own monotonic clock, from when a heartbeat came in: a wall clock that is wrong, ours or the
//! agent's, must not make a living agent look hung.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use domain::ids::BootId;
use domain::message::Heartbeat;
use serde_json::{Value, json};
use tokio::time::{Duration, Instant};

use super::Plan;
use crate::NAME;

/// No heartbeat for this long: deaf.
const QUIET: Duration = Duration::from_secs(5);
/// Something in hand for this long without progress: stuck, ms.
const STUCK_MS: i64 = 15_000;

/// The agents of a plan.
#[derive(Debug)]
pub struct Registry {
    known: Mutex<BTreeMap<String, Known>>,
    /// Since when our own heartbeats come in without a gap, and when the last one did.
    own: Mutex<Option<(Instant, Instant)>>,
}

#[derive(Debug, Default)]
struct Known {
    pid: Option<u32>,
    boot_id: Option<BootId>,
    started_at: Option<Instant>,
    beat: Option<(Instant, Heartbeat)>,
    restarts: u64,
    last_end: Option<String>,
    quarantined: Option<String>,
}

impl Registry {
    /// Knows every agent of the plan and nothing about them.
    #[must_use]
    pub fn new(plan: &Plan) -> Self {
        let known = plan.agents.iter().map(|agent| (agent.name.clone(), Known::default())).collect();
        Self { known: Mutex::new(known), own: Mutex::new(None) }
    }

    /// Our own heartbeat came in, along the way that all heartbeats take.
    fn hear_own(&self, now: Instant) {
        let mut own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        let since = own.filter(|(_, last)| now.duration_since(*last) <= QUIET).map_or(now, |(since, _)| since);
        *own = Some((since, now));
    }

    /// Since when heartbeats reach us; `None` while not even our own do.
    fn listening_since(&self, now: Instant) -> Option<Instant> {
        let own = *self.own.lock().unwrap_or_else(PoisonError::into_inner);
        own.filter(|(_, last)| now.duration_since(*last) <= QUIET).map(|(since, _)| since)
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<String, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A process was started or adopted.
    pub(super) fn started(&self, name: &str, pid: u32, boot_id: BootId, now: Instant) {
        if let Some(known) = self.known().get_mut(name) {
            known.pid = Some(pid);
            known.boot_id = Some(boot_id);
            known.started_at = Some(now);
            known.beat = None;
            known.quarantined = None;
        }
    }

    /// A process ended.
    pub(super) fn ended(&self, name: &str, how: &str) {
        if let Some(known) = self.known().get_mut(name) {
            known.pid = None;
            known.restarts += 1;
            known.last_end = Some(how.to_owned());
        }
    }

    /// It stays down.
    pub(super) fn quarantined(&self, name: &str, reason: &str) {
        if let Some(known) = self.known().get_mut(name) {
            known.quarantined = Some(reason.to_owned());
        }
    }

    /// A heartbeat came in. One of an earlier start of the same agent is ignored.
    pub fn beat(&self, beat: &Heartbeat, now: Instant) {
        if beat.agent == NAME && beat.pid == std::process::id() {
            self.hear_own(now);
        } else if let Some(known) = self.known().get_mut(&beat.agent)
            && known.pid == Some(beat.pid)
        {
            known.beat = Some((now, beat.clone()));
        }
    }

    /// No sign of life for too long, counted from when we could have heard one: an outage of the broker is no reason
    /// to kill everybody.
    pub(super) fn is_hung(&self, name: &str, now: Instant, starting: Duration, deaf: Duration) -> bool {
        let Some(listening_since) = self.listening_since(now) else { return false };
        let known = self.known();
        let Some(known) = known.get(name) else { return false };
        match (&known.beat, known.started_at) {
            (Some((at, _)), _) => now.duration_since((*at).max(listening_since)) > deaf,
            (None, Some(started)) => now.duration_since(started.max(listening_since)) > starting,
            (None, None) => false,
        }
    }

    /// Every agent of the plan was heard since its start and is not draining.
    #[must_use]
    pub fn all_heard(&self) -> bool {
        let known = self.known();
        !known.is_empty() && known.values().all(|k| k.pid.is_some() && k.beat.is_some())
    }

    /// The agents for people.
    #[must_use]
    pub fn view(&self, now: Instant) -> Value {
        let rows = self.known().iter().map(|(name, known)| row(name, known, now)).collect();
        Value::Array(rows)
    }
}

fn verdict(known: &Known, now: Instant) -> &'static str {
    if known.quarantined.is_some() {
        return "quarantined";
    }
    let Some((at, beat)) = &known.beat else {
        return if known.pid.is_some() { "starting" } else { "down" };
    };
    if known.pid.is_none() {
        "down"
    } else if now.duration_since(*at) > QUIET {
        "deaf"
    } else if beat.busy && beat.oldest_in_flight_ms > STUCK_MS {
        "stuck"
    } else if beat.draining {
        "draining"
    } else if beat.busy {
        "busy"
    } else {
        "healthy"
    }
}

fn row(name: &str, known: &Known, now: Instant) -> Value {
    let beat = known.beat.as_ref().map(|(_, beat)| beat);
    json!({
        "agent": name,
        "verdict": verdict(known, now),
        "pid": known.pid,
        "boot_id": known.boot_id,
        "up_ms": known.started_at.map(|at| now.duration_since(at).as_millis()),
        "restarts": known.restarts,
        "last_end": known.last_end,
        "quarantined": known.quarantined,
        "progress": beat.map(|b| b.progress),
        "queue_depth": beat.map(|b| b.queue_depth),
        "rss_bytes": beat.map(|b| b.rss_bytes),
        "last_success_ms": beat.map(|b| b.dependencies.clone()),
        "lacks": beat.map_or_else(Vec::new, |b| b.lacks.clone()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(pid: Option<u32>, beat_at: Option<Instant>, busy: bool, in_flight_ms: i64) -> Known {
        let beat = beat_at.map(|at| (at, heartbeat(busy, in_flight_ms)));
        Known { pid, beat, ..Known::default() }
    }

    fn own() -> Heartbeat {
        Heartbeat { agent: NAME.into(), pid: std::process::id(), ..heartbeat(false, 0) }
    }

    fn heartbeat(busy: bool, oldest_in_flight_ms: i64) -> Heartbeat {
        Heartbeat {
            agent: "a".into(),
            boot_id: BootId(uuid::Uuid::nil()),
            pid: 1,
            progress: 1,
            busy,
            oldest_in_flight_ms,
            rss_bytes: 0,
            queue_depth: 0,
            dependencies: BTreeMap::new(),
            in_hand: vec![],
            lacks: vec![],
            draining: false,
        }
    }

    #[test]
    fn silence_counts_only_while_our_own_heartbeats_come_back_to_us() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let registry = Registry::new(&Plan { agents: vec![], run_dir: "run".into() });
        registry.known().insert("a".into(), known(Some(1), None, false, 0));
        registry.beat(&heartbeat(false, 0), at(0));
        let is_hung = |ms| registry.is_hung("a", at(ms), Duration::from_secs(60), Duration::from_secs(30));
        let hear_own = |from: u64, to: u64| (from..=to).step_by(2_000).for_each(|ms| registry.beat(&own(), at(ms)));
        assert!(!is_hung(3_600_000), "nobody was ever heard");
        hear_own(0, 30_000);
        assert!(!is_hung(30_000));
        assert!(is_hung(30_001));
        assert!(is_hung(35_000));
        assert!(!is_hung(35_001), "not even we can be heard");
        hear_own(36_000, 66_000);
        assert!(!is_hung(66_000), "they get the usual time after it is back");
        assert!(is_hung(66_001));
        registry.beat(&Heartbeat { pid: 1, ..own() }, at(71_000));
        assert!(!is_hung(71_001), "another supervisor's heartbeats are not ours");
    }

    #[test]
    fn a_verdict_needs_progress_and_not_a_pulse() {
        let start = Instant::now();
        let at = |ms| Some(start + Duration::from_millis(ms));
        for (known, want) in [
            (known(None, None, false, 0), "down"),
            (known(Some(1), None, false, 0), "starting"),
            (known(Some(1), at(10_000), false, 0), "healthy"),
            (known(Some(1), at(10_000), true, 100), "busy"),
            (known(Some(1), at(10_000), true, 15_001), "stuck"),
            (known(Some(1), at(4_000), false, 0), "deaf"),
            (known(None, at(10_000), false, 0), "down"),
        ] {
            assert_eq!(verdict(&known, start + Duration::from_millis(10_000)), want);
        }
    }
}
