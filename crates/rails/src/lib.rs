//! The rails: limits, checks, refusals, and the pure ledger they read.
//!
//! [`check::check`] is the only way to an [`approved::Approved`] order. There is no switch that turns a rail off and no
//! limit has a default: `config/limits.toml` names each one or the process does not start.
//!
//! Architecture invariant: this crate is pure. It does no I/O, reads no clock and knows no agent, store or venue.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod approved;
pub mod book;
pub mod check;
mod exposure;
pub mod flatten;
pub mod kill;
pub mod limits;
pub mod modify;
mod posting;
pub mod press;
pub mod quorum;
mod rail;
pub mod refusal;
pub mod render;
pub mod signature;
pub mod totp;
