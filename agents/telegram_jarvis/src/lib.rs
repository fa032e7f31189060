//! Commands, approval prompts and notices in Telegram.
//!
//! This build has no connection to the outside: it counts the notices it would pass on and says in `swarm status` what it lacks.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod process;

use domain::agent::{AgentSpec, USUAL_LIMITS};
use domain::message::{Envelope, Message, Payload};
use domain::subject::Route;
use runtime::{Agent, Ctx, HandleError};

/// Its name.
pub const NAME: &str = "telegram_jarvis";

/// The agent.
#[derive(Debug, Default)]
pub struct TelegramJarvis {}

impl Agent for TelegramJarvis {
    const SPEC: AgentSpec = AgentSpec {
        name: NAME,
        job: "commands, approval prompts and notices in Telegram",
        consumes: &[],
        listens: &[Route::Notice, Route::Alert],
        listens_with_store: &[],
        emits: &[],
        timers: &[],
        tables: store::grants::TELEGRAM,
        services: &[],
        asks: &[
            "swarm.agents",
            "swarm.approvals",
            "swarm.decide.telegram",
            "swarm.equity",
            "swarm.halt",
            "swarm.limits",
            "swarm.positions",
            "swarm.status",
            "swarm.trades",
        ],
        administers_streams: false,
        limits: USUAL_LIMITS,
        lacks: &[
            "Telegram itself: prompts are answered with `swarm approve`, notices are read with `nats sub system.all.notice.low`",
        ],
    };

    async fn handle(&self, input: &Envelope, _ctx: &mut Ctx<'_>) -> Result<Vec<Message>, HandleError> {
        if matches!(input.payload, Payload::Notice(_) | Payload::Alert(_)) {
            metrics::counter!("swarm_notices_unsent_total").increment(1);
        }
        Ok(Vec::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_spec_has_no_fault() {
        assert_eq!(runtime::spec_faults(&TelegramJarvis::SPEC), Vec::<String>::new());
    }
}
