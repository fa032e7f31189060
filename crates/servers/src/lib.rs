//! The embedded servers: NATS with JetStream, alone or as a cluster, PostgreSQL, Valkey and, where it is asked for, a small language
//! model as child processes of this one, on loopback alone.
//!
//! Found on PATH (PostgreSQL also where Debian puts it) or in the project's virtual environment; started on given or
//! free ports; waited for by real probes; stopped gracefully; gone when this process is gone, even on `kill -9`.
//! Servers that somebody else runs need none of this: give their URLs to `swarm up` instead.
//!
//! Architecture invariant: this crate knows no message, no table and no agent. It blocks its caller (a start takes well
//! under a second), so async code calls it from `spawn_blocking`.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]
#![expect(
    clippy::disallowed_methods,
    reason = "starting a server blocks its caller by design, on real time and without an async runtime"
)]

mod child;
mod cluster;
mod error;
mod llama;
mod nats;
mod ports;
mod postgres;
mod programs;
mod stuck;
mod valkey;

pub use child::{Child, Launch, spawn};
pub use cluster::{Group, NatsCluster, NodeOptions, Replica, View, lacking, view};
pub use error::ServersError;
pub use llama::{LlamaOptions, LlamaServer, llama_answers};
pub use nats::{NatsOptions, NatsServer, greets};
pub use ports::{StablePorts, free_port, is_free};
pub use postgres::{Durability, PostgresOptions, PostgresServer};
pub use programs::Programs;
pub use stuck::cannot_store;
pub use valkey::{ValkeyOptions, ValkeyServer, ValkeyUser, valkey_answers};
