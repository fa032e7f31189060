//! An answer under way to a client: from its first content on no other tier may take over.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::attempt::Taken;
use super::entry;
use super::run::{Run, cost, used};
use crate::adapter::estimated_prompt_tokens;
use crate::admission::Slot;
use crate::answer::Piece;
use crate::breaker::Pass;
use crate::failure::{Failure, Kind};
use crate::format::check_format;
use crate::live::Live;
use crate::provenance::Provenance;
use crate::quota::Reservation;
use crate::request::ChatRequest;
use crate::tier::Tier;

/// A streamed answer. Dropped before its end, as when the client goes away, it closes the provider's connection, frees the
/// slot, and what was generated so far is paid by an estimate.
#[derive(Debug)]
pub struct Streaming {
    run: Run,
    request: Arc<ChatRequest>,
    live: Live,
    tier: Arc<Tier>,
    held: Option<Held>,
    asked_at: Instant,
    /// Why it stopped and, once, what it used: told last, when everything else was found good. Some providers count more
    /// than once on the way.
    last: VecDeque<Piece>,
    is_over: bool,
    _ticket: OwnedSemaphorePermit,
}

#[derive(Debug)]
struct Held {
    pass: Pass,
    slot: Option<Slot>,
    reservation: Reservation,
}

impl Streaming {
    pub(super) fn new(run: Run, request: Arc<ChatRequest>, taken: Taken<Live>, ticket: OwnedSemaphorePermit) -> Self {
        let Taken { tier, got: live, pass, slot, reservation, asked_at } = taken;
        let held = Some(Held { pass, slot, reservation });
        Self { run, request, live, tier, held, asked_at, last: VecDeque::new(), is_over: false, _ticket: ticket }
    }

    /// Where it comes from, as far as that is known before its end.
    #[must_use]
    pub const fn provenance(&self) -> &Provenance {
        &self.run.provenance
    }

    /// The next piece; `None` when the answer is whole and was told whole.
    ///
    /// # Errors
    /// [`Failure`], once; after it there is nothing more, and what was told is no answer.
    pub async fn next(&mut self) -> Option<Result<Piece, Failure>> {
        loop {
            if self.is_over {
                return self.last.pop_front().map(Ok);
            }
            match self.live.next().await {
                Some(Ok(piece @ Piece::Finish(_))) => self.last.push_back(piece),
                Some(Ok(Piece::Usage(_))) => {}
                Some(Ok(piece)) => return Some(Ok(piece)),
                Some(Err(failure)) => return Some(Err(self.broke(failure))),
                None => {
                    if let Err(failure) = self.whole() {
                        return Some(Err(failure));
                    }
                }
            }
        }
    }

    /// A piece that can be told without waiting, so that several leave in one write.
    pub fn ready(&mut self) -> Option<Piece> {
        while !self.is_over {
            match self.live.ready()? {
                piece @ Piece::Finish(_) => self.last.push_back(piece),
                Piece::Usage(_) => {}
                piece => return Some(piece),
            }
        }
        self.last.pop_front()
    }

    /// The provider said everything: check it, keep it, settle it.
    fn whole(&mut self) -> Result<(), Failure> {
        let Some(answer) = self.live.collector().answer(self.prompt_tokens()) else {
            return Err(self.broke(Failure::new(Kind::Cut, "a stream that ended without its end")));
        };
        if let Err(failure) = check_format(&self.request, &answer) {
            return Err(self.broke(failure));
        }
        self.is_over = true;
        let usage = answer.usage;
        self.last.push_back(Piece::Usage(usage));
        let provenance = &mut self.run.provenance;
        provenance.model.clone_from(&answer.model);
        provenance.cost_micros = cost(&self.tier, usage);
        let cost_micros = provenance.cost_micros;
        provenance.upstream = self.asked_at.elapsed();
        if let Some(held) = self.held.take() {
            held.pass.succeeded(Instant::now());
            drop(held.slot);
            self.run.router.quota.settle(held.reservation, used(usage, cost_micros));
        }
        if let Some(keys) = &self.run.keys {
            let answer = Arc::new(answer);
            let entry = entry(&answer, &self.tier, cost_micros, self.run.router.clock.as_ref());
            self.run.router.cache.put(keys, entry);
        }
        self.run.end("ok", usage);
        Ok(())
    }

    /// It ended after its beginning was told: nothing of it is kept, and what it used is estimated.
    fn broke(&mut self, failure: Failure) -> Failure {
        self.is_over = true;
        self.last.clear();
        self.close(&failure);
        failure.told_of(&self.tier.name)
    }

    /// About how many tokens were asked, where the provider did not say.
    fn prompt_tokens(&self) -> u64 {
        estimated_prompt_tokens(&self.request)
    }

    fn close(&mut self, failure: &Failure) {
        let Some(held) = self.held.take() else { return };
        let usage = self.live.collector().usage(self.prompt_tokens());
        self.run.provenance.cost_micros = cost(&self.tier, usage);
        self.run.provenance.upstream = self.asked_at.elapsed();
        if let Some(attempt) = self.run.provenance.attempts.last_mut() {
            attempt.failed = Some(failure.kind);
        }
        if failure.kind == Kind::Cancelled {
            // It answered well for as long as somebody listened.
            held.pass.succeeded(Instant::now());
        } else {
            self.tier.ended(self.asked_at.elapsed(), true);
            if held.pass.failed(Instant::now(), failure)
                && let Some(gate) = &self.tier.gate
            {
                gate.turn_away(Kind::BreakerOpen);
            }
        }
        drop(held.slot);
        self.run.router.quota.settle(held.reservation, used(usage, self.run.provenance.cost_micros));
        self.run.end(failure.kind.code(), usage);
    }
}

impl Drop for Streaming {
    fn drop(&mut self) {
        self.close(&Failure::new(Kind::Cancelled, "the client went away"));
    }
}
