//! The page over a real HTTP port and a real NATS; a script answers in the supervisor's place.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "../support/mod.rs"]
mod support;

mod decisions;
mod live;
mod outage;
mod prose;
mod security;
