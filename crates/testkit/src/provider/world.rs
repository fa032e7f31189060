//! What the double knows: its script, its settings, and all that happened to it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::embed;
use super::fault::Fault;
use super::limits::Meter;
use super::play::Pace;
use super::talk::Answer;
use super::wire::Request;
use super::{Dialect, KEY};

/// A request that came.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    /// When all of it was there.
    pub at: Instant,
    /// Where it went to, without the query.
    pub path: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// Its JSON; null when there was none.
    pub body: Value,
}

/// Tokens that would be on the bill.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Billed {
    /// Of prompts.
    pub prompt: u64,
    /// Of answers; of a cut stream what had been written.
    pub completion: u64,
}

pub(super) type AnswerFn = Arc<dyn Fn(&Value) -> Answer + Send + Sync>;
pub(super) type EmbedFn = Arc<dyn Fn(&str) -> Vec<f32> + Send + Sync>;

/// What answers say.
#[derive(Clone)]
pub(super) enum Script {
    /// Of the double's own: what fits the request.
    Own,
    Fixed(Answer),
    Made(AnswerFn),
}

/// What goes wrong until [`super::Provider::healthy`].
#[derive(Debug, Clone)]
pub(super) enum Lasting {
    Always(Fault),
    /// Every second time; whether the next one is hit.
    Flap(Fault, bool),
}

/// Everything.
pub(super) struct World {
    pub key: Option<String>,
    /// `None`: any model.
    pub models: Option<Vec<String>>,
    pub script: Script,
    pub embed: EmbedFn,
    pub pace: Pace,
    pub refuses_prefill: bool,
    pub meter: Option<Meter>,
    /// Ollama: how many are answered at a time, how many may wait for that.
    pub slots: Option<Arc<Semaphore>>,
    pub most_waiting: usize,
    pub waiting: usize,
    /// Closed while answers are held back.
    pub gate: Option<Arc<Semaphore>>,
    pub faults: VecDeque<Fault>,
    pub lasting: Option<Lasting>,
    pub keeps_requests: bool,
    pub requests: Vec<Seen>,
    pub calls: u64,
    pub paths: BTreeMap<String, usize>,
    pub in_flight: usize,
    pub max_in_flight: usize,
    pub cancelled: usize,
    pub billed: Billed,
    pub violations: Vec<String>,
    reported: BTreeSet<String>,
}

impl fmt::Debug for World {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("World").field("calls", &self.calls).field("faults", &self.faults).finish_non_exhaustive()
    }
}

impl World {
    pub(super) fn new(dialect: Dialect) -> Self {
        Self {
            key: (dialect != Dialect::Ollama).then(|| KEY.to_owned()),
            models: None,
            script: Script::Own,
            embed: Arc::new(|text| embed::vector(text, embed::DIMENSIONS)),
            pace: Pace { chunks: 4, pause: Duration::ZERO, latency: Duration::ZERO },
            refuses_prefill: false,
            meter: None,
            slots: None,
            most_waiting: 512,
            waiting: 0,
            gate: None,
            faults: VecDeque::new(),
            lasting: None,
            keeps_requests: true,
            requests: Vec::new(),
            calls: 0,
            paths: BTreeMap::new(),
            in_flight: 0,
            max_in_flight: 0,
            cancelled: 0,
            billed: Billed::default(),
            violations: Vec::new(),
            reported: BTreeSet::new(),
        }
    }

    /// Writes down what a client may not do, once.
    pub(super) fn violation(&mut self, what: String) {
        if self.reported.insert(what.clone()) {
            self.violations.push(what);
        }
    }

    /// What goes wrong with the next request. Those that only ask for a list are hit by what lasts, not by what is played
    /// once: else a health check would use up a fault that was meant for an answer.
    pub(super) fn next_fault(&mut self, asks_for_an_answer: bool) -> Option<Fault> {
        if asks_for_an_answer && let Some(fault) = self.faults.pop_front() {
            return Some(fault);
        }
        match &mut self.lasting {
            Some(Lasting::Always(fault)) => Some(fault.clone()),
            Some(Lasting::Flap(fault, hits)) if asks_for_an_answer => {
                let hit = *hits;
                *hits = !hit;
                hit.then(|| fault.clone())
            }
            _ => None,
        }
    }

    pub(super) fn bill(&mut self, (prompt, completion): (u64, u64)) {
        self.billed.prompt += prompt;
        self.billed.completion += completion;
        if let Some(meter) = &mut self.meter {
            meter.spend(completion);
        }
    }
}

/// What the tasks of a double share.
#[derive(Debug)]
pub(super) struct Shared {
    pub dialect: Dialect,
    world: Mutex<World>,
}

impl Shared {
    pub(super) fn new(dialect: Dialect) -> Self {
        Self { dialect, world: Mutex::new(World::new(dialect)) }
    }

    pub(super) fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request under way: counted from its first byte of work to its end, however it ends.
#[derive(Debug)]
pub(super) struct Flight(Arc<Shared>);

impl Flight {
    /// Counts the request and keeps it; gives its number too.
    pub(super) fn begin(shared: &Arc<Shared>, request: &Request, body: Option<&Value>) -> (Self, u64) {
        let mut world = shared.world();
        world.calls += 1;
        match world.paths.get_mut(&request.path) {
            Some(count) => *count += 1,
            None => {
                world.paths.insert(request.path.clone(), 1);
            }
        }
        if world.keeps_requests {
            let (path, headers) = (request.path.clone(), request.headers.clone());
            let body = body.cloned().unwrap_or(Value::Null);
            world.requests.push(Seen { at: Instant::now(), path, headers, body });
        }
        world.in_flight += 1;
        world.max_in_flight = world.max_in_flight.max(world.in_flight);
        let number = world.calls;
        drop(world);
        (Self(Arc::clone(shared)), number)
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.0.world().in_flight -= 1;
    }
}

/// A request that waits inside for a slot.
#[derive(Debug)]
pub(super) struct Waiting(Arc<Shared>);

impl Waiting {
    /// `None` when too many wait already.
    pub(super) fn begin(shared: &Arc<Shared>) -> Option<Self> {
        let mut world = shared.world();
        if world.waiting >= world.most_waiting {
            return None;
        }
        world.waiting += 1;
        drop(world);
        Some(Self(Arc::clone(shared)))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.world().waiting -= 1;
    }
}
