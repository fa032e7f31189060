//! Strategies: pure folds over closed candles. Same candles and parameters, same signals; no clock, no randomness, no
//! float.
//!
//! A strategy is long or flat. It buys when its rules say so, sized by the money it is ready to lose, and sells what it
//! bought when its rules, its stop or its patience say so. What it emits are ordinary signals: planned, judged and
//! executed like everybody else's. It is told when a signal of its was refused and takes that step back; it is told how
//! much the account holds and never asks to sell more.
//!
//! Sizing by risk per trade (fixed dollar risk; V. Tharp, "Trade Your Way to Financial Freedom", chapter on position
//! sizing): `quantity = risk_per_trade_usd / stop_distance`, at most `max_notional_usd / close`, where
//! `stop_distance = max(the rules' distance, close * min_stop_percent / 100)`. Every division rounds down.
//!
//! A stop is judged on closed bars: a bar whose low touched it sells at the market afterwards, so a gap loses more than
//! `risk_per_trade_usd`.

pub mod mean_reversion;
pub mod statistics;
pub mod trend;

use std::collections::BTreeMap;

use domain::ids::{CorrelationId, MessageId, UserId, derive};
use domain::market::{Candle, InstrumentId, Venue};
use domain::message::{Header, SignalAction, SignalSize, TradingSignal};
use domain::money::{MAX_SCALE, Price, Quantity, Usd};
use domain::order::Origin;
use domain::subject::Priority;
use domain::time::UnixMs;
use rust_decimal::{Decimal, RoundingStrategy};
use serde::{Deserialize, Serialize};

use crate::config::StrategiesConfig;
use mean_reversion::MeanReversion;
use trend::Trend;

/// How big a trade is and how long it lasts; part of every strategy's parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizing {
    /// Dollars lost when the stop is hit at its price.
    pub risk_per_trade_usd: Usd,
    /// Largest entry at the close it is decided on, dollars.
    pub max_notional_usd: Usd,
    /// Smallest distance of the stop, percent of the close.
    pub min_stop_percent: Decimal,
    /// Sell after so many bars.
    pub max_bars: u32,
}

impl Sizing {
    /// Stop price and quantity of an entry at `close` whose rules want the stop `distance` below; `None` when that is
    /// no trade (no distance, a stop at zero or below, an amount out of range).
    #[must_use]
    pub fn entry(&self, close: Price, distance: Decimal) -> Option<(Price, Quantity)> {
        let least = close.value().checked_mul(self.min_stop_percent)?.checked_div(Decimal::ONE_HUNDRED)?;
        let distance = distance.max(least);
        if distance <= Decimal::ZERO {
            return None;
        }
        let stop = Price::new(close.value().checked_sub(distance)?).ok()?;
        let by_risk = self
            .risk_per_trade_usd
            .value()
            .checked_div(distance)?
            .round_dp_with_strategy(MAX_SCALE, RoundingStrategy::ToZero);
        let by_notional = Quantity::affordable(self.max_notional_usd, close).ok()?;
        let quantity = Quantity::new(by_risk).ok()?.min(by_notional);
        (!quantity.is_zero()).then_some((stop, quantity))
    }

    fn fingerprint(&self) -> String {
        format!(
            "risk={} max_notional={} min_stop={} max_bars={}",
            self.risk_per_trade_usd, self.max_notional_usd, self.min_stop_percent, self.max_bars
        )
    }
}

/// What a strategy holds by its own account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Holding {
    /// Base quantity of its entry.
    pub quantity: Quantity,
    /// Sell when a bar's low touches this.
    pub stop: Price,
    /// Bars since the entry.
    pub bars: u32,
}

/// What the rules of a strategy say about a closed bar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wish {
    /// Nothing.
    Stay,
    /// Buy, with the stop this far below the close.
    Enter {
        /// Distance of the stop, dollars per unit.
        stop_distance: Decimal,
        /// Numbers of the reason.
        why: String,
    },
    /// Sell.
    Exit {
        /// Numbers of the reason.
        why: String,
    },
    /// Raise the stop to this; a lower one is ignored.
    RaiseStop(Price),
}

/// The rules of one strategy: it remembers bars and says what it wishes.
trait Rules {
    /// Looks at a closed bar, then remembers it.
    fn on_bar(&mut self, candle: &Candle, holding: Option<&Holding>) -> Wish;
    /// Forgets all bars: after a gap.
    fn forget(&mut self);
    /// Bars after which a gap makes the memory worthless.
    fn memory_bars(&self) -> usize;
}

/// One signal of a strategy with everything that its id is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StrategySignal {
    /// f(strategy, parameters, instrument, bar open time).
    pub id: MessageId,
    /// Name of the strategy.
    pub strategy: &'static str,
    /// Where and what.
    pub instrument: InstrumentId,
    /// Open time of the bar that caused it.
    pub bar: UnixMs,
    /// The signal.
    pub signal: TradingSignal,
}

impl StrategySignal {
    /// The head it travels under: priority 8, so that it never waits for a model.
    #[must_use]
    pub fn header(&self, user_id: UserId, now: UnixMs, ttl_ms: i64) -> Header {
        Header {
            message_id: self.id,
            correlation_id: CorrelationId(self.id.0),
            source_agent: "buy_bot".to_owned(),
            made_at: now,
            priority: u8::try_from(Priority::Urgent.number()).unwrap_or(0),
            user_id,
            valid_until: Some(now.plus_ms(ttl_ms)),
            traceparent: None,
        }
    }
}

/// What a signal did to the strategy's own account, to be taken back when it is refused.
#[derive(Debug, Clone, Copy)]
struct LastStep {
    id: MessageId,
    before: Option<Holding>,
}

/// One strategy on one instrument.
pub struct Strategy {
    name: &'static str,
    fingerprint: String,
    instrument: InstrumentId,
    sizing: Sizing,
    rules: Box<dyn Rules + Send>,
    holding: Option<Holding>,
    last_bar: Option<UnixMs>,
    last_step: Option<LastStep>,
}

impl std::fmt::Debug for Strategy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Strategy({} {} {} holding={:?})", self.name, self.fingerprint, self.instrument, self.holding)
    }
}

impl Strategy {
    /// The trend strategy on one instrument.
    #[must_use]
    pub fn trend(instrument: InstrumentId, rules: trend::TrendRules) -> Self {
        let fingerprint = format!("{} {}", rules.fingerprint(), rules.sizing.fingerprint());
        Self::new(trend::NAME, fingerprint, instrument, rules.sizing, Box::new(Trend::new(rules)))
    }

    /// The mean reversion strategy on one instrument.
    #[must_use]
    pub fn mean_reversion(instrument: InstrumentId, rules: mean_reversion::MeanReversionRules) -> Self {
        let fingerprint = format!("{} {}", rules.fingerprint(), rules.sizing.fingerprint());
        Self::new(mean_reversion::NAME, fingerprint, instrument, rules.sizing, Box::new(MeanReversion::new(rules)))
    }

    fn new(
        name: &'static str,
        fingerprint: String,
        instrument: InstrumentId,
        sizing: Sizing,
        rules: Box<dyn Rules + Send>,
    ) -> Self {
        Self { name, fingerprint, instrument, sizing, rules, holding: None, last_bar: None, last_step: None }
    }

    /// Strategy, parameters and instrument: what a stored holding is found by.
    #[must_use]
    pub fn key(&self) -> String {
        format!("{} {} {}", self.name, self.instrument, self.fingerprint)
    }

    /// What it holds by its own account.
    #[must_use]
    pub const fn holding(&self) -> Option<&Holding> {
        self.holding.as_ref()
    }

    /// Looks at one closed bar of its instrument. `held` is what the account holds, when known. Bars that are not newer
    /// than the last one are ignored; after a gap longer than its memory it warms up again.
    pub fn on_candle(&mut self, candle: &Candle, held: Option<Quantity>) -> Option<StrategySignal> {
        if candle.instrument != self.instrument || self.last_bar.is_some_and(|last| candle.open_time <= last) {
            return None;
        }
        if self.last_bar.is_some_and(|last| self.is_gap(candle, last)) {
            self.rules.forget();
        }
        self.last_bar = Some(candle.open_time);
        let wish = self.rules.on_bar(candle, self.holding.as_ref());
        let Some(mut holding) = self.holding else {
            return match wish {
                Wish::Enter { stop_distance, why } => self.enter(candle, stop_distance, &why),
                _ => None,
            };
        };
        holding.bars = holding.bars.saturating_add(1);
        let patience = self.sizing.max_bars;
        let exit = if candle.low <= holding.stop {
            Some(format!("stop={} low={}", holding.stop, candle.low))
        } else if holding.bars >= patience {
            Some(format!("max_bars={patience}"))
        } else {
            match wish {
                Wish::Exit { why } => Some(why),
                Wish::RaiseStop(stop) => {
                    holding.stop = holding.stop.max(stop);
                    None
                }
                Wish::Stay | Wish::Enter { .. } => None,
            }
        };
        self.holding = Some(holding);
        exit.and_then(|why| self.exit(candle, held, &why))
    }

    /// The signal `id` was refused: if it is the last one, its step is taken back. A refused entry leaves the strategy
    /// flat, a refused exit leaves it holding, to try again on the next bar.
    pub fn refused(&mut self, id: MessageId) {
        if let Some(step) = self.last_step.take_if(|step| step.id == id) {
            self.holding = step.before;
        }
    }

    fn is_gap(&self, candle: &Candle, last: UnixMs) -> bool {
        let memory_ms = i64::try_from(self.rules.memory_bars()).unwrap_or(i64::MAX).saturating_mul(candle.interval_ms);
        candle.open_time.since_ms(last) > memory_ms
    }

    fn enter(&mut self, candle: &Candle, stop_distance: Decimal, why: &str) -> Option<StrategySignal> {
        let (stop, quantity) = self.sizing.entry(candle.close, stop_distance)?;
        let why = format!("{why} close={} stop={stop}", candle.close);
        let before = self.holding.replace(Holding { quantity, stop, bars: 0 });
        Some(self.emit(candle, before, SignalAction::Buy, quantity, why))
    }

    fn exit(&mut self, candle: &Candle, held: Option<Quantity>, why: &str) -> Option<StrategySignal> {
        let before = self.holding.take();
        let quantity = before?.quantity;
        let quantity = held.map_or(quantity, |held| held.min(quantity));
        if quantity.is_zero() {
            // Somebody else sold it, or the entry never filled: nothing to close.
            return None;
        }
        let why = format!("{why} close={}", candle.close);
        Some(self.emit(candle, before, SignalAction::Sell, quantity, why))
    }

    fn emit(
        &mut self,
        candle: &Candle,
        before: Option<Holding>,
        action: SignalAction,
        quantity: Quantity,
        why: String,
    ) -> StrategySignal {
        let instrument = self.instrument.to_string();
        let bar = candle.open_time;
        let parts: [&[u8]; 4] =
            [self.name.as_bytes(), self.fingerprint.as_bytes(), instrument.as_bytes(), &bar.0.to_be_bytes()];
        let id = MessageId(derive("swarm.strategy.v1", &parts));
        self.last_step = Some(LastStep { id, before });
        StrategySignal {
            id,
            strategy: self.name,
            instrument: self.instrument.clone(),
            bar,
            signal: TradingSignal {
                action,
                token_address: self.instrument.symbol.as_str().to_owned(),
                size: SignalSize::Base(quantity),
                price_limit: None,
                time_in_force: None,
                slices: None,
                confidence_bps: None,
                reasoning: why,
                origin: Origin::Agent { name: format!("buy_bot/{}", self.name) },
            },
        }
    }
}

/// All strategies of one configuration.
#[derive(Debug)]
pub struct Strategies {
    interval_ms: i64,
    all: Vec<Strategy>,
}

impl Strategies {
    /// Every enabled strategy on every configured instrument of `venue`; none when strategies are off.
    #[must_use]
    pub fn new(config: &StrategiesConfig, venue: Venue) -> Self {
        let mut all = Vec::new();
        for symbol in config.instruments.iter().filter(|_| config.enabled) {
            let instrument = InstrumentId { venue, symbol: symbol.clone() };
            all.extend(config.trend.map(|rules| Strategy::trend(instrument.clone(), rules)));
            all.extend(config.mean_reversion.map(|rules| Strategy::mean_reversion(instrument, rules)));
        }
        Self { interval_ms: config.interval_ms, all }
    }

    /// Shows one closed bar to every strategy. `held` is what the account holds of its instrument, when known.
    pub fn on_candle(&mut self, candle: &Candle, held: Option<Quantity>) -> Vec<StrategySignal> {
        if candle.interval_ms != self.interval_ms {
            return Vec::new();
        }
        self.all.iter_mut().filter_map(|strategy| strategy.on_candle(candle, held)).collect()
    }

    /// The signal `id` was refused by planner, rails or venue.
    pub fn refused(&mut self, id: MessageId) {
        for strategy in &mut self.all {
            strategy.refused(id);
        }
    }

    /// What each strategy holds, by [`Strategy::key`]: all that must outlive a restart. Bars are seen anew.
    #[must_use]
    pub fn holdings(&self) -> BTreeMap<String, Holding> {
        self.all.iter().filter_map(|strategy| Some((strategy.key(), *strategy.holding()?))).collect()
    }

    /// Gives stored holdings back to their strategies. Returns the keys that no strategy has any more: parameters
    /// changed, and nobody will close those positions but a person.
    #[must_use]
    pub fn restore(&mut self, mut holdings: BTreeMap<String, Holding>) -> Vec<String> {
        for strategy in &mut self.all {
            strategy.holding = holdings.remove(&strategy.key());
        }
        holdings.into_keys().collect()
    }

    /// The strategies, for inspection.
    #[must_use]
    pub fn all(&self) -> &[Strategy] {
        &self.all
    }
}
