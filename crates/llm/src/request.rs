//! A chat request in the form of the OpenAI API, read strictly into a closed type.
//!
//! What would change the answer and can't be carried to every provider is refused by name instead of being dropped in
//! silence: several choices, log probabilities, images, audio, the functions that tools replaced. What does not change
//! it (`user`, `store`, `service_tier` and the like) is taken and not passed on. A parameter that nobody knows is refused.

mod embedding;
mod extras;
mod messages;

use serde::Serialize;
use serde_json::{Map, Value};

pub use embedding::EmbeddingRequest;
pub use extras::{CacheUse, Extras, HIGHEST_PRIORITY, URGENT_PRIORITY, USUAL_PRIORITY};
pub use messages::{Message, Role};

use crate::format::validator_of;

/// Why a request can't be taken: the OpenAI API's own form of an error.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Invalid {
    /// What is wrong and what to do.
    pub message: String,
    /// Which parameter.
    pub param: Option<String>,
    /// Stable word.
    pub code: &'static str,
}

impl Invalid {
    pub(crate) fn of(param: &str, code: &'static str, message: impl Into<String>) -> Self {
        Self { message: message.into(), param: Some(param.to_owned()), code }
    }

    pub(crate) fn wrong(param: &str, what: &str) -> Self {
        Self::of(param, "invalid_value", format!("{param} must be {what}"))
    }
}

/// What the answer's text must be.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// Anything.
    Text,
    /// Any JSON object.
    JsonObject,
    /// JSON of this schema.
    Schema {
        /// Its name.
        name: String,
        /// The schema.
        schema: Value,
        /// The provider is asked to hold the model to it; the router checks in any case.
        strict: bool,
    },
}

/// How the model chooses.
#[derive(Debug, Clone, PartialEq, Serialize, Default)]
pub struct Sampling {
    /// 0 to 2.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f64>,
    /// 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_p: Option<f64>,
    /// For answers that can be repeated, where the provider can.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<i64>,
    /// -2 to 2.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub presence_penalty: Option<f64>,
    /// -2 to 2.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frequency_penalty: Option<f64>,
    /// Sequences that end the answer, at most four.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stop: Vec<String>,
    /// How much thinking: a word of the provider's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reasoning_effort: Option<String>,
}

/// A chat request.
#[derive(Debug, Clone, PartialEq)]
pub struct ChatRequest {
    /// The alias that was asked for.
    pub model: String,
    /// The conversation.
    pub messages: Vec<Message>,
    /// Tools, each `{"type": "function", "function": {..}}`.
    pub tools: Vec<Value>,
    /// `auto`, `none`, `required`, or a function.
    pub tool_choice: Option<Value>,
    /// Several tools at once.
    pub parallel_tool_calls: Option<bool>,
    /// Form of the answer.
    pub format: Format,
    /// Sampling.
    pub sampling: Sampling,
    /// Bound on the answer, tokens; the tier's own where absent.
    pub max_tokens: Option<u64>,
    /// In pieces.
    pub stream: bool,
    /// The last piece of a stream says the tokens.
    pub include_usage: bool,
    /// What the caller told the router, from `metadata`.
    pub extras: Extras,
}

/// What decides the answer, in the order in which it is hashed. `stream` is not part of it: the same answer serves both.
#[derive(Serialize)]
struct Canonical<'a> {
    model: &'a str,
    messages: messages::Frame<'a>,
    tools: &'a [Value],
    tool_choice: &'a Option<Value>,
    parallel_tool_calls: Option<bool>,
    format: &'a Format,
    sampling: &'a Sampling,
    max_tokens: Option<u64>,
}

/// Parameters that change nothing in the answer.
const TAKEN: &[&str] =
    &["user", "store", "service_tier", "safety_identifier", "prompt_cache_key", "prompt_cache_retention", "verbosity"];
/// Most messages of one request.
const MOST_MESSAGES: usize = 4_096;
/// Most tools of one request.
const MOST_TOOLS: usize = 128;

impl ChatRequest {
    /// Reads a body.
    ///
    /// # Errors
    /// [`Invalid`], with the parameter.
    pub fn parse(body: &[u8]) -> Result<Self, Invalid> {
        Self::read(Fields::parse(body)?)
    }

    fn read(mut fields: Fields) -> Result<Self, Invalid> {
        let model = fields.text("model")?.ok_or_else(|| Invalid::of("model", "missing", "model is missing"))?;
        let messages = messages::read(fields.take("messages"), MOST_MESSAGES)?;
        let tools = tools(fields.take("tools"))?;
        let tool_choice = fields.take("tool_choice");
        if !tool_choice.as_ref().is_none_or(|choice| choice.is_string() || choice.is_object()) {
            return Err(Invalid::wrong("tool_choice", "a word or an object"));
        }
        let max_tokens = match (fields.whole("max_completion_tokens")?, fields.whole("max_tokens")?) {
            (Some(new), _) => Some(new),
            (None, old) => old,
        };
        if max_tokens == Some(0) {
            return Err(Invalid::wrong("max_tokens", "at least 1"));
        }
        let request = Self {
            model,
            messages,
            tools,
            tool_choice,
            parallel_tool_calls: fields.flag("parallel_tool_calls")?,
            format: format(fields.take("response_format"))?,
            sampling: sampling(&mut fields)?,
            max_tokens,
            stream: fields.flag("stream")?.unwrap_or(false),
            include_usage: include_usage(fields.take("stream_options"))?,
            extras: Extras::of_metadata(fields.take("metadata"))?,
        };
        fields.refuse_what_is_left()?;
        Ok(request)
    }

    /// One question without anything around it.
    #[must_use]
    pub fn plain(model: &str, question: &str, max_tokens: u64) -> Self {
        Self {
            model: model.to_owned(),
            messages: vec![Message::user(question)],
            tools: Vec::new(),
            tool_choice: None,
            parallel_tool_calls: None,
            format: Format::Text,
            sampling: Sampling { temperature: Some(0.0), ..Sampling::default() },
            max_tokens: Some(max_tokens),
            stream: false,
            include_usage: false,
            extras: Extras::default(),
        }
    }

    /// The bytes that decide the answer, the same for the same request however it was written.
    #[must_use]
    pub fn canonical(&self) -> Vec<u8> {
        self.frame(None)
    }

    /// The same without the text of the message at this place.
    #[must_use]
    pub fn frame(&self, blank: Option<usize>) -> Vec<u8> {
        let canonical = Canonical {
            model: &self.model,
            messages: messages::Frame { messages: &self.messages, blank },
            tools: &self.tools,
            tool_choice: &self.tool_choice,
            parallel_tool_calls: self.parallel_tool_calls,
            format: &self.format,
            sampling: &self.sampling,
            max_tokens: self.max_tokens,
        };
        // Strings, numbers and maps with text keys: there is nothing in it that can't be written.
        serde_json::to_vec(&canonical).unwrap_or_default()
    }

    /// No more tokens than this are in the prompt: a token is at least one byte, and the templates around messages and
    /// tools are allowed for.
    #[must_use]
    pub fn most_prompt_tokens(&self) -> u64 {
        let written = |value: &Value| value.to_string().len();
        let bytes: usize = self.messages.iter().map(Message::bytes).sum::<usize>()
            + self.tools.iter().map(written).sum::<usize>()
            + match &self.format {
                Format::Schema { schema, .. } => written(schema),
                Format::Text | Format::JsonObject => 0,
            };
        bytes as u64 + 16 * (self.messages.len() + self.tools.len()) as u64 + 64
    }

    /// The last message is the assistant's: the model is to go on with it.
    #[must_use]
    pub fn is_prefill(&self) -> bool {
        self.messages.last().is_some_and(|message| message.role == Role::Assistant)
    }
}

fn tools(value: Option<Value>) -> Result<Vec<Value>, Invalid> {
    let tools = match value {
        None => return Ok(Vec::new()),
        Some(Value::Array(tools)) if tools.len() <= MOST_TOOLS => tools,
        Some(_) => return Err(Invalid::wrong("tools", "a list of at most 128 tools")),
    };
    for (at, tool) in tools.iter().enumerate() {
        let is_function = tool["type"] == "function" && tool["function"]["name"].is_string();
        if !is_function {
            let param = format!("tools[{at}]");
            return Err(Invalid::wrong(&param, "{\"type\": \"function\", \"function\": {\"name\": ..}}"));
        }
    }
    Ok(tools)
}

fn format(value: Option<Value>) -> Result<Format, Invalid> {
    let Some(value) = value else { return Ok(Format::Text) };
    match value["type"].as_str() {
        Some("text") => Ok(Format::Text),
        Some("json_object") => Ok(Format::JsonObject),
        Some("json_schema") => {
            let part = &value["json_schema"];
            let (Some(name), schema @ Value::Object(_)) = (part["name"].as_str(), &part["schema"]) else {
                return Err(Invalid::wrong("response_format.json_schema", "an object with a name and a schema"));
            };
            if let Err(error) = validator_of(schema) {
                let message = format!("the schema can't be used: {error}");
                return Err(Invalid::of("response_format.json_schema.schema", "invalid_schema", message));
            }
            let strict = part["strict"].as_bool().unwrap_or(false);
            Ok(Format::Schema { name: name.to_owned(), schema: schema.clone(), strict })
        }
        _ => Err(Invalid::wrong("response_format.type", "text, json_object or json_schema")),
    }
}

fn sampling(fields: &mut Fields) -> Result<Sampling, Invalid> {
    let stop = match fields.take("stop") {
        None => Vec::new(),
        Some(Value::String(one)) => vec![one],
        Some(Value::Array(list)) if list.len() <= 4 && list.iter().all(Value::is_string) => {
            list.iter().filter_map(|item| item.as_str().map(str::to_owned)).collect()
        }
        Some(_) => return Err(Invalid::wrong("stop", "a text or a list of at most four")),
    };
    Ok(Sampling {
        temperature: fields.number("temperature", 0.0, 2.0)?,
        top_p: fields.number("top_p", 0.0, 1.0)?,
        seed: match fields.take("seed") {
            None => None,
            Some(seed) => Some(seed.as_i64().ok_or_else(|| Invalid::wrong("seed", "a whole number"))?),
        },
        presence_penalty: fields.number("presence_penalty", -2.0, 2.0)?,
        frequency_penalty: fields.number("frequency_penalty", -2.0, 2.0)?,
        stop,
        reasoning_effort: fields.text("reasoning_effort")?,
    })
}

fn include_usage(value: Option<Value>) -> Result<bool, Invalid> {
    match value {
        None => Ok(false),
        Some(Value::Object(options)) => Ok(options.get("include_usage").and_then(Value::as_bool).unwrap_or(false)),
        Some(_) => Err(Invalid::wrong("stream_options", "an object")),
    }
}

/// The fields of a body, taken one by one. `null` is the same as absent.
struct Fields(Map<String, Value>);

impl Fields {
    fn parse(body: &[u8]) -> Result<Self, Invalid> {
        let wrong = |message| Invalid { message, param: None, code: "invalid_json" };
        match serde_json::from_slice(body) {
            Ok(Value::Object(fields)) => Ok(Self(fields)),
            Ok(_) => Err(wrong("the body must be an object".to_owned())),
            Err(error) => Err(wrong(format!("the body is no JSON: {error}"))),
        }
    }

    fn take(&mut self, name: &str) -> Option<Value> {
        self.0.remove(name).filter(|value| !value.is_null())
    }

    fn text(&mut self, name: &str) -> Result<Option<String>, Invalid> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) if !text.is_empty() => Ok(Some(text)),
            Some(_) => Err(Invalid::wrong(name, "a text")),
        }
    }

    fn flag(&mut self, name: &str) -> Result<Option<bool>, Invalid> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(flag)),
            Some(_) => Err(Invalid::wrong(name, "true or false")),
        }
    }

    fn whole(&mut self, name: &str) -> Result<Option<u64>, Invalid> {
        match self.take(name) {
            None => Ok(None),
            Some(value) => value.as_u64().map(Some).ok_or_else(|| Invalid::wrong(name, "a whole number")),
        }
    }

    fn number(&mut self, name: &str, least: f64, most: f64) -> Result<Option<f64>, Invalid> {
        match self.take(name) {
            None => Ok(None),
            Some(value) => value
                .as_f64()
                .filter(|number| (least..=most).contains(number))
                .map(Some)
                .ok_or_else(|| Invalid::wrong(name, &format!("a number from {least} to {most}"))),
        }
    }

    fn refuse_what_is_left(mut self) -> Result<(), Invalid> {
        for name in TAKEN {
            self.0.remove(*name);
        }
        // Said as they usually are, they ask for nothing.
        if self.0.get("n").is_some_and(|n| *n == 1) {
            self.0.remove("n");
        }
        if self.0.get("logprobs").is_some_and(|logprobs| *logprobs == false) {
            self.0.remove("logprobs");
        }
        if self.0.get("modalities").is_some_and(|modalities| *modalities == serde_json::json!(["text"])) {
            self.0.remove("modalities");
        }
        if self.0.get("logit_bias").and_then(Value::as_object).is_some_and(Map::is_empty) {
            self.0.remove("logit_bias");
        }
        match self.0.iter().find(|(_, value)| !value.is_null()) {
            None => Ok(()),
            Some((name, _)) => Err(Invalid::of(
                name,
                "unsupported_parameter",
                format!("{name} is not supported here with this value; leave it out"),
            )),
        }
    }
}

#[cfg(test)]
mod tests;
