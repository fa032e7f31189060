//! Single fields: each reader takes the wire value and the field's name for the rejection.

use std::collections::BTreeMap;
use std::str::FromStr;

use domain::message::clean_text;
use domain::money::{MoneyError, Price, Quantity, Usd};
use domain::reject::{Reject, RejectCode};
use domain::time::UnixMs;

/// Longest prose taken, in bytes.
pub(super) const MAX_PROSE_BYTES: usize = 4096;
/// Longest name, code or key taken, in bytes.
const MAX_WORD_BYTES: usize = 256;
/// Most entries of a map or list.
const MAX_ENTRIES: usize = 256;

pub(super) fn reject(code: RejectCode, field: &str, why: impl std::fmt::Display) -> Reject {
    Reject::new(code, format!("{field}: {why}"))
}

/// A UUID, never nil.
pub(super) fn id<T: FromStr<Err = uuid::Error>>(text: &str, field: &str) -> Result<T, Reject> {
    let parsed = uuid::Uuid::parse_str(text).map_err(|_| reject(RejectCode::BadId, field, "no UUID"))?;
    if parsed.is_nil() {
        return Err(reject(RejectCode::BadId, field, "nil"));
    }
    text.parse().map_err(|_| reject(RejectCode::BadId, field, "no UUID"))
}

/// A generated enum; zero and strangers are refused.
pub(super) fn word<W: TryFrom<i32>>(number: i32, field: &str) -> Result<W, Reject> {
    if number == 0 {
        return Err(reject(RejectCode::BadEnum, field, "unspecified"));
    }
    W::try_from(number).map_err(|_| reject(RejectCode::BadEnum, field, format!("{number} is unknown")))
}

fn bad_decimal(field: &str) -> impl Fn(MoneyError) -> Reject {
    move |why| match why {
        MoneyError::Empty => reject(RejectCode::MissingField, field, "empty"),
        _ => reject(RejectCode::BadDecimal, field, why),
    }
}

pub(super) fn price(text: &str, field: &str) -> Result<Price, Reject> {
    Price::parse(text).map_err(bad_decimal(field))
}

pub(super) fn quantity(text: &str, field: &str) -> Result<Quantity, Reject> {
    Quantity::parse(text).map_err(bad_decimal(field))
}

pub(super) fn positive_quantity(text: &str, field: &str) -> Result<Quantity, Reject> {
    let value = quantity(text, field)?;
    if value.is_zero() { Err(reject(RejectCode::BadDecimal, field, "zero")) } else { Ok(value) }
}

pub(super) fn usd(text: &str, field: &str) -> Result<Usd, Reject> {
    Usd::parse(text).map_err(bad_decimal(field))
}

pub(super) fn positive_usd(text: &str, field: &str) -> Result<Usd, Reject> {
    let value = usd(text, field)?;
    if value.is_positive() { Ok(value) } else { Err(reject(RejectCode::BadDecimal, field, "zero")) }
}

/// A dollar amount with an optional minus sign.
pub(super) fn signed_usd(text: &str, field: &str) -> Result<Usd, Reject> {
    match text.strip_prefix('-') {
        Some(rest) => Usd::new(-usd(rest, field)?.value()).map_err(bad_decimal(field)),
        None => usd(text, field),
    }
}

/// A moment that must be there.
pub(super) fn moment(ms: i64, field: &str) -> Result<UnixMs, Reject> {
    if ms > 0 { Ok(UnixMs(ms)) } else { Err(reject(RejectCode::MissingField, field, "not a moment")) }
}

/// A name, code or key: kept to the letter, so it is refused rather than cleaned.
pub(super) fn name(text: &str, field: &str) -> Result<String, Reject> {
    if text.is_empty() {
        return Err(reject(RejectCode::MissingField, field, "empty"));
    }
    if text.len() > MAX_WORD_BYTES || text != clean_text(text) {
        return Err(reject(RejectCode::BadText, field, "too long, or with control characters"));
    }
    Ok(text.to_owned())
}

/// Like [`name`], but may be empty.
pub(super) fn optional_name(text: &str, field: &str) -> Result<Option<String>, Reject> {
    if text.is_empty() { Ok(None) } else { name(text, field).map(Some) }
}

/// Prose: too long is refused, the rest is cleaned and cut to what people are shown.
pub(super) fn prose(text: &str, field: &str) -> Result<String, Reject> {
    if text.len() > MAX_PROSE_BYTES {
        return Err(reject(RejectCode::BadText, field, format!("{} bytes, at most {MAX_PROSE_BYTES}", text.len())));
    }
    Ok(clean_text(text))
}

/// Details: names to prose.
pub(super) fn details(map: &BTreeMap<String, String>, field: &str) -> Result<BTreeMap<String, String>, Reject> {
    bounded(map.len(), field)?;
    map.iter().map(|(k, v)| Ok((name(k, field)?, prose(v, field)?))).collect()
}

/// Arguments for a machine, which may hold something signed: kept to the letter, so refused rather than cleaned.
pub(super) fn arguments(map: &BTreeMap<String, String>, field: &str) -> Result<BTreeMap<String, String>, Reject> {
    bounded(map.len(), field)?;
    map.iter()
        .map(|(key, value)| {
            if value.len() > MAX_PROSE_BYTES || value.chars().any(char::is_control) {
                return Err(reject(RejectCode::BadText, field, "a value is too long, or has control characters"));
            }
            Ok((name(key, field)?, value.clone()))
        })
        .collect()
}

/// A list of names.
pub(super) fn names(list: &[String], field: &str) -> Result<Vec<String>, Reject> {
    bounded(list.len(), field)?;
    list.iter().map(|text| name(text, field)).collect()
}

pub(super) fn bounded(entries: usize, field: &str) -> Result<(), Reject> {
    if entries > MAX_ENTRIES {
        return Err(reject(RejectCode::BadText, field, format!("{entries} entries, at most {MAX_ENTRIES}")));
    }
    Ok(())
}
