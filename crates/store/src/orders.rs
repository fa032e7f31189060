//! The desk's record: orders written before they are sent, and what came of them.

use domain::ids::{OrderId, PermitId, UserId};
use domain::market::Venue;
use domain::money::{Quantity, Usd};
use domain::order::{Fill, OrderEnvelope, OrderState, Side};
use domain::time::UnixMs;
use sqlx::postgres::PgRow;

use crate::value::{Reader, Stamp, exact};
use crate::{StoreError, Unit};

/// One order of a desk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderRow {
    /// Ours.
    pub order_id: OrderId,
    /// Whose money.
    pub user_id: UserId,
    /// What the venue sees.
    pub client_order_id: String,
    /// The permit spent on it.
    pub permit_id: PermitId,
    /// The exact order.
    pub envelope: OrderEnvelope,
    /// The venue's id, once known.
    pub venue_order_id: Option<String>,
    /// Where it stands.
    pub state: OrderState,
    /// Cumulative base quantity.
    pub filled: Quantity,
    /// Why, when rejected.
    pub code: Option<String>,
    /// When it was committed.
    pub created_at: UnixMs,
    /// When it last changed.
    pub updated_at: UnixMs,
    /// When it was handed to the venue for the first time.
    pub sent_at: Option<UnixMs>,
    /// Treasury has posted its end.
    pub outcome_posted: bool,
}

fn order_of(row: &PgRow) -> Result<OrderRow, StoreError> {
    let row = Reader::new("orders", row);
    Ok(OrderRow {
        order_id: OrderId(row.uuid("order_id")?),
        user_id: UserId(row.uuid("user_id")?),
        client_order_id: row.text("client_order_id")?,
        permit_id: PermitId(row.uuid("permit_id")?),
        envelope: serde_json::from_value(row.json("envelope")?)?,
        venue_order_id: row.get("venue_order_id")?,
        state: row.word("state", OrderState::parse)?,
        filled: row.quantity("filled")?,
        code: row.get("code")?,
        created_at: row.time("created_at")?,
        updated_at: row.time("updated_at")?,
        sent_at: row.maybe_time("sent_at")?,
        outcome_posted: row.get("outcome_posted")?,
    })
}

fn fill_of(row: &PgRow) -> Result<Fill, StoreError> {
    let row = Reader::new("fills", row);
    Ok(Fill {
        order_id: OrderId(row.uuid("order_id")?),
        venue_trade_id: row.text("venue_trade_id")?,
        instrument: row.instrument()?,
        side: row.word("side", Side::parse)?,
        quantity: row.quantity("quantity")?,
        price: row.price("price")?,
        fee: row.usd("fee")?,
        at: row.time("at")?,
    })
}

/// Stores an order before it is sent; `false` when it is stored already.
///
/// # Errors
/// [`StoreError`]; a second order on one permit is a unique violation.
pub async fn insert(unit: &mut Unit, row: &OrderRow) -> Result<bool, StoreError> {
    unit.require(row.user_id).await?;
    let done = sqlx::query(
        "INSERT INTO orders (user_id, order_id, client_order_id, permit_id, venue, symbol, envelope, venue_order_id,
           state, filled, code, created_at, updated_at, sent_at, outcome_posted)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)
         ON CONFLICT (user_id, order_id) DO NOTHING",
    )
    .bind(row.user_id.0)
    .bind(row.order_id.0)
    .bind(&row.client_order_id)
    .bind(row.permit_id.0)
    .bind(row.envelope.venue.name())
    .bind(row.envelope.symbol.as_str())
    .bind(serde_json::to_value(&row.envelope)?)
    .bind(&row.venue_order_id)
    .bind(row.state.word())
    .bind(exact(row.filled.value())?)
    .bind(&row.code)
    .bind(Stamp(row.created_at))
    .bind(Stamp(row.updated_at))
    .bind(row.sent_at.map(Stamp))
    .bind(row.outcome_posted)
    .execute(unit.conn())
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Notes that an order of the unit's tenant is being handed to the venue: pending to open. `false` when it was not
/// pending.
///
/// # Errors
/// [`StoreError`].
pub async fn mark_sent(unit: &mut Unit, order_id: OrderId, now: UnixMs) -> Result<bool, StoreError> {
    let user = unit.required()?;
    let done = sqlx::query(
        "UPDATE orders SET state = 'open', sent_at = $3, updated_at = $3
         WHERE user_id = $1 AND order_id = $2 AND state = 'pending'",
    )
    .bind(user.0)
    .bind(order_id.0)
    .bind(Stamp(now))
    .execute(unit.conn())
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Writes where an order of the unit's tenant stands. `false` when it had ended before: an end never changes. The
/// filled quantity never goes down; id and code stay when `None` is given.
///
/// # Errors
/// [`StoreError`].
pub async fn set_state(
    unit: &mut Unit,
    order_id: OrderId,
    state: OrderState,
    filled: Quantity,
    venue_order_id: Option<&str>,
    code: Option<&str>,
) -> Result<bool, StoreError> {
    let user = unit.required()?;
    let done = sqlx::query(
        "UPDATE orders SET state = $3, filled = greatest(filled, $4), venue_order_id = coalesce($5, venue_order_id),
           code = coalesce($6, code), updated_at = clock_timestamp()
         WHERE user_id = $1 AND order_id = $2 AND state IN ('pending', 'open', 'unknown')",
    )
    .bind(user.0)
    .bind(order_id.0)
    .bind(state.word())
    .bind(exact(filled.value())?)
    .bind(venue_order_id)
    .bind(code)
    .execute(unit.conn())
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Orders of all users at these venues that have not ended, oldest first.
///
/// # Errors
/// [`StoreError`].
pub async fn open_orders(unit: &mut Unit, venues: &[Venue]) -> Result<Vec<OrderRow>, StoreError> {
    let venues: Vec<&str> = venues.iter().map(|venue| venue.name()).collect();
    let rows = sqlx::query(
        "SELECT * FROM orders WHERE venue = ANY($1) AND state IN ('pending', 'open', 'unknown') ORDER BY position",
    )
    .bind(&venues)
    .fetch_all(unit.conn())
    .await?;
    rows.iter().map(order_of).collect()
}

/// One order, of any user this role may see.
///
/// # Errors
/// [`StoreError`].
pub async fn get(unit: &mut Unit, order_id: OrderId) -> Result<Option<OrderRow>, StoreError> {
    let row =
        sqlx::query("SELECT * FROM orders WHERE order_id = $1").bind(order_id.0).fetch_optional(unit.conn()).await?;
    row.as_ref().map(order_of).transpose()
}

/// The newest orders of a user, newest first.
///
/// # Errors
/// [`StoreError`].
pub async fn recent(unit: &mut Unit, user: UserId, limit: i64) -> Result<Vec<OrderRow>, StoreError> {
    unit.require(user).await?;
    let rows = sqlx::query("SELECT * FROM orders WHERE user_id = $1 ORDER BY position DESC LIMIT $2")
        .bind(user.0)
        .bind(limit)
        .fetch_all(unit.conn())
        .await?;
    rows.iter().map(order_of).collect()
}

/// Stores a fill; `false` when the venue's trade is stored already.
///
/// # Errors
/// [`StoreError`]; a fill of an order that is not stored is a foreign key violation.
pub async fn insert_fill(unit: &mut Unit, fill: &Fill, user: UserId) -> Result<bool, StoreError> {
    unit.require(user).await?;
    let done = sqlx::query(
        "INSERT INTO fills (user_id, venue, symbol, venue_trade_id, order_id, side, quantity, price, fee, at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT DO NOTHING",
    )
    .bind(user.0)
    .bind(fill.instrument.venue.name())
    .bind(fill.instrument.symbol.as_str())
    .bind(&fill.venue_trade_id)
    .bind(fill.order_id.0)
    .bind(fill.side.word())
    .bind(exact(fill.quantity.value())?)
    .bind(exact(fill.price.value())?)
    .bind(exact(fill.fee.value())?)
    .bind(Stamp(fill.at))
    .execute(unit.conn())
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Orders with a fill or an end that treasury has not posted, of all users, oldest first.
///
/// # Errors
/// [`StoreError`].
pub async fn unposted(unit: &mut Unit, limit: i64) -> Result<Vec<(UserId, OrderId)>, StoreError> {
    let rows = sqlx::query(
        "SELECT o.user_id, o.order_id FROM orders o
         WHERE (NOT o.outcome_posted AND o.state IN ('filled', 'rejected', 'cancelled'))
            OR (o.user_id, o.order_id) IN (SELECT f.user_id, f.order_id FROM fills f WHERE f.posted_at IS NULL)
         ORDER BY o.position LIMIT $1",
    )
    .bind(limit)
    .fetch_all(unit.conn())
    .await?;
    rows.iter()
        .map(|row| {
            let row = Reader::new("orders", row);
            Ok((UserId(row.uuid("user_id")?), OrderId(row.uuid("order_id")?)))
        })
        .collect()
}

/// Fills of an order that treasury has not posted, in the order they were stored.
///
/// # Errors
/// [`StoreError`].
pub async fn fills_unposted(unit: &mut Unit, user: UserId, order_id: OrderId) -> Result<Vec<Fill>, StoreError> {
    unit.require(user).await?;
    let rows =
        sqlx::query("SELECT * FROM fills WHERE user_id = $1 AND order_id = $2 AND posted_at IS NULL ORDER BY position")
            .bind(user.0)
            .bind(order_id.0)
            .fetch_all(unit.conn())
            .await?;
    rows.iter().map(fill_of).collect()
}

/// Marks a fill as posted; `false` when it was already, so that nobody posts it twice.
///
/// # Errors
/// [`StoreError`].
pub async fn mark_fill_posted(unit: &mut Unit, user: UserId, fill: &Fill) -> Result<bool, StoreError> {
    unit.require(user).await?;
    let done = sqlx::query(
        "UPDATE fills SET posted_at = clock_timestamp()
         WHERE user_id = $1 AND venue = $2 AND symbol = $3 AND venue_trade_id = $4 AND posted_at IS NULL",
    )
    .bind(user.0)
    .bind(fill.instrument.venue.name())
    .bind(fill.instrument.symbol.as_str())
    .bind(&fill.venue_trade_id)
    .execute(unit.conn())
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Marks an order's end as posted; `false` when it was already, or has not ended.
///
/// # Errors
/// [`StoreError`].
pub async fn mark_outcome_posted(unit: &mut Unit, user: UserId, order_id: OrderId) -> Result<bool, StoreError> {
    unit.require(user).await?;
    let done = sqlx::query(
        "UPDATE orders SET outcome_posted = true
         WHERE user_id = $1 AND order_id = $2 AND NOT outcome_posted AND state IN ('filled', 'rejected', 'cancelled')",
    )
    .bind(user.0)
    .bind(order_id.0)
    .execute(unit.conn())
    .await?;
    Ok(done.rows_affected() == 1)
}

/// How many fills a user has, and the fees of all of them: counted where they lie, however many there are.
///
/// # Errors
/// [`StoreError`].
pub async fn fill_totals(unit: &mut Unit, user: UserId) -> Result<(i64, Usd), StoreError> {
    unit.require(user).await?;
    let row = sqlx::query("SELECT count(*) AS fills, coalesce(sum(fee), 0) AS fees FROM fills WHERE user_id = $1")
        .bind(user.0)
        .fetch_one(unit.conn())
        .await?;
    let row = Reader::new("fills", &row);
    Ok((row.get("fills")?, row.usd("fees")?))
}

/// The newest fills of a user, newest first.
///
/// # Errors
/// [`StoreError`].
pub async fn fills(unit: &mut Unit, user: UserId, limit: i64) -> Result<Vec<Fill>, StoreError> {
    unit.require(user).await?;
    let rows = sqlx::query("SELECT * FROM fills WHERE user_id = $1 ORDER BY position DESC LIMIT $2")
        .bind(user.0)
        .bind(limit)
        .fetch_all(unit.conn())
        .await?;
    rows.iter().map(fill_of).collect()
}
