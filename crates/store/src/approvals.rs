//! Requests for a human's word, the words given, and who may give them.

use std::collections::BTreeMap;

use domain::canonical::Sha256Digest;
use domain::ids::{ApprovalId, OrderId, UserId};
use domain::message::Decision;
use domain::order::OrderEnvelope;
use domain::person::{Assurance, Change};
use domain::time::UnixMs;

use crate::fits::fits;
use crate::{StoreError, Unit};

/// How far a request is. Pending and allowed move on; all others are the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ApprovalStatus {
    /// Waits for people.
    Pending,
    /// Enough people said yes; not yet used.
    Allowed,
    /// A person said no.
    Denied,
    /// Nobody answered in time, or the yes was not used in time.
    Expired,
    /// Taken back by whoever asked.
    Cancelled,
    /// Policy, limits or approvers changed, or a modified request took its place.
    Superseded,
    /// A permit was signed on it.
    Consumed,
    /// The yes was taken back before it was used.
    Revoked,
}

impl ApprovalStatus {
    const ALL: [Self; 8] = [
        Self::Pending,
        Self::Allowed,
        Self::Denied,
        Self::Expired,
        Self::Cancelled,
        Self::Superseded,
        Self::Consumed,
        Self::Revoked,
    ];

    /// The word in the table.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Allowed => "allowed",
            Self::Denied => "denied",
            Self::Expired => "expired",
            Self::Cancelled => "cancelled",
            Self::Superseded => "superseded",
            Self::Consumed => "consumed",
            Self::Revoked => "revoked",
        }
    }

    /// Reads the word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.word() == word)
    }

    /// Nothing more may happen to it.
    #[must_use]
    pub const fn is_terminal(self) -> bool {
        !matches!(self, Self::Pending | Self::Allowed)
    }
}

/// One request.
#[derive(Debug, Clone, PartialEq)]
pub struct ApprovalRow {
    /// Which.
    pub approval_id: ApprovalId,
    /// Whose money.
    pub user_id: UserId,
    /// Which order waits.
    pub order_id: OrderId,
    /// What is approved.
    pub envelope: OrderEnvelope,
    /// What it was made from, to be judged again.
    pub intent: serde_json::Value,
    /// Digest of the envelope.
    pub digest: Sha256Digest,
    /// How many people and who: 1 to 3.
    pub tier: u8,
    /// How far.
    pub status: ApprovalStatus,
    /// Version of the policy it was asked under.
    pub policy_version: String,
    /// Version of the set of approvers it was asked under.
    pub approvers_version: String,
    /// Distinct people whose yes it needs.
    pub needed: u8,
    /// The request in whose place it was made, when a person modified that.
    pub replaces: Option<ApprovalId>,
    /// Who asked, for the rule that requester and approver differ.
    pub requested_by: String,
    /// Prose of the requester; untrusted.
    pub reasoning: String,
    /// When it was asked.
    pub requested_at: UnixMs,
    /// After this it is denied.
    pub expires_at: UnixMs,
}

/// One person's word on one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryRow {
    /// Which request.
    pub approval_id: ApprovalId,
    /// Who.
    pub person_id: String,
    /// What they said.
    pub decision: Decision,
    /// What they want instead, when they modified.
    pub change: Option<Change>,
    /// Through what (`cli`, `telegram`, `web`).
    pub channel: String,
    /// How it is known that it was they.
    pub assurance: Assurance,
    /// What shows it, besides the signature; whoever spends the word checks it again.
    pub evidence: serde_json::Value,
    /// Digest they saw.
    pub digest: Sha256Digest,
    /// Digest of the text they were shown.
    pub shown_digest: Option<Sha256Digest>,
    /// Why, in their words.
    pub reason: String,
    /// Their Ed25519 signature, 128 hex digits; there when the assurance is the person's own key.
    pub signature: Option<String>,
    /// When they signed.
    pub signed_at: UnixMs,
}

/// A person who may decide.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Approver {
    /// Who.
    pub person_id: String,
    /// Their own account's handle, when they have one.
    pub handle: Option<String>,
    /// Ed25519 public key, 64 hex digits.
    pub public_key: String,
    /// May decide now.
    pub active: bool,
}

/// First 16 hex digits of the SHA-256 over everyone who may decide now: whoever comes, goes or gets another key makes
/// another version, and what was asked under the one before is over.
#[must_use]
pub fn version_of(approvers: &[Approver]) -> String {
    let active: BTreeMap<&str, (&Option<String>, &str)> = approvers
        .iter()
        .filter(|approver| approver.active)
        .map(|approver| (approver.person_id.as_str(), (&approver.handle, approver.public_key.as_str())))
        .collect();
    let digest = domain::canonical::digest("swarm.approvers.v1", &active).unwrap_or(Sha256Digest::ZERO);
    digest.to_string().chars().take(16).collect()
}

/// Stores a pending request; `false` when that id is stored already.
///
/// # Errors
/// [`StoreError`].
pub async fn insert_request(unit: &mut Unit, row: &ApprovalRow) -> Result<bool, StoreError> {
    fits(row.requested_at, "requested_at")?;
    fits(row.expires_at, "expires_at")?;
    unit.records_of(row.user_id).await?.insert_request(row).await
}

/// One request, of any user this role may see.
///
/// # Errors
/// [`StoreError`].
pub async fn get(unit: &mut Unit, approval_id: ApprovalId) -> Result<Option<ApprovalRow>, StoreError> {
    unit.records().request(approval_id).await
}

/// One request of the unit's tenant, which nobody else moves on until this unit ends: who counts words must see all that came
/// before.
///
/// # Errors
/// [`StoreError`].
pub async fn lock(unit: &mut Unit, approval_id: ApprovalId) -> Result<Option<ApprovalRow>, StoreError> {
    let user = unit.required()?;
    unit.records().lock_request(user, approval_id).await
}

/// Requests that wait, of `user` or of everyone this role may see; oldest first.
///
/// # Errors
/// [`StoreError`].
pub async fn pending(unit: &mut Unit, user: Option<UserId>) -> Result<Vec<ApprovalRow>, StoreError> {
    let records = match user {
        Some(user) => unit.records_of(user).await?,
        None => unit.records(),
    };
    records.pending_requests(user).await
}

/// How often a user's people were asked since `since`.
///
/// # Errors
/// [`StoreError`].
pub async fn prompts_since(unit: &mut Unit, user: UserId, since: UnixMs) -> Result<u64, StoreError> {
    fits(since, "requested_at")?;
    unit.records_of(user).await?.prompts_since(user, since).await
}

/// The request that took the place of this one, when a person modified it.
///
/// # Errors
/// [`StoreError`].
pub async fn successor(unit: &mut Unit, approval_id: ApprovalId) -> Result<Option<ApprovalId>, StoreError> {
    unit.records().successor(approval_id).await
}

/// Stores a person's word on a request of the unit's tenant; `false` when they gave one before. To take back what was said
/// is a word of its own.
///
/// # Errors
/// [`StoreError`]; an unknown request or person is a foreign key violation.
pub async fn insert_entry(unit: &mut Unit, entry: &EntryRow) -> Result<bool, StoreError> {
    let user = unit.required()?;
    fits(entry.signed_at, "signed_at")?;
    unit.records().insert_entry(user, entry).await
}

/// All words on a request, oldest first.
///
/// # Errors
/// [`StoreError`].
pub async fn entries(unit: &mut Unit, approval_id: ApprovalId) -> Result<Vec<EntryRow>, StoreError> {
    unit.records().entries(approval_id).await
}

/// Moves a request of the unit's tenant from one of `from` to `to`, and records the step; `false` when it stood
/// elsewhere. Pending goes to allowed, denied, expired, cancelled or superseded; allowed to consumed, expired or revoked.
///
/// # Errors
/// [`StoreError`]; any other step is an error of the database's own guard.
pub async fn set_status(
    unit: &mut Unit,
    approval_id: ApprovalId,
    from: &[ApprovalStatus],
    to: ApprovalStatus,
) -> Result<bool, StoreError> {
    let user = unit.required()?;
    unit.records().set_request_status(user, approval_id, from, to).await
}

/// Requests that wait for treasury, whatever became of the message about them: pending past their time, allowed and not
/// consumed, and decided otherwise while their money is still reserved and no other request took their place.
///
/// # Errors
/// [`StoreError`].
pub async fn due(unit: &mut Unit, now: UnixMs) -> Result<Vec<(UserId, ApprovalId)>, StoreError> {
    fits(now, "expires_at")?;
    unit.records().due_requests(now).await
}

/// Writes a person who may decide, replacing what was known of them.
///
/// # Errors
/// [`StoreError`].
pub async fn upsert_approver(unit: &mut Unit, approver: &Approver) -> Result<(), StoreError> {
    unit.records().upsert_approver(approver).await
}

/// One person.
///
/// # Errors
/// [`StoreError`].
pub async fn approver(unit: &mut Unit, person_id: &str) -> Result<Option<Approver>, StoreError> {
    unit.records().approver(person_id).await
}

/// Everyone who may decide or could once.
///
/// # Errors
/// [`StoreError`].
pub async fn approvers(unit: &mut Unit) -> Result<Vec<Approver>, StoreError> {
    unit.records().approvers().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_may_decide_makes_the_version() {
        let one = |person: &str, key: &str, active| Approver {
            person_id: person.to_owned(),
            handle: None,
            public_key: key.to_owned(),
            active,
        };
        let base = version_of(&[one("a", "k", true), one("b", "k", true)]);
        assert_eq!(base.len(), 16);
        assert_eq!(version_of(&[one("b", "k", true), one("a", "k", true), one("c", "k", false)]), base);
        let handle = Approver { handle: Some("a".to_owned()), ..one("a", "k", true) };
        for other in [
            vec![],
            vec![one("a", "k", true)],
            vec![one("a", "k", true), one("b", "k", false)],
            vec![one("a", "k", true), one("b", "other", true)],
            vec![one("a", "k", true), one("b", "k", true), one("c", "k", true)],
            vec![handle, one("b", "k", true)],
        ] {
            assert_ne!(version_of(&other), base, "{other:?}");
        }
    }
}
