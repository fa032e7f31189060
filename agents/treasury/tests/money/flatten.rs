//! Kill level 3: what is held is sold by exits that the rails let pass, once each, until nothing is left.

use domain::market::InstrumentId;
use domain::message::{Message, Payload};
use domain::order::{OrderState, OrderType, Permit, Side, TimeInForce};
use treasury::flatten::{Attempts, exits};

use crate::scene::{Scene, fill_of, permit_in, price, quantity, told};

impl Scene {
    /// One look of treasury at kill level 3.
    async fn flatten(&self, attempts: &mut Attempts) -> Vec<Message> {
        let epoch = self.bank.count("SELECT max(epoch) FROM kill_levels").await;
        let mut unit = self.treasury.begin_for(self.user).await.unwrap();
        let out = exits(&mut unit, &self.config, self.user, epoch, attempts, self.sight()).await.unwrap();
        unit.commit().await.unwrap();
        out
    }

    async fn sold(&self, attempts: &mut Attempts) -> Permit {
        let out = self.flatten(attempts).await;
        assert_eq!(out.iter().filter(|m| matches!(m.payload, Payload::Permit(_))).count(), 1, "{}", told(&out));
        permit_in(&out)
    }

    /// The desk ends an order of which `filled` traded at `at`.
    async fn ends(&self, permit: &Permit, filled: &str, at: &str) {
        assert!(self.spend(permit).await);
        let fill = (filled != "0").then(|| fill_of(permit, &permit.body.permit_id.to_string(), filled, at, "0"));
        self.venue(permit, fill, Some((OrderState::Cancelled, filled))).await;
        self.post(permit).await;
    }
}

#[tokio::test]
async fn what_is_held_is_sold_once_and_what_is_left_is_tried_again_at_a_price_that_gives_way() {
    let scene = Scene::new().await;
    scene.trade(Side::Buy, "9", "100").await;
    scene.bank.kill(3).await;
    let mut attempts = Attempts::default();
    let first = scene.sold(&mut attempts).await;
    let order = &first.body.envelope;
    assert_eq!((order.side, order.quantity, order.worst_price), (Side::Sell, quantity("9"), price("99")));
    assert_eq!((order.order_type, order.time_in_force), (OrderType::Limit, TimeInForce::ImmediateOrCancel));
    assert!(order.reduce_only);
    for mut attempts in [attempts, Attempts::default()] {
        assert_eq!(told(&scene.flatten(&mut attempts).await), "", "one is under way, also after a restart");
    }
    scene.ends(&first, "5", "99.5").await;
    let second = scene.sold(&mut Attempts::default()).await;
    assert_ne!(second.body.envelope.order_id, order.order_id);
    let next = (second.body.envelope.quantity, second.body.envelope.worst_price);
    assert_eq!(next, (quantity("4"), price("98")));
    scene.ends(&second, "4", "98.5").await;
    assert_eq!(told(&scene.flatten(&mut Attempts::default()).await), "");
    assert_eq!(scene.money().await, "cash 19991.5 btc 0 reserved 0");
    scene.bank.assert_audit_valid().await;
}

#[tokio::test]
async fn the_same_epoch_makes_the_same_ids_and_another_epoch_others() {
    let scene = Scene::new().await;
    scene.trade(Side::Buy, "9", "100").await;
    scene.bank.kill(3).await;
    let mut unit = scene.treasury.begin_for(scene.user).await.unwrap();
    let mut ids = Vec::new();
    for epoch in [2, 2, 3] {
        let mut attempts = Attempts::default();
        let out = exits(&mut unit, &scene.config, scene.user, epoch, &mut attempts, scene.sight()).await.unwrap();
        ids.push(permit_in(&out).body.envelope.order_id);
        unit.rollback().await.unwrap();
        unit = scene.treasury.begin_for(scene.user).await.unwrap();
    }
    assert!(ids[0] == ids[1] && ids[1] != ids[2], "{ids:?}");
}

#[tokio::test]
async fn a_stale_price_sells_inside_its_collar_and_without_any_price_nothing_is_asked() {
    let mut scene = Scene::new().await;
    scene.trade(Side::Buy, "9", "100").await;
    scene.bank.kill(3).await;
    let marks = std::mem::take(&mut scene.marks);
    assert_eq!(told(&scene.flatten(&mut Attempts::default()).await), "");
    assert_eq!(scene.bank.count("SELECT count(*) FROM policy_decisions").await, 1, "the purchase");
    scene.marks = marks;
    scene.now = scene.now.plus_ms(3_600_000);
    assert_eq!(scene.sold(&mut Attempts::default()).await.body.envelope.worst_price, price("99"));
}

#[tokio::test]
async fn a_refused_exit_waits_ever_longer_before_it_is_tried_again() {
    let mut scene = Scene::new().await;
    scene.trade(Side::Buy, "9", "100").await;
    scene.config.house.rate_exits = 0;
    scene.bank.kill(3).await;
    let mut attempts = Attempts::default();
    for (waited, refused) in [(0, true), (3_999, false), (1, true), (7_999, false), (1, true)] {
        scene.wait(waited);
        let out = told(&scene.flatten(&mut attempts).await);
        assert_eq!(out.starts_with("refused:RATE"), refused, "after {waited} ms more: {out:?}");
    }
}

#[tokio::test]
async fn dust_that_no_venue_takes_is_left_alone() {
    let mut scene = Scene::new().await;
    let permit = scene.trade(Side::Buy, "9", "100").await;
    let btc: InstrumentId = permit.body.envelope.instrument();
    scene.mark(&btc, "0.5");
    scene.bank.kill(3).await;
    assert_eq!(told(&scene.flatten(&mut Attempts::default()).await), "");
}
