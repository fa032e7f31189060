//! A request as people are shown it, the same over every channel.

use domain::ids::ApprovalId;
use domain::message::Decision;
use domain::time::UnixMs;
use serde_json::{Value, json};
use store::Unit;
use store::approvals::{ApprovalRow, ApprovalStatus, EntryRow};

use runtime::HandleError;

/// What the record knows of a request besides its row.
#[derive(Debug, Clone, Default)]
pub struct Told {
    /// What people said.
    pub entries: Vec<EntryRow>,
    /// The request that took its place.
    pub superseded_by: Option<ApprovalId>,
}

/// Reads what [`shown`] tells besides the row.
///
/// # Errors
/// Store failures.
pub async fn told_of(unit: &mut Unit, row: &ApprovalRow) -> Result<Told, HandleError> {
    let entries = store::approvals::entries(unit, row.approval_id).await?;
    let superseded_by = store::approvals::successor(unit, row.approval_id).await?;
    Ok(Told { entries, superseded_by })
}

/// An approval request as people are shown it: numbers from the hashed envelope, prose apart and marked as unverified. One that
/// is out of time at `now` is expired, whether or not somebody has written that down.
#[must_use]
pub fn shown(row: &ApprovalRow, told: &Told, now: UnixMs) -> Value {
    let e = &row.envelope;
    let rendering = rails::render::shown(e, row.tier, row.digest, &row.reasoning);
    let late = !row.status.is_terminal() && now > row.expires_at;
    json!({
        "approval_id": row.approval_id,
        "user_id": row.user_id,
        "status": if late { ApprovalStatus::Expired } else { row.status }.word(),
        "tier": row.tier,
        "needed": row.needed,
        "digest": row.digest,
        "digest_words": rails::render::digest_words(row.digest),
        "side": e.side,
        "instrument": e.instrument().to_string(),
        "quantity": e.quantity,
        "worst_price": e.worst_price,
        "max_notional_usd": e.max_notional_usd,
        "max_slippage_bps": e.max_slippage_bps,
        "time_in_force": e.time_in_force,
        "requested_at_ms": row.requested_at,
        "expires_at_ms": row.expires_at,
        "expires_at": row.expires_at.to_string(),
        "order_id": row.order_id,
        "requested_by": row.requested_by,
        "replaces": row.replaces,
        "superseded_by": told.superseded_by,
        "entries": told.entries.iter().map(said).collect::<Vec<_>>(),
        "rendering": rendering.lines.iter().map(|(label, value)| json!([label, value])).collect::<Vec<_>>(),
        "prose_heading": rails::render::HEADING,
        "prose": rendering.prose,
        "shown_digest": rendering.digest,
        "agent_says_unverified": domain::message::clean_text(&row.reasoning),
        "summary": format!(
            "{} {} {} at {} or better, at most ${}",
            e.side, e.quantity, e.symbol, e.worst_price, e.max_notional_usd
        ),
    })
}

fn said(entry: &EntryRow) -> Value {
    let decision = match entry.decision {
        Decision::Approve => "approve",
        Decision::Reject => "reject",
        Decision::Modify => "modify",
        Decision::Revoke => "revoke",
    };
    json!({
        "person_id": entry.person_id,
        "decision": decision,
        "change": entry.change,
        "channel": entry.channel,
        "assurance": entry.assurance.word(),
        "reason": entry.reason,
        "at": entry.signed_at.to_string(),
        "at_ms": entry.signed_at,
    })
}
