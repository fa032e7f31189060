//! The store against a real Postgres, one server for all tests of this process.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods)] // a failed step is a failed test

mod attacks;
mod audit;
mod isolation;
mod ledger;
mod llm_usage;
mod samples;
mod schema;
mod states;
mod support;
