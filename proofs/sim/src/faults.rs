//! Deliberate faults, at least one for each check: a limit that is too loose, a price or clock that lies, a record that breaks
//! one of its promises, a venue that invents, a broker that loses, rows that somebody changed. A check that none of them
//! turns red watches nothing.

mod tamper;

use memory::{bus, record};

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
    LoosePosition => POSITION, "treasury was given a position limit of a million";
    BookedTwice => TOTAL, "an account shows a million that was never paid in";
    MoneyFromNowhere => CASH_COVERS, "an account shows a million that was never paid in (cash)";
    LooseCollar => COLLAR, "treasury was given a collar of 90 %";
    HaltForgotten => KILL, "row, file and message of a halt are lost";
    StoreReadsNoHalt => KILL, "the record reads kill level 0, whatever it is";
    LooseBreaker => BREAKER, "treasury was given a breaker that never latches";
    StoreForgetsBreaker => BREAKER, "the record does not keep the loss streak";
    LooseDailyLoss => DAILY_LOSS, "treasury was given a daily loss of 100 %";
    BaselineFalls => DAILY_LOSS, "the baseline of the day sinks by a tenth";
    LooseRate => RATE, "treasury was given a rate of a million an hour";
    StoreForgetsPermits => RATE, "the record does not keep that a permit was counted";
    LooseAge => FRESHNESS, "treasury was given a day as the age of a mark";
    MarksRestamped => FRESHNESS, "treasury's prices carry the time of now, however old they are";
    SkewUnseen => FRESHNESS, "treasury is told that its clock is right";
    LooseApproval => HUMAN, "treasury asks a human above a million only";
    StoreForgetsNotional => HUMAN, "the record does not keep what passed without a human";
    StoreKeepsApproval => HUMAN, "the record leaves a used approval allowed";
    ApprovalReopened => APPROVAL_ONCE, "a used approval is open again";
    ForeignPermitKey => PERMIT_VALID, "treasury signs with a key of its own making, and the desk was told to believe it";
    PermitReopened => PERMIT_ONCE, "a spent permit may be spent again";
    DecisionFlipped => REFUSED, "a judgement becomes a refusal after the fact";
    StoreLosesDecisions => REFUSED, "the record does not keep judgements";
    ReviewForged => REVIEWED, "whatever the model says, the planner reads that it agrees";
    LooseConfidence => REVIEWED, "the planner was given a least confidence of 0 %";
    DeskSendsTwice => SENT_ONCE, "the desk sends every order twice";
    DeskSendsMore => SENT_INSIDE, "the desk sends twice the quantity";
    VenueInventsFills => FILLS, "the venue reports fills that never were";
    StoreKeepsFillsTwice => FILLS, "the record takes a trade of the venue's a second time";
    CashDrifts => CASH, "a hundred-millionth of a dollar appears";
    StoreMixesAccounts => CASH, "the record writes cash to another's account";
    StorePostsTwice => CASH, "the record forgets that a fill was posted";
    PositionGrows => SPOT, "a position doubles";
    StoreLosesReservations => RESERVED, "the record does not keep reservations";
    StoreKeepsReservations => RESERVED, "the record keeps what was released";
    StoreEndsTwice => RESERVED, "the record forgets that an end was posted";
    OrderReopened => ENDS, "an order that ended is open again";
    AuditEdited => AUDIT_CHAIN, "a row of the audit is edited";
    StoreLosesAudit => AUDIT_CHAIN, "the record does not keep rows of the audit";
    StoreEditsAudit => AUDIT_CHAIN, "the record keeps other rows of the audit than were hashed";
    AuditRowMissing => AUDIT_ROWS, "an act is written without its audit row";
    WrongOwner => TENANCY, "a fill goes to another user";
    KillFallsByItself => KILL_LOWERED, "a row lowers the kill level and nobody signed";
    RequestSpoiled => NO_FATAL, "a stored question can't be read any more";
    BrokerLoses => TERMINAL, "the broker loses messages that it said it has";
    BrokerForgets => TERMINAL, "the broker never delivers again what nobody acknowledged";
    StoreCommitsHalf => TERMINAL, "the record keeps the ledger's rows of a commit, and no others";
    StoreLosesMessages => TERMINAL, "the record does not keep messages that wait to be sent";
    VenueHidesFills => AGREES, "the venue hides what it traded";
    StoreKeepsRolledBack => NOTHING_LEFT, "the record keeps what a transaction wrote that was rolled back";
    DeskStops => NOTHING_LEFT, "the desk stops looking at its orders";
}

/// Promises of the record whose breach no world notices, and why: each stands behind another that holds.
pub const BEHIND_ANOTHER: &[(record::Defect, &str)] = &[
    (record::Defect::InboxForgets, "ids derive from what caused them and each row has its key: twice is as once"),
    (record::Defect::LockIgnored, "no two transactions of a world overlap; tests against PostgreSQL race them"),
    (record::Defect::LegJudgedTwice, "treasury looks for the judgement first, under the lock of the order's owner"),
    (record::Defect::PermitSpentTwice, "the order of a permit has its key, and the inbox knows the message"),
    (record::Defect::PermitSpentLate, "the desk checks the time of a permit before it spends it"),
    (record::Defect::SpentPermitVoided, "treasury reads and voids an unspent permit while nobody else runs"),
    (record::Defect::VoteCountedTwice, "one person's yes is enough for both tiers there are"),
    (record::Defect::EndChanges, "the desk takes up orders that are open, and no others"),
    (record::Defect::ChildrenGoAnywhere, "a child is a function of the permit and its number"),
    (record::Defect::FilledGoesDown, "the venue's word on one order never says less than before"),
];

/// What must happen in a world for a fault to matter there. It happens without the fault too, and then nothing is wrong:
/// that is tried with every catch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// The operator buys for thousands in one instrument, and people approve.
    LargeBuys,
    /// A small account is all in, and the market falls.
    FallingMarket,
    /// One person sends more small buys than an hour lets pass.
    Burst,
    /// The feed falls silent, and people go on with prices of their own.
    SilentFeed,
    /// Treasury's clock is wrong.
    WrongClock,
    /// One person buys just below what needs a human, again and again.
    SmallSteps,
    /// A halt, and somebody who goes on buying.
    Halt,
    /// Models have ideas, and a model reviews them.
    Ideas,
}

impl Fault {
    /// What must happen for it to matter, besides what happens in any world.
    #[must_use]
    pub const fn need(self) -> Option<Need> {
        match self {
            Self::LoosePosition => Some(Need::LargeBuys),
            Self::LooseDailyLoss => Some(Need::FallingMarket),
            Self::LooseRate | Self::StoreForgetsPermits => Some(Need::Burst),
            Self::LooseAge | Self::MarksRestamped => Some(Need::SilentFeed),
            Self::SkewUnseen => Some(Need::WrongClock),
            Self::StoreForgetsNotional => Some(Need::SmallSteps),
            Self::StoreReadsNoHalt => Some(Need::Halt),
            Self::ReviewForged | Self::LooseConfidence => Some(Need::Ideas),
            _ => None,
        }
    }

    /// The promise of the record that it breaks.
    #[must_use]
    pub const fn of_record(self) -> Option<record::Defect> {
        use record::Defect;
        match self {
            Self::StoreReadsNoHalt => Some(Defect::KillReadsZero),
            Self::StoreForgetsBreaker => Some(Defect::BreakerForgotten),
            Self::StoreForgetsPermits => Some(Defect::RateStampLost),
            Self::StoreForgetsNotional => Some(Defect::NotionalLost),
            Self::StoreKeepsApproval => Some(Defect::ApprovalConsumedTwice),
            Self::StoreLosesDecisions => Some(Defect::DecisionLost),
            Self::StoreKeepsFillsTwice => Some(Defect::FillStoredTwice),
            Self::StoreMixesAccounts => Some(Defect::WrongTenant),
            Self::StorePostsTwice => Some(Defect::FillCountedTwice),
            Self::StoreLosesReservations => Some(Defect::ReservationLost),
            Self::StoreKeepsReservations => Some(Defect::ReservationStays),
            Self::StoreEndsTwice => Some(Defect::OutcomePostedTwice),
            Self::StoreCommitsHalf => Some(Defect::CommitHalf),
            Self::StoreLosesAudit => Some(Defect::AuditRowLost),
            Self::StoreEditsAudit => Some(Defect::AuditRowEdited),
            Self::StoreLosesMessages => Some(Defect::OutboxLost),
            Self::StoreKeepsRolledBack => Some(Defect::RollbackKeeps),
            _ => None,
        }
    }

    /// The promise of the broker that it breaks.
    #[must_use]
    pub const fn of_broker(self) -> Option<bus::Defect> {
        match self {
            Self::BrokerLoses => Some(bus::Defect::LosesStored),
            Self::BrokerForgets => Some(bus::Defect::ForgetsUnacknowledged),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_check_has_a_fault_and_every_promise_of_the_record_its_place() {
        for invariant in checks::ALL {
            assert!(Fault::ALL.iter().any(|fault| fault.expected() == *invariant), "no fault for: {invariant}");
        }
        for defect in record::Defect::ALL {
            let faults = Fault::ALL.iter().filter(|fault| fault.of_record() == Some(defect)).count();
            let reasons = BEHIND_ANOTHER.iter().filter(|(behind, _)| *behind == defect).count();
            assert_eq!(faults + reasons, 1, "{defect:?}");
        }
    }
}
