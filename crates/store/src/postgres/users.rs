//! Accounts in Postgres.

use async_trait::async_trait;
use domain::ids::UserId;
use domain::money::Usd;
use domain::time::UnixMs;
use sqlx::postgres::PgRow;

use super::PgUnit;
use super::value::{Reader, Stamp};
use crate::StoreError;
use crate::port::Users;
use crate::users::User;

fn user_of(row: &PgRow) -> Result<User, StoreError> {
    let row = Reader::new("users", row);
    Ok(User {
        user_id: UserId(row.uuid("user_id")?),
        handle: row.text("handle")?,
        trading_constraints: row.json("trading_constraints")?,
    })
}

#[async_trait]
impl Users for PgUnit {
    async fn open_account(&mut self, user: &User, opening: Usd, now: UnixMs) -> Result<User, StoreError> {
        let user_id = user.user_id;
        let made = sqlx::query(
            "INSERT INTO users (user_id, handle, trading_constraints, created_at) VALUES ($1, $2, $3, $4)
         ON CONFLICT DO NOTHING",
        )
        .bind(user_id.0)
        .bind(&user.handle)
        .bind(&user.trading_constraints)
        .bind(Stamp(now))
        .execute(self.conn())
        .await?;
        if made.rows_affected() == 1 {
            sqlx::query("INSERT INTO accounts (user_id, cash, opening, updated_at) VALUES ($1, $2, $2, $3)")
                .bind(user_id.0)
                .bind(opening.value())
                .bind(Stamp(now))
                .execute(self.conn())
                .await?;
            sqlx::query("INSERT INTO rails_state (user_id, losses_in_a_row, updated_at) VALUES ($1, 0, $2)")
                .bind(user_id.0)
                .bind(Stamp(now))
                .execute(self.conn())
                .await?;
            sqlx::query("INSERT INTO equity_daily (user_id, day, equity, updated_at) VALUES ($1, $2, $3, $4)")
                .bind(user_id.0)
                .bind(now.day())
                .bind(opening.value())
                .bind(Stamp(now))
                .execute(self.conn())
                .await?;
        }
        let row = sqlx::query("SELECT user_id, handle, trading_constraints FROM users WHERE user_id = $1")
            .bind(user_id.0)
            .fetch_one(self.conn())
            .await?;
        user_of(&row)
    }

    async fn user(&mut self, user_id: UserId) -> Result<Option<User>, StoreError> {
        let row = sqlx::query("SELECT user_id, handle, trading_constraints FROM users WHERE user_id = $1")
            .bind(user_id.0)
            .fetch_optional(self.conn())
            .await?;
        row.as_ref().map(user_of).transpose()
    }

    async fn user_ids(&mut self, limit: i64) -> Result<Vec<UserId>, StoreError> {
        let ids: Vec<uuid::Uuid> = sqlx::query_scalar("SELECT user_id FROM users ORDER BY user_id LIMIT $1")
            .bind(limit)
            .fetch_all(self.conn())
            .await?;
        Ok(ids.into_iter().map(UserId).collect())
    }

    async fn set_constraints(&mut self, user_id: UserId, constraints: &serde_json::Value) -> Result<bool, StoreError> {
        let done = sqlx::query("UPDATE users SET trading_constraints = $2 WHERE user_id = $1")
            .bind(user_id.0)
            .bind(constraints)
            .execute(self.conn())
            .await?;
        Ok(done.rows_affected() == 1)
    }
}
