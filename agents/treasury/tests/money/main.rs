//! Treasury's own functions against a real Postgres, with the real grants and row-level security.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod approvals;
mod days;
mod decisions;
mod flatten;
mod posting;
mod scene;
mod sealing;
mod sweeping;
