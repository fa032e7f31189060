//! The DEX desk.
//!
//! This build can't quote, simulate or execute on a DEX. Treasury signs no DEX permit because every token verdict is a
//! denial; a permit that came all the same is turned away, stays unspent and is voided by treasury.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod process;

use domain::agent::{AgentSpec, USUAL_LIMITS};
use domain::message::{Envelope, Message};
use domain::reject::{Reject, RejectCode};
use domain::subject::Route;
use runtime::{Agent, Ctx, HandleError};

/// Its name.
pub const NAME: &str = "dexter";

/// The agent.
#[derive(Debug, Default)]
pub struct Dexter {}

impl Agent for Dexter {
    const SPEC: AgentSpec = AgentSpec {
        name: NAME,
        job: "DEX desk",
        consumes: &[Route::DexPermit],
        listens: &[],
        listens_with_store: &[],
        emits: &[Route::Notice],
        timers: &[],
        tables: &[],
        services: &[],
        asks: &[],
        administers_streams: false,
        limits: USUAL_LIMITS,
        lacks: &["DEX quotes, simulation and execution: every permit is turned away"],
    };

    async fn handle(&self, _input: &Envelope, _ctx: &mut Ctx<'_>) -> Result<Vec<Message>, HandleError> {
        Err(Reject::new(RejectCode::NotSupported, "this build does not execute on a DEX").into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_spec_has_no_fault() {
        assert_eq!(runtime::spec_faults(&Dexter::SPEC), Vec::<String>::new());
    }
}
