//! What a row can hold, whichever adapter keeps it: nothing is rounded or cut behind the caller's back.

use domain::money::MAX_SCALE;
use domain::time::UnixMs;
use rust_decimal::Decimal;

use crate::StoreError;

/// First moment of `timestamptz`: 4714-11-24 BC.
pub(crate) const FIRST: UnixMs = UnixMs(-210_866_803_200_000);
/// Last whole millisecond of `timestamptz`, in the year 294276.
pub(crate) const LAST: UnixMs = UnixMs(9_224_318_015_999_999);

/// Refuses what a `NUMERIC(38, 18)` would round.
pub(crate) fn exact(value: Decimal) -> Result<(), StoreError> {
    if value.normalize().scale() > MAX_SCALE { Err(StoreError::TooPrecise) } else { Ok(()) }
}

/// Refuses a time that no row can hold.
pub(crate) fn fits(at: UnixMs, column: &'static str) -> Result<(), StoreError> {
    if at < FIRST || at > LAST { Err(StoreError::OutOfRange(column)) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_row_holds_exactly_fits() {
        assert!(exact(Decimal::from_i128_with_scale(1_000, 21)).is_ok(), "trailing zeros are nothing");
        assert!(matches!(exact(Decimal::from_i128_with_scale(1, 19)), Err(StoreError::TooPrecise)));
        assert!(fits(FIRST, "at").is_ok() && fits(LAST, "at").is_ok() && fits(UnixMs(0), "at").is_ok());
        for at in [FIRST.plus_ms(-1), LAST.plus_ms(1), UnixMs(i64::MIN), UnixMs(i64::MAX)] {
            assert!(matches!(fits(at, "at"), Err(StoreError::OutOfRange("at"))), "{at:?}");
        }
    }
}
