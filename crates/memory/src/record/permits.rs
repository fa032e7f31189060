//! Permits in memory.

use std::sync::Arc;

use async_trait::async_trait;
use domain::ids::{PermitId, UserId};
use domain::order::Permit;
use domain::time::UnixMs;
use store::StoreError;
use store::permits::{DuePermit, PermitRow, PermitState};
use store::port::Permits;

use crate::record::Defect;
use crate::record::refusal::{check, is_hex, missing, texts, unique};
use crate::record::unit::{Lock, MemoryUnit, Statement, view};

/// Signed to `to`; `false` when it was anything else.
fn step(
    s: &mut Statement<'_>,
    user: UserId,
    permit_id: PermitId,
    to: PermitState,
    good: impl FnOnce(&PermitRow) -> bool,
) -> Result<bool, StoreError> {
    let reach = s.update("permits", &["state", "changed_at"])?;
    let Some(row) = view!(s, permits).get(&permit_id).cloned() else { return Ok(false) };
    if row.user_id != user || !reach.sees(user) || !good(&row) {
        return Ok(false);
    }
    s.lock(Lock::Permit(permit_id))?;
    s.changes.permits.insert(permit_id, Some(Arc::new(PermitRow { state: to, ..row.as_ref().clone() })));
    Ok(true)
}

#[async_trait]
impl Permits for MemoryUnit {
    async fn insert_permit(&mut self, permit: &Permit, user: UserId) -> Result<(), StoreError> {
        self.run(|s| {
            s.insert("permits")?;
            texts([permit.signature.as_str()])?;
            check(is_hex(&permit.signature, 128), "a signature is 128 hex digits")?;
            let (permit_id, order_key) = (permit.body.permit_id, (user, permit.body.envelope.order_id));
            if view!(s, permits).has(&permit_id) {
                return Err(unique("that permit is stored"));
            }
            s.lock(Lock::Permit(permit_id))?;
            if view!(s, permit_of_order).has(&order_key) {
                return Err(unique("the order has a permit"));
            }
            s.lock(Lock::PermitOfOrder(order_key.0, order_key.1))?;
            if !view!(s, users).has(&user) {
                return Err(missing("no such user"));
            }
            let row = PermitRow { permit: permit.clone(), user_id: user, state: PermitState::Signed };
            s.changes.permits.insert(permit_id, Some(Arc::new(row)));
            s.changes.permit_of_order.insert(order_key, Some(permit_id));
            Ok(())
        })
    }

    async fn spend_permit(&mut self, user: UserId, permit_id: PermitId, now: UnixMs) -> Result<bool, StoreError> {
        self.run(|s| {
            let twice = s.broken(Defect::PermitSpentTwice);
            let late = s.broken(Defect::PermitSpentLate);
            step(s, user, permit_id, PermitState::Spent, |row| {
                let state = row.state == PermitState::Signed || (twice && row.state == PermitState::Spent);
                state && (late || row.permit.body.expires_at > now)
            })
        })
    }

    async fn void_permit(&mut self, user: UserId, permit_id: PermitId) -> Result<bool, StoreError> {
        self.run(|s| {
            let spent = s.broken(Defect::SpentPermitVoided);
            step(s, user, permit_id, PermitState::Void, |row| {
                row.state == PermitState::Signed || (spent && row.state == PermitState::Spent)
            })
        })
    }

    async fn unspent_due(&mut self, now: UnixMs) -> Result<Vec<DuePermit>, StoreError> {
        self.run(|s| {
            let sight = s.select("permits")?;
            let mut due: Vec<_> = view!(s, permits)
                .all()
                .map(|(_, row)| row)
                .filter(|row| {
                    sight.sees(row.user_id) && row.state == PermitState::Signed && row.permit.body.expires_at <= now
                })
                .map(|row| {
                    let body = &row.permit.body;
                    let (permit_id, order_id) = (body.permit_id, body.envelope.order_id);
                    (body.expires_at, DuePermit { user_id: row.user_id, permit_id, order_id })
                })
                .collect();
            due.sort_by_key(|(expires_at, due)| (*expires_at, due.permit_id));
            Ok(due.into_iter().map(|(_, due)| due).collect())
        })
    }

    async fn permit(&mut self, permit_id: PermitId) -> Result<Option<PermitRow>, StoreError> {
        self.run(|s| {
            let sight = s.select("permits")?;
            let row = view!(s, permits).get(&permit_id).filter(|row| sight.sees(row.user_id));
            Ok(row.map(|row| row.as_ref().clone()))
        })
    }
}
