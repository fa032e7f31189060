//! The refusals of Postgres, by their SQLSTATE.

use serde_json::Value;
use store::StoreError;

const fn refused(state: &'static str, reason: &'static str) -> StoreError {
    StoreError::Refused { state, reason }
}

pub(crate) const fn unique(reason: &'static str) -> StoreError {
    refused("23505", reason)
}

pub(crate) const fn missing(reason: &'static str) -> StoreError {
    refused("23503", reason)
}

pub(crate) const fn restricted(reason: &'static str) -> StoreError {
    refused("23001", reason)
}

pub(crate) const fn denied(reason: &'static str) -> StoreError {
    refused("42501", reason)
}

pub(crate) const fn locked() -> StoreError {
    refused("55P03", "another unit holds the row")
}

pub(crate) const fn aborted() -> StoreError {
    refused("25P02", "the unit failed before; nothing of it will be committed")
}

/// A row's own constraint.
pub(crate) fn check(good: bool, reason: &'static str) -> Result<(), StoreError> {
    if good { Ok(()) } else { Err(refused("23514", reason)) }
}

/// A count of rows asked for.
pub(crate) fn limit(rows: i64) -> Result<usize, StoreError> {
    usize::try_from(rows).map_err(|_| refused("2201W", "a limit must not be negative"))
}

/// Text columns hold no NUL.
pub(crate) fn texts<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<(), StoreError> {
    let good = texts.into_iter().all(|text| !text.contains('\0'));
    if good { Ok(()) } else { Err(refused("22021", "text with a NUL")) }
}

/// Nor do documents.
pub(crate) fn document(value: &Value) -> Result<(), StoreError> {
    fn good(value: &Value) -> bool {
        match value {
            Value::String(text) => !text.contains('\0'),
            Value::Array(values) => values.iter().all(good),
            Value::Object(fields) => fields.iter().all(|(name, value)| !name.contains('\0') && good(value)),
            _ => true,
        }
    }
    if good(value) { Ok(()) } else { Err(refused("22P05", "document with a NUL")) }
}

/// As many lower-case hex digits.
pub(crate) fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Below what `NUMERIC(38, 18)` can hold.
pub(crate) fn numeric(value: rust_decimal::Decimal) -> Result<(), StoreError> {
    const TOO_LARGE: i128 = 100_000_000_000_000_000_000;
    let good = value.abs() < rust_decimal::Decimal::from_i128_with_scale(TOO_LARGE, 0);
    if good { Ok(()) } else { Err(refused("22003", "number too large")) }
}
