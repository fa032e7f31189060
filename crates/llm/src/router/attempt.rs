//! One tier's turn: what must be had before it is asked, in the order in which it costs least to find out, and asking it.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::run::{Body, Run};
use crate::adapter::{ProviderLimits, estimated_prompt_tokens};
use crate::admission::Slot;
use crate::answer::{Answer, Embeddings, estimated_tokens};
use crate::breaker::Pass;
use crate::failure::{Failure, Kind};
use crate::format::check_format;
use crate::live::Live;
use crate::quota::{Ask, Refused, Reservation};
use crate::request::ChatRequest;
use crate::tier::Tier;

/// How an answer is wanted, and of what kind it is.
pub(super) trait Want: Send + Sync {
    /// The answer.
    type Got: Send;

    /// Asks one tier.
    fn ask(
        &self,
        tier: &Tier,
        times: Times,
    ) -> impl Future<Output = Result<(Self::Got, ProviderLimits), Failure>> + Send;
}

/// When a tier was asked, until when it may answer, and when the request itself ends.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    asked_at: Instant,
    until: Instant,
    deadline: Instant,
}

/// A whole answer.
pub(super) struct Whole<'a>(pub &'a ChatRequest);
/// An answer in pieces, from its first content on.
pub(super) struct Pieces<'a>(pub &'a ChatRequest);
/// Vectors of texts.
pub(super) struct Vectors<'a>(pub &'a [String]);

impl Want for Whole<'_> {
    type Got = Answer;

    async fn ask(&self, tier: &Tier, times: Times) -> Result<(Answer, ProviderLimits), Failure> {
        let (answer, limits) = tier.whole(self.0, times.until).await?;
        check_format(self.0, &answer)?;
        Ok((answer, limits))
    }
}

impl Want for Pieces<'_> {
    type Got = Live;

    async fn ask(&self, tier: &Tier, times: Times) -> Result<(Live, ProviderLimits), Failure> {
        let first_token_until = times.until.min(times.asked_at + tier.config.first_token);
        tier.open(self.0, first_token_until, times.deadline).await
    }
}

impl Want for Vectors<'_> {
    type Got = Embeddings;

    async fn ask(&self, tier: &Tier, times: Times) -> Result<(Embeddings, ProviderLimits), Failure> {
        tier.embed(self.0, times.until).await
    }
}

/// A tier that answered, and what is held until the answer is settled.
#[derive(Debug)]
pub(super) struct Taken<T> {
    pub tier: Arc<Tier>,
    pub got: T,
    pub pass: Pass,
    pub slot: Option<Slot>,
    pub reservation: Reservation,
    pub asked_at: Instant,
}

/// Why a tier did not answer.
#[derive(Debug)]
pub(super) struct Missed {
    pub failure: Failure,
    /// Whether it was asked at all.
    pub called: bool,
    pub took: Duration,
}

impl Missed {
    fn before(kind: Kind, retry_after: Option<Duration>) -> Self {
        let failure = Failure::new(kind, "").with_retry_after(retry_after);
        Self { failure, called: false, took: Duration::ZERO }
    }
}

impl Run {
    /// Gives one tier its turn, until `until` at most.
    pub(super) async fn attempt<W: Want>(
        &mut self,
        tier: &Arc<Tier>,
        want: &W,
        until: Instant,
    ) -> Result<Taken<W::Got>, Missed> {
        if let Body::Chat(request) = &self.body {
            tier.suits(request).map_err(|kind| Missed::before(kind, None))?;
        } else if tier.is_off() {
            return Err(Missed::before(Kind::Off, None));
        }
        if self.too_small.is_some_and(|tokens| tier.config.context_tokens <= tokens) {
            return Err(Missed::before(Kind::ContextLength, None));
        }
        tier.breaker.look(Instant::now()).map_err(|(kind, wait)| Missed::before(kind, Some(wait)))?;
        let slot = self.slot(tier, until).await?;
        let reservation = self.reserve(tier, until).await?;
        let asked_at = Instant::now();
        let pass = match tier.breaker.pass(asked_at) {
            Ok(pass) => pass,
            Err((kind, wait)) => {
                self.router.quota.release(reservation);
                return Err(Missed::before(kind, Some(wait)));
            }
        };
        let times = Times { asked_at, until: until.min(asked_at + tier.config.total), deadline: self.deadline };
        let asked = want.ask(tier, times).await;
        let took = asked_at.elapsed();
        self.provenance.upstream += took;
        tier.ended(took, asked.is_err());
        match asked {
            Ok((got, limits)) => {
                self.router.quota.observed(&tier.config.name, limits);
                Ok(Taken { tier: Arc::clone(tier), got, pass, slot, reservation, asked_at })
            }
            Err(failure) => {
                // A request in a hurry gave it less than any tier is given: that says nothing about the tier.
                let is_ours = matches!(failure.kind, Kind::Timeout | Kind::FirstTokenTimeout)
                    && took < self.router.config.bounds.floor.min(tier.config.total).min(tier.config.first_token);
                if is_ours {
                    drop(pass);
                } else if pass.failed(Instant::now(), &failure)
                    && let Some(gate) = &tier.gate
                {
                    gate.turn_away(Kind::BreakerOpen);
                }
                self.router.quota.release(reservation);
                Err(Missed { failure, called: true, took })
            }
        }
    }

    /// A place among those that are asked at once.
    async fn slot(&mut self, tier: &Tier, until: Instant) -> Result<Option<Slot>, Missed> {
        let Some(gate) = &tier.gate else { return Ok(None) };
        let from = Instant::now();
        // A turn that leaves no time for an answer is no turn.
        let latest = until.checked_sub(tier.usual_latency()).unwrap_or(from).max(from);
        let entered = gate.enter(self.priority, latest).await;
        let waited = from.elapsed();
        self.provenance.queued += waited;
        self.router.meters.queued(&tier.config.name, waited);
        entered.map(Some).map_err(|kind| Missed::before(kind, Some(gate.usually_held())))
    }

    /// Room in its quotas and budgets, for the most that this request can use.
    async fn reserve(&mut self, tier: &Tier, until: Instant) -> Result<Reservation, Missed> {
        let (most, likely, output) = match &self.body {
            Body::Chat(request) => {
                (request.most_prompt_tokens(), estimated_prompt_tokens(request), tier.most_output_tokens(request))
            }
            Body::Embed { texts, .. } => {
                let bytes: usize = texts.iter().map(String::len).sum();
                ((bytes + 16 * texts.len()) as u64, estimated_tokens(bytes), 0)
            }
        };
        // Money is reserved by what can't be passed; tokens, which the provider counts too, by what is likely: a bound of a
        // token a byte would let one request at a time through a small quota.
        let cost_micros = tier.config.prices.cost_micros(most, output).unwrap_or(u64::MAX);
        let ask = Ask {
            tier: &tier.config.name,
            agent: &self.caller.agent,
            agent_cap_micros_per_month: self.caller.cap_micros,
            priority: self.priority,
            tokens: likely.saturating_add(output),
            cost_micros,
            deadline: until.saturating_duration_since(Instant::now()),
        };
        match self.router.quota.reserve(ask).await {
            Ok(reservation) => {
                self.provenance.degraded |= reservation.degraded();
                Ok(reservation)
            }
            Err((refused, wait)) => {
                let kind = match refused {
                    Refused::BudgetOfDay | Refused::BudgetOfMonth | Refused::AgentCap => Kind::Budget,
                    Refused::RequestsPerMinute
                    | Refused::RequestsPerDay
                    | Refused::TokensPerMinute
                    | Refused::TokensPerDay
                    | Refused::Provider => Kind::Quota,
                };
                let failure = Failure::new(kind, refused.code()).with_retry_after(Some(wait));
                Err(Missed { failure, called: false, took: Duration::ZERO })
            }
        }
    }
}
