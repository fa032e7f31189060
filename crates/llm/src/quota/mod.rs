//! Quotas and budgets: reserve before a request runs, settle after it, atomically in Redis, so that no number of requests
//! at once passes a limit.
//!
//! A reservation counts in full from the moment it is made, in the windows (minute, day and month of the provider) of that
//! moment. Settling it puts what was used in place of what was asked; releasing it takes it away. One that nobody settles
//! counts in full for good: the call may have been made. It may be settled until its deadline and a grace are over; whoever
//! counts next closes it then.
//!
//! Redis may lose everything at any moment. Each process knows the counters that it was told last and what it has done
//! since; while Redis is away it decides by that, takes no more than a share of what seems left, and marks its decisions
//! `degraded`. When Redis is back each process brings what it knows: of what was counted before a loss the largest word
//! counts, and on top of it what each process counted alone, once, by an id. A process that has just begun brings the
//! [`Record`] it was given. Two processes that are both left alone may together take more than one would, as far as
//! their knowledge of each other was old; a single one never passes a limit.
//!
//! Redis' keys: `llm:quota:tier:<tier>` (counters), `llm:quota:open:<tier>` (open reservations by their end), and
//! `llm:quota:agents` (money of agents by month). None has a time to live, so that a full memory lets go of cached answers
//! and never of counters; each is of a fixed size but for what is open, which ends.

mod book;
mod limits;
mod reservation;
mod state;
mod tally;
mod wire;
mod worker;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use domain::time::{Clock, UnixMs};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::adapter::ProviderLimits;
use crate::redis_link::{Connected, RedisLink};
use book::{Answer, Book, Books, Held, Name, Reserved};
pub use limits::{Ask, LARGEST, Limits, Prices, Refused, Used, Windows, bound_prompt_tokens};
pub use reservation::Reservation;
pub use state::{QuotaState, Record, RecordedUse, TierState};
use tally::{Amount, Hold};
use wire::Scripts;

/// How long Redis remembers the id of something that it was told once, ms. A copy that was under way for longer would count
/// again, which is the safe side.
const REMEMBERED_MS: i64 = 3_600_000;

/// Stands for tiers without limits, where only an agent's money is counted.
const NO_TIER: &str = "";

/// How a [`Quota`] behaves.
#[derive(Debug, Clone)]
pub struct Options {
    /// Longest wait for Redis' decision before this process decides alone.
    pub answer_within: Duration,
    /// How long after its deadline a reservation may still be settled.
    pub grace: Duration,
    /// What a process that is left alone takes of what it believes to be left, thousandths. With several routers on one
    /// account: at most 1,000 by their number. 1,000 for a single router that has no Redis by choice.
    pub share_alone_permille: u64,
    /// The same where nothing is known of what was used before.
    pub share_unknown_permille: u64,
    /// What was used before this process began. `None`: unknown.
    pub record: Option<Record>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            answer_within: Duration::from_millis(50),
            grace: Duration::from_secs(60),
            share_alone_permille: 500,
            share_unknown_permille: 100,
            record: None,
        }
    }
}

struct Shared {
    link: Arc<RedisLink>,
    clock: Arc<dyn Clock>,
    scripts: Scripts,
    options: Options,
    ids: AtomicU64,
    books: Mutex<Books>,
    /// There is something to tell, or Redis must be told everything anew.
    work: Notify,
}

/// Quotas and budgets of all tiers. Dropping it ends its task; what was not told by then counts in full.
pub struct Quota {
    shared: Arc<Shared>,
    worker: JoinHandle<()>,
}

impl std::fmt::Debug for Quota {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Quota").field("redis", &self.shared.link.is_up()).finish_non_exhaustive()
    }
}

/// A question to Redis whose asker may go away before the answer: then the request does not run, and Redis must hear that.
struct Asking<'a> {
    shared: &'a Shared,
    of: Option<&'a Reserved>,
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        if let Some(of) = self.of {
            self.shared.books().take_back(of);
            self.shared.work.notify_one();
        }
    }
}

impl Shared {
    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next_id(&self) -> u64 {
        self.ids.fetch_add(1, Ordering::Relaxed)
    }

    /// Redis did not answer as it should on this connection: this process is alone until it told everything anew.
    fn failed(&self, connection: u64, error: Option<&redis::RedisError>) {
        let mut books = self.books();
        if books.ready == Some(connection) {
            books.ready = None;
            tracing::warn!(code = error.and_then(redis::RedisError::code), "quotas are counted without Redis");
        }
        drop(books);
        // An answer in time, however bad, is no fault of the connection.
        if error.is_none_or(|error| error.is_io_error() || error.is_timeout() || error.is_connection_dropped()) {
            self.link.failed(connection);
        }
        self.work.notify_one();
    }
}

impl Quota {
    /// Connects to Redis and brings what is known to it; never fails: without Redis it counts alone. Waits for Redis half a
    /// second at most. Must be called within a Tokio runtime.
    pub async fn connect(url: Option<&str>, limits: BTreeMap<String, Limits>, clock: Arc<dyn Clock>) -> Self {
        Self::over(RedisLink::open(url), limits, clock, Options::default()).await
    }

    /// [`Self::connect`] over a link that others may share, and with options.
    pub async fn over(
        link: Arc<RedisLink>,
        limits: BTreeMap<String, Limits>,
        clock: Arc<dyn Clock>,
        options: Options,
    ) -> Self {
        let now = clock.now();
        let limits = limits.into_iter().filter(|(_, limits)| !limits.is_unlimited());
        let mut books = Books::new((options.share_alone_permille, options.share_unknown_permille));
        books.agents.month = Windows::at(now, 0).month;
        for (tier, limits) in limits.chain([(NO_TIER.to_owned(), Limits::default())]) {
            let mut book = Book::new(limits, now);
            if let Some(record) = &options.record {
                let used = record.tiers.get(&tier).copied().unwrap_or_default();
                book.informed = true;
                book.known.day_requests = used.day_requests;
                book.known.day_tokens = used.day_tokens;
                book.known.day_cost = used.day_usd_micros;
                book.known.month_cost = used.month_usd_micros;
            }
            books.tiers.insert(Name::from(tier), book);
        }
        if let Some(record) = &options.record {
            books.agents.informed = true;
            books.agents.spent =
                record.agents.iter().map(|(name, micros)| (Name::from(name.as_str()), *micros)).collect();
        }
        let shared = Arc::new(Shared {
            link,
            clock,
            scripts: Scripts::new(rand::random()),
            options,
            ids: AtomicU64::new(1),
            books: Mutex::new(books),
            work: Notify::new(),
        });
        let worker = tokio::spawn(worker::run(Arc::clone(&shared)));
        let quota = Self { shared, worker };
        if quota.shared.link.is_configured() {
            quota.told(Duration::from_millis(500)).await;
        }
        quota
    }

    /// The link to Redis, for whoever else stores something there.
    #[must_use]
    pub fn link(&self) -> &Arc<RedisLink> {
        &self.shared.link
    }

    /// Makes room for a request, in one round trip; without Redis, or when it does not answer in time, by this process alone.
    ///
    /// # Errors
    /// Why there is no room, and when there may be some again.
    pub async fn reserve(&self, ask: Ask<'_>) -> Result<Reservation, (Refused, Duration)> {
        let shared = &*self.shared;
        let now = shared.clock.now();
        let Some((of, limits)) = self.counted(&ask, now)? else {
            return Ok(Reservation::new(&self.shared, None, false));
        };
        let bounds = limits.bounds(ask.priority);
        let cap = ask.agent_cap_micros_per_month.map(|cap| cap.min(LARGEST));
        let mut asked = false;
        // A second try on a newer connection carries the same id, so that both count once.
        for _ in 0..2 {
            let (connected, lives) = {
                let books = shared.books();
                let Some(connected) = shared.link.connection().filter(|c| books.ready == Some(c.number)) else { break };
                let life = books.tiers.get(&of.tier).map_or_else(|| Name::from(""), |book| Arc::clone(&book.life));
                (connected, (life, Arc::clone(&books.agents.life)))
            };
            let number = connected.number;
            let cmd = shared.scripts.reserve(&of, (&lives.0, &lives.1), &bounds, cap, now.0);
            match self.ask(connected, cmd, &of).await {
                Some(Ok(answer)) if answer.code < 0 => {
                    shared.failed(number, Some(&worker::another_life()));
                    break;
                }
                Some(Ok(answer)) => {
                    if let Some(decided) = self.decided(&of, &answer, (number, lives.0), asked, now, &limits) {
                        return decided;
                    }
                    asked = true;
                    break;
                }
                Some(Err(error)) => {
                    asked = true;
                    shared.failed(number, Some(&error));
                }
                None => {
                    asked = true;
                    shared.failed(number, None);
                }
            }
        }
        self.alone(of, &bounds, cap, asked, now, &limits)
    }

    /// What of an ask is counted. `None`: nothing.
    fn counted(&self, ask: &Ask<'_>, now: UnixMs) -> Result<Option<(Reserved, Limits)>, (Refused, Duration)> {
        let books = self.shared.books();
        let tier = books.tiers.get_key_value(ask.tier);
        let agent = ask.agent_cap_micros_per_month.filter(|_| ask.cost_micros > 0);
        if tier.is_none() && agent.is_none() {
            return Ok(None);
        }
        let limits = tier.map_or_else(Limits::default, |(_, book)| book.limits.clone());
        if ask.tokens > LARGEST || ask.cost_micros > LARGEST {
            let refused = if ask.tokens > LARGEST { Refused::TokensPerDay } else { Refused::BudgetOfMonth };
            return Err((refused, limits::until_end(refused, now, limits.day_starts_at_minutes_utc)));
        }
        let open_for = ask.deadline.saturating_add(self.shared.options.grace);
        let reserved = Reserved {
            id: self.shared.next_id(),
            tier: tier.map_or_else(|| Name::from(NO_TIER), |(name, _)| Arc::clone(name)),
            windows: Windows::at(now, limits.day_starts_at_minutes_utc),
            asked: Amount { requests: 1, tokens: ask.tokens, cost_micros: ask.cost_micros },
            ends_ms: now.plus_ms(i64::try_from(open_for.as_millis()).unwrap_or(i64::MAX)).0,
            agent: agent.map(|_| (Name::from(ask.agent), Windows::at(now, 0).month)),
        };
        Ok(Some((reserved, limits)))
    }

    /// Asks Redis. `None`: no answer in time.
    async fn ask(&self, connected: Connected, cmd: redis::Cmd, of: &Reserved) -> Option<redis::RedisResult<Answer>> {
        let mut connection = connected.connection;
        let mut asking = Asking { shared: &self.shared, of: Some(of) };
        let asked =
            tokio::time::timeout(self.shared.options.answer_within, cmd.query_async::<redis::Value>(&mut connection));
        let answer = asked.await;
        asking.of = None;
        Some(answer.ok()?.and_then(wire::answer))
    }

    /// Applies Redis' decision. `None`: Redis was lost or taken for lost while it answered, so nobody knows whether its data
    /// still holds this; or it answered a second copy, and the first may still come.
    fn decided(
        &self,
        of: &Reserved,
        answer: &Answer,
        (connection, life): (u64, Name),
        asked_before: bool,
        now: UnixMs,
        limits: &Limits,
    ) -> Option<Result<Reservation, (Refused, Duration)>> {
        let mut books = self.shared.books();
        let lives_on = books.tiers.get(&of.tier).is_some_and(|book| book.life == life);
        if books.ready != Some(connection) || !lives_on {
            return None;
        }
        if asked_before && answer.code == 0 {
            return None;
        }
        books.hear(of, answer);
        if let Some(refused) = wire::refusal(answer.code) {
            if asked_before {
                books.take_back(of);
                self.shared.work.notify_one();
            }
            return Some(Err(refuse(refused, &answer.tally, of, now, limits)));
        }
        Some(Ok(self.keep(&mut books, of.clone(), Held::Shared(life), false)))
    }

    fn alone(
        &self,
        of: Reserved,
        bounds: &limits::Bounds,
        cap: Option<u64>,
        asked: bool,
        now: UnixMs,
        limits: &Limits,
    ) -> Result<Reservation, (Refused, Duration)> {
        let mut books = self.shared.books();
        books.degraded += 1;
        let decided = match books.check_alone(&of, bounds, cap, now) {
            Ok(()) => {
                let held = books.hold(&of, asked);
                Ok(self.keep(&mut books, of, held, true))
            }
            Err(refused) => {
                if asked {
                    books.take_back(&of);
                }
                Err(refuse(refused, &books.view(&of.tier, of.windows), &of, now, limits))
            }
        };
        books.end_alone();
        drop(books);
        self.shared.work.notify_one();
        metrics::counter!("llm_quota_degraded_total").increment(1);
        decided
    }

    fn keep(&self, books: &mut Books, of: Reserved, held: Held, degraded: bool) -> Reservation {
        if let Some(book) = books.tiers.get_mut(&of.tier) {
            book.open += 1;
        }
        Reservation::new(&self.shared, Some((of, held)), degraded)
    }

    /// Says what a request used. Does not wait. More than was reserved counts as it is: it was spent.
    pub fn settle(&self, mut reservation: Reservation, used: Used) {
        if let Some(of) = reservation.reserved()
            && used.cost_micros > of.asked.cost_micros
        {
            metrics::counter!("llm_quota_over_reservation_total", "tier" => of.tier.to_string()).increment(1);
            tracing::warn!(tier = &*of.tier, used.tokens, used.cost_micros, "a request used more than its upper bound");
        }
        if used.estimated {
            metrics::counter!("llm_quota_estimated_total").increment(1);
        }
        let (tokens, cost_micros) = (used.tokens.min(LARGEST), used.cost_micros.min(LARGEST));
        reservation.close(Some(Amount { requests: 1, tokens, cost_micros }));
    }

    /// Says that a request failed and cost nothing. Does not wait.
    pub fn release(&self, mut reservation: Reservation) {
        reservation.close(Some(Amount::default()));
    }

    /// Hears what a provider's answer says is left, of a tier that has limits. Less than we think holds until its reset; more changes nothing.
    pub fn observed(&self, tier: &str, headers: ProviderLimits) {
        let now = self.shared.clock.now();
        let mut books = self.shared.books();
        let Some((name, book)) = books.tiers.get_key_value(tier) else { return };
        let (name, limits, windows) =
            (Arc::clone(name), book.limits.clone(), Windows::at(now, book.limits.day_starts_at_minutes_utc));
        let known = books.view(tier, windows);
        let left = |pairs: [(Option<u64>, u64); 2]| {
            pairs.into_iter().filter_map(|(limit, used)| Some(limit?.saturating_sub(used))).min().unwrap_or(u64::MAX)
        };
        let hold = |remaining: Option<u64>, reset: Option<Duration>, ours: u64, before: Hold| {
            let reset_ms = i64::try_from(reset?.as_millis()).unwrap_or(i64::MAX);
            let remaining = remaining?.min(LARGEST);
            (remaining < ours || now.0 < before.until_ms)
                .then(|| Hold { left: remaining, until_ms: now.plus_ms(reset_ms).0 })
        };
        let requests =
            left([(limits.requests_per_minute, known.minute_requests), (limits.requests_per_day, known.day_requests)]);
        let tokens = left([(limits.tokens_per_minute, known.minute_tokens), (limits.tokens_per_day, known.day_tokens)]);
        let said = (
            hold(headers.remaining_requests, headers.reset_requests, requests, known.hold_requests),
            hold(headers.remaining_tokens, headers.reset_tokens, tokens, known.hold_tokens),
        );
        if said == (None, None) {
            return;
        }
        if let Some(book) = books.tiers.get_mut(tier) {
            book.known.hold_requests = said.0.unwrap_or(book.known.hold_requests);
            book.known.hold_tokens = said.1.unwrap_or(book.known.hold_tokens);
        }
        let waiting = books.observed.entry(name).or_default();
        waiting.0 = said.0.unwrap_or(waiting.0);
        waiting.1 = said.1.unwrap_or(waiting.1);
        drop(books);
        self.shared.work.notify_one();
    }

    /// Waits until Redis was told everything, at most `within`; `false` when it was not. For a process that ends well.
    pub async fn told(&self, within: Duration) -> bool {
        let is_told = || {
            let books = self.shared.books();
            books.ready.is_some() && books.is_told()
        };
        let wait = async {
            while !is_told() {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(within, wait).await.is_ok()
    }
}

impl Drop for Quota {
    fn drop(&mut self) {
        self.worker.abort();
    }
}

fn refuse(refused: Refused, tally: &tally::Tally, of: &Reserved, now: UnixMs, limits: &Limits) -> (Refused, Duration) {
    metrics::counter!("llm_quota_refused_total", "tier" => of.tier.to_string(), "reason" => refused.code())
        .increment(1);
    let starts = if refused == Refused::AgentCap { 0 } else { limits.day_starts_at_minutes_utc };
    let until = tally.held_until(of.asked, now);
    if refused == Refused::Provider && until > now.0 {
        return (refused, Duration::from_millis(u64::try_from(until - now.0).unwrap_or(1)));
    }
    (refused, limits::until_end(refused, now, starts))
}
