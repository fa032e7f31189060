//! One user, one instrument at 99.99 to 100.01, and a desk that can be started again on the same journal.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use domain::ids::{IntentId, MessageId, OrderId, PermitId, UserId, derive};
use domain::market::{Instrument, InstrumentId, Venue};
use domain::message::{Envelope, Header, Message, Payload};
use domain::money::{Price, Quantity};
use domain::order::{OrderEnvelope, OrderStatus, OrderType, Permit, PermitBody, Side, Slices, TimeInForce};
use domain::subject::{Priority, Route, Subject};
use domain::time::UnixMs;
use ed25519_dalek::SigningKey;
use online_trading::canceller::{self, Canceller};
use online_trading::config::Config;
use online_trading::executor::Executor;
use online_trading::permit;
use rails::signature::{PermitSigner, PermitVerifier};
use runtime::kill::{KillSwitch, file_path, write_file};
use runtime::{Agent, Ctx, HandleError, MarketView, Record};
use rust_decimal::Decimal;
use serde_json::json;
use store::orders::OrderRow;
use store::{Db, Unit};
use testkit::VirtualClock;
use testkit::bank::{Bank, paper_rules};
use testkit::servers::fresh_folder;
use tokio::sync::Notify;
use venues::exchange::{Balance, CancelOutcome, Exchange, OrderRequest, Outcome};
use venues::feed::{FeedEvent, FeedKind, Level};
use venues::paper::{PaperConfig, PaperExchange};

pub struct Scene {
    pub bank: Bank,
    pub db: Db,
    pub user: UserId,
    pub now: UnixMs,
    pub folder: PathBuf,
    signer: PermitSigner,
    pub verifier: PermitVerifier,
    /// Orders in ten thousand that the venue refuses.
    pub reject_bps: u32,
    next: AtomicU32,
}

/// The desk's record over the real store, with a commit that fails on demand.
pub struct Rows {
    db: Db,
    pub told: Mutex<Vec<Message>>,
    pub dies: AtomicBool,
}

impl Record for Rows {
    async fn begin(&self, user: UserId) -> Result<Unit, HandleError> {
        let mut unit = self.db.begin().await?;
        if !user.0.is_nil() {
            unit.set_tenant(user).await?;
        }
        Ok(unit)
    }

    async fn commit(&self, unit: Unit, _: UserId, out: Vec<Message>) -> Result<(), HandleError> {
        if self.dies.load(Ordering::SeqCst) {
            return Err(HandleError::Retry("died before the commit".to_owned()));
        }
        unit.commit().await?;
        self.told.lock().unwrap().extend(out);
        Ok(())
    }
}

/// The paper exchange, with every order counted that comes to it.
pub struct Counted {
    pub paper: PaperExchange,
    pub placed: AtomicU32,
    /// Somebody who raises the kill level to 1 while the next order is on its way.
    pub halts: Mutex<Option<Db>>,
    /// Orders never arrive: the desk dies on the way.
    pub swallows: AtomicBool,
    pub arrived: Notify,
    /// It does not answer what it is asked about an order.
    pub is_mute: AtomicBool,
}

#[async_trait]
impl Exchange for Counted {
    fn venue(&self) -> Venue {
        self.paper.venue()
    }

    async fn place(&self, order: &OrderRequest) -> Outcome {
        self.placed.fetch_add(1, Ordering::SeqCst);
        self.arrived.notify_one();
        let halts = self.halts.lock().unwrap().take();
        if let Some(db) = halts {
            let mut unit = db.begin().await.unwrap();
            store::kill::raise(&mut unit, 1, "test", "while an order is on its way", UnixMs(1)).await.unwrap();
            unit.commit().await.unwrap();
        }
        if self.swallows.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        self.paper.place(order).await
    }

    async fn query(&self, id: &InstrumentId, order: &str) -> Result<Option<OrderStatus>, venues::VenueError> {
        if self.is_mute.load(Ordering::SeqCst) {
            return Err(venues::VenueError::JournalBroken);
        }
        self.paper.query(id, order).await
    }

    async fn cancel(&self, id: &InstrumentId, order: &str) -> CancelOutcome {
        self.paper.cancel(id, order).await
    }

    async fn open_orders(&self) -> Result<Vec<OrderStatus>, venues::VenueError> {
        self.paper.open_orders().await
    }

    async fn balances(&self) -> Result<Vec<Balance>, venues::VenueError> {
        self.paper.balances().await
    }

    async fn instruments(&self) -> Result<Vec<Instrument>, venues::VenueError> {
        self.paper.instruments().await
    }
}

/// One start of the desk.
pub struct Desk {
    pub exchange: Arc<Counted>,
    pub rows: Rows,
    pub kill: Arc<KillSwitch>,
    executor: Executor,
    canceller: Canceller,
}

impl Desk {
    pub async fn turn(&self) -> Result<(), HandleError> {
        self.executor.turn(&self.rows).await.map(drop)
    }

    pub async fn reconcile(&self) -> Result<(), HandleError> {
        self.executor.reconcile(&self.rows).await
    }

    /// What the canceller does when it is its turn: without a store.
    pub async fn cancel(&self) -> Option<usize> {
        self.canceller.look().await
    }

    /// How many orders rest at the venue.
    pub async fn resting(&self) -> usize {
        self.exchange.open_orders().await.unwrap().len()
    }

    pub fn placed(&self) -> u32 {
        self.exchange.placed.load(Ordering::SeqCst)
    }
}

impl Scene {
    pub async fn new() -> Self {
        let bank = Bank::open().await;
        let db = bank.login("online_trading").await;
        let now = db.now().await.unwrap();
        let user = bank.account("operator", "20000", json!({}), now).await;
        bank.instrument("BTCUSDT").await;
        let folder = fresh_folder("desk");
        write_file(&file_path(&folder), 0, 1).unwrap();
        let key = SigningKey::from_bytes(&[3; 32]);
        let verifier = PermitVerifier::new([key.verifying_key()]);
        let (signer, next) = (PermitSigner::new(key), AtomicU32::new(0));
        Self { bank, db, user, now, folder, signer, verifier, reject_bps: 0, next }
    }

    /// Starts the desk; the exchange takes its journal over. The desk before must be gone.
    pub async fn start(&self) -> Desk {
        let rules = paper_rules("BTCUSDT");
        let journal = online_trading::source::journal(&self.folder);
        std::fs::create_dir_all(journal.parent().unwrap()).unwrap();
        let opening =
            BTreeMap::from([("USDT".to_owned(), Decimal::from(1_000_000)), ("BTC".to_owned(), Decimal::from(1_000))]);
        let config = PaperConfig {
            venue: Venue::Paper,
            instruments: vec![rules.clone()],
            opening,
            maker_fee_percent: Decimal::new(1, 1),
            taker_fee_percent: Decimal::new(1, 1),
            latency_ms: 0..=0,
            reject_bps: self.reject_bps,
            lost_reply_bps: 0,
            max_book_age_ms: 3_600_000,
            seed: 1,
            journal,
        };
        let paper = PaperExchange::open(config, Arc::new(VirtualClock::at(self.now))).unwrap();
        let level = |cents| {
            vec![Level { price: Price::new(Decimal::new(cents, 2)).unwrap(), quantity: Quantity::parse("50").unwrap() }]
        };
        let kind = FeedKind::Snapshot { last_update_id: 1, bids: level(9_999), asks: level(10_001) };
        paper.feed(&FeedEvent { received_at_ns: self.now.as_ns(), symbol: rules.id.symbol, kind }).await.unwrap();
        let (placed, swallows, is_mute) = (AtomicU32::new(0), AtomicBool::new(false), AtomicBool::new(false));
        let (halts, arrived) = (Mutex::default(), Notify::new());
        let exchange = Arc::new(Counted { paper, placed, halts, swallows, arrived, is_mute });
        let kill = Arc::new(KillSwitch::new(&self.folder));
        let (wake, halted) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let canceller = Canceller { exchange: exchange.clone(), kill: kill.clone(), halted, wake: wake.clone() };
        let executor = Executor { exchange: exchange.clone(), wake, kill: kill.clone() };
        let rows = Rows { db: self.db.clone(), told: Mutex::default(), dies: AtomicBool::new(false) };
        Desk { exchange, rows, kill, executor, canceller }
    }

    pub fn body(&self, side: Side, amount: &str, worst: &str, time_in_force: TimeInForce) -> PermitBody {
        let number = self.next.fetch_add(1, Ordering::SeqCst).to_be_bytes();
        let intent_id = IntentId::of_leg(MessageId(derive("test", &[&number])), 0);
        let order_id = OrderId::of_intent(intent_id);
        let (quantity, worst_price) = (Quantity::parse(amount).unwrap(), Price::parse(worst).unwrap());
        let rules = paper_rules("BTCUSDT");
        let envelope = OrderEnvelope {
            schema: OrderEnvelope::SCHEMA.to_owned(),
            action: "place".to_owned(),
            user_id: self.user,
            client_order_id: order_id.client_order_id(),
            order_id,
            intent_id,
            venue: rules.id.venue,
            symbol: rules.id.symbol,
            side,
            order_type: OrderType::Limit,
            time_in_force,
            quantity,
            worst_price,
            max_notional_usd: worst_price.notional_up(quantity).unwrap(),
            max_slippage_bps: 0,
            min_out: Quantity::ZERO,
            reduce_only: side == Side::Sell,
            valid_until: self.now.plus_ms(600_000),
            policy_version: "test".to_owned(),
            slicing: None,
        };
        PermitBody {
            schema: PermitBody::SCHEMA.to_owned(),
            permit_id: PermitId(derive("swarm.permit.v1", &[order_id.0.as_bytes()])),
            envelope,
            kill_epoch: 1,
            signed_at: self.now,
            expires_at: self.now.plus_ms(600_000),
            key_id: String::new(),
        }
    }

    /// Signs and stores, as treasury does.
    pub async fn sign(&self, body: PermitBody) -> Permit {
        let permit = self.signer.sign(body).unwrap();
        let mut unit = self.bank.unit_of(self.user).await;
        store::permits::insert(&mut unit, &permit, self.user).await.unwrap();
        unit.commit().await.unwrap();
        permit
    }

    /// What the desk makes of a permit, as its message handler does.
    pub async fn accept(&self, permit: &Permit) -> Result<(), HandleError> {
        let mut unit = self.db.begin().await?;
        unit.set_tenant(self.user).await?;
        let kill = KillSwitch::new(&self.folder).read(&mut unit).await?;
        let now = unit.now().await?;
        permit::accept(&mut unit, permit, &self.verifier, Venue::Paper, kill, now).await?;
        Ok(unit.commit().await?)
    }

    /// What a start does before it has reached anything.
    pub async fn boot(&self) -> Option<usize> {
        let shipped = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../config/desk.toml"));
        let config = Config::parse(shipped, self.verifier.clone()).unwrap();
        let (folder, clock) = (self.folder.clone(), Arc::new(VirtualClock::at(self.now)));
        tokio::task::spawn_blocking(move || canceller::at_boot(&config, &folder, clock)).await.unwrap().unwrap()
    }

    /// The agent itself, before its background work has compared anything.
    pub fn agent(&self) -> online_trading::Desk {
        let shipped = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../config/desk.toml"));
        online_trading::Desk::new(Config::parse(shipped, self.verifier.clone()).unwrap(), &self.folder)
    }

    /// Hands a permit to the agent as the runtime does.
    pub async fn handle(&self, desk: &online_trading::Desk, permit: &Permit) -> Result<(), HandleError> {
        let mut unit = self.db.begin().await?;
        unit.set_tenant(self.user).await?;
        let now = unit.now().await?;
        let input = Envelope {
            header: Header { user_id: self.user, ..testkit::build::root_header("permit", "treasury", now) },
            subject: Subject::of(Route::CexPermit, Priority::Critical),
            payload: Payload::Permit(permit.clone()),
        };
        let market = MarketView::new();
        desk.handle(&input, &mut Ctx::new(now, 0, &market, Some(&mut unit))).await?;
        Ok(unit.commit().await?)
    }

    /// A permitted and accepted order that nobody sent yet.
    pub async fn order(&self, side: Side, amount: &str, worst: &str, time_in_force: TimeInForce) -> OrderId {
        let permit = self.sign(self.body(side, amount, worst, time_in_force)).await;
        self.accept(&permit).await.unwrap();
        permit.body.envelope.order_id
    }

    /// A permit over a sliced order.
    pub fn sliced_body(&self, side: Side, worst: &str, kept: TimeInForce, count: u16, every_ms: u32) -> PermitBody {
        let mut body = self.body(side, "1", worst, kept);
        let slices = Slices::new(count, every_ms).unwrap();
        let price = Price::parse(worst).unwrap();
        body.envelope.slicing = slices.fit(body.envelope.quantity, price, &paper_rules("BTCUSDT"));
        body
    }

    /// One bitcoin in `count` parts: permitted, accepted, and nothing of it sent yet.
    pub async fn sliced(&self, side: Side, worst: &str, kept: TimeInForce, count: u16, every_ms: u32) -> OrderId {
        let permit = self.sign(self.sliced_body(side, worst, kept, count, every_ms)).await;
        self.accept(&permit).await.unwrap();
        permit.body.envelope.order_id
    }

    pub async fn row(&self, order_id: OrderId) -> OrderRow {
        store::orders::get(&mut self.bank.unit().await, order_id).await.unwrap().unwrap()
    }

    /// State, what was filled, and why it ended.
    pub async fn shown(&self, order_id: OrderId) -> String {
        let row = self.row(order_id).await;
        let fills =
            store::orders::fills_unposted(&mut self.bank.unit_of(self.user).await, self.user, order_id).await.unwrap();
        format!("{} {} in {} fills {}", row.state, row.filled, fills.len(), row.code.unwrap_or_default())
            .trim()
            .to_owned()
    }

    /// A start that dies while what it sends is on its way; it never arrives.
    pub async fn dies_on_the_way(&self) {
        let desk = Arc::new(self.start().await);
        desk.exchange.swallows.store(true, Ordering::SeqCst);
        let mut sending = tokio::spawn({
            let desk = desk.clone();
            async move { desk.turn().await }
        });
        tokio::select! {
            () = desk.exchange.arrived.notified() => {}
            ended = &mut sending => panic!("the turn ended and sent nothing: {ended:?}"),
        }
        sending.abort();
        assert!(sending.await.unwrap_err().is_cancelled());
    }

    /// From here on each commit that changes an order waits until what this gives is rolled back.
    pub async fn hold_commits(&self) -> sqlx::Transaction<'static, sqlx::Postgres> {
        self.bank
            .run(
                "CREATE FUNCTION waits() RETURNS trigger LANGUAGE plpgsql AS
                   $$ BEGIN PERFORM pg_advisory_xact_lock(42); RETURN NULL; END $$;
                 CREATE CONSTRAINT TRIGGER waits AFTER UPDATE ON orders DEFERRABLE INITIALLY DEFERRED
                   FOR EACH ROW EXECUTE FUNCTION waits()",
            )
            .await;
        let mut held = self.bank.admin.pool().begin().await.unwrap();
        sqlx::query("SELECT pg_advisory_xact_lock(42)").execute(&mut *held).await.unwrap();
        held
    }

    /// Until somebody stands at that lock.
    pub async fn until_a_commit_waits(&self) {
        let waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted
                       AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
        let waits = async || {
            let count: i64 = sqlx::query_scalar(waiting).fetch_one(self.bank.admin.pool()).await.unwrap();
            count > 0
        };
        testkit::wait::wait_until(std::time::Duration::from_secs(30), "a commit that waits", waits).await;
    }

    /// Makes every order's time over since `ms`.
    pub async fn expire(&self, ms: i64) {
        let until = self.db.now().await.unwrap().plus_ms(-ms);
        let query = "UPDATE orders SET envelope = jsonb_set(envelope, '{valid_until}', to_jsonb($1::bigint))";
        sqlx::query(query).bind(until.0).execute(self.bank.admin.pool()).await.unwrap();
    }
}
