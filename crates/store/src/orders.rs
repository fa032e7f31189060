//! The desk's record: orders written before they are sent, and what came of them.

use domain::ids::{OrderId, PermitId, UserId};
use domain::market::Venue;
use domain::money::{Quantity, Usd};
use domain::order::{ChildOrder, Fill, OrderEnvelope, OrderState};
use domain::time::UnixMs;

use crate::fits::{exact, fits};
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
    /// What was sent of a sliced order: child `n` is the one at `n`. Empty for an order in one piece. They live in the row
    /// of their order, so that one lock and one write hold for all of them.
    pub children: Vec<ChildOrder>,
}

impl OrderRow {
    /// Whether a venue knows it, or a child of it, by this client order id.
    #[must_use]
    pub fn is_known_as(&self, client_order_id: &str) -> bool {
        self.client_order_id == client_order_id
            || self.children.iter().any(|child| child.client_order_id == client_order_id)
    }
}

/// Stores an order before it is sent; `false` when it is stored already.
///
/// # Errors
/// [`StoreError`]; a second order on one permit is a unique violation.
pub async fn insert(unit: &mut Unit, row: &OrderRow) -> Result<bool, StoreError> {
    exact(row.filled.value())?;
    let times = [(Some(row.created_at), "created_at"), (Some(row.updated_at), "updated_at"), (row.sent_at, "sent_at")];
    times.into_iter().try_for_each(|(at, column)| at.map_or(Ok(()), |at| fits(at, column)))?;
    children_fit(&row.children)?;
    unit.records_of(row.user_id).await?.insert_order(row).await
}

fn children_fit(children: &[ChildOrder]) -> Result<(), StoreError> {
    children.iter().try_for_each(|child| {
        exact(child.quantity.value())?;
        exact(child.filled.value())?;
        fits(child.sent_at, "sent_at")
    })
}

/// Notes that an order of the unit's tenant is being handed to the venue: pending to open. `false` when it was not
/// pending.
///
/// # Errors
/// [`StoreError`].
pub async fn mark_sent(unit: &mut Unit, order_id: OrderId, now: UnixMs) -> Result<bool, StoreError> {
    let user = unit.required()?;
    fits(now, "sent_at")?;
    unit.records().mark_sent(user, order_id, now).await
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
    exact(filled.value())?;
    unit.records().set_order_state(user, order_id, state, filled, venue_order_id, code).await
}

/// An order of the unit's tenant, held until the unit ends: who else writes it waits.
///
/// # Errors
/// [`StoreError`].
pub async fn lock(unit: &mut Unit, order_id: OrderId) -> Result<Option<OrderRow>, StoreError> {
    let user = unit.required()?;
    unit.records().lock_order(user, order_id).await
}

/// Writes the children of an order of the unit's tenant, what they filled together, and that it was sent. `false` when the
/// order had ended before. The caller holds it by [`lock`]. None is ever taken away, and what ended stays as it is.
///
/// # Errors
/// [`StoreError`]; children that are more than their order in sum, fewer than before, or that go back, are refused.
pub async fn set_children(
    unit: &mut Unit,
    order_id: OrderId,
    children: &[ChildOrder],
    filled: Quantity,
) -> Result<bool, StoreError> {
    let user = unit.required()?;
    exact(filled.value())?;
    children_fit(children)?;
    unit.records().set_children(user, order_id, children, filled).await
}

/// Orders of all users at these venues that have not ended, oldest first.
///
/// # Errors
/// [`StoreError`].
pub async fn open_orders(unit: &mut Unit, venues: &[Venue]) -> Result<Vec<OrderRow>, StoreError> {
    unit.records().open_orders(venues).await
}

/// One order, of any user this role may see.
///
/// # Errors
/// [`StoreError`].
pub async fn get(unit: &mut Unit, order_id: OrderId) -> Result<Option<OrderRow>, StoreError> {
    unit.records().order(order_id).await
}

/// The newest orders of a user, newest first.
///
/// # Errors
/// [`StoreError`].
pub async fn recent(unit: &mut Unit, user: UserId, limit: i64) -> Result<Vec<OrderRow>, StoreError> {
    unit.records_of(user).await?.recent_orders(user, limit).await
}

/// Stores a fill; `false` when the venue's trade is stored already.
///
/// # Errors
/// [`StoreError`]; a fill of an order that is not stored is a foreign key violation.
pub async fn insert_fill(unit: &mut Unit, fill: &Fill, user: UserId) -> Result<bool, StoreError> {
    [fill.quantity.value(), fill.price.value(), fill.fee.value()].into_iter().try_for_each(exact)?;
    fits(fill.at, "at")?;
    unit.records_of(user).await?.insert_fill(fill, user).await
}

/// Orders with a fill or an end that treasury has not posted, of all users, oldest first.
///
/// # Errors
/// [`StoreError`].
pub async fn unposted(unit: &mut Unit, limit: i64, besides: &[OrderId]) -> Result<Vec<(UserId, OrderId)>, StoreError> {
    unit.records().unposted(limit, besides).await
}

/// Fills of an order that treasury has not posted, in the order they were stored.
///
/// # Errors
/// [`StoreError`].
pub async fn fills_unposted(unit: &mut Unit, user: UserId, order_id: OrderId) -> Result<Vec<Fill>, StoreError> {
    unit.records_of(user).await?.fills_unposted(user, order_id).await
}

/// Marks a fill as posted; `false` when it was already, so that nobody posts it twice.
///
/// # Errors
/// [`StoreError`].
pub async fn mark_fill_posted(unit: &mut Unit, user: UserId, fill: &Fill) -> Result<bool, StoreError> {
    unit.records_of(user).await?.mark_fill_posted(user, fill).await
}

/// Marks an order's end as posted; `false` when it was already, or has not ended.
///
/// # Errors
/// [`StoreError`].
pub async fn mark_outcome_posted(unit: &mut Unit, user: UserId, order_id: OrderId) -> Result<bool, StoreError> {
    unit.records_of(user).await?.mark_outcome_posted(user, order_id).await
}

/// How many fills a user has, and the fees of all of them: counted where they lie, however many there are.
///
/// # Errors
/// [`StoreError`].
pub async fn fill_totals(unit: &mut Unit, user: UserId) -> Result<(i64, Usd), StoreError> {
    unit.records_of(user).await?.fill_totals(user).await
}

/// The newest fills of a user, newest first.
///
/// # Errors
/// [`StoreError`].
pub async fn fills(unit: &mut Unit, user: UserId, limit: i64) -> Result<Vec<Fill>, StoreError> {
    unit.records_of(user).await?.recent_fills(user, limit).await
}
