//! Requests for a human's word in memory.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use domain::ids::{ApprovalId, UserId};
use domain::message::Decision;
use domain::person::Assurance;
use domain::time::UnixMs;
use rails::book::ReservationState;
use store::StoreError;
use store::approvals::{ApprovalRow, ApprovalStatus, Approver, EntryRow};
use store::port::Approvals;

use crate::record::Defect;
use crate::record::refusal::{check, document, is_hex, missing, restricted, texts, unique};
use crate::record::tables::{Entry, Resolution};
use crate::record::unit::{Lock, MemoryUnit, Statement, view};

/// The steps that a request may take.
const fn moves_on(from: ApprovalStatus, to: ApprovalStatus) -> bool {
    use ApprovalStatus::{Allowed, Cancelled, Consumed, Denied, Expired, Pending, Revoked, Superseded};
    match from {
        Pending => matches!(to, Allowed | Denied | Expired | Cancelled | Superseded),
        Allowed => matches!(to, Consumed | Expired | Revoked),
        _ => false,
    }
}

#[async_trait]
impl Approvals for MemoryUnit {
    async fn insert_request(&mut self, row: &ApprovalRow) -> Result<bool, StoreError> {
        self.run(|s| {
            s.insert("approval_requests")?;
            texts(
                [&row.policy_version, &row.approvers_version, &row.requested_by, &row.reasoning].map(String::as_str),
            )?;
            document(&row.intent)?;
            if row.status != ApprovalStatus::Pending {
                return Err(restricted("a request starts pending"));
            }
            check((1..=3).contains(&row.tier), "a tier is 1 to 3")?;
            check(row.reasoning.chars().count() <= 500, "reasoning has at most 500 characters")?;
            check((1..=100).contains(&row.needed), "a request needs 1 to 100 people")?;
            let replaced = row.replaces.is_some_and(|old| view!(s, successors).has(&old));
            if view!(s, requests).has(&row.approval_id) || replaced {
                return Ok(false);
            }
            s.lock(Lock::Request(row.approval_id))?;
            if let Some(old) = row.replaces {
                s.lock(Lock::Successor(old))?;
                s.changes.successors.insert(old, Some(row.approval_id));
            }
            if !view!(s, users).has(&row.user_id) {
                return Err(missing("no such user"));
            }
            s.changes.requests.insert(row.approval_id, Some(Arc::new(row.clone())));
            Ok(true)
        })
    }

    async fn request(&mut self, approval_id: ApprovalId) -> Result<Option<ApprovalRow>, StoreError> {
        self.run(|s| {
            let sight = s.select("approval_requests")?;
            let row = view!(s, requests).get(&approval_id).filter(|row| sight.sees(row.user_id));
            Ok(row.map(|row| row.as_ref().clone()))
        })
    }

    async fn lock_request(&mut self, user: UserId, approval_id: ApprovalId) -> Result<Option<ApprovalRow>, StoreError> {
        self.run(|s| {
            s.access.allow_lock("approval_requests")?;
            let reach = s.access.reach(s.tenant);
            let seen = |row: &&Arc<ApprovalRow>| row.user_id == user && reach.sees(user);
            let Some(row) = view!(s, requests).get(&approval_id).filter(seen).cloned() else { return Ok(None) };
            s.lock(Lock::Request(approval_id))?;
            Ok(Some(row.as_ref().clone()))
        })
    }

    async fn pending_requests(&mut self, user: Option<UserId>) -> Result<Vec<ApprovalRow>, StoreError> {
        self.run(|s| {
            let sight = s.select("approval_requests")?;
            let mut rows: Vec<ApprovalRow> = view!(s, requests)
                .all()
                .map(|(_, row)| row)
                .filter(|row| {
                    row.status == ApprovalStatus::Pending
                        && sight.sees(row.user_id)
                        && user.is_none_or(|user| row.user_id == user)
                })
                .map(|row| row.as_ref().clone())
                .collect();
            rows.sort_by_key(|row| (row.requested_at, row.approval_id));
            Ok(rows)
        })
    }

    async fn prompts_since(&mut self, user: UserId, since: UnixMs) -> Result<u64, StoreError> {
        self.run(|s| {
            s.select("approval_requests")?;
            let asked = view!(s, requests).all().filter(|(_, row)| row.user_id == user && row.requested_at >= since);
            u64::try_from(asked.count()).map_err(|_| StoreError::OutOfRange("count"))
        })
    }

    async fn successor(&mut self, approval_id: ApprovalId) -> Result<Option<ApprovalId>, StoreError> {
        self.run(|s| {
            let sight = s.select("approval_requests")?;
            let found = view!(s, successors).get(&approval_id).copied();
            let seen = |id: &ApprovalId| view!(s, requests).get(id).is_some_and(|row| sight.sees(row.user_id));
            Ok(found.filter(seen))
        })
    }

    async fn insert_entry(&mut self, user: UserId, entry: &EntryRow) -> Result<bool, StoreError> {
        self.run(|s| {
            s.insert("approval_entries")?;
            texts([&entry.person_id, &entry.channel, &entry.reason].map(String::as_str))?;
            texts(entry.signature.as_deref())?;
            document(&entry.evidence)?;
            check(entry.signature.as_ref().is_none_or(|s| is_hex(s, 128)), "a signature is 128 hex digits")?;
            check(entry.assurance != Assurance::CliKey || entry.signature.is_some(), "a key's word is signed")?;
            check(entry.evidence.is_object(), "evidence is an object")?;
            let modifies = entry.decision == Decision::Modify;
            check(modifies == entry.change.is_some(), "a change is what a modification has")?;
            let key = (entry.approval_id, entry.person_id.clone(), entry.decision == Decision::Revoke);
            if view!(s, entry_of_person).has(&key) && !s.broken(Defect::VoteCountedTwice) {
                return Ok(false);
            }
            s.lock(Lock::Entry(key.0, key.1.clone(), key.2))?;
            if !view!(s, approvers).has(&entry.person_id) {
                return Err(missing("no such approver"));
            }
            if view!(s, requests).get(&entry.approval_id).is_none_or(|row| row.user_id != user) {
                return Err(missing("no such request of this user"));
            }
            let position = s.shared.next_position();
            let row = Entry { user_id: user, row: entry.clone() };
            s.changes.entries.insert((entry.approval_id, position), Some(Arc::new(row)));
            s.changes.entry_of_person.insert(key, Some(position));
            Ok(true)
        })
    }

    async fn entries(&mut self, approval_id: ApprovalId) -> Result<Vec<EntryRow>, StoreError> {
        self.run(|s| {
            let sight = s.select("approval_entries")?;
            let rows = view!(s, entries).range((approval_id, i64::MIN)..=(approval_id, i64::MAX));
            Ok(rows.filter(|(_, entry)| sight.sees(entry.user_id)).map(|(_, entry)| entry.row.clone()).collect())
        })
    }

    async fn set_request_status(
        &mut self,
        user: UserId,
        approval_id: ApprovalId,
        from: &[ApprovalStatus],
        to: ApprovalStatus,
    ) -> Result<bool, StoreError> {
        self.run(|s| set_request_status(s, user, approval_id, from, to))
    }

    async fn due_requests(&mut self, now: UnixMs) -> Result<Vec<(UserId, ApprovalId)>, StoreError> {
        self.run(|s| {
            let (sight, reserved) = (s.select("approval_requests")?, s.select("reservations")?);
            let still_reserved = |row: &ApprovalRow| {
                let reservation = view!(s, reservations).get(&(row.user_id, row.order_id));
                reserved.sees(row.user_id) && reservation.is_some_and(|r| r.state == ReservationState::Pending)
            };
            let due: BTreeSet<(UserId, ApprovalId)> = view!(s, requests)
                .all()
                .map(|(_, row)| row)
                .filter(|row| {
                    sight.sees(row.user_id)
                        && match row.status {
                            ApprovalStatus::Pending => row.expires_at <= now,
                            ApprovalStatus::Allowed => true,
                            _ => still_reserved(row) && !view!(s, successors).has(&row.approval_id),
                        }
                })
                .map(|row| (row.user_id, row.approval_id))
                .collect();
            Ok(due.into_iter().collect())
        })
    }

    async fn upsert_approver(&mut self, approver: &Approver) -> Result<(), StoreError> {
        self.run(|s| {
            s.insert("approvers")?;
            s.update("approvers", &["handle", "public_key", "active", "updated_at"])?;
            texts([approver.person_id.as_str(), &approver.public_key].into_iter().chain(approver.handle.as_deref()))?;
            check(!approver.person_id.is_empty(), "an approver has a name")?;
            check(is_hex(&approver.public_key, 64), "a public key is 64 hex digits")?;
            s.lock(Lock::Approver(approver.person_id.clone()))?;
            s.changes.approvers.insert(approver.person_id.clone(), Some(Arc::new(approver.clone())));
            Ok(())
        })
    }

    async fn approver(&mut self, person_id: &str) -> Result<Option<Approver>, StoreError> {
        self.run(|s| {
            s.select("approvers")?;
            texts([person_id])?;
            Ok(view!(s, approvers).get(&person_id.to_owned()).map(|row| row.as_ref().clone()))
        })
    }

    async fn approvers(&mut self) -> Result<Vec<Approver>, StoreError> {
        self.run(|s| {
            s.select("approvers")?;
            Ok(view!(s, approvers).all().map(|(_, row)| row.as_ref().clone()).collect())
        })
    }
}

fn set_request_status(
    s: &mut Statement<'_>,
    user: UserId,
    approval_id: ApprovalId,
    from: &[ApprovalStatus],
    to: ApprovalStatus,
) -> Result<bool, StoreError> {
    let reach = s.update("approval_requests", &["status", "changed_at"])?;
    let Some(row) = view!(s, requests).get(&approval_id).cloned() else { return Ok(false) };
    if row.user_id != user || !reach.sees(user) || !from.contains(&row.status) || row.status == to {
        return Ok(false);
    }
    s.lock(Lock::Request(approval_id))?;
    if !moves_on(row.status, to) {
        return Err(restricted("a request does not take this step"));
    }
    if to == ApprovalStatus::Consumed && s.broken(Defect::ApprovalConsumedTwice) {
        return Ok(true);
    }
    s.changes.requests.insert(approval_id, Some(Arc::new(ApprovalRow { status: to, ..row.as_ref().clone() })));
    s.insert("approval_resolutions")?;
    let mut steps = view!(s, resolutions).range((approval_id, i64::MIN)..=(approval_id, i64::MAX));
    if steps.any(|(_, step)| step.status == to) {
        return Err(unique("that step was taken"));
    }
    let position = s.shared.next_position();
    let step = Resolution { user_id: user, status: to, at: s.now };
    s.changes.resolutions.insert((approval_id, position), Some(step));
    Ok(true)
}
