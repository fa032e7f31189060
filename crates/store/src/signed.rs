//! A stored vote as the document that was signed.

use domain::message::Decision;
use domain::person::{Act, PersonAct, SignedAct, Vote};

use crate::approvals::EntryRow;

impl EntryRow {
    /// Rebuilds the act from the stored columns, so that its signature can be checked again. A stored MODIFY, which no
    /// channel writes yet, reads as a no.
    #[must_use]
    pub fn signed_act(&self) -> SignedAct {
        let vote = match self.decision {
            Decision::Approve => Vote::Approve,
            Decision::Reject | Decision::Modify => Vote::Reject,
        };
        SignedAct {
            act: PersonAct {
                schema: PersonAct::SCHEMA.to_owned(),
                person_id: self.person_id.clone(),
                what: Act::Vote { approval_id: self.approval_id, digest: self.digest, vote },
                reason: self.reason.clone(),
                signed_at: self.signed_at,
            },
            signature: self.signature.clone(),
        }
    }
}
