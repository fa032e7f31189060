//! Sends what is written and finds out what became of it. Start-up and recovery are one path: every order row that is
//! not final is taken up again, whatever stopped it.

use std::sync::Arc;
use std::time::Duration;

use domain::order::{OrderState, OrderStatus, Side};
use domain::time::UnixMs;
use rails::check::KillReading;
use runtime::kill::KillSwitch;
use runtime::{HandleError, Record, Work};
use store::orders::OrderRow;
use tokio::sync::Notify;
use venues::exchange::{CancelOutcome, Exchange, OrderRequest, Outcome};

use crate::permit::{is_stopped, report};

/// Looked at without being woken, so that nothing waits for a lost wake-up.
const EVERY: Duration = Duration::from_millis(EVERY_MS.cast_unsigned());
const EVERY_MS: i64 = 1_000;
/// How long after its valid-until a sent order is still looked for before "not found" is taken as final, ms.
pub(crate) const LATE_ARRIVAL_MS: i64 = 10_000;

/// The part of the desk that talks to the exchange about orders.
pub struct Executor {
    /// The venue.
    pub exchange: Arc<dyn Exchange>,
    /// Woken after each commit of a permit and each change at the venue.
    pub wake: Arc<Notify>,
    /// The kill level in its copies.
    pub kill: Arc<KillSwitch>,
}

impl std::fmt::Debug for Executor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Executor").field("venue", &self.exchange.venue()).finish_non_exhaustive()
    }
}

impl Executor {
    /// Works until shutdown. Draining leaves open orders to their time in force; nothing new is sent.
    ///
    /// # Errors
    /// [`HandleError::Fatal`].
    pub async fn run(&self, work: &Work) -> Result<(), HandleError> {
        let mut pause = EVERY;
        loop {
            tokio::select! {
                () = work.shutdown.cancelled() => return Ok(()),
                () = self.wake.notified() => {}
                () = tokio::time::sleep(pause) => {}
            }
            pause = EVERY;
            match self.turn(work).await {
                Ok(next) => {
                    pause = next;
                    work.progress();
                }
                Err(HandleError::Fatal(text)) => return Err(HandleError::Fatal(text)),
                Err(error) => tracing::warn!(%error, "orders will be looked at again"),
            }
        }
    }

    /// Compares the venue's open orders with ours: one that we do not know stops trading on this venue.
    ///
    /// # Errors
    /// [`HandleError::Fatal`] for a stranger's order; otherwise to be tried again.
    pub async fn reconcile(&self, work: &impl Record) -> Result<(), HandleError> {
        let at_venue = self.exchange.open_orders().await.map_err(|e| HandleError::Retry(e.to_string()))?;
        let mut unit = work.begin(crate::nobody()).await?;
        let ours = store::orders::open_orders(&mut unit, &[self.exchange.venue()]).await?;
        unit.rollback().await?;
        for order in &at_venue {
            if !ours.iter().any(|o| o.is_known_as(&order.client_order_id)) {
                return Err(HandleError::Fatal(format!(
                    "{} holds the open order {} that the ledger does not know: look at it there, cancel it, start again",
                    self.exchange.venue(),
                    order.client_order_id
                )));
            }
        }
        self.turn(work).await.map(drop)
    }

    /// Takes up every order that is not final. Gives how long to wait for the next look.
    ///
    /// # Errors
    /// Store failures.
    pub async fn turn(&self, work: &impl Record) -> Result<Duration, HandleError> {
        let mut unit = work.begin(crate::nobody()).await?;
        let now = unit.now().await?;
        let orders = store::orders::open_orders(&mut unit, &[self.exchange.venue()]).await?;
        let kill = self.kill.read(&mut unit).await?;
        unit.rollback().await?;
        metrics::gauge!("swarm_open_orders").set(f64::from(u32::try_from(orders.len()).unwrap_or(u32::MAX)));
        let (mut fault, mut soonest) = (None, now.plus_ms(EVERY_MS));
        for order in orders {
            let sliced = order.envelope.slicing.is_some();
            let taken_up = if sliced {
                self.take_up_sliced(work, &order, kill, now).await
            } else {
                self.take_up(work, &order, kill, now).await.map(|()| None)
            };
            match taken_up {
                Ok(due) => soonest = soonest.min(due.unwrap_or(soonest)),
                // An order that can't be worked on must not hold up the others, exits least of all.
                Err(error) => {
                    tracing::error!(order_id = %order.order_id, %error, "left for the next turn");
                    metrics::counter!("swarm_orders_left_total").increment(1);
                    fault = Some(error);
                }
            }
        }
        let pause = Duration::from_millis(u64::try_from(soonest.since_ms(now)).unwrap_or(0));
        fault.map_or(Ok(pause), |error| Err(HandleError::Retry(error.to_string())))
    }

    async fn take_up(
        &self,
        work: &impl Record,
        order: &OrderRow,
        kill: KillReading,
        now: UnixMs,
    ) -> Result<(), HandleError> {
        match (order.state, order.sent_at) {
            (OrderState::Pending, None) if is_stopped(kill, order.envelope.side) => {
                self.finish_unsent(work, order, "KILL_LEVEL").await
            }
            (OrderState::Pending, None) if now > order.envelope.valid_until => {
                self.finish_unsent(work, order, "EXPIRED").await
            }
            (OrderState::Pending, None) => self.send(work, order).await,
            (OrderState::Open, _) => self.look_after(work, order, kill.level() >= 2, now).await,
            _ => self.ask(work, order, now).await,
        }
    }

    /// Sends an order that nobody sent before. Level and time are read again here: orders before it in the turn may have
    /// taken long.
    async fn send(&self, work: &impl Record, order: &OrderRow) -> Result<(), HandleError> {
        let mut unit = work.begin(order.user_id).await?;
        let now = unit.now().await?;
        if is_stopped(self.kill.read(&mut unit).await?, order.envelope.side) || now > order.envelope.valid_until {
            // The next turn ends it with its reason.
            self.wake.notify_one();
            return unit.rollback().await.map_err(Into::into);
        }
        if !store::orders::mark_sent(&mut unit, order.order_id, now).await? {
            // Sent by another desk since the turn began.
            return unit.rollback().await.map_err(Into::into);
        }
        unit.commit().await?;
        // The commit may have taken long.
        if self.is_pressed(order.envelope.side) {
            return self.finish_unsent(work, order, "KILL_LEVEL").await;
        }
        match self.exchange.place(&OrderRequest::of_envelope(&order.envelope)).await {
            Outcome::Placed(status) => self.record(work, order, &status).await,
            Outcome::Rejected { code } => self.finish(work, order, OrderState::Rejected, Some(code)).await,
            Outcome::Unknown { reason } => {
                tracing::warn!(order_id = %order.order_id, reason, "outcome unknown: asking the venue");
                metrics::counter!("swarm_orders_unknown_total").increment(1);
                self.finish(work, order, OrderState::Unknown, None).await?;
                self.wake.notify_one();
                Ok(())
            }
        }
    }

    /// Whether what is known without the database forbids this side; that of level 1 it can't say.
    fn is_pressed(&self, side: Side) -> bool {
        side == Side::Buy && self.kill.without_database().level() >= 2
    }

    async fn ask(&self, work: &impl Record, order: &OrderRow, now: UnixMs) -> Result<(), HandleError> {
        match self.exchange.query(&order.envelope.instrument(), &order.client_order_id).await {
            Ok(Some(status)) => self.record(work, order, &status).await,
            Ok(None) if now > order.envelope.valid_until.plus_ms(LATE_ARRIVAL_MS) => {
                self.finish(work, order, OrderState::Rejected, Some("NOT_AT_VENUE".to_owned())).await
            }
            Ok(None) => Ok(()),
            Err(error) => {
                tracing::warn!(order_id = %order.order_id, %error, "the venue does not answer; asking again");
                Ok(())
            }
        }
    }

    async fn look_after(
        &self,
        work: &impl Record,
        order: &OrderRow,
        cancel_all: bool,
        now: UnixMs,
    ) -> Result<(), HandleError> {
        if cancel_all || now > order.envelope.valid_until {
            match self.exchange.cancel(&order.envelope.instrument(), &order.client_order_id).await {
                CancelOutcome::Cancelled(status) | CancelOutcome::AlreadyOver(status) => {
                    return self.record(work, order, &status).await;
                }
                CancelOutcome::NotFound | CancelOutcome::Unknown { .. } => {}
            }
        }
        self.ask(work, order, now).await
    }

    /// Writes what the venue says: fills that are new, and the state. Treasury is woken when anything changed.
    async fn record(&self, work: &impl Record, order: &OrderRow, status: &OrderStatus) -> Result<(), HandleError> {
        let mut unit = work.begin(order.user_id).await?;
        let mut changed = status.state != order.state || status.filled != order.filled;
        for fill in &status.fills {
            changed |= store::orders::insert_fill(&mut unit, fill, order.user_id).await?;
        }
        if !changed {
            return unit.rollback().await.map_err(Into::into);
        }
        let venue_order_id = Some(status.venue_order_id.as_str());
        let code = status.reject_code.clone();
        let state = status.state;
        store::orders::set_state(&mut unit, order.order_id, state, status.filled, venue_order_id, code.as_deref())
            .await?;
        let told = report(order.user_id, order.order_id, state, status.filled, code);
        metrics::counter!("swarm_order_states_total", "state" => state.word()).increment(1);
        work.commit(unit, order.user_id, vec![told]).await
    }

    async fn finish_unsent(&self, work: &impl Record, order: &OrderRow, code: &str) -> Result<(), HandleError> {
        self.finish(work, order, OrderState::Rejected, Some(code.to_owned())).await
    }

    async fn finish(
        &self,
        work: &impl Record,
        order: &OrderRow,
        state: OrderState,
        code: Option<String>,
    ) -> Result<(), HandleError> {
        let mut unit = work.begin(order.user_id).await?;
        store::orders::set_state(&mut unit, order.order_id, state, order.filled, None, code.as_deref()).await?;
        metrics::counter!("swarm_order_states_total", "state" => state.word()).increment(1);
        let told = report(order.user_id, order.order_id, state, order.filled, code);
        work.commit(unit, order.user_id, vec![told]).await
    }
}
