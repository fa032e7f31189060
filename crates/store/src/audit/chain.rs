//! Appending.

use domain::canonical::{self, NotCanonical, Sha256Digest};
use domain::ids::UserId;
use domain::time::UnixMs;
use serde::{Deserialize, Serialize};

use crate::value::{Reader, Stamp};
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

/// Everything a row says, as it is hashed.
#[derive(Serialize)]
pub(super) struct Hashed<'a> {
    pub(super) chain: Chain,
    pub(super) seq: i64,
    pub(super) at_ms: UnixMs,
    pub(super) kind: &'a str,
    pub(super) agent: &'a str,
    pub(super) body: &'a serde_json::Value,
    pub(super) prev_hash: Sha256Digest,
}

impl Hashed<'_> {
    const TAG: &'static str = "swarm.audit.v1";

    pub(super) fn hash(&self) -> Result<Sha256Digest, NotCanonical> {
        canonical::digest(Self::TAG, self)
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
    unit.require(user).await?;
    sqlx::query("INSERT INTO audit_heads (user_id, seq, hash) VALUES ($1, 0, $2) ON CONFLICT DO NOTHING")
        .bind(user.0)
        .bind(&Sha256Digest::ZERO.0[..])
        .execute(unit.conn())
        .await?;
    let row = sqlx::query("SELECT seq, hash FROM audit_heads WHERE user_id = $1 FOR UPDATE")
        .bind(user.0)
        .fetch_one(unit.conn())
        .await?;
    let head = head_of("audit_heads", &row)?;
    let next = next(Chain::User(user), head, kind, agent, body, now)?;
    sqlx::query(
        "INSERT INTO trade_audit (user_id, seq, at, kind, agent, body, prev_hash, hash)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
    )
    .bind(user.0)
    .bind(next.seq)
    .bind(Stamp(now))
    .bind(kind)
    .bind(agent)
    .bind(body)
    .bind(&head.hash.0[..])
    .bind(&next.hash.0[..])
    .execute(unit.conn())
    .await?;
    sqlx::query("UPDATE audit_heads SET seq = $2, hash = $3 WHERE user_id = $1")
        .bind(user.0)
        .bind(next.seq)
        .bind(&next.hash.0[..])
        .execute(unit.conn())
        .await?;
    Ok(next)
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
    let row = sqlx::query("SELECT seq, hash FROM governance_head FOR UPDATE").fetch_one(unit.conn()).await?;
    let head = head_of("governance_head", &row)?;
    let next = next(Chain::Governance, head, kind, agent, body, now)?;
    sqlx::query(
        "INSERT INTO governance_audit (seq, at, kind, agent, body, prev_hash, hash)
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind(next.seq)
    .bind(Stamp(now))
    .bind(kind)
    .bind(agent)
    .bind(body)
    .bind(&head.hash.0[..])
    .bind(&next.hash.0[..])
    .execute(unit.conn())
    .await?;
    sqlx::query("UPDATE governance_head SET seq = $1, hash = $2")
        .bind(next.seq)
        .bind(&next.hash.0[..])
        .execute(unit.conn())
        .await?;
    Ok(next)
}

/// The heads of all chains this role may see, governance first; chains without rows are left out.
///
/// # Errors
/// [`StoreError`].
pub async fn heads(unit: &mut Unit) -> Result<Vec<ChainHead>, StoreError> {
    let rows = sqlx::query(
        "SELECT NULL::uuid AS user_id, seq, hash FROM governance_head WHERE seq > 0
         UNION ALL SELECT user_id, seq, hash FROM audit_heads WHERE seq > 0 ORDER BY user_id NULLS FIRST",
    )
    .fetch_all(unit.conn())
    .await?;
    rows.iter()
        .map(|row| {
            let user: Option<uuid::Uuid> = Reader::new("audit_heads", row).get("user_id")?;
            let chain = user.map_or(Chain::Governance, |user| Chain::User(UserId(user)));
            Ok(ChainHead { chain, head: head_of("audit_heads", row)? })
        })
        .collect()
}

/// The hash stored in one row of a chain; `None` when this role sees no such row.
///
/// # Errors
/// [`StoreError`].
pub async fn hash_at(unit: &mut Unit, chain: Chain, seq: i64) -> Result<Option<Sha256Digest>, StoreError> {
    let query = match chain {
        Chain::User(user) => {
            sqlx::query("SELECT hash FROM trade_audit WHERE user_id = $2 AND seq = $1").bind(seq).bind(user.0)
        }
        Chain::Governance => sqlx::query("SELECT hash FROM governance_audit WHERE seq = $1").bind(seq),
    };
    let row = query.fetch_optional(unit.conn()).await?;
    row.map(|row| Reader::new("trade_audit", &row).digest("hash")).transpose()
}

fn head_of(table: &'static str, row: &sqlx::postgres::PgRow) -> Result<AuditHead, StoreError> {
    let row = Reader::new(table, row);
    Ok(AuditHead { seq: row.get("seq")?, hash: row.digest("hash")? })
}

fn next(
    chain: Chain,
    head: AuditHead,
    kind: &str,
    agent: &str,
    body: &serde_json::Value,
    now: UnixMs,
) -> Result<AuditHead, StoreError> {
    let seq = head.seq.checked_add(1).ok_or(StoreError::OutOfRange("seq"))?;
    let hash = Hashed { chain, seq, at_ms: now, kind, agent, body, prev_hash: head.hash }.hash()?;
    Ok(AuditHead { seq, hash })
}
