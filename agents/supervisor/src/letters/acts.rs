//! What a person does about a dead letter: put its message back, or leave it dead. Both are signed, and in the governance chain.

use bus::Bus;
use bus::letters::end_of;
use domain::ids::derive;
use domain::person::{Act, SignedAct};
use domain::subject::{Stream, Subject};
use domain::time::UnixMs;
use runtime::{HandleError, Means, Record};
use serde_json::json;
use store::dead_letters::{LetterRow, LetterState};

use super::{lying_at, next_number, unknown, why_not};
use crate::NAME;
use crate::answer::Refused;
use crate::gateway::authenticate;
use crate::services::{Answer, nobody};

/// How long a message without an end is offered to its stream.
const FOR_MS: i64 = 4_000;

/// Answers `swarm.dlq.redrive`: puts the message of a letter back on its own subject.
///
/// That it was is committed before it is sent, with the id it is sent under. When the stream does not say that it took it,
/// the same number may be asked again and goes out under the same id.
///
/// # Errors
/// Store failures; a refusal is an answer.
pub async fn redrive(work: &impl Means, bus: &Bus, payload: &[u8]) -> Answer {
    let signed = match signed_act(payload) {
        Ok(signed) => signed,
        Err(refused) => return Ok(Err(refused)),
    };
    let Act::RedriveLetter { letter: name, died_at, number } = &signed.act.what else {
        return Ok(Err(Refused::new("WRONG_ACT", "this act puts no dead letter back")));
    };
    let mut unit = work.begin(nobody()).await?;
    let now = unit.now().await?;
    if let Err(refused) = authenticate(&mut unit, &signed, now).await? {
        return Ok(Err(refused));
    }
    let Some(row) = found(&mut unit, name, *died_at).await? else { return Ok(Err(unknown())) };
    let number = i32::try_from(*number).unwrap_or(i32::MAX);
    if let Some(seq) = row.stored_seq.filter(|_| row.attempts == number) {
        return Ok(Ok(json!({
            "letter": row.letter,
            "number": number,
            "message_id": row.message_id,
            "stream": Subject::parse(&row.subject).and_then(|s| s.stream()).map(Stream::name),
            "seq": seq,
            "duplicate": true,
        })));
    }
    if let Some(refused) = why_not(&row, now) {
        return Ok(Err(refused));
    }
    if number != next_number(&row) {
        return Ok(Err(Refused::new("STALE_NUMBER", "somebody put it back since this was signed; look again")));
    }
    let letter = match lying_at(bus, &row).await? {
        Ok(letter) => letter,
        Err(refused) => return Ok(Err(refused)),
    };
    let message = match letter.message() {
        Ok(message) => message,
        Err(reject) => return Ok(Err(Refused::new("UNREADABLE", &reject.to_string()))),
    };
    // By the letter itself: the row is a note about it.
    let end = end_of(&message);
    if end.is_some_and(|end| end <= now) {
        return Ok(Err(Refused::new("EXPIRED", "its end has passed: nobody may act on it any more; drop it")));
    }
    // Nobody can take the id before us: the signature is a part of it.
    let parts = [row.letter.as_bytes(), &number.to_be_bytes(), signed.signature.as_bytes()];
    let id = row.sent_as.unwrap_or_else(|| derive("swarm.redrive.v1", &parts));
    let done =
        LetterRow { attempts: number, sent_as: Some(id), ..done(row.clone(), LetterState::Redriven, &signed, now) };
    store::dead_letters::set(&mut unit, &done).await?;
    if row.state == LetterState::Open {
        let body = json!({
            "letter": row.letter, "number": number, "subject": row.subject, "message_id": message.header.message_id,
            "sent_as": id, "by": signed.act.person_id, "reason": signed.act.reason,
        });
        store::audit::append_governance(&mut unit, "letter_redriven", NAME, &body, now).await?;
    }
    unit.commit().await?;
    let soon = work.now().plus_ms(FOR_MS);
    let raw = letter.put_back(u32::try_from(number).unwrap_or(0), id);
    match work.forward(&raw, Some(end.map_or(soon, |end| end.min(soon)))).await {
        Ok(published) => {
            confirm(work, &done, published.seq).await?;
            metrics::counter!("swarm_dead_letters_redriven_total").increment(1);
            Ok(Ok(json!({
                "letter": row.letter,
                "number": number,
                "message_id": message.header.message_id,
                "stream": published.stream,
                "seq": published.seq,
                "duplicate": published.duplicate,
            })))
        }
        Err(error) => {
            let detail = format!("its stream did not say that it took it ({error}); try again: it counts once");
            Ok(Err(Refused::new("NOT_CONFIRMED", &detail)))
        }
    }
}

/// Answers `swarm.dlq.drop`: the letter stays dead, and waits for nobody.
///
/// # Errors
/// Store failures; a refusal is an answer.
pub async fn drop_letter(work: &impl Record, payload: &[u8]) -> Answer {
    let signed = match signed_act(payload) {
        Ok(signed) => signed,
        Err(refused) => return Ok(Err(refused)),
    };
    let Act::DropLetter { letter: name, died_at } = &signed.act.what else {
        return Ok(Err(Refused::new("WRONG_ACT", "this act drops no dead letter")));
    };
    let mut unit = work.begin(nobody()).await?;
    let now = unit.now().await?;
    if let Err(refused) = authenticate(&mut unit, &signed, now).await? {
        return Ok(Err(refused));
    }
    if signed.act.reason.trim().len() < 3 {
        return Ok(Err(Refused::new("REASON_MISSING", "say why it may stay dead (--reason)")));
    }
    let Some(row) = found(&mut unit, name, *died_at).await? else { return Ok(Err(unknown())) };
    if row.state == LetterState::Redriven && row.stored_seq.is_some() {
        return Ok(Err(Refused::new("ALREADY_REDRIVEN", "it was put back, so there is nothing to drop")));
    }
    if row.state != LetterState::Dropped {
        let dropped = done(row.clone(), LetterState::Dropped, &signed, now);
        store::dead_letters::set(&mut unit, &dropped).await?;
        let body = json!({
            "letter": row.letter, "subject": row.subject, "message_id": row.message_id, "code": row.code,
            "by": signed.act.person_id, "reason": signed.act.reason,
        });
        store::audit::append_governance(&mut unit, "letter_dropped", NAME, &body, now).await?;
    }
    unit.commit().await?;
    Ok(Ok(json!({ "letter": row.letter, "dropped": true })))
}

fn signed_act(payload: &[u8]) -> Result<SignedAct, Refused> {
    let why = "send a signed act as JSON: use `swarm dlq redrive` or `swarm dlq drop`";
    serde_json::from_slice(payload).map_err(|_| Refused::new("NOT_SIGNED", why))
}

/// The letter that a person saw: of that id, and dead since then.
async fn found(unit: &mut store::Unit, name: &str, died_at: UnixMs) -> Result<Option<LetterRow>, HandleError> {
    if domain::message::clean_text(name) != name {
        return Ok(None);
    }
    Ok(store::dead_letters::lock(unit, name).await?.filter(|row| row.died_at == died_at))
}

fn done(row: LetterRow, state: LetterState, signed: &SignedAct, now: UnixMs) -> LetterRow {
    let (by, reason) = (Some(signed.act.person_id.clone()), Some(signed.act.reason.clone()));
    LetterRow { state, sent_as: None, stored_seq: None, by, reason, at: Some(now), ..row }
}

/// Writes down where the stream took it, unless somebody did something else about the letter since.
async fn confirm(work: &impl Record, sent: &LetterRow, seq: u64) -> Result<(), HandleError> {
    let mut unit = work.begin(nobody()).await?;
    if store::dead_letters::lock(&mut unit, &sent.letter).await?.as_ref() == Some(sent) {
        let stored_seq = Some(i64::try_from(seq).unwrap_or(i64::MAX));
        store::dead_letters::set(&mut unit, &LetterRow { stored_seq, ..sent.clone() }).await?;
    }
    unit.commit().await?;
    Ok(())
}
