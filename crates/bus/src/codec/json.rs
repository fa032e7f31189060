//! The JSON door: proto3 JSON of a whole message, or a bare signal, told apart by their keys.
//!
//! Depth is counted over the bytes before anything recursive runs; then every object is read with its duplicate keys
//! refused, since two readers may pick different ones of two `amount`s.

use domain::reject::{Reject, RejectCode};
use proto::v1;
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::Wire;

/// Deepest nesting taken.
const MAX_DEPTH: usize = 32;
/// Keys of a bare signal that no whole message has.
const SIGNAL_KEYS: [&str; 11] = [
    "action",
    "token_address",
    "tokenAddress",
    "amount",
    "notional_usd",
    "notionalUsd",
    "price_limit",
    "priceLimit",
    "expiry_timestamp",
    "expiryTimestamp",
    "confidence",
];

pub(super) fn parse(bytes: &[u8]) -> Result<Wire, Reject> {
    let text = std::str::from_utf8(bytes).map_err(|_| Reject::new(RejectCode::BadJson, "not UTF-8"))?;
    if depth(bytes) > MAX_DEPTH {
        return Err(Reject::new(RejectCode::TooDeep, format!("nested deeper than {MAX_DEPTH}")));
    }
    let Unique(value) = serde_json::from_str(text).map_err(|e| classify(&e))?;
    let Value::Object(object) = &value else {
        return Err(Reject::new(RejectCode::BadJson, "not an object"));
    };
    if SIGNAL_KEYS.iter().any(|key| object.contains_key(*key)) {
        v1::TradingSignal::deserialize(value).map(Wire::Signal).map_err(|e| classify(&e))
    } else {
        v1::AgentMessage::deserialize(value).map(Wire::Message).map_err(|e| classify(&e))
    }
}

/// Deepest nesting of brackets outside strings.
fn depth(bytes: &[u8]) -> usize {
    let (mut open, mut deepest, mut in_text, mut escaped) = (0usize, 0usize, false, false);
    for byte in bytes {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            b'{' | b'[' if !in_text => {
                open += 1;
                deepest = deepest.max(open);
            }
            b'}' | b']' if !in_text => open = open.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

fn classify(error: &serde_json::Error) -> Reject {
    let text = error.to_string();
    let code = if text.starts_with("unknown field") {
        RejectCode::UnknownField
    } else if text.starts_with("unknown variant") {
        RejectCode::BadEnum
    } else if text.starts_with("number out of range") {
        RejectCode::BadDecimal
    } else {
        RejectCode::BadJson
    };
    Reject::new(code, text)
}

/// A JSON value none of whose objects names a key twice.
struct Unique(Value);

impl<'de> Deserialize<'de> for Unique {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(UniqueVisitor).map(Self)
    }
}

struct UniqueVisitor;

impl<'de> Visitor<'de> for UniqueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        serde_json::Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("number out of range"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(Unique(item)) = access.next_element()? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(key) = access.next_key::<String>()? {
            let Unique(value) = access.next_value()?;
            if object.insert(key, value).is_some() {
                return Err(A::Error::custom("duplicate key"));
            }
        }
        Ok(Value::Object(object))
    }
}
