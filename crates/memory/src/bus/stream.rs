//! One stream: its messages, the ids it remembers, and where its consumers are.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use ::bus::streams::{ACK_WAIT, MAX_ACK_PENDING, MAX_DELIVER};
use ::bus::{BusError, Raw};
use async_nats::jetstream::stream::{Config, DiscardPolicy};
use domain::time::UnixMs;

/// A duration in whole milliseconds.
pub(super) fn ms(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

pub(super) struct StreamState {
    pub(super) config: Config,
    pub(super) next_seq: u64,
    pub(super) messages: BTreeMap<u64, Stored>,
    pub(super) by_subject: BTreeMap<String, BTreeSet<u64>>,
    bytes: i64,
    ids: HashMap<String, u64>,
    ids_by_age: VecDeque<(UnixMs, String)>,
    pub(super) consumers: BTreeMap<String, Consumer>,
}

pub(super) struct Stored {
    pub(super) raw: Raw,
    pub(super) at: UnixMs,
    size: i64,
}

#[derive(Default)]
pub(super) struct Consumer {
    pub(super) filters: Vec<String>,
    /// The next sequence that was never looked at.
    pub(super) next: u64,
    /// In hand, or waiting to be delivered again: since when that is due, and how often it was delivered.
    pub(super) pending: BTreeMap<u64, (UnixMs, u64)>,
}

impl Consumer {
    pub(super) fn takes(&self, subject: &str) -> bool {
        self.filters.iter().any(|filter| matches(filter, subject))
    }
}

impl StreamState {
    pub(super) fn new(config: Config) -> Self {
        Self {
            config,
            next_seq: 1,
            messages: BTreeMap::new(),
            by_subject: BTreeMap::new(),
            bytes: 0,
            ids: HashMap::new(),
            ids_by_age: VecDeque::new(),
            consumers: BTreeMap::new(),
        }
    }

    /// Sequence, and whether its id was there already.
    pub(super) fn store(&mut self, raw: Raw, now: UnixMs) -> Result<(u64, bool), BusError> {
        self.expire(now);
        let id = raw.header("Nats-Msg-Id").map(str::to_owned);
        if let Some(seq) = id.as_ref().and_then(|id| self.ids.get(id)) {
            return Ok((*seq, true));
        }
        let size = wire_size(&raw);
        if i64::from(self.config.max_message_size) < size && self.config.max_message_size > 0 {
            return Err(BusError::TooLarge { subject: raw.subject, bytes: raw.payload.len() });
        }
        self.make_room(&raw.subject, size)?;
        let seq = self.next_seq;
        self.next_seq += 1;
        if let Some(id) = id {
            self.ids.insert(id.clone(), seq);
            self.ids_by_age.push_back((now, id));
        }
        self.bytes += size;
        self.by_subject.entry(raw.subject.clone()).or_default().insert(seq);
        self.messages.insert(seq, Stored { raw, at: now, size });
        Ok((seq, false))
    }

    fn make_room(&mut self, subject: &str, size: i64) -> Result<(), BusError> {
        let refuses = self.config.discard == DiscardPolicy::New;
        let full = |text: &str| BusError::StreamFull { subject: subject.to_owned(), text: text.to_owned() };
        let over = |count: usize, most: i64| most > 0 && i64::try_from(count).is_ok_and(|count| count >= most);
        while over(self.by_subject.get(subject).map_or(0, BTreeSet::len), self.config.max_messages_per_subject) {
            if refuses && self.config.discard_new_per_subject {
                return Err(full("maximum messages per subject exceeded"));
            }
            self.remove_first_of(subject);
        }
        while over(self.messages.len(), self.config.max_messages)
            || (self.config.max_bytes > 0 && self.bytes + size > self.config.max_bytes)
        {
            if refuses {
                return Err(full("maximum messages exceeded"));
            }
            let Some(first) = self.messages.keys().next().copied() else { return Err(full("larger than the stream")) };
            self.remove(first);
        }
        Ok(())
    }

    fn remove_first_of(&mut self, subject: &str) {
        let first = self.by_subject.get(subject).and_then(|seqs| seqs.first().copied());
        first.into_iter().for_each(|seq| self.remove(seq));
    }

    pub(super) fn remove(&mut self, seq: u64) {
        let Some(stored) = self.messages.remove(&seq) else { return };
        self.bytes -= stored.size;
        if let Some(seqs) = self.by_subject.get_mut(&stored.raw.subject) {
            seqs.remove(&seq);
            if seqs.is_empty() {
                self.by_subject.remove(&stored.raw.subject);
            }
        }
        for consumer in self.consumers.values_mut() {
            consumer.pending.remove(&seq);
        }
    }

    pub(super) fn expire(&mut self, now: UnixMs) {
        let window = ms(self.config.duplicate_window);
        while self.ids_by_age.front().is_some_and(|(at, _)| now.since_ms(*at) >= window) {
            if let Some((_, id)) = self.ids_by_age.pop_front() {
                self.ids.remove(&id);
            }
        }
        let age = ms(self.config.max_age);
        let is_old = |at: UnixMs| age > 0 && now.since_ms(at) >= age;
        while let Some((seq, _)) = self.messages.first_key_value().filter(|(_, stored)| is_old(stored.at)) {
            let seq = *seq;
            self.remove(seq);
        }
    }

    /// What a consumer is given now, and how often that was. Messages out of deliveries are put into `given_up`.
    pub(super) fn next(
        &mut self,
        name: &str,
        now: UnixMs,
        forgets: bool,
        given_up: &mut Vec<u64>,
    ) -> Option<(u64, u64)> {
        let consumer = self.consumers.get_mut(name)?;
        let most = u64::try_from(MAX_DELIVER).unwrap_or(u64::MAX);
        let due: Vec<u64> = consumer.pending.iter().filter(|(_, (at, _))| *at <= now).map(|(seq, _)| *seq).collect();
        for seq in due {
            let attempts = consumer.pending.get(&seq).map_or(0, |(_, attempts)| *attempts);
            if attempts >= most || forgets {
                consumer.pending.remove(&seq);
                given_up.push(seq);
                continue;
            }
            consumer.pending.insert(seq, (now.plus_ms(ms(ACK_WAIT)), attempts + 1));
            return Some((seq, attempts + 1));
        }
        if consumer.pending.len() >= usize::try_from(MAX_ACK_PENDING).unwrap_or(usize::MAX) {
            return None;
        }
        let found = self.messages.range(consumer.next..).find(|(_, stored)| consumer.takes(&stored.raw.subject));
        let seq = match found {
            Some((seq, _)) => *seq,
            None => {
                consumer.next = self.next_seq;
                return None;
            }
        };
        consumer.next = seq + 1;
        consumer.pending.insert(seq, (now.plus_ms(ms(ACK_WAIT)), 1));
        Some((seq, 1))
    }
}

/// Header block and bytes, as the server counts them against the largest message.
fn wire_size(raw: &Raw) -> i64 {
    let named: usize = raw.headers.iter().map(|(name, value)| name.len() + value.len() + 4).sum();
    let head = if raw.headers.is_empty() { 0 } else { "NATS/1.0\r\n\r\n".len() + named };
    i64::try_from(head + raw.payload.len()).unwrap_or(i64::MAX)
}

/// NATS subject matching.
#[must_use]
pub fn matches(filter: &str, subject: &str) -> bool {
    let (mut filter, mut subject) = (filter.split('.'), subject.split('.'));
    loop {
        match (filter.next(), subject.next()) {
            (Some(">"), Some(_)) | (None, None) => return true,
            (Some("*"), Some(_)) => {}
            (Some(f), Some(s)) if f == s => {}
            _ => return false,
        }
    }
}
