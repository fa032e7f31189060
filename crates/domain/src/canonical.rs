//! Canonical JSON (RFC 8785) and domain-separated digests over it.

use serde::Serialize;
use sha2::{Digest, Sha256};

/// SHA-256 of something, shown as 64 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sha256Digest(pub [u8; 32]);

impl Sha256Digest {
    /// Digest of nothing: the head of an empty chain.
    pub const ZERO: Self = Self([0; 32]);

    /// Reads 64 hex digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0u8; 32];
        hex::decode_to_slice(text, &mut bytes).ok()?;
        Some(Self(bytes))
    }
}

impl std::fmt::Display for Sha256Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl std::fmt::Debug for Sha256Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

impl Serialize for Sha256Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.to_string())
    }
}

impl<'de> serde::Deserialize<'de> for Sha256Digest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom("not 64 hex digits"))
    }
}

/// The value could not be written as canonical JSON (a map with keys that are no strings, a float that is no number).
#[derive(Debug, thiserror::Error)]
#[error("value has no canonical JSON form")]
pub struct NotCanonical(#[source] serde_json::Error);

/// Canonical JSON bytes of a typed value (RFC 8785).
///
/// # Errors
/// [`NotCanonical`].
pub fn bytes<T: Serialize>(value: &T) -> Result<Vec<u8>, NotCanonical> {
    serde_json_canonicalizer::to_vec(value).map_err(NotCanonical)
}

/// What is signed or hashed: the tag, a zero byte, canonical JSON. The tag keeps one kind of document from standing
/// in for another.
///
/// # Errors
/// [`NotCanonical`].
pub fn tagged<T: Serialize>(tag: &str, value: &T) -> Result<Vec<u8>, NotCanonical> {
    let mut out = Vec::with_capacity(tag.len() + 256);
    out.extend_from_slice(tag.as_bytes());
    out.push(0);
    out.extend_from_slice(&bytes(value)?);
    Ok(out)
}

/// SHA-256 of [`tagged`].
///
/// # Errors
/// [`NotCanonical`].
pub fn digest<T: Serialize>(tag: &str, value: &T) -> Result<Sha256Digest, NotCanonical> {
    Ok(Sha256Digest(Sha256::digest(tagged(tag, value)?).into()))
}
