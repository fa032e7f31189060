//! Answers to people at the door: JSON, with a stable code when the answer is no.

use serde_json::{Value, json};

/// A no with a stable code and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Stable code.
    pub code: &'static str,
    /// For people.
    pub detail: String,
}

impl Refused {
    /// Makes one.
    #[must_use]
    pub fn new(code: &'static str, detail: &str) -> Self {
        Self { code, detail: detail.to_owned() }
    }

    /// The JSON answer.
    #[must_use]
    pub fn json(&self) -> Value {
        json!({ "ok": false, "code": self.code, "detail": self.detail })
    }
}

/// The JSON answer of something that worked: `ok` and the fields of `value`.
#[must_use]
pub fn ok(value: Value) -> Value {
    match value {
        Value::Object(mut fields) => {
            fields.insert("ok".to_owned(), Value::Bool(true));
            Value::Object(fields)
        }
        other => json!({ "ok": true, "result": other }),
    }
}
