//! The door to language models: an OpenAI-compatible service on 127.0.0.1, with the router of `llm` behind it.
//!
//! Architecture invariant: it carries words and decides nothing about money that trades. Who asks is said by a key, and a
//! key is all it knows of a caller; it holds only digests of keys. What it may do in Postgres is write and read what models
//! cost.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod admin;
mod chat;
pub mod config;
pub mod keys;
pub mod process;
mod site;
mod sse;
pub mod standalone;
mod usage;
mod wire;

use std::sync::Arc;

use domain::agent::{AgentSpec, USUAL_LIMITS};
use domain::message::{Envelope, Message};
use runtime::{Agent, Ctx, HandleError, Work};

pub use config::Config;
pub use site::{Site, serve};

/// Its name.
pub const NAME: &str = "llm_router";

/// The process.
#[derive(Debug)]
pub struct LlmRouter {
    config: Config,
}

impl LlmRouter {
    /// With these settings.
    #[must_use]
    pub const fn new(config: Config) -> Self {
        Self { config }
    }
}

impl Agent for LlmRouter {
    const SPEC: AgentSpec = AgentSpec {
        name: NAME,
        job: "language models behind one door: tiers, failover, quotas, budgets, caches",
        consumes: &[],
        listens: &[],
        listens_with_store: &[],
        emits: &[],
        timers: &[],
        tables: store::grants::LLM_ROUTER,
        services: &[],
        asks: &[],
        administers_streams: false,
        limits: USUAL_LIMITS,
        lacks: &[],
    };

    fn lacks(&self) -> Vec<String> {
        self.config.router.tiers_off()
    }

    async fn handle(&self, _input: &Envelope, _ctx: &mut Ctx<'_>) -> Result<Vec<Message>, HandleError> {
        Ok(Vec::new())
    }

    async fn background(self: Arc<Self>, work: Work) -> Result<(), HandleError> {
        let fatal = |text: String| HandleError::Fatal(text);
        let record = usage::recorded(&work).await?;
        let (sink, writer) = usage::writer(work.clone());
        let writing = tokio::spawn(writer);
        let router = self.config.open(record, sink, Arc::clone(&work.clock)).await.map_err(fatal)?;
        let listener = self
            .config
            .listen(work.config.run_dir.as_deref())
            .await
            .map_err(|error| fatal(format!("port: {error}")))?;
        tracing::info!(address = ?listener.local_addr().ok(), "the router is served");
        let site = Site::new(router, self.config.keys.clone(), Some(work.clone()));
        let served = serve(listener, Arc::new(site), work.shutdown.clone()).await;
        // The last rows are written before the process goes.
        let _ = writing.await;
        served.map_err(|error| fatal(format!("port: {error}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_spec_has_no_fault() {
        assert_eq!(runtime::spec_faults(&LlmRouter::SPEC), Vec::<String>::new());
    }
}
