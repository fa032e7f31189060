//! Attacks on the audit tables, by somebody who holds the administrator's login: the triggers that forbid changes are
//! switched off first, and everything is put back afterwards.

use domain::ids::UserId;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use store::{Db, StoreError, Unit};

use crate::people::Command;
use crate::stage::{Stage, StageError, must};

/// What the attacker does to the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Attack {
    /// One number of one row.
    EditedField,
    /// A row out of the middle.
    DeletedRow,
    /// The newest row.
    TruncatedTail,
    /// The newest row, with the head moved back to the one before while the supervisor is held: only the signed heads
    /// outside the database know.
    TruncatedTailAndHead,
}

impl Attack {
    pub(super) const ALL: [Self; 4] =
        [Self::EditedField, Self::DeletedRow, Self::TruncatedTail, Self::TruncatedTailAndHead];

    pub(super) const fn words(self) -> &'static str {
        match self {
            Self::EditedField => "edited field",
            Self::DeletedRow => "deleted row",
            Self::TruncatedTail => "truncated tail",
            Self::TruncatedTailAndHead => "truncated tail with the head moved back",
        }
    }

    const fn statements(self) -> &'static [&'static str] {
        match self {
            Self::EditedField => &["UPDATE trade_audit SET body = body || '{\"cash_usd\":\"1000000\"}'
                 WHERE user_id = $1 AND seq = (SELECT max(seq) FROM trade_audit WHERE user_id = $1 AND kind = 'fill_posted')"],
            Self::DeletedRow => &["DELETE FROM trade_audit WHERE user_id = $1 AND seq = 2"],
            Self::TruncatedTail => &[CUT],
            Self::TruncatedTailAndHead => &[
                CUT,
                "UPDATE audit_heads h SET seq = t.seq, hash = t.hash FROM trade_audit t
                 WHERE h.user_id = $1 AND t.user_id = $1 AND t.seq = h.seq - 1",
            ],
        }
    }
}

const CUT: &str = "DELETE FROM trade_audit WHERE user_id = $1
     AND seq = (SELECT max(seq) FROM trade_audit WHERE user_id = $1)";

/// Locks nobody but other attackers out for longer than one transaction.
const DISARM: &str = "ALTER TABLE trade_audit DISABLE TRIGGER USER; ALTER TABLE audit_heads DISABLE TRIGGER USER";

/// The administrator's login, and the victim's rows as they were.
pub(super) struct Attacker {
    admin: Db,
    victim: UserId,
    rows: Vec<String>,
    head: String,
    rearm: String,
}

impl Attacker {
    pub(super) async fn open(stage: &Stage, victim: UserId) -> Result<Self, StageError> {
        let admin = stage.administrator().await?;
        let mut unit = admin.begin().await?;
        // As text, so that no number passes through a float on the way.
        let rows: Vec<String> =
            sqlx::query_scalar("SELECT to_jsonb(t)::text FROM trade_audit t WHERE user_id = $1 ORDER BY seq")
                .bind(victim.0)
                .fetch_all(unit.conn()?)
                .await
                .map_err(StoreError::from)?;
        let head: String = sqlx::query_scalar("SELECT to_jsonb(h)::text FROM audit_heads h WHERE user_id = $1")
            .bind(victim.0)
            .fetch_one(unit.conn()?)
            .await
            .map_err(StoreError::from)?;
        let rearm = rearm(&mut unit).await?;
        unit.rollback().await?;
        must(rows.len() >= 3, || format!("only {} rows to tamper with", rows.len()))?;
        Ok(Self { admin, victim, rows, head, rearm })
    }

    /// The same edit with the triggers on. Returns what the database says to it.
    pub(super) async fn try_plainly(&self) -> Result<String, StageError> {
        let mut unit = self.admin.begin().await?;
        let tried = run(&mut unit, Attack::EditedField.statements()[0], self.victim).await;
        unit.rollback().await?;
        match tried {
            Ok(_) => Err(StageError::Differs("an audit row was edited with the triggers on".to_owned())),
            Err(StoreError::Database(sqlx::Error::Database(refusal))) => Ok(refusal.message().to_owned()),
            Err(error) => Err(error.into()),
        }
    }

    /// What `swarm audit verify` says after the attack. The rows are put back before this returns, whatever it said.
    pub(super) async fn while_tampered(&self, stage: &Stage, attack: Attack) -> Result<Value, StageError> {
        // The supervisor stops when it sees a head move back; this attacker holds it, so that it can't look.
        let _held = match attack {
            Attack::TruncatedTailAndHead => Some(Held::supervisor(stage).await?),
            _ => None,
        };
        self.tamper(attack).await?;
        let report = stage.verify().await;
        self.restore().await?;
        report
    }

    async fn tamper(&self, attack: Attack) -> Result<(), StageError> {
        let mut unit = self.admin.begin().await?;
        raw(&mut unit, DISARM).await?;
        for statement in attack.statements() {
            let changed = run(&mut unit, statement, self.victim).await?;
            must(changed == 1, || format!("{} changed {changed} rows", attack.words()))?;
        }
        raw(&mut unit, &self.rearm).await?;
        unit.commit().await?;
        Ok(())
    }

    async fn restore(&self) -> Result<(), StageError> {
        let mut unit = self.admin.begin().await?;
        raw(&mut unit, DISARM).await?;
        run(&mut unit, "DELETE FROM trade_audit WHERE user_id = $1", self.victim).await?;
        for row in &self.rows {
            sqlx::query("INSERT INTO trade_audit SELECT * FROM jsonb_populate_record(NULL::trade_audit, $1::jsonb)")
                .bind(row)
                .execute(unit.conn()?)
                .await
                .map_err(StoreError::from)?;
        }
        sqlx::query(
            "UPDATE audit_heads h SET seq = o.seq, hash = o.hash
             FROM jsonb_populate_record(NULL::audit_heads, $1::jsonb) o WHERE h.user_id = o.user_id",
        )
        .bind(&self.head)
        .execute(unit.conn()?)
        .await
        .map_err(StoreError::from)?;
        raw(&mut unit, &self.rearm).await?;
        unit.commit().await?;
        Ok(())
    }
}

/// The statements that put the triggers back as they are now.
async fn rearm(unit: &mut Unit) -> Result<String, StoreError> {
    let statements: String = sqlx::query_scalar(
        "SELECT string_agg(format('ALTER TABLE %s ENABLE %s TRIGGER %I', tgrelid::regclass,
                                  CASE tgenabled WHEN 'A' THEN 'ALWAYS' ELSE '' END, tgname), '; ')
         FROM pg_trigger WHERE NOT tgisinternal AND tgenabled <> 'D'
         AND tgrelid IN ('trade_audit'::regclass, 'audit_heads'::regclass)",
    )
    .fetch_one(unit.conn()?)
    .await?;
    Ok(statements)
}

async fn raw(unit: &mut Unit, statements: &str) -> Result<(), StoreError> {
    sqlx::raw_sql(sqlx::AssertSqlSafe(statements.to_owned())).execute(unit.conn()?).await?;
    Ok(())
}

async fn run(unit: &mut Unit, statement: &'static str, victim: UserId) -> Result<u64, StoreError> {
    Ok(sqlx::query(statement).bind(victim.0).execute(unit.conn()?).await?.rows_affected())
}

/// A stopped process; it goes on when this is dropped.
struct Held(Pid);

impl Held {
    async fn supervisor(stage: &Stage) -> Result<Self, StageError> {
        let status = stage.ask(&Command::Status).await?;
        let pid = status["supervisor_pid"].as_i64().and_then(|pid| i32::try_from(pid).ok()).map(Pid::from_raw);
        let pid = pid.ok_or_else(|| StageError::Differs(format!("the supervisor does not say its pid: {status}")))?;
        kill(pid, Signal::SIGSTOP).map_err(|error| StageError::Up(format!("holding the supervisor: {error}")))?;
        Ok(Self(pid))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Err(error) = kill(self.0, Signal::SIGCONT) {
            eprintln!("the supervisor could not be let go on: {error}");
        }
    }
}
