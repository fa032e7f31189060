//! People: their handle, their limits, their account.

use domain::ids::UserId;
use domain::money::Usd;
use domain::time::UnixMs;

use crate::value::{Reader, Stamp, exact};
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

fn user_of(row: &sqlx::postgres::PgRow) -> Result<User, StoreError> {
    let row = Reader::new("users", row);
    Ok(User {
        user_id: UserId(row.uuid("user_id")?),
        handle: row.text("handle")?,
        trading_constraints: row.json("trading_constraints")?,
    })
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
    let user_id = UserId::of_handle(handle);
    unit.set_tenant(user_id).await?;
    let made = sqlx::query(
        "INSERT INTO users (user_id, handle, trading_constraints, created_at) VALUES ($1, $2, $3, $4)
         ON CONFLICT DO NOTHING",
    )
    .bind(user_id.0)
    .bind(handle)
    .bind(&constraints)
    .bind(Stamp(now))
    .execute(unit.conn())
    .await?;
    if made.rows_affected() == 1 {
        sqlx::query("INSERT INTO accounts (user_id, cash, opening, updated_at) VALUES ($1, $2, $2, $3)")
            .bind(user_id.0)
            .bind(exact(opening.value())?)
            .bind(Stamp(now))
            .execute(unit.conn())
            .await?;
        sqlx::query("INSERT INTO rails_state (user_id, losses_in_a_row, updated_at) VALUES ($1, 0, $2)")
            .bind(user_id.0)
            .bind(Stamp(now))
            .execute(unit.conn())
            .await?;
        sqlx::query("INSERT INTO equity_daily (user_id, day, equity, updated_at) VALUES ($1, $2, $3, $4)")
            .bind(user_id.0)
            .bind(now.day())
            .bind(exact(opening.value())?)
            .bind(Stamp(now))
            .execute(unit.conn())
            .await?;
    }
    let row = sqlx::query("SELECT user_id, handle, trading_constraints FROM users WHERE user_id = $1")
        .bind(user_id.0)
        .fetch_one(unit.conn())
        .await?;
    user_of(&row)
}

/// One user.
///
/// # Errors
/// [`StoreError`].
pub async fn user(unit: &mut Unit, user_id: UserId) -> Result<Option<User>, StoreError> {
    unit.require(user_id).await?;
    let row = sqlx::query("SELECT user_id, handle, trading_constraints FROM users WHERE user_id = $1")
        .bind(user_id.0)
        .fetch_optional(unit.conn())
        .await?;
    row.as_ref().map(user_of).transpose()
}

/// All users that this role may see: everyone for treasury and supervisor, the unit's tenant for others.
///
/// # Errors
/// [`StoreError`].
pub async fn user_ids(unit: &mut Unit) -> Result<Vec<UserId>, StoreError> {
    let ids: Vec<uuid::Uuid> =
        sqlx::query_scalar("SELECT user_id FROM users ORDER BY user_id").fetch_all(unit.conn()).await?;
    Ok(ids.into_iter().map(UserId).collect())
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
    unit.require(user_id).await?;
    let done = sqlx::query("UPDATE users SET trading_constraints = $2 WHERE user_id = $1")
        .bind(user_id.0)
        .bind(constraints)
        .execute(unit.conn())
        .await?;
    Ok(done.rows_affected() == 1)
}
