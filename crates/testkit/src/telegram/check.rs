//! Parameters of a call: their names, types and lengths as the Bot API documents them.

use serde_json::{Map, Value};

use super::html;
use super::world::Button;

/// Longest text of a message, characters after entities were parsed.
const LONGEST_TEXT: usize = 4_096;
/// Longest caption of a picture, the same way.
const LONGEST_CAPTION: usize = 1_024;

/// Why a call is refused: HTTP status, words, and `retry_after` for 429.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub status: u16,
    pub description: String,
    pub retry_after: Option<u64>,
}

impl Refusal {
    pub(super) fn bad(words: impl Into<String>) -> Self {
        let words: String = words.into();
        Self { status: 400, description: format!("Bad Request: {words}"), retry_after: None }
    }

    pub(super) fn of(status: u16, description: &str) -> Self {
        Self { status, description: description.to_owned(), retry_after: None }
    }

    pub(super) fn too_many(retry_after: u64) -> Self {
        let description = format!("Too Many Requests: retry after {retry_after}");
        Self { status: 429, description, retry_after: Some(retry_after) }
    }
}

/// The parameters of one call.
pub(super) struct Parameters<'a> {
    pub values: &'a Map<String, Value>,
}

impl Parameters<'_> {
    /// Names that the method does not know.
    pub(super) fn unknown(&self, known: &[&str]) -> Vec<String> {
        self.values.keys().filter(|name| !known.contains(&name.as_str())).cloned().collect()
    }

    pub(super) fn integer(&self, name: &str) -> Result<Option<i64>, Refusal> {
        match self.values.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => match value.as_i64() {
                Some(number) => Ok(Some(number)),
                None => Err(Refusal::bad(format!("parameter \"{name}\" must be an integer"))),
            },
        }
    }

    pub(super) fn required_integer(&self, name: &str) -> Result<i64, Refusal> {
        self.integer(name)?.ok_or_else(|| Refusal::bad(format!("parameter \"{name}\" is required")))
    }

    pub(super) fn boolean(&self, name: &str) -> Result<bool, Refusal> {
        match self.values.get(name) {
            None | Some(Value::Null) => Ok(false),
            Some(value) => {
                value.as_bool().ok_or_else(|| Refusal::bad(format!("parameter \"{name}\" must be a Boolean")))
            }
        }
    }

    pub(super) fn text(&self, name: &str) -> Result<Option<&str>, Refusal> {
        match self.values.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(Refusal::bad(format!("parameter \"{name}\" must be a String"))),
        }
    }

    /// Text of a message, and the same after its entities were parsed.
    pub(super) fn message_text(&self) -> Result<(String, String), Refusal> {
        let source = self.text("text")?.ok_or_else(|| Refusal::bad("message text is empty"))?;
        let plain = self.parsed(source)?;
        if plain.trim().is_empty() {
            return Err(Refusal::bad("message text is empty"));
        }
        if plain.chars().count() > LONGEST_TEXT {
            return Err(Refusal::bad("message is too long"));
        }
        Ok((source.to_owned(), plain))
    }

    /// Caption of a picture, and the same after its entities were parsed.
    pub(super) fn caption(&self) -> Result<(String, String), Refusal> {
        let source = self.text("caption")?.unwrap_or_default();
        let plain = self.parsed(source)?;
        if plain.chars().count() > LONGEST_CAPTION {
            return Err(Refusal::bad("message caption is too long"));
        }
        Ok((source.to_owned(), plain))
    }

    fn parsed(&self, source: &str) -> Result<String, Refusal> {
        match self.text("parse_mode")? {
            None => Ok(source.to_owned()),
            Some("HTML") => html::plain(source).map_err(Refusal::bad),
            Some(other) => Err(Refusal::bad(format!("unsupported parse_mode {other} (this double knows HTML)"))),
        }
    }

    /// The buttons of `reply_markup`, which must be an inline keyboard of callback buttons.
    pub(super) fn buttons(&self) -> Result<Vec<Vec<Button>>, Refusal> {
        let unreadable = || Refusal::bad("can't parse reply keyboard markup JSON object");
        let Some(markup) = self.values.get("reply_markup").filter(|value| !value.is_null()) else {
            return Ok(Vec::new());
        };
        // In a form it is JSON in a string.
        let parsed;
        let markup = match markup {
            Value::String(text) => {
                parsed = serde_json::from_str::<Value>(text).map_err(|_| unreadable())?;
                &parsed
            }
            markup => markup,
        };
        let rows = markup.get("inline_keyboard").and_then(Value::as_array).ok_or_else(unreadable)?;
        let mut buttons = Vec::new();
        for row in rows {
            let row = row.as_array().ok_or_else(unreadable)?;
            buttons.push(row.iter().map(button).collect::<Result<Vec<_>, _>>()?);
        }
        buttons.retain(|row| !row.is_empty());
        Ok(buttons)
    }
}

fn button(value: &Value) -> Result<Button, Refusal> {
    let fields =
        value.as_object().ok_or_else(|| Refusal::bad("can't parse inline keyboard button: must be an Object"))?;
    if let Some(other) = fields.keys().find(|name| !["text", "callback_data"].contains(&name.as_str())) {
        return Err(Refusal::bad(format!(
            "can't parse inline keyboard button: field {other} is not known to this double"
        )));
    }
    let text = fields.get("text").and_then(Value::as_str).unwrap_or_default();
    if text.is_empty() {
        return Err(Refusal::bad("can't parse inline keyboard button: Can't find field \"text\""));
    }
    let data = fields.get("callback_data").and_then(Value::as_str).unwrap_or_default();
    if !(1..=64).contains(&data.len()) {
        return Err(Refusal::bad("BUTTON_DATA_INVALID"));
    }
    Ok(Button { text: text.to_owned(), data: data.to_owned() })
}
