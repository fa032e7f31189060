//! What is claimed of the router of language models: a table of faults, tests of this repository against doubles, real clients, a
//! real model and a real Valkey, a workload for the cache, and figures beside the direct way.

use super::approvals::{Claim, tests};
use super::proof::{self, Part};
use super::{Ground, verdict};

pub(super) const CLAIMS: [Claim; 6] = [
    (
        "failover",
        "what fails before the first content is passed over unseen; 64 equal misses are one call",
        "-p llm_router --test router",
    ),
    (
        "clients",
        "the official openai client and litellm work unchanged: chat, streams, tools, json_schema, embeddings, errors",
        "-p llm_router --test clients",
    ),
    (
        "model",
        "a real llama.cpp model answers a review to its schema; killed before its first content the next tier answers, after it one error ends the stream",
        "-p llm_router --test model",
    ),
    (
        "quota",
        "200 reservations at once pass no limit by a request or a millionth of a dollar; Valkey killed, held and back",
        "-p llm --test quota",
    ),
    (
        "near-equal",
        "prompts that differ by a number, symbol, negation, tenant or schema share no answer",
        "-p llm --test cache_adversarial",
    ),
    ("cache-valkey", "the cache before a real Valkey, killed and back", "-p llm --test cache_valkey"),
];

/// The claims as parts to run.
pub(super) fn parts(ground: &Ground) -> Vec<Part> {
    let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let faults = Part {
        name: "faults",
        program: "faults",
        built_by: "make release",
        arguments: words("--json"),
        answer: None,
        judge: Box::new(verdict::faults),
    };
    let mut parts = vec![faults];
    parts.extend(tests(&CLAIMS));
    let mut asked = words("--json --short");
    if ground.recorded.is_dir() {
        asked.extend(["--data".to_owned(), ground.recorded.display().to_string()]);
    }
    parts.push(Part {
        name: "answers",
        program: "answers",
        built_by: "make release",
        arguments: asked,
        answer: None,
        judge: Box::new(verdict::answers),
    });
    parts.push(proof::bench(ground, "router-bench", "--only router", Box::new(verdict::bench)));
    parts
}
