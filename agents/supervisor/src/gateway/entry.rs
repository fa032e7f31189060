//! One person's word on one request, whatever way it came: the one function that takes it.

use domain::canonical::Sha256Digest;
use domain::ids::ApprovalId;
use domain::message::{ApprovalResponse, Decision, Message, Payload};
use domain::order::OrderEnvelope;
use domain::person::{Act, Assurance, Change, SignedAct, Vote};
use domain::subject::{Priority, Route, Subject};
use domain::time::UnixMs;
use rails::limits::Limits;
use rails::modify::{modified, successor_id, suits_venue};
use rails::{press, totp};
use runtime::HandleError;
use runtime::evidence::{self, Fault, Panel, TelegramEvidence, TotpEvidence, document};
use serde_json::{Value, json};
use store::Unit;
use store::approvals::{ApprovalRow, ApprovalStatus, EntryRow};
use store::totp::Spent;

use super::{Done, authenticate};
use crate::NAME;
use crate::answer::Refused;

/// What a person says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said {
    /// Yes to exactly this envelope.
    Approve,
    /// No.
    Reject,
    /// Not this, but less of it: another request.
    Modify(Change),
    /// What was said is taken back.
    Revoke,
}

impl Said {
    const fn decision(self) -> Decision {
        match self {
            Self::Approve => Decision::Approve,
            Self::Reject => Decision::Reject,
            Self::Modify(_) => Decision::Modify,
            Self::Revoke => Decision::Revoke,
        }
    }

    /// The word in the audit chain.
    const fn word(self) -> &'static str {
        match self {
            Self::Approve => "approve",
            Self::Reject => "reject",
            Self::Modify(_) => "modify",
            Self::Revoke => "revoke",
        }
    }
}

/// What shows who it was.
#[derive(Debug, Clone)]
pub enum Proof {
    /// The act that the person signed.
    CliKey(SignedAct),
    /// The stored update of Telegram.
    Telegram {
        /// Its number.
        update_id: i64,
    },
    /// A code of the person's authenticator.
    WebTotp {
        /// Six digits.
        code: String,
    },
}

impl Proof {
    /// What kind of assurance it gives.
    #[must_use]
    pub const fn assurance(&self) -> Assurance {
        match self {
            Self::CliKey(_) => Assurance::CliKey,
            Self::Telegram { .. } => Assurance::Telegram,
            Self::WebTotp { .. } => Assurance::WebTotp,
        }
    }
}

/// A word as it comes in. Nothing of it is believed before the check.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Who.
    pub person_id: String,
    /// On which request.
    pub approval_id: ApprovalId,
    /// Digest of the envelope they saw.
    pub digest: Sha256Digest,
    /// What.
    pub said: Said,
    /// Why, in their words.
    pub reason: String,
    /// What shows that it was they.
    pub proof: Proof,
}

/// A signed act as a word; `None` for an act about something else.
#[must_use]
pub fn entry_of_act(signed: SignedAct) -> Option<Entry> {
    let (approval_id, digest, said) = match signed.act.what.clone() {
        Act::Vote { approval_id, digest, vote: Vote::Approve } => (approval_id, digest, Said::Approve),
        Act::Vote { approval_id, digest, vote: Vote::Reject } => (approval_id, digest, Said::Reject),
        Act::Modify { approval_id, digest, change } => (approval_id, digest, Said::Modify(change)),
        Act::Revoke { approval_id, digest } => (approval_id, digest, Said::Revoke),
        Act::LinkTelegram { .. }
        | Act::LowerKill { .. }
        | Act::ApproveFile { .. }
        | Act::ResetBreaker { .. }
        | Act::ReleaseAgent { .. }
        | Act::RestartAgent { .. }
        | Act::RedriveLetter { .. }
        | Act::DropLetter { .. } => return None,
    };
    let (person_id, reason) = (signed.act.person_id.clone(), signed.act.reason.clone());
    Some(Entry { person_id, approval_id, digest, said, reason, proof: Proof::CliKey(signed) })
}

/// A stored press as a word: all of it is read from rows.
///
/// # Errors
/// Store failures; a refusal is an answer.
pub async fn entry_of_update(unit: &mut Unit, update_id: i64) -> Result<Result<Entry, Refused>, HandleError> {
    let (pressed, person_id) = match evidence::press_of(unit, update_id).await? {
        Ok(found) => found,
        Err(fault) => return Ok(Err(refusal_of(fault))),
    };
    let approval_id = pressed.button.approval_id;
    let Some(row) = store::approvals::get(unit, approval_id).await? else {
        return Ok(Err(Refused::new("UNKNOWN_REQUEST", "no approval request of that id")));
    };
    let said = match press::word(pressed.button.press, row.tier) {
        Some(Decision::Approve) => Said::Approve,
        Some(Decision::Reject) => Said::Reject,
        Some(Decision::Modify) => {
            let rules = store::instruments::get(unit, &row.envelope.instrument()).await?;
            match evidence::change_of(&row, pressed.button.press, rules.as_ref()) {
                Some(change) => Said::Modify(change),
                None => {
                    return Ok(Err(Refused::new(
                        "BAD_CHANGE",
                        "the venue's rules are not known, or leave no such change",
                    )));
                }
            }
        }
        _ if pressed.button.press == domain::telegram_button::Press::Approve => {
            let why = "from tier 2 on a yes is a second tap, after the words of the digest were shown";
            return Ok(Err(Refused::new("CONFIRM_NEEDED", why)));
        }
        _ => return Ok(Err(Refused::new("NOT_A_DECISION", "this button decides nothing"))),
    };
    let proof = Proof::Telegram { update_id };
    Ok(Ok(Entry { person_id, approval_id, digest: row.digest, said, reason: String::new(), proof }))
}

/// Takes one person's word: checks who it was and that they may say it, stores it, and moves the request on when that ends it.
/// A word said twice counts once; a no wins over every yes that was not used yet. What is over by database time, or was asked
/// under another policy or other approvers, is ended here too, whatever was said.
///
/// # Errors
/// Store failures; a refusal is an answer.
pub async fn submit_entry(unit: &mut Unit, house: &Limits, entry: Entry) -> Result<Done, HandleError> {
    let now = unit.now().await?;
    if !is_plain(&entry.person_id) || entry.person_id.is_empty() || !is_plain(&entry.reason) {
        let why = "name and reason: at most 500 characters, no control characters";
        return Ok(Done::refused(Refused::new("BAD_TEXT", why)));
    }
    if let Proof::CliKey(signed) = &entry.proof
        && let Err(refused) = authenticate(unit, signed, now).await?
    {
        return Ok(Done::refused(refused));
    }
    let Some(row) = store::approvals::get(unit, entry.approval_id).await? else {
        return Ok(Done::refused(Refused::new("UNKNOWN_REQUEST", "no approval request of that id")));
    };
    unit.set_tenant(row.user_id).await?;
    let Some(row) = store::approvals::lock(unit, entry.approval_id).await? else {
        return Ok(Done::refused(Refused::new("UNKNOWN_REQUEST", "no approval request of that id")));
    };
    let panel = Panel::read(unit).await?;
    let candidate = match candidate(unit, &row, &entry, now).await? {
        Ok(candidate) => candidate,
        Err(refused) => return Ok(Done::refused(refused)),
    };
    if let Err(fault) = evidence::check(unit, &panel, &row, &candidate).await? {
        return Ok(Done::refused(refusal_of(fault)));
    }
    if let Some(done) = repeated(unit, &row, &candidate).await? {
        return Ok(done);
    }
    if let Some(done) = over(unit, house, &panel, &row, &candidate, now).await? {
        return Ok(done);
    }
    decide(unit, &panel, &row, entry.said, candidate, now).await
}

/// The word as it will be stored. The code of an authenticator is used up by this: it counts for one request, once.
async fn candidate(
    unit: &mut Unit,
    row: &ApprovalRow,
    entry: &Entry,
    now: UnixMs,
) -> Result<Result<EntryRow, Refused>, HandleError> {
    let assurance = entry.proof.assurance();
    let (evidence, signature, signed_at) = match &entry.proof {
        Proof::CliKey(signed) => (json!({}), Some(signed.signature.clone()), signed.act.signed_at),
        Proof::Telegram { update_id } => (document(&TelegramEvidence { update_id: *update_id })?, None, now),
        Proof::WebTotp { code } => match spend(unit, row, &entry.person_id, code, now).await? {
            Ok(evidence) => (evidence, None, now),
            Err(refused) => return Ok(Err(refused)),
        },
    };
    let shown = rails::render::shown(&row.envelope, row.tier, row.digest, &row.reasoning);
    Ok(Ok(EntryRow {
        approval_id: row.approval_id,
        person_id: entry.person_id.clone(),
        decision: entry.said.decision(),
        change: if let Said::Modify(change) = entry.said { Some(change) } else { None },
        channel: assurance.channel().to_owned(),
        assurance,
        evidence,
        digest: entry.digest,
        shown_digest: Some(shown.digest),
        reason: entry.reason.clone(),
        signature,
        signed_at,
    }))
}

async fn spend(
    unit: &mut Unit,
    row: &ApprovalRow,
    person_id: &str,
    code: &str,
    now: UnixMs,
) -> Result<Result<Value, Refused>, HandleError> {
    let secret = store::totp::secret(unit, person_id).await?;
    // A stranger and a person without an authenticator get the answer of a wrong code.
    let Some(step) = secret.and_then(|secret| totp::step_with(&secret, code, now)) else {
        return Ok(Err(refusal_of(Fault::BadCode)));
    };
    let spent = Spent { person_id: person_id.to_owned(), step, approval_id: row.approval_id, at: now };
    if !store::totp::spend(unit, &spent).await? {
        return Ok(Err(Refused::new("CODE_USED", "this code was used; wait for the next one")));
    }
    Ok(Ok(document(&TotpEvidence { step, code: code.to_owned() })?))
}

/// The answer to a press that was taken before: whoever passed it on may have died before they heard it.
async fn repeated(unit: &mut Unit, row: &ApprovalRow, candidate: &EntryRow) -> Result<Option<Done>, HandleError> {
    if candidate.assurance != Assurance::Telegram {
        return Ok(None);
    }
    let taken = store::approvals::entries(unit, row.approval_id).await?.into_iter().any(|entry| {
        (&entry.person_id, entry.decision, entry.assurance, &entry.evidence)
            == (&candidate.person_id, candidate.decision, candidate.assurance, &candidate.evidence)
    });
    if !taken {
        return Ok(None);
    }
    let envelope = candidate.change.and_then(|change| modified(&row.envelope, change).ok());
    let superseded_by = envelope.map(|envelope| successor(row, &envelope)).transpose()?;
    let answer = json!({
        "approval_id": row.approval_id, "status": row.status.word(), "superseded_by": superseded_by,
    });
    Ok(Some(Done { answer: Ok(answer), out: Vec::new(), changed: false }))
}

/// Ends a request that is over: out of time, or asked under other limits or other approvers than hold now.
async fn over(
    unit: &mut Unit,
    house: &Limits,
    panel: &Panel,
    row: &ApprovalRow,
    candidate: &EntryRow,
    now: UnixMs,
) -> Result<Option<Done>, HandleError> {
    if row.status.is_terminal() {
        let why = format!("the request is {}", row.status.word());
        return Ok(Some(Done::refused(Refused::new("NOT_PENDING", &why))));
    }
    let (next, refused) = if now > row.expires_at {
        (ApprovalStatus::Expired, Refused::new("EXPIRED", "nobody decided in time: the request is denied"))
    } else if row.approvers_version != panel.version() || !is_current(unit, house, row).await? {
        let next = match row.status {
            ApprovalStatus::Allowed => ApprovalStatus::Revoked,
            _ => ApprovalStatus::Superseded,
        };
        (next, Refused::new("SUPERSEDED", "limits or approvers changed since this was asked: send the order again"))
    } else {
        return Ok(None);
    };
    store::approvals::set_status(unit, row.approval_id, &[row.status], next).await?;
    let body = json!({
        "approval_id": row.approval_id, "order_id": row.order_id, "status": next.word(), "code": refused.code,
    });
    store::audit::append(unit, row.user_id, "approval_over", NAME, &body, now).await?;
    let out = vec![resolved(row, Decision::Reject, &candidate.person_id, "", now)];
    Ok(Some(Done { answer: Err(refused), out, changed: true }))
}

/// Whether the limits of the user are those the request was asked under. What can't be read here, treasury judges.
async fn is_current(unit: &mut Unit, house: &Limits, row: &ApprovalRow) -> Result<bool, HandleError> {
    let user = store::users::user(unit, row.user_id).await?;
    let limits = user.and_then(|user| house.tightened_by(&user.trading_constraints).ok());
    Ok(limits.is_none_or(|limits| limits.version() == row.policy_version))
}

async fn decide(
    unit: &mut Unit,
    panel: &Panel,
    row: &ApprovalRow,
    said: Said,
    candidate: EntryRow,
    now: UnixMs,
) -> Result<Done, HandleError> {
    let pending = row.status == ApprovalStatus::Pending;
    let mut superseded_by = None;
    match said {
        Said::Approve | Said::Modify(_) if !pending => {
            let why = format!("the request is {}", row.status.word());
            return Ok(Done::refused(Refused::new("NOT_PENDING", &why)));
        }
        Said::Approve => {
            let Some(person) = panel.person(&candidate.person_id) else {
                return Ok(Done::refused(refusal_of(Fault::UnknownApprover)));
            };
            if !panel.may_approve(row, person)? {
                let why = "from tier 2 on somebody else than the requester says yes";
                return Ok(Done::refused(Refused::new("REQUESTER", why)));
            }
        }
        Said::Modify(change) => match wanted(unit, row, change).await? {
            Ok(envelope) => superseded_by = Some(successor(row, &envelope)?),
            Err(refused) => return Ok(Done::refused(refused)),
        },
        Said::Reject | Said::Revoke => {}
    }
    if !store::approvals::insert_entry(unit, &candidate).await? {
        let why = "this person has spoken on this request; `swarm revoke` takes a yes back before it is used";
        return Ok(Done::refused(Refused::new("ALREADY_VOTED", why)));
    }
    let status = match said {
        Said::Approve => {
            let yes = evidence::words(unit, panel, row).await?.yes;
            if yes.len() < usize::from(row.needed) { ApprovalStatus::Pending } else { ApprovalStatus::Allowed }
        }
        Said::Modify(_) => ApprovalStatus::Superseded,
        Said::Reject | Said::Revoke if pending => ApprovalStatus::Denied,
        Said::Reject | Said::Revoke => ApprovalStatus::Revoked,
    };
    if status != row.status && !store::approvals::set_status(unit, row.approval_id, &[row.status], status).await? {
        return Err(HandleError::Retry("the request was decided meanwhile".to_owned()));
    }
    record(unit, row, said, &candidate, status, superseded_by, now).await?;
    let out = if status == row.status {
        Vec::new()
    } else {
        vec![resolved(row, said.decision(), &candidate.person_id, &candidate.reason, now)]
    };
    let answer = json!({
        "approval_id": row.approval_id, "status": status.word(), "superseded_by": superseded_by,
    });
    Ok(Done { answer: Ok(answer), out, changed: true })
}

/// The envelope a person wants instead; treasury makes the request of it, under the rails.
async fn wanted(
    unit: &mut Unit,
    row: &ApprovalRow,
    change: Change,
) -> Result<Result<OrderEnvelope, Refused>, HandleError> {
    let bad = |fault: rails::modify::ModifyFault| Refused::new("BAD_CHANGE", &fault.to_string());
    let envelope = match modified(&row.envelope, change) {
        Ok(envelope) => envelope,
        Err(fault) => return Ok(Err(bad(fault))),
    };
    match store::instruments::get(unit, &row.envelope.instrument()).await? {
        Some(rules) => Ok(suits_venue(&envelope, &rules).map(|()| envelope).map_err(bad)),
        None => Ok(Ok(envelope)),
    }
}

fn successor(row: &ApprovalRow, envelope: &OrderEnvelope) -> Result<ApprovalId, HandleError> {
    successor_id(row.approval_id, envelope).map_err(|error| HandleError::Fatal(error.to_string()))
}

async fn record(
    unit: &mut Unit,
    row: &ApprovalRow,
    said: Said,
    candidate: &EntryRow,
    status: ApprovalStatus,
    superseded_by: Option<ApprovalId>,
    now: UnixMs,
) -> Result<(), HandleError> {
    let audit = json!({
        "approval_id": row.approval_id,
        "order_id": row.order_id,
        "digest": row.digest,
        "person_id": candidate.person_id,
        "vote": said.word(),
        "change": candidate.change,
        "channel": candidate.channel,
        "assurance": candidate.assurance.word(),
        "shown_digest": candidate.shown_digest,
        "reason": candidate.reason,
        "status": status.word(),
        "superseded_by": superseded_by,
    });
    store::audit::append(unit, row.user_id, "vote", NAME, &audit, now).await?;
    let (channel, word) = (candidate.assurance.channel(), said.word());
    metrics::counter!("swarm_entries_total", "channel" => channel, "said" => word).increment(1);
    Ok(())
}

/// Only wakes treasury, which reads the record.
fn resolved(row: &ApprovalRow, decision: Decision, approver_id: &str, reason: &str, now: UnixMs) -> Message {
    Message {
        subject: Subject::of(Route::ApprovalResolved, Priority::Critical),
        key: row.approval_id.to_string(),
        user_id: row.user_id,
        valid_until: None,
        payload: Payload::ApprovalResponse(ApprovalResponse {
            approval_id: row.approval_id,
            decision,
            approver_id: approver_id.to_owned(),
            approved_at: now,
            reason: reason.to_owned(),
        }),
    }
}

/// What a table can hold and a terminal may show.
fn is_plain(text: &str) -> bool {
    domain::message::clean_text(text) == text
}

/// Why evidence does not stand, as an answer.
fn refusal_of(fault: Fault) -> Refused {
    let why = fault.to_string();
    match fault {
        Fault::OtherEnvelope => Refused::new("DIGEST_MISMATCH", &why),
        Fault::UnknownApprover => Refused::new("UNKNOWN_APPROVER", &why),
        Fault::BadSignature => Refused::new("BAD_SIGNATURE", &why),
        Fault::NoUpdate => Refused::new("UNKNOWN_UPDATE", &why),
        Fault::NoPress(_) => Refused::new("NOT_A_PRESS", &why),
        Fault::NotLinked => Refused::new("NOT_LINKED", &why),
        Fault::StaleButton => Refused::new("STALE_BUTTON", &why),
        Fault::OtherWord => Refused::new("NOT_A_DECISION", &why),
        Fault::BadCode => Refused::new("BAD_CODE", &why),
    }
}
