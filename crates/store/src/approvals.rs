//! Requests for a human's word, the words given, and who may give them.

use domain::canonical::Sha256Digest;
use domain::ids::{ApprovalId, OrderId, UserId};
use domain::message::Decision;
use domain::order::OrderEnvelope;
use domain::time::UnixMs;
use sqlx::postgres::PgRow;

use crate::value::{Reader, Stamp};
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
    /// Through what (`cli`, `telegram`, `web`).
    pub channel: String,
    /// Digest they saw.
    pub digest: Sha256Digest,
    /// Why, in their words.
    pub reason: String,
    /// Their Ed25519 signature, 128 hex digits.
    pub signature: String,
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

fn request_of(row: &PgRow) -> Result<ApprovalRow, StoreError> {
    let row = Reader::new("approval_requests", row);
    Ok(ApprovalRow {
        approval_id: ApprovalId(row.uuid("approval_id")?),
        user_id: UserId(row.uuid("user_id")?),
        order_id: OrderId(row.uuid("order_id")?),
        envelope: serde_json::from_value(row.json("envelope")?)?,
        intent: row.json("intent")?,
        digest: row.digest("digest")?,
        tier: u8::try_from(row.get::<i16>("tier")?).map_err(|_| row.corrupt("tier"))?,
        status: row.word("status", ApprovalStatus::parse)?,
        policy_version: row.text("policy_version")?,
        requested_by: row.text("requested_by")?,
        reasoning: row.text("reasoning")?,
        requested_at: row.time("requested_at")?,
        expires_at: row.time("expires_at")?,
    })
}

const fn decision_word(decision: Decision) -> &'static str {
    match decision {
        Decision::Reject => "reject",
        Decision::Modify => "modify",
        Decision::Approve => "approve",
    }
}

fn entry_of(row: &PgRow) -> Result<EntryRow, StoreError> {
    let row = Reader::new("approval_entries", row);
    let decision = |word: &str| {
        [Decision::Reject, Decision::Modify, Decision::Approve].into_iter().find(|d| decision_word(*d) == word)
    };
    Ok(EntryRow {
        approval_id: ApprovalId(row.uuid("approval_id")?),
        person_id: row.text("person_id")?,
        decision: row.word("decision", decision)?,
        channel: row.text("channel")?,
        digest: row.digest("digest")?,
        reason: row.text("reason")?,
        signature: row.text("signature")?,
        signed_at: row.time("signed_at")?,
    })
}

fn approver_of(row: &PgRow) -> Result<Approver, StoreError> {
    let row = Reader::new("approvers", row);
    Ok(Approver {
        person_id: row.text("person_id")?,
        handle: row.get("handle")?,
        public_key: row.text("public_key")?,
        active: row.get("active")?,
    })
}

/// Stores a pending request; `false` when that id is stored already.
///
/// # Errors
/// [`StoreError`].
pub async fn insert_request(unit: &mut Unit, row: &ApprovalRow) -> Result<bool, StoreError> {
    unit.require(row.user_id).await?;
    let done = sqlx::query(
        "INSERT INTO approval_requests (user_id, approval_id, order_id, envelope, intent, digest, tier, status,
           policy_version, requested_by, reasoning, requested_at, expires_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13) ON CONFLICT DO NOTHING",
    )
    .bind(row.user_id.0)
    .bind(row.approval_id.0)
    .bind(row.order_id.0)
    .bind(serde_json::to_value(&row.envelope)?)
    .bind(&row.intent)
    .bind(&row.digest.0[..])
    .bind(i16::from(row.tier))
    .bind(row.status.word())
    .bind(&row.policy_version)
    .bind(&row.requested_by)
    .bind(&row.reasoning)
    .bind(Stamp(row.requested_at))
    .bind(Stamp(row.expires_at))
    .execute(unit.conn())
    .await?;
    Ok(done.rows_affected() == 1)
}

/// One request, of any user this role may see.
///
/// # Errors
/// [`StoreError`].
pub async fn get(unit: &mut Unit, approval_id: ApprovalId) -> Result<Option<ApprovalRow>, StoreError> {
    let row = sqlx::query("SELECT * FROM approval_requests WHERE approval_id = $1")
        .bind(approval_id.0)
        .fetch_optional(unit.conn())
        .await?;
    row.as_ref().map(request_of).transpose()
}

/// Requests that wait, of `user` or of everyone this role may see; oldest first.
///
/// # Errors
/// [`StoreError`].
pub async fn pending(unit: &mut Unit, user: Option<UserId>) -> Result<Vec<ApprovalRow>, StoreError> {
    if let Some(user) = user {
        unit.require(user).await?;
    }
    let rows = sqlx::query(
        "SELECT * FROM approval_requests WHERE status = 'pending' AND ($1::uuid IS NULL OR user_id = $1)
         ORDER BY requested_at, approval_id",
    )
    .bind(user.map(|user| user.0))
    .fetch_all(unit.conn())
    .await?;
    rows.iter().map(request_of).collect()
}

/// How often a user's people were asked since `since`.
///
/// # Errors
/// [`StoreError`].
pub async fn prompts_since(unit: &mut Unit, user: UserId, since: UnixMs) -> Result<u64, StoreError> {
    unit.require(user).await?;
    let count: i64 =
        sqlx::query_scalar("SELECT count(*) FROM approval_requests WHERE user_id = $1 AND requested_at >= $2")
            .bind(user.0)
            .bind(Stamp(since))
            .fetch_one(unit.conn())
            .await?;
    u64::try_from(count).map_err(|_| StoreError::OutOfRange("count"))
}

/// Stores a person's word on a request of the unit's tenant; `false` when they gave one before.
///
/// # Errors
/// [`StoreError`]; an unknown request or person is a foreign key violation.
pub async fn insert_entry(unit: &mut Unit, entry: &EntryRow) -> Result<bool, StoreError> {
    let user = unit.required()?;
    let done = sqlx::query(
        "INSERT INTO approval_entries (user_id, approval_id, person_id, decision, channel, digest, reason, signature,
           signed_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT DO NOTHING",
    )
    .bind(user.0)
    .bind(entry.approval_id.0)
    .bind(&entry.person_id)
    .bind(decision_word(entry.decision))
    .bind(&entry.channel)
    .bind(&entry.digest.0[..])
    .bind(&entry.reason)
    .bind(&entry.signature)
    .bind(Stamp(entry.signed_at))
    .execute(unit.conn())
    .await?;
    Ok(done.rows_affected() == 1)
}

/// All words on a request, oldest first.
///
/// # Errors
/// [`StoreError`].
pub async fn entries(unit: &mut Unit, approval_id: ApprovalId) -> Result<Vec<EntryRow>, StoreError> {
    let rows = sqlx::query("SELECT * FROM approval_entries WHERE approval_id = $1 ORDER BY stored_at, person_id")
        .bind(approval_id.0)
        .fetch_all(unit.conn())
        .await?;
    rows.iter().map(entry_of).collect()
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
    let from: Vec<&str> = from.iter().map(|status| status.word()).collect();
    let done = sqlx::query(
        "UPDATE approval_requests SET status = $3, changed_at = clock_timestamp()
         WHERE user_id = $1 AND approval_id = $2 AND status = ANY($4) AND status <> $3",
    )
    .bind(user.0)
    .bind(approval_id.0)
    .bind(to.word())
    .bind(&from)
    .execute(unit.conn())
    .await?;
    if done.rows_affected() == 0 {
        return Ok(false);
    }
    sqlx::query("INSERT INTO approval_resolutions (user_id, approval_id, status) VALUES ($1, $2, $3)")
        .bind(user.0)
        .bind(approval_id.0)
        .bind(to.word())
        .execute(unit.conn())
        .await?;
    Ok(true)
}

/// Requests that wait for treasury, whatever became of the message about them: pending past their time, allowed and not
/// consumed, and decided otherwise while their money is still reserved.
///
/// # Errors
/// [`StoreError`].
pub async fn due(unit: &mut Unit, now: UnixMs) -> Result<Vec<(UserId, ApprovalId)>, StoreError> {
    let rows = sqlx::query(
        "SELECT user_id, approval_id FROM approval_requests
         WHERE status IN ('pending', 'allowed') AND (status = 'allowed' OR expires_at <= $1)
         UNION
         SELECT a.user_id, a.approval_id FROM reservations r
         JOIN approval_requests a ON a.user_id = r.user_id AND a.order_id = r.order_id
         WHERE r.state = 'pending' AND a.status NOT IN ('pending', 'allowed')",
    )
    .bind(Stamp(now))
    .fetch_all(unit.conn())
    .await?;
    rows.iter()
        .map(|row| {
            let row = Reader::new("approval_requests", row);
            Ok((UserId(row.uuid("user_id")?), ApprovalId(row.uuid("approval_id")?)))
        })
        .collect()
}

/// Writes a person who may decide, replacing what was known of them.
///
/// # Errors
/// [`StoreError`].
pub async fn upsert_approver(unit: &mut Unit, approver: &Approver) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO approvers (person_id, handle, public_key, active) VALUES ($1, $2, $3, $4)
         ON CONFLICT (person_id) DO UPDATE SET handle = EXCLUDED.handle, public_key = EXCLUDED.public_key,
           active = EXCLUDED.active, updated_at = clock_timestamp()",
    )
    .bind(&approver.person_id)
    .bind(&approver.handle)
    .bind(&approver.public_key)
    .bind(approver.active)
    .execute(unit.conn())
    .await?;
    Ok(())
}

/// One person.
///
/// # Errors
/// [`StoreError`].
pub async fn approver(unit: &mut Unit, person_id: &str) -> Result<Option<Approver>, StoreError> {
    let row =
        sqlx::query("SELECT * FROM approvers WHERE person_id = $1").bind(person_id).fetch_optional(unit.conn()).await?;
    row.as_ref().map(approver_of).transpose()
}

/// Everyone who may decide or could once.
///
/// # Errors
/// [`StoreError`].
pub async fn approvers(unit: &mut Unit) -> Result<Vec<Approver>, StoreError> {
    let rows = sqlx::query("SELECT * FROM approvers ORDER BY person_id").fetch_all(unit.conn()).await?;
    rows.iter().map(approver_of).collect()
}
