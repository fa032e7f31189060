//! What must hold after every step: one check for each way to lose money. They read the committed tables, the venue's own
//! record and the market's, and share no arithmetic with the rails they watch. Sums that a rail reads from a table (permits
//! of the hour, what passed unasked, the loss streak, the day's baseline) are kept here a second time, in [`own`].

mod own;
mod permits;
mod reviewed;

use std::collections::{BTreeMap, BTreeSet};

use domain::canonical::Sha256Digest;
use domain::ids::{ApprovalId, MessageId, OrderId, PermitId, UserId};
use domain::market::InstrumentId;
use domain::order::{Fill, OrderEnvelope, OrderState, Side};
use domain::person::{Act, Vote};
use domain::time::UnixMs;
use memory::record::Tables;
use rails::book::Marks;
use rails::kill::KillCopy;
use rails::limits::Limits;
use rails::signature::{PermitVerifier, verify_act};
use rust_decimal::{Decimal, RoundingStrategy};
use store::approvals::ApprovalStatus;
use store::audit::{AuditRow, Chain};
use store::decisions::Outcome;
use store::permits::PermitState;

use crate::cast::{house_limits, permit_key};
use crate::market::Shown;
use crate::venue::Call;
use own::Own;

/// Largest difference of clocks under which new risk may be taken, ms.
const MAX_SKEW_MS: i64 = 2_000;
/// Oldest and newest mark by which new risk may be taken, ms.
const MARK_AGE_MS: std::ops::RangeInclusive<i64> = -2_000..=30_000;
/// The most that a clock of a world is ahead, ms: by so much a price may be older than its own stamp says.
const CLOCK_AHEAD_MS: i64 = 7_000;

macro_rules! invariants {
    ($($name:ident = $text:literal),+ $(,)?) => {
        $(#[doc = $text] pub const $name: &str = $text;)+
        /// All of them.
        pub const ALL: &[&str] = &[$($text),+];
    };
}

invariants! {
    POSITION = "position and open buys of an instrument stay within the limit",
    TOTAL = "all exposure stays within equity",
    CASH_COVERS = "cash covers every open buy and its fee",
    COLLAR = "no permit outside the price collar",
    KILL = "no new risk at kill level 1 or above, or when it can't be read",
    BREAKER = "no new risk while the breaker is latched",
    DAILY_LOSS = "no new risk once the day's loss is at its limit",
    RATE = "no more permits an hour than allowed",
    FRESHNESS = "no new risk on a stale mark or a wrong clock",
    HUMAN = "nothing above the limit without one consumed, validly signed approval of that envelope",
    APPROVAL_ONCE = "an approval is used once, and its end never changes",
    PERMIT_VALID = "every permit is signed by treasury's key, for the user and order it names, in time",
    PERMIT_ONCE = "a permit is spent on one order, and every order spent one",
    REFUSED = "what was refused never trades",
    REVIEWED = "no idea of a model becomes an intent unless another model agrees",
    SENT_ONCE = "no client order id is placed twice",
    SENT_INSIDE = "every order at the venue lies inside its permit, in time, at a level that allows it",
    FILLS = "every fill of the ledger is one of the venue's, once",
    CASH = "cash is the opening balance and the posted fills, to the last decimal",
    SPOT = "positions are the posted fills, never short",
    RESERVED = "what is open is reserved, and what is reserved is open",
    ENDS = "an order that ended stays as it ended",
    AUDIT_CHAIN = "the audit chains hold together",
    AUDIT_ROWS = "every decision, permit, fill and end has its audit row, once",
    TENANCY = "nobody's signal moves another's money",
    KILL_LOWERED = "the kill level falls by a signed act only",
    NO_FATAL = "no process ends itself",
    TERMINAL = "every signal that was taken comes to one end",
    AGREES = "in the end the ledger is what the venue says",
    NOTHING_LEFT = "in the end nothing is open, reserved or unsent",
}

/// What treasury could see when it acted, besides the tables, and what the market really showed.
#[derive(Debug, Clone)]
pub struct Sight<'a> {
    /// The world's time.
    pub now: UnixMs,
    /// Treasury's prices.
    pub marks: Marks,
    /// Every price that the market showed lately, by the world's clock.
    pub shown: &'a [Shown],
    /// By how much treasury's clock is wrong.
    pub treasury_offset_ms: i64,
    /// Ideas of models to buy.
    pub ideas: &'a [MessageId],
    /// Those of them that no model has agreed to.
    pub unagreed: &'a [MessageId],
    /// The file copy of the kill level; `None` when it can't be read.
    pub kill_file: Option<KillCopy>,
}

/// What was found wrong.
pub type Findings = Vec<(&'static str, String)>;

/// What is remembered between two looks.
#[derive(Debug)]
pub struct Checks {
    house: Limits,
    verifier: PermitVerifier,
    permits: BTreeMap<PermitId, PermitState>,
    requests: BTreeMap<ApprovalId, ApprovalStatus>,
    orders: BTreeMap<OrderId, (OrderState, Decimal)>,
    heads: BTreeMap<Chain, (i64, Sha256Digest)>,
    audited: BTreeMap<(String, String), u32>,
    calls: BTreeMap<String, u32>,
    /// Base quantity sent of each order, in whatever parts.
    sent_of: BTreeMap<OrderId, Decimal>,
    venue_fills: BTreeMap<(InstrumentId, String), Fill>,
    epoch: i64,
    level: u8,
    /// Epoch and level of every lowering that a person who may do so has signed.
    lowerings: BTreeSet<(i64, u8)>,
    own: Own,
    found: Findings,
}

impl Default for Checks {
    fn default() -> Self {
        Self {
            house: house_limits(),
            verifier: PermitVerifier::new([permit_key().verifying_key()]),
            permits: BTreeMap::new(),
            requests: BTreeMap::new(),
            orders: BTreeMap::new(),
            heads: BTreeMap::new(),
            audited: BTreeMap::new(),
            calls: BTreeMap::new(),
            sent_of: BTreeMap::new(),
            venue_fills: BTreeMap::new(),
            epoch: 0,
            level: 1,
            lowerings: BTreeSet::new(),
            own: Own::default(),
            found: Vec::new(),
        }
    }
}

fn up(value: Decimal) -> Decimal {
    value.round_dp_with_strategy(8, RoundingStrategy::AwayFromZero)
}

fn down(value: Decimal) -> Decimal {
    value.round_dp_with_strategy(8, RoundingStrategy::ToZero)
}

/// What a fill does to cash.
fn cash_of(fill: &Fill) -> Decimal {
    let notional = fill.price.value() * fill.quantity.value();
    match fill.side {
        Side::Buy => -up(notional) - fill.fee.value(),
        Side::Sell => down(notional) - fill.fee.value(),
    }
}

/// The hash that a row's fields have.
fn hash_of(chain: Chain, row: &AuditRow) -> Option<Sha256Digest> {
    let fields = serde_json::json!({
        "chain": chain, "seq": row.seq, "at_ms": row.at, "kind": row.kind, "agent": row.agent, "body": row.body,
        "prev_hash": row.prev_hash,
    });
    domain::canonical::digest("swarm.audit.v1", &fields).ok()
}

impl Checks {
    /// A person who may do so has signed that the level of `epoch` be lowered to `level`.
    pub fn note_lowering(&mut self, epoch: i64, level: u8) {
        self.lowerings.insert((epoch, level));
    }

    /// What the venue knows.
    #[must_use]
    pub const fn venue_fills(&self) -> &BTreeMap<(InstrumentId, String), Fill> {
        &self.venue_fills
    }

    /// How many fills of the venue were seen.
    #[must_use]
    pub fn fills_seen(&self) -> usize {
        self.venue_fills.len()
    }

    fn wrong(&mut self, invariant: &'static str, what: impl Into<String>) {
        self.found.push((invariant, what.into()));
    }

    fn require(&mut self, holds: bool, invariant: &'static str, what: impl FnOnce() -> String) {
        if !holds {
            self.found.push((invariant, what()));
        }
    }

    /// Looks at everything once.
    pub fn look(&mut self, tables: &Tables, sight: &Sight<'_>, calls: &[Call], new_fills: &[Fill]) -> Findings {
        for fill in new_fills {
            self.venue_fills.insert((fill.instrument.clone(), fill.venue_trade_id.clone()), fill.clone());
        }
        tables.accounts.iter().for_each(|(user, account)| self.own.open(*user, account.opening.value()));
        // A day begins in the transaction that finds it begun, before what else that one does.
        self.own.forget_worth();
        self.note_prices(&sight.marks, sight.now);
        self.own.note_worth();
        self.audit(tables, sight.ideas, true);
        self.own.note_worth();
        self.days(tables);
        self.kill(tables);
        self.permits(tables, sight);
        self.requests(tables);
        self.orders(tables);
        self.sent(tables, sight, calls);
        self.money(tables);
        self.reserved(tables);
        self.unagreed(tables, sight.unagreed);
        std::mem::take(&mut self.found)
    }

    /// Notes the prices that the baseline of a day may go by.
    pub fn note_prices(&mut self, marks: &Marks, now: UnixMs) {
        self.own.note_prices(marks, now);
    }

    fn days(&mut self, tables: &Tables) {
        for ((user, day), equity) in &tables.equity_daily {
            if let Err(what) = self.own.baseline(*user, *day, equity.value()) {
                self.wrong(DAILY_LOSS, format!("the baseline of {user} on day {day}: {what}"));
            }
        }
    }

    /// What a new row of a user's chain says has happened. Its figures are not taken from it.
    fn follow(&mut self, tables: &Tables, user: UserId, row: &AuditRow) {
        match row.kind.as_str() {
            "fill_posted" => {
                let Ok(told) = serde_json::from_value::<Fill>(row.body["fill"].clone()) else { return };
                let rule = tables.users.get(&user).and_then(|u| self.house.tightened_by(&u.trading_constraints).ok());
                let rule = rule.as_ref().unwrap_or(&self.house).breaker;
                if let Some(fill) = self.venue_fills.get(&(told.instrument, told.venue_trade_id)) {
                    self.own.post(user, fill, rule);
                }
            }
            // What one step commits beside it may have come after it.
            "permit_signed" => {
                if let Some(order) = row.body["order_id"].as_str().and_then(|text| text.parse().ok()) {
                    self.own.permitted(user, OrderId(order));
                }
            }
            "breaker_reset" => self.own.reset(user),
            _ => {}
        }
    }

    fn audit(&mut self, tables: &Tables, ideas: &[MessageId], follows: bool) {
        let heads: Vec<_> = tables.audit_heads.iter().map(|(chain, head)| (*chain, *head)).collect();
        for (chain, head) in heads {
            let (mut seq, mut hash) = self.heads.get(&chain).copied().unwrap_or((0, Sha256Digest::ZERO));
            for ((_, at), row) in tables.audit.range((chain, seq + 1)..=(chain, i64::MAX)) {
                let linked = *at == seq + 1 && row.prev_hash == hash && hash_of(chain, row) == Some(row.hash);
                self.require(linked, AUDIT_CHAIN, || format!("{chain} row {at} does not follow row {seq}"));
                (seq, hash) = (*at, row.hash);
                let word = |key: &str| row.body.get(key).and_then(|v| v.as_str()).unwrap_or_default().to_owned();
                let about = if row.kind == "fill_posted" { word("venue_trade_id") } else { word("order_id") };
                *self.audited.entry((row.kind.clone(), about)).or_default() += 1;
                if let (true, Chain::User(user)) = (follows, chain) {
                    self.follow(tables, user, row);
                    if row.kind == "decision" {
                        self.shows_agreement(row, ideas);
                    }
                }
            }
            self.require((seq, hash) == (head.seq, head.hash), AUDIT_CHAIN, || {
                format!("{chain} ends at {seq}, its head says {}", head.seq)
            });
            self.heads.insert(chain, (seq, hash));
        }
    }

    /// Reads every chain again from its first row: what was looked at before may have been changed since.
    pub fn reread(&mut self, tables: &Tables) -> Findings {
        self.heads.clear();
        self.audited.clear();
        self.audit(tables, &[], false);
        std::mem::take(&mut self.found)
    }

    fn rows_of(&self, kind: &str, about: &str) -> u32 {
        self.audited.get(&(kind.to_owned(), about.to_owned())).copied().unwrap_or(0)
    }

    fn audited_once(&mut self, kind: &str, about: &str) {
        let rows = self.rows_of(kind, about);
        self.require(rows == 1, AUDIT_ROWS, || format!("{rows} rows {kind} about {about}"));
    }

    fn kill(&mut self, tables: &Tables) {
        let newer: Vec<_> =
            tables.kill_levels.range(self.epoch + 1..).map(|(epoch, kill)| (*epoch, kill.level)).collect();
        for (epoch, level) in newer {
            let falls = self.epoch > 0 && level < self.level;
            let signed = self.lowerings.contains(&(self.epoch, level));
            let before = self.level;
            self.require(!falls || signed, KILL_LOWERED, || format!("epoch {epoch}: {before} to {level}"));
            (self.epoch, self.level) = (epoch, level);
        }
    }

    fn requests(&mut self, tables: &Tables) {
        for (id, row) in &tables.requests {
            let before = self.requests.insert(*id, row.status);
            if before == Some(row.status) {
                continue;
            }
            if let Some(before) = before.filter(|before| before.is_terminal()) {
                self.wrong(APPROVAL_ONCE, format!("{id} went from {} to {}", before.word(), row.status.word()));
            }
            let permits = tables.permits.values().filter(|p| p.permit.body.envelope.order_id == row.order_id).count();
            let expected = usize::from(row.status == ApprovalStatus::Consumed);
            self.require(permits == expected, APPROVAL_ONCE, || {
                format!("{id} is {} with {permits} permits", row.status.word())
            });
        }
    }

    fn orders(&mut self, tables: &Tables) {
        for row in tables.orders.values() {
            let now = (row.state, row.filled.value());
            let before = self.orders.insert(row.order_id, now);
            if before == Some(now) {
                continue;
            }
            if let Some((state, filled)) = before {
                self.require(!state.is_terminal() && filled <= now.1, ENDS, || {
                    format!("{} went from {state} {filled} to {} {}", row.order_id, now.0, now.1)
                });
            } else {
                let paid = tables
                    .permits
                    .get(&row.permit_id)
                    .is_some_and(|p| p.state == PermitState::Spent && p.permit.body.envelope == row.envelope);
                self.require(paid, PERMIT_ONCE, || format!("order {} without a spent permit of its own", row.order_id));
                self.require(row.user_id == row.envelope.user_id, TENANCY, || {
                    format!("order {} of {} is for {}", row.order_id, row.user_id, row.envelope.user_id)
                });
            }
        }
        for row in tables.decisions.values() {
            self.audited_once("decision", &row.order_id.to_string());
        }
        let ended: Vec<_> =
            tables.orders.values().filter(|o| o.outcome_posted).map(|o| o.order_id.to_string()).collect();
        ended.iter().for_each(|id| self.audited_once("order_outcome", id));
    }

    fn sent(&mut self, tables: &Tables, sight: &Sight<'_>, calls: &[Call]) {
        for call in calls {
            let request = &call.request;
            let id = &request.client_order_id;
            let times = self.calls.entry(id.clone()).or_default();
            *times += 1;
            let times = *times;
            self.require(times == 1, SENT_ONCE, || format!("{id} was sent {times} times"));
            let row = tables.orders.values().find(|o| o.is_known_as(id));
            let Some(row) = row.filter(|row| row.sent_at.is_some()) else {
                self.wrong(SENT_INSIDE, format!("{id} is not written down as sent"));
                continue;
            };
            let order = &row.envelope;
            let sum = self.sent_of.entry(row.order_id).or_default();
            *sum += request.quantity.value();
            let (sum, is_child) = (*sum, row.client_order_id != *id);
            self.require(is_child == order.slicing.is_some(), SENT_INSIDE, || format!("{id} is sliced: {is_child}"));
            let inside = request.instrument == order.instrument()
                && request.side == order.side
                && sum <= order.quantity.value()
                && request.worst_price == order.worst_price
                && request.time_in_force == order.time_in_force
                && request.order_id == order.order_id;
            self.require(inside, SENT_INSIDE, || format!("{id} is {request:?}, permitted was {order:?}"));
            self.require(call.at <= order.valid_until, SENT_INSIDE, || format!("{id} was sent after its time"));
            let level =
                self.level.max(sight.kill_file.map_or(1, |copy| if copy.epoch > self.epoch { copy.level } else { 0 }));
            self.require(level == 0 || order.side == Side::Sell, SENT_INSIDE, || {
                format!("{id} was sent at kill level {level}")
            });
        }
    }

    fn money(&mut self, tables: &Tables) {
        let mut cash: BTreeMap<UserId, Decimal> =
            tables.accounts.iter().map(|(u, a)| (*u, a.opening.value())).collect();
        let mut held: BTreeMap<(UserId, InstrumentId), Decimal> = BTreeMap::new();
        let mut seen = BTreeSet::new();
        for row in tables.fills.values() {
            let fill = &row.fill;
            let trade = (fill.instrument.clone(), fill.venue_trade_id.clone());
            let real = self.venue_fills.get(&trade) == Some(fill);
            self.require(real, FILLS, || format!("{} is no trade of the venue's", fill.venue_trade_id));
            self.require(seen.insert(trade), FILLS, || format!("{} is there twice", fill.venue_trade_id));
            let owner = tables.orders.values().find(|o| o.order_id == fill.order_id).map(|o| o.user_id);
            self.require(owner == Some(row.user_id), TENANCY, || {
                format!("{} of {owner:?} is with {}", fill.venue_trade_id, row.user_id)
            });
            if row.posted_at.is_none() {
                continue;
            }
            *cash.entry(row.user_id).or_default() += cash_of(fill);
            let signed = if fill.side == Side::Buy { fill.quantity.value() } else { -fill.quantity.value() };
            *held.entry((row.user_id, fill.instrument.clone())).or_default() += signed;
            self.audited_once("fill_posted", &fill.venue_trade_id);
        }
        for (user, account) in &tables.accounts {
            let expected = cash.get(user).copied().unwrap_or_default();
            self.require(account.cash.value() == expected, CASH, || {
                format!("{user} has {} and should have {expected}", account.cash)
            });
            self.require(expected >= Decimal::ZERO, CASH_COVERS, || format!("{user} owes {expected}"));
        }
        for (key, position) in &tables.positions {
            let expected = held.remove(key).unwrap_or_default();
            self.require(position.quantity.value() == expected, SPOT, || {
                format!("{key:?} is {} and should be {expected}", position.quantity)
            });
        }
        held.retain(|_, quantity| !quantity.is_zero());
        self.require(held.is_empty(), SPOT, || format!("positions that are not there: {held:?}"));
    }

    fn reserved(&mut self, tables: &Tables) {
        let mut open: BTreeMap<OrderId, (UserId, Option<Decimal>)> = BTreeMap::new();
        for row in tables.orders.values().filter(|row| !row.outcome_posted) {
            let posted: Decimal = tables
                .fills
                .values()
                .filter(|f| f.fill.order_id == row.order_id && f.posted_at.is_some())
                .map(|f| f.fill.quantity.value())
                .sum();
            open.insert(row.order_id, (row.user_id, Some(row.envelope.quantity.value() - posted)));
        }
        for row in tables.permits.values().filter(|row| row.state == PermitState::Signed) {
            let order = &row.permit.body.envelope;
            open.insert(order.order_id, (row.user_id, Some(order.quantity.value())));
        }
        let mut may: BTreeSet<OrderId> = BTreeSet::new();
        for row in tables.requests.values() {
            match row.status {
                ApprovalStatus::Pending | ApprovalStatus::Allowed => {
                    open.insert(row.order_id, (row.user_id, Some(row.envelope.quantity.value())));
                }
                // Decided by a person; treasury gives the money back, or asks anew, when it hears of it.
                ApprovalStatus::Denied | ApprovalStatus::Superseded | ApprovalStatus::Revoked => {
                    may.insert(row.order_id);
                }
                _ => {}
            }
        }
        for ((user, id), reservation) in &tables.reservations {
            match open.remove(id) {
                Some((owner, remaining)) => {
                    let right = owner == *user && remaining.is_none_or(|left| left == reservation.remaining.value());
                    self.require(right, RESERVED, || {
                        format!("{id} reserves {} of {remaining:?}", reservation.remaining)
                    });
                }
                None => self.require(may.contains(id), RESERVED, || format!("{id} is reserved for nothing")),
            }
        }
        self.require(open.is_empty(), RESERVED, || format!("not reserved: {open:?}"));
    }
}
