//! Slow changes that no bound sees: restarts that become more, memory that only grows, errors that creep in. Pure.
//!
//! A cumulative sum (CUSUM, E. S. Page, Continuous Inspection Schemes, Biometrika 41, 1954) adds up what lies above the expected
//! value and a slack, never below zero, and alarms above a threshold: many small excesses count like one large one.

use std::collections::VecDeque;

use serde_json::{Value, json};

/// Restarts an hour that are expected; the planned one of a day is.
const RESTARTS_EXPECTED: f64 = 0.05;
const RESTARTS_SLACK: f64 = 0.2;
const RESTARTS_ALARM: f64 = 2.0;
/// Share of failed attempts that is expected, of those of a minute.
const ERRORS_EXPECTED: f64 = 0.01;
const ERRORS_SLACK: f64 = 0.04;
const ERRORS_ALARM: f64 = 1.0;
/// A minute with fewer attempts says nothing.
const ATTEMPTS: u64 = 5;
/// Minutes of memory that are kept, and needed before a slope is told.
const MEMORY_MINUTES: usize = 60;
const MEMORY_NEEDED: usize = 30;
/// Growth that is told, bytes an hour, when it would also pass the budget within a day.
const GROWTH: f64 = 1_048_576.0;

/// One-sided cumulative sum.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cusum {
    expected: f64,
    slack: f64,
    alarm: f64,
    sum: f64,
}

impl Cusum {
    /// Begins at zero.
    #[must_use]
    pub const fn new(expected: f64, slack: f64, alarm: f64) -> Self {
        Self { expected, slack, alarm, sum: 0.0 }
    }

    /// Takes a sample.
    pub fn add(&mut self, sample: f64) {
        self.sum = (self.sum + sample - self.expected - self.slack).max(0.0);
    }

    /// Whether what added up is too much.
    #[must_use]
    pub fn is_alarmed(&self) -> bool {
        self.sum > self.alarm
    }
}

/// Slope of a line through `samples`, one a minute, by least squares: change an hour; 0 for fewer than two.
#[must_use]
pub fn slope_an_hour(samples: &VecDeque<u64>) -> f64 {
    let count = float(u64::try_from(samples.len()).unwrap_or(u64::MAX));
    if samples.len() < 2 {
        return 0.0;
    }
    let middle = (count - 1.0) / 2.0;
    let mean = samples.iter().map(|sample| float(*sample)).sum::<f64>() / count;
    let (mut above, mut below) = (0.0, 0.0);
    for (at, sample) in (0_u64..).zip(samples) {
        let minute = float(at) - middle;
        above += minute * (float(*sample) - mean);
        below += minute * minute;
    }
    above / below * 60.0
}

#[expect(clippy::cast_precision_loss, reason = "a statistic; counts and bytes lose nothing that matters")]
const fn float(value: u64) -> f64 {
    value as f64
}

/// What drifts in one process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Drift {
    /// It is started again more often than it should be, though no window is breached.
    Restarts,
    /// Its memory only grows.
    Memory,
    /// More of its attempts fail.
    Errors,
    /// It takes more of a core than its profile has.
    Cpu,
}

impl Drift {
    /// Stable word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Restarts => "restarts",
            Self::Memory => "memory",
            Self::Errors => "errors",
            Self::Cpu => "cpu",
        }
    }
}

/// What is watched of one process.
#[derive(Debug, Clone)]
pub struct Watch {
    restarts: Cusum,
    errors: Cusum,
    memory: VecDeque<u64>,
    /// Counters of the last look: handled, failed, restarts.
    last: Option<(u64, u64)>,
    hour: Option<(i64, u64)>,
    cpu_percent: Option<u64>,
    told: Vec<Drift>,
}

impl Default for Watch {
    fn default() -> Self {
        Self {
            restarts: Cusum::new(RESTARTS_EXPECTED, RESTARTS_SLACK, RESTARTS_ALARM),
            errors: Cusum::new(ERRORS_EXPECTED, ERRORS_SLACK, ERRORS_ALARM),
            memory: VecDeque::new(),
            last: None,
            hour: None,
            cpu_percent: None,
            told: Vec::new(),
        }
    }
}

/// One look at a process, a minute after the last.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sample {
    /// Now, ms.
    pub now_ms: i64,
    /// Ends of it within the last hour, but for those a person asked for.
    pub ends_this_hour: u64,
    /// Inputs handled and attempts failed since its start; `None` while it is not heard.
    pub tried: Option<(u64, u64)>,
    /// Resident memory, bytes; `None` while it is down.
    pub rss_bytes: Option<u64>,
    /// Its budget, bytes.
    pub budget_bytes: u64,
    /// Share of a core over the last minutes.
    pub cpu_percent: Option<u64>,
    /// What its profile has of one.
    pub cpu_budget_percent: u64,
}

impl Watch {
    /// Takes a look; gives what drifts now and did not at the look before.
    pub fn look(&mut self, sample: &Sample) -> Vec<Drift> {
        self.count_restarts(sample);
        self.count_errors(sample);
        match sample.rss_bytes {
            Some(bytes) => {
                self.memory.push_back(bytes);
                if self.memory.len() > MEMORY_MINUTES {
                    self.memory.pop_front();
                }
            }
            None => self.memory.clear(),
        }
        self.cpu_percent = sample.cpu_percent;
        let drifts = self.drifts(sample);
        let new = drifts.iter().copied().filter(|drift| !self.told.contains(drift)).collect();
        self.told = drifts;
        new
    }

    /// One sample an hour: how often it ended within it.
    fn count_restarts(&mut self, sample: &Sample) {
        let hour = sample.now_ms.div_euclid(3_600_000);
        match self.hour {
            Some((counted, most)) if counted == hour => self.hour = Some((hour, most.max(sample.ends_this_hour))),
            Some((counted, most)) => {
                self.restarts.add(float(most));
                // Hours in which nobody looked were quiet, as far as anybody knows.
                (counted + 1..hour).take(48).for_each(|_| self.restarts.add(0.0));
                self.hour = Some((hour, 0));
            }
            None => self.hour = Some((hour, sample.ends_this_hour)),
        }
    }

    fn count_errors(&mut self, sample: &Sample) {
        if let (Some((handled, failed)), Some((handled_before, failed_before))) = (sample.tried, self.last) {
            // A new start counts from zero.
            let failed = failed.checked_sub(failed_before).unwrap_or(failed);
            let handled = handled.checked_sub(handled_before).unwrap_or(handled);
            let tried = handled.saturating_add(failed);
            if tried >= ATTEMPTS {
                self.errors.add(float(failed) / float(tried));
            }
        }
        self.last = sample.tried;
    }

    fn drifts(&self, sample: &Sample) -> Vec<Drift> {
        let slope = slope_an_hour(&self.memory);
        let within_a_day = sample.rss_bytes.is_some_and(|now| float(now) + 24.0 * slope > float(sample.budget_bytes));
        let is_growing = self.memory.len() >= MEMORY_NEEDED && slope > GROWTH && within_a_day;
        [
            (self.restarts.is_alarmed(), Drift::Restarts),
            (is_growing, Drift::Memory),
            (self.errors.is_alarmed(), Drift::Errors),
            (sample.cpu_percent.is_some_and(|used| used > sample.cpu_budget_percent), Drift::Cpu),
        ]
        .into_iter()
        .filter_map(|(is_so, drift)| is_so.then_some(drift))
        .collect()
    }

    /// What drifts, for people.
    #[must_use]
    pub fn shown(&self) -> Value {
        #[expect(clippy::cast_possible_truncation, reason = "for people: whole MB")]
        let mb_an_hour = (slope_an_hour(&self.memory) / 1_048_576.0).round() as i64;
        json!({
            "of": self.told.iter().map(|drift| drift.word()).collect::<Vec<_>>(),
            "memory_mb_an_hour": (self.memory.len() >= MEMORY_NEEDED).then_some(mb_an_hour),
            "cpu_percent": self.cpu_percent,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MB: u64 = 1 << 20;

    fn quiet(minute: i64) -> Sample {
        Sample {
            now_ms: minute * 60_000,
            tried: Some((u64::try_from(minute).unwrap() * 100, 0)),
            rss_bytes: Some(20 * MB),
            budget_bytes: 200 * MB,
            cpu_budget_percent: 50,
            ..Sample::default()
        }
    }

    /// Minutes until the first alarm within `minutes`.
    fn alarm(minutes: i64, sample: impl Fn(i64) -> Sample) -> Option<(i64, Vec<Drift>)> {
        let mut watch = Watch::default();
        (0..minutes).map(|minute| (minute, watch.look(&sample(minute)))).find(|(_, new)| !new.is_empty())
    }

    #[test]
    fn a_quiet_week_with_its_planned_restarts_alarms_nobody() {
        let planned = |minute: i64| Sample { ends_this_hour: u64::from(minute % 1_440 < 60), ..quiet(minute) };
        assert_eq!(alarm(7 * 1_440, planned), None);
    }

    #[test]
    fn a_restart_every_hour_is_noticed_in_hours_though_no_window_is_breached() {
        let hourly = |minute: i64| Sample { ends_this_hour: 1, ..quiet(minute) };
        let (minute, drifts) = alarm(1_440, hourly).unwrap();
        assert_eq!(drifts, [Drift::Restarts]);
        assert!((2 * 60..6 * 60).contains(&minute), "{minute}");
    }

    #[test]
    fn memory_that_grows_into_its_budget_is_noticed_and_a_heap_that_settles_is_not() {
        let leak = |minute: i64| Sample {
            rss_bytes: Some(20 * MB + u64::try_from(minute).unwrap() * MB / 5),
            ..quiet(minute)
        };
        let (minute, drifts) = alarm(120, leak).unwrap();
        assert_eq!((minute, drifts), (i64::try_from(MEMORY_NEEDED).unwrap() - 1, vec![Drift::Memory]));
        let slow = |minute: i64| Sample {
            rss_bytes: Some(20 * MB + u64::try_from(minute).unwrap() * MB / 600),
            ..quiet(minute)
        };
        assert_eq!(alarm(300, slow), None, "0.1 MB an hour is far from 200");
        let settled = |minute: i64| Sample {
            rss_bytes: Some((20 + u64::try_from(minute.min(10)).unwrap()) * MB),
            ..quiet(minute)
        };
        assert_eq!(alarm(20, settled), None);
    }

    #[test]
    fn errors_that_creep_in_are_noticed_and_one_bad_minute_is_not() {
        let failing = |minute: i64| {
            let tried = u64::try_from(minute).unwrap() * 100;
            Sample { tried: Some((tried / 10 * 9, tried / 10)), ..quiet(minute) }
        };
        let (minute, drifts) = alarm(120, failing).unwrap();
        assert_eq!(drifts, [Drift::Errors]);
        assert!((15..30).contains(&minute), "a tenth of the attempts: {minute}");
        let once = |minute: i64| {
            let (handled, failed) = if minute == 50 {
                (5_000, 80)
            } else {
                (u64::try_from(minute).unwrap() * 100, if minute > 50 { 80 } else { 0 })
            };
            Sample { tried: Some((handled, failed)), ..quiet(minute) }
        };
        assert_eq!(alarm(200, once), None);
    }

    #[test]
    fn an_alarm_is_told_once_until_it_ends() {
        let mut watch = Watch::default();
        let busy = |minute, cpu_percent| Sample { cpu_percent: Some(cpu_percent), ..quiet(minute) };
        assert_eq!(watch.look(&busy(0, 50)), []);
        assert_eq!(watch.look(&busy(1, 51)), [Drift::Cpu]);
        assert_eq!(watch.look(&busy(2, 90)), []);
        assert_eq!(watch.shown()["of"], json!(["cpu"]));
        assert_eq!(watch.look(&busy(3, 1)), []);
        assert_eq!(watch.look(&busy(4, 51)), [Drift::Cpu]);
    }

    #[test]
    fn a_slope_is_that_of_the_line() {
        let line: VecDeque<u64> = (0..60).map(|minute| 1_000 + 5 * minute).collect();
        assert!((slope_an_hour(&line) - 300.0).abs() < 1e-6);
        assert!(slope_an_hour(&VecDeque::from([7; 60])).abs() < 1e-9);
        assert!(slope_an_hour(&VecDeque::from([7])).abs() < 1e-9);
    }
}
