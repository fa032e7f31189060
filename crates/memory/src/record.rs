//! The record of money in memory: the second adapter of `store::port`.
//!
//! It keeps the rows, constraints, grants, policies and isolation that `migrations/` define for Postgres, without a
//! server, a timer or a runtime: every future is ready at once, every order of iteration is fixed. One suite of contract
//! cases runs against both (`tests/contract`).

mod access;
mod approvals;
mod audit;
mod dead_letters;
mod decisions;
mod defect;
mod house;
mod ledger;
mod llm_usage;
mod orders;
mod permits;
mod refusal;
mod store;
mod tables;
mod telegram;
mod telegram_notices;
mod totp;
mod unit;

pub use self::store::Store;
pub use defect::Defect;
pub use tables::{Account, Entry, FillRow, Resolution, Tables};
