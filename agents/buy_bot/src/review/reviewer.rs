//! Who is asked: the port, and the model behind the router.

use async_trait::async_trait;
use domain::ids::{CorrelationId, MessageId, UserId};
use domain::review::{NoReview, Review, ReviewAnswer};
use llm::client::{Ask, Client, Failure};
use serde_json::{Value, json};

use super::prompt::{Prompt, tokens};

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

/// How much the process may ask of models: what its profile says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Longest question, tokens as [`tokens`] counts them.
    pub prompt_tokens: u64,
    /// Longest answer, tokens.
    pub answer_tokens: u32,
}

impl Bounds {
    /// Reads `SWARM_PROMPT_TOKENS` and `SWARM_ANSWER_TOKENS`; what is not given is bounded by `review.toml` and the router alone.
    ///
    /// # Errors
    /// The names of those that are no number above zero.
    pub fn read(var: impl Fn(&str) -> Option<String>) -> Result<Self, Vec<&'static str>> {
        let mut wrong = Vec::new();
        let mut number = |name: &'static str, most: u32| {
            let Some(text) = var(name).filter(|text| !text.trim().is_empty()) else { return most };
            text.trim().parse().ok().filter(|number| *number > 0).unwrap_or_else(|| {
                wrong.push(name);
                most
            })
        };
        let prompt_tokens = u64::from(number("SWARM_PROMPT_TOKENS", u32::MAX));
        let answer_tokens = number("SWARM_ANSWER_TOKENS", u32::MAX);
        if wrong.is_empty() { Ok(Self { prompt_tokens, answer_tokens }) } else { Err(wrong) }
    }
}

/// A model behind the router.
#[derive(Debug)]
pub struct ModelReviewer {
    client: Client,
    model: String,
    max_tokens: u32,
    prompt_tokens: u64,
    schema: Value,
}

impl ModelReviewer {
    /// Asks `model`, an alias of the router, for at most so many tokens and no more than the profile's.
    #[must_use]
    pub fn new(client: Client, model: String, max_tokens: u32, bounds: Bounds) -> Self {
        let max_tokens = max_tokens.min(bounds.answer_tokens);
        Self { client, model, max_tokens, prompt_tokens: bounds.prompt_tokens, schema: schema() }
    }

    /// The question as it may be asked.
    fn fitting(&self, question: &Question) -> Option<Question> {
        let prompt = question.prompt.clone().within(self.prompt_tokens, tokens(&self.schema.to_string()))?;
        Some(Question { prompt, ..question.clone() })
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
        let Some(question) = &self.fitting(question) else {
            tracing::warn!(signal_id = %question.signal_id, "the question is longer than the profile allows: no review");
            metrics::counter!("swarm_review_failures_total", "code" => "QUESTION_TOO_LONG").increment(1);
            return Err(NoReview::TooLong);
        };
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

#[cfg(test)]
mod tests {
    use domain::ids::derive;
    use llm::client::Access;

    use super::*;

    fn bounds(prompt: &'static str, answer: &'static str) -> Result<Bounds, Vec<&'static str>> {
        Bounds::read(|name| Some(if name == "SWARM_PROMPT_TOKENS" { prompt } else { answer }.to_owned()))
    }

    #[test]
    fn what_the_profile_says_bounds_and_nonsense_is_a_fault() {
        assert_eq!(bounds("1500", " 300 "), Ok(Bounds { prompt_tokens: 1_500, answer_tokens: 300 }));
        assert_eq!(bounds("", ""), Bounds::read(|_| None));
        assert_eq!(bounds("0", "many"), Err(vec!["SWARM_PROMPT_TOKENS", "SWARM_ANSWER_TOKENS"]));
    }

    fn reviewer(prompt_tokens: u64, answer_tokens: u32) -> ModelReviewer {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let access = Access::read(Some("http://127.0.0.1:1"), Some("key")).unwrap().unwrap();
        ModelReviewer::new(Client::new(access).unwrap(), "m".to_owned(), 200, Bounds { prompt_tokens, answer_tokens })
    }

    #[tokio::test]
    async fn the_answer_is_the_shorter_of_both_and_a_question_that_does_not_fit_is_not_asked() {
        assert_eq!((reviewer(1, 150).max_tokens, reviewer(1, 300).max_tokens), (150, 200));
        let id = MessageId(derive("test", &[b"1"]));
        let question = Question {
            signal_id: id,
            correlation_id: CorrelationId(id.0),
            user_id: UserId::of_handle("operator"),
            priority: 5,
            deadline_ms: 2_000,
            prompt: Prompt { system: "be brief", user: "side: buy\n".to_owned(), volatile: &[] },
        };
        let whole = tokens("be brief") + tokens("side: buy\n") + tokens(&schema().to_string());
        assert_eq!(reviewer(whole - 1, 300).review(&question).await, Err(NoReview::TooLong));
        assert_eq!(reviewer(whole, 300).review(&question).await, Err(NoReview::Unreachable), "asked, where nobody is");
    }
}
