//! What is asked and what is answered, in the terms that the dialects share.

use serde_json::{Map, Value};

use super::check;
use super::fault::Flaw;
use super::schema;

/// What a script answers with.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// Text, or JSON in a text.
    Text(String),
    /// A call of a tool, when the request has tools; else its arguments as text.
    Tool {
        /// Its name.
        name: String,
        /// Its arguments, an object.
        arguments: Value,
    },
}

impl Answer {
    /// A call of a tool.
    #[must_use]
    pub fn tool(name: &str, arguments: Value) -> Self {
        Self::Tool { name: name.to_owned(), arguments }
    }
}

impl From<String> for Answer {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<&str> for Answer {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

/// Whose form of the OpenAI API a path belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flavour {
    OpenAi,
    /// `/openai/v1`
    Groq,
    /// `/api/v1`
    OpenRouter,
}

/// Where a request goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Route {
    Chat,
    Embed,
    Models,
    Version,
}

/// A request for an answer.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Chat {
    pub model: String,
    pub stream: bool,
    pub include_usage: bool,
    pub max_tokens: Option<u64>,
    pub stop: Vec<String>,
    /// The schema the answer must have.
    pub schema: Option<Value>,
    /// Any JSON will do.
    pub json: bool,
    pub may_call: bool,
    /// The last message is the assistant's.
    pub prefilled: bool,
    /// Ollama: no messages, so the model is only loaded.
    pub load_only: bool,
    pub prompt_tokens: u64,
}

/// A request for vectors.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Embed {
    pub model: String,
    pub inputs: Vec<String>,
    pub dimensions: Option<usize>,
    pub base64: bool,
    pub prompt_tokens: u64,
}

/// Why an answer ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Finish {
    Stop,
    /// A text of `stop` came.
    Sequence(String),
    Length,
    Tool,
    Filtered,
    /// Ollama: the model was loaded.
    Load,
}

/// An answer, before it is put into the words of a dialect.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Reply {
    /// Ids and times derive from it.
    pub number: u64,
    /// The called tool; then the fragments are its arguments.
    pub tool: Option<(String, Value)>,
    /// The content in pieces.
    pub fragments: Vec<String>,
    pub finish: Option<Finish>,
    /// What is said of tokens: prompt, completion.
    pub usage: Option<(u64, u64)>,
    /// Without choice, block or message.
    pub hollow: bool,
}

impl Reply {
    /// What `chat` is answered with, held to its limits as a model is.
    pub(super) fn new(number: u64, chat: &Chat, answer: Option<Answer>, chunks: usize) -> Self {
        let (text, tool) = match answer {
            _ if chat.load_only => (String::new(), None),
            Some(Answer::Text(text)) => (text, None),
            Some(Answer::Tool { name, arguments }) if chat.may_call => (arguments.to_string(), Some((name, arguments))),
            Some(Answer::Tool { arguments, .. }) => (arguments.to_string(), None),
            None => (unscripted(chat), None),
        };
        let mut reply = Self { number, tool, fragments: Vec::new(), finish: None, usage: None, hollow: false };
        if reply.tool.is_some() {
            reply.finish = Some(Finish::Tool);
            reply.set(chat, &text, chunks);
        } else {
            let (text, finish) = ended(chat, text);
            reply.finish = Some(finish);
            reply.set(chat, &text, chunks);
        }
        reply
    }

    /// Another content, its tokens counted.
    pub(super) fn set(&mut self, chat: &Chat, text: &str, chunks: usize) {
        self.fragments = split(text, chunks);
        self.usage = Some((chat.prompt_tokens, tokens(text)));
    }

    pub(super) fn text(&self) -> String {
        self.fragments.concat()
    }

    /// Tokens of each fragment; together they are the tokens of the text.
    pub(super) fn shares(&self) -> Vec<u64> {
        let mut length = 0_usize;
        let mut told = 0;
        let share = |fragment: &String| {
            length += fragment.len();
            let until = length.div_ceil(BYTES_PER_TOKEN) as u64;
            let share = until - told;
            told = until;
            share
        };
        self.fragments.iter().map(share).collect()
    }

    /// Seconds since the epoch, of the double's own time.
    pub(super) fn created(&self) -> u64 {
        1_795_305_600 + self.number
    }
}

fn unscripted(chat: &Chat) -> String {
    match &chat.schema {
        Some(schema) => schema::least(schema).to_string(),
        None if chat.json => "{}".to_owned(),
        None => "An answer of the double.".to_owned(),
    }
}

/// Cut at the first stop text and at the limit of tokens.
fn ended(chat: &Chat, mut text: String) -> (String, Finish) {
    if chat.load_only {
        return (text, Finish::Load);
    }
    let mut finish = Finish::Stop;
    let first = chat.stop.iter().filter_map(|stop| text.find(stop.as_str()).map(|at| (at, stop))).min();
    if let Some((at, stop)) = first {
        text.truncate(at);
        finish = Finish::Sequence(stop.clone());
    }
    let most = chat.max_tokens.and_then(|most| usize::try_from(most).ok()).unwrap_or(usize::MAX);
    let mut most = most.saturating_mul(BYTES_PER_TOKEN);
    if text.len() > most {
        while !text.is_char_boundary(most) {
            most -= 1;
        }
        text.truncate(most);
        finish = Finish::Length;
    }
    (text, finish)
}

/// How many bytes the double counts as a token.
pub(super) const BYTES_PER_TOKEN: usize = 4;

/// Tokens of a text as the double counts them.
#[must_use]
pub fn tokens(text: &str) -> u64 {
    text.len().div_ceil(BYTES_PER_TOKEN) as u64
}

/// In so many pieces of about equal length, none of them empty.
fn split(text: &str, chunks: usize) -> Vec<String> {
    let long = text.len().div_ceil(chunks.max(1)).max(1);
    let mut pieces: Vec<String> = Vec::new();
    for character in text.chars() {
        match pieces.last_mut() {
            Some(piece) if piece.len() < long => piece.push(character),
            _ => pieces.push(character.to_string()),
        }
    }
    pieces
}

/// What a piece of a stream is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// Before any content.
    Lead,
    Content,
    /// After the content: why it ended, and what it cost.
    Finish,
    /// The mark of the end.
    End,
}

/// A piece of a stream, in the words of a dialect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Piece {
    pub part: Part,
    pub text: String,
    pub tokens: u64,
}

impl Piece {
    pub(super) fn new(part: Part, text: String) -> Self {
        Self { part, text, tokens: 0 }
    }
}

/// Tokens of messages and of whatever else goes into the prompt.
pub(super) fn prompt_tokens(body: &Map<String, Value>, names: &[&str]) -> u64 {
    let mut bytes = 0;
    for name in names {
        if let Some(value) = body.get(*name) {
            bytes += text_bytes(value);
        }
    }
    bytes.div_ceil(BYTES_PER_TOKEN) as u64
}

fn text_bytes(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len(),
        Value::Array(list) => list.iter().map(text_bytes).sum(),
        Value::Object(fields) => fields
            .iter()
            .filter(|(name, _)| *name != "role" && *name != "type")
            .map(|(_, value)| text_bytes(value))
            .sum(),
        _ => 0,
    }
}

/// A text or a list of texts.
pub(super) fn texts(value: Option<&Value>) -> Vec<String> {
    match value {
        Some(Value::String(text)) => vec![text.clone()],
        Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        _ => Vec::new(),
    }
}

/// A message and its place in the request.
pub(super) type Placed<'a> = (String, &'a Map<String, Value>);

/// Each message is an object with a role among `roles`; gives them and whether the last is the assistant's.
pub(super) fn messages<'a>(body: &'a Map<String, Value>, roles: &[&str]) -> Result<(Vec<Placed<'a>>, bool), Flaw> {
    let list = check::required("", body, "messages")?;
    let list = list.as_array().ok_or_else(|| Flaw::Type("messages".to_owned(), "an array"))?;
    let mut found = Vec::with_capacity(list.len());
    for (at, message) in list.iter().enumerate() {
        let place = format!("messages.{at}");
        let message = check::object(&place, message)?;
        check::word(&format!("{place}.role"), check::required(&place, message, "role")?, roles)?;
        found.push((place, message));
    }
    let last = found.last().and_then(|(_, message)| message.get("role")).and_then(Value::as_str);
    Ok((found, last == Some("assistant")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn chat() -> Chat {
        Chat {
            model: "m".to_owned(),
            stream: false,
            include_usage: false,
            max_tokens: None,
            stop: Vec::new(),
            schema: None,
            json: false,
            may_call: false,
            prefilled: false,
            load_only: false,
            prompt_tokens: 7,
        }
    }

    #[test]
    fn an_answer_is_cut_at_a_stop_text_and_at_the_limit_of_tokens() {
        let asked = |max_tokens, stop: &[&str]| Chat {
            max_tokens,
            stop: stop.iter().map(|text| (*text).to_owned()).collect(),
            ..chat()
        };
        for (asked, text, finish) in [
            (asked(None, &[]), "one two three", Finish::Stop),
            (asked(None, &["three", "two"]), "one ", Finish::Sequence("two".to_owned())),
            (asked(Some(2), &[]), "one two ", Finish::Length),
            (asked(Some(2), &["ne"]), "o", Finish::Sequence("ne".to_owned())),
        ] {
            let reply = Reply::new(1, &asked, Some("one two three".into()), 3);
            assert_eq!((reply.text().as_str(), reply.finish), (text, Some(finish)));
        }
    }

    #[test]
    fn pieces_are_the_text_and_their_tokens_are_its_tokens() {
        for (text, chunks) in [("", 4), ("a", 4), ("äöü and more of it, for long", 5), ("abcdefgh", 1)] {
            let reply = Reply::new(1, &chat(), Some(text.into()), chunks);
            assert!(reply.fragments.len() <= chunks && reply.text() == text, "{text} {:?}", reply.fragments);
            assert_eq!(reply.shares().iter().sum::<u64>(), tokens(text), "{text}");
            assert_eq!(reply.usage, Some((7, tokens(text))));
        }
    }

    #[test]
    fn a_tool_is_called_only_when_there_are_tools() {
        let answer = || Some(Answer::tool("f", json!({ "a": 1 })));
        let with = Reply::new(1, &Chat { may_call: true, ..chat() }, answer(), 2);
        assert_eq!((with.finish, with.tool.map(|(name, _)| name)), (Some(Finish::Tool), Some("f".to_owned())));
        let without = Reply::new(1, &chat(), answer(), 2);
        assert_eq!((without.text().as_str(), without.tool), ("{\"a\":1}", None));
    }
}
