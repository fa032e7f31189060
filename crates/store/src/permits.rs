//! Single-use permits. A permit is spent by the desk or voided by treasury, never both.

use domain::ids::{OrderId, PermitId, UserId};
use domain::order::Permit;
use domain::time::UnixMs;

use crate::fits::fits;
use crate::{StoreError, Unit};

/// How far a permit is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PermitState {
    /// May be spent.
    Signed,
    /// The desk has committed an order on it.
    Spent,
    /// It will never be spent.
    Void,
}

impl PermitState {
    /// The word in the table.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Signed => "signed",
            Self::Spent => "spent",
            Self::Void => "void",
        }
    }

    /// Reads the word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Signed, Self::Spent, Self::Void].into_iter().find(|state| state.word() == word)
    }
}

/// A stored permit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PermitRow {
    /// What was signed.
    pub permit: Permit,
    /// Whose money.
    pub user_id: UserId,
    /// How far.
    pub state: PermitState,
}

/// A permit whose time is over and that nobody spent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DuePermit {
    /// Whose money.
    pub user_id: UserId,
    /// Which.
    pub permit_id: PermitId,
    /// The order whose reservation it holds.
    pub order_id: OrderId,
}

/// Stores a signed permit.
///
/// # Errors
/// [`StoreError`]; a second permit of one order is a unique violation.
pub async fn insert(unit: &mut Unit, permit: &Permit, user: UserId) -> Result<(), StoreError> {
    fits(permit.body.signed_at, "signed_at")?;
    fits(permit.body.expires_at, "expires_at")?;
    unit.records_of(user).await?.insert_permit(permit, user).await
}

/// Signed to spent, for a permit of the unit's tenant that is not past its time; `false` when it was anything else.
///
/// # Errors
/// [`StoreError`].
pub async fn spend(unit: &mut Unit, permit_id: PermitId, now: UnixMs) -> Result<bool, StoreError> {
    let user = unit.required()?;
    fits(now, "expires_at")?;
    unit.records().spend_permit(user, permit_id, now).await
}

/// Signed to void, for a permit of the unit's tenant; `false` when it was spent or void.
///
/// # Errors
/// [`StoreError`].
pub async fn void(unit: &mut Unit, permit_id: PermitId) -> Result<bool, StoreError> {
    let user = unit.required()?;
    unit.records().void_permit(user, permit_id).await
}

/// Permits that nobody spent in time, of all users this role may see.
///
/// # Errors
/// [`StoreError`].
pub async fn unspent_due(unit: &mut Unit, now: UnixMs) -> Result<Vec<DuePermit>, StoreError> {
    fits(now, "expires_at")?;
    unit.records().unspent_due(now).await
}

/// One permit, of any user this role may see.
///
/// # Errors
/// [`StoreError`].
pub async fn get(unit: &mut Unit, permit_id: PermitId) -> Result<Option<PermitRow>, StoreError> {
    unit.records().permit(permit_id).await
}
