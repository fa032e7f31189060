//! What became of dead letters. The letters lie in a stream that nobody may delete from; here is which of them wait for a
//! person, and what a person did.

use domain::ids::{MessageId, UserId};
use domain::time::UnixMs;
use uuid::Uuid;

use crate::fits::fits;
use crate::{StoreError, Unit};

/// What became of a letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LetterState {
    /// Nobody did anything about it yet.
    Open,
    /// Its message was put back.
    Redriven,
    /// Somebody decided that it stays dead.
    Dropped,
}

impl LetterState {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Open, Self::Redriven, Self::Dropped];

    /// The word in tables.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Redriven => "redriven",
            Self::Dropped => "dropped",
        }
    }

    /// Reads the word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.word() == word)
    }
}

/// A letter and what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LetterRow {
    /// `<stream>:<seq>` of the message that died.
    pub letter: String,
    /// Where the letter lies in the stream of dead letters.
    pub dlq_seq: i64,
    /// When the message was given up.
    pub died_at: UnixMs,
    /// The subject it was published to.
    pub subject: String,
    /// Why it was given up.
    pub code: String,
    /// `None` when it could not be read.
    pub message_id: Option<MessageId>,
    /// Whose; `None` when it is nobody's, or could not be read.
    pub user_id: Option<UserId>,
    /// Until when it may be acted on.
    pub valid_until: Option<UnixMs>,
    /// What became of it.
    pub state: LetterState,
    /// How often the message was put back, as an earlier letter too.
    pub attempts: i32,
    /// Under which id it was put back.
    pub sent_as: Option<Uuid>,
    /// Where in its stream it was stored again; `None` until the stream said so.
    pub stored_seq: Option<i64>,
    /// Who put it back or dropped it.
    pub by: Option<String>,
    /// Why, in their words.
    pub reason: Option<String>,
    /// When.
    pub at: Option<UnixMs>,
}

impl LetterRow {
    /// It still waits for a person: nothing was done, or the stream never said that it took the message again.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.state == LetterState::Open || (self.state == LetterState::Redriven && self.stored_seq.is_none())
    }
}

/// How much waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OpenLetters {
    /// How many letters.
    pub count: i64,
    /// When the oldest of them died.
    pub oldest: Option<UnixMs>,
}

/// Writes down letters that were found in the stream, as open. One that is known stays as it is, unless its message died
/// again since: then it is open again.
///
/// # Errors
/// [`StoreError`].
pub async fn note(unit: &mut Unit, rows: &[LetterRow]) -> Result<(), StoreError> {
    for row in rows {
        fits(row.died_at, "died_at")?;
        row.valid_until.map_or(Ok(()), |until| fits(until, "valid_until"))?;
    }
    unit.records().note_letters(rows).await
}

/// A letter, which nobody else changes until this unit ends.
///
/// # Errors
/// [`StoreError`].
pub async fn lock(unit: &mut Unit, letter: &str) -> Result<Option<LetterRow>, StoreError> {
    unit.records().lock_letter(letter).await
}

/// Writes what became of a letter: state, attempts, where it went, who, why and when. Says whether there was one.
///
/// # Errors
/// [`StoreError`].
pub async fn set(unit: &mut Unit, row: &LetterRow) -> Result<bool, StoreError> {
    row.at.map_or(Ok(()), |at| fits(at, "at"))?;
    unit.records().set_letter(row).await
}

/// Letters that wait, or all of them, oldest first.
///
/// # Errors
/// [`StoreError`].
pub async fn list(unit: &mut Unit, closed_too: bool, limit: i64) -> Result<Vec<LetterRow>, StoreError> {
    unit.records().letters(closed_too, limit).await
}

/// How many wait, and since when.
///
/// # Errors
/// [`StoreError`].
pub async fn open(unit: &mut Unit) -> Result<OpenLetters, StoreError> {
    unit.records().open_letters().await
}

/// The newest place in the stream of dead letters that was written down.
///
/// # Errors
/// [`StoreError`].
pub async fn newest(unit: &mut Unit) -> Result<Option<i64>, StoreError> {
    unit.records().newest_letter().await
}

/// Forgets letters that the stream does not hold any more, which reaches from `first` to `last`.
///
/// # Errors
/// [`StoreError`].
pub async fn forget_outside(unit: &mut Unit, first: i64, last: i64) -> Result<(), StoreError> {
    unit.records().forget_letters_outside(first, last).await
}
