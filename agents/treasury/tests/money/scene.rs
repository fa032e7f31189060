//! One user with $20,000 under the house limits, two instruments with marks, and everything a test may do to them.

use std::sync::atomic::{AtomicU16, Ordering};

use domain::canonical::Sha256Digest;
use domain::ids::{ApprovalId, IntentId, MessageId, OrderId, PermitId, UserId};
use domain::market::{InstrumentId, Mark};
use domain::message::{Decision, DecisionOutcome, Message, Payload};
use domain::money::{Price, Quantity, Usd};
use domain::order::{Amount, Fill, OrderIntent, OrderState, OrderType, Origin, Permit, Side, TimeInForce};
use domain::person::{Act, Assurance, PersonAct, SignedAct, Vote};
use domain::time::UnixMs;
use ed25519_dalek::SigningKey;
use rails::book::{Book, Marks};
use rails::kill::KillCopy;
use rails::limits::Limits;
use rails::signature::{PermitSigner, sign_act};
use runtime::HandleError;
use serde_json::json;
use store::approvals::{ApprovalRow, ApprovalStatus, EntryRow};
use store::orders::OrderRow;
use store::{Db, Unit};
use testkit::bank::Bank;
use treasury::config::Config;
use treasury::decide::Sight;

/// A morning, UTC.
pub const NOW: UnixMs = UnixMs(1_800_000_000_000);

pub struct Scene {
    pub bank: Bank,
    pub treasury: Db,
    pub supervisor: Db,
    pub desk: Db,
    pub config: Config,
    pub user: UserId,
    pub btc: InstrumentId,
    pub marks: Marks,
    pub before_midnight: Option<Marks>,
    pub kill_copies: Vec<Option<KillCopy>>,
    pub now: UnixMs,
    pub skew_ms: i64,
    next: AtomicU16,
}

pub fn house() -> Limits {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../config/limits.toml");
    Limits::parse(&std::fs::read_to_string(file).unwrap()).unwrap()
}

pub fn quantity(text: &str) -> Quantity {
    Quantity::parse(text).unwrap()
}

pub fn price(text: &str) -> Price {
    Price::parse(text).unwrap()
}

pub fn usd(text: &str) -> Usd {
    Usd::parse(text).unwrap()
}

impl Scene {
    /// BTC at 100, ETH at 10.
    pub async fn new() -> Self {
        let bank = Bank::open().await;
        let user = bank.account("operator", "20000", json!({}), NOW).await;
        let (btc, eth) = (bank.instrument("BTCUSDT").await, bank.instrument("ETHUSDT").await);
        let (treasury, supervisor) = (bank.login("treasury").await, bank.login("supervisor").await);
        let desk = bank.login("online_trading").await;
        bank.approver("operator", Some("operator"), true).await;
        let signer = PermitSigner::new(SigningKey::from_bytes(&[3; 32]));
        let mut scene = Self {
            bank,
            treasury,
            supervisor,
            desk,
            config: Config { house: house(), signer },
            user,
            btc: btc.clone(),
            marks: Marks::new(),
            before_midnight: None,
            kill_copies: Vec::new(),
            now: NOW,
            skew_ms: 0,
            next: AtomicU16::new(0),
        };
        scene.mark(&btc, "100");
        scene.mark(&eth, "10");
        scene
    }

    pub fn mark(&mut self, instrument: &InstrumentId, at: &str) {
        self.marks.insert(instrument.clone(), Mark { price: price(at), received_at: self.now });
    }

    /// Moves the time; the marks stay fresh.
    pub fn wait(&mut self, ms: i64) {
        self.now = self.now.plus_ms(ms);
        let now = self.now;
        self.marks.values_mut().for_each(|mark| mark.received_at = now);
    }

    pub fn sight(&self) -> Sight<'_> {
        Sight {
            marks: &self.marks,
            marks_before_midnight: self.before_midnight.as_ref(),
            kill_copies: &self.kill_copies,
            now: self.now,
            clock_skew_ms: self.skew_ms,
        }
    }

    /// A BTC limit order as buy_bot plans it, each of a signal of its own.
    pub fn intent(&self, side: Side, amount: &str, worst: &str) -> OrderIntent {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let signal_id = MessageId::of_person(self.user, &number.to_string());
        OrderIntent {
            intent_id: IntentId::of_leg(signal_id, 0),
            signal_id,
            leg: 0,
            user_id: self.user,
            origin: Origin::Person { handle: "operator".to_owned() },
            instrument: self.btc.clone(),
            side,
            order_type: OrderType::Limit,
            time_in_force: TimeInForce::ImmediateOrCancel,
            amount: if amount == "all" { Amount::All } else { Amount::Exactly(quantity(amount)) },
            worst_price: price(worst),
            reduce_only: side == Side::Sell,
            valid_until: self.now.plus_ms(60_000),
            slices: None,
            reasoning: "a test".to_owned(),
            opinion: domain::review::Opinion::NotAsked,
        }
    }

    pub async fn decide(&self, intent: &OrderIntent) -> Vec<Message> {
        let mut unit = self.treasury.begin().await.unwrap();
        let out = treasury::decide::decide(&mut unit, &self.config, intent, self.sight()).await.unwrap();
        unit.commit().await.unwrap();
        out
    }

    /// Decides an order that must be permitted, and returns its permit.
    pub async fn permit(&self, side: Side, amount: &str, worst: &str) -> Permit {
        permit_in(&self.decide(&self.intent(side, amount, worst)).await)
    }

    /// Decides an order that must wait for a human, and returns its request.
    pub async fn request(&self, side: Side, amount: &str, worst: &str) -> ApprovalRow {
        let out = self.decide(&self.intent(side, amount, worst)).await;
        let id = out.iter().find_map(|m| match &m.payload {
            Payload::ApprovalRequest(request) => Some(request.approval_id),
            _ => None,
        });
        self.approval(id.unwrap_or_else(|| panic!("no request in {}", told(&out)))).await
    }

    pub async fn approval(&self, id: ApprovalId) -> ApprovalRow {
        store::approvals::get(&mut self.bank.unit().await, id).await.unwrap().unwrap()
    }

    /// Stores a person's signed vote as the supervisor does, and `status` after it.
    pub async fn vote(&self, request: &ApprovalRow, signed: &SignedAct, status: ApprovalStatus) {
        let mut unit = self.supervisor.begin().await.unwrap();
        unit.set_tenant(request.user_id).await.unwrap();
        let Act::Vote { digest, vote, .. } = &signed.act.what else { panic!("no vote") };
        let entry = EntryRow {
            approval_id: request.approval_id,
            person_id: signed.act.person_id.clone(),
            decision: if *vote == Vote::Approve { Decision::Approve } else { Decision::Reject },
            change: None,
            channel: "cli".to_owned(),
            assurance: Assurance::CliKey,
            evidence: json!({}),
            digest: *digest,
            shown_digest: None,
            reason: signed.act.reason.clone(),
            signature: Some(signed.signature.clone()),
            signed_at: signed.act.signed_at,
        };
        store::approvals::insert_entry(&mut unit, &entry).await.unwrap();
        let from = [ApprovalStatus::Pending];
        store::approvals::set_status(&mut unit, request.approval_id, &from, status).await.unwrap();
        unit.commit().await.unwrap();
    }

    /// A yes of the operator that verifies.
    pub async fn approve(&self, request: &ApprovalRow) {
        let yes = vote_of("operator", request, request.digest, Vote::Approve);
        self.vote(request, &yes, ApprovalStatus::Allowed).await;
    }

    pub async fn try_settle(&self, request: &ApprovalRow) -> Result<Vec<Message>, HandleError> {
        let (user, id) = (request.user_id, request.approval_id);
        let mut unit = self.treasury.begin().await.unwrap();
        let out = treasury::approval::settle(&mut unit, &self.config, user, id, self.sight()).await?;
        unit.commit().await.unwrap();
        Ok(out)
    }

    pub async fn settle(&self, request: &ApprovalRow) -> Vec<Message> {
        self.try_settle(request).await.unwrap()
    }

    /// Writes the user's own limits as they are given, readable or not.
    pub async fn own_limits(&self, limits: &serde_json::Value) {
        let mut unit = self.bank.unit_of(self.user).await;
        store::users::set_constraints(&mut unit, self.user, limits).await.unwrap();
        unit.commit().await.unwrap();
    }

    /// What the desk does with a permit: spent, and the order written, in one commit. `false`: not to be had.
    pub async fn spend(&self, permit: &Permit) -> bool {
        let mut unit = self.desk.begin().await.unwrap();
        unit.set_tenant(permit.body.envelope.user_id).await.unwrap();
        if !store::permits::spend(&mut unit, permit.body.permit_id, self.now).await.unwrap() {
            return false;
        }
        store::orders::insert(&mut unit, &order_row(permit, self.now)).await.unwrap();
        unit.commit().await.unwrap();
        true
    }

    /// The desk writes a fill, and a state when there is a new one.
    pub async fn venue(&self, permit: &Permit, fill: Option<Fill>, state: Option<(OrderState, &str)>) {
        let order = &permit.body.envelope;
        let mut unit = self.desk.begin().await.unwrap();
        unit.set_tenant(order.user_id).await.unwrap();
        if let Some(fill) = fill {
            store::orders::insert_fill(&mut unit, &fill, order.user_id).await.unwrap();
        }
        if let Some((state, filled)) = state {
            let filled = quantity(filled);
            store::orders::set_state(&mut unit, order.order_id, state, filled, Some("v1"), None).await.unwrap();
        }
        unit.commit().await.unwrap();
    }

    pub async fn try_post(&self, order_id: OrderId) -> Result<Vec<Message>, HandleError> {
        let mut unit = self.treasury.begin().await.unwrap();
        let out = treasury::settle::post(&mut unit, &self.config, self.user, order_id, self.sight()).await?;
        unit.commit().await.unwrap();
        Ok(out)
    }

    pub async fn post(&self, permit: &Permit) -> Vec<Message> {
        self.try_post(permit.body.envelope.order_id).await.unwrap()
    }

    pub async fn void(&self, permit: &Permit) -> Vec<Message> {
        let (permit_id, order_id): (PermitId, OrderId) = (permit.body.permit_id, permit.body.envelope.order_id);
        let mut unit = self.treasury.begin().await.unwrap();
        let done =
            treasury::settle::void_unspent(&mut unit, &self.config, self.user, permit_id, order_id, self.sight()).await;
        unit.commit().await.unwrap();
        done.unwrap()
    }

    /// Permitted, spent, filled in one fill at `at`, posted.
    pub async fn trade(&self, side: Side, amount: &str, at: &str) -> Permit {
        let permit = self.permit(side, amount, at).await;
        assert!(self.spend(&permit).await);
        let total = permit.body.envelope.quantity.to_string();
        let fill = fill_of(&permit, &permit.body.permit_id.to_string(), &total, at, "0");
        self.venue(&permit, Some(fill), Some((OrderState::Filled, &total))).await;
        self.post(&permit).await;
        permit
    }

    pub async fn book(&self) -> Book {
        let mut unit = self.bank.unit_of(self.user).await;
        let (rate, approval) = (self.config.house.rate_window_ms, self.config.house.approval_window_ms);
        store::ledger::read_book(&mut unit, self.user, self.now, rate, approval).await.unwrap().unwrap()
    }

    /// Cash, what is held of BTC, and the orders that hold money.
    pub async fn money(&self) -> String {
        let book = self.book().await;
        let held = book.positions.get(&self.btc).map_or(Quantity::ZERO, |p| p.quantity);
        format!("cash {} btc {} reserved {}", book.cash, held, book.reservations.len())
    }

    /// How many rows each table has.
    pub async fn rows(&self) -> String {
        sqlx::query_scalar(
            "SELECT format('decisions %s reservations %s permits %s stamps %s unapproved %s approvals %s audit %s',
               (SELECT count(*) FROM policy_decisions), (SELECT count(*) FROM reservations),
               (SELECT count(*) FROM permits), (SELECT count(*) FROM permit_stamps),
               (SELECT count(*) FROM unapproved_notionals), (SELECT count(*) FROM approval_requests),
               (SELECT coalesce(string_agg(kind, ',' ORDER BY seq), '-') FROM trade_audit))",
        )
        .fetch_one(self.bank.admin.pool())
        .await
        .unwrap()
    }
}

/// What the messages say, in order.
pub fn told(messages: &[Message]) -> String {
    let word = |message: &Message| match &message.payload {
        Payload::Permit(_) => "permit".to_owned(),
        Payload::ApprovalRequest(_) => "ask".to_owned(),
        Payload::PositionChanged(_) => "position".to_owned(),
        Payload::Notice(notice) => notice.code.clone(),
        Payload::OrderDecision(decision) => match &decision.outcome {
            DecisionOutcome::Permitted => "permitted".to_owned(),
            DecisionOutcome::NeedsHuman { .. } => "needs_human".to_owned(),
            DecisionOutcome::Refused { code, .. } => format!("refused:{code}"),
        },
        other => other.kind().to_owned(),
    };
    messages.iter().map(word).collect::<Vec<_>>().join(" ")
}

pub fn permit_in(messages: &[Message]) -> Permit {
    let found =
        messages.iter().find_map(|m| if let Payload::Permit(permit) = &m.payload { Some(permit) } else { None });
    found.unwrap_or_else(|| panic!("no permit in: {}", told(messages))).clone()
}

pub fn vote_of(person: &str, request: &ApprovalRow, digest: Sha256Digest, vote: Vote) -> SignedAct {
    let act = PersonAct {
        schema: PersonAct::SCHEMA.to_owned(),
        person_id: person.to_owned(),
        what: Act::Vote { approval_id: request.approval_id, digest, vote },
        reason: "looked at it".to_owned(),
        signed_at: NOW,
    };
    sign_act(&testkit::bank::person_key(person), act).unwrap()
}

pub fn fill_of(permit: &Permit, trade: &str, amount: &str, at: &str, fee: &str) -> Fill {
    let order = &permit.body.envelope;
    Fill {
        order_id: order.order_id,
        venue_trade_id: trade.to_owned(),
        instrument: order.instrument(),
        side: order.side,
        quantity: quantity(amount),
        price: price(at),
        fee: usd(fee),
        at: NOW,
    }
}

pub fn order_row(permit: &Permit, now: UnixMs) -> OrderRow {
    let envelope = permit.body.envelope.clone();
    OrderRow {
        order_id: envelope.order_id,
        user_id: envelope.user_id,
        client_order_id: envelope.client_order_id.clone(),
        permit_id: permit.body.permit_id,
        envelope,
        venue_order_id: None,
        state: OrderState::Pending,
        filled: Quantity::ZERO,
        code: None,
        created_at: now,
        updated_at: now,
        sent_at: None,
        outcome_posted: false,
        children: Vec::new(),
    }
}

/// A transaction of treasury that is left open.
pub async fn held(scene: &Scene) -> Unit {
    let mut unit = scene.treasury.begin().await.unwrap();
    unit.set_tenant(scene.user).await.unwrap();
    unit
}
