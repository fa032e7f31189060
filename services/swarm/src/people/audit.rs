//! `swarm audit`: reads the tables with a login that can do nothing else, and compares with what the database can't
//! write.

use domain::ids::UserId;
use domain::time::Clock;
use rails::signature::parse_public_key;
use serde_json::{Value, json};
use store::Db;
use store::audit::{Anchors, ChainReport, Keys};

use super::PeopleError;
use super::connection::{Files, read};

/// Reads the audit tables with the login that may do nothing else.
#[derive(Debug, Clone)]
pub struct Auditor {
    db: Db,
    files: Files,
}

fn unreachable(error: store::StoreError) -> PeopleError {
    PeopleError::Unreachable(error.to_string())
}

impl Auditor {
    /// Connects.
    ///
    /// # Errors
    /// [`PeopleError`].
    pub async fn open(files: &Files) -> Result<Self, PeopleError> {
        let url = read(&files.audit_pg_url_file)?;
        let db = Db::connect(url.trim(), "audit_verify").await.map_err(unreachable)?;
        Ok(Self { db, files: files.clone() })
    }

    /// Checks every chain against its hashes and against the signed heads, which the database can't write.
    ///
    /// # Errors
    /// [`PeopleError`]; an INVALID chain is an answer.
    pub async fn verify(&self) -> Result<Value, PeopleError> {
        // A missing or unreadable anchor file is a finding, not a reason to skip the comparison.
        let anchors = match std::fs::read(&self.files.anchors_file) {
            Ok(bytes) => Anchors::parse_bytes(&bytes),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Anchors::default(),
            Err(error) => Anchors::unreadable(&error.to_string()),
        };
        let keys = read(&self.files.anchor_public_keys_file)?;
        let keys: Result<Vec<_>, _> =
            keys.lines().map(str::trim).filter(|line| !line.is_empty()).map(parse_public_key).collect();
        let keys = Keys::new(keys.map_err(|error| PeopleError::Files(error.to_string()))?);
        // A chain younger than that may not have met its first anchor yet.
        let unanchored_before = runtime::clock::SystemClock.now().plus_ms(-10_000);
        let report = store::audit::verify(&self.db, &anchors, &keys, unanchored_before).await.map_err(unreachable)?;
        Ok(json!({
            "ok": report.valid,
            "verdict": if report.valid { "valid" } else { "INVALID" },
            "faults": report.faults,
            "chains": report.chains.iter().map(chain).collect::<Vec<_>>(),
        }))
    }

    /// Everything that led to one fill, order, intent or signal, and what came of it.
    ///
    /// # Errors
    /// [`PeopleError`]; an id that nothing names is an answer.
    pub async fn explain(&self, id: &str) -> Result<Value, PeopleError> {
        let mut unit = self.db.begin().await.map_err(unreachable)?;
        let found = store::audit::explain(&mut unit, id).await.map_err(unreachable)?;
        unit.rollback().await.map_err(unreachable)?;
        Ok(match found {
            Some(chain) => json!({ "ok": true, "chain": chain }),
            None => json!({ "ok": false, "code": "UNKNOWN_ID", "detail": "nothing in the audit chains names that id" }),
        })
    }
}

fn chain(report: &ChainReport) -> Value {
    json!({
        "chain": report.user.map_or_else(|| "governance".to_owned(), |user: UserId| user.to_string()),
        "rows": report.rows,
        "anchored": report.anchored,
        "not_yet_anchored": report.unanchored,
        "first_bad": report.first_bad.as_ref().map(|bad| json!({ "seq": bad.seq, "reason": bad.reason })),
    })
}
