//! The venue: the product's own paper exchange without its journal, behind a line that loses, delays and goes away. What
//! comes in is written down here, for nobody but the checks.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use domain::market::{Instrument, InstrumentId, Venue as VenueId};
use domain::money::Quantity;
use domain::order::{Fill, OrderState, OrderStatus};
use domain::time::UnixMs;
use venues::VenueError;
use venues::exchange::{Balance, CancelOutcome, Exchange, OrderRequest, Outcome};
use venues::feed::FeedEvent;
use venues::paper::PaperCore;

use crate::event::Event;
use crate::faults::Fault;
use crate::hub::{Hub, Point};

/// Longest time that an order may be on its way after it was given up for lost, ms: below what the desk waits.
const LATEST_ARRIVAL_MS: i64 = 8_000;

/// One call to place an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// What was asked.
    pub request: OrderRequest,
    /// When, by the world's clock.
    pub at: UnixMs,
}

/// The venue and its line.
pub struct Venue {
    hub: Arc<Hub>,
    core: Mutex<PaperCore>,
    calls: Mutex<Vec<Call>>,
    fault: Option<Fault>,
    /// Odds of a lost request and of a lost reply, of a thousand, and the longest way there or back, ms.
    lost_permille: u32,
    latency_ms: i64,
}

impl std::fmt::Debug for Venue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Venue").finish_non_exhaustive()
    }
}

impl Venue {
    /// A venue on this exchange.
    #[must_use]
    pub fn new(
        hub: &Arc<Hub>,
        core: PaperCore,
        lost_permille: u32,
        latency_ms: i64,
        fault: Option<Fault>,
    ) -> Arc<Self> {
        let calls = Mutex::default();
        Arc::new(Self { hub: Arc::clone(hub), core: Mutex::new(core), calls, fault, lost_permille, latency_ms })
    }

    fn core(&self) -> MutexGuard<'_, PaperCore> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls since the last look.
    pub fn take_calls(&self) -> Vec<Call> {
        std::mem::take(&mut *self.calls.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Fills from number `from` on.
    #[must_use]
    pub fn fills_from(&self, from: usize) -> Vec<Fill> {
        self.core().state().fills().get(from..).unwrap_or_default().to_vec()
    }

    /// What the venue knows of an order.
    #[must_use]
    pub fn status(&self, client_order_id: &str) -> Option<OrderStatus> {
        self.core().status(client_order_id)
    }

    /// Orders that rest.
    #[must_use]
    pub fn resting(&self) -> usize {
        self.core().open_orders().len()
    }

    /// The market moves; `true` when an order traded.
    pub fn feed(&self, event: &FeedEvent) -> bool {
        let now = self.hub.now();
        let mut core = self.core();
        let Ok(decision) = core.feed(event, now) else { return false };
        if let Err(misfit) = core.commit(&decision) {
            self.hub.find("venue", misfit.to_string());
        }
        !decision.is_empty()
    }

    /// An order arrives.
    pub fn arrive(&self, order: &OrderRequest) -> Outcome {
        let now = self.hub.now();
        let mut core = self.core();
        if let Some(known) = core.known(order) {
            return known;
        }
        match core.place(order, now) {
            Ok(decision) => {
                if let Err(misfit) = core.commit(&decision) {
                    self.hub.find("venue", misfit.to_string());
                }
            }
            Err(_) => return Outcome::Rejected { code: "AMOUNT_OUT_OF_RANGE".to_owned() },
        }
        let outcome =
            core.known(order).unwrap_or_else(|| Outcome::Unknown { reason: "the venue forgot it".to_owned() });
        self.hub.count(match &outcome {
            Outcome::Placed(status) if status.state == OrderState::Filled => "venue filled at once",
            Outcome::Placed(status) if status.state == OrderState::Open => "venue rests",
            Outcome::Placed(status) if status.filled.is_zero() => "venue nothing traded",
            Outcome::Placed(_) => "venue filled in part",
            Outcome::Rejected { .. } => "venue rejected",
            Outcome::Unknown { .. } => "venue unknown",
        });
        outcome
    }

    /// What a lying venue says of an order.
    fn told(&self, mut status: OrderStatus) -> OrderStatus {
        match self.fault {
            Some(Fault::VenueInventsFills) => invent(&mut status),
            Some(Fault::VenueHidesFills) => {
                status.fills.clear();
                (status.state, status.filled) = (OrderState::Cancelled, Quantity::ZERO);
            }
            _ => {}
        }
        status
    }

    /// What a lying line makes of an order on its way.
    fn bent(&self, order: &OrderRequest) -> OrderRequest {
        let mut order = order.clone();
        if self.fault == Some(Fault::DeskSendsMore)
            && let Ok(more) = order.quantity.plus(order.quantity)
        {
            order.quantity = more;
        }
        order
    }
}

#[async_trait]
impl Exchange for Venue {
    fn venue(&self) -> VenueId {
        VenueId::Paper
    }

    async fn place(&self, order: &OrderRequest) -> Outcome {
        let order = self.bent(order);
        let hub = &self.hub;
        hub.point("online_trading", Point::BeforePlace).await;
        let call = Call { request: order.clone(), at: hub.now() };
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).push(call.clone());
        if self.fault == Some(Fault::DeskSendsTwice) {
            self.calls.lock().unwrap_or_else(PoisonError::into_inner).push(call);
        }
        hub.trace(|| format!("venue: {} {} {} comes", order.client_order_id, order.side, order.quantity));
        if self.latency_ms > 0 {
            hub.pause(hub.between(0, self.latency_ms)).await;
        }
        let unknown = |reason: &str| Outcome::Unknown { reason: reason.to_owned() };
        if hub.venue_down() {
            hub.count("venue away at a placement");
            return unknown("no connection");
        }
        if self.lost_permille > 0 && hub.permille(self.lost_permille) {
            hub.count("venue request lost");
            if hub.permille(500) {
                hub.later(hub.between(1, LATEST_ARRIVAL_MS), Event::LateOrder(order));
            }
            return unknown("no answer");
        }
        let outcome = self.arrive(&order);
        hub.point("online_trading", Point::AfterPlace).await;
        if self.latency_ms > 0 {
            hub.pause(hub.between(0, self.latency_ms)).await;
        }
        if self.lost_permille > 0 && hub.permille(self.lost_permille) {
            hub.count("venue reply lost");
            return unknown("no answer");
        }
        match outcome {
            Outcome::Placed(status) => Outcome::Placed(self.told(status)),
            outcome => outcome,
        }
    }

    async fn query(&self, _: &InstrumentId, client_order_id: &str) -> Result<Option<OrderStatus>, VenueError> {
        if self.hub.venue_down() || (self.lost_permille > 0 && self.hub.permille(self.lost_permille)) {
            self.hub.count("venue query unanswered");
            return Err(VenueError::JournalBroken);
        }
        Ok(self.status(client_order_id).map(|status| self.told(status)))
    }

    async fn cancel(&self, _: &InstrumentId, client_order_id: &str) -> CancelOutcome {
        let unknown = || CancelOutcome::Unknown { reason: "no answer".to_owned() };
        if self.hub.venue_down() {
            return unknown();
        }
        let now = self.hub.now();
        let (done, status) = {
            let mut core = self.core();
            let decision = core.cancel(client_order_id, now);
            if let Err(misfit) = core.commit(&decision) {
                self.hub.find("venue", misfit.to_string());
            }
            (!decision.is_empty(), core.status(client_order_id))
        };
        self.hub.count(if done { "venue cancelled" } else { "venue cancel came too late" });
        if self.lost_permille > 0 && self.hub.permille(self.lost_permille) {
            self.hub.count("venue cancel unanswered");
            return unknown();
        }
        match status {
            None => CancelOutcome::NotFound,
            Some(status) if done => CancelOutcome::Cancelled(status),
            Some(status) => CancelOutcome::AlreadyOver(status),
        }
    }

    async fn open_orders(&self) -> Result<Vec<OrderStatus>, VenueError> {
        if self.hub.venue_down() { Err(VenueError::JournalBroken) } else { Ok(self.core().open_orders()) }
    }

    async fn balances(&self) -> Result<Vec<Balance>, VenueError> {
        Ok(self.core().state().balances())
    }

    async fn instruments(&self) -> Result<Vec<Instrument>, VenueError> {
        Ok(self.core().config().instruments.clone())
    }
}

/// A fill that never was.
fn invent(status: &mut OrderStatus) {
    if let Some(mut fill) = status.fills.first().cloned() {
        fill.venue_trade_id = format!("{}-again", fill.venue_trade_id);
        status.fills.push(fill);
    }
}

/// The fills of a venue by trade id, as a check wants them.
#[must_use]
pub fn by_trade(fills: &[Fill]) -> BTreeMap<(InstrumentId, String), Fill> {
    fills.iter().map(|fill| ((fill.instrument.clone(), fill.venue_trade_id.clone()), fill.clone())).collect()
}
