//! Every rail at its limit, just under it and just over it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod scene;

use domain::ids::UserId;
use domain::market::{InstrumentId, Symbol, Venue};
use domain::message::TokenVerdict;
use domain::money::{Price, Quantity};
use domain::order::{OrderType, Side};
use domain::time::UnixMs;
use rails::check::KillReading;
use rust_decimal::Decimal;
use scene::{NOW, Scene, btc, check_rows, decimal, envelope, order_id, paper, price, quantity, rules, usd};

#[test]
fn a_good_order_passes_and_only_for_its_user() {
    check_rows(
        Scene::good,
        &[("good buy", |_| {}, "YES"), ("stranger", |s| s.order.user_id = UserId::of_handle("x"), "UNKNOWN_USER")],
    );
    check_rows(
        Scene::exit,
        &[("good exit", |_| {}, "YES"), ("stranger", |s| s.book.user_id = UserId::of_handle("x"), "UNKNOWN_USER")],
    );
}

#[test]
fn an_order_dies_after_its_valid_until() {
    for base in [Scene::good, Scene::exit] {
        check_rows(
            base,
            &[
                ("at", |s| s.order.valid_until = NOW, "YES"),
                ("after", |s| s.order.valid_until = NOW.plus_ms(-1), "EXPIRED"),
            ],
        );
    }
}

#[test]
fn only_an_instrument_of_the_venue_is_known() {
    for base in [Scene::good, Scene::exit] {
        check_rows(
            base,
            &[
                ("none", |s| s.instrument = None, "UNKNOWN_INSTRUMENT"),
                ("rules of another", |s| s.instrument = Some(rules(paper("ETHUSDT"))), "UNKNOWN_INSTRUMENT"),
                (
                    "rules of another venue",
                    |s| s.instrument = Some(rules(InstrumentId { venue: Venue::Binance, ..btc() })),
                    "UNKNOWN_INSTRUMENT",
                ),
            ],
        );
    }
}

#[test]
fn the_venues_filters_hold_for_buys_and_exits() {
    for base in [Scene::good, Scene::exit] {
        check_rows(
            base,
            &[
                ("on step", |s| s.order = envelope(1, &btc(), s.order.side, quantity("5.001"), price("100")), "YES"),
                (
                    "off step",
                    |s| s.order = envelope(1, &btc(), s.order.side, quantity("5.0001"), price("100")),
                    "VENUE_FILTER",
                ),
                ("on tick", |s| s.order = envelope(1, &btc(), s.order.side, quantity("5"), price("100.01")), "YES"),
                (
                    "off tick",
                    |s| s.order = envelope(1, &btc(), s.order.side, quantity("5"), price("100.001")),
                    "VENUE_FILTER",
                ),
                ("least", |s| s.instrument.as_mut().unwrap().min_quantity = decimal("5"), "YES"),
                ("below least", |s| s.instrument.as_mut().unwrap().min_quantity = decimal("5.001"), "VENUE_FILTER"),
                ("most", |s| s.instrument.as_mut().unwrap().max_quantity = decimal("5"), "YES"),
                ("above most", |s| s.instrument.as_mut().unwrap().max_quantity = decimal("4.999"), "VENUE_FILTER"),
                ("no most", |s| s.instrument.as_mut().unwrap().max_quantity = Decimal::ZERO, "YES"),
                ("notional", |s| s.instrument.as_mut().unwrap().min_notional = decimal("500"), "YES"),
                ("below notional", |s| s.instrument.as_mut().unwrap().min_notional = decimal("500.01"), "VENUE_FILTER"),
                ("claims less", |s| s.order.max_notional_usd = usd("499.99999999"), "VENUE_FILTER"),
                ("claims more", |s| s.order.max_notional_usd = usd("500.00000001"), "VENUE_FILTER"),
                (
                    "nothing at all",
                    |s| {
                        s.instrument.as_mut().unwrap().min_quantity = Decimal::ZERO;
                        s.instrument.as_mut().unwrap().min_notional = Decimal::ZERO;
                        s.order = envelope(1, &btc(), s.order.side, Quantity::ZERO, price("100"));
                    },
                    "VENUE_FILTER",
                ),
            ],
        );
    }
}

/// The good scene on a DEX, with a verdict that just allows it.
fn token() -> Scene {
    let mut scene = Scene::good();
    let id = InstrumentId { venue: Venue::PaperDex, symbol: Symbol::parse("Mint1").unwrap() };
    scene.mark(&id, "100", 0);
    scene.instrument = Some(rules(id.clone()));
    scene.order = envelope(1, &id, Side::Buy, quantity("5"), price("100"));
    scene.verdict = Some(TokenVerdict {
        venue: id.venue,
        mint: "Mint1".to_owned(),
        allowed: true,
        max_notional: usd("500"),
        reason: String::new(),
        valid_until: NOW,
    });
    scene
}

#[test]
fn a_token_is_bought_only_under_a_live_verdict() {
    check_rows(
        token,
        &[
            ("allowed", |_| {}, "YES"),
            ("no data means no", |s| s.verdict = None, "TOKEN_VERDICT"),
            ("a no", |s| s.verdict.as_mut().unwrap().allowed = false, "TOKEN_VERDICT"),
            ("expired", |s| s.verdict.as_mut().unwrap().valid_until = NOW.plus_ms(-1), "TOKEN_VERDICT"),
            ("too large", |s| s.verdict.as_mut().unwrap().max_notional = usd("499.99999999"), "TOKEN_VERDICT"),
            ("of another mint", |s| s.verdict.as_mut().unwrap().mint = "mint1".to_owned(), "TOKEN_VERDICT"),
            ("of another venue", |s| s.verdict.as_mut().unwrap().venue = Venue::Jupiter, "TOKEN_VERDICT"),
            (
                "an exit is not trapped by a verdict",
                |s| {
                    let id = s.order.instrument();
                    s.hold(&id, "5");
                    s.order = envelope(1, &id, Side::Sell, quantity("5"), price("100"));
                    s.verdict = None;
                },
                "YES",
            ),
        ],
    );
}

#[test]
fn spot_is_never_short() {
    check_rows(
        Scene::exit,
        &[
            ("all of it", |s| s.sell("10", "100"), "YES"),
            ("more", |s| s.sell("10.001", "100"), "SPOT_SHORT"),
            (
                "more, not reduce-only",
                |s| {
                    s.sell("10.001", "100");
                    s.order.reduce_only = false;
                },
                "SPOT_SHORT",
            ),
            ("within, not reduce-only", |s| s.order.reduce_only = false, "YES"),
            ("nothing held", |s| s.book.positions.clear(), "SPOT_SHORT"),
            ("other exits leave enough", |s| s.reserve(2, &btc(), Side::Sell, "5", "100"), "YES"),
            ("other exits leave too little", |s| s.reserve(2, &btc(), Side::Sell, "5.001", "100"), "SPOT_SHORT"),
            ("own exit is not counted", |s| s.reserve(1, &btc(), Side::Sell, "10", "100"), "YES"),
            (
                "an open buy is not held",
                |s| {
                    s.reserve(2, &btc(), Side::Buy, "5", "100");
                    s.sell("10.001", "100");
                },
                "SPOT_SHORT",
            ),
            ("an exit elsewhere takes nothing", |s| s.reserve(2, &paper("ETHUSDT"), Side::Sell, "9", "100"), "YES"),
        ],
    );
    check_rows(Scene::good, &[("reduce-only buy", |s| s.order.reduce_only = true, "SPOT_SHORT")]);
}

#[test]
fn new_risk_needs_fresh_marks_of_everything() {
    check_rows(
        Scene::good,
        &[
            ("at the age", |s| s.mark(&btc(), "100", 30_000), "YES"),
            ("over the age", |s| s.mark(&btc(), "100", 30_001), "STALE_MARK"),
            ("a little ahead", |s| s.mark(&btc(), "100", -2_000), "YES"),
            ("from the future", |s| s.mark(&btc(), "100", -2_001), "STALE_MARK"),
            ("none", |s| s.marks.clear(), "STALE_MARK"),
            (
                "held elsewhere, fresh",
                |s| {
                    s.hold(&paper("ETHUSDT"), "1");
                    s.mark(&paper("ETHUSDT"), "1", 30_000);
                },
                "YES",
            ),
            (
                "held elsewhere, stale",
                |s| {
                    s.hold(&paper("ETHUSDT"), "1");
                    s.mark(&paper("ETHUSDT"), "1", 30_001);
                },
                "STALE_MARK",
            ),
            ("held elsewhere, none", |s| s.hold(&paper("ETHUSDT"), "1"), "STALE_MARK"),
        ],
    );
}

#[test]
fn an_exit_with_a_stale_mark_passes_only_as_a_limit_order_in_the_last_collar() {
    check_rows(
        Scene::exit,
        &[
            ("market, fresh", |s| s.order.order_type = OrderType::Market, "YES"),
            (
                "market, stale",
                |s| {
                    s.order.order_type = OrderType::Market;
                    s.mark(&btc(), "100", 30_001);
                },
                "STALE_MARK",
            ),
            ("limit, stale", |s| s.mark(&btc(), "100", 3_000_000), "YES"),
            (
                "limit, stale, in the collar",
                |s| {
                    s.mark(&btc(), "100", 30_001);
                    s.sell("5", "95");
                },
                "YES",
            ),
            (
                "limit, stale, outside",
                |s| {
                    s.mark(&btc(), "100", 30_001);
                    s.sell("5", "94.99");
                },
                "PRICE_COLLAR",
            ),
            ("no mark at all", |s| s.marks.clear(), "STALE_MARK"),
            ("stale elsewhere", |s| s.hold(&paper("ETHUSDT"), "1"), "YES"),
        ],
    );
}

#[test]
fn the_collar_holds_for_buys_and_exits_on_both_sides() {
    for base in [Scene::good, Scene::exit] {
        check_rows(
            base,
            &[
                ("top", |s| s.order = envelope(1, &btc(), s.order.side, quantity("5"), price("105")), "YES"),
                (
                    "over",
                    |s| s.order = envelope(1, &btc(), s.order.side, quantity("5"), price("105.01")),
                    "PRICE_COLLAR",
                ),
                ("bottom", |s| s.order = envelope(1, &btc(), s.order.side, quantity("5"), price("95")), "YES"),
                (
                    "under",
                    |s| s.order = envelope(1, &btc(), s.order.side, quantity("5"), price("94.99")),
                    "PRICE_COLLAR",
                ),
            ],
        );
    }
}

#[test]
fn the_kill_level_refuses_new_risk_from_one_and_all_from_four() {
    let level = |level| KillReading::Level { level, epoch: 1 };
    for (reading, buy, exit) in [
        (level(0), "YES", "YES"),
        (level(1), "KILL_LEVEL", "YES"),
        (level(2), "KILL_LEVEL", "YES"),
        (level(3), "KILL_LEVEL", "YES"),
        (level(4), "KILL_LEVEL", "KILL_LEVEL"),
        (level(255), "KILL_LEVEL", "KILL_LEVEL"),
        (KillReading::Unreadable, "KILL_LEVEL", "YES"),
    ] {
        for (base, want) in [(Scene::good(), buy), (Scene::exit(), exit)] {
            assert_eq!(Scene { kill: reading, ..base }.answer(), want, "{reading:?}");
        }
    }
}

#[test]
fn a_latched_breaker_refuses_new_risk_only() {
    check_rows(
        Scene::good,
        &[
            ("streak without a latch", |s| s.book.breaker.losses_in_a_row = 2, "YES"),
            ("latched", |s| s.book.breaker.latched_at = Some(UnixMs(0)), "BREAKER"),
        ],
    );
    check_rows(Scene::exit, &[("exit", |s| s.book.breaker.latched_at = Some(NOW), "YES")]);
}

#[test]
fn five_percent_lost_today_refuses_new_risk_only() {
    check_rows(
        Scene::good,
        &[
            ("at", |s| s.book.cash = usd("19000"), "DAILY_LOSS"),
            ("just under", |s| s.book.cash = usd("19000.00000001"), "YES"),
            ("over", |s| s.book.cash = usd("18999.99999999"), "DAILY_LOSS"),
            (
                "unrealised counts",
                |s| {
                    s.book.cash = usd("18000");
                    s.hold(&btc(), "10");
                },
                "DAILY_LOSS",
            ),
            (
                "unrealised just under",
                |s| {
                    s.book.cash = usd("18000.01");
                    s.hold(&btc(), "10");
                },
                "YES",
            ),
            (
                "a mark moves it",
                |s| {
                    s.book.cash = usd("18000.01");
                    s.hold(&btc(), "10");
                    s.mark(&btc(), "99.99", 0);
                },
                "DAILY_LOSS",
            ),
            ("a gain", |s| s.book.cash = usd("30000"), "YES"),
            ("no baseline", |s| s.book.day.equity = usd("0"), "DAILY_LOSS"),
            ("negative baseline", |s| s.book.day.equity = usd("-1"), "DAILY_LOSS"),
            ("baseline of yesterday", |s| s.book.day.day -= 1, "DAILY_LOSS"),
        ],
    );
    check_rows(Scene::exit, &[("exit", |s| s.book.day.equity = usd("1000000"), "YES")]);
}

#[test]
fn the_twenty_first_permit_of_an_hour_is_refused() {
    check_rows(
        Scene::good,
        &[
            ("19 before", |s| s.stamp(2..21, true, 0), "YES"),
            ("20 before", |s| s.stamp(2..22, true, 0), "RATE"),
            (
                "oldest at the window's edge",
                |s| {
                    s.stamp(2..21, true, 0);
                    s.stamp(21..22, true, 3_600_000);
                },
                "YES",
            ),
            (
                "oldest just inside",
                |s| {
                    s.stamp(2..21, true, 0);
                    s.stamp(21..22, true, 3_599_999);
                },
                "RATE",
            ),
            ("own stamp is not counted", |s| s.stamp(1..21, true, 0), "YES"),
            ("exits are not counted", |s| s.stamp(2..62, false, 0), "YES"),
        ],
    );
    check_rows(
        Scene::exit,
        &[
            ("59 exits before", |s| s.stamp(2..61, false, 0), "YES"),
            ("60 exits before", |s| s.stamp(2..62, false, 0), "RATE"),
            ("own stamp is not counted", |s| s.stamp(1..61, false, 0), "YES"),
            ("buys are not counted", |s| s.stamp(2..202, true, 0), "YES"),
        ],
    );
}

#[test]
fn a_position_with_its_open_buys_stays_within_its_limit() {
    check_rows(
        Scene::unattended,
        &[
            ("at", |s| s.buy("100", "100"), "YES"),
            ("over", |s| s.buy("100.001", "100"), "POSITION"),
            (
                "held at the mark",
                |s| {
                    s.hold(&btc(), "60");
                    s.buy("40", "100");
                },
                "YES",
            ),
            (
                "held, over",
                |s| {
                    s.hold(&btc(), "60");
                    s.buy("40.001", "100");
                },
                "POSITION",
            ),
            (
                "held, mark up",
                |s| {
                    s.hold(&btc(), "60");
                    s.buy("40", "100");
                    s.mark(&btc(), "100.01", 0);
                },
                "POSITION",
            ),
            (
                "open buy at its limit",
                |s| {
                    s.reserve(2, &btc(), Side::Buy, "40", "105");
                    s.buy("58", "100");
                },
                "YES",
            ),
            (
                "open buy, over",
                |s| {
                    s.reserve(2, &btc(), Side::Buy, "40", "105");
                    s.buy("58.001", "100");
                },
                "POSITION",
            ),
            (
                "open buy below the mark",
                |s| {
                    s.reserve(2, &btc(), Side::Buy, "40", "95");
                    s.buy("60", "100");
                },
                "YES",
            ),
            (
                "open buy at the mark, over",
                |s| {
                    s.reserve(2, &btc(), Side::Buy, "40", "95");
                    s.buy("60.001", "100");
                },
                "POSITION",
            ),
            ("itself at the mark", |s| s.buy("100", "95"), "YES"),
            ("itself at the mark, over", |s| s.buy("100.001", "95"), "POSITION"),
            ("itself at its limit", |s| s.buy("95", "105"), "YES"),
            ("itself at its limit, over", |s| s.buy("95.239", "105"), "POSITION"),
            (
                "own reservation is not counted",
                |s| {
                    s.reserve(1, &btc(), Side::Buy, "100", "100");
                    s.buy("100", "100");
                },
                "YES",
            ),
            (
                "an open exit frees nothing",
                |s| {
                    s.hold(&btc(), "60");
                    s.reserve(2, &btc(), Side::Sell, "60", "100");
                    s.buy("40.001", "100");
                },
                "POSITION",
            ),
            (
                "another instrument is not counted",
                |s| {
                    s.reserve(2, &paper("ETHUSDT"), Side::Buy, "50", "100");
                    s.buy("100", "100");
                },
                "YES",
            ),
        ],
    );
    check_rows(Scene::exit, &[("exit", |s| s.limits.position_usd = usd("0"), "YES")]);
}

/// Half in cash, half in ETH, and a limit of 60 % of 10,000.00.
fn half_invested() -> Scene {
    let mut scene = Scene::unattended();
    scene.cash("5000");
    scene.book.day.equity = usd("10000");
    scene.hold(&paper("ETHUSDT"), "50");
    scene.mark(&paper("ETHUSDT"), "100", 0);
    scene.limits.total_exposure_percent = decimal("60");
    scene.buy("10", "100");
    scene
}

#[test]
fn all_positions_with_all_open_buys_stay_within_their_part_of_equity() {
    check_rows(
        half_invested,
        &[
            ("at", |_| {}, "YES"),
            ("over", |s| s.buy("10.001", "100"), "TOTAL"),
            ("under", |s| s.buy("9.999", "100"), "YES"),
            ("less equity", |s| s.book.cash = usd("4999.99"), "TOTAL"),
            (
                "open buy without a mark",
                |s| {
                    s.reserve(2, &paper("SOLUSDT"), Side::Buy, "5", "100");
                    s.buy("5", "100");
                },
                "YES",
            ),
            (
                "open buy, over",
                |s| {
                    s.reserve(2, &paper("SOLUSDT"), Side::Buy, "5", "100");
                    s.buy("5.001", "100");
                },
                "TOTAL",
            ),
            (
                "open buy at a higher mark",
                |s| {
                    s.reserve(2, &paper("SOLUSDT"), Side::Buy, "5", "100");
                    s.mark(&paper("SOLUSDT"), "101", 0);
                    s.buy("5", "100");
                },
                "TOTAL",
            ),
            (
                "a stale mark does not count",
                |s| {
                    s.reserve(2, &paper("SOLUSDT"), Side::Buy, "5", "100");
                    s.mark(&paper("SOLUSDT"), "101", 30_001);
                    s.buy("5", "100");
                },
                "YES",
            ),
            ("own reservation is not counted", |s| s.reserve(1, &btc(), Side::Buy, "10", "100"), "YES"),
            ("itself at the mark, over", |s| s.buy("10.001", "99"), "TOTAL"),
        ],
    );
    check_rows(Scene::exit, &[("exit", |s| s.limits.total_exposure_percent = Decimal::ZERO, "YES")]);
}

#[test]
fn cash_covers_the_worst_case_with_its_fee() {
    check_rows(
        Scene::good,
        &[
            ("at", |s| s.cash("500.5"), "YES"),
            ("under", |s| s.cash("500.49999999"), "CASH"),
            (
                "open buy with its fee",
                |s| {
                    s.reserve(2, &paper("SOLUSDT"), Side::Buy, "10", "100");
                    s.cash("1501.5");
                },
                "YES",
            ),
            (
                "open buy, under",
                |s| {
                    s.reserve(2, &paper("SOLUSDT"), Side::Buy, "10", "100");
                    s.cash("1501.49999999");
                },
                "CASH",
            ),
            (
                "open exit brings nothing yet",
                |s| {
                    s.reserve(2, &paper("SOLUSDT"), Side::Sell, "10", "100");
                    s.cash("500.49999999");
                },
                "CASH",
            ),
            (
                "own reservation is not counted",
                |s| {
                    s.reserve(1, &btc(), Side::Buy, "5", "100");
                    s.cash("500.5");
                },
                "YES",
            ),
        ],
    );
    check_rows(Scene::exit, &[("exit", |s| s.cash("0"), "YES"), ("exit in debt", |s| s.cash("-1"), "YES")]);
}

#[test]
fn a_human_decides_over_a_thousand_dollars() {
    check_rows(
        Scene::good,
        &[
            ("at", |s| s.buy("10", "100"), "YES"),
            ("over", |s| s.buy("10.001", "100"), "HUMAN 1 1000.1"),
            ("at the mark when that is higher", |s| s.buy("10.001", "95"), "HUMAN 1 1000.1"),
            ("at the mark, at", |s| s.buy("10", "95"), "YES"),
            ("tier 2 at", |s| s.buy("50", "100"), "HUMAN 1 5000"),
            ("tier 2 over", |s| s.buy("50.001", "100"), "HUMAN 2 5000.1"),
            ("sum at", |s| s.unapproved(2, &btc(), Side::Buy, "500", 0), "YES"),
            ("sum over", |s| s.unapproved(2, &btc(), Side::Buy, "500.01", 0), "HUMAN 1 1000.01"),
            (
                "four times 250 and one more",
                |s| (2..5).for_each(|n| s.unapproved(n, &btc(), Side::Buy, "250", 0)),
                "HUMAN 1 1250",
            ),
            ("sum just inside the window", |s| s.unapproved(2, &btc(), Side::Buy, "501", 299_999), "HUMAN 1 1001"),
            ("sum at the window's edge", |s| s.unapproved(2, &btc(), Side::Buy, "501", 300_000), "YES"),
            ("other instrument", |s| s.unapproved(2, &paper("ETHUSDT"), Side::Buy, "501", 0), "YES"),
            ("other side", |s| s.unapproved(2, &btc(), Side::Sell, "501", 0), "YES"),
            ("its own", |s| s.unapproved(1, &btc(), Side::Buy, "501", 0), "YES"),
        ],
    );
    check_rows(
        Scene::exit,
        &[
            ("exit", |s| s.limits.approval_over_usd = usd("0"), "YES"),
            (
                "exit with an approval of something else",
                |s| {
                    s.approve(1);
                    s.yes.as_mut().unwrap().forged = true;
                },
                "YES",
            ),
            (
                "exit with an old approval",
                |s| {
                    s.approve(1);
                    s.yes.as_mut().unwrap().expires_at = UnixMs(0);
                },
                "YES",
            ),
        ],
    );
}

#[test]
fn an_approval_fits_one_envelope_for_a_time_up_to_its_tier() {
    check_rows(
        Scene::good,
        &[
            (
                "tier 1",
                |s| {
                    s.buy("50", "100");
                    s.approve(1);
                },
                "YES",
            ),
            (
                "tier 1 for tier 2",
                |s| {
                    s.buy("50.001", "100");
                    s.approve(1);
                },
                "APPROVAL_MISMATCH",
            ),
            (
                "tier 2",
                |s| {
                    s.buy("50.001", "100");
                    s.approve(2);
                },
                "YES",
            ),
            (
                "tier 0",
                |s| {
                    s.buy("50", "100");
                    s.approve(0);
                },
                "APPROVAL_MISMATCH",
            ),
            (
                "of another envelope",
                |s| {
                    s.buy("50", "100");
                    s.approve(1);
                    s.yes.as_mut().unwrap().forged = true;
                },
                "APPROVAL_MISMATCH",
            ),
            (
                "of another envelope, none needed",
                |s| {
                    s.approve(1);
                    s.yes.as_mut().unwrap().forged = true;
                },
                "APPROVAL_MISMATCH",
            ),
            (
                "too old",
                |s| {
                    s.buy("50", "100");
                    s.approve(1);
                    s.yes.as_mut().unwrap().expires_at = NOW.plus_ms(-1);
                },
                "APPROVAL_EXPIRED",
            ),
            (
                "does not lift a rail",
                |s| {
                    s.buy("100.001", "100");
                    s.approve(2);
                },
                "POSITION",
            ),
        ],
    );
}

#[test]
fn an_envelope_that_does_not_hang_together_carries_no_permit() {
    for base in [Scene::good, Scene::exit] {
        check_rows(
            base,
            &[
                ("schema", |s| s.order.schema = "swarm.order.v2".to_owned(), "BAD_PERMIT"),
                ("action", |s| s.order.action = "withdraw".to_owned(), "BAD_PERMIT"),
                (
                    "order id",
                    |s| {
                        s.order.order_id = order_id(2);
                        s.order.client_order_id = order_id(2).client_order_id();
                    },
                    "BAD_PERMIT",
                ),
                ("client order id", |s| s.order.client_order_id = order_id(2).client_order_id(), "BAD_PERMIT"),
            ],
        );
    }
}

#[test]
fn an_amount_out_of_range_is_a_refusal_and_no_panic() {
    let huge = || Price::parse("1000000000000").unwrap();
    let mut order = Scene::unattended();
    order.instrument.as_mut().unwrap().max_quantity = Decimal::ZERO;
    order.order = envelope(1, &btc(), Side::Buy, quantity("1000"), huge());
    order.marks.get_mut(&btc()).unwrap().price = huge();
    assert_eq!(order.answer(), "ARITHMETIC");

    let mut held = Scene::good();
    held.hold(&paper("ETHUSDT"), "1000");
    held.mark(&paper("ETHUSDT"), "1000000000000", 0);
    assert_eq!(held.answer(), "ARITHMETIC");

    // A rail that does refuse is heard first.
    held.limits.position_usd = usd("1");
    assert_eq!(held.answer(), "POSITION");

    let mut sum = Scene::good();
    sum.unapproved(2, &btc(), Side::Buy, "1000000000000", 0);
    assert_eq!(sum.answer(), "ARITHMETIC");
}
