//! Values as people read them. Everything that came from outside goes through here: without control, bidi and
//! zero-width characters, bounded, and escaped by the templates.

use domain::message::clean_text;
use domain::time::{DAY_MS, UnixMs, civil_from_days};
use maud::{Markup, html};
use rust_decimal::{Decimal, RoundingStrategy};
use serde_json::Value;

/// For what is not there.
pub const NOTHING: &str = "–";

/// A value without JSON's quotes.
#[must_use]
pub fn text(value: &Value) -> String {
    match value {
        Value::Null => NOTHING.to_owned(),
        Value::String(text) => clean_text(text),
        other => clean_text(&other.to_string()),
    }
}

/// The elements of a list; none when it is no list.
#[must_use]
pub fn rows(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn decimal(value: &Value) -> Option<Decimal> {
    match value {
        Value::String(text) => text.parse().ok(),
        Value::Number(number) => number.to_string().parse().ok(),
        _ => None,
    }
}

/// Digits in groups of three before the point.
fn grouped(number: Decimal) -> String {
    let plain = number.abs().to_string();
    let (whole, rest) = plain.split_once('.').map_or((plain.as_str(), None), |(whole, rest)| (whole, Some(rest)));
    let mut out = String::new();
    for (at, digit) in whole.chars().enumerate() {
        if at > 0 && (whole.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    rest.map_or(out.clone(), |rest| format!("{out}.{rest}"))
}

fn cents(number: Decimal) -> String {
    let mut rounded = number.round_dp_with_strategy(2, RoundingStrategy::MidpointAwayFromZero);
    rounded.rescale(2);
    grouped(rounded)
}

/// Dollars to the cent, for reading only.
#[must_use]
pub fn usd(value: &Value) -> String {
    match decimal(value) {
        Some(number) => format!("{}${}", if number.is_sign_negative() { "−" } else { "" }, cents(number)),
        None => NOTHING.to_owned(),
    }
}

/// A number as it was sent, in groups.
#[must_use]
pub fn number(value: &Value) -> String {
    match decimal(value) {
        Some(number) => format!("{}{}", if number.is_sign_negative() { "−" } else { "" }, grouped(number)),
        None => text(value),
    }
}

/// A gain or a loss: the sign and an arrow say it, the colour only repeats it.
#[must_use]
pub fn change(value: &Value) -> Markup {
    let Some(number) = decimal(value) else { return html! { (NOTHING) } };
    let (class, sign, arrow) = match () {
        () if number.is_zero() => ("", "", ""),
        () if number.is_sign_negative() => ("loss", "−", "▼ "),
        () => ("gain", "+", "▲ "),
    };
    html! { span.num.(class) { span aria-hidden="true" { (arrow) } (sign) "$" (cents(number)) } }
}

/// A moment, in UTC; the day too unless it is that of `now`.
#[must_use]
pub fn when(at: UnixMs, now: UnixMs) -> Markup {
    html! { time datetime=(at.to_string()) { (moment(at, now)) } }
}

/// The words of [`when`].
#[must_use]
pub fn moment(at: UnixMs, now: UnixMs) -> String {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let in_day = at.0.rem_euclid(DAY_MS);
    let clock = format!("{:02}:{:02}:{:02} UTC", in_day / 3_600_000, in_day / 60_000 % 60, in_day / 1_000 % 60);
    if at.day() == now.day() {
        return clock;
    }
    let (_, month, day) = civil_from_days(at.day());
    let month = usize::try_from(month - 1).ok().and_then(|month| MONTHS.get(month)).unwrap_or(&"?");
    format!("{day} {month} {clock}")
}

/// A moment that is given in ms, or as ISO text.
#[must_use]
pub fn at(value: &Value, now: UnixMs) -> Markup {
    match value.as_i64() {
        Some(ms) => when(UnixMs(ms), now),
        None => iso(&text(value), now),
    }
}

/// `2026-11-21T17:40:00.000Z` as [`when`] shows it; anything else as it is.
fn iso(text: &str, now: UnixMs) -> Markup {
    let is_iso =
        text.len() == 24 && text.ends_with('Z') && text.bytes().all(|b| b.is_ascii_digit() || b"-T:.Z".contains(&b));
    match (text.get(..10), text.get(11..19)) {
        (Some(day), Some(clock)) if is_iso => {
            let is_today = now.to_string().starts_with(day);
            html! { time datetime=(text) { @if !is_today { (day) " " } (clock) " UTC" } }
        }
        _ => html! { (text) },
    }
}

/// Time left as people say it: whole minutes, rounded down, so that a countdown alone is no news to send; the script of the page
/// counts the seconds.
#[must_use]
pub fn left(until: UnixMs, now: UnixMs) -> String {
    let seconds = until.since_ms(now) / 1_000;
    match seconds {
        ..=0 => "expired".to_owned(),
        1..=59 => format!("{seconds} s left"),
        60..=3_599 => format!("{} min left", seconds / 60),
        _ => format!("{} h {:02} min left", seconds / 3_600, seconds / 60 % 60),
    }
}

/// How long something lasted.
#[must_use]
pub fn lasted(ms: u64) -> String {
    let seconds = ms / 1_000;
    match seconds {
        0..=59 => format!("{seconds} s"),
        60..=3_599 => format!("{} min", seconds / 60),
        3_600..=86_399 => format!("{} h {} min", seconds / 3_600, seconds / 60 % 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds / 3_600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn amounts_are_grouped_rounded_to_the_cent_and_never_lose_their_sign() {
        for (value, want) in [
            (json!("50000"), "$50,000.00"),
            (json!("1234567.895"), "$1,234,567.90"),
            (json!("-1234.5"), "−$1,234.50"),
            (json!("0.001"), "$0.00"),
            (json!(7), "$7.00"),
            (json!("no number"), NOTHING),
            (json!(null), NOTHING),
        ] {
            assert_eq!(usd(&value), want, "{value}");
        }
        assert_eq!(number(&json!("1234.00001")), "1,234.00001");
        assert_eq!(number(&json!("-5")), "−5");
    }

    #[test]
    fn a_loss_is_told_without_its_colour() {
        assert!(change(&json!("-3.999")).into_string().contains("−$4.00"));
        assert!(change(&json!("3.999")).into_string().contains("+$4.00"));
    }

    #[test]
    fn moments_are_utc_and_name_another_day() {
        let now = UnixMs(1_763_746_800_000);
        assert_eq!(moment(UnixMs(now.0 - 61_000), now), "17:38:59 UTC");
        assert_eq!(moment(UnixMs(now.0 - DAY_MS), now), "20 Nov 17:40:00 UTC");
        let left_at = |s: i64| left(UnixMs(now.0 + s * 1_000), now);
        assert_eq!([0, 59, 119, 3_661].map(left_at), ["expired", "59 s left", "1 min left", "1 h 01 min left"]);
    }

    #[test]
    fn a_moment_as_text_is_read_like_one_in_ms() {
        let now = UnixMs(1_763_746_800_000);
        let shown = |text: &str| at(&json!(text), now).into_string();
        assert!(shown("2025-11-21T17:31:02.000Z").ends_with(">17:31:02 UTC</time>"));
        assert!(shown("2025-11-20T17:31:02.000Z").ends_with(">2025-11-20 17:31:02 UTC</time>"));
        assert_eq!(shown("soon"), "soon");
        assert_eq!(shown("<b>5-11-21T17:31:02.000Z"), "&lt;b&gt;5-11-21T17:31:02.000Z");
    }

    #[test]
    fn what_strangers_wrote_holds_no_mark_that_turns_or_hides_text() {
        let hostile = json!("a\u{202e}b\u{200b}c\nd\u{0}e\u{2066}f\u{feff}");
        assert_eq!(text(&hostile), "abcdef");
        assert_eq!(text(&json!("x".repeat(10_000))).chars().count(), 500);
        let nested = json!({ "\u{202e}": "\u{2067}" });
        assert!(!text(&nested).contains(['\u{202e}', '\u{2067}']));
    }
}
