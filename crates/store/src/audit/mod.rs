//! The audit chain: one per user and one for governance, append-only, each row hashed with the one before it.
//!
//! A chain alone does not show a cut tail, an emptied table or a whole rewrite; signed heads kept where the database
//! role can't write ([`SignedHead`], [`Anchors`]) do, and [`verify`] compares with them.

mod anchor;
mod chain;
mod explain;
mod verify;

pub use anchor::{Anchors, KeyId, Keys, SignedHead, UnparsableAnchor, sign_head};
pub use chain::{
    AuditHead, AuditRow, Chain, ChainHead, MovedHeads, append, append_governance, hash_at, hashes_at, heads_after,
    moved_heads, rows_after,
};
pub use explain::explain;
pub use verify::{Bad, ChainReport, Report, verify, verify_unit};
