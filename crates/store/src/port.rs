//! The port of the record: what an adapter does inside one transaction.
//!
//! There are two adapters. `crate::postgres` is the one that ships; the in-memory one of the crate `memory` lets tests
//! and proofs run the agents' own code without a database. Rules that must hold in both (whose rows, exact amounts, times
//! and numbers that fit, the hash of an audit row) are kept above the port, in the functions that agents call; below it an
//! adapter keeps rows, their constraints and their isolation as `migrations/` define them. What each method means is said
//! at the function of the same purpose in the module named like the trait.
#![allow(missing_docs, reason = "each method is documented at the one function that calls it")]

use async_trait::async_trait;
use domain::canonical::Sha256Digest;
use domain::ids::{ApprovalId, MessageId, OrderId, PermitId, UserId};
use domain::market::{Instrument, InstrumentId, Venue};
use domain::money::{Quantity, Usd};
use domain::order::{ChildOrder, Fill, OrderState, Permit};
use domain::time::UnixMs;
use rails::book::{Book, Change};
use sqlx::postgres::PgConnection;

use crate::approvals::{ApprovalRow, ApprovalStatus, Approver, EntryRow};
use crate::audit::{AuditHead, AuditRow, Chain, ChainHead, MovedHeads};
use crate::dead_letters::{LetterRow, OpenLetters};
use crate::decisions::DecisionRow;
use crate::kill::Kill;
use crate::llm_usage::{UsageGroup, UsageRow};
use crate::orders::OrderRow;
use crate::permits::{DuePermit, PermitRow};
use crate::supervision::{Declared, Restart};
use crate::telegram::{Account, Link, Prompt, Update};
use crate::telegram_notices::Queued;
use crate::totp::Spent;
use crate::users::User;
use crate::{OutboxRow, StoreError};

type Result<T> = std::result::Result<T, StoreError>;

/// The whole record, inside one transaction. Dropped without a commit it leaves nothing behind.
pub trait Records:
    Session
    + Ledger
    + Orders
    + Permits
    + Approvals
    + Decisions
    + Audit
    + Users
    + Instruments
    + KillLevels
    + Supervision
    + Telegram
    + TelegramNotices
    + Totp
    + LlmUsage
    + DeadLetters
    + std::fmt::Debug
    + Send
{
}

impl<T> Records for T where
    T: Session
        + Ledger
        + Orders
        + Permits
        + Approvals
        + Decisions
        + Audit
        + Users
        + Instruments
        + KillLevels
        + Supervision
        + Telegram
        + TelegramNotices
        + Totp
        + LlmUsage
        + DeadLetters
        + DeadLetters
        + std::fmt::Debug
        + Send
{
}

/// The transaction itself, inbox and outbox.
#[async_trait]
pub trait Session {
    async fn set_tenant(&mut self, user: UserId) -> Result<()>;
    async fn now(&mut self) -> Result<UnixMs>;
    /// Whether the message is new, and the time after that was known.
    async fn open(&mut self, tenant: Option<UserId>, agent: &str, id: MessageId) -> Result<(bool, UnixMs)>;
    async fn outbox_put(&mut self, agent: &str, rows: &[OutboxRow]) -> Result<()>;
    async fn commit(self: Box<Self>) -> Result<()>;
    async fn rollback(self: Box<Self>) -> Result<()>;
    /// The connection, where there is one.
    fn postgres(&mut self) -> Option<&mut PgConnection> {
        None
    }
}

#[async_trait]
pub trait Ledger {
    /// `permits_since` and `unapproved_since` are where the windows of the two lists begin, included.
    async fn lock_book(
        &mut self,
        user: UserId,
        permits_since: UnixMs,
        unapproved_since: UnixMs,
    ) -> Result<Option<Book>>;
    async fn read_book(
        &mut self,
        user: UserId,
        permits_since: UnixMs,
        unapproved_since: UnixMs,
    ) -> Result<Option<Book>>;
    async fn holders(&mut self, after: Option<UserId>, limit: i64) -> Result<Vec<UserId>>;
    async fn apply(&mut self, user: UserId, changes: &[Change], now: UnixMs) -> Result<()>;
}

#[async_trait]
pub trait Orders {
    async fn insert_order(&mut self, row: &OrderRow) -> Result<bool>;
    async fn mark_sent(&mut self, user: UserId, order_id: OrderId, now: UnixMs) -> Result<bool>;
    async fn set_order_state(
        &mut self,
        user: UserId,
        order_id: OrderId,
        state: OrderState,
        filled: Quantity,
        venue_order_id: Option<&str>,
        code: Option<&str>,
    ) -> Result<bool>;
    async fn lock_order(&mut self, user: UserId, order_id: OrderId) -> Result<Option<OrderRow>>;
    async fn set_children(
        &mut self,
        user: UserId,
        order_id: OrderId,
        children: &[ChildOrder],
        filled: Quantity,
    ) -> Result<bool>;
    async fn open_orders(&mut self, venues: &[Venue]) -> Result<Vec<OrderRow>>;
    async fn order(&mut self, order_id: OrderId) -> Result<Option<OrderRow>>;
    async fn recent_orders(&mut self, user: UserId, limit: i64) -> Result<Vec<OrderRow>>;
    async fn insert_fill(&mut self, fill: &Fill, user: UserId) -> Result<bool>;
    async fn unposted(&mut self, limit: i64, besides: &[OrderId]) -> Result<Vec<(UserId, OrderId)>>;
    async fn fills_unposted(&mut self, user: UserId, order_id: OrderId) -> Result<Vec<Fill>>;
    async fn mark_fill_posted(&mut self, user: UserId, fill: &Fill) -> Result<bool>;
    async fn mark_outcome_posted(&mut self, user: UserId, order_id: OrderId) -> Result<bool>;
    async fn fill_totals(&mut self, user: UserId) -> Result<(i64, Usd)>;
    async fn recent_fills(&mut self, user: UserId, limit: i64) -> Result<Vec<Fill>>;
}

#[async_trait]
pub trait Permits {
    async fn insert_permit(&mut self, permit: &Permit, user: UserId) -> Result<()>;
    async fn spend_permit(&mut self, user: UserId, permit_id: PermitId, now: UnixMs) -> Result<bool>;
    async fn void_permit(&mut self, user: UserId, permit_id: PermitId) -> Result<bool>;
    async fn unspent_due(&mut self, now: UnixMs) -> Result<Vec<DuePermit>>;
    async fn permit(&mut self, permit_id: PermitId) -> Result<Option<PermitRow>>;
}

#[async_trait]
pub trait Approvals {
    async fn insert_request(&mut self, row: &ApprovalRow) -> Result<bool>;
    async fn request(&mut self, approval_id: ApprovalId) -> Result<Option<ApprovalRow>>;
    async fn lock_request(&mut self, user: UserId, approval_id: ApprovalId) -> Result<Option<ApprovalRow>>;
    async fn pending_requests(&mut self, user: Option<UserId>) -> Result<Vec<ApprovalRow>>;
    async fn prompts_since(&mut self, user: UserId, since: UnixMs) -> Result<u64>;
    async fn successor(&mut self, approval_id: ApprovalId) -> Result<Option<ApprovalId>>;
    async fn insert_entry(&mut self, user: UserId, entry: &EntryRow) -> Result<bool>;
    async fn entries(&mut self, approval_id: ApprovalId) -> Result<Vec<EntryRow>>;
    async fn set_request_status(
        &mut self,
        user: UserId,
        approval_id: ApprovalId,
        from: &[ApprovalStatus],
        to: ApprovalStatus,
    ) -> Result<bool>;
    async fn due_requests(&mut self, now: UnixMs) -> Result<Vec<(UserId, ApprovalId)>>;
    async fn upsert_approver(&mut self, approver: &Approver) -> Result<()>;
    async fn approver(&mut self, person_id: &str) -> Result<Option<Approver>>;
    async fn approvers(&mut self) -> Result<Vec<Approver>>;
}

#[async_trait]
pub trait Decisions {
    async fn insert_decision(&mut self, row: &DecisionRow) -> Result<bool>;
    async fn decision_of_order(&mut self, order_id: OrderId) -> Result<Option<DecisionRow>>;
    async fn recent_decisions(&mut self, user: UserId, limit: i64) -> Result<Vec<DecisionRow>>;
}

#[async_trait]
pub trait Audit {
    /// Locks a chain until the transaction ends and returns its head; a user's first row makes the head.
    async fn lock_head(&mut self, chain: Chain) -> Result<AuditHead>;
    /// Adds a row behind the locked head and moves the head to it.
    async fn append_row(&mut self, chain: Chain, row: AuditRow) -> Result<()>;
    async fn moved_heads(&mut self, since: i64) -> Result<MovedHeads>;
    async fn heads_after(&mut self, after: Option<UserId>, limit: i64) -> Result<Vec<ChainHead>>;
    async fn hash_at(&mut self, chain: Chain, seq: i64) -> Result<Option<Sha256Digest>>;
    /// [`Audit::hash_at`] of each, in their order.
    async fn hashes_at(&mut self, rows: &[(Chain, i64)]) -> Result<Vec<Option<Sha256Digest>>>;
    /// Users who have audit rows.
    async fn audited_users(&mut self) -> Result<Vec<UserId>>;
    /// Whether anybody has an account.
    async fn users_exist(&mut self) -> Result<bool>;
    /// Rows of a chain after `after`, in their order.
    async fn audit_rows(&mut self, chain: Chain, after: i64, limit: i64) -> Result<Vec<AuditRow>>;
}

#[async_trait]
pub trait Users {
    async fn open_account(&mut self, user: &User, opening: Usd, now: UnixMs) -> Result<User>;
    async fn user(&mut self, user_id: UserId) -> Result<Option<User>>;
    async fn user_ids(&mut self, limit: i64) -> Result<Vec<UserId>>;
    async fn set_constraints(&mut self, user_id: UserId, constraints: &serde_json::Value) -> Result<bool>;
}

#[async_trait]
pub trait Instruments {
    async fn upsert_instrument(&mut self, instrument: &Instrument) -> Result<()>;
    async fn instrument(&mut self, id: &InstrumentId) -> Result<Option<Instrument>>;
    async fn instruments(&mut self) -> Result<Vec<Instrument>>;
}

#[async_trait]
pub trait KillLevels {
    async fn kill_level(&mut self) -> Result<Option<Kill>>;
    async fn kill_levels_since(&mut self, epoch: i64) -> Result<Vec<Kill>>;
    async fn lock_kill_level(&mut self) -> Result<()>;
    async fn insert_kill_level(&mut self, kill: &Kill) -> Result<()>;
}

#[async_trait]
pub trait Supervision {
    /// Whether it was not there before.
    async fn insert_restart(&mut self, restart: &Restart) -> Result<bool>;
    async fn restarts_since(&mut self, agent: &str, since: UnixMs) -> Result<Vec<Restart>>;
    async fn declare(&mut self, declared: &Declared) -> Result<()>;
    async fn declare_over(&mut self, seen: Option<&Declared>, declared: &Declared) -> Result<bool>;
    async fn declared(&mut self) -> Result<Vec<Declared>>;
}

#[async_trait]
pub trait Telegram {
    async fn insert_update(&mut self, update: &Update) -> Result<bool>;
    async fn unhandled_updates(&mut self, limit: i64) -> Result<Vec<Update>>;
    async fn set_update_handled(&mut self, update_id: i64, outcome: &str, now: UnixMs) -> Result<bool>;
    async fn update(&mut self, update_id: i64) -> Result<Option<Update>>;
    async fn insert_link(&mut self, link: &Link) -> Result<()>;
    /// Marks a link as used that nobody used and that has not run out, and says whose it is.
    async fn take_link(&mut self, code_hash: Sha256Digest, by: i64, now: UnixMs) -> Result<Option<String>>;
    async fn links_used_by(&mut self, telegram_user_id: i64) -> Result<Vec<Link>>;
    async fn upsert_account(&mut self, account: &Account) -> Result<()>;
    async fn account(&mut self, telegram_user_id: i64) -> Result<Option<Account>>;
    async fn accounts_of(&mut self, person_id: &str) -> Result<Vec<Account>>;
    async fn insert_prompt(&mut self, prompt: &Prompt) -> Result<bool>;
    async fn prompts(&mut self, approval_id: ApprovalId) -> Result<Vec<Prompt>>;
    async fn open_prompts(&mut self) -> Result<Vec<Prompt>>;
    async fn set_prompt_edited(&mut self, prompt: &Prompt, now: UnixMs, is_final: bool) -> Result<bool>;
    async fn telegram_state(&mut self, key: &str) -> Result<Option<String>>;
    async fn set_telegram_state(&mut self, key: &str, value: &str) -> Result<()>;
}

#[async_trait]
pub trait TelegramNotices {
    async fn insert_notice(&mut self, line: &Queued) -> Result<bool>;
    async fn notices(&mut self, limit: i64) -> Result<Vec<Queued>>;
    async fn delete_notices(&mut self, told: &[Queued]) -> Result<()>;
}

#[async_trait]
pub trait Totp {
    async fn totp_secret(&mut self, person_id: &str) -> Result<Option<Vec<u8>>>;
    async fn set_totp_secret(&mut self, person_id: &str, secret: &[u8], now: UnixMs) -> Result<()>;
    async fn spend_totp_step(&mut self, spent: &Spent) -> Result<bool>;
    async fn spent_totp_step(&mut self, person_id: &str, step: i64) -> Result<Option<Spent>>;
}

#[async_trait]
pub trait LlmUsage {
    async fn insert_usage(&mut self, rows: &[UsageRow]) -> Result<u64>;
    /// Rows from `since` on, included, added up for each tier, agent, alias and cache, in any order.
    async fn usage_since(&mut self, since: UnixMs) -> Result<Vec<UsageGroup>>;
    async fn delete_usage_before(&mut self, before: UnixMs, limit: i64) -> Result<u64>;
}

#[async_trait]
pub trait DeadLetters {
    async fn note_letters(&mut self, rows: &[LetterRow]) -> Result<()>;
    async fn lock_letter(&mut self, letter: &str) -> Result<Option<LetterRow>>;
    async fn set_letter(&mut self, row: &LetterRow) -> Result<bool>;
    /// Oldest first.
    async fn letters(&mut self, closed_too: bool, limit: i64) -> Result<Vec<LetterRow>>;
    async fn open_letters(&mut self) -> Result<OpenLetters>;
    async fn newest_letter(&mut self) -> Result<Option<i64>>;
    async fn forget_letters_outside(&mut self, first: i64, last: i64) -> Result<()>;
}
