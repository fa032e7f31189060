//! Every way a person's word comes in, through the gateway into treasury, on a real Postgres: what it takes to get one order
//! permitted, and that nothing else does.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod changes;
mod modify;
mod people;
mod scene;
mod services;
mod strangers;
mod ways;
