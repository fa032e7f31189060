//! Dead letters: which of them wait for a person, what they say, and what a person does about them.
//!
//! A message that is put back goes to its own subject, as its sender's bytes under its sender's id: it walks the whole road and
//! every check again, and what was handled before counts once. Nothing here knows what it means.

mod acts;
mod watch;

use bus::codec;
use bus::letters::end_of;
use bus::{Bus, Letter};
use domain::message::clean_text;
use domain::subject::Subject;
use domain::time::UnixMs;
use runtime::{HandleError, Record};
use serde_json::{Value, json};
use store::Unit;
use store::dead_letters::{LetterRow, LetterState};
use tokio::sync::Mutex;

pub use acts::{drop_letter, redrive};
pub use watch::{Crossings, Thresholds, run};

use crate::answer::Refused;
use crate::services::{Answer, nobody};

/// Letters read at one look; the next look goes on.
const AT_ONCE: usize = 500;
/// Letters in one answer, the oldest first.
const MOST_LISTED: i64 = 200;
/// How often a message is put back at most.
const MOST_REDRIVES: i32 = 5;

/// One look at the stream at a time: what one look found is not what another forgets.
#[derive(Debug, Default)]
pub struct Reading(Mutex<()>);

/// Writes down letters that came since the last look, and forgets those that the stream lost. Says whether it got to the end.
///
/// # Errors
/// The stream does not answer, or the store.
pub async fn catch_up(reading: &Reading, work: &impl Record, bus: &Bus) -> Result<bool, HandleError> {
    let _alone = reading.0.lock().await;
    let retry = |error: bus::BusError| HandleError::Retry(error.to_string());
    let (first, last) = bus.letters_range().await.map_err(retry)?;
    let mut unit = work.begin(nobody()).await?;
    store::dead_letters::forget_outside(&mut unit, signed(first), signed(last)).await?;
    let newest = store::dead_letters::newest(&mut unit).await?;
    let next = newest.map_or(first, |seq| u64::try_from(seq).unwrap_or(0) + 1);
    let found = if next <= last { bus.letters_from(next, AT_ONCE).await.map_err(retry)? } else { Vec::new() };
    let rows: Vec<LetterRow> = found.iter().map(row_of).collect();
    store::dead_letters::note(&mut unit, &rows).await?;
    unit.commit().await?;
    Ok(rows.len() < AT_ONCE)
}

fn signed(seq: u64) -> i64 {
    i64::try_from(seq).unwrap_or(i64::MAX)
}

fn row_of(letter: &Letter) -> LetterRow {
    let message = letter.message().ok();
    let header = message.as_ref().map(|message| &message.header);
    let cut = |text: &str, longest: usize| clean_text(text).chars().take(longest).collect::<String>();
    LetterRow {
        letter: cut(&letter.id, 100),
        dlq_seq: signed(letter.seq),
        died_at: letter.died_at,
        subject: cut(&letter.raw.subject, 200),
        code: cut(&letter.code, 64),
        message_id: header.map(|header| header.message_id),
        user_id: header.map(|header| header.user_id).filter(|user| !user.0.is_nil()),
        valid_until: message.as_ref().and_then(end_of),
        state: LetterState::Open,
        attempts: i32::try_from(letter.redrives).unwrap_or(i32::MAX),
        sent_as: None,
        stored_seq: None,
        by: None,
        reason: None,
        at: None,
    }
}

/// Why a letter's message can't be put back; `None` when it can.
fn why_not(row: &LetterRow, now: UnixMs) -> Option<Refused> {
    let is_command = Subject::parse(&row.subject).is_some_and(|subject| subject.route().is_command());
    let (code, detail) = match row.state {
        LetterState::Dropped => ("DROPPED", "somebody decided that it stays dead"),
        LetterState::Redriven if row.stored_seq.is_some() => {
            ("ALREADY_REDRIVEN", "it was put back; if it died again it has a letter of its own")
        }
        _ if row.message_id.is_none() => ("UNREADABLE", "it can't be read, so nobody could handle it; drop it"),
        _ if !is_command => ("NOT_A_COMMAND", "it only says that a table has news, which is read there; drop it"),
        _ if row.valid_until.is_some_and(|end| end <= now) => {
            ("EXPIRED", "its end has passed: nobody may act on it any more; drop it")
        }
        LetterState::Open if row.attempts >= MOST_REDRIVES => ("TOO_MANY_REDRIVES", "it was put back 5 times; drop it"),
        _ => return None,
    };
    Some(Refused::new(code, detail))
}

/// Which number the next putting back has. One that no stream confirmed is repeated under its own.
const fn next_number(row: &LetterRow) -> i32 {
    if matches!(row.state, LetterState::Redriven) { row.attempts } else { row.attempts.saturating_add(1) }
}

fn shown(row: &LetterRow, now: UnixMs) -> Value {
    let refused = why_not(row, now);
    json!({
        "letter": row.letter,
        "died_at": row.died_at.to_string(),
        "died_at_ms": row.died_at,
        "age_s": now.since_ms(row.died_at).max(0) / 1_000,
        "subject": row.subject,
        "user_id": row.user_id,
        "message_id": row.message_id,
        "code": row.code,
        "valid_until": row.valid_until.map(|end| end.to_string()),
        "valid_until_ms": row.valid_until,
        "state": row.state.word(),
        "attempts": row.attempts,
        "may_be_redriven": refused.is_none(),
        "why_not": refused.map(|refused| refused.code),
        "redrive_number": next_number(row),
        "is_confirmed": row.state == LetterState::Redriven && row.stored_seq.is_some(),
        "by": row.by,
        "reason": row.reason,
        "at": row.at.map(|at| at.to_string()),
    })
}

/// Answers `swarm.dlq.list`: letters that wait, or with `{"all":true}` every one that is known.
///
/// # Errors
/// Store failures; a refusal is an answer.
pub async fn list(reading: &Reading, work: &impl Record, bus: &Bus, payload: &[u8]) -> Answer {
    let asked: Value = match payload.iter().all(u8::is_ascii_whitespace) {
        true => json!({}),
        false => serde_json::from_slice(payload).unwrap_or_default(),
    };
    let Some(all) = asked.get("all").map_or(asked.is_object().then_some(false), Value::as_bool) else {
        return Ok(Err(Refused::new("BAD_JSON", "send nothing or {\"all\":true}")));
    };
    let is_complete = catch_up(reading, work, bus).await?;
    let mut unit = work.begin(nobody()).await?;
    let now = unit.now().await?;
    let rows = store::dead_letters::list(&mut unit, all, MOST_LISTED).await?;
    let open = store::dead_letters::open(&mut unit).await?;
    unit.rollback().await?;
    let rows: Vec<Value> = rows.iter().map(|row| shown(row, now)).collect();
    Ok(Ok(json!({ "letters": rows, "open": open.count, "is_complete": is_complete, "now_ms": now })))
}

/// Answers `swarm.dlq.show`: one letter with its message.
///
/// # Errors
/// Store failures; a refusal is an answer.
pub async fn show(reading: &Reading, work: &impl Record, bus: &Bus, payload: &[u8]) -> Answer {
    let asked: Value = serde_json::from_slice(payload).unwrap_or_default();
    let Some(name) = asked.get("letter").and_then(Value::as_str).filter(|name| clean_text(name) == *name) else {
        return Ok(Err(Refused::new("BAD_JSON", "send {\"letter\":\"TRADING_HIGH:17\"}")));
    };
    catch_up(reading, work, bus).await?;
    let mut unit = work.begin(nobody()).await?;
    let now = unit.now().await?;
    let found = store::dead_letters::lock(&mut unit, name).await?;
    unit.rollback().await?;
    let Some(row) = found else { return Ok(Err(unknown())) };
    let letter = match lying_at(bus, &row).await? {
        Ok(letter) => letter,
        Err(refused) => return Ok(Err(refused)),
    };
    let mut answer = shown(&row, now);
    if let Some(fields) = answer.as_object_mut() {
        let headers: serde_json::Map<String, Value> =
            letter.raw.headers.iter().map(|(name, value)| (name.clone(), json!(clean_text(value)))).collect();
        fields.insert("detail".to_owned(), json!(clean_text(&letter.detail)));
        fields.insert("consumer".to_owned(), json!(letter.consumer));
        fields.insert("headers".to_owned(), Value::Object(headers));
        fields.insert("bytes".to_owned(), json!(letter.raw.payload.len()));
        let (message, unreadable) = match codec::as_json(&letter.raw) {
            Ok(message) => (message, Value::Null),
            Err(reject) => (Value::Null, json!(reject.to_string())),
        };
        fields.insert("message".to_owned(), message);
        fields.insert("unreadable".to_owned(), unreadable);
    }
    Ok(Ok(answer))
}

/// What waits, for a look at everything.
///
/// # Errors
/// Store failures.
pub async fn glance(unit: &mut Unit, now: UnixMs) -> Result<Value, HandleError> {
    let open = store::dead_letters::open(unit).await?;
    let oldest_s = open.oldest.map(|oldest| now.since_ms(oldest).max(0) / 1_000);
    Ok(json!({ "open": open.count, "oldest_s": oldest_s }))
}

/// The letter of a row, as it lies in the stream.
async fn lying_at(bus: &Bus, row: &LetterRow) -> Result<Result<Letter, Refused>, HandleError> {
    let seq = u64::try_from(row.dlq_seq).unwrap_or(0);
    let found = bus.letters_from(seq, 1).await.map_err(|error| HandleError::Retry(error.to_string()))?;
    let found =
        found.into_iter().find(|letter| letter.seq == seq && letter.id == row.letter && letter.died_at == row.died_at);
    Ok(found.ok_or_else(|| Refused::new("GONE", "the stream does not hold this letter any more")))
}

fn unknown() -> Refused {
    Refused::new("UNKNOWN_LETTER", "no dead letter of that id; `swarm dlq list` shows them")
}

#[cfg(test)]
mod tests {
    use domain::ids::MessageId;

    use super::*;

    const NOW: UnixMs = UnixMs(1_800_000_000_000);

    fn row() -> LetterRow {
        LetterRow {
            letter: "TRADING_HIGH:7".to_owned(),
            dlq_seq: 3,
            died_at: NOW,
            subject: "trading.treasury.intent.high".to_owned(),
            code: "ATTEMPTS_EXHAUSTED".to_owned(),
            message_id: Some(MessageId(uuid::Uuid::from_u128(1))),
            user_id: None,
            valid_until: Some(NOW.plus_ms(1)),
            state: LetterState::Open,
            attempts: 0,
            sent_as: None,
            stored_seq: None,
            by: None,
            reason: None,
            at: None,
        }
    }

    #[test]
    fn only_what_somebody_may_still_act_on_is_offered() {
        let check = |row: LetterRow, code: Option<&str>| {
            assert_eq!(why_not(&row, NOW).map(|refused| refused.code), code, "{row:?}");
        };
        let subject = |subject: &str| LetterRow { subject: subject.to_owned(), ..row() };
        let redriven = |stored_seq| LetterRow { state: LetterState::Redriven, stored_seq, attempts: 1, ..row() };
        check(row(), None);
        check(LetterRow { valid_until: None, ..subject("trading.treasury.act.critical") }, None);
        check(LetterRow { valid_until: Some(NOW), ..row() }, Some("EXPIRED"));
        check(LetterRow { message_id: None, ..row() }, Some("UNREADABLE"));
        check(subject("trading.treasury.approval.critical"), Some("NOT_A_COMMAND"));
        check(subject("system.all.notice.low"), Some("NOT_A_COMMAND"));
        check(subject("nothing of ours"), Some("NOT_A_COMMAND"));
        check(LetterRow { attempts: 5, ..row() }, Some("TOO_MANY_REDRIVES"));
        check(LetterRow { state: LetterState::Dropped, ..row() }, Some("DROPPED"));
        check(redriven(Some(9)), Some("ALREADY_REDRIVEN"));
        check(redriven(None), None);
        check(LetterRow { valid_until: Some(NOW), ..redriven(None) }, Some("EXPIRED"));
        assert_eq!((next_number(&row()), next_number(&redriven(None))), (1, 1));
    }
}
