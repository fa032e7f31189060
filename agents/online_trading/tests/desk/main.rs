//! The desk's permits and executor against a real Postgres and the paper exchange, without a bus: what it writes, what it
//! sends, and what is left when it dies in between.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod crashes;
mod halts;
mod orders;
mod permits;
mod scene;
mod slices;
