//! What a person's start of the swarm says to the record.

use std::collections::BTreeMap;

use runtime::{HandleError, Record};
use store::supervision::Declared;

use super::{RUNNING, Slot};
use crate::services::nobody;

/// The word of the person who started the swarm: everything may run again, whatever was declared before. What this
/// supervisor quarantined since is newer than that word, however late the store takes it.
#[derive(Default)]
pub(super) struct PersonsStart {
    /// What was declared before; restarts are counted only after that was read.
    pub(super) before: Option<BTreeMap<String, Declared>>,
}

impl PersonsStart {
    pub(super) async fn read(&mut self, record: &impl Record) -> Result<(), HandleError> {
        if self.before.is_none() {
            let mut unit = record.begin(nobody()).await?;
            let rows = store::supervision::declared(&mut unit).await?;
            unit.rollback().await?;
            self.before = Some(rows.into_iter().map(|row| (row.agent.clone(), row)).collect());
        }
        Ok(())
    }

    pub(super) async fn store(&mut self, slots: &[Slot], record: &impl Record) -> Result<(), HandleError> {
        self.read(record).await?;
        let mut unit = record.begin(nobody()).await?;
        let now = unit.now().await?;
        for slot in slots {
            let name = &slot.planned.name;
            let declared = Declared {
                agent: name.clone(),
                state: RUNNING.to_owned(),
                config_hash: String::new(),
                binary_hash: String::new(),
                reason: "a person started the swarm".to_owned(),
                at: now,
            };
            let before = self.before.as_ref().and_then(|before| before.get(name));
            if !store::supervision::declare_over(&mut unit, before, &declared).await? {
                tracing::warn!(process = name, "declared anew before the start was stored; that stays");
            }
        }
        record.commit(unit, nobody(), Vec::new()).await
    }
}
