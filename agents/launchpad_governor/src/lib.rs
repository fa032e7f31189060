//! The launchpad governor: may this mint be traded at all, and up to what size?
//!
//! This build has no source of facts about tokens, and no data means no: every verdict is a denial that says so.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod process;

use std::collections::BTreeMap;

use domain::agent::{AgentSpec, USUAL_LIMITS};
use domain::market::Venue;
use domain::message::{Envelope, Message, Payload, Task, TokenVerdict};
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
        consumes: &[Route::TokenQuestion, Route::AgentTask],
        listens: &[],
        listens_with_store: &[],
        emits: &[Route::TokenVerdict, Route::Notice, Route::Task],
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
        if input.subject.route() == Route::AgentTask {
            return Ok(vec![match task.capability.as_str() {
                "token_verdicts" => task.done(verdict_of(task, ctx.now)),
                _ => task.back(input.header.valid_until),
            }]);
        }
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

/// What is said to whoever asks about a token, `mint` at `venue`.
fn verdict_of(task: &Task, now: UnixMs) -> Result<BTreeMap<String, String>, String> {
    let argument = |name: &str| task.arguments.get(name).ok_or_else(|| format!("say {name}=.."));
    let (mint, venue) = (argument("mint")?, argument("venue")?);
    let dex = Venue::parse(venue).filter(|venue| venue.is_dex());
    let verdict = denial(dex.ok_or_else(|| format!("{venue} is no DEX venue"))?, mint, now);
    let fields = [
        ("venue", venue.clone()),
        ("mint", verdict.mint),
        ("allowed", verdict.allowed.to_string()),
        ("max_notional_usd", verdict.max_notional.to_string()),
        ("reason", verdict.reason),
        ("valid_until_ms", verdict.valid_until.0.to_string()),
    ];
    Ok(fields.map(|(name, value)| (name.to_owned(), value)).into())
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
    fn whoever_asks_is_told_the_same_or_what_to_say() {
        let of = |arguments: &[(&str, &str)]| {
            let arguments = arguments.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            verdict_of(&Task::plain("token_verdicts".to_owned(), arguments), UnixMs(5))
        };
        let told = of(&[("mint", "So1"), ("venue", "paper_dex")]).unwrap();
        assert_eq!((told["allowed"].as_str(), told["reason"].as_str()), ("false", "unknown: denied"));
        assert_eq!(of(&[("venue", "paper_dex")]).unwrap_err(), "say mint=..");
        assert_eq!(of(&[("mint", "So1"), ("venue", "paper")]).unwrap_err(), "paper is no DEX venue");
    }

    #[test]
    fn its_spec_has_no_fault() {
        assert_eq!(runtime::spec_faults(&LaunchpadGovernor::SPEC), Vec::<String>::new());
    }
}
