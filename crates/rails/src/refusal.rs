//! Refusals are data: one closed list of codes, each with its numbers.

use std::collections::BTreeMap;

/// Why the rails or a desk refused. The order of the variants is the order of precedence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RefusalCode {
    /// No such user, or the user may not trade.
    UnknownUser,
    /// The intent's or envelope's valid-until has passed.
    Expired,
    /// The instrument is not one of the venue's.
    UnknownInstrument,
    /// Below step, tick or minimum notional after rounding down, or over the venue's maximum.
    VenueFilter,
    /// A DEX token without a live verdict that allows it.
    TokenVerdict,
    /// Reduce-only with nothing to reduce, or by more than is held; or a sale that would go short.
    SpotShort,
    /// No fresh mark.
    StaleMark,
    /// The worst price lies outside the collar.
    PriceCollar,
    /// The kill level forbids new risk, or can't be read.
    KillLevel,
    /// The loss-streak breaker is latched.
    Breaker,
    /// Today's loss is at its limit.
    DailyLoss,
    /// Too many permits in the window.
    Rate,
    /// The position would pass its limit.
    Position,
    /// The sum over all instruments would pass its limit.
    Total,
    /// Not enough settled cash for the worst case.
    Cash,
    /// An approval does not match the order it came with.
    ApprovalMismatch,
    /// Too many prompts this hour; the swarm stops proposing.
    AttentionBudget,
    /// A human said no.
    Denied,
    /// Nobody decided in time.
    ApprovalExpired,
    /// Policy changed while a human was asked.
    Superseded,
    /// This signal and leg were decided before.
    Duplicate,
    /// The local clock is off.
    ClockSkew,
    /// A permit that does not verify, is expired, spent or void.
    BadPermit,
    /// An amount left the range of the ledger.
    Arithmetic,
}

impl RefusalCode {
    /// All codes, in order of precedence.
    pub const ALL: [Self; 24] = [
        Self::UnknownUser,
        Self::Expired,
        Self::UnknownInstrument,
        Self::VenueFilter,
        Self::TokenVerdict,
        Self::SpotShort,
        Self::StaleMark,
        Self::PriceCollar,
        Self::KillLevel,
        Self::Breaker,
        Self::DailyLoss,
        Self::Rate,
        Self::Position,
        Self::Total,
        Self::Cash,
        Self::ApprovalMismatch,
        Self::AttentionBudget,
        Self::Denied,
        Self::ApprovalExpired,
        Self::Superseded,
        Self::Duplicate,
        Self::ClockSkew,
        Self::BadPermit,
        Self::Arithmetic,
    ];

    /// The code as people and machines read it.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::UnknownUser => "UNKNOWN_USER",
            Self::Expired => "EXPIRED",
            Self::UnknownInstrument => "UNKNOWN_INSTRUMENT",
            Self::VenueFilter => "VENUE_FILTER",
            Self::TokenVerdict => "TOKEN_VERDICT",
            Self::SpotShort => "SPOT_SHORT",
            Self::StaleMark => "STALE_MARK",
            Self::PriceCollar => "PRICE_COLLAR",
            Self::KillLevel => "KILL_LEVEL",
            Self::Breaker => "BREAKER",
            Self::DailyLoss => "DAILY_LOSS",
            Self::Rate => "RATE",
            Self::Position => "POSITION",
            Self::Total => "TOTAL",
            Self::Cash => "CASH",
            Self::ApprovalMismatch => "APPROVAL_MISMATCH",
            Self::AttentionBudget => "ATTENTION_BUDGET",
            Self::Denied => "DENIED",
            Self::ApprovalExpired => "APPROVAL_EXPIRED",
            Self::Superseded => "SUPERSEDED",
            Self::Duplicate => "DUPLICATE",
            Self::ClockSkew => "CLOCK_SKEW",
            Self::BadPermit => "BAD_PERMIT",
            Self::Arithmetic => "ARITHMETIC",
        }
    }

    /// Reads a code.
    #[must_use]
    pub fn parse(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|c| c.code() == code)
    }
}

/// A refusal with its numbers, shown the same everywhere: `CODE key=value ...`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Stable code.
    pub code: RefusalCode,
    /// What was compared with what.
    pub numbers: BTreeMap<String, String>,
}

impl Refusal {
    /// A refusal without numbers.
    #[must_use]
    pub const fn new(code: RefusalCode) -> Self {
        Self { code, numbers: BTreeMap::new() }
    }

    /// Adds one number.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl std::fmt::Display) -> Self {
        self.numbers.insert(key.to_owned(), value.to_string());
        self
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.code.code())?;
        for (key, value) in &self.numbers {
            write!(f, " {key}={value}")?;
        }
        Ok(())
    }
}
