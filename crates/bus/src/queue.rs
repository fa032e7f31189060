//! What waits for an agent in a stream, for whoever administers streams: nobody else may look into another's queue.

use async_nats::jetstream::context::ConsumerInfoErrorKind;
use domain::subject::Stream;
use domain::time::UnixMs;

use crate::codec::{self, Arrival};
use crate::connection::Bus;
use crate::error::BusError;
use crate::letters::{end_of, first_from};

/// Messages of one stream that an agent has not settled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// Stream name.
    pub stream: &'static str,
    /// How many, those in the agent's hands included.
    pub messages: u64,
    /// When the oldest of them was stored.
    pub oldest_at: Option<UnixMs>,
    /// Until when the oldest may be acted on; `None` when it names no end, or can't be read.
    pub oldest_valid_until: Option<UnixMs>,
}

impl Bus {
    /// What waits for `agent` in `stream`; `None` when it takes nothing from there.
    ///
    /// # Errors
    /// [`BusError::Stream`], [`BusError::Consumer`].
    pub async fn waiting(&self, stream: Stream, agent: &str) -> Result<Option<Waiting>, BusError> {
        let name = stream.name();
        let stored = self.stored(stream).await?;
        let info = match stored.consumer_info(agent).await {
            Ok(info) => info,
            Err(error) if error.kind() == ConsumerInfoErrorKind::NotFound => return Ok(None),
            Err(error) => {
                let (stream, consumer) = (name.to_owned(), agent.to_owned());
                return Err(BusError::Consumer { stream, consumer, text: error.to_string() });
            }
        };
        let messages = info.num_pending + u64::try_from(info.num_ack_pending).unwrap_or(0);
        let mut waiting = Waiting { stream: name, messages, oldest_at: None, oldest_valid_until: None };
        if messages == 0 {
            return Ok(Some(waiting));
        }
        let mut oldest = None;
        let after = info.ack_floor.stream_sequence + 1;
        let filters = info.config.filter_subjects.iter().chain([&info.config.filter_subject]);
        for filter in filters.filter(|filter| !filter.is_empty()) {
            let first = first_from(&stored, filter, after).await?;
            oldest = first.into_iter().chain(oldest).min_by_key(|(seq, ..)| *seq);
        }
        if let Some((stream_seq, raw, published_at)) = oldest {
            let at = Arrival { stream: name, stream_seq, published_at };
            waiting.oldest_at = Some(published_at);
            waiting.oldest_valid_until = codec::read(&raw, &at).ok().and_then(|message| end_of(&message));
        }
        Ok(Some(waiting))
    }
}
