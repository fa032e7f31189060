//! One user's ledger as plain values, and every way it may change.
//!
//! The store loads a [`Book`] under a row lock, a pure operation changes it and returns the [`Change`]s, and the store
//! writes exactly those. A replay keeps the book in memory and uses the same operations.

use std::collections::BTreeMap;

use domain::ids::{OrderId, UserId};
use domain::market::{InstrumentId, Mark};
use domain::money::{MoneyError, Price, Quantity, Usd};
use domain::order::{Fill, OrderEnvelope, Side};
use domain::time::UnixMs;

use crate::posting;

/// One open position. Spot only: never negative.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// Base quantity held.
    pub quantity: Quantity,
    /// What the held quantity cost, buy fees included.
    pub cost: Usd,
    /// What the whole trade cost since it was opened, buy fees included: the base of the 2 % loss rule.
    pub trade_cost: Usd,
    /// Realised by partial exits of this trade so far, sell fees included.
    pub trade_realised: Usd,
    /// When it was opened.
    pub opened_at: UnixMs,
}

/// How far a reservation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReservationState {
    /// Waits for a human; may time out.
    Pending,
    /// A permit was signed; only a venue outcome or a voided permit releases it.
    Permitted,
}

/// Worst case of one order that is not done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reservation {
    /// Which order.
    pub order_id: OrderId,
    /// Where and what.
    pub instrument: InstrumentId,
    /// Direction.
    pub side: Side,
    /// May only shrink a position.
    pub reduce_only: bool,
    /// Base quantity not yet traded.
    pub remaining: Quantity,
    /// Worst price per unit.
    pub worst_price: Price,
    /// How far.
    pub state: ReservationState,
    /// A pending one is dropped after this.
    pub expires_at: UnixMs,
}

/// One permit signed in the rolling hour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PermitStamp {
    /// Which order.
    pub order_id: OrderId,
    /// When.
    pub at: UnixMs,
    /// It increased risk (an exit otherwise).
    pub risk_increasing: bool,
}

/// Notional that passed without a human, in the rolling approval window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unapproved {
    /// Which order.
    pub order_id: OrderId,
    /// Where and what.
    pub instrument: InstrumentId,
    /// Direction.
    pub side: Side,
    /// Worst-case notional.
    pub notional: Usd,
    /// When.
    pub at: UnixMs,
}

/// The loss-streak breaker of one user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Breaker {
    /// Closed trades in a row that lost more than the limit.
    pub losses_in_a_row: u32,
    /// Latched since; only a human resets it.
    pub latched_at: Option<UnixMs>,
}

/// What today's loss is counted from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DayBaseline {
    /// UTC day number.
    pub day: i64,
    /// Equity at the last event before 00:00 UTC of that day, moved by deposits and withdrawals since.
    pub equity: Usd,
}

/// Everything the rails need to know about one user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Book {
    /// Whose.
    pub user_id: UserId,
    /// Settled cash.
    pub cash: Usd,
    /// Open positions.
    pub positions: BTreeMap<InstrumentId, Position>,
    /// Orders that are not done.
    pub reservations: BTreeMap<OrderId, Reservation>,
    /// Permits of the rolling hour.
    pub permits: Vec<PermitStamp>,
    /// Unapproved notional of the rolling approval window.
    pub unapproved: Vec<Unapproved>,
    /// Loss streak.
    pub breaker: Breaker,
    /// Today's baseline.
    pub day: DayBaseline,
}

/// One thing that changed in a book; the store writes exactly these.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Settled cash is now this.
    Cash(Usd),
    /// The position is now this.
    Position(InstrumentId, Position),
    /// The position is closed and gone.
    PositionClosed(InstrumentId),
    /// A reservation was made or is now this.
    Reservation(Reservation),
    /// A reservation is gone.
    Released(OrderId),
    /// A permit was counted.
    Permit(PermitStamp),
    /// Unapproved notional was counted.
    Unapproved(Unapproved),
    /// The breaker is now this.
    Breaker(Breaker),
    /// The baseline is now this.
    Day(DayBaseline),
}

/// A trade that is over: the position went to zero.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClosedTrade {
    /// Where and what.
    pub instrument: InstrumentId,
    /// What it cost.
    pub cost: Usd,
    /// What it made (or lost), fees included.
    pub realised: Usd,
    /// It was a loss over the breaker's limit.
    pub counted_as_loss: bool,
}

/// What posting a fill did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Posted {
    /// For the store, in order.
    pub changes: Vec<Change>,
    /// Realised by this fill, sell fees included; zero for a buy.
    pub realised: Usd,
    /// Set when it closed the trade.
    pub closed: Option<ClosedTrade>,
}

/// Why a fact can't be posted. These are faults of the system, never of a user: they stop trading, they are not refusals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LedgerError {
    /// An amount left the range.
    #[error("amount out of range")]
    Money(#[from] MoneyError),
    /// A sale of more than is held.
    #[error("fill sells more than the position holds")]
    Oversold,
    /// A fill of nothing.
    #[error("fill of no quantity")]
    EmptyFill,
    /// No reservation of that order.
    #[error("no reservation of that order")]
    NoReservation,
}

/// The prices that equity is computed with.
pub type Marks = BTreeMap<InstrumentId, Mark>;

impl Book {
    /// A new user's book: cash only, baseline = the opening balance.
    #[must_use]
    pub fn open(user_id: UserId, opening_balance: Usd, now: UnixMs) -> Self {
        Self {
            user_id,
            cash: opening_balance,
            positions: BTreeMap::new(),
            reservations: BTreeMap::new(),
            permits: Vec::new(),
            unapproved: Vec::new(),
            breaker: Breaker::default(),
            day: DayBaseline { day: now.day(), equity: opening_balance },
        }
    }

    /// Cash plus every position at its mark, each rounded down; `None` when a held instrument has no fresh mark (see
    /// [`is_fresh`]) or an amount leaves the range.
    #[must_use]
    pub fn equity(&self, marks: &Marks, now: UnixMs, max_age_ms: i64) -> Option<Usd> {
        let mut sum = self.cash;
        for (instrument, position) in &self.positions {
            let mark = fresh_mark(marks, instrument, now, max_age_ms)?;
            sum = sum.plus(mark.notional_down(position.quantity).ok()?).ok()?;
        }
        Some(sum)
    }

    /// What a reduce-only sale of everything may sell: position less open exits.
    #[must_use]
    pub fn closable(&self, instrument: &InstrumentId) -> Quantity {
        self.closable_besides(instrument, None)
    }

    /// [`Book::closable`], with one order's own exit left out of the open ones.
    pub(crate) fn closable_besides(&self, instrument: &InstrumentId, own: Option<OrderId>) -> Quantity {
        let held = self.positions.get(instrument).map_or(Quantity::ZERO, |position| position.quantity);
        self.reservations
            .values()
            .filter(|r| r.side == Side::Sell && r.instrument == *instrument && Some(r.order_id) != own)
            .fold(held, |left, exit| left.minus(exit.remaining).unwrap_or(Quantity::ZERO))
    }

    /// Reserves the worst case of an order. `Pending` while a human is asked, `Permitted` when a permit is signed. A
    /// reservation the order already has is replaced.
    pub fn reserve(&mut self, order: &OrderEnvelope, state: ReservationState, expires_at: UnixMs) -> Vec<Change> {
        let reservation = Reservation {
            order_id: order.order_id,
            instrument: order.instrument(),
            side: order.side,
            reduce_only: order.reduce_only,
            remaining: order.quantity,
            worst_price: order.worst_price,
            state,
            expires_at,
        };
        self.reservations.insert(order.order_id, reservation.clone());
        vec![Change::Reservation(reservation)]
    }

    /// Counts a signed permit: turns the order's reservation into `Permitted` (making it when there is none), stamps the
    /// rate window, and counts unapproved notional unless `approved_by_human` or risk-reducing (a sale). What is counted
    /// is what the gate judged: the higher of the order's worst case and its quantity at the mark of `marks`. An order
    /// has at most one stamp and one unapproved entry; a repeated permit replaces them.
    pub fn permit(
        &mut self,
        order: &OrderEnvelope,
        approved_by_human: bool,
        marks: &Marks,
        now: UnixMs,
    ) -> Vec<Change> {
        let mut changes = self.reserve(order, ReservationState::Permitted, order.valid_until);
        let risk_increasing = order.side == Side::Buy;
        let stamp = PermitStamp { order_id: order.order_id, at: now, risk_increasing };
        self.permits.retain(|p| p.order_id != order.order_id);
        self.permits.push(stamp);
        changes.push(Change::Permit(stamp));
        if risk_increasing && !approved_by_human {
            let mark = marks.get(&order.instrument()).map(|mark| mark.price);
            let entry = Unapproved {
                order_id: order.order_id,
                instrument: order.instrument(),
                side: order.side,
                // An amount out of range was refused by the gate.
                notional: judged_notional(order, mark).unwrap_or(order.max_notional_usd),
                at: now,
            };
            self.unapproved.retain(|u| u.order_id != order.order_id);
            self.unapproved.push(entry.clone());
            changes.push(Change::Unapproved(entry));
        }
        changes
    }

    /// Drops the reservation of an order whose outcome is final, or whose permit was voided, or whose wait is over.
    ///
    /// # Errors
    /// [`LedgerError::NoReservation`] when it is already gone.
    pub fn release(&mut self, order_id: OrderId) -> Result<Vec<Change>, LedgerError> {
        self.reservations.remove(&order_id).ok_or(LedgerError::NoReservation)?;
        Ok(vec![Change::Released(order_id)])
    }

    /// Posts a fill: cash, position, reservation, realised profit, breaker. A late fill of a released order is posted too.
    ///
    /// | fill | cash | position |
    /// |---|---|---|
    /// | buy | less price x quantity (rounded up) and fee | cost and trade cost grow by the same |
    /// | sell | more by price x quantity (rounded down) less fee | cost shrinks in proportion (rounded towards zero; all of it goes with the last unit) |
    ///
    /// A trade is over when its quantity is exactly zero; dust keeps it open.
    ///
    /// # Errors
    /// [`LedgerError`]; the book is unchanged then.
    pub fn post_fill(&mut self, fill: &Fill, breaker: BreakerRule, now: UnixMs) -> Result<Posted, LedgerError> {
        if fill.quantity.is_zero() {
            return Err(LedgerError::EmptyFill);
        }
        let held = self.positions.get(&fill.instrument).copied();
        let turn = match fill.side {
            Side::Buy => posting::buy(self.cash, held, fill)?,
            Side::Sell => posting::sell(self.cash, held, fill)?,
        };
        let closed =
            turn.position.quantity.is_zero().then(|| posting::close(&turn.position, fill, breaker)).transpose()?;
        // Nothing below can fail: the book changes as a whole or not at all.
        self.cash = turn.cash;
        let mut changes = vec![Change::Cash(turn.cash)];
        if closed.is_some() {
            self.positions.remove(&fill.instrument);
            changes.push(Change::PositionClosed(fill.instrument.clone()));
        } else {
            self.positions.insert(fill.instrument.clone(), turn.position);
            changes.push(Change::Position(fill.instrument.clone(), turn.position));
        }
        if let Some(reservation) = self.reservations.get_mut(&fill.order_id) {
            reservation.remaining = reservation.remaining.minus(fill.quantity).unwrap_or(Quantity::ZERO);
            changes.push(Change::Reservation(reservation.clone()));
        }
        if let Some(trade) = &closed {
            let counted = self.breaker.after(trade, breaker, now);
            if counted != self.breaker {
                self.breaker = counted;
                changes.push(Change::Breaker(counted));
            }
        }
        Ok(Posted { changes, realised: turn.realised, closed })
    }

    /// Starts a new UTC day when `now` is past the baseline's: the baseline becomes `equity_before_midnight`. Days never
    /// run backwards, and several may pass at once.
    pub fn roll_day(&mut self, equity_before_midnight: Usd, now: UnixMs) -> Vec<Change> {
        if now.day() <= self.day.day {
            return Vec::new();
        }
        self.day = DayBaseline { day: now.day(), equity: equity_before_midnight };
        vec![Change::Day(self.day)]
    }

    /// Moves cash and baseline by a deposit (positive) or withdrawal (negative).
    ///
    /// # Errors
    /// [`LedgerError::Money`]; the book is unchanged then.
    pub fn transfer(&mut self, amount: Usd) -> Result<Vec<Change>, LedgerError> {
        let cash = self.cash.plus(amount)?;
        let equity = self.day.equity.plus(amount)?;
        self.cash = cash;
        self.day.equity = equity;
        Ok(vec![Change::Cash(cash), Change::Day(self.day)])
    }

    /// A human reset of the breaker: streak and latch.
    pub fn reset_breaker(&mut self) -> Vec<Change> {
        if self.breaker == Breaker::default() {
            return Vec::new();
        }
        self.breaker = Breaker::default();
        vec![Change::Breaker(self.breaker)]
    }

    /// Forgets permits and unapproved notional that left their windows, for books kept in memory; a loaded book has only
    /// what is inside. It never changes a verdict.
    pub fn prune(&mut self, now: UnixMs, rate_window_ms: i64, approval_window_ms: i64) {
        self.permits.retain(|p| now.since_ms(p.at) < rate_window_ms);
        self.unapproved.retain(|u| now.since_ms(u.at) < approval_window_ms);
    }
}

impl Breaker {
    /// The breaker after a closed trade. Only a profit ends the streak; a latch stays where it is.
    fn after(self, trade: &ClosedTrade, rule: BreakerRule, now: UnixMs) -> Self {
        if trade.realised.is_positive() {
            return Self { losses_in_a_row: 0, ..self };
        }
        if !trade.counted_as_loss {
            return self;
        }
        let losses_in_a_row = self.losses_in_a_row.saturating_add(1);
        let latches = losses_in_a_row >= rule.losses;
        Self { losses_in_a_row, latched_at: self.latched_at.or(latches.then_some(now)) }
    }
}

/// How far a mark may lie in the future and still be fresh: clocks of two hosts differ a little.
pub const MARK_LEAD_MS: i64 = 2_000;

/// A mark counts as fresh up to `max_age_ms` of age, and up to [`MARK_LEAD_MS`] ahead of us.
#[must_use]
pub const fn is_fresh(mark: &Mark, now: UnixMs, max_age_ms: i64) -> bool {
    let age_ms = now.since_ms(mark.received_at);
    age_ms <= max_age_ms && age_ms >= -MARK_LEAD_MS
}

/// What an order counts for where people are asked: its worst case, or its quantity at the mark when that is more (a
/// limit below the mark does not make a large order small).
pub(crate) fn judged_notional(order: &OrderEnvelope, mark: Option<Price>) -> Result<Usd, MoneyError> {
    let at_mark = mark.map_or(Ok(Usd::ZERO), |mark| mark.notional_up(order.quantity))?;
    Ok(order.max_notional_usd.max(at_mark))
}

/// The price of a fresh mark.
pub(crate) fn fresh_mark(marks: &Marks, instrument: &InstrumentId, now: UnixMs, max_age_ms: i64) -> Option<Price> {
    marks.get(instrument).filter(|mark| is_fresh(mark, now, max_age_ms)).map(|mark| mark.price)
}

/// What the breaker counts: this many losses in a row of more than this part of the entry cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakerRule {
    /// Losses in a row that latch it.
    pub losses: u32,
    /// Part of the entry cost a counted loss exceeds, in percent.
    pub loss_percent: rust_decimal::Decimal,
}
