//! The store itself: what `store::Db` is to Postgres.

use std::sync::{Arc, Mutex};

use domain::agent::TableGrant;
use domain::time::{Clock, UnixMs};
use store::audit::{Anchors, Keys, Report, verify_unit};
use store::{OutboxRow, StoreError, Unit};
use uuid::Uuid;

use crate::record::Defect;
use crate::record::access::Access;
use crate::record::tables::{Changes, Tables};
use crate::record::unit::{MemoryUnit, Shared, open};

/// The whole record in memory. Clones are the same record, seen by the same login; made by [`Store::new`] they are the
/// administrator's, whom neither grants nor policies hold.
#[derive(Clone)]
pub struct Store {
    shared: Arc<Mutex<Shared>>,
    clock: Arc<dyn Clock>,
    access: Arc<Access>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("access", &self.access).finish_non_exhaustive()
    }
}

impl Store {
    /// An empty record whose rows are stamped by `clock`.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self::build(clock, None)
    }

    /// An empty record that breaks one promise.
    #[must_use]
    pub fn with_defect(clock: Arc<dyn Clock>, defect: Defect) -> Self {
        Self::build(clock, Some(defect))
    }

    /// Breaks one promise from here on.
    pub fn spoil(&self, defect: Defect) {
        open(&self.shared).defect = Some(defect);
    }

    fn build(clock: Arc<dyn Clock>, defect: Option<Defect>) -> Self {
        let shared = Shared {
            committed: Arc::new(Tables::default()),
            locks: std::collections::BTreeMap::new(),
            position: 0,
            units: 0,
            defect,
        };
        Self { shared: Arc::new(Mutex::new(shared)), clock, access: Arc::new(Access::administrator()) }
    }

    /// The same record as the process `role` sees it, with its grants (`AgentSpec::tables`) and the policies of its name.
    #[must_use]
    pub fn login(&self, role: &str, grants: &[TableGrant]) -> Self {
        Self { access: Arc::new(Access::login(role, grants)), ..self.clone() }
    }

    /// Starts a transaction without a tenant. Its futures are ready at once.
    #[must_use]
    pub fn begin(&self) -> Unit {
        let mut shared = open(&self.shared);
        shared.units += 1;
        let id = shared.units;
        drop(shared);
        Unit::new(Box::new(MemoryUnit {
            shared: Arc::clone(&self.shared),
            clock: Arc::clone(&self.clock),
            access: Arc::clone(&self.access),
            id,
            tenant: None,
            changes: Changes::default(),
            locks: Vec::new(),
            failed: false,
        }))
    }

    /// The time rows are stamped by.
    #[must_use]
    pub fn now(&self) -> UnixMs {
        self.clock.now()
    }

    /// The oldest waiting messages of `agent`, in the order they were put.
    #[must_use]
    pub fn outbox_pending(&self, agent: &str, limit: usize) -> Vec<OutboxRow> {
        self.outbox_pending_besides(agent, limit, &[])
    }

    /// As [`Self::outbox_pending`], but for `besides`.
    #[must_use]
    pub fn outbox_pending_besides(&self, agent: &str, limit: usize, besides: &[Uuid]) -> Vec<OutboxRow> {
        if !self.access.is_agent(agent) {
            return Vec::new();
        }
        let shared = open(&self.shared);
        let waiting = shared.committed.outbox.range((agent.to_owned(), i64::MIN)..=(agent.to_owned(), i64::MAX));
        waiting.map(|(_, row)| row.as_ref().clone()).filter(|row| !besides.contains(&row.id)).take(limit).collect()
    }

    /// Forgets published messages.
    pub fn outbox_delete(&self, agent: &str, ids: &[Uuid]) {
        if !self.access.is_agent(agent) {
            return;
        }
        let mut shared = open(&self.shared);
        let mut changes = Changes::default();
        for id in ids {
            let key = (agent.to_owned(), *id);
            if let Some(position) = shared.committed.outbox_at.get(&key) {
                changes.outbox.insert((agent.to_owned(), *position), None);
                changes.outbox_at.insert(key, None);
            }
        }
        shared.take(changes);
    }

    /// Forgets up to `batch` inbox rows of `agent` older than `before`, oldest first, and says how many went.
    pub fn inbox_forget(&self, agent: &str, before: UnixMs, batch: usize) -> usize {
        if !self.access.is_agent(agent) {
            return 0;
        }
        let mut shared = open(&self.shared);
        let mut old: Vec<(UnixMs, (String, Uuid))> = shared
            .committed
            .inbox
            .iter()
            .filter(|((owner, _), received_at)| owner == agent && **received_at < before)
            .map(|(key, received_at)| (*received_at, key.clone()))
            .collect();
        old.sort();
        old.truncate(batch);
        let gone = old.len();
        let mut changes = Changes::default();
        changes.inbox.extend(old.into_iter().map(|(_, key)| (key, None)));
        shared.take(changes);
        gone
    }

    /// Everything committed, as it is now: cheap to take, and nobody's later write shows in it.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Tables> {
        Arc::clone(&open(&self.shared).committed)
    }

    /// Changes committed rows behind everybody's back, as no login of Postgres could: for proofs that a check notices it.
    pub fn tamper<T>(&self, change: impl FnOnce(&mut Tables) -> T) -> T {
        change(Arc::make_mut(&mut open(&self.shared).committed))
    }

    /// Compares every row of every audit chain with itself and with the anchors, as `store::audit::verify` does.
    ///
    /// # Errors
    /// [`StoreError`] when this login may not read the chains.
    pub async fn verify_audit(
        &self,
        anchors: &Anchors,
        keys: &Keys,
        unanchored_before: UnixMs,
    ) -> Result<Report, StoreError> {
        verify_unit(&mut self.begin(), anchors, keys, unanchored_before).await
    }
}
