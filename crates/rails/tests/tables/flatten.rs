//! The price of an exit at kill level 3.

use domain::money::Price;
use proptest::prelude::*;
use rails::flatten::{STEPS, worst_price};
use rust_decimal::Decimal;

use crate::scene::decimal;

fn price(text: &str) -> Price {
    Price::parse(text).unwrap()
}

#[test]
fn each_attempt_gives_way_by_a_fifth_of_the_collar_and_none_by_more_than_all_of_it() {
    for (attempt, want) in [(0, "99"), (1, "98"), (4, "95"), (5, "95"), (u32::MAX, "95")] {
        let found = worst_price(price("100"), decimal("5"), attempt, decimal("0.01"));
        assert_eq!(found, Some(price(want)), "attempt {attempt}");
    }
    // Up to the tick: a rounded price sells for no less.
    assert_eq!(worst_price(price("0.333"), decimal("5"), 0, decimal("0.01")), Some(price("0.33")));
    assert_eq!(worst_price(price("100.01"), decimal("5"), 0, decimal("0.5")), Some(price("99.5")));
    assert_eq!(worst_price(price("100"), decimal("100"), 9, decimal("0.01")), None, "nothing is given away");
}

proptest! {
    #[test]
    fn it_lies_inside_the_collar_and_never_rises_from_attempt_to_attempt(
        cents in 1_u64..10_000_000_000, collar_permille in 1_u32..900, tick_exponent in 0_u32..6
    ) {
        let mark = Price::new(Decimal::new(i64::try_from(cents).unwrap(), 4)).unwrap();
        let collar = Decimal::new(i64::from(collar_permille), 1);
        let tick = Decimal::new(1, tick_exponent);
        let mut before: Option<Price> = None;
        for attempt in 0..STEPS + 2 {
            let Some(worst) = worst_price(mark, collar, attempt, tick) else { continue };
            let gap = (mark.value() - worst.value()) * Decimal::ONE_HUNDRED;
            prop_assert!(gap <= mark.value() * collar, "{worst} of {mark}, collar {collar}");
            prop_assert!(before.is_none_or(|before| worst <= before));
            prop_assert_eq!(worst.floor_to(tick), Some(worst));
            before = Some(worst);
        }
    }
}
