//! A database with the schema, one login per kind of process with its real grants, users with cash, and approvers with
//! keys: what a test of the money path starts from.

use domain::ids::UserId;
use domain::market::{Instrument, InstrumentId, Symbol, Venue};
use domain::money::Usd;
use domain::time::UnixMs;
use ed25519_dalek::SigningKey;
use rust_decimal::Decimal;
use store::approvals::Approver;
use store::migrate::{RoleSpec, ensure_roles, migrate};
use store::{Db, Unit, grants};

use crate::servers::{TestDatabase, postgres};

/// Every login that works on money.
const LOGINS: &[RoleSpec<'static>] = &[
    RoleSpec { name: "treasury", password: "test", grants: grants::TREASURY },
    RoleSpec { name: "online_trading", password: "test", grants: grants::DESK },
    RoleSpec { name: "supervisor", password: "test", grants: grants::SUPERVISOR },
    RoleSpec { name: "telegram_jarvis", password: "test", grants: grants::TELEGRAM },
    RoleSpec { name: "audit_verify", password: "test", grants: grants::AUDIT_VERIFY },
];

/// The ledger of one test.
#[derive(Debug)]
pub struct Bank {
    database: TestDatabase,
    /// As superuser, whom row-level security does not hold: for looking and for spoiling.
    pub admin: Db,
}

impl Bank {
    /// A fresh one, at kill level 0.
    ///
    /// # Panics
    /// When it can't be made.
    pub async fn open() -> Self {
        let database = postgres().empty_database().await;
        migrate(&database.admin_url()).await.expect("migrating");
        ensure_roles(&database.admin_url(), LOGINS).await.expect("making roles");
        let admin = Db::connect(&database.admin_url(), "test").await.expect("connecting as superuser");
        let bank = Self { database, admin };
        bank.kill(0).await;
        bank
    }

    /// The database as one process sees it.
    ///
    /// # Panics
    /// When it can't be reached.
    pub async fn login(&self, role: &str) -> Db {
        Db::connect(&self.database.url_as(role), role).await.expect("connecting as a process")
    }

    /// Opens the account of `handle`, by treasury, as of `now`.
    ///
    /// # Panics
    /// When the store fails.
    pub async fn account(&self, handle: &str, cash: &str, constraints: serde_json::Value, now: UnixMs) -> UserId {
        let treasury = self.login("treasury").await;
        let mut unit = treasury.begin().await.expect("beginning");
        let cash = Usd::parse(cash).expect("an amount");
        let user = store::users::open_account(&mut unit, handle, cash, constraints, now).await.expect("opening");
        unit.commit().await.expect("committing");
        treasury.pool().close().await;
        user.user_id
    }

    /// Registers an approver and returns the key, a function of the name.
    ///
    /// # Panics
    /// When the store fails.
    pub async fn approver(&self, person_id: &str, handle: Option<&str>, active: bool) -> SigningKey {
        let key = person_key(person_id);
        let approver = Approver {
            person_id: person_id.to_owned(),
            handle: handle.map(str::to_owned),
            public_key: hex::encode(key.verifying_key().as_bytes()),
            active,
        };
        let mut unit = self.unit().await;
        store::approvals::upsert_approver(&mut unit, &approver).await.expect("registering");
        unit.commit().await.expect("committing");
        key
    }

    /// Makes an instrument of the paper venue known: tick 0.01, step 0.00001, from $5.
    ///
    /// # Panics
    /// When the store fails.
    pub async fn instrument(&self, symbol: &str) -> InstrumentId {
        let rules = paper_rules(symbol);
        let mut unit = self.unit().await;
        store::instruments::upsert(&mut unit, &rules).await.expect("storing");
        unit.commit().await.expect("committing");
        rules.id
    }

    /// Sets the kill level, as the supervisor's next epoch.
    ///
    /// # Panics
    /// When the store fails.
    pub async fn kill(&self, level: u8) {
        let mut unit = self.unit().await;
        let now = unit.now().await.expect("the time");
        store::kill::raise(&mut unit, level, "test", "a test says so", now).await.expect("raising");
        unit.commit().await.expect("committing");
    }

    /// A transaction of the superuser.
    ///
    /// # Panics
    /// When it can't be opened.
    pub async fn unit(&self) -> Unit {
        self.admin.begin().await.expect("beginning")
    }

    /// A transaction of the superuser that works for one user.
    ///
    /// # Panics
    /// When it can't be opened.
    pub async fn unit_of(&self, user: UserId) -> Unit {
        let mut unit = self.unit().await;
        unit.set_tenant(user).await.expect("naming the tenant");
        unit
    }

    /// Runs a statement as superuser.
    ///
    /// # Panics
    /// When it fails.
    pub async fn run(&self, statement: &'static str) {
        sqlx::raw_sql(statement).execute(self.admin.pool()).await.expect("running a statement");
    }

    /// What a query of one whole number answers.
    ///
    /// # Panics
    /// When it fails.
    pub async fn count(&self, query: &'static str) -> i64 {
        sqlx::query_scalar(query).fetch_one(self.admin.pool()).await.expect("counting")
    }

    /// The audit chains hold together. Rows need no anchor here.
    ///
    /// # Panics
    /// When they do not.
    pub async fn assert_audit_valid(&self) {
        let keys = store::audit::Keys::default();
        let report = store::audit::verify(&self.admin, &store::audit::Anchors::default(), &keys, UnixMs(0)).await;
        let report = report.expect("verifying");
        assert!(report.valid, "audit: {report:?}");
    }
}

/// The private key of a person, a function of the name.
#[must_use]
pub fn person_key(person_id: &str) -> SigningKey {
    let mut seed = [7_u8; 32];
    for (at, byte) in person_id.bytes().enumerate().take(32) {
        seed[at] = byte;
    }
    SigningKey::from_bytes(&seed)
}

/// Rules of an instrument of the paper venue: tick 0.01, step 0.00001, from $5.
///
/// # Panics
/// When `symbol` is none.
#[must_use]
pub fn paper_rules(symbol: &str) -> Instrument {
    Instrument {
        id: InstrumentId { venue: Venue::Paper, symbol: Symbol::parse(symbol).expect("a symbol") },
        base: symbol.trim_end_matches("USDT").to_owned(),
        quote: "USDT".to_owned(),
        tick: Decimal::new(1, 2),
        step: Decimal::new(1, 5),
        min_quantity: Decimal::ZERO,
        max_quantity: Decimal::ZERO,
        min_notional: Decimal::from(5),
    }
}
