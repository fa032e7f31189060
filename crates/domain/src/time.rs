//! Time types and the clock port. Only `runtime` holds a real clock.

use serde::{Deserialize, Serialize};

/// Milliseconds since the epoch, UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default)]
#[serde(transparent)]
pub struct UnixMs(pub i64);

/// Milliseconds in one UTC day.
pub const DAY_MS: i64 = 86_400_000;

impl UnixMs {
    /// Number of the UTC day since the epoch; rounds towards minus infinity.
    #[must_use]
    pub const fn day(self) -> i64 {
        self.0.div_euclid(DAY_MS)
    }

    /// This moment plus `ms`, saturating.
    #[must_use]
    pub const fn plus_ms(self, ms: i64) -> Self {
        Self(self.0.saturating_add(ms))
    }

    /// Milliseconds from `earlier` to here, saturating; negative when `earlier` is later.
    #[must_use]
    pub const fn since_ms(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
    }

    /// 00:00 UTC of a day number.
    #[must_use]
    pub const fn start_of_day(day: i64) -> Self {
        Self(day.saturating_mul(DAY_MS))
    }

    /// 00:00 UTC of the first day of this moment's month.
    #[must_use]
    pub const fn start_of_month(self) -> Self {
        let (_, _, day_of_month) = civil_from_days(self.day());
        Self::start_of_day(self.day() - (day_of_month - 1))
    }

    /// Nanoseconds since the epoch, saturating.
    #[must_use]
    pub const fn as_ns(self) -> i64 {
        self.0.saturating_mul(1_000_000)
    }
}

impl std::fmt::Display for UnixMs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (y, m, d) = civil_from_days(self.day());
        let in_day = self.0.rem_euclid(DAY_MS);
        write!(
            f,
            "{y:04}-{m:02}-{d:02}T{:02}:{:02}:{:02}.{:03}Z",
            in_day / 3_600_000,
            in_day / 60_000 % 60,
            in_day / 1000 % 60,
            in_day % 1000
        )
    }
}

/// Year, month and day of a day number (proleptic Gregorian calendar; the era arithmetic of "chrono-compatible
/// low-level date algorithms", Howard Hinnant).
#[must_use]
pub const fn civil_from_days(day: i64) -> (i64, i64, i64) {
    let z = day + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let d = doy - (153 * mp + 2) / 5 + 1;
    let m = if mp < 10 { mp + 3 } else { mp - 9 };
    let y = yoe + era * 400 + if m <= 2 { 1 } else { 0 };
    (y, m, d)
}

/// Where the time comes from. Tests and replays pass a clock of their own.
pub trait Clock: Send + Sync {
    /// Now.
    fn now(&self) -> UnixMs;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_turn_at_midnight_utc() {
        assert_eq!(UnixMs(0).to_string(), "1970-01-01T00:00:00.000Z");
        assert_eq!(UnixMs(1_723_161_599_999).to_string(), "2024-08-08T23:59:59.999Z");
        assert_eq!(UnixMs(1_723_161_600_000).day(), UnixMs(1_723_161_599_999).day() + 1);
        assert_eq!(UnixMs(-1).day(), -1);
    }

    #[test]
    fn months_begin_on_their_first_day() {
        for (at, begins) in [
            (1_723_161_599_999, "2024-08-01T00:00:00.000Z"),
            (1_709_251_199_999, "2024-02-01T00:00:00.000Z"),
            (1_709_251_200_000, "2024-03-01T00:00:00.000Z"),
            (-1, "1969-12-01T00:00:00.000Z"),
        ] {
            assert_eq!(UnixMs(at).start_of_month().to_string(), begins);
        }
    }
}
