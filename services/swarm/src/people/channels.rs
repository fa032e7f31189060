//! What a person does once to decide over Telegram or the web page.

use std::path::Path;

use domain::link_code;
use domain::person::Act;
use domain::time::Clock;
use rand::TryRngCore;
use rand::rngs::OsRng;
use runtime::clock::SystemClock;
use serde_json::{Value, json};
use store::Db;

use super::connection::{Connection, Files, read};
use super::{PeopleError, act};

/// Bytes of an authenticator's secret: as many as SHA-1 has.
const SECRET_BYTES: usize = 20;

/// Makes a code, signs for its hash, and has the hash stored; the code itself is only printed.
///
/// # Errors
/// [`PeopleError`]; a no of the swarm is an answer.
pub async fn link_telegram(connection: &Connection, files: &Files) -> Result<Value, PeopleError> {
    let code = link_code::of_bits(random()?);
    let hash = link_code::hash(&code).ok_or_else(|| PeopleError::Usage("the code is none".to_owned()))?;
    let reason = "swarm telegram link";
    let what = Act::LinkTelegram { code_hash: hash };
    let mut answer = act(connection, files, "swarm.telegram.link", what, reason).await?;
    if answer["ok"] == true
        && let Some(fields) = answer.as_object_mut()
    {
        fields.insert("code".to_owned(), json!(code));
        fields.insert("valid_minutes".to_owned(), json!(link_code::VALID_MS / 60_000));
    }
    Ok(answer)
}

/// Gives the person a new authenticator secret in the place of any earlier one. It is shown this once. Written with the
/// administrator's login: whoever could write it otherwise could approve.
///
/// # Errors
/// [`PeopleError`].
pub async fn enroll_web(data_dir: &Path, files: &Files) -> Result<Value, PeopleError> {
    let unreachable = |error: store::StoreError| PeopleError::Unreachable(error.to_string());
    let url = read(&data_dir.join("secrets").join("admin.url"))?;
    let secret: [u8; SECRET_BYTES] = random()?;
    let person = &files.person_id;
    let db = Db::connect(url.trim(), "swarm_enroll").await.map_err(unreachable)?;
    let mut unit = db.begin().await.map_err(unreachable)?;
    let now = unit.now().await.map_err(unreachable)?;
    let known = store::approvals::approver(&mut unit, person).await.map_err(unreachable)?;
    if known.is_none_or(|approver| !approver.active) {
        let detail = format!("{person} is no approver of this swarm");
        return Ok(json!({ "ok": false, "code": "UNKNOWN_APPROVER", "detail": detail }));
    }
    store::totp::set_secret(&mut unit, person, &secret, now).await.map_err(unreachable)?;
    let body = json!({ "person_id": person });
    store::audit::append_governance(&mut unit, "totp_enrolled", "swarm web enroll", &body, now)
        .await
        .map_err(unreachable)?;
    unit.commit().await.map_err(unreachable)?;
    let skew_ms = SystemClock.now().since_ms(now);
    Ok(json!({
        "ok": true, "person_id": person, "uri": rails::totp::uri(person, &secret), "clock_skew_ms": skew_ms,
    }))
}

fn random<const N: usize>() -> Result<[u8; N], PeopleError> {
    let mut bytes = [0_u8; N];
    OsRng.try_fill_bytes(&mut bytes).map_err(|error| PeopleError::Files(format!("no randomness: {error}")))?;
    Ok(bytes)
}
