//! What the right answer is. Two judges that know nothing of the cache:
//!
//! - [`answer`] stands for a model that answers the same question alike, and any other question differently: a hash of every
//!   fact that is shown. An answer to another question passes it by one in 202.
//! - [`rule`] judges the exact figures behind the question, which the question tells in buckets. Where it changes its mind
//!   between two situations that share an answer, that is what the buckets cost. It is information: nobody promised that a model which
//!   is told "1 to 5" should tell 1 from 5.

use std::sync::Arc;

use buy_bot::review::Situation;
use domain::time::UnixMs;
use llm::answer::{Answer, Finish, Usage};
use llm::cache::Entry;
use rust_decimal::Decimal;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// What the model says to the question of these facts; `number` names the question in it, as prose that nobody compares.
#[must_use]
pub fn answer(facts: &str, number: usize) -> String {
    let digest: [u8; 32] = Sha256::digest(facts.as_bytes()).into();
    let verdict = if digest[0].is_multiple_of(2) { "agree" } else { "object" };
    let confidence = u16::from_be_bytes([digest[1], digest[2]]) % 101;
    let reasoning = format!("question {number}");
    json!({ "verdict": verdict, "confidence_percent": confidence, "reasoning": reasoning }).to_string()
}

/// Verdict and confidence of an answer, and the number of the question that it was given to.
#[must_use]
pub fn read(content: &str) -> Option<(String, u64, usize)> {
    let said: Value = serde_json::from_str(content).ok()?;
    let number = said["reasoning"].as_str()?.strip_prefix("question ")?.parse().ok()?;
    Some((said["verdict"].as_str()?.to_owned(), said["confidence_percent"].as_u64()?, number))
}

/// An answer as the router would keep it.
#[must_use]
pub fn entry(content: String, stored_at: UnixMs) -> Entry {
    let answer = Answer {
        content,
        reasoning: String::new(),
        refusal: None,
        tool_calls: Vec::new(),
        finish: Finish::Stop,
        usage: Usage::default(),
        model: "oracle".to_owned(),
    };
    Entry { answer: Arc::new(answer), tier: "oracle".to_owned(), model: "oracle".to_owned(), cost_micros: 0, stored_at }
}

/// Whether a plain rule over the exact figures would object: spread over 3 bps, price older than 5 s, mean range over 40 bps,
/// or a chase after 30 bps. Its edges are no edges of the buckets, on purpose.
#[must_use]
pub fn rule(situation: &Situation) -> bool {
    let over = |value: Option<Decimal>, edge: i64| value.is_some_and(|value| value > Decimal::from(edge));
    over(situation.spread_bps, 3)
        || situation.data_age_ms.is_none_or(|age_ms| age_ms > 5_000)
        || over(situation.range_bps, 40)
        || over(situation.move_bps, 30)
}
