//! What the rails said, once per leg of a signal.

use domain::canonical::Sha256Digest;
use domain::ids::{IntentId, MessageId, OrderId, UserId};
use domain::time::UnixMs;
use sqlx::postgres::PgRow;

use crate::value::{Reader, Stamp};
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

fn decision_of(row: &PgRow) -> Result<DecisionRow, StoreError> {
    let row = Reader::new("policy_decisions", row);
    let digest = match row.get::<Option<&[u8]>>("digest")? {
        Some(_) => Some(row.digest("digest")?),
        None => None,
    };
    Ok(DecisionRow {
        user_id: UserId(row.uuid("user_id")?),
        order_id: OrderId(row.uuid("order_id")?),
        intent_id: IntentId(row.uuid("intent_id")?),
        signal_id: MessageId(row.uuid("signal_id")?),
        leg: u16::try_from(row.get::<i32>("leg")?).map_err(|_| row.corrupt("leg"))?,
        outcome: row.word("outcome", Outcome::parse)?,
        code: row.get("code")?,
        numbers: row.json("numbers")?,
        envelope: row.get("envelope")?,
        digest,
        policy_version: row.text("policy_version")?,
        at: row.time("at")?,
    })
}

/// Stores a judgement; `false` when that leg of that signal was judged before.
///
/// # Errors
/// [`StoreError`].
pub async fn insert(unit: &mut Unit, row: &DecisionRow) -> Result<bool, StoreError> {
    unit.require(row.user_id).await?;
    let done = sqlx::query(
        "INSERT INTO policy_decisions (user_id, order_id, intent_id, signal_id, leg, outcome, code, numbers, envelope,
           digest, policy_version, at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) ON CONFLICT DO NOTHING",
    )
    .bind(row.user_id.0)
    .bind(row.order_id.0)
    .bind(row.intent_id.0)
    .bind(row.signal_id.0)
    .bind(i32::from(row.leg))
    .bind(row.outcome.word())
    .bind(&row.code)
    .bind(&row.numbers)
    .bind(&row.envelope)
    .bind(row.digest.as_ref().map(|digest| &digest.0[..]))
    .bind(&row.policy_version)
    .bind(Stamp(row.at))
    .execute(unit.conn())
    .await?;
    Ok(done.rows_affected() == 1)
}

/// The judgement of an order.
///
/// # Errors
/// [`StoreError`].
pub async fn get_by_order(unit: &mut Unit, order_id: OrderId) -> Result<Option<DecisionRow>, StoreError> {
    let row = sqlx::query("SELECT * FROM policy_decisions WHERE order_id = $1")
        .bind(order_id.0)
        .fetch_optional(unit.conn())
        .await?;
    row.as_ref().map(decision_of).transpose()
}

/// The newest judgements of a user, newest first.
///
/// # Errors
/// [`StoreError`].
pub async fn recent(unit: &mut Unit, user: UserId, limit: i64) -> Result<Vec<DecisionRow>, StoreError> {
    unit.require(user).await?;
    let rows = sqlx::query("SELECT * FROM policy_decisions WHERE user_id = $1 ORDER BY position DESC LIMIT $2")
        .bind(user.0)
        .bind(limit)
        .fetch_all(unit.conn())
        .await?;
    rows.iter().map(decision_of).collect()
}
