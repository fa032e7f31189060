//! The methods, each as <https://core.telegram.org/bots/api> tells of it. `getUpdates` is in [`super::updates`].

use serde_json::{Value, json};
use tokio::time::Instant;

use super::BOT_NAME;
use super::check::{Parameters, Refusal};
use super::world::{Answer, BOT_ID, Button, QUERY_LIVES, Sent, Webhook, World};

type Outcome = Result<Value, Refusal>;

/// Largest picture, bytes.
const LARGEST_PHOTO: usize = 10 << 20;

/// Every method with the names of its parameters.
const METHODS: &[(&str, &[&str])] = &[
    ("getMe", &[]),
    ("getUpdates", &["offset", "limit", "timeout", "allowed_updates"]),
    (
        "sendMessage",
        &[
            "business_connection_id",
            "chat_id",
            "message_thread_id",
            "text",
            "parse_mode",
            "entities",
            "link_preview_options",
            "disable_notification",
            "protect_content",
            "allow_paid_broadcast",
            "message_effect_id",
            "reply_parameters",
            "reply_markup",
        ],
    ),
    (
        "editMessageText",
        &[
            "business_connection_id",
            "chat_id",
            "message_id",
            "inline_message_id",
            "text",
            "parse_mode",
            "entities",
            "link_preview_options",
            "reply_markup",
        ],
    ),
    (
        "editMessageReplyMarkup",
        &["business_connection_id", "chat_id", "message_id", "inline_message_id", "reply_markup"],
    ),
    ("answerCallbackQuery", &["callback_query_id", "text", "show_alert", "url", "cache_time"]),
    (
        "sendPhoto",
        &[
            "business_connection_id",
            "chat_id",
            "message_thread_id",
            "photo",
            "caption",
            "parse_mode",
            "caption_entities",
            "show_caption_above_media",
            "has_spoiler",
            "disable_notification",
            "protect_content",
            "allow_paid_broadcast",
            "message_effect_id",
            "reply_parameters",
            "reply_markup",
        ],
    ),
    ("deleteWebhook", &["drop_pending_updates"]),
    (
        "setWebhook",
        &[
            "url",
            "certificate",
            "ip_address",
            "max_connections",
            "allowed_updates",
            "drop_pending_updates",
            "secret_token",
        ],
    ),
    ("setMyCommands", &["commands", "scope", "language_code"]),
];

/// Checks the name of a method; gives it as it is documented, whatever the case.
pub(super) fn known(world: &mut World, name: &str, given: &Parameters<'_>) -> Result<&'static str, Refusal> {
    let Some((method, parameters)) = METHODS.iter().find(|(method, _)| method.eq_ignore_ascii_case(name)) else {
        world.violation(format!("the method {name} is not known to this double"));
        return Err(Refusal::of(404, "Not Found"));
    };
    for unknown in given.unknown(parameters) {
        world.violation(format!("{method} has no parameter {unknown}"));
    }
    Ok(method)
}

/// Answers a call that does not wait.
pub(super) fn answer(world: &mut World, method: &str, given: &Parameters<'_>, file: Option<Vec<u8>>) -> Outcome {
    match method {
        "getMe" => Ok(json!({
            "id": BOT_ID, "is_bot": true, "first_name": "Swarm", "username": BOT_NAME, "can_join_groups": false,
            "can_read_all_group_messages": false, "supports_inline_queries": false, "can_connect_to_business": false,
            "has_main_web_app": false,
        })),
        "sendMessage" => send_message(world, given),
        "sendPhoto" => send_photo(world, given, file),
        "editMessageText" => edit_text(world, given),
        "editMessageReplyMarkup" => edit_markup(world, given),
        "answerCallbackQuery" => answer_query(world, given),
        "deleteWebhook" => {
            if given.boolean("drop_pending_updates")? {
                world.updates.clear();
            }
            world.webhook = None;
            Ok(json!(true))
        }
        "setWebhook" => set_webhook(world, given),
        "setMyCommands" => set_commands(world, given),
        _ => Err(Refusal::of(404, "Not Found")),
    }
}

/// The chat a message goes to, which the bot must be allowed to write to.
fn recipient(world: &World, given: &Parameters<'_>) -> Result<i64, Refusal> {
    let id = given.required_integer("chat_id")?;
    match world.chats.get(&id) {
        None => Err(Refusal::bad("chat not found")),
        Some(chat) if chat.blocked => Err(Refusal::of(403, "Forbidden: bot was blocked by the user")),
        Some(_) => Ok(id),
    }
}

fn send_message(world: &mut World, given: &Parameters<'_>) -> Outcome {
    let chat = recipient(world, given)?;
    let (source, text) = given.message_text()?;
    let buttons = given.buttons()?;
    world.may_send(chat).map_err(Refusal::too_many)?;
    Ok(store(world, chat, source, text, buttons, None))
}

fn send_photo(world: &mut World, given: &Parameters<'_>, file: Option<Vec<u8>>) -> Outcome {
    let chat = recipient(world, given)?;
    let (source, text) = given.caption()?;
    let buttons = given.buttons()?;
    let photo = file.ok_or_else(|| Refusal::bad("there is no photo in the request"))?;
    if photo.len() > LARGEST_PHOTO {
        return Err(Refusal::of(413, "Request Entity Too Large"));
    }
    let (width, height) = png_size(&photo).ok_or_else(|| Refusal::bad("IMAGE_PROCESS_FAILED"))?;
    let (long, short) = (width.max(height), width.min(height));
    if u64::from(width) + u64::from(height) > 10_000 || short == 0 || long > 20 * short {
        return Err(Refusal::bad("PHOTO_INVALID_DIMENSIONS"));
    }
    world.may_send(chat).map_err(Refusal::too_many)?;
    Ok(store(world, chat, source, text, buttons, Some(photo)))
}

/// Width and height of a PNG, from its first chunk.
fn png_size(bytes: &[u8]) -> Option<(u32, u32)> {
    let head = bytes.strip_prefix(b"\x89PNG\r\n\x1a\n")?.get(8..16)?;
    let number = |at: usize| Some(u32::from_be_bytes(head.get(at..at + 4)?.try_into().ok()?));
    Some((number(0)?, number(4)?))
}

fn store(
    world: &mut World,
    chat: i64,
    source: String,
    text: String,
    buttons: Vec<Vec<Button>>,
    photo: Option<Vec<u8>>,
) -> Value {
    let id = world.message_id(chat);
    let message = Sent { chat, id, text, source, buttons, photo, history: Vec::new() };
    let shown = world.message_json(&message);
    world.messages.push(message);
    shown
}

/// The message that an edit names.
fn edited(world: &World, given: &Parameters<'_>) -> Result<usize, Refusal> {
    if given.text("inline_message_id")?.is_some() {
        return Err(Refusal::bad("MESSAGE_ID_INVALID"));
    }
    let chat = recipient(world, given)?;
    let id = given.required_integer("message_id")?;
    let found = world.messages.iter().position(|message| message.chat == chat && message.id == id);
    found.ok_or_else(|| Refusal::bad("message to edit not found"))
}

/// The server's words for an edit that changes nothing.
const NOT_MODIFIED: &str = "message is not modified: specified new message content and reply markup are exactly the \
                            same as a current content and reply markup of the message";

fn edit_text(world: &mut World, given: &Parameters<'_>) -> Outcome {
    let at = edited(world, given)?;
    let (source, text) = given.message_text()?;
    let buttons = given.buttons()?;
    let message = &mut world.messages[at];
    if message.photo.is_some() {
        return Err(Refusal::bad("there is no text in the message to edit"));
    }
    if message.source == source && message.buttons == buttons {
        return Err(Refusal::bad(NOT_MODIFIED));
    }
    let before = std::mem::replace(&mut message.text, text);
    message.history.push(before);
    (message.source, message.buttons) = (source, buttons);
    Ok(world.message_json(&world.messages[at]))
}

fn edit_markup(world: &mut World, given: &Parameters<'_>) -> Outcome {
    let at = edited(world, given)?;
    let buttons = given.buttons()?;
    let message = &mut world.messages[at];
    if message.buttons == buttons {
        return Err(Refusal::bad(NOT_MODIFIED));
    }
    message.buttons = buttons;
    Ok(world.message_json(&world.messages[at]))
}

fn answer_query(world: &mut World, given: &Parameters<'_>) -> Outcome {
    let id = given.text("callback_query_id")?.ok_or_else(|| Refusal::bad("parameter is required"))?.to_owned();
    let text = given.text("text")?.unwrap_or_default().to_owned();
    if text.chars().count() > 200 {
        return Err(Refusal::bad("MESSAGE_TOO_LONG"));
    }
    let alert = given.boolean("show_alert")?;
    let too_old = "query is too old and response timeout expired or query ID is invalid";
    let query = world.queries.get_mut(&id).ok_or_else(|| Refusal::bad(too_old))?;
    if query.answered || Instant::now().duration_since(query.since) > QUERY_LIVES {
        return Err(Refusal::bad(too_old));
    }
    query.answered = true;
    world.answers.push(Answer { callback_id: id, text, alert });
    Ok(json!(true))
}

fn set_webhook(world: &mut World, given: &Parameters<'_>) -> Outcome {
    let url = given.text("url")?.unwrap_or_default().to_owned();
    if url.is_empty() {
        world.webhook = None;
        return Ok(json!(true));
    }
    // A local Bot API server takes plain HTTP on any port; the public one only HTTPS.
    if !url.starts_with("https://") && !url.starts_with("http://127.0.0.1:") {
        return Err(Refusal::bad("bad webhook: An HTTPS URL must be provided for webhook"));
    }
    let secret = given.text("secret_token")?.map(str::to_owned);
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if secret.as_ref().is_some_and(|secret| !(1..=256).contains(&secret.len()) || !secret.chars().all(plain)) {
        return Err(Refusal::bad("secret token contains unallowed characters"));
    }
    if given.integer("max_connections")?.is_some_and(|most| !(1..=100).contains(&most)) {
        return Err(Refusal::bad("max_connections is not within 1 and 100"));
    }
    if given.boolean("drop_pending_updates")? {
        world.updates.clear();
    }
    world.webhook = Some(Webhook { url, secret });
    Ok(json!(true))
}

fn set_commands(world: &mut World, given: &Parameters<'_>) -> Outcome {
    let invalid = |what: &str| Refusal::bad(format!("BOT_COMMAND_INVALID: {what}"));
    let list = given.values.get("commands").and_then(Value::as_array).ok_or_else(|| invalid("no array"))?;
    if list.len() > 100 {
        return Err(Refusal::bad("too many commands"));
    }
    let mut names = Vec::new();
    for command in list {
        let text = |name: &str| command.get(name).and_then(Value::as_str).unwrap_or_default();
        let (name, description) = (text("command"), text("description"));
        let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        if !(1..=32).contains(&name.len()) || !name.chars().all(is_plain) {
            return Err(invalid(name));
        }
        if !(1..=256).contains(&description.chars().count()) {
            return Err(Refusal::bad("BOT_COMMAND_DESCRIPTION_INVALID"));
        }
        names.push(name.to_owned());
    }
    world.commands = names;
    Ok(json!(true))
}
