//! Limits that refill steadily, as Groq counts them: requests over a day, tokens over a minute.
//!
//! Source: <https://console.groq.com/docs/rate-limits>.

use std::time::Duration;

use tokio::time::Instant;

/// How much may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Requests a day.
    pub requests_per_day: u64,
    /// Tokens a minute.
    pub tokens_per_minute: u64,
}

const DAY: Duration = Duration::from_secs(86_400);
const MINUTE: Duration = Duration::from_secs(60);

/// One limit and what of it is used.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    limit: u64,
    period: Duration,
    used: f64,
    at: Instant,
}

impl Bucket {
    fn new(limit: u64, period: Duration, now: Instant) -> Self {
        Self { limit, period, used: 0.0, at: now }
    }

    /// What a second gives back.
    fn rate(&self) -> f64 {
        self.limit as f64 / self.period.as_secs_f64()
    }

    fn refill(&mut self, now: Instant) {
        self.used = (self.used - self.rate() * now.duration_since(self.at).as_secs_f64()).max(0.0);
        self.at = now;
    }

    /// How long until `more` fits.
    fn wait(&self, more: u64) -> Duration {
        let over = self.used + more as f64 - self.limit as f64;
        if over > 1e-9 { Duration::from_secs_f64(over / self.rate().max(1e-9)) } else { Duration::ZERO }
    }

    fn left(&self) -> u64 {
        self.limit.saturating_sub(self.used.ceil() as u64)
    }

    /// How long until nothing of it is used.
    fn reset(&self) -> Duration {
        Duration::from_secs_f64(self.used / self.rate().max(1e-9))
    }
}

/// Both limits.
#[derive(Debug, Clone)]
pub(super) struct Meter {
    requests: Bucket,
    tokens: Bucket,
}

/// Which limit stands in the way, what of it is used, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Over {
    pub which: &'static str,
    pub limit: u64,
    pub used: u64,
    pub wait: Duration,
}

impl Meter {
    pub(super) fn new(limits: Limits, now: Instant) -> Self {
        Self {
            requests: Bucket::new(limits.requests_per_day, DAY, now),
            tokens: Bucket::new(limits.tokens_per_minute, MINUTE, now),
        }
    }

    /// Lets one request of so many tokens pass and counts it, or says why not.
    pub(super) fn admit(&mut self, prompt: u64, now: Instant) -> Result<(), Over> {
        self.requests.refill(now);
        self.tokens.refill(now);
        for (which, bucket, more) in [("requests", &self.requests, 1), ("tokens", &self.tokens, prompt)] {
            let wait = bucket.wait(more);
            if !wait.is_zero() {
                return Err(Over { which, limit: bucket.limit, used: bucket.limit - bucket.left(), wait });
            }
        }
        self.requests.used += 1.0;
        self.spend(prompt);
        Ok(())
    }

    /// Tokens that were generated; they can take more than is left.
    pub(super) fn spend(&mut self, tokens: u64) {
        self.tokens.used += tokens as f64;
    }

    pub(super) fn headers(&mut self, now: Instant) -> String {
        self.requests.refill(now);
        self.tokens.refill(now);
        let mut out = String::new();
        for (name, bucket) in [("requests", &self.requests), ("tokens", &self.tokens)] {
            out.push_str(&format!("x-ratelimit-limit-{name}: {}\r\n", bucket.limit));
            out.push_str(&format!("x-ratelimit-remaining-{name}: {}\r\n", bucket.left()));
            out.push_str(&format!("x-ratelimit-reset-{name}: {}\r\n", go(bucket.reset())));
        }
        out
    }
}

/// A duration as Go writes it: `2m59.56s`, `7.66s`, `120ms`.
pub(super) fn go(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    let trimmed = |number: f64| {
        let text = format!("{number:.3}");
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    };
    if seconds < 1.0 {
        return format!("{}ms", duration.as_millis());
    }
    let (hours, minutes) = (duration.as_secs() / 3_600, duration.as_secs() / 60 % 60);
    let rest = trimmed(seconds % 60.0);
    match (hours, minutes) {
        (0, 0) => format!("{rest}s"),
        (0, minutes) => format!("{minutes}m{rest}s"),
        (hours, minutes) => format!("{hours}h{minutes}m{rest}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn requests_of_a_day_and_tokens_of_a_minute_are_counted_and_come_back() {
        let limits = Limits { requests_per_day: 4, tokens_per_minute: 600 };
        let mut meter = Meter::new(limits, Instant::now());
        assert_eq!(meter.admit(600, Instant::now()), Ok(()));
        let over = Over { which: "tokens", limit: 600, used: 600, wait: Duration::from_secs(10) };
        assert_eq!(meter.admit(100, Instant::now()), Err(over));
        tokio::time::advance(Duration::from_secs(10)).await;
        assert_eq!(meter.admit(100, Instant::now()), Ok(()));
        meter.spend(50);
        assert!(meter.headers(Instant::now()).contains("x-ratelimit-remaining-tokens: 0\r\n"));
        tokio::time::advance(Duration::from_secs(600)).await;
        assert!(meter.headers(Instant::now()).contains("x-ratelimit-remaining-tokens: 600\r\n"));
        assert_eq!(meter.admit(1, Instant::now()), Ok(()));
        assert_eq!(meter.admit(1, Instant::now()), Ok(()));
        assert_eq!(meter.admit(1, Instant::now()).map_err(|over| over.which), Err("requests"));
        assert!(meter.headers(Instant::now()).contains("x-ratelimit-remaining-requests: 0\r\n"));
        tokio::time::advance(Duration::from_secs(21_600)).await;
        assert_eq!(meter.admit(1, Instant::now()), Ok(()));
    }

    #[test]
    fn durations_are_written_as_go_does() {
        for (ms, text) in
            [(120, "120ms"), (7_660, "7.66s"), (179_560, "2m59.56s"), (60_000, "1m0s"), (3_661_500, "1h1m1.5s")]
        {
            assert_eq!(go(Duration::from_millis(ms)), text);
        }
    }
}
