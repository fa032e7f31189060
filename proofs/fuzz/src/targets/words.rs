//! What Telegram sends and what an agent says: read as a press of a button, as a linking code, and as the prose that stands
//! under a request.

use domain::telegram_button;
use rails::{press, render};
use serde_json::Value;

use crate::memory::bounded;

/// One text, read as each of them.
pub fn words(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    prose(text);
    if telegram_button::decode(text).is_some() {
        assert!(text.is_ascii() && text.len() == 46, "no button of ours: {text}");
    }
    if domain::link_code::hash(text).is_some() {
        let letters = text.chars().filter(|c| !matches!(c, ' ' | '-')).count();
        assert!(letters == 8, "no code: {text}");
    }
    if let Ok(raw) = bounded(text.len(), || serde_json::from_str::<Value>(text)) {
        pressed(&raw);
    }
}

/// Quoted, few lines, nothing unseen, whatever is said.
fn prose(text: &str) {
    let shown = bounded(text.len(), || render::prose(text));
    let most = render::MAX_PROSE_CHARS + 3 * render::MAX_PROSE_LINES;
    assert!(shown.chars().count() <= most && shown.lines().count() <= render::MAX_PROSE_LINES, "{shown:?}");
    for line in shown.split('\n').filter(|_| !shown.is_empty()) {
        assert!(line.starts_with("> ") && line.len() > 2 && !line.chars().any(char::is_control), "{line:?}");
    }
}

/// What is taken for a press says all of it itself.
fn pressed(raw: &Value) {
    let Ok(pressed) = press::read(7, raw) else { return };
    let query = &raw["callback_query"];
    assert!(raw["update_id"] == 7 && query["from"]["id"] == pressed.telegram_user_id);
    assert!(query["from"]["is_bot"] == false && query["message"]["chat"]["type"] == "private");
    assert!(query["message"]["chat"]["id"] == pressed.chat_id && query["message"]["message_id"] == pressed.message_id);
    assert!(query.get("inline_message_id").is_none() && query["message"].get("forward_origin").is_none());
    assert!(query["data"].as_str().and_then(telegram_button::decode) == Some(pressed.button));
}
