//! Whose yes counts, and how many are needed.

use domain::order::Origin;
use rails::quorum::{is_requester, may_approve, needed};
use serde_json::json;

use crate::scene::house;

#[test]
fn as_shipped_one_is_enough_up_to_tier_two_and_two_are_needed_above_where_there_are_two() {
    let limits = house();
    for (tier, active, want) in [
        (1, 1, Some(1)),
        (2, 1, Some(1)),
        (1, 5, Some(1)),
        (2, 5, Some(1)),
        (3, 1, Some(1)),
        (3, 2, Some(2)),
        (3, 5, Some(2)),
        // Nobody may decide: that is a no.
        (1, 0, None),
        (2, 0, None),
        (3, 0, None),
        // Tiers that are none.
        (0, 5, None),
        (4, 5, None),
        (u8::MAX, 5, None),
    ] {
        assert_eq!(needed(&limits, tier, active), want, "tier {tier} of {active}");
    }
}

#[test]
fn a_quorum_that_is_configured_is_never_made_smaller_because_people_are_missing() {
    let limits = house().tightened_by(&json!({ "approval_people_tier1": 2, "approval_people_tier3": 3 })).unwrap();
    for (tier, active, want) in [
        (1, 1, None),
        (1, 2, Some(2)),
        (2, 1, Some(1)),
        (3, 1, Some(1)),
        (3, 2, None),
        (3, 3, Some(3)),
        (3, 9, Some(3)),
    ] {
        assert_eq!(needed(&limits, tier, active), want, "tier {tier} of {active}");
    }
}

#[test]
fn the_requester_does_not_count_from_tier_two_on_where_somebody_else_can() {
    for (tier, active, requester, want) in [
        (1, 2, true, true),
        (2, 1, true, true),
        (2, 2, true, false),
        (3, 2, true, false),
        (2, 2, false, true),
        (3, 1, true, true),
    ] {
        assert_eq!(may_approve(tier, active, requester), want, "{tier} {active} {requester}");
    }
    let anna = Origin::Person { handle: "anna".to_owned() };
    assert!(is_requester(&anna, "anna", None) && is_requester(&anna, "alias", Some("anna")));
    assert!(!is_requester(&anna, "zoe", Some("zoe")) && !is_requester(&anna, "zoe", None));
    let agent = Origin::Agent { name: "anna".to_owned() };
    assert!(!is_requester(&agent, "anna", Some("anna")));
}
