//! A venue and its desk as bad as they come: fills in parts, repeated, after the end that speaks of them; and ends.

use domain::ids::{OrderId, UserId};
use domain::money::{Quantity, Usd};
use domain::order::{Fill, OrderState, Side};
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rust_decimal::{Decimal, RoundingStrategy};
use sqlx::Row;
use store::StoreError;
use store::orders::OrderRow;

use crate::world::{World, price_of};

/// What the rows say was traded so far, and in how many fills. The order's row is locked before.
async fn traded(unit: &mut store::Unit, order_id: OrderId) -> Result<(Quantity, i64), StoreError> {
    sqlx::query("SELECT 1 FROM orders WHERE order_id = $1 FOR UPDATE").bind(order_id.0).execute(unit.conn()?).await?;
    let row =
        sqlx::query("SELECT coalesce(sum(quantity), 0) AS quantity, count(*) AS fills FROM fills WHERE order_id = $1")
            .bind(order_id.0)
            .fetch_one(unit.conn()?)
            .await?;
    let quantity: Decimal = row.try_get("quantity")?;
    Ok((Quantity::new(quantity.normalize()).unwrap(), row.try_get("fills")?))
}

fn fill(world: &World, order: &OrderRow, number: i64, quantity: Quantity, rng: &mut ChaCha8Rng) -> Fill {
    let envelope = &order.envelope;
    let cents = world.instruments.iter().find(|(id, _)| *id == envelope.instrument()).unwrap().1;
    let worst = envelope.worst_price;
    // Anywhere between the mark and the worst price, both included.
    let price = if rng.random_bool(0.5) { worst } else { price_of(cents) };
    let price = if envelope.side == Side::Buy { price.min(worst) } else { price.max(worst) };
    let fee = price.value() * quantity.value() / Decimal::from(1_000);
    Fill {
        order_id: order.order_id,
        venue_trade_id: format!("{}-{number}", order.client_order_id),
        instrument: envelope.instrument(),
        side: envelope.side,
        quantity,
        price,
        fee: Usd::new(fee.round_dp_with_strategy(8, RoundingStrategy::ToZero)).unwrap(),
        at: world.now(),
    }
}

/// Something happens to one order that is not over.
pub async fn act(world: &World, order: &OrderRow, rng: &mut ChaCha8Rng, crash: bool) -> Result<(), StoreError> {
    let mut unit = world.desk.begin().await?;
    unit.set_tenant(order.user_id).await?;
    let (done, number) = traded(&mut unit, order.order_id).await?;
    let Some(order) = store::orders::get(&mut unit, order.order_id).await? else { return Ok(()) };
    if order.state.is_terminal() {
        return Ok(());
    }
    let left = order.envelope.quantity.minus(done).unwrap();
    let part = Quantity::new(left.value() * Decimal::new(rng.random_range(1..=10), 1)).unwrap();
    let part = part.floor_to(Decimal::new(1, 5));
    let mut set = async |state, filled| {
        store::orders::set_state(&mut unit, order.order_id, state, filled, Some("v"), None).await.map(drop)
    };
    match rng.random_range(0..10) {
        0 => set(OrderState::Unknown, done).await?,
        1 => set(OrderState::Rejected, done).await?,
        2 => set(OrderState::Cancelled, done).await?,
        // The end comes first; the fill it speaks of is written later.
        3 => set(OrderState::Cancelled, done.plus(part).unwrap()).await?,
        _ if part.is_zero() => set(OrderState::Cancelled, done).await?,
        _ => {
            let total = done.plus(part).unwrap();
            let over = total == order.envelope.quantity;
            set(if over { OrderState::Filled } else { OrderState::Open }, total).await?;
            let fill = fill(world, &order, number, part, rng);
            store::orders::insert_fill(&mut unit, &fill, order.user_id).await?;
            store::orders::insert_fill(&mut unit, &fill, order.user_id).await?;
        }
    }
    if crash {
        return Ok(());
    }
    unit.commit().await
}

/// Writes the fill that an order's end spoke of.
pub async fn late_fill(world: &World, user: UserId, order_id: OrderId, rng: &mut ChaCha8Rng) -> Result<(), StoreError> {
    let mut unit = world.desk.begin().await?;
    unit.set_tenant(user).await?;
    let (done, number) = traded(&mut unit, order_id).await?;
    let Some(order) = store::orders::get(&mut unit, order_id).await? else { return Ok(()) };
    let owed = order.filled.minus(done).unwrap();
    if !owed.is_zero() {
        let fill = fill(world, &order, number, owed, rng);
        store::orders::insert_fill(&mut unit, &fill, user).await?;
    }
    unit.commit().await
}

/// Writes a fill again that is there.
pub async fn repeat_fill(world: &World, user: UserId) -> Result<(), StoreError> {
    let mut unit = world.desk.begin().await?;
    unit.set_tenant(user).await?;
    if let Some(fill) = store::orders::fills(&mut unit, user, 20).await?.pop() {
        assert!(!store::orders::insert_fill(&mut unit, &fill, user).await?, "a fill is stored once");
    }
    unit.commit().await
}
