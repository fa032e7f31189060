//! How often a code may be tried. Every try is counted before its answer is known, so that many at once gain nothing.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use domain::time::UnixMs;

/// Within this window, ms.
pub const WINDOW_MS: i64 = 15 * 60_000;
/// Wrong codes for one name.
pub const MOST_A_NAME: usize = 5;
/// Wrong codes at the login, whatever the name.
pub const MOST_AT_LOGIN: usize = 50;

/// The tries of the last quarter of an hour.
#[derive(Debug, Default)]
pub struct Attempts(Mutex<BTreeMap<String, VecDeque<UnixMs>>>);

/// Too many: when the next one is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooMany {
    /// Seconds until then.
    pub retry_after_s: i64,
}

impl Attempts {
    /// Counts one try under each of these names, unless one of them has had too many.
    ///
    /// # Errors
    /// [`TooMany`]; then nothing is counted.
    pub fn take(&self, names: &[(&str, usize)], now: UnixMs) -> Result<(), TooMany> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, tries| {
            tries.retain(|at| now.since_ms(*at).abs() < WINDOW_MS);
            !tries.is_empty()
        });
        for (name, most) in names {
            let full = all.get(*name).filter(|tries| tries.len() >= *most);
            if let Some(oldest) = full.and_then(VecDeque::front) {
                let left_ms = WINDOW_MS - now.since_ms(*oldest);
                return Err(TooMany { retry_after_s: (left_ms / 1_000).max(0) + 1 });
            }
        }
        for (name, _) in names {
            all.entry((*name).to_owned()).or_default().push_back(now);
        }
        Ok(())
    }

    /// A right code takes its own try back, and every earlier one of that name.
    pub fn forgive(&self, names: &[(&str, usize)]) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, most) in names {
            if *most == MOST_A_NAME {
                all.remove(*name);
            } else if let Some(tries) = all.get_mut(*name) {
                tries.pop_back();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sixth_try_in_a_quarter_of_an_hour_is_refused_and_says_when_to_come_back() {
        let attempts = Attempts::default();
        let anna = [("anna", MOST_A_NAME)];
        for at in 0..5 {
            assert_eq!(attempts.take(&anna, UnixMs(at * 1_000)), Ok(()));
        }
        assert_eq!(attempts.take(&anna, UnixMs(5_000)), Err(TooMany { retry_after_s: 896 }));
        assert_eq!(attempts.take(&[("bert", MOST_A_NAME)], UnixMs(5_000)), Ok(()), "others are not held");
        assert_eq!(attempts.take(&anna, UnixMs(WINDOW_MS)), Ok(()));
        assert!(attempts.take(&anna, UnixMs(WINDOW_MS)).is_err());
        attempts.forgive(&anna);
        assert_eq!(attempts.take(&anna, UnixMs(WINDOW_MS)), Ok(()));
    }

    #[test]
    fn many_names_together_have_a_bound_of_their_own() {
        let attempts = Attempts::default();
        for i in 0..MOST_AT_LOGIN {
            let name = format!("person {i}");
            assert_eq!(attempts.take(&[(&name, MOST_A_NAME), ("*", MOST_AT_LOGIN)], UnixMs(0)), Ok(()));
        }
        let next = [("new", MOST_A_NAME), ("*", MOST_AT_LOGIN)];
        assert!(attempts.take(&next, UnixMs(1)).is_err());
        attempts.forgive(&next);
        assert_eq!(attempts.take(&next, UnixMs(1)), Ok(()), "a right code is no attack");
    }
}
