//! The record of money: typed functions, one transaction a unit of work, on Postgres or on another adapter of [`port`].
//!
//! Every table of a user is under forced row-level security; a [`Unit`] names its tenant with [`Unit::set_tenant`], and
//! without one its queries see no rows. What a process may touch is decided by grants of its own login role
//! ([`migrate::ensure_roles`]; [`grants`] lists what each module needs).
//!
//! Architecture invariant: this crate decides nothing about money. It writes what `rails` returned and says whether a
//! compare-and-set won; it knows nothing of NATS or venues. All data is bound, never pasted into SQL.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod approvals;
pub mod audit;
pub mod dead_letters;
pub mod decisions;
mod error;
mod fits;
pub mod grants;
pub mod instruments;
pub mod kill;
pub mod ledger;
pub mod llm_usage;
pub mod migrate;
pub mod orders;
pub mod permits;
pub mod port;
mod postgres;
mod signed;
pub mod supervision;
pub mod telegram;
pub mod telegram_notices;
pub mod totp;
mod unit;
pub mod users;

pub use error::StoreError;
pub use postgres::Db;
pub use unit::{OutboxRow, Unit};
