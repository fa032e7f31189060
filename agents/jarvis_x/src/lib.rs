//! X: mentions, sentiment, posts; voice.
//!
//! This build has no connection to the outside: it  says in `swarm status` what it lacks.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod process;

use domain::agent::{AgentSpec, USUAL_LIMITS};
use domain::message::{Envelope, Message};
use runtime::{Agent, Ctx, HandleError};

/// Its name.
pub const NAME: &str = "jarvis_x";

/// The agent.
#[derive(Debug, Default)]
pub struct JarvisX {}

impl Agent for JarvisX {
    const SPEC: AgentSpec = AgentSpec {
        name: NAME,
        job: "X: mentions, sentiment, posts; voice",
        consumes: &[],
        listens: &[],
        listens_with_store: &[],
        emits: &[],
        timers: &[],
        tables: &[],
        services: &[],
        asks: &[],
        administers_streams: false,
        limits: USUAL_LIMITS,
        lacks: &["X and voice: it neither reads nor posts"],
    };

    async fn handle(&self, _input: &Envelope, _ctx: &mut Ctx<'_>) -> Result<Vec<Message>, HandleError> {
        Ok(Vec::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_spec_has_no_fault() {
        assert_eq!(runtime::spec_faults(&JarvisX::SPEC), Vec::<String>::new());
    }
}
