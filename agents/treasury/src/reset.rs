//! A person resets a latched breaker.

use domain::ids::UserId;
use domain::message::{Message, Task};
use domain::person::{Act, SignedAct};
use domain::reject::{Reject, RejectCode};
use rails::signature::verify_act;
use runtime::HandleError;
use serde_json::json;
use store::Unit;

use crate::config::Config;
use crate::decide::{Sight, lock};
use crate::{NAME, facts};

/// Capability of the task that carries the act.
pub const CAPABILITY: &str = "reset_breaker";

/// Checks the signed act and resets the breaker it names. An act for another latch does nothing.
///
/// # Errors
/// [`HandleError::Reject`] for an act that does not verify; store failures.
pub async fn breaker(
    unit: &mut Unit,
    config: &Config,
    user_id: UserId,
    task: &Task,
    sight: Sight<'_>,
) -> Result<Vec<Message>, HandleError> {
    if task.capability != CAPABILITY {
        return Err(Reject::new(RejectCode::NotSupported, "treasury knows the task reset_breaker only").into());
    }
    let text = task.arguments.get("act").ok_or_else(|| Reject::new(RejectCode::MissingField, "act"))?;
    let signed: SignedAct =
        serde_json::from_str(text).map_err(|_| Reject::new(RejectCode::BadJson, "act is no signed act"))?;
    let Act::ResetBreaker { user_id: whose, latched_at } = signed.act.what else {
        return Err(Reject::new(RejectCode::WrongPayload, "the act is no breaker reset").into());
    };
    if whose != user_id {
        return Err(Reject::new(RejectCode::WrongUser, "act and header name different users").into());
    }
    let approver = store::approvals::approver(unit, &signed.act.person_id).await?;
    let Some(approver) = approver.filter(|a| a.active) else {
        return Err(Reject::new(RejectCode::BadId, "no active approver of that name").into());
    };
    if !signed.act.is_timely(sight.now) {
        return Err(Reject::new(RejectCode::Expired, "the act was signed more than 5 minutes ago").into());
    }
    verify_act(&signed, &approver.public_key).map_err(|fault| Reject::new(RejectCode::BadId, fault.to_string()))?;
    let Some(mut locked) = lock(unit, config, user_id, sight).await? else {
        return Ok(Vec::new());
    };
    if locked.book.breaker.latched_at != Some(latched_at) {
        return Ok(Vec::new());
    }
    let changes = locked.book.reset_breaker();
    store::ledger::apply(unit, user_id, &changes, sight.now).await?;
    let audit = json!({ "by": signed.act.person_id, "reason": signed.act.reason, "latched_at": latched_at });
    store::audit::append(unit, user_id, "breaker_reset", NAME, &audit, sight.now).await?;
    Ok(vec![facts::notice(
        user_id,
        format!("breaker_reset:{}", latched_at.0),
        "BREAKER_RESET",
        format!("breaker reset by {}", signed.act.person_id),
        std::collections::BTreeMap::new(),
    )])
}
