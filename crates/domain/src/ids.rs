//! Ids. Roots are UUID v7 made at the door; children are functions of their parent, so a redelivered parent makes the
//! same children and the inbox drops them.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use uuid::Uuid;

macro_rules! id {
    ($(#[$meta:meta])* $name:ident) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl std::str::FromStr for $name {
            type Err = uuid::Error;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Uuid::parse_str(text).map(Self)
            }
        }
    };
}

id! {
    /// One message on the bus; equal ids mean the same message.
    MessageId
}
id! {
    /// The root message of a chain; carried by every descendant.
    CorrelationId
}
id! {
    /// One person's tenancy.
    UserId
}
id! {
    /// One planned leg of a signal.
    IntentId
}
id! {
    /// One order of ours, whatever the venue calls it.
    OrderId
}
id! {
    /// One single-use permit.
    PermitId
}
id! {
    /// One request for a human decision.
    ApprovalId
}
id! {
    /// One task for a capability, however often it is handed on.
    TaskId
}
id! {
    /// One start of one process.
    BootId
}

/// A UUID that is a function of `tag` and `parts` (SHA-256, version 8). Parts are framed by their length, so no two
/// different lists share an id.
#[must_use]
pub fn derive(tag: &str, parts: &[&[u8]]) -> Uuid {
    let mut hash = Sha256::new();
    for part in std::iter::once(tag.as_bytes()).chain(parts.iter().copied()) {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    let digest = hash.finalize();
    let mut bytes = [0u8; 16];
    bytes.copy_from_slice(&digest[..16]);
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
}

impl MessageId {
    /// The id of the message that `agent` makes out of `parent`. `kind` is the payload's name and `business_key` what
    /// makes it different from its siblings (an order id, a leg); never a position in a list.
    #[must_use]
    pub fn child(parent: MessageId, agent: &str, kind: &str, business_key: &str) -> Self {
        Self(derive(
            "swarm.message.v1",
            &[parent.0.as_bytes(), agent.as_bytes(), kind.as_bytes(), business_key.as_bytes()],
        ))
    }

    /// The id of a message a person published with the key `key` (their `Nats-Msg-Id`, or stream position).
    #[must_use]
    pub fn of_person(user: UserId, key: &str) -> Self {
        Self(derive("swarm.door.v1", &[user.0.as_bytes(), key.as_bytes()]))
    }
}

impl UserId {
    /// The user behind a short name. The name is the last part of their door's subject (`signal-<name>`); the plain
    /// door belongs to `operator`.
    #[must_use]
    pub fn of_handle(handle: &str) -> Self {
        Self(derive("swarm.user.v1", &[handle.as_bytes()]))
    }
}

impl IntentId {
    /// Leg `leg` of the signal `signal`.
    #[must_use]
    pub fn of_leg(signal: MessageId, leg: u16) -> Self {
        Self(derive("swarm.intent.v1", &[signal.0.as_bytes(), &leg.to_be_bytes()]))
    }
}

impl OrderId {
    /// The order of an intent.
    #[must_use]
    pub fn of_intent(intent: IntentId) -> Self {
        Self(derive("swarm.order.v1", &[intent.0.as_bytes()]))
    }

    /// The client order id a venue sees: `s` and 32 hex digits (33 characters; Binance allows 36).
    #[must_use]
    pub fn client_order_id(self) -> String {
        format!("s{}", self.0.simple())
    }

    /// The client order id a venue sees of child `n` of this order: of the same shape, a function of both.
    #[must_use]
    pub fn child_client_order_id(self, n: u16) -> String {
        format!("s{}", derive("swarm.child.v1", &[self.0.as_bytes(), &n.to_be_bytes()]).simple())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn framing_keeps_neighbouring_parts_apart() {
        assert_ne!(derive("t", &[b"ab", b"c"]), derive("t", &[b"a", b"bc"]));
        assert_ne!(derive("t", &[b"a"]), derive("ta", &[]));
        assert_eq!(derive("t", &[b"a"]), derive("t", &[b"a"]));
    }

    #[test]
    fn a_client_order_id_fits_the_venue() {
        let id = OrderId::of_intent(IntentId::of_leg(MessageId(Uuid::nil()), 0));
        let names: std::collections::BTreeSet<_> =
            (0..300).map(|n| id.child_client_order_id(n)).chain([id.client_order_id()]).collect();
        assert!(names.len() == 301 && names.iter().all(|name| name.len() == 33), "each child has one of its own");
    }
}
