//! One writer: takes an operation at random, does it through the product's own functions, and sometimes dies in it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use domain::ids::{ApprovalId, IntentId, MessageId, OrderId, PermitId, UserId};
use domain::market::Venue;
use domain::message::{Decision, Message, Task};
use domain::money::Quantity;
use domain::order::{Amount, OrderIntent, OrderType, Origin, Side, TimeInForce};
use domain::person::{Act, PersonAct, SignedAct, Vote};
use domain::time::UnixMs;
use rails::signature::sign_act;
use rand::Rng;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;
use runtime::HandleError;
use runtime::kill::KillSwitch;
use rust_decimal::Decimal;
use store::approvals::{ApprovalStatus, EntryRow};
use store::{StoreError, Unit};
use testkit::bank::person_key;
use treasury::decide::Sight;
use uuid::Uuid;

use crate::venue;
use crate::world::{Treasury, World, price_of, sight};

/// Around every limit, in dollars.
const SIZES: [i64; 12] = [30, 60, 250, 333, 500, 999, 1_000, 1_001, 2_500, 5_001, 9_999, 10_001];

pub async fn write(world: Arc<World>, mut rng: ChaCha8Rng) {
    while world.take_op() {
        // Mostly moments; now and then minutes, in which windows move on and permits and questions run out.
        world.wait(if rng.random_bool(0.004) { rng.random_range(60_000..900_000) } else { rng.random_range(0..250) });
        let dies = rng.random_bool(0.08).then(|| Duration::from_micros(rng.random_range(0..12_000)));
        let op = operate(&world, &mut rng);
        let done = match dies {
            // The future is dropped wherever it stands, in the middle of a commit too.
            Some(moment) => tokio::time::timeout(moment, op).await.unwrap_or(Ok(())),
            None => op.await,
        };
        match done {
            Ok(()) | Err(HandleError::Reject(_)) => {}
            Err(HandleError::Retry(text) | HandleError::NotYet(text)) => world.retried(text),
            Err(HandleError::Fatal(text)) => panic!("a writer met what no process survives: {text}"),
        }
    }
}

async fn operate(world: &World, rng: &mut ChaCha8Rng) -> Result<(), HandleError> {
    let crash = rng.random_bool(0.05);
    match rng.random_range(0..100) {
        0..30 => decide(world, rng, crash).await,
        30..48 => spend(world, crash).await,
        48..52 => void(world, rng, crash).await,
        52..72 => match open_order(world).await? {
            Some((user, order_id)) => {
                let order = store::orders::get(&mut world.bank.unit_of(user).await, order_id).await?.unwrap();
                Ok(venue::act(world, &order, rng, crash).await?)
            }
            None => Ok(()),
        },
        72..76 => match owed(world).await? {
            Some((user, order_id)) => Ok(venue::late_fill(world, user, order_id, rng).await?),
            None => Ok(()),
        },
        76..78 => Ok(venue::repeat_fill(world, *world.users.choose(rng).unwrap()).await?),
        78..89 => post(world, rng, crash).await,
        89..93 => vote(world, rng).await,
        93..97 => settle(world, rng, crash).await,
        97..98 => reset(world, rng).await,
        _ => kill(world, rng).await,
    }
}

/// What treasury does in one transaction, by one of the two.
async fn treasury_does(
    world: &World,
    rng: &mut ChaCha8Rng,
    user: UserId,
    crash: bool,
    act: impl AsyncFnOnce(&mut Unit, &Treasury, Sight<'_>) -> Result<Vec<Message>, HandleError>,
) -> Result<(), HandleError> {
    let treasury = world.treasuries.choose(rng).unwrap();
    let mut unit = treasury.db.begin().await?;
    unit.set_tenant(user).await?;
    let now = world.now();
    let marks = world.marks(now);
    act(&mut unit, treasury, sight(&marks, now)).await?;
    if crash { Ok(()) } else { Ok(unit.commit().await?) }
}

fn intent(world: &World, rng: &mut ChaCha8Rng) -> OrderIntent {
    let user_id = *world.users.choose(rng).unwrap();
    let (instrument, mark) = world.instruments.choose(rng).unwrap().clone();
    let signal_id = MessageId(Uuid::from_u128(rng.random()));
    let side = if rng.random_bool(0.65) { Side::Buy } else { Side::Sell };
    // Mostly near the mark; sometimes far enough to lose 2 %, or outside the collar.
    let away =
        if rng.random_bool(0.8) { rng.random_range(0..=mark / 200) } else { rng.random_range(0..=mark * 6 / 100) };
    let worst_price = price_of(if side == Side::Buy { mark + away } else { mark - away });
    let quantity = Decimal::from(*SIZES.choose(rng).unwrap()) / worst_price.value();
    let quantity = Quantity::new(quantity.round_dp(12)).unwrap().floor_to(Decimal::new(1, 5));
    OrderIntent {
        intent_id: IntentId::of_leg(signal_id, 0),
        signal_id,
        leg: 0,
        user_id,
        origin: Origin::Agent { name: "test".to_owned() },
        instrument,
        side,
        order_type: OrderType::Limit,
        time_in_force: if rng.random_bool(0.5) {
            TimeInForce::ImmediateOrCancel
        } else {
            TimeInForce::GoodTillCancelled
        },
        amount: if side == Side::Sell && rng.random_bool(0.4) { Amount::All } else { Amount::Exactly(quantity) },
        worst_price,
        reduce_only: side == Side::Sell,
        valid_until: world.now().plus_ms(60_000),
        slices: None,
        reasoning: String::new(),
        opinion: domain::review::Opinion::NotAsked,
    }
}

async fn decide(world: &World, rng: &mut ChaCha8Rng, crash: bool) -> Result<(), HandleError> {
    let again = if rng.random_bool(0.15) { world.intents.lock().unwrap().choose(rng).cloned() } else { None };
    let intent = again.unwrap_or_else(|| intent(world, rng));
    world.intents.lock().unwrap().push(intent.clone());
    treasury_does(world, rng, intent.user_id, crash, async |unit, treasury, sight| {
        treasury::decide::decide(unit, &treasury.config, &intent, sight).await
    })
    .await
}

async fn pick(world: &World, query: &'static str) -> Result<Option<(UserId, Uuid)>, StoreError> {
    let found: Option<(Uuid, Uuid)> = sqlx::query_as(query).fetch_optional(world.bank.admin.pool()).await?;
    Ok(found.map(|(user, id)| (UserId(user), id)))
}

async fn open_order(world: &World) -> Result<Option<(UserId, OrderId)>, StoreError> {
    let query =
        "SELECT user_id, order_id FROM orders WHERE state IN ('pending', 'open', 'unknown') ORDER BY random() LIMIT 1";
    Ok(pick(world, query).await?.map(|(user, id)| (user, OrderId(id))))
}

async fn owed(world: &World) -> Result<Option<(UserId, OrderId)>, StoreError> {
    let query = "SELECT user_id, order_id FROM orders o WHERE state IN ('filled', 'rejected', 'cancelled')
        AND filled > (SELECT coalesce(sum(quantity), 0) FROM fills f WHERE f.order_id = o.order_id)
        ORDER BY random() LIMIT 1";
    Ok(pick(world, query).await?.map(|(user, id)| (user, OrderId(id))))
}

async fn signed_permit(world: &World) -> Result<Option<(UserId, PermitId)>, StoreError> {
    // Mostly the newest, which is still in time.
    let query = "SELECT user_id, permit_id FROM permits WHERE state = 'signed'
        ORDER BY CASE WHEN random() < 0.9 THEN signed_at END DESC NULLS LAST LIMIT 1";
    Ok(pick(world, query).await?.map(|(user, id)| (user, PermitId(id))))
}

async fn spend(world: &World, crash: bool) -> Result<(), HandleError> {
    let Some((user, permit_id)) = signed_permit(world).await? else { return Ok(()) };
    let mut unit = world.desk.begin().await?;
    unit.set_tenant(user).await?;
    let permit = store::permits::get(&mut unit, permit_id).await?.expect("a permit that was there").permit;
    let kill = KillSwitch::read_with(&mut unit, &[]).await?;
    let now = world.now();
    online_trading::permit::accept(&mut unit, &permit, &world.verifier, Venue::Paper, kill, now).await?;
    if crash { Ok(()) } else { Ok(unit.commit().await?) }
}

async fn void(world: &World, rng: &mut ChaCha8Rng, crash: bool) -> Result<(), HandleError> {
    let Some((user, permit_id)) = signed_permit(world).await? else { return Ok(()) };
    let row = store::permits::get(&mut world.bank.unit().await, permit_id).await?.expect("a permit that was there");
    let order_id = row.permit.body.envelope.order_id;
    treasury_does(world, rng, user, crash, async |unit, treasury, sight| {
        treasury::settle::void_unspent(unit, &treasury.config, user, permit_id, order_id, sight).await
    })
    .await
}

async fn post(world: &World, rng: &mut ChaCha8Rng, crash: bool) -> Result<(), HandleError> {
    let found = store::orders::unposted(&mut world.bank.unit().await, 20, &[]).await?;
    let Some((user, order_id)) = found.choose(rng).copied() else { return Ok(()) };
    treasury_does(world, rng, user, crash, async |unit, treasury, sight| {
        treasury::settle::post(unit, &treasury.config, user, order_id, sight).await
    })
    .await
}

fn signed(person: &str, what: Act, now: UnixMs) -> SignedAct {
    let (schema, person_id) = (PersonAct::SCHEMA.to_owned(), person.to_owned());
    sign_act(&person_key(person), PersonAct { schema, person_id, what, reason: "test".to_owned(), signed_at: now })
        .unwrap()
}

async fn vote(world: &World, rng: &mut ChaCha8Rng) -> Result<(), HandleError> {
    let query = "SELECT user_id, approval_id FROM approval_requests WHERE status = 'pending' ORDER BY random() LIMIT 1";
    let Some((user, id)) = pick(world, query).await? else { return Ok(()) };
    let approval_id = ApprovalId(id);
    let mut unit = world.supervisor.begin().await?;
    unit.set_tenant(user).await?;
    let Some(row) = store::approvals::get(&mut unit, approval_id).await? else { return Ok(()) };
    let yes = rng.random_bool(0.8);
    let vote = if yes { Vote::Approve } else { Vote::Reject };
    let person = if rng.random_bool(0.5) { "ada" } else { "zoe" };
    // Now and then somebody else signs in their name.
    let hand = if rng.random_bool(0.1) { "mallory" } else { person };
    let act = signed(hand, Act::Vote { approval_id, digest: row.digest, vote }, world.now());
    let entry = EntryRow {
        approval_id,
        person_id: person.to_owned(),
        decision: if yes { Decision::Approve } else { Decision::Reject },
        change: None,
        channel: "cli".to_owned(),
        assurance: domain::person::Assurance::CliKey,
        evidence: serde_json::json!({}),
        digest: row.digest,
        shown_digest: None,
        reason: act.act.reason,
        signature: Some(act.signature),
        signed_at: act.act.signed_at,
    };
    store::approvals::insert_entry(&mut unit, &entry).await?;
    let next = if yes { ApprovalStatus::Allowed } else { ApprovalStatus::Denied };
    store::approvals::set_status(&mut unit, approval_id, &[ApprovalStatus::Pending], next).await?;
    let body = serde_json::json!({ "approval_id": approval_id, "order_id": row.order_id, "vote": vote.word() });
    store::audit::append(&mut unit, user, "vote", "supervisor", &body, world.now()).await?;
    Ok(unit.commit().await?)
}

async fn settle(world: &World, rng: &mut ChaCha8Rng, crash: bool) -> Result<(), HandleError> {
    let found = store::approvals::due(&mut world.treasuries[0].db.begin().await?, world.now()).await?;
    let Some((user, approval_id)) = found.choose(rng).copied() else { return Ok(()) };
    treasury_does(world, rng, user, crash, async |unit, treasury, sight| {
        treasury::approval::settle(unit, &treasury.config, user, approval_id, sight).await
    })
    .await
}

async fn reset(world: &World, rng: &mut ChaCha8Rng) -> Result<(), HandleError> {
    let query = "SELECT user_id, user_id FROM rails_state WHERE latched_at IS NOT NULL ORDER BY random() LIMIT 1";
    let Some((user, _)) = pick(world, query).await? else { return Ok(()) };
    treasury_does(world, rng, user, false, async |unit, treasury, sight| {
        let limits = &treasury.config.house;
        let book =
            store::ledger::read_book(unit, user, sight.now, limits.rate_window_ms, limits.approval_window_ms).await?;
        let Some(latched_at) = book.and_then(|book| book.breaker.latched_at) else { return Ok(Vec::new()) };
        let act = signed("zoe", Act::ResetBreaker { user_id: user, latched_at }, sight.now);
        let arguments = BTreeMap::from([("act".to_owned(), serde_json::to_string(&act).unwrap())]);
        let task = Task::plain(treasury::reset::CAPABILITY.to_owned(), arguments);
        treasury::reset::breaker(unit, &treasury.config, user, &task, sight).await
    })
    .await
}

async fn kill(world: &World, rng: &mut ChaCha8Rng) -> Result<(), HandleError> {
    let mut unit = world.supervisor.begin().await?;
    let level = store::kill::current(&mut unit).await?.map_or(0, |kill| kill.level);
    let next = if level > 0 { 0 } else { u8::from(rng.random_bool(0.5)) };
    store::kill::raise(&mut unit, next, "test", "a test says so", world.now()).await?;
    Ok(unit.commit().await?)
}

/// Ends everything: questions expire, permits are voided, orders cancelled, owed fills written, and all of it posted.
pub async fn finish(world: &World) {
    let mut rng = <ChaCha8Rng as rand::SeedableRng>::seed_from_u64(0);
    world.wait(3_600_000);
    let due = store::approvals::due(&mut world.bank.unit().await, world.now()).await.unwrap();
    for (user, id) in due {
        treasury_does(world, &mut rng, user, false, async |unit, treasury, sight| {
            treasury::approval::settle(unit, &treasury.config, user, id, sight).await
        })
        .await
        .unwrap();
    }
    let unspent = store::permits::unspent_due(&mut world.bank.unit().await, world.now()).await.unwrap();
    for due in unspent {
        treasury_does(world, &mut rng, due.user_id, false, async |unit, treasury, sight| {
            treasury::settle::void_unspent(unit, &treasury.config, due.user_id, due.permit_id, due.order_id, sight)
                .await
        })
        .await
        .unwrap();
    }
    while let Some((user, order_id)) = open_order(world).await.unwrap() {
        let order = store::orders::get(&mut world.bank.unit_of(user).await, order_id).await.unwrap().unwrap();
        venue::act(world, &order, &mut rng, false).await.unwrap();
    }
    while let Some((user, order_id)) = owed(world).await.unwrap() {
        venue::late_fill(world, user, order_id, &mut rng).await.unwrap();
    }
    let unposted = store::orders::unposted(&mut world.bank.unit().await, i64::MAX, &[]).await.unwrap();
    // A sale may wait for the buy that it sells from.
    for _ in 0..2 {
        for (user, order_id) in &unposted {
            let done = treasury_does(world, &mut rng, *user, false, async |unit, treasury, sight| {
                treasury::settle::post(unit, &treasury.config, *user, *order_id, sight).await
            });
            done.await.unwrap();
        }
    }
}
