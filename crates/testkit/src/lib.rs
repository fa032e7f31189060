//! What tests share: real servers, fresh databases, bounded waiting, a clock that stands still, and ready-made values.
//!
//! Architecture invariant: a dev-dependency and the proofs' only; nothing here ships. It panics where a test should fail,
//! because a missing server must fail a test loudly and never skip it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "test support: a panic is a failed test")]

pub mod bank;
pub mod build;
pub mod clock;
pub mod link;
pub mod provider;
pub mod servers;
pub mod telegram;
pub mod wait;

pub use clock::VirtualClock;
pub use wait::{wait_for, wait_until};
