//! One transaction in memory.
//!
//! It sees what is committed at the moment of each statement, under its own changes, as Postgres' READ COMMITTED does.
//! Rows it writes are locked until it ends. Another unit that needs such a row can't wait here, so it gets at once what
//! Postgres gives after its lock timeout.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use domain::canonical::Sha256Digest;
use domain::ids::{ApprovalId, BootId, MessageId, OrderId, PermitId, UserId};
use domain::market::{InstrumentId, Venue};
use domain::time::{Clock, UnixMs};
use store::audit::Chain;
use store::port::Session;
use store::{OutboxRow, StoreError};
use uuid::Uuid;

use crate::record::Defect;
use crate::record::access::{Access, Right, Sight};
use crate::record::refusal::{aborted, check, denied, document, locked, texts};
use crate::record::tables::{Changes, Tables};

/// What units of one store share.
pub(crate) struct Shared {
    pub(crate) committed: Arc<Tables>,
    pub(crate) locks: BTreeMap<Lock, u64>,
    /// The last position given to any row; positions are given in the order of writing, as sequences do.
    pub(crate) position: i64,
    pub(crate) units: u64,
    pub(crate) defect: Option<Defect>,
}

impl Shared {
    pub(crate) fn next_position(&mut self) -> i64 {
        self.position += 1;
        self.position
    }

    /// Commits changes that no unit made, as a statement of its own does.
    pub(crate) fn take(&mut self, changes: Changes) {
        Arc::make_mut(&mut self.committed).take(changes);
    }
}

pub(crate) fn open(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A row or a unique key that one unit holds.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Lock {
    User(UserId),
    Account(UserId),
    Book(UserId),
    Day(UserId, i64),
    Position(UserId, InstrumentId),
    Reservation(UserId, OrderId),
    Stamp(UserId, OrderId),
    Notional(UserId, OrderId),
    Decision(UserId, OrderId),
    Leg(UserId, MessageId, u16),
    Request(ApprovalId),
    Entry(ApprovalId, String, bool),
    Successor(ApprovalId),
    TelegramUpdate(i64),
    TelegramLink(Sha256Digest),
    TelegramAccount(i64),
    TelegramPrompt(ApprovalId, String, i64, i64),
    TelegramState(String),
    TelegramNotice(MessageId, i64),
    LlmUsage(String),
    Letter(String),
    Totp(String),
    TotpStep(String, i64),
    Approver(String),
    Permit(PermitId),
    PermitOfOrder(UserId, OrderId),
    Order(OrderId),
    OrderOfPermit(UserId, PermitId),
    OrderOfClient(Venue, String),
    Fill(InstrumentId, String),
    Chain(Chain),
    Kill,
    Epoch(i64),
    Instrument(InstrumentId),
    Restart(String, BootId),
    Declared(String),
    Inbox(String, Uuid),
    Outbox(String, Uuid),
}

/// A transaction of the in-memory record.
pub(crate) struct MemoryUnit {
    pub(crate) shared: Arc<Mutex<Shared>>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) access: Arc<Access>,
    pub(crate) id: u64,
    pub(crate) tenant: Option<UserId>,
    pub(crate) changes: Changes,
    pub(crate) locks: Vec<Lock>,
    pub(crate) failed: bool,
}

impl std::fmt::Debug for MemoryUnit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemoryUnit").field("id", &self.id).field("tenant", &self.tenant).finish_non_exhaustive()
    }
}

/// One statement of a unit, alone with the tables while it runs.
pub(crate) struct Statement<'a> {
    pub(crate) shared: &'a mut Shared,
    pub(crate) changes: &'a mut Changes,
    pub(crate) access: &'a Access,
    pub(crate) tenant: Option<UserId>,
    pub(crate) now: UnixMs,
    unit: u64,
    locks: &'a mut Vec<Lock>,
}

/// A table as the statement sees it.
macro_rules! view {
    ($statement:expr, $table:ident) => {
        $crate::record::tables::View { base: &$statement.shared.committed.$table, over: &$statement.changes.$table }
    };
}
pub(crate) use view;

impl Statement<'_> {
    pub(crate) fn select(&self, table: &'static str) -> Result<Sight, StoreError> {
        self.access.allow(table, Right::Select)?;
        Ok(self.access.sight(table, self.tenant))
    }

    pub(crate) fn insert(&self, table: &'static str) -> Result<(), StoreError> {
        self.access.allow(table, Right::Insert)
    }

    /// Rows of `table` that may be updated in these columns.
    pub(crate) fn update(&self, table: &'static str, columns: &'static [&'static str]) -> Result<Sight, StoreError> {
        self.access.allow(table, Right::Select)?;
        self.access.allow(table, Right::Update(columns))?;
        Ok(self.access.reach(self.tenant))
    }

    /// Holds a row or key until the unit ends.
    pub(crate) fn lock(&mut self, lock: Lock) -> Result<(), StoreError> {
        match self.shared.locks.get(&lock) {
            Some(holder) if *holder == self.unit => Ok(()),
            Some(_) => Err(locked()),
            None => {
                self.shared.locks.insert(lock.clone(), self.unit);
                self.locks.push(lock);
                Ok(())
            }
        }
    }

    /// Whether the store was built to break this promise.
    pub(crate) fn broken(&self, defect: Defect) -> bool {
        self.shared.defect == Some(defect)
    }
}

impl MemoryUnit {
    /// Runs one statement. After one that the record refused, nothing of the unit can be committed.
    pub(crate) fn run<T>(
        &mut self,
        statement: impl FnOnce(&mut Statement<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        if self.failed {
            return Err(aborted());
        }
        let mut shared = open(&self.shared);
        let done = statement(&mut Statement {
            shared: &mut shared,
            changes: &mut self.changes,
            access: &self.access,
            tenant: self.tenant,
            now: self.clock.now(),
            unit: self.id,
            locks: &mut self.locks,
        });
        if matches!(done, Err(StoreError::Refused { .. })) {
            // As in Postgres, what failed is over at once: its locks are free before anybody ends the unit.
            self.failed = true;
            self.changes = Changes::default();
            for lock in self.locks.drain(..) {
                shared.locks.remove(&lock);
            }
        }
        done
    }

    fn finish(&mut self, keep: bool) {
        let mut shared = open(&self.shared);
        let mut changes = std::mem::take(&mut self.changes);
        if keep && !self.failed {
            if shared.defect == Some(Defect::CommitHalf) {
                changes = Changes {
                    accounts: changes.accounts,
                    positions: changes.positions,
                    reservations: changes.reservations,
                    rails_state: changes.rails_state,
                    ..Changes::default()
                };
            }
            shared.take(changes);
        }
        for lock in self.locks.drain(..) {
            shared.locks.remove(&lock);
        }
    }
}

impl Drop for MemoryUnit {
    fn drop(&mut self) {
        let keep = open(&self.shared).defect == Some(Defect::RollbackKeeps);
        self.finish(keep);
    }
}

#[async_trait]
impl Session for MemoryUnit {
    async fn set_tenant(&mut self, user: UserId) -> Result<(), StoreError> {
        self.run(|_| Ok(()))?;
        self.tenant = Some(user);
        Ok(())
    }

    async fn now(&mut self) -> Result<UnixMs, StoreError> {
        self.run(|statement| Ok(statement.now))
    }

    async fn open(&mut self, tenant: Option<UserId>, agent: &str, id: MessageId) -> Result<(bool, UnixMs), StoreError> {
        let opened = self.run(|s| {
            s.insert("inbox")?;
            texts([agent])?;
            own(s, agent)?;
            let key = (agent.to_owned(), id.0);
            if s.broken(Defect::InboxForgets) {
                return Ok((true, s.now));
            }
            if view!(s, inbox).has(&key) {
                return Ok((false, s.now));
            }
            s.lock(Lock::Inbox(key.0.clone(), key.1))?;
            s.changes.inbox.insert(key, Some(s.now));
            Ok((true, s.now))
        })?;
        self.tenant = tenant;
        Ok(opened)
    }

    async fn outbox_put(&mut self, agent: &str, rows: &[OutboxRow]) -> Result<(), StoreError> {
        self.run(|s| rows.iter().try_for_each(|row| put(s, agent, row)))
    }

    async fn commit(mut self: Box<Self>) -> Result<(), StoreError> {
        self.finish(true);
        Ok(())
    }

    async fn rollback(mut self: Box<Self>) -> Result<(), StoreError> {
        let keep = open(&self.shared).defect == Some(Defect::RollbackKeeps);
        self.finish(keep);
        Ok(())
    }
}

fn own(s: &Statement<'_>, agent: &str) -> Result<(), StoreError> {
    if s.access.is_agent(agent) { Ok(()) } else { Err(denied("rows of another agent")) }
}

/// Puts one message behind those that wait.
fn put(s: &mut Statement<'_>, agent: &str, row: &OutboxRow) -> Result<(), StoreError> {
    s.insert("outbox")?;
    texts([agent, &row.subject])?;
    document(&row.headers)?;
    own(s, agent)?;
    check(!row.subject.is_empty(), "a message has a subject")?;
    check(row.headers.is_object(), "headers are an object")?;
    let position = s.shared.next_position();
    let key = (agent.to_owned(), row.id);
    if s.broken(Defect::OutboxLost) || view!(s, outbox_at).has(&key) {
        return Ok(());
    }
    s.lock(Lock::Outbox(key.0.clone(), key.1))?;
    s.changes.outbox.insert((key.0.clone(), position), Some(Arc::new(row.clone())));
    s.changes.outbox_at.insert(key, Some(position));
    Ok(())
}
