//! What a tier may use, what a request asks for, and why it is refused.

use std::time::Duration;

use domain::time::{DAY_MS, UnixMs, civil_from_days};
use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive;
use serde::{Deserialize, Serialize};

/// Largest amount of a single ask or limit: far above any use, and so small that sums of thousands stay exact in the
/// doubles of Redis' scripts.
pub const LARGEST: u64 = 1 << 44;

const MINUTE_MS: i64 = 60_000;

/// What a tier may use. `None`: no limit of that kind.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Requests in one minute.
    pub requests_per_minute: Option<u64>,
    /// Requests in one day of the provider.
    pub requests_per_day: Option<u64>,
    /// Tokens in one minute.
    pub tokens_per_minute: Option<u64>,
    /// Tokens in one day of the provider.
    pub tokens_per_day: Option<u64>,
    /// Money in one day of the provider, millionths of a US dollar.
    pub usd_micros_per_day: Option<u64>,
    /// Money in one month of the provider, millionths of a US dollar.
    pub usd_micros_per_month: Option<u64>,
    /// How many requests of the longest window that is limited (the day, else the minute) are kept for priorities from
    /// `buffer_from_priority` on.
    pub buffer_requests: u64,
    /// The lowest priority that may use the buffer.
    pub buffer_from_priority: u8,
    /// When the provider's day and month begin, minutes after midnight UTC; negative: before it.
    pub day_starts_at_minutes_utc: i32,
}

impl Limits {
    /// Whether nothing is limited, so that nothing needs to be counted.
    #[must_use]
    pub const fn is_unlimited(&self) -> bool {
        self.requests_per_minute.is_none()
            && self.requests_per_day.is_none()
            && self.tokens_per_minute.is_none()
            && self.tokens_per_day.is_none()
            && self.usd_micros_per_day.is_none()
            && self.usd_micros_per_month.is_none()
    }

    /// The most of each counter for a request of this priority.
    #[must_use]
    pub(super) fn bounds(&self, priority: u8) -> Bounds {
        let clamp = |limit: Option<u64>| limit.map(|limit| limit.min(LARGEST));
        let kept = if priority >= self.buffer_from_priority { 0 } else { self.buffer_requests };
        let keep = |limit: Option<u64>| clamp(limit).map(|limit| limit.saturating_sub(kept));
        let per_day = self.requests_per_day.is_some();
        Bounds {
            minute_requests: if per_day { clamp(self.requests_per_minute) } else { keep(self.requests_per_minute) },
            day_requests: keep(self.requests_per_day),
            minute_tokens: clamp(self.tokens_per_minute),
            day_tokens: clamp(self.tokens_per_day),
            day_cost: clamp(self.usd_micros_per_day),
            month_cost: clamp(self.usd_micros_per_month),
        }
    }
}

/// The most that each counter may reach.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Bounds {
    pub minute_requests: Option<u64>,
    pub day_requests: Option<u64>,
    pub minute_tokens: Option<u64>,
    pub day_tokens: Option<u64>,
    pub day_cost: Option<u64>,
    pub month_cost: Option<u64>,
}

/// The windows a moment lies in, each as a number that grows with time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Windows {
    /// Minutes since the epoch.
    pub minute: i64,
    /// Days of the provider since the epoch.
    pub day: i64,
    /// Months of the provider since year 0.
    pub month: i64,
}

impl Windows {
    /// The windows of `now` where days begin `day_starts_at_minutes` after midnight UTC.
    #[must_use]
    pub const fn at(now: UnixMs, day_starts_at_minutes: i32) -> Self {
        let day = now.plus_ms(-(day_starts_at_minutes as i64 * MINUTE_MS)).day();
        let (year, month, _) = civil_from_days(day);
        Self { minute: now.0.div_euclid(MINUTE_MS), day, month: year * 12 + month - 1 }
    }
}

/// How long a window of `now` still lasts.
pub(super) fn until_end(refused: Refused, now: UnixMs, day_starts_at_minutes: i32) -> Duration {
    let start = i64::from(day_starts_at_minutes) * MINUTE_MS;
    let shifted = now.plus_ms(-start);
    let end_ms = match refused {
        Refused::RequestsPerMinute | Refused::TokensPerMinute => {
            (now.0.div_euclid(MINUTE_MS) + 1).saturating_mul(MINUTE_MS)
        }
        Refused::RequestsPerDay | Refused::TokensPerDay | Refused::BudgetOfDay | Refused::Provider => {
            UnixMs::start_of_day(shifted.day() + 1).0.saturating_add(start)
        }
        Refused::BudgetOfMonth | Refused::AgentCap => {
            let month = |day| Windows::at(UnixMs::start_of_day(day), 0).month;
            let today = shifted.day();
            let first = (today + 1..today + 32).find(|day| month(*day) != month(today)).unwrap_or(today + 31);
            first.saturating_mul(DAY_MS).saturating_add(start)
        }
    };
    Duration::from_millis(u64::try_from(end_ms.saturating_sub(now.0)).unwrap_or(1).max(1))
}

/// What one request asks for: upper bounds, since nobody knows before it runs.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    /// The tier that will run it.
    pub tier: &'a str,
    /// Who asks.
    pub agent: &'a str,
    /// The most this agent may spend in a UTC month over all tiers, millionths of a US dollar.
    pub agent_cap_micros_per_month: Option<u64>,
    /// 0 (can wait) to 9.
    pub priority: u8,
    /// The most tokens it may use, prompt and answer.
    pub tokens: u64,
    /// The most it may cost, millionths of a US dollar.
    pub cost_micros: u64,
    /// How long it may run; with a grace after that, a reservation that nobody settled counts in full.
    pub deadline: Duration,
}

/// Why a reservation is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Refused {
    /// The minute's requests are used up.
    RequestsPerMinute,
    /// The day's requests are used up, or what is left is kept for higher priorities.
    RequestsPerDay,
    /// The minute's tokens would not do.
    TokensPerMinute,
    /// The day's tokens would not do.
    TokensPerDay,
    /// The tier's money of the day would not do.
    BudgetOfDay,
    /// The tier's money of the month would not do.
    BudgetOfMonth,
    /// The agent's money of the month would not do.
    AgentCap,
    /// The provider said that it has less left than the request asks for.
    Provider,
}

impl Refused {
    /// A stable code for logs, metrics and answers.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::RequestsPerMinute => "requests_per_minute",
            Self::RequestsPerDay => "requests_per_day",
            Self::TokensPerMinute => "tokens_per_minute",
            Self::TokensPerDay => "tokens_per_day",
            Self::BudgetOfDay => "budget_of_day",
            Self::BudgetOfMonth => "budget_of_month",
            Self::AgentCap => "agent_cap",
            Self::Provider => "provider",
        }
    }
}

/// What a request used in the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Used {
    /// Tokens, prompt and answer.
    pub tokens: u64,
    /// Cost, millionths of a US dollar.
    pub cost_micros: u64,
    /// Whether this is a guess, as for a stream that was cut before its usage came.
    pub estimated: bool,
}

/// Prices of a model, US dollars per million tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prices {
    /// Of prompt tokens.
    pub input_usd_per_million: Decimal,
    /// Of answered tokens.
    pub output_usd_per_million: Decimal,
}

impl Prices {
    /// What so many tokens cost, millionths of a US dollar, rounded up. A price of USD 1 per million tokens is one
    /// millionth of a dollar per token. `None`: a negative price, or more than [`LARGEST`].
    #[must_use]
    pub fn cost_micros(&self, input_tokens: u64, output_tokens: u64) -> Option<u64> {
        if self.input_usd_per_million.is_sign_negative() && !self.input_usd_per_million.is_zero()
            || self.output_usd_per_million.is_sign_negative() && !self.output_usd_per_million.is_zero()
        {
            return None;
        }
        let input = self.input_usd_per_million.checked_mul(Decimal::from(input_tokens))?;
        let output = self.output_usd_per_million.checked_mul(Decimal::from(output_tokens))?;
        input.checked_add(output)?.ceil().to_u64().filter(|micros| *micros <= LARGEST)
    }

    /// The most a request can cost: a token is at least one byte of its text, and each message adds some of its own.
    /// `None` as of [`Self::cost_micros`].
    #[must_use]
    pub fn bound_micros(&self, prompt_bytes: usize, messages: usize, max_tokens: u64) -> Option<u64> {
        self.cost_micros(bound_prompt_tokens(prompt_bytes, messages)?, max_tokens)
    }
}

/// Tokens that a chat template may add around one message, and once around all of them.
const TOKENS_A_MESSAGE: u64 = 16;

/// The most tokens that a prompt of so many bytes in so many messages can have. `None`: more than fits.
#[must_use]
pub fn bound_prompt_tokens(prompt_bytes: usize, messages: usize) -> Option<u64> {
    let around = u64::try_from(messages).ok()?.checked_add(1)?.checked_mul(TOKENS_A_MESSAGE)?;
    u64::try_from(prompt_bytes).ok()?.checked_add(around)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_turn_with_the_providers_day() {
        // 2024-08-31T23:30:00Z.
        let now = UnixMs(1_725_147_000_000);
        let utc = Windows::at(now, 0);
        assert_eq!(utc, Windows { minute: 28_752_450, day: 19_966, month: 2024 * 12 + 7 });
        // A day that begins at 17:00 UTC has turned already, in the month too; one that begins at 01:00 has not.
        for (starts, day, month) in [(-60, 19_967, utc.month + 1), (60, 19_966, utc.month), (30, 19_966, utc.month)] {
            let windows = Windows::at(now, starts);
            assert_eq!((windows.day, windows.month), (day, month), "{starts}");
        }
        assert_eq!(Windows::at(now.plus_ms(30 * 60_000), 30).day, 19_966, "the day of 00:30 begins half an hour later");
        assert_eq!(Windows::at(now.plus_ms(60 * 60_000), 30).month, utc.month + 1);
    }

    #[test]
    fn what_is_refused_may_come_again_when_its_window_has_turned() {
        let now = UnixMs(1_725_147_000_500);
        for (refused, starts, seconds) in [
            (Refused::RequestsPerMinute, 0, 60),
            (Refused::TokensPerMinute, 60, 60),
            (Refused::RequestsPerDay, 0, 1_800),
            (Refused::BudgetOfDay, 30, 3_600),
            (Refused::BudgetOfMonth, 0, 1_800),
            (Refused::BudgetOfMonth, -60, 30 * 86_400 - 1_800),
            (Refused::AgentCap, 0, 1_800),
        ] {
            let waits = until_end(refused, now, starts);
            assert_eq!(waits, Duration::from_millis(seconds * 1_000 - 500), "{refused:?} {starts}");
        }
    }

    #[test]
    fn money_is_rounded_up_to_a_millionth() {
        let prices = |input: &str, output: &str| Prices {
            input_usd_per_million: input.parse().unwrap(),
            output_usd_per_million: output.parse().unwrap(),
        };
        for (input, output, tokens, micros) in [
            ("0", "0", (1_000, 1_000), Some(0)),
            ("0.05", "0.08", (1, 0), Some(1)),
            ("0.05", "0.08", (20, 0), Some(1)),
            ("0.05", "0.08", (21, 0), Some(2)),
            ("0.05", "0.08", (1_000_000, 1_000_000), Some(130_000)),
            ("3", "15", (100, 10), Some(450)),
            ("-1", "15", (100, 10), None),
            ("3", "15", (u64::MAX, 10), None),
        ] {
            assert_eq!(prices(input, output).cost_micros(tokens.0, tokens.1), micros, "{input} {output} {tokens:?}");
        }
        assert_eq!(prices("1", "2").bound_micros(100, 2, 50), Some(100 + 3 * 16 + 100));
        assert_eq!(bound_prompt_tokens(usize::MAX, 1), None);
    }

    #[test]
    fn the_buffer_is_kept_of_the_longest_window() {
        let mut limits = Limits {
            requests_per_minute: Some(30),
            requests_per_day: Some(6_000),
            buffer_requests: 200,
            buffer_from_priority: 7,
            ..Limits::default()
        };
        let of = |limits: &Limits, priority| {
            let bounds = limits.bounds(priority);
            (bounds.minute_requests, bounds.day_requests)
        };
        assert_eq!(of(&limits, 6), (Some(30), Some(5_800)));
        assert_eq!(of(&limits, 7), (Some(30), Some(6_000)));
        limits.requests_per_day = None;
        assert_eq!(of(&limits, 0), (Some(0), None));
        assert!(!limits.is_unlimited() && Limits::default().is_unlimited());
    }
}
