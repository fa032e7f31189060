//! What became of dead letters, in memory.

use std::sync::Arc;

use async_trait::async_trait;
use store::StoreError;
use store::dead_letters::{LetterRow, LetterState, OpenLetters};
use store::port::DeadLetters;

use crate::record::access::Right;
use crate::record::refusal::{check, denied, limit, texts};
use crate::record::unit::{Lock, MemoryUnit, Statement, view};

const TABLE: &str = "dead_letters";
/// The one login that the policy of the table lets in.
const OWNER: &str = "supervisor";
/// What an update writes.
const COLUMNS: &[&str] = &["state", "attempts", "sent_as", "stored_seq", "by_whom", "reason", "at"];

/// Whether the row fits its table.
fn may_stand(row: &LetterRow) -> Result<(), StoreError> {
    let maybe = [&row.by, &row.reason];
    texts([&row.letter, &row.subject, &row.code].into_iter().chain(maybe.into_iter().flatten()).map(String::as_str))?;
    check((1..=128).contains(&row.letter.len()), "a letter has a name")?;
    check(row.subject.len() <= 256 && row.code.len() <= 64, "subject and code have an end")?;
    check(row.dlq_seq > 0 && row.attempts >= 0, "sequences begin at 1, attempts at 0")?;
    let is_open = row.state == LetterState::Open;
    check(is_open == row.by.is_none() && is_open == row.at.is_none(), "what was done, somebody did at some time")?;
    let is_redriven = row.state == LetterState::Redriven;
    check(is_redriven == row.sent_as.is_some(), "what was put back has an id")?;
    check(is_redriven || row.stored_seq.is_none(), "what was stored again was put back")
}

/// The rows that this login sees.
fn rows(s: &Statement<'_>) -> Result<Vec<LetterRow>, StoreError> {
    s.select(TABLE)?;
    if !s.access.is_agent(OWNER) {
        return Ok(Vec::new());
    }
    let mut rows: Vec<LetterRow> = view!(s, dead_letters).all().map(|(_, row)| row.as_ref().clone()).collect();
    rows.sort_by_key(|row| row.dlq_seq);
    Ok(rows)
}

fn put(s: &mut Statement<'_>, row: LetterRow) -> Result<(), StoreError> {
    may_stand(&row)?;
    s.lock(Lock::Letter(row.letter.clone()))?;
    s.changes.dead_letters.insert(row.letter.clone(), Some(Arc::new(row)));
    Ok(())
}

#[async_trait]
impl DeadLetters for MemoryUnit {
    async fn note_letters(&mut self, found: &[LetterRow]) -> Result<(), StoreError> {
        self.run(|s| {
            s.insert(TABLE)?;
            if !s.access.is_agent(OWNER) {
                return Err(denied("rows of the supervisor"));
            }
            for row in found {
                let known = view!(s, dead_letters).get(&row.letter).cloned();
                if known.as_ref().is_some_and(|known| known.died_at >= row.died_at) {
                    continue;
                }
                let attempts = known.map_or(row.attempts, |known| known.attempts.max(row.attempts));
                let (state, sent_as, stored_seq) = (LetterState::Open, None, None);
                let noted =
                    LetterRow { state, attempts, sent_as, stored_seq, by: None, reason: None, at: None, ..row.clone() };
                put(s, noted)?;
            }
            Ok(())
        })
    }

    async fn lock_letter(&mut self, letter: &str) -> Result<Option<LetterRow>, StoreError> {
        self.run(|s| {
            s.access.allow_lock(TABLE)?;
            texts([letter])?;
            let found = rows(s)?.into_iter().find(|row| row.letter == letter);
            if found.is_some() {
                s.lock(Lock::Letter(letter.to_owned()))?;
            }
            Ok(found)
        })
    }

    async fn set_letter(&mut self, row: &LetterRow) -> Result<bool, StoreError> {
        self.run(|s| {
            s.update(TABLE, COLUMNS)?;
            let Some(known) = rows(s)?.into_iter().find(|known| known.letter == row.letter) else { return Ok(false) };
            let LetterRow { state, attempts, sent_as, stored_seq, by, reason, at, .. } = row.clone();
            put(s, LetterRow { state, attempts, sent_as, stored_seq, by, reason, at, ..known })?;
            Ok(true)
        })
    }

    async fn letters(&mut self, closed_too: bool, most: i64) -> Result<Vec<LetterRow>, StoreError> {
        self.run(|s| {
            let mut found = rows(s)?;
            found.retain(|row| closed_too || row.is_open());
            found.truncate(limit(most)?);
            Ok(found)
        })
    }

    async fn open_letters(&mut self) -> Result<OpenLetters, StoreError> {
        self.run(|s| {
            let open: Vec<LetterRow> = rows(s)?.into_iter().filter(LetterRow::is_open).collect();
            let count = i64::try_from(open.len()).map_err(|_| StoreError::OutOfRange("count"))?;
            Ok(OpenLetters { count, oldest: open.iter().map(|row| row.died_at).min() })
        })
    }

    async fn newest_letter(&mut self) -> Result<Option<i64>, StoreError> {
        self.run(|s| Ok(rows(s)?.last().map(|row| row.dlq_seq)))
    }

    async fn forget_letters_outside(&mut self, first: i64, last: i64) -> Result<(), StoreError> {
        self.run(|s| {
            s.access.allow(TABLE, Right::Delete)?;
            for row in rows(s)?.into_iter().filter(|row| row.dlq_seq < first || row.dlq_seq > last) {
                s.lock(Lock::Letter(row.letter.clone()))?;
                s.changes.dead_letters.insert(row.letter, None);
            }
            Ok(())
        })
    }
}
