//! What the double knows: chats, messages, updates that wait, presses that wait for an answer, and what was done wrong.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use domain::time::UnixMs;
use serde_json::{Value, json};
use tokio::time::{Duration, Instant};

use super::{BOT_NAME, Fault};

/// How long a press may stay unanswered.
pub(super) const QUERY_LIVES: Duration = Duration::from_secs(30);
/// The id of the bot: the part of its token before the colon.
pub(super) const BOT_ID: i64 = 7_000_000_001;
/// A message costs its chat so much time.
const SECOND: Duration = Duration::from_secs(1);
/// How much of that may be owed when one more comes: a short burst of three, and a tenth of a second for the network.
const BURST: Duration = Duration::from_millis(2_100);
/// Messages to all chats within a second.
const MOST_A_SECOND: usize = 30;
/// Messages to one group within a minute.
const MOST_A_MINUTE: usize = 20;

/// A button under a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Button {
    /// What it says.
    pub text: String,
    /// What a press on it sends.
    pub data: String,
}

/// A message of the bot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    /// In which chat.
    pub chat: i64,
    /// Its id, unique in the chat.
    pub id: i64,
    /// What people read: text or caption after its entities were parsed.
    pub text: String,
    /// As the bot sent it.
    pub source: String,
    /// Its buttons, row by row.
    pub buttons: Vec<Vec<Button>>,
    /// A picture, as it came.
    pub photo: Option<Vec<u8>>,
    /// Earlier texts, oldest first.
    pub history: Vec<String>,
}

impl Sent {
    /// The button whose text begins with `label`.
    #[must_use]
    pub fn button(&self, label: &str) -> Option<&Button> {
        self.buttons.iter().flatten().find(|button| button.text.starts_with(label))
    }

    /// It in one line, for a failed test.
    #[must_use]
    pub fn describe(&self) -> String {
        let buttons: Vec<&str> = self.buttons.iter().flatten().map(|button| button.text.as_str()).collect();
        let photo = self.photo.as_ref().map_or(String::new(), |bytes| format!(" [photo of {} bytes]", bytes.len()));
        format!("#{}{photo} {:?} buttons {buttons:?}", self.id, self.text)
    }
}

/// An answer to a press.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// To which press.
    pub callback_id: String,
    /// What the person saw.
    pub text: String,
    /// In a window of its own.
    pub alert: bool,
}

/// A press that waits for its answer.
#[derive(Debug, Clone)]
pub(super) struct Query {
    pub since: Instant,
    pub answered: bool,
}

/// Where updates are delivered to.
#[derive(Debug, Clone)]
pub(super) struct Webhook {
    pub url: String,
    pub secret: Option<String>,
}

/// A chat.
#[derive(Debug, Clone)]
pub(super) struct Chat {
    pub group: bool,
    pub name: String,
    /// The person blocked the bot.
    pub blocked: bool,
    next_message: i64,
}

/// Everything.
#[derive(Debug)]
pub(super) struct World {
    begun: (Instant, UnixMs),
    pub chats: BTreeMap<i64, Chat>,
    pub messages: Vec<Sent>,
    pub updates: VecDeque<Value>,
    next_update: i64,
    next_query: u64,
    pub queries: BTreeMap<String, Query>,
    /// Presses as they were sent, by their id.
    pub pressed: BTreeMap<String, Value>,
    pub answers: Vec<Answer>,
    pub webhook: Option<Webhook>,
    pub commands: Vec<String>,
    pub faults: Vec<(String, Fault)>,
    pub outage: Option<Fault>,
    pub refused_until: BTreeMap<String, Instant>,
    /// Which poll is the latest; an earlier one that still waits is ended with 409.
    pub poll: u64,
    /// Polls that wait for an update.
    pub polls_waiting: usize,
    /// Updates that were in the answer to a poll.
    pub handed_out: BTreeSet<i64>,
    pub calls: Vec<String>,
    pub violations: Vec<String>,
    sent_at: Vec<(Instant, i64)>,
    /// When the seconds of all messages to a chat are over.
    owes_until: BTreeMap<i64, Instant>,
    reported: BTreeSet<String>,
}

impl World {
    pub(super) fn new(now: UnixMs) -> Self {
        Self {
            begun: (Instant::now(), now),
            chats: BTreeMap::new(),
            messages: Vec::new(),
            updates: VecDeque::new(),
            next_update: 501_000_001,
            next_query: 1,
            queries: BTreeMap::new(),
            pressed: BTreeMap::new(),
            answers: Vec::new(),
            webhook: None,
            commands: Vec::new(),
            faults: Vec::new(),
            outage: None,
            refused_until: BTreeMap::new(),
            poll: 0,
            polls_waiting: 0,
            handed_out: BTreeSet::new(),
            calls: Vec::new(),
            violations: Vec::new(),
            sent_at: Vec::new(),
            owes_until: BTreeMap::new(),
            reported: BTreeSet::new(),
        }
    }

    /// Seconds since the epoch, by its own clock.
    pub(super) fn date(&self) -> i64 {
        let (begun, at) = self.begun;
        (at.0 + i64::try_from(begun.elapsed().as_millis()).unwrap_or(0)) / 1_000
    }

    /// Writes down what a client may not do, once.
    pub(super) fn violation(&mut self, what: String) {
        if self.reported.insert(what.clone()) {
            self.violations.push(what);
        }
    }

    pub(super) fn add_chat(&mut self, id: i64, group: bool, name: &str) {
        let chat = Chat { group, name: name.to_owned(), blocked: false, next_message: 1 };
        self.chats.entry(id).or_insert(chat);
    }

    /// The next id of a message in a chat; people's messages take one too.
    pub(super) fn message_id(&mut self, chat: i64) -> i64 {
        let chat = self.chats.get_mut(&chat).expect("a chat that was made");
        let id = chat.next_message;
        chat.next_message += 1;
        id
    }

    /// The id the next update gets is moved by `by`.
    pub(super) fn jump(&mut self, by: i64) {
        self.next_update += by;
    }

    /// An update that waits to be fetched; gives its id.
    pub(super) fn update(&mut self, kind: &str, body: Value) -> i64 {
        let id = self.next_update;
        self.next_update += 1;
        self.updates.push_back(json!({ "update_id": id, kind: body }));
        id
    }

    pub(super) fn query(&mut self) -> String {
        let id = format!("{}", 4_000_000_000_000_000_000_u64 + self.next_query);
        self.next_query += 1;
        self.queries.insert(id.clone(), Query { since: Instant::now(), answered: false });
        id
    }

    pub(super) fn chat_json(&self, id: i64) -> Value {
        let chat = self.chats.get(&id).expect("a chat that was made");
        if chat.group {
            json!({ "id": id, "type": "group", "title": chat.name, "all_members_are_administrators": true })
        } else {
            json!({ "id": id, "type": "private", "first_name": chat.name })
        }
    }

    pub(super) fn message_json(&self, message: &Sent) -> Value {
        let bot = json!({ "id": BOT_ID, "is_bot": true, "first_name": "Swarm", "username": BOT_NAME });
        let mut body = json!({
            "message_id": message.id, "date": self.date(), "chat": self.chat_json(message.chat), "from": bot,
        });
        if !message.history.is_empty() {
            body["edit_date"] = json!(self.date());
        }
        if message.photo.is_some() {
            let photo =
                json!({ "file_id": "AgAC-photo", "file_unique_id": "AQAD", "width": 1, "height": 1, "file_size": 1 });
            body["photo"] = json!([photo]);
            body["caption"] = json!(message.text);
        } else {
            body["text"] = json!(message.text);
        }
        if !message.buttons.is_empty() {
            let button = |b: &Button| json!({ "text": b.text, "callback_data": b.data });
            let rows: Vec<Vec<Value>> = message.buttons.iter().map(|row| row.iter().map(button).collect()).collect();
            body["reply_markup"] = json!({ "inline_keyboard": rows });
        }
        body
    }

    /// Whether one more message may go to `chat` now; else after how many seconds. Of what the real server says of its limits:
    /// one message a second in a chat, short bursts let pass, 30 a second in all, 20 a minute in a group.
    pub(super) fn may_send(&mut self, chat: i64) -> Result<(), u64> {
        let now = Instant::now();
        let age = |at: Instant| now.duration_since(at);
        self.sent_at.retain(|(at, _)| age(*at) < Duration::from_secs(60));
        let all = self.sent_at.iter().filter(|(at, _)| age(*at) < Duration::from_secs(1)).count();
        let here = self.sent_at.iter().filter(|(_, to)| *to == chat).count();
        if self.chats.get(&chat).is_some_and(|chat| chat.group) && here >= MOST_A_MINUTE {
            self.violation(format!("more than {MOST_A_MINUTE} messages a minute to the group {chat}"));
            return Err(20);
        }
        let owed = self.owes_until.get(&chat).map_or(Duration::ZERO, |until| until.duration_since(now));
        if owed > BURST {
            self.violation(format!("more than one message a second to the chat {chat}, for longer than a short burst"));
            return Err((owed - BURST).as_secs() + 1);
        }
        if all >= MOST_A_SECOND {
            self.violation(format!("more than {MOST_A_SECOND} messages a second"));
            return Err(1);
        }
        self.owes_until.insert(chat, now + owed + SECOND);
        self.sent_at.push((now, chat));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_group_takes_twenty_messages_a_minute() {
        let mut world = World::new(UnixMs(0));
        world.add_chat(-5, true, "Traders");
        world.add_chat(7, false, "Anna");
        for _ in 0..20 {
            for chat in [-5, 7] {
                assert_eq!(world.may_send(chat), Ok(()));
            }
            tokio::time::advance(Duration::from_secs(2)).await;
        }
        assert_eq!((world.may_send(-5), world.may_send(7)), (Err(20), Ok(())));
        tokio::time::advance(Duration::from_secs(25)).await;
        assert_eq!(world.may_send(-5), Ok(()));
    }

    /// How many of `count` messages at that distance are let pass before one is refused.
    async fn let_pass(count: usize, apart: Duration) -> usize {
        let mut world = World::new(UnixMs(0));
        world.add_chat(7, false, "Anna");
        for passed in 0..count {
            if let Err(wait) = world.may_send(7) {
                assert_eq!((wait, world.violations.len()), (1, 1));
                tokio::time::advance(Duration::from_secs(wait)).await;
                assert_eq!(world.may_send(7), Ok(()), "after its retry_after");
                return passed;
            }
            tokio::time::advance(apart).await;
        }
        count
    }

    #[tokio::test(start_paused = true)]
    async fn a_short_burst_passes_and_more_than_one_message_a_second_does_not_for_long() {
        for (apart_ms, passed) in [(0, 3), (300, 4), (500, 5), (900, 22), (1_000, 500), (1_050, 500)] {
            assert_eq!(let_pass(500, Duration::from_millis(apart_ms)).await, passed, "every {apart_ms} ms");
        }
    }
}
