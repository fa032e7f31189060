//! Audit chains in memory.

use std::sync::Arc;

use async_trait::async_trait;
use domain::canonical::Sha256Digest;
use domain::ids::UserId;
use serde_json::json;
use store::StoreError;
use store::audit::{AuditHead, AuditRow, Chain, ChainHead, MovedHeads};
use store::port::Audit;

use crate::record::Defect;
use crate::record::access::Right;
use crate::record::refusal::{check, document, limit, restricted, texts};
use crate::record::unit::{Lock, MemoryUnit, Statement, view};

const EMPTY: AuditHead = AuditHead { seq: 0, hash: Sha256Digest::ZERO };

const fn tables(chain: Chain) -> (&'static str, &'static str) {
    match chain {
        Chain::User(_) => ("trade_audit", "audit_heads"),
        Chain::Governance => ("governance_audit", "governance_head"),
    }
}

/// Whether the unit may read rows of `chain`.
fn sees(s: &Statement<'_>, chain: Chain, table: &'static str) -> Result<bool, StoreError> {
    let sight = s.select(table)?;
    Ok(match chain {
        Chain::User(user) => sight.sees(user),
        Chain::Governance => true,
    })
}

/// Heads of users' chains, by user.
fn users_heads(s: &Statement<'_>) -> Result<Vec<ChainHead>, StoreError> {
    let sight = s.select("audit_heads")?;
    let heads = view!(s, audit_heads).all().map(|(chain, head)| ChainHead { chain: *chain, head: *head });
    Ok(heads.filter(|named| matches!(named.chain, Chain::User(user) if sight.sees(user))).collect())
}

#[async_trait]
impl Audit for MemoryUnit {
    async fn lock_head(&mut self, chain: Chain) -> Result<AuditHead, StoreError> {
        self.run(|s| {
            let (_, heads) = tables(chain);
            if chain != Chain::Governance {
                s.insert(heads)?;
            }
            s.access.allow_lock(heads)?;
            s.lock(Lock::Chain(chain))?;
            Ok(view!(s, audit_heads).get(&chain).copied().unwrap_or(EMPTY))
        })
    }

    async fn append_row(&mut self, chain: Chain, mut row: AuditRow) -> Result<(), StoreError> {
        self.run(|s| {
            let (rows, heads) = tables(chain);
            s.insert(rows)?;
            s.access.allow(heads, Right::Update(&["seq", "hash"]))?;
            texts([row.kind.as_str(), &row.agent])?;
            document(&row.body)?;
            check(!row.kind.is_empty() && !row.agent.is_empty(), "an audit row says what and who")?;
            s.lock(Lock::Chain(chain))?;
            let head = view!(s, audit_heads).get(&chain).copied().unwrap_or(EMPTY);
            if head.seq + 1 != row.seq || head.hash != row.prev_hash {
                return Err(restricted("an audit row follows the head"));
            }
            s.changes.audit_heads.insert(chain, Some(AuditHead { seq: row.seq, hash: row.hash }));
            if s.broken(Defect::AuditRowEdited)
                && let Some(fields) = row.body.as_object_mut()
            {
                fields.insert("edited".to_owned(), json!(true));
            }
            if !s.broken(Defect::AuditRowLost) {
                s.changes.audit.insert((chain, row.seq), Some(Arc::new(row)));
            }
            Ok(())
        })
    }

    /// Every head is one that may have moved: whoever asks compares with what it knows.
    async fn moved_heads(&mut self, _since: i64) -> Result<MovedHeads, StoreError> {
        self.run(|s| {
            s.select("governance_head")?;
            let governance = view!(s, audit_heads).get(&Chain::Governance).copied();
            let governance = governance.map(|head| ChainHead { chain: Chain::Governance, head });
            let heads = governance.into_iter().chain(users_heads(s)?).filter(|named| named.head.seq > 0);
            Ok(MovedHeads { heads: heads.collect(), until: s.shared.position })
        })
    }

    async fn heads_after(&mut self, after: Option<UserId>, rows: i64) -> Result<Vec<ChainHead>, StoreError> {
        self.run(|s| {
            let rows = limit(rows)?;
            let is_after = |chain: Chain| after.is_none_or(|after| chain > Chain::User(after));
            let heads = users_heads(s)?.into_iter().filter(|named| named.head.seq > 0 && is_after(named.chain));
            Ok(heads.take(rows).collect())
        })
    }

    async fn hash_at(&mut self, chain: Chain, seq: i64) -> Result<Option<Sha256Digest>, StoreError> {
        self.run(|s| {
            let seen = sees(s, chain, tables(chain).0)?;
            Ok(view!(s, audit).get(&(chain, seq)).filter(|_| seen).map(|row| row.hash))
        })
    }

    async fn hashes_at(&mut self, rows: &[(Chain, i64)]) -> Result<Vec<Option<Sha256Digest>>, StoreError> {
        let mut found = Vec::new();
        for (chain, seq) in rows {
            found.push(self.hash_at(*chain, *seq).await?);
        }
        Ok(found)
    }

    async fn audited_users(&mut self) -> Result<Vec<UserId>, StoreError> {
        self.run(|s| {
            let sight = s.select("trade_audit")?;
            let mut users: Vec<UserId> = view!(s, audit)
                .all()
                .filter_map(|((chain, _), _)| match chain {
                    Chain::User(user) => sight.sees(*user).then_some(*user),
                    Chain::Governance => None,
                })
                .collect();
            users.dedup();
            Ok(users)
        })
    }

    async fn users_exist(&mut self) -> Result<bool, StoreError> {
        self.run(|s| {
            let sight = s.select("users")?;
            Ok(view!(s, users).all().any(|(user, _)| sight.sees(*user)))
        })
    }

    async fn audit_rows(&mut self, chain: Chain, after: i64, rows: i64) -> Result<Vec<AuditRow>, StoreError> {
        self.run(|s| {
            let seen = sees(s, chain, tables(chain).0)?;
            let rows = limit(rows)?;
            let Some(first) = after.checked_add(1).filter(|_| seen) else { return Ok(Vec::new()) };
            let page = view!(s, audit).range((chain, first)..=(chain, i64::MAX)).take(rows);
            Ok(page.map(|(_, row)| row.as_ref().clone()).collect())
        })
    }
}
