//! The words of the house: money, ids, time, messages, subjects, orders and the ports other crates implement.
//!
//! Architecture invariant: this crate is pure. It does no I/O, reads no clock and no randomness, and knows nothing of
//! Protobuf, SQL, NATS or any venue's wire format.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod agent;
pub mod canonical;
pub mod ids;
pub mod link_code;
pub mod market;
pub mod message;
pub mod money;
pub mod order;
pub mod person;
pub mod reject;
pub mod review;
pub mod subject;
pub mod telegram_button;
pub mod time;
