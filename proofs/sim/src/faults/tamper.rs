//! Rows that are changed behind everybody's back.

use std::sync::Arc;

use domain::canonical::Sha256Digest;
use domain::money::{Quantity, Usd};
use domain::order::OrderState;
use memory::record::Tables;
use rust_decimal::Decimal;
use store::approvals::ApprovalStatus;
use store::audit::AuditHead;
use store::decisions::Outcome;
use store::kill::Kill;
use store::permits::PermitState;

use super::Fault;

impl Fault {
    /// Changes rows behind everybody's back, after a commit. `true` when it found something to change. Faults that happen
    /// once are asked until then.
    pub fn tamper(self, tables: &mut Tables, now: domain::time::UnixMs) -> bool {
        match self {
            Self::MoneyFromNowhere | Self::BookedTwice => tables.accounts.values_mut().for_each(|account| {
                account.cash = account.cash.plus(Usd::dollars(1_000_000)).unwrap_or(account.cash);
            }),
            Self::CashDrifts => {
                let Some(account) = tables.accounts.values_mut().next() else { return false };
                account.cash = Usd::new(account.cash.value() + Decimal::new(1, 8)).unwrap_or(account.cash);
            }
            Self::ApprovalReopened => {
                let consumed = |row: &&mut Arc<_>| is(row, ApprovalStatus::Consumed);
                let Some(row) = tables.requests.values_mut().find(consumed) else { return false };
                Arc::make_mut(row).status = ApprovalStatus::Allowed;
            }
            Self::PermitReopened => {
                let Some(row) = tables.permits.values_mut().find(|row| row.state == PermitState::Spent) else {
                    return false;
                };
                Arc::make_mut(row).state = PermitState::Signed;
            }
            Self::DecisionFlipped => {
                let mut waiting = tables.decisions.values_mut().filter(|row| row.outcome == Outcome::NeedsHuman);
                let Some(row) = waiting.next() else { return false };
                Arc::make_mut(row).outcome = Outcome::Refused;
            }
            Self::PositionGrows => {
                let Some(position) = tables.positions.values_mut().next() else { return false };
                position.quantity = position.quantity.plus(position.quantity).unwrap_or(Quantity::ZERO);
            }
            Self::OrderReopened => {
                let Some(row) = tables.orders.values_mut().find(|row| row.state.is_terminal()) else { return false };
                Arc::make_mut(row).state = OrderState::Open;
            }
            Self::AuditEdited => {
                let Some(row) = tables.audit.values_mut().next() else { return false };
                Arc::make_mut(row).agent.push('x');
            }
            Self::AuditRowMissing => return unwrite(tables),
            Self::WrongOwner => {
                let users: Vec<_> = tables.users.keys().copied().collect();
                let Some(row) = tables.fills.values_mut().next() else { return false };
                let Some(other) = users.into_iter().find(|user| *user != row.user_id) else { return false };
                Arc::make_mut(row).user_id = other;
            }
            Self::BaselineFalls => {
                let Some(equity) = tables.equity_daily.values_mut().next_back() else { return false };
                *equity = Usd::new(equity.value() * Decimal::new(9, 1)).unwrap_or(*equity);
            }
            Self::KillFallsByItself => {
                let Some((epoch, kill)) = tables.kill_levels.last_key_value() else { return false };
                if kill.level == 0 {
                    return false;
                }
                let (epoch, by, reason) = (epoch + 1, "nobody".to_owned(), "no reason".to_owned());
                tables.kill_levels.insert(epoch, Arc::new(Kill { level: 0, epoch, by, reason, at: now }));
            }
            Self::HaltForgotten => {
                let raised = tables.kill_levels.last_key_value().is_some_and(|(_, kill)| kill.level > 0);
                return raised && tables.kill_levels.pop_last().is_some();
            }
            Self::RequestSpoiled => {
                let Some(row) = tables.requests.values_mut().find(|row| is(row, ApprovalStatus::Pending)) else {
                    return false;
                };
                Arc::make_mut(row).intent = serde_json::Value::Null;
            }
            _ => return false,
        }
        true
    }

    /// Whether [`Fault::tamper`] is asked again after it found something.
    #[must_use]
    pub const fn keeps_on(self) -> bool {
        matches!(self, Self::HaltForgotten | Self::DecisionFlipped | Self::RequestSpoiled)
    }
}

fn is(row: &Arc<store::approvals::ApprovalRow>, status: ApprovalStatus) -> bool {
    row.status == status
}

/// Takes the newest row of the first user's chain away, as if it had never been written.
fn unwrite(tables: &mut Tables) -> bool {
    let newest =
        tables.audit.iter().rev().find(|(_, row)| row.kind == "decision").map(|(key, row)| (*key, row.prev_hash));
    let Some(((chain, seq), hash)) = newest else { return false };
    if tables.audit_heads.get(&chain).is_none_or(|head| head.seq != seq) {
        return false;
    }
    tables.audit.remove(&(chain, seq));
    let hash = if seq == 1 { Sha256Digest::ZERO } else { hash };
    tables.audit_heads.insert(chain, AuditHead { seq: seq - 1, hash });
    true
}
