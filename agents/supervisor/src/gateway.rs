//! The approval gateway: checks what people say and stores it with its evidence. It never decides about money: treasury
//! reads what is stored here, checks all evidence again and runs the rails again.

mod entry;
mod link;
mod shown;

use domain::ids::UserId;
use domain::message::{HaltChanged, Message, Notice, Payload, Task, clean_text};
use domain::person::{Act, SignedAct};
use domain::subject::{Priority, Route, Subject};
use domain::time::{DAY_MS, UnixMs};
use rails::kill::{KillCopy, recorded};
use rails::signature::verify_act;
use runtime::kill::Raise;
use runtime::{Ctx, HandleError};
use serde_json::json;
use store::Unit;
use store::kill::Kill;

pub use entry::{Entry, Proof, Said, entry_of_act, entry_of_update, submit_entry};
pub use link::{LinkMade, make_link};
pub use shown::{Told, shown, told_of};

use crate::NAME;
use crate::answer::Refused;

/// What came of an act: the answer for the person, and the messages for the agents.
#[derive(Debug)]
pub struct Done {
    /// JSON answer; a no that came with a change (the request was found to be over) is committed all the same.
    pub answer: Result<serde_json::Value, Refused>,
    /// Published with the transaction.
    pub out: Vec<Message>,
    /// There is something to commit.
    pub changed: bool,
}

impl Done {
    /// A no that changes nothing.
    #[must_use]
    pub const fn refused(refused: Refused) -> Self {
        Self { answer: Err(refused), out: Vec::new(), changed: false }
    }
}

/// Checks who signed and when. Every failure is one and the same answer to a stranger, and counted.
///
/// # Errors
/// [`Refused`] with a stable code.
pub async fn authenticate(
    unit: &mut Unit,
    signed: &SignedAct,
    now: UnixMs,
) -> Result<Result<(), Refused>, HandleError> {
    // Before anything is looked up: what a table can't hold or a terminal must not show is no word of a person.
    let is_plain = |text: &str| domain::message::clean_text(text) == text;
    if signed.act.person_id.is_empty() || !is_plain(&signed.act.person_id) || !is_plain(&signed.act.reason) {
        return Ok(Err(Refused::new("BAD_TEXT", "name and reason: at most 500 characters, no control characters")));
    }
    let approver = store::approvals::approver(unit, &signed.act.person_id).await?;
    let Some(approver) = approver.filter(|a| a.active) else {
        return Ok(Err(Refused::new("UNKNOWN_APPROVER", "no active approver of that name")));
    };
    if verify_act(signed, &approver.public_key).is_err() {
        return Ok(Err(Refused::new("BAD_SIGNATURE", "the signature is not that of the approver's key")));
    }
    if !signed.act.is_timely(now) {
        return Ok(Err(Refused::new("EXPIRED", "sign again: an act is worth nothing 5 minutes after it was signed")));
    }
    Ok(Ok(()))
}

/// Keeps in the governance chain what came to treasury as a person's word and was none, whoever sent it.
///
/// # Errors
/// Store failures.
pub async fn void_word(ctx: &mut Ctx<'_>, seen_by: &str, void: &Notice) -> Result<(), HandleError> {
    let now = ctx.now;
    let body = json!({ "seen_by": seen_by, "numbers": void.numbers });
    store::audit::append_governance(ctx.unit()?, "word_void", NAME, &body, now).await?;
    metrics::counter!("swarm_words_void_total").increment(1);
    Ok(())
}

/// Writes down raises that are in force already, oldest first: a row and an entry of the governance chain for each that is
/// not there yet. No row lowers the one before it, whatever was written meanwhile.
///
/// # Errors
/// Store failures.
pub async fn record(unit: &mut Unit, raises: &[Raise]) -> Result<(Option<KillCopy>, Vec<HaltChanged>), HandleError> {
    store::kill::lock(unit).await?;
    let now = unit.now().await?;
    let row = store::kill::current(unit).await?;
    let mut row = row.map(|kill| KillCopy { level: kill.level, epoch: kill.epoch });
    let oldest = raises.iter().map(|raise| raise.epoch).min();
    let known = store::kill::since(unit, oldest.unwrap_or(i64::MAX)).await?;
    let mut halts = Vec::new();
    for raise in raises {
        // Anybody may have written the file that it comes from.
        let plain = |text: &str, or: &str| {
            let text = clean_text(text);
            if text.trim().is_empty() { or.to_owned() } else { text }
        };
        let (by, reason) = (plain(&raise.by, "unknown"), plain(&raise.reason, "no reason given"));
        if known.iter().any(|kill| kill.by == by && kill.reason == reason && kill.at == raise.at) {
            continue;
        }
        let at = if (1..=now.plus_ms(DAY_MS).0).contains(&raise.at.0) { raise.at } else { now };
        let copy = recorded(row, raise.copy());
        let kill = Kill { level: copy.level, epoch: copy.epoch, by, reason, at };
        store::kill::record(unit, &kill).await?;
        let body = json!({
            "level": raise.level, "in_force": copy.level, "epoch": copy.epoch, "by": kill.by, "way": raise.way.word(),
            "reason": kill.reason, "raised_at": at,
        });
        store::audit::append_governance(unit, "kill_raised", NAME, &body, now).await?;
        halts.push(HaltChanged { level: copy.level, epoch: copy.epoch, by: kill.by, reason: kill.reason });
        row = Some(copy);
    }
    Ok((row, halts))
}

/// Lowers the kill level: only for a person, with a reason, against the epoch they saw.
///
/// # Errors
/// Store failures; a refusal is an answer.
pub async fn lower(
    unit: &mut Unit,
    signed: &SignedAct,
) -> Result<Result<(HaltChanged, Vec<Message>), Refused>, HandleError> {
    let now = unit.now().await?;
    if let Err(refused) = authenticate(unit, signed, now).await? {
        return Ok(Err(refused));
    }
    let Act::LowerKill { level, epoch } = signed.act.what else {
        return Ok(Err(Refused::new("WRONG_ACT", "this act lowers no kill level")));
    };
    if signed.act.reason.trim().len() < 3 {
        return Ok(Err(Refused::new("REASON_MISSING", "say why it is safe to go on (--reason)")));
    }
    // A halt that comes in while we look must not be undone by somebody who has not seen it.
    store::kill::lock(unit).await?;
    let current = store::kill::current(unit).await?;
    let Some(current) = current.filter(|c| c.epoch == epoch) else {
        return Ok(Err(Refused::new("STALE_EPOCH", "the kill level changed since this was signed; look again")));
    };
    if level >= current.level {
        return Ok(Err(Refused::new("NOT_LOWER", "use halt to raise the level")));
    }
    let kill = store::kill::raise(unit, level, &signed.act.person_id, &signed.act.reason, now).await?;
    let body = json!({
        "level": level, "from": current.level, "epoch": kill.epoch, "by": signed.act.person_id, "reason": signed.act.reason,
    });
    store::audit::append_governance(unit, "kill_lowered", NAME, &body, now).await?;
    let halt =
        HaltChanged { level, epoch: kill.epoch, by: signed.act.person_id.clone(), reason: signed.act.reason.clone() };
    Ok(Ok((halt.clone(), vec![told(halt)])))
}

/// Passes a signed breaker reset on to treasury, which checks it itself.
///
/// # Errors
/// Store failures; a refusal is an answer.
pub async fn reset_breaker(
    unit: &mut Unit,
    signed: &SignedAct,
) -> Result<Result<(UserId, Done), Refused>, HandleError> {
    let now = unit.now().await?;
    if let Err(refused) = authenticate(unit, signed, now).await? {
        return Ok(Err(refused));
    }
    let Act::ResetBreaker { user_id, latched_at } = signed.act.what else {
        return Ok(Err(Refused::new("WRONG_ACT", "this act resets no breaker")));
    };
    let act = serde_json::to_string(signed).map_err(|error| HandleError::Fatal(error.to_string()))?;
    let arguments = std::collections::BTreeMap::from([("act".to_owned(), act)]);
    let task = Task::plain("reset_breaker".to_owned(), arguments);
    let message = Message {
        subject: Subject::of(Route::PersonAct, Priority::Critical),
        key: format!("{user_id}:{}", latched_at.0),
        user_id,
        valid_until: None,
        payload: Payload::Task(task),
    };
    Ok(Ok((
        user_id,
        Done { answer: Ok(json!({ "sent": true, "user_id": user_id })), out: vec![message], changed: true },
    )))
}

/// The fact that the level has a new epoch.
pub(crate) fn told(halt: HaltChanged) -> Message {
    let nobody = UserId(uuid::Uuid::nil());
    Message::fact(Subject::fact(Route::HaltChanged), nobody, format!("halt:{}", halt.epoch), Payload::HaltChanged(halt))
}
