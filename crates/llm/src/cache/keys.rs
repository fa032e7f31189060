//! The keys under which an answer may be found again. Pure.

use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use super::normal::normal;
use super::wording::Wording;
use crate::request::{CacheUse, ChatRequest, Role, URGENT_PRIORITY};

/// A SHA-256.
pub type Digest = [u8; 32];

/// Tags that keep the kinds of keys apart. A change of what is hashed needs a new number: old entries are then never found.
const EXACT: &[u8] = b"llm cache exact 2";
const NORMALISED: &[u8] = b"llm cache normalised 2";
const SEMANTIC: &[u8] = b"llm cache semantic 2";

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
    pub wording: Arc<Wording>,
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
        let said = request.messages.iter().rposition(|message| message.role == Role::User);
        let frame = request.frame(said);
        let said = said.and_then(|at| request.messages.get(at)).map(|message| message.content.as_str());
        let exact = scope.digest(EXACT, &[&frame, said.unwrap_or_default().as_bytes()]);
        let normal = said.and_then(|said| Normal::of(request, said));
        let normalised =
            normal.as_ref().map(|n| scope.digest(NORMALISED, &[n.names.as_bytes(), &frame, n.text.as_bytes()]));
        let semantic = normal.filter(|_| with_semantic).and_then(|normal| semantic(&scope, request, &frame, &normal));
        Some(Self { exact, normalised, semantic, is_read: usage == CacheUse::Usual })
    }

    /// What callers of this priority share one upstream call by.
    #[must_use]
    pub const fn flight(&self, priority: u8) -> FlightKey {
        FlightKey { exact: self.exact, is_urgent: priority >= URGENT_PRIORITY }
    }
}

/// Who may see the answer.
struct Scope<'a> {
    agent: &'a str,
    /// Behind a mark: no tenant is not the tenant without a name.
    tenant: Option<&'a str>,
}

impl<'a> Scope<'a> {
    fn of(agent: &'a str, request: &'a ChatRequest) -> Self {
        Self { agent, tenant: request.extras.tenant.as_deref() }
    }

    /// Each part behind its length, so that none can slide into the next.
    fn digest(&self, tag: &[u8], parts: &[&[u8]]) -> Digest {
        let mut hash = Sha256::new();
        let tenant: [&[u8]; 2] = [if self.tenant.is_some() { b"=" } else { b"" }, self.tenant.unwrap_or("").as_bytes()];
        for part in [tag, self.agent.as_bytes(), tenant[0], tenant[1]].iter().chain(parts) {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        hash.finalize().into()
    }
}

/// The last user message in its normal form.
struct Normal {
    text: String,
    /// The volatile names: part of the key, or a line that one caller meant would equal a line that another had blanked.
    names: String,
}

impl Normal {
    fn of(request: &ChatRequest, said: &str) -> Option<Self> {
        let mut names: Vec<&str> = request.extras.volatile.iter().map(String::as_str).filter(|n| is_name(n)).collect();
        names.sort_unstable();
        names.dedup();
        // Names have no comma.
        Some(Self { text: normal(said, &names)?, names: names.join(",") })
    }
}

/// A name that can stand before a colon and be told from every other; others are never found.
fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b))
}

fn semantic(scope: &Scope<'_>, request: &ChatRequest, frame: &[u8], normal: &Normal) -> Option<SemanticKey> {
    let is_single = match request.messages.as_slice() {
        [user] => user.role == Role::User,
        [system, user] => system.role == Role::System && user.role == Role::User,
        _ => false,
    };
    let is_cool = request.sampling.temperature.is_some_and(|t| t <= HIGHEST_SEMANTIC_TEMPERATURE);
    if !is_single || !is_cool || !request.tools.is_empty() || request.tool_choice.is_some() {
        return None;
    }
    let wording = Arc::new(Wording::of(&normal.text)?);
    let place = scope.digest(SEMANTIC, &[normal.names.as_bytes(), frame, wording.hard().as_bytes()]);
    Some(SemanticKey { place, wording })
}
