//! A day's questions before the cache, and what it gave.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use domain::time::UnixMs;
use llm::cache::{Cache, CacheKind, Entry, Keys, Settings};
use testkit::VirtualClock;

use crate::oracle;
use crate::workload::Asked;

/// Whose key asks.
pub const AGENT: &str = "buy_bot";
/// How long a model takes, ms: who asks the same meanwhile is not counted as a hit.
const MODEL_MS: i64 = 1_500;

/// What one kind of hit came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OfKind {
    /// Answers given.
    pub hits: u64,
    /// Of them, those that are not what the model would have said.
    pub wrong: u64,
    /// Of them, those where the rule over exact figures changes its mind.
    pub turned: u64,
}

/// What a day came to.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    /// Questions.
    pub asked: u64,
    /// By kind: exact, normalised, semantic.
    pub kinds: BTreeMap<&'static str, OfKind>,
    /// Answers given to one tenant that were another's.
    pub crossed: u64,
    /// Different questions, tenant apart from tenant.
    pub distinct: u64,
    /// For each line of the questions, how many values it had.
    pub lines: BTreeMap<String, BTreeSet<String>>,
    /// Misses of questions that were asked before: the answer is too old, or still being made.
    pub again: u64,
}

impl Tally {
    fn sum(&self, part: impl Fn(&OfKind) -> u64) -> u64 {
        self.kinds.values().map(part).sum()
    }

    /// Answers from the cache.
    #[must_use]
    pub fn hits(&self) -> u64 {
        self.sum(|kind| kind.hits)
    }

    /// Of them, wrong ones.
    #[must_use]
    pub fn wrong(&self) -> u64 {
        self.sum(|kind| kind.wrong)
    }

    /// Of the questions, how many the cache answered, percent.
    #[must_use]
    pub fn hit_percent(&self) -> f64 {
        percent(self.hits(), self.asked)
    }

    /// Of the answers that the cache gave, how many were wrong, percent.
    #[must_use]
    pub fn wrong_percent(&self) -> f64 {
        percent(self.wrong(), self.hits())
    }

    /// Of these answers, how many the rule over exact figures would have changed, percent.
    #[must_use]
    pub fn turned_percent(&self) -> f64 {
        percent(self.sum(|kind| kind.turned), self.hits())
    }
}

/// `part` of `whole`, percent; 0 of nothing.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "counts of a day")]
pub fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 * 100.0 / whole as f64 }
}

/// The shipped cache by a clock that stands at `now`.
#[must_use]
pub fn cache(settings: &Settings, now: UnixMs) -> (Cache, VirtualClock) {
    let clock = VirtualClock::at(now);
    (Cache::new(settings.clone(), None, Arc::new(clock.clone())), clock)
}

/// Asks all of it in order; what the cache has not is answered by the oracle and kept, as the router does.
#[must_use]
pub fn ask(asked: &[Asked], settings: &Settings) -> Tally {
    let mut tally = Tally::default();
    let Some(first) = asked.first() else { return tally };
    let (cache, clock) = cache(settings, first.at);
    let mut running: VecDeque<(Keys, Entry)> = VecDeque::new();
    let mut known: BTreeSet<(&str, &str)> = BTreeSet::new();
    for (number, question) in asked.iter().enumerate() {
        while let Some((keys, entry)) = running.pop_front_if(|(_, entry)| entry.stored_at <= question.at) {
            clock.set(entry.stored_at);
            cache.put(&keys, entry);
        }
        clock.set(question.at);
        tally.asked += 1;
        note_lines(&mut tally.lines, &question.facts);
        let is_new = known.insert((question.tenant, &question.facts));
        let Some(keys) = cache.keys(AGENT, &question.request) else { continue };
        match cache.near(&keys) {
            Some(hit) => judge(&mut tally, asked, question, hit.kind, &hit.entry),
            None => {
                tally.again += u64::from(!is_new);
                let content = oracle::answer(&question.facts, number);
                running.push_back((keys, oracle::entry(content, question.at.plus_ms(MODEL_MS))));
            }
        }
    }
    tally.distinct = known.len() as u64;
    tally
}

fn judge(tally: &mut Tally, asked: &[Asked], question: &Asked, kind: CacheKind, entry: &Entry) {
    let of_kind = tally.kinds.entry(kind.word()).or_default();
    of_kind.hits += 1;
    let truth = oracle::read(&oracle::answer(&question.facts, 0));
    let given = oracle::read(&entry.answer.content);
    let said = |read: &Option<(String, u64, usize)>| read.as_ref().map(|(verdict, sure, _)| (verdict.clone(), *sure));
    of_kind.wrong += u64::from(said(&truth) != said(&given));
    let Some(source) = given.and_then(|(_, _, number)| asked.get(number)) else { return };
    tally.crossed += u64::from(source.tenant != question.tenant);
    if let (Some(then), Some(now)) = (&source.situation, &question.situation) {
        of_kind.turned += u64::from(oracle::rule(then) != oracle::rule(now));
    }
}

fn note_lines(lines: &mut BTreeMap<String, BTreeSet<String>>, facts: &str) {
    for (name, value) in facts.lines().skip(1).filter_map(|line| line.split_once(": ")) {
        if let Some(values) = lines.get_mut(name) {
            // Free prose has as many as there are questions.
            if values.len() < 10_000 && !values.contains(value) {
                values.insert(value.to_owned());
            }
        } else {
            lines.insert(name.to_owned(), BTreeSet::from([value.to_owned()]));
        }
    }
}
