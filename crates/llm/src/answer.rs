//! What a provider said, in one closed form, whole or in pieces.

use serde_json::Value;

/// Why a model stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// It was done, or met a stop sequence.
    Stop,
    /// It met its bound on tokens.
    Length,
    /// It wants tools called.
    ToolCalls,
    /// The provider's policy cut it.
    ContentFilter,
}

impl Finish {
    /// The word of the OpenAI API.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
            Self::ToolCalls => "tool_calls",
            Self::ContentFilter => "content_filter",
        }
    }

    /// Reads it.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Stop, Self::Length, Self::ToolCalls, Self::ContentFilter].into_iter().find(|f| f.word() == word)
    }
}

/// Tokens of one try.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Of the prompt.
    pub prompt_tokens: u64,
    /// Of the answer.
    pub completion_tokens: u64,
    /// Counted by us because the provider did not say.
    pub estimated: bool,
}

/// A tool that the model wants called.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ToolCall {
    /// The provider's id; made by the router where the provider has none.
    pub id: String,
    /// Name of the function.
    pub name: String,
    /// Its arguments, JSON text as the model wrote it.
    pub arguments: String,
}

/// A whole answer of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Text.
    pub content: String,
    /// Its thinking, where the provider shows it apart.
    pub reasoning: String,
    /// A refusal that the provider marks as one.
    pub refusal: Option<String>,
    /// Tools.
    pub tool_calls: Vec<ToolCall>,
    /// Why it stopped.
    pub finish: Finish,
    /// Tokens.
    pub usage: Usage,
    /// What the provider calls the model that answered.
    pub model: String,
}

impl Answer {
    /// Nothing in it that anybody could use.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.content.trim().is_empty() && self.tool_calls.is_empty() && self.refusal.is_none()
    }

    /// Whether it may be given to somebody else later: whole, and no refusal.
    #[must_use]
    pub fn is_cacheable(&self) -> bool {
        !self.is_empty() && self.refusal.is_none() && matches!(self.finish, Finish::Stop | Finish::ToolCalls)
    }
}

/// A part of a streamed answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// What the provider calls the model that answers.
    Model(String),
    /// Text.
    Content(String),
    /// Thinking.
    Reasoning(String),
    /// Part of a refusal.
    Refusal(String),
    /// Part of a call of a tool.
    ToolCall {
        /// Which of the calls of this answer, from 0.
        index: usize,
        /// Its id, in the first part.
        id: Option<String>,
        /// Its name, in the first part.
        name: Option<String>,
        /// More of its arguments.
        arguments: String,
    },
    /// Why it stopped.
    Finish(Finish),
    /// Tokens.
    Usage(Usage),
    /// The provider's own mark that nothing follows.
    End,
}

impl Piece {
    /// Whether a client that has seen it has seen something of the answer: from here on no other tier may take over.
    #[must_use]
    pub const fn is_content(&self) -> bool {
        match self {
            Self::Content(text) | Self::Reasoning(text) | Self::Refusal(text) => !text.is_empty(),
            Self::ToolCall { .. } => true,
            Self::Model(_) | Self::Finish(_) | Self::Usage(_) | Self::End => false,
        }
    }
}

/// Puts pieces together.
#[derive(Debug, Clone, Default)]
pub struct Collector {
    content: String,
    reasoning: String,
    refusal: Option<String>,
    tool_calls: Vec<ToolCall>,
    finish: Option<Finish>,
    usage: Option<Usage>,
    model: String,
    bytes: usize,
}

/// Calls of tools in one answer, at most.
pub const MOST_TOOL_CALLS: usize = 128;

impl Collector {
    /// Takes one piece.
    pub fn take(&mut self, piece: &Piece) {
        match piece {
            Piece::Model(model) => self.model.clone_from(model),
            Piece::Content(text) => self.add(text, |own| &mut own.content),
            Piece::Reasoning(text) => self.add(text, |own| &mut own.reasoning),
            Piece::Refusal(text) => self.add(text, |own| own.refusal.get_or_insert_default()),
            Piece::ToolCall { index, id, name, arguments } => {
                self.bytes += arguments.len();
                if *index >= self.tool_calls.len() && *index < MOST_TOOL_CALLS {
                    self.tool_calls.resize_with(*index + 1, ToolCall::default);
                }
                if let Some(call) = self.tool_calls.get_mut(*index) {
                    if let Some(id) = id {
                        call.id.clone_from(id);
                    }
                    if let Some(name) = name {
                        call.name.clone_from(name);
                    }
                    call.arguments.push_str(arguments);
                }
            }
            Piece::Finish(finish) => self.finish = Some(*finish),
            Piece::Usage(usage) => self.usage = Some(*usage),
            Piece::End => {}
        }
    }

    fn add(&mut self, text: &str, field: impl FnOnce(&mut Self) -> &mut String) {
        self.bytes += text.len();
        field(self).push_str(text);
    }

    /// Bytes of the answer so far.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether the model said why it stopped: without that the answer is not whole.
    #[must_use]
    pub const fn is_finished(&self) -> bool {
        self.finish.is_some()
    }

    /// What was counted, or an estimate of what was generated so far and `prompt_tokens`.
    #[must_use]
    pub fn usage(&self, prompt_tokens: u64) -> Usage {
        self.usage.unwrap_or(Usage { prompt_tokens, completion_tokens: estimated_tokens(self.bytes), estimated: true })
    }

    /// The whole answer; `None` while it is not finished.
    #[must_use]
    pub fn answer(&self, prompt_tokens: u64) -> Option<Answer> {
        Some(Answer {
            content: self.content.clone(),
            reasoning: self.reasoning.clone(),
            refusal: self.refusal.clone(),
            tool_calls: self.tool_calls.clone(),
            finish: self.finish?,
            usage: self.usage(prompt_tokens),
            model: self.model.clone(),
        })
    }
}

/// About how many tokens so many bytes of text are: three bytes a token, rounded up, which is more than English has.
#[must_use]
pub const fn estimated_tokens(bytes: usize) -> u64 {
    bytes.div_ceil(3) as u64
}

/// Vectors of texts.
#[derive(Debug, Clone, PartialEq)]
pub struct Embeddings {
    /// One for each text, in their order.
    pub vectors: Vec<Vec<f32>>,
    /// Tokens.
    pub usage: Usage,
    /// What the provider calls the model.
    pub model: String,
}

/// The text that is validated against a schema, or `None` when it is no JSON.
#[must_use]
pub fn json_of(content: &str) -> Option<Value> {
    serde_json::from_str(content.trim()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_make_the_answer() {
        let mut collector = Collector::default();
        for piece in [
            Piece::Model("m".to_owned()),
            Piece::Content("he".to_owned()),
            Piece::Content("llo".to_owned()),
            Piece::ToolCall {
                index: 1,
                id: Some("b".to_owned()),
                name: Some("f".to_owned()),
                arguments: "{".to_owned(),
            },
            Piece::ToolCall { index: 1, id: None, name: None, arguments: "}".to_owned() },
        ] {
            collector.take(&piece);
        }
        assert_eq!(collector.answer(3), None, "not finished");
        collector.take(&Piece::Finish(Finish::Stop));
        let answer = collector.answer(3).unwrap();
        assert_eq!((answer.content.as_str(), answer.model.as_str()), ("hello", "m"));
        assert_eq!(answer.tool_calls[1].arguments, "{}");
        assert_eq!(answer.usage, Usage { prompt_tokens: 3, completion_tokens: 3, estimated: true });
        collector.take(&Piece::Usage(Usage { prompt_tokens: 9, completion_tokens: 2, estimated: false }));
        assert_eq!(collector.usage(3).prompt_tokens, 9);
    }

    #[test]
    fn a_wild_index_of_a_tool_call_takes_no_memory() {
        let mut collector = Collector::default();
        collector.take(&Piece::ToolCall { index: usize::MAX, id: None, name: None, arguments: String::new() });
        collector.take(&Piece::Finish(Finish::ToolCalls));
        assert!(collector.answer(0).unwrap().tool_calls.is_empty());
    }

    #[test]
    fn refusals_and_half_answers_are_not_kept() {
        let answer = |finish, refusal: Option<&str>, content: &str| Answer {
            content: content.to_owned(),
            reasoning: String::new(),
            refusal: refusal.map(str::to_owned),
            tool_calls: Vec::new(),
            finish,
            usage: Usage::default(),
            model: String::new(),
        };
        assert!(answer(Finish::Stop, None, "yes").is_cacheable());
        assert!(!answer(Finish::Length, None, "yes").is_cacheable());
        assert!(!answer(Finish::ContentFilter, None, "yes").is_cacheable());
        assert!(!answer(Finish::Stop, Some("no"), "yes").is_cacheable());
        assert!(!answer(Finish::Stop, None, " \n").is_cacheable());
    }
}
