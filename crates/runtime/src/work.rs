//! What an agent's background work may use.

use std::sync::Arc;

use bus::Bus;
use domain::ids::{BootId, UserId, derive};
use domain::message::{Envelope, Header, Message, Payload};
use domain::subject::{Route, Subject};
use domain::time::{Clock, UnixMs};
use store::{Db, Unit};
use tokio_util::sync::CancellationToken;

use crate::agent::HandleError;
use crate::config::ProcessConfig;
use crate::core::Core;
use crate::market::MarketView;

/// The means of [`crate::Agent::background`]; cheap to clone.
#[derive(Clone)]
pub struct Work {
    /// Cancelled when the process drains: finish what is in hand and return.
    pub shutdown: CancellationToken,
    /// The store, for agents with tables.
    pub db: Option<Db>,
    /// The road, for NATS services; messages go through [`Work::commit`] or [`Work::emit`].
    pub bus: Bus,
    /// Latest prices.
    pub market: MarketView,
    /// The process's clock.
    pub clock: Arc<dyn Clock>,
    /// The process's settings.
    pub config: Arc<ProcessConfig>,
    core: Arc<Core>,
}

impl Work {
    pub(crate) fn new(core: Arc<Core>) -> Self {
        Self {
            shutdown: core.shutdown.clone(),
            db: core.db.clone(),
            bus: core.bus.clone(),
            market: core.market.clone(),
            clock: Arc::clone(&core.clock),
            config: Arc::clone(&core.config),
            core,
        }
    }

    /// Counts a turn of the work loop: health is progress, not a pulse.
    pub fn progress(&self) {
        self.core.vitals.step();
    }

    /// Notes that a dependency (`feed`, `venue`) answered just now; shown in heartbeats.
    pub fn dependency_answered(&self, name: &str) {
        self.core.vitals.answered(name, self.clock.now().0);
    }

    /// Whether the store answered when it was last asked, at most some seconds ago.
    #[must_use]
    pub fn has_store(&self) -> bool {
        !self.core.vitals.unready().contains(&crate::vitals::NO_STORE)
    }

    /// Local clock minus database clock, as last seen.
    #[must_use]
    pub fn clock_skew_ms(&self) -> i64 {
        self.core.vitals.skew_ms()
    }

    /// Now, by the process's clock.
    #[must_use]
    pub fn now(&self) -> UnixMs {
        self.clock.now()
    }

    /// This start of the process.
    #[must_use]
    pub fn boot_id(&self) -> BootId {
        self.core.boot_id
    }

    /// Opens a transaction for one user; the nil user opens one without a tenant.
    ///
    /// # Errors
    /// [`HandleError::Retry`] when the store can't be reached, [`HandleError::Fatal`] for an agent without tables.
    pub async fn begin(&self, user: UserId) -> Result<Unit, HandleError> {
        let db = self.db.as_ref().ok_or_else(|| HandleError::Fatal("this agent has no tables".to_owned()))?;
        let begun = if user.0.is_nil() { db.begin().await } else { db.begin_for(user).await };
        Ok(begun.inspect_err(|_| self.core.vitals.store_suspect.notify_one())?)
    }

    /// Commits a transaction together with messages, children of `parent`; the relay publishes them, now or as soon as
    /// the broker takes them.
    ///
    /// # Errors
    /// [`HandleError::Retry`]: most likely nothing was committed, but a commit whose answer was lost may have been, so
    /// the caller reads before it writes again. [`HandleError::Fatal`] for a message that the SPEC does not announce.
    pub async fn commit(&self, mut unit: Unit, parent: &Header, out: Vec<Message>) -> Result<(), HandleError> {
        let rows = self.core.rows(parent, out)?;
        unit.outbox_put(self.core.spec.name, &rows).await?;
        let committed = unit.commit().await;
        let Some(relay) = &self.core.relay else { return Ok(committed?) };
        match committed {
            Ok(()) => drop(relay.send(rows)),
            Err(error) => {
                relay.sweep();
                return Err(HandleError::Retry(crate::agent::chain(&error)));
            }
        }
        self.progress();
        Ok(())
    }

    /// Publishes messages without an outbox, children of `parent`.
    ///
    /// # Errors
    /// [`HandleError::Retry`] when one was not stored; send all again with the same `parent`.
    pub async fn emit(&self, parent: &Header, out: Vec<Message>) -> Result<(), HandleError> {
        self.core.emit(parent, out).await
    }

    /// The head of a new chain.
    #[must_use]
    pub fn root_header(&self, user: UserId) -> Header {
        self.core.root_header(user)
    }

    /// Sends a tick or a candle to everybody who listens; nothing waits for it. The id is a function of what it says,
    /// so the same candle twice is one message.
    ///
    /// # Errors
    /// [`HandleError::Retry`] when there is no connection, [`HandleError::Fatal`] when it is no market data.
    pub async fn publish_market(&self, payload: Payload) -> Result<(), HandleError> {
        let (route, instrument, moment) = match &payload {
            Payload::MarketTick(tick) => (Route::Tick, &tick.instrument, (0, tick.received_at)),
            Payload::Candle(candle) => (Route::Candle, &candle.instrument, (candle.interval_ms, candle.open_time)),
            other => return Err(HandleError::Fatal(format!("{} is no market data", other.kind()))),
        };
        if !self.core.spec.emits.contains(&route) {
            return Err(HandleError::Fatal(format!(
                "{route:?} is not among the emits of {}'s SPEC",
                self.core.spec.name
            )));
        }
        let name = instrument.to_string();
        let parts = [name.as_bytes(), &moment.0.to_be_bytes(), &moment.1.0.to_be_bytes()];
        let header = self.core.root_of(derive("swarm.market.v1", &parts), UserId(uuid::Uuid::nil()));
        let (venue, instrument) = (instrument.venue.name().to_owned(), instrument.symbol.as_str().to_owned());
        let envelope = Envelope { header, subject: Subject::Market { route, venue, instrument }, payload };
        self.bus.publish_latest(&envelope).await.map_err(|error| HandleError::Retry(crate::agent::chain(&error)))
    }
}
