//! Orders: what is asked for, what a human or the treasury approves, and what came of it.

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use crate::canonical::{self, NotCanonical, Sha256Digest};
use crate::ids::{IntentId, MessageId, OrderId, PermitId, UserId};
use crate::market::{InstrumentId, Symbol, Venue};
use crate::money::{Price, Quantity, Usd};
use crate::review::Opinion;
use crate::time::UnixMs;

mod slices;

pub use slices::{ChildOrder, Slices, Slicing};

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
}
