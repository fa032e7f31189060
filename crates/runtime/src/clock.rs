//! The one real clock. `clippy.toml` at the root forbids reading the time anywhere else.

use std::time::{SystemTime, UNIX_EPOCH};

use domain::time::{Clock, UnixMs};

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the one place where the machine's clock is read")]
    fn now(&self) -> UnixMs {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        UnixMs(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }
}

/// A new root id (UUID v7) at the time of `clock`.
#[must_use]
pub fn new_id(clock: &dyn Clock) -> uuid::Uuid {
    let now = clock.now().0.max(0);
    let seconds = u64::try_from(now / 1000).unwrap_or(0);
    let nanos = u32::try_from(now % 1000).unwrap_or(0).saturating_mul(1_000_000);
    uuid::Uuid::new_v7(uuid::Timestamp::from_unix(uuid::NoContext, seconds, nanos))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_ids_are_version_7_of_the_clocks_time() {
        struct At(i64);
        impl Clock for At {
            fn now(&self) -> UnixMs {
                UnixMs(self.0)
            }
        }
        let id = new_id(&At(1_723_161_599_999));
        assert_eq!(id.get_version_num(), 7);
        assert_eq!(id.get_timestamp().unwrap().to_unix().0, 1_723_161_599);
        assert_ne!(id, new_id(&At(1_723_161_599_999)));
        assert!(SystemClock.now() > UnixMs(1_700_000_000_000));
    }
}
