//! What a review is told of: one signal, and the market around it in exact figures. [`super::prompt`] makes them coarse.

use std::collections::{BTreeMap, VecDeque};

use domain::ids::MessageId;
use domain::market::{Candle, InstrumentId, MarketTick};
use domain::money::Usd;
use domain::order::{OrderIntent, Side};
use domain::time::UnixMs;
use rust_decimal::Decimal;

use super::{Birth, dollars};

/// Instruments whose candles are remembered.
const MOST_INSTRUMENTS: usize = 1_000;

/// Everything that a question is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Situation {
    /// Which signal. Makes no difference to the answer.
    pub signal_id: MessageId,
    /// Now. Makes no difference to the answer.
    pub as_of: UnixMs,
    /// Where and what.
    pub instrument: InstrumentId,
    /// Direction.
    pub side: Side,
    /// Whose idea.
    pub birth: Birth,
    /// What it costs at its worst price.
    pub notional: Usd,
    /// Ask less bid in hundredths of a percent of their mid; `None` without a price.
    pub spread_bps: Option<Decimal>,
    /// Age of that price, ms.
    pub data_age_ms: Option<i64>,
    /// Last close against the first open of the remembered candles, in hundredths of a percent; `None` until there are enough.
    pub move_bps: Option<Decimal>,
    /// Mean of high less low of these candles, in hundredths of a percent of their close.
    pub range_bps: Option<Decimal>,
    /// How many candles that is.
    pub bars: usize,
    /// Whether the account holds some of it already, where that is known.
    pub holds: Option<bool>,
    /// Why, in the words of whoever sent the signal; a stranger's prose, empty when there is none.
    pub prose: String,
}

impl Situation {
    /// The situation of a planned order.
    #[must_use]
    pub fn of(
        intent: &OrderIntent,
        birth: Birth,
        now: UnixMs,
        tick: Option<&MarketTick>,
        tape: &Tape,
        holds: Option<bool>,
    ) -> Self {
        let (move_bps, range_bps) = tape.figures(&intent.instrument);
        Self {
            signal_id: intent.signal_id,
            as_of: now,
            instrument: intent.instrument.clone(),
            side: intent.side,
            birth,
            notional: dollars(intent),
            spread_bps: tick.and_then(spread_bps),
            data_age_ms: tick.map(|tick| now.since_ms(tick.received_at).max(0)),
            move_bps,
            range_bps,
            bars: tape.bars,
            holds,
            prose: intent.reasoning.clone(),
        }
    }
}

/// `part` of `whole` in hundredths of a percent.
fn bps(part: Decimal, whole: Decimal) -> Option<Decimal> {
    part.checked_mul(Decimal::from(10_000))?.checked_div(whole)
}

fn spread_bps(tick: &MarketTick) -> Option<Decimal> {
    let mid = tick.mark()?.price.value();
    bps(tick.ask.value().checked_sub(tick.bid.value())?, mid)
}

/// The last closed candles of each instrument.
#[derive(Debug, Clone)]
pub struct Tape {
    interval_ms: i64,
    bars: usize,
    candles: BTreeMap<InstrumentId, VecDeque<Candle>>,
}

impl Tape {
    /// Remembers `bars` candles of this length an instrument.
    #[must_use]
    pub const fn new(interval_ms: i64, bars: usize) -> Self {
        Self { interval_ms, bars, candles: BTreeMap::new() }
    }

    /// Takes in a closed candle; one of another length, or no newer than the last, is ignored. After a gap it begins anew.
    pub fn push(&mut self, candle: &Candle) {
        if candle.interval_ms != self.interval_ms
            || (self.candles.len() >= MOST_INSTRUMENTS && !self.candles.contains_key(&candle.instrument))
        {
            return;
        }
        let tape = self.candles.entry(candle.instrument.clone()).or_default();
        if let Some(last) = tape.back() {
            let step = candle.open_time.since_ms(last.open_time);
            if step <= 0 {
                return;
            }
            if step > self.interval_ms {
                tape.clear();
            }
        }
        tape.push_back(candle.clone());
        while tape.len() > self.bars {
            tape.pop_front();
        }
    }

    /// Move and mean range over the remembered candles, when there are enough of them.
    fn figures(&self, instrument: &InstrumentId) -> (Option<Decimal>, Option<Decimal>) {
        let Some(tape) = self.candles.get(instrument).filter(|tape| tape.len() == self.bars) else {
            return (None, None);
        };
        let moved = tape
            .front()
            .zip(tape.back())
            .and_then(|(first, last)| bps(last.close.value().checked_sub(first.open.value())?, first.open.value()));
        let ranges = tape.iter().try_fold(Decimal::ZERO, |sum, candle| {
            sum.checked_add(bps(candle.high.value().checked_sub(candle.low.value())?, candle.close.value())?)
        });
        (moved, ranges.and_then(|sum| sum.checked_div(Decimal::from(tape.len()))))
    }
}
