//! What is claimed of human approvals, each shown by tests of this repository on real servers, whole swarms and doubles of the
//! outside: they are chosen by name and run here, and what they measured is told.

use super::proof::{self, CARGO, Part};
use super::{Ground, verdict};

/// Name, claim, and the tests that show it, as words of `cargo test`.
pub(super) type Claim = (&'static str, &'static str, &'static str);

const CLAIMS: [Claim; 13] = [
    (
        "telegram",
        "a $1,500 signal is asked about in Telegram, a press fills it once and the message says so, also when the bot's process is killed around \
         it; with Telegram away the terminal decides",
        "-p tests --test live_telegram",
    ),
    ("web", "with Telegram away the web page decides, with a code that is good once", "-p swarm --test web"),
    (
        "crash-points",
        "every process and the whole swarm killed at each moment of a question: no order or one, never two",
        "-p swarm --test approvals",
    ),
    (
        "ways",
        "terminal, Telegram and web go one way: one word a person, a no wins, a quorum is of people",
        "-p tests --test live_approvals ways people",
    ),
    ("voids", "time, changed limits and changed approvers void a question", "-p tests --test live_approvals changes"),
    (
        "modify",
        "a change asks for less and is another request, for the same one order",
        "-p tests --test live_approvals modify",
    ),
    (
        "strangers",
        "garbled, foreign, forged and unknown words are denied, counted and audited",
        "-p tests --test live_approvals strangers services",
    ),
    (
        "no-message-decides",
        "what passes on the bus for a person's decision is denied, counted and in the governance chain",
        "-p tests --test live_door",
    ),
    (
        "page",
        "the page: sessions, forged forms, guessed codes, prose, what its answers forbid the browser",
        "-p gateway --test page",
    ),
    ("one-winner", "fifty at once use a yes once, against PostgreSQL", "-p treasury --test money approvals"),
    (
        "digest",
        "any change of any field changes the digest; order of keys and keys said twice do not",
        "-p rails --test digest",
    ),
    (
        "rendering",
        "nothing an agent says alters, hides or moves the numbers a person reads",
        "-p rails --test tables render",
    ),
    (
        "telegram-faults",
        "presses doubled, stale, foreign, forwarded, after a restart; 409, 429, hung and slow polls",
        "-p telegram_jarvis --test telegram",
    ),
];

/// The claims as parts to run.
pub(super) fn parts(ground: &Ground) -> Vec<Part> {
    let mut parts = tests(&CLAIMS);
    parts.push(proof::bench(ground, "prompt-to-fill", "--only approval", Box::new(verdict::prompt_to_fill)));
    parts
}

/// Tests of this repository as parts of a proof.
pub(super) fn tests(claims: &[Claim]) -> Vec<Part> {
    claims
        .iter()
        .map(|&(name, claim, tests)| {
            let words = tests.split(' ').map(str::to_owned);
            // Words after the name of a test binary choose tests in it; several of them are alternatives.
            let (chosen, filters): (Vec<String>, Vec<String>) = split(words.collect());
            let mut arguments: Vec<String> = ["test", "--locked"].map(str::to_owned).into();
            arguments.extend(chosen);
            arguments.push("--".to_owned());
            arguments.extend(filters);
            arguments.push("--nocapture".to_owned());
            let judge = verdict::tests(name, claim);
            Part { name, program: CARGO, built_by: "rustup", arguments, answer: None, judge }
        })
        .collect()
}

/// `-p package --test binary`, and what follows.
fn split(mut words: Vec<String>) -> (Vec<String>, Vec<String>) {
    let filters = words.split_off(4);
    (words, filters)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_claim_names_a_test_binary_that_is_there() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let of_healing = tests(&super::super::healing::CLAIMS).into_iter().chain(tests(&super::super::healing::TRIES));
        for part in tests(&CLAIMS).into_iter().chain(tests(&super::super::router::CLAIMS)).chain(of_healing) {
            let (package, binary) = (&part.arguments[3], &part.arguments[5]);
            let rooms = ["agents", "crates", "services", "proofs"].map(|room| format!("{room}/{package}"));
            let folders: Vec<_> = rooms.iter().map(String::as_str).chain(["tests"]).collect();
            let mut folders = folders.into_iter().map(|folder| root.join(folder).join("tests"));
            let there = folders.any(|folder| {
                folder.join(format!("{binary}.rs")).is_file() || folder.join(binary).join("main.rs").is_file()
            });
            assert!(there, "{}: {package} {binary}", part.name);
        }
    }
}
