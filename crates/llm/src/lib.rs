//! Language models behind one door: providers and their wire formats, one deadline over all tiers, breakers, admission,
//! quotas and budgets by reservation, caches that are measured by their wrong answers, and the client that agents ask with.
//!
//! Architecture invariant: nothing here touches an order. What a model says reaches an agent only as a closed type; what it
//! may cause is decided elsewhere, by code that holds no model.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod adapter;
pub mod admission;
pub mod answer;
pub mod breaker;
pub mod cache;
pub mod client;
pub mod config;
pub mod failure;
pub mod format;
pub mod live;
pub mod meters;
pub mod money;
pub mod provenance;
pub mod quota;
pub mod redis_link;
pub mod request;
pub mod router;
pub mod tier;
