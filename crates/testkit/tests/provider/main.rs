//! The double of LLM providers: what it answers, what it refuses, and what it plays, as clients see it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a failed step is a failed test

mod answers;
mod client;
mod faults;
mod life;
mod strict;
