//! Telegram's updates, accounts and prompts in Postgres.

use async_trait::async_trait;
use domain::canonical::Sha256Digest;
use domain::ids::ApprovalId;
use domain::time::UnixMs;
use sqlx::postgres::PgRow;

use super::PgUnit;
use super::value::{Reader, Stamp};
use crate::StoreError;
use crate::port::Telegram;
use crate::telegram::{Account, Link, Prompt, Update};

fn update_of(row: &PgRow) -> Result<Update, StoreError> {
    let row = Reader::new("telegram_updates", row);
    Ok(Update {
        update_id: row.get("update_id")?,
        received_at: row.time("received_at")?,
        raw: row.json("raw")?,
        kind: row.text("kind")?,
        handled_at: row.maybe_time("handled_at")?,
        outcome: row.get("outcome")?,
    })
}

fn link_of(row: &PgRow) -> Result<Link, StoreError> {
    let row = Reader::new("telegram_links", row);
    Ok(Link {
        code_hash: row.digest("code_hash")?,
        person_id: row.text("person_id")?,
        act: row.json("act")?,
        made_at: row.time("made_at")?,
        expires_at: row.time("expires_at")?,
        used_by: row.get("used_by")?,
        used_at: row.maybe_time("used_at")?,
    })
}

fn account_of(row: &PgRow) -> Result<Account, StoreError> {
    let row = Reader::new("telegram_accounts", row);
    Ok(Account {
        telegram_user_id: row.get("telegram_user_id")?,
        person_id: row.text("person_id")?,
        chat_id: row.get("chat_id")?,
        linked_at: row.time("linked_at")?,
        active: row.get("active")?,
    })
}

fn prompt_of(row: &PgRow) -> Result<Prompt, StoreError> {
    let row = Reader::new("telegram_prompts", row);
    Ok(Prompt {
        approval_id: ApprovalId(row.uuid("approval_id")?),
        person_id: row.text("person_id")?,
        chat_id: row.get("chat_id")?,
        message_id: row.get("message_id")?,
        sent_at: row.time("sent_at")?,
        edited_at: row.maybe_time("edited_at")?,
        is_final: row.get("final")?,
    })
}

#[async_trait]
impl Telegram for PgUnit {
    async fn insert_update(&mut self, update: &Update) -> Result<bool, StoreError> {
        let done = sqlx::query(
            "INSERT INTO telegram_updates (update_id, received_at, raw, kind) VALUES ($1, $2, $3, $4)
             ON CONFLICT DO NOTHING",
        )
        .bind(update.update_id)
        .bind(Stamp(update.received_at))
        .bind(&update.raw)
        .bind(&update.kind)
        .execute(self.conn())
        .await?;
        Ok(done.rows_affected() == 1)
    }

    async fn unhandled_updates(&mut self, limit: i64) -> Result<Vec<Update>, StoreError> {
        let rows = sqlx::query("SELECT * FROM telegram_updates WHERE handled_at IS NULL ORDER BY update_id LIMIT $1")
            .bind(limit)
            .fetch_all(self.conn())
            .await?;
        rows.iter().map(update_of).collect()
    }

    async fn set_update_handled(&mut self, update_id: i64, outcome: &str, now: UnixMs) -> Result<bool, StoreError> {
        let done = sqlx::query(
            "UPDATE telegram_updates SET handled_at = $2, outcome = $3 WHERE update_id = $1 AND handled_at IS NULL",
        )
        .bind(update_id)
        .bind(Stamp(now))
        .bind(outcome)
        .execute(self.conn())
        .await?;
        Ok(done.rows_affected() == 1)
    }

    async fn update(&mut self, update_id: i64) -> Result<Option<Update>, StoreError> {
        let row = sqlx::query("SELECT * FROM telegram_updates WHERE update_id = $1")
            .bind(update_id)
            .fetch_optional(self.conn())
            .await?;
        row.as_ref().map(update_of).transpose()
    }

    async fn insert_link(&mut self, link: &Link) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO telegram_links (code_hash, person_id, act, made_at, expires_at) VALUES ($1, $2, $3, $4, $5)",
        )
        .bind(&link.code_hash.0[..])
        .bind(&link.person_id)
        .bind(&link.act)
        .bind(Stamp(link.made_at))
        .bind(Stamp(link.expires_at))
        .execute(self.conn())
        .await?;
        Ok(())
    }

    async fn take_link(&mut self, hash: Sha256Digest, by: i64, now: UnixMs) -> Result<Option<String>, StoreError> {
        Ok(sqlx::query_scalar(
            "UPDATE telegram_links SET used_by = $2, used_at = $3
             WHERE code_hash = $1 AND used_by IS NULL AND expires_at > $3 RETURNING person_id",
        )
        .bind(&hash.0[..])
        .bind(by)
        .bind(Stamp(now))
        .fetch_optional(self.conn())
        .await?)
    }

    async fn links_used_by(&mut self, telegram_user_id: i64) -> Result<Vec<Link>, StoreError> {
        let rows = sqlx::query("SELECT * FROM telegram_links WHERE used_by = $1 ORDER BY used_at, code_hash")
            .bind(telegram_user_id)
            .fetch_all(self.conn())
            .await?;
        rows.iter().map(link_of).collect()
    }

    async fn upsert_account(&mut self, account: &Account) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO telegram_accounts (telegram_user_id, person_id, chat_id, linked_at, active)
             VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT (telegram_user_id) DO UPDATE SET person_id = EXCLUDED.person_id, chat_id = EXCLUDED.chat_id,
               linked_at = EXCLUDED.linked_at, active = EXCLUDED.active",
        )
        .bind(account.telegram_user_id)
        .bind(&account.person_id)
        .bind(account.chat_id)
        .bind(Stamp(account.linked_at))
        .bind(account.active)
        .execute(self.conn())
        .await?;
        Ok(())
    }

    async fn account(&mut self, telegram_user_id: i64) -> Result<Option<Account>, StoreError> {
        let row = sqlx::query("SELECT * FROM telegram_accounts WHERE telegram_user_id = $1")
            .bind(telegram_user_id)
            .fetch_optional(self.conn())
            .await?;
        row.as_ref().map(account_of).transpose()
    }

    async fn accounts_of(&mut self, person_id: &str) -> Result<Vec<Account>, StoreError> {
        let rows = sqlx::query("SELECT * FROM telegram_accounts WHERE person_id = $1 ORDER BY telegram_user_id")
            .bind(person_id)
            .fetch_all(self.conn())
            .await?;
        rows.iter().map(account_of).collect()
    }

    async fn insert_prompt(&mut self, prompt: &Prompt) -> Result<bool, StoreError> {
        let done = sqlx::query(
            "INSERT INTO telegram_prompts (approval_id, person_id, chat_id, message_id, sent_at, edited_at, final)
             VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING",
        )
        .bind(prompt.approval_id.0)
        .bind(&prompt.person_id)
        .bind(prompt.chat_id)
        .bind(prompt.message_id)
        .bind(Stamp(prompt.sent_at))
        .bind(prompt.edited_at.map(Stamp))
        .bind(prompt.is_final)
        .execute(self.conn())
        .await?;
        Ok(done.rows_affected() == 1)
    }

    async fn prompts(&mut self, approval_id: ApprovalId) -> Result<Vec<Prompt>, StoreError> {
        let rows = sqlx::query(
            "SELECT * FROM telegram_prompts WHERE approval_id = $1 ORDER BY sent_at, person_id, chat_id, message_id",
        )
        .bind(approval_id.0)
        .fetch_all(self.conn())
        .await?;
        rows.iter().map(prompt_of).collect()
    }

    async fn open_prompts(&mut self) -> Result<Vec<Prompt>, StoreError> {
        let rows = sqlx::query(
            "SELECT * FROM telegram_prompts WHERE NOT final
             ORDER BY sent_at, approval_id, person_id, chat_id, message_id",
        )
        .fetch_all(self.conn())
        .await?;
        rows.iter().map(prompt_of).collect()
    }

    async fn set_prompt_edited(&mut self, prompt: &Prompt, now: UnixMs, is_final: bool) -> Result<bool, StoreError> {
        let done = sqlx::query(
            "UPDATE telegram_prompts SET edited_at = $5, final = $6
             WHERE approval_id = $1 AND person_id = $2 AND chat_id = $3 AND message_id = $4 AND NOT final",
        )
        .bind(prompt.approval_id.0)
        .bind(&prompt.person_id)
        .bind(prompt.chat_id)
        .bind(prompt.message_id)
        .bind(Stamp(now))
        .bind(is_final)
        .execute(self.conn())
        .await?;
        Ok(done.rows_affected() == 1)
    }

    async fn telegram_state(&mut self, key: &str) -> Result<Option<String>, StoreError> {
        Ok(sqlx::query_scalar("SELECT value FROM telegram_state WHERE key = $1")
            .bind(key)
            .fetch_optional(self.conn())
            .await?)
    }

    async fn set_telegram_state(&mut self, key: &str, value: &str) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO telegram_state (key, value) VALUES ($1, $2)
             ON CONFLICT (key) DO UPDATE SET value = EXCLUDED.value",
        )
        .bind(key)
        .bind(value)
        .execute(self.conn())
        .await?;
        Ok(())
    }
}
