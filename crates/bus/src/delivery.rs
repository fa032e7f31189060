//! Messages as they come in.

use std::time::Duration;

use async_nats::jetstream::consumer::PullConsumer;
use async_nats::jetstream::consumer::pull;
use async_nats::{Client, HeaderMap, Request};
use domain::time::UnixMs;
use futures::StreamExt;

use crate::error::BusError;

/// A message as it came, before anything was believed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Raw {
    /// Its subject.
    pub subject: String,
    /// Its headers, in order.
    pub headers: Vec<(String, String)>,
    /// Its bytes.
    pub payload: Vec<u8>,
}

impl Raw {
    /// The first header of that name, whatever its case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }
}

/// How long an acknowledgement waits to be confirmed.
const ACK_TIMEOUT: Duration = Duration::from_secs(2);
/// Messages held ready: what a dead agent takes along until its ack wait runs out.
const BATCH: usize = 8;
/// How long one pull request lives at the server.
const PULL_EXPIRES: Duration = Duration::from_secs(10);
/// How often the server says that an unanswered pull is known to it; after two of these in silence the client pulls anew.
const PULL_HEARTBEAT: Duration = Duration::from_secs(1);
/// How long [`Puller::next`] waits.
const NEXT_WAIT: Duration = Duration::from_secs(2);
/// Before a consumer without a leader is pulled from again.
const LEADER_PAUSE: Duration = Duration::from_millis(250);
/// After so many pulls in a row that nobody answered, an election of up to 9 s is no explanation any more.
const LEADERLESS_PULLS: u32 = 80;

/// A message from a durable consumer, to be acknowledged.
#[derive(Debug)]
pub struct Delivery {
    /// The message.
    pub raw: Raw,
    /// Its stream.
    pub stream: String,
    /// The consumer it came through.
    pub consumer: String,
    /// Its sequence in the stream.
    pub stream_seq: u64,
    /// How often it was delivered, this time included.
    pub attempts: u64,
    /// When the stream stored it, by the server's clock.
    pub published_at: UnixMs,
    reply: String,
    client: Client,
}

impl Delivery {
    /// Done. The server's confirmation is asked for and checked: an acknowledgement to a consumer that is gone is an
    /// error here.
    ///
    /// # Errors
    /// [`BusError::AckUnconfirmed`].
    pub async fn ack(&self) -> Result<(), BusError> {
        self.confirmed("+ACK").await
    }

    /// Again, after `delay`.
    ///
    /// # Errors
    /// [`BusError::Core`].
    pub async fn nak(&self, delay: Duration) -> Result<(), BusError> {
        self.say(format!("-NAK {{\"delay\":{}}}", delay.as_nanos())).await
    }

    /// Still at it.
    ///
    /// # Errors
    /// [`BusError::Core`].
    pub async fn in_progress(&self) -> Result<(), BusError> {
        self.say("+WPI".to_owned()).await
    }

    /// Never again.
    ///
    /// # Errors
    /// [`BusError::AckUnconfirmed`].
    pub async fn term(&self) -> Result<(), BusError> {
        self.confirmed("+TERM").await
    }

    /// Where acknowledgements go; whoever may publish there may hand the message back.
    #[must_use]
    pub fn reply_subject(&self) -> &str {
        &self.reply
    }

    async fn say(&self, word: String) -> Result<(), BusError> {
        self.client.publish(self.reply.clone(), word.into()).await.map_err(|e| BusError::Core(e.to_string()))
    }

    async fn confirmed(&self, word: &'static str) -> Result<(), BusError> {
        let request = Request::new().payload(word.into()).timeout(Some(ACK_TIMEOUT));
        let answered = self.client.send_request(self.reply.clone(), request).await;
        match answered.map_err(|error| BusError::AckUnconfirmed(error.to_string()))?.status {
            None => Ok(()),
            Some(status) => Err(BusError::AckUnconfirmed(format!("status {status}"))),
        }
    }
}

/// Pulls from a durable consumer.
pub struct Puller {
    stream: String,
    consumer: String,
    client: Client,
    bound: PullConsumer,
    messages: pull::Stream,
    /// Pulls in a row for which there was no leader.
    leaderless: u32,
}

impl std::fmt::Debug for Puller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Puller").field("stream", &self.stream).field("consumer", &self.consumer).finish_non_exhaustive()
    }
}

impl Puller {
    /// Binds by name; needs the rights to read the consumer's info and to pull, nothing else.
    pub(crate) async fn bind(client: &Client, stream: &str, consumer: &str) -> Result<Self, BusError> {
        let failed =
            |text: String| BusError::Consumer { stream: stream.to_owned(), consumer: consumer.to_owned(), text };
        let context = async_nats::jetstream::new(client.clone());
        let bound: PullConsumer =
            context.get_consumer_from_stream(consumer, stream).await.map_err(|e| failed(e.to_string()))?;
        let messages = pull(&bound).await.map_err(&failed)?;
        let (stream, consumer) = (stream.to_owned(), consumer.to_owned());
        Ok(Self { stream, consumer, client: client.clone(), bound, messages, leaderless: 0 })
    }

    /// The next message, or `None` when there was none for two seconds. Safe to drop while waiting.
    ///
    /// # Errors
    /// [`BusError::Consumer`] when the consumer is gone or can't be read.
    pub async fn next(&mut self) -> Result<Option<Delivery>, BusError> {
        use async_nats::jetstream::consumer::pull::MessagesErrorKind as Kind;
        let Ok(next) = tokio::time::timeout(NEXT_WAIT, self.messages.next()).await else {
            self.leaderless = 0;
            return Ok(None);
        };
        let failed =
            |text: String| BusError::Consumer { stream: self.stream.clone(), consumer: self.consumer.clone(), text };
        match next {
            None => Err(failed("the pull ended".to_owned())),
            // The server went away; the client pulls again by itself.
            Some(Err(error)) if error.kind() == Kind::MissingHeartbeat => Ok(None),
            // The consumer has no leader. The client would count this pull as made and wait for its end.
            Some(Err(error)) if error.kind() == Kind::NoResponders => {
                self.leaderless += 1;
                if self.leaderless > LEADERLESS_PULLS {
                    return Err(failed("it has no leader, or is gone".to_owned()));
                }
                tokio::time::sleep(LEADER_PAUSE).await;
                self.messages = pull(&self.bound).await.map_err(failed)?;
                Ok(None)
            }
            Some(Err(error)) => Err(failed(error.to_string())),
            Some(Ok(message)) => {
                self.leaderless = 0;
                let info = message.info().map_err(|error| failed(error.to_string()))?;
                let published_ms = info.published.unix_timestamp_nanos() / 1_000_000;
                Ok(Some(Delivery {
                    stream: self.stream.clone(),
                    consumer: self.consumer.clone(),
                    stream_seq: info.stream_sequence,
                    attempts: u64::try_from(info.delivered).unwrap_or(0),
                    published_at: UnixMs(i64::try_from(published_ms).unwrap_or(0)),
                    reply: message.reply.as_ref().map(ToString::to_string).unwrap_or_default(),
                    client: self.client.clone(),
                    raw: raw_of(&message.message),
                }))
            }
        }
    }
}

async fn pull(bound: &PullConsumer) -> Result<pull::Stream, String> {
    let pulling = bound.stream().max_messages_per_batch(BATCH).expires(PULL_EXPIRES).heartbeat(PULL_HEARTBEAT);
    pulling.messages().await.map_err(|error| error.to_string())
}

pub(crate) fn raw_of(message: &async_nats::Message) -> Raw {
    Raw {
        subject: message.subject.to_string(),
        headers: message.headers.as_ref().map(headers_of).unwrap_or_default(),
        payload: message.payload.to_vec(),
    }
}

pub(crate) fn headers_of(headers: &HeaderMap) -> Vec<(String, String)> {
    headers
        .iter()
        .flat_map(|(name, values)| values.iter().map(move |value| (name.to_string(), value.as_str().to_owned())))
        .collect()
}

/// A plain subscription.
#[derive(Debug)]
pub struct Subscription {
    inner: async_nats::Subscriber,
}

impl Subscription {
    pub(crate) const fn new(inner: async_nats::Subscriber) -> Self {
        Self { inner }
    }

    /// The next message; `None` when the subscription ended.
    pub async fn next(&mut self) -> Option<Raw> {
        self.inner.next().await.as_ref().map(raw_of)
    }
}
