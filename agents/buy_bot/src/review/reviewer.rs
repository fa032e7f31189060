//! Who is asked: the port, and the model behind the router.

use async_trait::async_trait;
use domain::ids::{CorrelationId, MessageId, UserId};
use domain::review::{NoReview, Review, ReviewAnswer};
use llm::client::{Ask, Client, Failure};
use serde_json::{Value, json};

use super::prompt::Prompt;

/// One question about one signal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// Which signal.
    pub signal_id: MessageId,
    /// Its chain.
    pub correlation_id: CorrelationId,
    /// Whose money: answers are shared within one tenant only.
    pub user_id: UserId,
    /// P0 to P9.
    pub priority: u8,
    /// How long there is for an answer, ms.
    pub deadline_ms: u64,
    /// What is asked.
    pub prompt: Prompt,
}

/// Whose question it is, in the words that the router is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    tenant: String,
    chain: String,
}

impl Names {
    /// Those of a question.
    #[must_use]
    pub fn of(question: &Question) -> Self {
        Self { tenant: question.user_id.to_string(), chain: question.correlation_id.0.to_string() }
    }
}

impl Question {
    /// What is sent to the router: the one place where a question becomes a request, so that a proof can ask the cache
    /// exactly what the swarm asks it.
    #[must_use]
    pub fn ask<'a>(&'a self, names: &'a Names, model: &'a str, max_tokens: u32, schema: &'a Value) -> Ask<'a> {
        Ask {
            model,
            system: self.prompt.system,
            user: &self.prompt.user,
            volatile: self.prompt.volatile,
            schema_name: "signal_review",
            schema,
            max_tokens,
            priority: self.priority,
            tenant: &names.tenant,
            deadline_ms: self.deadline_ms,
            correlation_id: &names.chain,
        }
    }
}

/// Whoever reviews signals.
#[async_trait]
pub trait Reviewer: Send + Sync + std::fmt::Debug {
    /// Asks once.
    ///
    /// # Errors
    /// Why there is no review.
    async fn review(&self, question: &Question) -> Result<Review, NoReview>;
}

/// A model behind the router.
#[derive(Debug)]
pub struct ModelReviewer {
    client: Client,
    model: String,
    max_tokens: u32,
    schema: Value,
}

impl ModelReviewer {
    /// Asks `model`, an alias of the router, for at most so many tokens.
    #[must_use]
    pub fn new(client: Client, model: String, max_tokens: u32) -> Self {
        Self { client, model, max_tokens, schema: schema() }
    }
}

/// The schema of [`ReviewAnswer`]. Its bounds are checked again when the answer is read.
#[must_use]
pub fn schema() -> Value {
    json!({
        "type": "object",
        "properties": {
            "verdict": { "type": "string", "enum": ["agree", "object"] },
            "confidence_percent": { "type": "integer", "minimum": 0, "maximum": 100 },
            "reasoning": { "type": "string", "maxLength": 400 },
        },
        "required": ["verdict", "confidence_percent", "reasoning"],
        "additionalProperties": false,
    })
}

/// What a failure of the client means for a review.
const fn reason_of(failure: &Failure) -> NoReview {
    match failure {
        Failure::Deadline { .. } => NoReview::Timeout,
        Failure::Unreachable { .. } => NoReview::Unreachable,
        Failure::Refused { .. } | Failure::Declined => NoReview::Refused,
        Failure::Cut | Failure::Oversized { .. } | Failure::NotAnAnswer | Failure::NotTheSchema => {
            NoReview::NotTheSchema
        }
    }
}

#[async_trait]
impl Reviewer for ModelReviewer {
    async fn review(&self, question: &Question) -> Result<Review, NoReview> {
        let names = Names::of(question);
        let ask = question.ask(&names, &self.model, self.max_tokens, &self.schema);
        match self.client.ask::<ReviewAnswer>(&ask).await {
            Ok(answered) => {
                let provenance = answered.provenance;
                Ok(answered.value.by(&provenance.to_string(), provenance.is_stale))
            }
            Err(failure) => {
                tracing::info!(signal_id = %question.signal_id, %failure, "no review");
                metrics::counter!("swarm_review_failures_total", "code" => failure.code()).increment(1);
                Err(reason_of(&failure))
            }
        }
    }
}
