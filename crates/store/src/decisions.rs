//! What the rails said, once per leg of a signal.

use domain::canonical::Sha256Digest;
use domain::ids::{IntentId, MessageId, OrderId, UserId};
use domain::time::UnixMs;

use crate::fits::fits;
use crate::{StoreError, Unit};

/// The outcome of one judgement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// A permit was signed.
    Permitted,
    /// A rail refused.
    Refused,
    /// A human must decide.
    NeedsHuman,
}

impl Outcome {
    const ALL: [Self; 3] = [Self::Permitted, Self::Refused, Self::NeedsHuman];

    /// The word in the table.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Permitted => "permitted",
            Self::Refused => "refused",
            Self::NeedsHuman => "needs_human",
        }
    }

    /// Reads the word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|outcome| outcome.word() == word)
    }
}

/// One judgement.
#[derive(Debug, Clone, PartialEq)]
pub struct DecisionRow {
    /// Whose money.
    pub user_id: UserId,
    /// f(intent id).
    pub order_id: OrderId,
    /// f(signal id, leg).
    pub intent_id: IntentId,
    /// The signal it came from.
    pub signal_id: MessageId,
    /// Leg of that signal.
    pub leg: u16,
    /// What was said.
    pub outcome: Outcome,
    /// Stable code of a refusal.
    pub code: Option<String>,
    /// `{"name": "value"}` of the numbers that decided.
    pub numbers: serde_json::Value,
    /// The order, when it came as far as one.
    pub envelope: Option<serde_json::Value>,
    /// Digest of that order.
    pub digest: Option<Sha256Digest>,
    /// Version of the policy it was judged by.
    pub policy_version: String,
    /// When.
    pub at: UnixMs,
}

/// Stores a judgement; `false` when that leg of that signal was judged before.
///
/// # Errors
/// [`StoreError`].
pub async fn insert(unit: &mut Unit, row: &DecisionRow) -> Result<bool, StoreError> {
    fits(row.at, "at")?;
    unit.records_of(row.user_id).await?.insert_decision(row).await
}

/// The judgement of an order.
///
/// # Errors
/// [`StoreError`].
pub async fn get_by_order(unit: &mut Unit, order_id: OrderId) -> Result<Option<DecisionRow>, StoreError> {
    unit.records().decision_of_order(order_id).await
}

/// The newest judgements of a user, newest first.
///
/// # Errors
/// [`StoreError`].
pub async fn recent(unit: &mut Unit, user: UserId, limit: i64) -> Result<Vec<DecisionRow>, StoreError> {
    unit.records_of(user).await?.recent_decisions(user, limit).await
}
