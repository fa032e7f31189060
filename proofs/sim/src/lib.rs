//! The seeded swarm: all ten processes of the product on one thread, with a virtual clock, a broker and a database in
//! memory, a market and a venue that misbehave, people who do too, and processes that die between any two steps. Every
//! draw comes from the seed, so a seed that finds something finds it again, step for step.
//!
//! What is real: the agents, treasury's sweep, the desk's executor, the supervisor's answers, the paper exchange's
//! matching, the wire codec, the rails, signatures, the audit chains, and the runtime's decisions about messages. What is
//! stood in for: NATS (`memory::bus`), Postgres (`memory::Store`), and the loop around one message ([`engine`]).
//!
//! A process may be suspended where it waits for the venue or for a retry, and may die there and around every commit.
//! Between the beginning and the end of one transaction nobody else runs: what happens there is the business of the
//! tests against a real database (`tests/tests/live_money`).
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod cast;
pub mod checks;
pub mod end;
pub mod engine;
pub mod event;
pub mod faults;
pub mod hub;
pub mod market;
pub mod models;
pub mod people;
pub mod report;
pub mod venue;
pub mod world;
