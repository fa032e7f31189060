//! The codec under test: round trips, one row per rejection, doors, and input made to break it.

mod doors;
mod hostile;
mod rejects;
mod round_trip;
mod samples;

use domain::message::Envelope;
use domain::reject::Reject;
use domain::time::UnixMs;

use super::{Arrival, decode};
use crate::delivery::Raw;

/// The moment of all tests.
const NOW: UnixMs = UnixMs(1_790_000_000_000);
/// The operator's door.
const DOOR: &str = "trading.buy_bot.signal.urgent";

fn read(raw: &Raw) -> Result<Envelope, Reject> {
    decode(raw, &Arrival { stream: "TRADING_CRITICAL", stream_seq: 7, published_at: NOW }, NOW)
}

fn json(subject: &str, text: &str) -> Raw {
    Raw { subject: subject.to_owned(), headers: Vec::new(), payload: text.as_bytes().to_vec() }
}
