//! The keys under which an answer may be found again. Pure.

use sha2::{Digest as _, Sha256};

use super::normal::normal;
use super::wording::Wording;
use crate::request::{CacheUse, ChatRequest, Message, Role, URGENT_PRIORITY};

/// A SHA-256.
pub type Digest = [u8; 32];

/// Tags that keep the kinds of keys apart. A change of what is hashed needs a new number: old entries are then never found.
const EXACT: &[u8] = b"llm cache exact 1";
const NORMALISED: &[u8] = b"llm cache normalised 1";
const SEMANTIC: &[u8] = b"llm cache semantic 1";

/// Above it a caller wants answers to differ.
const HIGHEST_SEMANTIC_TEMPERATURE: f64 = 0.2;

/// What one request is looked up and kept under.
#[derive(Debug, Clone, PartialEq)]
pub struct Keys {
    /// Of the request as it is.
    pub exact: Digest,
    /// Of its normal form; `None` where that is not safe.
    pub normalised: Option<Digest>,
    /// Of what it says; `None` where another wording may not be answered alike.
    pub semantic: Option<SemanticKey>,
    /// Whether an entry may be used, or only kept ([`CacheUse::Refresh`]).
    pub is_read: bool,
}

/// Where a wording is looked for, and how it is worded.
#[derive(Debug, Clone, PartialEq)]
pub struct SemanticKey {
    /// Everything that must be equal: the request without its user text, and the hard words of that text in their order.
    pub place: Digest,
    /// The words, for the similarity.
    pub wording: Wording,
}

/// What callers share one upstream call by. Urgent callers don't wait for the call of one who is not: that one may stand in
/// a queue which the urgent overtake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FlightKey {
    exact: Digest,
    is_urgent: bool,
}

impl Keys {
    /// Keys of a request by `agent`; `None` when the caller wants no cache. `with_semantic`: by what it says, too.
    #[must_use]
    pub fn of(agent: &str, request: &ChatRequest, with_semantic: bool) -> Option<Self> {
        let usage = request.extras.cache.unwrap_or_default();
        if usage == CacheUse::Off {
            return None;
        }
        let scope = Scope::of(agent, request);
        let exact = scope.digest(EXACT, &[&request.canonical()]);
        let normal = Normal::of(request);
        let normalised = normal
            .as_ref()
            .map(|normal| scope.digest(NORMALISED, &[&normal.names, &request.canonical_with(&normal.messages)]));
        let semantic = normal.filter(|_| with_semantic).and_then(|normal| semantic(&scope, request, normal));
        Some(Self { exact, normalised, semantic, is_read: usage == CacheUse::Usual })
    }

    /// What callers of this priority share one upstream call by.
    #[must_use]
    pub const fn flight(&self, priority: u8) -> FlightKey {
        FlightKey { exact: self.exact, is_urgent: priority >= URGENT_PRIORITY }
    }
}

/// Who may see the answer.
struct Scope {
    agent: Vec<u8>,
    tenant: Vec<u8>,
}

impl Scope {
    fn of(agent: &str, request: &ChatRequest) -> Self {
        // No tenant is not the tenant without a name.
        let tenant = request.extras.tenant.as_ref().map_or_else(Vec::new, |name| [b"=", name.as_bytes()].concat());
        Self { agent: agent.as_bytes().to_vec(), tenant }
    }

    /// Each part behind its length, so that none can slide into the next.
    fn digest(&self, tag: &[u8], parts: &[&[u8]]) -> Digest {
        let mut hash = Sha256::new();
        for part in [tag, &self.agent, &self.tenant].iter().chain(parts) {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        hash.finalize().into()
    }
}

/// The messages with the last user message in its normal form.
struct Normal {
    messages: Vec<Message>,
    /// Which of them.
    at: usize,
    /// The volatile names: part of the key, or a line that one caller meant would equal a line that another had blanked.
    names: Vec<u8>,
}

impl Normal {
    fn of(request: &ChatRequest) -> Option<Self> {
        let at = request.messages.iter().rposition(|message| message.role == Role::User)?;
        let mut names: Vec<&str> = request.extras.volatile.iter().map(String::as_str).filter(|n| is_name(n)).collect();
        names.sort_unstable();
        names.dedup();
        let mut messages = request.messages.clone();
        let last = messages.get_mut(at)?;
        last.content = normal(&last.content, &names)?;
        // Names have no comma.
        Some(Self { messages, at, names: names.join(",").into_bytes() })
    }
}

/// A name that can stand before a colon and be told from every other; others are never found.
fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b))
}

fn semantic(scope: &Scope, request: &ChatRequest, mut normal: Normal) -> Option<SemanticKey> {
    let is_single = match request.messages.as_slice() {
        [user] => user.role == Role::User,
        [system, user] => system.role == Role::System && user.role == Role::User,
        _ => false,
    };
    let is_cool = request.sampling.temperature.is_some_and(|t| t <= HIGHEST_SEMANTIC_TEMPERATURE);
    if !is_single || !is_cool || !request.tools.is_empty() || request.tool_choice.is_some() {
        return None;
    }
    let wording = Wording::of(&std::mem::take(&mut normal.messages.get_mut(normal.at)?.content))?;
    let rest = request.canonical_with(&normal.messages);
    let place = scope.digest(SEMANTIC, &[&normal.names, &rest, wording.hard().as_bytes()]);
    Some(SemanticKey { place, wording })
}
