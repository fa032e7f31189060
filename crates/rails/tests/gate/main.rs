//! Every rail at its limit, just under it and just over it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod approval;
mod latches;
mod market;
mod order;
#[path = "../scene/mod.rs"]
mod scene;
mod sums;
