//! Fuzzing of everything that reads what a stranger, an exchange or a file says. The targets are ordinary functions: the
//! fuzzer feeds them mutated inputs (`make fuzz`), an ordinary test feeds them the seeds, the kept corpus and every input
//! that once broke something.

#![allow(clippy::expect_used, clippy::panic, reason = "a target tells of a fault by panicking")]

pub mod corpus;
pub mod memory;
pub mod run;
pub mod seeds;
pub mod targets;
