//! From an answer and a fault to what is done on the connection.

use std::time::Duration;

use serde_json::Value;

use super::fault::{ErrorBody, Fault, Flaw, Refusal, Trouble};
use super::talk::{Chat, Finish, Flavour, Part, Piece, Reply};
use super::wire::Step;
use super::{Dialect, anthropic, ollama, openai, schema};

/// How fast answers come.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    /// Most pieces of content in a stream.
    pub chunks: usize,
    /// Between two of them.
    pub pause: Duration,
    /// Before the answer begins.
    pub latency: Duration,
}

/// All that an answer depends on besides the request.
#[derive(Debug)]
pub(super) struct Stage {
    pub dialect: Dialect,
    pub flavour: Flavour,
    pub pace: Pace,
    /// Headers of the limits, each with its line end.
    pub limits: String,
    pub fault: Option<Fault>,
}

const HTML: &str = "<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body><center><h1>502 Bad Gateway</h1></center></body>\r\n</html>\r\n";
const JSON: &str = "application/json";

impl Stage {
    /// An error of the dialect.
    pub(super) fn refused(&self, refusal: &Refusal) -> Vec<Step> {
        let mut headers = String::new();
        if let Some(wait_ms) = refusal.retry_after {
            headers = format!("retry-after: {}\r\n", wait_ms.div_ceil(1_000).max(1));
        }
        let body = self.error(refusal);
        vec![self.answer(refusal.status, JSON, &headers, body.as_bytes(), (0, 0))]
    }

    fn error(&self, refusal: &Refusal) -> String {
        match self.dialect {
            Dialect::OpenAi => openai::error(self.flavour, refusal),
            Dialect::Ollama => ollama::error(refusal),
            Dialect::Anthropic => anthropic::error(refusal),
        }
        .to_string()
    }

    /// An answer that is no chat: vectors, models. Faults of a stream are played as they are at any whole answer.
    pub(super) fn whole(&self, model: &str, body: &Value, bills: (u64, u64)) -> Vec<Step> {
        if let Some(steps) = self.instead(model) {
            return steps;
        }
        self.whole_answer(&body.to_string(), bills)
    }

    /// An answer to a chat, with whatever goes wrong.
    pub(super) fn chat(&self, chat: &Chat, mut reply: Reply) -> Vec<Step> {
        if let Some(steps) = self.instead(&chat.model) {
            return steps;
        }
        self.spoil(chat, &mut reply);
        if chat.stream {
            let pieces = match self.dialect {
                Dialect::OpenAi => openai::pieces(self.flavour, chat, &reply),
                Dialect::Ollama => ollama::pieces(chat, &reply),
                Dialect::Anthropic => anthropic::pieces(chat, &reply),
            };
            return self.stream(chat, &reply, pieces);
        }
        let body = match self.dialect {
            Dialect::OpenAi => openai::whole(self.flavour, chat, &reply),
            Dialect::Ollama => ollama::whole(chat, &reply),
            Dialect::Anthropic => anthropic::whole(chat, &reply),
        };
        self.whole_answer(&body.to_string(), (chat.prompt_tokens, reply.shares().iter().sum()))
    }

    /// Faults that need no answer.
    fn instead(&self, model: &str) -> Option<Vec<Step>> {
        let refusal = match self.fault.as_ref()? {
            Fault::Reset => return Some(vec![Step::Reset]),
            Fault::Hang => return Some(vec![Step::Hang]),
            Fault::NotJson200 => return Some(vec![self.answer(200, "text/html", "", HTML.as_bytes(), (0, 0))]),
            Fault::Status { code, retry_after, retry_after_ms, body } => {
                let mut headers = retry_after.map_or_else(String::new, |wait| format!("retry-after: {wait}\r\n"));
                if let Some(wait) = retry_after_ms {
                    headers.push_str(&format!("retry-after-ms: {wait}\r\n"));
                }
                let step = match body {
                    ErrorBody::Json => {
                        let body = self.error(&Refusal::of(*code, Trouble::Status(*code)));
                        self.answer(*code, JSON, &headers, body.as_bytes(), (0, 0))
                    }
                    ErrorBody::Html => self.answer(*code, "text/html", &headers, HTML.as_bytes(), (0, 0)),
                    ErrorBody::Empty => self.answer(*code, "text/plain", &headers, b"", (0, 0)),
                };
                return Some(vec![step]);
            }
            Fault::ContextLength => Refusal::of(400, Trouble::ContextLength),
            Fault::ContentFilter => Refusal::of(400, Trouble::ContentFilter),
            Fault::RefusedPrefill => Refusal::of(400, Trouble::Prefill),
            Fault::Unauthorized => Refusal::of(401, Trouble::Unauthorized),
            Fault::ModelNotFound => Refusal::of(404, Trouble::NoModel(model.to_owned())),
            _ => return None,
        };
        Some(self.refused(&refusal))
    }

    /// Faults of what is said.
    fn spoil(&self, chat: &Chat, reply: &mut Reply) {
        let chunks = self.pace.chunks;
        match self.fault {
            Some(Fault::NoFinish) => reply.finish = None,
            Some(Fault::EmptyChoices) => {
                (reply.hollow, reply.tool) = (true, None);
                reply.set(chat, "", chunks);
            }
            Some(Fault::EmptyContent) => {
                (reply.tool, reply.finish) = (None, Some(Finish::Stop));
                reply.set(chat, "", chunks);
            }
            Some(Fault::WrongSchema) => {
                let wrong = schema::broken(chat.schema.as_ref());
                if let Some((_, arguments)) = &mut reply.tool {
                    arguments.clone_from(&wrong);
                }
                reply.set(chat, &wrong.to_string(), chunks);
            }
            Some(Fault::ContentFiltered) => {
                let text: String = reply.text().chars().take(reply.text().chars().count() / 2).collect();
                (reply.tool, reply.finish) = (None, Some(Finish::Filtered));
                reply.set(chat, &text, chunks);
            }
            Some(Fault::Oversized(bytes)) => {
                reply.tool = None;
                reply.set(chat, &"x".repeat(bytes), chunks);
            }
            Some(Fault::WrongUsage { prompt, completion }) => reply.usage = Some((prompt, completion)),
            Some(Fault::NoUsage) => reply.usage = None,
            _ => {}
        }
    }

    fn whole_answer(&self, body: &str, bills: (u64, u64)) -> Vec<Step> {
        let head = self.head(200, JSON, &format!("content-length: {}\r\n", body.len()));
        let mut half = body.len() / 2;
        while !body.is_char_boundary(half) {
            half -= 1;
        }
        let half = &body[..half];
        let begun = || Step::Write { bytes: [head.as_slice(), half.as_bytes()].concat(), bills };
        let only_head = || Step::Write { bytes: head.clone(), bills: (0, 0) };
        let mut steps = self.before();
        match self.fault {
            Some(Fault::CutBeforeContent) => steps.extend([only_head(), Step::Close]),
            Some(Fault::ResetAfterHeaders) => steps.extend([only_head(), Step::Reset]),
            Some(Fault::StallBeforeContent) => steps.extend([only_head(), Step::Hang]),
            Some(Fault::StallAfter(_)) => steps.extend([begun(), Step::Hang]),
            Some(Fault::CutAfter(_) | Fault::CutBelowLength) => steps.extend([begun(), Step::Close]),
            Some(Fault::EndAfter(_) | Fault::CutJson | Fault::MalformedChunkAt(_)) => {
                steps.push(self.answer(200, JSON, "", half.as_bytes(), bills));
            }
            Some(Fault::ErrorEventFirst | Fault::ErrorEventAfter(_)) => {
                steps.extend(self.refused(&Refusal::of(500, Trouble::Status(500))));
            }
            Some(Fault::SlowFirst { wait, headers_first: true }) => {
                steps.extend([only_head(), Step::Wait(wait), Step::Write { bytes: body.as_bytes().to_vec(), bills }]);
            }
            _ => steps.push(Step::Write { bytes: [head.as_slice(), body.as_bytes()].concat(), bills }),
        }
        steps
    }

    /// What is waited before a good answer begins.
    fn before(&self) -> Vec<Step> {
        let slow = match self.fault {
            Some(Fault::SlowFirst { wait, headers_first: false }) => wait,
            _ => Duration::ZERO,
        };
        let wait = self.pace.latency + slow;
        if wait.is_zero() { Vec::new() } else { vec![Step::Wait(wait)] }
    }

    fn stream(&self, chat: &Chat, reply: &Reply, pieces: Vec<Piece>) -> Vec<Step> {
        let kind = if self.dialect == Dialect::Ollama { "application/x-ndjson" } else { "text/event-stream" };
        let head = self.head(200, kind, "cache-control: no-cache\r\ntransfer-encoding: chunked\r\n");
        let mut out = Writer { steps: self.before(), ..Writer::default() };
        out.push(&head, (0, 0));
        if self.fault == Some(Fault::ResetAfterHeaders) {
            return out.ended(Some(Step::Reset));
        }
        // The prompt is paid for with the first piece that a model made.
        let mut owed = chat.prompt_tokens;
        let (mut content, mut over) = (0, false);
        for piece in pieces {
            if piece.part == Part::End && self.fault == Some(Fault::NoDone) {
                continue;
            }
            let first_after = !over && matches!(piece.part, Part::Finish | Part::End);
            if piece.part == Part::Content || first_after {
                over = first_after;
                if let Some(end) = self.breaks(content, over, &mut out) {
                    let error = self.error_piece(chat, reply);
                    return out.broken(end, &piece.text, &error);
                }
            }
            let bills = (if piece.part == Part::Lead { 0 } else { std::mem::take(&mut owed) }, piece.tokens);
            if piece.part != Part::Content {
                out.chunk(piece.text.as_bytes(), bills);
                continue;
            }
            if content > 0 && !self.pace.pause.is_zero() {
                out.step(Step::Wait(self.pace.pause));
            }
            let spoilt = self.fault == Some(Fault::MalformedChunkAt(content));
            let text = if spoilt { malformed(&piece.text) } else { piece.text };
            out.chunk(text.as_bytes(), bills);
            out.flush();
            content += 1;
        }
        out.push(b"0\r\n\r\n", (0, 0));
        out.ended(None)
    }

    /// Whether and how the stream breaks before the content with this index; `over`: there is no more content, so that a
    /// fault after more pieces than there are comes now.
    fn breaks(&self, at: usize, over: bool, out: &mut Writer) -> Option<Break> {
        let now = |after: usize| at == after || (over && at < after);
        match self.fault {
            Some(Fault::CutBeforeContent) => Some(Break::Cut),
            Some(Fault::CutAfter(after)) if now(after) => Some(Break::Cut),
            Some(Fault::EndAfter(after)) if now(after) => Some(Break::End),
            Some(Fault::ErrorEventFirst) => Some(Break::Error),
            Some(Fault::ErrorEventAfter(after)) if now(after) => Some(Break::Error),
            Some(Fault::StallBeforeContent) => Some(Break::Stall),
            Some(Fault::StallAfter(after)) if now(after) => Some(Break::Stall),
            Some(Fault::CutJson) => Some(Break::Half),
            Some(Fault::CutBelowLength) => Some(Break::HalfChunk),
            Some(Fault::SlowFirst { wait, headers_first: true }) if at == 0 => {
                out.step(Step::Wait(wait));
                None
            }
            _ => None,
        }
    }

    fn error_piece(&self, chat: &Chat, reply: &Reply) -> String {
        match self.dialect {
            Dialect::OpenAi => openai::error_piece(self.flavour, chat, reply),
            Dialect::Ollama => ollama::error_piece(),
            Dialect::Anthropic => anthropic::error_piece(),
        }
    }

    /// Head and body of an answer whose length is told.
    fn answer(&self, status: u16, kind: &str, headers: &str, body: &[u8], bills: (u64, u64)) -> Step {
        let mut bytes = self.head(status, kind, &format!("{headers}content-length: {}\r\n", body.len()));
        bytes.extend_from_slice(body);
        Step::Write { bytes, bills }
    }

    fn head(&self, status: u16, kind: &str, headers: &str) -> Vec<u8> {
        let word = match status {
            200 => "OK",
            400 => "Bad Request",
            401 => "Unauthorized",
            404 => "Not Found",
            429 => "Too Many Requests",
            500 => "Internal Server Error",
            503 => "Service Unavailable",
            _ => "Status",
        };
        format!("HTTP/1.1 {status} {word}\r\ncontent-type: {kind}\r\n{}{headers}\r\n", self.limits).into_bytes()
    }
}

/// An answer to what is no HTTP at all.
pub(super) fn not_http(stage: &Stage, words: String) -> Vec<Step> {
    stage.refused(&Refusal::from(Flaw::Request(words)))
}

/// The text of a piece with its JSON cut short; the framing around it stays whole.
fn malformed(text: &str) -> String {
    let ends = text.len() - text.trim_end_matches('\n').len();
    let (body, end) = text.split_at(text.len() - ends);
    let keep = body.len().saturating_sub(9);
    let keep = (0..=keep).rev().find(|at| body.is_char_boundary(*at)).unwrap_or(0);
    format!("{}{end}", &body[..keep])
}

/// How a stream breaks.
#[derive(Debug, Clone, Copy)]
enum Break {
    Cut,
    End,
    Error,
    Stall,
    /// In the middle of a piece, though HTTP ends well.
    Half,
    /// In the middle of a chunk.
    HalfChunk,
}

/// Collects what can be written at once.
#[derive(Debug, Default)]
struct Writer {
    steps: Vec<Step>,
    bytes: Vec<u8>,
    bills: (u64, u64),
}

impl Writer {
    fn push(&mut self, bytes: &[u8], bills: (u64, u64)) {
        self.bytes.extend_from_slice(bytes);
        self.bills = (self.bills.0 + bills.0, self.bills.1 + bills.1);
    }

    fn chunk(&mut self, bytes: &[u8], bills: (u64, u64)) {
        self.push(format!("{:x}\r\n", bytes.len()).as_bytes(), bills);
        self.push(bytes, (0, 0));
        self.push(b"\r\n", (0, 0));
    }

    fn flush(&mut self) {
        if !self.bytes.is_empty() {
            let bytes = std::mem::take(&mut self.bytes);
            self.steps.push(Step::Write { bytes, bills: std::mem::take(&mut self.bills) });
        }
    }

    fn step(&mut self, step: Step) {
        self.flush();
        self.steps.push(step);
    }

    fn ended(mut self, last: Option<Step>) -> Vec<Step> {
        self.flush();
        self.steps.extend(last);
        self.steps
    }

    /// Breaks off before `piece`.
    fn broken(mut self, end: Break, piece: &str, error: &str) -> Vec<Step> {
        let half = &piece.as_bytes()[..piece.len() / 2];
        match end {
            Break::Cut => return self.ended(Some(Step::Close)),
            Break::Stall => return self.ended(Some(Step::Hang)),
            Break::HalfChunk => {
                self.push(format!("{:x}\r\n", piece.len()).as_bytes(), (0, 0));
                self.push(half, (0, 0));
                return self.ended(Some(Step::Close));
            }
            Break::Error => self.chunk(error.as_bytes(), (0, 0)),
            Break::Half => self.chunk(half, (0, 0)),
            Break::End => {}
        }
        self.push(b"0\r\n\r\n", (0, 0));
        self.ended(None)
    }
}
