//! Market data at the desk: books, ticks for everybody, candles for the strategies, and the paper exchange's matching.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use domain::market::{Candle, InstrumentId, MarketTick, Symbol, Venue};
use domain::message::Payload;
use domain::time::UnixMs;
use runtime::{HandleError, Work};
use tokio::sync::Notify;
use venues::book::Books;
use venues::candles::CandleBuilder;
use venues::feed::{FeedEvent, FeedKind};
use venues::market::{MarketSource, SourceEvent};
use venues::paper::PaperExchange;

/// Shortest time between two ticks of one instrument on the bus.
const TICK_EVERY_MS: i64 = 250;
/// Candles are closed by the clock this long after their end when no trade closes them.
const CANDLE_GRACE_MS: i64 = 2_000;
/// How often candles are closed by the clock.
const CLOSE_EVERY: Duration = Duration::from_secs(1);

/// What the market task needs.
pub struct MarketTask {
    /// Where the data comes from.
    pub source: Box<dyn MarketSource>,
    /// The venue the data is told under.
    pub venue: Venue,
    /// The paper exchange, which matches against the same events.
    pub paper: PaperExchange,
    /// Lengths of candles, ms.
    pub candle_intervals_ms: Vec<i64>,
    /// Woken when an order changed at the venue.
    pub wake: Arc<Notify>,
}

impl std::fmt::Debug for MarketTask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MarketTask").field("venue", &self.venue).finish_non_exhaustive()
    }
}

/// What is kept per task.
struct State {
    books: Books,
    told: BTreeMap<Symbol, (UnixMs, MarketTick)>,
    candles: BTreeMap<(Symbol, i64), CandleBuilder>,
}

impl MarketTask {
    /// Follows the market until shutdown or until the source ends.
    ///
    /// # Errors
    /// [`HandleError::Fatal`] when the paper exchange can't write its journal.
    pub async fn run(mut self, work: &Work) -> Result<(), HandleError> {
        let mut state = State { books: Books::default(), told: BTreeMap::new(), candles: BTreeMap::new() };
        let mut close = tokio::time::interval(CLOSE_EVERY);
        close.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = work.shutdown.cancelled() => return Ok(()),
                _ = close.tick() => {
                    let now = work.clock.now();
                    let closed: Vec<Candle> = state.candles.values_mut().filter_map(|c| c.close_due(now)).collect();
                    for candle in closed {
                        tell_candle(work, candle).await;
                    }
                }
                event = self.source.next() => match event {
                    None => return Err(HandleError::Fatal("the market source ended".to_owned())),
                    Some(SourceEvent::Lost { symbol, reason }) => {
                        tracing::warn!(reason, symbol = ?symbol, "market data lost; resyncing");
                        metrics::counter!("swarm_feed_lost_total").increment(1);
                        state.books.reset(symbol.as_ref());
                        self.paper.lost(symbol.as_ref());
                    }
                    Some(SourceEvent::Feed(event)) => self.follow(work, &mut state, event).await?,
                }
            }
        }
    }

    async fn follow(&mut self, work: &Work, state: &mut State, event: FeedEvent) -> Result<(), HandleError> {
        metrics::counter!("swarm_feed_events_total").increment(1);
        let changed = self.paper.feed(&event).await.map_err(|error| HandleError::Fatal(error.to_string()))?;
        if !changed.is_empty() {
            self.wake.notify_one();
        }
        state.books.apply(&event);
        if let FeedKind::Trade { price, quantity, traded_ms, .. } = &event.kind {
            for interval_ms in &self.candle_intervals_ms {
                let instrument = InstrumentId { venue: self.venue, symbol: event.symbol.clone() };
                let builder = state
                    .candles
                    .entry((event.symbol.clone(), *interval_ms))
                    .or_insert_with(|| CandleBuilder::new(instrument, *interval_ms, CANDLE_GRACE_MS));
                match builder.trade(*price, *quantity, UnixMs(*traded_ms)) {
                    Ok(Some(candle)) => tell_candle(work, candle).await,
                    Ok(None) => {}
                    Err(error) => tracing::warn!(%error, symbol = %event.symbol, "trade left out of its candle"),
                }
            }
        }
        self.tell_tick(work, state, &event.symbol).await;
        work.progress();
        Ok(())
    }

    /// Tells best bid and ask when they moved and the last telling is old enough; a still market is told once a second
    /// so that its mark stays fresh.
    async fn tell_tick(&mut self, work: &Work, state: &mut State, symbol: &Symbol) {
        let Some(mut tick) = state.books.tick(self.venue, symbol) else { return };
        let now = work.clock.now();
        tick.received_at = now;
        if let Some((at, last)) = state.told.get(symbol) {
            let moved = (last.bid, last.ask) != (tick.bid, tick.ask);
            if now.since_ms(*at) < if moved { TICK_EVERY_MS } else { 1_000 } {
                return;
            }
        }
        state.told.insert(symbol.clone(), (now, tick.clone()));
        if let Err(error) = work.publish_market(Payload::MarketTick(tick)).await {
            tracing::warn!(%error, "tick not told");
        }
    }
}

async fn tell_candle(work: &Work, candle: Candle) {
    if let Err(error) = work.publish_market(Payload::Candle(candle)).await {
        tracing::warn!(%error, "candle not told");
    }
}
