//! Recordings as a source.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use domain::market::{Instrument, Venue};

use super::{MarketSource, SourceEvent};
use crate::error::VenueError;
use crate::feed::{self, FeedEvent, Recording};

/// How fast a recording is played.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// As fast as it is taken.
    Unbounded,
    /// With the pauses it was recorded with.
    AsRecorded,
}

/// Plays the files of one recording after each other. A recording holds no rules of its instruments; they are given.
pub struct RecordingSource {
    files: VecDeque<PathBuf>,
    current: Option<Recording>,
    instruments: Vec<Instrument>,
    pace: Pace,
    ahead: Option<FeedEvent>,
    /// Receive time of the first event, and when it was played.
    origin: Option<(i64, tokio::time::Instant)>,
}

impl RecordingSource {
    /// Plays `files` in this order.
    #[must_use]
    pub fn new(files: Vec<PathBuf>, instruments: Vec<Instrument>, pace: Pace) -> Self {
        Self { files: files.into(), current: None, instruments, pace, ahead: None, origin: None }
    }

    fn read(&mut self) -> Option<Result<FeedEvent, VenueError>> {
        loop {
            if let Some(recording) = &mut self.current {
                if let Some(event) = recording.next() {
                    return Some(event);
                }
                self.current = None;
            }
            match feed::open(&self.files.pop_front()?) {
                Ok(recording) => self.current = Some(recording),
                Err(error) => return Some(Err(error)),
            }
        }
    }

    fn due(&mut self, event: &FeedEvent) -> Option<tokio::time::Instant> {
        if self.pace == Pace::Unbounded {
            return None;
        }
        let (first_ns, began) = *self.origin.get_or_insert((event.received_at_ns, tokio::time::Instant::now()));
        let after_ns = u64::try_from(event.received_at_ns.saturating_sub(first_ns)).unwrap_or(0);
        began.checked_add(Duration::from_nanos(after_ns))
    }
}

#[async_trait]
impl MarketSource for RecordingSource {
    async fn instruments(&mut self, venue: Venue) -> Result<Vec<Instrument>, VenueError> {
        let named = |instrument: &Instrument| {
            let mut instrument = instrument.clone();
            instrument.id.venue = venue;
            instrument
        };
        Ok(self.instruments.iter().map(named).collect())
    }

    async fn next(&mut self) -> Option<SourceEvent> {
        if self.ahead.is_none() {
            match self.read()? {
                Ok(event) => self.ahead = Some(event),
                // A bad line: what comes after it may lack what was in it.
                Err(error) => return Some(SourceEvent::Lost { symbol: None, reason: error.to_string() }),
            }
        }
        let event = self.ahead.clone()?;
        if let Some(due) = self.due(&event) {
            tokio::time::sleep_until(due).await;
        }
        self.ahead.take().map(SourceEvent::Feed)
    }
}
