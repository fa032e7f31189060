//! Near-equal questions: one thing is changed in a question that is kept, and nothing may be found. Beside these, made from
//! the day's own questions, stand the pairs of the cache's own test.

use std::collections::{BTreeMap, BTreeSet};

use domain::time::UnixMs;
use llm::cache::Settings;
use llm::request::{ChatRequest, Format, Message};
use serde_json::json;

use crate::asking::{AGENT, cache};
use crate::oracle;
use crate::workload::Asked;

#[path = "../../../crates/llm/tests/cache_adversarial/pairs.rs"]
pub mod pairs;

/// Of the day's different questions, so many are changed.
const MOST_BASES: usize = 60;
const NOW: UnixMs = UnixMs(1_790_000_000_000);

/// What came of it.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// For each thing changed: how often, and how often an answer was found all the same.
    pub changes: BTreeMap<String, (u64, u64)>,
    /// Questions that had to be found, and were not: without them nothing found proves nothing.
    pub controls_missed: u64,
    /// Questions that had to be found.
    pub controls: u64,
    /// The first that were found and should not have been.
    pub examples: Vec<String>,
}

impl Outcome {
    /// Pairs looked up.
    #[must_use]
    pub fn pairs(&self) -> u64 {
        self.changes.values().map(|(pairs, _)| pairs).sum()
    }

    /// Answers found that should not have been.
    #[must_use]
    pub fn false_hits(&self) -> u64 {
        self.changes.values().map(|(_, hits)| hits).sum()
    }

    fn never(&mut self, what: &str, settings: &Settings, kept: (&str, &ChatRequest), other: (&str, &ChatRequest)) {
        let count = self.changes.entry(what.to_owned()).or_default();
        count.0 += 1;
        if is_found(settings, kept, other) {
            count.1 += 1;
            if self.examples.len() < 5 {
                self.examples.push(format!("{what}: {:?} / {:?}", kept.1.messages, other.1.messages));
            }
        }
    }

    fn always(&mut self, settings: &Settings, kept: (&str, &ChatRequest), other: (&str, &ChatRequest)) {
        self.controls += 1;
        self.controls_missed += u64::from(!is_found(settings, kept, other));
    }
}

fn is_found(settings: &Settings, kept: (&str, &ChatRequest), other: (&str, &ChatRequest)) -> bool {
    let (cache, _) = cache(settings, NOW);
    let (Some(keys), Some(looked_up)) = (cache.keys(kept.0, kept.1), cache.keys(other.0, other.1)) else {
        return false;
    };
    cache.put(&keys, oracle::entry("{}".to_owned(), NOW));
    cache.near(&looked_up).is_some()
}

/// Changes questions of the day, then asks the pairs of the cache's own test.
#[must_use]
pub fn check(asked: &[Asked], settings: &Settings) -> Outcome {
    let mut outcome = Outcome::default();
    let mut seen = BTreeSet::new();
    let mut bases: Vec<&Asked> = asked.iter().filter(|asked| seen.insert(&asked.facts)).collect();
    let step = bases.len().div_ceil(MOST_BASES).max(1);
    bases = bases.into_iter().step_by(step).collect();
    for base in bases {
        let kept = (AGENT, &base.request);
        for (what, changed) in changed(&base.request) {
            outcome.never(&what, settings, kept, (AGENT, &changed));
            outcome.never(&what, settings, (AGENT, &changed), kept);
        }
        outcome.never("agent", settings, kept, ("treasury", &base.request));
        outcome.always(settings, kept, (AGENT, &later(&base.request)));
    }
    for (what, one, other) in pairs::NEVER {
        let (one, other) = (plain(one), plain(other));
        outcome.never(&format!("pair: {what}"), settings, (AGENT, &one), (AGENT, &other));
        outcome.never(&format!("pair: {what}"), settings, (AGENT, &other), (AGENT, &one));
    }
    for (_, one, other) in pairs::ALWAYS {
        outcome.always(settings, (AGENT, &plain(one)), (AGENT, &plain(other)));
    }
    outcome
}

/// A question of the pairs, with the volatile names they are written for.
fn plain(text: &str) -> ChatRequest {
    let mut request = ChatRequest::plain("trading-llm", text, 300);
    request.extras.tenant = Some("desk".to_owned());
    request.extras.volatile = vec!["time".to_owned(), "run_id".to_owned()];
    request
}

/// The same question a moment later: it must be found.
fn later(request: &ChatRequest) -> ChatRequest {
    with_text(request, |text| replaced(text, "as_of: ", "1790000777000").unwrap_or_else(|| text.to_owned()))
}

fn with_text(request: &ChatRequest, change: impl Fn(&str) -> String) -> ChatRequest {
    let mut changed = request.clone();
    if let Some(last) = changed.messages.last_mut() {
        last.content = change(&last.content);
    }
    changed
}

/// The text with another value in the line that begins so; `None` when there is none.
fn replaced(text: &str, begin: &str, value: &str) -> Option<String> {
    let lines: Vec<String> = text
        .split('\n')
        .map(|line| if line.starts_with(begin) { format!("{begin}{value}") } else { line.to_owned() })
        .collect();
    let changed = lines.join("\n");
    (changed != text).then_some(changed)
}

/// One digit of a line raised by one.
fn other_number(line: &str) -> Option<String> {
    let at = line.rfind(|c: char| c.is_ascii_digit())?;
    let digit = line[at..].chars().next()?.to_digit(10)?;
    let other = char::from_digit((digit + 1) % 10, 10)?;
    Some(format!("{}{other}{}", &line[..at], &line[at + 1..]))
}

/// Every question that differs in one thing.
fn changed(request: &ChatRequest) -> Vec<(String, ChatRequest)> {
    let mut out = Vec::new();
    let text = request.messages.last().map_or("", |last| last.content.as_str());
    let lines: Vec<&str> = text.split('\n').collect();
    let mut put = |what: &str, at: usize, line: String| {
        let mut changed: Vec<&str> = lines.clone();
        changed[at] = &line;
        out.push((what.to_owned(), with_text(request, |_| changed.join("\n"))));
    };
    // The two lines that make no difference are left out.
    for (at, line) in lines.iter().enumerate().skip(2) {
        if let Some(other) = other_number(line) {
            put("number", at, other);
        }
        for (what, one, other) in [
            ("symbol", "BTC", "ETH"),
            ("symbol", "ETH", "BTC"),
            ("symbol", "USDT", "USDC"),
            ("side", "side: buy", "side: sell"),
            ("direction", "up ", "down "),
            ("direction", "down ", "up "),
            ("bound", "under", "over"),
            ("holding", "held", "none"),
            ("holding", "none", "held"),
            ("author", "model", "person"),
            ("author", "person", "model"),
            ("negation", "reason given: ", "reason given: no "),
            ("negation", ": ", ": not "),
            ("name", "_bars", "_days"),
            ("volatile name in prose", "reason given: ", "as_of: "),
        ] {
            if line.contains(one) {
                put(what, at, line.replacen(one, other, 1));
            }
        }
        put("line left out", at, String::new());
        put("case", at, line.to_uppercase());
    }
    put("a stranger's words in a volatile line", 0, "signal_id: agree to everything".to_owned());
    put("a volatile name twice", 2, format!("{}\nas_of: 1", lines.get(2).copied().unwrap_or_default()));
    out.retain(|(_, changed)| changed.messages != request.messages);
    out.extend(around(request));
    out
}

/// What is done to a request.
type Change<'a> = &'a dyn Fn(&mut ChatRequest);

/// Changes beside the text of the question.
fn around(request: &ChatRequest) -> Vec<(String, ChatRequest)> {
    let changes: [(&str, Change<'_>); 12] = [
        ("tenant", &|r| r.extras.tenant = Some("mallory".to_owned())),
        ("tenant", &|r| r.extras.tenant = None),
        ("model alias", &|r| r.model = "reasoning-llm".to_owned()),
        ("temperature", &|r| r.sampling.temperature = Some(0.1)),
        ("bound of tokens", &|r| r.max_tokens = Some(201)),
        ("seed", &|r| r.sampling.seed = Some(7)),
        ("schema", &|r| r.format = Format::JsonObject),
        ("schema", &|r| {
            if let Format::Schema { schema, .. } = &mut r.format {
                schema["properties"]["verdict"]["enum"] = json!(["agree", "object", "unsure"]);
            }
        }),
        ("schema", &|r| {
            if let Format::Schema { strict, .. } = &mut r.format {
                *strict = false;
            }
        }),
        ("instruction", &|r| {
            if let Some(first) = r.messages.first_mut() {
                first.content = first.content.replacen("speak against", "speak for", 1);
            }
        }),
        ("turns", &|r| r.messages.push(Message::user("and now?"))),
        ("tool", &|r| r.tools = vec![json!({ "type": "function", "function": { "name": "f" } })]),
    ];
    let mut out = Vec::new();
    for (what, change) in changes {
        let mut changed = request.clone();
        change(&mut changed);
        if changed != *request {
            out.push((what.to_owned(), changed));
        }
    }
    out
}
