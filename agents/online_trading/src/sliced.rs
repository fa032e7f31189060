//! The executor's work on a sliced order: one child after another, each written before it is sent, and level and time read
//! again between any two. What comes next is decided in [`crate::slices`]; here it is done.

use domain::order::{ChildOrder, OrderState};
use domain::time::UnixMs;
use rails::check::KillReading;
use runtime::{HandleError, Record};
use store::orders::OrderRow;
use venues::exchange::{CancelOutcome, OrderRequest, Outcome};

use crate::executor::{Executor, LATE_ARRIVAL_MS};
use crate::permit::report;
use crate::slices::{self, Fate, Next};

impl Executor {
    /// Looks after the children that live, then sends the next one when it is due. Gives when to look again.
    pub(crate) async fn take_up_sliced(
        &self,
        work: &impl Record,
        order: &OrderRow,
        kill: KillReading,
        now: UnixMs,
    ) -> Result<Option<UnixMs>, HandleError> {
        for (n, child) in order.children.iter().enumerate().filter(|(_, child)| !child.state.is_terminal()) {
            let cancels = slices::is_cancelled(order, kill, now);
            if let Some(fate) = self.fate(order, child, cancels, now).await {
                self.record_child(work, order, n, &fate).await?;
            }
        }
        self.send_next(work, order).await
    }

    /// What the venue says of a child that lives, after it was taken back when it is to be.
    async fn fate(&self, order: &OrderRow, child: &ChildOrder, cancels: bool, now: UnixMs) -> Option<Fate> {
        let (instrument, id) = (order.envelope.instrument(), child.client_order_id.as_str());
        if cancels
            && let CancelOutcome::Cancelled(status) | CancelOutcome::AlreadyOver(status) =
                self.exchange.cancel(&instrument, id).await
        {
            return Some(Fate::Known(status));
        }
        match self.exchange.query(&instrument, id).await {
            Ok(Some(status)) => Some(Fate::Known(status)),
            Ok(None) => (now > order.envelope.valid_until.plus_ms(LATE_ARRIVAL_MS))
                .then(|| Fate::Refused("NOT_AT_VENUE".to_owned())),
            Err(error) => {
                tracing::warn!(order_id = %order.order_id, child = id, %error, "the venue does not answer; asking again");
                None
            }
        }
    }

    /// Sends the child that is due, or ends the order when none will be. The row is read again under its lock, and the level
    /// with it: since the turn began both may have changed.
    async fn send_next(&self, work: &impl Record, order: &OrderRow) -> Result<Option<UnixMs>, HandleError> {
        let mut unit = work.begin(order.user_id).await?;
        let Some(mut order) = store::orders::lock(&mut unit, order.order_id).await? else {
            return unit.rollback().await.map(|()| None).map_err(Into::into);
        };
        let now = unit.now().await?;
        let kill = self.kill.read(&mut unit).await?;
        if order.state.is_terminal() {
            return unit.rollback().await.map(|()| None).map_err(Into::into);
        }
        let next = slices::next(&order, kill, now);
        if let Some((state, code)) = slices::end(&order, &next) {
            let filled = slices::filled(&order.children).unwrap_or(order.filled);
            store::orders::set_state(&mut unit, order.order_id, state, filled, None, code.as_deref()).await?;
            metrics::counter!("swarm_order_states_total", "state" => state.word()).increment(1);
            let told = report(order.user_id, order.order_id, state, filled, code);
            return work.commit(unit, order.user_id, vec![told]).await.map(|()| None);
        }
        let child = match next {
            Next::Send(child) => child,
            Next::At(due) => return unit.rollback().await.map(|()| Some(due)).map_err(Into::into),
            Next::Ask | Next::AllSent | Next::Stop(_) => {
                return unit.rollback().await.map(|()| None).map_err(Into::into);
            }
        };
        let n = order.children.len();
        order.children.push(child.clone());
        if !store::orders::set_children(&mut unit, order.order_id, &order.children, order.filled).await? {
            return unit.rollback().await.map(|()| None).map_err(Into::into);
        }
        unit.commit().await?;
        metrics::counter!("swarm_children_sent_total").increment(1);
        let fate = self.place_child(&order, &child).await;
        let has_ended = !matches!(&fate, Fate::Known(status) if !status.state.is_terminal());
        self.record_child(work, &order, n, &fate).await?;
        if has_ended {
            // What comes of it may be an end; and an unknown outcome is asked for at once.
            self.wake.notify_one();
        }
        let every_ms = order.envelope.slicing.map_or(0, |slicing| slicing.every_ms);
        Ok(Some(child.sent_at.plus_ms(every_ms.into())))
    }

    async fn place_child(&self, order: &OrderRow, child: &ChildOrder) -> Fate {
        // The commit may have taken long.
        if self.kill.without_database().level() >= 2 {
            return Fate::Refused("KILL_LEVEL".to_owned());
        }
        let request = OrderRequest {
            client_order_id: child.client_order_id.clone(),
            quantity: child.quantity,
            ..OrderRequest::of_envelope(&order.envelope)
        };
        match self.exchange.place(&request).await {
            Outcome::Placed(status) => Fate::Known(status),
            Outcome::Rejected { code } => Fate::Refused(code),
            Outcome::Unknown { reason } => {
                tracing::warn!(order_id = %order.order_id, child = request.client_order_id, reason, "outcome unknown");
                metrics::counter!("swarm_orders_unknown_total").increment(1);
                Fate::Unknown
            }
        }
    }

    /// Writes what became of child `n`: fills that are new, its state, and the sum of all. Treasury is woken when anything
    /// changed.
    async fn record_child(
        &self,
        work: &impl Record,
        order: &OrderRow,
        n: usize,
        fate: &Fate,
    ) -> Result<(), HandleError> {
        let mut unit = work.begin(order.user_id).await?;
        let Some(mut order) = store::orders::lock(&mut unit, order.order_id).await? else {
            return unit.rollback().await.map_err(Into::into);
        };
        let mut new_fills = false;
        if let Fate::Known(status) = fate {
            for fill in &status.fills {
                new_fills |= store::orders::insert_fill(&mut unit, fill, order.user_id).await?;
            }
        }
        let child = order.children.get(n).map(|child| slices::after(child, fate));
        let Some(child) = child.filter(|child| new_fills || order.children.get(n) != Some(child)) else {
            return unit.rollback().await.map_err(Into::into);
        };
        order.children[n] = child;
        let filled = slices::filled(&order.children).unwrap_or(order.filled);
        store::orders::set_children(&mut unit, order.order_id, &order.children, filled).await?;
        let state = if order.state == OrderState::Pending { OrderState::Open } else { order.state };
        let told = report(order.user_id, order.order_id, state, filled, None);
        work.commit(unit, order.user_id, if new_fills { vec![told] } else { Vec::new() }).await
    }
}
