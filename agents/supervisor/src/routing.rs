//! Who gets a task: a function of what agents declare, how they are and how much they have in hand. No model is asked, and the
//! order in which candidates are named makes no difference.

use std::cmp::Ordering;

/// How often a task may be handed on: to its first agent, and to two others after that.
pub const MOST_HOPS: u32 = 3;

/// An agent that might get a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Its name.
    pub name: String,
    /// What it declares.
    pub capabilities: Vec<String>,
    /// It is healthy, or busy and moving.
    pub is_well: bool,
    /// Messages in its hands.
    pub load: u64,
    /// Messages it handles at once.
    pub max_concurrent: u64,
}

/// Why nobody gets a task. Each has a stable code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoRoute {
    /// Nobody declares the capability.
    #[error("NO_SUCH_CAPABILITY")]
    NoSuchCapability,
    /// Somebody declares it, and none of them is well.
    #[error("NOBODY_WELL")]
    NobodyWell,
    /// Who is well has as much in hand as it handles at once.
    #[error("ALL_BUSY")]
    AllBusy,
    /// It was handed on too often.
    #[error("TOO_MANY_HOPS")]
    TooManyHops,
}

impl NoRoute {
    /// The stable code.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::NoSuchCapability => "NO_SUCH_CAPABILITY",
            Self::NobodyWell => "NOBODY_WELL",
            Self::AllBusy => "ALL_BUSY",
            Self::TooManyHops => "TOO_MANY_HOPS",
        }
    }
}

/// Who gets a task of `capability` that was handed on `hops` times: of those that declare it, are well and have room, the one
/// with the least in hand for what it can handle; of equals the first by name.
///
/// # Errors
/// [`NoRoute`]: the first of hops, capability, health and room that says no.
pub fn route<'a>(capability: &str, candidates: &'a [Candidate], hops: u32) -> Result<&'a str, NoRoute> {
    if hops >= MOST_HOPS {
        return Err(NoRoute::TooManyHops);
    }
    let capable: Vec<&Candidate> =
        candidates.iter().filter(|one| one.capabilities.iter().any(|own| own == capability)).collect();
    if capable.is_empty() {
        return Err(NoRoute::NoSuchCapability);
    }
    let well: Vec<&Candidate> = capable.into_iter().filter(|one| one.is_well).collect();
    if well.is_empty() {
        return Err(NoRoute::NobodyWell);
    }
    let with_room = well.into_iter().filter(|one| one.load < one.max_concurrent);
    with_room.min_by(|a, b| by_share(a, b)).map(|one| one.name.as_str()).ok_or(NoRoute::AllBusy)
}

/// By share of load, compared without dividing; then by name.
fn by_share(a: &Candidate, b: &Candidate) -> Ordering {
    let (of_a, of_b) =
        (u128::from(a.load) * u128::from(b.max_concurrent), u128::from(b.load) * u128::from(a.max_concurrent));
    of_a.cmp(&of_b).then_with(|| a.name.cmp(&b.name))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn candidate(name: &str, capability: &str, is_well: bool, load: u64, max_concurrent: u64) -> Candidate {
        Candidate { name: name.to_owned(), capabilities: vec![capability.to_owned()], is_well, load, max_concurrent }
    }

    #[test]
    fn the_least_share_of_load_gets_it_and_of_equals_the_first_by_name() {
        let of = |candidates: &[Candidate]| route("a", candidates, 0).map(str::to_owned);
        let x = candidate("x", "a", true, 3, 8);
        assert_eq!(
            of(&[x.clone(), candidate("y", "a", true, 4, 16)]),
            Ok("y".to_owned()),
            "4 of 16 is less than 3 of 8"
        );
        assert_eq!(of(&[candidate("z", "a", true, 6, 16), x.clone()]), Ok("x".to_owned()), "3 of 8 is 6 of 16");
        assert_eq!(of(&[x, candidate("b", "b", true, 0, 8)]), Ok("x".to_owned()), "another capability");
    }

    #[test]
    fn a_no_says_why() {
        let of = |candidates: &[Candidate], hops| route("a", candidates, hops).unwrap_err().code();
        let (sick, full) = (candidate("s", "a", false, 0, 8), candidate("f", "a", true, 8, 8));
        assert_eq!(of(&[], 0), "NO_SUCH_CAPABILITY");
        assert_eq!(of(&[candidate("b", "b", true, 0, 8)], 0), "NO_SUCH_CAPABILITY");
        assert_eq!(of(std::slice::from_ref(&sick), 0), "NOBODY_WELL");
        assert_eq!(of(&[sick, full], 0), "ALL_BUSY");
        assert_eq!(of(&[candidate("x", "a", true, 0, 8)], MOST_HOPS), "TOO_MANY_HOPS");
        assert!(route("a", &[candidate("x", "a", true, 0, 8)], MOST_HOPS - 1).is_ok());
        assert_eq!(of(&[candidate("x", "a", true, 0, 0)], 0), "ALL_BUSY", "who handles nothing at once gets nothing");
    }

    fn candidates() -> impl Strategy<Value = Vec<Candidate>> {
        let one = ("[a-d]", proptest::collection::vec("[p-r]", 0..3), any::<bool>(), 0..20_u64, 0..12_u64).prop_map(
            |(name, capabilities, is_well, load, max_concurrent)| Candidate {
                name,
                capabilities,
                is_well,
                load,
                max_concurrent,
            },
        );
        proptest::collection::vec(one, 0..8).prop_map(|mut all| {
            // A name is one agent's.
            all.sort_by(|a, b| a.name.cmp(&b.name));
            all.dedup_by(|a, b| a.name == b.name);
            all
        })
    }

    proptest! {
        #[test]
        fn the_order_of_candidates_makes_no_difference(
            (all, shuffled) in candidates().prop_flat_map(|all| (Just(all.clone()), Just(all).prop_shuffle())),
            hops in 0..5_u32,
        ) {
            prop_assert_eq!(route("p", &all, hops), route("p", &shuffled, hops));
        }

        #[test]
        fn whoever_gets_it_can_is_well_and_has_room_and_hops_are_bounded(all in candidates(), hops in 0..5_u32) {
            if let Ok(name) = route("p", &all, hops) {
                let one = all.iter().find(|one| one.name == name).unwrap();
                prop_assert!(one.is_well && one.load < one.max_concurrent && hops < MOST_HOPS);
                prop_assert!(one.capabilities.iter().any(|own| own == "p"));
                for other in all.iter().filter(|o| o.is_well && o.load < o.max_concurrent && o.capabilities.contains(&"p".to_owned())) {
                    prop_assert!(one.load * other.max_concurrent <= other.load * one.max_concurrent);
                }
            }
        }
    }
}
