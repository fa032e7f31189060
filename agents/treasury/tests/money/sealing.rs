//! What treasury does while limits, program or approvers are not what a person declared.

use std::path::{Path, PathBuf};

use domain::market::MarketTick;
use domain::message::{DecisionOutcome, Message, Payload};
use domain::order::Side;
use domain::subject::{Priority, Route, Subject};
use ed25519_dalek::SigningKey;
use rails::signature::PermitSigner;
use runtime::evidence::Panel;
use runtime::seal::{Seal, SealedFile};
use runtime::{Agent, Ctx, MarketView};
use treasury::Treasury;
use treasury::config::Config;

use crate::scene::{NOW, Scene, house, price, quantity};

/// A treasury of its own under a seal over `limits`.
async fn sealed(scene: &Scene, folder: &Path, limits: &Path) -> Treasury {
    runtime::kill::write_file(&runtime::kill::file_path(folder), 0, 1).unwrap();
    let approvers = Panel::read(&mut scene.bank.unit().await).await.unwrap().version().to_owned();
    let seal = Seal::new(vec![SealedFile::of(limits.to_owned()).unwrap()], approvers);
    let signer = PermitSigner::new(SigningKey::from_bytes(&[3; 32]));
    Treasury::new(Config { house: house(), signer }, folder).sealed(Some(seal))
}

/// What came of one order of its own, and the words of it that leave treasury.
async fn outcome(scene: &Scene, treasury: &Treasury, side: Side, amount: &str, worst: &str) -> (String, String) {
    let intent = scene.intent(side, amount, worst);
    let market = MarketView::new();
    let tick = MarketTick {
        instrument: scene.btc.clone(),
        bid: price("100"),
        bid_quantity: quantity("1"),
        ask: price("100"),
        ask_quantity: quantity("1"),
        received_at: NOW,
    };
    market.put(tick, NOW);
    let root = runtime::outbox::root("buy_bot", uuid::Uuid::from_u128(1), scene.user, NOW);
    let input = Message {
        subject: Subject::of(Route::Intent, Priority::Normal),
        key: intent.intent_id.to_string(),
        user_id: scene.user,
        valid_until: Some(intent.valid_until),
        payload: Payload::OrderIntent(intent),
    };
    let input = input.into_child(&root, "buy_bot", NOW);
    let mut unit = scene.treasury.begin_for(scene.user).await.unwrap();
    let out = treasury.handle(&input, &mut Ctx::new(NOW, 0, &market, Some(&mut unit))).await.unwrap();
    unit.commit().await.unwrap();
    let decided = out.iter().find_map(|message| match &message.payload {
        Payload::OrderDecision(decision) => Some(&decision.outcome),
        _ => None,
    });
    let word = match decided.unwrap() {
        DecisionOutcome::Permitted => "permitted".to_owned(),
        DecisionOutcome::Refused { code, .. } => code.clone(),
        other => format!("{other:?}"),
    };
    (word, format!("{out:?}").to_lowercase())
}

fn limits_in(folder: &Path) -> PathBuf {
    let file = folder.join("limits.toml");
    std::fs::write(&file, "position_usd = \"10000\"").unwrap();
    file
}

#[tokio::test]
async fn limits_that_are_not_the_declared_ones_refuse_new_risk_and_the_refusal_tells_nothing_of_it() {
    let scene = Scene::new().await;
    let folder = testkit::servers::fresh_folder("sealing");
    let limits = limits_in(&folder);
    let treasury = sealed(&scene, &folder, &limits).await;
    assert_eq!(outcome(&scene, &treasury, Side::Buy, "1", "101").await.0, "permitted");
    std::fs::write(&limits, "position_usd = \"90000\"").unwrap();
    let (code, words) = outcome(&scene, &treasury, Side::Buy, "1", "101").await;
    assert_eq!(code, "KILL_LEVEL");
    // Not where the gate is, nor what opens it.
    for lever in
        ["limits", ".toml", "position_usd", "seal", "declared", "approver", "program", "file", "resume", "restart", "/"]
    {
        assert!(!words.contains(lever), "{words} names {lever}");
    }
    std::fs::write(&limits, "position_usd = \"10000\"").unwrap();
    assert_eq!(outcome(&scene, &treasury, Side::Buy, "1", "101").await.0, "permitted", "put back");
    std::fs::remove_file(&limits).unwrap();
    assert_eq!(outcome(&scene, &treasury, Side::Buy, "1", "101").await.0, "KILL_LEVEL", "gone");
}

#[tokio::test]
async fn approvers_nobody_declared_refuse_new_risk() {
    let scene = Scene::new().await;
    let folder = testkit::servers::fresh_folder("sealing");
    let treasury = sealed(&scene, &folder, &limits_in(&folder)).await;
    assert_eq!(outcome(&scene, &treasury, Side::Buy, "1", "101").await.0, "permitted");
    scene.bank.approver("mallory", None, true).await;
    assert_eq!(outcome(&scene, &treasury, Side::Buy, "1", "101").await.0, "KILL_LEVEL");
}
