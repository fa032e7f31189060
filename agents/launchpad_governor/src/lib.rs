//! The launchpad governor: may this mint be traded at all, and up to what size?
//!
//! This build has no source of facts about tokens, and no data means no: every verdict is a denial that says so.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod process;

use domain::agent::{AgentSpec, USUAL_LIMITS};
use domain::market::Venue;
use domain::message::{Envelope, Message, Payload, TokenVerdict};
use domain::money::Usd;
use domain::reject::{Reject, RejectCode};
use domain::subject::{Route, Subject};
use domain::time::UnixMs;
use runtime::{Agent, Ctx, HandleError};

/// Its name.
pub const NAME: &str = "launchpad_governor";
/// How long a denial stands before the token may be asked about again, ms.
const DENIAL_STANDS_MS: i64 = 60_000;

/// The agent.
#[derive(Debug, Default)]
pub struct LaunchpadGovernor {}

impl Agent for LaunchpadGovernor {
    const SPEC: AgentSpec = AgentSpec {
        name: NAME,
        job: "verdicts on new tokens; unknown is denied",
        consumes: &[Route::TokenQuestion],
        listens: &[],
        listens_with_store: &[],
        emits: &[Route::TokenVerdict, Route::Notice],
        timers: &[],
        tables: &[],
        services: &[],
        asks: &[],
        administers_streams: false,
        limits: USUAL_LIMITS,
        lacks: &["facts about tokens: every verdict is \"unknown: denied\""],
    };

    async fn handle(&self, input: &Envelope, ctx: &mut Ctx<'_>) -> Result<Vec<Message>, HandleError> {
        let Payload::Task(task) = &input.payload else {
            return Err(Reject::new(RejectCode::WrongPayload, input.payload.kind()).into());
        };
        let argument = |name: &str| {
            task.arguments.get(name).ok_or_else(|| Reject::new(RejectCode::MissingField, format!("arguments.{name}")))
        };
        let mint = argument("mint")?;
        let venue = Venue::parse(argument("venue")?).filter(|venue| venue.is_dex());
        let venue = venue.ok_or_else(|| Reject::new(RejectCode::BadEnum, "arguments.venue is no DEX venue"))?;
        let verdict = denial(venue, mint, ctx.now);
        let subject = Subject::fact(Route::TokenVerdict);
        Ok(vec![Message::fact(subject, input.header.user_id, mint.clone(), Payload::TokenVerdict(verdict))])
    }
}

/// The verdict on a token nothing is known about.
fn denial(venue: Venue, mint: &str, now: UnixMs) -> TokenVerdict {
    TokenVerdict {
        venue,
        mint: mint.to_owned(),
        allowed: false,
        max_notional: Usd::ZERO,
        reason: "unknown: denied".to_owned(),
        valid_until: now.plus_ms(DENIAL_STANDS_MS),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_token_is_denied_with_no_size() {
        let verdict = denial(Venue::PaperDex, "So11111111111111111111111111111111111111112", UnixMs(5));
        assert!(!verdict.allowed);
        assert_eq!(verdict.max_notional, Usd::ZERO);
        assert_eq!(verdict.valid_until, UnixMs(60_005));
    }

    #[test]
    fn its_spec_has_no_fault() {
        assert_eq!(runtime::spec_faults(&LaunchpadGovernor::SPEC), Vec::<String>::new());
    }
}
