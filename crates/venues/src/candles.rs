//! Closed candles out of trades.

use domain::market::{Candle, InstrumentId};
use domain::money::{MoneyError, Price, Quantity};
use domain::time::UnixMs;

/// Builds the candles of one instrument and one interval. A bar without a trade has no candle: whoever needs an
/// unbroken row fills it with the close before, knowing that nothing traded.
#[derive(Debug, Clone)]
pub struct CandleBuilder {
    instrument: InstrumentId,
    interval_ms: i64,
    grace_ms: i64,
    open: Option<Candle>,
    closed_until: UnixMs,
    late: u64,
}

impl CandleBuilder {
    /// A builder for bars of `interval_ms` (at least 1). `grace_ms` is how long after the end of a bar the clock waits
    /// for trades still on the way: network delay plus how far the exchange's clock may be behind ours.
    #[must_use]
    pub fn new(instrument: InstrumentId, interval_ms: i64, grace_ms: i64) -> Self {
        Self {
            instrument,
            interval_ms: interval_ms.max(1),
            grace_ms: grace_ms.max(0),
            open: None,
            closed_until: UnixMs(i64::MIN),
            late: 0,
        }
    }

    /// Takes a trade, by the exchange's clock. Gives back the bar it closed, if it is the first of a later one. A trade
    /// of a bar that is closed already is counted in [`CandleBuilder::late`] and changes nothing: a closed candle never
    /// changes.
    ///
    /// # Errors
    /// The volume left the range of amounts; the trade is not counted.
    pub fn trade(&mut self, price: Price, quantity: Quantity, traded_at: UnixMs) -> Result<Option<Candle>, MoneyError> {
        let bar = UnixMs(traded_at.0.div_euclid(self.interval_ms).saturating_mul(self.interval_ms));
        if bar < self.closed_until || self.open.as_ref().is_some_and(|open| bar < open.open_time) {
            self.late += 1;
            return Ok(None);
        }
        if let Some(open) = self.open.as_mut().filter(|open| open.open_time == bar) {
            open.volume = open.volume.plus(quantity)?;
            open.high = open.high.max(price);
            open.low = open.low.min(price);
            open.close = price;
            open.trades += 1;
            return Ok(None);
        }
        let closed = self.close();
        self.open = Some(Candle {
            instrument: self.instrument.clone(),
            interval_ms: self.interval_ms,
            open_time: bar,
            open: price,
            high: price,
            low: price,
            close: price,
            volume: quantity,
            trades: 1,
        });
        Ok(closed)
    }

    /// Closes the open bar when its end and the grace are past by the clock.
    pub fn close_due(&mut self, now: UnixMs) -> Option<Candle> {
        let open = self.open.as_ref()?;
        let due = open.open_time.plus_ms(self.interval_ms).plus_ms(self.grace_ms);
        if now < due { None } else { self.close() }
    }

    /// Trades that came after their bar was closed.
    #[must_use]
    pub const fn late(&self) -> u64 {
        self.late
    }

    fn close(&mut self) -> Option<Candle> {
        let closed = self.open.take()?;
        self.closed_until = closed.open_time.plus_ms(self.interval_ms);
        Some(closed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::market::{Symbol, Venue};

    fn builder(grace_ms: i64) -> CandleBuilder {
        let instrument = InstrumentId { venue: Venue::Paper, symbol: Symbol::parse("BTCUSDT").unwrap() };
        CandleBuilder::new(instrument, 1_000, grace_ms)
    }

    fn trade(builder: &mut CandleBuilder, price: &str, at_ms: i64) -> Option<Candle> {
        let one = Quantity::parse("1").unwrap();
        builder.trade(Price::parse(price).unwrap(), one, UnixMs(at_ms)).unwrap()
    }

    fn shown(candle: &Candle) -> String {
        let Candle { open_time, open, high, low, close, volume, trades, .. } = candle;
        format!("{} {open} {high} {low} {close} {volume} {trades}", open_time.0)
    }

    #[test]
    fn the_first_trade_of_a_later_bar_closes_the_one_before() {
        let mut bars = builder(0);
        for (price, at_ms) in [("10", 1_000), ("12", 1_400), ("9", 1_500), ("11", 1_999)] {
            assert_eq!(trade(&mut bars, price, at_ms), None);
        }
        // Two bars without a trade lie between: they have no candle.
        assert_eq!(shown(&trade(&mut bars, "20", 4_000).unwrap()), "1000 10 12 9 11 4 4");
        assert_eq!(shown(&bars.close_due(UnixMs(5_000)).unwrap()), "4000 20 20 20 20 1 1");
    }

    #[test]
    fn the_clock_closes_a_bar_when_the_grace_is_over_and_not_before() {
        let mut bars = builder(250);
        assert_eq!(bars.close_due(UnixMs(i64::MAX)), None);
        trade(&mut bars, "10", 1_999);
        assert_eq!(bars.close_due(UnixMs(2_249)), None);
        assert!(bars.close_due(UnixMs(2_250)).is_some());
        assert_eq!(bars.close_due(UnixMs(9_999)), None);
    }

    #[test]
    fn a_closed_candle_never_changes() {
        let mut bars = builder(0);
        trade(&mut bars, "10", 1_000);
        assert!(trade(&mut bars, "11", 2_000).is_some());
        assert_eq!(trade(&mut bars, "99", 1_999), None);
        assert!(bars.close_due(UnixMs(3_000)).is_some());
        assert_eq!(trade(&mut bars, "99", 2_500), None);
        assert_eq!(bars.late(), 2);
        assert_eq!(trade(&mut bars, "12", 3_000), None);
        assert_eq!(shown(&bars.close_due(UnixMs(4_000)).unwrap()), "3000 12 12 12 12 1 1");
    }

    #[test]
    fn bars_before_the_epoch_begin_at_multiples_too() {
        let mut bars = builder(0);
        trade(&mut bars, "10", -1);
        assert_eq!(bars.close_due(UnixMs(0)).unwrap().open_time, UnixMs(-1_000));
    }
}
