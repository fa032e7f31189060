//! The counters of one tier, pure: the rules that the scripts in Redis follow, and the ones a process follows alone.

use domain::time::UnixMs;

use super::limits::{Bounds, Refused, Windows};

/// Something to count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Amount {
    pub requests: u64,
    pub tokens: u64,
    pub cost_micros: u64,
}

/// A difference of two amounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Change {
    pub requests: i64,
    pub tokens: i64,
    pub cost_micros: i64,
}

impl Amount {
    /// What must be counted when this was counted and `then` is the truth.
    pub(super) fn towards(self, then: Self) -> Change {
        let signed = |amount: u64| i64::try_from(amount).unwrap_or(i64::MAX);
        Change {
            requests: signed(then.requests) - signed(self.requests),
            tokens: signed(then.tokens) - signed(self.tokens),
            cost_micros: signed(then.cost_micros) - signed(self.cost_micros),
        }
    }

    /// As a change from nothing.
    pub(super) fn as_change(self) -> Change {
        Self::default().towards(self)
    }
}

impl Change {
    /// Both changes.
    pub(super) const fn plus(self, other: Self) -> Self {
        Self {
            requests: self.requests.saturating_add(other.requests),
            tokens: self.tokens.saturating_add(other.tokens),
            cost_micros: self.cost_micros.saturating_add(other.cost_micros),
        }
    }
}

/// What a provider said it has left, until it resets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Hold {
    /// What is left.
    pub left: u64,
    /// Until when that holds, ms since the epoch; 0: nothing was said.
    pub until_ms: i64,
}

impl Hold {
    const fn allows(self, amount: u64, now: UnixMs) -> bool {
        now.0 >= self.until_ms || amount <= self.left
    }
}

/// The counters of a tier in its windows of now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Tally {
    pub windows: Windows,
    pub minute_requests: u64,
    pub minute_tokens: u64,
    pub day_requests: u64,
    pub day_tokens: u64,
    pub day_cost: u64,
    pub month_cost: u64,
    pub hold_requests: Hold,
    pub hold_tokens: Hold,
}

impl Tally {
    /// Goes on to later windows, whose counters begin at zero. Windows never go back: a clock that does is still held to
    /// the later window.
    pub(super) const fn roll(&mut self, to: Windows) {
        if to.minute > self.windows.minute {
            self.windows.minute = to.minute;
            self.minute_requests = 0;
            self.minute_tokens = 0;
        }
        if to.day > self.windows.day {
            self.windows.day = to.day;
            self.day_requests = 0;
            self.day_tokens = 0;
            self.day_cost = 0;
        }
        if to.month > self.windows.month {
            self.windows.month = to.month;
            self.month_cost = 0;
        }
    }

    /// Whether this amount still fits.
    pub(super) fn check(&self, amount: Amount, bounds: &Bounds, now: UnixMs) -> Result<(), Refused> {
        let fits = |used: u64, more: u64, bound: Option<u64>| bound.is_none_or(|b| used.saturating_add(more) <= b);
        for (fits, refused) in [
            (fits(self.minute_requests, amount.requests, bounds.minute_requests), Refused::RequestsPerMinute),
            (fits(self.day_requests, amount.requests, bounds.day_requests), Refused::RequestsPerDay),
            (fits(self.minute_tokens, amount.tokens, bounds.minute_tokens), Refused::TokensPerMinute),
            (fits(self.day_tokens, amount.tokens, bounds.day_tokens), Refused::TokensPerDay),
            (fits(self.day_cost, amount.cost_micros, bounds.day_cost), Refused::BudgetOfDay),
            (fits(self.month_cost, amount.cost_micros, bounds.month_cost), Refused::BudgetOfMonth),
            (self.hold_requests.allows(amount.requests, now), Refused::Provider),
            (self.hold_tokens.allows(amount.tokens, now), Refused::Provider),
        ] {
            if !fits {
                return Err(refused);
            }
        }
        Ok(())
    }

    /// Counts a change that belongs to these windows: later ones are gone on to, what belongs to a window that is over is
    /// forgotten.
    pub(super) fn count(&mut self, windows: Windows, change: Change) {
        self.roll(windows);
        let add = |counter: &mut u64, change: i64| *counter = counter.saturating_add_signed(change);
        if windows.minute == self.windows.minute {
            add(&mut self.minute_requests, change.requests);
            add(&mut self.minute_tokens, change.tokens);
        }
        if windows.day == self.windows.day {
            add(&mut self.day_requests, change.requests);
            add(&mut self.day_tokens, change.tokens);
            add(&mut self.day_cost, change.cost_micros);
        }
        if windows.month == self.windows.month {
            add(&mut self.month_cost, change.cost_micros);
        }
    }

    /// A reservation uses up what the provider said is left, and nothing gives that back but the provider.
    pub(super) const fn use_up(&mut self, amount: Amount) {
        self.hold_requests.left = self.hold_requests.left.saturating_sub(amount.requests);
        self.hold_tokens.left = self.hold_tokens.left.saturating_sub(amount.tokens);
    }

    /// When what the provider said stops to hold, of what refuses this amount.
    pub(super) fn held_until(&self, amount: Amount, now: UnixMs) -> i64 {
        let of = |hold: Hold, amount| if hold.allows(amount, now) { 0 } else { hold.until_ms };
        of(self.hold_requests, amount.requests).max(of(self.hold_tokens, amount.tokens))
    }

    /// Bounds for a process that counts alone: what it knows to be used, and of the rest a share in thousandths. `self` is
    /// what was known when it was left alone.
    pub(super) fn shared(&self, bounds: &Bounds, share: impl Fn(Span) -> u64) -> Bounds {
        let part = |used: u64, bound: Option<u64>, span: Span| {
            bound.map(|bound| {
                let left = bound.saturating_sub(used);
                let part = left.saturating_mul(share(span).min(1_000)) / 1_000;
                used.saturating_add(part).min(bound)
            })
        };
        Bounds {
            minute_requests: part(self.minute_requests, bounds.minute_requests, Span::Minute),
            day_requests: part(self.day_requests, bounds.day_requests, Span::Day),
            minute_tokens: part(self.minute_tokens, bounds.minute_tokens, Span::Minute),
            day_tokens: part(self.day_tokens, bounds.day_tokens, Span::Day),
            day_cost: part(self.day_cost, bounds.day_cost, Span::Day),
            month_cost: part(self.month_cost, bounds.month_cost, Span::Month),
        }
    }
}

/// Which window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Span {
    Minute,
    Day,
    Month,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMIT: u64 = 10;

    fn bounds() -> Bounds {
        let limit = Some(LIMIT);
        Bounds {
            minute_requests: Some(4),
            day_requests: limit,
            minute_tokens: Some(40),
            day_tokens: Some(90),
            day_cost: Some(70),
            month_cost: Some(200),
        }
    }

    fn windows(now_s: i64) -> Windows {
        Windows::at(UnixMs(now_s * 1_000), 0)
    }

    #[derive(Debug, Clone)]
    enum Step {
        Reserve { tokens: u64, cost: u64 },
        Settle { which: usize, part: u64 },
        Release { which: usize },
        Abandon { which: usize },
        Clock { by_s: i64 },
        Provider { left: u64, for_s: i64 },
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            6 => (0..30_u64, 0..30_u64).prop_map(|(tokens, cost)| Step::Reserve { tokens, cost }),
            2 => (any::<usize>(), 0..=100_u64).prop_map(|(which, part)| Step::Settle { which, part }),
            1 => any::<usize>().prop_map(|which| Step::Release { which }),
            1 => any::<usize>().prop_map(|which| Step::Abandon { which }),
            3 => prop_oneof![-90..200_i64, 3_000..90_000_i64, -90_000..0_i64].prop_map(|by_s| Step::Clock { by_s }),
            1 => (0..5_u64, 1..4_000_i64).prop_map(|(left, for_s)| Step::Provider { left, for_s }),
        ]
    }

    /// Remembers every reservation by the windows it was counted in, and adds them all up each time.
    #[derive(Default)]
    struct Oracle {
        kept: Vec<(Windows, Amount)>,
    }

    impl Oracle {
        fn most(&self, of: impl Fn(&Windows) -> i64, amount: impl Fn(&Amount) -> u64) -> u64 {
            let mut sums = std::collections::BTreeMap::<i64, u64>::new();
            for (windows, kept) in &self.kept {
                *sums.entry(of(windows)).or_default() += amount(kept);
            }
            sums.into_values().max().unwrap_or(0)
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]
        #[test]
        fn no_interleaving_passes_a_limit(steps in proptest::collection::vec(step(), 1..120)) {
            let (mut tally, mut oracle, mut open) = (Tally::default(), Oracle::default(), Vec::<(usize, Windows, Amount)>::new());
            let mut now_s = 1_725_147_000_i64;
            for step in steps {
                match step {
                    Step::Reserve { tokens, cost } => {
                        let amount = Amount { requests: 1, tokens, cost_micros: cost };
                        tally.roll(windows(now_s));
                        let before = tally;
                        if tally.check(amount, &bounds(), UnixMs(now_s * 1_000)).is_ok() {
                            tally.count(tally.windows, amount.as_change());
                            tally.use_up(amount);
                            open.push((oracle.kept.len(), tally.windows, amount));
                            oracle.kept.push((tally.windows, amount));
                            let held = now_s * 1_000 < before.hold_requests.until_ms;
                            prop_assert!(!held || before.hold_requests.left > 0);
                        }
                    }
                    Step::Settle { which, part } if !open.is_empty() => {
                        let (at, when, asked) = open.swap_remove(which % open.len());
                        let used = Amount { requests: 1, tokens: asked.tokens * part / 100, cost_micros: asked.cost_micros * part / 100 };
                        tally.count(when, asked.towards(used));
                        oracle.kept[at].1 = used;
                    }
                    Step::Release { which } if !open.is_empty() => {
                        let (at, when, asked) = open.swap_remove(which % open.len());
                        tally.count(when, asked.towards(Amount::default()));
                        oracle.kept[at].1 = Amount::default();
                    }
                    Step::Abandon { which } if !open.is_empty() => {
                        open.swap_remove(which % open.len());
                    }
                    Step::Clock { by_s } => now_s += by_s,
                    Step::Provider { left, for_s } => {
                        tally.hold_requests = Hold { left, until_ms: (now_s + for_s) * 1_000 };
                    }
                    _ => {}
                }
                prop_assert!(oracle.most(|w| w.minute, |a| a.requests) <= 4);
                prop_assert!(oracle.most(|w| w.minute, |a| a.tokens) <= 40);
                prop_assert!(oracle.most(|w| w.day, |a| a.requests) <= LIMIT);
                prop_assert!(oracle.most(|w| w.day, |a| a.tokens) <= 90);
                prop_assert!(oracle.most(|w| w.day, |a| a.cost_micros) <= 70);
                prop_assert!(oracle.most(|w| w.month, |a| a.cost_micros) <= 200);
                let of = |windows: Windows| oracle.kept.iter().filter(|(w, _)| w.day == windows.day).map(|(_, a)| a.cost_micros).sum::<u64>();
                prop_assert_eq!(tally.day_cost, of(tally.windows), "the counter is the sum of what it counted");
            }
        }
    }

    #[test]
    fn a_clock_that_goes_back_does_not_open_a_window_anew() {
        let mut tally = Tally::default();
        let amount = Amount { requests: 4, tokens: 0, cost_micros: 0 };
        tally.count(windows(1_000_000), amount.as_change());
        tally.roll(windows(1_000_000 - 120));
        assert_eq!(tally.check(amount, &bounds(), UnixMs(0)), Err(Refused::RequestsPerMinute));
        tally.roll(windows(1_000_000 + 60));
        assert_eq!(tally.check(amount, &bounds(), UnixMs(0)), Ok(()));
    }

    #[test]
    fn each_counter_refuses_by_its_own_name() {
        let now = UnixMs(60_000);
        let one = Amount { requests: 1, tokens: 1, cost_micros: 1 };
        type Set = fn(&mut Tally);
        let cases: [(Set, Refused); 8] = [
            (|t| t.minute_requests = 4, Refused::RequestsPerMinute),
            (|t| t.day_requests = 10, Refused::RequestsPerDay),
            (|t| t.minute_tokens = 40, Refused::TokensPerMinute),
            (|t| t.day_tokens = 90, Refused::TokensPerDay),
            (|t| t.day_cost = 70, Refused::BudgetOfDay),
            (|t| t.month_cost = 200, Refused::BudgetOfMonth),
            (|t| t.hold_requests = Hold { left: 0, until_ms: 60_001 }, Refused::Provider),
            (|t| t.hold_tokens = Hold { left: 0, until_ms: 60_001 }, Refused::Provider),
        ];
        for (set, refused) in cases {
            let mut tally = Tally::default();
            assert_eq!(tally.check(one, &bounds(), now), Ok(()));
            set(&mut tally);
            assert_eq!(tally.check(one, &bounds(), now), Err(refused));
        }
        let over = Tally { hold_requests: Hold { left: 0, until_ms: 60_000 }, ..Tally::default() };
        assert_eq!(over.check(one, &bounds(), now), Ok(()), "the provider has reset");
    }

    #[test]
    fn alone_a_process_takes_a_share_of_what_is_left() {
        let known = Tally { day_requests: 4, month_cost: 300, ..Tally::default() };
        let alone = known.shared(&bounds(), |span| if span == Span::Minute { 100 } else { 500 });
        assert_eq!(alone.day_requests, Some(7));
        assert_eq!(alone.month_cost, Some(200), "never more than the bound");
        assert_eq!((alone.minute_requests, alone.minute_tokens), (Some(0), Some(4)));
        assert_eq!(known.shared(&Bounds::default(), |_| 500), Bounds::default());
    }
}
