//! The router: one request in, one answer out, whatever the tiers do.

mod attempt;
mod run;
mod state;
mod streaming;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use domain::time::{Clock, UnixMs};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::answer::{Answer, Embeddings};
use crate::cache::flight::{Flights, Lost, Role};
use crate::cache::{Cache, CacheKind, Entry, FlightKey, Hit, Keys};
use crate::config::{AliasConfig, AliasKind, Config};
use crate::failure::{Failure, Kind};
use crate::meters::Meters;
use crate::provenance::{Cached, Provenance, UsageSink};
use crate::quota::Quota;
use crate::request::{ChatRequest, USUAL_PRIORITY};
use crate::tier::Tier;
use run::{Body, Run};
pub use state::{RouterState, Tested};
pub use streaming::Streaming;

/// Who asks; said by the key of the caller, never by the request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Which agent.
    pub agent: Arc<str>,
    /// What it may spend in a month, millionths of a dollar.
    pub cap_micros: Option<u64>,
}

/// What comes of a request.
#[derive(Debug)]
pub enum Reply {
    /// A whole answer. A request that asked for pieces gets it in pieces all the same, from whoever writes the reply.
    Whole(Arc<Answer>, Box<Provenance>),
    /// An answer under way.
    Stream(Box<Streaming>),
    /// None, and why.
    Failed(Failure, Box<Provenance>),
}

/// How long after a deadline a shared call may still say how it ended. It ends by that deadline itself, and only it knows what
/// each tier did; left a moment too early it would be aborted, and no breaker, record or client would hear of it.
const LANDING: Duration = Duration::from_millis(50);

/// How a flight ended.
type Landed = Result<(Arc<Answer>, Box<Provenance>), (Failure, Box<Provenance>)>;

/// The router.
pub struct Router {
    config: Config,
    tiers: BTreeMap<String, Arc<Tier>>,
    cache: Cache,
    quota: Quota,
    flights: Flights<FlightKey, Landed>,
    usage: Arc<dyn UsageSink>,
    clock: Arc<dyn Clock>,
    at_once: Arc<Semaphore>,
    meters: Meters,
    boot: u64,
    next_request: std::sync::atomic::AtomicU64,
}

impl std::fmt::Debug for Router {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Router").field("tiers", &self.tiers).finish_non_exhaustive()
    }
}

/// What the router is made of besides its configuration.
pub struct Parts {
    /// Cached answers.
    pub cache: Cache,
    /// Quotas and budgets.
    pub quota: Quota,
    /// Where usage goes.
    pub usage: Arc<dyn UsageSink>,
    /// Time of the day.
    pub clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parts").finish_non_exhaustive()
    }
}

impl Router {
    /// A router of this configuration.
    ///
    /// # Errors
    /// What can't be used although it could be read.
    pub fn new(config: Config, parts: Parts) -> Result<Arc<Self>, Vec<String>> {
        let http = Tier::client().map_err(|error| vec![error])?;
        let mut faults = Vec::new();
        let mut tiers = BTreeMap::new();
        for (name, tier) in &config.tiers {
            let clock = Arc::clone(&parts.clock);
            match Tier::new(tier.clone(), config.bounds, config.breaker, http.clone(), clock) {
                Ok(tier) => drop(tiers.insert(name.clone(), Arc::new(tier))),
                Err(fault) => faults.push(fault),
            }
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        Ok(Arc::new(Self {
            at_once: Arc::new(Semaphore::new(config.bounds.max_at_once)),
            meters: Meters::new(&config),
            tiers,
            config,
            cache: parts.cache,
            quota: parts.quota,
            flights: Flights::default(),
            usage: parts.usage,
            clock: parts.clock,
            boot: rand::random(),
            next_request: std::sync::atomic::AtomicU64::new(0),
        }))
    }

    /// Its configuration.
    #[must_use]
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// Its cache.
    #[must_use]
    pub const fn cache(&self) -> &Cache {
        &self.cache
    }

    /// Answers a chat request.
    pub async fn chat(self: &Arc<Self>, caller: &Caller, request: ChatRequest) -> Reply {
        let arrived = Instant::now();
        let mut provenance = Box::new(self.provenance());
        let (alias, ticket) = match self.admit(&request.model, AliasKind::Chat) {
            Ok(admitted) => admitted,
            Err(failure) => return Reply::Failed(failure, provenance),
        };
        let keys = self.cache.keys(&caller.agent, &request).map(Arc::new);
        let streams = request.stream;
        let request = Arc::new(request);
        let run = |provenance| {
            let body = Body::Chat(Arc::clone(&request));
            self.run(caller, alias, body, keys.clone(), arrived, provenance)
        };
        if let Some(keys) = keys.as_ref().filter(|keys| keys.is_read)
            && let Some(hit) = self.fresh(keys).await
        {
            let mut run = run(provenance);
            let answer = run.take_cached(hit);
            return Reply::Whole(answer, run.end_cached());
        }
        if streams {
            return run(provenance).stream(Arc::clone(&request), ticket).await;
        }
        let Some(keys) = keys.clone().filter(|keys| keys.is_read) else {
            return reply(run(provenance).whole(Arc::clone(&request)).await);
        };
        let key = keys.flight(self.priority(&request));
        let request_id = provenance.request_id.clone();
        let deadline = arrived + request.extras.deadline_ms.map_or(alias.deadline, Duration::from_millis);
        loop {
            let seat = self.flights.join(key, || {
                run(Box::new(Provenance { request_id: request_id.clone(), ..Provenance::default() }))
                    .shared(Arc::clone(&request))
            });
            let follows = seat.role() == Role::Follower;
            self.meters.flight(follows);
            let failed = match seat.wait_until(deadline + LANDING).await {
                // The other's deadline is not ours: ask anew.
                Ok(Err((failure, _))) if follows && failure.kind == Kind::Deadline && Instant::now() < deadline => {
                    continue;
                }
                Ok(landed) => return reply(own_landing(landed, follows, &request_id)),
                Err(Lost::Died) => Failure::new(Kind::Internal, "the call that was shared ended without a result"),
                Err(Lost::TooLate) => {
                    let asked = alias.tiers.join(", ");
                    let text = format!("the deadline passed while an equal request waits for one of {asked}");
                    Failure::new(Kind::Deadline, text)
                }
            };
            provenance.request_id = request_id;
            return Reply::Failed(failed, provenance);
        }
    }

    /// Vectors of texts.
    ///
    /// # Errors
    /// Why there are none.
    pub async fn embed(
        self: &Arc<Self>,
        caller: &Caller,
        model: &str,
        texts: Vec<String>,
        extras: &crate::request::Extras,
    ) -> (Result<Embeddings, Failure>, Box<Provenance>) {
        let arrived = Instant::now();
        let provenance = Box::new(self.provenance());
        let (alias, _ticket) = match self.admit(model, AliasKind::Embeddings) {
            Ok(admitted) => admitted,
            Err(failure) => return (Err(failure), provenance),
        };
        let texts = Arc::new(texts);
        let body = Body::Embed { texts: Arc::clone(&texts), extras: Arc::new(extras.clone()) };
        self.run(caller, alias, body, None, arrived, provenance).embed(texts).await
    }

    fn run(
        self: &Arc<Self>,
        caller: &Caller,
        alias: &Arc<AliasConfig>,
        body: Body,
        keys: Option<Arc<Keys>>,
        arrived: Instant,
        provenance: Box<Provenance>,
    ) -> Run {
        Run::new(Arc::clone(self), caller.clone(), Arc::clone(alias), body, keys, arrived, provenance)
    }

    fn provenance(&self) -> Provenance {
        let number = self.next_request.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Provenance { request_id: format!("llm-{:016x}-{number:x}", self.boot), ..Provenance::default() }
    }

    fn priority(&self, request: &ChatRequest) -> u8 {
        request.extras.priority.unwrap_or(USUAL_PRIORITY)
    }

    fn admit(&self, model: &str, kind: AliasKind) -> Result<(&Arc<AliasConfig>, OwnedSemaphorePermit), Failure> {
        let Some(alias) = self.config.alias(model, kind) else {
            let known: Vec<&str> =
                self.config.aliases.values().filter(|a| a.kind == kind).map(|a| a.name.as_str()).collect();
            let text = format!("there is no model {model} here; there are {}", known.join(", "));
            return Err(Failure::new(Kind::UnknownModel, text));
        };
        let full = || {
            Failure::new(Kind::Overloaded, "as many requests as the router takes are under way")
                .with_retry_after(Some(Duration::from_secs(1)))
        };
        let ticket = Arc::clone(&self.at_once).try_acquire_owned().map_err(|_| full())?;
        Ok((alias, ticket))
    }

    async fn fresh(&self, keys: &Keys) -> Option<Hit> {
        let hit = match self.cache.near(keys) {
            Some(hit) => Some(hit),
            None => self.cache.far(keys).await,
        };
        self.meters.lookup(hit.as_ref().map(|hit| hit.kind));
        hit
    }

    /// Time of the day.
    #[must_use]
    pub fn now(&self) -> UnixMs {
        self.clock.now()
    }

    /// Aliases for chat of which no tier could be asked now.
    #[must_use]
    pub fn dark(&self) -> Vec<&str> {
        let now = Instant::now();
        let is_open = |tier: &Arc<Tier>| !tier.is_off() && tier.breaker.look(now).is_ok();
        let chat = self.config.aliases.values().filter(|alias| alias.kind == AliasKind::Chat);
        let dark = chat.filter(|alias| !self.chain(alias).any(is_open));
        dark.map(|alias| alias.name.as_str()).collect()
    }

    fn chain(&self, alias: &AliasConfig) -> impl Iterator<Item = &Arc<Tier>> {
        alias.tiers.iter().filter_map(|name| self.tiers.get(name))
    }
}

/// A landing as whoever waited for it tells it: the id is their own, and a follower's cost nothing more.
fn own_landing(landed: Landed, follows: bool, request_id: &str) -> Landed {
    let own = |mut provenance: Box<Provenance>| {
        request_id.clone_into(&mut provenance.request_id);
        if follows {
            provenance.cost_micros = 0;
        }
        provenance
    };
    match landed {
        Ok((answer, provenance)) => Ok((answer, own(provenance))),
        Err((failure, provenance)) => Err((failure, own(provenance))),
    }
}

fn reply(landed: Landed) -> Reply {
    match landed {
        Ok((answer, provenance)) => Reply::Whole(answer, provenance),
        Err((failure, provenance)) => Reply::Failed(failure, provenance),
    }
}

/// A hit as provenance tells it.
fn cached(hit: &Hit) -> Cached {
    Cached { kind: hit.kind, age: hit.age }
}

/// A fresh answer as the cache keeps it.
fn entry(answer: &Arc<Answer>, tier: &Tier, cost_micros: u64, clock: &dyn Clock) -> Entry {
    Entry {
        answer: Arc::clone(answer),
        tier: tier.config.name.clone(),
        model: answer.model.clone(),
        cost_micros,
        stored_at: clock.now(),
    }
}

/// Whether a kind of hit is an answer that is older than it should be.
const fn is_stale(kind: CacheKind) -> bool {
    matches!(kind, CacheKind::Stale)
}
