//! One intent, one transaction: what is written and what is told.

use domain::ids::UserId;
use domain::order::{OrderIntent, OrderState, Side};
use domain::review::{NoReview, Opinion, Percent, Review, Verdict};
use rails::kill::KillCopy;
use serde_json::json;

use crate::scene::{Scene, fill_of, permit_in, quantity, told, usd};

async fn check(name: &str, spoil: impl FnOnce(&mut Scene) -> OrderIntent, want_told: &str, want_rows: &str) {
    let mut scene = Scene::new().await;
    let intent = spoil(&mut scene);
    assert_eq!(told(&scene.decide(&intent).await), want_told, "{name}");
    assert_eq!(scene.rows().await, want_rows, "{name}");
    assert_eq!(
        told(&scene.decide(&intent).await),
        if want_told.contains("UNKNOWN_USER") { want_told } else { "" },
        "{name}: twice"
    );
    assert_eq!(scene.rows().await, want_rows, "{name}: twice");
    if want_rows != NOTHING {
        scene.bank.assert_audit_valid().await;
    }
}

const NOTHING: &str = "decisions 0 reservations 0 permits 0 stamps 0 unapproved 0 approvals 0 audit -";
const REFUSED: &str = "decisions 1 reservations 0 permits 0 stamps 0 unapproved 0 approvals 0 audit decision";
const ASKED: &str =
    "decisions 1 reservations 1 permits 0 stamps 0 unapproved 0 approvals 1 audit decision,approval_requested";
const PERMITTED: &str =
    "decisions 1 reservations 1 permits 1 stamps 1 unapproved 1 approvals 0 audit decision,permit_signed";

#[tokio::test]
async fn each_outcome_writes_its_rows_once_and_tells_its_messages() {
    check("small", |s| s.intent(Side::Buy, "6", "100"), "permit permitted", PERMITTED).await;
    check("exactly the limit", |s| s.intent(Side::Buy, "10", "100"), "permit permitted", PERMITTED).await;
    check("just over", |s| s.intent(Side::Buy, "10.00001", "100"), "ask needs_human", ASKED).await;
    check("fat", |s| s.intent(Side::Buy, "120", "100"), "refused:POSITION POSITION", REFUSED).await;
    check("outside the collar", |s| s.intent(Side::Buy, "1", "106"), "refused:PRICE_COLLAR PRICE_COLLAR", REFUSED)
        .await;
    check("nothing to sell", |s| s.intent(Side::Sell, "all", "100"), "refused:SPOT_SHORT SPOT_SHORT", REFUSED).await;
    check("short", |s| s.intent(Side::Sell, "1", "100"), "refused:SPOT_SHORT SPOT_SHORT", REFUSED).await;
    check(
        "late",
        |s| OrderIntent { valid_until: s.now.plus_ms(-1), ..s.intent(Side::Buy, "1", "100") },
        "refused:EXPIRED EXPIRED",
        REFUSED,
    )
    .await;
    let stranger =
        |s: &mut Scene| OrderIntent { user_id: UserId::of_handle("nobody"), ..s.intent(Side::Buy, "1", "100") };
    check("no such user", stranger, "refused:UNKNOWN_USER UNKNOWN_USER", NOTHING).await;
}

#[tokio::test]
async fn a_models_opinion_changes_no_decision_and_stands_in_the_audit_row() {
    let hostile = "<b>approved</b>\u{202e}\n[yes](http://x)\u{0}".repeat(300);
    let percent = |value| Percent::new(value).unwrap();
    let review = |verdict| Opinion::Reviewed(Review::new(verdict, percent(100), &hostile, "trading-llm via x", false));
    for opinion in [
        Opinion::NotAsked,
        Opinion::NoOpinion { reason: NoReview::Timeout },
        review(Verdict::Agree),
        review(Verdict::Object),
    ] {
        for (amount, want) in
            [("6", "permit permitted"), ("11", "ask needs_human"), ("120", "refused:POSITION POSITION")]
        {
            let scene = Scene::new().await;
            let intent = OrderIntent { opinion: opinion.clone(), ..scene.intent(Side::Buy, amount, "100") };
            assert_eq!(told(&scene.decide(&intent).await), want, "{opinion:?}");
            let order = domain::ids::OrderId::of_intent(intent.intent_id);
            let found = store::audit::explain(&mut scene.bank.unit().await, &order.to_string()).await.unwrap().unwrap();
            let shown = &found["orders"][0]["model_opinion"];
            assert_eq!((&shown["untrusted"], &shown["authorises"]), (&json!(true), &json!(false)));
            let said: Opinion = serde_json::from_value(shown["said"].clone()).unwrap();
            assert_eq!(said, opinion);
            if let Opinion::Reviewed(_) = opinion {
                let text = shown["said"]["reasoning"].as_str().unwrap();
                assert!(
                    text.starts_with("‹b›approved‹/b› (yes)(http://x)‹b›") && text.chars().count() == 400,
                    "{text}"
                );
            }
            scene.bank.assert_audit_valid().await;
        }
    }
}

#[tokio::test]
async fn our_clock_against_the_databases_stops_new_risk_from_two_seconds_on() {
    for (skew_ms, want) in [
        (2_000, "permit permitted"),
        (-2_000, "permit permitted"),
        (2_001, "refused:CLOCK_SKEW CLOCK_SKEW"),
        (-2_001, "refused:CLOCK_SKEW CLOCK_SKEW"),
    ] {
        let mut scene = Scene::new().await;
        scene.skew_ms = skew_ms;
        assert_eq!(told(&scene.decide(&scene.intent(Side::Buy, "1", "100")).await), want, "{skew_ms}");
    }
    let mut scene = Scene::new().await;
    scene.trade(Side::Buy, "2", "100").await;
    scene.skew_ms = 60_000;
    assert_eq!(told(&scene.decide(&scene.intent(Side::Sell, "1", "100")).await), "permit permitted", "an exit");
}

#[tokio::test]
async fn own_limits_that_cant_be_read_stop_their_user_and_nobody_else_and_trades_are_still_settled() {
    let mut scene = Scene::new().await;
    let permit = scene.permit(Side::Buy, "5", "100").await;
    assert!(scene.spend(&permit).await);
    scene.own_limits(&json!({ "position_usd": 1.5 })).await;
    for side in [Side::Buy, Side::Sell] {
        assert_eq!(told(&scene.decide(&scene.intent(side, "1", "100")).await), "refused:UNKNOWN_USER UNKNOWN_USER");
    }
    scene.venue(&permit, Some(fill_of(&permit, "t1", "5", "100", "0")), Some((OrderState::Filled, "5"))).await;
    assert_eq!(told(&scene.post(&permit).await), "position FILLED ORDER_OUTCOME");
    assert_eq!(scene.money().await, "cash 19500 btc 5 reserved 0");
    let stopped = scene.user;
    scene.user = scene.bank.account("other", "1000", json!({}), scene.now).await;
    assert_eq!(told(&scene.decide(&scene.intent(Side::Buy, "1", "100")).await), "permit permitted");
    scene.user = stopped;
    scene.own_limits(&json!({})).await;
    assert_eq!(told(&scene.decide(&scene.intent(Side::Sell, "1", "100")).await), "permit permitted");
    scene.bank.assert_audit_valid().await;
}

#[tokio::test]
async fn kill_level_one_stops_a_buy_and_lets_an_exit_pass_whichever_copy_says_so() {
    let mut scene = Scene::new().await;
    scene.trade(Side::Buy, "5", "100").await;
    scene.kill_copies = vec![None];
    assert_eq!(
        told(&scene.decide(&scene.intent(Side::Buy, "1", "100")).await),
        "refused:KILL_LEVEL KILL_LEVEL",
        "file unreadable"
    );
    scene.kill_copies = vec![Some(KillCopy { level: 1, epoch: 99 })];
    assert_eq!(
        told(&scene.decide(&scene.intent(Side::Buy, "1", "100")).await),
        "refused:KILL_LEVEL KILL_LEVEL",
        "newer file"
    );
    assert_eq!(told(&scene.decide(&scene.intent(Side::Sell, "1", "100")).await), "permit permitted");
    scene.kill_copies.clear();
    scene.bank.kill(1).await;
    assert_eq!(told(&scene.decide(&scene.intent(Side::Buy, "1", "100")).await), "refused:KILL_LEVEL KILL_LEVEL", "row");
    assert_eq!(told(&scene.decide(&scene.intent(Side::Sell, "1", "100")).await), "permit permitted");
    // No row at all: as good as level 1, which never traps a position.
    scene.bank.run("ALTER TABLE kill_levels DISABLE TRIGGER ALL; DELETE FROM kill_levels").await;
    assert_eq!(
        told(&scene.decide(&scene.intent(Side::Buy, "1", "100")).await),
        "refused:KILL_LEVEL KILL_LEVEL",
        "no row"
    );
    let out = scene.decide(&scene.intent(Side::Sell, "1", "100")).await;
    assert_eq!(told(&out), "permit permitted");
    assert_eq!(permit_in(&out).body.kill_epoch, 0);
}

#[tokio::test]
async fn a_sale_of_everything_sells_the_position_less_open_exits() {
    let scene = Scene::new().await;
    scene.trade(Side::Buy, "5.00001", "100").await;
    let open = scene.permit(Side::Sell, "2", "100").await;
    let rest = scene.permit(Side::Sell, "all", "99").await;
    assert_eq!(rest.body.envelope.quantity, quantity("3.00001"));
    assert_eq!(told(&scene.decide(&scene.intent(Side::Sell, "all", "99")).await), "refused:SPOT_SHORT SPOT_SHORT");
    scene.void(&open).await;
    assert_eq!(scene.permit(Side::Sell, "all", "99").await.body.envelope.quantity, quantity("2"));
    let buy_all = scene.intent(Side::Buy, "all", "99");
    assert_eq!(told(&scene.decide(&buy_all).await), "refused:SPOT_SHORT SPOT_SHORT", "only an exit may say all");
}

#[tokio::test]
async fn four_times_750_is_caught_and_a_limit_below_the_mark_makes_nothing_smaller() {
    let scene = Scene::new().await;
    assert_eq!(told(&scene.decide(&scene.intent(Side::Buy, "7.5", "100")).await), "permit permitted");
    for _ in 0..3 {
        assert_eq!(told(&scene.decide(&scene.intent(Side::Buy, "7.5", "100")).await), "ask needs_human");
    }
    // 5 at a limit of 96 is 480 of cash, but 500 at the mark: three of them are 1,500, not 1,440, and the third is asked.
    let scene = Scene::new().await;
    for want in ["permit permitted", "permit permitted", "ask needs_human"] {
        assert_eq!(told(&scene.decide(&scene.intent(Side::Buy, "5", "96")).await), want);
    }
    let sum = scene.book().await.unapproved.iter().fold(usd("0"), |sum, u| sum.plus(u.notional).unwrap());
    assert_eq!(sum, usd("1000"));
    let small = scene.decide(&scene.intent(Side::Buy, "0.06", "96")).await;
    assert_eq!(told(&small), "ask needs_human", "the sum is at its limit at the mark");
}

#[tokio::test]
async fn the_twenty_first_buy_of_the_hour_is_refused_and_voiding_gives_no_room() {
    let mut scene = Scene::new().await;
    for _ in 0..20 {
        let permit = scene.permit(Side::Buy, "0.1", "100").await;
        scene.void(&permit).await;
    }
    let next = scene.intent(Side::Buy, "0.1", "100");
    assert_eq!(told(&scene.decide(&next).await), "refused:RATE RATE");
    scene.wait(3_600_000);
    assert_eq!(told(&scene.decide(&scene.intent(Side::Buy, "0.1", "100")).await), "permit permitted");
}

#[tokio::test]
async fn the_thirteenth_prompt_of_the_hour_is_not_asked() {
    let mut scene = Scene::new().await;
    scene.config.house.position_usd = usd("1000000");
    for number in 0..12 {
        let out = scene.decide(&scene.intent(Side::Buy, "11", "100")).await;
        assert_eq!(told(&out), "ask needs_human", "{number}");
    }
    let out = scene.decide(&scene.intent(Side::Buy, "11", "100")).await;
    assert_eq!(told(&out), "refused:ATTENTION_BUDGET ATTENTION_BUDGET");
    assert_eq!(scene.book().await.reservations.len(), 12);
    assert_eq!(told(&scene.decide(&scene.intent(Side::Buy, "1", "100")).await), "permit permitted", "no one is asked");
}

#[tokio::test]
async fn one_intent_decided_by_many_at_once_is_decided_once() {
    let scene = std::sync::Arc::new(Scene::new().await);
    let intent = scene.intent(Side::Buy, "6", "100");
    let tasks = (0..16).map(|_| {
        let (scene, intent) = (scene.clone(), intent.clone());
        tokio::spawn(async move { told(&scene.decide(&intent).await) })
    });
    let mut answers = Vec::new();
    for task in tasks.collect::<Vec<_>>() {
        answers.push(task.await.unwrap());
    }
    assert_eq!(answers.iter().filter(|a| *a == "permit permitted").count(), 1, "{answers:?}");
    assert_eq!(answers.iter().filter(|a| a.is_empty()).count(), 15, "{answers:?}");
    assert_eq!(scene.rows().await, PERMITTED);
}
