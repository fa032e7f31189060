//! The gate: what it is asked, what it answers, and the one function that answers. The rails themselves are in
//! `rail.rs`, one function each.

use domain::canonical::Sha256Digest;
use domain::market::Instrument;
use domain::message::TokenVerdict;
use domain::order::OrderEnvelope;
use domain::time::UnixMs;

use crate::approved::Approved;
use crate::book::{Book, Marks};
use crate::limits::Limits;
use crate::rail::{self, Case, Stop};
use crate::refusal::{Refusal, RefusalCode};

/// What is known of the kill level. Not readable counts as level 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KillReading {
    /// Level and epoch.
    Level {
        /// 0 to 4.
        level: u8,
        /// Counts up with each change.
        epoch: i64,
    },
    /// Could not be read.
    Unreadable,
}

impl KillReading {
    /// The level that counts.
    #[must_use]
    pub const fn level(self) -> u8 {
        match self {
            Self::Level { level, .. } => level,
            Self::Unreadable => 1,
        }
    }

    /// The epoch that counts; 0 when it could not be read.
    #[must_use]
    pub const fn epoch(self) -> i64 {
        match self {
            Self::Level { epoch, .. } => epoch,
            Self::Unreadable => 0,
        }
    }

    /// This reading, raised to `level` when it is below.
    #[must_use]
    pub const fn at_least(self, level: u8) -> Self {
        match self {
            Self::Level { level: read, epoch } if read < level => Self::Level { level, epoch },
            Self::Unreadable if level > 1 => Self::Level { level, epoch: 0 },
            read => read,
        }
    }
}

/// A human's yes to one envelope, read back from the stored resolution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HumanApproval {
    /// Digest of the envelope that was approved.
    pub digest: Sha256Digest,
    /// Tier that was satisfied.
    pub tier: u8,
    /// After this it is no approval.
    pub expires_at: UnixMs,
}

/// Everything around an order that the rails look at.
#[derive(Debug, Clone, Copy)]
pub struct Surroundings<'a> {
    /// The limits of this user.
    pub limits: &'a Limits,
    /// The user's ledger.
    pub book: &'a Book,
    /// Marks of every instrument known.
    pub marks: &'a Marks,
    /// The venue's rules of this instrument, when known.
    pub instrument: Option<&'a Instrument>,
    /// The launchpad governor's word on this token, for DEX venues.
    pub verdict: Option<&'a TokenVerdict>,
    /// The kill level.
    pub kill: KillReading,
    /// Database time.
    pub now: UnixMs,
}

/// What the rails say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Go. The only source of an [`Approved`].
    Approved(Approved<OrderEnvelope>),
    /// A human must decide first.
    NeedsHuman {
        /// 1 or 2.
        tier: u8,
        /// What the human approves.
        envelope: OrderEnvelope,
        /// Why, as data: the sum that passed the limit.
        sum_usd: domain::money::Usd,
    },
    /// No.
    Refused(Refusal),
}

/// Checks one order against every rail, in the order of precedence of [`crate::refusal::RefusalCode`]; the first that
/// refuses is the answer. A human is asked only when every rail passes. On a second check (after a human's yes) the
/// order's own reservation, stamp and notional are excluded from every sum.
///
/// A buy increases risk. A sale is bounded by what is held, so it reduces risk whether or not it says reduce-only. Sales
/// skip the rails token verdict, breaker, daily loss, position, total, cash and approval, have a rate of their own, and
/// pass at every kill level, so that a position is never trapped.
///
/// The caller rolls the book's day first ([`Book::roll_day`]): a baseline of an earlier day refuses new risk. Amounts that
/// leave the range refuse with [`RefusalCode::Arithmetic`] once no other rail refuses.
#[must_use]
pub fn check(order: &OrderEnvelope, approval: Option<&HumanApproval>, around: Surroundings<'_>) -> Verdict {
    let case = Case::new(order, approval, around);
    let mut unanswered = None;
    for (code, rail) in rail::RAILS {
        match rail(&case) {
            Ok(()) => {}
            Err(Stop::Refused(numbers)) => return Verdict::Refused(Refusal { code, numbers }),
            Err(Stop::OutOfRange) => unanswered = unanswered.or(Some(code)),
        }
    }
    if let Some(code) = unanswered {
        return Verdict::Refused(Refusal::new(RefusalCode::Arithmetic).with("rail", code.code()));
    }
    match rail::tier_needed(&case) {
        Ok(Some(need)) if approval.is_none() => {
            Verdict::NeedsHuman { tier: need.tier, envelope: order.clone(), sum_usd: need.sum_usd }
        }
        Ok(_) => Verdict::Approved(Approved::new(order.clone())),
        Err(_) => Verdict::Refused(Refusal::new(RefusalCode::Arithmetic)),
    }
}

/// Whether today's loss is at its limit at `equity`. Only for telling people; an order is judged by its rail.
#[must_use]
pub fn daily_loss_reached(limits: &Limits, book: &Book, equity: domain::money::Usd) -> bool {
    let baseline = book.day.equity;
    let limit =
        crate::exposure::percent_of(baseline, limits.daily_loss_percent, rust_decimal::RoundingStrategy::ToZero);
    match (baseline.minus(equity), limit) {
        (Ok(loss), Ok(limit)) => loss >= limit,
        _ => true,
    }
}
