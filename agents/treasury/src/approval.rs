//! What becomes of a request for a human decision. A message only wakes this code; the stored rows decide, and every
//! signature is checked again here.

use domain::ids::ApprovalId;
use domain::ids::UserId;
use domain::message::{ApprovalResponse, DecisionOutcome, Message};
use domain::order::OrderIntent;
use domain::reject::{Reject, RejectCode};
use rails::check::{Verdict, check};
use rails::refusal::{Refusal, RefusalCode};
use rails::{modify, quorum};
use runtime::HandleError;
use runtime::evidence::{self, Panel};
use runtime::kill::KillSwitch;
use serde_json::json;
use store::Unit;
use store::approvals::{ApprovalRow, ApprovalStatus};

use crate::config::Config;
use crate::decide::{Locked, MAX_CLOCK_SKEW_MS, Sight, grant, lock, sign};
use crate::{NAME, decide, facts};

/// Acts on a message that says a request was decided. It is not believed: the record is read. A message about a request that
/// is not there, or is another user's, or that the record knows no decision on, is kept as a dead letter, told, and kept in
/// the governance chain.
///
/// # Errors
/// [`HandleError::Reject`]; store failures.
pub async fn heard(
    unit: &mut Unit,
    config: &Config,
    user_id: UserId,
    response: &ApprovalResponse,
    sight: Sight<'_>,
) -> Result<Vec<Message>, HandleError> {
    let approval_id = response.approval_id;
    let row = store::approvals::get(unit, approval_id).await?.filter(|row| row.user_id == user_id);
    let Some(row) = row else {
        return Err(Reject::new(RejectCode::BadId, "no such approval request of this user").into());
    };
    let out = settle(unit, config, user_id, approval_id, sight).await?;
    if out.is_empty() && row.status == ApprovalStatus::Pending {
        return Err(Reject::new(RejectCode::WrongPayload, "the record knows no decision on this request").into());
    }
    Ok(out)
}

/// Acts on the stored state of one request: consumes an allowed one, ends a denied or expired one.
///
/// # Errors
/// Store failures.
pub async fn settle(
    unit: &mut Unit,
    config: &Config,
    user_id: UserId,
    approval_id: ApprovalId,
    sight: Sight<'_>,
) -> Result<Vec<Message>, HandleError> {
    let Some(mut locked) = lock(unit, config, user_id, sight).await? else {
        return Ok(Vec::new());
    };
    let Some(row) = store::approvals::get(unit, approval_id).await?.filter(|row| row.user_id == user_id) else {
        return Ok(Vec::new());
    };
    let panel = Panel::read(unit).await?;
    let why = |code| Refusal::new(code);
    match row.status {
        ApprovalStatus::Pending if sight.now > row.expires_at => {
            let refusal = why(RefusalCode::ApprovalExpired);
            end(unit, &row, ApprovalStatus::Expired, &refusal, &mut locked, sight).await
        }
        ApprovalStatus::Pending => match outdated(&row, &locked, &panel) {
            Some(refusal) => end(unit, &row, ApprovalStatus::Superseded, &refusal, &mut locked, sight).await,
            None => Ok(Vec::new()),
        },
        ApprovalStatus::Allowed => consume(unit, config, &row, &panel, &mut locked, sight).await,
        ApprovalStatus::Denied => release(unit, &row, &why(RefusalCode::Denied), &mut locked, sight).await,
        ApprovalStatus::Expired => release(unit, &row, &why(RefusalCode::ApprovalExpired), &mut locked, sight).await,
        ApprovalStatus::Superseded => replace(unit, &row, &panel, &mut locked, sight).await,
        ApprovalStatus::Cancelled | ApprovalStatus::Revoked => {
            let taken_back = !evidence::words(unit, &panel, &row).await?.no.is_empty();
            let code = if taken_back { RefusalCode::Denied } else { RefusalCode::Superseded };
            release(unit, &row, &why(code), &mut locked, sight).await
        }
        ApprovalStatus::Consumed => Ok(Vec::new()),
    }
}

/// Why a question no longer stands: it was asked under other limits, or other people might decide then.
fn outdated(row: &ApprovalRow, locked: &Locked, panel: &Panel) -> Option<Refusal> {
    let refusal = Refusal::new(RefusalCode::Superseded);
    if row.policy_version != locked.limits.version() {
        return Some(refusal.with("asked_under", &row.policy_version).with("now", locked.limits.version()));
    }
    (row.approvers_version != panel.version())
        .then(|| refusal.with("asked_of", &row.approvers_version).with("approvers", panel.version()))
}

async fn consume(
    unit: &mut Unit,
    config: &Config,
    row: &ApprovalRow,
    panel: &Panel,
    locked: &mut Locked,
    sight: Sight<'_>,
) -> Result<Vec<Message>, HandleError> {
    if sight.now > row.expires_at {
        return end(unit, row, ApprovalStatus::Expired, &Refusal::new(RefusalCode::ApprovalExpired), locked, sight)
            .await;
    }
    if let Some(refusal) = outdated(row, locked, panel) {
        return end(unit, row, ApprovalStatus::Revoked, &refusal, locked, sight).await;
    }
    if let Some(refusal) = locked.refusal() {
        return end(unit, row, ApprovalStatus::Revoked, &refusal, locked, sight).await;
    }
    if row.envelope.side == domain::order::Side::Buy && sight.clock_skew_ms.abs() > MAX_CLOCK_SKEW_MS {
        // The person said yes and the clock will be right again; until then marks look fresher than they are.
        return Err(HandleError::Retry(format!("the local clock is off by {} ms: no new risk", sight.clock_skew_ms)));
    }
    let words = evidence::words(unit, panel, row).await?;
    if !words.no.is_empty() {
        let refusal = Refusal::new(RefusalCode::Denied).with("by", words.no.len());
        return end(unit, row, ApprovalStatus::Revoked, &refusal, locked, sight).await;
    }
    let people = words.yes;
    let needed = quorum::needed(&locked.limits, row.tier, panel.active());
    if needed.is_none_or(|needed| people.len() < needed) {
        let refusal = Refusal::new(RefusalCode::ApprovalMismatch)
            .with("verified_approvers", people.len())
            .with("needed", needed.unwrap_or(0));
        return end(unit, row, ApprovalStatus::Revoked, &refusal, locked, sight).await;
    }
    let instrument = store::instruments::get(unit, &row.envelope.instrument()).await?;
    let kill = KillSwitch::read_with(unit, sight.kill_copies).await?;
    let around = locked.surroundings(instrument.as_ref(), kill, sight);
    let verdict = check(&row.envelope, Some(&grant(row)), around);
    let order = match verdict {
        Verdict::Approved(approved) => approved.into_inner(),
        Verdict::Refused(refusal) if waits(&refusal) => return Ok(Vec::new()),
        Verdict::Refused(refusal) => return end(unit, row, ApprovalStatus::Revoked, &refusal, locked, sight).await,
        Verdict::NeedsHuman { tier, .. } => {
            let refusal = Refusal::new(RefusalCode::ApprovalMismatch).with("tier", row.tier).with("needed_tier", tier);
            return end(unit, row, ApprovalStatus::Revoked, &refusal, locked, sight).await;
        }
    };
    let won = store::approvals::set_status(unit, row.approval_id, &[ApprovalStatus::Allowed], ApprovalStatus::Consumed)
        .await?;
    if !won {
        return Ok(Vec::new());
    }
    let audit = json!({
        "approval_id": row.approval_id,
        "order_id": row.order_id,
        "digest": row.digest,
        "approvers": people,
    });
    store::audit::append(unit, row.user_id, "approval_consumed", NAME, &audit, sight.now).await?;
    let permit = sign(unit, config, &order, locked, true, kill, sight).await?;
    let signal_id = intent_of(row)?.signal_id;
    Ok(vec![
        permit,
        facts::decision(row.user_id, row.order_id, signal_id, &order.instrument(), DecisionOutcome::Permitted),
        facts::approval_ended(row.user_id, row.approval_id, "consumed"),
    ])
}

/// Without a fresh price nothing can be judged, as just after a start. That says nothing about the order, and takes no person's
/// word from them: the sweep looks again, until the question's own end.
fn waits(refusal: &Refusal) -> bool {
    refusal.code == RefusalCode::StaleMark
}

/// Ends a question that something else took the place of. When that is what a person asked for instead, the rails judge the
/// changed order in this same transaction, and people are asked again about it: whoever modified has not said yes by that.
/// Whatever stands in the way gives the money back.
async fn replace(
    unit: &mut Unit,
    row: &ApprovalRow,
    panel: &Panel,
    locked: &mut Locked,
    sight: Sight<'_>,
) -> Result<Vec<Message>, HandleError> {
    if store::approvals::successor(unit, row.approval_id).await?.is_some() {
        return Ok(Vec::new());
    }
    let superseded = Refusal::new(RefusalCode::Superseded);
    let change = evidence::words(unit, panel, row).await?.modified.and_then(|entry| entry.change);
    let wanted = change.and_then(|change| modify::modified(&row.envelope, change).ok());
    let Some(order) = wanted else { return release(unit, row, &superseded, locked, sight).await };
    if sight.now > row.expires_at {
        return release(unit, row, &Refusal::new(RefusalCode::ApprovalExpired), locked, sight).await;
    }
    if let Some(refusal) = outdated(row, locked, panel).or_else(|| locked.refusal()) {
        return release(unit, row, &refusal, locked, sight).await;
    }
    let instrument = store::instruments::get(unit, &order.instrument()).await?;
    let kill = KillSwitch::read_with(unit, sight.kill_copies).await?;
    let around = locked.surroundings(instrument.as_ref(), kill, sight);
    let (tier, sum_usd) = match check(&order, None, around) {
        Verdict::Refused(refusal) if waits(&refusal) => return Ok(Vec::new()),
        Verdict::Refused(refusal) => return release(unit, row, &refusal, locked, sight).await,
        Verdict::NeedsHuman { tier, sum_usd, .. } => (tier, sum_usd),
        // What a person was asked about once, a person decides, however small it became.
        Verdict::Approved(_) => (1, order.max_notional_usd),
    };
    let needed = match decide::may_ask(unit, row.user_id, tier, panel, &locked.limits, sight.now).await? {
        Ok(needed) => needed,
        Err(refusal) => return release(unit, row, &refusal, locked, sight).await,
    };
    let intent = intent_of(row)?;
    let id = modify::successor_id(row.approval_id, &order).map_err(|error| HandleError::Fatal(error.to_string()))?;
    let request = decide::request_of(&intent, order, id, tier, needed, panel, sight.now)?;
    let request = ApprovalRow { replaces: Some(row.approval_id), ..request };
    decide::ask(unit, &intent, request, sum_usd, locked, sight.now).await
}

async fn end(
    unit: &mut Unit,
    row: &ApprovalRow,
    status: ApprovalStatus,
    refusal: &Refusal,
    locked: &mut Locked,
    sight: Sight<'_>,
) -> Result<Vec<Message>, HandleError> {
    let from = [ApprovalStatus::Pending, ApprovalStatus::Allowed];
    if !store::approvals::set_status(unit, row.approval_id, &from, status).await? {
        return Ok(Vec::new());
    }
    release(unit, row, refusal, locked, sight).await
}

/// Gives the reserved money back and tells why. Does nothing when that happened before.
async fn release(
    unit: &mut Unit,
    row: &ApprovalRow,
    refusal: &Refusal,
    locked: &mut Locked,
    sight: Sight<'_>,
) -> Result<Vec<Message>, HandleError> {
    let Ok(changes) = locked.book.release(row.order_id) else {
        return Ok(Vec::new());
    };
    store::ledger::apply(unit, row.user_id, &changes, sight.now).await?;
    let audit = json!({
        "approval_id": row.approval_id,
        "order_id": row.order_id,
        "code": refusal.code.code(),
        "numbers": refusal.numbers,
    });
    store::audit::append(unit, row.user_id, "approval_ended", NAME, &audit, sight.now).await?;
    let signal_id = intent_of(row)?.signal_id;
    let mut out = facts::refused(row.user_id, row.order_id, signal_id, &row.envelope.instrument(), refusal);
    out.push(facts::approval_ended(row.user_id, row.approval_id, refusal.code.code()));
    Ok(out)
}

fn intent_of(row: &ApprovalRow) -> Result<OrderIntent, HandleError> {
    serde_json::from_value(row.intent.clone())
        .map_err(|error| HandleError::Fatal(format!("stored intent of approval {}: {error}", row.approval_id)))
}
