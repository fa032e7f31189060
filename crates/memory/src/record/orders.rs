//! Orders and fills in memory.

use std::sync::Arc;

use async_trait::async_trait;
use domain::ids::{OrderId, UserId};
use domain::market::Venue;
use domain::money::{Quantity, Usd};
use domain::order::{ChildOrder, Fill, OrderState};
use domain::time::UnixMs;
use rust_decimal::Decimal;
use store::StoreError;
use store::orders::OrderRow;
use store::port::Orders;

use crate::record::Defect;
use crate::record::refusal::{check, limit, missing, restricted, texts, unique};
use crate::record::tables::FillRow;
use crate::record::unit::{Lock, MemoryUnit, Statement, view};

const fn has_ended(state: OrderState) -> bool {
    matches!(state, OrderState::Filled | OrderState::Rejected | OrderState::Cancelled)
}

/// An order of `user`, with its position.
fn find(s: &Statement<'_>, user: UserId, order_id: OrderId) -> Option<(i64, Arc<OrderRow>)> {
    let position = *view!(s, order_at).get(&order_id)?;
    let row = view!(s, orders).get(&position)?;
    (row.user_id == user).then(|| (position, Arc::clone(row)))
}

fn put(s: &mut Statement<'_>, position: i64, row: OrderRow) {
    s.changes.orders.insert(position, Some(Arc::new(row)));
}

#[async_trait]
impl Orders for MemoryUnit {
    async fn insert_order(&mut self, row: &OrderRow) -> Result<bool, StoreError> {
        self.run(|s| insert_order(s, row))
    }

    async fn mark_sent(&mut self, user: UserId, order_id: OrderId, now: UnixMs) -> Result<bool, StoreError> {
        self.run(|s| {
            let reach = s.update("orders", &["state", "sent_at", "updated_at"])?;
            let Some((position, row)) = find(s, user, order_id) else { return Ok(false) };
            if !reach.sees(user) || row.state != OrderState::Pending {
                return Ok(false);
            }
            s.lock(Lock::Order(order_id))?;
            let sent_at = Some(now);
            put(s, position, OrderRow { state: OrderState::Open, sent_at, updated_at: now, ..row.as_ref().clone() });
            Ok(true)
        })
    }

    async fn set_order_state(
        &mut self,
        user: UserId,
        order_id: OrderId,
        state: OrderState,
        filled: Quantity,
        venue_order_id: Option<&str>,
        code: Option<&str>,
    ) -> Result<bool, StoreError> {
        self.run(|s| {
            let reach = s.update("orders", &["state", "filled", "venue_order_id", "code", "updated_at"])?;
            texts(venue_order_id.into_iter().chain(code))?;
            let Some((position, row)) = find(s, user, order_id) else { return Ok(false) };
            if !reach.sees(user) || (has_ended(row.state) && !s.broken(Defect::EndChanges)) {
                return Ok(false);
            }
            s.lock(Lock::Order(order_id))?;
            let mut row = row.as_ref().clone();
            row.state = state;
            row.filled = if s.broken(Defect::FilledGoesDown) { filled } else { row.filled.max(filled) };
            row.venue_order_id = venue_order_id.map(str::to_owned).or(row.venue_order_id);
            row.code = code.map(str::to_owned).or(row.code);
            row.updated_at = s.now;
            put(s, position, row);
            Ok(true)
        })
    }

    async fn lock_order(&mut self, user: UserId, order_id: OrderId) -> Result<Option<OrderRow>, StoreError> {
        self.run(|s| {
            s.access.allow_lock("orders")?;
            let reach = s.access.reach(s.tenant);
            let Some((_, row)) = find(s, user, order_id).filter(|_| reach.sees(user)) else { return Ok(None) };
            s.lock(Lock::Order(order_id))?;
            Ok(Some(row.as_ref().clone()))
        })
    }

    async fn set_children(
        &mut self,
        user: UserId,
        order_id: OrderId,
        children: &[ChildOrder],
        filled: Quantity,
    ) -> Result<bool, StoreError> {
        self.run(|s| {
            let reach = s.update("orders", &["children", "filled", "updated_at", "sent_at", "state"])?;
            let Some((position, row)) = find(s, user, order_id) else { return Ok(false) };
            if !reach.sees(user) || has_ended(row.state) {
                return Ok(false);
            }
            s.lock(Lock::Order(order_id))?;
            let mut row = row.as_ref().clone();
            if !s.broken(Defect::ChildrenGoAnywhere) {
                children_stay_inside(&row, children)?;
            }
            row.children = children.to_vec();
            row.filled = row.filled.max(filled);
            row.updated_at = s.now;
            row.sent_at = row.sent_at.or(children.first().map(|child| child.sent_at));
            if row.state == OrderState::Pending {
                row.state = OrderState::Open;
            }
            put(s, position, row);
            Ok(true)
        })
    }

    async fn open_orders(&mut self, venues: &[Venue]) -> Result<Vec<OrderRow>, StoreError> {
        self.run(|s| {
            let sight = s.select("orders")?;
            let open = view!(s, orders).all().map(|(_, row)| row).filter(|row| {
                let venue = row.envelope.venue;
                venues.contains(&venue) && !has_ended(row.state) && sight.sees_at(row.user_id, venue)
            });
            Ok(open.map(|row| row.as_ref().clone()).collect())
        })
    }

    async fn order(&mut self, order_id: OrderId) -> Result<Option<OrderRow>, StoreError> {
        self.run(|s| {
            let sight = s.select("orders")?;
            let row = view!(s, order_at).get(&order_id).and_then(|position| view!(s, orders).get(position));
            Ok(row.filter(|row| sight.sees_at(row.user_id, row.envelope.venue)).map(|row| row.as_ref().clone()))
        })
    }

    async fn recent_orders(&mut self, user: UserId, rows: i64) -> Result<Vec<OrderRow>, StoreError> {
        self.run(|s| {
            s.select("orders")?;
            let rows = limit(rows)?;
            let mine: Vec<_> = view!(s, orders).all().filter(|(_, row)| row.user_id == user).collect();
            Ok(mine.into_iter().rev().take(rows).map(|(_, row)| row.as_ref().clone()).collect())
        })
    }

    async fn insert_fill(&mut self, fill: &Fill, user: UserId) -> Result<bool, StoreError> {
        self.run(|s| {
            s.insert("fills")?;
            texts([fill.venue_trade_id.as_str()])?;
            check(!fill.venue_trade_id.is_empty(), "a fill has the venue's trade id")?;
            check(fill.quantity.value() > Decimal::ZERO, "a fill has a quantity")?;
            let key = (fill.instrument.clone(), fill.venue_trade_id.clone());
            if view!(s, fill_of_trade).has(&key) && !s.broken(Defect::FillStoredTwice) {
                return Ok(false);
            }
            s.lock(Lock::Fill(key.0.clone(), key.1.clone()))?;
            if find(s, user, fill.order_id).is_none() {
                return Err(missing("no such order of this user"));
            }
            let position = s.shared.next_position();
            let row = FillRow { user_id: user, fill: fill.clone(), posted_at: None };
            s.changes.fills.insert(position, Some(Arc::new(row)));
            s.changes.fill_of_trade.insert(key, Some(position));
            Ok(true)
        })
    }

    async fn unposted(&mut self, rows: i64, besides: &[OrderId]) -> Result<Vec<(UserId, OrderId)>, StoreError> {
        self.run(|s| {
            let (orders, fills) = (s.select("orders")?, s.select("fills")?);
            let rows = limit(rows)?;
            let waiting: std::collections::BTreeSet<(UserId, OrderId)> = view!(s, fills)
                .all()
                .filter(|(_, row)| row.posted_at.is_none() && fills.sees(row.user_id))
                .map(|(_, row)| (row.user_id, row.fill.order_id))
                .collect();
            let due = view!(s, orders).all().map(|(_, row)| row).filter(|row| {
                orders.sees_at(row.user_id, row.envelope.venue)
                    && !besides.contains(&row.order_id)
                    && ((!row.outcome_posted && has_ended(row.state)) || waiting.contains(&(row.user_id, row.order_id)))
            });
            Ok(due.take(rows).map(|row| (row.user_id, row.order_id)).collect())
        })
    }

    async fn fills_unposted(&mut self, user: UserId, order_id: OrderId) -> Result<Vec<Fill>, StoreError> {
        self.run(|s| {
            s.select("fills")?;
            let mine = view!(s, fills)
                .all()
                .map(|(_, row)| row)
                .filter(|row| row.user_id == user && row.fill.order_id == order_id && row.posted_at.is_none());
            Ok(mine.map(|row| row.fill.clone()).collect())
        })
    }

    async fn mark_fill_posted(&mut self, user: UserId, fill: &Fill) -> Result<bool, StoreError> {
        self.run(|s| {
            let reach = s.update("fills", &["posted_at"])?;
            texts([fill.venue_trade_id.as_str()])?;
            let key = (fill.instrument.clone(), fill.venue_trade_id.clone());
            let Some(position) = view!(s, fill_of_trade).get(&key).copied() else { return Ok(false) };
            let Some(row) = view!(s, fills).get(&position).cloned() else { return Ok(false) };
            if row.user_id != user || !reach.sees(user) || row.posted_at.is_some() {
                return Ok(false);
            }
            s.lock(Lock::Fill(key.0, key.1))?;
            if !s.broken(Defect::FillCountedTwice) {
                let row = FillRow { posted_at: Some(s.now), ..row.as_ref().clone() };
                s.changes.fills.insert(position, Some(Arc::new(row)));
            }
            Ok(true)
        })
    }

    async fn mark_outcome_posted(&mut self, user: UserId, order_id: OrderId) -> Result<bool, StoreError> {
        self.run(|s| {
            let reach = s.update("orders", &["outcome_posted"])?;
            let Some((position, row)) = find(s, user, order_id) else { return Ok(false) };
            if !reach.sees(user) || row.outcome_posted || !has_ended(row.state) {
                return Ok(false);
            }
            s.lock(Lock::Order(order_id))?;
            if !s.broken(Defect::OutcomePostedTwice) {
                put(s, position, OrderRow { outcome_posted: true, ..row.as_ref().clone() });
            }
            Ok(true)
        })
    }

    async fn fill_totals(&mut self, user: UserId) -> Result<(i64, Usd), StoreError> {
        self.run(|s| {
            s.select("fills")?;
            let (mut count, mut fees) = (0, Decimal::ZERO);
            for (_, row) in view!(s, fills).all().filter(|(_, row)| row.user_id == user) {
                count += 1;
                fees += row.fill.fee.value();
            }
            let fees = Usd::new(fees).map_err(|_| StoreError::Corrupt { table: "fills", column: "fees" })?;
            Ok((count, fees))
        })
    }

    async fn recent_fills(&mut self, user: UserId, rows: i64) -> Result<Vec<Fill>, StoreError> {
        self.run(|s| {
            s.select("fills")?;
            let rows = limit(rows)?;
            let mine: Vec<_> = view!(s, fills).all().filter(|(_, row)| row.user_id == user).collect();
            Ok(mine.into_iter().rev().take(rows).map(|(_, row)| row.fill.clone()).collect())
        })
    }
}

/// What the trigger of that name holds.
fn children_stay_inside(row: &OrderRow, children: &[ChildOrder]) -> Result<(), StoreError> {
    let kept = |(n, was): (usize, &ChildOrder)| {
        children.get(n).is_some_and(|now| {
            (&now.client_order_id, now.quantity, now.sent_at, now.kill_epoch)
                == (&was.client_order_id, was.quantity, was.sent_at, was.kill_epoch)
                && (!has_ended(was.state) || now.state == was.state)
                && now.filled >= was.filled
        })
    };
    if !row.children.iter().enumerate().all(kept) {
        return Err(restricted("a child of an order can not go back"));
    }
    let sum: Decimal = children.iter().map(|child| child.quantity.value()).sum();
    check(sum <= row.envelope.quantity.value(), "the children of an order are not more than the order")
}

fn insert_order(s: &mut Statement<'_>, row: &OrderRow) -> Result<bool, StoreError> {
    s.insert("orders")?;
    let optional = row.venue_order_id.as_deref().into_iter().chain(row.code.as_deref());
    texts([row.client_order_id.as_str()].into_iter().chain(optional))?;
    children_stay_inside(row, &row.children)?;
    let position = s.shared.next_position();
    let permit_key = (row.user_id, row.permit_id);
    let client_key = (row.envelope.venue, row.client_order_id.clone());
    if let Some(stored) = view!(s, order_at).get(&row.order_id).and_then(|at| view!(s, orders).get(at)) {
        return if stored.user_id == row.user_id { Ok(false) } else { Err(unique("another user has that order id")) };
    }
    s.lock(Lock::Order(row.order_id))?;
    if view!(s, order_of_permit).has(&permit_key) {
        return Err(unique("the permit has an order"));
    }
    s.lock(Lock::OrderOfPermit(row.user_id, row.permit_id))?;
    if view!(s, order_of_client).has(&client_key) {
        return Err(unique("the venue has that client order id"));
    }
    s.lock(Lock::OrderOfClient(client_key.0, client_key.1.clone()))?;
    if view!(s, permits).get(&row.permit_id).is_none_or(|permit| permit.user_id != row.user_id) {
        return Err(missing("no such permit of this user"));
    }
    put(s, position, row.clone());
    s.changes.order_at.insert(row.order_id, Some(position));
    s.changes.order_of_permit.insert(permit_key, Some(row.order_id));
    s.changes.order_of_client.insert(client_key, Some(row.order_id));
    Ok(true)
}
