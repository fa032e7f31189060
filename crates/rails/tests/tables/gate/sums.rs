//! Sums with their limits: one position, all of them, the cash that is left.

use domain::order::Side;
use rust_decimal::Decimal;

use crate::scene::{Scene, btc, check_rows, decimal, paper, usd};

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
