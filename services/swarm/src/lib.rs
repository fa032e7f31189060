//! The swarm's command line: start it (`up`), ask it, tell it, and replay markets through it.
//!
//! Architecture invariant: no rule of trading lives here. Commands ask services over NATS; `replay` puts the same pure
//! code on a virtual clock.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

// First, so that its macros are those of every module below.
#[macro_use]
pub mod print;

pub mod demo;
pub mod doctor;
pub mod keys;
pub mod llm;
pub mod people;
pub mod prove;
pub mod record;
pub mod replay;
pub mod specs;
pub mod stage;
pub mod up;

pub use specs::{process_named, processes, services, specs};
