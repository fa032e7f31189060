//! Whose yes counts, and how many are needed. The gateway that stores words and the treasury that spends them ask the same
//! functions.

use domain::order::Origin;

use crate::limits::Limits;

/// Distinct people whose yes a request of `tier` needs while `active` people may decide. `None`: nobody can answer it, so it
/// is denied: an unknown tier, no approver, or more people needed than there are. Only tier 3 makes do with one person, and
/// only while there is no other.
#[must_use]
pub fn needed(limits: &Limits, tier: u8, active: usize) -> Option<usize> {
    let people = match tier {
        1..=3 => usize::try_from(limits.approval_people[usize::from(tier) - 1]).ok()?,
        _ => return None,
    };
    match (tier, active) {
        (_, 0) => None,
        (3, 1) => Some(1),
        _ => (1..=active).contains(&people).then_some(people),
    }
}

/// Whether a person's yes to a request of `tier` counts: from tier 2 on not that of whoever asked for it, where somebody else
/// may decide.
#[must_use]
pub const fn may_approve(tier: u8, active: usize, is_requester: bool) -> bool {
    !(is_requester && tier >= 2 && active > 1)
}

/// A person is known by the name of their key and by the handle of their account. An agent is nobody.
#[must_use]
pub fn is_requester(origin: &Origin, person_id: &str, handle: Option<&str>) -> bool {
    match origin {
        Origin::Person { handle: asked } => asked == person_id || handle == Some(asked.as_str()),
        Origin::Agent { .. } => false,
    }
}
