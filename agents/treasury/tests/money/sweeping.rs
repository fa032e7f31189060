//! The watch over everybody who holds something: whom it locks, and whom it leaves alone.

use std::sync::{Mutex, PoisonError};

use bus::{BusError, Published, Raw};
use domain::ids::UserId;
use domain::market::{InstrumentId, Mark};
use domain::message::{Message, Payload};
use domain::time::{DAY_MS, UnixMs};
use rails::book::{Change, Marks, Position};
use rails::signature::PermitSigner;
use runtime::{HandleError, Means, Record};
use serde_json::json;
use store::{Db, Unit};
use testkit::bank::Bank;
use treasury::Treasury;
use treasury::config::Config;
use treasury::sweep::{Round, sweep};

use crate::scene::{house, price, quantity, usd};

/// Treasury's record: who was given a transaction of their own, and what was told.
struct Desk {
    db: Db,
    marks: Marks,
    now: UnixMs,
    looked_at: Mutex<Vec<UserId>>,
    told: Mutex<Vec<(UserId, String)>>,
}

fn nobody() -> UserId {
    UserId(uuid::Uuid::nil())
}

impl Record for Desk {
    async fn begin(&self, user: UserId) -> Result<Unit, HandleError> {
        if user == nobody() {
            return Ok(self.db.begin().await?);
        }
        self.looked_at.lock().unwrap_or_else(PoisonError::into_inner).push(user);
        Ok(self.db.begin_for(user).await?)
    }

    async fn commit(&self, unit: Unit, user: UserId, out: Vec<Message>) -> Result<(), HandleError> {
        unit.commit().await?;
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        for message in out {
            if let Payload::Notice(notice) = message.payload {
                told.push((user, notice.code));
            }
        }
        Ok(())
    }
}

impl Means for Desk {
    fn now(&self) -> UnixMs {
        self.now
    }

    fn marks(&self) -> Marks {
        self.marks.clone()
    }

    fn new_id(&self) -> uuid::Uuid {
        uuid::Uuid::nil()
    }

    async fn emit(&self, _user: UserId, _out: Vec<Message>) -> Result<(), HandleError> {
        Err(HandleError::Retry("no broker in this test".to_owned()))
    }

    async fn pause(&self, ms: u64) {
        tokio::time::sleep(std::time::Duration::from_millis(ms)).await;
    }

    async fn forward(&self, _raw: &Raw, _until: Option<UnixMs>) -> Result<Published, BusError> {
        Err(BusError::Config("no broker in this test".to_owned()))
    }
}

impl Desk {
    /// Who was looked at under the lock, and what they were told, since the last time.
    fn seen(&self) -> (Vec<UserId>, Vec<(UserId, String)>) {
        let take = |list: &Mutex<Vec<UserId>>| std::mem::take(&mut *list.lock().unwrap());
        (take(&self.looked_at), std::mem::take(&mut *self.told.lock().unwrap()))
    }

    /// As many sweeps as a round over all holders takes, its pause included.
    async fn round(&self, treasury: &Treasury, round: &mut Round) -> (Vec<UserId>, Vec<(UserId, String)>) {
        for _ in 0..3 {
            sweep(treasury, self, round).await.unwrap();
        }
        self.seen()
    }
}

/// An account of `cash` since `since`, with one unit of `instrument` at 100.
async fn holder(bank: &Bank, db: &Db, handle: &str, since: UnixMs, instrument: &InstrumentId, cash: &str) -> UserId {
    let user = bank.account(handle, "20000", json!({}), since).await;
    let position = Position {
        quantity: quantity("1"),
        cost: usd("100"),
        trade_cost: usd("100"),
        trade_realised: usd("0"),
        opened_at: since,
    };
    let changes = [Change::Position(instrument.clone(), position), Change::Cash(usd(cash))];
    let mut unit = db.begin_for(user).await.unwrap();
    store::ledger::apply(&mut unit, user, &changes, since).await.unwrap();
    unit.commit().await.unwrap();
    user
}

#[tokio::test]
async fn only_a_day_to_start_a_loss_at_its_limit_or_an_unreadable_ledger_is_looked_at_under_the_lock() {
    let bank = Bank::open().await;
    let db = bank.login("treasury").await;
    let btc = bank.instrument("BTCUSDT").await;
    let now = db.now().await.unwrap();
    let calm = holder(&bank, &db, "calm", now, &btc, "19900").await;
    let new_day = holder(&bank, &db, "new_day", now.plus_ms(-2 * DAY_MS), &btc, "19900").await;
    // 18,900 + 100 of 20,000 is 5 % less; a cent more is not.
    let at_limit = holder(&bank, &db, "at_limit", now, &btc, "18900").await;
    let above = holder(&bank, &db, "above", now, &btc, "18900.01").await;
    let mark = Mark { price: price("100"), received_at: now };
    let desk = Desk { db, marks: Marks::from([(btc, mark)]), now, looked_at: Mutex::default(), told: Mutex::default() };
    let signer = PermitSigner::new(ed25519_dalek::SigningKey::from_bytes(&[3; 32]));
    let folder = testkit::servers::fresh_folder("sweeping");
    let treasury = Treasury::new(Config { house: house(), signer }, &folder);
    let mut round = Round::default();
    let (mut looked_at, told) = desk.round(&treasury, &mut round).await;
    looked_at.sort();
    let mut wanted = vec![new_day, at_limit];
    wanted.sort();
    assert_eq!(looked_at, wanted, "not {calm} and not {above}");
    assert_eq!(told, [(at_limit, "DAILY_LOSS".to_owned())]);
    assert_eq!(bank.count("SELECT count(*) FROM trade_audit WHERE kind = 'day_started'").await, 1);
    assert_eq!(desk.round(&treasury, &mut round).await, (vec![at_limit], Vec::new()), "told once a day");

    bank.run(
        "UPDATE positions SET quantity = 10000000000000000000
         WHERE user_id = (SELECT user_id FROM users WHERE handle = 'calm')",
    )
    .await;
    let (mut looked_at, _) = desk.round(&treasury, &mut round).await;
    looked_at.sort();
    let mut wanted = vec![calm, at_limit];
    wanted.sort();
    assert_eq!(looked_at, wanted, "a ledger that can't be read is looked at, and hides nobody behind it");
}

#[tokio::test]
async fn everything_is_sold_from_kill_level_three_on() {
    for (level, sold) in [(0, 0), (2, 0), (3, 1), (4, 1)] {
        let bank = Bank::open().await;
        let db = bank.login("treasury").await;
        let btc = bank.instrument("BTCUSDT").await;
        let now = db.now().await.unwrap();
        holder(&bank, &db, "calm", now, &btc, "19900").await;
        let marks = Marks::from([(btc, Mark { price: price("100"), received_at: now })]);
        let desk = Desk { db, marks, now, looked_at: Mutex::default(), told: Mutex::default() };
        let signer = PermitSigner::new(ed25519_dalek::SigningKey::from_bytes(&[3; 32]));
        let folder = testkit::servers::fresh_folder("sweeping");
        runtime::kill::write_file(&runtime::kill::file_path(&folder), 0, 1).unwrap();
        let treasury = Treasury::new(Config { house: house(), signer }, &folder);
        bank.kill(level).await;
        for _ in 0..2 {
            desk.round(&treasury, &mut Round::default()).await;
            assert_eq!(bank.count("SELECT count(*) FROM permits").await, sold, "level {level}");
        }
    }
}
