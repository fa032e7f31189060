//! A person lets a Telegram account speak for them: the code that binds it is made of an act they signed.

use domain::link_code::VALID_MS;
use domain::person::{Act, SignedAct};
use domain::time::UnixMs;
use runtime::HandleError;
use serde_json::json;
use store::Unit;
use store::telegram::Link;

use super::authenticate;
use crate::NAME;
use crate::answer::Refused;

/// A link that waits for its code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkMade {
    /// Whom it binds to.
    pub person_id: String,
    /// From then on it is worth nothing.
    pub expires_at: UnixMs,
}

/// Stores the hash of a code that the person made and signed; the code itself never comes here.
///
/// # Errors
/// Store failures; a refusal is an answer.
pub async fn make_link(unit: &mut Unit, signed: &SignedAct) -> Result<Result<LinkMade, Refused>, HandleError> {
    let now = unit.now().await?;
    if let Err(refused) = authenticate(unit, signed, now).await? {
        return Ok(Err(refused));
    }
    let Act::LinkTelegram { code_hash } = signed.act.what else {
        return Ok(Err(Refused::new("WRONG_ACT", "this act binds no Telegram account")));
    };
    let made = LinkMade { person_id: signed.act.person_id.clone(), expires_at: now.plus_ms(VALID_MS) };
    let link = Link {
        code_hash,
        person_id: made.person_id.clone(),
        act: serde_json::to_value(signed).map_err(|error| HandleError::Fatal(error.to_string()))?,
        made_at: now,
        expires_at: made.expires_at,
        used_by: None,
        used_at: None,
    };
    match store::telegram::make_link(unit, &link).await {
        Ok(()) => {}
        Err(error) if error.sql_state().as_deref() == Some("23505") => {
            return Ok(Err(Refused::new("CODE_USED", "this code was made before; make another one")));
        }
        Err(error) => return Err(error.into()),
    }
    let body = json!({ "person_id": made.person_id, "code_hash": code_hash, "expires_at": made.expires_at });
    store::audit::append_governance(unit, "telegram_link_made", NAME, &body, now).await?;
    Ok(Ok(made))
}
