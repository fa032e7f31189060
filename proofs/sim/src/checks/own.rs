//! What the checks know by themselves: what the venue traded, what the market showed, and which permits went out. Nothing
//! here is read from a row that a rail reads, and nothing is computed the way the rails do.

use std::collections::BTreeMap;

use domain::ids::{OrderId, UserId};
use domain::market::InstrumentId;
use domain::order::{Fill, Side};
use domain::time::{DAY_MS, UnixMs};
use rails::book::{BreakerRule, Marks};
use rust_decimal::Decimal;

use super::{cash_of, down};

/// From so long before midnight on, what an account is worth may become a baseline: a clock may be 40 s off, and treasury
/// looks every few seconds.
const BEFORE_MIDNIGHT_MS: i64 = 120_000;

/// One permit that went out.
#[derive(Debug, Clone)]
pub(super) struct Passed {
    pub order_id: OrderId,
    pub user: UserId,
    pub instrument: InstrumentId,
    pub side: Side,
    pub at: UnixMs,
    /// What it may cost, or is worth at the mark when that is more.
    pub notional: Decimal,
    pub by_human: bool,
}

/// One trade from nothing held to nothing held.
#[derive(Debug, Default)]
struct Trade {
    held: Decimal,
    paid: Decimal,
    flow: Decimal,
}

/// Losses in a row, and whether they stopped trading.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Streak {
    pub losses: u32,
    pub latched: bool,
}

#[derive(Debug, Default)]
pub(super) struct Own {
    cash: BTreeMap<UserId, Decimal>,
    trades: BTreeMap<(UserId, InstrumentId), Trade>,
    streaks: BTreeMap<UserId, Streak>,
    /// The streak that stood when an order was permitted.
    streaks_then: BTreeMap<OrderId, Streak>,
    /// Lowest and highest price since shortly before the last midnight, and the day that was late then.
    prices: BTreeMap<InstrumentId, (Decimal, Decimal)>,
    late_on: Option<i64>,
    /// What each account may be worth by them, before and after this step.
    worth: BTreeMap<UserId, (Decimal, Decimal)>,
    baselines: BTreeMap<(UserId, i64), Decimal>,
    passed: Vec<Passed>,
}

impl Own {
    /// An account as it began.
    pub(super) fn open(&mut self, user: UserId, opening: Decimal) {
        self.cash.entry(user).or_insert(opening);
    }

    /// The ledger says that it has taken up this fill of the venue's.
    pub(super) fn post(&mut self, user: UserId, fill: &Fill, rule: BreakerRule) {
        let flow = cash_of(fill);
        *self.cash.entry(user).or_default() += flow;
        let key = (user, fill.instrument.clone());
        let trade = self.trades.entry(key.clone()).or_default();
        trade.flow += flow;
        match fill.side {
            Side::Buy => {
                trade.held += fill.quantity.value();
                trade.paid -= flow;
            }
            Side::Sell => trade.held -= fill.quantity.value(),
        }
        if !trade.held.is_zero() {
            return;
        }
        let (made, paid) = (trade.flow, trade.paid);
        self.trades.remove(&key);
        let streak = self.streaks.entry(user).or_default();
        if made > Decimal::ZERO {
            streak.losses = 0;
        } else if -made > paid * rule.loss_percent * Decimal::new(1, 2) {
            streak.losses += 1;
            streak.latched |= streak.losses >= rule.losses;
        }
    }

    /// A person has reset the breaker.
    pub(super) fn reset(&mut self, user: UserId) {
        self.streaks.remove(&user);
    }

    /// The audit chain says that this order was permitted, after what the chain says before.
    pub(super) fn permitted(&mut self, user: UserId, order: OrderId) {
        let streak = self.streaks.get(&user).copied().unwrap_or_default();
        self.streaks_then.insert(order, streak);
    }

    /// The streak of a user when an order was permitted; that of now when no row says when that was.
    pub(super) fn streak(&self, user: UserId, order: OrderId) -> Streak {
        let then = self.streaks_then.get(&order).or_else(|| self.streaks.get(&user));
        then.copied().unwrap_or_default()
    }

    pub(super) fn cash(&self, user: UserId) -> Decimal {
        self.cash.get(&user).copied().unwrap_or_default()
    }

    /// Cash, and what is held at these prices; `None` when one of them is not there.
    pub(super) fn equity(&self, user: UserId, marks: &Marks) -> Option<Decimal> {
        let held = self.trades.iter().filter(|((owner, _), _)| *owner == user);
        held.map(|((_, instrument), trade)| Some(down(marks.get(instrument)?.price.value() * trade.held)))
            .try_fold(self.cash(user), |sum, value| Some(sum + value?))
    }

    /// Notes prices that a baseline may go by: those shortly before a day began, and since.
    pub(super) fn note_prices(&mut self, marks: &Marks, now: UnixMs) {
        let is_late = now.0.rem_euclid(DAY_MS) >= DAY_MS - BEFORE_MIDNIGHT_MS;
        if is_late && self.late_on.replace(now.day()) != Some(now.day()) {
            self.prices.clear();
        }
        for (instrument, mark) in marks {
            let price = mark.price.value();
            let (low, high) = self.prices.entry(instrument.clone()).or_insert((price, price));
            (*low, *high) = ((*low).min(price), (*high).max(price));
        }
    }

    /// Notes what every account may be worth, as it stands, by those prices.
    pub(super) fn note_worth(&mut self) {
        for (user, cash) in &self.cash {
            let (mut least, mut most) = (*cash, *cash);
            for ((_, instrument), trade) in self.trades.iter().filter(|((owner, _), _)| owner == user) {
                let (low, high) = self.prices.get(instrument).copied().unwrap_or_default();
                (least, most) = (least + down(low * trade.held), most + down(high * trade.held));
            }
            let (low, high) = self.worth.entry(*user).or_insert((least, most));
            (*low, *high) = ((*low).min(least), (*high).max(most));
        }
    }

    /// Forgets what accounts were worth before this step.
    pub(super) fn forget_worth(&mut self) {
        self.worth.clear();
    }

    /// A day's baseline as it stands: an error when it is nothing that the account was worth, or not what it was.
    pub(super) fn baseline(&mut self, user: UserId, day: i64, equity: Decimal) -> Result<(), String> {
        if let Some(before) = self.baselines.get(&(user, day)) {
            return if *before == equity { Ok(()) } else { Err(format!("it was {before} and is {equity}")) };
        }
        self.baselines.insert((user, day), equity);
        let cash = self.cash(user);
        let (low, high) = self.worth.get(&user).copied().unwrap_or((cash, cash));
        if (low..=high).contains(&equity) { Ok(()) } else { Err(format!("it is {equity}, worth was {low} to {high}")) }
    }

    /// Whether the day's loss has reached its limit at these prices; `None` when that can't be known.
    pub(super) fn lost(&self, user: UserId, now: UnixMs, marks: &Marks) -> Option<(Decimal, Decimal)> {
        let baseline = self.baselines.get(&(user, now.day()))?;
        Some((*baseline, *baseline - self.equity(user, marks)?))
    }

    /// A permit went out.
    pub(super) fn pass(&mut self, passed: Passed) {
        self.passed.push(passed);
    }

    /// The permits of a user since then.
    pub(super) fn passed(&self, user: UserId, since: UnixMs) -> impl Iterator<Item = &Passed> {
        self.passed.iter().filter(move |passed| passed.user == user && passed.at > since)
    }
}
