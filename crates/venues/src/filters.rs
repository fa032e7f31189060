//! The exchange's rules for one order, as Binance names and means them, checked before it is sent.
//!
//! A zero increment or bound switches that rule off. Quantities are judged, never changed: rounding down to the step is
//! the planner's job, and a cap is never reached by rounding up.

use domain::market::{Instrument, InstrumentId};
use domain::money::{Price, Quantity};
use domain::order::{OrderType, Side};
use rust_decimal::Decimal;
use serde::{Deserialize, Deserializer};

use crate::decimal;
use crate::error::VenueError;
use crate::exchange::OrderRequest;

/// The rules of one instrument.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filters {
    /// PRICE_FILTER.
    pub price: Option<Range>,
    /// LOT_SIZE.
    pub lot: Option<Range>,
    /// MARKET_LOT_SIZE; market orders obey LOT_SIZE as well.
    pub market_lot: Option<Range>,
    /// NOTIONAL or MIN_NOTIONAL.
    pub notional: Option<Notional>,
    /// PERCENT_PRICE or PERCENT_PRICE_BY_SIDE.
    pub percent_price: Option<PercentPrice>,
    /// MAX_NUM_ORDERS.
    pub max_orders: Option<u32>,
    /// MAX_POSITION.
    pub max_position: Option<Decimal>,
}

/// Bounds and increment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// Smallest.
    pub min: Decimal,
    /// Largest.
    pub max: Decimal,
    /// Only multiples of this.
    pub increment: Decimal,
}

/// Bounds of price times quantity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Notional {
    /// Smallest.
    pub min: Decimal,
    /// The smallest holds for market orders too.
    pub min_applies_to_market: bool,
    /// Largest.
    pub max: Decimal,
    /// The largest holds for market orders too.
    pub max_applies_to_market: bool,
}

/// How far from the average price an order may be, as factors of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PercentPrice {
    /// Lowest and highest for a buy.
    pub buy: (Decimal, Decimal),
    /// Lowest and highest for a sale.
    pub sell: (Decimal, Decimal),
}

/// What the account looks like to the filters that count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Account {
    /// Average price of the last minutes, or the last price; without it the rules that need one are not judged.
    pub average_price: Option<Price>,
    /// Orders resting in this instrument.
    pub open_orders: u32,
    /// Base asset free, locked and in open buys.
    pub position: Decimal,
}

/// The rule an order breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FilterFailure {
    /// PRICE_FILTER.
    Price,
    /// LOT_SIZE.
    Lot,
    /// MARKET_LOT_SIZE.
    MarketLot,
    /// NOTIONAL.
    Notional,
    /// PERCENT_PRICE.
    PercentPrice,
    /// MAX_NUM_ORDERS.
    MaxOrders,
    /// MAX_POSITION.
    MaxPosition,
}

impl FilterFailure {
    /// Stable code.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Price => "FILTER_PRICE_FILTER",
            Self::Lot => "FILTER_LOT_SIZE",
            Self::MarketLot => "FILTER_MARKET_LOT_SIZE",
            Self::Notional => "FILTER_NOTIONAL",
            Self::PercentPrice => "FILTER_PERCENT_PRICE",
            Self::MaxOrders => "FILTER_MAX_NUM_ORDERS",
            Self::MaxPosition => "FILTER_MAX_POSITION",
        }
    }
}

impl Range {
    /// Inside the bounds and on the grid.
    #[must_use]
    pub fn holds(&self, value: Decimal) -> bool {
        let above = self.min.is_zero() || value >= self.min;
        let below = self.max.is_zero() || value <= self.max;
        let on_grid = self.increment.is_zero() || value.checked_rem(self.increment).is_some_and(|rest| rest.is_zero());
        above && below && on_grid
    }
}

impl Filters {
    /// The rules an [`Instrument`] carries.
    #[must_use]
    pub fn of_instrument(instrument: &Instrument) -> Self {
        Self {
            price: Some(Range { min: Decimal::ZERO, max: Decimal::ZERO, increment: instrument.tick }),
            lot: Some(Range { min: instrument.min_quantity, max: instrument.max_quantity, increment: instrument.step }),
            notional: Some(Notional {
                min: instrument.min_notional,
                min_applies_to_market: true,
                max: Decimal::ZERO,
                max_applies_to_market: false,
            }),
            ..Self::default()
        }
    }

    /// Reads the `filters` of one symbol of exchangeInfo. Filters this crate's orders cannot touch (icebergs, trailing
    /// stops, order lists) are skipped, unknown ones too: the exchange still checks them.
    ///
    /// # Errors
    /// [`VenueError::Malformed`].
    pub fn parse(filters: &serde_json::Value) -> Result<Self, VenueError> {
        let raw = Vec::<Raw>::deserialize(filters)
            .map_err(|error| VenueError::Malformed { what: format!("filters: {error}") })?;
        let mut out = Self::default();
        for filter in raw {
            out.take(filter);
        }
        Ok(out)
    }

    fn take(&mut self, filter: Raw) {
        match filter {
            Raw::Price { min, max, increment } => self.price = Some(Range { min, max, increment }),
            Raw::Lot { min, max, increment } => self.lot = Some(Range { min, max, increment }),
            Raw::MarketLot { min, max, increment } => self.market_lot = Some(Range { min, max, increment }),
            Raw::Notional { min, apply_min, max, apply_max } => {
                self.notional =
                    Some(Notional { min, min_applies_to_market: apply_min, max, max_applies_to_market: apply_max });
            }
            // The older form; where both are sent, NOTIONAL decides.
            Raw::MinNotional { min, apply } => {
                self.notional.get_or_insert(Notional {
                    min,
                    min_applies_to_market: apply,
                    max: Decimal::ZERO,
                    max_applies_to_market: false,
                });
            }
            Raw::Percent { up, down } => {
                self.percent_price.get_or_insert(PercentPrice { buy: (down, up), sell: (down, up) });
            }
            Raw::PercentBySide { bid_up, bid_down, ask_up, ask_down } => {
                self.percent_price = Some(PercentPrice { buy: (bid_down, bid_up), sell: (ask_down, ask_up) });
            }
            Raw::MaxOrders { limit } => self.max_orders = Some(limit),
            Raw::MaxPosition { limit } => self.max_position = Some(limit),
            Raw::Other => {}
        }
    }

    /// The rules as far as an [`Instrument`] can carry them.
    #[must_use]
    pub fn instrument(&self, id: InstrumentId, base: String, quote: String) -> Instrument {
        let lot = self.lot.unwrap_or(Range { min: Decimal::ZERO, max: Decimal::ZERO, increment: Decimal::ZERO });
        Instrument {
            id,
            base,
            quote,
            tick: self.price.map_or(Decimal::ZERO, |range| range.increment),
            step: lot.increment,
            min_quantity: lot.min,
            max_quantity: lot.max,
            min_notional: self.notional.map_or(Decimal::ZERO, |notional| notional.min),
        }
    }

    /// Judges an order. Our market orders carry a worst price that goes to the exchange, so the price rules hold for
    /// them as well.
    ///
    /// # Errors
    /// The first rule it breaks.
    pub fn check(&self, order: &OrderRequest, account: &Account) -> Result<(), FilterFailure> {
        let (price, quantity) = (order.worst_price, order.quantity);
        let is_market = order.order_type == OrderType::Market;
        let holds = |range: Option<Range>, value: Decimal| range.is_none_or(|range| range.holds(value));
        if !holds(self.price, price.value()) {
            return Err(FilterFailure::Price);
        }
        if quantity.is_zero() || !holds(self.lot, quantity.value()) {
            return Err(FilterFailure::Lot);
        }
        if is_market && !holds(self.market_lot, quantity.value()) {
            return Err(FilterFailure::MarketLot);
        }
        if !self.percent_price_holds(order.side, price, account.average_price) {
            return Err(FilterFailure::PercentPrice);
        }
        let judged_by = if is_market { account.average_price.unwrap_or(price) } else { price };
        if !self.notional_holds(judged_by, quantity, is_market) {
            return Err(FilterFailure::Notional);
        }
        if self.max_orders.is_some_and(|limit| account.open_orders >= limit) {
            return Err(FilterFailure::MaxOrders);
        }
        let after = account.position.checked_add(quantity.value());
        if order.side == Side::Buy && self.max_position.is_some_and(|limit| after.is_none_or(|sum| sum > limit)) {
            return Err(FilterFailure::MaxPosition);
        }
        Ok(())
    }

    fn percent_price_holds(&self, side: Side, price: Price, average: Option<Price>) -> bool {
        let (Some(rule), Some(average)) = (self.percent_price, average) else { return true };
        let (down, up) = match side {
            Side::Buy => rule.buy,
            Side::Sell => rule.sell,
        };
        let bound = |factor: Decimal| average.value().checked_mul(factor);
        bound(down).is_some_and(|low| price.value() >= low) && bound(up).is_some_and(|high| price.value() <= high)
    }

    fn notional_holds(&self, price: Price, quantity: Quantity, is_market: bool) -> bool {
        let Some(rule) = self.notional else { return true };
        let Some(notional) = price.value().checked_mul(quantity.value()) else { return false };
        let min = !is_market || rule.min_applies_to_market;
        let max = (!is_market || rule.max_applies_to_market) && !rule.max.is_zero();
        (!min || notional >= rule.min) && (!max || notional <= rule.max)
    }
}

fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Decimal, D::Error> {
    let text = String::deserialize(deserializer)?;
    let amount = decimal::quantity(&text).ok_or_else(|| serde::de::Error::custom("not a decimal up to a trillion"))?;
    Ok(amount.value())
}

#[derive(Deserialize)]
#[serde(tag = "filterType")]
enum Raw {
    #[serde(rename = "PRICE_FILTER")]
    Price {
        #[serde(rename = "minPrice", deserialize_with = "text")]
        min: Decimal,
        #[serde(rename = "maxPrice", deserialize_with = "text")]
        max: Decimal,
        #[serde(rename = "tickSize", deserialize_with = "text")]
        increment: Decimal,
    },
    #[serde(rename = "LOT_SIZE")]
    Lot {
        #[serde(rename = "minQty", deserialize_with = "text")]
        min: Decimal,
        #[serde(rename = "maxQty", deserialize_with = "text")]
        max: Decimal,
        #[serde(rename = "stepSize", deserialize_with = "text")]
        increment: Decimal,
    },
    #[serde(rename = "MARKET_LOT_SIZE")]
    MarketLot {
        #[serde(rename = "minQty", deserialize_with = "text")]
        min: Decimal,
        #[serde(rename = "maxQty", deserialize_with = "text")]
        max: Decimal,
        #[serde(rename = "stepSize", deserialize_with = "text")]
        increment: Decimal,
    },
    #[serde(rename = "NOTIONAL")]
    Notional {
        #[serde(rename = "minNotional", deserialize_with = "text")]
        min: Decimal,
        #[serde(rename = "applyMinToMarket")]
        apply_min: bool,
        #[serde(rename = "maxNotional", deserialize_with = "text")]
        max: Decimal,
        #[serde(rename = "applyMaxToMarket")]
        apply_max: bool,
    },
    #[serde(rename = "MIN_NOTIONAL")]
    MinNotional {
        #[serde(rename = "minNotional", deserialize_with = "text")]
        min: Decimal,
        #[serde(rename = "applyToMarket")]
        apply: bool,
    },
    #[serde(rename = "PERCENT_PRICE")]
    Percent {
        #[serde(rename = "multiplierUp", deserialize_with = "text")]
        up: Decimal,
        #[serde(rename = "multiplierDown", deserialize_with = "text")]
        down: Decimal,
    },
    #[serde(rename = "PERCENT_PRICE_BY_SIDE")]
    PercentBySide {
        #[serde(rename = "bidMultiplierUp", deserialize_with = "text")]
        bid_up: Decimal,
        #[serde(rename = "bidMultiplierDown", deserialize_with = "text")]
        bid_down: Decimal,
        #[serde(rename = "askMultiplierUp", deserialize_with = "text")]
        ask_up: Decimal,
        #[serde(rename = "askMultiplierDown", deserialize_with = "text")]
        ask_down: Decimal,
    },
    #[serde(rename = "MAX_NUM_ORDERS")]
    MaxOrders {
        #[serde(rename = "maxNumOrders")]
        limit: u32,
    },
    #[serde(rename = "MAX_POSITION")]
    MaxPosition {
        #[serde(rename = "maxPosition", deserialize_with = "text")]
        limit: Decimal,
    },
    #[serde(other)]
    Other,
}
