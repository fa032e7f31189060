//! The agent against a strict double of Telegram, with a real PostgreSQL, a real NATS and a scripted supervisor.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failed step is a failed test")]

mod approvals;
mod commands;
mod line;
mod notices;
mod people;
mod stage;
mod webhook;
