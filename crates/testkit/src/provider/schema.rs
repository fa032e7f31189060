//! Answers for a JSON schema: the least that is valid, and one that is not.

use serde_json::{Map, Value, json};

/// Deeper than any schema of ours; a schema that refers to itself ends here.
const DEEPEST: usize = 12;

/// A small value that the schema allows.
pub(super) fn least(schema: &Value) -> Value {
    value(schema, schema, 0)
}

/// JSON that the schema does not allow: the least valid value with its first property turned into another type.
pub(super) fn broken(schema: Option<&Value>) -> Value {
    let Some(schema) = schema else { return json!({ "unexpected": true }) };
    let mut value = least(schema);
    let required = schema.get("required").and_then(|list| list.get(0)).and_then(Value::as_str);
    match (&mut value, required) {
        (Value::Object(fields), Some(name)) => {
            let other = if fields.get(name).is_some_and(Value::is_object) { json!([1]) } else { json!({ "not": 1 }) };
            fields.insert(name.to_owned(), other);
            value
        }
        (Value::Object(_), None) => json!([]),
        _ => json!({}),
    }
}

fn value(root: &Value, schema: &Value, depth: usize) -> Value {
    if depth > DEEPEST {
        return Value::Null;
    }
    let first = |name: &str| schema.get(name).and_then(Value::as_array).and_then(|list| list.first());
    if let Some(constant) = schema.get("const").or_else(|| first("enum")) {
        return constant.clone();
    }
    if let Some(pointer) = schema.get("$ref").and_then(Value::as_str) {
        let found = pointer.strip_prefix('#').and_then(|path| root.pointer(path));
        return found.map_or(Value::Null, |found| value(root, found, depth + 1));
    }
    if let Some(part) = first("anyOf").or_else(|| first("oneOf")).or_else(|| first("allOf")) {
        return value(root, part, depth + 1);
    }
    let kind = match schema.get("type") {
        Some(Value::String(kind)) => kind.as_str(),
        Some(Value::Array(kinds)) => kinds.first().and_then(Value::as_str).unwrap_or("null"),
        _ if schema.get("properties").is_some() => "object",
        _ if schema.get("items").is_some() => "array",
        _ => "object",
    };
    match kind {
        "object" => object(root, schema, depth),
        "array" => {
            let count = schema.get("minItems").and_then(Value::as_u64).unwrap_or(0).min(100);
            let item = schema.get("items").map_or(Value::Null, |items| value(root, items, depth + 1));
            (0..count).map(|_| item.clone()).collect()
        }
        "string" => text(schema),
        "integer" | "number" => number(schema, kind == "integer"),
        "boolean" => json!(true),
        _ => Value::Null,
    }
}

fn object(root: &Value, schema: &Value, depth: usize) -> Value {
    let required = schema.get("required").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let mut fields = Map::new();
    for name in required.iter().filter_map(Value::as_str) {
        let of = schema.get("properties").and_then(|all| all.get(name)).unwrap_or(&Value::Null);
        fields.insert(name.to_owned(), value(root, of, depth + 1));
    }
    Value::Object(fields)
}

fn text(schema: &Value) -> Value {
    let known = match schema.get("format").and_then(Value::as_str) {
        Some("date-time") => Some("2026-11-21T00:00:00Z"),
        Some("date") => Some("2026-11-21"),
        Some("uuid") => Some("018f4e9a-0000-7000-8000-000000000000"),
        Some("email") => Some("a@example.org"),
        Some("uri") => Some("https://example.org/"),
        _ => None,
    };
    if let Some(known) = known {
        return json!(known);
    }
    let length = |name: &str| schema.get(name).and_then(Value::as_u64).and_then(|count| usize::try_from(count).ok());
    let most = length("maxLength").unwrap_or(usize::MAX);
    let mut text = "text".to_owned();
    while text.len() < length("minLength").unwrap_or(0).min(10_000) {
        text.push('x');
    }
    text.truncate(most);
    json!(text)
}

fn number(schema: &Value, whole: bool) -> Value {
    let bound = |name: &str| schema.get(name).and_then(Value::as_f64);
    let step = bound("multipleOf").unwrap_or(1.0);
    let least =
        bound("minimum").or_else(|| bound("exclusiveMinimum").map(|least| least + if whole { 1.0 } else { 1e-6 }));
    let most = bound("maximum").or_else(|| bound("exclusiveMaximum").map(|most| most - if whole { 1.0 } else { 1e-6 }));
    let found = match (least, most) {
        (Some(least), _) if least > 0.0 => least,
        (_, Some(most)) if most < 0.0 => most,
        _ => 0.0,
    };
    let found = if bound("multipleOf").is_some() { (found / step).ceil() * step } else { found };
    if whole {
        let whole = found.ceil() as i64;
        return json!(whole);
    }
    json!(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_value_holds_what_is_required_within_its_bounds() {
        let schema = json!({
            "type": "object",
            "required": ["action", "confidence", "reasons", "size", "next", "name"],
            "properties": {
                "action": { "enum": ["buy", "hold"] },
                "confidence": { "type": "number", "minimum": 0.25, "maximum": 1 },
                "reasons": { "type": "array", "minItems": 2, "items": { "type": "string", "maxLength": 2 } },
                "size": { "type": "integer", "exclusiveMinimum": 3 },
                "next": { "$ref": "#/$defs/next" },
                "name": { "type": ["string", "null"], "minLength": 6 },
                "more": { "type": "string" }
            },
            "$defs": { "next": { "anyOf": [{ "type": "boolean" }, { "type": "null" }] } }
        });
        let expected = json!({
            "action": "buy", "confidence": 0.25, "reasons": ["te", "te"], "size": 4, "next": true, "name": "textxx"
        });
        assert_eq!(least(&schema), expected);
        assert_eq!(broken(Some(&schema))["action"], json!({ "not": 1 }));
        assert_eq!(broken(Some(&json!({ "type": "object" }))), json!([]));
        assert_eq!(broken(Some(&json!({ "type": "array" }))), json!({}));
    }
}
