//! The approval gateway: checks what people sign and stores it. It never decides about money: treasury reads what is
//! stored here, checks every signature again and runs the rails again.

use domain::ids::{ApprovalId, UserId};
use domain::message::{ApprovalResponse, Decision, HaltChanged, Message, Payload, Task};
use domain::person::{Act, Assurance, SignedAct, Vote};
use domain::subject::{Priority, Route, Subject};
use domain::time::UnixMs;
use rails::check::quorum;
use rails::signature::verify_act;
use runtime::HandleError;
use serde_json::json;
use store::Unit;
use store::approvals::{ApprovalRow, ApprovalStatus, EntryRow};

use crate::NAME;
use crate::answer::Refused;

/// What came of an act: the answer for the person, and the messages for the agents.
#[derive(Debug)]
pub struct Done {
    /// JSON answer.
    pub answer: serde_json::Value,
    /// Published with the transaction.
    pub out: Vec<Message>,
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

/// Stores a vote and, when it ends the request, its new status. A vote given twice counts once.
///
/// # Errors
/// Store failures; a refusal is an answer.
pub async fn vote(unit: &mut Unit, signed: &SignedAct, channel: &str) -> Result<Result<Done, Refused>, HandleError> {
    let now = unit.now().await?;
    if let Err(refused) = authenticate(unit, signed, now).await? {
        return Ok(Err(refused));
    }
    let Act::Vote { approval_id, digest, vote } = signed.act.what.clone() else {
        return Ok(Err(Refused::new("WRONG_ACT", "this act is no vote")));
    };
    let Some(row) = store::approvals::get(unit, approval_id).await? else {
        return Ok(Err(Refused::new("UNKNOWN_REQUEST", "no approval request of that id")));
    };
    unit.set_tenant(row.user_id).await?;
    if digest != row.digest {
        return Ok(Err(Refused::new(
            "DIGEST_MISMATCH",
            "the vote is for another envelope than the one that is stored",
        )));
    }
    if row.status != ApprovalStatus::Pending {
        return Ok(Err(Refused::new("NOT_PENDING", &format!("the request is {}", row.status.word()))));
    }
    if now > row.expires_at {
        return Ok(Err(Refused::new("EXPIRED", "nobody decided in time: the request is denied")));
    }
    let entry = EntryRow {
        approval_id,
        person_id: signed.act.person_id.clone(),
        decision: word_of(vote),
        change: None,
        channel: channel.to_owned(),
        assurance: Assurance::CliKey,
        evidence: json!({}),
        digest,
        shown_digest: None,
        reason: signed.act.reason.clone(),
        signature: Some(signed.signature.clone()),
        signed_at: signed.act.signed_at,
    };
    if !store::approvals::insert_entry(unit, &entry).await? {
        return Ok(Err(Refused::new("ALREADY_VOTED", "this person has voted on this request")));
    }
    let status = status_after(unit, &row, vote).await?;
    let audit = json!({
        "approval_id": approval_id,
        "order_id": row.order_id,
        "digest": row.digest,
        "person_id": signed.act.person_id,
        "vote": vote.word(),
        "channel": channel,
        "reason": signed.act.reason,
        "status": status.word(),
    });
    store::audit::append(unit, row.user_id, "vote", NAME, &audit, now).await?;
    let out = if status == ApprovalStatus::Pending { Vec::new() } else { vec![resolved(&row, signed, vote, now)] };
    Ok(Ok(Done { answer: json!({ "approval_id": approval_id, "status": status.word() }), out }))
}

async fn status_after(unit: &mut Unit, row: &ApprovalRow, vote: Vote) -> Result<ApprovalStatus, HandleError> {
    let next = match vote {
        Vote::Reject => ApprovalStatus::Denied,
        Vote::Approve => {
            let entries = store::approvals::entries(unit, row.approval_id).await?;
            let yes = entries
                .iter()
                .filter(|e| e.decision == Decision::Approve)
                .map(|e| e.person_id.as_str())
                .collect::<std::collections::BTreeSet<_>>();
            if yes.len() < quorum(row.tier) {
                return Ok(ApprovalStatus::Pending);
            }
            ApprovalStatus::Allowed
        }
    };
    let won = store::approvals::set_status(unit, row.approval_id, &[ApprovalStatus::Pending], next).await?;
    if won { Ok(next) } else { Err(HandleError::Retry("the request was decided meanwhile".to_owned())) }
}

const fn word_of(vote: Vote) -> Decision {
    match vote {
        Vote::Approve => Decision::Approve,
        Vote::Reject => Decision::Reject,
    }
}

fn resolved(row: &ApprovalRow, signed: &SignedAct, vote: Vote, now: UnixMs) -> Message {
    Message {
        subject: Subject::of(Route::ApprovalResolved, Priority::Critical),
        key: row.approval_id.to_string(),
        user_id: row.user_id,
        valid_until: None,
        payload: Payload::ApprovalResponse(ApprovalResponse {
            approval_id: row.approval_id,
            decision: word_of(vote),
            approver_id: signed.act.person_id.clone(),
            approved_at: now,
            reason: signed.act.reason.clone(),
        }),
    }
}

/// Raises the kill level. One person is enough, and so is the supervisor itself; a level at or below the current one
/// changes nothing.
///
/// # Errors
/// Store failures.
pub async fn raise(
    unit: &mut Unit,
    level: u8,
    by: &str,
    reason: &str,
) -> Result<(HaltChanged, Vec<Message>), HandleError> {
    let now = unit.now().await?;
    store::kill::lock(unit).await?;
    if let Some(current) = store::kill::current(unit).await?
        && current.level >= level
    {
        let halt = HaltChanged { level: current.level, epoch: current.epoch, by: current.by, reason: current.reason };
        return Ok((halt, Vec::new()));
    }
    let kill = store::kill::raise(unit, level, by, reason, now).await?;
    let body = json!({ "level": level, "epoch": kill.epoch, "by": by, "reason": reason });
    store::audit::append_governance(unit, "kill_raised", NAME, &body, now).await?;
    let halt = HaltChanged { level, epoch: kill.epoch, by: by.to_owned(), reason: reason.to_owned() };
    Ok((halt.clone(), vec![told(halt)]))
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
    let task = Task {
        capability: "reset_breaker".to_owned(),
        arguments: std::collections::BTreeMap::from([("act".to_owned(), act)]),
    };
    let message = Message {
        subject: Subject::of(Route::PersonAct, Priority::Critical),
        key: format!("{user_id}:{}", latched_at.0),
        user_id,
        valid_until: None,
        payload: Payload::Task(task),
    };
    Ok(Ok((user_id, Done { answer: json!({ "sent": true, "user_id": user_id }), out: vec![message] })))
}

fn told(halt: HaltChanged) -> Message {
    let nobody = UserId(uuid::Uuid::nil());
    Message::fact(Subject::fact(Route::HaltChanged), nobody, format!("halt:{}", halt.epoch), Payload::HaltChanged(halt))
}

/// An approval request as people are shown it: numbers from the hashed envelope, prose apart and marked as unverified.
#[must_use]
pub fn shown(row: &ApprovalRow) -> serde_json::Value {
    let e = &row.envelope;
    json!({
        "approval_id": row.approval_id,
        "user_id": row.user_id,
        "status": row.status.word(),
        "tier": row.tier,
        "digest": row.digest,
        "side": e.side,
        "instrument": e.instrument().to_string(),
        "quantity": e.quantity,
        "worst_price": e.worst_price,
        "max_notional_usd": e.max_notional_usd,
        "max_slippage_bps": e.max_slippage_bps,
        "time_in_force": e.time_in_force,
        "expires_at": row.expires_at.to_string(),
        "order_id": row.order_id,
        "requested_by": row.requested_by,
        "agent_says_unverified": domain::message::clean_text(&row.reasoning),
        "summary": format!(
            "{} {} {} at {} or better, at most ${}",
            e.side, e.quantity, e.symbol, e.worst_price, e.max_notional_usd
        ),
    })
}

/// The id of a request as people type it.
#[must_use]
pub fn parse_id(text: &str) -> Option<ApprovalId> {
    text.trim().parse().ok()
}
