//! Commands, approval prompts and notices in Telegram.
//!
//! Without a token it has no line to the outside: it counts the notices it would pass on, and says so in `swarm status`.
//! With one, what Telegram sends is a row before anything is done with it, what people are shown comes from the hashed
//! envelope, and what they press is decided by the supervisor, which reads the stored update itself.
//!
//! Architecture invariant: no decision about money and no vote is made here. The token leaves this process in addresses of
//! the Bot API and nowhere else.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod api;
mod board;
pub mod chart;
mod commands;
pub mod config;
mod doors;
mod line;
mod notices;
mod pace;
mod presses;
pub mod process;
mod prompts;
mod receive;
mod request;
mod text;
mod updates;
mod webhook;

use std::sync::Arc;

use domain::agent::{AgentSpec, USUAL_LIMITS};
use domain::ids::UserId;
use domain::message::{Envelope, Message, Payload};
use domain::subject::Route;
use runtime::{Agent, Ctx, HandleError, Work};

use crate::api::ApiFault;
use crate::config::Config;
use crate::line::Line;

/// Its name.
pub const NAME: &str = "telegram_jarvis";

/// The agent.
#[derive(Debug, Default)]
pub struct TelegramJarvis {
    line: Option<Arc<Line>>,
}

impl TelegramJarvis {
    /// Takes the checked configuration; `None`: there is no token.
    ///
    /// # Errors
    /// [`ApiFault`] when there can be no HTTP client.
    pub fn new(config: Option<Config>) -> Result<Self, ApiFault> {
        Ok(Self { line: config.map(Line::new).transpose()?.map(Arc::new) })
    }
}

impl Agent for TelegramJarvis {
    const SPEC: AgentSpec = AgentSpec {
        name: NAME,
        job: "commands, approval prompts and notices in Telegram",
        consumes: &[Route::Notice, Route::Alert, Route::PositionChanged, Route::HaltChanged],
        listens: &[Route::ApprovalRequested, Route::ApprovalResolved, Route::Decision],
        listens_with_store: &[],
        emits: &[Route::Alert],
        timers: &[],
        tables: store::grants::TELEGRAM,
        services: &[],
        asks: doors::ASKED,
        administers_streams: false,
        limits: USUAL_LIMITS,
        lacks: &["chat in plain words and voice notes"],
    };

    fn lacks(&self) -> Vec<String> {
        let mut lacks: Vec<String> = Self::SPEC.lacks.iter().map(|lack| (*lack).to_owned()).collect();
        if self.line.is_none() {
            lacks.push(
                "Telegram itself, TELEGRAM_TOKEN is not set: decide with `swarm approve`, read notices with \
                 `nats sub system.all.notice.low`"
                    .to_owned(),
            );
        }
        lacks
    }

    async fn handle(&self, input: &Envelope, ctx: &mut Ctx<'_>) -> Result<Vec<Message>, HandleError> {
        let Some(line) = &self.line else {
            if matches!(input.payload, Payload::Notice(_) | Payload::Alert(_)) {
                metrics::counter!("swarm_notices_unsent_total").increment(1);
            }
            return Ok(Vec::new());
        };
        if Self::SPEC.listens.contains(&input.subject.route()) {
            // A request came, was decided, or led to a permit or a refusal.
            line.look.notify_one();
            return Ok(Vec::new());
        }
        if let Some(text) = notices::told(input) {
            let now = ctx.now;
            notices::queue(ctx.unit()?, &text, &input.header, now).await?;
        }
        Ok(Vec::new())
    }

    fn committed(&self, input: &Envelope) {
        if let Some(line) = &self.line
            && let Some(text) = notices::told(input)
        {
            line.remember(input.header.made_at, text);
            line.queued.notify_one();
            line.look.notify_one();
        }
    }

    async fn background(self: Arc<Self>, work: Work) -> Result<(), HandleError> {
        let Some(line) = &self.line else {
            work.shutdown.cancelled().await;
            return Ok(());
        };
        let receive = async {
            match &line.config.webhook {
                Some(hook) => webhook::run(Arc::clone(line), work.clone(), hook).await,
                None => receive::run(Arc::clone(line), work.clone()).await,
            }
        };
        tokio::try_join!(
            receive,
            updates::run(Arc::clone(line), work.clone()),
            prompts::run(Arc::clone(line), work.clone()),
            notices::run(Arc::clone(line), work.clone()),
        )?;
        Ok(())
    }
}

/// No user: rows of Telegram and of approvers belong to no account.
pub(crate) fn nobody() -> UserId {
    UserId(uuid::Uuid::nil())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_spec_has_no_fault() {
        assert_eq!(runtime::spec_faults(&TelegramJarvis::SPEC), Vec::<String>::new());
    }

    #[test]
    fn without_a_token_it_says_what_it_lacks() {
        let lacks = TelegramJarvis::default().lacks();
        assert!(lacks.iter().any(|lack| lack.contains("TELEGRAM_TOKEN is not set")), "{lacks:?}");
    }
}
