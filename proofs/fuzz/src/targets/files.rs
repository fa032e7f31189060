//! Files that the swarm keeps for itself: anchors of the audit chains, the kill level, the plan of the supervisor, the
//! addresses for people, what the strategies hold.

use std::collections::BTreeMap;

use buy_bot::strategy::Holding;
use ed25519_dalek::SigningKey;
use serde::Serialize;
use serde::de::DeserializeOwned;
use store::audit::{Anchors, AuditHead, Keys, sign_head};
use supervisor::lifecycle::Plan;
use swarm::people::Files;

use crate::memory::bounded;

/// The anchor file: one signed head a line.
pub fn anchors(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let anchors = bounded(text.len(), || Anchors::parse(text));
    let lines = text.lines().filter(|line| !line.trim().is_empty()).count();
    assert_eq!(anchors.heads.len() + anchors.unparsable.len(), lines, "no line is passed over");
    for bad in &anchors.unparsable {
        assert!((1..=text.lines().count()).contains(&bad.line) && !bad.reason.is_empty());
    }
    let key = SigningKey::from_bytes(&[7; 32]);
    let keys = Keys::new([key.verifying_key()]);
    for head in &anchors.heads {
        let written = serde_json::to_string(head).expect("a head has a JSON form");
        assert_eq!(Anchors::parse(&written).heads.first(), Some(head), "{written}");
        let named = AuditHead { seq: head.seq, hash: head.hash };
        let ours = sign_head(head.chain, named, head.rows, head.at, &key).expect("a head has a canonical form");
        assert!(ours.is_signed(&keys), "our own signature does not fit");
        if head.is_signed(&keys) {
            assert!(head.signature.eq_ignore_ascii_case(&ours.signature), "forged: {head:?}");
        }
        let mut other = ours;
        other.seq = other.seq.wrapping_add(1);
        assert!(!other.is_signed(&keys), "a changed head passes");
    }
}

/// One text, read as each of the small files.
pub fn small_files(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Some(copy) = runtime::kill::parse(text) {
        assert!(copy.level <= 4, "level {}", copy.level);
        assert_eq!(runtime::kill::parse(&format!("{} {}\n", copy.level, copy.epoch)), Some(copy));
    }
    read_back::<Plan>(text);
    read_back::<Files>(text);
    if let Some(holdings) = read_back::<BTreeMap<String, Holding>>(text) {
        for holding in holdings.values() {
            assert!(holding.stop.value().is_sign_positive() && !holding.quantity.value().is_sign_negative());
        }
    }
}

fn read_back<T: DeserializeOwned + Serialize + PartialEq + std::fmt::Debug>(text: &str) -> Option<T> {
    let value: T = bounded(text.len(), || serde_json::from_str(text)).ok()?;
    let again: T = serde_json::from_str(&serde_json::to_string(&value).expect("has a form")).expect("reads back");
    assert_eq!(again, value);
    Some(value)
}
