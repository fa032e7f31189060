//! The ports of the swarm in memory: what an agent sees of the broker and of the record, without a server, by a clock of
//! the caller's.
//!
//! Architecture invariant: for tests and proofs only, nothing here ships. It decides nothing: it does what the real
//! servers do, and one contract suite holds for each and for its server.

pub mod bus;
pub mod record;

pub use record::{Defect, Store};
