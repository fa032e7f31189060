//! The unit of work: one transaction on whichever adapter holds the record.

use domain::ids::{MessageId, UserId};
use domain::time::UnixMs;
use sqlx::postgres::PgConnection;

use crate::StoreError;
use crate::fits::fits;
use crate::port::Records;

/// A message that waits for the broker, committed with the rows it speaks of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxRow {
    /// Message id; published as `Nats-Msg-Id`.
    pub id: uuid::Uuid,
    /// Subject.
    pub subject: String,
    /// `{"name": "value"}`.
    pub headers: serde_json::Value,
    /// Encoded message.
    pub payload: Vec<u8>,
    /// After this it need not be published; `None` for facts.
    pub valid_until: Option<UnixMs>,
}

/// One transaction. Dropped without [`Unit::commit`] it leaves nothing behind.
#[derive(Debug)]
pub struct Unit {
    records: Box<dyn Records>,
    tenant: Option<UserId>,
}

impl Unit {
    /// A unit on a transaction that an adapter has just begun, without a tenant.
    #[must_use]
    pub fn new(records: Box<dyn Records>) -> Self {
        Self { records, tenant: None }
    }

    /// A unit on a transaction that has `user` as its tenant already.
    pub(crate) fn of(records: Box<dyn Records>, user: UserId) -> Self {
        Self { records, tenant: Some(user) }
    }

    /// From here to the end of the transaction, rows of `user` (and of nobody else) are seen and written.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn set_tenant(&mut self, user: UserId) -> Result<(), StoreError> {
        self.records.set_tenant(user).await?;
        self.tenant = Some(user);
        Ok(())
    }

    /// Whose rows this unit sees.
    #[must_use]
    pub const fn tenant(&self) -> Option<UserId> {
        self.tenant
    }

    /// The database's clock, not the transaction's start.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn now(&mut self) -> Result<UnixMs, StoreError> {
        self.records.now().await
    }

    /// What every handling of a message begins with, at once: names the tenant (`None`: nobody), records that `agent`
    /// handles the message, and reads the clock. `None` when the agent did so before. A second delivery that runs at the
    /// same time waits here for the first.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn open(
        &mut self,
        tenant: Option<UserId>,
        agent: &str,
        id: MessageId,
    ) -> Result<Option<UnixMs>, StoreError> {
        let (is_new, now) = self.records.open(tenant, agent, id).await?;
        self.tenant = tenant;
        Ok(is_new.then_some(now))
    }

    /// Puts messages of `agent` behind those that wait, in their order. The same id twice is one message.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn outbox_put(&mut self, agent: &str, rows: &[OutboxRow]) -> Result<(), StoreError> {
        for until in rows.iter().filter_map(|row| row.valid_until) {
            fits(until, "valid_until")?;
        }
        if rows.is_empty() { Ok(()) } else { self.records.outbox_put(agent, rows).await }
    }

    /// Makes it so.
    ///
    /// # Errors
    /// [`StoreError::Database`]; whether it was committed is then not known.
    pub async fn commit(self) -> Result<(), StoreError> {
        self.records.commit().await
    }

    /// Takes everything back.
    ///
    /// # Errors
    /// [`StoreError::Database`]; it is taken back then too, by the server.
    pub async fn rollback(self) -> Result<(), StoreError> {
        self.records.rollback().await
    }

    /// The connection to Postgres, for what this crate does not offer.
    ///
    /// # Errors
    /// [`StoreError::NotPostgres`] when the record is kept elsewhere.
    pub fn conn(&mut self) -> Result<&mut PgConnection, StoreError> {
        self.records.postgres().ok_or(StoreError::NotPostgres)
    }

    /// The adapter.
    pub(crate) fn records(&mut self) -> &mut dyn Records {
        self.records.as_mut()
    }

    /// The adapter, for rows of `user`: takes them as tenant when there is none.
    pub(crate) async fn records_of(&mut self, user: UserId) -> Result<&mut dyn Records, StoreError> {
        match self.tenant {
            Some(tenant) if tenant == user => {}
            Some(_) => return Err(StoreError::WrongTenant { asked: user }),
            None => self.set_tenant(user).await?,
        }
        Ok(self.records())
    }

    /// The tenant, which a write needs.
    pub(crate) fn required(&self) -> Result<UserId, StoreError> {
        self.tenant.ok_or(StoreError::NoTenant)
    }
}
