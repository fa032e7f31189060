//! What was measured, as a table and as JSON.

use std::fmt::Write;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::bench_error::BenchError;
use crate::noise::{self, NOISY_PERCENT};

/// What a figure is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// At most this, in the figure's unit.
    AtMost(f64),
    /// At least this, in the figure's unit.
    AtLeast(f64),
    /// At most this many times its floor.
    TimesFloor(f64),
}

/// One figure.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// Which part.
    pub part: &'static str,
    /// What.
    pub name: String,
    /// How much.
    pub value: f64,
    /// Of what.
    pub unit: &'static str,
    /// The raw cost of what it can't do without, or what the main job takes beside it, in the same unit.
    pub floor: Option<f64>,
    /// What it should be.
    pub target: Option<Target>,
    /// Percent of all cores that strangers took meanwhile.
    pub strangers_percent: f64,
    /// What else to know.
    pub note: String,
}

impl Row {
    /// A figure without floor, target or note.
    pub fn new(part: &'static str, name: impl Into<String>, value: f64, unit: &'static str) -> Self {
        let name = name.into();
        Self { part, name, value, unit, floor: None, target: None, strangers_percent: 0.0, note: String::new() }
    }

    /// With a target.
    #[must_use]
    pub fn target(mut self, target: Target) -> Self {
        self.target = Some(target);
        self
    }

    /// With a floor.
    #[must_use]
    pub fn floor(mut self, floor: f64) -> Self {
        self.floor = Some(floor);
        self
    }

    /// With a note.
    #[must_use]
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.note = note.into();
        self
    }

    /// With the machine's noise.
    #[must_use]
    pub fn noise(mut self, strangers_percent: f64) -> Self {
        self.strangers_percent = strangers_percent;
        self
    }

    /// The figure in floors.
    pub fn ratio(&self) -> Option<f64> {
        self.floor.filter(|floor| *floor > 0.0).map(|floor| self.value / floor)
    }

    /// Whether the target is met; `None` without one.
    pub fn is_met(&self) -> Option<bool> {
        match self.target? {
            Target::AtMost(most) => Some(self.value <= most),
            Target::AtLeast(least) => Some(self.value >= least),
            Target::TimesFloor(times) => self.ratio().map(|ratio| ratio <= times),
        }
    }

    fn verdict(&self) -> &'static str {
        match self.is_met() {
            Some(true) => "met",
            Some(false) => "MISSED",
            None => "",
        }
    }
}

/// All figures of one run.
#[derive(Debug)]
pub struct Report {
    short: bool,
    rows: Vec<Row>,
    remarks: Vec<String>,
    lists: Vec<(String, Vec<String>)>,
}

impl Report {
    /// An empty one.
    pub const fn new(short: bool) -> Self {
        Self { short, rows: Vec::new(), remarks: Vec::new(), lists: Vec::new() }
    }

    /// Adds a figure, and tells it at once: a run takes minutes.
    pub fn push(&mut self, row: Row) {
        eprintln!("{}", line(&row).trim_end());
        self.rows.push(row);
    }

    /// Adds a sentence below the table.
    pub fn remark(&mut self, text: impl Into<String>) {
        self.remarks.push(text.into());
    }

    /// Adds a list below the table.
    pub fn list(&mut self, title: impl Into<String>, lines: Vec<String>) {
        self.lists.push((title.into(), lines));
    }

    /// For people.
    pub fn table(&self) -> String {
        let mut out = header();
        for row in &self.rows {
            let _ = writeln!(out, "{}", line(row).trim_end());
        }
        for (title, lines) in &self.lists {
            let _ = writeln!(out, "\n{title}");
            for line in lines {
                let _ = writeln!(out, "  {line}");
            }
        }
        let missed = self.rows.iter().filter(|row| row.is_met() == Some(false)).count();
        let judged = self.rows.iter().filter(|row| row.is_met().is_some()).count();
        let noisy = self.rows.iter().filter(|row| row.strangers_percent > NOISY_PERCENT).count();
        let _ = writeln!(out, "\n{} of {judged} targets met, {missed} missed", judged - missed);
        if noisy > 0 {
            let _ = writeln!(
                out,
                "{noisy} figures are marked ~: strangers took more than {NOISY_PERCENT} % of the machine's {} cores meanwhile; \
                 run again on a quiet machine before believing them",
                noise::cores()
            );
        }
        if self.short {
            let _ = writeln!(out, "a short run: the tails say less");
        }
        for remark in &self.remarks {
            let _ = writeln!(out, "{remark}");
        }
        out.trim_end().to_owned()
    }

    /// For programs.
    pub fn json(&self) -> serde_json::Value {
        let rows: Vec<serde_json::Value> = self
            .rows
            .iter()
            .map(|row| {
                let mut value = serde_json::to_value(row).unwrap_or_default();
                value["ratio"] = serde_json::json!(row.ratio());
                value["met"] = serde_json::json!(row.is_met());
                value
            })
            .collect();
        let lists: serde_json::Map<String, serde_json::Value> =
            self.lists.iter().map(|(title, lines)| (title.clone(), serde_json::json!(lines))).collect();
        serde_json::json!({
            "short": self.short,
            "cores": noise::cores(),
            "figures": rows,
            "lists": lists,
            "remarks": self.remarks,
            "missed": self.rows.iter().filter(|row| row.is_met() == Some(false)).count(),
        })
    }
}

fn header() -> String {
    format!(
        "{:<8} {:<46} {:>11} {:<9} {:>9} {:>7} {:>11} {:<7} {:>9}  note\n",
        "part", "figure", "value", "unit", "floor", "ratio", "target", "verdict", "strangers"
    )
}

fn line(row: &Row) -> String {
    let number = |value: f64| {
        if value.abs() >= 1_000.0 {
            format!("{value:.0}")
        } else if value.abs() >= 10.0 {
            format!("{value:.1}")
        } else {
            format!("{value:.3}")
        }
    };
    let target = match row.target {
        None => String::new(),
        Some(Target::AtMost(most)) => format!("<= {}", number(most)),
        Some(Target::AtLeast(least)) => format!(">= {}", number(least)),
        Some(Target::TimesFloor(times)) => format!("<= {times} x"),
    };
    let mark = if row.strangers_percent > NOISY_PERCENT { "~" } else { " " };
    format!(
        "{:<8} {:<46} {:>11} {:<9} {:>9} {:>7} {:>11} {:<7} {mark}{:>6.0} %  {}",
        row.part,
        row.name,
        number(row.value),
        row.unit,
        row.floor.map_or_else(String::new, number),
        row.ratio().map_or_else(String::new, |ratio| format!("{ratio:.1}")),
        target,
        row.verdict(),
        row.strangers_percent,
        row.note
    )
}

/// An empty histogram of nanoseconds, three digits exact.
///
/// # Errors
/// None in practice: three digits are allowed.
pub fn histogram() -> Result<Histogram<u64>, BenchError> {
    Histogram::new(3).map_err(|error| BenchError::Broken(format!("a histogram can't be made: {error}")))
}

/// Notes a duration.
pub fn note(histogram: &mut Histogram<u64>, took: std::time::Duration) {
    // It grows as it must; a time that no histogram holds is none that anybody waits for.
    let _ = histogram.record(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX).clamp(1, MOST_NS));
}

/// Longest time that is told apart, an hour.
const MOST_NS: u64 = 3_600_000_000_000;

/// A quantile in microseconds.
pub fn micros(histogram: &Histogram<u64>, quantile: f64) -> f64 {
    histogram.value_at_quantile(quantile) as f64 / 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_of_floors_is_met_by_the_ratio() {
        let row = Row::new("latency", "p99", 40.0, "us").floor(10.0).target(Target::TimesFloor(5.0));
        assert_eq!((row.ratio(), row.is_met()), (Some(4.0), Some(true)));
        let slow = Row { value: 60.0, ..row };
        assert_eq!(slow.is_met(), Some(false));
        assert_eq!(Row { floor: None, ..slow }.is_met(), None, "nothing to compare with");
    }

    #[test]
    fn a_histogram_holds_what_it_is_told() {
        let mut times = histogram().unwrap();
        for micros in [100, 200, 5_000_000] {
            note(&mut times, std::time::Duration::from_micros(micros));
        }
        assert!((micros(&times, 0.5) - 200.0).abs() < 1.0 && (micros(&times, 1.0) - 5e6).abs() < 5e3, "{times:?}");
    }

    #[test]
    fn rates_are_met_from_above_and_costs_from_below() {
        assert_eq!(Row::new("a", "b", 500.0, "/s").target(Target::AtLeast(500.0)).is_met(), Some(true));
        assert_eq!(Row::new("a", "b", 499.9, "/s").target(Target::AtLeast(500.0)).is_met(), Some(false));
        assert_eq!(Row::new("a", "b", 5.1, "us").target(Target::AtMost(5.0)).is_met(), Some(false));
    }

    #[test]
    fn the_table_counts_misses_and_marks_noise() {
        let mut report = Report::new(true);
        report.push(Row::new("a", "slow", 6.0, "us").target(Target::AtMost(5.0)).noise(50.0));
        report.push(Row::new("a", "fast", 4.0, "us").target(Target::AtMost(5.0)));
        let table = report.table();
        assert!(table.contains("1 of 2 targets met, 1 missed") && table.contains("MISSED"), "{table}");
        assert!(table.contains("1 figures are marked ~") && table.contains("a short run"), "{table}");
        assert_eq!(report.json()["missed"], 1);
    }
}
