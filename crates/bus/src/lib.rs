//! The road between processes: NATS JetStream, the wire codec, the streams as data and the rights of every process.
//!
//! Architecture invariant: nothing in here knows what a message *means* for money. It carries typed messages, refuses
//! what is not exactly of the contract, and never decides about an order. It reads no clock: every moment comes in as
//! an argument.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod answer;
pub mod codec;
mod connection;
mod delivery;
mod error;
pub mod letters;
pub mod permissions;
mod queue;
pub mod streams;

pub use connection::{Bus, BusConfig, BusEvent, Encoded, Published, servers};
pub use delivery::{Delivery, Puller, Raw, Subscription};
pub use error::BusError;
pub use letters::Letter;
pub use queue::Waiting;

/// Largest message taken at any door, in bytes; the streams refuse more as well.
pub const MAX_MESSAGE_BYTES: usize = 65_536;
/// Value of the `content-type` header of a Protobuf message.
pub const CONTENT_TYPE: &str = "application/x-protobuf";
