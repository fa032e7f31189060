//! A raise of the kill level, with the database there and away: what is in force, and what is written down.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a failed step is a failed test

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use bus::{BusError, Published, Raw};
use domain::ids::UserId;
use domain::message::{Message, Payload};
use domain::person::{Act, PersonAct};
use domain::time::{Clock, UnixMs};
use ed25519_dalek::SigningKey;
use rails::book::Marks;
use rails::kill::KillCopy;
use rails::signature::sign_act;
use runtime::kill::{Way, Wish, file_path, read_file, read_whole, wish_path, write_file};
use runtime::{HandleError, Means, Record};
use serde_json::{Value, json};
use store::{Unit, approvals, kill};
use supervisor::services::{SignalHead, answer};
use supervisor::{Shared, Supervisor, config, halt, lifecycle};
use testkit::VirtualClock;

const NOW: UnixMs = UnixMs(1_800_000_000_000);

/// A supervisor over a store and a broker that may each be away.
struct House {
    folder: tempfile::TempDir,
    store: memory::Store,
    supervisor: Arc<Supervisor>,
    is_store_away: AtomicBool,
    is_store_silent: AtomicBool,
    is_broker_away: AtomicBool,
    /// Levels that everybody was told without the store, and by the outbox.
    told: Mutex<Vec<(&'static str, u8, i64)>>,
    clock: Arc<VirtualClock>,
}

impl Record for House {
    async fn begin(&self, _: UserId) -> Result<Unit, HandleError> {
        if self.is_store_silent.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        if self.is_store_away.load(Ordering::SeqCst) {
            return Err(HandleError::Retry("the store is away".to_owned()));
        }
        Ok(self.store.begin())
    }

    async fn commit(&self, unit: Unit, _: UserId, out: Vec<Message>) -> Result<(), HandleError> {
        unit.commit().await?;
        self.note("outbox", &out);
        Ok(())
    }
}

impl Means for House {
    fn now(&self) -> UnixMs {
        self.clock.now()
    }

    fn marks(&self) -> Marks {
        Marks::new()
    }

    fn new_id(&self) -> uuid::Uuid {
        uuid::Uuid::nil()
    }

    async fn emit(&self, _: UserId, out: Vec<Message>) -> Result<(), HandleError> {
        if self.is_broker_away.load(Ordering::SeqCst) {
            return Err(HandleError::Retry("the broker is away".to_owned()));
        }
        self.note("at once", &out);
        Ok(())
    }

    async fn pause(&self, _: u64) {
        // Patience ends when everything else has had its turn.
        for _ in 0..64 {
            tokio::task::yield_now().await;
        }
    }

    async fn forward(&self, _: &Raw, _: Option<UnixMs>) -> Result<Published, BusError> {
        Err(BusError::Config("no broker in this test".to_owned()))
    }
}

fn key() -> SigningKey {
    SigningKey::from_bytes(&[3; 32])
}

fn supervisor(folder: &std::path::Path) -> Arc<Supervisor> {
    let limits = concat!(env!("CARGO_MANIFEST_DIR"), "/../../config/limits.toml");
    let house = rails::limits::Limits::parse(&std::fs::read_to_string(limits).unwrap()).unwrap();
    let plan = lifecycle::Plan { agents: Vec::new(), run_dir: folder.to_owned() };
    let anchor_key = SigningKey::from_bytes(&[5; 32]);
    Arc::new(Supervisor::new(
        config::Config {
            house,
            plan,
            agents: lifecycle::Settings::of_nobody(),
            anchor_key,
            old_anchor_keys: Vec::new(),
        },
        folder,
    ))
}

impl House {
    /// Kill level 0 at epoch 1, and one approver.
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(VirtualClock::at(NOW));
        let store = memory::Store::new(clock.clone());
        let mut unit = store.begin();
        kill::raise(&mut unit, 0, "swarm up", "first start", NOW).await.unwrap();
        let public_key = hex::encode(key().verifying_key().as_bytes());
        let person = approvals::Approver { person_id: "operator".into(), handle: None, public_key, active: true };
        approvals::upsert_approver(&mut unit, &person).await.unwrap();
        unit.commit().await.unwrap();
        write_file(&file_path(folder.path()), 0, 1).unwrap();
        let house = Self {
            supervisor: supervisor(folder.path()),
            folder,
            store,
            is_store_away: AtomicBool::new(false),
            is_store_silent: AtomicBool::new(false),
            is_broker_away: AtomicBool::new(false),
            told: Mutex::default(),
            clock,
        };
        halt::record(house.shared(), &house).await.unwrap();
        house
    }

    /// Killed, and started again on the same folder.
    fn killed(self) -> Self {
        Self { supervisor: supervisor(self.folder.path()), ..self }
    }

    fn shared(&self) -> &Shared {
        self.supervisor.shared()
    }

    fn file(&self) -> PathBuf {
        file_path(self.folder.path())
    }

    fn store_is_away(&self, is_away: bool) {
        self.is_store_away.store(is_away, Ordering::SeqCst);
    }

    fn level(&self) -> u8 {
        *self.shared().level.borrow()
    }

    fn note(&self, how: &'static str, out: &[Message]) {
        let halts = out.iter().filter_map(|message| match &message.payload {
            Payload::HaltChanged(halt) => Some((how, halt.level, halt.epoch)),
            _ => None,
        });
        self.told.lock().unwrap().extend(halts);
    }

    fn told(&self) -> Vec<(&'static str, u8, i64)> {
        std::mem::take(&mut *self.told.lock().unwrap())
    }

    async fn ask(&self, subject: &str, body: &Value) -> Value {
        answer(self.shared(), self, subject, body.to_string().as_bytes(), SignalHead::default()).await
    }

    async fn halt(&self, level: u8) -> Value {
        self.ask("swarm.halt", &json!({ "level": level, "by": "anna", "reason": format!("to {level}"), "way": "cli" }))
            .await
    }

    async fn resume(&self, epoch: i64) -> Value {
        let act = PersonAct {
            schema: PersonAct::SCHEMA.into(),
            person_id: "operator".into(),
            what: Act::LowerKill { level: 0, epoch },
            reason: "looked at it".into(),
            signed_at: NOW,
        };
        self.ask("swarm.resume", &serde_json::to_value(sign_act(&key(), act).unwrap()).unwrap()).await
    }

    /// Rows as level and epoch, and what the governance chain says of raises: level, epoch, who, which way.
    async fn record(&self) -> (Vec<(u8, i64)>, Vec<String>) {
        let mut unit = self.store.begin();
        let rows = kill::since(&mut unit, 0).await.unwrap();
        let audit = self.store.snapshot().audit.clone();
        let raises = audit.values().filter(|row| row.kind == "kill_raised").map(|row| {
            let text = |name: &str| row.body[name].as_str().unwrap_or_default().to_owned();
            format!("{} {} {} {}", row.body["level"], row.body["epoch"], text("by"), text("way"))
        });
        (rows.iter().map(|row| (row.level, row.epoch)).collect(), raises.collect())
    }
}

#[tokio::test]
async fn with_the_database_there_a_raise_is_one_row_one_entry_and_one_message() {
    let house = House::new().await;
    assert_eq!(house.level(), 0);
    let said = house.halt(2).await;
    assert_eq!((&said["ok"], &said["level"], &said["epoch"]), (&json!(true), &json!(2), &json!(2)));
    assert_eq!((&said["recorded"], &said["changed"]), (&json!(true), &json!(true)));
    assert_eq!(house.told(), [("at once", 2, 2)]);
    assert_eq!(house.record().await, (vec![(0, 1), (2, 2)], vec!["2 2 anna cli".to_owned()]));
    assert_eq!(std::fs::read_to_string(house.file()).unwrap(), "2 2\n");
    for level in [1, 2] {
        let said = house.halt(level).await;
        assert_eq!((&said["level"], &said["changed"], &said["recorded"]), (&json!(2), &json!(false), &json!(true)));
    }
    assert_eq!((house.told(), house.record().await.0.len(), house.level()), (vec![], 2, 2));
}

#[tokio::test]
async fn without_the_database_a_raise_is_in_force_and_everybody_is_told_and_the_record_follows_once() {
    for is_killed in [false, true] {
        let mut house = House::new().await;
        house.store_is_away(true);
        for level in [1, 3] {
            let said = house.halt(level).await;
            assert_eq!((&said["ok"], &said["level"], &said["recorded"]), (&json!(true), &json!(level), &json!(false)));
            assert!(said["detail"].as_str().unwrap().contains("in force"), "{said}");
        }
        assert_eq!(house.told(), [("at once", 1, 2), ("at once", 3, 3)]);
        assert_eq!((house.level(), read_file(&house.file())), (3, Some(KillCopy { level: 3, epoch: 3 })));
        if is_killed {
            house = house.killed();
            assert_eq!(house.level(), 3, "the file says so");
        }
        assert!(halt::record(house.shared(), &house).await.is_err());
        house.store_is_away(false);
        for _ in 0..2 {
            halt::record(house.shared(), &house).await.unwrap();
            let raises = vec!["1 2 anna cli".to_owned(), "3 3 anna cli".to_owned()];
            assert_eq!(house.record().await, (vec![(0, 1), (1, 2), (3, 3)], raises), "killed: {is_killed}");
            assert_eq!(std::fs::read_to_string(house.file()).unwrap(), "3 3\n");
        }
        assert_eq!(house.level(), 3);
    }
}

#[tokio::test]
async fn a_database_that_hangs_holds_up_no_raise() {
    let house = House::new().await;
    house.is_store_silent.store(true, Ordering::SeqCst);
    let said = house.halt(2).await;
    assert_eq!((&said["level"], &said["recorded"], house.level()), (&json!(2), &json!(false), 2));
    assert_eq!(house.told(), [("at once", 2, 2)]);
}

#[tokio::test]
async fn what_could_not_be_told_at_once_is_told_with_the_record() {
    let house = House::new().await;
    house.is_broker_away.store(true, Ordering::SeqCst);
    house.halt(2).await;
    assert_eq!(house.told(), [("outbox", 2, 2)]);
}

#[tokio::test]
async fn a_row_made_meanwhile_and_a_raise_without_the_database_end_at_the_higher_of_the_two() {
    for (meanwhile, raise) in [(3, 2), (2, 3), (1, 1)] {
        let house = House::new().await;
        house.store_is_away(true);
        house.halt(raise).await;
        let mut unit = house.store.begin();
        kill::raise(&mut unit, meanwhile, "admin", "by hand", NOW).await.unwrap();
        unit.commit().await.unwrap();
        house.store_is_away(false);
        halt::record(house.shared(), &house).await.unwrap();
        let higher = meanwhile.max(raise);
        assert_eq!(house.record().await.0.last(), Some(&(higher, 3)), "{meanwhile} {raise}");
        assert_eq!((house.level(), read_file(&house.file()).unwrap().level), (higher, higher));
    }
}

#[tokio::test]
async fn nobody_lowers_a_raise_that_they_can_not_have_seen_in_the_record() {
    let house = House::new().await;
    house.halt(1).await;
    house.store_is_away(true);
    house.halt(2).await;
    house.store_is_away(false);
    let said = house.resume(2).await;
    assert_eq!(said["code"], "STALE_EPOCH", "{said}");
    assert_eq!((house.level(), house.record().await.0), (2, vec![(0, 1), (1, 2), (2, 3)]));
    let said = house.resume(3).await;
    assert_eq!((&said["ok"], &said["level"], house.level()), (&json!(true), &json!(0), 0));
    assert_eq!(std::fs::read_to_string(house.file()).unwrap(), "0 4\n");
}

#[tokio::test]
async fn a_file_named_halt_raises_and_is_laid_aside_under_the_epoch_that_it_got() {
    for (text, level, without_store) in [("", 1, false), ("3", 3, false), ("now!", 1, false), ("2", 2, true)] {
        let house = House::new().await;
        house.store_is_away(without_store);
        let wish = wish_path(&house.file());
        std::fs::write(&wish, text).unwrap();
        halt::take_wish(house.shared(), &house).await;
        assert_eq!(house.level(), level, "{text:?}");
        assert!(!wish.exists() && wish.with_file_name("halt.taken-2").exists(), "{text:?}");
        assert_eq!(read_file(&house.file()), Some(KillCopy { level, epoch: 2 }));
        house.store_is_away(false);
        halt::record(house.shared(), &house).await.unwrap();
        assert_eq!(house.record().await.1, [format!("{level} 2 file file")]);
    }
}

#[tokio::test]
async fn a_wish_that_no_disk_takes_stays_and_is_in_force() {
    let house = House::new().await;
    // The file copy can't be replaced: a folder that is not empty stands in its place.
    std::fs::remove_file(house.file()).unwrap();
    std::fs::create_dir(house.file()).unwrap();
    std::fs::write(house.file().join("x"), "").unwrap();
    let wish = wish_path(&house.file());
    std::fs::write(&wish, "2").unwrap();
    halt::take_wish(house.shared(), &house).await;
    assert!(wish.exists(), "the only copy on disk");
    assert_eq!(house.level(), 2);
    assert_eq!(house.record().await.1, ["2 2 file file"], "what the file did not take is written down all the same");
}

#[tokio::test]
async fn a_file_that_somebody_else_wrote_is_written_down_as_theirs_or_as_nobodys() {
    let house = House::new().await;
    let wish = Wish { level: 2, by: "bela".into(), way: Way::Cli, reason: "no answer".into() };
    let latched = runtime::kill::latch(&house.file(), &wish, None, &[], NOW);
    assert!(latched.is_new);
    halt::record(house.shared(), &house).await.unwrap();
    write_file(&house.file(), 3, 7).unwrap();
    halt::record(house.shared(), &house).await.unwrap();
    assert_eq!(house.record().await.1, ["2 2 bela cli", "3 7 unknown file"]);
    write_file(&house.file(), 0, 9).unwrap();
    halt::record(house.shared(), &house).await.unwrap();
    assert_eq!((house.level(), read_file(&house.file()).unwrap().level), (3, 3), "no file lowers");
    assert_eq!(house.record().await.1.len(), 2);
}

#[tokio::test]
async fn at_the_start_the_level_is_what_the_file_says_and_at_least_one() {
    for (text, level) in [(Some("0 1"), 1), (Some("3 4"), 3), (Some("?"), 1), (None, 1)] {
        let folder = tempfile::tempdir().unwrap();
        if let Some(text) = text {
            std::fs::write(file_path(folder.path()), text).unwrap();
        }
        assert_eq!(*supervisor(folder.path()).shared().level.borrow(), level, "{text:?}");
    }
}

#[tokio::test]
async fn a_file_that_can_not_be_read_counts_as_one_until_a_person_acts() {
    let house = House::new().await;
    std::fs::write(house.file(), "spoiled").unwrap();
    halt::record(house.shared(), &house).await.unwrap();
    assert_eq!((house.level(), read_whole(&house.file())), (1, None));
    house.halt(1).await;
    assert_eq!(house.resume(2).await["ok"], true);
    assert_eq!((house.level(), read_file(&house.file())), (0, Some(KillCopy { level: 0, epoch: 3 })));
}
