//! When a human is asked, and what their yes is good for.

use domain::order::Side;
use domain::time::UnixMs;

use crate::scene::{NOW, Scene, btc, check_rows, paper, usd};

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
