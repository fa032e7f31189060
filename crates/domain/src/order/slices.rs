//! A sliced order: what is wished, what is permitted, and each child as it is kept.

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use super::OrderState;
use crate::market::Instrument;
use crate::money::{MAX_SCALE, Price, Quantity};
use crate::time::UnixMs;

/// A wish to have an order worked in slices: parts of about the same size, one after another, so that no single one moves
/// the market (a TWAP, "time-weighted average price").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "WishedSlices")]
pub struct Slices {
    count: u16,
    every_ms: u32,
}

impl Slices {
    /// The most parts of one order.
    pub const MOST: u16 = 50;
    /// The shortest time between two parts, ms.
    pub const EVERY_MS_MIN: u32 = 100;
    /// The longest, ms.
    pub const EVERY_MS_MAX: u32 = 300_000;

    /// `count` parts (2 to [`Self::MOST`]), each `every_ms` after the one before ([`Self::EVERY_MS_MIN`] to
    /// [`Self::EVERY_MS_MAX`]); `None` outside of that.
    #[must_use]
    pub fn new(count: u16, every_ms: u32) -> Option<Self> {
        let fits = (2..=Self::MOST).contains(&count) && (Self::EVERY_MS_MIN..=Self::EVERY_MS_MAX).contains(&every_ms);
        fits.then_some(Self { count, every_ms })
    }

    /// How many parts at most.
    #[must_use]
    pub const fn count(self) -> u16 {
        self.count
    }

    /// Time between two parts, ms.
    #[must_use]
    pub const fn every_ms(self) -> u32 {
        self.every_ms
    }

    /// From the first part to the last, ms.
    #[must_use]
    pub fn lasts_ms(self) -> i64 {
        (i64::from(self.count) - 1) * i64::from(self.every_ms)
    }

    /// The parts of `quantity` as a venue with these rules takes them at `price`: as many as were asked for, or fewer where
    /// a part would be below its minimum; `None` when it takes it in one piece only.
    #[must_use]
    pub fn fit(self, quantity: Quantity, price: Price, rules: &Instrument) -> Option<Slicing> {
        (2..=self.count).rev().find_map(|count| {
            // More decimals than an amount has are cut off, downwards like the rest.
            let part = quantity.value().checked_div(Decimal::from(count))?.trunc_with_scale(MAX_SCALE);
            let part = Quantity::new(part).ok()?.floor_to(rules.step);
            let notional = price.notional_down(part).ok()?;
            let taken = part.value() > Decimal::ZERO
                && part.value() >= rules.min_quantity
                && notional.value() >= rules.min_notional;
            taken.then_some(Slicing { count, quantity: part, every_ms: self.every_ms })
        })
    }
}

/// As it is read, before it is checked.
#[derive(Deserialize)]
struct WishedSlices {
    count: u16,
    every_ms: u32,
}

impl TryFrom<WishedSlices> for Slices {
    type Error = &'static str;
    fn try_from(wished: WishedSlices) -> Result<Self, Self::Error> {
        Self::new(wished.count, wished.every_ms).ok_or("slices out of range")
    }
}

/// How a sliced order is worked, as part of what is approved and permitted: child order `n` (from 0) has `quantity`, the
/// last one what is left of the whole. So each child is a function of the envelope and its number, and their sum is the
/// envelope's quantity, whatever happens to any of them: what a child does not trade is not made up for by another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slicing {
    /// How many child orders, 2 to [`Slices::MOST`].
    pub count: u16,
    /// Base quantity of each but the last, a multiple of the venue's step.
    pub quantity: Quantity,
    /// A child is sent no sooner than this after the one before, ms.
    pub every_ms: u32,
}

impl Slicing {
    /// Base quantity of child `n` of an order over `whole`; `None` when there is no such child, or the slicing is not one
    /// of `whole`: a part that is nothing, more parts than one order may have, or a last part smaller than the others.
    #[must_use]
    pub fn child_quantity(&self, whole: Quantity, n: u16) -> Option<Quantity> {
        Slices::new(self.count, self.every_ms)?;
        let before_last = self.quantity.value().checked_mul(Decimal::from(self.count - 1))?;
        let last = whole.value().checked_sub(before_last)?;
        if self.quantity.is_zero() || last < self.quantity.value() || n >= self.count {
            return None;
        }
        if n + 1 == self.count { Quantity::new(last).ok() } else { Some(self.quantity) }
    }

    /// The same parts of a smaller `whole`: fewer of them. `None`: it is one piece now.
    #[must_use]
    pub fn of_less(&self, whole: Quantity) -> Option<Self> {
        let parts = whole.value().checked_div(self.quantity.value())?.floor();
        let count = u16::try_from(parts).unwrap_or(self.count).min(self.count);
        (count >= 2).then_some(Self { count, ..*self })
    }
}

/// A child of a sliced order, as the desk keeps it with its order. It is written before it is sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChildOrder {
    /// f(order id, n): what the venue sees.
    pub client_order_id: String,
    /// Base quantity.
    pub quantity: Quantity,
    /// Where it stands; never pending.
    pub state: OrderState,
    /// Base quantity traded so far.
    pub filled: Quantity,
    /// The venue's id, once known.
    pub venue_order_id: Option<String>,
    /// Why, when it was refused.
    pub code: Option<String>,
    /// When it was handed to the venue.
    pub sent_at: UnixMs,
    /// Epoch of the kill level it was sent under.
    pub kill_epoch: i64,
}

#[cfg(test)]
mod tests {
    use super::super::OrderEnvelope;
    use super::*;
    use crate::canonical;
    use crate::market::{InstrumentId, Symbol, Venue};

    fn whole_units(units: u32) -> Quantity {
        Quantity::new(Decimal::from(units)).unwrap()
    }

    fn rules(step: Decimal, min_quantity: Decimal, min_notional: Decimal) -> Instrument {
        Instrument {
            id: InstrumentId { venue: Venue::Paper, symbol: Symbol::parse("BTCUSDT").unwrap() },
            base: "BTC".to_owned(),
            quote: "USDT".to_owned(),
            tick: Decimal::ZERO,
            step,
            min_quantity,
            max_quantity: Decimal::ZERO,
            min_notional,
        }
    }

    #[test]
    fn slices_have_bounds_also_when_they_are_read() {
        for (count, every_ms, good) in [
            (2, 100, true),
            (50, 300_000, true),
            (1, 1_000, false),
            (51, 1_000, false),
            (2, 99, false),
            (2, 300_001, false),
        ] {
            let read = serde_json::from_str::<Slices>(&format!(r#"{{"count":{count},"every_ms":{every_ms}}}"#));
            assert_eq!((Slices::new(count, every_ms).is_some(), read.is_ok()), (good, good), "{count} {every_ms}");
        }
        assert_eq!(Slices::new(3, 2_000).unwrap().lasts_ms(), 4_000);
    }

    #[test]
    fn an_envelope_in_one_piece_hashes_as_before_there_were_slices() {
        let stored = r#"{"schema":"swarm.order.v1","action":"place","user_id":"00000000-0000-0000-0000-000000000001",
            "client_order_id":"s1","order_id":"00000000-0000-0000-0000-000000000002",
            "intent_id":"00000000-0000-0000-0000-000000000003","venue":"paper","symbol":"BTCUSDT","side":"buy",
            "order_type":"limit","time_in_force":"ioc","quantity":"1","worst_price":"100","max_notional_usd":"100",
            "max_slippage_bps":0,"min_out":"0","reduce_only":false,"valid_until":5,"policy_version":"p"}"#;
        let whole: OrderEnvelope = serde_json::from_str(stored).unwrap();
        assert_eq!(whole.slicing, None);
        let before: serde_json::Value = serde_json::from_str(stored).unwrap();
        assert_eq!(whole.digest().unwrap(), canonical::digest(OrderEnvelope::SCHEMA, &before).unwrap());
        let slicing = Slicing { count: 2, quantity: Quantity::parse("0.5").unwrap(), every_ms: 1_000 };
        let digests = [
            Slicing { count: 3, ..slicing },
            Slicing { every_ms: 1_001, ..slicing },
            Slicing { quantity: Quantity::parse("0.4").unwrap(), ..slicing },
            slicing,
        ]
        .map(|slicing| OrderEnvelope { slicing: Some(slicing), ..whole.clone() }.digest().unwrap());
        let different: std::collections::BTreeSet<_> = digests.into_iter().chain([whole.digest().unwrap()]).collect();
        assert_eq!(different.len(), 5, "every number of it is bound");
    }

    proptest::proptest! {
        /// Whatever is asked for, the children are the whole in sum, and each is one that the venue takes.
        #[test]
        fn children_are_the_whole_and_each_is_taken(
            (count, steps, cents) in (2..=Slices::MOST, 1_u64..5_000_000, 1_i64..10_000_000),
            (least_steps, least_usd) in (0_u32..500, 0_i64..100),
            scale in 0_u32..9,
        ) {
            let step = Decimal::new(1, scale);
            let whole = Quantity::new(Decimal::from(steps) * step).unwrap();
            let price = Price::new(Decimal::new(cents, 2)).unwrap();
            let rules = rules(step, Decimal::from(least_steps) * step, Decimal::from(least_usd));
            let Some(slicing) = Slices::new(count, 1_000).unwrap().fit(whole, price, &rules) else { return Ok(()) };
            proptest::prop_assert!((2..=count).contains(&slicing.count));
            let children: Vec<Quantity> =
                (0..slicing.count).map(|n| slicing.child_quantity(whole, n).unwrap()).collect();
            proptest::prop_assert_eq!(slicing.child_quantity(whole, slicing.count), None);
            let sum: Decimal = children.iter().map(|child| child.value()).sum();
            proptest::prop_assert_eq!(sum, whole.value());
            for child in &children {
                let notional = price.notional_down(*child).unwrap();
                proptest::prop_assert!(child.floor_to(step) == *child && !child.is_zero());
                proptest::prop_assert!(child.value() >= rules.min_quantity && notional.value() >= rules.min_notional);
            }
            // One part more, where so many were asked for, would have been too small for it.
            if slicing.count < count {
                let part = Quantity::new(whole.value() / Decimal::from(slicing.count + 1)).unwrap().floor_to(step);
                let small = part.value() < rules.min_quantity.max(step)
                    || price.notional_down(part).unwrap().value() < rules.min_notional;
                proptest::prop_assert!(small, "{} parts of {part} would do", slicing.count + 1);
            }
        }

        /// Less of it keeps the size of a part, and is the smaller whole in sum.
        #[test]
        fn less_of_it_has_fewer_parts(count in 2..=Slices::MOST, part in 1_u32..1_000, rest in 0_u32..50, less in 1_u32..60_000) {
            let slicing = Slicing { count, quantity: whole_units(part), every_ms: 1_000 };
            let whole = whole_units(u32::from(count) * part + rest);
            let smaller = whole_units(less.min(u32::from(count) * part + rest));
            match slicing.of_less(smaller) {
                None => proptest::prop_assert!(smaller.value() < Decimal::from(2 * part)),
                Some(fewer) => {
                    proptest::prop_assert!(fewer.count <= count && fewer.quantity == slicing.quantity);
                    let sum: Decimal =
                        (0..fewer.count).map(|n| fewer.child_quantity(smaller, n).unwrap().value()).sum();
                    proptest::prop_assert_eq!(sum, smaller.value());
                }
            }
            proptest::prop_assert!(slicing.child_quantity(whole, 0).is_some());
        }

        /// Nothing that a signed envelope may say makes children that are more than the whole.
        #[test]
        fn wrong_slices_have_no_children(count: u16, quantity in 0_u32..1_000, every_ms: u32, whole in 0_u32..10_000) {
            let slicing = Slicing { count, quantity: whole_units(quantity), every_ms };
            let whole = whole_units(whole);
            let children: Vec<_> = (0..=count.min(200)).map_while(|n| slicing.child_quantity(whole, n)).collect();
            let sum: Decimal = children.iter().map(|child| child.value()).sum();
            proptest::prop_assert!(children.is_empty() || sum == whole.value() && children.len() == usize::from(count));
        }
    }
}
