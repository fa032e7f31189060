//! What stops new risk as a whole: the kill level, the breaker, today's loss, the rate.

use domain::time::UnixMs;
use rails::check::{KillReading, daily_loss_reached};

use crate::scene::{NOW, Scene, btc, check_rows, usd};

#[test]
fn the_kill_level_refuses_new_risk_from_one_on_and_no_exit_at_any() {
    let level = |level| KillReading::Level { level, epoch: 1 };
    for (reading, buy, exit) in [
        (level(0), "YES", "YES"),
        (level(1), "KILL_LEVEL", "YES"),
        (level(2), "KILL_LEVEL", "YES"),
        (level(3), "KILL_LEVEL", "YES"),
        (level(4), "KILL_LEVEL", "YES"),
        (level(255), "KILL_LEVEL", "YES"),
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
fn people_are_told_of_todays_loss_at_the_limit_and_then_no_new_risk_passes() {
    for (baseline, equity, told) in [
        ("20000", "20000", false),
        ("20000", "30000", false),
        ("20000", "19000.00000001", false),
        ("20000", "19000", true),
        ("20000", "18999.99999999", true),
        ("0", "20000", false),
        ("0", "0", true),
        ("1000000000000", "-1000000000000", true),
    ] {
        let mut scene = Scene::good();
        (scene.book.day.equity, scene.book.cash) = (usd(baseline), usd(equity));
        assert_eq!(daily_loss_reached(&scene.limits, &scene.book, usd(equity)), told, "{equity} of {baseline}");
        assert!(!told || scene.answer() != "YES", "{equity} of {baseline}: {}", scene.answer());
    }
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
