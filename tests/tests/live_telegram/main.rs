//! The whole swarm with a line to a double of Telegram.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod asked;
mod killed;
mod swarm;
