//! What became of dead letters, in Postgres.

use async_trait::async_trait;
use domain::ids::{MessageId, UserId};
use sqlx::postgres::PgRow;
use uuid::Uuid;

use super::PgUnit;
use super::value::{Reader, Stamp};
use crate::StoreError;
use crate::dead_letters::{LetterRow, LetterState, OpenLetters};
use crate::port::DeadLetters;

fn letter_of(row: &PgRow) -> Result<LetterRow, StoreError> {
    let row = Reader::new("dead_letters", row);
    Ok(LetterRow {
        letter: row.text("letter")?,
        dlq_seq: row.get("dlq_seq")?,
        died_at: row.time("died_at")?,
        subject: row.text("subject")?,
        code: row.text("code")?,
        message_id: row.get::<Option<Uuid>>("message_id")?.map(MessageId),
        user_id: row.get::<Option<Uuid>>("user_id")?.map(UserId),
        valid_until: row.maybe_time("valid_until")?,
        state: row.word("state", LetterState::parse)?,
        attempts: row.get("attempts")?,
        sent_as: row.get("sent_as")?,
        stored_seq: row.get("stored_seq")?,
        by: row.get("by_whom")?,
        reason: row.get("reason")?,
        at: row.maybe_time("at")?,
    })
}

#[async_trait]
impl DeadLetters for PgUnit {
    async fn note_letters(&mut self, rows: &[LetterRow]) -> Result<(), StoreError> {
        for row in rows {
            sqlx::query(
                "INSERT INTO dead_letters AS found
                   (letter, dlq_seq, died_at, subject, code, message_id, user_id, valid_until, state, attempts)
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 'open', $9)
                 ON CONFLICT (letter) DO UPDATE SET dlq_seq = EXCLUDED.dlq_seq, died_at = EXCLUDED.died_at,
                   subject = EXCLUDED.subject, code = EXCLUDED.code, message_id = EXCLUDED.message_id,
                   user_id = EXCLUDED.user_id, valid_until = EXCLUDED.valid_until, state = 'open',
                   attempts = greatest(found.attempts, EXCLUDED.attempts), sent_as = NULL, stored_seq = NULL,
                   by_whom = NULL, reason = NULL, at = NULL
                 WHERE found.died_at < EXCLUDED.died_at",
            )
            .bind(&row.letter)
            .bind(row.dlq_seq)
            .bind(Stamp(row.died_at))
            .bind(&row.subject)
            .bind(&row.code)
            .bind(row.message_id.map(|id| id.0))
            .bind(row.user_id.map(|id| id.0))
            .bind(row.valid_until.map(Stamp))
            .bind(row.attempts)
            .execute(self.conn())
            .await?;
        }
        Ok(())
    }

    async fn lock_letter(&mut self, letter: &str) -> Result<Option<LetterRow>, StoreError> {
        let row = sqlx::query("SELECT * FROM dead_letters WHERE letter = $1 FOR UPDATE")
            .bind(letter)
            .fetch_optional(self.conn())
            .await?;
        row.as_ref().map(letter_of).transpose()
    }

    async fn set_letter(&mut self, row: &LetterRow) -> Result<bool, StoreError> {
        let done = sqlx::query(
            "UPDATE dead_letters SET state = $2, attempts = $3, sent_as = $4, stored_seq = $5, by_whom = $6, reason = $7,
               at = $8 WHERE letter = $1",
        )
        .bind(&row.letter)
        .bind(row.state.word())
        .bind(row.attempts)
        .bind(row.sent_as)
        .bind(row.stored_seq)
        .bind(&row.by)
        .bind(&row.reason)
        .bind(row.at.map(Stamp))
        .execute(self.conn())
        .await?;
        Ok(done.rows_affected() == 1)
    }

    async fn letters(&mut self, closed_too: bool, limit: i64) -> Result<Vec<LetterRow>, StoreError> {
        let rows = sqlx::query(
            "SELECT * FROM dead_letters WHERE $1 OR state = 'open' OR (state = 'redriven' AND stored_seq IS NULL)
             ORDER BY dlq_seq LIMIT $2",
        )
        .bind(closed_too)
        .bind(limit)
        .fetch_all(self.conn())
        .await?;
        rows.iter().map(letter_of).collect()
    }

    async fn open_letters(&mut self) -> Result<OpenLetters, StoreError> {
        let row = sqlx::query(
            "SELECT count(*) AS count, min(died_at) AS oldest FROM dead_letters
             WHERE state = 'open' OR (state = 'redriven' AND stored_seq IS NULL)",
        )
        .fetch_one(self.conn())
        .await?;
        let row = Reader::new("dead_letters", &row);
        Ok(OpenLetters { count: row.get("count")?, oldest: row.maybe_time("oldest")? })
    }

    async fn newest_letter(&mut self) -> Result<Option<i64>, StoreError> {
        Ok(sqlx::query_scalar("SELECT max(dlq_seq) FROM dead_letters").fetch_one(self.conn()).await?)
    }

    async fn forget_letters_outside(&mut self, first: i64, last: i64) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM dead_letters WHERE dlq_seq < $1 OR dlq_seq > $2")
            .bind(first)
            .bind(last)
            .execute(self.conn())
            .await?;
        Ok(())
    }
}
