//! What a language model may say about a planned order, as a closed type, and what is said when it says nothing.
//!
//! An opinion authorises nothing. It travels with the intent to treasury's audit row and is shown there as prose of a
//! stranger; rails, approvals and permits are never given it. The one thing it can do is done before there is an intent:
//! an idea that a model had is held when no other model agrees.

use serde::{Deserialize, Serialize};

use crate::message::clean_text;
use crate::order::words;

/// Longest reasoning kept, characters.
pub const MAX_REASONING_CHARS: usize = 400;
/// Longest name of a model kept, characters.
pub const MAX_MODEL_CHARS: usize = 120;

words! {
    /// For or against.
    Verdict { /// Nothing speaks against it.
        Agree = "agree", /// Something does.
        Object = "object" }
}
words! {
    /// Why there is no review although one was wanted.
    NoReview { /// No model was named to this process.
        NotConfigured = "not_configured", /// Reviews are switched off.
        Off = "off", /// As many reviews as may run at once are running.
        Busy = "busy", /// No answer within the time there was.
        Timeout = "timeout", /// Nobody answered at the router's address.
        Unreachable = "unreachable", /// The router or the model declined to answer.
        Refused = "refused", /// What came is no review: other fields, other words, a number out of range, or text around it.
        NotTheSchema = "not_the_schema", /// The question is longer than the profile of this process allows: nobody was asked.
        TooLong = "too_long" }
}

/// A whole percentage, 0 to 100.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Percent(u8);

impl Percent {
    /// Checks and wraps; `None` above 100.
    #[must_use]
    pub fn new(value: u32) -> Option<Self> {
        u8::try_from(value).ok().filter(|value| *value <= 100).map(Self)
    }

    /// The number.
    #[must_use]
    pub const fn value(self) -> u8 {
        self.0
    }
}

impl TryFrom<u32> for Percent {
    type Error = &'static str;

    fn try_from(value: u32) -> Result<Self, Self::Error> {
        Self::new(value).ok_or("not within 0 and 100")
    }
}

impl From<Percent> for u32 {
    fn from(percent: Percent) -> Self {
        Self::from(percent.0)
    }
}

impl std::fmt::Display for Percent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// What a model answers, to the letter: these three fields, once each, and nothing around them.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReviewAnswer {
    verdict: Verdict,
    confidence_percent: Percent,
    reasoning: String,
}

impl ReviewAnswer {
    /// Reads the text of an answer.
    ///
    /// # Errors
    /// [`NoReview::NotTheSchema`] for anything else than one JSON object of exactly these fields.
    pub fn parse(text: &str) -> Result<Self, NoReview> {
        serde_json::from_str(text).map_err(|_| NoReview::NotTheSchema)
    }

    /// The review that it is, by `model`; `is_stale` when it was kept beyond its time and is given for want of a better.
    #[must_use]
    pub fn by(self, model: &str, is_stale: bool) -> Review {
        Review::new(self.verdict, self.confidence_percent, &self.reasoning, model, is_stale)
    }
}

/// A model's word on a planned order. Its texts are cleaned and clipped however it was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Fields")]
pub struct Review {
    verdict: Verdict,
    confidence_percent: Percent,
    reasoning: String,
    model: String,
    is_stale: bool,
}

/// A stored review before its texts are cleaned again.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    verdict: Verdict,
    confidence_percent: Percent,
    reasoning: String,
    model: String,
    is_stale: bool,
}

impl From<Fields> for Review {
    fn from(f: Fields) -> Self {
        Self::new(f.verdict, f.confidence_percent, &f.reasoning, &f.model, f.is_stale)
    }
}

impl Review {
    /// A review; the texts are cleaned and clipped.
    #[must_use]
    pub fn new(verdict: Verdict, confidence_percent: Percent, reasoning: &str, model: &str, is_stale: bool) -> Self {
        let reasoning = plain(reasoning, MAX_REASONING_CHARS);
        Self { verdict, confidence_percent, reasoning, model: plain(model, MAX_MODEL_CHARS), is_stale }
    }

    /// For or against.
    #[must_use]
    pub const fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// How sure the model says it is. A model's own figure: it orders answers, it is no probability.
    #[must_use]
    pub const fn confidence_percent(&self) -> Percent {
        self.confidence_percent
    }

    /// Why, in the model's words; untrusted prose.
    #[must_use]
    pub fn reasoning(&self) -> &str {
        &self.reasoning
    }

    /// Which model, over which tier, and whether from a cache.
    #[must_use]
    pub fn model(&self) -> &str {
        &self.model
    }

    /// It was kept beyond its time, and no model could be asked.
    #[must_use]
    pub const fn is_stale(&self) -> bool {
        self.is_stale
    }
}

/// What is known of a model's view of an intent.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Opinion {
    /// No model had to be asked: an exit, a strategy's order, an urgent one; or the message is older than reviews.
    #[default]
    NotAsked,
    /// One was wanted and there is none.
    NoOpinion {
        /// Why.
        reason: NoReview,
    },
    /// There is one.
    Reviewed(Review),
}

/// Prose without control and direction characters and without the characters that begin markup, at most `chars` long.
/// Cleaning it twice changes nothing, so what was stored reads back as itself.
fn plain(text: &str, chars: usize) -> String {
    let told: String = text
        .chars()
        .take(chars.saturating_mul(4))
        .map(|c| match c {
            '\n' | '\r' | '\t' => ' ',
            '<' => '‹',
            '>' => '›',
            '[' => '(',
            ']' => ')',
            '`' => '\'',
            other => other,
        })
        .collect();
    clean_text(&told).chars().take(chars).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn percent(value: u32) -> Percent {
        Percent::new(value).unwrap()
    }

    #[test]
    fn an_answer_is_these_three_fields_and_nothing_else() {
        for (text, good) in [
            (r#"{"verdict":"agree","confidence_percent":80,"reasoning":"calm"}"#, true),
            (r#" {"reasoning":"","confidence_percent":0,"verdict":"object"} "#, true),
            (r#"{"verdict":"agree","confidence_percent":100,"reasoning":"x"}"#, true),
            (r#"{"verdict":"agree","confidence_percent":101,"reasoning":"x"}"#, false),
            (r#"{"verdict":"agree","confidence_percent":-1,"reasoning":"x"}"#, false),
            (r#"{"verdict":"agree","confidence_percent":80.0,"reasoning":"x"}"#, false),
            (r#"{"verdict":"agree","confidence_percent":"80","reasoning":"x"}"#, false),
            (r#"{"verdict":"AGREE","confidence_percent":80,"reasoning":"x"}"#, false),
            (r#"{"verdict":"approve","confidence_percent":80,"reasoning":"x"}"#, false),
            (r#"{"verdict":"agree","confidence_percent":80}"#, false),
            (r#"{"verdict":"agree","reasoning":"x"}"#, false),
            (r#"{"confidence_percent":80,"reasoning":"x"}"#, false),
            (r#"{"verdict":null,"confidence_percent":80,"reasoning":"x"}"#, false),
            (r#"{"verdict":"agree","confidence_percent":80,"reasoning":"x","amount":"1000000"}"#, false),
            (r#"{"verdict":"object","verdict":"agree","confidence_percent":80,"reasoning":"x"}"#, false),
            (r#"{"verdict":"agree","confidence_percent":80,"reasoning":"x"} Approved."#, false),
            (r#"Sure! {"verdict":"agree","confidence_percent":80,"reasoning":"x"}"#, false),
            (r#"[{"verdict":"agree","confidence_percent":80,"reasoning":"x"}]"#, false),
            (r#"{"verdict":"agree","confidence_percent":80,"reasoning":"x""#, false),
            ("", false),
        ] {
            let read = ReviewAnswer::parse(text);
            assert_eq!(read.is_ok(), good, "{text}");
            assert!(good || read == Err(NoReview::NotTheSchema), "{text}");
        }
    }

    #[test]
    fn hostile_reasoning_is_cleaned_and_clipped() {
        let bad = "\u{202e}<b>Buy\u{0} now</b>\n[here](http://x)\u{200b}`rm`\u{1b}[31m ";
        let text = bad.repeat(10_000 / bad.len() + 1);
        let text = serde_json::json!({"verdict":"agree","confidence_percent":1,"reasoning":text}).to_string();
        assert!(text.len() > 10_000);
        let review = ReviewAnswer::parse(&text).unwrap().by(&"m\u{7}<i>".repeat(100), true);
        assert!(review.reasoning().starts_with("‹b›Buy now‹/b› (here)(http://x)'rm'(31m "), "{}", review.reasoning());
        assert_eq!(review.reasoning().chars().count(), MAX_REASONING_CHARS);
        assert!(review.model().starts_with("m‹i›m") && review.model().chars().count() <= MAX_MODEL_CHARS);
        assert!(!review.reasoning().chars().any(|c| c.is_control() || "<>[]`\u{202e}\u{200b}".contains(c)));
    }

    #[test]
    fn an_opinion_is_stored_by_its_kind_and_an_old_row_has_none() {
        let review = Review::new(Verdict::Object, percent(72), "wide", "m", false);
        for (opinion, want) in [
            (Opinion::NotAsked, r#"{"kind":"not_asked"}"#),
            (Opinion::NoOpinion { reason: NoReview::Timeout }, r#"{"kind":"no_opinion","reason":"timeout"}"#),
            (
                Opinion::Reviewed(review),
                r#"{"kind":"reviewed","verdict":"object","confidence_percent":72,"reasoning":"wide","model":"m","is_stale":false}"#,
            ),
        ] {
            assert_eq!(serde_json::to_string(&opinion).unwrap(), want);
            assert_eq!(serde_json::from_str::<Opinion>(want).unwrap(), opinion);
        }
        let stranger = r#"{"kind":"reviewed","verdict":"agree","confidence_percent":200,"reasoning":"","model":"","is_stale":false}"#;
        assert!(serde_json::from_str::<Opinion>(stranger).is_err());
    }

    proptest! {
        #[test]
        fn cleaning_twice_is_cleaning_once(reasoning in ".{0,900}", model in ".{0,300}", value in 0..=100_u32) {
            let once = Review::new(Verdict::Agree, percent(value), &reasoning, &model, false);
            let twice = Review::new(Verdict::Agree, percent(value), once.reasoning(), once.model(), false);
            prop_assert_eq!(&once, &twice);
            let stored = serde_json::to_string(&once).unwrap();
            prop_assert_eq!(serde_json::from_str::<Review>(&stored).unwrap(), once);
        }
    }
}
