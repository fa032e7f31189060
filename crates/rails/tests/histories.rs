//! Random histories against the real gate and the real book, judged by a naive oracle after every step.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod oracle;
mod scene;

use domain::ids::OrderId;
use domain::market::{InstrumentId, Mark};
use domain::money::{Price, Quantity, Usd};
use domain::order::{Fill, OrderEnvelope, OrderType, Side};
use domain::time::{DAY_MS, UnixMs};
use oracle::{Answer, Asked, Event, KeyValue, Oracle, micros};
use proptest::prelude::*;
use rails::book::{Book, Change, LedgerError, Marks, ReservationState};
use rails::check::{HumanApproval, KillReading, Surroundings, Verdict, check};
use rails::limits::Limits;
use rust_decimal::Decimal;
use scene::{NOW, decimal, envelope, house, paper, rules, usd, user};

/// One thing that happens. Numbers that pick something are taken modulo what there is.
#[derive(Debug, Clone)]
enum Step {
    Intent {
        coin: usize,
        buy: bool,
        tenths: u16,
        off_bps: i16,
        limit_order: bool,
        reduce_only: bool,
    },
    Decide {
        pick: usize,
        yes: bool,
    },
    Fill {
        pick: usize,
        percent: u8,
        better_bps: u16,
    },
    Release {
        pick: usize,
    },
    Mark {
        coin: usize,
        cents_percent: u8,
        age_ms: i64,
    },
    /// Time passes; most of the time the market speaks after it.
    Wait {
        ms: i64,
        quotes: bool,
    },
    /// Everything closable is sold below a falling mark, and filled.
    Lose {
        coin: usize,
    },
    Kill {
        level: u8,
    },
    Reset,
    Transfer {
        dollars: i32,
    },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..3_usize, prop::bool::weighted(0.65), prop_oneof![3 => 1..20_u16, 2 => 1..90_u16], prop_oneof![3 => -100..300_i16, 1 => -600..600_i16], prop::bool::weighted(0.7), prop::bool::weighted(0.1))
            .prop_map(|(coin, buy, tenths, off_bps, limit_order, reduce_only)| Step::Intent { coin, buy, tenths, off_bps, limit_order, reduce_only }),
        3 => (any::<usize>(), prop::bool::weighted(0.8)).prop_map(|(pick, yes)| Step::Decide { pick, yes }),
        8 => (any::<usize>(), 1..=150_u8, 0..400_u16).prop_map(|(pick, percent, better_bps)| Step::Fill { pick, percent, better_bps }),
        3 => any::<usize>().prop_map(|pick| Step::Release { pick }),
        3 => (0..3_usize, prop_oneof![3 => 97..=103_u8, 1 => 85..=115_u8], prop_oneof![4 => Just(0), 1 => -3_000..40_000_i64])
            .prop_map(|(coin, cents_percent, age_ms)| Step::Mark { coin, cents_percent, age_ms }),
        3 => (prop_oneof![8 => 0..20_000_i64, 2 => 0..700_000_i64, 1 => 0..2 * DAY_MS], prop::bool::weighted(0.8))
            .prop_map(|(ms, quotes)| Step::Wait { ms, quotes }),
        2 => (0..3_usize).prop_map(|coin| Step::Lose { coin }),
        1 => prop_oneof![3 => Just(0_u8), 1 => 0..=4_u8].prop_map(|level| Step::Kill { level }),
        1 => Just(Step::Reset),
        1 => (-300..300).prop_map(|dollars| Step::Transfer { dollars }),
    ]
}

/// A short start in a live market, then anything.
fn history() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(step(), 1..50)
}

fn limits() -> Limits {
    let mut limits = house();
    limits.position_usd = usd("1000");
    limits.total_exposure_percent = decimal("97");
    limits.worst_fee_percent = decimal("10");
    limits.approval_over_usd = usd("400");
    limits.approval_tier2_over_usd = usd("700");
    limits.rate_risk_increasing = 4;
    limits.rate_exits = 5;
    limits.breaker.losses = 2;
    limits
}

fn coin(number: usize) -> InstrumentId {
    paper(["BTCUSDT", "ETHUSDT", "SOLUSDT"][number])
}

fn tenths(amount: i128) -> Quantity {
    Quantity::new(Decimal::from_i128_with_scale(amount, 1)).unwrap()
}

fn cents(amount: i128) -> Price {
    Price::new(Decimal::from_i128_with_scale(amount, 2)).unwrap()
}

fn dollars(micros: i128) -> Usd {
    Usd::new(Decimal::from_i128_with_scale(micros, 6)).unwrap()
}

/// The system under test and its oracle, side by side.
struct World {
    limits: Limits,
    book: Book,
    marks: Marks,
    orders: Vec<OrderEnvelope>,
    /// Waiting for a human: order, when it expires, the tier asked for.
    waiting: Vec<(usize, i64, u8)>,
    stored: KeyValue,
    oracle: Oracle,
    realised: Usd,
    moved: Usd,
    /// A late fill or a withdrawal may take cash that was counted on.
    cash_taken: bool,
}

impl World {
    fn new() -> Self {
        let opening = 2_000_000_000;
        let book = Book::open(user(), dollars(opening), NOW);
        let stored = KeyValue::of(&book);
        let oracle = Oracle { opening, now: NOW.0, ..Oracle::default() };
        let (moved, realised) = (Usd::ZERO, Usd::ZERO);
        let mut world = Self {
            limits: limits(),
            book,
            marks: Marks::new(),
            orders: Vec::new(),
            waiting: Vec::new(),
            stored,
            oracle,
            realised,
            moved,
            cash_taken: false,
        };
        (0..3).for_each(|coin| world.mark(coin, 10_000, 0));
        world
    }

    fn now(&self) -> UnixMs {
        UnixMs(self.oracle.now)
    }

    fn mark(&mut self, number: usize, amount: i128, age_ms: i64) {
        let received_at = self.now().plus_ms(-age_ms);
        self.marks.insert(coin(number), Mark { price: cents(amount), received_at });
        self.oracle.marks.insert(number, (amount, received_at.0));
    }

    fn ask(&self, number: usize, approval: Option<&HumanApproval>, limits: &Limits) -> Verdict {
        let order = &self.orders[number];
        let instrument = rules(order.instrument());
        check(
            order,
            approval,
            Surroundings {
                limits,
                book: &self.book,
                marks: &self.marks,
                instrument: Some(&instrument),
                verdict: None,
                kill: KillReading::Level { level: self.oracle.kill, epoch: 1 },
                now: self.now(),
            },
        )
    }

    fn write(&mut self, changes: &[Change]) {
        self.stored.write(changes);
    }

    fn permit(&mut self, number: usize, human: bool) {
        let changes = self.book.permit(&self.orders[number], human, &self.marks, self.now());
        self.write(&changes);
        let mark_cents = self.oracle.marks.get(&self.oracle.orders[number].coin).map_or(0, |mark| mark.0);
        self.oracle.log.push(Event::Permitted { order: number, at: self.oracle.now, human, mark_cents });
        self.limits_hold(number, human);
    }

    /// What must hold right after a permit, whatever came before it.
    fn limits_hold(&self, number: usize, human: bool) {
        let asked = &self.oracle.orders[number];
        let none = usize::MAX;
        assert!(self.oracle.permits(false, none) <= oracle::EXITS);
        if !asked.buy {
            return;
        }
        assert!(self.oracle.kill == 0 && !self.oracle.breaker().1);
        assert!(self.oracle.permits(true, none) <= oracle::RATE);
        assert!(self.oracle.exposure(asked.coin, none) <= oracle::POSITION);
        let total: i128 = (0..3).map(|coin| self.oracle.exposure(coin, none)).sum();
        assert!(total * 100 <= self.oracle.equity_at_last_marks() * oracle::TOTAL_PERCENT);
        assert!(human || self.oracle.unapproved(asked.coin, none) <= oracle::APPROVAL);
    }

    fn intent(&mut self, asked: Asked) -> usize {
        let number = self.orders.len();
        let side = if asked.buy { Side::Buy } else { Side::Sell };
        let mut order =
            envelope(u16::try_from(number).unwrap(), &coin(asked.coin), side, tenths(asked.tenths), cents(asked.cents));
        order.reduce_only = asked.reduce_only;
        order.order_type = if asked.limit_order { OrderType::Limit } else { OrderType::Market };
        order.valid_until = UnixMs(asked.valid_until);
        self.orders.push(order);
        self.oracle.orders.push(asked);
        number
    }

    fn decide(&mut self, number: usize, approval: Option<&HumanApproval>) {
        let verdict = self.ask(number, approval, &self.limits);
        let want = self.oracle.answer(number, approval.is_some());
        assert_eq!(rank(&verdict), want, "{verdict:?}");
        match verdict {
            Verdict::Approved(_) => self.permit(number, approval.is_some()),
            Verdict::NeedsHuman { tier, .. } => {
                let expires_at = self.now().plus_ms(600_000);
                let changes = self.book.reserve(&self.orders[number], ReservationState::Pending, expires_at);
                self.write(&changes);
                self.oracle.log.push(Event::Pending(number));
                self.waiting.push((number, expires_at.0, tier));
            }
            Verdict::Refused(_) if approval.is_some() => self.release(number),
            Verdict::Refused(_) => {}
        }
    }

    fn release(&mut self, number: usize) {
        let id: OrderId = self.orders[number].order_id;
        match self.oracle.open(number) {
            Some(_) => {
                let changes = self.book.release(id).unwrap();
                self.write(&changes);
                self.oracle.log.push(Event::Released(number));
            }
            None => assert_eq!(self.book.release(id), Err(LedgerError::NoReservation)),
        }
    }

    fn fill(&mut self, number: usize, percent: u8, better_bps: u16) {
        let asked = self.oracle.orders[number].clone();
        let amount = (asked.tenths * i128::from(percent) / 100).max(1);
        let better = asked.cents * i128::from(better_bps) / 10_000;
        let at = if asked.buy { asked.cents - better } else { asked.cents + better };
        // A hundredth of the worst fee: 0.1 %, as venues take.
        let fee = oracle::fee(micros(amount, at)) / 100;
        let fill = Fill {
            order_id: self.orders[number].order_id,
            venue_trade_id: self.oracle.log.len().to_string(),
            instrument: coin(asked.coin),
            side: self.orders[number].side,
            quantity: tenths(amount),
            price: cents(at),
            fee: dollars(fee),
            at: self.now(),
        };
        let before = self.book.clone();
        let posted = self.book.post_fill(&fill, self.limits.breaker, self.now());
        if !asked.buy && amount > self.oracle.held(asked.coin) {
            assert_eq!(posted, Err(LedgerError::Oversold));
            assert_eq!(self.book, before);
            return;
        }
        let posted = posted.unwrap();
        self.cash_taken |= asked.buy && self.oracle.open(number).is_none_or(|left| left < amount);
        self.write(&posted.changes);
        self.realised = self.realised.plus(posted.realised).unwrap();
        self.oracle.log.push(Event::Filled { order: number, tenths: amount, cents: at, fee });
        assert_eq!(posted.closed.is_some(), self.oracle.held(asked.coin) == 0);
    }

    fn wait(&mut self, ms: i64) {
        let equity = self.oracle.equity_at_last_marks();
        self.oracle.now += ms;
        let changes = self.book.roll_day(dollars(equity), self.now());
        if !changes.is_empty() {
            self.oracle.log.push(Event::Midnight(equity));
        }
        self.write(&changes);
        let over: Vec<_> = self.waiting.extract_if(.., |(_, expires_at, _)| *expires_at < self.oracle.now).collect();
        over.into_iter().for_each(|(number, _, _)| self.release(number));
    }

    fn apply(&mut self, step: &Step) {
        match *step {
            Step::Intent { coin, buy, tenths, off_bps, limit_order, reduce_only } => {
                let mark = self.oracle.marks[&coin].0;
                let (tenths, held) = (i128::from(tenths), self.oracle.held(coin));
                // Three of four sales are of something that is held.
                let tenths = if buy || held == 0 || tenths % 4 == 0 { tenths } else { 1 + tenths % held };
                let asked = Asked {
                    coin,
                    buy,
                    tenths,
                    cents: mark + mark * i128::from(off_bps) / 10_000,
                    limit_order,
                    reduce_only,
                    valid_until: self.oracle.now + 900_000,
                };
                let number = self.intent(asked);
                self.decide(number, None);
            }
            Step::Decide { pick, yes } if !self.waiting.is_empty() => {
                let (number, expires_at, tier) = self.waiting.swap_remove(pick % self.waiting.len());
                if !yes {
                    return self.release(number);
                }
                // A higher mark may have lifted it to tier 2 since: two people said yes.
                let approval = HumanApproval {
                    digest: self.orders[number].digest().unwrap(),
                    tier: tier.max(2),
                    expires_at: UnixMs(expires_at),
                };
                self.decide(number, Some(&approval));
            }
            Step::Fill { pick, percent, better_bps } => {
                if let Some(number) = self.permitted(pick) {
                    self.fill(number, percent, better_bps);
                }
            }
            Step::Release { pick } => {
                if let Some(number) = self.permitted(pick) {
                    self.release(number);
                }
            }
            Step::Mark { coin, cents_percent, age_ms } => {
                let amount = (self.oracle.marks[&coin].0 * i128::from(cents_percent) / 100).clamp(5_000, 20_000);
                self.mark(coin, amount, age_ms);
            }
            Step::Wait { ms, quotes } => {
                self.wait(ms);
                if quotes {
                    (0..3).for_each(|coin| self.mark(coin, self.oracle.marks[&coin].0, 0));
                }
            }
            Step::Lose { coin } => self.lose(coin),
            Step::Kill { level } => self.oracle.kill = level,
            Step::Reset => {
                let changes = self.book.reset_breaker();
                self.write(&changes);
                self.oracle.log.push(Event::Reset);
            }
            Step::Transfer { dollars: amount } => {
                let changes = self.book.transfer(Usd::dollars(amount)).unwrap();
                self.write(&changes);
                self.moved = self.moved.plus(Usd::dollars(amount)).unwrap();
                self.oracle.log.push(Event::Moved(i128::from(amount) * 1_000_000));
                self.cash_taken |= amount < 0;
            }
            Step::Decide { .. } => {}
        }
    }

    fn lose(&mut self, number: usize) {
        let left = self.oracle.held(number);
        if left == 0 {
            return;
        }
        let mark = self.oracle.marks[&number].0;
        self.mark(number, (mark * 96 / 100).max(5_000), 0);
        let mark = self.oracle.marks[&number].0;
        let valid_until = self.oracle.now + 900_000;
        let asked = Asked {
            coin: number,
            buy: false,
            tenths: left,
            cents: mark * 97 / 100,
            limit_order: true,
            reduce_only: true,
            valid_until,
        };
        let order = self.intent(asked);
        self.decide(order, None);
        if self.oracle.open(order).is_some() {
            self.fill(order, 100, 0);
            self.release(order);
        }
    }

    /// One of the orders that ever had a permit, done ones included: their fills may come late.
    fn permitted(&self, pick: usize) -> Option<usize> {
        let all: Vec<_> = self
            .oracle
            .log
            .iter()
            .filter_map(|e| match e {
                Event::Permitted { order, .. } => Some(*order),
                _ => None,
            })
            .collect();
        (!all.is_empty()).then(|| all[pick % all.len()])
    }

    fn books_agree(&self) {
        let Self { book, oracle, .. } = self;
        assert_eq!(KeyValue::of(book), self.stored, "a store that writes only the changes is right");
        assert_eq!(book.cash, dollars(oracle.cash()), "cash is the sum of fills and transfers");
        for number in 0..3 {
            let held = book.positions.get(&coin(number)).map_or(Quantity::ZERO, |p| p.quantity);
            assert_eq!(held, tenths(oracle.held(number)));
        }
        for (number, order) in self.orders.iter().enumerate() {
            assert_eq!(book.reservations.get(&order.order_id).map(|r| r.remaining), oracle.open(number).map(tenths));
        }
        let (streak, latched) = oracle.breaker();
        assert_eq!((book.breaker.losses_in_a_row, book.breaker.latched_at.is_some()), (streak, latched));
        assert_eq!(book.day.equity, dollars(oracle.baseline()));
        let at_any_age = book.equity(&self.marks, self.now().plus_ms(DAY_MS * 365), i64::MAX);
        assert_eq!(at_any_age, Some(dollars(oracle.equity_at_last_marks())), "equity is cash and holdings at marks");
        let cost = book.positions.values().fold(book.cash, |sum, p| sum.plus(p.cost).unwrap());
        let put_in = dollars(oracle.opening).plus(self.moved).unwrap().plus(self.realised).unwrap();
        assert_eq!(cost, put_in, "cash and cost are what was put in and what was realised");
        assert!(self.cash_taken || !book.cash.is_negative(), "reserved cash was there");
    }
}

fn rank(verdict: &Verdict) -> Answer {
    match verdict {
        Verdict::Approved(_) => Answer::Approved,
        Verdict::NeedsHuman { .. } => Answer::Human,
        Verdict::Refused(_) => Answer::Refused,
    }
}

/// A user's own limits: any of them, looser or tighter than the house's.
fn constraints() -> impl Strategy<Value = serde_json::Value> {
    let text = |name: &'static str, most: u32| (0..=most).prop_map(move |n| (name, serde_json::json!(n.to_string())));
    let whole =
        |name: &'static str, least: i64, most: i64| (least..=most).prop_map(move |n| (name, serde_json::json!(n)));
    let one = prop_oneof![
        text("position_usd", 1_200),
        text("total_exposure_percent", 100),
        text("price_collar_percent", 10),
        text("daily_loss_percent", 10),
        text("approval_over_usd", 1_000),
        text("approval_tier2_over_usd", 1_000),
        text("worst_fee_percent", 100),
        whole("approval_window_ms", 1_000, 4_000_000),
        whole("rate_risk_increasing", 0, 6),
        whole("rate_exits", 1, 8),
        whole("rate_window_ms", 1_000, DAY_MS),
        whole("mark_max_age_ms", 1, 60_000),
    ];
    prop::collection::vec(one, 1..3)
        .prop_map(|pairs| pairs.into_iter().map(|(k, v)| (k.to_owned(), v)).collect::<serde_json::Map<_, _>>().into())
}

fn ten_thousand() -> ProptestConfig {
    ProptestConfig { cases: 10_000, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(ten_thousand())]

    #[test]
    fn every_history_is_answered_and_booked_as_the_oracle_says(steps in history()) {
        let mut world = World::new();
        for step in &steps {
            world.apply(step);
            world.books_agree();
        }
    }

    #[test]
    fn a_tighter_limit_never_approves_more(steps in history(), own in constraints(), tier in prop::option::of(0..=2_u8)) {
        let mut world = World::new();
        let tighter = world.limits.tightened_by(&own).unwrap();
        for step in &steps {
            world.apply(step);
            if let (Step::Intent { .. }, Some(order)) = (step, world.orders.last()) {
                let approval = tier.map(|tier| HumanApproval { digest: order.digest().unwrap(), tier, expires_at: world.now() });
                let number = world.orders.len() - 1;
                let (tight, house) = (world.ask(number, approval.as_ref(), &tighter), world.ask(number, approval.as_ref(), &world.limits));
                prop_assert!(rank(&tight) <= rank(&house), "{own}: {tight:?} but {house:?}");
            }
        }
    }

    #[test]
    fn pruning_never_changes_an_answer(steps in history()) {
        let mut world = World::new();
        for step in &steps {
            world.apply(step);
            if let Step::Intent { .. } = step {
                let number = world.orders.len() - 1;
                let before = world.ask(number, None, &world.limits);
                let now = world.now();
                world.book.prune(now, world.limits.rate_window_ms, world.limits.approval_window_ms);
                world.stored = KeyValue::of(&world.book);
                prop_assert_eq!(before, world.ask(number, None, &world.limits));
            }
        }
    }
}

/// The histories above would prove nothing if they never met a limit.
#[test]
fn histories_meet_every_rail_of_the_ledger() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    let mut met = std::collections::BTreeMap::<String, u32>::new();
    for _ in 0..1_000 {
        let steps = history().new_tree(&mut runner).unwrap().current();
        let mut world = World::new();
        for step in &steps {
            if let Step::Intent { .. } = step {
                world.apply(step);
                let said = match world.ask(world.orders.len() - 1, None, &world.limits) {
                    Verdict::Refused(refusal) => refusal.code.code(),
                    Verdict::NeedsHuman { .. } => "HUMAN",
                    Verdict::Approved(_) => "YES",
                };
                *met.entry(said.to_owned()).or_default() += 1;
            } else {
                world.apply(step);
            }
        }
    }
    let all = [
        "SPOT_SHORT",
        "STALE_MARK",
        "PRICE_COLLAR",
        "KILL_LEVEL",
        "BREAKER",
        "DAILY_LOSS",
        "RATE",
        "POSITION",
        "TOTAL",
        "CASH",
        "HUMAN",
        "YES",
    ];
    for code in all {
        assert!(met.contains_key(code), "never met {code}: {met:?}");
    }
}
