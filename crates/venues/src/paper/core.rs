//! The paper exchange without its journal: pure, with the time passed in.
//!
//! Every method that may change the account returns a [`Decision`]; the caller writes its effects down and then calls
//! [`PaperCore::commit`]. A replay hands the effects of the journal to the same [`State`].

use std::collections::BTreeMap;

use domain::market::{Instrument, InstrumentId, Symbol};
use domain::money::{MoneyError, Price, Quantity};
use domain::order::{OrderState, OrderStatus, OrderType, Side, TimeInForce};
use domain::time::UnixMs;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rust_decimal::Decimal;

use super::PaperConfig;
use super::liquidity::{Liquidity, Taken};
use super::state::{Effect, Misfit, Order, State, fee};
use crate::book::{Applied, BookSync};
use crate::error::VenueError;
use crate::exchange::{OrderRequest, Outcome};
use crate::feed::{FeedEvent, FeedKind};
use crate::filters::{Account, Filters};

/// Quote asset held on top of the worst case, for the rounding of many small fills.
const ROUNDING_RESERVE: Decimal = Decimal::from_parts(1, 0, 0, false, 2);

/// What is to be written down and then done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Decision {
    /// For the journal, together or not at all.
    pub effects: Vec<Effect>,
    taken: Vec<Taken>,
}

impl Decision {
    /// A decision read back from a journal: what it took from the books is long forgotten.
    #[must_use]
    pub const fn of(effects: Vec<Effect>) -> Self {
        Self { effects, taken: Vec::new() }
    }

    fn add(&mut self, other: Self) {
        self.effects.extend(other.effects);
        self.taken.extend(other.taken);
    }

    /// Nothing to do.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.effects.is_empty()
    }
}

/// What is drawn for one order: a function of the seed and its client order id, so a restart draws the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drawn {
    /// Time from sending to matching, in milliseconds.
    pub latency_ms: u64,
    /// Refused for no reason.
    pub rejected: bool,
    /// The reply is lost after the order was taken on.
    pub reply_lost: bool,
}

/// The paper exchange.
#[derive(Debug, Clone)]
pub struct PaperCore {
    config: PaperConfig,
    rules: BTreeMap<InstrumentId, (Instrument, Filters)>,
    state: State,
    liquidity: Liquidity,
    /// What rests at the same price ahead of each of our open orders, by venue order id.
    ahead: BTreeMap<u64, Quantity>,
}

impl PaperCore {
    /// An exchange whose account is not opened yet; replay a journal into it or call [`PaperCore::opening`].
    ///
    /// # Errors
    /// [`VenueError::Config`].
    pub fn new(config: PaperConfig) -> Result<Self, VenueError> {
        let bad = |why: &str| Err(VenueError::Config(why.to_owned()));
        if config.latency_ms.is_empty() {
            return bad("the range of latencies is empty");
        }
        let percent = Decimal::ZERO..=Decimal::ONE_HUNDRED;
        if !percent.contains(&config.maker_fee_percent) || !percent.contains(&config.taker_fee_percent) {
            return bad("a fee is a percentage from 0 to 100");
        }
        if config.reject_bps > 10_000 || config.lost_reply_bps > 10_000 {
            return bad("a probability is at most 10000 hundredths of a percent");
        }
        if config.opening.values().any(|&amount| Quantity::new(amount).is_err()) {
            return bad("an opening balance is negative or over a trillion");
        }
        let mut rules = BTreeMap::new();
        for instrument in &config.instruments {
            if instrument.id.venue != config.venue {
                return bad("an instrument of another venue");
            }
            rules.insert(instrument.id.clone(), (instrument.clone(), Filters::of_instrument(instrument)));
        }
        let state = State::new(config.venue);
        Ok(Self { config, rules, state, liquidity: Liquidity::default(), ahead: BTreeMap::new() })
    }

    /// The effect that opens the account.
    #[must_use]
    pub fn opening(&self) -> Decision {
        let opened = Effect::Opened { venue: self.config.venue, balances: self.config.opening.clone() };
        Decision { effects: vec![opened], taken: Vec::new() }
    }

    /// Does what was decided, once it is written down.
    ///
    /// # Errors
    /// [`Misfit`]: the effects are not of this account.
    pub fn commit(&mut self, decision: &Decision) -> Result<(), Misfit> {
        if decision.is_empty() {
            return Ok(());
        }
        for effect in &decision.effects {
            self.state.apply(effect)?;
        }
        decision.taken.iter().for_each(|taken| self.liquidity.take(taken));
        for effect in &decision.effects {
            if let Effect::Accepted { request, venue_order_id, .. } = effect {
                self.queue(request, *venue_order_id);
            }
        }
        let open: std::collections::BTreeSet<u64> = self.state.open().map(|order| order.venue_order_id).collect();
        self.ahead.retain(|id, _| open.contains(id));
        Ok(())
    }

    /// This exchange with the account that `resumed` brings back: what a restart would make of it.
    pub(super) fn resumed_from(&self, resumed: &Effect) -> Result<Self, Misfit> {
        let mut state = State::new(self.config.venue);
        state.apply(resumed)?;
        Ok(Self { state, ..self.clone() })
    }

    /// The account.
    #[must_use]
    pub const fn state(&self) -> &State {
        &self.state
    }

    /// How it was set up.
    #[must_use]
    pub const fn config(&self) -> &PaperConfig {
        &self.config
    }

    /// What is drawn for an order.
    #[must_use]
    pub fn draw(&self, client_order_id: &str) -> Drawn {
        let id = domain::ids::derive("swarm.paper.v1", &[&self.config.seed.to_be_bytes(), client_order_id.as_bytes()]);
        let mut seed = [0; 32];
        seed[..16].copy_from_slice(id.as_bytes());
        let mut rng = ChaCha8Rng::from_seed(seed);
        Drawn {
            latency_ms: rng.random_range(self.config.latency_ms.clone()),
            rejected: rng.random_range(0..10_000) < self.config.reject_bps,
            reply_lost: rng.random_range(0..10_000) < self.config.lost_reply_bps,
        }
    }

    /// What the exchange knows of an order.
    #[must_use]
    pub fn status(&self, client_order_id: &str) -> Option<OrderStatus> {
        self.state.order(client_order_id).map(Order::status)
    }

    /// All resting orders, oldest first.
    #[must_use]
    pub fn open_orders(&self) -> Vec<OrderStatus> {
        self.state.open().map(Order::status).collect()
    }

    /// An order of this instrument rests, so that market data may fill it.
    #[must_use]
    pub fn rests(&self, symbol: &Symbol) -> bool {
        self.state.open().any(|order| order.request.instrument.symbol == *symbol)
    }

    /// The answer to an order that is known already. The same id with another order is refused, and the first stands.
    #[must_use]
    pub fn known(&self, request: &OrderRequest) -> Option<Outcome> {
        let order = self.state.order(&request.client_order_id)?;
        if order.request != *request {
            return Some(Outcome::Rejected { code: "CLIENT_ORDER_ID_REUSED".to_owned() });
        }
        Some(match (order.state, &order.code) {
            (OrderState::Rejected, code) => Outcome::Rejected { code: code.clone().unwrap_or_default() },
            _ => Outcome::Placed(order.status()),
        })
    }

    /// An order arrives. Nothing to do when its id is known.
    ///
    /// # Errors
    /// An amount out of range; the order was not taken on.
    pub fn place(&self, request: &OrderRequest, now: UnixMs) -> Result<Decision, MoneyError> {
        if self.state.order(&request.client_order_id).is_some() {
            return Ok(Decision::default());
        }
        let venue_order_id = self.state.next_id();
        let (instrument, locked) = match self.admit(request, now) {
            Ok(admitted) => admitted,
            Err(code) => {
                let rejected =
                    Effect::Rejected { request: request.clone(), venue_order_id, code: code.to_owned(), at: now };
                return Ok(Decision { effects: vec![rejected], taken: Vec::new() });
            }
        };
        let accepted = Effect::Accepted {
            request: request.clone(),
            venue_order_id,
            base: instrument.base.clone(),
            quote: instrument.quote.clone(),
            locked,
            at: now,
        };
        let mut decision = Decision { effects: vec![accepted], taken: Vec::new() };
        let (fills, left) = self.sweep(request, request.quantity, venue_order_id + 1, None, now)?;
        decision.add(fills);
        let rests = request.order_type == OrderType::Limit && request.time_in_force == TimeInForce::GoodTillCancelled;
        if !left.is_zero() && !rests {
            decision.effects.push(Effect::Ended { client_order_id: request.client_order_id.clone(), at: now });
        }
        Ok(decision)
    }

    /// Takes a resting order back; nothing to do when it does not rest.
    #[must_use]
    pub fn cancel(&self, client_order_id: &str, now: UnixMs) -> Decision {
        let open = self.state.order(client_order_id).is_some_and(|order| order.state == OrderState::Open);
        let ended = || Effect::Ended { client_order_id: client_order_id.to_owned(), at: now };
        Decision { effects: if open { vec![ended()] } else { Vec::new() }, taken: Vec::new() }
    }

    /// Market data: the books move, and resting orders may trade.
    ///
    /// # Errors
    /// An amount out of range.
    pub fn feed(&mut self, event: &FeedEvent, now: UnixMs) -> Result<Decision, MoneyError> {
        self.follow(event, now).map(|(_, decision)| decision)
    }

    /// As [`PaperCore::feed`], and what the event did to the book.
    ///
    /// # Errors
    /// An amount out of range.
    pub fn follow(&mut self, event: &FeedEvent, now: UnixMs) -> Result<(Applied, Decision), MoneyError> {
        let applied = self.liquidity.apply(event);
        let decision = match event.kind {
            FeedKind::Trade { price, quantity, buyer_is_maker, .. } => {
                self.traded(&event.symbol, price, quantity, buyer_is_maker, now)?
            }
            _ if applied == Applied::Updated => self.crossed(&event.symbol, now)?,
            _ => Decision::default(),
        };
        Ok((applied, decision))
    }

    /// The book of an instrument as the feed made it, before what our own orders took from it.
    #[must_use]
    pub fn book(&self, symbol: &Symbol) -> Option<&BookSync> {
        self.liquidity.sync(symbol)
    }

    /// Market data was lost: no matching until the next snapshot.
    pub fn lost(&mut self, symbol: Option<&Symbol>) {
        self.liquidity.lost(symbol);
    }

    fn admit(&self, request: &OrderRequest, now: UnixMs) -> Result<(&Instrument, Decimal), &'static str> {
        let (instrument, filters) = self.rules.get(&request.instrument).ok_or("UNKNOWN_INSTRUMENT")?;
        let resting = self.state.open().filter(|order| order.request.instrument == request.instrument);
        let (book, received_at) = self.liquidity.book(&request.instrument.symbol).ok_or("NO_BOOK")?;
        if now.since_ms(received_at) > self.config.max_book_age_ms {
            return Err("STALE_BOOK");
        }
        let best = match request.side {
            Side::Buy => book.best_ask(),
            Side::Sell => book.best_bid(),
        };
        let account = Account {
            average_price: best.map(|level| level.price),
            open_orders: u32::try_from(resting.count()).unwrap_or(u32::MAX),
            position: self.state.free(&instrument.base),
        };
        filters.check(request, &account).map_err(crate::filters::FilterFailure::code)?;
        if self.draw(&request.client_order_id).rejected {
            return Err("REJECTED_AT_RANDOM");
        }
        let (asset, locked) = match request.side {
            Side::Buy => (&instrument.quote, self.worst_cost(request).ok_or("AMOUNT_OUT_OF_RANGE")?),
            Side::Sell => (&instrument.base, request.quantity.value()),
        };
        if self.state.free(asset) < locked { Err("INSUFFICIENT_BALANCE") } else { Ok((instrument, locked)) }
    }

    fn worst_cost(&self, request: &OrderRequest) -> Option<Decimal> {
        let percent = self.config.taker_fee_percent.max(self.config.maker_fee_percent);
        let notional = request.worst_price.notional_up(request.quantity).ok()?;
        let fee = fee(request.worst_price, request.quantity, percent).ok()?;
        notional.value().checked_add(fee.value())?.checked_add(ROUNDING_RESERVE)
    }

    /// Trades against the book, level by level. `at_price`: a resting order trades at its own price. Returns what is
    /// left.
    fn sweep(
        &self,
        request: &OrderRequest,
        wanted: Quantity,
        mut trade_id: u64,
        at_price: Option<Price>,
        now: UnixMs,
    ) -> Result<(Decision, Quantity), MoneyError> {
        let mut left = wanted;
        let mut decision = Decision::default();
        let symbol = &request.instrument.symbol;
        for level in self.liquidity.offered(symbol, request.side, request.worst_price) {
            if left.is_zero() {
                break;
            }
            let quantity = level.quantity.min(left);
            left = left.minus(quantity)?;
            let price = at_price.unwrap_or(level.price);
            decision.effects.push(self.filled(request, trade_id, price, quantity, at_price.is_some(), now)?);
            decision.taken.push(Taken { symbol: symbol.clone(), taker: request.side, price: level.price, quantity });
            trade_id += 1;
        }
        Ok((decision, left))
    }

    fn filled(
        &self,
        request: &OrderRequest,
        trade_id: u64,
        price: Price,
        quantity: Quantity,
        maker: bool,
        now: UnixMs,
    ) -> Result<Effect, MoneyError> {
        let percent = if maker { self.config.maker_fee_percent } else { self.config.taker_fee_percent };
        Ok(Effect::Filled {
            client_order_id: request.client_order_id.clone(),
            trade_id,
            price,
            quantity,
            fee: fee(price, quantity, percent)?,
            at: now,
        })
    }

    /// The book moved: resting orders it has come to cross trade at their own price, best price first.
    fn crossed(&mut self, symbol: &Symbol, now: UnixMs) -> Result<Decision, MoneyError> {
        let mut decision = Decision::default();
        let resting = self.resting(symbol);
        if resting.is_empty() {
            return Ok(decision);
        }
        let mut trade_id = self.state.next_id();
        // Two of our orders may want the same level: what the first takes is not there for the second.
        let kept = self.liquidity.clone_taken();
        for order in resting {
            let request = order.request;
            let price = request.worst_price;
            if let Some((book, _)) = self.liquidity.book(symbol) {
                let resting = book.resting_at(request.side, price);
                let ahead = self.ahead.entry(order.venue_order_id).or_insert(resting);
                *ahead = (*ahead).min(resting);
            }
            let (fills, _) = self.sweep(&request, order.remaining, trade_id, Some(price), now)?;
            trade_id += fills.effects.len() as u64;
            fills.taken.iter().for_each(|taken| self.liquidity.take(taken));
            decision.add(fills);
        }
        // Only commit() takes for good.
        self.liquidity.restore_taken(kept);
        Ok(decision)
    }

    /// A trade was printed: resting orders on its maker's side trade when it went through their price, or reached them
    /// in the queue at it.
    fn traded(
        &mut self,
        symbol: &Symbol,
        price: Price,
        quantity: Quantity,
        buyer_is_maker: bool,
        now: UnixMs,
    ) -> Result<Decision, MoneyError> {
        let side = if buyer_is_maker { Side::Buy } else { Side::Sell };
        let mut decision = Decision::default();
        let mut trade_id = self.state.next_id();
        let mut left = quantity;
        for order in self.resting(symbol) {
            let request = order.request;
            let through = match side {
                Side::Buy => request.worst_price > price,
                Side::Sell => request.worst_price < price,
            };
            if request.side != side || !(through || request.worst_price == price) {
                continue;
            }
            // After a restart the place in the queue is not known until the book has been seen.
            let ahead = self.ahead.entry(order.venue_order_id).or_insert(quantity);
            let reached = if through { left } else { left.minus(*ahead).unwrap_or(Quantity::ZERO) };
            *ahead = if through { Quantity::ZERO } else { ahead.minus(quantity).unwrap_or(Quantity::ZERO) };
            let traded = reached.min(order.remaining);
            if traded.is_zero() {
                continue;
            }
            left = left.minus(traded)?;
            decision.effects.push(self.filled(&request, trade_id, request.worst_price, traded, true, now)?);
            trade_id += 1;
        }
        Ok(decision)
    }

    /// Resting orders of an instrument: best price first, then oldest.
    fn resting(&self, symbol: &Symbol) -> Vec<Resting> {
        let of = |order: &Order| Resting {
            venue_order_id: order.venue_order_id,
            remaining: order.remaining(),
            request: order.request.clone(),
        };
        let mut orders: Vec<Resting> =
            self.state.open().filter(|order| order.request.instrument.symbol == *symbol).map(of).collect();
        orders.sort_by(|a, b| {
            let better = match a.request.side {
                Side::Buy => b.request.worst_price.cmp(&a.request.worst_price),
                Side::Sell => a.request.worst_price.cmp(&b.request.worst_price),
            };
            a.request.side.cmp(&b.request.side).then(better).then(a.venue_order_id.cmp(&b.venue_order_id))
        });
        orders
    }

    /// A new resting order stands behind everything that rests at its price.
    fn queue(&mut self, request: &OrderRequest, venue_order_id: u64) {
        if let Some((book, _)) = self.liquidity.book(&request.instrument.symbol) {
            self.ahead.insert(venue_order_id, book.resting_at(request.side, request.worst_price));
        }
    }
}

/// A resting order, apart from the account it stands in.
struct Resting {
    request: OrderRequest,
    venue_order_id: u64,
    remaining: Quantity,
}
