//! One record to run a case against: a fresh database of a real Postgres, or one in memory.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use domain::agent::TableGrant;
use domain::ids::UserId;
use domain::time::UnixMs;
use memory::{Defect, Store};
use store::migrate::{RoleSpec, ensure_roles, migrate};
use store::{Db, OutboxRow, StoreError, Unit, grants};
use testkit::VirtualClock;
use testkit::servers::{TestDatabase, postgres};

use crate::samples::T0;

const GRANTS: [(&str, &[TableGrant]); 10] = [
    ("treasury", grants::TREASURY),
    ("online_trading", grants::DESK),
    ("dexter", grants::DESK),
    ("supervisor", grants::SUPERVISOR),
    ("buy_bot", grants::PLANNER),
    ("telegram_jarvis", grants::TELEGRAM),
    ("audit_verify", grants::AUDIT_VERIFY),
    ("llm_router", grants::LLM_ROUTER),
    // As if it had been granted the router's table by mistake.
    ("jarvis_x", grants::LLM_ROUTER),
    // And the supervisor's.
    ("monitor", &[TableGrant { table: "dead_letters", rights: "SELECT, INSERT, UPDATE, DELETE" }]),
];

/// A record with the logins of all kinds of process; `admin` is held by nothing.
pub enum World {
    Postgres(TestDatabase),
    Memory(BTreeMap<&'static str, Store>),
}

impl World {
    pub async fn on_postgres() -> Self {
        let database = postgres().empty_database().await;
        migrate(&database.admin_url()).await.unwrap();
        let roles = GRANTS.map(|(name, grants)| RoleSpec { name, password: "test", grants });
        ensure_roles(&database.admin_url(), &roles).await.unwrap();
        Self::Postgres(database)
    }

    pub fn in_memory(defect: Option<Defect>) -> Self {
        let clock = Arc::new(VirtualClock::at(T0));
        let admin = match defect {
            None => Store::new(clock),
            Some(defect) => Store::with_defect(clock, defect),
        };
        let logins = GRANTS.map(|(name, grants)| (name, admin.login(name, grants)));
        Self::Memory(logins.into_iter().chain([("admin", admin)]).collect())
    }

    /// A way to the database of its own for each unit, because a case may hold more of them than a process would.
    async fn db(&self, role: &str) -> Option<Db> {
        let Self::Postgres(database) = self else { return None };
        let url = if role == "admin" { database.admin_url() } else { database.url_as(role) };
        Some(Db::connect(&url, role).await.unwrap())
    }

    fn store(&self, role: &str) -> &Store {
        match self {
            Self::Memory(logins) => &logins[role],
            Self::Postgres(_) => unreachable!("asked for after the database"),
        }
    }

    /// A transaction of the process `role`.
    pub async fn begin(&self, role: &str) -> Unit {
        match self.db(role).await {
            Some(db) => db.begin().await.unwrap(),
            None => self.store(role).begin(),
        }
    }

    /// A transaction of `role` that works for `user`.
    pub async fn begin_for(&self, role: &str, user: UserId) -> Unit {
        let mut unit = self.begin(role).await;
        unit.set_tenant(user).await.unwrap();
        unit
    }

    /// A transaction that soon gives up waiting for a lock, as the one in memory does at once.
    pub async fn begin_impatient(&self, role: &str) -> Unit {
        let mut unit = self.begin(role).await;
        if let Ok(conn) = unit.conn() {
            sqlx::query("SET LOCAL lock_timeout = 20").execute(conn).await.unwrap();
        }
        unit
    }

    pub async fn now(&self) -> UnixMs {
        match self.db("admin").await {
            Some(db) => db.now().await.unwrap(),
            None => self.store("admin").now(),
        }
    }

    pub async fn pending(&self, role: &str, agent: &str, limit: usize, besides: &[uuid::Uuid]) -> Vec<OutboxRow> {
        match self.db(role).await {
            Some(db) => db.outbox_pending_besides(agent, limit.try_into().unwrap(), besides).await.unwrap(),
            None => self.store(role).outbox_pending_besides(agent, limit, besides),
        }
    }

    pub async fn delete(&self, role: &str, agent: &str, ids: &[uuid::Uuid]) {
        match self.db(role).await {
            Some(db) => db.outbox_delete(agent, ids).await.unwrap(),
            None => self.store(role).outbox_delete(agent, ids),
        }
    }

    pub async fn forget(&self, role: &str, agent: &str, before: UnixMs, batch: usize) -> u64 {
        match self.db(role).await {
            Some(db) => db.inbox_forget(agent, before, batch.try_into().unwrap()).await.unwrap(),
            None => self.store(role).inbox_forget(agent, before, batch).try_into().unwrap(),
        }
    }
}

/// The SQLSTATE of a refusal.
#[track_caller]
pub fn state<T: std::fmt::Debug>(result: Result<T, StoreError>) -> String {
    let error = result.expect_err("the record should have refused");
    error.sql_state().unwrap_or_else(|| panic!("no SQLSTATE: {error:?}"))
}

/// The call met a lock: it may be tried again.
#[track_caller]
pub fn assert_locked<T: std::fmt::Debug>(result: Result<T, StoreError>) {
    let error = result.expect_err("the row should be locked");
    assert!(error.is_transient(), "{error:?}");
    assert_eq!(error.sql_state().as_deref(), Some("55P03"));
}

/// Runs a case in memory, where no future may ever wait.
pub fn run_ready(case: impl Future<Output = ()>) {
    let mut case = std::pin::pin!(case);
    match case.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(()) => {}
        Poll::Pending => panic!("a future of the record in memory was not ready at once"),
    }
}
