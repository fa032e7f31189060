//! One user with $20,000, BTC at 100, two people who may decide, and the processes' own code on their own logins.

use std::sync::atomic::{AtomicI64, AtomicU16, Ordering};

use domain::canonical::Sha256Digest;
use domain::ids::{ApprovalId, IntentId, MessageId, UserId};
use domain::link_code;
use domain::market::{InstrumentId, Mark};
use domain::message::{Message, Payload};
use domain::money::{Price, Quantity};
use domain::order::{Amount, OrderIntent, OrderType, Origin, Permit, Side, TimeInForce};
use domain::person::{Act, Change, PersonAct, SignedAct, Vote};
use domain::telegram_button::{self, Press};
use domain::time::UnixMs;
use ed25519_dalek::SigningKey;
use rails::book::Marks;
use rails::limits::Limits;
use rails::signature::{PermitSigner, sign_act};
use rails::totp;
use runtime::HandleError;
use serde_json::{Value, json};
use store::approvals::{ApprovalRow, ApprovalStatus};
use store::telegram::Prompt;
use store::{Db, Unit};
use supervisor::answer::Refused;
use supervisor::gateway::{self, Done, Entry, Proof, Said};
use testkit::bank::{Bank, person_key};
use treasury::config::Config;
use treasury::decide::Sight;

pub const BUTTON_KEY: &[u8] = b"a key that only telegram_jarvis holds";
const SECRET: &[u8] = b"an authenticator secret";

pub struct Scene {
    pub bank: Bank,
    pub treasury: Db,
    pub supervisor: Db,
    pub telegram: Db,
    pub config: Config,
    pub user: UserId,
    pub btc: InstrumentId,
    signals: AtomicU16,
    updates: AtomicI64,
}

pub fn quantity(text: &str) -> Quantity {
    Quantity::parse(text).unwrap()
}

pub fn less(text: &str) -> Change {
    Change { quantity: Some(quantity(text)), worst_price: None }
}

/// What came of a word: the status it led to, or the code of the no.
pub type Came = Result<String, &'static str>;

pub fn status(word: &str) -> Came {
    Ok(word.to_owned())
}

impl Scene {
    /// `operator`, who asks, and `zoe` may decide.
    pub async fn new() -> Self {
        let bank = Bank::open().await;
        let now = bank.admin.now().await.unwrap();
        let user = bank.account("operator", "20000", json!({}), now).await;
        let btc = bank.instrument("BTCUSDT").await;
        let (treasury, supervisor) = (bank.login("treasury").await, bank.login("supervisor").await);
        let telegram = bank.login("telegram_jarvis").await;
        bank.approver("operator", Some("operator"), true).await;
        bank.approver("zoe", None, true).await;
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../config/limits.toml");
        let house = Limits::parse(&std::fs::read_to_string(file).unwrap()).unwrap();
        let config = Config { house, signer: PermitSigner::new(SigningKey::from_bytes(&[3; 32])) };
        let (signals, updates) = (AtomicU16::new(0), AtomicI64::new(1));
        Self { bank, treasury, supervisor, telegram, config, user, btc, signals, updates }
    }

    pub async fn now(&self) -> UnixMs {
        self.bank.admin.now().await.unwrap()
    }

    async fn with_sight<T>(&self, act: impl AsyncFnOnce(Sight<'_>) -> T) -> T {
        let now = self.now().await;
        let mark = Mark { price: Price::parse("100").unwrap(), received_at: now };
        let marks = Marks::from([(self.btc.clone(), mark)]);
        act(Sight { marks: &marks, marks_before_midnight: None, kill_copies: &[], now, clock_skew_ms: 0 }).await
    }

    /// An order for so many BTC at 100, which the operator asks for.
    pub async fn intent(&self, amount: &str) -> OrderIntent {
        let number = self.signals.fetch_add(1, Ordering::Relaxed);
        let signal_id = MessageId::of_person(self.user, &number.to_string());
        OrderIntent {
            intent_id: IntentId::of_leg(signal_id, 0),
            signal_id,
            leg: 0,
            user_id: self.user,
            origin: Origin::Person { handle: "operator".to_owned() },
            instrument: self.btc.clone(),
            side: Side::Buy,
            order_type: OrderType::Limit,
            time_in_force: TimeInForce::ImmediateOrCancel,
            amount: Amount::Exactly(quantity(amount)),
            worst_price: Price::parse("100").unwrap(),
            reduce_only: false,
            valid_until: self.now().await.plus_ms(60_000),
            slices: None,
            reasoning: "a test".to_owned(),
            opinion: domain::review::Opinion::NotAsked,
        }
    }

    pub async fn decide(&self, intent: &OrderIntent) -> Vec<Message> {
        self.with_sight(async |sight| {
            let mut unit = self.treasury.begin().await.unwrap();
            let out = treasury::decide::decide(&mut unit, &self.config, intent, sight).await.unwrap();
            unit.commit().await.unwrap();
            out
        })
        .await
    }

    /// An order that waits for people.
    pub async fn ask(&self, amount: &str) -> ApprovalRow {
        let out = self.decide(&self.intent(amount).await).await;
        let id = out.iter().find_map(|message| match &message.payload {
            Payload::ApprovalRequest(request) => Some(request.approval_id),
            _ => None,
        });
        self.row(id.expect("a question")).await
    }

    pub async fn row(&self, id: ApprovalId) -> ApprovalRow {
        store::approvals::get(&mut self.bank.unit().await, id).await.unwrap().unwrap()
    }

    pub async fn status(&self, row: &ApprovalRow) -> ApprovalStatus {
        self.row(row.approval_id).await.status
    }

    pub async fn try_settle(&self, row: &ApprovalRow) -> Result<Vec<Message>, HandleError> {
        self.with_sight(async |sight| {
            let mut unit = self.treasury.begin().await?;
            let id = row.approval_id;
            let out = treasury::approval::settle(&mut unit, &self.config, row.user_id, id, sight).await?;
            unit.commit().await?;
            Ok(out)
        })
        .await
    }

    /// What treasury does with a request, and the permit when there is one.
    pub async fn settle(&self, row: &ApprovalRow) -> Option<Permit> {
        let out = self.try_settle(row).await.unwrap();
        out.into_iter().find_map(|m| if let Payload::Permit(permit) = m.payload { Some(permit) } else { None })
    }

    /// Treasury does what is due, as its sweep does, however often it must.
    pub async fn settle_all(&self) -> Vec<Permit> {
        let mut permits = Vec::new();
        for _ in 0..4 {
            let now = self.now().await;
            let due = store::approvals::due(&mut self.treasury.begin().await.unwrap(), now).await.unwrap();
            for (_, id) in due {
                permits.extend(self.settle(&self.row(id).await).await);
            }
        }
        permits
    }

    /// Hands a word to the gateway, as the services do.
    pub async fn submit(&self, entry: Entry) -> Came {
        let mut unit = self.supervisor.begin().await.unwrap();
        let done = gateway::submit_entry(&mut unit, &self.config.house, entry).await.unwrap();
        self.finish(unit, done).await
    }

    async fn finish(&self, unit: Unit, done: Done) -> Came {
        if done.changed {
            unit.commit().await.unwrap();
        }
        came(done.answer)
    }

    /// A word signed with the key of that name.
    pub async fn cli(&self, person: &str, row: &ApprovalRow, said: Said) -> Came {
        let signed = self.signed(person, row, said).await;
        self.submit(gateway::entry_of_act(signed).unwrap()).await
    }

    pub async fn signed(&self, person: &str, row: &ApprovalRow, said: Said) -> SignedAct {
        let (approval_id, digest) = (row.approval_id, row.digest);
        let what = match said {
            Said::Approve => Act::Vote { approval_id, digest, vote: Vote::Approve },
            Said::Reject => Act::Vote { approval_id, digest, vote: Vote::Reject },
            Said::Modify(change) => Act::Modify { approval_id, digest, change },
            Said::Revoke => Act::Revoke { approval_id, digest },
        };
        self.act(person, what).await
    }

    pub async fn act(&self, person: &str, what: Act) -> SignedAct {
        let act = PersonAct {
            schema: PersonAct::SCHEMA.to_owned(),
            person_id: person.to_owned(),
            what,
            reason: "looked at it".to_owned(),
            signed_at: self.now().await,
        };
        sign_act(&person_key(person), act).unwrap()
    }

    /// Gives a person an authenticator.
    pub async fn enroll(&self, person: &str) {
        let mut unit = self.bank.unit().await;
        store::totp::set_secret(&mut unit, person, SECRET, UnixMs(1)).await.unwrap();
        unit.commit().await.unwrap();
    }

    /// The code of now, or of a step beside it.
    pub async fn code(&self, beside: i64) -> String {
        totp::code(SECRET, totp::step_of(self.now().await) + beside).unwrap()
    }

    pub async fn web(&self, person: &str, row: &ApprovalRow, said: Said, code: &str) -> Came {
        self.submit(Entry {
            person_id: person.to_owned(),
            approval_id: row.approval_id,
            digest: row.digest,
            said,
            reason: String::new(),
            proof: Proof::WebTotp { code: code.to_owned() },
        })
        .await
    }

    /// Binds a Telegram account to a person, by a code that they sign for; its private chat has the account's number.
    pub async fn link(&self, person: &str, account: i64) {
        let code = link_code::of_bits([1, 2, 3, 4, u8::try_from(account & 255).unwrap()]);
        let code_hash = link_code::hash(&code).unwrap();
        let signed = self.act(person, Act::LinkTelegram { code_hash }).await;
        let mut unit = self.supervisor.begin().await.unwrap();
        gateway::make_link(&mut unit, &signed).await.unwrap().unwrap();
        unit.commit().await.unwrap();
        let now = self.now().await;
        let mut unit = self.telegram.begin().await.unwrap();
        let bound = store::telegram::use_link(&mut unit, code_hash, account, account, now).await.unwrap();
        assert_eq!(bound.as_deref(), Some(person));
        unit.commit().await.unwrap();
    }

    /// Shows a request to a person under a message of that number.
    pub async fn prompt(&self, row: &ApprovalRow, person: &str, chat_id: i64, message_id: i64) {
        let sent_at = self.now().await;
        let mut unit = self.telegram.begin().await.unwrap();
        let prompt = Prompt {
            approval_id: row.approval_id,
            person_id: person.to_owned(),
            chat_id,
            message_id,
            sent_at,
            edited_at: None,
            is_final: false,
        };
        assert!(store::telegram::put_prompt(&mut unit, &prompt).await.unwrap());
        unit.commit().await.unwrap();
    }

    /// An update that a press makes.
    pub fn pressed(&self, row: &ApprovalRow, press: Press, account: i64, message_id: i64) -> Value {
        let update_id = self.updates.fetch_add(1, Ordering::Relaxed);
        json!({
            "update_id": update_id,
            "callback_query": {
                "id": update_id.to_string(),
                "from": { "id": account, "is_bot": false, "first_name": "Zoe" },
                "message": { "message_id": message_id, "date": 1, "chat": { "id": account, "type": "private" } },
                "chat_instance": "1",
                "data": telegram_button::encode(BUTTON_KEY, row.approval_id, press, account),
            },
        })
    }

    /// What telegram_jarvis and the gateway do with an update.
    pub async fn telegram(&self, raw: Value) -> Came {
        let update_id = raw["update_id"].as_i64().unwrap();
        let now = self.now().await;
        let mut unit = self.telegram.begin().await.unwrap();
        store::telegram::put_update(&mut unit, update_id, &raw, now).await.unwrap();
        unit.commit().await.unwrap();
        let mut unit = self.supervisor.begin().await.unwrap();
        match gateway::entry_of_update(&mut unit, update_id).await.unwrap() {
            Ok(entry) => {
                drop(unit);
                self.submit(entry).await
            }
            Err(refused) => Err(refused.code),
        }
    }

    pub async fn press(&self, row: &ApprovalRow, press: Press, account: i64, message_id: i64) -> Came {
        self.telegram(self.pressed(row, press, account, message_id)).await
    }

    /// Signed permits, orders that hold money, and whether the audit chains hold together.
    pub async fn permits_and_reservations(&self) -> (i64, i64) {
        self.bank.assert_audit_valid().await;
        let permits = self.bank.count("SELECT count(*) FROM permits").await;
        (permits, self.bank.count("SELECT count(*) FROM reservations").await)
    }

    pub async fn words(&self, row: &ApprovalRow) -> usize {
        store::approvals::entries(&mut self.bank.unit().await, row.approval_id).await.unwrap().len()
    }
}

fn came(answer: Result<Value, Refused>) -> Came {
    answer.map(|answer| answer["status"].as_str().unwrap().to_owned()).map_err(|refused| refused.code)
}

/// The digest of another envelope.
pub const OTHER_DIGEST: Sha256Digest = Sha256Digest([9; 32]);
