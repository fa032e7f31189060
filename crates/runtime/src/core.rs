//! What all parts of one running process share.

use std::sync::{Arc, Mutex, PoisonError};

use bus::Bus;
use domain::agent::AgentSpec;
use domain::ids::{BootId, UserId};
use domain::message::{Header, Message};
use domain::time::{Clock, UnixMs};
use futures::future::try_join_all;
use store::{Db, OutboxRow};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::agent::{HandleError, chain};
use crate::clock::new_id;
use crate::config::ProcessConfig;
use crate::market::MarketView;
use crate::meters;
use crate::outbox;
use crate::process::RunError;
use crate::relay::Relay;
use crate::vitals::Vitals;

/// One running process.
pub(crate) struct Core {
    pub(crate) spec: AgentSpec,
    pub(crate) boot_id: BootId,
    /// What this start can't do.
    pub(crate) lacks: Vec<String>,
    pub(crate) config: Arc<ProcessConfig>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) bus: Bus,
    pub(crate) db: Option<Db>,
    pub(crate) relay: Option<Relay>,
    pub(crate) market: MarketView,
    pub(crate) vitals: Arc<Vitals>,
    /// Cancelled when the process drains.
    pub(crate) shutdown: CancellationToken,
    /// Whether this start may take work; one that is held waits for that.
    pub(crate) may_work: watch::Sender<bool>,
    pub(crate) failure: Mutex<Option<RunError>>,
}

impl Core {
    /// Drains, and makes the process end with `error`. The first error stays.
    pub(crate) fn fail(&self, error: RunError) {
        tracing::error!(%error, "this process must end");
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        self.shutdown.cancel();
    }

    /// Now, by the database's clock as it was last seen: a process whose own clock is wrong makes messages that are in
    /// time for everybody else, and does not take theirs for late or early.
    pub(crate) fn now(&self) -> UnixMs {
        self.clock.now().plus_ms(self.vitals.skew_ms().saturating_neg())
    }

    /// The head of a new chain.
    pub(crate) fn root_header(&self, user_id: UserId) -> Header {
        self.root_of(new_id(self.clock.as_ref()), user_id)
    }

    /// The head of a chain whose root id is a function of what it is about.
    pub(crate) fn root_of(&self, id: Uuid, user_id: UserId) -> Header {
        outbox::root(self.spec.name, id, user_id, self.now())
    }

    /// Outputs as outbox rows.
    ///
    /// # Errors
    /// [`HandleError::Fatal`] for a message that the SPEC does not announce: NATS would refuse it.
    pub(crate) fn rows(&self, parent: &Header, out: Vec<Message>) -> Result<Vec<OutboxRow>, HandleError> {
        outbox::announced(&self.spec, &out)?;
        meters::emitted(self.spec.name, &out);
        outbox::rows(&self.spec, parent, out, self.now())
    }

    /// Publishes outputs without an outbox.
    ///
    /// # Errors
    /// [`HandleError::Retry`] when one was not stored, [`HandleError::Fatal`] for one that the SPEC does not announce.
    pub(crate) async fn emit(&self, parent: &Header, out: Vec<Message>) -> Result<(), HandleError> {
        outbox::announced(&self.spec, &out)?;
        meters::emitted(self.spec.name, &out);
        let now = self.now();
        let envelopes: Vec<_> =
            out.into_iter().map(|message| message.into_child(parent, self.spec.name, now)).collect();
        let published = try_join_all(envelopes.iter().map(|envelope| self.bus.publish(envelope))).await;
        published.map(drop).map_err(|error| HandleError::Retry(chain(&error)))
    }

    /// Whether the store answers right now; remembers the answer, and how far its clock is from ours. Agents without a store have nothing to ask.
    pub(crate) async fn store_answers(&self) -> bool {
        let Some(db) = &self.db else { return true };
        let before = self.clock.now();
        let up = match tokio::time::timeout(crate::pulse::PING_TIMEOUT, db.now()).await {
            Ok(Ok(now)) => {
                // The database's clock was read between our two looks; the mean of them is the best guess of when.
                let after = self.clock.now();
                self.vitals.set_skew_ms(before.plus_ms(after.since_ms(before) / 2).since_ms(now));
                self.vitals.answered("postgres", after.0);
                true
            }
            _ => false,
        };
        if self.vitals.set_store_up(up) {
            tracing::warn!(up, "the store changed its state");
        }
        up
    }
}
