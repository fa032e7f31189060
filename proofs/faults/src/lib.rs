//! What the router of language models does when its providers fail: the real service over HTTP, before doubles of its three
//! tiers that play one fault after the other.
//!
//! Each row of the table says, as data, what a client must see and how often each tier may be asked; what was seen stands
//! beside it. Below the table stand the claims that need more than one fault: the breaker's one probe, priorities,
//! deadlines, shared calls, quotas and budgets under load, and what a crash leaves behind.
//!
//! The settings are the shipped ones but for the lines that a row or a check names: tiers' timeouts are shortened, the
//! breaker's numbers are not.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod cases;
pub mod checks;
pub mod client;
pub mod report;
pub mod row;
pub mod stage;

use std::path::PathBuf;

/// How to run.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Waits are shortened: the breaker opens for a second, ageing is faster. The table is the same.
    pub short: bool,
    /// This program, which serves the router as a process of its own where one must be killed.
    pub program: PathBuf,
    /// Only rows and checks with this in their name.
    pub only: Option<String>,
}

impl Plan {
    /// Whether to run what has this name.
    #[must_use]
    pub fn wants(&self, name: &str) -> bool {
        self.only.as_ref().is_none_or(|only| name.contains(only.as_str()))
    }
}
