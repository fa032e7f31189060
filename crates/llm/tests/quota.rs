//! Quotas against a real Valkey: at once, killed, frozen, shared, forgotten.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use domain::time::UnixMs;
use futures::future::join_all;
use llm::adapter::ProviderLimits;
use llm::quota::{Ask, Limits, Options, Quota, Record, RecordedUse, Refused, Reservation, Used};
use llm::redis_link::RedisLink;
use testkit::servers::{TestValkey, fresh_valkey, valkey};
use testkit::{VirtualClock, wait_until};

const BOUND: Duration = Duration::from_secs(20);
/// 2024-08-31T12:00:10Z.
const NOON: UnixMs = UnixMs(1_725_105_610_000);

/// A name no other test has: they share one Valkey.
fn name(word: &str) -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    format!("{word}-{}", NUMBER.fetch_add(1, Ordering::Relaxed))
}

fn patient() -> Options {
    // The machine of the tests is busy: an answer that is merely late must not make a decision alone.
    Options { answer_within: Duration::from_secs(10), ..Options::default() }
}

async fn quota_with(url: &str, tier: &str, limits: Limits, clock: &VirtualClock, options: Options) -> Quota {
    let limits = BTreeMap::from([(tier.to_owned(), limits)]);
    let quota = Quota::over(RedisLink::open(Some(url)), limits, Arc::new(clock.clone()), options).await;
    wait_until(BOUND, "Redis to be told", || async { !quota.state().degraded }).await;
    quota
}

async fn quota(url: &str, tier: &str, limits: Limits, clock: &VirtualClock) -> Quota {
    quota_with(url, tier, limits, clock, patient()).await
}

fn ask(tier: &str) -> Ask<'_> {
    Ask {
        tier,
        agent: "buy_bot",
        agent_cap_micros_per_month: None,
        priority: 5,
        tokens: 10,
        cost_micros: 7,
        deadline: Duration::from_secs(30),
    }
}

fn per_day(requests: u64) -> Limits {
    Limits { requests_per_day: Some(requests), ..Limits::default() }
}

fn used(tokens: u64, cost_micros: u64) -> Used {
    Used { tokens, cost_micros, estimated: false }
}

type Outcome = Result<Reservation, (Refused, Duration)>;

/// What was let through, and how many were refused for this reason; another reason fails.
fn split(outcomes: Vec<Outcome>, reason: Refused) -> (Vec<Reservation>, usize) {
    let mut passed = Vec::new();
    let mut refused = 0;
    for outcome in outcomes {
        match outcome {
            Ok(reservation) => passed.push(reservation),
            Err((why, _)) => {
                assert_eq!(why, reason);
                refused += 1;
            }
        }
    }
    (passed, refused)
}

async fn many(quota: &Quota, ask: Ask<'_>, count: usize) -> Vec<Outcome> {
    join_all((0..count).map(|_| quota.reserve(ask))).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_200_at_once_exactly_the_limit_pass_and_not_a_cent_more_than_the_budget() {
    let clock = VirtualClock::at(NOON);
    let tier = name("requests");
    let by_requests = quota(&valkey().url(), &tier, per_day(60), &clock).await;
    let (passed, refused) = split(many(&by_requests, ask(&tier), 200).await, Refused::RequestsPerDay);
    assert_eq!((passed.len(), refused), (60, 140));
    assert!(passed.iter().all(|reservation| !reservation.degraded()));

    let tier = name("budget");
    let limits = Limits { usd_micros_per_month: Some(1_000), ..Limits::default() };
    let by_budget = quota(&valkey().url(), &tier, limits, &clock).await;
    let asks = (0..200_u64).map(|number| {
        let (tier, by_budget, cost_micros) = (tier.as_str(), &by_budget, 5 + number % 13);
        async move { (cost_micros, by_budget.reserve(Ask { cost_micros, ..ask(tier) }).await) }
    });
    let outcomes = join_all(asks).await;
    let spent: u64 = outcomes.iter().filter(|(_, outcome)| outcome.is_ok()).map(|(cost, _)| cost).sum();
    assert!(spent <= 1_000 && spent > 1_000 - 17, "{spent}");
    assert_eq!(by_budget.state().tiers[&tier].month_usd_micros, spent);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_routers_on_one_valkey_together_never_pass() {
    let clock = VirtualClock::at(NOON);
    let (tier, agent) = (name("two"), name("agent"));
    let limits = || Limits { requests_per_minute: Some(50), ..Limits::default() };
    let first = quota(&valkey().url(), &tier, limits(), &clock).await;
    let second = quota(&valkey().url(), &tier, limits(), &clock).await;
    let asked = Ask { agent: &agent, agent_cap_micros_per_month: Some(7 * 30), ..ask(&tier) };
    let (left, right) = tokio::join!(many(&first, asked, 100), many(&second, asked, 100));
    let (passed, refused) = split(left.into_iter().chain(right).collect(), Refused::AgentCap);
    assert_eq!((passed.len(), refused), (30, 170), "the agent's cap is the smaller");
    let (passed_too, _) = split(many(&second, ask(&tier), 100).await, Refused::RequestsPerMinute);
    assert_eq!(passed_too.len(), 20, "what the agent was let through counts for the tier");
}

#[tokio::test]
async fn what_is_settled_counts_as_used_and_what_failed_counts_nothing() {
    let clock = VirtualClock::at(NOON);
    let tier = name("settle");
    let limits = Limits { tokens_per_minute: Some(1_000), usd_micros_per_day: Some(1_000), ..per_day(100) };
    let quota = quota(&valkey().url(), &tier, limits.clone(), &clock).await;
    let asked = Ask { tokens: 400, cost_micros: 300, ..ask(&tier) };
    let (one, two) = (quota.reserve(asked).await.unwrap(), quota.reserve(asked).await.unwrap());
    assert_eq!(quota.reserve(asked).await.unwrap_err(), (Refused::TokensPerMinute, Duration::from_secs(50)));
    quota.settle(one, used(100, 20));
    quota.release(two);
    assert!(quota.told(BOUND).await);
    let state = quota.state().tiers[&tier].clone();
    assert_eq!((state.day_requests, state.day_tokens, state.day_usd_micros, state.open), (1, 100, 20, 0));
    drop(quota.reserve(asked).await.unwrap());
    assert!(quota.told(BOUND).await);
    assert_eq!(quota.state().tiers[&tier].day_usd_micros, 320, "a dropped one counts in full");
    let again = quota_with(&valkey().url(), &tier, limits, &clock, patient()).await;
    let state = again.state().tiers[&tier].clone();
    assert_eq!((state.day_requests, state.day_tokens, state.day_usd_micros), (2, 500, 320), "Redis knows the same");
    clock.advance_ms(50_000);
    let state = again.reserve(Ask { tokens: 1_000, ..asked }).await;
    assert!(state.is_ok(), "a new minute has all its tokens");
}

#[tokio::test]
async fn the_buffer_is_for_high_priorities_alone() {
    let clock = VirtualClock::at(NOON);
    let tier = name("buffer");
    let limits = Limits { buffer_requests: 4, buffer_from_priority: 7, ..per_day(10) };
    let quota = quota(&valkey().url(), &tier, limits, &clock).await;
    let (low, refused) = split(many(&quota, ask(&tier), 20).await, Refused::RequestsPerDay);
    assert_eq!((low.len(), refused), (6, 14));
    let (high, refused) = split(many(&quota, Ask { priority: 7, ..ask(&tier) }, 20).await, Refused::RequestsPerDay);
    assert_eq!((high.len(), refused), (4, 16));
}

#[tokio::test]
async fn a_reservation_of_a_router_that_was_killed_counts_in_full_and_can_not_be_settled_late() {
    let clock = VirtualClock::at(NOON);
    let tier = name("abandoned");
    let first = quota(&valkey().url(), &tier, per_day(3), &clock).await;
    let asked = Ask { cost_micros: 100, ..ask(&tier) };
    let lost = first.reserve(asked).await.unwrap();
    let late = first.reserve(asked).await.unwrap();
    std::mem::forget(lost);
    clock.advance_ms(89_000);
    let second = quota(&valkey().url(), &tier, per_day(3), &clock).await;
    let third = second.reserve(asked).await.unwrap();
    assert_eq!(second.reserve(asked).await.unwrap_err().0, Refused::RequestsPerDay);
    clock.advance_ms(2_000);
    assert_eq!(second.reserve(asked).await.unwrap_err().0, Refused::RequestsPerDay, "its end gives nothing back");
    second.release(third);
    assert!(second.told(BOUND).await);
    // Deadline and grace are over, and the second router has met it.
    first.release(late);
    assert!(first.told(BOUND).await);
    let again = quota(&valkey().url(), &tier, per_day(3), &clock).await;
    let state = again.state().tiers[&tier].clone();
    assert_eq!((state.day_requests, state.day_usd_micros), (2, 200));
}

#[tokio::test]
async fn a_provider_that_has_less_left_is_believed_and_one_that_has_more_is_not() {
    let clock = VirtualClock::at(NOON);
    let tier = name("provider");
    let limits = Limits { tokens_per_minute: Some(1_000), ..per_day(10) };
    let first = quota(&valkey().url(), &tier, limits.clone(), &clock).await;
    let other = quota(&valkey().url(), &tier, limits, &clock).await;
    let says = |remaining, seconds| ProviderLimits {
        remaining_requests: Some(remaining),
        reset_requests: Some(Duration::from_secs(seconds)),
        ..ProviderLimits::default()
    };
    first.observed(&tier, says(14_000, 60));
    assert_eq!(first.state().tiers[&tier].provider_requests_left, None);
    first.observed(&tier, says(2, 40));
    assert!(first.told(BOUND).await);
    let (passed, refused) = split(many(&other, ask(&tier), 5).await, Refused::Provider);
    assert_eq!((passed.len(), refused), (2, 3), "the other router knows it too");
    assert_eq!(other.reserve(ask(&tier)).await.unwrap_err().1, Duration::from_secs(40));
    for reservation in passed {
        other.release(reservation);
    }
    assert!(other.told(BOUND).await);
    assert_eq!(other.reserve(ask(&tier)).await.unwrap_err().0, Refused::Provider, "only the provider gives back");
    clock.advance_ms(40_000);
    let (passed, refused) = split(many(&other, ask(&tier), 12).await, Refused::RequestsPerDay);
    assert_eq!((passed.len(), refused), (10, 2), "after the reset our own limit holds");
    let tokens = ProviderLimits {
        remaining_tokens: Some(9),
        reset_tokens: Some(Duration::from_secs(5)),
        ..ProviderLimits::default()
    };
    first.observed(&tier, tokens);
    for reservation in passed {
        other.release(reservation);
    }
    assert!(first.told(BOUND).await && other.told(BOUND).await);
    assert_eq!(other.reserve(ask(&tier)).await.unwrap_err(), (Refused::Provider, Duration::from_secs(5)));
}

#[tokio::test]
async fn a_tier_without_limits_asks_nobody() {
    let clock = VirtualClock::at(NOON);
    let own = fresh_valkey();
    let quota = quota(&own.url(), "limited", per_day(5), &clock).await;
    own.freeze();
    let started = tokio::time::Instant::now();
    let reservation = quota.reserve(ask("free")).await.unwrap();
    assert!(!reservation.degraded() && started.elapsed() < Duration::from_secs(5));
    quota.settle(reservation, used(1, 1));
    assert!(!quota.state().degraded, "nothing was asked, so nothing was missed");
    own.thaw();
    let capped = Ask { agent_cap_micros_per_month: Some(10), ..ask("free") };
    assert!(quota.reserve(capped).await.is_ok());
    assert_eq!(quota.reserve(capped).await.unwrap_err().0, Refused::AgentCap, "an agent's money counts on every tier");
    assert!(quota.reserve(Ask { cost_micros: 0, ..capped }).await.is_ok());
}

async fn alone(quota: &Quota, tier: &str) {
    wait_until(BOUND, "Redis to be missed", || async {
        if let Ok(reservation) = quota.reserve(ask(tier)).await {
            quota.release(reservation);
        }
        quota.state().degraded
    })
    .await;
}

async fn together(quota: &Quota) {
    wait_until(BOUND, "Redis to be told", || async { !quota.state().degraded }).await;
}

fn kill(own: &TestValkey) {
    own.kill();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_valkey_makes_decisions_careful_and_what_was_counted_meanwhile_counts_once() {
    let clock = VirtualClock::at(NOON);
    let (own, tier) = (fresh_valkey(), "groq");
    let quota = quota(&own.url(), tier, per_day(100), &clock).await;
    let (kept, _) = split(many(&quota, ask(tier), 40).await, Refused::RequestsPerDay);
    kill(&own);
    alone(&quota, tier).await;
    let (mut meanwhile, refused) = split(many(&quota, ask(tier), 200).await, Refused::RequestsPerDay);
    assert_eq!((meanwhile.len(), refused), (30, 170), "half of the 60 that are left");
    assert!(meanwhile.iter().all(Reservation::degraded));
    quota.release(meanwhile.pop().unwrap());
    quota.settle(meanwhile.pop().unwrap(), used(1, 1));

    own.start_again();
    together(&quota).await;
    let state = quota.state().tiers[tier].clone();
    assert_eq!((state.day_requests, state.day_usd_micros), (69, 68 * 7 + 1), "an empty Redis knows all of it, once");
    let (more, refused) = split(many(&quota, ask(tier), 200).await, Refused::RequestsPerDay);
    assert_eq!((more.len(), refused), (31, 169), "exactly the limit");
    for reservation in kept.into_iter().chain(meanwhile).chain(more) {
        quota.release(reservation);
    }
    assert!(quota.told(BOUND).await);
    let again = quota_with(&own.url(), tier, per_day(100), &clock, patient()).await;
    let state = again.state().tiers[tier].clone();
    assert_eq!((state.day_requests, state.day_usd_micros), (1, 1), "what was released is released in new data too");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_routers_that_lost_their_valkey_bring_what_each_counted() {
    let clock = VirtualClock::at(NOON);
    let (own, tier) = (fresh_valkey(), "groq");
    let first = quota(&own.url(), tier, per_day(100), &clock).await;
    let second = quota(&own.url(), tier, per_day(100), &clock).await;
    let mut all = many(&first, ask(tier), 10).await;
    all.extend(many(&second, ask(tier), 10).await);
    kill(&own);
    alone(&first, tier).await;
    alone(&second, tier).await;
    all.extend(many(&first, ask(tier), 5).await);
    all.extend(many(&second, ask(tier), 7).await);
    assert!(all.iter().all(Result::is_ok));
    own.start_again();
    together(&first).await;
    together(&second).await;
    let (passed, _) = split(many(&first, ask(tier), 200).await, Refused::RequestsPerDay);
    assert_eq!(passed.len(), 100 - 32);
    drop(all);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_valkey_costs_one_short_wait_and_nothing_is_counted_twice_when_it_thaws() {
    let clock = VirtualClock::at(NOON);
    let (own, tier) = (fresh_valkey(), "groq");
    let options = Options { answer_within: Duration::from_millis(50), ..Options::default() };
    let quota = quota_with(&own.url(), tier, per_day(100), &clock, options).await;
    own.freeze();
    let started = tokio::time::Instant::now();
    let outcomes = tokio::time::timeout(BOUND, many(&quota, ask(tier), 200)).await.expect("no hang");
    let took = started.elapsed();
    assert!(took < Duration::from_secs(3), "{took:?}");
    let (passed, refused) = split(outcomes, Refused::RequestsPerDay);
    assert_eq!((passed.len(), refused), (50, 150), "half of what was left");
    let started = tokio::time::Instant::now();
    assert!(quota.reserve(ask(tier)).await.is_err());
    assert!(started.elapsed() < Duration::from_millis(45), "who knows that it is away does not wait for it");
    own.thaw();
    together(&quota).await;
    // Copies that the frozen server still had to read come after what it was told, or before: they are the same requests.
    assert!(quota.told(BOUND).await);
    assert_eq!(quota.state().tiers[tier].day_requests, 50);
    for reservation in passed {
        quota.settle(reservation, used(1, 1));
    }
    assert!(quota.told(BOUND).await);
    let again = quota_with(&own.url(), tier, per_day(100), &clock, patient()).await;
    let state = again.state().tiers[tier].clone();
    assert_eq!((state.day_requests, state.day_usd_micros), (50, 50));
    let (more, _) = split(many(&again, ask(tier), 200).await, Refused::RequestsPerDay);
    assert_eq!(more.len(), 50);
}

#[tokio::test]
async fn what_the_record_says_is_not_forgotten_with_redis() {
    let clock = VirtualClock::at(NOON);
    let (own, tier) = (fresh_valkey(), "groq");
    let limits = Limits { usd_micros_per_month: Some(1_000), ..per_day(100) };
    let recorded = RecordedUse { day_requests: 90, month_usd_micros: 500, ..RecordedUse::default() };
    let record = Record {
        tiers: BTreeMap::from([(tier.to_owned(), recorded)]),
        agents: BTreeMap::from([("buy_bot".to_owned(), 60)]),
    };
    let options = Options { record: Some(record), ..patient() };
    for _ in 0..2 {
        // The second time Redis knows it already: the larger counts, not the sum.
        let quota = quota_with(&own.url(), tier, limits.clone(), &clock, options.clone()).await;
        let state = quota.state();
        assert_eq!((state.tiers[tier].day_requests, state.tiers[tier].month_usd_micros), (90, 500));
        let capped = Ask { agent_cap_micros_per_month: Some(66), ..ask(tier) };
        assert_eq!(quota.reserve(capped).await.unwrap_err().0, Refused::AgentCap);
        let more = Ask { cost_micros: 501, ..ask(tier) };
        assert_eq!(quota.reserve(more).await.unwrap_err().0, Refused::BudgetOfMonth);
    }
}

#[tokio::test]
async fn without_redis_and_without_a_record_only_a_small_part_is_used() {
    let clock = VirtualClock::at(NOON);
    let limits = || Limits { requests_per_minute: Some(100), ..per_day(1_000) };
    let tier = "groq";
    let map = || BTreeMap::from([(tier.to_owned(), limits())]);
    let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).unwrap().port();
    let nowhere = format!("redis://a:secret@127.0.0.1:{port}/");
    let quota = Quota::over(RedisLink::open(Some(&nowhere)), map(), Arc::new(clock.clone()), Options::default()).await;
    let (passed, _) = split(many(&quota, ask(tier), 200).await, Refused::RequestsPerMinute);
    assert_eq!(passed.len(), 10, "a tenth where nothing is known");
    clock.advance_ms(60_000);
    let (passed, _) = split(many(&quota, ask(tier), 200).await, Refused::RequestsPerMinute);
    assert_eq!(passed.len(), 50, "half of a minute that this process saw begin");
    let options = Options { record: Some(Record::default()), share_alone_permille: 1_000, ..Options::default() };
    let sole = Quota::over(RedisLink::open(None), map(), Arc::new(clock.clone()), options).await;
    let (passed, _) = split(many(&sole, ask(tier), 200).await, Refused::RequestsPerMinute);
    assert_eq!(passed.len(), 100, "a single router without Redis by choice");
}

#[tokio::test]
async fn a_caller_that_goes_away_while_redis_is_asked_leaves_nothing_counted() {
    let clock = VirtualClock::at(NOON);
    let (own, tier) = (fresh_valkey(), "groq");
    let quota = quota(&own.url(), tier, per_day(10), &clock).await;
    own.freeze();
    let gone = tokio::time::timeout(Duration::from_millis(20), quota.reserve(ask(tier))).await;
    assert!(gone.is_err());
    own.thaw();
    assert!(quota.told(BOUND).await);
    let (passed, _) = split(many(&quota, ask(tier), 20).await, Refused::RequestsPerDay);
    assert_eq!(passed.len(), 10);
}

/// A small generator: the same draws at each run.
struct Draws(u64);

impl Draws {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

/// One router with Redis and one that counts alone, asked and told the same.
struct Twins {
    tier: String,
    agent: String,
    shared: Quota,
    alone: Quota,
    open: Vec<(Reservation, Reservation, u64, u64)>,
}

impl Twins {
    async fn ask(&mut self, draws: &mut Draws) -> Option<Refused> {
        let asked = Ask {
            agent: &self.agent,
            agent_cap_micros_per_month: (draws.below(3) == 0).then_some(150),
            priority: u8::try_from(draws.below(10)).unwrap(),
            tokens: draws.below(120),
            cost_micros: draws.below(60),
            // What ends unsettled is another test.
            deadline: Duration::from_secs(1_000_000),
            ..ask(&self.tier)
        };
        match (self.shared.reserve(asked).await, self.alone.reserve(asked).await) {
            (Ok(one), Ok(two)) => self.open.push((one, two, asked.tokens, asked.cost_micros)),
            (Err(one), Err(two)) => {
                assert_eq!(one, two);
                return Some(one.0);
            }
            (one, two) => panic!("{one:?} {two:?}"),
        }
        None
    }

    fn settle(&mut self, draws: &mut Draws) {
        let Some(count) = u64::try_from(self.open.len()).ok().filter(|count| *count > 0) else { return };
        let (one, two, tokens, cost) = self.open.swap_remove(usize::try_from(draws.below(count)).unwrap());
        let used = used(draws.below(tokens + 1), draws.below(cost + 1));
        if draws.below(4) == 0 {
            self.shared.release(one);
            self.alone.release(two);
        } else {
            self.shared.settle(one, used);
            self.alone.settle(two, used);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_scripts_follow_the_same_rules_as_a_process_alone() {
    let clock = VirtualClock::at(NOON);
    let tier = name("alike");
    let limits = Limits {
        requests_per_minute: Some(6),
        requests_per_day: Some(40),
        tokens_per_minute: Some(250),
        tokens_per_day: Some(900),
        usd_micros_per_day: Some(450),
        usd_micros_per_month: Some(800),
        buffer_requests: 5,
        buffer_from_priority: 7,
        day_starts_at_minutes_utc: -90,
    };
    let shared = quota(&valkey().url(), &tier, limits.clone(), &clock).await;
    let options = Options { share_alone_permille: 1_000, record: Some(Record::default()), ..patient() };
    let map = BTreeMap::from([(tier.clone(), limits)]);
    let alone = Quota::over(RedisLink::open(None), map, Arc::new(clock.clone()), options).await;
    let mut twins = Twins { agent: name("agent"), tier, shared, alone, open: Vec::new() };
    let (mut draws, mut seen) = (Draws(7), std::collections::BTreeSet::new());
    for step in 0..2_000 {
        match draws.below(10) {
            0..6 => seen.extend(twins.ask(&mut draws).await),
            6..8 => twins.settle(&mut draws),
            // Back too.
            8 => clock.advance_ms(i64::try_from(draws.below(60_000)).unwrap() - 5_000),
            _ if draws.below(12) == 0 => {
                while !twins.open.is_empty() {
                    twins.settle(&mut draws);
                }
                clock.advance_ms(i64::try_from(draws.below(20_000_000)).unwrap());
            }
            _ => {}
        }
        assert!(twins.shared.told(BOUND).await);
        let (one, two) = (twins.shared.state().tiers, twins.alone.state().tiers);
        assert_eq!(one, two, "step {step}");
    }
    assert!(seen.len() == 7, "{seen:?}");
}
