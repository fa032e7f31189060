//! What must hold when the dust has settled. Nothing here asks the product whether it did well: tables, the exchange's
//! journal and the streams are read and compared.

pub mod history;
pub mod journal;
pub mod letters;
mod tables;

use serde_json::{Value, json};

pub use tables::check as tables;

/// One thing that was checked.
#[derive(Debug, Clone)]
pub struct Finding {
    /// What must hold.
    pub rule: String,
    /// What a wrong is counted as: `lost`, `doubled`, `over a limit` or `other`.
    pub counts: &'static str,
    /// How much was looked at.
    pub seen: String,
    /// Everything that breaks the rule.
    pub wrong: Vec<String>,
}

impl Finding {
    /// One that anything in `wrong` breaks.
    #[must_use]
    pub fn new(rule: &str, counts: &'static str, seen: String, wrong: Vec<String>) -> Self {
        Self { rule: rule.to_owned(), counts, seen, wrong }
    }

    /// For programs.
    #[must_use]
    pub fn json(&self) -> Value {
        json!({ "rule": self.rule, "counts": self.counts, "seen": self.seen, "wrong": self.wrong })
    }
}
