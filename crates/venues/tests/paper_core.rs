//! How the paper exchange fills, refuses and counts.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test may fail loudly

mod common;

use common::{GTC, IOC, MARKET, book, config, depth, event, instrument, order, symbol, trade};
use domain::market::Venue;
use domain::money::{Price, Quantity};
use domain::order::{OrderState, OrderStatus, Side};
use domain::time::UnixMs;
use proptest::prelude::*;
use rust_decimal::Decimal;
use venues::exchange::{OrderRequest, Outcome};
use venues::feed::{FeedEvent, FeedKind, Level};
use venues::paper::{Decision, Effect, Misfit, PaperConfig, PaperCore, State};

const NOW: UnixMs = UnixMs(1_000);

/// A core without a journal: what is decided is done.
struct Rig {
    core: PaperCore,
    written: Vec<Vec<Effect>>,
}

impl Rig {
    fn of(config: PaperConfig) -> Self {
        let core = PaperCore::new(config).unwrap();
        let mut rig = Self { core, written: Vec::new() };
        let opening = rig.core.opening();
        rig.done(&opening);
        rig
    }

    fn new() -> Self {
        let mut rig = Self::of(config("unused".into()));
        rig.feed(&book());
        rig
    }

    fn done(&mut self, decision: &Decision) {
        self.core.commit(decision).unwrap();
        if !decision.is_empty() {
            self.written.push(decision.effects.clone());
        }
    }

    fn feed(&mut self, event: &FeedEvent) {
        let decision = self.core.feed(event, NOW).unwrap();
        self.done(&decision);
    }

    fn place(&mut self, order: &OrderRequest) -> Outcome {
        let decision = self.core.place(order, NOW).unwrap();
        self.done(&decision);
        self.core.known(order).unwrap()
    }

    fn placed(&mut self, order: &OrderRequest) -> OrderStatus {
        match self.place(order) {
            Outcome::Placed(status) => status,
            other => panic!("{other:?}"),
        }
    }

    fn status(&self, order: &OrderRequest) -> OrderStatus {
        self.core.status(&order.client_order_id).unwrap()
    }

    fn total(&self, asset: &str) -> Decimal {
        self.core.state().balances().iter().find(|b| b.asset == asset).map_or(Decimal::ZERO, |b| b.free + b.locked)
    }
}

fn shown(status: &OrderStatus) -> String {
    let fills: Vec<String> = status.fills.iter().map(|f| format!("{}x{}", f.price, f.quantity)).collect();
    format!("{} {} [{}]", status.state, status.filled, fills.join(" "))
}

#[test]
fn an_order_takes_what_the_book_offers_within_its_worst_price() {
    let check = |order: OrderRequest, want: &str| {
        assert_eq!(shown(&Rig::new().placed(&order)), want, "{order:?}");
    };
    check(order(1, Side::Buy, IOC, "1", "101"), "filled 1 [101x1]");
    check(order(1, Side::Buy, IOC, "2.5", "105"), "filled 2.5 [101x1 102x1.5]");
    check(order(1, Side::Buy, IOC, "5", "103"), "cancelled 3 [101x1 102x2]");
    check(order(1, Side::Buy, IOC, "1", "100"), "cancelled 0 []");
    check(order(1, Side::Sell, IOC, "4", "98"), "filled 4 [99x2 98x2]");
    check(order(1, Side::Sell, IOC, "4", "99"), "cancelled 2 [99x2]");
    // A market order is bounded as well, and never rests whatever it asks for.
    check(order(1, Side::Buy, MARKET, "5", "102"), "cancelled 3 [101x1 102x2]");
    check(order(1, Side::Buy, GTC, "5", "102"), "open 3 [101x1 102x2]");
}

#[test]
fn a_refusal_is_a_definite_no_with_a_stable_code_and_stays_one() {
    let check = |rig: &mut Rig, order: OrderRequest, want: &str| {
        assert_eq!(rig.place(&order), Outcome::Rejected { code: want.to_owned() });
        rig.feed(&depth(rig.written.len() as u64 + 100, &[], &[]));
        assert_eq!(rig.place(&order), Outcome::Rejected { code: want.to_owned() });
        assert_eq!(rig.status(&order).state, OrderState::Rejected);
        assert!(rig.core.state().fills().is_empty());
    };
    let good = order(1, Side::Buy, IOC, "1", "101");
    check(&mut Rig::new(), order(1, Side::Buy, IOC, "1.05", "101"), "FILTER_LOT_SIZE");
    check(&mut Rig::new(), order(1, Side::Buy, IOC, "100.1", "101"), "FILTER_LOT_SIZE");
    check(&mut Rig::new(), order(1, Side::Buy, IOC, "1", "100.5"), "FILTER_PRICE_FILTER");
    check(&mut Rig::new(), order(1, Side::Buy, IOC, "0.1", "99"), "FILTER_NOTIONAL");
    check(&mut Rig::new(), order(1, Side::Buy, IOC, "99", "102"), "INSUFFICIENT_BALANCE");
    check(&mut Rig::new(), order(1, Side::Sell, IOC, "20.1", "98"), "INSUFFICIENT_BALANCE");
    check(&mut Rig::of(config("unused".into())), good.clone(), "NO_BOOK");
    let mut lost = Rig::new();
    lost.core.lost(Some(&symbol()));
    check(&mut lost, good.clone(), "NO_BOOK");
    let mut random = Rig::of(PaperConfig { reject_bps: 10_000, ..config("unused".into()) });
    random.feed(&book());
    check(&mut random, good.clone(), "REJECTED_AT_RANDOM");
    let mut elsewhere = good.clone();
    elsewhere.instrument.symbol = domain::market::Symbol::parse("DOGEUSDT").unwrap();
    check(&mut Rig::new(), elsewhere, "UNKNOWN_INSTRUMENT");
    let rig = Rig::new();
    let stale = rig.core.place(&good, UnixMs(1_000 + 30_001)).unwrap();
    assert!(matches!(&stale.effects[..], [Effect::Rejected { code, .. }] if code == "STALE_BOOK"));
}

#[test]
fn the_same_id_is_the_same_order_even_when_it_is_over() {
    let mut rig = Rig::new();
    let first = order(1, Side::Buy, IOC, "1", "101");
    let status = rig.placed(&first);
    assert_eq!(status.state, OrderState::Filled);
    assert_eq!(rig.placed(&first), status);
    assert_eq!(rig.core.state().fills().len(), 1);
    let other = OrderRequest { quantity: Quantity::parse("2").unwrap(), ..first };
    assert_eq!(rig.place(&other), Outcome::Rejected { code: "CLIENT_ORDER_ID_REUSED".into() });
    assert_eq!(rig.core.state().fills().len(), 1);
}

#[test]
fn what_we_took_is_gone_until_the_market_speaks_of_the_level_again() {
    let mut rig = Rig::new();
    assert_eq!(shown(&rig.placed(&order(1, Side::Buy, IOC, "1", "101"))), "filled 1 [101x1]");
    assert_eq!(shown(&rig.placed(&order(2, Side::Buy, IOC, "1", "101"))), "cancelled 0 []");
    rig.feed(&depth(11, &[], &[("102", "5")]));
    assert_eq!(shown(&rig.placed(&order(3, Side::Buy, IOC, "1", "101"))), "cancelled 0 []");
    rig.feed(&depth(12, &[], &[("101", "1")]));
    assert_eq!(shown(&rig.placed(&order(4, Side::Buy, IOC, "1", "101"))), "filled 1 [101x1]");
}

#[test]
fn a_resting_order_waits_behind_the_queue_and_trades_at_its_own_price() {
    let mut rig = Rig::new();
    let bid = order(1, Side::Buy, GTC, "2", "99");
    rig.placed(&bid);
    let check = |rig: &mut Rig, event: &FeedEvent, want: &str| {
        rig.feed(event);
        assert_eq!(shown(&rig.status(&order(1, Side::Buy, GTC, "2", "99"))), want);
    };
    // Two are ahead. A buyer's trade, or one above us, is none of ours.
    check(&mut rig, &trade(1, "99", "5", false), "open 0 []");
    check(&mut rig, &trade(2, "100", "5", true), "open 0 []");
    check(&mut rig, &trade(3, "99", "1.5", true), "open 0 []");
    // Half a coin is still ahead of us.
    check(&mut rig, &trade(4, "99", "0.8", true), "open 0.3 [99x0.3]");
    // Through our price.
    check(&mut rig, &trade(5, "98", "0.5", true), "open 0.8 [99x0.3 99x0.5]");
    // The book comes to cross us: at our price, not at theirs.
    check(&mut rig, &depth(11, &[], &[("97", "9")]), "filled 2 [99x0.3 99x0.5 99x1.2]");
    assert_eq!(rig.status(&bid).fills[0].fee.to_string(), "0.0297");
}

#[test]
fn a_cancelled_queue_lets_us_forward() {
    let mut rig = Rig::new();
    let ask = order(1, Side::Sell, GTC, "1", "102");
    rig.placed(&ask);
    rig.feed(&depth(11, &[], &[("102", "0.5")]));
    rig.feed(&trade(1, "102", "1", false));
    assert_eq!(shown(&rig.status(&ask)), "open 0.5 [102x0.5]");
}

#[test]
fn two_of_our_orders_share_one_trade_and_one_level_and_the_better_price_comes_first() {
    let mut rig = Rig::new();
    let (low, high) = (order(1, Side::Buy, GTC, "1", "97"), order(2, Side::Buy, GTC, "1", "100"));
    rig.placed(&low);
    rig.placed(&high);
    rig.feed(&trade(1, "96", "1.5", true));
    assert_eq!(
        (shown(&rig.status(&high)), shown(&rig.status(&low))),
        ("filled 1 [100x1]".into(), "open 0.5 [97x0.5]".into())
    );
    let third = order(3, Side::Buy, GTC, "1", "100");
    rig.placed(&third);
    rig.feed(&depth(11, &[], &[("95", "1.2")]));
    assert_eq!(
        (shown(&rig.status(&third)), shown(&rig.status(&low))),
        ("filled 1 [100x1]".into(), "open 0.7 [97x0.5 97x0.2]".into())
    );
}

#[test]
fn open_orders_hold_what_they_may_cost_and_give_it_back() {
    let mut rig = Rig::new();
    let bid = order(1, Side::Buy, GTC, "50", "98");
    rig.placed(&bid);
    let locked = |rig: &Rig| {
        rig.core.state().balances().iter().map(|b| format!("{} {}", b.asset, b.locked.normalize())).collect::<Vec<_>>()
    };
    assert_eq!(locked(&rig), ["BTC 0", "USDT 4909.81"]);
    assert_eq!(
        rig.place(&order(2, Side::Buy, GTC, "53", "98")),
        Outcome::Rejected { code: "INSUFFICIENT_BALANCE".into() }
    );
    assert!(rig.core.cancel("nobody", NOW).is_empty());
    let decision = rig.core.cancel(&bid.client_order_id, NOW);
    rig.done(&decision);
    assert_eq!(shown(&rig.status(&bid)), "cancelled 0 []");
    assert_eq!(locked(&rig), ["BTC 0", "USDT 0"]);
    assert!(rig.core.cancel(&bid.client_order_id, NOW).is_empty());
}

#[test]
fn what_is_drawn_for_an_order_does_not_depend_on_what_came_before() {
    let config =
        PaperConfig { latency_ms: 5..=500, reject_bps: 5_000, lost_reply_bps: 5_000, ..config("unused".into()) };
    let (a, b) = (PaperCore::new(config.clone()).unwrap(), PaperCore::new(config).unwrap());
    let drawn: Vec<_> = (0..200).map(|n| a.draw(&format!("order {n}"))).collect();
    assert!((0..200).rev().all(|n| b.draw(&format!("order {n}")) == drawn[n]));
    assert!(drawn.iter().all(|d| (5..=500).contains(&d.latency_ms)));
    assert!((50..150).contains(&drawn.iter().filter(|d| d.rejected).count()));
    assert!((50..150).contains(&drawn.iter().filter(|d| d.reply_lost).count()));
}

#[derive(Debug, Clone)]
enum Step {
    Place(OrderRequest),
    Again(usize),
    Cancel(usize),
    Feed(FeedEvent),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let kinds = prop_oneof![Just(IOC), Just(GTC), Just(MARKET)];
    let side = prop_oneof![Just(Side::Buy), Just(Side::Sell)];
    let price = || (90i64..112).prop_map(|p| p.to_string());
    let quantity = || (0i64..80).prop_map(|q| Decimal::new(q, 1).to_string());
    let levels = move || proptest::collection::vec((price(), quantity()), 0..4);
    let change = |bids: Vec<(String, String)>, asks: Vec<(String, String)>| {
        let level = |(price, quantity): &(String, String)| Level {
            price: Price::parse(price).unwrap(),
            quantity: Quantity::parse(quantity).unwrap(),
        };
        let (bids, asks) = (bids.iter().map(level).collect(), asks.iter().map(level).collect());
        event(FeedKind::Depth { first_update_id: 0, final_update_id: 0, event_ms: 1_000, bids, asks })
    };
    let step = prop_oneof![
        4 => (any::<u16>(), side, kinds, quantity(), price()).prop_map(|(n, s, k, q, p)| Step::Place(order(n, s, k, &q, &p))),
        1 => any::<usize>().prop_map(Step::Again),
        1 => any::<usize>().prop_map(Step::Cancel),
        3 => (levels(), levels()).prop_map(move |(bids, asks)| Step::Feed(change(bids, asks))),
        3 => (price(), quantity(), any::<bool>()).prop_map(|(p, q, m)| Step::Feed(trade(0, &p, &q, m))),
    ];
    proptest::collection::vec(step, 1..60)
}

fn run(steps: Vec<Step>) -> (Rig, Vec<OrderRequest>) {
    let mut rig = Rig::new();
    let mut orders: Vec<OrderRequest> = Vec::new();
    let mut next_update = 11;
    for step in steps {
        match step {
            Step::Place(order) => {
                rig.place(&order);
                orders.push(order);
            }
            Step::Again(n) if !orders.is_empty() => {
                let order = orders[n % orders.len()].clone();
                let before = rig.core.state().clone();
                rig.place(&order);
                assert_eq!(*rig.core.state(), before, "a repeated order changes nothing");
            }
            Step::Cancel(n) if !orders.is_empty() => {
                let decision = rig.core.cancel(&orders[n % orders.len()].client_order_id, NOW);
                rig.done(&decision);
            }
            Step::Feed(mut event) => {
                if let FeedKind::Depth { first_update_id, final_update_id, .. } = &mut event.kind {
                    (*first_update_id, *final_update_id) = (next_update, next_update);
                    next_update += 1;
                }
                rig.feed(&event);
            }
            Step::Again(_) | Step::Cancel(_) => {}
        }
    }
    (rig, orders)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn nothing_is_made_or_lost_and_no_bound_is_crossed(steps in steps()) {
        let (rig, orders) = run(steps);
        let (mut cash, mut coins) = (Decimal::from(10_000), Decimal::from(20));
        let mut last_trade = 0u64;
        for fill in rig.core.state().fills() {
            let notional = fill.price.value() * fill.quantity.value();
            let signed = if fill.side == Side::Buy { Decimal::ONE } else { -Decimal::ONE };
            coins += signed * fill.quantity.value();
            cash -= signed * notional + fill.fee.value();
            prop_assert!(fill.fee.value() >= notional / Decimal::from(1_000));
            let id: u64 = fill.venue_trade_id.parse().unwrap();
            prop_assert!(id > last_trade);
            last_trade = id;
        }
        prop_assert_eq!((rig.total("USDT"), rig.total("BTC")), (cash, coins));
        prop_assert!(cash >= Decimal::ZERO && coins >= Decimal::ZERO);
        for balance in rig.core.state().balances() {
            prop_assert!(balance.free >= Decimal::ZERO && balance.locked >= Decimal::ZERO, "{:?}", balance);
        }
        let held = rig.core.state().positions().get(&instrument().id).map_or(Decimal::ZERO, |q| q.value());
        prop_assert!(coins < Decimal::from(20) || held == coins - Decimal::from(20));
        for order in &orders {
            let status = rig.status(order);
            let sum: Decimal = status.fills.iter().map(|fill| fill.quantity.value()).sum();
            // A reused number may belong to another order; its own request is what counts.
            if rig.core.known(order) == Some(Outcome::Rejected { code: "CLIENT_ORDER_ID_REUSED".into() }) {
                continue;
            }
            prop_assert_eq!(sum, status.filled.value());
            prop_assert!(status.filled <= order.quantity);
            prop_assert_eq!(status.state == OrderState::Filled, status.filled == order.quantity && !order.quantity.is_zero());
            let within = |price: Price| if order.side == Side::Buy { price <= order.worst_price } else { price >= order.worst_price };
            prop_assert!(status.fills.iter().all(|fill| within(fill.price) && fill.order_id == order.order_id));
            prop_assert!(status.state != OrderState::Open || order.order_type == domain::order::OrderType::Limit);
        }
    }

    #[test]
    fn the_effects_alone_make_the_same_account_after_every_prefix(steps in steps()) {
        let (rig, _) = run(steps);
        let mut replayed = venues::paper::State::new(domain::market::Venue::Paper);
        for (at, effects) in rig.written.iter().enumerate() {
            for effect in effects {
                let text = serde_json::to_string(effect).unwrap();
                replayed.apply(&serde_json::from_str(&text).unwrap()).unwrap();
            }
            let mut other = PaperCore::new(config("unused".into())).unwrap();
            for effects in &rig.written[..=at] {
                other.commit(&Decision::of(effects.clone())).unwrap();
            }
            prop_assert_eq!(other.state(), &replayed);
        }
        prop_assert_eq!(&replayed, rig.core.state());
    }
}

#[test]
fn an_account_holds_and_locks_no_more_than_there_is_and_no_less_than_nothing() {
    for amount in ["-1", "1000000000001", "79228162514264337593543950335"] {
        let amount: Decimal = amount.parse().unwrap();
        let mut state = State::new(Venue::Paper);
        let opened = |amount| Effect::Opened { venue: Venue::Paper, balances: [("USDT".to_owned(), amount)].into() };
        assert!(matches!(state.apply(&opened(amount)), Err(Misfit::Money(_))), "{amount}");
        state.apply(&opened(Decimal::ONE)).unwrap();
        let accepted = Effect::Accepted {
            request: order(1, Side::Buy, GTC, "1", "100"),
            venue_order_id: 1,
            base: "BTC".into(),
            quote: "USDT".into(),
            locked: amount,
            at: NOW,
        };
        let before = state.clone();
        assert!(matches!(state.apply(&accepted), Err(Misfit::Money(_))), "{amount}");
        assert_eq!(state, before);
    }
}
