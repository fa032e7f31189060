//! One order and everything around it, all of it good; a test spoils what it is about.

#![allow(dead_code, reason = "each test file uses its own part")]

use domain::canonical::Sha256Digest;
use domain::ids::{IntentId, MessageId, OrderId, UserId};
use domain::market::{Instrument, InstrumentId, Mark, Symbol, Venue};
use domain::message::TokenVerdict;
use domain::money::{Price, Quantity, Usd};
use domain::order::{Fill, OrderEnvelope, OrderType, Side, TimeInForce};
use domain::time::UnixMs;
use rails::book::{Book, Marks, PermitStamp, Position, Reservation, ReservationState, Unapproved};
use rails::check::{HumanApproval, KillReading, Surroundings, Verdict, check};
use rails::limits::Limits;
use rust_decimal::Decimal;

pub const NOW: UnixMs = UnixMs(1_800_000_000_000);

pub fn usd(text: &str) -> Usd {
    text.strip_prefix('-')
        .map_or_else(|| Usd::parse(text).unwrap(), |digits| Usd::ZERO.minus(Usd::parse(digits).unwrap()).unwrap())
}

pub fn price(text: &str) -> Price {
    Price::parse(text).unwrap()
}

pub fn quantity(text: &str) -> Quantity {
    Quantity::parse(text).unwrap()
}

pub fn decimal(text: &str) -> Decimal {
    Decimal::from_str_exact(text).unwrap()
}

pub fn house_text() -> String {
    std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../config/limits.toml")).unwrap()
}

pub fn house() -> Limits {
    Limits::parse(&house_text()).unwrap()
}

pub fn user() -> UserId {
    UserId::of_handle("operator")
}

pub fn paper(symbol: &str) -> InstrumentId {
    InstrumentId { venue: Venue::Paper, symbol: Symbol::parse(symbol).unwrap() }
}

pub fn btc() -> InstrumentId {
    paper("BTCUSDT")
}

pub fn intent(number: u16) -> IntentId {
    IntentId::of_leg(MessageId::of_person(user(), "scene"), number)
}

pub fn order_id(number: u16) -> OrderId {
    OrderId::of_intent(intent(number))
}

pub fn rules(id: InstrumentId) -> Instrument {
    Instrument {
        id,
        base: "BTC".to_owned(),
        quote: "USDT".to_owned(),
        tick: decimal("0.01"),
        step: decimal("0.001"),
        min_quantity: decimal("0.001"),
        max_quantity: decimal("1000"),
        min_notional: decimal("5"),
    }
}

/// An envelope as treasury makes it: number 1 is the scene's own order.
pub fn envelope(number: u16, id: &InstrumentId, side: Side, amount: Quantity, worst: Price) -> OrderEnvelope {
    OrderEnvelope {
        schema: OrderEnvelope::SCHEMA.to_owned(),
        action: "place".to_owned(),
        user_id: user(),
        client_order_id: order_id(number).client_order_id(),
        order_id: order_id(number),
        intent_id: intent(number),
        venue: id.venue,
        symbol: id.symbol.clone(),
        side,
        order_type: OrderType::Limit,
        time_in_force: TimeInForce::ImmediateOrCancel,
        quantity: amount,
        worst_price: worst,
        max_notional_usd: worst.notional_up(amount).unwrap_or(Usd::ZERO),
        max_slippage_bps: 0,
        min_out: Quantity::ZERO,
        reduce_only: false,
        valid_until: NOW.plus_ms(60_000),
        policy_version: "test".to_owned(),
        slicing: None,
    }
}

pub fn fill(number: u16, side: Side, amount: &str, at_price: &str, fee: &str) -> Fill {
    Fill {
        order_id: order_id(number),
        venue_trade_id: "1".to_owned(),
        instrument: btc(),
        side,
        quantity: quantity(amount),
        price: price(at_price),
        fee: usd(fee),
        at: NOW,
    }
}

/// A human's yes that fits the order unless a test says otherwise.
pub struct Yes {
    pub forged: bool,
    pub tier: u8,
    pub expires_at: UnixMs,
}

pub struct Scene {
    pub limits: Limits,
    pub book: Book,
    pub marks: Marks,
    pub instrument: Option<Instrument>,
    pub verdict: Option<TokenVerdict>,
    pub kill: KillReading,
    pub now: UnixMs,
    pub yes: Option<Yes>,
    pub order: OrderEnvelope,
}

impl Scene {
    /// Buys 5 BTC at 100.00, which is the mark, with 20,000.00 in cash under the house limits.
    pub fn good() -> Self {
        let mut scene = Self {
            limits: house(),
            book: Book::open(user(), usd("20000"), NOW),
            marks: Marks::new(),
            instrument: Some(rules(btc())),
            verdict: None,
            kill: KillReading::Level { level: 0, epoch: 1 },
            now: NOW,
            yes: None,
            order: envelope(1, &btc(), Side::Buy, quantity("5"), price("100")),
        };
        scene.mark(&btc(), "100", 0);
        scene
    }

    /// The same where no human is asked below 1,000,000.00.
    pub fn unattended() -> Self {
        let mut scene = Self::good();
        scene.limits.approval_over_usd = usd("1000000");
        scene
    }

    /// Holds 10 BTC and sells 5 at 100.00, the mark.
    pub fn exit() -> Self {
        let mut scene = Self::good();
        scene.hold(&btc(), "10");
        scene.sell("5", "100");
        scene
    }

    pub fn buy(&mut self, amount: &str, worst: &str) {
        self.order = envelope(1, &btc(), Side::Buy, quantity(amount), price(worst));
    }

    pub fn sell(&mut self, amount: &str, worst: &str) {
        self.order = envelope(1, &btc(), Side::Sell, quantity(amount), price(worst));
        self.order.reduce_only = true;
    }

    pub fn mark(&mut self, id: &InstrumentId, at: &str, age_ms: i64) {
        self.marks.insert(id.clone(), Mark { price: price(at), received_at: self.now.plus_ms(-age_ms) });
    }

    pub fn hold(&mut self, id: &InstrumentId, amount: &str) {
        let position = Position {
            quantity: quantity(amount),
            cost: usd("1"),
            trade_cost: usd("1"),
            trade_realised: Usd::ZERO,
            opened_at: NOW,
        };
        self.book.positions.insert(id.clone(), position);
    }

    /// Cash, and a baseline of as much.
    pub fn cash(&mut self, amount: &str) {
        self.book.cash = usd(amount);
        self.book.day.equity = usd(amount);
    }

    pub fn reserve(&mut self, number: u16, id: &InstrumentId, side: Side, amount: &str, worst: &str) {
        let reservation = Reservation {
            order_id: order_id(number),
            instrument: id.clone(),
            side,
            reduce_only: side == Side::Sell,
            remaining: quantity(amount),
            worst_price: price(worst),
            state: ReservationState::Permitted,
            expires_at: NOW,
        };
        self.book.reservations.insert(reservation.order_id, reservation);
    }

    pub fn stamp(&mut self, numbers: std::ops::Range<u16>, risk_increasing: bool, age_ms: i64) {
        for number in numbers {
            let stamp = PermitStamp { order_id: order_id(number), at: self.now.plus_ms(-age_ms), risk_increasing };
            self.book.permits.push(stamp);
        }
    }

    pub fn unapproved(&mut self, number: u16, id: &InstrumentId, side: Side, notional: &str, age_ms: i64) {
        self.book.unapproved.push(Unapproved {
            order_id: order_id(number),
            instrument: id.clone(),
            side,
            notional: usd(notional),
            at: self.now.plus_ms(-age_ms),
        });
    }

    pub fn approve(&mut self, tier: u8) {
        self.yes = Some(Yes { forged: false, tier, expires_at: self.now });
    }

    pub fn verdict(&self) -> Verdict {
        let approval = self.yes.as_ref().map(|yes| HumanApproval {
            digest: if yes.forged { Sha256Digest::ZERO } else { self.order.digest().unwrap() },
            tier: yes.tier,
            expires_at: yes.expires_at,
        });
        let around = Surroundings {
            limits: &self.limits,
            book: &self.book,
            marks: &self.marks,
            instrument: self.instrument.as_ref(),
            verdict: self.verdict.as_ref(),
            kill: self.kill,
            now: self.now,
        };
        check(&self.order, approval.as_ref(), around)
    }

    /// `YES`, `HUMAN <tier> <sum>`, or the refusal's code.
    pub fn answer(&self) -> String {
        match self.verdict() {
            Verdict::Approved(order) => {
                assert_eq!(order.get(), &self.order, "what is approved is what was asked");
                "YES".to_owned()
            }
            Verdict::NeedsHuman { tier, envelope, sum_usd } => {
                assert_eq!(envelope, self.order, "what a human is shown is what was asked");
                format!("HUMAN {tier} {sum_usd}")
            }
            Verdict::Refused(refusal) => refusal.code.code().to_owned(),
        }
    }
}

pub type Row = (&'static str, fn(&mut Scene), &'static str);

/// Spoils a scene by each row and compares the answer.
pub fn check_rows(base: fn() -> Scene, rows: &[Row]) {
    for (name, spoil, want) in rows {
        let mut scene = base();
        spoil(&mut scene);
        assert_eq!(scene.answer(), *want, "{name}: {:?}", scene.verdict());
    }
}
