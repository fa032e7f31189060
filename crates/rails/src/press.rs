//! What a stored update of Telegram says when it is the press of a button. Nothing else of an update has a meaning for money.

use domain::message::Decision;
use domain::telegram_button::{self, Button, Press};
use serde_json::Value;

/// A press, as Telegram reports it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pressed {
    /// Who pressed.
    pub telegram_user_id: i64,
    /// In which private chat.
    pub chat_id: i64,
    /// Under which message.
    pub message_id: i64,
    /// Which button.
    pub button: Button,
}

/// Why an update is no press that could mean anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoPress {
    /// It is no callback query, or not only that.
    #[error("the update is no press of a button")]
    OtherUpdate,
    /// It says another number than it is stored under.
    #[error("the update is stored under another number")]
    OtherNumber,
    /// A bot pressed, or nobody.
    #[error("no person pressed it")]
    NoPerson,
    /// The button hangs under a message that was sent through another chat.
    #[error("the button is under a message of another chat")]
    Inline,
    /// A group or channel.
    #[error("not in a private chat")]
    NotPrivate,
    /// A message somebody passed on carries no buttons of ours.
    #[error("under a forwarded message")]
    Forwarded,
    /// Data that no button of ours has.
    #[error("no button of ours")]
    NoButton,
}

/// Reads a stored update.
///
/// # Errors
/// [`NoPress`].
pub fn read(update_id: i64, raw: &Value) -> Result<Pressed, NoPress> {
    let fields = raw.as_object().ok_or(NoPress::OtherUpdate)?;
    let query = fields.get("callback_query").filter(|_| fields.len() == 2).ok_or(NoPress::OtherUpdate)?;
    if fields.get("update_id").and_then(Value::as_i64) != Some(update_id) {
        return Err(NoPress::OtherNumber);
    }
    let from = &query["from"];
    let telegram_user_id = from["id"].as_i64().filter(|_| from["is_bot"] == Value::Bool(false));
    let telegram_user_id = telegram_user_id.ok_or(NoPress::NoPerson)?;
    if query.get("inline_message_id").is_some() {
        return Err(NoPress::Inline);
    }
    let message = &query["message"];
    if message["chat"]["type"] != "private" {
        return Err(NoPress::NotPrivate);
    }
    if message.get("forward_origin").is_some() || message.get("forward_date").is_some() {
        return Err(NoPress::Forwarded);
    }
    let (chat_id, message_id) = (message["chat"]["id"].as_i64(), message["message_id"].as_i64());
    let (Some(chat_id), Some(message_id)) = (chat_id, message_id) else { return Err(NoPress::NotPrivate) };
    let button = query["data"].as_str().and_then(telegram_button::decode).ok_or(NoPress::NoButton)?;
    Ok(Pressed { telegram_user_id, chat_id, message_id, button })
}

/// The word of a press on a request of `tier`; `None` for one that only turns the keyboard. From tier 2 on a yes is the second
/// tap, after the words of the digest were shown.
#[must_use]
pub const fn word(press: Press, tier: u8) -> Option<Decision> {
    match press {
        Press::Approve if tier == 1 => Some(Decision::Approve),
        Press::Confirm => Some(Decision::Approve),
        Press::Reject => Some(Decision::Reject),
        Press::Half | Press::Quarter | Press::HalfPercent | Press::OnePercent => Some(Decision::Modify),
        Press::Approve | Press::Menu | Press::Back => None,
    }
}
