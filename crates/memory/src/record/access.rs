//! Who may touch which table, and whose rows they see: the grants of a login and the policies of
//! `migrations/0006_row_security.sql` and `0007_timers.sql`.

use std::collections::BTreeMap;

use domain::agent::TableGrant;
use domain::ids::UserId;
use domain::market::Venue;
use store::StoreError;

use crate::record::refusal::denied;

/// Tables with a user.
const TENANT_TABLES: &[&str] = &[
    "users",
    "rails_state",
    "accounts",
    "positions",
    "reservations",
    "permit_stamps",
    "unapproved_notionals",
    "equity_daily",
    "policy_decisions",
    "approval_requests",
    "approval_entries",
    "approval_resolutions",
    "permits",
    "orders",
    "fills",
    "audit_heads",
    "trade_audit",
];
/// What timers of treasury look through for work.
const TREASURY_READS: &[&str] =
    &["users", "rails_state", "orders", "fills", "permits", "approval_requests", "positions", "reservations"];
/// What the supervisor shows, stores and signs.
const SUPERVISOR_READS: &[&str] =
    &["users", "approval_requests", "approval_entries", "audit_heads", "trade_audit", "orders", "positions"];

/// A right on a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Right {
    Select,
    Insert,
    Update(&'static [&'static str]),
    Delete,
}

#[derive(Debug, Clone, Default)]
struct Rights {
    select: bool,
    insert: bool,
    delete: bool,
    update: bool,
    update_columns: Vec<&'static str>,
}

/// One login.
#[derive(Debug, Clone)]
pub(crate) struct Access {
    /// Name of the login; `None` for the administrator, whom nothing holds.
    role: Option<String>,
    rights: BTreeMap<&'static str, Rights>,
}

/// Which rows of one table a unit sees.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sight {
    everyone: bool,
    tenant: Option<UserId>,
    venues: &'static [Venue],
}

impl Sight {
    pub(crate) fn sees(self, user: UserId) -> bool {
        self.everyone || self.tenant == Some(user)
    }

    /// As [`Self::sees`], for an order at `venue`.
    pub(crate) fn sees_at(self, user: UserId, venue: Venue) -> bool {
        self.sees(user) || self.venues.contains(&venue)
    }
}

impl Access {
    pub(crate) const fn administrator() -> Self {
        Self { role: None, rights: BTreeMap::new() }
    }

    pub(crate) fn login(role: &str, grants: &[TableGrant]) -> Self {
        let mut rights: BTreeMap<&'static str, Rights> = BTreeMap::new();
        for grant in grants {
            let (table, columns) = match grant.table.split_once('(') {
                Some((table, rest)) => (table.trim(), Some(rest.trim_end_matches(')'))),
                None => (grant.table, None),
            };
            let entry = rights.entry(table).or_default();
            for right in grant.rights.split(',').map(str::trim) {
                match (right, columns) {
                    ("SELECT", None) => entry.select = true,
                    ("INSERT", None) => entry.insert = true,
                    ("DELETE", None) => entry.delete = true,
                    ("UPDATE", None) => entry.update = true,
                    ("UPDATE", Some(columns)) => entry.update_columns.extend(columns.split(',').map(str::trim)),
                    _ => {}
                }
            }
        }
        Self { role: Some(role.to_owned()), rights }
    }

    pub(crate) fn allow(&self, table: &'static str, right: Right) -> Result<(), StoreError> {
        if self.role.is_none() {
            return Ok(());
        }
        let good = self.rights.get(table).is_some_and(|rights| match right {
            Right::Select => rights.select,
            Right::Insert => rights.insert,
            Right::Delete => rights.delete,
            Right::Update(columns) => {
                rights.update || columns.iter().all(|column| rights.update_columns.contains(column))
            }
        });
        if good { Ok(()) } else { Err(denied("this login has no such right on the table")) }
    }

    /// A lock `FOR UPDATE` needs a right to update some column.
    pub(crate) fn allow_lock(&self, table: &'static str) -> Result<(), StoreError> {
        self.allow(table, Right::Select)?;
        let good = self.role.is_none()
            || self.rights.get(table).is_some_and(|rights| rights.update || !rights.update_columns.is_empty());
        if good { Ok(()) } else { Err(denied("this login may not lock rows of the table")) }
    }

    /// Inbox and outbox belong to the agent whose login it is, and what models cost to the router.
    pub(crate) fn is_agent(&self, agent: &str) -> bool {
        self.role.as_deref().is_none_or(|role| role == agent)
    }

    pub(crate) fn sight(&self, table: &'static str, tenant: Option<UserId>) -> Sight {
        let (reads, venues): (&[&str], &'static [Venue]) = match self.role.as_deref() {
            None | Some("audit_verify") => (TENANT_TABLES, &[]),
            Some("treasury") => (TREASURY_READS, &[]),
            Some("supervisor") => (SUPERVISOR_READS, &[]),
            Some("online_trading") if table == "orders" => (&[], &[Venue::Paper, Venue::Binance]),
            Some("dexter") if table == "orders" => (&[], &[Venue::PaperDex, Venue::Jupiter]),
            Some(_) => (&[], &[]),
        };
        Sight { everyone: reads.contains(&table), tenant, venues }
    }

    /// Rows a unit may change: policies let nobody but the administrator write for another than the tenant.
    pub(crate) fn reach(&self, tenant: Option<UserId>) -> Sight {
        Sight { everyone: self.role.is_none(), tenant, venues: &[] }
    }
}
