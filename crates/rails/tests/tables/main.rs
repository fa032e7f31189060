//! What the rails say and do, in tables: the same in every run. One program, so that a mutation run links one.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod flatten;
mod gate;
mod kill;
mod ledger;
mod limits;
mod modify;
mod precedence;
mod press;
mod quorum;
mod render;
#[path = "../scene/mod.rs"]
mod scene;
mod signature;
