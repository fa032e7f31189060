//! Authenticators in memory.

use std::sync::Arc;

use async_trait::async_trait;
use domain::time::UnixMs;
use store::StoreError;
use store::port::Totp;
use store::totp::Spent;

use crate::record::refusal::{check, missing, texts};
use crate::record::unit::{Lock, MemoryUnit, view};

#[async_trait]
impl Totp for MemoryUnit {
    async fn totp_secret(&mut self, person_id: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.run(|s| {
            s.select("approver_totp")?;
            texts([person_id])?;
            Ok(view!(s, totp).get(&person_id.to_owned()).cloned())
        })
    }

    async fn set_totp_secret(&mut self, person_id: &str, secret: &[u8], _now: UnixMs) -> Result<(), StoreError> {
        self.run(|s| {
            s.insert("approver_totp")?;
            s.update("approver_totp", &["secret", "enrolled_at"])?;
            texts([person_id])?;
            check((16..=64).contains(&secret.len()), "a secret has 16 to 64 bytes")?;
            s.lock(Lock::Totp(person_id.to_owned()))?;
            if !view!(s, approvers).has(&person_id.to_owned()) {
                return Err(missing("no such approver"));
            }
            s.changes.totp.insert(person_id.to_owned(), Some(secret.to_vec()));
            Ok(())
        })
    }

    async fn spend_totp_step(&mut self, spent: &Spent) -> Result<bool, StoreError> {
        self.run(|s| {
            s.insert("approver_totp_used")?;
            texts([spent.person_id.as_str()])?;
            check(spent.step >= 0, "steps are counted from the epoch")?;
            let key = (spent.person_id.clone(), spent.step);
            if view!(s, totp_used).has(&key) {
                return Ok(false);
            }
            s.lock(Lock::TotpStep(key.0.clone(), key.1))?;
            if !view!(s, approvers).has(&spent.person_id) {
                return Err(missing("no such approver"));
            }
            s.changes.totp_used.insert(key, Some(Arc::new(spent.clone())));
            Ok(true)
        })
    }

    async fn spent_totp_step(&mut self, person_id: &str, step: i64) -> Result<Option<Spent>, StoreError> {
        self.run(|s| {
            s.select("approver_totp_used")?;
            texts([person_id])?;
            Ok(view!(s, totp_used).get(&(person_id.to_owned(), step)).map(|spent| spent.as_ref().clone()))
        })
    }
}
