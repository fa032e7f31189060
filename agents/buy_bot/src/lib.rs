//! Signals in, order intents out: the planner and the strategies.
//!
//! Architecture invariant: nothing here looks at money that is held, at limits or at approvals; every intent is judged
//! by the rails in `treasury`. The planner and the strategies are pure: same inputs, same intents.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod agent;
pub mod config;
pub mod mint;
pub mod planner;
pub mod process;
pub mod review;
mod saved;
pub mod strategy;

pub use agent::BuyBot;

/// Its name.
pub const NAME: &str = "buy_bot";
