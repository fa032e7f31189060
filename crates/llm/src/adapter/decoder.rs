//! Reads a streamed answer piece by piece.

use super::frame::{Framer, Framing};
use super::wire::{after_calls, call_id, calls_before};
use super::{Adapter, anthropic, ollama, openai};
use crate::answer::{Finish, MOST_TOOL_CALLS, Piece, Usage};
use crate::failure::{Failure, Kind};
use crate::request::ChatRequest;

/// Reads the body of a streamed answer. Any split of the bytes gives the same pieces; whatever the bytes are, the worst
/// that happens is a [`Failure`].
///
/// A stream is whole once the provider said why the model stopped; its own mark of the end ([`Piece::End`]) may be absent.
/// A stream without text, refusal or calls of tools is [`Kind::Empty`], as a whole answer is.
#[derive(Debug)]
pub struct Decoder {
    framer: Framer,
    dialect: Dialect,
    told: Told,
    failed: bool,
}

#[derive(Debug)]
enum Dialect {
    OpenAi,
    Ollama,
    /// With what the first event counted.
    Anthropic(anthropic::Tokens),
}

impl Decoder {
    pub(super) fn new(adapter: Adapter, request: &ChatRequest) -> Self {
        let (dialect, framing) = match adapter {
            Adapter::OpenAi => (Dialect::OpenAi, Framing::Sse),
            Adapter::Ollama => (Dialect::Ollama, Framing::Lines),
            Adapter::Anthropic => (Dialect::Anthropic(anthropic::Tokens::default()), Framing::Sse),
        };
        Self { framer: Framer::new(framing), dialect, told: Told::new(request), failed: false }
    }

    /// Takes more of the body and adds the pieces that are whole to `out`. After a failure, and after the end, nothing
    /// more is read.
    ///
    /// # Errors
    /// [`Kind::Malformed`], [`Kind::TooLarge`] of a line over a mebibyte or too many calls of tools, [`Kind::Cut`] of an
    /// end without a reason to stop, [`Kind::Empty`], and whatever an error event says. Pieces before it are in `out`.
    pub fn push(&mut self, bytes: &[u8], out: &mut Vec<Piece>) -> Result<(), Failure> {
        if self.failed {
            return Ok(());
        }
        let Self { framer, dialect, told, .. } = self;
        let pushed = framer.push(bytes, &mut |event| dialect.event(event, told, out));
        // What follows the end is nobody's.
        let pushed = if told.ended_well { Ok(()) } else { pushed };
        self.failed = pushed.is_err();
        pushed
    }

    /// The body is over.
    ///
    /// # Errors
    /// [`Kind::Cut`], when the model never said why it stopped; else as [`Decoder::push`].
    pub fn finish(&mut self, out: &mut Vec<Piece>) -> Result<(), Failure> {
        if self.failed || self.told.ended_well {
            return Ok(());
        }
        self.failed = true;
        let Self { framer, dialect, told, .. } = self;
        match framer.finish(&mut |event| dialect.event(event, told, out)) {
            // Half an event is what a cut looks like.
            Err(failure) if failure.kind != Kind::Malformed => Err(failure),
            _ if told.ended_well => Ok(()),
            _ => told.check(),
        }
    }
}

impl Dialect {
    fn event(&mut self, event: &[u8], told: &mut Told, out: &mut Vec<Piece>) -> Result<(), Failure> {
        if told.ended_well {
            return Ok(());
        }
        match self {
            Self::OpenAi => openai::event(event, told, out),
            Self::Ollama => ollama::event(event, told, out),
            Self::Anthropic(earlier) => anthropic::event(event, earlier, told, out),
        }
    }
}

/// What a stream has said so far, and the way by which dialects say more.
#[derive(Debug, Default)]
pub(super) struct Told {
    model: bool,
    said: bool,
    finish: Option<Finish>,
    ended_well: bool,
    calls: Vec<OpenCall>,
    calls_before: usize,
}

#[derive(Debug)]
struct OpenCall {
    wire: usize,
    id: String,
    has_arguments: bool,
}

impl Told {
    fn new(request: &ChatRequest) -> Self {
        Self { calls_before: calls_before(request), ..Self::default() }
    }

    pub(super) fn model(&mut self, model: &str, out: &mut Vec<Piece>) {
        if !self.model && !model.is_empty() {
            self.model = true;
            out.push(Piece::Model(model.to_owned()));
        }
    }

    pub(super) fn content(&mut self, text: String, out: &mut Vec<Piece>) {
        if !text.is_empty() {
            self.said |= !text.trim().is_empty();
            out.push(Piece::Content(text));
        }
    }

    pub(super) fn reasoning(text: String, out: &mut Vec<Piece>) {
        if !text.is_empty() {
            out.push(Piece::Reasoning(text));
        }
    }

    pub(super) fn refusal(&mut self, text: String, out: &mut Vec<Piece>) {
        if !text.is_empty() {
            self.said = true;
            out.push(Piece::Refusal(text));
        }
    }

    /// Part of a call, `wire` as the provider numbers them. Empty ids and names, which some repeat in later parts, are
    /// none. A new id and name under an old number is a new call: some number every call 0.
    pub(super) fn call(
        &mut self,
        wire: usize,
        id: Option<String>,
        name: Option<String>,
        arguments: String,
        out: &mut Vec<Piece>,
    ) -> Result<(), Failure> {
        let (mut id, name) = (id.filter(|id| !id.is_empty()), name.filter(|name| !name.is_empty()));
        let is_new = |call: &OpenCall| name.is_some() && id.as_ref().is_some_and(|id| *id != call.id);
        let known = self.calls.iter().rposition(|call| call.wire == wire);
        let known = known.filter(|at| !self.calls.get(*at).is_some_and(is_new));
        let index = known.unwrap_or(self.calls.len());
        if index >= MOST_TOOL_CALLS {
            return Err(Failure::new(Kind::TooLarge, format!("more than {MOST_TOOL_CALLS} calls of tools")));
        }
        if known.is_none() {
            if name.is_none() {
                return Err(Failure::new(Kind::Malformed, "a call of a tool without a name"));
            }
            let id = id.get_or_insert_with(|| call_id(self.calls_before + index)).clone();
            self.calls.push(OpenCall { wire, id, has_arguments: false });
        }
        if let Some(call) = self.calls.get_mut(index) {
            call.has_arguments |= !arguments.trim().is_empty();
        }
        self.said = true;
        out.push(Piece::ToolCall { index, id, name, arguments });
        Ok(())
    }

    /// Calls so far.
    pub(super) const fn calls(&self) -> usize {
        self.calls.len()
    }

    /// Why the model stopped. Calls without arguments get the empty ones that they mean.
    pub(super) fn finish(&mut self, finish: Finish, out: &mut Vec<Piece>) {
        if self.finish.is_some() {
            return;
        }
        let finish = after_calls(finish, !self.calls.is_empty());
        for (index, call) in self.calls.iter_mut().enumerate() {
            if !std::mem::replace(&mut call.has_arguments, true) {
                out.push(Piece::ToolCall { index, id: None, name: None, arguments: "{}".to_owned() });
            }
        }
        self.finish = Some(finish);
        out.push(Piece::Finish(finish));
    }

    pub(super) fn usage(usage: Usage, out: &mut Vec<Piece>) {
        out.push(Piece::Usage(usage));
    }

    /// The provider's mark of the end.
    pub(super) fn end(&mut self, out: &mut Vec<Piece>) -> Result<(), Failure> {
        self.check()?;
        self.ended_well = true;
        out.push(Piece::End);
        Ok(())
    }

    fn check(&self) -> Result<(), Failure> {
        match self.finish {
            None => Err(Failure::new(Kind::Cut, "the stream ended before the model did")),
            Some(finish) if !self.said && finish != Finish::ContentFilter => {
                Err(Failure::new(Kind::Empty, "the stream has neither text nor calls of tools"))
            }
            Some(_) => Ok(()),
        }
    }
}
