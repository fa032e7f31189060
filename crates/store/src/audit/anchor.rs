//! Heads signed outside the database's reach.

use std::collections::BTreeMap;

use domain::canonical::{self, NotCanonical, Sha256Digest};
use domain::time::UnixMs;
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{AuditHead, Chain};

/// First 16 hex digits of the SHA-256 of a public key.
pub type KeyId = String;

/// What is signed.
#[derive(Serialize)]
struct Body<'a> {
    chain: Chain,
    seq: i64,
    hash: Sha256Digest,
    rows: i64,
    at: UnixMs,
    key_id: &'a str,
}

impl Body<'_> {
    const TAG: &'static str = "swarm.audit.head.v1";
}

/// A head as the supervisor signed it: one line of JSON in the anchor file and one message on the anchor stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedHead {
    /// Which chain.
    pub chain: Chain,
    /// Number of its newest row.
    pub seq: i64,
    /// Hash of that row.
    pub hash: Sha256Digest,
    /// How many rows there were.
    pub rows: i64,
    /// When it was signed.
    pub at: UnixMs,
    /// Who signed it.
    pub key_id: KeyId,
    /// Ed25519 over the tagged canonical JSON of the above, 128 hex digits.
    pub signature: String,
}

/// The public keys that anchors may be signed by.
#[derive(Debug, Clone, Default)]
pub struct Keys(BTreeMap<KeyId, VerifyingKey>);

impl Keys {
    /// Takes present and past public keys.
    pub fn new(keys: impl IntoIterator<Item = VerifyingKey>) -> Self {
        Self(keys.into_iter().map(|key| (Self::id(&key), key)).collect())
    }

    /// The id of a key.
    #[must_use]
    pub fn id(key: &VerifyingKey) -> KeyId {
        hex::encode(&Sha256::digest(key.as_bytes())[..8])
    }

    fn get(&self, id: &str) -> Option<&VerifyingKey> {
        self.0.get(id)
    }
}

/// Signs the head of a chain. `rows` is how many rows the signer counted.
///
/// # Errors
/// [`NotCanonical`], which no head can cause.
pub fn sign_head(
    chain: Chain,
    head: AuditHead,
    rows: i64,
    at: UnixMs,
    key: &SigningKey,
) -> Result<SignedHead, NotCanonical> {
    let key_id = Keys::id(&key.verifying_key());
    let body = Body { chain, seq: head.seq, hash: head.hash, rows, at, key_id: &key_id };
    let signature = hex::encode(key.sign(&canonical::tagged(Body::TAG, &body)?).to_bytes());
    Ok(SignedHead { chain, seq: head.seq, hash: head.hash, rows, at, key_id, signature })
}

impl SignedHead {
    /// Whether one of `keys` signed exactly this.
    #[must_use]
    pub fn is_signed(&self, keys: &Keys) -> bool {
        let Some(key) = keys.get(&self.key_id) else { return false };
        let mut bytes = [0u8; 64];
        if hex::decode_to_slice(&self.signature, &mut bytes).is_err() {
            return false;
        }
        let body = Body {
            chain: self.chain,
            seq: self.seq,
            hash: self.hash,
            rows: self.rows,
            at: self.at,
            key_id: &self.key_id,
        };
        canonical::tagged(Body::TAG, &body)
            .is_ok_and(|signed| key.verify_strict(&signed, &Signature::from_bytes(&bytes)).is_ok())
    }
}

/// A line of the anchor file that is no signed head.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UnparsableAnchor {
    /// Line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub reason: String,
}

/// The anchors of one place.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Anchors {
    /// What reads as a signed head; signatures are checked by the verifier.
    pub heads: Vec<SignedHead>,
    /// What does not.
    pub unparsable: Vec<UnparsableAnchor>,
}

impl Anchors {
    /// Reads an anchor file: one JSON object a line. Empty lines are no anchors, anything else must read.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut anchors = Self::default();
        for (at, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            match serde_json::from_str(line) {
                Ok(head) => anchors.heads.push(head),
                Err(error) => anchors.unparsable.push(UnparsableAnchor { line: at + 1, reason: error.to_string() }),
            }
        }
        anchors
    }
}

impl Anchors {
    /// As [`Anchors::parse`], of bytes that may be no text: a line that is none is no anchor, and no reason to know nothing
    /// of the others.
    #[must_use]
    pub fn parse_bytes(bytes: &[u8]) -> Self {
        Self::parse(&String::from_utf8_lossy(bytes))
    }

    /// A place that can't be read at all, which is not one without anchors.
    #[must_use]
    pub fn unreadable(reason: &str) -> Self {
        Self { heads: Vec::new(), unparsable: vec![UnparsableAnchor { line: 0, reason: reason.to_owned() }] }
    }
}

impl From<Vec<SignedHead>> for Anchors {
    fn from(heads: Vec<SignedHead>) -> Self {
        Self { heads, unparsable: Vec::new() }
    }
}
