//! Four users, three instruments whose marks stand still, two treasuries with pools of their own, a clock that is moved.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use domain::ids::UserId;
use domain::market::{InstrumentId, Mark};
use domain::money::Price;
use domain::order::OrderIntent;
use domain::time::{DAY_MS, UnixMs};
use ed25519_dalek::SigningKey;
use rails::book::Marks;
use rails::limits::Limits;
use rails::signature::{PermitSigner, PermitVerifier};
use serde_json::json;
use store::Db;
use testkit::bank::Bank;
use treasury::config::Config;
use treasury::decide::Sight;

/// An hour before midnight, UTC: a run crosses it.
const START: UnixMs = UnixMs(20_900 * DAY_MS - 3_600_000);
pub const OPENING: &str = "15000";
const USERS: [&str; 4] = ["ada", "bea", "cyd", "dan"];
/// Symbol and mark in cents.
const MARKS: [(&str, i64); 3] = [("BTCUSDT", 10_000), ("ETHUSDT", 5_000), ("SOLUSDT", 2_000)];

pub struct Treasury {
    pub db: Db,
    pub config: Config,
}

pub struct World {
    pub bank: Bank,
    pub treasuries: [Treasury; 2],
    pub desk: Db,
    pub supervisor: Db,
    pub verifier: PermitVerifier,
    pub users: Vec<UserId>,
    pub instruments: Vec<(InstrumentId, i64)>,
    /// Intents so far, to be delivered again.
    pub intents: Mutex<Vec<OrderIntent>>,
    clock: AtomicI64,
    done: AtomicU64,
    ops: u64,
    /// What was left to be tried again, and how often.
    retries: Mutex<BTreeMap<String, u32>>,
}

impl World {
    pub async fn new(ops: u64) -> Self {
        let bank = Bank::open().await;
        let mut users = Vec::new();
        for handle in USERS {
            users.push(bank.account(handle, OPENING, json!({}), START).await);
        }
        let mut instruments = Vec::new();
        for (symbol, cents) in MARKS {
            instruments.push((bank.instrument(symbol).await, cents));
        }
        bank.approver("ada", Some("ada"), true).await;
        bank.approver("zoe", None, true).await;
        let key = SigningKey::from_bytes(&[3; 32]);
        let verifier = PermitVerifier::new([key.verifying_key()]);
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../config/limits.toml");
        let house = Limits::parse(&std::fs::read_to_string(file).unwrap()).unwrap();
        let one = async || Treasury {
            db: bank.login("treasury").await,
            config: Config { house: house.clone(), signer: PermitSigner::new(key.clone()) },
        };
        let treasuries = [one().await, one().await];
        let (desk, supervisor) = (bank.login("online_trading").await, bank.login("supervisor").await);
        let (clock, done, intents) = (AtomicI64::new(START.0), AtomicU64::new(0), Mutex::default());
        Self {
            bank,
            treasuries,
            desk,
            supervisor,
            verifier,
            users,
            instruments,
            intents,
            clock,
            done,
            ops,
            retries: Mutex::default(),
        }
    }

    pub fn now(&self) -> UnixMs {
        UnixMs(self.clock.load(Ordering::SeqCst))
    }

    pub fn wait(&self, ms: i64) {
        self.clock.fetch_add(ms, Ordering::SeqCst);
    }

    /// Operations begun.
    pub fn done(&self) -> u64 {
        self.done.load(Ordering::SeqCst)
    }

    /// One more, while there are any.
    pub fn take_op(&self) -> bool {
        self.done.fetch_add(1, Ordering::SeqCst) < self.ops
    }

    /// Something was left to be tried again.
    pub fn retried(&self, text: String) {
        *self.retries.lock().unwrap().entry(text).or_default() += 1;
    }

    pub fn retries(&self) -> String {
        format!("{:?}", self.retries.lock().unwrap())
    }

    pub fn marks(&self, now: UnixMs) -> Marks {
        let mark = |cents: i64| Mark { price: price_of(cents), received_at: now };
        self.instruments.iter().map(|(id, cents)| (id.clone(), mark(*cents))).collect()
    }
}

pub fn price_of(cents: i64) -> Price {
    Price::new(rust_decimal::Decimal::new(cents, 2)).unwrap()
}

pub const fn sight(marks: &Marks, now: UnixMs) -> Sight<'_> {
    Sight { marks, marks_before_midnight: None, kill_copies: &[], now, clock_skew_ms: 0 }
}
