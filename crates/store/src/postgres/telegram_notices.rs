//! The queue of Telegram's notices in Postgres.

use async_trait::async_trait;
use domain::ids::MessageId;

use super::PgUnit;
use super::value::{Reader, Stamp};
use crate::StoreError;
use crate::port::TelegramNotices;
use crate::telegram_notices::Queued;

#[async_trait]
impl TelegramNotices for PgUnit {
    async fn insert_notice(&mut self, line: &Queued) -> Result<bool, StoreError> {
        let done = sqlx::query(
            "INSERT INTO telegram_notices (message_id, chat_id, text, made_at) VALUES ($1, $2, $3, $4)
             ON CONFLICT DO NOTHING",
        )
        .bind(line.message_id.0)
        .bind(line.chat_id)
        .bind(&line.text)
        .bind(Stamp(line.made_at))
        .execute(self.conn())
        .await?;
        Ok(done.rows_affected() == 1)
    }

    async fn notices(&mut self, limit: i64) -> Result<Vec<Queued>, StoreError> {
        let rows = sqlx::query(
            "SELECT message_id, chat_id, text, made_at FROM telegram_notices ORDER BY made_at, message_id, chat_id LIMIT $1",
        )
        .bind(limit)
        .fetch_all(self.conn())
        .await?;
        rows.iter()
            .map(|row| {
                let row = Reader::new("telegram_notices", row);
                Ok(Queued {
                    message_id: MessageId(row.uuid("message_id")?),
                    chat_id: row.get("chat_id")?,
                    text: row.text("text")?,
                    made_at: row.time("made_at")?,
                })
            })
            .collect()
    }

    async fn delete_notices(&mut self, told: &[Queued]) -> Result<(), StoreError> {
        let ids: Vec<uuid::Uuid> = told.iter().map(|line| line.message_id.0).collect();
        let chats: Vec<i64> = told.iter().map(|line| line.chat_id).collect();
        sqlx::query(
            "DELETE FROM telegram_notices n USING unnest($1::uuid[], $2::bigint[]) AS told (message_id, chat_id)
             WHERE n.message_id = told.message_id AND n.chat_id = told.chat_id",
        )
        .bind(ids)
        .bind(chats)
        .execute(self.conn())
        .await?;
        Ok(())
    }
}
