//! Dead letters: how a message is written down that is given up, how it is read again, and how it goes back.
//!
//! A message that goes back is the same message. Its id, and until when it holds, may come from the sender's
//! `Nats-Msg-Id` and from when and where it was stored first, so it carries those in headers of its own, and the codec
//! reads them in the place of the new ones. What was handled before is then known to its reader's inbox, and a default
//! end is not moved by lying around.

use async_nats::jetstream;
use async_nats::jetstream::stream::{RawMessageErrorKind, Stream as Stored};
use domain::ids::{MessageId, derive};
use domain::message::{Envelope, Payload};
use domain::reject::{Reject, RejectCode};
use domain::subject::Stream;
use domain::time::UnixMs;

use crate::codec::{self, Arrival};
use crate::connection::{Bus, Encoded};
use crate::delivery::Raw;
use crate::error::BusError;

/// The `Nats-Msg-Id` that a message which was put back had at first.
pub(crate) const FIRST_ID: &str = "swarm-first-id";
/// Where and when it was stored at first: `<stream>:<seq>:<ms>`.
pub(crate) const FIRST_AT: &str = "swarm-first-at";
/// How often it was put back.
const REDRIVES: &str = "swarm-redrives";
/// Longest header kept of a sender.
const LONGEST_ID: usize = 256;
const LONGEST_TEXT: usize = 200;

/// A dead letter, read from its stream. Nothing in it is believed to be well-formed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Letter {
    /// `<stream>:<seq>` of the dead message; `DLQ:<seq>` of the letter itself when it does not say.
    pub id: String,
    /// Who gave it up.
    pub consumer: String,
    /// Its sequence in the stream of dead letters.
    pub seq: u64,
    /// When it was given up.
    pub died_at: UnixMs,
    /// Stable code of the reason.
    pub code: String,
    /// The reason in words.
    pub detail: String,
    /// How often the message was put back before.
    pub redrives: u32,
    /// The message, with what is needed of its headers.
    pub raw: Raw,
    stream: String,
    stream_seq: u64,
    published_at: Option<UnixMs>,
    message_id: Option<MessageId>,
}

/// The dead letter of a message, and the id it is stored under: a function of the message's place.
#[must_use]
pub fn letter(at: &Arrival<'_>, consumer: &str, raw: &Raw, reject: &Reject, now: UnixMs) -> (Encoded, String) {
    let place = format!("{}:{}", at.stream, at.stream_seq);
    let id = derive("swarm.dlq.v1", &[place.as_bytes()]);
    let kept = |name: &str, longest: usize| header_text(raw.header(name).unwrap_or_default(), longest);
    // The sender's own headers could be anything: only what is needed to read the bytes again is kept.
    let headers = vec![
        ("content-type", kept("content-type", LONGEST_TEXT)),
        ("swarm-code", reject.code.code().to_owned()),
        ("swarm-detail", header_text(&reject.detail, LONGEST_TEXT)),
        ("swarm-subject", header_text(&raw.subject, LONGEST_TEXT)),
        ("swarm-place", place.clone()),
        ("swarm-msg-id", kept("Nats-Msg-Id", LONGEST_ID)),
        ("swarm-at-ms", now.0.to_string()),
        ("swarm-published-ms", at.published_at.0.to_string()),
        ("swarm-message-id", codec::read(raw, at).map_or_else(|_| String::new(), |m| m.header.message_id.to_string())),
        (FIRST_ID, kept(FIRST_ID, LONGEST_ID)),
        (FIRST_AT, kept(FIRST_AT, LONGEST_ID)),
        (REDRIVES, kept(REDRIVES, LONGEST_TEXT)),
    ];
    let headers = headers.into_iter().filter(|(_, value)| !value.is_empty());
    let headers = headers.map(|(name, value)| (name.to_owned(), value)).collect();
    let letter =
        Encoded { subject: format!("dlq.{}.{consumer}", at.stream), id, headers, payload: raw.payload.clone() };
    (letter, place)
}

impl Letter {
    /// Reads what lies in the stream of dead letters at `seq`.
    fn of(seq: u64, stored: Raw) -> Self {
        let header = |name: &str| stored.header(name).map(str::to_owned);
        let number = |name: &str| stored.header(name).and_then(|text| text.parse::<i64>().ok());
        let mut tokens = stored.subject.split('.').skip(1);
        let (stream, consumer) = (tokens.next().unwrap_or_default(), tokens.next().unwrap_or_default());
        // Who may write to a subject says the server; a place on another stream is not theirs to name.
        let place = stored.header("swarm-place").and_then(|place| place.rsplit_once(':'));
        let stream_seq = place.filter(|(named, _)| *named == stream).and_then(|(_, seq)| seq.parse::<u64>().ok());
        let kept = [
            ("content-type", header("content-type")),
            ("Nats-Msg-Id", header("swarm-msg-id")),
            (FIRST_ID, header(FIRST_ID)),
            (FIRST_AT, header(FIRST_AT)),
            (REDRIVES, header(REDRIVES)),
        ];
        let headers = kept.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect();
        Self {
            id: stream_seq.map_or_else(|| format!("DLQ:{seq}"), |seq| format!("{stream}:{seq}")),
            consumer: consumer.to_owned(),
            seq,
            died_at: UnixMs(number("swarm-at-ms").unwrap_or(0)),
            code: header("swarm-code").unwrap_or_else(|| "UNKNOWN".to_owned()),
            detail: header("swarm-detail").unwrap_or_default(),
            redrives: stored.header(REDRIVES).and_then(|text| text.parse().ok()).unwrap_or(0),
            stream: stream.to_owned(),
            stream_seq: stream_seq.unwrap_or(0),
            published_at: number("swarm-published-ms").filter(|_| stream_seq.is_some()).map(UnixMs),
            message_id: stored.header("swarm-message-id").and_then(|id| id.parse().ok()),
            raw: Raw { subject: header("swarm-subject").unwrap_or_default(), headers, payload: stored.payload },
        }
    }

    /// The message that died.
    ///
    /// # Errors
    /// A [`Reject`]: it could not be read then either, or not enough was kept of it to be the same message again.
    pub fn message(&self) -> Result<Envelope, Reject> {
        let lost = || Reject::new(RejectCode::BadId, "what makes it the same message was not kept");
        let published_at = self.published_at.ok_or_else(lost)?;
        let at = Arrival { stream: &self.stream, stream_seq: self.stream_seq, published_at };
        let message = codec::read(&self.raw, &at)?;
        if self.message_id == Some(message.header.message_id) { Ok(message) } else { Err(lost()) }
    }

    /// The message as it goes back to its own subject, the `number`th time, under the id `id` for the stream.
    #[must_use]
    pub fn put_back(&self, number: u32, id: uuid::Uuid) -> Raw {
        let raw = &self.raw;
        let (first_id, first_at) = match raw.header(FIRST_AT) {
            Some(at) => (raw.header(FIRST_ID), at.to_owned()),
            None => {
                let published_at = self.published_at.map_or(0, |at| at.0);
                (raw.header("Nats-Msg-Id"), format!("{}:{}:{published_at}", self.stream, self.stream_seq))
            }
        };
        let headers = [
            ("Nats-Msg-Id", Some(id.to_string())),
            ("content-type", raw.header("content-type").map(str::to_owned)),
            (FIRST_ID, first_id.map(str::to_owned)),
            (FIRST_AT, Some(first_at)),
            (REDRIVES, Some(number.to_string())),
        ];
        let headers = headers.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect();
        Raw { subject: raw.subject.clone(), headers, payload: raw.payload.clone() }
    }
}

/// Until when a message may be acted on: the earliest end that it or what it carries names.
#[must_use]
pub fn end_of(message: &Envelope) -> Option<UnixMs> {
    let inner = match &message.payload {
        Payload::OrderIntent(intent) => Some(intent.valid_until),
        Payload::Permit(permit) => Some(permit.body.expires_at.min(permit.body.envelope.valid_until)),
        _ => None,
    };
    [message.header.valid_until, inner].into_iter().flatten().min()
}

/// Where and when a message arrived first: said by its headers when it was put back, and never later than it arrived now.
///
/// # Errors
/// [`RejectCode::BadText`] for a header that says something else.
pub(crate) fn first_arrival<'a>(raw: &'a Raw, at: &Arrival<'a>) -> Result<Arrival<'a>, Reject> {
    let Some(text) = raw.header(FIRST_AT) else { return Ok(*at) };
    let bad = || Reject::new(RejectCode::BadText, format!("{FIRST_AT}: not <stream>:<seq>:<ms>"));
    let mut parts = text.splitn(3, ':');
    let (Some(stream), Some(seq), Some(ms)) = (parts.next(), parts.next(), parts.next()) else { return Err(bad()) };
    let (stream_seq, ms) = (seq.parse().map_err(|_| bad())?, ms.parse().map_err(|_| bad())?);
    if !domain::subject::is_token(stream) || ms < 0 {
        return Err(bad());
    }
    Ok(Arrival { stream, stream_seq, published_at: at.published_at.min(UnixMs(ms)) })
}

impl Bus {
    /// Stores a message that is given up, with the reason in its headers. The id is the message's place
    /// (`<stream>:<seq>`), so a letter written twice is one.
    ///
    /// # Errors
    /// [`BusError`].
    pub async fn dead_letter(
        &self,
        at: &Arrival<'_>,
        consumer: &str,
        raw: &Raw,
        reject: &Reject,
        now: UnixMs,
    ) -> Result<(), BusError> {
        let (letter, place) = letter(at, consumer, raw, reject, now);
        let started = tokio::time::Instant::now();
        let clock = move || now.plus_ms(i64::try_from(started.elapsed().as_millis()).unwrap_or(i64::MAX));
        self.publish_as(&letter, &place, None, &clock).await.map(|_| ())
    }

    /// The first and last sequence of the stream of dead letters; the first is one past the last when it is empty.
    ///
    /// # Errors
    /// [`BusError::Stream`].
    pub async fn letters_range(&self) -> Result<(u64, u64), BusError> {
        let stream = self.stored(Stream::Dlq).await?;
        let state = &stream.cached_info().state;
        Ok((state.first_sequence, state.last_sequence))
    }

    /// Dead letters from `seq` on, in their order, at most `most`.
    ///
    /// # Errors
    /// [`BusError::Stream`].
    pub async fn letters_from(&self, seq: u64, most: usize) -> Result<Vec<Letter>, BusError> {
        let stream = self.stored(Stream::Dlq).await?;
        let mut found = Vec::new();
        let mut next = seq;
        while found.len() < most {
            let Some((seq, raw, _)) = first_from(&stream, "dlq.>", next).await? else { break };
            found.push(Letter::of(seq, raw));
            next = seq.saturating_add(1);
        }
        Ok(found)
    }

    /// A stream of ours, for whoever administers streams.
    pub(crate) async fn stored(&self, stream: Stream) -> Result<Stored, BusError> {
        let context = jetstream::new(self.client().clone());
        context.get_stream(stream.name()).await.map_err(|error| unreadable(stream.name(), &error))
    }
}

/// The first stored message that `filter` matches at `seq` or after it: its sequence, itself, and when it was stored.
pub(crate) async fn first_from(
    stream: &Stored,
    filter: &str,
    seq: u64,
) -> Result<Option<(u64, Raw, UnixMs)>, BusError> {
    let found = stream.raw_message_builder().sequence(seq.max(1)).next_by_subject(filter).send().await;
    match found {
        Ok(message) => {
            let at_ms = message.time.unix_timestamp_nanos() / 1_000_000;
            let raw = Raw {
                subject: message.subject.to_string(),
                headers: crate::delivery::headers_of(&message.headers),
                payload: message.payload.to_vec(),
            };
            Ok(Some((message.sequence, raw, UnixMs(i64::try_from(at_ms).unwrap_or(0)))))
        }
        Err(error) if error.kind() == RawMessageErrorKind::NoMessageFound => Ok(None),
        Err(error) => Err(unreadable(&stream.cached_info().config.name, &error)),
    }
}

pub(crate) fn unreadable(stream: &str, error: &dyn std::fmt::Display) -> BusError {
    BusError::Stream { stream: stream.to_owned(), text: error.to_string() }
}

/// Text that fits a header: printable ASCII, and no longer than `longest`.
fn header_text(text: &str, longest: usize) -> String {
    text.chars().map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '?' }).take(longest).collect()
}

#[cfg(test)]
mod tests {
    use domain::ids::UserId;

    use super::*;

    const SIGNAL: &[u8] = br#"{"action":"BUY","token_address":"BTCUSDT","notional_usd":"600"}"#;
    const AT: Arrival<'static> =
        Arrival { stream: "TRADING_HIGH", stream_seq: 17, published_at: UnixMs(1_800_000_000_000) };

    fn signal(id: Option<&str>) -> Raw {
        let headers = id.map(|id| ("Nats-Msg-Id".to_owned(), id.to_owned())).into_iter().collect();
        Raw { subject: "trading.buy_bot.signal-alice.high".to_owned(), headers, payload: SIGNAL.to_vec() }
    }

    /// The letter as it lies in the stream.
    fn buried(raw: &Raw, at: &Arrival<'_>) -> Letter {
        let reject = Reject::new(RejectCode::NoMark, "no price");
        let (encoded, place) = letter(at, "buy_bot", raw, &reject, at.published_at.plus_ms(1_000));
        let letter =
            Letter::of(5, Raw { subject: encoded.subject, headers: encoded.headers, payload: encoded.payload });
        assert_eq!(letter.id, place);
        letter
    }

    #[test]
    fn a_message_that_goes_back_is_the_same_message_with_the_same_end() {
        for id in [None, Some("theirs"), Some("")] {
            let raw = signal(id);
            let Ok(first) = codec::read(&raw, &AT) else {
                assert_eq!(id, Some(""), "an empty id is none");
                continue;
            };
            let mut letter = buried(&raw, &AT);
            for number in 1..=3 {
                let again = letter.put_back(number, uuid::Uuid::from_u128(u128::from(number)));
                assert_eq!(
                    again.header("Nats-Msg-Id"),
                    Some(uuid::Uuid::from_u128(u128::from(number)).to_string().as_str())
                );
                let later = Arrival {
                    stream_seq: 40 + u64::from(number),
                    published_at: AT.published_at.plus_ms(30_000 * i64::from(number)),
                    ..AT
                };
                let read = codec::read(&again, &later).unwrap();
                assert_eq!(read, first, "{id:?} the {number}th time");
                assert_eq!(end_of(&read), Some(AT.published_at.plus_ms(60_000)));
                letter = buried(&again, &later);
                assert_eq!((letter.redrives, letter.message().unwrap()), (number, first.clone()));
            }
        }
    }

    #[test]
    fn a_letter_that_is_not_the_same_message_any_more_is_not_read() {
        let long = "x".repeat(256);
        assert!(buried(&signal(Some(&long)), &AT).message().is_ok());
        assert!(buried(&signal(Some("ünlike")), &AT).message().is_err(), "its id was not kept as it was");
        let unread = Raw { payload: b"{".to_vec(), ..signal(None) };
        assert_eq!(buried(&unread, &AT).message().unwrap_err().code, RejectCode::BadJson);
        let old = Letter { published_at: None, ..buried(&signal(None), &AT) };
        assert_eq!(old.message().unwrap_err().code, RejectCode::BadId);
        let other = Letter { message_id: Some(MessageId::of_person(UserId::of_handle("bob"), "x")), ..old };
        assert!(Letter { published_at: Some(AT.published_at), ..other }.message().is_err());
    }

    #[test]
    fn nobody_names_a_place_on_another_stream() {
        let (encoded, _) = letter(&AT, "buy_bot", &signal(None), &Reject::new(RejectCode::NoMark, ""), UnixMs(1));
        let stored = Raw { subject: encoded.subject, headers: encoded.headers, payload: encoded.payload };
        let moved = Letter::of(5, Raw { subject: "dlq.TRADING_CRITICAL.buy_bot".to_owned(), ..stored });
        assert_eq!(moved.id, "DLQ:5");
        assert!(moved.message().is_err());
        let nothing = Letter::of(6, Raw { subject: "dlq.x".to_owned(), ..Raw::default() });
        assert_eq!((nothing.id.as_str(), nothing.code.as_str()), ("DLQ:6", "UNKNOWN"));
    }

    #[test]
    fn a_first_arrival_is_never_later_than_this_one() {
        let with = |text: &str| Raw { headers: vec![(FIRST_AT.to_owned(), text.to_owned())], ..signal(None) };
        let said = with("TRADING_HIGH:3:1799999990000");
        let first = first_arrival(&said, &AT).unwrap();
        assert_eq!((first.stream_seq, first.published_at), (3, UnixMs(1_799_999_990_000)));
        assert_eq!(first_arrival(&with("TRADING_HIGH:3:1900000000000"), &AT).unwrap().published_at, AT.published_at);
        for text in ["", "TRADING_HIGH:3", "TRADING_HIGH:x:1", "TRADING HIGH:1:1", "TRADING_HIGH:1:-1", "A:1:1:1"] {
            assert!(first_arrival(&with(text), &AT).is_err(), "{text}");
            assert_eq!(codec::read(&with(text), &AT).unwrap_err().code, RejectCode::BadText, "{text}");
        }
    }
}
