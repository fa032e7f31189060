//! Faults that a store can be built with, each one promise of the port broken: a proof that finds none of them proves
//! nothing.

/// What a store built to fail does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Defect {
    /// Every message is new to the inbox.
    InboxForgets,
    /// A message put into the outbox is not there.
    OutboxLost,
    /// Of a commit only the ledger's rows are kept: cash, positions, reservations, breaker.
    CommitHalf,
    /// What a unit wrote stays when the unit is dropped.
    RollbackKeeps,
    /// Two units may load one user's book to change it.
    LockIgnored,
    /// Cash is written to another user's account.
    WrongTenant,
    /// A reservation is not kept.
    ReservationLost,
    /// A released reservation stays.
    ReservationStays,
    /// A counted permit is not kept.
    RateStampLost,
    /// Notional that passed without a human is not kept.
    NotionalLost,
    /// A change of the breaker is not kept.
    BreakerForgotten,
    /// A judgement is not kept.
    DecisionLost,
    /// A leg that was judged before is said to be judged for the first time.
    LegJudgedTwice,
    /// A spent permit can be spent again.
    PermitSpentTwice,
    /// A permit can be spent past its time.
    PermitSpentLate,
    /// A spent permit can be voided.
    SpentPermitVoided,
    /// A consumed approval stays allowed.
    ApprovalConsumedTwice,
    /// A person's second word on a request counts too.
    VoteCountedTwice,
    /// A venue's trade can be stored again.
    FillStoredTwice,
    /// A posted fill stays unposted.
    FillCountedTwice,
    /// An order's posted end stays unposted.
    OutcomePostedTwice,
    /// An order that has ended can change.
    EndChanges,
    /// An order's filled quantity can fall.
    FilledGoesDown,
    /// Children of an order can be more than it, and go back.
    ChildrenGoAnywhere,
    /// An audit row is not kept, though its head is.
    AuditRowLost,
    /// An audit row says something else than was hashed.
    AuditRowEdited,
    /// The kill level reads 0, whatever it is.
    KillReadsZero,
}

impl Defect {
    /// All of them.
    pub const ALL: [Self; 27] = [
        Self::InboxForgets,
        Self::OutboxLost,
        Self::CommitHalf,
        Self::RollbackKeeps,
        Self::LockIgnored,
        Self::WrongTenant,
        Self::ReservationLost,
        Self::ReservationStays,
        Self::RateStampLost,
        Self::NotionalLost,
        Self::BreakerForgotten,
        Self::DecisionLost,
        Self::LegJudgedTwice,
        Self::PermitSpentTwice,
        Self::PermitSpentLate,
        Self::SpentPermitVoided,
        Self::ApprovalConsumedTwice,
        Self::VoteCountedTwice,
        Self::FillStoredTwice,
        Self::FillCountedTwice,
        Self::OutcomePostedTwice,
        Self::EndChanges,
        Self::FilledGoesDown,
        Self::ChildrenGoAnywhere,
        Self::AuditRowLost,
        Self::AuditRowEdited,
        Self::KillReadsZero,
    ];
}
