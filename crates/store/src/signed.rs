//! A stored word as the document that was signed.

use domain::message::Decision;
use domain::person::{Act, Assurance, PersonAct, SignedAct, Vote};

use crate::approvals::EntryRow;

impl EntryRow {
    /// Rebuilds the act from the stored columns, so that its signature can be checked again. `None` when the word rests on
    /// other evidence than a signature, or is one that nobody could have signed.
    #[must_use]
    pub fn signed_act(&self) -> Option<SignedAct> {
        if self.assurance != Assurance::CliKey {
            return None;
        }
        let (approval_id, digest) = (self.approval_id, self.digest);
        let what = match self.decision {
            Decision::Approve => Act::Vote { approval_id, digest, vote: Vote::Approve },
            Decision::Reject => Act::Vote { approval_id, digest, vote: Vote::Reject },
            Decision::Modify => Act::Modify { approval_id, digest, change: self.change? },
            Decision::Revoke => Act::Revoke { approval_id, digest },
        };
        Some(SignedAct {
            act: PersonAct {
                schema: PersonAct::SCHEMA.to_owned(),
                person_id: self.person_id.clone(),
                what,
                reason: self.reason.clone(),
                signed_at: self.signed_at,
            },
            signature: self.signature.clone()?,
        })
    }
}
