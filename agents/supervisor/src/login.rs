//! Logging in at the web page: a name and a one-time code. It opens the page and decides nothing; each decision takes a code of
//! its own, and one that was used here is worth nothing there.

use domain::ids::ApprovalId;
use rails::totp;
use runtime::Means;
use serde::Deserialize;
use serde_json::json;
use store::totp::Spent;

use crate::answer::Refused;
use crate::doors::{Asker, LONGEST_NAME, refuse};
use crate::services::{Answer, nobody};
use crate::{NAME, Shared};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    person: String,
    totp: String,
}

/// Checks a name and a code, and uses the code up. Whether the name, the person's right to decide, the authenticator or the code
/// is what is missing, a stranger is not told.
pub(crate) async fn login(shared: &Shared, work: &impl Means, payload: &[u8]) -> Answer {
    let asker = Asker { channel: "web", ..Asker::default() };
    let Ok(Asked { person, totp: code }) = serde_json::from_slice(payload) else {
        let why = "send {\"person\":\"name\",\"totp\":\"123456\"}";
        return refuse(work, asker, Refused::new("BAD_JSON", why)).await;
    };
    // Names are remembered for wrong codes, so they have an end.
    if person.chars().count() > LONGEST_NAME {
        return refuse(work, asker, Refused::new("BAD_TEXT", "nobody has so long a name")).await;
    }
    let asker = Asker { person_id: Some(domain::message::clean_text(&person)), ..asker };
    // Counted beside the codes of decisions: a stranger who guesses at the login holds up no decision.
    let guarded = format!("login {person}");
    let started = work.now();
    if !shared.codes.is_open(&guarded, started) {
        let why = "too many wrong codes: no code is looked at for 15 minutes; `swarm approve` works";
        return refuse(work, asker, Refused::new("TOO_MANY_CODES", why)).await;
    }
    let mut unit = work.begin(nobody()).await?;
    let now = unit.now().await?;
    // What a table can't hold is nobody's name.
    let is_name = domain::message::clean_text(&person) == person;
    let approver = if is_name { store::approvals::approver(&mut unit, &person).await? } else { None };
    let approver = approver.filter(|approver| approver.active);
    let secret = if approver.is_some() { store::totp::secret(&mut unit, &person).await? } else { None };
    let step = secret.and_then(|secret| totp::step_with(&secret, &code, now));
    // Used for no request: no word on one can rest on it.
    let nothing = ApprovalId(uuid::Uuid::nil());
    let spent = step.map(|step| Spent { person_id: person.clone(), step, approval_id: nothing, at: now });
    let is_spent = match &spent {
        Some(spent) => store::totp::spend(&mut unit, spent).await?,
        None => false,
    };
    let Some(approver) = approver.filter(|_| is_spent) else {
        unit.rollback().await?;
        shared.codes.note(&guarded, started);
        return refuse(work, asker, Refused::new("LOGIN_REFUSED", "the name and the code do not belong together"))
            .await;
    };
    let body = json!({ "person_id": person });
    store::audit::append_governance(&mut unit, "web_login", NAME, &body, now).await?;
    work.commit(unit, nobody(), Vec::new()).await?;
    Ok(Ok(json!({ "person": person, "user": approver.handle })))
}
