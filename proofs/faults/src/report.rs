//! What is printed.

use serde_json::{Value, json};

use crate::Plan;
use crate::checks::Line;
use crate::row::Row;

/// Most reasons that are printed below a row; all of them are in the JSON.
const MOST_TOLD: usize = 3;

/// The heads of the columns.
#[must_use]
pub fn heading() -> String {
    let head = format!(
        "{:<32} {:<26} {:<22} {:>11} {:>14} {:>9} {:>9} {:>7} {:>7}",
        "fault", "answered?", "tier", "calls first", "calls in all", "ms first", "ms later", "booked", "bill"
    );
    format!("{head}\n{}", "-".repeat(head.len() + 6))
}

/// One row.
#[must_use]
pub fn line(row: &Row) -> String {
    let calls = |calls: [usize; 3]| calls.map(|count| count.to_string()).join("/");
    let all = format!("{} ({})", calls(row.calls_all), row.requests);
    let name = if row.stream { format!("{} (s)", row.name) } else { row.name.to_owned() };
    let mut text = format!(
        "{name:<32} {:<26} {:<22} {:>11} {all:>14} {:>9.1} {:>9.1} {:>7} {:>7}  {}",
        row.answered,
        row.tier,
        calls(row.calls_first),
        row.lost_first_ms,
        row.lost_later_ms,
        row.booked_micros,
        row.billed_micros,
        if row.wrong.is_empty() { "PASS" } else { "FAIL" }
    );
    for wrong in row.wrong.iter().take(MOST_TOLD) {
        text.push_str(&format!("\n    {wrong}"));
    }
    if row.wrong.len() > MOST_TOLD {
        text.push_str(&format!("\n    and {} more", row.wrong.len() - MOST_TOLD));
    }
    text
}

/// One line of a check.
#[must_use]
pub fn check(line: &Line) -> String {
    let verdict = if line.good { "PASS" } else { "FAIL" };
    format!("{verdict}  {:<72} {}", line.name, line.figure)
}

/// Whether all is as it must be, and something was looked at.
#[must_use]
pub fn is_good(rows: &[Row], lines: &[Line]) -> bool {
    (!rows.is_empty() || !lines.is_empty())
        && rows.iter().all(|row| row.wrong.is_empty())
        && lines.iter().all(|line| line.good)
}

/// The last line of text.
#[must_use]
pub fn end(rows: &[Row], lines: &[Line]) -> String {
    let good = rows.iter().filter(|row| row.wrong.is_empty()).count();
    let unexplained = rows.iter().filter(|row| row.answered == "NO").count();
    let held = lines.iter().filter(|line| line.good).count();
    format!(
        "\n{good} of {} faults as they must be, {unexplained} unexplained failures; {held} of {} checks hold\n\
         (s): asked with stream: true. calls: tier 1/2/3. ms: beyond the answering tier's own answer. booked, bill: millionths of a dollar.",
        rows.len(),
        lines.len()
    )
}

/// All of it for programs.
#[must_use]
pub fn json(plan: &Plan, rows: &[Row], lines: &[Line]) -> Value {
    let row = |row: &Row| {
        json!({
            "fault": row.name, "stream": row.stream, "answered": row.answered, "tier": row.tier,
            "calls_first": row.calls_first, "requests": row.requests, "calls_all": row.calls_all,
            "lost_first_ms": row.lost_first_ms, "lost_later_ms": row.lost_later_ms,
            "booked_usd_micros": row.booked_micros, "billed_usd_micros": row.billed_micros,
            "good": row.wrong.is_empty(), "wrong": row.wrong,
        })
    };
    let line = |line: &Line| json!({ "check": line.name, "figure": line.figure, "good": line.good });
    json!({
        "good": is_good(rows, lines), "short": plan.short,
        "faults": rows.iter().map(row).collect::<Vec<_>>(), "checks": lines.iter().map(line).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_that_does_not_hold_is_told_in_all_forms() {
        let plan = Plan { short: true, program: "x".into(), only: None };
        let good = |good| vec![Line { name: "a".to_owned(), figure: "1".to_owned(), good }];
        assert!(is_good(&[], &good(true)) && !is_good(&[], &good(false)) && !is_good(&[], &[]));
        assert!(check(&good(false)[0]).starts_with("FAIL"));
        assert_eq!(json(&plan, &[], &good(false))["good"], false);
    }
}
