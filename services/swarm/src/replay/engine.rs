//! The market side of a replay: the virtual clock, books, bars and strategies. The clock is the receive time of the
//! recording and never runs backwards.

use std::collections::BTreeMap;

use buy_bot::strategy::Strategies;
use domain::market::{InstrumentId, Symbol, Venue};
use domain::time::UnixMs;
use serde_json::json;
use venues::book::Applied;
use venues::candles::CandleBuilder;
use venues::feed::{FeedEvent, FeedKind};
use venues::paper::{PaperConfig, PaperCore};

use super::agreement::Agreement;
use super::report::{Agreed, Summary};
use super::trader::{Rules, Trader};
use super::{ReplayError, ReplaySetup};

const VENUE: Venue = Venue::Paper;

/// One instrument's market data.
#[derive(Debug)]
struct Market {
    instrument: InstrumentId,
    agreement: Agreement,
    bars: CandleBuilder,
}

impl Market {
    fn new(symbol: &Symbol, setup: &ReplaySetup) -> Self {
        let instrument = InstrumentId { venue: VENUE, symbol: symbol.clone() };
        let bars =
            CandleBuilder::new(instrument.clone(), setup.replay.candle_interval_ms, setup.replay.candle_grace_ms);
        Self { instrument, agreement: Agreement::default(), bars }
    }
}

/// A replay in progress.
#[derive(Debug)]
pub struct Engine<'a> {
    setup: &'a ReplaySetup,
    seed: u64,
    now: UnixMs,
    markets: BTreeMap<Symbol, Market>,
    strategies: Strategies,
    trader: Option<Trader>,
    events: u64,
    resyncs: u64,
    candles: u64,
}

impl<'a> Engine<'a> {
    /// A replay that has seen nothing yet.
    #[must_use]
    pub fn new(setup: &'a ReplaySetup, seed: u64) -> Self {
        Self {
            setup,
            seed,
            now: UnixMs(i64::MIN),
            markets: BTreeMap::new(),
            strategies: Strategies::new(&setup.replay.strategies, VENUE),
            trader: None,
            events: 0,
            resyncs: 0,
            candles: 0,
        }
    }

    /// Takes one event: the clock moves to it, then the market, the venue, the bars and the strategies see it.
    ///
    /// # Errors
    /// [`ReplayError`]: a fault of the recording or of this program, never of a strategy.
    pub fn event(&mut self, event: &FeedEvent) -> Result<(), ReplayError> {
        self.events += 1;
        let before = self.now;
        let now = before.max(event.received_at());
        self.now = now;
        let trader = match &mut self.trader {
            Some(trader) => trader,
            none => none.insert(open_trader(self.setup, self.seed, now)?),
        };
        trader.advance(before, now)?;
        let mut candles = Vec::new();
        for market in self.markets.values_mut() {
            candles.extend(market.bars.close_due(now));
        }
        let applied = trader.feed(event, now)?;
        let market = match self.markets.get_mut(&event.symbol) {
            Some(market) => market,
            None => self.markets.entry(event.symbol.clone()).or_insert(Market::new(&event.symbol, self.setup)),
        };
        if let Some(sync) = trader.venue_book(&event.symbol) {
            market.agreement.observe(event, applied, sync);
        }
        match applied {
            Applied::Resync(_) => {
                self.resyncs += 1;
                trader.unmark(&market.instrument);
            }
            Applied::Updated => trader.mark(&market.instrument, now),
            Applied::Other | Applied::Buffered | Applied::Stale => {}
        }
        if let FeedKind::Trade { price, quantity, traded_ms, .. } = &event.kind {
            candles.extend(market.bars.trade(*price, *quantity, UnixMs(*traded_ms))?);
        }
        for candle in candles {
            self.candles += 1;
            let held = trader.held(&candle.instrument);
            for signal in self.strategies.on_candle(&candle, Some(held)) {
                trader.signal(&signal, now)?;
            }
        }
        for signal in trader.take_failed() {
            self.strategies.refused(signal);
        }
        Ok(())
    }

    /// Ends the replay: the last line of the log is the final equity.
    ///
    /// # Errors
    /// [`ReplayError::NoRecording`] when there was no event at all.
    pub fn finish(mut self) -> Result<(Summary, Vec<u8>), ReplayError> {
        let mut trader = self.trader.take().ok_or(ReplayError::NoRecording)?;
        let opening = self.setup.replay.opening_balance;
        let equity = trader.equity(self.now).unwrap_or(trader.book().cash);
        let pnl = equity.minus(opening)?;
        let line = json!({
            "equity_usd": equity, "cash_usd": trader.book().cash, "pnl_usd": pnl,
            "open_positions": trader.book().positions.len(), "open_reservations": trader.book().reservations.len(),
        });
        trader.log.line(self.now, "end", line)?;
        let mut books = BTreeMap::new();
        for (symbol, mut market) in self.markets {
            market.agreement.finish();
            let agreed = Agreed { agreed: market.agreement.agreed, compared: market.agreement.compared };
            books.insert(symbol.as_str().to_owned(), agreed);
        }
        let summary = Summary {
            seed: self.seed,
            events: self.events,
            resyncs: self.resyncs,
            books,
            candles: self.candles,
            signals: trader.totals.signals,
            decisions: trader.log.counts().clone(),
            fills: trader.totals.fills,
            realised_usd: trader.totals.realised,
            fees_usd: trader.totals.fees,
            equity_usd: equity,
            pnl_usd: pnl,
            log_sha256: trader.log.digest(),
            elapsed_ms: 0,
        };
        Ok((summary, trader.log.bytes().to_vec()))
    }
}

fn open_trader(setup: &ReplaySetup, seed: u64, now: UnixMs) -> Result<Trader, ReplayError> {
    let replay = &setup.replay;
    let opening = replay.opening_balance;
    let core = PaperCore::new(PaperConfig {
        venue: VENUE,
        instruments: replay.instruments.clone(),
        opening: replay.instruments.iter().map(|instrument| (instrument.quote.clone(), opening.value())).collect(),
        maker_fee_percent: replay.maker_fee_percent,
        taker_fee_percent: replay.taker_fee_percent,
        latency_ms: replay.latency_min_ms..=replay.latency_max_ms,
        reject_bps: replay.reject_bps,
        lost_reply_bps: 0,
        max_book_age_ms: setup.limits.mark_max_age_ms,
        seed,
        journal: std::path::PathBuf::new(),
    })?;
    let rules = Rules {
        limits: setup.limits.clone(),
        planner: setup.planner.clone(),
        instruments: replay.instruments.iter().map(|rules| (rules.id.clone(), rules.clone())).collect(),
        user_id: domain::ids::UserId::of_handle(&replay.strategies.user),
        signal_ttl_ms: replay.strategies.signal_ttl_ms,
    };
    Trader::open(rules, core, opening, now)
}
