//! What Telegram said and what was said there: updates as they came, which account is whose, and which message showed which
//! request to whom. Rows only: what an update is worth is checked by whoever acts on it.

use domain::canonical::Sha256Digest;
use domain::ids::ApprovalId;
use domain::time::UnixMs;
use serde_json::Value;

use crate::fits::fits;
use crate::{StoreError, Unit};

/// The key under which the offset of the long poll is kept.
const OFFSET: &str = "offset";

/// An update as Telegram sent it.
#[derive(Debug, Clone, PartialEq)]
pub struct Update {
    /// Telegram's number of it.
    pub update_id: i64,
    /// When it was stored.
    pub received_at: UnixMs,
    /// The JSON object, with U+FFFD for each NUL, which no row can hold.
    pub raw: Value,
    /// The name of its one payload (`message`, `callback_query`), `unknown` when it has none or several.
    pub kind: String,
    /// When it was dealt with.
    pub handled_at: Option<UnixMs>,
    /// How.
    pub outcome: Option<String>,
}

/// A one-time code that binds an account to a person; only its hash is known here.
#[derive(Debug, Clone, PartialEq)]
pub struct Link {
    /// SHA-256 of the code.
    pub code_hash: Sha256Digest,
    /// Whom it binds to.
    pub person_id: String,
    /// The act that the person signed for it (`domain::person::SignedAct` as JSON).
    pub act: Value,
    /// When it was made.
    pub made_at: UnixMs,
    /// From then on it is worth nothing.
    pub expires_at: UnixMs,
    /// The Telegram account that used it.
    pub used_by: Option<i64>,
    /// When it did.
    pub used_at: Option<UnixMs>,
}

/// A Telegram account of a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Telegram's number of it.
    pub telegram_user_id: i64,
    /// Whose.
    pub person_id: String,
    /// The private chat it was bound in.
    pub chat_id: i64,
    /// When.
    pub linked_at: UnixMs,
    /// May it speak for the person now.
    pub active: bool,
}

/// A message that showed a request to a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prompt {
    /// Which request.
    pub approval_id: ApprovalId,
    /// To whom.
    pub person_id: String,
    /// In which chat.
    pub chat_id: i64,
    /// Telegram's number of the message in that chat.
    pub message_id: i64,
    /// When it was sent.
    pub sent_at: UnixMs,
    /// When its text was changed last.
    pub edited_at: Option<UnixMs>,
    /// It shows how the request ended and has no buttons any more.
    pub is_final: bool,
}

/// Keeps an update before anything is done with it; `false` when that id is kept already.
///
/// # Errors
/// [`StoreError`]; an update that is no JSON object is a check violation.
pub async fn put_update(unit: &mut Unit, update_id: i64, raw: &Value, now: UnixMs) -> Result<bool, StoreError> {
    fits(now, "received_at")?;
    let kind = kind_of(raw);
    let update = Update { update_id, received_at: now, raw: without_nul(raw), kind, handled_at: None, outcome: None };
    unit.records().insert_update(&update).await
}

/// Updates that were not dealt with, in the order of their numbers.
///
/// # Errors
/// [`StoreError`].
pub async fn unhandled(unit: &mut Unit, limit: i64) -> Result<Vec<Update>, StoreError> {
    unit.records().unhandled_updates(limit).await
}

/// Records how an update was dealt with; `false` when that was recorded before, or there is none.
///
/// # Errors
/// [`StoreError`].
pub async fn set_handled(unit: &mut Unit, update_id: i64, outcome: &str, now: UnixMs) -> Result<bool, StoreError> {
    fits(now, "handled_at")?;
    unit.records().set_update_handled(update_id, outcome, now).await
}

/// One update.
///
/// # Errors
/// [`StoreError`].
pub async fn update(unit: &mut Unit, update_id: i64) -> Result<Option<Update>, StoreError> {
    unit.records().update(update_id).await
}

/// Stores a fresh link.
///
/// # Errors
/// [`StoreError`]; a code that was made before is a unique violation, an unknown person a foreign key violation.
pub async fn make_link(unit: &mut Unit, link: &Link) -> Result<(), StoreError> {
    fits(link.made_at, "made_at")?;
    fits(link.expires_at, "expires_at")?;
    unit.records().insert_link(link).await
}

/// Uses a link: binds the account to its person and says who that is. `None` when there is no such link, somebody used it,
/// or its time is over.
///
/// # Errors
/// [`StoreError`].
pub async fn use_link(
    unit: &mut Unit,
    code_hash: Sha256Digest,
    telegram_user_id: i64,
    chat_id: i64,
    now: UnixMs,
) -> Result<Option<String>, StoreError> {
    fits(now, "used_at")?;
    let Some(person_id) = unit.records().take_link(code_hash, telegram_user_id, now).await? else {
        return Ok(None);
    };
    let account = Account { telegram_user_id, person_id: person_id.clone(), chat_id, linked_at: now, active: true };
    unit.records().upsert_account(&account).await?;
    Ok(Some(person_id))
}

/// The links that an account used, newest last.
///
/// # Errors
/// [`StoreError`].
pub async fn links_used_by(unit: &mut Unit, telegram_user_id: i64) -> Result<Vec<Link>, StoreError> {
    unit.records().links_used_by(telegram_user_id).await
}

/// Takes an account's right to speak for its person, or gives it back; `false` when there is no such account.
///
/// # Errors
/// [`StoreError`].
pub async fn set_account_active(unit: &mut Unit, telegram_user_id: i64, active: bool) -> Result<bool, StoreError> {
    match unit.records().account(telegram_user_id).await? {
        Some(account) => {
            unit.records().upsert_account(&Account { active, ..account }).await?;
            Ok(true)
        }
        None => Ok(false),
    }
}

/// The account of that number.
///
/// # Errors
/// [`StoreError`].
pub async fn account(unit: &mut Unit, telegram_user_id: i64) -> Result<Option<Account>, StoreError> {
    unit.records().account(telegram_user_id).await
}

/// All accounts of a person, by their numbers.
///
/// # Errors
/// [`StoreError`].
pub async fn accounts_of(unit: &mut Unit, person_id: &str) -> Result<Vec<Account>, StoreError> {
    unit.records().accounts_of(person_id).await
}

/// Records that a message showed a request; `false` when that is recorded already.
///
/// # Errors
/// [`StoreError`].
pub async fn put_prompt(unit: &mut Unit, prompt: &Prompt) -> Result<bool, StoreError> {
    fits(prompt.sent_at, "sent_at")?;
    unit.records().insert_prompt(prompt).await
}

/// The messages that showed a request, in the order they were sent.
///
/// # Errors
/// [`StoreError`].
pub async fn prompts(unit: &mut Unit, approval_id: ApprovalId) -> Result<Vec<Prompt>, StoreError> {
    unit.records().prompts(approval_id).await
}

/// Messages that do not show yet how their request ended, in the order they were sent.
///
/// # Errors
/// [`StoreError`].
pub async fn open_prompts(unit: &mut Unit) -> Result<Vec<Prompt>, StoreError> {
    unit.records().open_prompts().await
}

/// Records that a message was edited, and whether for the last time; `false` when there is none, or it was final before.
///
/// # Errors
/// [`StoreError`].
pub async fn set_prompt_edited(
    unit: &mut Unit,
    prompt: &Prompt,
    now: UnixMs,
    is_final: bool,
) -> Result<bool, StoreError> {
    fits(now, "edited_at")?;
    unit.records().set_prompt_edited(prompt, now, is_final).await
}

/// Where the long poll goes on; `None` before the first.
///
/// # Errors
/// [`StoreError`].
pub async fn offset(unit: &mut Unit) -> Result<Option<i64>, StoreError> {
    let found = unit.records().telegram_state(OFFSET).await?;
    let corrupt = StoreError::Corrupt { table: "telegram_state", column: "value" };
    found.map(|text| text.parse().map_err(|_| corrupt)).transpose()
}

/// Moves the offset.
///
/// # Errors
/// [`StoreError`].
pub async fn set_offset(unit: &mut Unit, offset: i64) -> Result<(), StoreError> {
    unit.records().set_telegram_state(OFFSET, &offset.to_string()).await
}

/// An update has its number and one payload.
fn kind_of(raw: &Value) -> String {
    let fields = raw.as_object().map(|fields| fields.keys().filter(|name| *name != "update_id"));
    let mut names = fields.into_iter().flatten();
    match (names.next(), names.next()) {
        (Some(name), None) => name.chars().filter(|c| *c != '\0').take(64).collect(),
        _ => "unknown".to_owned(),
    }
}

/// A row holds no NUL, and a stranger's message must not stay at the head of the line for that.
fn without_nul(value: &Value) -> Value {
    let clean = |text: &str| text.replace('\0', "\u{fffd}");
    match value {
        Value::String(text) => Value::String(clean(text)),
        Value::Array(values) => Value::Array(values.iter().map(without_nul).collect()),
        Value::Object(fields) => {
            Value::Object(fields.iter().map(|(name, value)| (clean(name), without_nul(value))).collect())
        }
        other => other.clone(),
    }
}
