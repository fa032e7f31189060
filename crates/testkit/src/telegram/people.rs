//! The people on the other side: what they say and press, and what tampering would look like.

use serde_json::{Value, json};

use super::Telegram;
use super::world::{Sent, World};

/// A press that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Press {
    /// Of the update it came in.
    pub update_id: i64,
    /// Of the press.
    pub callback_id: String,
}

/// A user as Telegram shows one.
fn user(id: i64, name: &str) -> Value {
    json!({ "id": id, "is_bot": false, "first_name": name, "language_code": "en" })
}

impl Telegram {
    /// A person with a private chat, whose id is the person's.
    pub fn person(&self, id: i64, name: &str) {
        self.world().add_chat(id, false, name);
    }

    /// A group that the bot is in; `id` is below zero.
    pub fn group(&self, id: i64, name: &str) {
        self.world().add_chat(id, true, name);
    }

    /// The person blocks the bot, or takes that back.
    pub fn block(&self, id: i64, blocked: bool) {
        if let Some(chat) = self.world().chats.get_mut(&id) {
            chat.blocked = blocked;
        }
    }

    /// A person writes to the bot in their private chat; gives the id of the update.
    pub fn say(&self, person: i64, text: &str) -> i64 {
        self.say_in(person, person, text)
    }

    /// A person writes in a chat.
    pub fn say_in(&self, chat: i64, person: i64, text: &str) -> i64 {
        self.said(chat, person, text, json!({}))
    }

    /// A person forwards what `from` said to the bot.
    pub fn forward(&self, person: i64, from: i64, text: &str) -> i64 {
        let mut world = self.world();
        let origin =
            json!({ "type": "user", "date": world.date(), "sender_user": user(from, &name_of(&mut world, from)) });
        drop(world);
        self.said(person, person, text, json!({ "forward_origin": origin }))
    }

    fn said(&self, chat: i64, person: i64, text: &str, more: Value) -> i64 {
        let mut world = self.world();
        let mut body = message_of(&mut world, chat, person, text);
        if let (Some(body), Value::Object(more)) = (body.as_object_mut(), more) {
            body.extend(more);
        }
        let id = world.update("message", body);
        drop(world);
        self.shared.changed.notify_waiters();
        id
    }

    /// A person presses a button under a message.
    ///
    /// # Panics
    /// When there is no such button.
    pub fn press(&self, person: i64, message: &Sent, label: &str) -> Press {
        let now = self.messages(message.chat).into_iter().find(|found| found.id == message.id).expect("that message");
        let button =
            now.button(label).unwrap_or_else(|| panic!("no button {label:?} under {}", now.describe())).clone();
        self.press_data(person, message, &button.data)
    }

    /// A person presses what is no longer there, or never was: `data` is sent as if it were a button of `message`.
    pub fn press_data(&self, person: i64, message: &Sent, data: &str) -> Press {
        let query = self.world().query();
        self.pressed(&query, person, data, |world| ("message", world.message_json(message)))
    }

    /// The same press comes again under a new update id, as after a connection that was lost.
    pub fn press_again(&self, press: &Press) -> i64 {
        let mut world = self.world();
        let body = world.pressed.get(&press.callback_id).cloned().expect("a press that was made");
        let id = world.update("callback_query", body);
        drop(world);
        self.shared.changed.notify_waiters();
        id
    }

    /// A press under a message that is too old to be shown: only its ids come.
    pub fn press_inaccessible(&self, person: i64, message: &Sent, data: &str) -> Press {
        let query = self.world().query();
        self.pressed(&query, person, data, |world| {
            ("message", json!({ "chat": world.chat_json(message.chat), "message_id": message.id, "date": 0 }))
        })
    }

    /// A press under a message that was sent by way of inline mode.
    pub fn press_inline(&self, person: i64, data: &str) -> Press {
        let query = self.world().query();
        self.pressed(&query, person, data, |_| ("inline_message_id", json!("AgAAAInline")))
    }

    /// A press under a copy of a message in another chat.
    pub fn press_forwarded(&self, person: i64, chat: i64, message: &Sent, data: &str) -> Press {
        let query = self.world().query();
        self.pressed(&query, person, data, |world| {
            let mut copy = message.clone();
            copy.chat = chat;
            copy.id = world.message_id(chat);
            let mut shown = world.message_json(&copy);
            shown["forward_origin"] = json!({
                "type": "user", "date": world.date(),
                "sender_user": { "id": super::world::BOT_ID, "is_bot": true, "first_name": "Swarm" },
            });
            ("message", shown)
        })
    }

    fn pressed(
        &self,
        query: &str,
        person: i64,
        data: &str,
        under: impl FnOnce(&mut World) -> (&'static str, Value),
    ) -> Press {
        let mut world = self.world();
        let (field, place) = under(&mut world);
        let from = user(person, &name_of(&mut world, person));
        let body = json!({ "id": query, "from": from, field: place, "chat_instance": "-42", "data": data });
        world.pressed.insert(query.to_owned(), body.clone());
        let update_id = world.update("callback_query", body);
        drop(world);
        self.shared.changed.notify_waiters();
        Press { update_id, callback_id: query.to_owned() }
    }

    /// Nobody answered a press for too long: it can't be answered any more.
    pub fn let_press_expire(&self, press: &Press) {
        if let Some(query) = self.world().queries.get_mut(&press.callback_id) {
            query.answered = true;
        }
    }

    /// An update of a kind or form that no client knows yet.
    pub fn strange_update(&self, kind: &str, body: Value) -> i64 {
        let id = self.world().update(kind, body);
        self.shared.changed.notify_waiters();
        id
    }

    /// The ids of updates jump, as after a week without any.
    pub fn jump_update_ids(&self, by: i64) {
        self.world().jump(by);
    }
}

fn name_of(world: &mut World, person: i64) -> String {
    world.chats.get(&person).map_or_else(|| format!("user {person}"), |chat| chat.name.clone())
}

fn message_of(world: &mut World, chat: i64, person: i64, text: &str) -> Value {
    let id = world.message_id(chat);
    let mut body = json!({
        "message_id": id, "from": user(person, &name_of(world, person)), "chat": world.chat_json(chat),
        "date": world.date(), "text": text,
    });
    if text.starts_with('/') {
        let length = text.split_whitespace().next().unwrap_or_default().encode_utf16().count();
        body["entities"] = json!([{ "type": "bot_command", "offset": 0, "length": length }]);
    }
    body
}
