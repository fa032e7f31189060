//! People: their handle, their limits, their account.

use domain::ids::UserId;
use domain::money::Usd;
use domain::time::UnixMs;

use crate::fits::{exact, fits};
use crate::{StoreError, Unit};

/// One person's tenancy.
#[derive(Debug, Clone, PartialEq)]
pub struct User {
    /// f(handle).
    pub user_id: UserId,
    /// Short name; the last part of their door's subject.
    pub handle: String,
    /// Limits of their own, tighter than the house's.
    pub trading_constraints: serde_json::Value,
}

/// Opens the account of `handle` with `opening` in cash; an account that exists is left as it is. The unit works for
/// that user from here on.
///
/// # Errors
/// [`StoreError`].
pub async fn open_account(
    unit: &mut Unit,
    handle: &str,
    opening: Usd,
    constraints: serde_json::Value,
    now: UnixMs,
) -> Result<User, StoreError> {
    exact(opening.value())?;
    fits(now, "created_at")?;
    let user = User { user_id: UserId::of_handle(handle), handle: handle.to_owned(), trading_constraints: constraints };
    unit.set_tenant(user.user_id).await?;
    unit.records().open_account(&user, opening, now).await
}

/// One user.
///
/// # Errors
/// [`StoreError`].
pub async fn user(unit: &mut Unit, user_id: UserId) -> Result<Option<User>, StoreError> {
    unit.records_of(user_id).await?.user(user_id).await
}

/// The first users by id that this role may see: of everyone for treasury and supervisor, the unit's tenant for others.
///
/// # Errors
/// [`StoreError`].
pub async fn user_ids(unit: &mut Unit, limit: i64) -> Result<Vec<UserId>, StoreError> {
    unit.records().user_ids(limit).await
}

/// Replaces the limits of a user; `false` when there is no such user.
///
/// # Errors
/// [`StoreError`].
pub async fn set_constraints(
    unit: &mut Unit,
    user_id: UserId,
    constraints: &serde_json::Value,
) -> Result<bool, StoreError> {
    unit.records_of(user_id).await?.set_constraints(user_id, constraints).await
}
