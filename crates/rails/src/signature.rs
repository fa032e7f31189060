//! Ed25519 signatures on permits and on acts of people. Both sides rebuild the signed bytes from typed values.

use std::collections::BTreeMap;

use domain::order::{Permit, PermitBody};
use domain::person::{PersonAct, SignedAct};
use domain::time::UnixMs;
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use sha2::{Digest, Sha256};

/// Why a signed document is worth nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignatureFault {
    /// The key is not 64 hex digits, or no point of the curve.
    #[error("not a public key")]
    BadKey,
    /// Signed with a key that is not known here.
    #[error("signed with an unknown key")]
    UnknownKey,
    /// The signature is not 128 hex digits, or does not fit.
    #[error("signature does not verify")]
    BadSignature,
    /// Another schema than this build knows.
    #[error("unknown schema")]
    UnknownSchema,
    /// Too old, or from the future.
    #[error("not presented in time")]
    Untimely,
    /// The document contradicts itself.
    #[error("the document contradicts itself")]
    Inconsistent,
}

/// First 16 hex digits of the SHA-256 of a public key.
#[must_use]
pub fn key_id(key: &VerifyingKey) -> String {
    hex::encode(&Sha256::digest(key.as_bytes())[..8])
}

/// Reads a public key of 64 hex digits.
///
/// # Errors
/// [`SignatureFault::BadKey`].
pub fn parse_public_key(text: &str) -> Result<VerifyingKey, SignatureFault> {
    let mut bytes = [0u8; 32];
    hex::decode_to_slice(text.trim(), &mut bytes).map_err(|_| SignatureFault::BadKey)?;
    VerifyingKey::from_bytes(&bytes).map_err(|_| SignatureFault::BadKey)
}

/// Reads a private key of 64 hex digits.
///
/// # Errors
/// [`SignatureFault::BadKey`].
pub fn parse_private_key(text: &str) -> Result<SigningKey, SignatureFault> {
    let mut bytes = [0u8; 32];
    hex::decode_to_slice(text.trim(), &mut bytes).map_err(|_| SignatureFault::BadKey)?;
    Ok(SigningKey::from_bytes(&bytes))
}

fn check(key: &VerifyingKey, bytes: &[u8], signature: &str) -> Result<(), SignatureFault> {
    let mut raw = [0u8; 64];
    hex::decode_to_slice(signature, &mut raw).map_err(|_| SignatureFault::BadSignature)?;
    key.verify_strict(bytes, &Signature::from_bytes(&raw)).map_err(|_| SignatureFault::BadSignature)
}

/// Signs permits: treasury alone holds one.
pub struct PermitSigner {
    key: SigningKey,
    key_id: String,
}

impl std::fmt::Debug for PermitSigner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PermitSigner").field("key_id", &self.key_id).finish_non_exhaustive()
    }
}

impl PermitSigner {
    /// Takes the private key.
    #[must_use]
    pub fn new(key: SigningKey) -> Self {
        let key_id = key_id(&key.verifying_key());
        Self { key, key_id }
    }

    /// The id that permits of this key carry.
    #[must_use]
    pub fn key_id(&self) -> &str {
        &self.key_id
    }

    /// Signs; the body's `key_id` is set to this key's.
    ///
    /// # Errors
    /// [`SignatureFault::Inconsistent`] when the body has no canonical form, which no typed body lacks.
    pub fn sign(&self, mut body: PermitBody) -> Result<Permit, SignatureFault> {
        body.key_id.clone_from(&self.key_id);
        let bytes = body.signed_bytes().map_err(|_| SignatureFault::Inconsistent)?;
        Ok(Permit { signature: hex::encode(self.key.sign(&bytes).to_bytes()), body })
    }
}

/// Checks permits against the known public keys of treasury, old ones included.
#[derive(Debug, Clone, Default)]
pub struct PermitVerifier {
    keys: BTreeMap<String, VerifyingKey>,
}

impl PermitVerifier {
    /// Takes the public keys.
    #[must_use]
    pub fn new(keys: impl IntoIterator<Item = VerifyingKey>) -> Self {
        Self { keys: keys.into_iter().map(|key| (key_id(&key), key)).collect() }
    }

    /// The signature fits, the permit is in time and its parts agree. Single use is the store's compare-and-set.
    ///
    /// # Errors
    /// [`SignatureFault`].
    pub fn verify(&self, permit: &Permit, now: UnixMs) -> Result<(), SignatureFault> {
        let body = &permit.body;
        if body.schema != PermitBody::SCHEMA || body.envelope.schema != domain::order::OrderEnvelope::SCHEMA {
            return Err(SignatureFault::UnknownSchema);
        }
        let key = self.keys.get(&body.key_id).ok_or(SignatureFault::UnknownKey)?;
        let bytes = body.signed_bytes().map_err(|_| SignatureFault::Inconsistent)?;
        check(key, &bytes, &permit.signature)?;
        if now > body.expires_at || now > body.envelope.valid_until {
            return Err(SignatureFault::Untimely);
        }
        if body.envelope.client_order_id != body.envelope.order_id.client_order_id() {
            return Err(SignatureFault::Inconsistent);
        }
        Ok(())
    }
}

/// Signs an act with a person's key.
///
/// # Errors
/// [`SignatureFault::Inconsistent`] when the act has no canonical form, which no typed act lacks.
pub fn sign_act(key: &SigningKey, act: PersonAct) -> Result<SignedAct, SignatureFault> {
    let bytes = act.signed_bytes().map_err(|_| SignatureFault::Inconsistent)?;
    Ok(SignedAct { signature: hex::encode(key.sign(&bytes).to_bytes()), act })
}

/// The signature of an act fits the person's registered key (64 hex digits). Whether it is timely is asked apart, because
/// a stored act is checked again later.
///
/// # Errors
/// [`SignatureFault`].
pub fn verify_act(signed: &SignedAct, public_key: &str) -> Result<(), SignatureFault> {
    if signed.act.schema != PersonAct::SCHEMA {
        return Err(SignatureFault::UnknownSchema);
    }
    let bytes = signed.act.signed_bytes().map_err(|_| SignatureFault::Inconsistent)?;
    check(&parse_public_key(public_key)?, &bytes, &signed.signature)
}
