//! Judgements in memory.

use std::sync::Arc;

use async_trait::async_trait;
use domain::ids::{OrderId, UserId};
use store::StoreError;
use store::decisions::{DecisionRow, Outcome};
use store::port::Decisions;

use crate::record::Defect;
use crate::record::refusal::{check, document, limit, texts};
use crate::record::unit::{Lock, MemoryUnit, view};

#[async_trait]
impl Decisions for MemoryUnit {
    async fn insert_decision(&mut self, row: &DecisionRow) -> Result<bool, StoreError> {
        self.run(|s| {
            s.insert("policy_decisions")?;
            texts(row.code.as_deref().into_iter().chain([row.policy_version.as_str()]))?;
            std::iter::once(&row.numbers).chain(&row.envelope).try_for_each(document)?;
            let refused = row.outcome == Outcome::Refused;
            check(refused == row.code.is_some(), "a refusal has a code, and nothing else has")?;
            check(refused || (row.envelope.is_some() && row.digest.is_some()), "what is not refused has an envelope")?;
            let position = s.shared.next_position();
            let by_order = (row.user_id, row.order_id);
            let by_leg = (row.user_id, row.signal_id, row.leg);
            if view!(s, decision_of_order).has(&by_order) || view!(s, decision_of_leg).has(&by_leg) {
                return Ok(s.broken(Defect::LegJudgedTwice));
            }
            s.lock(Lock::Decision(row.user_id, row.order_id))?;
            s.lock(Lock::Leg(by_leg.0, by_leg.1, by_leg.2))?;
            if s.broken(Defect::DecisionLost) {
                return Ok(true);
            }
            s.changes.decisions.insert((row.user_id, position), Some(Arc::new(row.clone())));
            s.changes.decision_of_order.insert(by_order, Some(position));
            s.changes.decision_of_leg.insert(by_leg, Some(position));
            Ok(true)
        })
    }

    async fn decision_of_order(&mut self, order_id: OrderId) -> Result<Option<DecisionRow>, StoreError> {
        self.run(|s| {
            let sight = s.select("policy_decisions")?;
            let mine =
                s.tenant.and_then(|user| view!(s, decision_of_order).get(&(user, order_id)).map(|at| (user, *at)));
            if let Some(key) = mine {
                return Ok(view!(s, decisions).get(&key).map(|row| row.as_ref().clone()));
            }
            let mut all = view!(s, decisions).all().map(|(_, row)| row);
            let row = all.find(|row| row.order_id == order_id && sight.sees(row.user_id));
            Ok(row.map(|row| row.as_ref().clone()))
        })
    }

    async fn recent_decisions(&mut self, user: UserId, rows: i64) -> Result<Vec<DecisionRow>, StoreError> {
        self.run(|s| {
            s.select("policy_decisions")?;
            let rows = limit(rows)?;
            let mine: Vec<_> = view!(s, decisions).range((user, i64::MIN)..=(user, i64::MAX)).collect();
            Ok(mine.into_iter().rev().take(rows).map(|(_, row)| row.as_ref().clone()).collect())
        })
    }
}
