//! The ports of the swarm in memory: what an agent sees of the broker, without a server, by a clock of the caller's.
//!
//! Architecture invariant: for tests and proofs only, nothing here ships. It decides nothing: it does what the real
//! server does, and one contract suite holds for both.

pub mod bus;
