//! Appending.

use domain::canonical::{self, NotCanonical, Sha256Digest};
use domain::ids::UserId;
use domain::time::UnixMs;
use serde::{Deserialize, Serialize};

use crate::fits::fits;
use crate::port::Records;
use crate::{StoreError, Unit};

/// Which chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Chain {
    /// What concerns no single user.
    Governance,
    /// One user's money.
    User(UserId),
}

impl std::fmt::Display for Chain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Governance => f.write_str("governance"),
            Self::User(user) => user.fmt(f),
        }
    }
}

/// The newest row of a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuditHead {
    /// Its number; also how many rows there are.
    pub seq: i64,
    /// Its hash.
    pub hash: Sha256Digest,
}

/// The newest row of a named chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChainHead {
    /// Which chain.
    pub chain: Chain,
    /// Its head.
    pub head: AuditHead,
}

/// What moved since a look, at least.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MovedHeads {
    /// Heads, some of them perhaps known already.
    pub heads: Vec<ChainHead>,
    /// What the next look begins with: nothing that was committed before this one is left out by it, nor anything that was
    /// under way.
    pub until: i64,
}

/// Everything a row says, as it is hashed.
#[derive(Serialize)]
struct Hashed<'a> {
    chain: Chain,
    seq: i64,
    at_ms: UnixMs,
    kind: &'a str,
    agent: &'a str,
    body: &'a serde_json::Value,
    prev_hash: Sha256Digest,
}

impl Hashed<'_> {
    const TAG: &'static str = "swarm.audit.v1";
}

/// One row of a chain.
#[derive(Debug, Clone, PartialEq)]
pub struct AuditRow {
    /// Its number, from 1.
    pub seq: i64,
    /// When.
    pub at: UnixMs,
    /// What happened.
    pub kind: String,
    /// Who wrote it.
    pub agent: String,
    /// The facts.
    pub body: serde_json::Value,
    /// Hash of the row before; zeros for the first.
    pub prev_hash: Sha256Digest,
    /// Hash of this one.
    pub hash: Sha256Digest,
}

impl AuditRow {
    /// The hash that its fields have.
    pub(super) fn hash_of(&self, chain: Chain) -> Result<Sha256Digest, NotCanonical> {
        let Self { seq, at, kind, agent, body, prev_hash, .. } = self;
        let hashed = Hashed { chain, seq: *seq, at_ms: *at, kind, agent, body, prev_hash: *prev_hash };
        canonical::digest(Hashed::TAG, &hashed)
    }
}

/// Appends a row to the user's chain, in the unit's transaction. Writers of one chain wait for each other, so numbers
/// have no gaps.
///
/// # Errors
/// [`StoreError`].
pub async fn append(
    unit: &mut Unit,
    user: UserId,
    kind: &str,
    agent: &str,
    body: &serde_json::Value,
    now: UnixMs,
) -> Result<AuditHead, StoreError> {
    append_to(unit.records_of(user).await?, Chain::User(user), kind, agent, body, now).await
}

/// Appends a row to the governance chain.
///
/// # Errors
/// [`StoreError`].
pub async fn append_governance(
    unit: &mut Unit,
    kind: &str,
    agent: &str,
    body: &serde_json::Value,
    now: UnixMs,
) -> Result<AuditHead, StoreError> {
    append_to(unit.records(), Chain::Governance, kind, agent, body, now).await
}

async fn append_to(
    records: &mut dyn Records,
    chain: Chain,
    kind: &str,
    agent: &str,
    body: &serde_json::Value,
    now: UnixMs,
) -> Result<AuditHead, StoreError> {
    fits(now, "at")?;
    let head = records.lock_head(chain).await?;
    let mut row = AuditRow {
        seq: head.seq.checked_add(1).ok_or(StoreError::OutOfRange("seq"))?,
        at: now,
        kind: kind.to_owned(),
        agent: agent.to_owned(),
        body: body.clone(),
        prev_hash: head.hash,
        hash: Sha256Digest::ZERO,
    };
    row.hash = row.hash_of(chain)?;
    let next = AuditHead { seq: row.seq, hash: row.hash };
    records.append_row(chain, row).await?;
    Ok(next)
}

/// The heads that may have moved since an earlier look, governance first; chains without rows are left out. `since` is
/// that look's [`MovedHeads::until`]; with 0 it is all heads that this role may see.
///
/// # Errors
/// [`StoreError`].
pub async fn moved_heads(unit: &mut Unit, since: i64) -> Result<MovedHeads, StoreError> {
    unit.records().moved_heads(since).await
}

/// The heads of users' chains by user, after `after`; chains without rows are left out.
///
/// # Errors
/// [`StoreError`].
pub async fn heads_after(unit: &mut Unit, after: Option<UserId>, limit: i64) -> Result<Vec<ChainHead>, StoreError> {
    unit.records().heads_after(after, limit).await
}

/// The hash stored in one row of a chain; `None` when this role sees no such row.
///
/// # Errors
/// [`StoreError`].
pub async fn hash_at(unit: &mut Unit, chain: Chain, seq: i64) -> Result<Option<Sha256Digest>, StoreError> {
    unit.records().hash_at(chain, seq).await
}

/// [`hash_at`] of each row named, in their order.
///
/// # Errors
/// [`StoreError`].
pub async fn hashes_at(unit: &mut Unit, rows: &[(Chain, i64)]) -> Result<Vec<Option<Sha256Digest>>, StoreError> {
    unit.records().hashes_at(rows).await
}

/// Rows of a chain after the row `after`, oldest first, so many at most.
///
/// # Errors
/// [`StoreError`].
pub async fn rows_after(unit: &mut Unit, chain: Chain, after: i64, limit: i64) -> Result<Vec<AuditRow>, StoreError> {
    unit.records().audit_rows(chain, after, limit).await
}
