//! Orders: what is asked for, what a human or the treasury approves, and what came of it.

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use crate::canonical::{self, NotCanonical, Sha256Digest};
use crate::ids::{IntentId, MessageId, OrderId, PermitId, UserId};
use crate::market::{Instrument, InstrumentId, Symbol, Venue};
use crate::money::{MAX_SCALE, Price, Quantity, Usd};
use crate::review::Opinion;
use crate::time::UnixMs;

macro_rules! words {
    ($(#[$meta:meta])* $name:ident { $($(#[$vmeta:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum $name { $($(#[$vmeta])* #[serde(rename = $word)] $variant),+ }

        impl $name {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The word used in messages, tables and digests.
            #[must_use]
            pub const fn word(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }

            /// Reads the word.
            #[must_use]
            pub fn parse(word: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|v| v.word() == word)
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.word())
            }
        }
    };
}

pub(crate) use words;

words! {
    /// Buy or sell.
    Side { /// Spend dollars.
        Buy = "buy", /// Give up the base asset.
        Sell = "sell" }
}
words! {
    /// How the venue treats the price.
    OrderType { /// At the worst price or better.
        Limit = "limit", /// At what the book offers; the worst price still bounds it here, as a limit that crosses.
        Market = "market" }
}
words! {
    /// How long the venue keeps the order.
    TimeInForce { /// Fill what crosses at once, cancel the rest.
        ImmediateOrCancel = "ioc", /// Rest until filled, cancelled or past its valid-until.
        GoodTillCancelled = "gtc" }
}
words! {
    /// Where an order of ours stands at the desk.
    OrderState { /// Committed, not yet known to be sent.
        Pending = "pending", /// Handed to the venue.
        Open = "open", /// All of it traded.
        Filled = "filled", /// The venue said no.
        Rejected = "rejected", /// Ended by us or by its time in force; part of it may have traded.
        Cancelled = "cancelled", /// The outcome is not known; the venue is being asked.
        Unknown = "unknown" }
}

impl OrderState {
    /// Nothing more will happen to it.
    #[must_use]
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Filled | Self::Rejected | Self::Cancelled)
    }
}

/// Who stands behind an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Origin {
    /// A person, through their own door.
    Person {
        /// Their handle.
        handle: String,
    },
    /// An agent or strategy.
    Agent {
        /// Its name, with the strategy after a slash.
        name: String,
    },
}

/// How much of an instrument an intent is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Amount {
    /// This much of the base asset.
    Exactly(Quantity),
    /// The whole position less open exits; only for a reduce-only sale.
    All,
}

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

/// A planned order. Money has not looked at it yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderIntent {
    /// f(signal id, leg).
    pub intent_id: IntentId,
    /// The signal it was planned from.
    pub signal_id: MessageId,
    /// Leg of that signal, from 0.
    pub leg: u16,
    /// Whose money.
    pub user_id: UserId,
    /// Who asked.
    pub origin: Origin,
    /// Where and what.
    pub instrument: InstrumentId,
    /// Direction.
    pub side: Side,
    /// Limit or market.
    pub order_type: OrderType,
    /// How long the venue keeps it.
    pub time_in_force: TimeInForce,
    /// How much.
    pub amount: Amount,
    /// A buy may not pay more, a sale not bring less, per unit.
    pub worst_price: Price,
    /// May only shrink a position.
    pub reduce_only: bool,
    /// After this the intent is dead.
    pub valid_until: UnixMs,
    /// How it is to be sliced; `None`: sent in one piece. A row that was stored before there were slices has none.
    #[serde(default)]
    pub slices: Option<Slices>,
    /// Why, in the words of whoever asked (at most 500 characters, shown apart from the numbers).
    pub reasoning: String,
    /// What a model says of it: for the audit row and for people. It authorises nothing, and no rail is given it. A row
    /// that was stored before there were reviews has none.
    #[serde(default)]
    pub opinion: Opinion,
}

impl OrderIntent {
    /// An exit of all that is held of `instrument`, at `worst_price` or better, now or not at all.
    #[must_use]
    pub fn sale_of_all(
        signal_id: MessageId,
        user_id: UserId,
        origin: Origin,
        instrument: InstrumentId,
        worst_price: Price,
        valid_until: UnixMs,
        reasoning: String,
    ) -> Self {
        Self {
            intent_id: IntentId::of_leg(signal_id, 0),
            signal_id,
            leg: 0,
            user_id,
            origin,
            instrument,
            side: Side::Sell,
            order_type: OrderType::Limit,
            time_in_force: TimeInForce::ImmediateOrCancel,
            amount: Amount::All,
            worst_price,
            reduce_only: true,
            valid_until,
            slices: None,
            reasoning,
            opinion: Opinion::NotAsked,
        }
    }
}

/// The exact thing that is approved, permitted and executed. Its digest binds a human's yes and a permit to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderEnvelope {
    /// Always `swarm.order.v1`.
    pub schema: String,
    /// Always `place`.
    pub action: String,
    /// Whose money.
    pub user_id: UserId,
    /// f(order id): what the venue sees.
    pub client_order_id: String,
    /// f(intent id).
    pub order_id: OrderId,
    /// The intent it was made from.
    pub intent_id: IntentId,
    /// Venue.
    pub venue: Venue,
    /// Instrument symbol or mint address.
    pub symbol: Symbol,
    /// Direction.
    pub side: Side,
    /// Limit or market.
    pub order_type: OrderType,
    /// How long the venue keeps it.
    pub time_in_force: TimeInForce,
    /// Base quantity, a multiple of the venue's step.
    pub quantity: Quantity,
    /// Bound of the price per unit.
    pub worst_price: Price,
    /// Quantity times worst price, rounded away from zero.
    pub max_notional_usd: Usd,
    /// Worst price against the mark at decision time, in hundredths of a percent, rounded up; 0 when better than mark.
    pub max_slippage_bps: u32,
    /// Least amount out for a swap; zero where the worst price says it all.
    pub min_out: Quantity,
    /// May only shrink a position.
    pub reduce_only: bool,
    /// After this it may not be sent.
    pub valid_until: UnixMs,
    /// Version of the policy (limits, approvers) it was judged by.
    pub policy_version: String,
    /// In which child orders it is worked; `None`: in one piece, and then no part of what is hashed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slicing: Option<Slicing>,
}

impl OrderEnvelope {
    /// Schema name and digest tag.
    pub const SCHEMA: &'static str = "swarm.order.v1";

    /// SHA-256 over the tag and the canonical JSON of this typed value.
    ///
    /// # Errors
    /// [`NotCanonical`], which no value of this type can cause.
    pub fn digest(&self) -> Result<Sha256Digest, NotCanonical> {
        canonical::digest(Self::SCHEMA, self)
    }

    /// Venue and symbol.
    #[must_use]
    pub fn instrument(&self) -> InstrumentId {
        InstrumentId { venue: self.venue, symbol: self.symbol.clone() }
    }

    /// Base quantity of child order `n`; `None` when the order is not sliced, has no such child, or is sliced wrongly.
    #[must_use]
    pub fn child_quantity(&self, n: u16) -> Option<Quantity> {
        self.slicing?.child_quantity(self.quantity, n)
    }
}

/// What treasury signs: one envelope, once, under one kill epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PermitBody {
    /// Always `swarm.permit.v1`.
    pub schema: String,
    /// Single use.
    pub permit_id: PermitId,
    /// The whole order.
    pub envelope: OrderEnvelope,
    /// Epoch of the kill level it was signed under.
    pub kill_epoch: i64,
    /// When signed.
    pub signed_at: UnixMs,
    /// Not to be spent after this.
    pub expires_at: UnixMs,
    /// First 16 hex digits of the SHA-256 of the public key.
    pub key_id: String,
}

impl PermitBody {
    /// Schema name and signature tag.
    pub const SCHEMA: &'static str = "swarm.permit.v1";

    /// The bytes that are signed; both sides rebuild them from typed values.
    ///
    /// # Errors
    /// [`NotCanonical`], which no value of this type can cause.
    pub fn signed_bytes(&self) -> Result<Vec<u8>, NotCanonical> {
        canonical::tagged(Self::SCHEMA, self)
    }
}

/// A permit with its Ed25519 signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Permit {
    /// What is signed.
    pub body: PermitBody,
    /// 128 hex digits.
    pub signature: String,
}

/// One fill as the venue reported it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fill {
    /// Which order.
    pub order_id: OrderId,
    /// The venue's trade id, unique per venue and instrument.
    pub venue_trade_id: String,
    /// Where and what.
    pub instrument: InstrumentId,
    /// Direction.
    pub side: Side,
    /// Base quantity.
    pub quantity: Quantity,
    /// Price per unit.
    pub price: Price,
    /// Fee in dollars.
    pub fee: Usd,
    /// When the venue says it happened.
    pub at: UnixMs,
}

/// What a venue knows of an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderStatus {
    /// Where and what.
    pub instrument: InstrumentId,
    /// Our id at the venue.
    pub client_order_id: String,
    /// The venue's own id.
    pub venue_order_id: String,
    /// Where it stands.
    pub state: OrderState,
    /// Cumulative base quantity traded.
    pub filled: Quantity,
    /// Why, when rejected.
    pub reject_code: Option<String>,
    /// All fills so far.
    pub fills: Vec<Fill>,
}

/// Hundredths of a percent by which `worst` is worse than `mark` for `side`, rounded up; 0 when it is better, the largest
/// there is when it does not fit.
#[must_use]
pub fn slippage_bps(side: Side, worst: Price, mark: Price) -> u32 {
    let gap = match side {
        Side::Buy => worst.value() - mark.value(),
        Side::Sell => mark.value() - worst.value(),
    };
    if gap <= Decimal::ZERO {
        return 0;
    }
    let bps = gap.checked_mul(Decimal::from(10_000)).and_then(|gap| gap.checked_div(mark.value()));
    bps.and_then(|bps| u32::try_from(bps.ceil()).ok()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slippage_is_rounded_up_and_has_an_end() {
        let price = |text| Price::parse(text).unwrap();
        for (side, worst, mark, want) in [
            (Side::Buy, "101", "100", 100),
            (Side::Sell, "99", "100", 100),
            (Side::Buy, "100.000001", "100", 1),
            (Side::Buy, "99", "100", 0),
            // No decimal holds this quotient.
            (Side::Buy, "1000000000000", "0.000000000000000001", u32::MAX),
        ] {
            assert_eq!(slippage_bps(side, price(worst), price(mark)), want, "{side} {worst} {mark}");
        }
    }

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
