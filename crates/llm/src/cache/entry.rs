//! What is kept, and its form outside the process.

use std::sync::Arc;
use std::time::Duration;

use domain::time::UnixMs;
use serde::{Deserialize, Serialize};

use crate::answer::{Answer, Finish, ToolCall, Usage};

/// Form of stored entries. Another number is another form, and not read.
const VERSION: u32 = 1;

/// An entry from further in the future than this was written by a clock that is wrong; nearer, clocks only differ. ms
const MOST_SKEW_MS: i64 = 5_000;

/// An answer, and where it came from.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The answer.
    pub answer: Arc<Answer>,
    /// The tier that gave it.
    pub tier: String,
    /// The model of that tier.
    pub model: String,
    /// What it cost, millionths of the budget's currency.
    pub cost_micros: u64,
    /// When it was given.
    pub stored_at: UnixMs,
}

impl Entry {
    /// About how much memory its content takes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let answer = &self.answer;
        let calls = answer.tool_calls.iter().map(|call| call.id.len() + call.name.len() + call.arguments.len());
        let texts = answer.content.len() + answer.reasoning.len() + answer.refusal.as_ref().map_or(0, String::len);
        texts + calls.sum::<usize>() + answer.model.len() + self.tier.len() + self.model.len()
    }

    /// How old it is; `None` when it claims to be from the future.
    #[must_use]
    pub fn age(&self, now: UnixMs) -> Option<Duration> {
        let age_ms = now.since_ms(self.stored_at);
        (age_ms >= -MOST_SKEW_MS).then(|| Duration::from_millis(u64::try_from(age_ms).unwrap_or(0)))
    }

    /// Its form outside the process.
    #[must_use]
    pub(super) fn to_stored(&self) -> Vec<u8> {
        let answer = &*self.answer;
        let stored = Stored {
            version: VERSION,
            tier: self.tier.clone(),
            model: self.model.clone(),
            cost_micros: self.cost_micros,
            stored_at: self.stored_at,
            content: answer.content.clone(),
            reasoning: answer.reasoning.clone(),
            tool_calls: answer
                .tool_calls
                .iter()
                .map(|call| (call.id.clone(), call.name.clone(), call.arguments.clone()))
                .collect(),
            finish: answer.finish.word().to_owned(),
            prompt_tokens: answer.usage.prompt_tokens,
            completion_tokens: answer.usage.completion_tokens,
            estimated: answer.usage.estimated,
            answered_by: answer.model.clone(),
        };
        // Texts and numbers: there is nothing in it that can't be written.
        serde_json::to_vec(&stored).unwrap_or_default()
    }

    /// Reads it; `None` when it is of another form or nothing that may be given to anybody.
    #[must_use]
    pub(super) fn of_stored(bytes: &[u8]) -> Option<Self> {
        let stored: Stored = serde_json::from_slice(bytes).ok().filter(|stored: &Stored| stored.version == VERSION)?;
        let calls = stored.tool_calls.into_iter();
        let answer = Answer {
            content: stored.content,
            reasoning: stored.reasoning,
            refusal: None,
            tool_calls: calls.map(|(id, name, arguments)| ToolCall { id, name, arguments }).collect(),
            finish: Finish::parse(&stored.finish)?,
            usage: Usage {
                prompt_tokens: stored.prompt_tokens,
                completion_tokens: stored.completion_tokens,
                estimated: stored.estimated,
            },
            model: stored.answered_by,
        };
        answer.is_cacheable().then(|| Self {
            answer: Arc::new(answer),
            tier: stored.tier,
            model: stored.model,
            cost_micros: stored.cost_micros,
            stored_at: stored.stored_at,
        })
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    version: u32,
    tier: String,
    model: String,
    cost_micros: u64,
    stored_at: UnixMs,
    content: String,
    reasoning: String,
    tool_calls: Vec<(String, String, String)>,
    finish: String,
    prompt_tokens: u64,
    completion_tokens: u64,
    estimated: bool,
    answered_by: String,
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::cache) fn entry(content: &str, stored_at: UnixMs) -> Entry {
        let answer = Answer {
            content: content.to_owned(),
            reasoning: "because".to_owned(),
            refusal: None,
            tool_calls: vec![ToolCall { id: "c".to_owned(), name: "f".to_owned(), arguments: "{}".to_owned() }],
            finish: Finish::ToolCalls,
            usage: Usage { prompt_tokens: 3, completion_tokens: 4, estimated: true },
            model: "m-1".to_owned(),
        };
        Entry { answer: Arc::new(answer), tier: "local".to_owned(), model: "m".to_owned(), cost_micros: 7, stored_at }
    }

    #[test]
    fn what_is_stored_is_read_back() {
        let entry = entry("yes \u{434}", UnixMs(9));
        assert_eq!(Entry::of_stored(&entry.to_stored()), Some(entry));
    }

    #[test]
    fn what_is_of_another_form_or_not_to_be_given_is_not_read() {
        let good = String::from_utf8(entry("yes", UnixMs(9)).to_stored()).unwrap();
        for (from, to) in [
            (r#""version":1"#, r#""version":2"#),
            (r#""finish":"tool_calls""#, r#""finish":"length""#),
            (r#""finish":"tool_calls""#, r#""finish":"content_filter""#),
            (r#""finish":"tool_calls""#, r#""finish":"what""#),
            (r#""tier":"local""#, r#""tier":"local","more":1"#),
            ("}", ""),
        ] {
            assert!(good.contains(from));
            assert_eq!(Entry::of_stored(good.replace(from, to).as_bytes()), None, "{to}");
        }
        assert_eq!(Entry::of_stored(b""), None);
        assert_eq!(Entry::of_stored(&[0xff; 9]), None);
    }

    #[test]
    fn an_entry_of_the_future_has_no_age() {
        let entry = entry("yes", UnixMs(10_000));
        assert_eq!(entry.age(UnixMs(10_250)), Some(Duration::from_millis(250)));
        assert_eq!(entry.age(UnixMs(9_000)), Some(Duration::ZERO), "clocks differ a little");
        assert_eq!(entry.age(UnixMs(1_000)), None);
    }
}
