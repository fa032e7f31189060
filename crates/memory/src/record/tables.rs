//! The tables, what one unit changed in them, and how it sees both as one.

use std::collections::{BTreeMap, btree_map};
use std::iter::Peekable;
use std::ops::RangeBounds;
use std::sync::Arc;

use domain::canonical::Sha256Digest;
use domain::ids::{ApprovalId, BootId, MessageId, OrderId, PermitId, UserId};
use domain::market::{Instrument, InstrumentId, Venue};
use domain::money::Usd;
use domain::order::Fill;
use domain::time::UnixMs;
use rails::book::{Breaker, PermitStamp, Position, Reservation, Unapproved};
use store::OutboxRow;
use store::approvals::{ApprovalRow, ApprovalStatus, Approver, EntryRow};
use store::audit::{AuditHead, AuditRow, Chain};
use store::dead_letters::LetterRow;
use store::decisions::DecisionRow;
use store::kill::Kill;
use store::llm_usage::UsageRow;
use store::orders::OrderRow;
use store::permits::PermitRow;
use store::supervision::{Declared, Restart};
use store::telegram::{Account as TelegramAccount, Link, Prompt, Update};
use store::telegram_notices::Queued;
use store::totp::Spent;
use store::users::User;
use uuid::Uuid;

/// A user's cash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Account {
    /// Settled cash.
    pub cash: Usd,
    /// What the account was opened with.
    pub opening: Usd,
}

/// A stored fill.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FillRow {
    /// Whose.
    pub user_id: UserId,
    /// What the venue said.
    pub fill: Fill,
    /// When treasury posted it.
    pub posted_at: Option<UnixMs>,
}

/// A stored word on a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Whose request.
    pub user_id: UserId,
    /// The word.
    pub row: EntryRow,
}

/// One step of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resolution {
    /// Whose request.
    pub user_id: UserId,
    /// Where it went.
    pub status: ApprovalStatus,
    /// When.
    pub at: UnixMs,
}

/// Declares the tables, with their keys in the order that queries want, and the changes of one unit to each.
macro_rules! tables {
    ($($(#[$doc:meta])* $name:ident: $key:ty => $row:ty,)*) => {
        /// Everything committed.
        #[derive(Debug, Clone, Default)]
        pub struct Tables {
            $($(#[$doc])* pub $name: BTreeMap<$key, $row>,)*
        }

        /// What one unit wrote; `None` is a row taken away.
        #[derive(Debug, Default)]
        pub(crate) struct Changes {
            $(pub(crate) $name: BTreeMap<$key, Option<$row>>,)*
        }

        impl Tables {
            /// Makes changes part of the tables.
            pub(crate) fn take(&mut self, changes: Changes) {
                $(for (key, row) in changes.$name {
                    match row {
                        Some(row) => drop(self.$name.insert(key, row)),
                        None => drop(self.$name.remove(&key)),
                    }
                })*
            }
        }
    };
}

tables! {
    /// Accounts' people.
    users: UserId => Arc<User>,
    /// Cash.
    accounts: UserId => Account,
    /// Loss streaks; this row is the lock of the book.
    rails_state: UserId => Breaker,
    /// Baselines by UTC day.
    equity_daily: (UserId, i64) => Usd,
    /// Open positions.
    positions: (UserId, InstrumentId) => Position,
    /// Orders that are not done.
    reservations: (UserId, OrderId) => Arc<Reservation>,
    /// Counted permits by position.
    permit_stamps: (UserId, i64) => PermitStamp,
    /// Where the stamp of an order is.
    stamp_of_order: (UserId, OrderId) => i64,
    /// Unapproved notional by position.
    unapproved_notionals: (UserId, i64) => Arc<Unapproved>,
    /// Where the notional of an order is.
    notional_of_order: (UserId, OrderId) => i64,
    /// Judgements by position.
    decisions: (UserId, i64) => Arc<DecisionRow>,
    /// Where the judgement of an order is.
    decision_of_order: (UserId, OrderId) => i64,
    /// Where the judgement of a leg is.
    decision_of_leg: (UserId, MessageId, u16) => i64,
    /// Requests for a human's word.
    requests: ApprovalId => Arc<ApprovalRow>,
    /// Words by position.
    entries: (ApprovalId, i64) => Arc<Entry>,
    /// Where a person's word is, and where their taking back.
    entry_of_person: (ApprovalId, String, bool) => i64,
    /// The request that took the place of another.
    successors: ApprovalId => ApprovalId,
    /// What Telegram sent.
    telegram_updates: i64 => Arc<Update>,
    /// Codes that bind an account.
    telegram_links: Sha256Digest => Arc<Link>,
    /// Accounts at Telegram.
    telegram_accounts: i64 => Arc<TelegramAccount>,
    /// Messages that showed a request.
    telegram_prompts: (ApprovalId, String, i64, i64) => Arc<Prompt>,
    /// What the poll must not forget.
    telegram_state: String => String,
    /// What people are to be told.
    telegram_notices: (MessageId, i64) => Arc<Queued>,
    /// What language models were asked, by request.
    llm_usage: String => Arc<UsageRow>,
    /// What became of dead letters.
    dead_letters: String => Arc<LetterRow>,
    /// Secrets of authenticators.
    totp: String => Vec<u8>,
    /// Steps whose code was used.
    totp_used: (String, i64) => Arc<Spent>,
    /// Steps by position.
    resolutions: (ApprovalId, i64) => Resolution,
    /// Who may decide.
    approvers: String => Arc<Approver>,
    /// Permits.
    permits: PermitId => Arc<PermitRow>,
    /// The permit of an order.
    permit_of_order: (UserId, OrderId) => PermitId,
    /// Orders by position.
    orders: i64 => Arc<OrderRow>,
    /// Where an order is.
    order_at: OrderId => i64,
    /// The order on a permit.
    order_of_permit: (UserId, PermitId) => OrderId,
    /// The order of a client order id.
    order_of_client: (Venue, String) => OrderId,
    /// Fills by position.
    fills: i64 => Arc<FillRow>,
    /// Where a venue's trade is.
    fill_of_trade: (InstrumentId, String) => i64,
    /// Heads of the audit chains.
    audit_heads: Chain => AuditHead,
    /// Rows of the audit chains.
    audit: (Chain, i64) => Arc<AuditRow>,
    /// Kill levels by epoch.
    kill_levels: i64 => Arc<Kill>,
    /// Rules of the venues, in the order of their names.
    instruments: (&'static str, InstrumentId) => Arc<Instrument>,
    /// Starts of processes.
    restarts: (String, BootId) => Arc<Restart>,
    /// What processes should be.
    declared: String => Arc<Declared>,
    /// Messages handled, and when they came.
    inbox: (String, Uuid) => UnixMs,
    /// Messages that wait, by position.
    outbox: (String, i64) => Arc<OutboxRow>,
    /// Where a waiting message is.
    outbox_at: (String, Uuid) => i64,
}

/// One table as a unit sees it: what is committed, under what it changed itself.
pub(crate) struct View<'a, K, V> {
    pub(crate) base: &'a BTreeMap<K, V>,
    pub(crate) over: &'a BTreeMap<K, Option<V>>,
}

impl<'a, K: Ord, V> View<'a, K, V> {
    pub(crate) fn get(&self, key: &K) -> Option<&'a V> {
        match self.over.get(key) {
            Some(row) => row.as_ref(),
            None => self.base.get(key),
        }
    }

    pub(crate) fn has(&self, key: &K) -> bool {
        self.get(key).is_some()
    }

    /// Rows by key, ascending.
    pub(crate) fn range<R: RangeBounds<K> + Clone>(&self, range: R) -> Merged<'a, K, V> {
        Merged { base: self.base.range(range.clone()).peekable(), over: self.over.range(range).peekable() }
    }

    /// All rows by key, ascending.
    pub(crate) fn all(&self) -> Merged<'a, K, V> {
        self.range(..)
    }
}

/// Two sorted tables as one.
pub(crate) struct Merged<'a, K, V> {
    base: Peekable<btree_map::Range<'a, K, V>>,
    over: Peekable<btree_map::Range<'a, K, Option<V>>>,
}

impl<'a, K: Ord, V> Iterator for Merged<'a, K, V> {
    type Item = (&'a K, &'a V);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let Some((changed, _)) = self.over.peek() else { return self.base.next() };
            match self.base.peek() {
                Some((key, _)) if key < changed => return self.base.next(),
                Some((key, _)) if key == changed => drop(self.base.next()),
                _ => {}
            }
            let (key, row) = self.over.next()?;
            if let Some(row) = row {
                return Some((key, row));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_sees_its_own_changes_over_what_is_committed() {
        let base = BTreeMap::from([(1, "a"), (3, "c"), (5, "e")]);
        let over = BTreeMap::from([(0, Some("0")), (3, None), (4, Some("d")), (5, Some("E")), (9, None)]);
        let view = View { base: &base, over: &over };
        let all: Vec<_> = view.all().map(|(key, row)| (*key, *row)).collect();
        assert_eq!(all, [(0, "0"), (1, "a"), (4, "d"), (5, "E")]);
        let some: Vec<_> = view.range(2..5).map(|(key, _)| *key).collect();
        assert_eq!(some, [4]);
        assert_eq!((view.get(&3), view.get(&5), view.get(&7)), (None, Some(&"E"), None));
    }
}
