//! What every process of the swarm is made of: the loop that turns one message into zero or more messages inside one
//! unit of work, and around it configuration, logs, metrics, health, heartbeats, timers and drain.
//!
//! An agent implements [`Agent`] and calls [`main`]. It never publishes, acknowledges, commits or reads a clock.
//!
//! Architecture invariant: this crate knows no agent and decides nothing about money. It depends on `domain`, `rails`
//! (to combine copies of the kill level), `bus` and `store` alone. The one real clock of the house is in [`clock`]; nothing else may read the time.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod agent;
pub mod clock;
mod config;
mod core;
pub mod ending;
mod engine;
pub mod evidence;
mod grid;
mod hearing;
mod http;
mod intake;
pub mod kill;
mod logs;
mod market;
mod means;
mod meters;
pub mod outbox;
mod process;
mod pulse;
mod relay;
pub mod sandbox;
pub mod seal;
pub mod trace;
pub mod verdict;
mod vitals;
mod work;

pub use agent::{Agent, Ctx, HandleError, spec_faults};
pub use config::{ConfigFaults, ProcessConfig, Supervision};
pub use grid::{USUALLY, grid};
pub use http::{metrics_text, write_port};
pub use market::MarketView;
pub use means::{Means, Record};
pub use meters::metrics_upkeep;
pub use process::{EXIT_ORPHANED, EXIT_UNAVAILABLE, RunError, main, run, run_by};
pub use tokio_util::sync::CancellationToken;
pub use work::Work;
