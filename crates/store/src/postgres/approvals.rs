//! Requests, entries and approvers in Postgres.

use async_trait::async_trait;
use domain::ids::{ApprovalId, OrderId, UserId};
use domain::message::Decision;
use domain::person::Assurance;
use domain::time::UnixMs;
use sqlx::postgres::PgRow;

use super::PgUnit;
use super::value::{Reader, Stamp};
use crate::StoreError;
use crate::approvals::{ApprovalRow, ApprovalStatus, Approver, EntryRow};
use crate::port::Approvals;

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
        approvers_version: row.text("approvers_version")?,
        needed: u8::try_from(row.get::<i16>("needed")?).map_err(|_| row.corrupt("needed"))?,
        replaces: row.get::<Option<uuid::Uuid>>("replaces")?.map(ApprovalId),
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
        Decision::Revoke => "revoke",
        Decision::Approve => "approve",
    }
}

fn entry_of(row: &PgRow) -> Result<EntryRow, StoreError> {
    let row = Reader::new("approval_entries", row);
    let decision = |word: &str| {
        let all = [Decision::Reject, Decision::Modify, Decision::Approve, Decision::Revoke];
        all.into_iter().find(|decision| decision_word(*decision) == word)
    };
    let change = row.get::<Option<serde_json::Value>>("change")?.map(serde_json::from_value).transpose()?;
    Ok(EntryRow {
        approval_id: ApprovalId(row.uuid("approval_id")?),
        person_id: row.text("person_id")?,
        decision: row.word("decision", decision)?,
        change,
        channel: row.text("channel")?,
        assurance: row.word("assurance", Assurance::parse)?,
        evidence: row.json("evidence")?,
        digest: row.digest("digest")?,
        shown_digest: row.maybe_digest("shown_digest")?,
        reason: row.text("reason")?,
        signature: row.get("signature")?,
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

#[async_trait]
impl Approvals for PgUnit {
    async fn insert_request(&mut self, row: &ApprovalRow) -> Result<bool, StoreError> {
        let done = sqlx::query(
            "INSERT INTO approval_requests (user_id, approval_id, order_id, envelope, intent, digest, tier, status,
           policy_version, requested_by, reasoning, requested_at, expires_at, approvers_version, needed, replaces)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16) ON CONFLICT DO NOTHING",
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
        .bind(&row.approvers_version)
        .bind(i16::from(row.needed))
        .bind(row.replaces.map(|id| id.0))
        .execute(self.conn())
        .await?;
        Ok(done.rows_affected() == 1)
    }

    async fn request(&mut self, approval_id: ApprovalId) -> Result<Option<ApprovalRow>, StoreError> {
        let row = sqlx::query("SELECT * FROM approval_requests WHERE approval_id = $1")
            .bind(approval_id.0)
            .fetch_optional(self.conn())
            .await?;
        row.as_ref().map(request_of).transpose()
    }

    async fn lock_request(&mut self, user: UserId, approval_id: ApprovalId) -> Result<Option<ApprovalRow>, StoreError> {
        let row =
            sqlx::query("SELECT * FROM approval_requests WHERE user_id = $1 AND approval_id = $2 FOR NO KEY UPDATE")
                .bind(user.0)
                .bind(approval_id.0)
                .fetch_optional(self.conn())
                .await?;
        row.as_ref().map(request_of).transpose()
    }

    async fn pending_requests(&mut self, user: Option<UserId>) -> Result<Vec<ApprovalRow>, StoreError> {
        let rows = sqlx::query(
            "SELECT * FROM approval_requests WHERE status = 'pending' AND ($1::uuid IS NULL OR user_id = $1)
         ORDER BY requested_at, approval_id",
        )
        .bind(user.map(|user| user.0))
        .fetch_all(self.conn())
        .await?;
        rows.iter().map(request_of).collect()
    }

    async fn prompts_since(&mut self, user: UserId, since: UnixMs) -> Result<u64, StoreError> {
        let count: i64 =
            sqlx::query_scalar("SELECT count(*) FROM approval_requests WHERE user_id = $1 AND requested_at >= $2")
                .bind(user.0)
                .bind(Stamp(since))
                .fetch_one(self.conn())
                .await?;
        u64::try_from(count).map_err(|_| StoreError::OutOfRange("count"))
    }

    async fn successor(&mut self, approval_id: ApprovalId) -> Result<Option<ApprovalId>, StoreError> {
        let id: Option<uuid::Uuid> =
            sqlx::query_scalar("SELECT approval_id FROM approval_requests WHERE replaces = $1")
                .bind(approval_id.0)
                .fetch_optional(self.conn())
                .await?;
        Ok(id.map(ApprovalId))
    }

    async fn insert_entry(&mut self, user: UserId, entry: &EntryRow) -> Result<bool, StoreError> {
        let done = sqlx::query(
            "INSERT INTO approval_entries (user_id, approval_id, person_id, decision, channel, digest, reason, signature,
           signed_at, assurance, evidence, shown_digest, change)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13) ON CONFLICT DO NOTHING",
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
        .bind(entry.assurance.word())
        .bind(&entry.evidence)
        .bind(entry.shown_digest.map(|digest| digest.0.to_vec()))
        .bind(entry.change.map(serde_json::to_value).transpose()?)
        .execute(self.conn())
        .await?;
        Ok(done.rows_affected() == 1)
    }

    async fn entries(&mut self, approval_id: ApprovalId) -> Result<Vec<EntryRow>, StoreError> {
        let rows = sqlx::query("SELECT * FROM approval_entries WHERE approval_id = $1 ORDER BY stored_at, person_id")
            .bind(approval_id.0)
            .fetch_all(self.conn())
            .await?;
        rows.iter().map(entry_of).collect()
    }

    async fn set_request_status(
        &mut self,
        user: UserId,
        approval_id: ApprovalId,
        from: &[ApprovalStatus],
        to: ApprovalStatus,
    ) -> Result<bool, StoreError> {
        let from: Vec<&str> = from.iter().map(|status| status.word()).collect();
        let done = sqlx::query(
            "UPDATE approval_requests SET status = $3, changed_at = clock_timestamp()
         WHERE user_id = $1 AND approval_id = $2 AND status = ANY($4) AND status <> $3",
        )
        .bind(user.0)
        .bind(approval_id.0)
        .bind(to.word())
        .bind(&from)
        .execute(self.conn())
        .await?;
        if done.rows_affected() == 0 {
            return Ok(false);
        }
        sqlx::query("INSERT INTO approval_resolutions (user_id, approval_id, status) VALUES ($1, $2, $3)")
            .bind(user.0)
            .bind(approval_id.0)
            .bind(to.word())
            .execute(self.conn())
            .await?;
        Ok(true)
    }

    async fn due_requests(&mut self, now: UnixMs) -> Result<Vec<(UserId, ApprovalId)>, StoreError> {
        let rows = sqlx::query(
            "SELECT user_id, approval_id FROM approval_requests
         WHERE status IN ('pending', 'allowed') AND (status = 'allowed' OR expires_at <= $1)
         UNION
         SELECT a.user_id, a.approval_id FROM reservations r
         JOIN approval_requests a ON a.user_id = r.user_id AND a.order_id = r.order_id
         WHERE r.state = 'pending' AND a.status NOT IN ('pending', 'allowed')
           AND NOT EXISTS (SELECT FROM approval_requests n WHERE n.replaces = a.approval_id)
         ORDER BY user_id, approval_id",
        )
        .bind(Stamp(now))
        .fetch_all(self.conn())
        .await?;
        rows.iter()
            .map(|row| {
                let row = Reader::new("approval_requests", row);
                Ok((UserId(row.uuid("user_id")?), ApprovalId(row.uuid("approval_id")?)))
            })
            .collect()
    }

    async fn upsert_approver(&mut self, approver: &Approver) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO approvers (person_id, handle, public_key, active) VALUES ($1, $2, $3, $4)
         ON CONFLICT (person_id) DO UPDATE SET handle = EXCLUDED.handle, public_key = EXCLUDED.public_key,
           active = EXCLUDED.active, updated_at = clock_timestamp()",
        )
        .bind(&approver.person_id)
        .bind(&approver.handle)
        .bind(&approver.public_key)
        .bind(approver.active)
        .execute(self.conn())
        .await?;
        Ok(())
    }

    async fn approver(&mut self, person_id: &str) -> Result<Option<Approver>, StoreError> {
        let row = sqlx::query("SELECT * FROM approvers WHERE person_id = $1")
            .bind(person_id)
            .fetch_optional(self.conn())
            .await?;
        row.as_ref().map(approver_of).transpose()
    }

    async fn approvers(&mut self) -> Result<Vec<Approver>, StoreError> {
        let rows = sqlx::query("SELECT * FROM approvers ORDER BY person_id").fetch_all(self.conn()).await?;
        rows.iter().map(approver_of).collect()
    }
}
