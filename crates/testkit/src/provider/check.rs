//! Fields of a request: which are known, of which type, in which range.

use serde_json::{Map, Value};

use super::fault::Flaw;

/// What a field may hold. A null is taken as an absent field, as the providers do.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Kind {
    Text,
    /// From, to.
    Integer(i64, i64),
    /// From, to.
    Number(f64, f64),
    Boolean,
    Array,
    Object,
    /// A text, or a list of at most so many.
    Texts(usize),
    TextOrArray,
    TextOrObject,
    TextOrNumber,
    /// Known, but checked elsewhere or not at all.
    Any,
}

pub(super) const ANY_INTEGER: Kind = Kind::Integer(i64::MIN, i64::MAX);
pub(super) const POSITIVE: Kind = Kind::Integer(1, i64::MAX);
pub(super) const ANY_NUMBER: Kind = Kind::Number(f64::MIN, f64::MAX);
pub(super) const SHARE: Kind = Kind::Number(0.0, 1.0);

/// A field and its kind.
pub(super) type Field = (&'static str, Kind);

/// Checks every field of `body`, whose place in the request is `at` ("" for its top), against all that are known.
pub(super) fn fields(at: &str, body: &Map<String, Value>, known: &[&[Field]]) -> Result<(), Flaw> {
    for (name, value) in body {
        let place = if at.is_empty() { name.clone() } else { format!("{at}.{name}") };
        let found = known.iter().flat_map(|part| part.iter()).find(|(field, _)| field == name);
        let Some((_, kind)) = found else {
            return Err(Flaw::Unknown(place));
        };
        if !value.is_null() {
            one(&place, value, *kind)?;
        }
    }
    Ok(())
}

/// The field must be there and not be null.
pub(super) fn required<'a>(at: &str, body: &'a Map<String, Value>, name: &str) -> Result<&'a Value, Flaw> {
    let place = || if at.is_empty() { name.to_owned() } else { format!("{at}.{name}") };
    body.get(name).filter(|value| !value.is_null()).ok_or_else(|| Flaw::Missing(place()))
}

/// The value must be an object.
pub(super) fn object<'a>(place: &str, value: &'a Value) -> Result<&'a Map<String, Value>, Flaw> {
    value.as_object().ok_or_else(|| Flaw::Type(place.to_owned(), "an object"))
}

/// A field of text that must be there.
pub(super) fn text<'a>(at: &str, body: &'a Map<String, Value>, name: &str) -> Result<&'a str, Flaw> {
    let value = required(at, body, name)?;
    let place = if at.is_empty() { name.to_owned() } else { format!("{at}.{name}") };
    match value.as_str() {
        Some("") => Err(Flaw::Value(place, "is empty".to_owned())),
        Some(text) => Ok(text),
        None => Err(Flaw::Type(place, "a string")),
    }
}

/// One of a closed set of words.
pub(super) fn word(place: &str, value: &Value, words: &[&str]) -> Result<(), Flaw> {
    match value.as_str() {
        Some(found) if words.contains(&found) => Ok(()),
        Some(found) => Err(Flaw::value(place, format!("'{found}' is not one of {words:?}"))),
        None => Err(Flaw::Type(place.to_owned(), "a string")),
    }
}

/// Name of a tool or a schema: `a-z`, `A-Z`, `0-9`, `_`, `-`, at most 64 characters.
pub(super) fn name(place: &str, name: &str) -> Result<(), Flaw> {
    let fits = (1..=64).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b));
    if fits { Ok(()) } else { Err(Flaw::value(place, "does not match '^[a-zA-Z0-9_-]{1,64}$'")) }
}

fn one(place: &str, value: &Value, kind: Kind) -> Result<(), Flaw> {
    let flaw = |expected| Err(Flaw::Type(place.to_owned(), expected));
    let texts = |value: &Value| value.as_array().is_some_and(|list| list.iter().all(Value::is_string));
    match kind {
        Kind::Text if !value.is_string() => flaw("a string"),
        Kind::Boolean if !value.is_boolean() => flaw("a boolean"),
        Kind::Array if !value.is_array() => flaw("an array"),
        Kind::Object if !value.is_object() => flaw("an object"),
        Kind::TextOrArray if !value.is_string() && !value.is_array() => flaw("a string or an array"),
        Kind::TextOrObject if !value.is_string() && !value.is_object() => flaw("a string or an object"),
        Kind::TextOrNumber if !value.is_string() && !value.is_number() => flaw("a string or a number"),
        Kind::Texts(_) if !value.is_string() && !texts(value) => flaw("a string or an array of strings"),
        Kind::Texts(most) if value.as_array().is_some_and(|list| list.len() > most) => {
            Err(Flaw::value(place, format!("has more than {most} entries")))
        }
        Kind::Integer(least, most) => match value.as_i64() {
            None => flaw("an integer"),
            Some(number) if (least..=most).contains(&number) => Ok(()),
            Some(number) => Err(Flaw::value(place, format!("{number} is not between {least} and {most}"))),
        },
        Kind::Number(least, most) => match value.as_f64() {
            None => flaw("a number"),
            Some(number) if (least..=most).contains(&number) => Ok(()),
            Some(number) => Err(Flaw::value(place, format!("{number} is not between {least} and {most}"))),
        },
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn each_kind_takes_its_own_and_refuses_the_others() {
        let cases: [(Kind, Value, Value); 11] = [
            (Kind::Text, json!("a"), json!(1)),
            (Kind::Integer(1, 5), json!(5), json!(6)),
            (Kind::Integer(1, 5), json!(1), json!(1.5)),
            (SHARE, json!(0.5), json!(1.5)),
            (SHARE, json!(1), json!("1")),
            (Kind::Boolean, json!(true), json!("true")),
            (Kind::Array, json!([]), json!({})),
            (Kind::Object, json!({}), json!([])),
            (Kind::Texts(1), json!(["a"]), json!(["a", "b"])),
            (Kind::Texts(1), json!("a"), json!([1])),
            (Kind::TextOrNumber, json!("5m"), json!(true)),
        ];
        for (kind, good, bad) in cases {
            assert_eq!(one("f", &good, kind), Ok(()), "{kind:?} {good}");
            assert!(one("f", &bad, kind).is_err(), "{kind:?} {bad}");
        }
    }

    #[test]
    fn an_unknown_field_is_named_with_its_place_and_a_null_is_no_value() {
        let body = json!({ "known": null, "other": 1 });
        let found = fields("options", body.as_object().unwrap(), &[&[("known", Kind::Text)]]);
        assert_eq!(found, Err(Flaw::Unknown("options.other".to_owned())));
    }
}
