//! One request on its way through the tiers.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, sleep};

use super::attempt::{Missed, Pieces, Taken, Vectors, Want, Whole};
use super::streaming::Streaming;
use super::{Caller, Landed, Reply, Router, cached, entry, is_stale};
use crate::answer::{Answer, Embeddings, Usage};
use crate::cache::{Hit, Keys};
use crate::config::AliasConfig;
use crate::failure::{Failure, Kind, Next};
use crate::provenance::{Attempt, Provenance, UsageRow};
use crate::quota::Used;
use crate::request::{ChatRequest, Extras, URGENT_PRIORITY, USUAL_PRIORITY};
use crate::tier::Tier;

/// Longest wait before the last tier is asked again.
const LONGEST_RETRY_WAIT: Duration = Duration::from_secs(5);

/// What is asked.
#[derive(Debug, Clone)]
pub(super) enum Body {
    Chat(Arc<ChatRequest>),
    Embed { texts: Arc<Vec<String>>, extras: Arc<Extras> },
}

impl Body {
    pub(super) fn extras(&self) -> &Extras {
        match self {
            Self::Chat(request) => &request.extras,
            Self::Embed { extras, .. } => extras,
        }
    }
}

/// One request.
#[derive(Debug)]
pub(super) struct Run {
    pub router: Arc<Router>,
    pub caller: Caller,
    pub alias: Arc<AliasConfig>,
    pub body: Body,
    pub keys: Option<Arc<Keys>>,
    pub arrived: Instant,
    pub deadline: Instant,
    pub priority: u8,
    pub provenance: Box<Provenance>,
    /// A context window of so many tokens was too small.
    pub too_small: Option<u64>,
    /// Soonest time at which a tier that was left out may be asked.
    soonest: Option<Duration>,
}

/// How the walk through the tiers ended otherwise than by an answer.
enum Without {
    Failed(Failure),
    Cached(Hit),
}

impl Run {
    pub(super) fn new(
        router: Arc<Router>,
        caller: Caller,
        alias: Arc<AliasConfig>,
        body: Body,
        keys: Option<Arc<Keys>>,
        arrived: Instant,
        provenance: Box<Provenance>,
    ) -> Self {
        let within = body.extras().deadline_ms.map_or(alias.deadline, Duration::from_millis);
        let priority = body.extras().priority.unwrap_or(USUAL_PRIORITY);
        Self {
            router,
            caller,
            alias,
            body,
            keys,
            arrived,
            deadline: arrived + within,
            priority,
            provenance,
            too_small: None,
            soonest: None,
        }
    }

    /// A whole answer for everybody who joins: the cache's, if the call before this one ended only now.
    pub(super) async fn shared(mut self, request: Arc<ChatRequest>) -> Landed {
        match self.keys.as_ref().and_then(|keys| self.router.cache.since(keys)) {
            Some(hit) => {
                let answer = self.take_cached(hit);
                Ok((answer, self.end_cached()))
            }
            None => self.whole(request).await,
        }
    }

    /// A whole answer, whoever gives it.
    pub(super) async fn whole(mut self, request: Arc<ChatRequest>) -> Landed {
        match self.walk(&Whole(&request)).await {
            Ok(taken) => Ok(self.settle(taken)),
            Err(without) => self.landed_without(without),
        }
    }

    /// A streamed answer from its first content on.
    pub(super) async fn stream(mut self, request: Arc<ChatRequest>, ticket: OwnedSemaphorePermit) -> Reply {
        match self.walk(&Pieces(&request)).await {
            Ok(taken) => {
                self.provenance.tier = Some(Arc::clone(&taken.tier.name));
                Reply::Stream(Box::new(Streaming::new(self, request, taken, ticket)))
            }
            Err(without) => super::reply(self.landed_without(without)),
        }
    }

    /// Vectors.
    pub(super) async fn embed(mut self, texts: Arc<Vec<String>>) -> (Result<Embeddings, Failure>, Box<Provenance>) {
        match self.walk(&Vectors(&texts)).await {
            Ok(Taken { tier, got: vectors, pass, reservation, .. }) => {
                pass.succeeded(Instant::now());
                self.provenance.tier = Some(Arc::clone(&tier.name));
                self.provenance.model.clone_from(&vectors.model);
                self.provenance.cost_micros = cost(&tier, vectors.usage);
                self.router.quota.settle(reservation, used(vectors.usage, self.provenance.cost_micros));
                self.end("ok", vectors.usage);
                (Ok(vectors), self.provenance)
            }
            Err(without) => match self.landed_without(without) {
                Err((failure, provenance)) => (Err(failure), provenance),
                // Vectors have no keys, so nothing of the cache stands in for them.
                Ok((_, provenance)) => (Err(Failure::new(Kind::NoTier, "no vectors")), provenance),
            },
        }
    }

    fn landed_without(mut self, without: Without) -> Landed {
        match without {
            Without::Cached(hit) => {
                let answer = self.take_cached(hit);
                Ok((answer, self.end_cached()))
            }
            Without::Failed(failure) => {
                self.end(failure.kind.code(), Usage::default());
                Err((failure, self.provenance))
            }
        }
    }

    fn settle(mut self, taken: Taken<Answer>) -> (Arc<Answer>, Box<Provenance>) {
        let Taken { tier, got, pass, slot, reservation, .. } = taken;
        pass.succeeded(Instant::now());
        drop(slot);
        let answer = Arc::new(got);
        self.provenance.tier = Some(Arc::clone(&tier.name));
        self.provenance.model.clone_from(&answer.model);
        self.provenance.cost_micros = cost(&tier, answer.usage);
        self.router.quota.settle(reservation, used(answer.usage, self.provenance.cost_micros));
        if let Some(keys) = &self.keys {
            self.router.cache.put(keys, entry(&answer, &tier, self.provenance.cost_micros, self.router.clock.as_ref()));
        }
        self.end("ok", answer.usage);
        (answer, self.provenance)
    }

    /// An answer of the cache as this request's.
    pub(super) fn take_cached(&mut self, hit: Hit) -> Arc<Answer> {
        self.provenance.cached = Some(cached(&hit));
        self.provenance.tier = Some(Arc::from(hit.entry.tier.as_str()));
        self.provenance.model.clone_from(&hit.entry.model);
        if !is_stale(hit.kind) && self.router.cache.wants_shadow() {
            self.shadow(&hit);
        }
        hit.entry.answer
    }

    /// Ends a request that the cache answered: no tokens, no cost.
    pub(super) fn end_cached(mut self) -> Box<Provenance> {
        self.end("ok", Usage::default());
        self.provenance
    }

    /// Asks the free tiers again in the background, to count how often the cache is wrong. Least important of all.
    fn shadow(&self, hit: &Hit) {
        let Body::Chat(request) = &self.body else { return };
        let (kind, old) = (hit.kind, Arc::clone(&hit.entry.answer));
        let mut again = (**request).clone();
        again.stream = false;
        again.extras.priority = Some(0);
        let request = Arc::new(again);
        let mut alias = AliasConfig::clone(&self.alias);
        alias.tiers.retain(|name| self.router.tiers.get(name).is_some_and(|tier| !tier.config.paid));
        let body = Body::Chat(Arc::clone(&request));
        let router = Arc::clone(&self.router);
        let run = Self::new(
            Arc::clone(&router),
            self.caller.clone(),
            Arc::new(alias),
            body,
            None,
            Instant::now(),
            Box::new(Provenance {
                request_id: format!("{}-shadow", self.provenance.request_id),
                ..Provenance::default()
            }),
        );
        tokio::spawn(async move {
            if let Ok((fresh, _)) = run.whole(Arc::clone(&request)).await {
                router.cache.shadow(kind, &request.format, &old, &fresh);
            }
        });
    }

    /// Gives each tier its turn until one answers.
    async fn walk<W: Want>(&mut self, want: &W) -> Result<Taken<W::Got>, Without> {
        let mut chain: Vec<Arc<Tier>> =
            self.alias.tiers.iter().filter_map(|name| self.router.tiers.get(name).cloned()).collect();
        let mut at = 0;
        let mut retries = self.router.config.bounds.retries;
        let mut looked_for_cached = false;
        while let Some(tier) = chain.get(at).cloned() {
            let now = Instant::now();
            if now >= self.deadline {
                return Err(self.without(Failure::new(Kind::Deadline, self.told("the deadline passed"))).await);
            }
            if tier.config.paid && self.priority < self.alias.free_below_priority && !looked_for_cached {
                looked_for_cached = true;
                if let Some(hit) = self.stale().await {
                    return Err(Without::Cached(hit));
                }
            }
            let until = self.share(&chain[at + 1..], now);
            let missed = match self.attempt(&tier, want, until).await {
                Ok(taken) => {
                    let took = taken.asked_at.elapsed();
                    self.note(&tier, None, true, took);
                    return Ok(taken);
                }
                Err(missed) => missed,
            };
            self.note(&tier, Some(missed.failure.kind), missed.called, missed.took);
            if let Some(wait) = missed.failure.retry_after {
                self.soonest = Some(self.soonest.map_or(wait, |soonest| soonest.min(wait)));
            }
            match missed.failure.kind.next() {
                Next::Client => return Err(self.without(missed.failure.told_of(&tier.name)).await),
                Next::LargerContext if missed.called => {
                    self.too_small = Some(self.too_small.unwrap_or(0).max(tier.config.context_tokens));
                    if !chain[at + 1..].iter().any(|later| later.config.context_tokens > tier.config.context_tokens) {
                        return Err(self.without(missed.failure.told_of(&tier.name)).await);
                    }
                }
                Next::LargerContext | Next::Tier => {}
            }
            let is_last = !chain[at + 1..].iter().any(|later| self.is_open(later));
            if is_last && retries > 0 && self.is_worth_a_retry(&missed) {
                retries -= 1;
                sleep(self.retry_wait(&missed)).await;
                continue;
            }
            if missed.failure.kind == Kind::QueueTooLong && self.priority >= URGENT_PRIORITY {
                // The queue would eat its deadline: of the rest, the fastest that is well comes first.
                chain[at + 1..].sort_by_key(|tier| (!self.is_open(tier), tier.usual_latency()));
            }
            at += 1;
        }
        let text = self.told("no tier answered");
        Err(self.without(Failure::new(self.verdict(), text).with_retry_after(self.soonest)).await)
    }

    /// How long a tier may take: the deadline, less a floor for each later tier that may be asked, and at least its own floor.
    fn share(&self, later: &[Arc<Tier>], now: Instant) -> Instant {
        let floor = self.router.config.bounds.floor;
        let kept = floor * u32::try_from(later.iter().filter(|tier| self.is_open(tier)).count()).unwrap_or(0);
        let own = self.deadline.checked_sub(kept).unwrap_or(now);
        own.max(now + floor).min(self.deadline)
    }

    fn is_open(&self, tier: &Tier) -> bool {
        !tier.is_off() && tier.breaker.look(Instant::now()).is_ok()
    }

    fn is_worth_a_retry(&self, missed: &Missed) -> bool {
        let is_fast = missed.called && missed.took <= self.router.config.bounds.retry_below;
        let may =
            matches!(missed.failure.kind, Kind::Reset | Kind::ServerError | Kind::Unreachable | Kind::RateLimited);
        let wait = self.retry_wait(missed);
        is_fast
            && may
            && wait <= LONGEST_RETRY_WAIT
            && Instant::now() + wait + self.router.config.bounds.floor <= self.deadline
    }

    /// What the provider asked for, and a little at random so that many do not come at once.
    fn retry_wait(&self, missed: &Missed) -> Duration {
        let jitter = Duration::from_millis(rand::random_range(50..150));
        missed.failure.retry_after.unwrap_or_default() + jitter
    }

    fn note(&mut self, tier: &Tier, failed: Option<Kind>, called: bool, took: Duration) {
        let attempt = Attempt { tier: Arc::clone(&tier.name), failed, called, took };
        if called {
            self.router.meters.attempt(&tier.config.name, attempt.outcome());
        }
        self.provenance.attempts.push(attempt);
    }

    /// What each tier said, in words for the client.
    fn told(&self, what: &str) -> String {
        format!("{what}: {}", self.provenance.attempts_line())
    }

    /// The kind of "nobody": money or quota where that alone stood in the way.
    fn verdict(&self) -> Kind {
        let why: Vec<Kind> = self
            .provenance
            .attempts
            .iter()
            .filter_map(|attempt| attempt.failed)
            .filter(|kind| *kind != Kind::Off)
            .collect();
        let all = |kinds: &[Kind]| !why.is_empty() && why.iter().all(|kind| kinds.contains(kind));
        if all(&[Kind::Budget]) {
            Kind::Budget
        } else if all(&[Kind::Budget, Kind::Quota]) {
            Kind::Quota
        } else if all(&[Kind::ContextLength]) {
            Kind::ContextLength
        } else {
            Kind::NoTier
        }
    }

    /// A cached answer in place of none, where that is allowed.
    async fn without(&self, failure: Failure) -> Without {
        let may = failure.kind.next() != Next::Client || matches!(failure.kind, Kind::NoTier | Kind::Deadline);
        match if may { self.stale().await } else { None } {
            Some(hit) => Without::Cached(hit),
            None => Without::Failed(failure),
        }
    }

    async fn stale(&self) -> Option<Hit> {
        let keys = self.keys.as_ref()?;
        let usual = self.alias.stale.then_some(self.router.config.cache.stale_s);
        let oldest_s = self.body.extras().max_stale_s.or(usual)?;
        self.router.cache.stale(keys, Duration::from_secs(oldest_s)).await
    }

    /// Writes down how it ended.
    pub(super) fn end(&mut self, outcome: &'static str, usage: Usage) {
        let took = self.arrived.elapsed();
        let provenance = &self.provenance;
        let cache = provenance.cached.map(|cached| cached.kind.word());
        self.router.meters.ended(&self.alias.name, outcome, provenance, took, usage);
        tracing::debug!(
            request_id = provenance.request_id,
            agent = %self.caller.agent,
            alias = self.alias.name,
            outcome,
            tier = provenance.tier.as_deref(),
            cache,
            attempts = %provenance.attempts_line(),
            took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            "answered"
        );
        self.router.usage.take(UsageRow {
            request_id: provenance.request_id.clone(),
            at_ms: self.router.clock.now().0,
            agent: self.caller.agent.to_string(),
            tenant: self.body.extras().tenant.clone(),
            correlation_id: self.body.extras().correlation_id.clone(),
            alias: self.alias.name.clone(),
            tier: provenance.tier.as_deref().map(str::to_owned),
            model: provenance.model.clone(),
            priority: self.priority,
            outcome,
            cache,
            prompt_tokens: usage.prompt_tokens,
            completion_tokens: usage.completion_tokens,
            estimated: usage.estimated,
            cost_micros: provenance.cost_micros,
            took_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            attempts: provenance.attempts_line(),
        });
    }
}

/// What tokens cost at a tier.
pub(super) fn cost(tier: &Tier, usage: Usage) -> u64 {
    tier.config.prices.cost_micros(usage.prompt_tokens, usage.completion_tokens).unwrap_or(u64::MAX)
}

/// What a reservation is settled with.
pub(super) const fn used(usage: Usage, cost_micros: u64) -> Used {
    Used {
        tokens: usage.prompt_tokens.saturating_add(usage.completion_tokens),
        cost_micros,
        estimated: usage.estimated,
    }
}
