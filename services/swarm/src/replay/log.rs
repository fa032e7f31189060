//! The decision log: one line of canonical JSON for everything that was decided, so that two runs can be compared byte
//! by byte.

use std::collections::BTreeMap;

use domain::canonical::{self, NotCanonical, Sha256Digest};
use domain::time::UnixMs;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// The log of one run, in memory: a few hundred bytes a decision.
#[derive(Debug, Default)]
pub struct DecisionLog {
    bytes: Vec<u8>,
    counts: BTreeMap<String, u64>,
}

impl DecisionLog {
    /// Appends `{"at_ms":..,"event":event, ..fields}`. `fields` must be an object.
    ///
    /// # Errors
    /// [`NotCanonical`], which no value made here can cause.
    pub fn line(&mut self, at: UnixMs, event: &str, fields: Value) -> Result<(), NotCanonical> {
        let mut line = json!({ "at_ms": at.0, "event": event });
        if let (Value::Object(line), Value::Object(fields)) = (&mut line, fields) {
            line.extend(fields);
        }
        self.bytes.extend(canonical::bytes(&line)?);
        self.bytes.push(b'\n');
        Ok(())
    }

    /// Counts one decision under its code.
    pub fn count(&mut self, code: &str) {
        *self.counts.entry(code.to_owned()).or_default() += 1;
    }

    /// Decisions by code.
    #[must_use]
    pub const fn counts(&self) -> &BTreeMap<String, u64> {
        &self.counts
    }

    /// All lines.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// SHA-256 of all lines.
    #[must_use]
    pub fn digest(&self) -> Sha256Digest {
        Sha256Digest(Sha256::digest(&self.bytes).into())
    }
}
