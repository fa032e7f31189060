//! Whether a stored word of a person rests on what it says: the one check of it, asked by the gateway when a word comes in and
//! by treasury before it spends one. Rows are read here; what they are worth `rails` says.

use std::collections::BTreeSet;

use domain::market::Instrument;
use domain::message::Decision;
use domain::order::OrderIntent;
use domain::person::{Act, Assurance, SignedAct};
use domain::telegram_button::Press;
use rails::press::{self, NoPress, Pressed};
use rails::signature::verify_act;
use rails::{modify, quorum, totp};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use store::approvals::{ApprovalRow, Approver, EntryRow};
use store::{StoreError, Unit};

use crate::HandleError;

/// Everyone who may decide, as the record has them now.
#[derive(Debug, Clone)]
pub struct Panel {
    active: Vec<Approver>,
    version: String,
}

impl Panel {
    /// Reads it.
    ///
    /// # Errors
    /// Store failures.
    pub async fn read(unit: &mut Unit) -> Result<Self, StoreError> {
        let mut active = store::approvals::approvers(unit).await?;
        let version = store::approvals::version_of(&active);
        active.retain(|approver| approver.active);
        Ok(Self { active, version })
    }

    /// Of the set: another one makes what was asked before void.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// How many may decide.
    #[must_use]
    pub fn active(&self) -> usize {
        self.active.len()
    }

    /// The person of that name, when they may decide.
    #[must_use]
    pub fn person(&self, person_id: &str) -> Option<&Approver> {
        self.active.iter().find(|approver| approver.person_id == person_id)
    }

    /// Whether the yes of this person would count for a request.
    ///
    /// # Errors
    /// [`HandleError::Fatal`] for a stored intent that does not read.
    pub fn may_approve(&self, row: &ApprovalRow, person: &Approver) -> Result<bool, HandleError> {
        let intent: OrderIntent = serde_json::from_value(row.intent.clone())
            .map_err(|error| HandleError::Fatal(format!("stored intent of approval {}: {error}", row.approval_id)))?;
        let is_requester = quorum::is_requester(&intent.origin, &person.person_id, person.handle.as_deref());
        Ok(quorum::may_approve(row.tier, self.active(), is_requester))
    }
}

/// Why a word is worth nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// It is a word on another request, or on another envelope than the stored one.
    #[error("the word is for another envelope than the one that is stored")]
    OtherEnvelope,
    /// No active approver of that name.
    #[error("no active approver of that name")]
    UnknownApprover,
    /// The signature is not that of the person's key over this word.
    #[error("the signature is not that of the approver's key")]
    BadSignature,
    /// There is no such update, or the evidence names none.
    #[error("no such update of Telegram is stored")]
    NoUpdate,
    /// The update means nothing for money.
    #[error("{0}")]
    NoPress(NoPress),
    /// The account is not bound to the person, by a code they signed for, or is no longer.
    #[error("the Telegram account is not bound to this person")]
    NotLinked,
    /// The button hangs under a message that did not show this request to this person.
    #[error("the button is not under a message that showed this request to this person")]
    StaleButton,
    /// The press means another word, or none.
    #[error("the button says something else")]
    OtherWord,
    /// The person has no authenticator, the code is none of this time, or it was used for something else.
    #[error("the one-time code is not right")]
    BadCode,
}

/// Evidence of a press in Telegram.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TelegramEvidence {
    /// The stored update.
    pub update_id: i64,
}

/// Evidence of a one-time code.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TotpEvidence {
    /// The step it is of.
    pub step: i64,
    /// Its six digits, worth nothing any more.
    pub code: String,
}

/// Checks one word on a request: who it was, that they may decide now, and that they said this.
///
/// # Errors
/// Store failures.
pub async fn check(
    unit: &mut Unit,
    panel: &Panel,
    row: &ApprovalRow,
    entry: &EntryRow,
) -> Result<Result<(), Fault>, StoreError> {
    if entry.approval_id != row.approval_id || entry.digest != row.digest {
        return Ok(Err(Fault::OtherEnvelope));
    }
    let Some(person) = panel.person(&entry.person_id) else { return Ok(Err(Fault::UnknownApprover)) };
    match entry.assurance {
        Assurance::CliKey => Ok(signature(entry, person)),
        Assurance::Telegram => pressed(unit, row, entry, person).await,
        Assurance::WebTotp => code(unit, row, entry).await,
    }
}

fn signature(entry: &EntryRow, person: &Approver) -> Result<(), Fault> {
    let signed = entry.signed_act().ok_or(Fault::BadSignature)?;
    verify_act(&signed, &person.public_key).map_err(|_| Fault::BadSignature)
}

async fn code(unit: &mut Unit, row: &ApprovalRow, entry: &EntryRow) -> Result<Result<(), Fault>, StoreError> {
    let Ok(shown) = serde_json::from_value::<TotpEvidence>(entry.evidence.clone()) else {
        return Ok(Err(Fault::BadCode));
    };
    let Some(secret) = store::totp::secret(unit, &entry.person_id).await? else { return Ok(Err(Fault::BadCode)) };
    let spent = store::totp::spent(unit, &entry.person_id, shown.step).await?;
    let is_for_this = spent.is_some_and(|spent| spent.approval_id == row.approval_id);
    let is_right = totp::code(&secret, shown.step).is_some_and(|code| code == shown.code);
    let good = is_for_this && is_right && totp::is_near(shown.step, entry.signed_at);
    Ok(if good { Ok(()) } else { Err(Fault::BadCode) })
}

/// The stored update as a press, and whose account it is.
///
/// # Errors
/// Store failures.
pub async fn press_of(unit: &mut Unit, update_id: i64) -> Result<Result<(Pressed, String), Fault>, StoreError> {
    let Some(update) = store::telegram::update(unit, update_id).await? else { return Ok(Err(Fault::NoUpdate)) };
    let pressed = match press::read(update.update_id, &update.raw) {
        Ok(pressed) => pressed,
        Err(fault) => return Ok(Err(Fault::NoPress(fault))),
    };
    let account = store::telegram::account(unit, pressed.telegram_user_id).await?;
    let bound = account.filter(|account| account.active && account.chat_id == pressed.chat_id);
    Ok(bound.map(|account| (pressed, account.person_id)).ok_or(Fault::NotLinked))
}

async fn pressed(
    unit: &mut Unit,
    row: &ApprovalRow,
    entry: &EntryRow,
    person: &Approver,
) -> Result<Result<(), Fault>, StoreError> {
    let Ok(shown) = serde_json::from_value::<TelegramEvidence>(entry.evidence.clone()) else {
        return Ok(Err(Fault::NoUpdate));
    };
    let (pressed, person_id) = match press_of(unit, shown.update_id).await? {
        Ok(found) => found,
        Err(fault) => return Ok(Err(fault)),
    };
    if person_id != entry.person_id || !is_linked(unit, &pressed, person).await? {
        return Ok(Err(Fault::NotLinked));
    }
    let prompts = store::telegram::prompts(unit, row.approval_id).await?;
    let under_prompt = prompts.iter().any(|prompt| {
        prompt.person_id == entry.person_id
            && (prompt.chat_id, prompt.message_id) == (pressed.chat_id, pressed.message_id)
    });
    if pressed.button.approval_id != row.approval_id || !under_prompt {
        return Ok(Err(Fault::StaleButton));
    }
    // Nothing of what the press itself does not say is taken from Telegram's side.
    let says_this = press::word(pressed.button.press, row.tier) == Some(entry.decision) && entry.reason.is_empty();
    if !says_this || !is_change_of(unit, row, entry, pressed.button.press).await? {
        return Ok(Err(Fault::OtherWord));
    }
    Ok(Ok(()))
}

/// Whether a code that the person signed for bound this account to them.
async fn is_linked(unit: &mut Unit, pressed: &Pressed, person: &Approver) -> Result<bool, StoreError> {
    let links = store::telegram::links_used_by(unit, pressed.telegram_user_id).await?;
    Ok(links.iter().any(|link| {
        let Ok(signed) = serde_json::from_value::<SignedAct>(link.act.clone()) else { return false };
        let binds = signed.act.what == Act::LinkTelegram { code_hash: link.code_hash };
        let theirs = link.person_id == person.person_id && signed.act.person_id == person.person_id;
        binds && theirs && verify_act(&signed, &person.public_key).is_ok()
    }))
}

/// Whether the change of a modification is the one that the button names.
async fn is_change_of(unit: &mut Unit, row: &ApprovalRow, entry: &EntryRow, press: Press) -> Result<bool, StoreError> {
    if entry.decision != Decision::Modify {
        return Ok(entry.change.is_none());
    }
    let rules = store::instruments::get(unit, &row.envelope.instrument()).await?;
    let change = change_of(row, press, rules.as_ref());
    Ok(change.is_some() && change == entry.change)
}

/// What a modifying button asks for.
#[must_use]
pub fn change_of(row: &ApprovalRow, press: Press, rules: Option<&Instrument>) -> Option<domain::person::Change> {
    modify::lessened(&row.envelope, press.less()?, rules?)
}

/// What people said of a request, as far as it stands up to the check.
#[derive(Debug, Clone, Default)]
pub struct Words {
    /// Whose yes counts, each once.
    pub yes: BTreeSet<String>,
    /// Who said no, or took back what was said.
    pub no: BTreeSet<String>,
    /// What is wanted instead, the first that was asked for.
    pub modified: Option<EntryRow>,
}

/// Reads all words on a request and leaves out what stands on nothing: forged, of people who may no longer decide, of the
/// requester where that does not count.
///
/// # Errors
/// Store failures; [`HandleError::Fatal`] for a stored intent that does not read.
pub async fn words(unit: &mut Unit, panel: &Panel, row: &ApprovalRow) -> Result<Words, HandleError> {
    let mut words = Words::default();
    for entry in store::approvals::entries(unit, row.approval_id).await? {
        if let Err(fault) = check(unit, panel, row, &entry).await? {
            tracing::warn!(approval_id = %row.approval_id, person = entry.person_id, %fault, "a word does not count");
            metrics::counter!("swarm_words_void_total").increment(1);
            continue;
        }
        let Some(person) = panel.person(&entry.person_id) else { continue };
        match entry.decision {
            Decision::Approve if panel.may_approve(row, person)? => drop(words.yes.insert(entry.person_id)),
            Decision::Approve => {}
            Decision::Reject | Decision::Revoke => drop(words.no.insert(entry.person_id)),
            Decision::Modify => words.modified = words.modified.or(Some(entry)),
        }
    }
    Ok(words)
}

/// Evidence as a stored document.
///
/// # Errors
/// [`HandleError::Fatal`], which none of these types can cause.
pub fn document<T: Serialize>(evidence: &T) -> Result<Value, HandleError> {
    serde_json::to_value(evidence).map_err(|error| HandleError::Fatal(error.to_string()))
}
