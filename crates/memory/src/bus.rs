//! JetStream in memory: the streams of `/streams` and the consumers of the agents' specs, with the semantics that the
//! agents build on: ids that are stored once in their window, work queues, streams that refuse when they are full,
//! redelivery after the ack wait, delays, the end after the last delivery, and plain subscriptions beside it all.
//!
//! Time is the clock's: nothing happens by itself. What is due is found when somebody publishes or pulls.

mod stream;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ::bus::streams::{ACK_WAIT, ConsumerSpec, stream_configs};
use ::bus::{BusError, Encoded, Published, Raw};
use async_nats::jetstream::stream::{Config, RetentionPolicy};
use domain::subject::Stream;
use domain::time::{Clock, UnixMs};

pub use stream::matches;
use stream::{Consumer, StreamState, ms};

/// Messages that wait for one listener at most; then the newest are lost, as for a slow one.
const LISTENER_ROOM: usize = 4_096;

/// A deliberate defect, for proofs that a check notices it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Defect {
    /// Says that a message is stored, and loses it (every fourth of a work queue).
    LosesStored,
    /// Changes the bytes of what it delivers (every eighth message).
    Garbles,
    /// What was not acknowledged is never delivered again.
    ForgetsUnacknowledged,
}

/// A message in hand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// The message.
    pub raw: Raw,
    /// Its stream.
    pub stream: Stream,
    /// The consumer it came through.
    pub consumer: String,
    /// Its sequence in the stream.
    pub stream_seq: u64,
    /// How often it was delivered, this time included.
    pub attempts: u64,
    /// When the stream stored it.
    pub published_at: UnixMs,
}

/// One change of a stream's limits, for tests of what happens at them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// Messages in the stream.
    Messages(i64),
    /// Messages on one subject.
    MessagesPerSubject(i64),
    /// Age of a message.
    Age(Duration),
    /// How long an id is remembered.
    DuplicateWindow(Duration),
}

impl Limit {
    /// Sets it in the configuration of a stream.
    pub const fn set(self, config: &mut Config) {
        match self {
            Self::Messages(most) => config.max_messages = most,
            Self::MessagesPerSubject(most) => config.max_messages_per_subject = most,
            Self::Age(most) => config.max_age = most,
            Self::DuplicateWindow(window) => config.duplicate_window = window,
        }
    }
}

/// The broker. Clones are the same broker.
#[derive(Clone)]
pub struct Broker {
    state: Arc<Mutex<State>>,
    clock: Arc<dyn Clock>,
}

/// A plain subscription.
pub struct Listener {
    state: Arc<Mutex<State>>,
    id: u64,
}

struct State {
    streams: BTreeMap<Stream, StreamState>,
    listeners: BTreeMap<u64, (String, VecDeque<Raw>)>,
    next_listener: u64,
    defect: Option<Defect>,
    published: u64,
    delivered: u64,
    kept: Option<(Vec<String>, Vec<Kept>)>,
}

/// A stored message that somebody wanted to remember.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Its stream.
    pub stream: Stream,
    /// Its sequence there.
    pub seq: u64,
    /// The message.
    pub raw: Raw,
    /// When it was stored.
    pub at: UnixMs,
}

impl std::fmt::Debug for Broker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Broker").finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Listener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Listener").field("id", &self.id).finish_non_exhaustive()
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Broker {
    /// A broker with all streams and these consumers.
    ///
    /// # Errors
    /// [`BusError::Config`] for a file of `/streams` that does not read.
    pub fn new(clock: Arc<dyn Clock>, consumers: &[ConsumerSpec]) -> Result<Self, BusError> {
        let mut streams: BTreeMap<Stream, StreamState> =
            Stream::ALL.into_iter().zip(stream_configs()?.into_iter().map(StreamState::new)).collect();
        for spec in consumers {
            let consumer = Consumer { filters: spec.filter_subjects.clone(), next: 1, pending: BTreeMap::new() };
            streams.get_mut(&spec.stream).map(|stream| stream.consumers.insert(spec.name.clone(), consumer));
        }
        let state = State {
            streams,
            listeners: BTreeMap::new(),
            next_listener: 0,
            defect: None,
            published: 0,
            delivered: 0,
            kept: None,
        };
        Ok(Self { state: Arc::new(Mutex::new(state)), clock })
    }

    /// Makes it faulty from here on.
    pub fn spoil(&self, defect: Defect) {
        lock(&self.state).defect = Some(defect);
    }

    /// Changes limits of a stream.
    pub fn limit(&self, stream: Stream, limits: &[Limit]) {
        let mut state = lock(&self.state);
        if let Some(found) = state.streams.get_mut(&stream) {
            limits.iter().for_each(|limit| limit.set(&mut found.config));
        }
    }

    /// Remembers every message that is stored from here on under a subject that one of `filters` matches.
    pub fn keep(&self, filters: Vec<String>) {
        lock(&self.state).kept = Some((filters, Vec::new()));
    }

    /// What was remembered.
    #[must_use]
    pub fn kept(&self) -> Vec<Kept> {
        lock(&self.state).kept.as_ref().map_or_else(Vec::new, |(_, kept)| kept.clone())
    }

    /// Stores a message under `id` in the stream of its subject, and hands it to every listener.
    ///
    /// # Errors
    /// [`BusError`], as the real one: full, too large, or no stream that answers.
    pub fn publish(&self, encoded: &Encoded, id: &str) -> Result<Published, BusError> {
        let mut headers: Vec<(String, String)> =
            encoded.headers.iter().filter(|(name, _)| !name.eq_ignore_ascii_case("Nats-Msg-Id")).cloned().collect();
        headers.push(("Nats-Msg-Id".to_owned(), id.to_owned()));
        let raw = Raw { subject: encoded.subject.clone(), headers, payload: encoded.payload.clone() };
        self.put(raw)
    }

    /// Stores a message as it came, headers and bytes.
    ///
    /// # Errors
    /// As [`Broker::publish`].
    pub fn put(&self, raw: Raw) -> Result<Published, BusError> {
        let now = self.clock.now();
        let mut guard = lock(&self.state);
        let state = &mut *guard;
        state.tell(&raw);
        state.published += 1;
        let loses = state.defect == Some(Defect::LosesStored) && state.published.is_multiple_of(4);
        let subject = raw.subject.clone();
        let Some((stream, home)) =
            state.streams.iter_mut().find(|(_, s)| s.config.subjects.iter().any(|f| matches(f, &subject)))
        else {
            return Err(BusError::PublishUnanswered { subject, tries: 1 });
        };
        let copy = raw.clone();
        let (seq, duplicate) = home.store(raw, now)?;
        if let Some((filters, kept)) = state.kept.as_mut().filter(|_| !duplicate)
            && filters.iter().any(|filter| matches(filter, &subject))
        {
            kept.push(Kept { stream: *stream, seq, raw: copy, at: now });
        }
        if loses && !duplicate && home.config.retention == RetentionPolicy::WorkQueue {
            home.remove(seq);
        }
        Ok(Published { stream: stream.name().to_owned(), seq, duplicate, tries: 1 })
    }

    /// The next message of a durable consumer: first what is due again, then what is new. `None` when there is none now.
    pub fn pull(&self, stream: Stream, consumer: &str) -> Option<Delivery> {
        let now = self.clock.now();
        let mut state = lock(&self.state);
        let defect = state.defect;
        let home = state.streams.get_mut(&stream)?;
        home.expire(now);
        let mut given_up = Vec::new();
        let found = home.next(consumer, now, defect == Some(Defect::ForgetsUnacknowledged), &mut given_up);
        let delivery = found.and_then(|(seq, attempts)| {
            let stored = home.messages.get(&seq)?;
            Some(Delivery {
                raw: stored.raw.clone(),
                stream,
                consumer: consumer.to_owned(),
                stream_seq: seq,
                attempts,
                published_at: stored.at,
            })
        });
        for seq in given_up {
            state.advise("MAX_DELIVERIES", stream, consumer, seq, now);
        }
        let mut delivery = delivery?;
        state.delivered += 1;
        if defect == Some(Defect::Garbles) && state.delivered.is_multiple_of(8) {
            delivery.raw.payload.iter_mut().for_each(|byte| *byte = byte.rotate_left(1));
        }
        Some(delivery)
    }

    /// Done. An acknowledgement that comes late counts all the same, as at the real server.
    ///
    /// # Errors
    /// [`BusError::AckUnconfirmed`] when the consumer is gone.
    pub fn ack(&self, delivery: &Delivery) -> Result<(), BusError> {
        self.settle(delivery).map(|_| ())
    }

    /// Never again.
    ///
    /// # Errors
    /// [`BusError::AckUnconfirmed`] when the consumer is gone.
    pub fn term(&self, delivery: &Delivery) -> Result<(), BusError> {
        if self.settle(delivery)? {
            let now = self.clock.now();
            lock(&self.state).advise("MSG_TERMINATED", delivery.stream, &delivery.consumer, delivery.stream_seq, now);
        }
        Ok(())
    }

    /// Again, after `delay`.
    pub fn nak(&self, delivery: &Delivery, delay: Duration) {
        self.again_at(delivery, self.clock.now().plus_ms(ms(delay)));
    }

    /// Still at it: the ack wait begins anew.
    pub fn in_progress(&self, delivery: &Delivery) {
        self.again_at(delivery, self.clock.now().plus_ms(ms(ACK_WAIT)));
    }

    fn again_at(&self, delivery: &Delivery, at: UnixMs) {
        let mut state = lock(&self.state);
        let consumer =
            state.streams.get_mut(&delivery.stream).and_then(|home| home.consumers.get_mut(&delivery.consumer));
        if let Some(pending) = consumer.and_then(|c| c.pending.get_mut(&delivery.stream_seq)) {
            pending.0 = at;
        }
    }

    fn settle(&self, delivery: &Delivery) -> Result<bool, BusError> {
        let mut state = lock(&self.state);
        let home = state.streams.get_mut(&delivery.stream);
        let gone = || BusError::AckUnconfirmed("no such consumer".to_owned());
        let home = home.ok_or_else(gone)?;
        let consumer = home.consumers.get_mut(&delivery.consumer).ok_or_else(gone)?;
        let was_pending = consumer.pending.remove(&delivery.stream_seq).is_some();
        if was_pending && home.config.retention == RetentionPolicy::WorkQueue {
            home.remove(delivery.stream_seq);
        }
        Ok(was_pending)
    }

    /// When the next message in hand is due to be delivered again.
    #[must_use]
    pub fn due(&self, stream: Stream, consumer: &str) -> Option<UnixMs> {
        let state = lock(&self.state);
        state.streams.get(&stream)?.consumers.get(consumer)?.pending.values().map(|(at, _)| *at).min()
    }

    /// How many messages were published so far, stored or not.
    #[must_use]
    pub fn published(&self) -> u64 {
        lock(&self.state).published
    }

    /// All messages that lie in a stream, oldest first.
    #[must_use]
    pub fn messages(&self, stream: Stream) -> Vec<Raw> {
        let state = lock(&self.state);
        state.streams.get(&stream).map_or_else(Vec::new, |s| s.messages.values().map(|m| m.raw.clone()).collect())
    }

    /// A plain subscription: hears what is published from here on, stored or not.
    #[must_use]
    pub fn subscribe(&self, filter: &str) -> Listener {
        let mut state = lock(&self.state);
        let id = state.next_listener;
        state.next_listener += 1;
        state.listeners.insert(id, (filter.to_owned(), VecDeque::new()));
        Listener { state: Arc::clone(&self.state), id }
    }

    /// The newest stored message of every subject that `filter` matches.
    #[must_use]
    pub fn last_values(&self, stream: Stream, filter: &str) -> Vec<Raw> {
        let state = lock(&self.state);
        let Some(home) = state.streams.get(&stream) else { return Vec::new() };
        let newest = home.by_subject.iter().filter(|(subject, _)| matches(filter, subject));
        newest.filter_map(|(_, seqs)| home.messages.get(seqs.last()?).map(|stored| stored.raw.clone())).collect()
    }

    /// Messages that lie in a stream.
    #[must_use]
    pub fn stored(&self, stream: Stream) -> usize {
        let now = self.clock.now();
        let mut state = lock(&self.state);
        state.streams.get_mut(&stream).map_or(0, |home| {
            home.expire(now);
            home.messages.len()
        })
    }

    /// Messages of a consumer that are in hand, wait to be delivered again, or were never delivered.
    #[must_use]
    pub fn waiting(&self, stream: Stream, consumer: &str) -> usize {
        let now = self.clock.now();
        let mut state = lock(&self.state);
        let Some(home) = state.streams.get_mut(&stream) else { return 0 };
        home.expire(now);
        let Some(consumer) = home.consumers.get(consumer) else { return 0 };
        let new = home.messages.range(consumer.next..).filter(|(_, stored)| consumer.takes(&stored.raw.subject));
        consumer.pending.len() + new.count()
    }
}

impl Listener {
    /// The next message heard, when there is one.
    pub fn next(&self) -> Option<Raw> {
        lock(&self.state).listeners.get_mut(&self.id)?.1.pop_front()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        lock(&self.state).listeners.remove(&self.id);
    }
}

impl State {
    fn tell(&mut self, raw: &Raw) {
        for (filter, queue) in self.listeners.values_mut() {
            if queue.len() < LISTENER_ROOM && matches(filter, &raw.subject) {
                queue.push_back(raw.clone());
            }
        }
    }

    /// The server's own word about a message, kept in ADVISORIES.
    fn advise(&mut self, what: &str, stream: Stream, consumer: &str, seq: u64, now: UnixMs) {
        let subject = format!("$JS.EVENT.ADVISORY.CONSUMER.{what}.{}.{consumer}", stream.name());
        let payload = format!("{{\"stream\":\"{}\",\"stream_seq\":{seq}}}", stream.name()).into_bytes();
        let raw = Raw { subject, headers: Vec::new(), payload };
        self.tell(&raw);
        if let Some(home) = self.streams.get_mut(&Stream::Advisories) {
            // The oldest make room there; nothing refuses.
            let _ = home.store(raw, now);
        }
    }
}
