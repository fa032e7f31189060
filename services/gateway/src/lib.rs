//! The web page of the swarm: approvals, positions, equity, agents, trades, limits and the stop button, rendered here
//! and served on 127.0.0.1 alone.
//!
//! Architecture invariant: it holds no rule, no key and no state of the swarm. It reads everything by the supervisor's
//! services and hands a person's decision on with the code they typed; whether that code is theirs the supervisor
//! decides, and treasury again. What it forgets when it dies is who was logged in.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod assets;
pub mod attempts;
pub mod config;
pub mod desk;
pub mod doors;
pub mod guard;
mod handlers;
mod live;
pub mod pages;
pub mod process;
pub mod session;
pub mod site;

use std::sync::Arc;

use domain::agent::{AgentSpec, USUAL_LIMITS};
use domain::message::{Envelope, Message};
use runtime::{Agent, Ctx, HandleError, Work};

use config::Config;
use site::Site;

/// Its name.
pub const NAME: &str = "gateway";

/// The services of the supervisor that it may ask, and nothing else: reads, the halt, a login and a decision that carry
/// a person's code.
pub const ASKS: &[&str] = &[
    "swarm.status",
    "swarm.positions",
    "swarm.approvals",
    "swarm.equity",
    "swarm.trades",
    "swarm.limits",
    "swarm.halt",
    "swarm.web.login",
    "swarm.decide.web",
];

/// The process.
#[derive(Debug)]
pub struct Gateway {
    config: Config,
}

impl Gateway {
    /// With these settings.
    #[must_use]
    pub const fn new(config: Config) -> Self {
        Self { config }
    }
}

impl Agent for Gateway {
    const SPEC: AgentSpec = AgentSpec {
        name: NAME,
        job: "the web page: approvals, positions, equity, agents, trades, limits, stop button",
        consumes: &[],
        listens: &[],
        listens_with_store: &[],
        emits: &[],
        timers: &[],
        tables: &[],
        services: &[],
        asks: ASKS,
        administers_streams: false,
        limits: USUAL_LIMITS,
        lacks: &["TLS: reachable on 127.0.0.1 until a proxy stands before it", "chat"],
    };

    async fn handle(&self, _input: &Envelope, _ctx: &mut Ctx<'_>) -> Result<Vec<Message>, HandleError> {
        Ok(Vec::new())
    }

    async fn background(self: Arc<Self>, work: Work) -> Result<(), HandleError> {
        let fatal = |error: std::io::Error| HandleError::Fatal(format!("the page's port: {error}"));
        let listener = self.config.open(work.config.run_dir.as_deref()).await.map_err(fatal)?;
        let port = listener.local_addr().map_err(fatal)?.port();
        let site = Site::new(work.bus.client().clone(), work.clock.clone(), self.config.names(port), work.shutdown);
        tracing::info!(port, "the page is served");
        site::serve(listener, Arc::new(site)).await.map_err(fatal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_spec_has_no_fault() {
        assert_eq!(runtime::spec_faults(&Gateway::SPEC), Vec::<String>::new());
    }
}
