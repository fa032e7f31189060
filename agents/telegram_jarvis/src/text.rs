//! What messages are made of: escaped HTML, tables of equal-wide letters, amounts and times as people read them.

use std::fmt::Write;

use domain::time::UnixMs;
use serde_json::Value;

/// Longest text of one message after its entities were parsed; Telegram takes 4,096.
pub const LONGEST: usize = 4_000;

/// Text as it may stand between tags.
#[must_use]
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            other => out.push(other),
        }
    }
    out
}

/// Text on one line, with nothing in it that moves or hides other text, cut at `most` characters.
#[must_use]
pub fn line(text: &str, most: usize) -> String {
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let clean: String = words.chars().filter(|c| !c.is_control() && !is_invisible(*c)).collect();
    if clean.chars().count() <= most {
        return clean;
    }
    let mut cut: String = clean.chars().take(most.saturating_sub(1)).collect();
    cut.push('…');
    cut
}

/// Zero-width and direction marks.
const fn is_invisible(letter: char) -> bool {
    matches!(letter, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{ad}')
}

/// A column of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Align {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

/// Rows under their heads, in letters of equal width. Narrow enough for a phone when the cells are.
#[must_use]
pub fn table(heads: &[(&str, Align)], rows: &[Vec<String>]) -> String {
    let length = |text: &str| text.chars().count();
    let width = |at: usize| {
        let cells = rows.iter().filter_map(|row| row.get(at)).map(|cell| length(cell));
        cells.chain(heads.get(at).map(|(head, _)| length(head))).max().unwrap_or(0)
    };
    let render = |cells: &[&str]| {
        let mut out = String::new();
        for (at, ((_, align), cell)) in heads.iter().zip(cells).enumerate() {
            let pad = " ".repeat(width(at).saturating_sub(length(cell)));
            let gap = if at == 0 { "" } else { "  " };
            let _ = match align {
                Align::Left => write!(out, "{gap}{cell}{pad}"),
                Align::Right => write!(out, "{gap}{pad}{cell}"),
            };
        }
        out.trim_end().to_owned()
    };
    let mut lines = Vec::new();
    if heads.iter().any(|(head, _)| !head.is_empty()) {
        lines.push(render(&heads.iter().map(|(head, _)| *head).collect::<Vec<_>>()));
    }
    lines.extend(rows.iter().map(|row| render(&row.iter().map(String::as_str).collect::<Vec<_>>())));
    format!("<pre>{}</pre>", escape(&lines.join("\n")))
}

/// A table of two columns: what, and how much.
#[must_use]
pub fn pairs(rows: &[(&str, String)]) -> String {
    let rows: Vec<Vec<String>> = rows.iter().map(|(name, value)| vec![(*name).to_owned(), value.clone()]).collect();
    table(&[("", Align::Left), ("", Align::Right)], &rows)
}

/// Digits in groups of three.
#[must_use]
pub fn grouped(digits: &str) -> String {
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Decimal text as dollars and cents, `-` for what is no amount. Digits beyond the cents are cut, not rounded.
#[must_use]
pub fn usd(value: &Value) -> String {
    let text = value.as_str().map(str::to_owned).or_else(|| value.as_number().map(ToString::to_string));
    let Some(text) = text else { return "-".to_owned() };
    let (sign, digits) = text.strip_prefix('-').map_or(("", text.as_str()), |digits| ("-", digits));
    let (whole, rest) = digits.split_once('.').unwrap_or((digits, ""));
    if whole.is_empty() || !whole.chars().chain(rest.chars()).all(|c| c.is_ascii_digit()) {
        return "-".to_owned();
    }
    let cents: String = rest.chars().chain("00".chars()).take(2).collect();
    format!("{sign}{}.{cents}", grouped(whole))
}

/// Decimal text without zeros at its end, `-` for what is no amount.
#[must_use]
pub fn quantity(value: &Value) -> String {
    match value.as_str() {
        None => "-".to_owned(),
        Some(text) if text.contains('.') => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        Some(text) => text.to_owned(),
    }
}

/// `paper:BTCUSDT` as `BTCUSDT`.
#[must_use]
pub fn symbol(instrument: &str) -> String {
    line(instrument.rsplit(':').next().unwrap_or(instrument), 16)
}

/// `17:31:05`, UTC.
#[must_use]
pub fn clock(at: UnixMs) -> String {
    at.to_string().get(11..19).unwrap_or_default().to_owned()
}

/// `11-21 17:31`, UTC.
#[must_use]
pub fn day_and_clock(at: UnixMs) -> String {
    at.to_string().get(5..16).unwrap_or_default().replace('T', " ")
}

/// `14 min 05 s`; nothing left is `0 s`.
#[must_use]
pub fn left(ms: i64) -> String {
    let seconds = ms.max(0) / 1_000;
    match (seconds / 3_600, seconds / 60 % 60, seconds % 60) {
        (0, 0, s) => format!("{s} s"),
        (0, m, s) => format!("{m} min {s:02} s"),
        (h, m, _) => format!("{h} h {m:02} min"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn amounts_are_cut_to_cents_and_grouped() {
        for (value, want) in [
            (json!("1234567.899"), "1,234,567.89"),
            (json!("-12.5"), "-12.50"),
            (json!("0"), "0.00"),
            (json!(7), "7.00"),
            (json!(null), "-"),
            (json!("1e5"), "-"),
            (json!("<b>"), "-"),
        ] {
            assert_eq!(usd(&value), want, "{value}");
        }
        assert_eq!(quantity(&json!("0.02500")), "0.025");
        assert_eq!(quantity(&json!("100")), "100");
    }

    #[test]
    fn a_table_stands_in_columns_and_nothing_in_it_is_a_tag() {
        let heads = [("what", Align::Left), ("usd", Align::Right)];
        let rows = vec![vec!["a<b>".to_owned(), "1.00".to_owned()], vec!["c".to_owned(), "10.00".to_owned()]];
        assert_eq!(table(&heads, &rows), "<pre>what    usd\na&lt;b&gt;   1.00\nc     10.00</pre>");
    }

    #[test]
    fn a_line_hides_and_moves_nothing() {
        assert_eq!(line("a\u{202e}b\u{200b}c\n\nd\te", 99), "abc d e");
        assert_eq!(line("abcdef", 4), "abc…");
    }

    #[test]
    fn time_left_is_told_in_the_units_that_matter() {
        for (ms, want) in [(-5, "0 s"), (59_999, "59 s"), (845_000, "14 min 05 s"), (7_260_000, "2 h 01 min")] {
            assert_eq!(left(ms), want);
        }
    }
}
