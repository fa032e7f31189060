//! A naive second opinion: whole micro-dollars, whole tenths of a coin, whole cents a coin, and a log it reads from the
//! start at every question. It shares no arithmetic and no state with the crate.

#![allow(dead_code, reason = "each test file uses its own part")]

use std::collections::BTreeMap;

use domain::ids::OrderId;
use domain::market::InstrumentId;
use domain::money::Usd;
use rails::book::{Book, Breaker, Change, DayBaseline, PermitStamp, Position, Reservation, Unapproved};

/// Limits of the histories, small enough to be met often. The same numbers stand in `limits()` of the histories.
pub const POSITION: i128 = 1_000_000_000;
pub const TOTAL_PERCENT: i128 = 97;
pub const COLLAR_PERCENT: i128 = 5;
pub const DAILY_PERCENT: i128 = 5;
pub const APPROVAL: i128 = 400_000_000;
pub const APPROVAL_WINDOW_MS: i64 = 300_000;
pub const RATE: usize = 4;
pub const EXITS: usize = 5;
pub const RATE_WINDOW_MS: i64 = 3_600_000;
pub const LOSSES: u32 = 2;
pub const LOSS_PERCENT: i128 = 2;
pub const MARK_AGE_MS: i64 = 30_000;

/// Tenths of a coin at cents a coin, in micro-dollars.
pub const fn micros(tenths: i128, cents: i128) -> i128 {
    tenths * cents * 1_000
}

/// The worst fee: 10 %, in micro-dollars, of an amount that is a multiple of 1,000.
pub const fn fee(amount: i128) -> i128 {
    amount / 10
}

#[derive(Debug, Clone)]
pub struct Asked {
    pub coin: usize,
    pub buy: bool,
    pub tenths: i128,
    pub cents: i128,
    pub limit_order: bool,
    pub reduce_only: bool,
    pub valid_until: i64,
}

#[derive(Debug, Clone)]
pub enum Event {
    /// A human is asked: reserved.
    Pending(usize),
    Permitted {
        order: usize,
        at: i64,
        human: bool,
        mark_cents: i128,
    },
    Filled {
        order: usize,
        tenths: i128,
        cents: i128,
        fee: i128,
    },
    Released(usize),
    Reset,
    Moved(i128),
    Midnight(i128),
}

/// What an order may be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Answer {
    Refused,
    Human,
    Approved,
}

#[derive(Debug, Clone, Default)]
pub struct Oracle {
    pub opening: i128,
    pub orders: Vec<Asked>,
    pub log: Vec<Event>,
    /// Cents and time received, by coin.
    pub marks: BTreeMap<usize, (i128, i64)>,
    pub kill: u8,
    pub now: i64,
}

impl Oracle {
    pub fn cash(&self) -> i128 {
        self.log.iter().fold(self.opening, |cash, event| match event {
            Event::Filled { order, tenths, cents, fee } if self.orders[*order].buy => {
                cash - micros(*tenths, *cents) - fee
            }
            Event::Filled { tenths, cents, fee, .. } => cash + micros(*tenths, *cents) - fee,
            Event::Moved(amount) => cash + amount,
            _ => cash,
        })
    }

    pub fn held(&self, coin: usize) -> i128 {
        let fills = self.log.iter().filter_map(|event| match event {
            Event::Filled { order, tenths, .. } if self.orders[*order].coin == coin => {
                Some(if self.orders[*order].buy { *tenths } else { -tenths })
            }
            _ => None,
        });
        fills.sum()
    }

    /// What an order still reserves; `None` when it reserves nothing.
    pub fn open(&self, order: usize) -> Option<i128> {
        let asked =
            self.log.iter().any(|e| matches!(e, Event::Pending(n) | Event::Permitted { order: n, .. } if *n == order));
        let over = self.log.iter().any(|e| matches!(e, Event::Released(n) if *n == order));
        (asked && !over).then(|| {
            let filled: i128 = self
                .log
                .iter()
                .map(|e| match e {
                    Event::Filled { order: n, tenths, .. } if *n == order => *tenths,
                    _ => 0,
                })
                .sum();
            (self.orders[order].tenths - filled).max(0)
        })
    }

    fn open_orders(&self, own: usize, buy: bool) -> impl Iterator<Item = (&Asked, i128)> {
        (0..self.orders.len())
            .filter(move |n| *n != own && self.orders[*n].buy == buy)
            .filter_map(|n| self.open(n).map(|left| (&self.orders[n], left)))
    }

    fn fresh(&self, coin: usize) -> Option<i128> {
        let (cents, at) = self.marks.get(&coin)?;
        (self.now - at <= MARK_AGE_MS && at - self.now <= 2_000).then_some(*cents)
    }

    /// Cash and everything held at whatever mark there is.
    pub fn equity_at_last_marks(&self) -> i128 {
        self.cash() + (0..3).map(|coin| micros(self.held(coin), self.marks.get(&coin).map_or(0, |m| m.0))).sum::<i128>()
    }

    pub fn baseline(&self) -> i128 {
        self.log.iter().fold(self.opening, |baseline, event| match event {
            Event::Moved(amount) => baseline + amount,
            Event::Midnight(equity) => *equity,
            _ => baseline,
        })
    }

    /// The streak and whether it latched, by the cash flow of each trade from zero to zero.
    pub fn breaker(&self) -> (u32, bool) {
        let (mut streak, mut latched) = (0, false);
        let mut trades: BTreeMap<usize, (i128, i128, i128)> = BTreeMap::new();
        for event in &self.log {
            match event {
                Event::Reset => (streak, latched) = (0, false),
                Event::Filled { order, tenths, cents, fee } => {
                    let asked = &self.orders[*order];
                    let (held, paid, flow) = trades.entry(asked.coin).or_default();
                    let gross = micros(*tenths, *cents);
                    if asked.buy {
                        *held += tenths;
                        *paid += gross + fee;
                        *flow -= gross + fee;
                        continue;
                    }
                    *held -= tenths;
                    *flow += gross - fee;
                    if *held != 0 {
                        continue;
                    }
                    if *flow > 0 {
                        streak = 0;
                    } else if -*flow * 100 > *paid * LOSS_PERCENT {
                        streak += 1;
                        latched |= streak >= LOSSES;
                    }
                    trades.remove(&asked.coin);
                }
                _ => {}
            }
        }
        (streak, latched)
    }

    /// Permits of one kind in the window, besides `own`.
    pub fn permits(&self, buy: bool, own: usize) -> usize {
        let counts = |e: &&Event| {
            matches!(e, Event::Permitted { order, at, .. }
            if *order != own && self.orders[*order].buy == buy && *at > self.now - RATE_WINDOW_MS)
        };
        self.log.iter().filter(counts).count()
    }

    pub fn unapproved(&self, coin: usize, own: usize) -> i128 {
        let notionals = self.log.iter().map(|event| match event {
            Event::Permitted { order, at, human: false, mark_cents }
                if *order != own && *at > self.now - APPROVAL_WINDOW_MS =>
            {
                let asked = &self.orders[*order];
                if asked.buy && asked.coin == coin { micros(asked.tenths, asked.cents.max(*mark_cents)) } else { 0 }
            }
            _ => 0,
        });
        notionals.sum()
    }

    /// Held at the mark and open buys at the worse price, of one coin; without `own`.
    pub fn exposure(&self, coin: usize, own: usize) -> i128 {
        let mark = self.fresh(coin);
        let open: i128 = self
            .open_orders(own, true)
            .filter(|(asked, _)| asked.coin == coin)
            .map(|(asked, left)| micros(left, asked.cents.max(mark.unwrap_or(0))))
            .sum();
        micros(self.held(coin), mark.unwrap_or(0)) + open
    }

    /// What the gate must say of order `own`, of which a human may have said yes already.
    pub fn answer(&self, own: usize, human_said_yes: bool) -> Answer {
        let asked = &self.orders[own];
        let Some((mark, _)) = self.marks.get(&asked.coin) else { return Answer::Refused };
        let in_collar = (asked.cents - mark).abs() * 100 <= mark * COLLAR_PERCENT;
        if self.now > asked.valid_until || !in_collar {
            return Answer::Refused;
        }
        if !asked.buy {
            let exits: i128 =
                self.open_orders(own, false).filter(|(a, _)| a.coin == asked.coin).map(|(_, left)| left).sum();
            let passes = asked.tenths <= (self.held(asked.coin) - exits).max(0)
                && (asked.limit_order || self.fresh(asked.coin).is_some())
                && self.permits(false, own) < EXITS;
            return if passes { Answer::Approved } else { Answer::Refused };
        }
        let marked = (0..3).all(|coin| (coin != asked.coin && self.held(coin) == 0) || self.fresh(coin).is_some());
        if asked.reduce_only || !marked || self.kill > 0 || self.breaker().1 {
            return Answer::Refused;
        }
        let (equity, baseline) = (self.equity_at_last_marks(), self.baseline());
        let lost = baseline <= 0 || (baseline - equity) * 100 >= baseline * DAILY_PERCENT;
        let notional = micros(asked.tenths, asked.cents);
        let worst = notional.max(micros(asked.tenths, *mark));
        let position = self.exposure(asked.coin, own) + worst;
        let total: i128 = (0..3).map(|coin| self.exposure(coin, own)).sum::<i128>() + worst;
        let reserved: i128 =
            self.open_orders(own, true).map(|(a, left)| micros(left, a.cents)).map(|n| n + fee(n)).sum();
        let passes = !lost
            && self.permits(true, own) < RATE
            && position <= POSITION
            && total * 100 <= equity * TOTAL_PERCENT
            && notional + fee(notional) + reserved <= self.cash();
        if !passes {
            return Answer::Refused;
        }
        let small = worst + self.unapproved(asked.coin, own) <= APPROVAL;
        if small || human_said_yes { Answer::Approved } else { Answer::Human }
    }
}

/// What a store knows that only ever writes the changes: keys and values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyValue {
    cash: Usd,
    positions: BTreeMap<InstrumentId, Position>,
    reservations: BTreeMap<OrderId, Reservation>,
    permits: BTreeMap<OrderId, PermitStamp>,
    unapproved: BTreeMap<OrderId, Unapproved>,
    breaker: Breaker,
    day: DayBaseline,
}

impl KeyValue {
    pub fn of(book: &Book) -> Self {
        Self {
            cash: book.cash,
            positions: book.positions.clone(),
            reservations: book.reservations.clone(),
            permits: book.permits.iter().map(|p| (p.order_id, *p)).collect(),
            unapproved: book.unapproved.iter().map(|u| (u.order_id, u.clone())).collect(),
            breaker: book.breaker,
            day: book.day,
        }
    }

    pub fn write(&mut self, changes: &[Change]) {
        for change in changes.iter().cloned() {
            match change {
                Change::Cash(cash) => self.cash = cash,
                Change::Position(id, position) => drop(self.positions.insert(id, position)),
                Change::PositionClosed(id) => drop(self.positions.remove(&id)),
                Change::Reservation(r) => drop(self.reservations.insert(r.order_id, r)),
                Change::Released(id) => drop(self.reservations.remove(&id)),
                Change::Permit(p) => drop(self.permits.insert(p.order_id, p)),
                Change::Unapproved(u) => drop(self.unapproved.insert(u.order_id, u)),
                Change::Breaker(breaker) => self.breaker = breaker,
                Change::Day(day) => self.day = day,
            }
        }
    }
}
