//! Checking every row of every chain against itself and against the anchors.

use std::collections::{BTreeMap, BTreeSet};

use domain::canonical::Sha256Digest;
use domain::ids::UserId;
use domain::time::UnixMs;
use serde::Serialize;

use super::{Anchors, AuditHead, AuditRow, Chain, Keys, SignedHead};
use crate::{Db, StoreError, Unit};

/// Rows read at once: an audit table may be far larger than memory.
const PAGE: i64 = 1000;

/// The first row that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Bad {
    /// Its number.
    pub seq: i64,
    /// What is wrong.
    pub reason: String,
}

/// One chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ChainReport {
    /// Whose; `None` for governance.
    pub user: Option<UserId>,
    /// Rows read.
    pub rows: i64,
    /// Rows up to the newest anchor.
    pub anchored: i64,
    /// Rows after it: right among themselves, but not yet held by a signature.
    pub unanchored: i64,
    /// The first row that is wrong.
    pub first_bad: Option<Bad>,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// No fault anywhere.
    pub valid: bool,
    /// Every chain, governance first.
    pub chains: Vec<ChainReport>,
    /// Faults of the anchors themselves.
    pub faults: Vec<String>,
}

/// The anchors of one chain by row number, and the fault of two that contradict each other.
type Anchored<'a> = BTreeMap<i64, &'a SignedHead>;

/// Reads all rows, with a role that may see every user (`audit_verify` or an administrator), and compares them with
/// the anchors. A chain with rows older than `unanchored_before` and no anchor at all is a fault; so is any anchor that
/// does not read, is not signed by one of `keys`, or contradicts another.
///
/// # Errors
/// [`StoreError`] when the rows can't be read at all; that is no verdict.
pub async fn verify(db: &Db, anchors: &Anchors, keys: &Keys, unanchored_before: UnixMs) -> Result<Report, StoreError> {
    let mut unit = db.begin().await?;
    // One snapshot of all tables: a writer at work is no fault. A long history may take longer than a statement of a
    // trading process.
    sqlx::raw_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY; SET LOCAL statement_timeout = 0")
        .execute(unit.conn()?)
        .await?;
    let report = verify_unit(&mut unit, anchors, keys, unanchored_before).await?;
    unit.rollback().await?;
    Ok(report)
}

/// As [`verify`], of what `unit` sees: nobody may write meanwhile.
///
/// # Errors
/// [`StoreError`] when the rows can't be read at all; that is no verdict.
pub async fn verify_unit(
    unit: &mut Unit,
    anchors: &Anchors,
    keys: &Keys,
    unanchored_before: UnixMs,
) -> Result<Report, StoreError> {
    let (anchored, mut faults) = sort_anchors(anchors, keys);
    let records = unit.records();
    let heads: BTreeMap<Chain, AuditHead> =
        records.moved_heads(0).await?.heads.into_iter().map(|named| (named.chain, named.head)).collect();
    // A chain is known by its rows, by its head or by an anchor: any of them may have been taken away.
    let chains: BTreeSet<Chain> = std::iter::once(Chain::Governance)
        .chain(records.audited_users().await?.into_iter().map(Chain::User))
        .chain(heads.keys().copied())
        .chain(anchored.keys().copied())
        .collect();
    if chains.len() == 1 && anchors.heads.is_empty() && records.users_exist().await? {
        faults.push("users exist, yet there are neither audit rows nor anchors".to_owned());
    }
    let none = Anchored::new();
    let mut reports = Vec::with_capacity(chains.len());
    for chain in chains {
        let mut walk = Walk::new(chain, anchored.get(&chain).unwrap_or(&none), unanchored_before);
        // The newest row that was read comes once more: a second row of its number would else be left out between two pages.
        let mut known = 0;
        loop {
            let after = walk.last_seq_read.saturating_sub(i64::from(known > 0));
            let page = records.audit_rows(chain, after, PAGE).await?;
            if page.len() <= known {
                break;
            }
            page.iter().skip(known).try_for_each(|row| walk.row(row))?;
            known = page.iter().filter(|row| row.seq == walk.last_seq_read).count();
        }
        reports.push(walk.finish(heads.get(&chain)));
    }
    let valid = faults.is_empty() && reports.iter().all(|chain| chain.first_bad.is_none());
    Ok(Report { valid, chains: reports, faults })
}

fn sort_anchors<'a>(anchors: &'a Anchors, keys: &Keys) -> (BTreeMap<Chain, Anchored<'a>>, Vec<String>) {
    let mut sorted: BTreeMap<Chain, Anchored<'a>> = BTreeMap::new();
    let mut faults: Vec<String> = anchors
        .unparsable
        .iter()
        .map(|bad| format!("anchor line {} does not read: {}", bad.line, bad.reason))
        .collect();
    for head in &anchors.heads {
        if !head.is_signed(keys) {
            faults.push(format!("anchor of {} at row {} has no valid signature", head.chain, head.seq));
            continue;
        }
        if head.rows != head.seq {
            faults.push(format!("anchor of {} at row {} counted {} rows", head.chain, head.seq, head.rows));
        }
        let before = sorted.entry(head.chain).or_default().insert(head.seq, head);
        if before.is_some_and(|before| before.hash != head.hash) {
            faults.push(format!("two anchors of {} at row {} contradict each other", head.chain, head.seq));
        }
    }
    (sorted, faults)
}

/// One pass over one chain. The first fault is kept; rows after it are counted only.
struct Walk<'a> {
    chain: Chain,
    anchors: &'a Anchored<'a>,
    unanchored_before: UnixMs,
    rows: i64,
    last_seq_read: i64,
    last_hash: Sha256Digest,
    has_old_rows: bool,
    first_bad: Option<Bad>,
}

impl<'a> Walk<'a> {
    const fn new(chain: Chain, anchors: &'a Anchored<'a>, unanchored_before: UnixMs) -> Self {
        Self {
            chain,
            anchors,
            unanchored_before,
            rows: 0,
            // Below every possible number, so that rows numbered under 1 are read and found wrong.
            last_seq_read: i64::MIN,
            last_hash: Sha256Digest::ZERO,
            has_old_rows: false,
            first_bad: None,
        }
    }

    fn bad(&mut self, seq: i64, reason: impl Into<String>) {
        if self.first_bad.is_none() {
            self.first_bad = Some(Bad { seq, reason: reason.into() });
        }
    }

    fn row(&mut self, row: &AuditRow) -> Result<(), StoreError> {
        let AuditRow { seq, hash, prev_hash, .. } = *row;
        self.rows += 1;
        self.last_seq_read = seq;
        self.has_old_rows |= row.at < self.unanchored_before;
        if seq != self.rows {
            let missing = self.rows;
            self.bad(missing, format!("row {missing} is missing; the next one is {seq}"));
        } else if row.hash_of(self.chain)? != hash {
            self.bad(seq, "fields do not match the row's hash: edited or moved");
        } else if prev_hash != self.last_hash {
            self.bad(seq, "does not follow the row before it: edited, moved or inserted");
        }
        if self.anchors.get(&seq).is_some_and(|anchor| anchor.hash != hash) {
            self.bad(seq, "hash differs from the signed anchor: rewritten");
        }
        self.last_hash = hash;
        Ok(())
    }

    fn finish(mut self, head: Option<&AuditHead>) -> ChainReport {
        let newest = self.anchors.last_key_value().map(|(seq, _)| *seq);
        let last = self.last_seq_read.max(0);
        match newest {
            Some(newest) if self.rows == 0 => self.bad(1, format!("all rows are gone; the anchor knows {newest}")),
            Some(newest) if last < newest => {
                self.bad(last + 1, format!("rows {} to {newest} are gone: the anchor knows them", last + 1));
            }
            None if self.has_old_rows => {
                self.bad(1, "rows are older than the anchoring interval, yet no anchor names them")
            }
            _ => {}
        }
        match head {
            Some(head) if head.seq > last => {
                self.bad(last + 1, format!("rows {} to {} are gone: the head knows them", last + 1, head.seq));
            }
            Some(head) if head.seq == last && head.hash == self.last_hash => {}
            None if self.rows == 0 => {}
            _ => self.bad(last, "newest row is not the chain's head: added or rewritten behind it"),
        }
        let anchored = newest.unwrap_or(0).min(self.rows);
        ChainReport {
            user: match self.chain {
                Chain::User(user) => Some(user),
                Chain::Governance => None,
            },
            rows: self.rows,
            anchored,
            unanchored: self.rows - anchored,
            first_bad: self.first_bad,
        }
    }
}
