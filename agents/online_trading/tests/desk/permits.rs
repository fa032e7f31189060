//! A permit becomes an order once, as it was signed, here, in time, or not at all.

use domain::market::Venue;
use domain::order::{OrderEnvelope, Permit, PermitBody, Side, TimeInForce::ImmediateOrCancel};
use ed25519_dalek::SigningKey;
use rails::signature::PermitSigner;
use runtime::HandleError;
use serde_json::{Value, json};
use store::permits::PermitState;

use crate::scene::Scene;

async fn orders(scene: &Scene) -> i64 {
    scene.bank.count("SELECT count(*) FROM orders").await
}

/// Another value of the same kind.
fn changed(name: &str, value: &Value) -> Value {
    match (name, value) {
        ("side", _) => json!("sell"),
        ("order_type", _) => json!("market"),
        ("time_in_force", _) => json!("gtc"),
        ("venue", _) => json!("binance"),
        ("symbol", _) => json!("ETHUSDT"),
        (_, Value::Bool(is)) => json!(!is),
        (_, Value::Number(number)) => json!(number.as_i64().unwrap() + 1),
        (_, Value::String(text)) if uuid::Uuid::parse_str(text).is_ok() => json!(uuid::Uuid::from_u128(7)),
        (_, Value::String(text)) if text.parse::<rust_decimal::Decimal>().is_ok() => json!(format!("{text}9")),
        (_, Value::String(text)) => json!(format!("{text}x")),
        (_, other) => panic!("{name}: {other}"),
    }
}

#[tokio::test]
async fn a_permit_changed_in_any_field_becomes_no_order() {
    let scene = Scene::new().await;
    let permit = scene.sign(scene.body(Side::Buy, "1", "101", ImmediateOrCancel)).await;
    let good = serde_json::to_value(&permit.body).unwrap();
    let mut paths: Vec<String> =
        good["envelope"].as_object().unwrap().keys().map(|k| format!("/envelope/{k}")).collect();
    paths.extend(good.as_object().unwrap().keys().filter(|k| *k != "envelope").map(|k| format!("/{k}")));
    for path in paths {
        let mut body = good.clone();
        let place = body.pointer_mut(&path).unwrap();
        *place = changed(path.rsplit('/').next().unwrap(), place);
        let Ok(body) = serde_json::from_value(body) else { panic!("{path}") };
        let spoiled = Permit { body, signature: permit.signature.clone() };
        let answer = scene.accept(&spoiled).await;
        assert!(matches!(answer, Err(HandleError::Reject(_))), "{path}: {answer:?}");
        assert_eq!(orders(&scene).await, 0, "{path}");
    }
    scene.accept(&permit).await.unwrap();
    assert_eq!(orders(&scene).await, 1, "the permit itself is still good");
}

#[tokio::test]
async fn a_permit_of_another_key_venue_or_time_becomes_no_order() {
    let scene = Scene::new().await;
    let body = || scene.body(Side::Buy, "1", "101", ImmediateOrCancel);
    let stranger = PermitSigner::new(SigningKey::from_bytes(&[9; 32])).sign(body()).unwrap();
    let envelope = OrderEnvelope { venue: Venue::Binance, ..body().envelope };
    let elsewhere = scene.sign(PermitBody { envelope, ..body() }).await;
    let late = scene.sign(PermitBody { expires_at: scene.now.plus_ms(-1), ..body() }).await;
    let envelope = OrderEnvelope { valid_until: scene.now.plus_ms(-1), ..body().envelope };
    let too_late = scene.sign(PermitBody { envelope, ..body() }).await;
    for (name, permit) in [("key", stranger), ("venue", elsewhere), ("time", late), ("the order's time", too_late)] {
        let answer = scene.accept(&permit).await;
        assert!(matches!(answer, Err(HandleError::Reject(_))), "{name}: {answer:?}");
    }
    assert_eq!(orders(&scene).await, 0);
}

#[tokio::test]
async fn a_permit_is_spent_once_and_never_when_it_is_void_or_was_never_stored() {
    let scene = Scene::new().await;
    let permit = scene.sign(scene.body(Side::Buy, "1", "101", ImmediateOrCancel)).await;
    for _ in 0..3 {
        scene.accept(&permit).await.unwrap();
        assert_eq!(orders(&scene).await, 1);
    }
    let void = scene.sign(scene.body(Side::Buy, "1", "101", ImmediateOrCancel)).await;
    let mut unit = scene.bank.unit_of(scene.user).await;
    assert!(store::permits::void(&mut unit, void.body.permit_id).await.unwrap());
    unit.commit().await.unwrap();
    scene.accept(&void).await.unwrap();
    let unstored = PermitSigner::new(SigningKey::from_bytes(&[3; 32]))
        .sign(scene.body(Side::Buy, "1", "101", ImmediateOrCancel))
        .unwrap();
    scene.accept(&unstored).await.unwrap();
    assert_eq!(orders(&scene).await, 1);
}

#[tokio::test]
async fn at_kill_level_one_a_buy_is_not_taken_and_its_permit_stays_for_treasury_to_void() {
    let scene = Scene::new().await;
    let buy = scene.sign(scene.body(Side::Buy, "1", "101", ImmediateOrCancel)).await;
    let sell = scene.sign(scene.body(Side::Sell, "1", "99", ImmediateOrCancel)).await;
    scene.bank.kill(1).await;
    assert!(matches!(scene.accept(&buy).await, Err(HandleError::Reject(_))));
    scene.accept(&sell).await.unwrap();
    assert_eq!(orders(&scene).await, 1);
    let row = store::permits::get(&mut scene.bank.unit().await, buy.body.permit_id).await.unwrap().unwrap();
    assert_eq!(row.state, PermitState::Signed);
}

#[tokio::test]
async fn a_permit_that_comes_while_the_desk_reconciles_is_put_off_not_failed() {
    let scene = Scene::new().await;
    let permit = scene.sign(scene.body(Side::Buy, "1", "101", ImmediateOrCancel)).await;
    let desk = scene.agent();
    let answer = scene.handle(&desk, &permit).await;
    assert!(matches!(answer, Err(HandleError::NotYet(_))), "{answer:?}");
    assert_eq!(orders(&scene).await, 0);
    desk.reconciled();
    scene.handle(&desk, &permit).await.unwrap();
    assert_eq!(orders(&scene).await, 1, "nothing of it was used up");
}

#[tokio::test]
async fn a_buy_signed_before_a_press_is_not_taken_after_it_was_lowered_and_an_exit_is() {
    let scene = Scene::new().await;
    let buy = scene.sign(scene.body(Side::Buy, "1", "101", ImmediateOrCancel)).await;
    let exit = scene.sign(scene.body(Side::Sell, "1", "99", ImmediateOrCancel)).await;
    scene.bank.kill(1).await;
    scene.bank.kill(0).await;
    let refused = scene.accept(&buy).await.unwrap_err().to_string();
    assert!(refused.contains("EXPIRED") && refused.contains("since the permit was signed"), "{refused}");
    let row = store::permits::get(&mut scene.bank.unit().await, buy.body.permit_id).await.unwrap().unwrap();
    assert_eq!((row.state, orders(&scene).await), (PermitState::Signed, 0), "it stays for treasury to void");
    scene.accept(&exit).await.unwrap();
}
