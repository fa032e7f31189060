//! Deliberate faults, at least one for each check: a limit that is too loose, a venue that lies, a broker that loses, rows
//! that somebody changed. A check that none of them turns red watches nothing.

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

use crate::checks;

macro_rules! faults {
    ($($name:ident => $invariant:ident, $text:literal;)+) => {
        /// One thing that is wrong with a world on purpose.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Fault {
            $(#[doc = $text] $name,)+
        }

        impl Fault {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// The invariant that must notice it.
            #[must_use]
            pub const fn expected(self) -> &'static str {
                match self { $(Self::$name => checks::$invariant,)+ }
            }

            /// What is wrong.
            #[must_use]
            pub const fn text(self) -> &'static str {
                match self { $(Self::$name => $text,)+ }
            }
        }
    };
}

faults! {
    BookedTwice => TOTAL, "an account shows a million that was never paid in";
    MoneyFromNowhere => CASH_COVERS, "an account shows a million that was never paid in (cash)";
    LooseCollar => COLLAR, "treasury was given a collar of 90 %";
    HaltForgotten => KILL, "row, file and message of a halt are lost";
    LooseBreaker => BREAKER, "treasury was given a breaker that never latches";
    LooseApproval => HUMAN, "treasury asks a human above a million only";
    ApprovalReopened => APPROVAL_ONCE, "a used approval is open again";
    ForeignPermitKey => PERMIT_VALID, "treasury signs with a key of its own making, and the desk was told to believe it";
    PermitReopened => PERMIT_ONCE, "a spent permit may be spent again";
    DecisionFlipped => REFUSED, "a judgement becomes a refusal after the fact";
    DeskSendsTwice => SENT_ONCE, "the desk sends every order twice";
    DeskSendsMore => SENT_INSIDE, "the desk sends twice the quantity";
    VenueInventsFills => FILLS, "the venue reports fills that never were";
    CashDrifts => CASH, "a hundred-millionth of a dollar appears";
    PositionGrows => SPOT, "a position doubles";
    ReservationLost => RESERVED, "a reservation goes away";
    OrderReopened => ENDS, "an order that ended is open again";
    AuditEdited => AUDIT_CHAIN, "a row of the audit is edited";
    AuditRowMissing => AUDIT_ROWS, "an act is written without its audit row";
    WrongOwner => TENANCY, "a fill goes to another user";
    KillFallsByItself => KILL_LOWERED, "a row lowers the kill level and nobody signed";
    RequestSpoiled => NO_FATAL, "a stored question can't be read any more";
    BrokerLoses => TERMINAL, "the broker loses messages that it said it has";
    BrokerForgets => TERMINAL, "the broker never delivers again what nobody acknowledged";
    VenueHidesFills => AGREES, "the venue hides what it traded";
    DeskStops => NOTHING_LEFT, "the desk stops looking at its orders";
}

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
            Self::ReservationLost => return tables.reservations.pop_first().is_some(),
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
