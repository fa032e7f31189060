//! Dead letters and notices: the ends of signals that no table knows.

use std::collections::BTreeMap;

use bus::Raw;
use bus::codec::Arrival;
use bus::{Bus, BusConfig};
use domain::ids::MessageId;
use domain::message::Payload;
use domain::time::UnixMs;

use crate::Trouble;
use crate::house::House;

/// Where a message was does not matter here.
const NOWHERE: Arrival<'_> = Arrival { stream: "", stream_seq: 0, published_at: UnixMs(1) };

/// What the streams say was given up.
#[derive(Debug, Default)]
pub struct Letters {
    /// By the id of the signal: code and what was buried (`signal`, or the message it had become).
    pub of_signals: BTreeMap<MessageId, Vec<(String, String)>>,
    /// How many dead letters and notices were read.
    pub read: (usize, usize),
}

/// Reads both streams to their ends under the administrator's key. `by_key` finds a signal by the id its sender gave it.
///
/// # Errors
/// [`Trouble::Other`].
pub async fn read(house: &House, by_key: &BTreeMap<String, MessageId>) -> Result<Letters, Trouble> {
    let trouble = |text: &dyn std::fmt::Display| Trouble::Other(format!("reading streams: {text}"));
    let seed = Bus::read_seed(&house.data.join("secrets").join("admin.nk")).map_err(|e| trouble(&e))?;
    let config = BusConfig {
        url: house.doors().files.nats_url.clone(),
        name: "chaos".to_owned(),
        nkey_seed: Some(seed),
        inbox_prefix: Some(bus::permissions::inbox_prefix("admin")),
    };
    let (bus, _events) = Bus::connect(config).await.map_err(|e| trouble(&e))?;
    let mut letters = Letters::default();
    for raw in all(&bus, "DLQ", "dlq.>").await? {
        letters.read.0 += 1;
        let code = raw.header("swarm-code").unwrap_or("?").to_owned();
        if let Some((signal, what)) = about(&raw, by_key) {
            letters.of_signals.entry(signal).or_default().push((code, what));
        }
    }
    for raw in all(&bus, "SYSTEM_LOW", "system.all.notice.low").await? {
        letters.read.1 += 1;
        let Ok(envelope) = bus::codec::read(&raw, &NOWHERE) else { continue };
        if let Payload::Notice(notice) = &envelope.payload
            && notice.code == "MESSAGE_EXPIRED"
        {
            // Told by whoever held the message in its outbox; its chain began with the signal.
            let signal = MessageId(envelope.header.correlation_id.0);
            let what = notice.numbers.get("subject").cloned().unwrap_or_default();
            letters.of_signals.entry(signal).or_default().push((notice.code.clone(), what));
        }
    }
    Ok(letters)
}

/// Which signal a dead letter ends, and as what it was buried. Permits end in a table, whatever became of their message.
fn about(letter: &Raw, by_key: &BTreeMap<String, MessageId>) -> Option<(MessageId, String)> {
    let subject = letter.header("swarm-subject")?;
    if subject.starts_with("trading.buy_bot.signal") {
        return Some((*by_key.get(letter.header("swarm-msg-id")?)?, "signal".to_owned()));
    }
    let content_type = letter.header("content-type")?.to_owned();
    let raw = Raw {
        subject: subject.to_owned(),
        headers: vec![("content-type".to_owned(), content_type)],
        payload: letter.payload.clone(),
    };
    // Read whatever the time: what killed it must not keep it from being read.
    match bus::codec::read(&raw, &NOWHERE).ok()?.payload {
        Payload::OrderIntent(intent) => Some((intent.signal_id, "intent".to_owned())),
        _ => None,
    }
}

async fn all(bus: &Bus, stream: &str, filter: &str) -> Result<Vec<Raw>, Trouble> {
    let trouble = |text: &dyn std::fmt::Display| Trouble::Other(format!("stream {stream}: {text}"));
    let context = async_nats::jetstream::new(bus.client().clone());
    let stream = context.get_stream(stream).await.map_err(|e| trouble(&e))?;
    let mut found = Vec::new();
    let mut next = 1;
    loop {
        use async_nats::jetstream::stream::LastRawMessageErrorKind as Kind;
        let message = stream.raw_message_builder().sequence(next).next_by_subject(filter.to_owned()).send().await;
        match message {
            Ok(message) => {
                next = message.sequence + 1;
                let headers = message.headers.iter();
                let headers = headers
                    .flat_map(|(name, values)| values.iter().map(move |v| (name.to_string(), v.as_str().to_owned())));
                found.push(Raw {
                    subject: message.subject.to_string(),
                    headers: headers.collect(),
                    payload: message.payload.to_vec(),
                });
            }
            Err(error) if error.kind() == Kind::NoMessageFound => return Ok(found),
            Err(error) => return Err(trouble(&error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use domain::ids::CorrelationId;
    use domain::message::{Envelope, Header};
    use domain::reject::{Reject, RejectCode};
    use domain::subject::{Priority, Route, Subject};

    use super::*;

    #[test]
    fn an_intent_that_was_never_in_time_is_still_known_as_the_end_of_its_signal() {
        let made_at = UnixMs(1_790_000_030_000);
        let intent = testkit::build::buy_intent("late", "BTCUSDT", "0.1", "60000", made_at);
        let signal = intent.signal_id;
        let header = Header {
            message_id: MessageId(uuid::Uuid::from_u128(8)),
            correlation_id: CorrelationId(signal.0),
            source_agent: "buy_bot".to_owned(),
            made_at,
            priority: 4,
            user_id: intent.user_id,
            // By a clock that was 30 s ahead it was dead before it was made: no moment is in time for it.
            valid_until: Some(made_at.plus_ms(-29_000)),
            traceparent: None,
        };
        let payload = Payload::OrderIntent(intent);
        let subject = Subject::of(Route::Intent, Priority::Critical);
        let sent = bus::Bus::encode(&Envelope { header, subject, payload });
        let raw = Raw { subject: sent.subject, headers: sent.headers, payload: sent.payload };
        let reject = Reject::new(RejectCode::Expired, "late");
        let at = Arrival { stream: "TRADING_CRITICAL", stream_seq: 3, published_at: made_at };
        let (letter, _) = bus::letters::letter(&at, "treasury", &raw, &reject, made_at);
        let letter = Raw { subject: letter.subject, headers: letter.headers, payload: letter.payload };
        assert_eq!(about(&letter, &BTreeMap::new()), Some((signal, "intent".to_owned())));
    }
}
