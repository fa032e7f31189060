//! The messages of a conversation.

use serde::Serialize;
use serde_json::Value;

use super::Invalid;
use crate::answer::{MOST_TOOL_CALLS, ToolCall};

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Instructions; `developer` is read as the same.
    System,
    /// Whoever asks.
    User,
    /// The model.
    Assistant,
    /// What a tool said.
    Tool,
}

/// One message. Parts of text are joined: every provider takes text, not every one takes parts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Message {
    /// Who.
    pub role: Role,
    /// Text; empty where the assistant only called tools.
    pub content: String,
    /// A name for the one who speaks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Tools the assistant called.
    #[serde(skip_serializing_if = "Vec::is_empty", serialize_with = "calls")]
    pub tool_calls: Vec<ToolCall>,
    /// Which call a tool answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool_call_id: Option<String>,
}

/// Calls of tools in the form of the OpenAI API.
fn calls<S: serde::Serializer>(calls: &[ToolCall], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(calls.iter().map(ToolCall::to_json))
}

impl ToolCall {
    /// In the form of the OpenAI API.
    #[must_use]
    pub fn to_json(&self) -> Value {
        serde_json::json!({
            "id": self.id,
            "type": "function",
            "function": { "name": self.name, "arguments": self.arguments },
        })
    }
}

impl Message {
    /// What a user says.
    #[must_use]
    pub fn user(content: &str) -> Self {
        Self { role: Role::User, content: content.to_owned(), name: None, tool_calls: Vec::new(), tool_call_id: None }
    }

    /// Its bytes, calls of tools included.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let calls = self.tool_calls.iter().map(|call| call.id.len() + call.name.len() + call.arguments.len());
        self.content.len() + calls.sum::<usize>() + self.name.as_ref().map_or(0, String::len)
    }
}

/// Messages, one of them without its text.
pub(super) struct Frame<'a> {
    pub(super) messages: &'a [Message],
    pub(super) blank: Option<usize>,
}

impl Serialize for Frame<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Shown<'a> {
            role: Role,
            content: &'a str,
            name: Option<&'a str>,
            #[serde(skip_serializing_if = "<[ToolCall]>::is_empty", serialize_with = "calls")]
            tool_calls: &'a [ToolCall],
            tool_call_id: Option<&'a str>,
        }
        serializer.collect_seq(self.messages.iter().enumerate().map(|(at, message)| Shown {
            role: message.role,
            content: if self.blank == Some(at) { "" } else { &message.content },
            name: message.name.as_deref(),
            tool_calls: &message.tool_calls,
            tool_call_id: message.tool_call_id.as_deref(),
        }))
    }
}

pub(super) fn read(value: Option<Value>, most: usize) -> Result<Vec<Message>, Invalid> {
    let Some(Value::Array(list)) = value else { return Err(Invalid::wrong("messages", "a list of messages")) };
    if list.is_empty() || list.len() > most {
        return Err(Invalid::wrong("messages", &format!("1 to {most} messages")));
    }
    list.into_iter().enumerate().map(|(at, value)| message(at, value)).collect()
}

fn message(at: usize, value: Value) -> Result<Message, Invalid> {
    let param = format!("messages[{at}]");
    let Value::Object(mut fields) = value else { return Err(Invalid::wrong(&param, "an object")) };
    let mut take = |name: &str| fields.remove(name).filter(|value| !value.is_null());
    let role = match take("role").as_ref().and_then(Value::as_str) {
        Some("system" | "developer") => Role::System,
        Some("user") => Role::User,
        Some("assistant") => Role::Assistant,
        Some("tool") => Role::Tool,
        _ => return Err(Invalid::wrong(&format!("{param}.role"), "system, developer, user, assistant or tool")),
    };
    let content = content(&format!("{param}.content"), take("content"))?;
    let text = |name: &str, value: Option<Value>| match value {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(Invalid::wrong(&format!("{param}.{name}"), "a text")),
    };
    let name = text("name", take("name"))?;
    let tool_call_id = text("tool_call_id", take("tool_call_id"))?;
    let tool_calls = tool_calls(&format!("{param}.tool_calls"), take("tool_calls"))?;
    // What the API or a client's own library gives back in an assistant's message and clients send again.
    const GIVEN_BACK: [&str; 7] = [
        "refusal",
        "annotations",
        "audio",
        "function_call",
        "reasoning",
        "reasoning_content",
        // litellm's own.
        "provider_specific_fields",
    ];
    for given_back in GIVEN_BACK {
        fields.remove(given_back);
    }
    if let Some((name, _)) = fields.iter().find(|(_, value)| !value.is_null()) {
        let message = format!("{param}.{name} is not supported here; leave it out");
        return Err(Invalid::of(&format!("{param}.{name}"), "unsupported_parameter", message));
    }
    let message = Message { role, content: content.unwrap_or_default(), name, tool_calls, tool_call_id };
    let is_said = !message.content.is_empty() || !message.tool_calls.is_empty() || role == Role::Tool;
    match role {
        Role::Tool if message.tool_call_id.is_none() => {
            Err(Invalid::of(&param, "missing", format!("{param}.tool_call_id is missing")))
        }
        Role::System | Role::User | Role::Tool if !message.tool_calls.is_empty() => {
            Err(Invalid::wrong(&format!("{param}.tool_calls"), "in a message of the assistant"))
        }
        _ if !is_said => Err(Invalid::wrong(&format!("{param}.content"), "there")),
        _ => Ok(message),
    }
}

fn content(param: &str, value: Option<Value>) -> Result<Option<String>, Invalid> {
    match value {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(Value::Array(parts)) => {
            let mut joined = String::new();
            for part in &parts {
                let text = match part["type"].as_str() {
                    Some("text") => part["text"].as_str(),
                    Some("refusal") => part["refusal"].as_str(),
                    _ => None,
                };
                joined.push_str(text.ok_or_else(|| Invalid::wrong(param, "text: no other parts are supported here"))?);
            }
            Ok(Some(joined))
        }
        Some(_) => Err(Invalid::wrong(param, "a text or a list of parts")),
    }
}

fn tool_calls(param: &str, value: Option<Value>) -> Result<Vec<ToolCall>, Invalid> {
    let list = match value {
        None => return Ok(Vec::new()),
        Some(Value::Array(list)) if list.len() <= MOST_TOOL_CALLS => list,
        Some(_) => return Err(Invalid::wrong(param, "a list of calls")),
    };
    list.iter()
        .map(|call| {
            let text = |value: &Value| value.as_str().map(str::to_owned);
            let function = &call["function"];
            match (text(&call["id"]), text(&function["name"]), text(&function["arguments"])) {
                (Some(id), Some(name), Some(arguments)) => Ok(ToolCall { id, name, arguments }),
                _ => Err(Invalid::wrong(param, "calls with an id and a function with name and arguments")),
            }
        })
        .collect()
}
