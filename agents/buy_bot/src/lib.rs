//! Signals in, order intents out: the planner, the strategies, and a language model's review of what is not urgent.
//!
//! Architecture invariant: nothing here looks at money that is held, at limits or at approvals; every intent is judged
//! by the rails in `treasury`. The planner and the strategies are pure: same inputs, same intents. A review
//! can hold back what a model had the idea of; it makes no order, and none larger.
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
pub use saved::file_path as holdings_path;

/// Its name.
pub const NAME: &str = "buy_bot";
