//! What becomes of a request for a human decision. A message only wakes this code; the stored rows decide, and every
//! signature is checked again here.

use std::collections::BTreeSet;

use domain::ids::ApprovalId;
use domain::ids::UserId;
use domain::message::{DecisionOutcome, Message};
use domain::order::{OrderIntent, Origin};
use domain::person::{Act, Vote};
use rails::check::{Surroundings, Verdict, check, quorum};
use rails::refusal::{Refusal, RefusalCode};
use rails::signature::verify_act;
use runtime::HandleError;
use runtime::kill::KillSwitch;
use serde_json::json;
use store::Unit;
use store::approvals::{ApprovalRow, ApprovalStatus, Approver, EntryRow};

use crate::config::Config;
use crate::decide::{Locked, MAX_CLOCK_SKEW_MS, Sight, grant, lock, sign};
use crate::{NAME, facts};

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
    match row.status {
        ApprovalStatus::Pending if sight.now > row.expires_at => {
            end(unit, &row, ApprovalStatus::Expired, &Refusal::new(RefusalCode::ApprovalExpired), &mut locked, sight)
                .await
        }
        ApprovalStatus::Pending if row.policy_version != locked.limits.version() => {
            end(unit, &row, ApprovalStatus::Superseded, &Refusal::new(RefusalCode::Superseded), &mut locked, sight)
                .await
        }
        ApprovalStatus::Denied => release(unit, &row, &Refusal::new(RefusalCode::Denied), &mut locked, sight).await,
        ApprovalStatus::Expired => {
            release(unit, &row, &Refusal::new(RefusalCode::ApprovalExpired), &mut locked, sight).await
        }
        ApprovalStatus::Superseded | ApprovalStatus::Cancelled | ApprovalStatus::Revoked => {
            release(unit, &row, &Refusal::new(RefusalCode::Superseded), &mut locked, sight).await
        }
        ApprovalStatus::Allowed => consume(unit, config, &row, &mut locked, sight).await,
        _ => Ok(Vec::new()),
    }
}

async fn consume(
    unit: &mut Unit,
    config: &Config,
    row: &ApprovalRow,
    locked: &mut Locked,
    sight: Sight<'_>,
) -> Result<Vec<Message>, HandleError> {
    if sight.now > row.expires_at {
        return end(unit, row, ApprovalStatus::Expired, &Refusal::new(RefusalCode::ApprovalExpired), locked, sight)
            .await;
    }
    if row.policy_version != locked.limits.version() {
        let refusal = Refusal::new(RefusalCode::Superseded)
            .with("asked_under", &row.policy_version)
            .with("now", locked.limits.version());
        return end(unit, row, ApprovalStatus::Revoked, &refusal, locked, sight).await;
    }
    if let Some(refusal) = locked.refusal() {
        return end(unit, row, ApprovalStatus::Revoked, &refusal, locked, sight).await;
    }
    if row.envelope.side == domain::order::Side::Buy && sight.clock_skew_ms.abs() > MAX_CLOCK_SKEW_MS {
        // The person said yes and the clock will be right again; until then marks look fresher than they are.
        return Err(HandleError::Retry(format!("the local clock is off by {} ms: no new risk", sight.clock_skew_ms)));
    }
    let entries = store::approvals::entries(unit, row.approval_id).await?;
    let people = verified_approvers(unit, row, &entries).await?;
    if people.len() < quorum(row.tier) {
        let refusal = Refusal::new(RefusalCode::ApprovalMismatch)
            .with("verified_approvers", people.len())
            .with("needed", quorum(row.tier));
        return end(unit, row, ApprovalStatus::Revoked, &refusal, locked, sight).await;
    }
    let instrument = store::instruments::get(unit, &row.envelope.instrument()).await?;
    let kill = KillSwitch::read_with(unit, sight.kill_copies).await?;
    let verdict = check(
        &row.envelope,
        Some(&grant(row)),
        Surroundings {
            limits: &locked.limits,
            book: &locked.book,
            marks: sight.marks,
            instrument: instrument.as_ref(),
            verdict: None,
            kill,
            now: sight.now,
        },
    );
    let order = match verdict {
        Verdict::Approved(approved) => approved.into_inner(),
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

/// People whose stored yes verifies: registered and active, signature over this request and digest, one vote each; from
/// tier 2 on not the requester where more than one approver exists.
async fn verified_approvers(
    unit: &mut Unit,
    row: &ApprovalRow,
    entries: &[EntryRow],
) -> Result<BTreeSet<String>, HandleError> {
    let approvers = store::approvals::approvers(unit).await?;
    let active = approvers.iter().filter(|a| a.active).count();
    let requester = intent_of(row)?.origin;
    let mut people = BTreeSet::new();
    for entry in entries {
        let Some(approver) = approvers.iter().find(|a| a.active && a.person_id == entry.person_id) else {
            continue;
        };
        let Some(signed) = entry.signed_act() else { continue };
        let matches_request = matches!(
            &signed.act.what,
            Act::Vote { approval_id, digest, vote: Vote::Approve }
                if *approval_id == row.approval_id && *digest == row.digest
        );
        if !matches_request || verify_act(&signed, &approver.public_key).is_err() {
            continue;
        }
        if row.tier >= 2 && active > 1 && is_requester(&requester, approver) {
            continue;
        }
        people.insert(entry.person_id.clone());
    }
    Ok(people)
}

/// A person is known by the name of their key and by the handle of their account.
fn is_requester(requester: &Origin, approver: &Approver) -> bool {
    match requester {
        Origin::Person { handle } => *handle == approver.person_id || approver.handle.as_ref() == Some(handle),
        Origin::Agent { .. } => false,
    }
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
