//! The reflector: will compare what was expected with what happened. This build listens and counts, so that the figures
//! lessons need are there from the first day; it proposes none.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod process;

use domain::agent::{AgentSpec, USUAL_LIMITS};
use domain::message::{DecisionOutcome, Envelope, Message, Payload};
use domain::subject::Route;
use runtime::{Agent, Ctx, HandleError};

/// Its name.
pub const NAME: &str = "reflector";

/// The agent.
#[derive(Debug, Default)]
pub struct Reflector {}

impl Agent for Reflector {
    const SPEC: AgentSpec = AgentSpec {
        name: NAME,
        job: "compares what was expected with what happened",
        consumes: &[],
        listens: &[Route::Decision, Route::PositionChanged, Route::TokenVerdict],
        listens_with_store: &[],
        emits: &[],
        timers: &[],
        tables: &[],
        services: &[],
        asks: &[],
        administers_streams: false,
        limits: USUAL_LIMITS,
        lacks: &["lessons: decisions and results are counted only"],
    };

    async fn handle(&self, input: &Envelope, _ctx: &mut Ctx<'_>) -> Result<Vec<Message>, HandleError> {
        match &input.payload {
            Payload::OrderDecision(decision) => {
                metrics::counter!("swarm_reflector_decisions_total", "outcome" => word(&decision.outcome)).increment(1);
            }
            Payload::PositionChanged(change) if !change.realised.value().is_zero() => {
                let result = if change.realised.is_positive() { "profit" } else { "loss" };
                metrics::counter!("swarm_reflector_exits_total", "result" => result).increment(1);
            }
            _ => {}
        }
        Ok(Vec::new())
    }
}

const fn word(outcome: &DecisionOutcome) -> &'static str {
    match outcome {
        DecisionOutcome::Permitted => "permitted",
        DecisionOutcome::Refused { .. } => "refused",
        DecisionOutcome::NeedsHuman { .. } => "needs_human",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_spec_has_no_fault() {
        assert_eq!(runtime::spec_faults(&Reflector::SPEC), Vec::<String>::new());
    }
}
