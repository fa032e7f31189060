//! Whether a cached answer was the wrong one, given what a model says now.
//!
//! In JSON every number, flag, null, list length and set of fields must be equal, and every text that the schema closes (an
//! `enum`, a `const`, a `pattern`, a `format`): code reads those. Texts that the schema leaves open are prose, and may be
//! worded anew. In prose, and in texts that no schema describes, what is stated ([`facts`]) must be equal and the words alike.

use serde_json::Value;

use super::facts::facts;
use super::features::Features;
use crate::answer::{Answer, json_of};
use crate::request::Format;

/// Deepest look into a schema: of references and of alternatives.
const DEEPEST: usize = 16;
/// Most parts of a schema that describe one place.
const MOST_PARTS: usize = 64;

/// Whether `cached` says something else than `fresh`; texts that are less alike than `threshold` do.
#[must_use]
pub fn is_wrong(format: &Format, cached: &Answer, fresh: &Answer, threshold: f64) -> bool {
    let calls = |answer: &Answer| -> Vec<(String, Option<Value>)> {
        // Ids are made anew for each answer.
        answer.tool_calls.iter().map(|call| (call.name.clone(), json_of(&call.arguments))).collect()
    };
    if cached.finish != fresh.finish || cached.refusal.is_some() != fresh.refusal.is_some() {
        return true;
    }
    if calls(cached) != calls(fresh) {
        return true;
    }
    if cached.content == fresh.content {
        return false;
    }
    let schema = match format {
        Format::Schema { schema, .. } => Some(schema),
        Format::Text | Format::JsonObject => None,
    };
    match (json_of(&cached.content), json_of(&fresh.content)) {
        (Some(cached), Some(fresh)) => {
            let judge = Judge { root: schema.unwrap_or(&Value::Null), threshold };
            let parts = schema.map_or_else(Vec::new, |schema| judge.parts(schema));
            judge.differs(&parts, &cached, &fresh)
        }
        (None, None) if schema.is_none() => texts_differ(&cached.content, &fresh.content, threshold),
        _ => true,
    }
}

fn texts_differ(cached: &str, fresh: &str, threshold: f64) -> bool {
    let words = |text: &str| -> Vec<String> {
        let bare = |word: &str| word.trim_matches(|c: char| !c.is_alphanumeric()).to_lowercase();
        text.split_whitespace().map(bare).filter(|word| !word.is_empty()).collect()
    };
    let features = |text: &str| Features::of(words(text).iter().map(|word| (word.as_str(), 1.0)));
    facts(cached) != facts(fresh) || features(cached).cosine(&features(fresh)) < threshold
}

struct Judge<'a> {
    root: &'a Value,
    threshold: f64,
}

impl<'a> Judge<'a> {
    /// Every part of a schema that describes the same place: references followed, alternatives beside one another.
    fn parts(&self, schema: &'a Value) -> Vec<&'a Value> {
        let mut parts = Vec::new();
        self.add_parts(schema, DEEPEST, &mut parts);
        parts
    }

    fn add_parts(&self, schema: &'a Value, deeper: usize, parts: &mut Vec<&'a Value>) {
        if deeper == 0 || parts.len() >= MOST_PARTS {
            return;
        }
        parts.push(schema);
        let pointer = schema["$ref"].as_str().and_then(|reference| reference.strip_prefix('#'));
        if let Some(target) = pointer.and_then(|pointer| self.root.pointer(pointer)) {
            self.add_parts(target, deeper - 1, parts);
        }
        for word in ["allOf", "anyOf", "oneOf"] {
            for part in schema[word].as_array().into_iter().flatten() {
                self.add_parts(part, deeper - 1, parts);
            }
        }
    }

    /// The parts that describe what stands one step below.
    fn below(&self, parts: &[&'a Value], step: impl Fn(&'a Value) -> Option<&'a Value>) -> Vec<&'a Value> {
        parts.iter().filter_map(|part| step(part)).flat_map(|schema| self.parts(schema)).collect()
    }

    fn differs(&self, parts: &[&'a Value], cached: &Value, fresh: &Value) -> bool {
        match (cached, fresh) {
            (Value::Object(one), Value::Object(other)) => {
                one.len() != other.len()
                    || one.iter().any(|(name, value)| {
                        other.get(name).is_none_or(|second| {
                            let described = |part: &'a Value| {
                                part["properties"].get(name).or_else(|| part.get("additionalProperties"))
                            };
                            self.differs(&self.below(parts, described), value, second)
                        })
                    })
            }
            (Value::Array(one), Value::Array(other)) => {
                one.len() != other.len()
                    || one.iter().zip(other).enumerate().any(|(at, (value, second))| {
                        let described = |part: &'a Value| part["prefixItems"].get(at).or_else(|| part.get("items"));
                        self.differs(&self.below(parts, described), value, second)
                    })
            }
            (Value::String(one), Value::String(other)) => one != other && self.matters(parts, one, other),
            (Value::Number(one), Value::Number(other)) => one != other && one.as_f64() != other.as_f64(),
            _ => cached != fresh,
        }
    }

    /// Whether two texts that are not equal say different things.
    fn matters(&self, parts: &[&Value], cached: &str, fresh: &str) -> bool {
        let closes = |part: &&Value| ["enum", "const", "pattern", "format"].iter().any(|word| !part[*word].is_null());
        let is_described = parts.iter().any(|part| part.is_object());
        parts.iter().any(closes) || (!is_described && texts_differ(cached, fresh, self.threshold))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::answer::{Finish, ToolCall, Usage};

    fn answer(content: &str) -> Answer {
        Answer {
            content: content.to_owned(),
            reasoning: String::new(),
            refusal: None,
            tool_calls: Vec::new(),
            finish: Finish::Stop,
            usage: Usage::default(),
            model: String::new(),
        }
    }

    fn schema(schema: Value) -> Format {
        Format::Schema { name: "x".to_owned(), schema, strict: true }
    }

    fn check(format: &Format, cached: &str, fresh: &str, wrong: bool) {
        assert_eq!(is_wrong(format, &answer(cached), &answer(fresh), 0.6), wrong, "{cached} / {fresh}");
    }

    #[test]
    fn json_of_a_schema_is_compared_by_what_code_reads() {
        let format = schema(json!({
            "type": "object",
            "properties": {
                "action": { "$ref": "#/$defs/action" },
                "size": { "type": "number" },
                "sure": { "type": "boolean" },
                "why": { "type": "string" },
                "day": { "type": "string", "format": "date" },
                "side": { "anyOf": [{ "type": "null" }, { "enum": ["long", "short"] }] },
                "legs": { "type": "array", "items": { "properties": { "symbol": { "pattern": "^[A-Z]+$" } } } },
            },
            "$defs": { "action": { "type": "string", "enum": ["BUY", "SELL"] } },
        }));
        for (cached, fresh, wrong) in [
            (r#"{"action":"BUY","why":"it rose"}"#, r#"{"why":"because of a rise of 5%","action":"BUY"}"#, false),
            (r#"{"action":"BUY"}"#, r#"{"action":"SELL"}"#, true),
            (r#"{"size":1}"#, r#"{"size":1.0}"#, false),
            (r#"{"size":1}"#, r#"{"size":1.01}"#, true),
            (r#"{"size":1}"#, r#"{"size":"1"}"#, true),
            (r#"{"sure":true}"#, r#"{"sure":false}"#, true),
            (r#"{"sure":true}"#, r#"{}"#, true),
            (r#"{"sure":true}"#, r#"{"sure":null}"#, true),
            (r#"{"day":"2026-11-22"}"#, r#"{"day":"2026-11-23"}"#, true),
            (r#"{"side":"long"}"#, r#"{"side":"short"}"#, true),
            (r#"{"side":"long"}"#, r#"{"side":null}"#, true),
            (r#"{"legs":[{"symbol":"BTC"}]}"#, r#"{"legs":[{"symbol":"ETH"}]}"#, true),
            (r#"{"legs":[{"symbol":"BTC"}]}"#, r#"{"legs":[]}"#, true),
            (r#"{"other":"up a lot"}"#, r#"{"other":"down a lot"}"#, true),
            (r#"{"action":"BUY"}"#, "no JSON", true),
            ("no JSON", "none either", true),
        ] {
            check(&format, cached, fresh, wrong);
        }
    }

    #[test]
    fn prose_is_compared_by_what_it_states() {
        for (cached, fresh, wrong) in [
            ("the trend of it is up", "the trend of it is up.", false),
            ("The trend of BTC is up", "Trend of BTC is up", false),
            ("the trend of it is up", "the trend of it is down", true),
            ("BTC is at 5", "BTC is at 6", true),
            ("a story about dogs of the king", "quite another tale with cats", true),
            (r#"{"a":1}"#, r#"{"a":2}"#, true),
            (r#"{"a":1}"#, r#"{ "a": 1 }"#, false),
            (r#"{"a":1}"#, "a is 1", true),
        ] {
            check(&Format::Text, cached, fresh, wrong);
        }
    }

    #[test]
    fn calls_of_tools_and_ends_are_compared() {
        let call = |id: &str, arguments: &str| {
            let call = ToolCall { id: id.to_owned(), name: "f".to_owned(), arguments: arguments.to_owned() };
            Answer { tool_calls: vec![call], ..answer("") }
        };
        let wrong = |one: &Answer, other: &Answer| is_wrong(&Format::Text, one, other, 0.6);
        assert!(!wrong(&call("1", r#"{"a":1}"#), &call("2", r#"{ "a": 1 }"#)));
        assert!(wrong(&call("1", r#"{"a":1}"#), &call("1", r#"{"a":2}"#)));
        assert!(wrong(&call("1", "{}"), &answer("")));
        assert!(wrong(&answer("x"), &Answer { finish: Finish::Length, ..answer("x") }));
        assert!(wrong(&answer("x"), &Answer { refusal: Some("no".to_owned()), ..answer("x") }));
    }

    #[test]
    fn a_schema_that_refers_to_itself_ends() {
        let format = schema(json!({ "$ref": "#", "anyOf": [{ "$ref": "#" }, { "$ref": "#" }, { "$ref": "#" }] }));
        check(&format, r#"{"a":"up"}"#, r#"{"a":"down"}"#, true);
    }
}
