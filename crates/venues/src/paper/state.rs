//! The paper account: what is in the journal, and what follows from it.

use std::collections::BTreeMap;

use domain::ids::OrderId;
use domain::market::{InstrumentId, Venue};
use domain::money::{MoneyError, Price, Quantity, Usd};
use domain::order::{Fill, OrderState, OrderStatus, Side};
use domain::time::UnixMs;
use rust_decimal::{Decimal, RoundingStrategy};
use serde::{Deserialize, Serialize};

use crate::exchange::{Balance, OrderRequest};

/// Something that happened to the account. Journaled, then applied; a replay applies the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Effect {
    /// The account was opened: the first effect of every journal.
    Opened {
        /// Which venue it belongs to.
        venue: Venue,
        /// What it holds.
        balances: BTreeMap<String, Decimal>,
    },
    /// The account as it stood when its journal was begun anew: the first effect of such a journal, in place of `Opened`.
    Resumed {
        /// Which venue it belongs to.
        venue: Venue,
        /// What it holds.
        balances: BTreeMap<String, Decimal>,
        /// The newest id of an order or a trade.
        last_id: u64,
        /// Bought less sold in orders that were forgotten.
        traded: Vec<(InstrumentId, Decimal)>,
        /// Orders that were kept, with their fills.
        orders: Vec<Order>,
    },
    /// An order was taken on.
    Accepted {
        /// As it was sent.
        request: OrderRequest,
        /// The venue's own id.
        venue_order_id: u64,
        /// Base asset of its instrument.
        base: String,
        /// Quote asset of its instrument.
        quote: String,
        /// What it holds of the asset it gives away until it is over.
        locked: Decimal,
        /// When.
        at: UnixMs,
    },
    /// An order was refused; its id stays refused.
    Rejected {
        /// As it was sent.
        request: OrderRequest,
        /// The venue's own id.
        venue_order_id: u64,
        /// Why.
        code: String,
        /// When.
        at: UnixMs,
    },
    /// A part of an order traded.
    Filled {
        /// Which order.
        client_order_id: String,
        /// Unique in this venue, going up.
        trade_id: u64,
        /// Price per unit.
        price: Price,
        /// Base quantity.
        quantity: Quantity,
        /// Fee in the quote asset.
        fee: Usd,
        /// When.
        at: UnixMs,
    },
    /// An order that had not traded in full was taken off the book, by its owner or its time in force.
    Ended {
        /// Which order.
        client_order_id: String,
        /// When.
        at: UnixMs,
    },
}

/// An effect that does not fit the account: the journal was not written by this program.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Misfit {
    /// Only the first effect opens the account.
    #[error("the account is opened first, and once")]
    Opening,
    /// The journal of another venue.
    #[error("the journal belongs to venue {0}")]
    Venue(Venue),
    /// An id was used before.
    #[error("id {0} was used before")]
    Reused(String),
    /// No such order, or it is over.
    #[error("order {0} is not open")]
    NotOpen(String),
    /// A fill of more than is left of its order, of nothing, or beyond its worst price.
    #[error("order {0} cannot be filled like that")]
    Fill(String),
    /// A balance left its range.
    #[error("balance: {0}")]
    Money(#[from] MoneyError),
}

/// One order as the exchange keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    pub(super) request: OrderRequest,
    pub(super) venue_order_id: u64,
    pub(super) state: OrderState,
    pub(super) filled: Quantity,
    pub(super) code: Option<String>,
    pub(super) fills: Vec<Fill>,
    base: String,
    quote: String,
    locked: Decimal,
    /// When it last changed.
    changed_at: UnixMs,
}

impl Order {
    pub(super) fn remaining(&self) -> Quantity {
        self.request.quantity.minus(self.filled).unwrap_or(Quantity::ZERO)
    }

    pub(super) fn status(&self) -> OrderStatus {
        OrderStatus {
            instrument: self.request.instrument.clone(),
            client_order_id: self.request.client_order_id.clone(),
            venue_order_id: self.venue_order_id.to_string(),
            state: self.state,
            filled: self.filled,
            reject_code: self.code.clone(),
            fills: self.fills.clone(),
        }
    }
}

/// Balances, orders and fills: a function of the effects applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    venue: Venue,
    opened: bool,
    balances: BTreeMap<String, Decimal>,
    orders: BTreeMap<String, Order>,
    open: BTreeMap<u64, String>,
    fills: Vec<Fill>,
    /// Bought less sold in orders that were forgotten.
    traded: BTreeMap<InstrumentId, Decimal>,
    last_id: u64,
}

impl State {
    /// An account of `venue` that is not opened yet.
    #[must_use]
    pub const fn new(venue: Venue) -> Self {
        Self {
            venue,
            opened: false,
            balances: BTreeMap::new(),
            orders: BTreeMap::new(),
            open: BTreeMap::new(),
            fills: Vec::new(),
            traded: BTreeMap::new(),
            last_id: 0,
        }
    }

    /// The effect that a journal begins anew with: this account, without the orders that ended before `before`. An id
    /// that is forgotten with its order could be used again, so `before` lies further back than anybody sends one twice.
    #[must_use]
    pub fn resumed(&self, before: UnixMs) -> Effect {
        let is_kept = |order: &Order| !order.state.is_terminal() || order.changed_at >= before;
        let mut traded = self.traded.clone();
        for fill in self.orders.values().filter(|order| !is_kept(order)).flat_map(|order| &order.fills) {
            *traded.entry(fill.instrument.clone()).or_default() += signed(fill);
        }
        traded.retain(|_, sum| !sum.is_zero());
        Effect::Resumed {
            venue: self.venue,
            balances: self.balances.clone(),
            last_id: self.last_id,
            traded: traded.into_iter().collect(),
            orders: self.orders.values().filter(|order| is_kept(order)).cloned().collect(),
        }
    }

    /// Applies one effect, or changes nothing.
    ///
    /// # Errors
    /// [`Misfit`].
    pub fn apply(&mut self, effect: &Effect) -> Result<(), Misfit> {
        if matches!(effect, Effect::Opened { .. } | Effect::Resumed { .. }) == self.opened {
            return Err(Misfit::Opening);
        }
        match effect {
            Effect::Opened { venue, balances } => {
                if *venue != self.venue {
                    return Err(Misfit::Venue(*venue));
                }
                for &balance in balances.values() {
                    Quantity::new(balance)?;
                }
                self.balances.clone_from(balances);
                self.opened = true;
            }
            Effect::Resumed { venue, balances, last_id, traded, orders } => {
                if *venue != self.venue {
                    return Err(Misfit::Venue(*venue));
                }
                let amounts = balances.values().chain(traded.iter().map(|(_, sum)| sum));
                amounts.chain(orders.iter().map(|order| &order.locked)).try_for_each(summable)?;
                let mut resumed = Self::new(self.venue);
                resumed.resume(orders)?;
                resumed.balances.clone_from(balances);
                resumed.last_id = *last_id;
                resumed.traded = traded.iter().cloned().collect();
                resumed.opened = true;
                *self = resumed;
            }
            Effect::Accepted { request, venue_order_id, base, quote, locked, at } => {
                Quantity::new(*locked)?;
                let order = Order {
                    state: OrderState::Open,
                    code: None,
                    base: base.clone(),
                    quote: quote.clone(),
                    locked: *locked,
                    ..Order::of(request, *venue_order_id, *at)
                };
                self.enter(order)?;
                self.open.insert(*venue_order_id, request.client_order_id.clone());
            }
            Effect::Rejected { request, venue_order_id, code, at } => {
                self.enter(Order { code: Some(code.clone()), ..Order::of(request, *venue_order_id, *at) })?;
            }
            Effect::Filled { client_order_id, trade_id, price, quantity, fee, at } => {
                self.fill(client_order_id, *trade_id, *price, *quantity, *fee, *at)?;
            }
            Effect::Ended { client_order_id, at } => {
                let order = self.open_order(client_order_id)?;
                order.changed_at = *at;
                order.state = OrderState::Cancelled;
                order.locked = Decimal::ZERO;
                let id = order.venue_order_id;
                self.open.remove(&id);
            }
        }
        Ok(())
    }

    /// The account was opened.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        self.opened
    }

    /// All fills of the orders it knows, in order.
    #[must_use]
    pub fn fills(&self) -> &[Fill] {
        &self.fills
    }

    /// Bought less sold, by instrument; one of which no more was bought than sold is left out (what the account was
    /// opened with is no position).
    #[must_use]
    pub fn positions(&self) -> BTreeMap<InstrumentId, Quantity> {
        let mut sums: BTreeMap<&InstrumentId, Decimal> = self.traded.iter().map(|(id, sum)| (id, *sum)).collect();
        for fill in &self.fills {
            *sums.entry(&fill.instrument).or_default() += signed(fill);
        }
        let held = |(id, sum): (&InstrumentId, Decimal)| Some((id.clone(), Quantity::new(sum).ok()?));
        sums.into_iter().filter(|(_, sum)| !sum.is_zero()).filter_map(held).collect()
    }

    /// What it holds, by asset.
    #[must_use]
    pub fn balances(&self) -> Vec<Balance> {
        let balance = |(asset, &total): (&String, &Decimal)| {
            let locked = self.locked(asset);
            Balance { asset: asset.clone(), free: (total - locked).normalize(), locked: locked.normalize() }
        };
        self.balances.iter().filter(|(_, total)| !total.is_zero()).map(balance).collect()
    }

    /// What may be used of an asset.
    #[must_use]
    pub fn free(&self, asset: &str) -> Decimal {
        self.balances.get(asset).copied().unwrap_or_default() - self.locked(asset)
    }

    pub(super) fn order(&self, client_order_id: &str) -> Option<&Order> {
        self.orders.get(client_order_id)
    }

    /// Open orders, oldest first.
    pub(super) fn open(&self) -> impl Iterator<Item = &Order> {
        self.open.values().filter_map(|id| self.orders.get(id))
    }

    /// The id the next order or trade gets.
    pub(super) const fn next_id(&self) -> u64 {
        self.last_id + 1
    }

    fn locked(&self, asset: &str) -> Decimal {
        let of = |order: &Order| match order.request.side {
            Side::Buy if order.quote == asset => order.locked,
            Side::Sell if order.base == asset => order.locked,
            _ => Decimal::ZERO,
        };
        self.open().map(of).sum()
    }

    fn resume(&mut self, orders: &[Order]) -> Result<(), Misfit> {
        let mut by_age: Vec<&Order> = orders.iter().collect();
        by_age.sort_by_key(|order| order.venue_order_id);
        let mut fills = Vec::new();
        for order in by_age {
            self.enter(order.clone())?;
            if order.state == OrderState::Open {
                self.open.insert(order.venue_order_id, order.request.client_order_id.clone());
            }
            fills
                .extend(order.fills.iter().map(|fill| (fill.venue_trade_id.parse::<u64>().unwrap_or(0), fill.clone())));
        }
        fills.sort_by_key(|(trade_id, _)| *trade_id);
        self.fills = fills.into_iter().map(|(_, fill)| fill).collect();
        Ok(())
    }

    fn take_id(&mut self, id: u64) -> Result<(), Misfit> {
        if id <= self.last_id {
            return Err(Misfit::Reused(id.to_string()));
        }
        self.last_id = id;
        Ok(())
    }

    fn enter(&mut self, order: Order) -> Result<(), Misfit> {
        let id = order.request.client_order_id.clone();
        if self.orders.contains_key(&id) {
            return Err(Misfit::Reused(id));
        }
        self.take_id(order.venue_order_id)?;
        self.orders.insert(id, order);
        Ok(())
    }

    fn open_order(&mut self, id: &str) -> Result<&mut Order, Misfit> {
        self.orders
            .get_mut(id)
            .filter(|order| order.state == OrderState::Open)
            .ok_or_else(|| Misfit::NotOpen(id.to_owned()))
    }

    fn fill(
        &mut self,
        id: &str,
        trade_id: u64,
        price: Price,
        quantity: Quantity,
        fee: Usd,
        at: UnixMs,
    ) -> Result<(), Misfit> {
        let order = self.open_order(id)?;
        let within = match order.request.side {
            Side::Buy => price <= order.request.worst_price,
            Side::Sell => price >= order.request.worst_price,
        };
        if !within || quantity.is_zero() || quantity > order.remaining() {
            return Err(Misfit::Fill(id.to_owned()));
        }
        let (side, base, quote) = (order.request.side, order.base.clone(), order.quote.clone());
        let (base_change, quote_change) = changes(side, price, quantity, fee)?;
        let after = |balances: &BTreeMap<String, Decimal>, asset: &str, change: Decimal| {
            balances
                .get(asset)
                .copied()
                .unwrap_or_default()
                .checked_add(change)
                .filter(|sum| !sum.is_sign_negative() || sum.is_zero())
        };
        let base_after = after(&self.balances, &base, base_change).ok_or(MoneyError::Negative)?;
        let quote_after = after(&self.balances, &quote, quote_change).ok_or(MoneyError::Negative)?;
        self.take_id(trade_id)?;
        self.balances.insert(base, base_after);
        self.balances.insert(quote, quote_after);
        let order = self.open_order(id)?;
        order.filled = order.filled.plus(quantity)?;
        order.changed_at = at;
        let used = if side == Side::Buy { -quote_change } else { quantity.value() };
        order.locked = (order.locked - used).max(Decimal::ZERO);
        let fill = Fill {
            order_id: order.request.order_id,
            venue_trade_id: trade_id.to_string(),
            instrument: order.request.instrument.clone(),
            side,
            quantity,
            price,
            fee,
            at,
        };
        order.fills.push(fill.clone());
        if order.remaining().is_zero() {
            order.state = OrderState::Filled;
            order.locked = Decimal::ZERO;
            let venue_order_id = order.venue_order_id;
            self.open.remove(&venue_order_id);
        }
        self.fills.push(fill);
        Ok(())
    }

    /// Fills of one order, whoever asks by our own id.
    #[must_use]
    pub fn fills_of(&self, order_id: OrderId) -> Vec<Fill> {
        self.fills.iter().filter(|fill| fill.order_id == order_id).cloned().collect()
    }
}

/// Far below what a decimal holds, so that any sum of such amounts is one: more than the account of any run.
fn summable(amount: &Decimal) -> Result<(), Misfit> {
    let most = Decimal::from(1_000_000_000_000_000_000_u64);
    if amount.abs() > most { Err(Misfit::Money(MoneyError::OutOfRange)) } else { Ok(()) }
}

impl Order {
    fn of(request: &OrderRequest, venue_order_id: u64, at: UnixMs) -> Self {
        Self {
            request: request.clone(),
            venue_order_id,
            state: OrderState::Rejected,
            filled: Quantity::ZERO,
            code: None,
            fills: Vec::new(),
            base: String::new(),
            quote: String::new(),
            locked: Decimal::ZERO,
            changed_at: at,
        }
    }
}

/// What a fill adds to the position: less than nothing for a sale.
fn signed(fill: &Fill) -> Decimal {
    match fill.side {
        Side::Buy => fill.quantity.value(),
        Side::Sell => -fill.quantity.value(),
    }
}

/// What a fill does to base and quote: a buy pays its notional rounded up, a sale brings it rounded down, both pay the
/// fee.
fn changes(side: Side, price: Price, quantity: Quantity, fee: Usd) -> Result<(Decimal, Decimal), MoneyError> {
    Ok(match side {
        Side::Buy => (quantity.value(), -(price.notional_up(quantity)?.plus(fee)?.value())),
        Side::Sell => (-quantity.value(), price.notional_down(quantity)?.minus(fee)?.value()),
    })
}

/// The fee of a fill: percent of its notional, rounded up to 8 decimals.
pub(super) fn fee(price: Price, quantity: Quantity, percent: Decimal) -> Result<Usd, MoneyError> {
    price.notional_up(quantity)?.times(percent / Decimal::ONE_HUNDRED, RoundingStrategy::AwayFromZero)
}
