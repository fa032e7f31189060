//! What is known of the market: token verdicts, what is held, marks and the collar around them.

use domain::market::{InstrumentId, Symbol, Venue};
use domain::message::TokenVerdict;
use domain::order::{OrderType, Side};

use crate::scene::{NOW, Scene, btc, check_rows, envelope, paper, price, quantity, rules, usd};

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
