//! The normal form of the last user message: what a template changes without meaning to.
//!
//! Collapsed: a run of one or two spaces is one, a run with tabs is its tabs, spaces at the end of a line and blank lines at
//! the end of the text are gone, CRLF is LF. Blanked: the value of a line `name: value` whose name the caller listed.
//!
//! Kept, because it can change what is meant: case everywhere (`May`, `US`, symbols), indentation, three spaces and more
//! (columns: a blank cell would close up), how many tabs, whatever is inside a fenced block, every character that only looks
//! like another or like nothing.
//!
//! Text of strangers must not be able to hide from the key. So a listed name counts only at the beginning of a line outside
//! fenced blocks; its value must look like a time, a number or a hexadecimal id; and a name that stands there twice takes the normal form
//! away altogether: one of the two may be a stranger's.

/// Longest value that is blanked, bytes: a time with its zone, two ids.
const LONGEST_VALUE: usize = 80;

/// Words a time is written with; any other word of a blanked value has a digit.
const OF_TIMES: &[&str] = &[
    "mon",
    "tue",
    "wed",
    "thu",
    "fri",
    "sat",
    "sun",
    "monday",
    "tuesday",
    "wednesday",
    "thursday",
    "friday",
    "saturday",
    "sunday",
    "jan",
    "feb",
    "mar",
    "apr",
    "may",
    "jun",
    "jul",
    "aug",
    "sep",
    "oct",
    "nov",
    "dec",
    "january",
    "february",
    "march",
    "april",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
    "am",
    "pm",
    "at",
    "utc",
    "gmt",
    "z",
    "cet",
    "cest",
    "est",
    "edt",
    "cst",
    "cdt",
    "mst",
    "mdt",
    "pst",
    "pdt",
    "jst",
];

/// The normal form, or `None` when a volatile name is there more than once.
#[must_use]
pub fn normal(text: &str, volatile: &[&str]) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut fence: Option<(char, usize)> = None;
    let mut seen = vec![false; volatile.len()];
    let mut lines = text.split('\n').peekable();
    while let Some(raw) = lines.next() {
        let is_last = lines.peek().is_none();
        // What stands before LF is the end of a line, CR too; a CR that ends the text is not.
        let line = if is_last { raw.trim_end_matches([' ', '\t']) } else { raw.trim_end_matches([' ', '\t', '\r']) };
        match (fence, fence_of(line)) {
            (None, None) => match volatile_at(line, volatile) {
                Some(at) if std::mem::replace(seen.get_mut(at)?, true) => return None,
                Some(at) if is_harmless(line.get(volatile[at].len() + 1..)?) => {
                    out.push_str(volatile[at]);
                    out.push(':');
                }
                _ => collapse(line, &mut out),
            },
            // An opening line names the language or the source of what follows: kept, as the data is.
            (None, Some((mark, length, _))) => {
                fence = Some((mark, length));
                out.push_str(raw);
            }
            (Some(open), found) => {
                if found.is_some_and(|(mark, length, is_bare)| mark == open.0 && length >= open.1 && is_bare) {
                    fence = None;
                }
                out.push_str(raw);
            }
        }
        if !is_last {
            out.push('\n');
        }
    }
    if fence.is_none() {
        out.truncate(out.trim_end_matches(['\n', ' ', '\t']).len());
    }
    Some(out)
}

/// A line of at least three backticks or tildes: which, how many, and whether nothing follows them (only then it may close).
fn fence_of(line: &str) -> Option<(char, usize, bool)> {
    let text = line.trim_start_matches([' ', '\t']);
    let mark = text.chars().next().filter(|mark| matches!(mark, '`' | '~'))?;
    let rest = text.trim_start_matches(mark);
    let length = text.len() - rest.len();
    (length >= 3).then(|| (mark, length, rest.trim().is_empty()))
}

/// Which of the names the line begins with.
fn volatile_at(line: &str, volatile: &[&str]) -> Option<usize> {
    volatile.iter().position(|name| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(':')))
}

/// Whether a value can only be a time, a number or an id, so that no sentence is blanked.
fn is_harmless(value: &str) -> bool {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b" \t:.,+-_/".contains(&b);
    value.len() <= LONGEST_VALUE
        && value.bytes().all(is_plain)
        && value.split([' ', '\t', ',']).filter(|word| !word.is_empty()).all(is_harmless_word)
}

fn is_harmless_word(word: &str) -> bool {
    let mut runs = word.split(|c: char| !c.is_ascii_alphabetic()).filter(|run| !run.is_empty());
    // Between digits a time has `T` and `Z`, an id what hexadecimal digits are written with. Freer ids could spell a sentence.
    let is_part = |run: &str| matches!(run, "T" | "Z" | "am" | "pm" | "AM" | "PM") || is_hexadecimal(run);
    let has_digit = word.bytes().any(|b| b.is_ascii_digit());
    if has_digit { runs.all(is_part) } else { runs.all(|run| OF_TIMES.contains(&run.to_ascii_lowercase().as_str())) }
}

fn is_hexadecimal(run: &str) -> bool {
    run.bytes().all(|b| b.is_ascii_hexdigit())
}

/// Appends a line, its end trimmed, with its spaces collapsed.
fn collapse(line: &str, out: &mut String) {
    let body = line.trim_start_matches([' ', '\t']);
    out.push_str(&line[..line.len() - body.len()]);
    let mut rest = body;
    while let Some(at) = rest.find([' ', '\t']) {
        out.push_str(&rest[..at]);
        let after = rest[at..].trim_start_matches([' ', '\t']);
        let run = &rest[at..rest.len() - after.len()];
        let tabs = run.bytes().filter(|b| *b == b'\t').count();
        match (tabs, run.len()) {
            (0, 1 | 2) => out.push(' '),
            (0, _) => out.push_str(run),
            (tabs, _) => out.extend(std::iter::repeat_n('\t', tabs)),
        }
        rest = after;
    }
    out.push_str(rest);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Option<&str>) {
        assert_eq!(normal(text, &["time", "run_id"]).as_deref(), expected, "{text:?}");
    }

    #[test]
    fn what_a_template_changes_is_collapsed() {
        check("a  b \t\r\nc\r\n\n", Some("a b\nc"));
        check("a\t \tb", Some("a\t\tb"));
        check("a\r \r\r\nb", Some("a\nb"));
        check("time: 2026-11-22T00:00:01Z\nq", Some("time:\nq"));
        check("time: Sun Nov 22 00:27:28 UTC 2026\nq", Some("time:\nq"));
        check("run_id: 018f3c1e-7a2b-7c3d-8e4f-5a6b7c8d9e0f\nq", Some("run_id:\nq"));
        check("time:\nq", Some("time:\nq"));
        check("", Some(""));
        check("  \n \t", Some(""));
    }

    #[test]
    fn what_can_mean_something_is_kept() {
        for text in [
            "  indented",
            "AAPL 1     3",
            "a\t\tb",
            "Time: 5",
            " time: 5",
            "say time: 5",
            "the time: 5\nx",
            "times: 5",
            "time : 5",
            "x\u{a0} y",
            "x\rtime: 5",
            "x\u{2028}time: 5",
            "```\ntime: 5\na  b \n```\nx",
            "````\n```\ntime: 5\n````",
            "~~~\n```\ntime: 5\n~~~",
            "```\ntime: 5\nno end \n",
        ] {
            check(text, Some(text));
        }
    }

    #[test]
    fn a_sentence_is_never_blanked() {
        for value in ["sell it all", "5; ignore this", "now", "up 5%", "sell-all-1", "1sell", "\u{434}5"] {
            let text = format!("time: {value}\nq");
            assert_ne!(normal(&text, &["time"]).unwrap(), "time:\nq", "{value}");
        }
        assert_ne!(normal(&format!("time: {}", "1".repeat(200)), &["time"]).unwrap(), "time:");
    }

    #[test]
    fn a_name_that_stands_twice_takes_the_normal_form_away() {
        check("time: 5\nnews\ntime: 6", None);
        check("time: 5\nnews\ntime: sell", None);
        check("time: 5\n```\ntime: 6\n```", Some("time:\n```\ntime: 6\n```"));
        check("time: 5\nrun_id: 6", Some("time:\nrun_id:"));
    }
}
