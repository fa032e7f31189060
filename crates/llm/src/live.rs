//! A streamed answer that is under way.

use std::collections::VecDeque;
use std::time::Duration;

use reqwest::Response;
use tokio::time::{Instant, timeout_at};

use crate::adapter::Decoder;
use crate::answer::{Collector, Piece};
use crate::config::Bounds;
use crate::failure::{Failure, Kind};
use crate::tier::{too_large, transport};

/// A stream of one provider, read piece by piece. Dropping it closes the connection, which is how the provider hears that
/// nobody wants the rest.
#[derive(Debug)]
pub struct Live {
    response: Response,
    decoder: Decoder,
    ready: VecDeque<Piece>,
    decoded: Vec<Piece>,
    collector: Collector,
    idle: Duration,
    until: Instant,
    most_bytes: usize,
    read_bytes: usize,
    is_over: bool,
    /// What went wrong after pieces that came before it in the same read.
    pending: Option<Failure>,
}

impl Live {
    /// Begins to read.
    pub(crate) fn new(response: Response, decoder: Decoder, idle: Duration, until: Instant, bounds: &Bounds) -> Self {
        Self {
            response,
            decoder,
            ready: VecDeque::new(),
            decoded: Vec::new(),
            collector: Collector::default(),
            idle,
            until,
            most_bytes: bounds.max_answer_bytes,
            read_bytes: 0,
            is_over: false,
            pending: None,
        }
    }

    /// Reads until the first content is there; nothing was shown to anybody before that.
    pub(crate) async fn hold_back(&mut self, most_bytes: usize) -> Result<(), Failure> {
        loop {
            if self.ready.iter().any(Piece::is_content) {
                return Ok(());
            }
            if let Some(failure) = self.pending.take() {
                return Err(failure);
            }
            if self.is_over {
                return Err(Failure::new(Kind::Empty, "a stream without content"));
            }
            if self.read_bytes > most_bytes {
                return Err(Failure::new(Kind::Malformed, "a stream that went on without content"));
            }
            self.read(None).await;
        }
    }

    /// The next piece; `None` when the answer is whole.
    ///
    /// # Errors
    /// [`Failure`], once: the stream is over then, and not whole.
    pub async fn next(&mut self) -> Option<Result<Piece, Failure>> {
        loop {
            if let Some(piece) = self.ready.pop_front() {
                self.collector.take(&piece);
                return Some(Ok(piece));
            }
            if let Some(failure) = self.pending.take() {
                self.is_over = true;
                return Some(Err(failure));
            }
            if self.is_over {
                return None;
            }
            self.read(Some(Instant::now() + self.idle)).await;
        }
    }

    /// A piece that is there already.
    pub fn ready(&mut self) -> Option<Piece> {
        let piece = self.ready.pop_front()?;
        self.collector.take(&piece);
        Some(piece)
    }

    /// What was shown so far.
    #[must_use]
    pub const fn collector(&self) -> &Collector {
        &self.collector
    }

    /// Reads once; without a bound of its own while something else bounds it.
    async fn read(&mut self, idle_until: Option<Instant>) {
        let until = idle_until.map_or(self.until, |idle| idle.min(self.until));
        let read = match timeout_at(until, self.response.chunk()).await {
            Ok(Ok(chunk)) => Ok(chunk),
            Ok(Err(error)) => Err(transport(&error)),
            Err(_) if until == self.until => Err(Failure::new(Kind::Timeout, "the stream took too long")),
            Err(_) => Err(Failure::new(Kind::Stalled, "the stream stood still")),
        };
        let decoded = match read {
            Ok(Some(chunk)) => {
                self.read_bytes += chunk.len();
                if self.read_bytes > self.most_bytes {
                    Err(too_large(self.most_bytes))
                } else {
                    self.decoder.push(&chunk, &mut self.decoded)
                }
            }
            Ok(None) => {
                self.is_over = true;
                self.decoder.finish(&mut self.decoded)
            }
            Err(failure) => {
                self.is_over = true;
                // A connection that is cut after the whole answer was told takes nothing away from it.
                let is_whole = self.decoder.finish(&mut self.decoded).is_ok();
                if is_whole { Ok(()) } else { Err(failure) }
            }
        };
        for piece in self.decoded.drain(..) {
            if piece == Piece::End {
                self.is_over = true;
            } else {
                self.ready.push_back(piece);
            }
        }
        if let Err(failure) = decoded {
            self.is_over = true;
            self.pending = Some(failure);
        }
    }
}
