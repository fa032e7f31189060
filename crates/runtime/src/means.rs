//! What background work needs of its process, as ports: a simulation brings its own.

use std::future::Future;

use bus::{BusError, Published, Raw};
use domain::ids::UserId;
use domain::message::Message;
use domain::time::UnixMs;
use rails::book::Marks;
use store::Unit;
use uuid::Uuid;

use crate::agent::HandleError;
use crate::work::Work;

/// The process's record: transactions, and the messages that go out with them.
pub trait Record: Sync {
    /// Opens a transaction for one user; the nil user opens one without a tenant.
    fn begin(&self, user: UserId) -> impl Future<Output = Result<Unit, HandleError>> + Send;

    /// Commits a transaction together with messages of `user`. After an error it may have been committed all the same,
    /// so the caller reads before it writes again.
    fn commit(
        &self,
        unit: Unit,
        user: UserId,
        out: Vec<Message>,
    ) -> impl Future<Output = Result<(), HandleError>> + Send;
}

/// A record, and what else a process has around it.
pub trait Means: Record {
    /// Now, by the process's clock.
    fn now(&self) -> UnixMs;

    /// The price of every instrument seen.
    fn marks(&self) -> Marks;

    /// An id for something that begins here.
    fn new_id(&self) -> Uuid;

    /// Publishes messages of `user` without an outbox: for what must not wait for the store. After an error some of them
    /// may have been stored all the same.
    fn emit(&self, user: UserId, out: Vec<Message>) -> impl Future<Output = Result<(), HandleError>> + Send;

    /// Resolves after so many milliseconds by the process's clock.
    fn pause(&self, ms: u64) -> impl Future<Output = ()> + Send;

    /// Stores a message as it came in the stream of its subject; it must have a `Nats-Msg-Id`.
    fn forward(
        &self,
        raw: &Raw,
        valid_until: Option<UnixMs>,
    ) -> impl Future<Output = Result<Published, BusError>> + Send;
}

impl Record for Work {
    async fn begin(&self, user: UserId) -> Result<Unit, HandleError> {
        Self::begin(self, user).await
    }

    async fn commit(&self, unit: Unit, user: UserId, out: Vec<Message>) -> Result<(), HandleError> {
        Self::commit(self, unit, &self.root_header(user), out).await
    }
}

impl Means for Work {
    fn now(&self) -> UnixMs {
        self.clock.now()
    }

    fn marks(&self) -> Marks {
        self.market.marks()
    }

    fn new_id(&self) -> Uuid {
        crate::clock::new_id(self.clock.as_ref())
    }

    async fn emit(&self, user: UserId, out: Vec<Message>) -> Result<(), HandleError> {
        Self::emit(self, &self.root_header(user), out).await
    }

    async fn pause(&self, ms: u64) {
        tokio::time::sleep(std::time::Duration::from_millis(ms)).await;
    }

    async fn forward(&self, raw: &Raw, valid_until: Option<UnixMs>) -> Result<Published, BusError> {
        self.bus.forward(raw, valid_until, &|| self.clock.now()).await
    }
}
