//! Single-use permits. A permit is spent by the desk or voided by treasury, never both.

use domain::ids::{OrderId, PermitId, UserId};
use domain::order::Permit;
use domain::time::UnixMs;

use crate::value::{Reader, Stamp};
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
    unit.require(user).await?;
    sqlx::query(
        "INSERT INTO permits (user_id, permit_id, order_id, body, signature, state, signed_at, expires_at)
         VALUES ($1, $2, $3, $4, $5, 'signed', $6, $7)",
    )
    .bind(user.0)
    .bind(permit.body.permit_id.0)
    .bind(permit.body.envelope.order_id.0)
    .bind(serde_json::to_value(&permit.body)?)
    .bind(&permit.signature)
    .bind(Stamp(permit.body.signed_at))
    .bind(Stamp(permit.body.expires_at))
    .execute(unit.conn())
    .await?;
    Ok(())
}

/// Signed to spent, for a permit of the unit's tenant that is not past its time; `false` when it was anything else.
///
/// # Errors
/// [`StoreError`].
pub async fn spend(unit: &mut Unit, permit_id: PermitId, now: UnixMs) -> Result<bool, StoreError> {
    let user = unit.required()?;
    let done = sqlx::query(
        "UPDATE permits SET state = 'spent', changed_at = clock_timestamp()
         WHERE user_id = $1 AND permit_id = $2 AND state = 'signed' AND expires_at > $3",
    )
    .bind(user.0)
    .bind(permit_id.0)
    .bind(Stamp(now))
    .execute(unit.conn())
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Signed to void, for a permit of the unit's tenant; `false` when it was spent or void.
///
/// # Errors
/// [`StoreError`].
pub async fn void(unit: &mut Unit, permit_id: PermitId) -> Result<bool, StoreError> {
    let user = unit.required()?;
    let done = sqlx::query(
        "UPDATE permits SET state = 'void', changed_at = clock_timestamp()
         WHERE user_id = $1 AND permit_id = $2 AND state = 'signed'",
    )
    .bind(user.0)
    .bind(permit_id.0)
    .execute(unit.conn())
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Permits that nobody spent in time, of all users this role may see.
///
/// # Errors
/// [`StoreError`].
pub async fn unspent_due(unit: &mut Unit, now: UnixMs) -> Result<Vec<DuePermit>, StoreError> {
    let rows = sqlx::query(
        "SELECT user_id, permit_id, order_id FROM permits WHERE state = 'signed' AND expires_at <= $1
         ORDER BY expires_at, permit_id",
    )
    .bind(Stamp(now))
    .fetch_all(unit.conn())
    .await?;
    rows.iter()
        .map(|row| {
            let row = Reader::new("permits", row);
            Ok(DuePermit {
                user_id: UserId(row.uuid("user_id")?),
                permit_id: PermitId(row.uuid("permit_id")?),
                order_id: OrderId(row.uuid("order_id")?),
            })
        })
        .collect()
}

/// One permit, of any user this role may see.
///
/// # Errors
/// [`StoreError`].
pub async fn get(unit: &mut Unit, permit_id: PermitId) -> Result<Option<PermitRow>, StoreError> {
    let row = sqlx::query("SELECT user_id, body, signature, state FROM permits WHERE permit_id = $1")
        .bind(permit_id.0)
        .fetch_optional(unit.conn())
        .await?;
    row.map(|row| {
        let row = Reader::new("permits", &row);
        Ok(PermitRow {
            permit: Permit { body: serde_json::from_value(row.json("body")?)?, signature: row.text("signature")? },
            user_id: UserId(row.uuid("user_id")?),
            state: row.word("state", PermitState::parse)?,
        })
    })
    .transpose()
}
