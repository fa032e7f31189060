//! What headers say of limits and of when to ask again: Groq "Rate Limits" and OpenAI "Rate limits" (`x-ratelimit-*`),
//! Anthropic "Rate limits" (`anthropic-ratelimit-*`), `retry-after` of RFC 9110, `retry-after-ms` of OpenAI.

use std::time::Duration;

use domain::time::{DAY_MS, UnixMs};

/// Nobody is left alone for longer than this, whatever a header says: sums with it can't overflow.
const LONGEST: Duration = Duration::from_secs(31 * 86_400);

/// A provider's limits as its last answer told them. With Groq the requests are those of the day and the tokens those of
/// the minute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ProviderLimits {
    /// Requests there are in the window.
    pub limit_requests: Option<u64>,
    /// Requests that are left.
    pub remaining_requests: Option<u64>,
    /// Until there are as many as the limit again.
    pub reset_requests: Option<Duration>,
    /// Tokens there are in the window.
    pub limit_tokens: Option<u64>,
    /// Tokens that are left.
    pub remaining_tokens: Option<u64>,
    /// Until there are as many as the limit again.
    pub reset_tokens: Option<Duration>,
}

impl ProviderLimits {
    /// Until every limit that is spent is whole again; `None` while none is. The reset of a limit with something left in
    /// it says nothing about when to ask again.
    #[must_use]
    pub fn spent_for(&self) -> Option<Duration> {
        let spent = |remaining: Option<u64>, reset: Option<Duration>| reset.filter(|_| remaining == Some(0));
        spent(self.remaining_requests, self.reset_requests).max(spent(self.remaining_tokens, self.reset_tokens))
    }
}

pub(super) fn openai<'h>(header: impl Fn(&str) -> Option<&'h str>) -> ProviderLimits {
    let number = |name| header(name).and_then(|text| text.trim().parse().ok());
    let reset = |name| header(name).and_then(duration);
    ProviderLimits {
        limit_requests: number("x-ratelimit-limit-requests"),
        remaining_requests: number("x-ratelimit-remaining-requests"),
        reset_requests: reset("x-ratelimit-reset-requests"),
        limit_tokens: number("x-ratelimit-limit-tokens"),
        remaining_tokens: number("x-ratelimit-remaining-tokens"),
        reset_tokens: reset("x-ratelimit-reset-tokens"),
    }
}

/// When the provider wants to be asked again.
pub(super) fn retry_after<'h>(header: impl Fn(&str) -> Option<&'h str>, now: UnixMs) -> Option<Duration> {
    let ms = header("retry-after-ms").and_then(|text| of_number(text.trim(), 0.001));
    ms.or_else(|| {
        let text = header("retry-after")?.trim();
        of_number(text, 1.0).or_else(|| Some(until(http_date(text)?, now)))
    })
}

/// Time from `now` to then; none of it when that is past.
pub(super) fn until(then: UnixMs, now: UnixMs) -> Duration {
    let ms = u64::try_from(then.since_ms(now)).unwrap_or(0);
    Duration::from_millis(ms).min(LONGEST)
}

/// Groq's and OpenAI's prose: "please try again in 5.289s". Wants lower case.
pub(super) fn try_again_in(words: &str) -> Option<Duration> {
    let (_, rest) = words.split_once("try again in ")?;
    let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '.').unwrap_or(rest.len());
    let (word, _) = rest.split_at(end);
    duration(word.trim_end_matches('.'))
}

/// A plain number of units of `unit_s` seconds.
fn of_number(text: &str, unit_s: f64) -> Option<Duration> {
    let is_plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let number: f64 = text.parse().ok().filter(|_| is_plain)?;
    Duration::try_from_secs_f64((number * unit_s).min(LONGEST.as_secs_f64())).ok()
}

/// `2m59.56s`, `7.66s`, `120ms`, `1d2h`; a plain number is seconds.
pub(super) fn duration(text: &str) -> Option<Duration> {
    let mut rest = text.trim();
    if let Some(plain) = of_number(rest, 1.0) {
        return Some(plain);
    }
    let mut sum = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(digits);
        let end = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        let unit_s = match unit {
            "d" => 86_400.0,
            "h" => 3_600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        sum = sum.saturating_add(of_number(number, unit_s)?);
        rest = after;
    }
    (!text.trim().is_empty()).then(|| sum.min(LONGEST))
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`: the one form that RFC 9110 lets a sender write.
fn http_date(text: &str) -> Option<UnixMs> {
    const MONTHS: &str = "JanFebMarAprMayJunJulAugSepOctNovDec";
    let (_, date) = text.split_once(", ")?;
    let mut parts = date.split(' ');
    let day = parts.next()?.parse().ok()?;
    let month = MONTHS.find(parts.next().filter(|month| month.len() == 3)?)? / 3 + 1;
    let year = parts.next()?.parse().ok()?;
    let time = parts.next()?;
    let is_whole = parts.next() == Some("GMT") && parts.next().is_none();
    is_whole.then(|| moment(year, month, day, time)).flatten()
}

/// A moment in UTC; `time` is `08:49:37`.
pub(super) fn moment(year: i64, month: usize, day: i64, time: &str) -> Option<UnixMs> {
    let mut clock = time.split(':').map(|part| part.parse::<i64>().ok());
    let (hour, minute, second) = (clock.next()??, clock.next()??, clock.next()??);
    let in_range = (1970..=9999).contains(&year)
        && (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && (0..24).contains(&hour)
        && (0..60).contains(&minute)
        && (0..=60).contains(&second);
    if !in_range || clock.next().is_some() {
        return None;
    }
    // Days before the month in a year that starts in March, so that the leap day comes last (Howard Hinnant,
    // "chrono-Compatible Low-Level Date Algorithms").
    let month = i64::try_from(month).ok()?;
    let year = if month <= 2 { year - 1 } else { year };
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = 365 * year + year / 4 - year / 100 + year / 400 + day_of_year - 719_468;
    Some(UnixMs(days * DAY_MS + ((hour * 60 + minute) * 60 + second) * 1_000))
}

/// `2026-07-15T10:07:10Z`, also with parts of a second or an offset.
pub(super) fn rfc3339(text: &str) -> Option<UnixMs> {
    let (date, time) = text.trim().split_once(['T', 't'])?;
    let mut parts = date.split('-');
    let (year, month, day) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    let zone = time.find(['Z', 'z', '+', '-'])?;
    let (clock, offset) = time.split_at(zone);
    let (whole, _) = clock.split_once('.').unwrap_or((clock, ""));
    let then = moment(year, month, day, whole)?;
    if offset.eq_ignore_ascii_case("z") {
        return Some(then);
    }
    let (hours, minutes) = offset.get(1..)?.split_once(':')?;
    let (hours, minutes): (i64, i64) = (hours.parse().ok()?, minutes.parse().ok()?);
    let is_ahead = offset.starts_with('+');
    let in_range = (0..24).contains(&hours) && (0..60).contains(&minutes);
    let ms = in_range.then(|| (hours * 60 + minutes) * 60_000)?;
    Some(then.plus_ms(if is_ahead { -ms } else { ms }))
}
