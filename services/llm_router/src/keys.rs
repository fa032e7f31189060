//! Who may ask: a key for each caller, of which only the digest is known here.

use std::collections::BTreeMap;
use std::sync::Arc;

use llm::router::Caller;
use sha2::{Digest, Sha256};

/// Who may flush caches, test tiers and see everything.
pub const OPERATOR: &str = "operator";

/// Callers by the digest of their key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Keys(BTreeMap<[u8; 32], Caller>);

/// Digest of a key.
#[must_use]
pub fn digest(key: &str) -> [u8; 32] {
    Sha256::digest(key.as_bytes()).into()
}

/// One line of a file of keys: what `swarm up` writes.
#[must_use]
pub fn line(agent: &str, key: &str) -> String {
    format!("{agent} {}\n", hex::encode(digest(key)))
}

impl Keys {
    /// Reads lines of `agent digest`; the caps come from the router's configuration, which must name every agent.
    ///
    /// # Errors
    /// Every fault found.
    pub fn parse(text: &str, caps: &BTreeMap<String, u64>) -> Result<Self, Vec<String>> {
        let mut faults = Vec::new();
        let mut callers = BTreeMap::new();
        for (at, row) in text.lines().enumerate().filter(|(_, row)| !row.trim().is_empty()) {
            let number = at + 1;
            let Some((agent, text)) = row.split_once(' ') else {
                faults.push(format!("line {number}: not `agent digest`"));
                continue;
            };
            let mut digest = [0_u8; 32];
            if hex::decode_to_slice(text.trim(), &mut digest).is_err() {
                faults.push(format!("line {number}: no SHA-256 in hex"));
                continue;
            }
            let Some(cap) = caps.get(agent) else {
                faults.push(format!("line {number}: agent.{agent} is not in llm.toml"));
                continue;
            };
            // A cap of 0 is none: it may ask, and what costs is refused by 0 left.
            let caller = Caller { agent: Arc::from(agent), cap_micros: Some(*cap) };
            if callers.insert(digest, caller).is_some() {
                faults.push(format!("line {number}: a key that stands above; nobody could tell who asks"));
            }
        }
        if callers.is_empty() && faults.is_empty() {
            faults.push("no key: nobody could ask".to_owned());
        }
        if faults.is_empty() { Ok(Self(callers)) } else { Err(faults) }
    }

    /// Whose key this is. Found by its digest, so the time it takes tells nothing about the keys there are.
    #[must_use]
    pub fn caller(&self, key: &str) -> Option<&Caller> {
        self.0.get(&digest(key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_names_its_caller_and_is_not_kept() {
        let caps = BTreeMap::from([("buy_bot".to_owned(), 5), (OPERATOR.to_owned(), 0)]);
        let text = line("buy_bot", "secret-1") + &line(OPERATOR, "secret-2");
        let keys = Keys::parse(&text, &caps).unwrap();
        assert_eq!(&*keys.caller("secret-1").unwrap().agent, "buy_bot");
        assert_eq!(keys.caller("secret-2").unwrap().cap_micros, Some(0));
        assert_eq!(keys.caller("secret-3"), None);
        assert!(!text.contains("secret") && !format!("{keys:?}").contains("secret"));
    }

    #[test]
    fn every_bad_line_is_told() {
        let caps = BTreeMap::from([("buy_bot".to_owned(), 5)]);
        let text = format!("alone\nbuy_bot zz\n{}", line("stranger", "x"));
        assert_eq!(Keys::parse(&text, &caps).unwrap_err().len(), 3);
        let twice = line("buy_bot", "same") + &line("buy_bot", "same");
        assert_eq!(Keys::parse(&twice, &caps).unwrap_err().len(), 1);
        assert_eq!(Keys::parse("\n", &caps).unwrap_err().len(), 1);
    }
}
