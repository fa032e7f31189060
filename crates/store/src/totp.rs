//! Authenticators of people: the secrets, and the steps whose code was used. What a code is worth is checked above.

use domain::ids::ApprovalId;
use domain::time::UnixMs;

use crate::fits::fits;
use crate::{StoreError, Unit};

/// A step whose code was used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spent {
    /// Whose.
    pub person_id: String,
    /// Number of the 30-second step since the epoch.
    pub step: i64,
    /// For which request.
    pub approval_id: ApprovalId,
    /// When.
    pub at: UnixMs,
}

/// The secret of a person's authenticator.
///
/// # Errors
/// [`StoreError`].
pub async fn secret(unit: &mut Unit, person_id: &str) -> Result<Option<Vec<u8>>, StoreError> {
    unit.records().totp_secret(person_id).await
}

/// Sets it, in the place of an earlier one. Administrators only, as for keys: whoever could set it could approve.
///
/// # Errors
/// [`StoreError`]; an unknown person is a foreign key violation, a secret under 16 bytes a check violation.
pub async fn set_secret(unit: &mut Unit, person_id: &str, secret: &[u8], now: UnixMs) -> Result<(), StoreError> {
    fits(now, "enrolled_at")?;
    unit.records().set_totp_secret(person_id, secret, now).await
}

/// Uses a step; `false` when its code was used before, for whatever.
///
/// # Errors
/// [`StoreError`].
pub async fn spend(unit: &mut Unit, spent: &Spent) -> Result<bool, StoreError> {
    fits(spent.at, "at")?;
    unit.records().spend_totp_step(spent).await
}

/// What a step was used for.
///
/// # Errors
/// [`StoreError`].
pub async fn spent(unit: &mut Unit, person_id: &str, step: i64) -> Result<Option<Spent>, StoreError> {
    unit.records().spent_totp_step(person_id, step).await
}
