//! What time does: the UTC day and its baseline, today's loss, and the breaker with its signed reset.

use std::collections::BTreeMap;

use domain::message::{Message, Task};
use domain::order::Side;
use domain::person::{Act, PersonAct, SignedAct};
use domain::time::{DAY_MS, UnixMs};
use rails::signature::sign_act;
use runtime::HandleError;
use store::Unit;
use testkit::bank::person_key;
use treasury::reset;

use crate::scene::{NOW, Scene, held, price, told, usd};

const MIDNIGHT: UnixMs = UnixMs((NOW.0 / DAY_MS + 1) * DAY_MS);

#[tokio::test]
async fn the_new_day_is_counted_from_the_marks_of_the_last_moment_before_midnight() {
    for (seen, want) in [(true, "20500"), (false, "19500")] {
        let mut scene = Scene::new().await;
        scene.trade(Side::Buy, "10", "100").await;
        scene.now = MIDNIGHT.plus_ms(-500);
        scene.mark(&scene.btc.clone(), "150");
        let before = scene.marks.clone();
        scene.now = MIDNIGHT.plus_ms(500);
        scene.mark(&scene.btc.clone(), "50");
        scene.before_midnight = seen.then_some(before);
        scene.decide(&scene.intent(Side::Sell, "1", "50")).await;
        let day = scene.book().await.day;
        assert_eq!((day.day, day.equity), (MIDNIGHT.day(), usd(want)), "seen: {seen}");
        let started = "SELECT count(*) FROM trade_audit WHERE kind = 'day_started'";
        assert_eq!(scene.bank.count(started).await, 1);
        scene.decide(&scene.intent(Side::Sell, "1", "50")).await;
        assert_eq!(scene.bank.count(started).await, 1, "once a day");
    }
}

#[tokio::test]
async fn marks_of_another_midnight_or_none_at_all_start_no_day_on_a_guess() {
    let mut scene = Scene::new().await;
    scene.trade(Side::Buy, "10", "100").await;
    scene.before_midnight = Some(scene.marks.clone());
    scene.now = MIDNIGHT.plus_ms(DAY_MS);
    assert_eq!(told(&scene.decide(&scene.intent(Side::Buy, "1", "100")).await), "refused:STALE_MARK STALE_MARK");
    assert_eq!(scene.book().await.day.day, NOW.day(), "no fresh mark: the old day stays");
    scene.wait(0);
    scene.mark(&scene.btc.clone(), "120");
    assert_eq!(told(&scene.decide(&scene.intent(Side::Buy, "0.1", "120")).await), "permit permitted");
    assert_eq!(scene.book().await.day.equity, usd("20200"), "marks of now, not those of a midnight long past");
}

#[tokio::test]
async fn five_percent_down_stops_new_risk_until_the_next_day_and_lets_exits_pass() {
    let mut scene = Scene::new().await;
    for _ in 0..8 {
        scene.trade(Side::Buy, "10", "100").await;
        scene.wait(300_000);
    }
    for (mark, want) in [("87.51", "permit permitted"), ("87.5", "refused:DAILY_LOSS DAILY_LOSS")] {
        scene.mark(&scene.btc.clone(), mark);
        let (buy, sell) = (scene.intent(Side::Buy, "0.1", mark), scene.intent(Side::Sell, "0.1", mark));
        assert_eq!(told(&scene.decide(&buy).await), want, "{mark}");
        assert_eq!(told(&scene.decide(&sell).await), "permit permitted", "{mark}");
    }
    scene.now = MIDNIGHT.plus_ms(1_000);
    scene.wait(0);
    assert_eq!(told(&scene.decide(&scene.intent(Side::Buy, "0.1", "87.5")).await), "permit permitted");
}

async fn latched() -> (Scene, UnixMs) {
    let mut scene = Scene::new().await;
    for _ in 0..3 {
        scene.mark(&scene.btc.clone(), "100");
        scene.trade(Side::Buy, "5", "100").await;
        scene.mark(&scene.btc.clone(), "97.9");
        assert_eq!(scene.marks[&scene.btc].price, price("97.9"));
        scene.trade(Side::Sell, "all", "97.9").await;
        scene.wait(300_000);
    }
    scene.mark(&scene.btc.clone(), "100");
    let at = scene.book().await.breaker.latched_at.expect("three losses over 2 % latch the breaker");
    (scene, at)
}

fn act(scene: &Scene, person: &str, latched_at: UnixMs, signed_at: UnixMs) -> SignedAct {
    let act = PersonAct {
        schema: PersonAct::SCHEMA.to_owned(),
        person_id: person.to_owned(),
        what: Act::ResetBreaker { user_id: scene.user, latched_at },
        reason: "looked at it".to_owned(),
        signed_at,
    };
    sign_act(&person_key(person), act).unwrap()
}

async fn reset(scene: &Scene, unit: &mut Unit, signed: &SignedAct) -> Result<Vec<Message>, HandleError> {
    let arguments = BTreeMap::from([("act".to_owned(), serde_json::to_string(signed).unwrap())]);
    let task = Task::plain(reset::CAPABILITY.to_owned(), arguments);
    reset::breaker(unit, &scene.config, scene.user, &task, scene.sight()).await
}

#[tokio::test]
async fn three_losses_latch_until_a_person_resets_exactly_that_latch() {
    let (mut scene, at) = latched().await;
    assert_eq!(scene.bank.count("SELECT count(*) FROM trade_audit WHERE kind = 'breaker_latched'").await, 1);
    assert_eq!(told(&scene.decide(&scene.intent(Side::Buy, "1", "100")).await), "refused:BREAKER BREAKER");
    let good = act(&scene, "operator", at, scene.now);
    let others = [
        ("another latch", act(&scene, "operator", at.plus_ms(1), scene.now), true),
        ("a stranger", act(&scene, "mallory", at, scene.now), false),
        ("five minutes and more", act(&scene, "operator", at, scene.now.plus_ms(-300_001)), false),
        ("the future", act(&scene, "operator", at, scene.now.plus_ms(5_001)), false),
        (
            "another signature",
            SignedAct { signature: act(&scene, "mallory", at, scene.now).signature, ..good.clone() },
            false,
        ),
    ];
    for (name, signed, accepted) in others {
        let mut unit = held(&scene).await;
        let done = reset(&scene, &mut unit, &signed).await;
        assert_eq!(done.is_ok(), accepted, "{name}: {done:?}");
        assert!(done.is_err() || done.unwrap().is_empty(), "{name}");
        unit.commit().await.unwrap();
        assert_eq!(scene.book().await.breaker.latched_at, Some(at), "{name}");
    }
    let mut unit = held(&scene).await;
    assert_eq!(told(&reset(&scene, &mut unit, &good).await.unwrap()), "BREAKER_RESET");
    unit.commit().await.unwrap();
    assert_eq!(told(&scene.decide(&scene.intent(Side::Buy, "1", "100")).await), "permit permitted");
    let rows = scene.rows().await;
    let mut unit = held(&scene).await;
    assert_eq!(told(&reset(&scene, &mut unit, &good).await.unwrap()), "", "the same act again");
    unit.commit().await.unwrap();
    assert_eq!(scene.rows().await, rows);
    scene.wait(1);
    scene.bank.assert_audit_valid().await;
}
