//! What people are to be told in Telegram and were not told yet.

use domain::ids::MessageId;
use domain::time::UnixMs;

use crate::fits::fits;
use crate::{StoreError, Unit};

/// One line for one chat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queued {
    /// The fact that it tells of.
    pub message_id: MessageId,
    /// To whom.
    pub chat_id: i64,
    /// In the words that are sent.
    pub text: String,
    /// When the fact was taken.
    pub made_at: UnixMs,
}

/// Queues a line; `false` when that fact is queued for that chat already.
///
/// # Errors
/// [`StoreError`].
pub async fn put(unit: &mut Unit, line: &Queued) -> Result<bool, StoreError> {
    fits(line.made_at, "made_at")?;
    unit.records().insert_notice(line).await
}

/// What waits, oldest first.
///
/// # Errors
/// [`StoreError`].
pub async fn queued(unit: &mut Unit, limit: i64) -> Result<Vec<Queued>, StoreError> {
    unit.records().notices(limit).await
}

/// Forgets lines that were told.
///
/// # Errors
/// [`StoreError`].
pub async fn end(unit: &mut Unit, told: &[Queued]) -> Result<(), StoreError> {
    unit.records().delete_notices(told).await
}
