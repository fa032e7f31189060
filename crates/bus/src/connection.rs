//! The connection of one process.
//!
//! Three facts about the broker shape this file. A publish that timed out may still be stored, seconds later: so every
//! try carries the same `Nats-Msg-Id`. "No responders" means "no leader now" as often as "no such stream": so it is
//! tried again. And a missing right shows only as an event: so it is fatal.

use std::path::Path;
use std::time::Duration;

use async_nats::client::RequestErrorKind;
use async_nats::header::{HeaderName, HeaderValue};
use async_nats::{Client, ConnectOptions, Event, HeaderMap, Request, ServerAddr};

use domain::message::Envelope;
use domain::subject::Stream;
use domain::time::UnixMs;
use futures::StreamExt;
use tokio::sync::mpsc;

use crate::answer::{Meaning, PubAck, meaning};
use crate::delivery::{Puller, Raw, Subscription};
use crate::error::BusError;

/// How to connect.
#[derive(Clone, Default)]
pub struct BusConfig {
    /// `nats://host:port`; several nodes of one cluster are separated by commas.
    pub url: String,
    /// Name shown by the server's monitoring.
    pub name: String,
    /// NKEY seed; `None` only for a server without users, in tests.
    pub nkey_seed: Option<String>,
    /// Inbox prefix this user may subscribe to, such as `_INBOX_treasury`.
    pub inbox_prefix: Option<String>,
}

/// What happened to the connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BusEvent {
    /// A right is missing or the connection is closed for good: the process must end.
    Fatal(String),
    /// The connection was lost; it is being made again.
    Disconnected,
    /// The connection stands (again).
    Connected,
    /// A plain subscription was too slow; messages were lost.
    SlowConsumer,
}

/// A message as it goes out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded {
    /// Where to.
    pub subject: String,
    /// Goes out as `Nats-Msg-Id`.
    pub id: uuid::Uuid,
    /// All headers.
    pub headers: Vec<(String, String)>,
    /// Protobuf.
    pub payload: Vec<u8>,
}

/// Where a message was stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// Stream name.
    pub stream: String,
    /// Its sequence there.
    pub seq: u64,
    /// It was there already, under the same id.
    pub duplicate: bool,
    /// How often it was sent: more than once when nobody answered in time.
    pub tries: u32,
}

/// How long one try of a publish waits for the stream's answer.
const ACK_TIMEOUT: Duration = Duration::from_secs(1);
/// Pause between two tries of one publish.
const RETRY_PAUSE: Duration = Duration::from_millis(100);
/// How long a publish without a valid-until is tried.
const RETRY_FOR_MS: i64 = 10_000;

/// Market subjects whose last values are asked for at once.
const LAST_VALUES: usize = 1_000;

/// One connection; cheap to clone.
#[derive(Clone)]
pub struct Bus {
    client: Client,
}

impl std::fmt::Debug for Bus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bus").finish_non_exhaustive()
    }
}

impl Bus {
    /// Connects, and keeps connecting when the connection is lost.
    ///
    /// # Errors
    /// [`BusError::Config`], [`BusError::Connect`].
    pub async fn connect(config: BusConfig) -> Result<(Self, mpsc::Receiver<BusEvent>), BusError> {
        let servers = servers(&config.url)?;
        let (events, heard) = mpsc::channel(64);
        let mut options = match config.nkey_seed {
            Some(seed) => ConnectOptions::with_nkey(seed),
            None => ConnectOptions::new(),
        };
        if let Some(prefix) = config.inbox_prefix {
            options = options.custom_inbox_prefix(prefix);
        }
        let client = options
            .name(config.name)
            .ping_interval(Duration::from_secs(2))
            .request_timeout(Some(Duration::from_secs(2)))
            .connection_timeout(Duration::from_secs(5))
            .event_callback(move |event| {
                let events = events.clone();
                async move {
                    if let Some(event) = told(&event) {
                        // A reader that is gone has no use for events.
                        let _ = events.send(event).await;
                    }
                }
            })
            .connect(servers)
            .await
            .map_err(BusError::Connect)?;
        Ok((Self { client }, heard))
    }

    /// The connection itself, for NATS services.
    #[must_use]
    pub const fn client(&self) -> &Client {
        &self.client
    }

    /// Whether the connection stands at this moment.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.client.connection_state() == async_nats::connection::State::Connected
    }

    /// A message as it goes out.
    #[must_use]
    pub fn encode(envelope: &Envelope) -> Encoded {
        crate::codec::encode(envelope)
    }

    /// Stores a message. The same id is sent again on a timeout and while no stream answers, until the message's
    /// valid-until (at most 10 s without one), counted from its own time.
    ///
    /// # Errors
    /// [`BusError`].
    pub async fn publish(&self, envelope: &Envelope) -> Result<Published, BusError> {
        let started = tokio::time::Instant::now();
        let made_at = envelope.header.made_at;
        let now = move || made_at.plus_ms(i64::try_from(started.elapsed().as_millis()).unwrap_or(i64::MAX));
        self.publish_encoded(&Self::encode(envelope), envelope.header.valid_until, &now).await
    }

    /// Stores an encoded message (the outbox relay), tried as in [`Bus::publish`] by the time of `now`.
    ///
    /// # Errors
    /// [`BusError`].
    pub async fn publish_encoded(
        &self,
        encoded: &Encoded,
        valid_until: Option<UnixMs>,
        now: &(dyn Fn() -> UnixMs + Sync),
    ) -> Result<Published, BusError> {
        self.publish_as(encoded, &encoded.id.to_string(), valid_until, now).await
    }

    /// Stores a message whose id somebody else has used: with an id of its own for the stream, which nobody can guess.
    /// (an inbox name is random). The message itself keeps its id, so whoever has seen it drops it.
    ///
    /// # Errors
    /// [`BusError`].
    pub async fn publish_despite(
        &self,
        encoded: &Encoded,
        valid_until: Option<UnixMs>,
        now: &(dyn Fn() -> UnixMs + Sync),
    ) -> Result<Published, BusError> {
        self.publish_as(encoded, &format!("{}:{}", encoded.id, self.client.new_inbox()), valid_until, now).await
    }

    /// Stores a message as it came, headers and bytes, for the reader behind the stream to read it as if its sender had
    /// published it there. Tried as in [`Bus::publish`] by the time of `now`, so it must have a `Nats-Msg-Id`.
    ///
    /// # Errors
    /// [`BusError`].
    pub async fn forward(
        &self,
        raw: &Raw,
        valid_until: Option<UnixMs>,
        now: &(dyn Fn() -> UnixMs + Sync),
    ) -> Result<Published, BusError> {
        let Raw { subject, headers, payload } = raw.clone();
        let as_it_came = Encoded { subject, id: uuid::Uuid::nil(), headers, payload };
        let id = raw.header("Nats-Msg-Id").ok_or_else(|| refused(&as_it_came, "no Nats-Msg-Id".to_owned()))?;
        self.publish_as(&as_it_came, id, valid_until, now).await
    }

    pub(crate) async fn publish_as(
        &self,
        encoded: &Encoded,
        id: &str,
        valid_until: Option<UnixMs>,
        now: &(dyn Fn() -> UnixMs + Sync),
    ) -> Result<Published, BusError> {
        let longest = now().plus_ms(RETRY_FOR_MS);
        let until = valid_until.map_or(longest, |until| until.min(longest));
        let mut tries = 0;
        loop {
            tries += 1;
            if let Some(published) = self.try_publish(encoded, id).await? {
                return Ok(Published { tries, ..published });
            }
            if now() >= until {
                return Err(BusError::PublishUnanswered { subject: encoded.subject.clone(), tries });
            }
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }

    /// One try; `None` when nobody answered, so that the same id may be sent again.
    async fn try_publish(&self, encoded: &Encoded, id: &str) -> Result<Option<Published>, BusError> {
        let headers = header_map(&encoded.subject, &encoded.headers, Some(id))?;
        let request =
            Request::new().headers(headers).payload(encoded.payload.clone().into()).timeout(Some(ACK_TIMEOUT));
        let reply = match self.client.send_request(encoded.subject.clone(), request).await {
            Ok(reply) => reply,
            Err(error) => {
                return match error.kind() {
                    // "No responders" also means "no leader now": the stream is known to exist.
                    RequestErrorKind::TimedOut | RequestErrorKind::NoResponders => Ok(None),
                    RequestErrorKind::MaxPayloadExceeded => {
                        Err(BusError::TooLarge { subject: encoded.subject.clone(), bytes: encoded.payload.len() })
                    }
                    _ => Err(BusError::Core(error.to_string())),
                };
            }
        };
        let ack: PubAck = serde_json::from_slice(&reply.payload)
            .map_err(|_| refused(encoded, "the answer is no publish acknowledgement".to_owned()))?;
        let Some(error) = ack.error else {
            return Ok(Some(Published { stream: ack.stream, seq: ack.seq, duplicate: ack.duplicate, tries: 0 }));
        };
        let subject = encoded.subject.clone();
        match meaning(&error) {
            Meaning::Unanswered => Ok(None),
            Meaning::Full => Err(BusError::StreamFull { subject, text: error.description }),
            Meaning::TooLarge => Err(BusError::TooLarge { subject, bytes: encoded.payload.len() }),
            Meaning::Refused => Err(refused(encoded, format!("{} ({})", error.description, error.err_code))),
        }
    }

    /// Sends what no stream has to confirm, because only the latest counts: market data and heartbeats.
    ///
    /// # Errors
    /// [`BusError::Core`].
    pub async fn publish_latest(&self, envelope: &Envelope) -> Result<(), BusError> {
        let encoded = Self::encode(envelope);
        let headers = header_map(&encoded.subject, &encoded.headers, None)?;
        self.client
            .publish_with_headers(encoded.subject, headers, encoded.payload.into())
            .await
            .map_err(|error| BusError::Core(error.to_string()))
    }

    /// Binds to a durable consumer, which must exist.
    ///
    /// # Errors
    /// [`BusError::Consumer`].
    pub async fn consumer(&self, stream: Stream, agent: &str) -> Result<Puller, BusError> {
        Puller::bind(&self.client, stream.name(), agent).await
    }

    /// The last stored value of every market subject that `filter` matches: what happened before this process listened.
    ///
    /// # Errors
    /// [`BusError::Core`].
    pub async fn last_values(&self, filter: &str) -> Result<Vec<Raw>, BusError> {
        let core = |error: &dyn std::fmt::Display| BusError::Core(error.to_string());
        let inbox = self.client.new_inbox();
        let mut answers = self.client.subscribe(inbox.clone()).await.map_err(|e| core(&e))?;
        let wish = format!("{{\"multi_last\":[\"{filter}\"],\"batch\":{LAST_VALUES}}}");
        let subject = format!("$JS.API.DIRECT.GET.{}", Stream::Market.name());
        self.client.publish_with_reply(subject, inbox, wish.into()).await.map_err(|e| core(&e))?;
        let mut values = Vec::new();
        // The end is said by a message with a status; a server that says nothing has no values for us.
        while let Ok(Some(answer)) = tokio::time::timeout(ACK_TIMEOUT, answers.next()).await {
            if answer.status.is_some() {
                break;
            }
            let mut raw = crate::delivery::raw_of(&answer);
            if let Some(subject) = raw.header("Nats-Subject").map(str::to_owned) {
                raw.subject = subject;
                values.push(raw);
            }
        }
        Ok(values)
    }

    /// Plain subscription.
    ///
    /// # Errors
    /// [`BusError::Core`].
    pub async fn subscribe(&self, filter: &str) -> Result<Subscription, BusError> {
        let inner = self.client.subscribe(filter.to_owned()).await.map_err(|e| BusError::Core(e.to_string()))?;
        Ok(Subscription::new(inner))
    }

    /// Hands a message back that a dead process held, by the reply subject of its last heartbeat, so that it is
    /// delivered again at once instead of after the ack wait.
    ///
    /// # Errors
    /// [`BusError::Core`], also for a subject that acknowledges nothing.
    pub async fn hand_back(&self, reply_subject: &str) -> Result<(), BusError> {
        if !reply_subject.starts_with("$JS.ACK.") {
            return Err(BusError::Core("not an acknowledgement subject".to_owned()));
        }
        self.client.publish(reply_subject.to_owned(), "-NAK".into()).await.map_err(|e| BusError::Core(e.to_string()))
    }

    /// Reads an NKEY seed file.
    ///
    /// # Errors
    /// [`BusError::File`].
    pub fn read_seed(path: &Path) -> Result<String, BusError> {
        let text = std::fs::read_to_string(path).map_err(|source| BusError::File { path: path.to_owned(), source })?;
        Ok(text.trim().to_owned())
    }
}

/// The servers that a setting names, separated by commas.
///
/// # Errors
/// [`BusError::Config`] for none, and for what is no URL.
pub fn servers(urls: &str) -> Result<Vec<ServerAddr>, BusError> {
    let named: Vec<&str> = urls.split(',').map(str::trim).filter(|url| !url.is_empty()).collect();
    if named.is_empty() {
        return Err(BusError::Config("no URL to connect to".to_owned()));
    }
    let parsed = named.iter().map(|url| {
        let known = url.starts_with("nats://") || url.starts_with("tls://");
        let addr = known.then(|| url.parse::<ServerAddr>().ok()).flatten();
        addr.ok_or_else(|| BusError::Config(format!("{url:?} is no server: nats://host:port or tls://host:port")))
    });
    parsed.collect()
}

fn refused(encoded: &Encoded, text: String) -> BusError {
    BusError::PublishRefused { subject: encoded.subject.clone(), text }
}

/// Headers as the client wants them, with `id` as the one `Nats-Msg-Id`. Its own conversions panic on a line break.
fn header_map(subject: &str, headers: &[(String, String)], id: Option<&str>) -> Result<HeaderMap, BusError> {
    let mut map = HeaderMap::new();
    let named = headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let kept = named.filter(|(name, _)| !name.eq_ignore_ascii_case("Nats-Msg-Id"));
    for (name, value) in kept.chain(id.map(|id| ("Nats-Msg-Id", id))) {
        let text = || format!("header {name} can't be sent");
        let bad = || BusError::PublishRefused { subject: subject.to_owned(), text: text() };
        map.append(name.parse::<HeaderName>().map_err(|_| bad())?, value.parse::<HeaderValue>().map_err(|_| bad())?);
    }
    Ok(map)
}

/// What an event of the client means for the process. A missing right shows nowhere else.
fn told(event: &Event) -> Option<BusEvent> {
    match event {
        Event::Connected => Some(BusEvent::Connected),
        Event::Disconnected => Some(BusEvent::Disconnected),
        Event::SlowConsumer(_) => Some(BusEvent::SlowConsumer),
        Event::Closed => Some(BusEvent::Fatal("the connection is closed for good".to_owned())),
        Event::ServerError(error) => {
            let text = error.to_string();
            is_missing_right(&text).then_some(BusEvent::Fatal(text))
        }
        _ => None,
    }
}

/// Whether the server refused what this process needs. An answer to an inbox may be refused at any time: the right to
/// give it ends with the connection that the question came through (a restart of the server, a cut link), and whoever
/// asked has stopped waiting. No process may die of that.
fn is_missing_right(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    if lower.contains("authorization violation") {
        return true;
    }
    lower.contains("permissions violation") && !lower.contains("violation for publish to \"_inbox")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_answer_is_no_missing_right() {
        for (text, missing) in [
            ("nats: Permissions Violation for Publish to \"_INBOX_operator.Ksg0.c5P\"", false),
            ("nats: Permissions Violation for Publish to \"trading.treasury.intent.critical\"", true),
            ("nats: Permissions Violation for Subscription to \"_INBOX_other.>\"", true),
            ("nats: Authorization Violation", true),
            ("nats: something else", false),
        ] {
            assert_eq!(is_missing_right(text), missing, "{text}");
        }
    }
}
