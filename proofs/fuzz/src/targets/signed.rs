//! What people, treasury and supervisor sign. No fuzzer forges a signature, so nothing that comes in may verify; what is
//! signed here with a key of our own must, and must not any more when anything of it changed.

use domain::canonical::Sha256Digest;
use domain::order::{OrderEnvelope, Permit, PermitBody};
use domain::person::{PersonAct, SignedAct};
use domain::time::UnixMs;
use ed25519_dalek::SigningKey;
use rails::signature::{
    PermitSigner, PermitVerifier, SignatureFault, parse_private_key, parse_public_key, sign_act, verify_act,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::memory::bounded;

const KEY: [u8; 32] = [7; 32];

fn key() -> SigningKey {
    SigningKey::from_bytes(&KEY)
}

/// One text, read as everything that is signed.
pub fn signed(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Some(act) = read::<SignedAct>(text) {
        acts(&act);
    }
    if let Some(act) = read::<PersonAct>(text) {
        acts(&SignedAct { act, signature: "00".repeat(64) });
    }
    if let Some(permit) = read::<Permit>(text) {
        permits(permit);
    }
    if let Some(body) = read::<PermitBody>(text) {
        permits(Permit { body, signature: "00".repeat(64) });
    }
    if let Some(envelope) = read::<OrderEnvelope>(text) {
        let digest = envelope.digest().expect("an envelope has a canonical form");
        let other = OrderEnvelope { reduce_only: !envelope.reduce_only, ..envelope };
        assert_ne!(other.digest().ok(), Some(digest), "a changed envelope has its own digest");
    }
    keys(text);
}

/// Reads a document; what is read is the same after it was written.
fn read<T: DeserializeOwned + Serialize + PartialEq + std::fmt::Debug>(text: &str) -> Option<T> {
    let value: T = bounded(text.len(), || serde_json::from_str(text)).ok()?;
    let written = serde_json::to_string(&value).expect("it has a JSON form");
    let again: T = serde_json::from_str(&written).unwrap_or_else(|error| panic!("{written}: {error}"));
    assert_eq!(again, value);
    Some(value)
}

fn acts(signed: &SignedAct) {
    let public = hex::encode(key().verifying_key().as_bytes());
    let stranger = hex::encode(SigningKey::from_bytes(&[8; 32]).verifying_key().as_bytes());
    // The seeds hold acts that were signed with this very key; a signature for anything else is no signature.
    let ours = sign_act(&key(), signed.act.clone()).expect("an act has a canonical form");
    let fits = verify_act(signed, &public).is_ok();
    assert_eq!(fits, signed.act.schema == PersonAct::SCHEMA && same(&signed.signature, &ours.signature));
    match verify_act(&ours, &public) {
        Ok(()) => assert_eq!(ours.act.schema, PersonAct::SCHEMA),
        Err(fault) => {
            assert_eq!(fault, SignatureFault::UnknownSchema);
            assert_ne!(ours.act.schema, PersonAct::SCHEMA);
        }
    }
    assert!(verify_act(&ours, &stranger).is_err(), "another person's key fits");
    let mut other = ours;
    other.act.reason.push('!');
    assert!(verify_act(&other, &public).is_err(), "a changed reason passes");
    let _ = signed.act.is_timely(UnixMs(1_790_000_000_000));
}

fn same(one: &str, other: &str) -> bool {
    one.eq_ignore_ascii_case(other)
}

fn permits(permit: Permit) {
    let now = permit.body.expires_at.min(permit.body.envelope.valid_until);
    let verifier = PermitVerifier::new([key().verifying_key()]);
    let signer = PermitSigner::new(key());
    let ours = signer.sign(permit.body.clone()).expect("a permit has a canonical form");
    if verifier.verify(&permit, now).is_ok() {
        assert!(
            permit.body.key_id == signer.key_id() && same(&permit.signature, &ours.signature),
            "forged: {permit:?}"
        );
    }
    match verifier.verify(&ours, now) {
        Ok(()) => {
            assert_eq!(ours.body.schema, PermitBody::SCHEMA);
            assert_eq!(ours.body.envelope.client_order_id, ours.body.envelope.order_id.client_order_id());
            assert_eq!(verifier.verify(&ours, now.plus_ms(1)).is_err(), now.0 < i64::MAX, "an expired permit passes");
            let mut other = ours;
            other.body.kill_epoch ^= 1;
            assert_eq!(verifier.verify(&other, now), Err(SignatureFault::BadSignature), "a changed permit passes");
        }
        Err(fault) => {
            assert!(matches!(fault, SignatureFault::UnknownSchema | SignatureFault::Inconsistent), "{fault}");
        }
    }
}

fn keys(text: &str) {
    if let Ok(key) = parse_public_key(text) {
        assert_eq!(hex::encode(key.as_bytes()), text.trim().to_ascii_lowercase());
    }
    if let Ok(key) = parse_private_key(text) {
        assert_eq!(hex::encode(key.to_bytes()), text.trim().to_ascii_lowercase());
    }
    if let Some(digest) = Sha256Digest::parse(text) {
        assert_eq!(digest.to_string(), text.to_ascii_lowercase());
    }
}
