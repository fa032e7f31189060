//! The faults, and what must come of each.

use std::time::Duration;

use testkit::provider::{ErrorBody, Fault};

use crate::stage::{Line, chain, patience, without_quota};

/// How a fault is played.
#[derive(Debug, Clone)]
pub enum Play {
    /// On the next request only.
    Once(Fault),
    /// On every request.
    Always(Fault),
    /// On every second request, the first among them.
    Flap(Fault),
    /// The provider is gone: connections are refused.
    Dead,
}

/// What a client must see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Must {
    /// An answer of the tier with this index.
    Answer(usize),
    /// An explained error with this code.
    Refused(&'static str),
    /// A stream that ends, after content of this tier, with one error event of this code.
    CutShort(usize, &'static str),
}

/// How what is booked must relate to the tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Money {
    /// What the tokens that the client was told cost, to a millionth of a dollar; what failed costs nothing.
    AsTold,
    /// The provider did not say: no less than its bill, at most 64 tokens a request more.
    Estimated,
}

/// One row of the table.
#[derive(Debug, Clone)]
pub struct Case {
    /// Its name.
    pub name: &'static str,
    /// What is played at which tier.
    pub plays: Vec<(usize, Play)>,
    /// Lines of llm.toml that are other than shipped.
    pub lines: Vec<Line>,
    /// Asked with `stream: true`.
    pub stream: bool,
    /// The last message is the assistant's.
    pub prefill: bool,
    /// Requests, one after the other, each with another prompt.
    pub requests: usize,
    /// What the first sees.
    pub first: Must,
    /// What the later ones may see.
    pub later: Vec<Must>,
    /// Calls of each tier by the first request.
    pub calls_first: [usize; 3],
    /// Calls of each tier by all.
    pub calls_all: [usize; 3],
    /// Tries at tier 1 by all, where they do not reach the double.
    pub tries: Option<u64>,
    /// What is booked.
    pub money: Money,
    /// The most that the first may lose, ms.
    pub first_loses_ms: u64,
}

/// Patience of a tier whose silence is waited out: first content, stillness, whole.
const FIRST_TOKEN_MS: u64 = 300;
const IDLE_MS: u64 = 200;
const TOTAL_MS: u64 = 500;
/// What anything may take on a busy machine, besides the timeouts.
const SLACK_MS: u64 = 400;

impl Case {
    /// Tier 1 has this fault all the time: it is asked until its breaker opens, and tier 2 answers.
    fn lasting(name: &'static str, fault: Fault) -> Self {
        Self {
            name,
            plays: vec![(0, Play::Always(fault))],
            lines: patience("tier.local", FIRST_TOKEN_MS, IDLE_MS, TOTAL_MS),
            stream: false,
            prefill: false,
            requests: 8,
            first: Must::Answer(1),
            later: vec![Must::Answer(1)],
            calls_first: [1, 1, 0],
            calls_all: [5, 8, 0],
            tries: None,
            money: Money::AsTold,
            first_loses_ms: SLACK_MS,
        }
    }

    /// The fault is in an answer that came whole: tier 2 before 3, without tier 1, where the OpenAI API is meant.
    fn second(name: &'static str, fault: Fault) -> Self {
        Self {
            plays: vec![(1, Play::Always(fault))],
            lines: [patience("tier.groq", FIRST_TOKEN_MS, IDLE_MS, TOTAL_MS), vec![chain(&["groq", "openrouter"])]]
                .concat(),
            first: Must::Answer(2),
            later: vec![Must::Answer(2)],
            calls_first: [0, 1, 1],
            calls_all: [0, 5, 8],
            ..Self::lasting(name, Fault::Reset)
        }
    }

    fn streamed(self) -> Self {
        Self { stream: true, ..self }
    }

    fn calls(self, calls_first: [usize; 3], calls_all: [usize; 3]) -> Self {
        Self { calls_first, calls_all, ..self }
    }

    fn sees(self, first: Must, later: &[Must]) -> Self {
        Self { first, later: later.to_vec(), ..self }
    }

    fn waits(self, ms: u64) -> Self {
        Self { first_loses_ms: ms + SLACK_MS, ..self }
    }

    /// The client hears of it, and no other tier is asked in its place; the breaker still opens after five.
    fn cut_short(self, code: &'static str) -> Self {
        let cut = Must::CutShort(0, code);
        self.streamed().sees(cut, &[cut, Must::Answer(1)]).calls([1, 0, 0], [5, 3, 0])
    }
}

/// All rows, in the order of the design page; then those that other gateways got wrong.
#[must_use]
pub fn all() -> Vec<Case> {
    let mut cases = refusals();
    cases.extend(connections());
    cases.extend(streams());
    cases.extend(requests());
    cases.extend(bodies());
    cases.extend(money());
    cases
}

fn refusals() -> Vec<Case> {
    let nobody = Must::Refused("no_tier_answered");
    let gone = Fault::Status { code: 503, retry_after: None, retry_after_ms: None, body: ErrorBody::Html };
    vec![
        Case::lasting("429 with Retry-After", Fault::too_many(Some(30))).calls([1, 1, 0], [1, 8, 0]),
        Case::lasting("429 without Retry-After", Fault::too_many(None)).calls([1, 1, 0], [3, 8, 0]),
        Case::second("429 with Retry-After, tier 2", Fault::too_many(Some(30))).calls([0, 1, 1], [0, 1, 8]),
        Case {
            plays: vec![(0, Play::Once(Fault::status(500)))],
            ..Case::lasting("one 500", Fault::Reset)
                .sees(Must::Answer(1), &[Must::Answer(0)])
                .calls([1, 1, 0], [8, 1, 0])
        },
        Case::lasting("lasting 503", gone),
        // Ollama's own 503: "server busy". It is well and wants no more, so it cools down as after a 429.
        Case::lasting("lasting 503, busy", Fault::status(503)).calls([1, 1, 0], [3, 8, 0]),
        Case {
            plays: vec![0, 1, 2].into_iter().map(|tier| (tier, Play::Always(Fault::status(500)))).collect(),
            // The last tier is asked once more, after a moment.
            ..Case::lasting("500 of every tier", Fault::Reset)
                .sees(nobody, &[nobody])
                .calls([1, 1, 2], [5, 5, 5])
                .waits(150)
        },
        Case {
            plays: vec![(0, Play::Flap(Fault::status(500)))],
            requests: 24,
            // Every second of 20 calls failed; the next failure opens the breaker.
            ..Case::lasting("flapping primary", Fault::Reset)
                .sees(Must::Answer(1), &[Must::Answer(0), Must::Answer(1)])
                .calls([1, 1, 0], [21, 14, 0])
        },
    ]
}

fn connections() -> Vec<Case> {
    vec![
        Case::lasting("TCP reset", Fault::Reset),
        Case::lasting("silence", Fault::Hang).waits(TOTAL_MS),
        Case::lasting("silence, streamed", Fault::Hang).streamed().waits(FIRST_TOKEN_MS),
        Case {
            plays: vec![(0, Play::Dead)],
            tries: Some(5),
            ..Case::lasting("dead local tier", Fault::Reset).calls([0, 1, 0], [0, 8, 0])
        },
    ]
}

fn streams() -> Vec<Case> {
    let slow = Fault::SlowFirst { wait: Duration::from_secs(5), headers_first: true };
    let mut cases = vec![
        Case::lasting("slow first token", slow).streamed().waits(FIRST_TOKEN_MS),
        Case::lasting("cut before content", Fault::CutBeforeContent).streamed(),
        Case::lasting("cut after content", Fault::CutAfter(2)).cut_short("connection_reset"),
        Case::lasting("ended after content", Fault::EndAfter(2)).cut_short("cut_stream"),
        Case::lasting("stalled before content", Fault::StallBeforeContent).streamed().waits(IDLE_MS),
        Case::lasting("stalled stream", Fault::StallAfter(2)).cut_short("stalled").waits(IDLE_MS),
        Case::lasting("malformed first chunk", Fault::MalformedChunkAt(0)).streamed(),
        Case::lasting("malformed chunk", Fault::MalformedChunkAt(2)).cut_short("malformed_answer"),
        Case::lasting("error event after content", Fault::ErrorEventAfter(2)).cut_short("server_error"),
        Case::lasting("no last line (Ollama)", Fault::NoDone).cut_short("cut_stream"),
    ];
    // Its reason for the end was told, so that nothing is missing.
    cases.push(Case {
        money: Money::Estimated,
        ..Case::second("no [DONE] (OpenAI)", Fault::NoDone)
            .streamed()
            .sees(Must::Answer(1), &[Must::Answer(1)])
            .calls([0, 1, 0], [0, 8, 0])
    });
    cases
}

fn requests() -> Vec<Case> {
    let too_long = Must::Refused("context_length_exceeded");
    let filtered = Must::Refused("content_filter");
    vec![
        Case::lasting("context length", Fault::ContextLength).calls([1, 1, 0], [8, 8, 0]),
        Case {
            plays: vec![(0, Play::Always(Fault::ContextLength)), (1, Play::Always(Fault::ContextLength))],
            // Tier 3 has a smaller window than tier 2.
            ..Case::lasting("context length everywhere", Fault::Reset)
                .sees(too_long, &[too_long])
                .calls([1, 1, 0], [8, 8, 0])
        },
        Case::lasting("content filter", Fault::ContentFilter).sees(filtered, &[filtered]).calls([1, 0, 0], [8, 0, 0]),
        Case::second("content filter, tier 2", Fault::ContentFilter)
            .sees(filtered, &[filtered])
            .calls([0, 1, 0], [0, 8, 0]),
        Case { prefill: true, ..Case::lasting("refused prefill", Fault::RefusedPrefill).calls([1, 1, 0], [8, 8, 0]) },
    ]
}

fn bodies() -> Vec<Case> {
    vec![
        Case::lasting("200 with empty choices", Fault::EmptyChoices),
        Case::second("200 with empty choices, tier 2", Fault::EmptyChoices),
        Case::lasting("200 with cut JSON", Fault::CutJson),
        Case::second("200 with cut JSON, tier 2", Fault::CutJson),
        Case::lasting("200 cut below its length", Fault::CutBelowLength),
        Case::lasting("200 with a page of HTML", Fault::NotJson200),
    ]
}

fn money() -> Vec<Case> {
    let alone = |name, fault| {
        let case = Case::second(name, fault).sees(Must::Answer(1), &[Must::Answer(1)]).calls([0, 1, 0], [0, 8, 0]);
        let lines = [case.lines.clone(), without_quota("tier.groq")].concat();
        Case { lines, ..case }
    };
    let cut = Must::CutShort(1, "connection_reset");
    vec![
        alone("accounting: tokens as told", Fault::WrongUsage { prompt: 1_000, completion: 500 }),
        Case { money: Money::Estimated, ..alone("accounting: no tokens told", Fault::NoUsage) },
        Case {
            money: Money::Estimated,
            ..Case::second("accounting: cut stream", Fault::CutAfter(2))
                .streamed()
                .sees(cut, &[cut, Must::Answer(2)])
                .calls([0, 1, 0], [0, 5, 3])
        },
    ]
}
