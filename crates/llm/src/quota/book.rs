//! What one process knows: each tier's counters as Redis last told them, and what has happened since and was not yet told.
//!
//! `known` and what is pending never overlap: an effect is pending until an answer of Redis that contains it is applied, in
//! one step. So `known` plus pending is all this process knows, with Redis or without.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use domain::time::UnixMs;

use super::limits::{Bounds, Limits, Refused, Windows};
use super::tally::{Amount, Change, Hold, Span, Tally};

/// A name that is handed around a lot.
pub(super) type Name = Arc<str>;

/// What is reserved, and for whom.
#[derive(Debug, Clone)]
pub(super) struct Reserved {
    pub id: u64,
    pub tier: Name,
    pub windows: Windows,
    pub asked: Amount,
    /// When it counts in full if nobody settles it.
    pub ends_ms: i64,
    /// Whose money it is and in which month, where that is counted.
    pub agent: Option<(Name, i64)>,
}

/// Where a reservation is counted.
#[derive(Debug, Clone)]
pub(super) enum Held {
    /// In Redis, in this life of its data.
    Shared(Name),
    /// Redis was asked and gave no answer: here, and perhaps there.
    Unsure,
    /// Here alone.
    Alone,
}

/// What Redis must be told.
#[derive(Debug, Clone)]
pub(super) enum News {
    /// A reservation that this life of its data has counted is over.
    Close {
        /// The life.
        life: Name,
        /// Whether a copy of the reservation may still be under way, which must find that it is over.
        remember: bool,
    },
    /// One that may have been counted runs.
    Open,
    /// One that may have been counted is over; or a sum of what was counted here alone.
    Told,
}

/// One thing to tell.
#[derive(Debug, Clone)]
pub(super) struct Post {
    pub news: News,
    pub of: Reserved,
    /// What is counted in the end.
    pub then: Change,
}

/// One tier.
#[derive(Debug)]
pub(super) struct Book {
    pub limits: Limits,
    pub known: Tally,
    /// Number of the answer that `known` comes from; older answers are not heard.
    pub number: i64,
    /// The life of Redis' data that `known` belongs to; empty before the first answer.
    pub life: Name,
    /// The windows in which this process began: of later ones it saw the beginning.
    began: Windows,
    /// Whether a record or Redis told what was used before.
    pub informed: bool,
    /// What was known when this process was left alone.
    alone: Option<Tally>,
    pub open: u64,
}

/// What agents spent this UTC month.
#[derive(Debug, Default)]
pub(super) struct Agents {
    pub life: Name,
    pub number: i64,
    pub month: i64,
    pub spent: BTreeMap<Name, u64>,
    pub informed: bool,
    alone: BTreeMap<Name, u64>,
}

#[derive(Debug, Clone)]
pub(super) struct Unsure {
    of: Reserved,
    registered: Option<Name>,
}

/// From so many sums on, those of windows that are over are put together: a swarm without Redis counts for months.
const SUMS: usize = 64;

type SumKey = (Name, Windows, Option<(Name, i64)>);

/// Everything a process knows.
#[derive(Debug, Default)]
pub(super) struct Books {
    pub tiers: BTreeMap<Name, Book>,
    pub agents: Agents,
    unsure: HashMap<u64, Unsure>,
    sums: BTreeMap<SumKey, Change>,
    queue: VecDeque<Post>,
    sending: VecDeque<Post>,
    pub observed: BTreeMap<Name, (Hold, Hold)>,
    /// The connection whose Redis knows all that we knew. `None`: this process is alone.
    pub ready: Option<u64>,
    /// Shares of what is left, in thousandths: where something is known, and where nothing is.
    pub shares: (u64, u64),
    pub degraded: u64,
}

impl Book {
    pub(super) fn new(limits: Limits, now: UnixMs) -> Self {
        let began = Windows::at(now, limits.day_starts_at_minutes_utc);
        Self {
            known: Tally { windows: began, ..Tally::default() },
            limits,
            number: -1,
            life: Name::from(""),
            began,
            informed: false,
            alone: None,
            open: 0,
        }
    }
}

impl Agents {
    /// Goes on to a later month.
    pub(super) fn roll(&mut self, month: i64) {
        if month > self.month {
            self.month = month;
            self.spent.clear();
            self.alone.clear();
        }
    }
}

impl Books {
    /// Knows nothing; `shares` as of the field.
    pub(super) fn new(shares: (u64, u64)) -> Self {
        Self { shares, ..Self::default() }
    }

    /// A tier's counters with all that this process knows.
    pub(super) fn view(&self, tier: &str, windows: Windows) -> Tally {
        let mut tally = self.tiers.get(tier).map_or_else(Tally::default, |book| book.known);
        tally.roll(windows);
        for (reserved, change) in self.pending() {
            if *reserved.0 == *tier {
                tally.count(reserved.1, change);
            }
        }
        tally
    }

    /// What an agent spent in the month, with all that this process knows.
    pub(super) fn spent(&self, agent: &str, month: i64) -> u64 {
        let known = if self.agents.month == month { self.agents.spent.get(agent).copied().unwrap_or(0) } else { 0 };
        let of =
            |who: &Option<(Name, i64)>| who.as_ref().is_some_and(|(name, when)| **name == *agent && *when == month);
        let pending = self.pending().filter(|(key, _)| of(&key.2)).map(|(_, change)| change.cost_micros).sum();
        known.saturating_add_signed(pending)
    }

    /// What Redis was not told yet, as far as an answer said.
    fn pending(&self) -> impl Iterator<Item = (SumKey, Change)> {
        let key = |of: &Reserved| (Arc::clone(&of.tier), of.windows, of.agent.clone());
        let posts = self.sending.iter().chain(&self.queue).filter_map(move |post| match post.news {
            News::Close { .. } => Some((key(&post.of), minus(post.then, post.of.asked))),
            News::Told => Some((key(&post.of), post.then)),
            // Its reservation is among the unsure.
            News::Open => None,
        });
        let unsure = self.unsure.values().filter(|unsure| unsure.registered.is_none());
        posts
            .chain(unsure.map(move |unsure| (key(&unsure.of), unsure.of.asked.as_change())))
            .chain(self.sums.iter().map(|(key, change)| (key.clone(), *change)))
    }

    /// Ends what was set aside for decisions alone, where this process is alone no more.
    pub(super) fn end_alone(&mut self) {
        if self.ready.is_some() {
            self.agents.alone.clear();
            for book in self.tiers.values_mut() {
                book.alone = None;
            }
        }
    }

    /// Decides without Redis: by what is known, and a share of what seems left. Counts nothing.
    pub(super) fn check_alone(
        &mut self,
        of: &Reserved,
        bounds: &Bounds,
        cap: Option<u64>,
        now: UnixMs,
    ) -> Result<(), Refused> {
        let view = self.view(&of.tier, of.windows);
        let (some, none) = self.shares;
        if let Some(book) = self.tiers.get_mut(&of.tier) {
            let (began, informed) = (book.began, book.informed);
            let alone = book.alone.get_or_insert(view);
            alone.roll(view.windows);
            let bounds = alone.shared(bounds, |span| {
                let saw_it_begin = match span {
                    Span::Minute => view.windows.minute > began.minute,
                    Span::Day => view.windows.day > began.day,
                    Span::Month => view.windows.month > began.month,
                };
                if informed || saw_it_begin { some } else { none }
            });
            view.check(of.asked, &bounds, now)?;
        }
        if let (Some((agent, month)), Some(cap)) = (&of.agent, cap) {
            let spent = self.spent(agent, *month);
            self.agents.roll(*month);
            let share = if self.agents.informed { some } else { none };
            let then = *self.agents.alone.entry(Arc::clone(agent)).or_insert(spent);
            let bound = then.saturating_add(cap.saturating_sub(then).saturating_mul(share) / 1_000).min(cap);
            if spent.saturating_add(of.asked.cost_micros) > bound {
                return Err(Refused::AgentCap);
            }
        }
        Ok(())
    }

    /// Counts a reservation that was allowed here; `asked` says that Redis may have counted it too.
    pub(super) fn hold(&mut self, of: &Reserved, asked: bool) -> Held {
        if let Some(book) = self.tiers.get_mut(&of.tier) {
            book.known.use_up(of.asked);
        }
        if asked {
            self.unsure(of);
            return Held::Unsure;
        }
        self.add(of, of.asked.as_change());
        Held::Alone
    }

    /// Keeps a reservation that Redis may have counted.
    pub(super) fn unsure(&mut self, of: &Reserved) {
        self.unsure.insert(of.id, Unsure { of: of.clone(), registered: None });
        self.queue.push_back(Post { news: News::Open, of: of.clone(), then: Change::default() });
    }

    /// A request that Redis may have counted did not run.
    pub(super) fn take_back(&mut self, of: &Reserved) {
        self.queue.push_back(Post { news: News::Told, of: of.clone(), then: Change::default() });
    }

    /// A reservation is over.
    pub(super) fn close(&mut self, of: Reserved, held: Held, used: Amount) {
        let then = used.as_change();
        match held {
            Held::Alone => {
                let change = of.asked.towards(used);
                self.add(&of, change);
            }
            Held::Shared(life) => {
                self.queue.push_back(Post { news: News::Close { life, remember: false }, of, then });
            }
            Held::Unsure => {
                let registered = self.unsure.remove(&of.id).and_then(|unsure| unsure.registered);
                let news = registered.map_or(News::Told, |life| News::Close { life, remember: true });
                self.queue.push_back(Post { news, of, then });
            }
        }
    }

    fn add(&mut self, of: &Reserved, change: Change) {
        if self.sums.len() >= SUMS {
            self.fold(&of.tier, of.windows);
        }
        let key = (Arc::clone(&of.tier), of.windows, of.agent.clone());
        let sum = self.sums.entry(key).or_default();
        *sum = sum.plus(change);
    }

    /// Puts together what differs only in windows of this tier that are over, and forgets what counts in none any more.
    fn fold(&mut self, tier: &Name, now: Windows) {
        let current = |window: i64, now: i64| if window < now { i64::MIN } else { window };
        for ((name, windows, agent), change) in std::mem::take(&mut self.sums) {
            let windows = if name == *tier {
                Windows {
                    minute: current(windows.minute, now.minute),
                    day: current(windows.day, now.day),
                    month: current(windows.month, now.month),
                }
            } else {
                windows
            };
            if windows.month > i64::MIN || agent.as_ref().is_some_and(|(_, month)| *month >= self.agents.month) {
                let sum = self.sums.entry((name, windows, agent)).or_default();
                *sum = sum.plus(change);
            }
        }
    }

    /// Whether Redis has nothing left to be told.
    pub(super) fn is_told(&self) -> bool {
        self.queue.is_empty() && self.sums.is_empty() && self.sending.is_empty() && self.observed.is_empty()
    }

    /// Takes what Redis must be told; sums get ids of their own from `next_id` and keep them until they are told.
    pub(super) fn take(&mut self, next_id: impl Fn() -> u64, now: UnixMs) -> &VecDeque<Post> {
        let mut posts = VecDeque::with_capacity(self.queue.len() + self.sums.len());
        for post in std::mem::take(&mut self.queue) {
            match &post.news {
                // Counted in data that is lost: what this process knew of it was carried over, so only the difference is news.
                News::Close { life, .. } if self.tiers.get(&post.of.tier).is_none_or(|book| book.life != *life) => {
                    let change = minus(post.then, post.of.asked);
                    self.add(&post.of, change);
                }
                _ => posts.push_back(post),
            }
        }
        for ((tier, windows, agent), then) in std::mem::take(&mut self.sums) {
            let (id, asked) = (next_id(), Amount::default());
            let of = Reserved { id, tier, windows, asked, ends_ms: now.plus_ms(super::REMEMBERED_MS).0, agent };
            posts.push_back(Post { news: News::Told, of, then });
        }
        self.sending = posts;
        &self.sending
    }

    /// What was taken could not be told: it waits at the front, as it was.
    pub(super) fn put_back(&mut self) {
        for post in std::mem::take(&mut self.sending).into_iter().rev() {
            self.queue.push_front(post);
        }
    }

    /// Redis has counted the first of what was taken.
    pub(super) fn told(&mut self, answer: &Answer) {
        let Some(post) = self.sending.pop_front() else { return };
        if matches!(post.news, News::Open)
            && let Some(unsure) = self.unsure.get_mut(&post.of.id)
        {
            unsure.registered = self.tiers.get(&post.of.tier).map(|book| Arc::clone(&book.life));
        }
        self.hear(&post.of, answer);
    }

    /// Applies the counters of an answer.
    pub(super) fn hear(&mut self, of: &Reserved, answer: &Answer) {
        if let Some(book) = self.tiers.get_mut(&of.tier)
            && answer.number >= book.number
        {
            book.number = answer.number;
            book.known = answer.tally;
        }
        if let (Some((agent, month)), Some((number, spent))) = (&of.agent, answer.agent)
            && number >= self.agents.number
        {
            self.agents.number = number;
            self.agents.roll(*month);
            if *month == self.agents.month {
                self.agents.spent.insert(Arc::clone(agent), spent);
            }
        }
    }

    /// From now on Redis knows all that this process knows.
    pub(super) fn join(&mut self, connection: u64) {
        self.ready = Some(connection);
        self.end_alone();
    }
}

/// What a script answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Answer {
    pub code: i64,
    pub number: i64,
    pub tally: Tally,
    /// Number of the agents' data and what the agent has spent.
    pub agent: Option<(i64, u64)>,
}

fn minus(then: Change, asked: Amount) -> Change {
    then.plus(asked.towards(Amount::default()))
}
